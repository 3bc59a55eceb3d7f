//! The report for people.
//!
//! It opens with the sentence that answers the question, then come the figures
//! behind it, and last what they are worth: the audit.

mod audit;
mod causes;
mod claim;
mod deadlocks;
pub mod figures;
mod findings;
mod headline;
pub mod layout;
mod marks;
mod pairs;
mod path;
mod phrases;
mod polls;
mod profile;
mod stops;
mod tasks;
mod throttled;
mod waits;
mod waits_for;
mod why;
mod workload;

pub use self::deadlocks::{lines as deadlock_lines, sentence as deadlock_sentence};
pub(super) use self::waits_for::{Edges, is_mutual, outsider};

use std::collections::{BTreeSet, HashMap};

use self::figures::clean;
use super::Style;
use crate::report::{Group, GroupKind, Report, Task};

/// Nothing is wider. Reports are pasted into mails and issues.
const COLUMNS: usize = 100;

pub(super) fn render(report: &Report, style: &Style) -> String {
    let view = View::new(report, *style);
    let mut sections = vec![workload::section(&view)];
    if view.tree.is_some() {
        sections.push(findings::section(&view));
        sections.push(headline::answer(&view));
        sections.push(deadlocks::section(&view));
        sections.push(path::section(&view));
        sections.push(profile::section(&view));
        sections.push(throttled::section(&view));
        sections.push(why::section(&view));
        sections.push(stops::section(&view));
        sections.push(tasks::table(&view));
        if style.verbose {
            sections.push(tasks::accounts(&view));
        }
        sections.push(waits::section(&view));
        sections.push(waits_for::section(&view));
        sections.push(pairs::section(&view));
        sections.push(polls::section(&view));
    } else {
        sections.push("  The record holds no task.\n".to_owned());
    }
    sections.push(marks::section(&view));
    sections.push(audit::section(&view));
    sections.retain(|section| !section.is_empty());
    sections.join("\n")
}

/// A report with what every section asks of it.
struct View<'a> {
    report: &'a Report,
    style: Style,
    /// Everything that the workload started.
    tree: Option<&'a Group>,
    /// Processes with two tasks or more, in the order of creation.
    threaded: Vec<&'a Group>,
    /// Number of processes.
    processes: usize,
    /// Tasks by serial.
    by_serial: HashMap<u32, &'a Task>,
}

impl<'a> View<'a> {
    fn new(report: &'a Report, style: Style) -> Self {
        let of_kind = |kind| report.groups.iter().filter(move |group| group.kind == kind);
        let pids: BTreeSet<u32> = report.tasks.iter().map(|task| task.pid).collect();
        View {
            report,
            style,
            tree: of_kind(GroupKind::Tree)
                .next()
                .filter(|tree| !tree.tasks.is_empty()),
            threaded: of_kind(GroupKind::Process)
                .filter(|group| group.tasks.len() > 1)
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
