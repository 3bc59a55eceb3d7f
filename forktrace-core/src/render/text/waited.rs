//! What was waited for: objects and locks, over all tasks.

use std::collections::HashMap;

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
    let rows = together(all.iter().filter(|row| !parked(row) && row.ns > 0));
    let worth = rows.iter().filter(|row| row.ns >= whole / 100);
    let shown: Vec<&Row> = worth.take(most).collect();
    if shown.is_empty() {
        return String::new();
    }
    let mut out = table(view, &shown, whole);
    let rest = &rows[shown.len()..];
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
    let rows = together(all.iter());
    table(view, &rows.iter().collect::<Vec<_>>(), whole)
}

/// What was waited for under one name: it can be several things.
struct Row {
    what: String,
    things: u64,
    ns: u64,
    count: u64,
    /// Tasks of the one that most waited for, and of all: a task can have waited for several.
    tasks: (u64, u64),
}

/// Things that nobody can tell apart by their names are one row, most time first.
fn together<'a>(all: impl Iterator<Item = &'a WaitedFor>) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    let mut at: HashMap<String, usize> = HashMap::new();
    for it in all {
        let what = what(&it.reason, it.object.as_ref());
        let index = *at.entry(what.clone()).or_insert(rows.len());
        match rows.get_mut(index) {
            Some(row) => {
                row.things += 1;
                row.ns = row.ns.saturating_add(it.ns);
                row.count = row.count.saturating_add(it.count);
                row.tasks.0 = row.tasks.0.max(it.tasks);
                row.tasks.1 = row.tasks.1.saturating_add(it.tasks);
            }
            None => rows.push(Row {
                what,
                things: 1,
                ns: it.ns,
                count: it.count,
                tasks: (it.tasks, it.tasks),
            }),
        }
    }
    rows.sort_by_key(|row| std::cmp::Reverse(row.ns));
    rows
}

fn table(view: &View<'_>, rows: &[&Row], whole: u64) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut table = Table::default();
    let names = rows.iter().map(|row| match row.things {
        1 => row.what.clone(),
        n => format!("{} ×{}", row.what, count(n)),
    });
    table.text("WAITED FOR", 16, names.collect());
    let mut column = |head, figure: &dyn Fn(&Row) -> String| {
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
        let all = view.report.tasks.len() as u64;
        column(head, &|row| match row.tasks {
            (one, sum) if one == sum.min(all) => count_cell(one),
            (_, sum) => format!("≤{}", count(sum.min(all))),
        });
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
        (_, "sleep") => format!("time ({reason})"),
        // These calls wait for epoll instances only; of one that nobody could look up the kernel
        // shows the inode that all nameless files share.
        ("epoll", "file") if name.starts_with("file, inode ") => match name.split_once(" (fd ") {
            Some((_, fd)) => format!("epoll (fd {fd}"),
            None => name,
        },
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_waited_for_in_epoll_is_an_epoll_instance() {
        let file = |name: &str| Object {
            kind: "file".to_owned(),
            id: "1".to_owned(),
            name: name.to_owned(),
        };
        let nameless = file("file, inode 20157 (fd 3)");
        assert_eq!(what("epoll", Some(&nameless)), "epoll (fd 3)");
        assert_eq!(
            what("read", Some(&nameless)),
            "file, inode 20157 (fd 3) (read)"
        );
    }
}
