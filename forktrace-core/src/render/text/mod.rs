//! The report for people.
//!
//! By default a summary that fits a terminal: the first finding, the figures behind it, and
//! what they are worth. Everything else is a view, which shows one side of the report whole.

mod audit;
mod claim;
mod deadlocks;
pub mod diff;
mod episodes;
pub mod explain;
pub mod figures;
mod findings;
mod groups;
mod headline;
mod lags;
pub mod layout;
mod locks;
mod marks;
mod pairs;
mod path;
mod phrases;
mod polls;
mod profile;
mod roles;
pub mod sheets;
mod spreads;
mod stacks;
mod stalls;
mod stops;
mod summary;
mod tasks;
mod throttled;
mod timeline;
mod waited;
mod waits;
mod waits_for;
mod wall;
mod workload;

pub use self::audit::verdict as audit_verdict;
pub use self::deadlocks::{lines as deadlock_lines, sentence as deadlock_sentence};
pub(super) use self::waits_for::{Edges, is_mutual, outsider};
pub use self::workload::{part_words, saved_words};

use std::collections::{BTreeSet, HashMap};

use self::{
    figures::clean,
    layout::{Ink, paint, wrapped},
};
use super::{Show, Style};
use crate::report::{Group, GroupKind, Report, Task};

pub(super) fn render(report: &Report, style: &Style) -> String {
    let view = View::new(report, *style);
    if view.tree.is_none() {
        let nothing = match findings::summary(&view, 0) {
            none if none.is_empty() => "  The record holds no task.\n".to_owned(),
            sentence => sentence,
        };
        return [workload::section(&view), nothing, audit::section(&view)].join("\n");
    }
    let all = style.verbose || style.views.has(Show::All);
    if style.views.is_empty() && !all {
        return summary::render(&view);
    }
    let mut sections = vec![match all {
        true => summary::render(&view),
        false => workload::section(&view),
    }];
    for show in Show::VIEWS {
        let asked = style.views.has(show);
        let body = if all || asked {
            body(&view, show)
        } else {
            continue;
        };
        match (body.is_empty(), asked) {
            (true, false) => {}
            (true, true) => sections.push(wrapped(*style, "  ", nothing(show))),
            (false, _) => sections.push(body),
        }
    }
    sections.join("\n")
}

/// A view; empty where there is nothing to show.
fn body(view: &View<'_>, show: Show) -> String {
    let sections = match show {
        Show::Findings => vec![findings::section(view)],
        Show::Stalls => vec![
            headline::answer(view),
            profile::section(view),
            stalls::section(view),
        ],
        Show::Episodes => vec![deadlocks::section(view), episodes::section(view)],
        Show::Path => vec![path::section(view)],
        Show::Locks => vec![locks::section(view)],
        Show::Waits => vec![waited::section(view), waits::section(view)],
        Show::Tasks => vec![
            roles::section(view),
            tasks::table(view),
            spreads::section(view),
            tasks::accounts(view),
        ],
        Show::Wakers => vec![waits_for::section(view)],
        Show::Stacks => vec![stacks::section(view)],
        Show::Pairs => vec![pairs::section(view)],
        Show::Polls => vec![polls::section(view)],
        Show::Lag => vec![lags::section(view)],
        Show::Stops => vec![throttled::section(view), stops::section(view)],
        Show::Marks => vec![marks::section(view)],
        Show::Audit => vec![audit::section(view)],
        Show::All => Vec::new(),
    };
    let mut sections = sections;
    sections.retain(|section| !section.is_empty());
    let body = sections.join("\n");
    if body.is_empty() {
        return body;
    }
    let title = format!("{show:?}").to_uppercase();
    paint(view.style, Ink::Bold, &format!("{title}\n")) + &body
}

