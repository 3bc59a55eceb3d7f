//! Who did what when: a row a role, a character a slice of time.

use super::{
    View,
    figures::{duration, elided, plain, quantity, width},
    layout::{Ink, glyph, paint, wrapped},
    roles::{chosen, label},
};
use crate::report::{Role, RoleRow};

/// Columns of a role's name.
const NAME: usize = 24;
/// Columns between two times above the cells, at least.
const TICK: usize = 9;

/// The time line of the first roles, in the order of their creation.
pub(super) fn section(view: &View<'_>, most: usize) -> String {
    let timeline = &view.report.timeline;
    let rows = timeline.rows.iter().zip(&view.report.roles);
    // What only helper threads did is nothing to look at.
    let rows = rows.filter(|(_, role)| role.helpers < role.tasks);
    let rows: Vec<(&RoleRow, &Role)> = rows.collect();
    let mut rows = chosen(view, rows, |(_, role)| role, most);
    let hidden = view.report.roles.len() - rows.len();
    rows.sort_by_key(|(_, role)| role.start_ns);
    let length = timeline.end_ns.saturating_sub(timeline.start_ns);
    if rows.is_empty() || length == 0 || timeline.cells == 0 {
        return String::new();
    }
    let labels = rows.iter().map(|(_, role)| {
        let number = match role.tasks {
            1 => String::new(),
            n => format!(" ×{n}"),
        };
        let room = NAME - width(&number);
        elided(view.style, &label(view, role), room) + &plain(view.style, &number)
    });
    let labels: Vec<String> = labels.collect();
    let wide = labels.iter().map(|label| width(label)).max().unwrap_or(0);
    let cells = view.style.columns.saturating_sub(wide + 4);
    let cells = cells.clamp(20, timeline.cells as usize);
    let mut seen = Vec::new();
    let lines: Vec<String> = rows
        .iter()
        .zip(&labels)
        .map(|((row, _), label)| {
            let inks = inks(row, timeline.cells as usize, cells, length);
            seen.extend(inks.iter().flatten());
            let space = " ".repeat(wide - width(label));
            format!("  {label}{space}  {}", painted(view, &inks))
        })
        .collect();
    let legend = [
        (Ink::Running, "ran"),
        (Ink::Runnable, "ready"),
        (Ink::Blocked, "blocked"),
        (Ink::Stopped, "stopped"),
        (Ink::Unknown, "not known"),
    ];
    let legend = legend.iter().filter(|(ink, _)| seen.contains(ink));
    let legend = legend.map(|(ink, word)| {
        let glyph = plain(view.style, glyph(*ink)).into_owned();
        format!("{} {word}", paint(view.style, *ink, &glyph))
    });
    let legend: Vec<String> = legend.collect();
    let mut out = paint(view.style, Ink::Dim, "  WHO DID WHAT");
    out.push_str(&format!("   {}\n", legend.join("  ")));
    let ticks = ticks(timeline.start_ns, length, cells);
    let ticks = plain(view.style, &ticks).into_owned();
    out.push_str(&format!("  {}  {ticks}\n", " ".repeat(wide)));
    for line in lines {
        out.push_str(&line);
        out.push('\n');
    }
    if hidden > 0 {
        let text = format!("… and {}", quantity(hidden as u64, "other role"));
        out.push_str(&wrapped(view.style, "  ", &text));
    }
    out
}

/// What is shown of each of `cells` slices of a row: what at least one of its tasks did for
/// half of it, running before ready; else what took the most time. `None`: none lived.
fn inks(row: &RoleRow, of: usize, cells: usize, length_ns: u64) -> Vec<Option<Ink>> {
    let states = [
        (&row.running, Ink::Running),
        (&row.runnable, Ink::Runnable),
        (&row.blocked, Ink::Blocked),
        (&row.stopped, Ink::Stopped),
        (&row.unknown, Ink::Unknown),
    ];
    let half_ns = length_ns as f64 / cells as f64 / 2.0;
    let sums = states.map(|(sums, _)| resampled(sums, of, cells));
    (0..cells)
        .map(|cell| {
            let sums = [0, 1, 2, 3, 4].map(|state| sums[state].get(cell).copied().unwrap_or(0.0));
            let busy = (0..2).find(|&state| sums[state] >= half_ns);
            let most = (0..5).max_by(|&a, &b| sums[a].total_cmp(&sums[b]).then(b.cmp(&a)));
            let state = busy.or(most)?;
            (sums[state] > 0.0).then_some(states[state].1)
        })
        .collect()
}

