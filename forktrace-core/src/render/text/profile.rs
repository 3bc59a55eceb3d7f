//! How many tasks were blocked, and how many ran, at the same time.

use super::{
    View,
    figures::{NONE, duration, duration_cell, percent, plain, plural, quantity, width},
    layout::{Ink, paint, wrapped},
    workload::{member, title},
};
use crate::report::{AtOnce, Episodes, Group, GroupKind};

/// Rows of a profile.
const ROWS: usize = 8;
/// Columns of a row: label, bar, share and time.
const ROW: usize = 47;

/// The profiles of the tree, and of each process with `-v`. One task alone has
/// none: its row in the table of tasks says the same.
pub(super) fn section(view: &View<'_>) -> String {
    let Some(tree) = view.tree.filter(|tree| tree.tasks.len() > 1) else {
        return String::new();
    };
    let mut out = group(view, tree, view.noun(), "");
    for one in &view.divided {
        let of = match one.kind {
            GroupKind::Process => format!("pid {}", one.pid),
            _ => title(one),
        };
        out.push('\n');
        out.push_str(&group(view, one, member(one), &format!(" of {of}")));
    }
    out
}

fn group(view: &View<'_>, group: &Group, noun: &str, of: &str) -> String {
    let title = |state: &str| format!("{}{of} {state} at once", plural(noun)).to_uppercase();
    let (left, right) = (title("blocked"), title("running"));
    let blocked = lines(&blocked_rows(group), group);
    let running = lines(&running_rows(group), group);
    let line = |text: &str| plain(view.style, &format!("  {text}\n")).into_owned();
    let mut out = String::new();
    if view.style.columns < 2 * (ROW + 3) {
        for (title, rows) in [(&left, &blocked), (&right, &running)] {
            out.push_str(&paint(view.style, Ink::Dim, &line(title)));
            out.extend(rows.iter().map(|row| line(row)));
        }
    } else {
        let side_by_side = |left: &str, right: &str| {
            let gap = " ".repeat((ROW + 4).saturating_sub(width(left)));
            line(format!("{left}{gap}{right}").trim_end())
        };
        let heads = side_by_side(&left, &right);
        out.push_str(&paint(view.style, Ink::Dim, &heads));
        for at in 0..blocked.len().max(running.len()) {
            let [left, right] = [&blocked, &running].map(|lines| lines.get(at).map_or("", |l| l));
            out.push_str(&side_by_side(left, right));
        }
    }
    out.push_str(&wrapped(
        view.style,
        "  ",
        &starved(group, view.report.audit.complete),
    ));
    if group.unknown_ns > 0 {
        let text = format!(
            "For {} the state of at least one task is not known: it counts as running in the \
             profile of blocked tasks, and as blocked in the other.",
            duration(group.unknown_ns)
        );
        out.push_str(&wrapped(view.style, "  ", &text));
    }
    out
}

/// A label and its time.
type Row = (String, u64);

fn blocked_rows(group: &Group) -> Vec<Row> {
    let most = group.most_live;
    let at_once = &group.blocked_at_once;
    let known = at_once.iter().filter(|at| at.ns > 0);
    if (most as usize) < ROWS {
        (0..=most)
            .map(|count| (label(count, group), time(at_once, count, count)))
            .collect()
    } else if known.clone().count() <= ROWS {
        known.map(|at| (label(at.count, group), at.ns)).collect()
    } else {
        // None and all keep their rows, since they are what is asked for.
        let mut rows = vec![(label(0, group), time(at_once, 0, 0))];
        rows.extend(ranges(at_once, most - 1, ROWS - 2, group));
        // The report promises no count above `most_live`; one that comes all the
        // same must not vanish.
        rows.push((label(most, group), time(at_once, most, u32::MAX)));
        rows
    }
}

/// No more run at once than there are CPUs, so these rows end with the last count
/// that occurred.
fn running_rows(group: &Group) -> Vec<Row> {
    let at_once = &group.running_at_once;
    let known = at_once.iter().filter(|at| at.ns > 0);
    let most = known.map(|at| at.count).max().unwrap_or(0);
    let mut rows = vec![(label(0, group), time(at_once, 0, 0))];
    rows.extend(ranges(at_once, most, (ROWS - 1).min(most as usize), group));
    rows
}

/// The counts from 1 to `last`, cut into equal ranges.
fn ranges(at_once: &[AtOnce], last: u32, ranges: usize, group: &Group) -> Vec<Row> {
    let first = |range: usize| 1 + (u64::from(last) * range as u64 / ranges as u64) as u32;
    (0..ranges)
        .map(|range| {
            let (from, to) = (first(range), first(range + 1) - 1);
            let label = if from == to {
                label(from, group)
            } else {
                format!("{from}–{to}")
            };
            (label, time(at_once, from, to))
        })
        .collect()
}

/// “All” stands only where it means every task of the group.
fn label(count: u32, group: &Group) -> String {
    match count {
        0 => "none".to_owned(),
        1 => "1".to_owned(),
        _ if count as usize == group.tasks.len() => format!("all {count}"),
        _ => count.to_string(),
    }
}

