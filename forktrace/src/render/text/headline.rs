//! What was run, and the sentence that answers the question.

use nix::sys::signal::Signal;

use super::{
    COLUMNS, View,
    figures::{
        capitalised, clean, command_line, count, duration, percent, plural, quantity, shortened,
    },
    layout::{Ink, paint, wrapped},
};
use crate::report::{Audit, Episodes, Group, GroupKind, Report, Task};

/// Processes that get a line of their own.
const PROCESSES: usize = 5;

/// What was run, how long and how it ended.
pub(super) fn workload(view: &View<'_>) -> String {
    let workload = &view.report.workload;
    let command = command_line(&workload.argv);
    let mut line = match view.tree {
        Some(tree) => format!(
            "{}: {}, {} on {}",
            title(tree),
            members(view),
            duration(workload.duration_ns),
            quantity(workload.cpus.into(), "CPU"),
        ),
        None => "Nothing was traced".to_owned(),
    };
    if let Some(end) = end(view.report) {
        line.push_str(&format!("; {end}"));
    }
    let mut out = wrapped("", &line);
    let name = view.tree.map_or_else(String::new, |tree| clean(&tree.name));
    if view.style.verbose {
        out.push_str(&wrapped("  command: ", &command));
        let system = format!("{} {}", clean(&workload.kernel), clean(&workload.arch));
        out.push_str(&wrapped("  kernel: ", &system));
    } else if !command.is_empty() && command.rsplit('/').next() != Some(&name) {
        let line = format!("  command: {command}");
        out.push_str(&shortened(&line, COLUMNS));
        out.push('\n');
    }
    out
}

fn title(group: &Group) -> String {
    format!("{} (pid {})", clean(&group.name), group.pid)
}

/// `5 threads`, `3 processes`, `7 tasks in 3 processes`.
fn members(view: &View<'_>) -> String {
    let tasks = quantity(view.report.tasks.len() as u64, view.noun());
    if view.noun() == "task" {
        let processes = quantity(view.processes as u64, "process");
        format!("{tasks} in {processes}")
    } else {
        tasks
    }
}

fn end(report: &Report) -> Option<String> {
    let workload = &report.workload;
    match (workload.signal, workload.exit_code) {
        (Some(number), _) => Some(match Signal::try_from(number) {
            Ok(signal) => format!("killed by {signal}"),
            Err(_) => format!("killed by signal {number}"),
        }),
        (None, Some(0)) => None,
        (None, Some(code)) => Some(format!("exit status {code}")),
        (None, None) => Some("had not ended when the recording did".to_owned()),
    }
}

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
    let mut out = paint(view.style, Ink::Bold, &wrapped("  ", &together));
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

/// How a sentence calls the members of a group.
struct Words {
    /// `5 threads`, `7 tasks of 3 processes`.
    all: String,
    /// `threads`.
    plural: String,
}

impl Words {
    fn of_tree(view: &View<'_>) -> Self {
        Words {
            all: members(view).replace(" in ", " of "),
            plural: plural(view.noun()),
        }
    }

    fn of_process(group: &Group) -> Self {
        debug_assert_eq!(group.kind, GroupKind::Process);
        Words {
            all: quantity(group.tasks.len() as u64, "thread"),
            plural: plural("thread"),
        }
    }
}

fn alone(task: &Task, audit: &Audit) -> String {
    let life = task.end_ns.saturating_sub(task.start_ns);
    let lower = task.blocked_ns;
    let upper = lower + task.unknown_ns;
    let seen = if audit.complete {
        ""
    } else {
        "as far as seen (the record is incomplete), "
    };
    let blocked = if upper == 0 {
        "was never blocked".to_owned()
    } else {
        format!("was blocked for {}", amount(lower, upper, life, audit))
    };
    format!("It has one task, so nothing could be blocked at the same time; {seen}it {blocked}.")
}

