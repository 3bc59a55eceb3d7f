//! What a cycle is.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::trace::StuckOn;

/// A task that sleeps until another one of the workload wakes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sleeper {
    /// The task.
    pub(super) serial: u32,
    /// The number of the stretch that it is in.
    pub(super) seq: u32,
    /// Since when.
    pub(super) since_ns: u64,
    /// What for.
    pub(super) wait: Wait,
}

/// What a task waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Wait {
    /// A lock with this owner.
    Lock { address: u64, owner: u32 },
    /// A futex of which nobody is known to be the owner.
    Futex { address: u64 },
    /// A child.
    Child,
}

impl From<Wait> for StuckOn {
    fn from(wait: Wait) -> Self {
        match wait {
            Wait::Lock { address, owner } => Self::Lock { address, owner },
            Wait::Futex { address } => Self::Futex { address },
            Wait::Child => Self::Child,
        }
    }
}

/// A process of the workload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Process {
    /// How many of its tasks live.
    pub(super) tasks: usize,
    /// Its parent's pid.
    pub(super) parent: Option<u32>,
}

/// A sleeper that nobody outside the workload can wake, but by a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Candidate<'a> {
    pub(super) sleeper: &'a Sleeper,
    /// Its process.
    pub(super) pid: u32,
}

/// The largest set of them that only they could wake. A futex is woken by the tasks of its
/// process, a lock by its owner, who waits for a child by the end of it. In `expecting` are
/// processes that a timer or a signal could wake.
pub(super) fn closed<'a>(
    candidates: &[Candidate<'a>],
    processes: &HashMap<u32, Process>,
    expecting: &HashSet<u32>,
) -> Vec<Candidate<'a>> {
    let mut set: Vec<Candidate<'a>> = candidates.to_vec();
    set.retain(|candidate| !expecting.contains(&candidate.pid));
    loop {
        let mut asleep: HashMap<u32, usize> = HashMap::new();
        for candidate in &set {
            *asleep.entry(candidate.pid).or_default() += 1;
        }
        let whole = |pid: &u32| asleep.get(pid) == processes.get(pid).map(|p| &p.tasks);
        let serials: HashSet<u32> = set.iter().map(|c| c.sleeper.serial).collect();
        let stays = |candidate: &Candidate<'_>| match candidate.sleeper.wait {
            Wait::Lock { owner, .. } => serials.contains(&owner),
            Wait::Futex { .. } => whole(&candidate.pid),
            Wait::Child => {
                let is_child = |p: &Process| p.parent == Some(candidate.pid);
                let mut children = processes.iter().filter(|(_, p)| is_child(p)).peekable();
                children.peek().is_some() && children.all(|(pid, _)| whole(pid))
            }
        };
        let before = set.len();
        let left: Vec<Candidate<'a>> = set.iter().copied().filter(|c| stays(c)).collect();
        set = left;
        if set.len() == before {
            return set;
        }
    }
}

