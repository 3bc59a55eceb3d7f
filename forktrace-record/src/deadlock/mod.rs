//! Deadlocks, found while the workload runs.
//!
//! Two things are called so, and nothing else: a cycle of tasks each of which
//! holds the lock that the one before waits for, and a workload all of whose tasks
//! sleep in waits that only its own tasks could end. A false alarm is worse than
//! none, so what can't be known is no deadlock.
//!
//! The watch costs the workload nothing: now and then it reads the task table,
//! and only of tasks that have slept for long in a futex more, in `/proc`.

mod procfs;
mod rules;

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use anyhow::Result;

use crate::{
    capture::Tracer,
    decode,
    trace::Arch,
    trace::{Deadlock, Stuck, TaskRecord, Timeout, Why},
};
use procfs::Lock;
use rules::{Sleeper, Wait};

/// Looks are this far apart at least…
const INTERVAL: Duration = Duration::from_secs(1);
/// …and so many times as long as a look takes.
const REST: u32 = 100;
/// Who has slept for less is not looked at.
const LONG_NS: u64 = 500_000_000;

/// Looks for deadlocks.
pub struct Watch {
    due: Instant,
    syscalls: Syscalls,
    /// Those that are known, by the serials of the tasks and the numbers of the
    /// stretches that they are in.
    known: HashSet<Vec<(u32, u32)>>,
}

struct Syscalls {
    futex: i16,
    children: [i16; 2],
}

/// One that was found, with the tids and names of the tasks.
pub struct Found {
    /// What the trace keeps.
    pub deadlock: Deadlock,
    /// Tid and name by serial.
    pub names: HashMap<u32, (u32, String)>,
}

impl Watch {
    /// For a workload that begins now.
    pub fn new(arch: Arch) -> Self {
        let number = |name| arch.syscall_number(name).map_or(i16::MIN, |n| n as i16);
        Self {
            due: Instant::now() + INTERVAL,
            syscalls: Syscalls {
                futex: number("futex"),
                children: ["wait4", "waitid"].map(number),
            },
            known: HashSet::new(),
        }
    }

    /// Looks, if it is time. `now_ns` is the time of the records' clock.
    ///
    /// # Errors
    /// When the task table can't be read.
    pub fn look(&mut self, tracer: &Tracer, now_ns: u64) -> Result<Vec<Found>> {
        let begun = Instant::now();
        if begun < self.due {
            return Ok(Vec::new());
        }
        let found = self.find(tracer, now_ns);
        self.due = Instant::now() + INTERVAL.max(begun.elapsed() * REST);
        found
    }

    fn find(&mut self, tracer: &Tracer, now_ns: u64) -> Result<Vec<Found>> {
        let tasks = living(tracer)?;
        let for_long =
            |task: &TaskRecord| sleeps_since(task).is_some_and(|ns| ns + LONG_NS <= now_ns);
        let sleepers: Vec<Sleeper> = tasks
            .iter()
            .filter(|task| for_long(task))
            .filter_map(|task| self.sleeper(task, &tasks))
            .collect();
        let mut groups: Vec<(bool, Vec<&Sleeper>)> = rules::cycles(&sleepers)
            .into_iter()
            .map(|cycle| (true, cycle))
            .collect();
        if groups.is_empty()
            && sleepers.len() == tasks.len()
            && all_asleep(tracer, &tasks, &sleepers)?
        {
            groups.push((false, sleepers.iter().collect()));
        }
        groups.retain(|(_, group)| !self.known.contains(&key(group)));
        if groups.is_empty() {
            return Ok(Vec::new());
        }
        // What was read one after the other was all true at one time if everybody
        // still sleeps the same sleep.
        let still: HashSet<(u32, u32)> = living(tracer)?
            .iter()
            .filter(|task| sleeps_since(task).is_some())
            .map(|task| (task.born.serial, task.totals.seq))
            .collect();
        let mut found = Vec::new();
        for (cycle, group) in groups {
            let key = key(&group);
            if key.iter().all(|sleep| still.contains(sleep)) {
                self.known.insert(key);
                found.push(self.named(cycle, &group, &tasks, now_ns));
            }
        }
        Ok(found)
    }

