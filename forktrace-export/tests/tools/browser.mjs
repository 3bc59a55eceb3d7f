// A page in a real Chromium. No library: the browser's DevTools protocol over a WebSocket.
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { spawn } from 'node:child_process';
import { pathToFileURL } from 'node:url';

/// Opens `page` in a window of this size; `end` closes all.
export async function open(page, wide, high, scheme = 'light') {
  const profile = fs.mkdtempSync(path.join(os.tmpdir(), 'forktrace-page-'));
  const browser = spawn(process.env.CHROMIUM ?? 'chromium', ['--headless=new', '--no-sandbox', '--disable-gpu',
    '--disable-dev-shm-usage', '--no-first-run', '--remote-debugging-port=0', `--user-data-dir=${profile}`,
    `--window-size=${wide},${high}`, 'about:blank'], { stdio: ['ignore', 'ignore', 'pipe'], detached: true });
  const address = await new Promise((resolve, reject) => {
    let said = '';
    browser.stderr.on('data', (chunk) => {
      said += chunk;
      const found = /DevTools listening on (ws:\S+)/.exec(said);
      if (found) resolve(found[1]);
    });
    browser.on('exit', () => reject(new Error(`the browser ended: ${said}`)));
    browser.on('error', reject);
  });
  const socket = new WebSocket(address);
  await new Promise((resolve, reject) => { socket.onopen = resolve; socket.onerror = reject; });
  let number = 0;
  const answers = new Map(), requests = [], exceptions = [], waiting = [];
  socket.onmessage = ({ data }) => {
    const message = JSON.parse(data);
    if (message.id) return answers.get(message.id)(message);
    if (message.method === 'Network.requestWillBeSent') requests.push(message.params.request.url);
    if (message.method === 'Runtime.exceptionThrown') exceptions.push(message.params.exceptionDetails);
    if (message.method === 'Log.entryAdded') exceptions.push(message.params.entry);
    for (const it of waiting) if (message.method === it.method) it.resolve(message.params);
  };
  const call = (method, params = {}, session) => new Promise((resolve, reject) => {
    const id = ++number;
    answers.set(id, (it) => it.error ? reject(new Error(`${method}: ${it.error.message}`)) : resolve(it.result));
    socket.send(JSON.stringify({ id, method, params, sessionId: session }));
  });
  const event = (method) => new Promise((resolve) => waiting.push({ method, resolve }));
  // CPU time of all processes of the browser, ms.
  const cpu = () => fs.readdirSync('/proc').filter((it) => /^\d+$/.test(it)).reduce((sum, pid) => {
    try {
      const fields = fs.readFileSync(`/proc/${pid}/stat`, 'utf8').replace(/.*\) /s, '').split(' ');
      return +fields[2] === browser.pid ? sum + (+fields[11] + +fields[12]) * 10 : sum;
    } catch {
      return sum;
    }
  }, 0);
  const end = async () => {
    // Its children write into the profile for as long as they live: all of its process group ends.
    process.kill(-browser.pid, 'SIGKILL');
    await new Promise((resolve) => browser.exitCode !== null || browser.signalCode !== null ? resolve() : browser.on('exit', resolve));
    // What can't be removed is a folder in /tmp; it says nothing about the page.
    try {
      fs.rmSync(profile, { recursive: true, force: true, maxRetries: 20, retryDelay: 200 });
    } catch (error) {
      console.error(`left behind: ${error.message}`);
    }
  };
  try {
    const { targetId } = await call('Target.createTarget', { url: 'about:blank' });
    const { sessionId } = await call('Target.attachToTarget', { targetId, flatten: true });
    const tab = (method, params) => call(method, params, sessionId);
    for (const domain of ['Page', 'Network', 'Runtime', 'Log']) await tab(`${domain}.enable`);
    await tab('Emulation.setEmulatedMedia', { features: [{ name: 'prefers-color-scheme', value: scheme }] });
    await tab('Emulation.setDeviceMetricsOverride', { width: wide, height: high, deviceScaleFactor: 1, mobile: false });
    const url = pathToFileURL(path.resolve(page)).href;
    const loaded = event('Page.loadEventFired');
    await tab('Page.navigate', { url });
    await loaded;
    const run = async (expression) => {
      const { result, exceptionDetails } = await tab('Runtime.evaluate', { expression, returnByValue: true, awaitPromise: true });
      if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
      return result.value;
    };
    const frame = () => run('new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(0))))');
    return { tab, run, frame, url, requests, exceptions, cpu, end };
  } catch (error) {
    await end();
    throw error;
  }
}
