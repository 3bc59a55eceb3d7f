(function () {
  "use strict";
  var D = JSON.parse(document.getElementById("data").textContent);
  var STATES = ["running", "wants a CPU", "blocked", "stopped", "unknown"];
  var COLOURS = ["running", "runnable", "blocked", "stopped", "unknown"];
  // How much of a row each state takes, so that nothing is told by colour alone.
  var HEIGHTS = [1, 0.62, 0.28, 0.45, 0.8];
  var MIXED = 5, RULER = 22, GUTTER = 190;
  var SHOWN_ARROWS = 400;

  function $(id) { return document.getElementById(id); }
  function make(tag, text, kind) {
    var it = document.createElement(tag);
    if (text !== undefined) it.textContent = text;
    if (kind) it.className = kind;
    return it;
  }
  function time(ns) {
    if (ns === 0) return "0 s";
    var units = [[1e9, "s"], [1e6, "ms"], [1e3, "µs"]];
    for (var i = 0; i < units.length; i++) {
      if (ns >= units[i][0] * 0.9995) {
        var value = ns / units[i][0];
        return value.toFixed(value < 9.995 ? 2 : value < 99.95 ? 1 : 0) + " " + units[i][1];
      }
    }
    return ns + " ns";
  }
  function count(n) { return n.toLocaleString("en"); }
  // What stands between backticks is a name; one backtick that is alone is of a name.
  function prose(into, text) {
    var parts = text.split("`");
    if (parts.length % 2 === 0) parts = [text];
    parts.forEach(function (part, i) { into.append(i % 2 ? make("code", part) : part); });
    return into;
  }

  // Tasks, and their lines. A line has the ends of its parts, what each is, and more.
  var tasks = D.tasks.map(function (t, at) {
    return {
      at: at, name: t[0], tid: t[1], pid: t[2], role: t[3], start: t[4], end: t[5],
      ns: t.slice(6, 11), longest: t[11], argv: t[12], label: t[0] + " " + t[1],
    };
  });
  (function () {
    var text = atob(D.lines), p = 0;
    function number() {
      var value = 0, scale = 1, byte;
      do {
        byte = text.charCodeAt(p++);
        value += (byte & 127) * scale;
        scale *= 128;
      } while (byte > 127);
      return value;
    }
    tasks.forEach(function (task) {
      var n = number(), now = task.start;
      task.ends = new Float64Array(n);
      task.kinds = new Uint8Array(n);
      task.more = new Uint32Array(n);
      task.wakers = new Uint32Array(n);
      task.mixed = [];
      for (var i = 0; i < n; i++) {
        now += number();
        task.ends[i] = now;
        task.kinds[i] = number();
        if (task.kinds[i] === 2) {
          task.more[i] = number();
          task.wakers[i] = number();
        } else if (task.kinds[i] === MIXED) {
          task.more[i] = task.mixed.length;
          for (var s = 0; s < 5; s++) task.mixed.push(text.charCodeAt(p++) / 255);
        }
      }
    });
  })();

  function first(task, at) {
    var low = 0, high = task.ends.length;
    while (low < high) {
      var mid = (low + high) >> 1;
      if (task.ends[mid] <= at) low = mid + 1; else high = mid;
    }
    return low;
  }
  function begin(task, i) { return i ? task.ends[i - 1] : task.start; }
  function share(task, i, state) {
    return task.kinds[i] === MIXED ? task.mixed[task.more[i] + state] : +(task.kinds[i] === state);
  }

  // Roles, in the order of their first task; one task needs no heading.
  var roles = [], byRole = Object.create(null);
  tasks.forEach(function (task) {
    var role = byRole[task.role];
    if (!role) {
      role = byRole[task.role] = { name: task.role, tasks: [], open: true };
      roles.push(role);
    }
    role.tasks.push(task);
  });
  roles.forEach(function (role) { role.open = tasks.length <= 60 || role.tasks.length === 1; });
  var rows = [];
  function layOut() {
    var only = $("only").value.toLowerCase();
    rows = [];
    roles.forEach(function (role) {
      var shown = role.tasks.filter(function (task) {
        return !only || (task.label + " " + task.role).toLowerCase().indexOf(only) >= 0;
      });
      if (!shown.length) return;
      if (shown.length > 1) rows.push({ role: role, tasks: shown });
      if (role.open || shown.length === 1 || only) {
        shown.forEach(function (task) { rows.push({ task: task }); });
      }
    });
    rowOf = new Map();
    rows.forEach(function (row, i) {
      if (row.task) rowOf.set(row.task.at, i);
      else row.tasks.forEach(function (task) { if (!rowOf.has(task.at)) rowOf.set(task.at, i); });
    });
    top = Math.max(0, Math.min(top, rows.length * ROW - body()));
  }

  var rowOf = new Map();
  // All of it is painted, so what is below shines through nowhere, and copies are quick.
  var canvas = $("canvas"), draw2d = canvas.getContext("2d", { alpha: false }), tip = $("tip");
  var END = Math.max(D.end_ns, 1), from = 0, to = END, top = 0, width = 800, height = 480;
  var chosenRow = 0, chosen = null, stall = -1, css = {};
  // Pixels of the screen: a pixel of the page is so many, and the names and the line take these.
  var scale = 1, names = GUTTER, line = 1;
  // How high a row is, in pixels of the page, and whole ones of the screen.
  var ROW = 16;
  function body() { return height - RULER; }
  function x(at) { return (names + (at - from) / (to - from) * line) / scale; }
  function at(px) { return from + (px * scale - names) / line * (to - from); }

  function colours() {
    var style = getComputedStyle(document.documentElement);
    COLOURS.concat(["ground", "text", "dim", "rule", "stall", "arrow", "chosen", "box"])
      .forEach(function (name) { css[name] = style.getPropertyValue("--" + name).trim(); });
  }
  // Those of single processes overlap: of them just the one that was chosen.
  var bands = D.stalls.filter(function (it) { return it.tree; })
    .map(function (it) { return { from: it.start_ns, to: it.end_ns, strength: 0.13, stall: it }; })
    .sort(function (a, b) { return a.from - b.from; });
  function bandsIn(a, b) {
    var low = 0, high = bands.length;
    while (low < high) {
      var mid = (low + high) >> 1;
      if (bands[mid].to <= a) low = mid + 1; else high = mid;
    }
    var last = low, it = D.stalls[stall];
    while (last < bands.length && bands[last].from < b) last++;
    var found = bands.slice(low, last);
    if (!it || it.end_ns <= a || it.start_ns >= b) return found;
    found = found.filter(function (band) { return band.stall !== it; });
    return found.concat({ from: it.start_ns, to: it.end_ns, strength: 0.3, stall: it });
  }
  var painted = paintedRows({
    mixed: MIXED, heights: HEIGHTS, first: first, begin: begin, share: share, bands: bandsIn,
    gap: function () { return 3 * scale; },
    colour: function (state) { return css[COLOURS[state]]; },
    ground: function () { return css.ground; },
    box: function () { return css.box; },
    band: function () { return css.stall; },
    name: function (on, row, y) {
      var size = Math.round(12 * scale) + "px system-ui, sans-serif", text, left, middle = y + ROW * scale / 2;
      on.font = row.task ? size : "600 " + size;
      if (row.task) text = row.task.label;
      else text = (row.role.open ? "▾ " : "▸ ") + row.role.name + " × " + row.tasks.length;
      left = row.task ? 18 : 4;
      on.fillStyle = css.text;
      on.fillText(clip(on, text, (GUTTER - left - 6) * scale), left * scale, middle);
    },
  });
  function clip(on, text, room) {
    if (on.measureText(text).width <= room) return text;
    while (text.length > 1 && on.measureText(text + "…").width > room) text = text.slice(0, -1);
    return text + "…";
  }

  var pending = false;
  function ask() {
    if (!pending) {
      pending = true;
      requestAnimationFrame(function () { pending = false; draw(); });
    }
  }
  function draw() {
    var row = Math.floor(top / ROW), ruler = Math.round(RULER * scale), high = Math.round(ROW * scale);
    draw2d.setTransform(1, 0, 0, 1, 0, 0);
    var below = painted.copy(draw2d, rows, row, Math.round(top * scale) - row * high, ruler, canvas.height, from, chosenRow);
    draw2d.fillStyle = css.ground;
    draw2d.fillRect(0, 0, canvas.width, ruler);
    if (below < canvas.height) draw2d.fillRect(0, below, canvas.width, canvas.height - below);
    draw2d.setTransform(scale, 0, 0, scale, 0, 0);
    draw2d.font = "12px system-ui, sans-serif";
    draw2d.textBaseline = "middle";
    drawRuler();
    draw2d.save();
    draw2d.beginPath();
    draw2d.rect(0, RULER, width, body());
    draw2d.clip();
    if (chosen) outline(chosen);
    if ($("arrows").checked) drawArrows();
    drawChain();
    draw2d.restore();
  }
  function rowY(task) {
    var row = rowOf.get(task);
    return row === undefined ? null : RULER + row * ROW - top + ROW / 2;
  }
  function outline(it) {
    var row = rowOf.get(it.task.at);
    if (row === undefined) return;
    draw2d.strokeStyle = css.chosen;
    draw2d.lineWidth = 1.5;
    var left = Math.max(x(begin(it.task, it.part)), GUTTER), right = Math.min(x(it.task.ends[it.part]), width);
    if (right > left) draw2d.strokeRect(left, RULER + row * ROW - top + 1, Math.max(right - left, 2), ROW - 2);
  }
  // Arrows of one kind, which are drawn at once: [x, from y, to y].
  function arrows(all, strong) {
    draw2d.fillStyle = css.arrow;
    draw2d.globalAlpha = strong ? 1 : 0.55;
    draw2d.beginPath();
    all.forEach(function (it) {
      var px = it[0], y = it[1], toY = it[2], way = toY > y ? -1 : 1, wide = strong ? 2 : 1;
      draw2d.rect(px - wide / 2, Math.min(y, toY), wide, Math.abs(toY - y));
      draw2d.moveTo(px, toY);
      // All in the same sense of rotation, so that nothing is cut out where they overlap.
      draw2d.lineTo(px + 3 * way, toY + way * 5);
      draw2d.lineTo(px - 3 * way, toY + way * 5);
    });
    draw2d.fill();
    draw2d.globalAlpha = 1;
  }
  // Who woke whom, if there are not too many to be told apart.
  function drawArrows() {
    var found = [], i = Math.floor(top / ROW), last = Math.min(rows.length, i + Math.ceil(body() / ROW) + 1);
    for (; i < last && found.length <= SHOWN_ARROWS; i++) {
      var task = rows[i].task;
      if (!task) continue;
      for (var p = first(task, from); p < task.ends.length && found.length <= SHOWN_ARROWS; p++) {
        if (task.ends[p] > to) break;
        var by = task.wakers[p] ? D.wakers[task.wakers[p]][1] : null;
        if (by !== null && by !== task.at) found.push([task.ends[p], by, task.at]);
      }
    }
    if (found.length > SHOWN_ARROWS) return;
    // Of those in the same place one is drawn.
    var drawn = new Set(), all = [];
    found.forEach(function (it) {
      var y = rowY(it[1]), toY = rowY(it[2]), px = Math.round(x(it[0]));
      var key = (Math.round(px / 3) * (tasks.length + 1) + it[1]) * (tasks.length + 1) + it[2];
      if (y === null || toY === null || y === toY || drawn.has(key)) return;
      drawn.add(key);
      // An arrow from far away begins at the edge.
      all.push([px, Math.max(-9, Math.min(height + 9, y)), toY]);
    });
    arrows(all, false);
  }
  function drawChain() {
    if (stall < 0) return;
    var all = [];
    D.stalls[stall].chain.forEach(function (link) {
      if (link.end_ns === null || link.waker === null || link.task === null) return;
      if (link.end_ns < from || link.end_ns > to) return;
      var y = rowY(link.waker), toY = rowY(link.task);
      if (y !== null && toY !== null && y !== toY) all.push([x(link.end_ns), y, toY]);
    });
    arrows(all, true);
  }
  function drawRuler() {
    var marked = -1;
    draw2d.fillStyle = css.stall;
    bandsIn(from, to).forEach(function (band) {
      var left = Math.max(x(band.from), GUTTER), right = Math.max(Math.min(x(band.to), width), left + 1);
      if (right > marked) draw2d.fillRect(left, RULER - 4, right - left, 4);
      marked = Math.max(marked, right);
    });
    var step = Math.pow(10, Math.floor(Math.log10((to - from) / 5)));
    var steps = (to - from) / step;
    step *= steps > 25 ? 5 : steps > 12 ? 2 : 1;
    // Where the next label may begin.
    var clear = GUTTER;
    for (var t = Math.ceil(from / step) * step; t < to; t += step) {
      var px = x(t);
      draw2d.globalAlpha = 0.5;
      draw2d.fillStyle = css.rule;
      draw2d.fillRect(Math.round(px), RULER - 7, 1, height);
      draw2d.globalAlpha = 1;
      draw2d.fillStyle = css.dim;
      var unit = step >= 1e9 ? 1e9 : step >= 1e6 ? 1e6 : step >= 1e3 ? 1e3 : 1;
      var name = { 1e9: "s", 1e6: "ms", 1e3: "µs", 1: "ns" }[unit];
      var text = count(Math.round(t / unit)) + " " + name, wide = draw2d.measureText(text).width;
      if (px + 3 < clear || px + 3 + wide > width) continue;
      draw2d.fillText(text, px + 3, 9);
      clear = px + 3 + wide + 8;
    }
    draw2d.fillStyle = css.dim;
    draw2d.fillText(time(to - from) + " shown", 4, 9);
  }

  // Moving.
  function show(a, b) {
    var least = 20, long = Math.max(least, Math.min(b - a, END));
    from = Math.max(0, Math.min(a, END - long));
    to = from + long;
    painted.zoom(from, long / line);
    ask();
  }
  // By whole pixels, so that what is painted can stay.
  function pan(a) {
    var long = to - from;
    from = painted.snapped(Math.max(0, Math.min(a, END - long)));
    to = from + long;
    ask();
  }
  function zoom(by, around) {
    if (around === undefined) around = (from + to) / 2;
    show(around - (around - from) * by, around + (to - around) * by);
  }
  function bringIn(row) {
    if (row === undefined || row < 0) return;
    if (row * ROW < top) top = row * ROW;
    if ((row + 1) * ROW > top + body()) top = (row + 1) * ROW - body();
    ask();
  }

  function words(task, part) {
    var kind = task.kinds[part], start = begin(task, part), end = task.ends[part];
    var lines = [task.label + " (" + task.role + ")"];
    if (task.argv) lines.push(task.argv.length > 300 ? task.argv.slice(0, 300) + "…" : task.argv);
    if (kind === MIXED) {
      lines.push(time(end - start) + ", mixed:");
      for (var s = 0; s < 5; s++) {
        var of = task.mixed[task.more[part] + s];
        if (of > 0) lines.push("  " + STATES[s] + " " + (of * 100).toFixed(of < 0.1 ? 1 : 0) + " %");
      }
    } else {
      var name = kind === 2 && task.more[part] ? ": " + D.names[task.more[part]] : "";
      lines.push(STATES[kind] + " for " + time(end - start) + name);
      if (task.wakers[part]) lines.push("woken by " + D.wakers[task.wakers[part]][0]);
    }
    lines.push("from " + time(start) + " to " + time(end));
    return lines;
  }
  function find(px, py) {
    if (py < RULER) return null;
    var row = rows[Math.floor((py - RULER + top) / ROW)];
    if (!row) return null;
    if (!row.task) return { row: row };
    if (px < GUTTER) return { row: row };
    var t = at(px), part = first(row.task, t);
    if (t < row.task.start || part >= row.task.ends.length) return { row: row };
    return { row: row, task: row.task, part: part };
  }
  function say(it) {
    var box = make("div");
    words(it.task, it.part).forEach(function (line, i) { box.append(make(i ? "div" : "h3", line)); });
    $("chosen").replaceChildren(box);
  }
  function choose(task, part) {
    chosen = { task: task, part: part };
    if (stall >= 0) painted.forget();
    stall = -1;
    say(chosen);
    ask();
  }
  function chooseStall(i, look) {
    if (!D.stalls.length) return;
    stall = (i + D.stalls.length) % D.stalls.length;
    painted.forget();
    chosen = null;
    var it = D.stalls[stall], long = it.end_ns - it.start_ns;
    if (look !== false) show(it.start_ns - long * 0.5 - 10, it.end_ns + long * 0.5 + 10);
    var box = make("div"), title = "Stall " + (stall + 1) + " of " + D.stalls.length + ": " + time(it.ns) + " from " + time(it.start_ns);
    box.append(make("h3", title));
    box.dataset.ns = it.ns;
    box.dataset.start = it.start_ns;
    box.append(make("div", it.of + ", " + it.tasks + " tasks: " + it.says + "."));
    if (it.cause) box.append(make("div", "Put down to " + it.cause.who + " in " + it.cause.what + ", " + it.cause.ended.replace("_", " ") + "."));
    if (it.chain.length) {
      var list = make("ol");
      it.chain.forEach(function (link) {
        list.append(make("li", link.who + " in " + link.what + " until " + (link.end_ns === null ? "the end" : time(link.end_ns) + ", woken by " + link.by)));
      });
      box.append(list);
      var root = it.chain[it.chain.length - 1];
      if (root.task !== null) bringIn(rowOf.get(root.task));
    }
    $("chosen").replaceChildren(box);
    ask();
  }
  function byTime() {
    return D.stalls.map(function (_, i) { return i; })
      .sort(function (a, b) { return D.stalls[a].start_ns - D.stalls[b].start_ns; });
  }
  function step(way) {
    var order = byTime(), now = order.indexOf(stall);
    if (order.length) chooseStall(order[(now + way + (now < 0 && way < 0 ? 1 : 0) + order.length) % order.length]);
  }

  // Pointer.
  var drag = null;
  function place(e) {
    var box = canvas.getBoundingClientRect();
    return [e.clientX - box.left, e.clientY - box.top];
  }
  canvas.addEventListener("wheel", function (e) {
    var p = place(e);
    if (e.ctrlKey || e.metaKey || p[0] > GUTTER && !e.shiftKey && e.altKey) {
      e.preventDefault();
      zoom(Math.exp(e.deltaY * 0.003), at(p[0]));
    } else if (Math.abs(e.deltaX) > Math.abs(e.deltaY) || e.shiftKey) {
      e.preventDefault();
      pan(from + (e.deltaX || e.deltaY) * scale / line * (to - from));
    } else {
      var before = top;
      top = Math.max(0, Math.min(top + e.deltaY, rows.length * ROW - body()));
      if (top !== before) {
        e.preventDefault();
        ask();
      }
    }
  }, { passive: false });
  canvas.addEventListener("pointerdown", function (e) {
    drag = { p: place(e), from: from, top: top, moved: false };
    canvas.setPointerCapture(e.pointerId);
  });
  canvas.addEventListener("pointermove", function (e) {
    var p = place(e);
    if (drag) {
      var dx = p[0] - drag.p[0], dy = p[1] - drag.p[1];
      if (Math.abs(dx) + Math.abs(dy) > 4) drag.moved = true;
      if (drag.moved) {
        top = Math.max(0, Math.min(drag.top - dy, rows.length * ROW - body()));
        pan(drag.from - dx * scale / line * (to - from));
      }
      tip.hidden = true;
      return;
    }
    var it = find(p[0], p[1]);
    tip.hidden = !(it && it.task);
    if (tip.hidden) return;
    tip.textContent = words(it.task, it.part).join("\n");
    tip.style.left = Math.min(p[0] + 14, Math.max(0, width - tip.offsetWidth - 6)) + "px";
    tip.style.top = (p[1] + 18 + tip.offsetHeight > height ? p[1] - tip.offsetHeight - 10 : p[1] + 18) + "px";
  });
  canvas.addEventListener("pointerleave", function () { tip.hidden = true; });
  canvas.addEventListener("pointerup", function (e) {
    var was = drag, p = place(e);
    drag = null;
    if (!was || was.moved) return;
    if (p[1] < RULER || p[0] > GUTTER) {
      var t = at(p[0]), hit = -1;
      D.stalls.forEach(function (it, i) {
        if (it.tree && t >= it.start_ns && t <= it.end_ns && (hit < 0 || it.ns < D.stalls[hit].ns)) hit = i;
      });
      if (hit >= 0 && p[1] < RULER) return chooseStall(hit);
    }
    var it = find(p[0], p[1]);
    if (!it) return;
    chosenRow = rows.indexOf(it.row);
    if (it.task) choose(it.task, it.part);
    else toggle(it.row);
  });
  canvas.addEventListener("dblclick", function (e) { zoom(0.4, at(place(e)[0])); });
  function toggle(row) {
    if (!row || row.task) return;
    row.role.open = !row.role.open;
    resize();
  }

  // Keyboard.
  canvas.addEventListener("keydown", function (e) {
    if (e.ctrlKey || e.metaKey || e.altKey) return;
    var by = (to - from) * 0.2, row = rows[chosenRow], done = true;
    switch (e.key) {
      case "ArrowLeft": pan(from - by); break;
      case "ArrowRight": pan(from + by); break;
      case "ArrowUp": case "ArrowDown":
        chosenRow = Math.max(0, Math.min(rows.length - 1, chosenRow + (e.key === "ArrowUp" ? -1 : 1)));
        bringIn(chosenRow);
        row = rows[chosenRow];
        if (row) $("chosen").replaceChildren(make("div", row.task ? row.task.label : row.role.name + ", " + row.tasks.length + " tasks"));
        break;
      case "+": case "=": zoom(0.5); break;
      case "-": zoom(2); break;
      case "0": show(0, END); break;
      case "n": step(1); break;
      case "p": step(-1); break;
      case ".": case ",":
        if (!row || !row.task) break;
        var task = row.task, part = chosen && chosen.task === task ? chosen.part : first(task, from) - (e.key === "." ? 1 : 0);
        do { part += e.key === "." ? 1 : -1; } while (task.kinds[part] !== undefined && task.kinds[part] !== 2);
        if (task.kinds[part] === 2) {
          choose(task, part);
          var mid = (begin(task, part) + task.ends[part]) / 2;
          if (mid < from || mid > to) show(mid - (to - from) / 2, mid + (to - from) / 2);
        }
        break;
      case "Enter": case " ": toggle(row); break;
      default: done = false;
    }
    if (done) e.preventDefault();
  });
  $("in").onclick = function () { zoom(0.5); };
  $("out").onclick = function () { zoom(2); };
  $("whole").onclick = function () { show(0, END); };
  $("before").onclick = function () { step(-1); };
  $("after").onclick = function () { step(1); };
  $("only").oninput = resize;
  $("arrows").onchange = ask;

  // Tables.
  function table(title, heads, data, go) {
    if (!data.length) return;
    var section = make("section"), head = make("div", undefined, "head"), id = "t" + document.querySelectorAll("table").length;
    var name = make("h2", title), filter = make("input");
    name.id = id;
    section.setAttribute("aria-labelledby", id);
    filter.type = "search";
    filter.placeholder = "filter";
    filter.setAttribute("aria-label", "Filter: " + title);
    head.append(name, filter);
    var box = make("div", undefined, "scroll"), grid = make("table"), top = make("thead"), line = make("tr"), inner = make("tbody");
    box.tabIndex = 0;
    box.setAttribute("role", "region");
    box.setAttribute("aria-labelledby", id);
    var by = -1, down = true;
    heads.forEach(function (it, c) {
      var th = make("th", undefined, it[1] ? "n" : ""), sort = make("button", it[0]);
      th.scope = "col";
      sort.type = "button";
      sort.onclick = function () {
        down = by === c ? !down : !!it[1];
        by = c;
        line.querySelectorAll("th").forEach(function (other) { other.removeAttribute("aria-sort"); });
        th.setAttribute("aria-sort", down ? "descending" : "ascending");
        fill();
      };
      th.append(sort);
      line.append(th);
    });
    function fill() {
      var wanted = filter.value.toLowerCase();
      var order = data.map(function (row, i) { return i; }).filter(function (i) {
        return !wanted || data[i].some(function (cell) { return typeof cell === "string" && cell.toLowerCase().indexOf(wanted) >= 0 || String(cell) === wanted; });
      });
      if (by >= 0) order.sort(function (a, b) {
        var one = data[a][by], two = data[b][by];
        var way = typeof one === "number" ? one - two : String(one).localeCompare(String(two));
        return down ? -way : way;
      });
      inner.replaceChildren.apply(inner, order.slice(0, 2000).map(function (i) {
        var tr = make("tr");
        heads.forEach(function (it, c) {
          var cell = data[i][c], td = make("td", it[1] === "time" ? time(cell) : it[1] === "count" ? count(cell) : cell, it[1] ? "n" : "");
          if (it[1] === "time") td.title = count(cell) + " ns";
          tr.append(td);
        });
        if (go) {
          tr.className = "go";
          tr.tabIndex = 0;
          tr.onclick = function () { go(i); };
          tr.onkeydown = function (e) { if (e.key === "Enter") go(i); };
        }
        return tr;
      }));
      if (order.length > 2000) {
        var more = make("tr"), td = make("td", count(order.length - 2000) + " more rows: filter to see them", "dim");
        td.colSpan = heads.length;
        more.append(td);
        inner.append(more);
      }
    }
    filter.oninput = fill;
    top.append(line);
    grid.append(top, inner);
    box.append(grid);
    section.append(head, box);
    $("tables").append(section);
    fill();
  }
  var T = "time", C = "count";
  function tables() {
    table("Stalls: all tasks of a group blocked", [["from", T], ["time", T], ["tasks", C], ["group"], ["put down to"], ["which"]],
      D.stalls.map(function (it) {
        return [it.start_ns, it.ns, it.tasks, it.of, it.cause ? it.cause.who + " in " + it.cause.what : "", it.says];
      }), function (i) { chooseStall(i); $("line").scrollIntoView({ block: "start" }); });
    table("What the run took its time for", [["role"], ["state"], ["in"], ["time", T], ["times", C]], D.path);
    table("What was waited for", [["call"], ["object"], ["time", T], ["waits", C], ["tasks", C]], D.waits);
    table("Tasks", [["name"], ["tid", "n"], ["pid", "n"], ["role"], ["running", T], ["wants a CPU", T], ["blocked", T], ["stopped", T], ["unknown", T], ["longest wait", T], ["command"]],
      tasks.map(function (t) { return [t.name, t.tid, t.pid, t.role].concat(t.ns, [t.longest, t.argv]); }),
      function (i) {
        var role = byRole[tasks[i].role];
        role.open = true;
        $("only").value = "";
        resize();
        chosenRow = rowOf.get(i);
        bringIn(chosenRow);
        $("line").scrollIntoView({ block: "start" });
        canvas.focus({ preventScroll: true });
      });
    table("Who woke whom", [["waited"], ["woke it"], ["time", T], ["times", C]], D.edges);
  }

  // The rest of the page.
  function fillIn() {
    $("where").textContent = time(D.duration_ns) + ", " + count(tasks.length) + (tasks.length === 1 ? " task" : " tasks") + ", " + D.cpus + " CPUs, Linux " + D.kernel + (D.saved ? ". " + D.saved : "");
    $("findings").replaceChildren.apply($("findings"), D.findings.map(function (it) {
      var li = make("li");
      prose(li, it.sentence);
      li.dataset.kind = it.kind;
      var small = make("div", time(it.ns) + ", " + (it.share * 100).toFixed(0) + " % of the run, " + it.confidence, "small");
      it.evidence.forEach(function (line) { small.append(prose(make("div"), line)); });
      li.append(small);
      return li;
    }));
    $("exact").textContent = D.exact_ns === 0
      ? "Exact: the page holds every stretch of the recording, to the nanosecond."
      : "Stretches of " + time(D.exact_ns) + " and more are exact. Shorter ones are put together, and drawn by how much was in which state; the Perfetto form (-o run.pftrace) has them all.";
    if (D.all_stalls > D.stalls.length) $("exact").textContent += " Of " + count(D.all_stalls) + " stalls the longest are here.";
    COLOURS.forEach(function (name, s) {
      var item = make("span"), mark = make("i");
      mark.style.height = Math.max(2, Math.round(13 * HEIGHTS[s])) + "px";
      mark.style.background = "var(--" + name + ")";
      item.append(mark, STATES[s]);
      $("legend").append(item);
    });
    var said = make("p");
    said.append(make("span", "Audit: " + D.audit.verdict + ". ", D.audit.complete ? "" : "bad"), D.audit.says[0]);
    $("audit").append(said);
    D.audit.says.slice(1).forEach(function (line) { $("audit").append(make("p", line)); });
  }
  function resize() {
    scale = window.devicePixelRatio || 1;
    ROW = Math.round(16 * scale) / scale;
    width = canvas.clientWidth;
    layOut();
    height = Math.max(70, Math.min(RULER + rows.length * ROW + 6, Math.round(window.innerHeight * 0.62)));
    canvas.style.height = height + "px";
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    names = Math.round(GUTTER * scale);
    line = Math.max(1, canvas.width - names);
    painted.resize(Math.ceil(body() / ROW) + 1, Math.round(ROW * scale), names, line);
    painted.zoom(from, (to - from) / line);
    layOut();
    ask();
  }
  colours();
  fillIn();
  tables();
  resize();
  window.addEventListener("resize", resize);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", function () {
    colours();
    painted.forget();
    ask();
  });
  function open(all) {
    roles.forEach(function (role) { role.open = all; });
    resize();
  }
  window.forktrace = {
    show: show, pan: pan, choose: choose, stall: chooseStall, open: open, tasks: tasks, draw: draw,
    view: function () { return [from, to]; },
    // All anew, and nothing of what was kept.
    repaint: function () { painted.forget(); draw(); },
  };
})();
