// Rows of the time line, painted once and kept. A frame of a line that is moved paints what came
// into view and copies the rest, so it takes as long for a row of ten thousand parts as for one of ten.
//
// What is kept is a ring in both directions: a row has a slot, in which pixels go around. All here
// is in pixels of the screen, so nothing is blurred when it is copied.
function paintedRows(look) {
  "use strict";
  var MIXED = look.mixed, STATES = 5, WIDE = 2;
  var kept = document.createElement("canvas"), on = kept.getContext("2d", { alpha: false });
  var slots = [], high = 16, gutter = 0, wide = 1, around = 1;
  // A pixel is so long, and pixel 0 begins there; what was painted with other ones is of no use.
  var origin = 0, pixel = 1, zoomed = 0, looked = 0;

  function modulo(a, n) { return a - Math.floor(a / n) * n; }

  // How much of a row each state takes, so that nothing is told by colour alone.
  function bar(state, left, right, y) {
    var h = Math.max(1, Math.round((high - look.gap()) * look.heights[state]));
    on.fillStyle = look.colour(state);
    on.fillRect(left, y + Math.round((high - h) / 2), right - left, h);
  }
  // Several states in one place: as high as each one's share, running at the bottom.
  function stack(shares, from, all, left, right, y) {
    var gap = look.gap(), below = y + high - gap / 2, h = high - gap;
    for (var s = 0; s < STATES; s++) {
      var part = all ? shares[from + s] / all * h : 0;
      if (part <= 0) continue;
      on.fillStyle = look.colour(s);
      on.fillRect(left, below - part, right - left, part);
      below -= part;
    }
  }

  var shares = [0, 0, 0, 0, 0];
  // The pixels from p to end of a task, of which the first is at x.
  function paintTask(task, y, x, p, end) {
    var i = look.first(task, origin + (p - 1) * pixel), n = task.ends.length, right = x + end - p;
    function clamped(at) { return Math.max(x, Math.min(right, x + at - p)); }
    while (i < n) {
      var start = look.begin(task, i), left = (start - origin) / pixel;
      if (left >= end) break;
      var kind = task.kinds[i], length = task.ends[i] - start;
      if (kind !== MIXED && length >= pixel) {
        bar(kind, clamped(left), clamped((task.ends[i] - origin) / pixel), y);
        i++;
        continue;
      }
      // What is thinner than a pixel is painted by its share: all that begins in one together.
      var last = Math.floor(left) + 1, all = 0;
      shares.fill(0);
      do {
        for (var s = 0; s < STATES; s++) shares[s] += length * look.share(task, i, s);
        all += length;
        i++;
        kind = task.kinds[i];
        length = task.ends[i] - task.ends[i - 1];
      } while (i < n && (task.ends[i - 1] - origin) / pixel < last && (kind === MIXED || length < pixel));
      var a = clamped(left), b = clamped(Math.max((task.ends[i - 1] - origin) / pixel, left + 0.6));
      if (b > a) stack(shares, 0, all, a, b, y);
    }
  }
  // The same of a role: how many of its tasks were in which state.
  function paintRole(row, y, x, p, end) {
    var columns = (end - p) / WIDE, from = origin + p * pixel, to = origin + end * pixel, long = pixel * WIDE;
    var sums = new Float64Array(columns * STATES);
    // What fills columns is noted where it begins and ends, so a long part costs as a short one.
    var steps = new Float64Array((columns + 1) * STATES);
    function add(state, of, start, stop) {
      var a = Math.min(columns - 1, Math.floor((start - from) / long));
      var b = Math.min(columns - 1, Math.floor((stop - from) / long));
      if (a === b) {
        sums[a * STATES + state] += of * (stop - start);
        return;
      }
      sums[a * STATES + state] += of * (from + (a + 1) * long - start);
      sums[b * STATES + state] += of * (stop - (from + b * long));
      steps[(a + 1) * STATES + state] += of;
      steps[b * STATES + state] -= of;
    }
    row.tasks.forEach(function (task) {
      for (var i = look.first(task, from); i < task.ends.length; i++) {
        var start = Math.max(look.begin(task, i), from), stop = Math.min(task.ends[i], to);
        if (start >= to) break;
        if (task.kinds[i] !== MIXED) add(task.kinds[i], 1, start, stop);
        else for (var s = 0; s < STATES; s++) {
          var of = task.mixed[task.more[i] + s];
          if (of > 0) add(s, of, start, stop);
        }
      }
    });
    var filled = [0, 0, 0, 0, 0];
    for (var at = 0; at < columns * STATES; at++) {
      filled[at % STATES] += steps[at];
      sums[at] += filled[at % STATES] * long;
    }
    for (var c = 0; c < columns; c++) {
      stack(sums, c * STATES, long * row.tasks.length, x + c * WIDE, x + (c + 1) * WIDE, y);
    }
  }

  // Paints the pixels from a to b of a row into its slot.
  function paint(row, y, a, b) {
    while (a < b) {
      var within = modulo(a, around), end = Math.min(b, a - within + around), x = gutter + within;
      on.fillStyle = look.ground();
      on.fillRect(x, y, end - a, high);
      look.bands(origin + a * pixel, origin + end * pixel).forEach(function (band) {
        var left = Math.max(a, (band.from - origin) / pixel), right = Math.min(end, (band.to - origin) / pixel);
        on.globalAlpha = band.strength;
        on.fillStyle = look.band();
        on.fillRect(x + left - a, y, Math.max(right - left, 1), high);
      });
      on.globalAlpha = 1;
      if (row.task) paintTask(row.task, y, x, a, end);
      else paintRole(row, y, x, a, end);
      a = end;
    }
  }
  function paintName(row, y, chosen) {
    on.fillStyle = chosen ? look.box() : look.ground();
    on.fillRect(0, y, gutter, high);
    look.name(on, row, y);
  }

  return {
    // For a screen with so many rows of this height, and as many pixels for names and for the line.
    resize: function (rows, rowHigh, names, line) {
      high = rowHigh;
      gutter = names;
      wide = line;
      // A pixel more on each side, since roles are painted two at a time.
      around = wide + wide % WIDE + WIDE;
      slots = new Array(rows + 1);
      kept.width = gutter + around;
      kept.height = slots.length * high;
      on.textBaseline = "middle";
      looked++;
    },
    // Nothing that was painted is right any more.
    forget: function () { looked++; },
    // Another zoom: the line begins at `from`, and a pixel is so long.
    zoom: function (from, long) {
      origin = from;
      pixel = long;
      zoomed++;
    },
    // The time nearest to `from` at which a pixel begins.
    snapped: function (from) { return origin + Math.round((from - origin) / pixel) * pixel; },
    // Copies the rows to a canvas: the first one `over` pixels above y, the line from `from` on.
    copy: function (to, rows, first, over, y, bottom, from, chosen) {
      var p = Math.round((from - origin) / pixel), a = p - modulo(p, WIDE), b = p + wide;
      b += modulo(b, WIDE);
      var last = Math.min(rows.length, first + slots.length, first + Math.ceil((bottom - y + over) / high));
      for (var i = first; i < last; i++) {
        var at = i % slots.length, slot = slots[at], top = at * high;
        if (!slot || slot.row !== rows[i] || slot.looked !== looked) slot = { row: rows[i], looked: looked, chosen: null };
        if (slot.zoomed !== zoomed || slot.b <= a || slot.a >= b) paint(rows[i], top, a, b);
        else {
          if (a < slot.a) paint(rows[i], top, a, slot.a);
          if (b > slot.b) paint(rows[i], top, slot.b, b);
        }
        if (slot.chosen !== (i === chosen)) paintName(rows[i], top, i === chosen);
        slot.zoomed = zoomed;
        slot.chosen = i === chosen;
        slot.a = a;
        slot.b = b;
        slots[at] = slot;
      }
      // Where the ring ends, and goes on at its beginning.
      var x = modulo(p, around), before = Math.min(wide, around - x);
      for (i = first; i < last; i += count) {
        at = i % slots.length;
        var count = Math.min(last - i, slots.length - at);
        var tall = count * high, source = at * high, target = y - over + (i - first) * high;
        to.drawImage(kept, 0, source, gutter, tall, 0, target, gutter, tall);
        to.drawImage(kept, gutter + x, source, before, tall, gutter, target, before, tall);
        if (before < wide) to.drawImage(kept, gutter, source, wide - before, tall, gutter + before, target, wide - before, tall);
      }
      return y - over + (last - first) * high;
    },
  };
}
