//! What was waited for: objects and locks, over all tasks.

use super::{
    View,
    figures::{clean, count, count_cell, duration, duration_cell, percent, plural, quantity},
    layout::{Table, wrapped},
};
use crate::report::{Object, WaitedFor};

/// What is said of helper threads that nobody had work for.
const PARKED: &str = "parked";

/// The things that took the most time, and the rest in a line.
pub(super) fn summary(view: &View<'_>, most: usize) -> String {
    let all = &view.report.waited_for;
    let whole = all.iter().map(|row| row.ns).fold(0, u64::saturating_add);
    let parked = |row: &&WaitedFor| row.reason == PARKED;
    let rows = all.iter().filter(|row| !parked(row) && row.ns > 0);
    let worth = rows.clone().filter(|row| row.ns >= whole / 100);
    let shown: Vec<&WaitedFor> = worth.take(most).collect();
    if shown.is_empty() {
        return String::new();
    }
    let mut out = table(view, &shown, whole);
    let rest: Vec<&WaitedFor> = rows.skip(shown.len()).collect();
    let of_rest = rest.iter().map(|row| row.ns).fold(0, u64::saturating_add);
    let mut notes = Vec::new();
    if !rest.is_empty() {
        notes.push(format!(
            "… and {} in {} (--show waits)",
            duration(of_rest),
            quantity(rest.len() as u64, "other wait")
        ));
    }
    if let Some(row) = all.iter().find(parked) {
        notes.push(format!(
            "{} of a runtime had no work for {} in all",
            quantity(row.tasks, "helper thread"),
            duration(row.ns)
        ));
    }
    if !notes.is_empty() {
        out.push_str(&wrapped(view.style, "  ", &notes.join("; ")));
    }
    out
}

/// All of them.
pub(super) fn section(view: &View<'_>) -> String {
    let all = &view.report.waited_for;
    let whole = all.iter().map(|row| row.ns).fold(0, u64::saturating_add);
    table(view, &all.iter().collect::<Vec<_>>(), whole)
}

fn table(view: &View<'_>, rows: &[&WaitedFor], whole: u64) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut table = Table::default();
    let names = rows
        .iter()
        .map(|row| what(&row.reason, row.object.as_ref()));
    table.text("WAITED FOR", 16, names.collect());
    let mut column = |head, figure: &dyn Fn(&WaitedFor) -> String| {
        table.number(head, rows.iter().map(|row| figure(row)).collect());
    };
    column("TIME", &|row| duration_cell(row.ns));
    column("SHARE", &|row| percent(row.ns, whole));
    column("WAITS", &|row| count_cell(row.count));
    column("EACH", &|row| duration_cell(row.ns / row.count.max(1)));
    if view.report.tasks.len() > 1 {
        let head = match view.noun() {
            "thread" => "THREADS",
            "process" => "PROCESSES",
            _ => "TASKS",
        };
        column(head, &|row| count_cell(row.tasks));
    }
    table.into_text(view.style)
}

/// What is waited for, in words.
pub(super) fn what(reason: &str, object: Option<&Object>) -> String {
    let Some(object) = object else {
        return match reason {
            "sleep" => "time (sleep)".to_owned(),
            "wait" => "children to end".to_owned(),
            "page fault" => "pages of memory".to_owned(),
            "futex" => "locks and other futexes".to_owned(),
            "fsync" => "the disk (fsync)".to_owned(),
            PARKED => "work (parked helper threads)".to_owned(),
            reason => clean(reason),
        };
    };
    let name = clean(&object.name);
    match (reason, object.kind.as_str()) {
        ("accept", _) => format!("connections on {name}"),
        ("wait", "child") | ("futex", "thread") => format!("{name} to end"),
        ("sleep", _) => "time (sleep)".to_owned(),
        _ if name.starts_with(reason) => name,
        _ => format!("{name} ({})", clean(reason)),
    }
}

/// `1 helper thread`, for a row that has `n` of them.
pub(super) fn helpers(n: u64, of: u64) -> Option<String> {
    match n {
        0 => None,
        n if n == of => Some(format!("idle {}", plural("helper"))),
        n => Some(format!("{} of them idle helpers", count(n))),
    }
}
