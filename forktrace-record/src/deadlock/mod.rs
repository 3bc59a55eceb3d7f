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
use rules::{Candidate, Process, Sleeper, Wait};

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
        if groups.is_empty() {
            let closed = closed(tracer, &tasks, &sleepers);
            groups.extend(Some((false, closed)).filter(|(_, closed)| !closed.is_empty()));
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
                let same = |t: &&TaskRecord| t.born.process == task.born.process;
                let own = |t: &TaskRecord| procfs::own_tid(t.born.tgid, t.born.tid);
                let owns = |t: &&TaskRecord| own(t) == Some(lock.owner);
                let mut within = tasks.iter().filter(same);
                // Another process can own a lock in shared memory. Its tid is what it is in
                // its own pid namespace: where two have it, it is not known whose it is.
                let mut elsewhere = tasks.iter().filter(|t| lock.shared && !same(t));
                let mut others = elsewhere.by_ref().filter(owns);
                within
                    .find(owns)
                    .or_else(|| others.next().filter(|_| others.next().is_none()))
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

/// Those whom nobody could wake but one of themselves, or nobody at all: no other task, no
/// timer, no debugger, nobody outside.
fn closed<'a>(tracer: &Tracer, tasks: &[TaskRecord], sleepers: &'a [Sleeper]) -> Vec<&'a Sleeper> {
    let (live, untracked) = tracer.live();
    if untracked > 0 || live != tasks.len() as u64 || sleepers.is_empty() {
        return Vec::new();
    }
    let of = |serial: u32| tasks.iter().find(|task| task.born.serial == serial);
    let mut processes: HashMap<u32, Process> = HashMap::new();
    for task in tasks {
        let process = processes.entry(task.born.tgid).or_default();
        process.tasks += 1;
    }
    for (&pid, process) in &mut processes {
        process.parent = procfs::parent(pid);
    }
    let candidates: Vec<Candidate<'a>> = sleepers
        .iter()
        .filter_map(|sleeper| {
            let born = &of(sleeper.serial)?.born;
            let locked_in = match sleeper.wait {
                Wait::Child => true,
                Wait::Lock { address, .. } | Wait::Futex { address } => {
                    procfs::waits_forever(born.tgid, born.tid, address)
                }
            };
            locked_in.then_some(Candidate {
                sleeper,
                pid: born.tgid,
            })
        })
        .collect();
    let expecting: HashSet<u32> = candidates
        .iter()
        .map(|candidate| candidate.pid)
        .filter(|&pid| !procfs::expects_nothing(pid))
        .collect();
    let closed = rules::closed(&candidates, &processes, &expecting);
    let pids = closed.iter().map(|candidate| candidate.pid).collect();
    match procfs::traces_others(&pids) {
        true => Vec::new(),
        false => closed
            .into_iter()
            .map(|candidate| candidate.sleeper)
            .collect(),
    }
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