fn time(at_once: &[AtOnce], from: u32, to: u32) -> u64 {
    at_once
        .iter()
        .filter(|at| (from..=to).contains(&at.count))
        .map(|at| at.ns)
        .fold(0, u64::saturating_add)
}

fn lines(rows: &[Row], group: &Group) -> Vec<String> {
    let times: Vec<String> = rows.iter().map(|(_, ns)| duration_cell(*ns)).collect();
    let labels = rows.iter().map(|(label, _)| width(label)).max();
    let labels = labels.unwrap_or(0).max(6);
    let wide = times.iter().map(|time| width(time)).max();
    let wide = wide.unwrap_or(0).max(7);
    // The bar gets what the figures leave.
    let columns = ROW.saturating_sub(labels + wide + 13).max(1);
    rows.iter()
        .zip(times)
        .map(|((label, ns), time)| {
            let share = match ns {
                0 => NONE.to_owned(),
                _ => percent(*ns, group.lifetime_ns),
            };
            let bar = bar(*ns, group.lifetime_ns, columns);
            format!("{label:>labels$}  {bar:<columns$}  {share:>7}  {time:>wide$}")
        })
        .collect()
}

/// Something is at least an eighth of a column, and only the whole fills it.
fn bar(part: u64, whole: u64, columns: usize) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    if part == 0 || whole == 0 {
        return String::new();
    }
    let full = columns as u128 * 8;
    let eighths = (u128::from(part) * full / u128::from(whole)).clamp(1, full) as usize;
    "█".repeat(eighths / 8) + EIGHTHS[eighths % 8]
}

fn starved(group: &Group, complete: bool) -> String {
    let Episodes {
        lower_ns: lower,
        upper_ns: upper,
        episodes,
        longest_ns,
        longest_start_ns,
    } = group.starved;
    match (upper, complete) {
        (0, true) => {
            return "Never starved: whenever one wanted to run, at least one ran.".to_owned();
        }
        (0, false) => {
            return "Not seen starved (one wanted to run, none did), but the record is incomplete."
                .to_owned();
        }
        _ => {}
    }
    let exact = lower == upper;
    let share = |ns| percent(ns, group.lifetime_ns);
    let mut text = "Starved (one wanted to run, none did): ".to_owned();
    text.push_str(&match (exact, complete) {
        (true, true) => format!("{} ({})", duration(lower), share(lower)),
        (true, false) => format!("{} ({}) as far as seen", duration(lower), share(lower)),
        (false, _) => format!(
            "between {} and {} ({} to {})",
            duration(lower),
            duration(upper),
            share(lower),
            share(upper)
        ),
    });
    if episodes > 0 {
        text.push_str(&format!(
            ", in {}; the longest lasted {}{}",
            quantity(episodes, "episode"),
            if exact { "" } else { "at least " },
            duration(longest_ns)
        ));
        if let Some(start) = longest_start_ns {
            text.push_str(&format!(", from {} on", duration(start)));
        }
    }
    text.push('.');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_never_empty_nor_full_without_reason() {
        assert_eq!(bar(0, 100, 10), "");
        assert_eq!(bar(1, 1_000_000, 10), "▏");
        assert_eq!(bar(50, 100, 10), "█████");
        assert_eq!(bar(999, 1_000, 10), "█████████▉");
        assert_eq!(bar(100, 100, 10), "██████████");
        assert_eq!(bar(u64::MAX, u64::MAX, 10), "██████████");
    }

    fn many(most_live: u32) -> Group {
        let group = crate::render::samples::sleepers().groups.swap_remove(0);
        Group {
            tasks: (0..most_live).collect(),
            most_live,
            blocked_at_once: (0..=most_live)
                .map(|count| AtOnce { count, ns: 1 })
                .collect(),
            lifetime_ns: u64::from(most_live) + 1,
            ..group
        }
    }

    #[test]
    fn ranges_cover_every_count_once() {
        for most_live in [8, 9, 13, 500, 65_536] {
            let group = many(most_live);
            let rows = blocked_rows(&group);
            assert_eq!(rows.len(), ROWS, "{rows:?}");
            let sum: u64 = rows.iter().map(|(_, ns)| ns).sum();
            assert_eq!(sum, group.lifetime_ns, "{rows:?}");
            assert_eq!(rows[0], ("none".to_owned(), 1));
            assert_eq!(rows[ROWS - 1], (format!("all {most_live}"), 1));
        }
    }

    #[test]
    fn many_cpus_are_cut_into_ranges_too() {
        let mut group = many(500);
        group.running_at_once = (0..=64).map(|count| AtOnce { count, ns: 1 }).collect();
        let rows = running_rows(&group);
        let labels: Vec<&str> = rows.iter().map(|(label, _)| label.as_str()).collect();
        assert_eq!(
            labels,
            [
                "none", "1–9", "10–18", "19–27", "28–36", "37–45", "46–54", "55–64"
            ]
        );
        assert_eq!(rows.iter().map(|(_, ns)| ns).sum::<u64>(), 65);
    }
}