/// The claim for a group of two tasks or more. Each branch says no more than its
/// figures: “never” needs a complete record, “all 5” that all five lived.
fn together(group: &Group, words: &Words, audit: &Audit) -> String {
    let Words { all, plural } = words;
    let n = group.tasks.len() as u64;
    let live = u64::from(group.most_live);
    let Episodes {
        lower_ns: lower,
        upper_ns: upper,
        ..
    } = group.all_blocked;
    if live < 2 {
        return format!(
            "No two of the {all} lived at the same time, so none could be blocked at the same time."
        );
    }
    let at_most = if live < n {
        format!(" (at most {} alive at a time)", count(live))
    } else {
        String::new()
    };
    if upper == 0 {
        return if audit.complete {
            let most = most_blocked(group);
            format!("The {all}{at_most} were never all blocked at the same time; {most}.")
        } else {
            format!(
                "The {all}{at_most} were not seen to be all blocked at the same time, but the \
                 record is incomplete: see the audit."
            )
        };
    }
    if lower == 0 {
        let why = why_unknown(audit);
        return format!(
            "The {all}{at_most} were not seen to be all blocked at the same time, but may have \
             been for up to {} of {} ({}): {why}.",
            duration(upper),
            duration(group.lifetime_ns),
            percent(upper, group.lifetime_ns),
        );
    }
    // Tasks come and go: “all” can mean fewer than there were in the whole run.
    let of_all = u32::try_from(n).map_or(0, |n| blocked_for(group, n));
    let subject = match (live == n, of_all == lower) {
        (true, true) => format!("all {all} were"),
        (true, false) => format!("all {plural} alive at the time were"),
        (false, _) => format!(
            "all {plural} alive at the time (at most {} of the {all}) were",
            count(live)
        ),
    };
    let mut sentence = if audit.complete {
        capitalised(&subject)
    } else {
        format!("As far as seen (the record is incomplete), {subject}")
    };
    sentence.push_str(" blocked at the same time for ");
    sentence.push_str(&amount(lower, upper, group.lifetime_ns, audit));
    sentence.push_str(&episodes(&group.all_blocked));
    if live == n && of_all != lower {
        sentence.push_str(&match of_all {
            0 => format!(" Never all {all}."),
            _ => format!(" All {all}: {}.", duration(of_all)),
        });
    }
    sentence
}

/// Ends the sentence.
fn episodes(all: &Episodes) -> String {
    let from = all
        .longest_start_ns
        .map(|start| format!(", from {} on", duration(start)))
        .unwrap_or_default();
    let exact = all.lower_ns == all.upper_ns;
    match all.episodes {
        0 => ".".to_owned(),
        1 if exact => format!(", in one episode{from}."),
        n if exact => format!(
            ", in {} episodes; the longest lasted {}{from}.",
            count(n),
            duration(all.longest_ns),
        ),
        n => format!(
            ". Seen in {}; the longest lasted at least {}{from}.",
            quantity(n, "episode"),
            duration(all.longest_ns),
        ),
    }
}

/// `1.20 s of 4.00 s (30.0 %)`, or both bounds and why there are two.
fn amount(lower: u64, upper: u64, whole: u64, audit: &Audit) -> String {
    if lower == upper {
        return format!(
            "{} of {} ({})",
            duration(lower),
            duration(whole),
            percent(lower, whole)
        );
    }
    format!(
        "between {} and {} of {} ({} to {}; {})",
        duration(lower),
        duration(upper),
        duration(whole),
        percent(lower, whole),
        percent(upper, whole),
        why_unknown(audit),
    )
}

fn why_unknown(audit: &Audit) -> &'static str {
    if audit.lost_records > 0 {
        "records were lost"
    } else if audit.tasks_not_followed > 0 {
        "not every task was followed"
    } else {
        "the record has gaps"
    }
}

fn most_blocked(group: &Group) -> String {
    let most = group
        .blocked_at_once
        .iter()
        .filter(|at| at.ns > 0)
        .map(|at| at.count)
        .max();
    match most {
        None | Some(0) => "none ever was".to_owned(),
        Some(1) => "at most one of them was".to_owned(),
        Some(most) => format!("at most {} of them were", count(most.into())),
    }
}

/// Time in which exactly so many were blocked.
fn blocked_for(group: &Group, tasks: u32) -> u64 {
    group
        .blocked_at_once
        .iter()
        .find(|at| at.count == tasks)
        .map_or(0, |at| at.ns)
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
    let time = if lower == upper {
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
        .sum();
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