/// `of` cells as fewer ones: each takes the parts of those that it covers.
fn resampled(sums: &[u64], of: usize, cells: usize) -> Vec<f64> {
    let mut out = vec![0.0; cells];
    for (at, &ns) in sums.iter().enumerate().filter(|(_, ns)| **ns > 0) {
        // In units of 1 / (of × cells) of the whole.
        let (from, to) = (at * cells, (at + 1) * cells);
        let last = ((to - 1) / of).min(cells - 1);
        for (cell, sum) in out.iter_mut().enumerate().take(last + 1).skip(from / of) {
            let covered = to.min((cell + 1) * of) - from.max(cell * of);
            *sum += ns as f64 * covered as f64 / cells as f64;
        }
    }
    out
}

/// The cells, neighbours of one colour painted together; ends at the last one with a life.
fn painted(view: &View<'_>, inks: &[Option<Ink>]) -> String {
    let end = inks
        .iter()
        .rposition(Option::is_some)
        .map_or(0, |at| at + 1);
    let mut out = String::new();
    for run in inks[..end].chunk_by(|a, b| a == b) {
        out.push_str(&match run[0] {
            None => " ".repeat(run.len()),
            Some(ink) => {
                let glyph = plain(view.style, glyph(ink)).into_owned();
                paint(view.style, ink, &glyph.repeat(run.len()))
            }
        });
    }
    out
}

/// Times above the cells, at round numbers.
fn ticks(start_ns: u64, length_ns: u64, cells: usize) -> String {
    let most = (cells / TICK).max(1) as u64;
    let steps = (0..19).flat_map(|power| [1, 2, 5].map(|digit| digit * 10u64.pow(power)));
    let step = steps
        .clone()
        .find(|step| length_ns / step <= most)
        .unwrap_or(u64::MAX);
    let mut line = String::new();
    let mut at_ns = start_ns.div_ceil(step).saturating_mul(step);
    // What begins within the first cell begins with it.
    let into = start_ns % step;
    if into > 0 && into < length_ns / cells as u64 {
        at_ns = start_ns - into;
    }
    while at_ns < start_ns.saturating_add(length_ns) {
        let into = u128::from(at_ns.saturating_sub(start_ns));
        let cell = (into * cells as u128 / u128::from(length_ns.max(1))) as usize;
        let text = round_time(at_ns);
        if cell + width(&text) <= cells && (line.is_empty() || width(&line) < cell) {
            line.push_str(&" ".repeat(cell - width(&line)));
            line.push_str(&text);
        }
        at_ns = at_ns.saturating_add(step);
    }
    line
}

/// A time with one digit that counts, or a few, without the zeros of [`duration`].
fn round_time(ns: u64) -> String {
    let text = duration(ns);
    let Some((number, unit)) = text.split_once(' ') else {
        return text;
    };
    let number = match number.contains('.') {
        true => number.trim_end_matches('0').trim_end_matches('.'),
        false => number,
    };
    format!("{number} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_cell_shows_is_what_one_task_did_for_half_of_it() {
        let row = RoleRow {
            running: vec![0, 50, 40, 0],
            runnable: vec![0, 0, 60, 0],
            blocked: vec![300, 250, 200, 0],
            ..RoleRow::default()
        };
        let shown = [
            Some(Ink::Blocked),
            Some(Ink::Running),
            Some(Ink::Runnable),
            None,
        ];
        assert_eq!(inks(&row, 4, 4, 400), shown);
    }

    #[test]
    fn fewer_cells_hold_the_same_time() {
        let sums = [6, 0, 0, 3, 5, 1, 9];
        for cells in 1..=7 {
            let fewer = resampled(&sums, 7, cells);
            let sum: f64 = fewer.iter().sum();
            assert!((sum - 24.0).abs() < 1e-9, "{cells}: {fewer:?}");
        }
        assert_eq!(resampled(&[2, 4, 6, 8], 4, 2), [6.0, 14.0]);
    }

    #[test]
    fn times_stand_where_they_are() {
        let second = 1_000_000_000;
        assert_eq!(
            ticks(0, 2 * second, 40),
            "0 s       500 ms    1 s       1.5 s"
        );
        assert_eq!(
            ticks(120_000_000, 2 * second, 40),
            "       500 ms    1 s       1.5 s     2 s"
        );
        assert_eq!(ticks(0, 1, 20), "0 s");
        assert!(ticks(5, u64::MAX / 2, 20).len() <= 20);
    }
}