/// What is said where a view has nothing to show.
fn nothing(show: Show) -> &'static str {
    match show {
        Show::Findings => "There is no finding.",
        Show::Stalls | Show::Episodes => {
            "There was no time in which two or more tasks were all blocked."
        }
        Show::Path => "There is no critical path: wakers were left out (--plain).",
        Show::Locks => "No task waited for a futex, a file lock or a semaphore.",
        Show::Waits => "No task was ever blocked.",
        Show::Wakers => "Nobody was woken, or wakers were left out (--plain).",
        Show::Stacks => "No stacks were recorded (--stacks records them).",
        Show::Pairs => "There are no two tasks to compare.",
        Show::Polls => "No task called select, poll or epoll.",
        Show::Lag => "How long data waited in sockets was not recorded (--lag).",
        Show::Stops => "Nothing was stopped.",
        Show::Marks => "The workload wrote no marks.",
        Show::Tasks | Show::Audit | Show::All => "There is nothing to show.",
    }
}

/// Where to look next: what helps with the first findings, for the trace in this file.
pub(super) fn pointer(report: &Report, style: Style, trace: Option<&str>) -> String {
    if report.tasks.is_empty() {
        return String::new();
    }
    let mut views: Vec<&str> = Vec::new();
    let mut more = String::new();
    for (at, finding) in report.findings.iter().enumerate() {
        let next = finding.next.as_deref();
        let (next, then) = match next.and_then(|next| next.split_once("; ")) {
            Some((next, then)) => (Some(next), Some(then)),
            None => (next, None),
        };
        if let (0, Some(then)) = (at, then) {
            more = format!("; {}", clean(then));
        }
        match next.and_then(|next| next.strip_prefix("--show ")) {
            Some(view) if !views.contains(&view) && views.len() < 2 => views.push(view),
            _ => {}
        }
    }
    if views.is_empty() {
        views.push("tasks");
    }
    if report.stacks.as_ref().is_some_and(|all| !all.is_empty()) {
        views.push("stacks");
    }
    let views = views.join(",");
    let text = match trace {
        Some(trace) => {
            let trace = figures::command_line(&[trace.to_owned()]);
            format!("Next: forktrace report {trace} --show {views} (or all){more}.")
        }
        None => format!(
            "Next: --show {views} (or all){more}; --save FILE keeps the trace for `forktrace report`."
        ),
    };
    paint(style, Ink::Dim, &wrapped(style, "", &text))
}

/// A report with what every section asks of it.
struct View<'a> {
    report: &'a Report,
    style: Style,
    /// Everything that the workload started.
    tree: Option<&'a Group>,
    /// Processes with two tasks or more, in the order of creation.
    threaded: Vec<&'a Group>,
    /// Groups of several tasks that are told of beside the tree, which is not one of them.
    divided: Vec<&'a Group>,
    /// Number of processes.
    processes: usize,
    /// Tasks by serial.
    by_serial: HashMap<u32, &'a Task>,
}

impl<'a> View<'a> {
    fn new(report: &'a Report, style: Style) -> Self {
        let of_kind = |kind| report.groups.iter().filter(move |group| group.kind == kind);
        let pids: BTreeSet<u32> = report.tasks.iter().map(|task| task.pid).collect();
        let divided = report
            .groups
            .iter()
            .filter(|group| group.kind != GroupKind::Tree);
        // One group has the figures of the tree.
        let divides = divided.clone().count() > 1;
        View {
            report,
            style,
            tree: of_kind(GroupKind::Tree)
                .next()
                .filter(|tree| !tree.tasks.is_empty()),
            threaded: of_kind(GroupKind::Process)
                .filter(|group| group.tasks.len() > 1)
                .collect(),
            divided: divided
                .filter(|group| divides && group.tasks.len() > 1)
                .collect(),
            processes: pids.len(),
            by_serial: report.tasks.iter().map(|t| (t.serial, t)).collect(),
        }
    }

    /// A task as a table names it: `4123 selector`.
    fn task(&self, serial: u32) -> String {
        self.by_serial.get(&serial).map_or_else(
            || "?".to_owned(),
            |task| format!("{} {}", task.tid, clean(&task.name)),
        )
    }

    /// What the tasks of the tree are to a user.
    fn noun(&self) -> &'static str {
        if self.processes < 2 {
            "thread"
        } else if self.threaded.is_empty() {
            "process"
        } else {
            "task"
        }
    }
}
