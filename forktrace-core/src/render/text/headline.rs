//! The answer to the question, and what puts it in proportion.

use super::{
    View,
    claim::{Words, alone, together},
    figures::{clean, duration, percent, quantity, recased},
    layout::wrapped,
    workload::title,
};
use crate::report::{Episodes, Group, Task};

/// Processes that get a line of their own.
const PROCESSES: usize = 5;

/// Were the tasks blocked at the same time?
pub(super) fn answer(view: &View<'_>) -> String {
    let Some(tree) = view.tree else {
        return String::new();
    };
    let audit = &view.report.audit;
    let together = match view.report.tasks.as_slice() {
        [task] => alone(task, audit),
        _ => together(tree, &Words::of_tree(view), audit),
    };
    let mut out = wrapped("  ", &together);
    if let Some(sentence) = starved(tree, view) {
        out.push_str(&wrapped("  ", &sentence));
    }
    if let Some(sentence) = selector(view, tree) {
        out.push_str(&wrapped("  ", &sentence));
    }
    if view.processes > 1 {
        out.push_str(&processes(view));
    }
    out
}

/// A line for each process with several threads.
fn processes(view: &View<'_>) -> String {
    let mut groups = view.threaded.clone();
    // Stable: processes that were never all blocked stay in the order of creation.
    groups.sort_by_key(|group| {
        let all = group.all_blocked;
        std::cmp::Reverse((all.lower_ns, all.upper_ns))
    });
    let shown = if view.style.verbose {
        groups.len()
    } else {
        groups.len().min(PROCESSES)
    };
    let mut out = String::new();
    for group in &groups[..shown] {
        let words = Words::of_process(group);
        let sentence = together(group, &words, &view.report.audit);
        let sentence = recased(&sentence, char::to_ascii_lowercase);
        out.push_str(&wrapped("  - ", &format!("{}: {sentence}", title(group))));
    }
    if shown < groups.len() {
        let rest = groups.len() - shown;
        out.push_str(&format!(
            "    … and {} more with several threads (-v shows all; --format json has them)\n",
            quantity(rest as u64, "process"),
        ));
    }
    out
}

/// Only where it takes more than 1 % of the time: between a wakeup and its
/// switch there is always a little of it.
fn starved(tree: &Group, view: &View<'_>) -> Option<String> {
    let Episodes {
        lower_ns: lower,
        upper_ns: upper,
        ..
    } = tree.starved;
    if lower <= tree.lifetime_ns / 100 {
        return None;
    }
    let time = if lower == upper && view.report.audit.complete {
        format!("{} ({})", duration(lower), percent(lower, tree.lifetime_ns))
    } else {
        format!(
            "at least {} ({})",
            duration(lower),
            percent(lower, tree.lifetime_ns)
        )
    };
    Some(match view.report.tasks.len() {
        1 => format!("For {time} it wanted to run and did not get a CPU."),
        _ => format!("For {time} none of them ran although at least one wanted to."),
    })
}

/// The longest sitter in select, poll or epoll against what the others did. The
/// figures are sums over lives, so the sentence does not say “meanwhile”.
fn selector(view: &View<'_>, tree: &Group) -> Option<String> {
    let tasks = &view.report.tasks;
    let sitting = |task: &Task| {
        task.waits
            .iter()
            .filter(|wait| matches!(wait.reason.as_str(), "select" | "poll" | "epoll"))
            .map(|wait| (wait.ns, wait.reason.clone()))
            .max()
    };
    let (task, (sat, reason)) = tasks
        .iter()
        .filter_map(|task| Some((task, sitting(task)?)))
        .max_by_key(|(_, (ns, _))| *ns)?;
    let others = tasks.len() - 1;
    let ran: u64 = tasks
        .iter()
        .filter(|other| other.serial != task.serial)
        .map(|other| other.running_ns)
        .fold(0, u64::saturating_add);
    // Below these the sentence has nothing to tell.
    if others == 0 || sat < tree.lifetime_ns / 10 || ran < tree.lifetime_ns / 100 {
        return None;
    }
    let subject = if view.report.audit.complete {
        "Tid"
    } else {
        "As far as seen, tid"
    };
    Some(format!(
        "{subject} {} ({}) sat in {reason} for {} of its {}; the other {} ran for {} in all.",
        task.tid,
        clean(&task.name),
        duration(sat),
        duration(task.end_ns.saturating_sub(task.start_ns)),
        match others {
            1 => view.noun().to_owned(),
            _ => quantity(others as u64, view.noun()),
        },
        duration(ran),
    ))
}