/// The cycles of owners, each beginning with the task that was created first.
pub(super) fn cycles(sleepers: &[Sleeper]) -> Vec<Vec<&Sleeper>> {
    let waiting: HashMap<u32, &Sleeper> = sleepers.iter().map(|s| (s.serial, s)).collect();
    let mut done: HashSet<u32> = HashSet::new();
    let mut cycles = Vec::new();
    let mut serials: Vec<u32> = waiting.keys().copied().collect();
    serials.sort_unstable();
    for first in serials {
        let mut path: Vec<&Sleeper> = Vec::new();
        let mut places: HashMap<u32, usize> = HashMap::new();
        let mut next = Some(first);
        while let Some(sleeper) = next.and_then(|serial| waiting.get(&serial)) {
            if let Some(at) = places.get(&sleeper.serial).copied() {
                let mut cycle = path[at..].to_vec();
                let oldest = cycle.iter().map(|s| s.serial).min();
                let oldest = cycle.iter().position(|s| Some(s.serial) == oldest);
                cycle.rotate_left(oldest.unwrap_or(0));
                cycles.push(cycle);
                break;
            }
            if done.contains(&sleeper.serial) {
                break;
            }
            places.insert(sleeper.serial, path.len());
            path.push(sleeper);
            next = match sleeper.wait {
                Wait::Lock { owner, .. } => Some(owner),
                Wait::Futex { .. } | Wait::Child => None,
            };
        }
        done.extend(path.iter().map(|s| s.serial));
    }
    cycles
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(serial: u32, owner: Option<u32>) -> Sleeper {
        let address = 0x1000;
        Sleeper {
            serial,
            seq: 0,
            since_ns: 0,
            wait: match owner {
                Some(owner) => Wait::Lock { address, owner },
                None => Wait::Futex { address },
            },
        }
    }

    fn found(waits: &[(u32, Option<u32>)]) -> Vec<Vec<u32>> {
        let sleepers: Vec<_> = waits.iter().map(|&(s, o)| waiting(s, o)).collect();
        let cycles = cycles(&sleepers);
        let serials = |cycle: &Vec<&Sleeper>| cycle.iter().map(|s| s.serial).collect();
        cycles.iter().map(serials).collect()
    }

    #[test]
    fn a_cycle_is_found_once_without_those_who_wait_for_it() {
        assert_eq!(found(&[(1, Some(1))]), [[1]]);
        assert_eq!(found(&[(1, Some(2)), (2, Some(1))]), [[1, 2]]);
        let two = [
            (9, Some(3)),
            (3, Some(7)),
            (7, Some(5)),
            (5, Some(3)),
            (1, Some(9)),
            (4, Some(4)),
        ];
        assert_eq!(found(&two), [vec![3, 7, 5], vec![4]]);
    }

    /// By process: its tasks, each with what it waits for; how many it has; its parent.
    fn closed_set(
        sleepers: &[(u32, Sleeper)],
        processes: &[(u32, usize, u32)],
        expecting: &[u32],
    ) -> Vec<u32> {
        let candidates = sleepers
            .iter()
            .map(|(pid, sleeper)| Candidate { sleeper, pid: *pid });
        let candidates: Vec<Candidate<'_>> = candidates.collect();
        let process = |(pid, tasks, parent): &(u32, usize, u32)| {
            let parent = Some(*parent);
            (
                *pid,
                Process {
                    tasks: *tasks,
                    parent,
                },
            )
        };
        let processes = processes.iter().map(process).collect();
        let expecting = expecting.iter().copied().collect();
        let closed = closed(&candidates, &processes, &expecting);
        closed.iter().map(|c| c.sleeper.serial).collect()
    }

    fn for_child(serial: u32) -> Sleeper {
        Sleeper {
            wait: Wait::Child,
            ..waiting(serial, None)
        }
    }

    #[test]
    fn a_set_is_closed_though_another_thread_ticks() {
        // The child of process 10 waits for a lock that it was copied with; another thread
        // of process 10 goes on.
        let sleepers = [(10, for_child(1)), (20, waiting(3, None))];
        assert_eq!(
            closed_set(&sleepers, &[(10, 2, 1), (20, 1, 10)], &[]),
            [1, 3]
        );
        // A thread of the child goes on too.
        assert_eq!(
            closed_set(&sleepers, &[(10, 2, 1), (20, 2, 10)], &[]),
            [0; 0]
        );
        // A signal could wake the child; another child lives.
        assert_eq!(
            closed_set(&sleepers, &[(10, 2, 1), (20, 1, 10)], &[20]),
            [0; 0]
        );
        let two = [(10, 2, 1), (20, 1, 10), (30, 1, 10)];
        assert_eq!(closed_set(&sleepers, &two, &[]), [3]);
        // It has no child.
        assert_eq!(
            closed_set(&[(10, for_child(1))], &[(10, 1, 1)], &[]),
            [0; 0]
        );
    }

    #[test]
    fn who_waits_for_an_owner_is_closed_in_with_it() {
        let sleepers = [(10, waiting(1, Some(2))), (20, waiting(2, None))];
        assert_eq!(
            closed_set(&sleepers, &[(10, 5, 1), (20, 1, 1)], &[]),
            [1, 2]
        );
        assert_eq!(
            closed_set(&sleepers, &[(10, 5, 1), (20, 2, 1)], &[]),
            [0; 0]
        );
    }

    #[test]
    fn a_chain_is_no_cycle() {
        // The owner of the last lock runs, or waits for something else.
        assert_eq!(found(&[(1, Some(2)), (2, Some(3))]), [[0; 0]; 0]);
        let other = [(1, Some(2)), (2, Some(3)), (3, None), (4, Some(2))];
        assert_eq!(found(&other), [[0; 0]; 0]);
        assert_eq!(found(&[]), [[0; 0]; 0]);
    }
}
