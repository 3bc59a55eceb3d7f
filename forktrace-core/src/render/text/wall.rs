//! Where the time went: each moment of the run in one state.

use super::{
    View,
    figures::{duration, percent, plain, width},
    layout::{Ink, paint, state_bar},
};

/// The states that took a visible part of the run, most time first.
pub(super) fn section(view: &View<'_>) -> String {
    let Some(tree) = view.tree else {
        return String::new();
    };
    let wall = tree.wall;
    let several = tree.tasks.len() > 1;
    let hundredths = wall.cpu_ns.saturating_mul(100) / wall.running_ns.max(1);
    let running = match several {
        true => format!(
            "running ({}.{:02} CPUs on average)",
            hundredths / 100,
            hundredths % 100
        ),
        false => "running".to_owned(),
    };
    let blocked = if several { "all blocked" } else { "blocked" };
    let mut rows = [
        (wall.running_ns, Ink::Running, running),
        (
            wall.starved_ns,
            Ink::Runnable,
            "ready, waiting for a CPU".to_owned(),
        ),
        (wall.blocked_ns, Ink::Blocked, blocked.to_owned()),
        (wall.stopped_ns, Ink::Stopped, "stopped".to_owned()),
        (wall.unknown_ns, Ink::Unknown, "not known".to_owned()),
    ];
    rows.sort_by_key(|(ns, ..)| std::cmp::Reverse(*ns));
    let shown = rows
        .iter()
        .filter(|(ns, ..)| ns.saturating_mul(1000) >= tree.lifetime_ns && *ns > 0);
    let shown: Vec<_> = shown.collect();
    if shown.is_empty() {
        return String::new();
    }
    let widest = |texts: &dyn Fn(u64) -> String| {
        let widths = shown.iter().map(|(ns, ..)| width(&texts(*ns)));
        widths.max().unwrap_or(0)
    };
    let (of_share, of_time) = (
        widest(&|ns| percent(ns, tree.lifetime_ns)),
        widest(&duration),
    );
    let words = shown.iter().map(|(.., words)| width(words)).max();
    let taken = of_share + of_time + words.unwrap_or(0) + 10;
    let room = view.style.columns.saturating_sub(taken).clamp(8, 40);
    // The longest bar ends where the words begin.
    let longest = shown.iter().map(|(ns, ..)| *ns).max().unwrap_or(0);
    let mut out = paint(view.style, Ink::Dim, "  WHERE THE TIME WENT\n");
    for (ns, ink, words) in shown {
        let (share, time) = (percent(*ns, tree.lifetime_ns), duration(*ns));
        let bar = state_bar(view.style, *ink, *ns, longest, room);
        let line = format!("  {share:>of_share$}  {time:>of_time$}  {bar}  {words}\n");
        out.push_str(&plain(view.style, &line));
    }
    out
}
