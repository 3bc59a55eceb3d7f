//! The deadlocks that were found while the workload ran, with names.

use crate::{
    model::Model,
    report::{Deadlock, DeadlockKind, DeadlockedTask},
    trace::{self, StuckOn},
};

pub(super) fn deadlocks(model: &Model) -> Vec<Deadlock> {
    let name = |serial| {
        let task = model.tasks.iter().find(|t| t.serial == serial);
        task.map(|t| (t.tid, t.name.clone()))
    };
    let deadlocks = model.deadlocks.iter();
    deadlocks
        .map(|d| named_deadlock(d, |ns| ns, name))
        .collect()
}

/// A deadlock as it is shown. `since` makes times count from the beginning of the
/// trace, `name` gives tid and name of a task.
pub fn named_deadlock(
    d: &trace::Deadlock,
    since: impl Fn(u64) -> u64,
    name: impl Fn(u32) -> Option<(u32, String)>,
) -> Deadlock {
    let tasks = d.tasks.iter().map(|stuck| {
        let (waits_for, owner) = match stuck.on {
            StuckOn::Lock { address, owner } => (format!("mutex {address:#x}"), Some(owner)),
            StuckOn::Futex { address } => (format!("futex {address:#x}"), None),
            StuckOn::Child => ("child".to_owned(), None),
        };
        let (tid, name) = name(stuck.serial).unwrap_or((0, "?".to_owned()));
        DeadlockedTask {
            serial: stuck.serial,
            tid,
            name,
            waits_for,
            owner,
            since_ns: since(stuck.since_ns),
        }
    });
    Deadlock {
        at_ns: since(d.at_ns),
        kind: if d.cycle {
            DeadlockKind::Cycle
        } else {
            DeadlockKind::AllAsleep
        },
        tasks: tasks.collect(),
    }
}
