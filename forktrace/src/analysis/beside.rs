//! What the other tasks of a process did while one of them was blocked: the
//! evidence for or against "it held them up".

use super::{profile::Blocked, tasks::WaitKey};
use crate::{
    model::{State, Task},
    report::Witness,
};

/// The blocks of one task for one reason.
#[derive(Clone, Debug)]
pub(super) struct Beside {
    pub(super) key: WaitKey,
    /// Time in them during which another task of the process ran.
    pub(super) others_ran_ns: u64,
    /// Time in them during which all tasks of the process were blocked.
    pub(super) all_blocked_ns: u64,
    /// Start and end of the longest one.
    longest: (u64, u64),
}

/// Hears of the blocks of a process's tasks, in order for each task.
pub(super) struct Collector<'a> {
    tasks: &'a [&'a Task],
    /// For each task, the stretch that its next block can be in.
    next: Vec<usize>,
    besides: Vec<Vec<Beside>>,
}

impl<'a> Collector<'a> {
    pub(super) fn new(tasks: &'a [&'a Task]) -> Self {
        Self {
            tasks,
            next: vec![0; tasks.len()],
            besides: vec![Vec::new(); tasks.len()],
        }
    }

    pub(super) fn add(&mut self, index: usize, block: &Blocked) {
        let task = self.tasks[index];
        let next = &mut self.next[index];
        while task
            .stretches
            .get(*next)
            .is_some_and(|off| off.wake_ns <= block.start_ns || off.state() != State::Blocked)
        {
            *next += 1;
        }
        let key = match (task.stretches.get(*next), task.open) {
            (Some(off), _) => WaitKey::of_stretch(task, off),
            (None, Some(open)) => WaitKey::of_open(task, &open),
            (None, None) => return,
        };
        let besides = &mut self.besides[index];
        let at = besides.iter().position(|beside| beside.key == key);
        let at = at.unwrap_or_else(|| {
            besides.push(Beside {
                key,
                others_ran_ns: 0,
                all_blocked_ns: 0,
                longest: (0, 0),
            });
            besides.len() - 1
        });
        let beside = &mut besides[at];
        beside.others_ran_ns += block.others_ran_ns;
        beside.all_blocked_ns += block.all_blocked_ns;
        if block.end_ns - block.start_ns > beside.longest.1 - beside.longest.0 {
            beside.longest = (block.start_ns, block.end_ns);
        }
    }

    /// For each task, by its serial: its blocks by reason, and a witness for the
    /// longest of each.
    pub(super) fn finish(self) -> impl Iterator<Item = (u32, Vec<(Beside, Option<Witness>)>)> {
        let tasks = self.tasks;
        self.besides
            .into_iter()
            .enumerate()
            .map(move |(index, besides)| {
                let others = || {
                    let others = tasks.iter().enumerate().filter(move |(i, _)| *i != index);
                    others.map(|(_, task)| *task)
                };
                let with_witness = besides.into_iter().map(|beside| {
                    let witness = witness(others(), beside.longest);
                    (beside, witness)
                });
                (tasks[index].serial, with_witness.collect())
            })
    }
}

/// So many tasks are asked for a witness, and so many of each one's stretches are
/// looked at: it must not take longer than the rest of the report.
const ASKED: usize = 32;
const LOOKED_AT: usize = 64;
/// No longer run is looked for.
const LONG_ENOUGH_NS: u64 = 1_000_000;

/// The longest run found, cut to the block: all of it lay within.
fn witness<'a>(
    others: impl Iterator<Item = &'a Task>,
    (start_ns, end_ns): (u64, u64),
) -> Option<Witness> {
    let length = |witness: &Witness| witness.end_ns - witness.start_ns;
    let mut best: Option<Witness> = None;
    for task in others.take(ASKED) {
        for (from_ns, to_ns) in runs(task, start_ns).take(LOOKED_AT) {
            if from_ns >= end_ns {
                break;
            }
            let (from_ns, to_ns) = (from_ns.max(start_ns), to_ns.min(end_ns));
            let ns = to_ns.saturating_sub(from_ns);
            if ns > best.as_ref().map_or(0, length) {
                best = Some(Witness {
                    tid: task.tid,
                    name: task.name.clone(),
                    start_ns: from_ns,
                    end_ns: to_ns,
                });
            }
        }
        if best.as_ref().map_or(0, length) >= LONG_ENOUGH_NS {
            break;
        }
    }
    best
}

/// When a task ran, from the first run that ends after `start_ns` on. Runs whose
/// start or end is not known are left out.
fn runs(task: &Task, start_ns: u64) -> impl Iterator<Item = (u64, u64)> {
    let stretches = &task.stretches;
    let first = stretches.partition_point(|off| off.out_ns <= start_ns);
    (first.saturating_sub(1)..stretches.len()).filter_map(move |i| {
        let off = &stretches[i];
        let to_ns = match stretches.get(i + 1) {
            Some(next) if next.seq == off.seq.wrapping_add(1) => next.out_ns,
            Some(_) => return None,
            None if task.stretches_expected == Some(off.seq.wrapping_add(1)) => {
                task.open.map_or(task.end_ns, |open| open.out_ns)
            }
            None => return None,
        };
        (to_ns > start_ns && to_ns > off.in_ns).then_some((off.in_ns, to_ns))
    })
}
