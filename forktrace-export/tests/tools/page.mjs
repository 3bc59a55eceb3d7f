// Opens a page in a real Chromium, uses it as a reader would, and compares what it shows with
// the JSON report.
//
//   node --experimental-websocket page.mjs PAGE.html REPORT.json [SCREENSHOT.png [WIDTH HEIGHT [dark]]]
import fs from 'node:fs';
import { open } from './browser.mjs';

const [page, json, picture, wide = '1400', high = '1500', scheme = 'light'] = process.argv.slice(2);
const report = JSON.parse(fs.readFileSync(json));
const failures = [];
const check = (what, found, expected) => {
  if (JSON.stringify(found) !== JSON.stringify(expected))
    failures.push(`${what}: the page shows ${JSON.stringify(found)}, the JSON ${JSON.stringify(expected)}`);
};

const { tab, run, frame, url, requests, exceptions, end } = await open(page, +wide, +high, scheme);
let status = 1;
try {
  const key = async (key) => {
    for (const type of ['keyDown', 'keyUp'])
      await tab('Input.dispatchKeyEvent', { type, key, text: type === 'keyDown' && key.length === 1 ? key : undefined });
    await frame();
  };
  const click = async (x, y) => {
    for (const type of ['mouseMoved', 'mousePressed', 'mouseReleased'])
      await tab('Input.dispatchMouseEvent', { type, x, y, button: type === 'mouseMoved' ? 'none' : 'left', clickCount: 1 });
    await frame();
  };
  const rectangle = (selector) => run(`(() => { const it = document.querySelector(${JSON.stringify(selector)});
    it.scrollIntoView({block: 'center', behavior: 'instant'}); const r = it.getBoundingClientRect(); return [r.x, r.y, r.width, r.height]; })()`);
  const shown = async () => (await run('forktrace.view()'));
  await frame();

  // What it says at first.
  check('findings', await run('[...document.querySelectorAll("#findings > li")].map(it => it.dataset.kind)'),
    report.findings.map((it) => it.kind));
  check('tasks', await run('forktrace.tasks.map(it => it.tid)'), report.tasks.map((it) => it.tid));
  check('blocked', await run('forktrace.tasks.map(it => it.ns[2])'), report.tasks.map((it) => it.blocked_ns));
  // The line of each task is as long as its life, and holds as much of each state.
  check('lives', await run('forktrace.tasks.map(it => it.ends.length ? it.ends[it.ends.length - 1] : it.start)'),
    report.tasks.map((it) => it.end_ns));
  if (await run('document.getElementById("exact").textContent.startsWith("Exact")')) {
    const lines = await run(`forktrace.tasks.map(it => { let ns = 0;
      for (let i = 0; i < it.ends.length; i++) if (it.kinds[i] === 2) ns += it.ends[i] - (i ? it.ends[i - 1] : it.start);
      return ns; })`);
    // Where records are lost sums are known, and when it was is not.
    report.tasks.forEach((it, at) => it.unplaced_ns + it.unknown_ns || check(`line of ${it.tid}`, lines[at], it.blocked_ns));
  }
  check('verdict', await run('document.querySelector("#audit .bad") !== null'), !report.audit.complete);

  // Zoom by key and by button.
  const [from, to] = await shown();
  await run('document.getElementById("canvas").focus()');
  await key('+');
  const [a, b] = await shown();
  check('zoomed in', Math.round((to - from) / (b - a)), 2);
  await key('ArrowRight');
  check('moved right', (await shown())[0] >= a, true);
  await key('0');
  check('all again', await shown(), [from, to]);

  // A stall, by key, by the table, and on the time line.
  if (report.episodes.length) {
    const ns = () => run('+document.querySelector("#chosen > div").dataset.ns');
    const text = () => run('document.getElementById("chosen").innerText');
    const row = await rectangle('#tables tbody tr.go');
    await click(row[0] + 30, row[1] + row[3] / 2);
    check('the longest stall', await ns(), report.episodes[0].ns);
    for (const link of report.episodes[0].chain)
      check('the chain names', (await text()).includes(`(tid ${link.tid})`), true);
    const [left, right] = await shown();
    check('the stall is in view', left <= report.episodes[0].start_ns && right >= report.episodes[0].end_ns, true);
    await run('document.getElementById("canvas").focus()');
    await key('0');
    await key('n');
    check('a stall by key', report.episodes.some((it) => it.ns === 0) || report.episodes.map((it) => it.ns).includes(await ns()), true);
    await run('forktrace.stall(0)');
    await frame();
    const [start, stop] = await shown();
    const canvas = await rectangle('#canvas');
    const at = (t) => canvas[0] + 190 + (t - start) / (stop - start) * (canvas[2] - 190);
    await click(at((report.episodes[0].start_ns + report.episodes[0].end_ns) / 2), canvas[1] + 10);
    check('the stall under the pointer', report.episodes.map((it) => it.ns).includes(await ns()), true);
  }

  // The pointer over a wait.
  const canvas = await rectangle('#canvas');
  await run('forktrace.show(0, 1e15)');
  await frame();
  let tip = '';
  // Somebody was there in the middle of the longest life.
  const longest = report.tasks.reduce((a, b) => a.end_ns - a.start_ns >= b.end_ns - b.start_ns ? a : b);
  const [zero, last] = await shown();
  const middle = ((longest.start_ns + longest.end_ns) / 2 - zero) / (last - zero);
  for (let y = 30; y < canvas[3] && !tip; y += 16) {
    await tab('Input.dispatchMouseEvent', { type: 'mouseMoved', x: canvas[0] + 190 + (canvas[2] - 190) * middle, y: canvas[1] + y });
    await frame();
    tip = await run('document.getElementById("tip").hidden ? "" : document.getElementById("tip").innerText');
  }
  check('the pointer names what is there', /for |mixed/.test(tip), true);

  // What is kept and copied while it is moved is what would be painted.
  for (const open of [false, true]) for (const part of [1, 0.4, 0.003]) {
    await run(`forktrace.open(${open})`);
    const strayed = await run(`(() => {
      const canvas = document.getElementById('canvas'), wheel = (deltaX, deltaY) => {
        canvas.dispatchEvent(new WheelEvent('wheel', { deltaX, deltaY, cancelable: true, clientX: 600, clientY: 200 }));
        forktrace.draw();
      }, copy = document.createElement('canvas');
      [copy.width, copy.height] = [canvas.width, canvas.height];
      const reader = copy.getContext('2d', { willReadFrequently: true }), pixels = () => {
        reader.drawImage(canvas, 0, 0);
        return reader.getImageData(0, 0, copy.width, copy.height).data;
      };
      forktrace.show(0, 1e15);
      const long = forktrace.view()[1];
      forktrace.show(long * 0.3, long * (0.3 + 0.7 * ${part}));
      forktrace.draw();
      let strayed = 0;
      for (const [dx, dy] of [[7, 0], [20, 0], [0, 37], [-31, 0], [13, 16], [900, 0], [-1500, 0], [0, -11], [3000, 400], [-1, -3], [0, -900]]) {
        wheel(dx, dy);
        const kept = pixels();
        forktrace.repaint();
        // The edges of what is not of whole pixels are rounded.
        const anew = pixels();
        for (let at = 0; at < kept.length; at++) strayed += Math.abs(anew[at] - kept[at]) > 8;
        // The next one is moved from what was moved.
        wheel(-dx, -dy);
        wheel(dx, dy);
      }
      return strayed;
    })()`);
    check(`moved, roles ${open ? 'open' : 'closed'}, ${part} shown: bytes that differ`, strayed, 0);
  }

  // A table sorts.
  await run('[...document.querySelectorAll("section")].find(it => it.querySelector("h2")?.textContent === "Tasks").id = "all"');
  await run('document.querySelectorAll("#all th button")[6].click()');
  const sorted = await run('[...document.querySelectorAll("#all tbody tr.go")].map(it => it.children[1].textContent)');
  const most = Math.max(...report.tasks.map((it) => it.blocked_ns));
  check('most blocked first', report.tasks.filter((it) => it.blocked_ns === most).map((it) => String(it.tid)).includes(sorted[0]), true);

  // It asked for nothing and nothing of the workload's was executed.
  check('requests', requests.filter((it) => it !== url && !it.startsWith('data:') && it !== 'about:blank'), []);
  check('errors', exceptions.map((it) => it.exception?.description ?? it.text), []);
  check('executed', await run('typeof window.pwned'), 'undefined');
  // How fast it is drawn while it is moved.
  const ms = await run(`(() => { const from = performance.now(); for (let i = 0; i < 30; i++) { forktrace.show(i * 1e5, i * 1e5 + 1e15); forktrace.draw(); } return (performance.now() - from) / 30; })()`);
  console.log(JSON.stringify({ tasks: report.tasks.length, bytes: fs.statSync(page).size, ms_a_frame: +ms.toFixed(2), exact: await run('document.getElementById("exact").textContent'), tip }));
  if (picture) {
    await run('window.scrollTo(0, 0); forktrace.show(0, 1e15); forktrace.tasks.length');
    if (report.episodes.length && process.env.STALL) await run('forktrace.stall(0)');
    await run('window.scrollTo(0, 0)');
    await frame();
    const { data } = await tab('Page.captureScreenshot', { format: 'png' });
    fs.writeFileSync(picture, Buffer.from(data, 'base64'));
  }
  for (const failure of failures) console.error(failure);
  status = failures.length ? 1 : 0;
} finally {
  await end();
}
process.exit(status);
