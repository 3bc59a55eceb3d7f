//! The figures of a moment, for conditions on it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Live, Spells, Task, WaitKind};
use crate::model::State;

/// What a recording is like at a moment. Lengths of time are in ns.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Moment {
    /// Since the recording began.
    pub elapsed_ns: u64,
    /// Tasks that live.
    pub live: u64,
    /// Of these: on a CPU.
    pub running: u64,
    /// Of these: want a CPU.
    pub runnable: u64,
    /// Of these: asleep.
    pub blocked: u64,
    /// Of these: stopped, traced or frozen.
    pub stopped: u64,
    /// Two or more tasks live, and each is blocked.
    pub all_blocked: Lasting,
    /// None runs, and at least one wants to.
    pub starved: Lasting,
    /// What all are blocked for: `deadlock`, `lock`, `disk`, `page_fault`, `kernel`, `sleep`,
    /// `child`, `peer`, `network`, `futex`; `idle` where each is where it always rests, `none`
    /// while not all are blocked.
    pub cause: String,
    /// Sets of tasks that can't go on.
    pub deadlocks: Vec<Set>,
    /// Records that were dropped.
    pub lost: u64,
    /// The tasks that live.
    pub tasks: Vec<OfTask>,
}

/// For how long something has been so, and was in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Lasting {
    /// As of now; 0: it is not.
    pub now_ns: u64,
    /// In all.
    pub ns: u64,
    /// Times that it was and is over.
    pub episodes: u64,
    /// The longest of those.
    pub longest_ns: u64,
}

/// Tasks that can't go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Set {
    /// Their serials.
    pub tasks: Vec<u32>,
}

/// A task that lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct OfTask {
    /// Its tid.
    pub tid: u32,
    /// Its process.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// `running`, `runnable`, `blocked`, or `stopped`.
    pub state: String,
    /// What it is blocked in, as in a report; empty: it is not.
    pub reason: String,
    /// For how long it has been blocked.
    pub for_ns: u64,
}

impl Live {
    /// The figures of the moment up to which all is known. The tasks are named only
    /// `with_tasks`.
    pub fn moment(&self, lost: u64, with_tasks: bool) -> Moment {
        let counts = self.counts();
        let lasting = |spells: Spells| Lasting {
            now_ns: self.since(spells.since_ns),
            ns: spells.ns,
            episodes: spells.count,
            longest_ns: spells.longest_ns,
        };
        let sets = self.deadlocks().map(|tasks| Set {
            tasks: tasks.to_vec(),
        });
        let tasks = self.tasks().filter(|_| with_tasks);
        Moment {
            elapsed_ns: self.elapsed_ns(),
            live: counts.live(),
            running: counts.running,
            runnable: counts.runnable,
            blocked: counts.blocked,
            stopped: counts.stopped,
            all_blocked: lasting(self.all_blocked()),
            starved: lasting(self.starved()),
            cause: self.cause().to_owned(),
            deadlocks: sets.collect(),
            lost,
            tasks: tasks.map(|(_, task)| self.of_task(task)).collect(),
        }
    }

    fn since(&self, since_ns: Option<u64>) -> u64 {
        since_ns.map_or(0, |since_ns| self.at_ns().saturating_sub(since_ns))
    }

    fn of_task(&self, task: &Task) -> OfTask {
        let state = match task.state {
            State::Running | State::Unknown => "running",
            State::Runnable => "runnable",
            State::Blocked => "blocked",
            State::Stopped => "stopped",
        };
        let wait = task.wait.filter(|_| task.state == State::Blocked);
        OfTask {
            tid: task.tid,
            pid: task.pid,
            name: task.name.clone(),
            state: state.to_owned(),
            reason: wait.map_or(String::new(), |wait| wait.reason.to_owned()),
            for_ns: self.since(wait.map(|wait| wait.since_ns)),
        }
    }

    /// What all are blocked for, as far as that is known while it lasts.
    pub fn cause(&self) -> &'static str {
        if self.all_blocked().since_ns.is_none() {
            return "none";
        }
        if self.deadlocks().next().is_some() {
            return "deadlock";
        }
        let worst = self.tasks().filter_map(|(_, task)| self.weight(task)).max();
        worst.map_or("idle", |(_, kind)| kind.name())
    }

    /// How much a task's wait tells of why all are blocked; `None`: it rests.
    pub(super) fn weight(&self, task: &Task) -> Option<(u8, WaitKind)> {
        let wait = task.wait?;
        let kind = match task.owner {
            Some(owner) => {
                // Who has the lock waits too: that is what both wait for, unless it rests.
                let owner = self.tasks.get(&owner).filter(|it| it.owner.is_none());
                match owner.and_then(|owner| self.weight(owner)) {
                    Some(found) => return Some(found),
                    None => WaitKind::Lock,
                }
            }
            None => wait.kind.wait,
        };
        let weight = match kind {
            WaitKind::Disk => 9,
            WaitKind::PageFault => 8,
            WaitKind::Kernel => 7,
            WaitKind::Lock => 5,
            _ if wait.at_home => return None,
            WaitKind::Sleep => 6,
            WaitKind::Child => 4,
            WaitKind::Peer => 3,
            WaitKind::Network => 2,
            WaitKind::Futex => 1,
            WaitKind::Event | WaitKind::Timeout | WaitKind::Created | WaitKind::Other => {
                return None;
            }
        };
        Some((weight, kind))
    }
}
