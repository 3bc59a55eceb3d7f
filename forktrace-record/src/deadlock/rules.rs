//! What a cycle is.

use std::collections::{HashMap, HashSet};

use crate::trace::StuckOn;

/// A task that sleeps until another one of the workload wakes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// The cycles of owners, each beginning with the task that was created first.
pub(super) fn cycles(sleepers: &[Sleeper]) -> Vec<Vec<&Sleeper>> {
    let waiting: HashMap<u32, &Sleeper> = sleepers.iter().map(|s| (s.serial, s)).collect();
    let mut done: HashSet<u32> = HashSet::new();
    let mut cycles = Vec::new();
    let mut serials: Vec<u32> = waiting.keys().copied().collect();
    serials.sort_unstable();
    for first in serials {
        let mut path: Vec<&Sleeper> = Vec::new();
        let mut next = Some(first);
        while let Some(sleeper) = next.and_then(|serial| waiting.get(&serial)) {
            if let Some(at) = path.iter().position(|s| s.serial == sleeper.serial) {
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

    #[test]
    fn a_chain_is_no_cycle() {
        // The owner of the last lock runs, or waits for something else.
        assert_eq!(found(&[(1, Some(2)), (2, Some(3))]), [[0; 0]; 0]);
        let other = [(1, Some(2)), (2, Some(3)), (3, None), (4, Some(2))];
        assert_eq!(found(&other), [[0; 0]; 0]);
        assert_eq!(found(&[]), [[0; 0]; 0]);
    }
}
