//! Tasks that could never go on.

use std::collections::BTreeSet;

use super::{
    View,
    figures::{clean, duration, first_listed, quantity},
    layout::{Ink, paint, wrapped},
};
use crate::report::{Deadlock, DeadlockKind, DeadlockedTask};

/// A sentence and a line a task for each deadlock.
pub(super) fn section(view: &View<'_>) -> String {
    let mut out = String::new();
    for deadlock in &view.report.deadlocks {
        out.push_str(&paint(
            view.style,
            Ink::Bad,
            &wrapped(view.style, "  ", &sentence(deadlock)),
        ));
        for line in lines(deadlock) {
            out.push_str(&wrapped(view.style, "  - ", &line));
        }
    }
    out
}

/// What it is.
pub fn sentence(deadlock: &Deadlock) -> String {
    let n = deadlock.tasks.len() as u64;
    let at = duration(deadlock.at_ns);
    match (deadlock.kind, n) {
        (DeadlockKind::Cycle, 1) => {
            format!("Deadlock, found at {at}: a task waits for a lock that it holds itself.")
        }
        (DeadlockKind::Cycle, _) => format!(
            "Deadlock, found at {at}: each of {} waits for a lock that the next one holds, in a \
             circle.",
            quantity(n, "task")
        ),
        (DeadlockKind::Circle, _) => format!(
            "Hang since {at}: each of {} waits for the next one, in a circle.",
            quantity(n, "task")
        ),
        (DeadlockKind::AllAsleep, 1) => {
            format!("Hang since {at}: a task sleeps, and nobody is left to wake it.")
        }
        (DeadlockKind::AllAsleep, _) => format!(
            "Hang since {at}: {} sleep, and nobody is left to wake them.",
            quantity(n, "task")
        ),
    }
}

/// Tasks of a line that are named.
const NAMED: usize = 4;

/// A line for each thing that is waited for.
pub fn lines(deadlock: &Deadlock) -> Vec<String> {
    let mut lines: Vec<(String, Vec<&DeadlockedTask>)> = Vec::new();
    for task in &deadlock.tasks {
        let waits = waits(deadlock, task);
        match lines.iter_mut().find(|(other, _)| *other == waits) {
            Some((_, those)) => those.push(task),
            None => lines.push((waits, vec![task])),
        }
    }
    let line = |(waits, those): (String, Vec<&DeadlockedTask>)| {
        let named = those.iter();
        let named = named.map(|task| format!("tid {} ({})", task.tid, clean(&task.name)));
        let named = first_listed(named, NAMED);
        let since = those.iter().map(|task| duration(task.since_ns));
        let since: BTreeSet<String> = since.collect();
        let verb = if those.len() == 1 { "waits" } else { "wait" };
        // Not all at once: the report has the times.
        let since = match since.into_iter().collect::<Vec<_>>().as_slice() {
            [only] => format!(", since {only}"),
            _ => String::new(),
        };
        format!("{named} {verb}{waits}{since}")
    };
    lines.into_iter().map(line).collect()
}

/// What a task waits for, and who has it.
fn waits(deadlock: &Deadlock, task: &DeadlockedTask) -> String {
    let what = match task.waits_for.as_str() {
        "child" => "a child to end".to_owned(),
        other => clean(other),
    };
    let code = task.code.as_deref().map(clean);
    let code = code.map_or(String::new(), |code| format!(" in `{code}`"));
    let tid_of = |serial| deadlock.tasks.iter().find(|t| t.serial == serial);
    let held = match task.owner {
        Some(owner) if owner == task.serial => ", held by itself".to_owned(),
        Some(owner) => match tid_of(owner) {
            Some(owner) => format!(", held by tid {}", owner.tid),
            None => ", held by another task".to_owned(),
        },
        None => String::new(),
    };
    format!("{code} for {what}{held}")
}
