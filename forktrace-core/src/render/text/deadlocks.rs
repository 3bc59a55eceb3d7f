//! Tasks that could never go on.

use super::{
    View,
    figures::{clean, duration, quantity},
    layout::{Ink, paint, wrapped},
};
use crate::report::{Deadlock, DeadlockKind};

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

/// A line a task.
pub fn lines(deadlock: &Deadlock) -> Vec<String> {
    let tid_of = |serial| deadlock.tasks.iter().find(|t| t.serial == serial);
    deadlock
        .tasks
        .iter()
        .map(|task| {
            let what = match task.waits_for.as_str() {
                "child" => "a child to end".to_owned(),
                other => clean(other),
            };
            let code = task.code.as_deref().map(clean);
            let code = code.map_or(String::new(), |code| format!(" in `{code}`"));
            let mut line = format!(
                "tid {} ({}) waits{code} for {what}",
                task.tid,
                clean(&task.name)
            );
            match task.owner {
                Some(owner) if owner == task.serial => line.push_str(", held by itself"),
                Some(owner) => match tid_of(owner) {
                    Some(owner) => line.push_str(&format!(", held by tid {}", owner.tid)),
                    None => line.push_str(", held by another task"),
                },
                None => {}
            }
            line + &format!(", since {}", duration(task.since_ns))
        })
        .collect()
}