    /// What a task that sleeps waits for; `None`: for something that others than
    /// the workload could bring about.
    fn sleeper(&self, task: &TaskRecord, tasks: &[TaskRecord]) -> Option<Sleeper> {
        let open = task.open.as_ref()?;
        let wait = if open.compat || task.born.kernel_worker {
            return None;
        } else if self.syscalls.children.contains(&open.syscall) {
            Wait::Child
        } else if open.syscall == self.syscalls.futex && open.timeout == Timeout::None {
            self.futex(task, open.arg0, open.arg1, tasks)
        } else {
            return None;
        };
        Some(Sleeper {
            serial: task.born.serial,
            seq: task.totals.seq,
            since_ns: open.out_ns,
            wait,
        })
    }

    /// Who holds the lock at this address, if it is one that tells.
    fn futex(&self, task: &TaskRecord, address: u64, op: u32, tasks: &[TaskRecord]) -> Wait {
        let (tgid, tid) = (task.born.tgid, task.born.tid);
        let owner = procfs::lock_kind(op)
            .and_then(|kind| procfs::owner(tgid, tid, self.syscalls.futex, address, kind))
            .and_then(|lock: Lock| {
                let mut same = tasks.iter().filter(|t| t.born.process == task.born.process);
                same.find(|t| procfs::own_tid(tgid, t.born.tid) == Some(lock.owner))
            });
        match owner {
            Some(owner) => Wait::Lock {
                address,
                owner: owner.born.serial,
            },
            None => Wait::Futex { address },
        }
    }

    fn named(&self, cycle: bool, group: &[&Sleeper], tasks: &[TaskRecord], now_ns: u64) -> Found {
        let stuck = group.iter().map(|sleeper| Stuck {
            serial: sleeper.serial,
            on: sleeper.wait.into(),
            since_ns: sleeper.since_ns,
        });
        let names = tasks.iter().map(|task| {
            let born = &task.born;
            let name = crate::record::name_of_living(born.tgid, born.tid);
            (born.serial, (born.tid, name))
        });
        Found {
            deadlock: Deadlock {
                at_ns: now_ns,
                cycle,
                tasks: stuck.collect(),
            },
            names: names.collect(),
        }
    }
}

/// Is there nobody outside who could wake one of them, and no timer?
fn all_asleep(tracer: &Tracer, tasks: &[TaskRecord], sleepers: &[Sleeper]) -> Result<bool> {
    let (live, untracked) = tracer.live();
    if untracked > 0 || live != tasks.len() as u64 || tasks.is_empty() {
        return Ok(false);
    }
    let processes: HashSet<u32> = tasks.iter().map(|task| task.born.tgid).collect();
    let locked_in = tasks
        .iter()
        .zip(sleepers)
        .all(|(task, sleeper)| match sleeper.wait {
            Wait::Child => processes
                .iter()
                .any(|&child| procfs::parent(child) == Some(task.born.tgid)),
            Wait::Lock { address, .. } | Wait::Futex { address } => {
                procfs::waits_forever(task.born.tgid, task.born.tid, address)
            }
        });
    Ok(locked_in
        && processes.iter().all(|&pid| procfs::expects_nothing(pid))
        && !procfs::traces_others(&processes))
}

fn living(tracer: &Tracer) -> Result<Vec<TaskRecord>> {
    let mut tasks = Vec::new();
    tracer.living(|state| tasks.extend(decode::task(&state).ok()));
    Ok(tasks)
}

/// Since when the task is asleep.
fn sleeps_since(task: &TaskRecord) -> Option<u64> {
    let open = task.open.as_ref()?;
    let asleep = matches!(open.why, Why::Interruptible | Why::Killable);
    (asleep && open.wake_ns.is_none()).then_some(open.out_ns)
}

fn key(group: &[&Sleeper]) -> Vec<(u32, u32)> {
    let mut key: Vec<_> = group.iter().map(|s| (s.serial, s.seq)).collect();
    key.sort_unstable();
    key
}
