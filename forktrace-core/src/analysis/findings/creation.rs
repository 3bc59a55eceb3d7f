//! Tasks that were created, did little and ended, again and again.

use std::collections::BTreeMap;

use super::{
    Confidence, Finding, FindingKind, Report, TASKS, duration, finding, part_of, quantity,
};
use crate::report::{Fate, Task};

/// Who lives for less is short-lived, ns: to create a process, to have it execute a program
/// and to end it takes about 1 ms.
const SHORT_NS: u64 = 10_000_000;
/// Fewer are no habit.
const FEW: usize = 100;

/// Roles whose tasks are many, and mostly short-lived: what the run waited for them for.
pub(super) fn finding_of(report: &Report) -> Option<Finding> {
    let mut roles: BTreeMap<&str, Vec<&Task>> = BTreeMap::new();
    for task in report.tasks.iter().filter(|t| t.fate == Fate::Ended) {
        roles.entry(&task.role).or_default().push(task);
    }
    let life_ns = |task: &&Task| task.end_ns - task.start_ns;
    let short = roles.values_mut().filter_map(|tasks| {
        tasks.sort_by_key(life_ns);
        let middle = tasks.get(tasks.len() / 2)?;
        (life_ns(middle) < SHORT_NS).then_some(&*tasks)
    });
    let short: Vec<&Vec<&Task>> = short.collect();
    let tasks: Vec<&Task> = short
        .iter()
        .flat_map(|tasks| tasks.iter().copied())
        .collect();
    if tasks.len() < FEW {
        return None;
    }
    let is_short = |role: &str| short.iter().any(|tasks| tasks[0].role == role);
    let parts = report.path.parts.iter().filter(|p| is_short(&p.role));
    let ns = parts.map(|p| p.ns).fold(0, u64::saturating_add);
    let most = short.iter().max_by_key(|tasks| tasks.len())?;
    let lives = tasks.iter().map(life_ns).fold(0, u64::saturating_add);
    let each = duration(lives / tasks.len() as u64);
    let name = &most[most.len() / 2].name;
    let threads = tasks.iter().all(|task| task.tid != task.pid);
    let noun = if threads { "thread" } else { "task" };
    let sentence = format!(
        "It created {} that lived for {each} on average, mostly `{name}`: the run waited for one \
         of them for {}, and to create and to end them is a good part of that.",
        quantity(tasks.len() as u64, noun),
        part_of(ns, report),
    );
    Some(Finding {
        tasks: most.iter().take(TASKS).map(|task| task.serial).collect(),
        ..finding(FindingKind::Creation, ns, Confidence::Likely, sentence)
    })
}
