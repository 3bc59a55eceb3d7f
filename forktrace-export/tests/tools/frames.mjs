// How many frames a second a page draws in a real Chromium while it is moved, once a frame: to the
// sides, up and down over all rows, and zoomed, with roles closed and open; and how much CPU time of the
// page's thread and of all of the browser a frame takes, which depends less on what else the machine
// does: 60 frames a second leave each CPU 16.7 ms. "still": while nothing moves.
//
//   node --experimental-websocket frames.mjs PAGE.html [SECONDS]
import { open } from './browser.mjs';

const [page, seconds = '2'] = process.argv.slice(2);
const { tab, run, frame, cpu, end } = await open(page, 1600, 1000);
try {
  await tab('Performance.enable', { timeDomain: 'threadTicks' });
  const drawing = async () => (await tab('Performance.getMetrics')).metrics.find((it) => it.name === 'TaskDuration').value * 1000;
  // Each frame has one event of a wheel, which goes the way of a real one.
  const moved = async (sideways, upwards, zooms = false) => {
    const before = await drawing(), allBefore = cpu();
    const found = await run(`new Promise((done) => {
      const canvas = document.getElementById('canvas'), times = [], box = canvas.getBoundingClientRect();
      let way = 1;
      const next = (now) => {
        times.push(now);
        if (now - times[0] > ${+seconds * 1000}) {
          const gaps = times.slice(1).map((at, i) => at - times[i]).sort((a, b) => a - b);
          return done({ frames: gaps.length, frames_a_second: +(1000 * gaps.length / (times.at(-1) - times[0])).toFixed(1),
            p95_ms: +gaps[Math.floor(gaps.length * 0.95)].toFixed(1) });
        }
        if (${sideways !== 0 || zooms} && times.length % 60 === 0) way = -way;
        if (${sideways !== 0 || upwards !== 0}) {
          const event = new WheelEvent('wheel', { deltaX: way * ${sideways}, deltaY: way * ${upwards}, ctrlKey: ${zooms}, cancelable: true,
            clientX: box.x + 600, clientY: box.y + 200 });
          // At the end of the rows it goes back.
          if (canvas.dispatchEvent(event) && ${upwards !== 0 && !zooms}) way = -way;
        }
        requestAnimationFrame(next);
      };
      requestAnimationFrame(next);
    })`);
    const { frames, ...rest } = found;
    return { page_ms_a_frame: +((await drawing() - before) / frames).toFixed(1), browser_ms_a_frame: +((cpu() - allBefore) / frames).toFixed(1), ...rest };
  };
  const all = { tasks: await run('forktrace.tasks.length'), parts: await run('forktrace.tasks.reduce((sum, it) => sum + it.ends.length, 0)') };
  await frame();
  all.still = await moved(0, 0);
  for (const [what, open] of [['closed', false], ['open', true]]) {
    await run(`forktrace.open(${open})`);
    for (const [zoom, part] of [['nearly whole', 0.95], ['half', 0.5], ['tenth', 0.1], ['thousandth', 0.001]]) {
      await run('forktrace.show(0, 1e15)');
      await frame();
      const whole = await run('forktrace.view()[1]');
      await run(`forktrace.show(${whole * (1 - part) / 2}, ${whole * (1 + part) / 2})`);
      await frame();
      const found = all[`${what}, ${zoom}`] = { sideways: await moved(20, 0) };
      if (open) found.upwards = await moved(0, 48);
      found.zoomed = await moved(0, 10, true);
    }
  }
  for (const [what, found] of Object.entries(all)) console.log(what, JSON.stringify(found));
} finally {
  await end();
}
