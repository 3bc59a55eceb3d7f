//! Deadlocks and hangs, with names: those that were found while the workload ran, but for
//! those that what came later took back, and those that the whole record shows.

use std::collections::HashSet;

use super::{
    blocks::{Block, Blocks},
    chains,
    providers::{Hang, taken_back},
};
use crate::{
    report::{Deadlock, DeadlockKind, DeadlockedTask},
    trace::{self, StuckOn},
};

pub(super) fn deadlocks(blocks: &Blocks<'_>, hangs: &[Hang]) -> Vec<Deadlock> {
    let name = |serial| {
        let task = &blocks.model.tasks[blocks.wakers.index(serial)?];
        Some((task.tid, task.name.clone()))
    };
    let stay = |d: &&trace::Deadlock| !taken_back(blocks, d);
    let found = blocks.model.deadlocks.iter().filter(stay);
    let mut deadlocks: Vec<Deadlock> = found.map(|d| named_deadlock(d, |ns| ns, name)).collect();
    // What was found during the recording says more of the same tasks.
    let tasks = deadlocks.iter().flat_map(|d| &d.tasks);
    let found: HashSet<u32> = tasks.map(|task| task.serial).collect();
    let new: Vec<Deadlock> = hangs
        .iter()
        .filter(|hang| {
            let mut tasks = hang.tasks.iter();
            !tasks.any(|at| found.contains(&blocks.model.tasks[*at as usize].serial))
        })
        .map(|hang| of_hang(blocks, hang))
        .collect();
    deadlocks.extend(new);
    deadlocks.sort_by_key(|d| d.at_ns);
    deadlocks
}

/// A hang that the whole record shows.
fn of_hang(blocks: &Blocks<'_>, hang: &Hang) -> Deadlock {
    let tasks = hang.tasks.iter().filter_map(|at| {
        let task = &blocks.model.tasks[*at as usize];
        let block = Block::before(task, hang.to_ns)?;
        let link = chains::link(blocks, (*at, block));
        Some(DeadlockedTask {
            serial: task.serial,
            tid: task.tid,
            name: task.name.clone(),
            waits_for: match (link.object, link.syscall) {
                (Some(object), _) if object.kind == "child" || object.kind == "futex" => {
                    object.name
                }
                (Some(object), _) => format!("{} ({})", object.name, link.reason),
                (None, Some(syscall)) => format!("{syscall} to come back"),
                (None, None) => link.reason,
            },
            owner: None,
            since_ns: block.start_ns,
        })
    });
    Deadlock {
        at_ns: hang.from_ns,
        kind: match hang.cycle {
            true => DeadlockKind::Circle,
            false => DeadlockKind::AllAsleep,
        },
        tasks: tasks.collect(),
    }
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
