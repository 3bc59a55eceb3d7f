//! Deadlocks, found while the workload runs.
//!
//! Two things are called so, and nothing else: a cycle of tasks each of which
//! holds the lock that the one before waits for, and a workload all of whose tasks
//! sleep in waits that only its own tasks could end. A false alarm is worse than
//! none, so what can't be known is no deadlock.
//!
//! The watch costs the workload nothing: now and then it reads the task table. If tasks
//! have slept for long in a futex or for a child, a helper looks at them in `/proc`
//! (`examine`): there a page of the workload's memory can be asked for that never comes.

mod examine;
mod rules;

use std::{
    collections::{HashMap, HashSet},
    rc::Rc,
    time::{Duration, Instant},
};

use forktrace_common::layout::futex;

pub(crate) use self::examine::examine;
use self::{
    examine::{Asleep, Group, Scene, SceneTask, Sleep},
    rules::Sleeper,
};
use crate::{
    capture::Tracer,
    decode,
    helper::{Channel, Kind, Nursery, Troubles},
    trace::Arch,
    trace::{Deadlock, Stuck, TaskRecord, Timeout, Why},
};

/// Looks are this far apart at least…
const INTERVAL: Duration = Duration::from_secs(1);
/// …and so many times as long as a look takes.
const REST: u32 = 100;
/// Who has slept for less is not looked at.
const LONG_NS: u64 = 500_000_000;
/// A helper that does not answer for so long is abandoned. It gives up itself much
/// earlier, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(5);
/// And so many more are tried: the page that it waited for is asked for again.
const REPLACED: u64 = 2;

/// Looks for deadlocks.
pub struct Watch {
    helper: Channel<(), Vec<Group>>,
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
    pub(crate) fn new(nursery: &Rc<Nursery>, arch: Arch) -> Self {
        let number = |name| arch.syscall_number(name).map_or(i16::MIN, |n| n as i16);
        Self {
            helper: Channel::new(nursery.clone(), Kind::Deadlocks, PATIENCE, REPLACED),
            due: Instant::now() + INTERVAL,
            syscalls: Syscalls {
                futex: number("futex"),
                children: ["wait4", "waitid"].map(number),
            },
            known: HashSet::new(),
        }
    }

    /// CPU time that the helper used, ns.
    pub(crate) fn helper_cpu_ns(&self) -> u64 {
        self.helper.cpu_ns()
    }

    /// What went wrong with the helper.
    pub(crate) fn troubles(&self) -> Troubles {
        self.helper.troubles()
    }

    /// Has tasks examined, if it is time, and gives what was found of those before.
    /// `now_ns` is the time of the records' clock.
    pub fn look(&mut self, tracer: &Tracer, now_ns: u64) -> Vec<Found> {
        let mut found = Vec::new();
        let received = self.helper.receive();
        if received.anew {
            // What it hung on still is there: the next look comes late.
            self.helper.go_on::<Scene>([]);
            self.due = Instant::now() + PATIENCE * 2;
        }
        for ((), groups, cpu_ns) in received.answers {
            let rest = INTERVAL.max(Duration::from_nanos(cpu_ns) * REST);
            self.due = self.due.max(Instant::now() + rest);
            found.extend(self.confirmed(groups, tracer, now_ns));
        }
        let begun = Instant::now();
        if begun >= self.due && self.helper.waiting() == 0 {
            if let Some(scene) = self.scene(tracer, now_ns) {
                self.helper.ask((), &scene);
            }
            self.due = Instant::now() + INTERVAL.max(begun.elapsed() * REST);
        }
        found
    }

    /// Those who could be in a deadlock; `None`: nobody.
    fn scene(&self, tracer: &Tracer, now_ns: u64) -> Option<Scene> {
        if !self.helper.is_open() {
            return None;
        }
        let tasks = living(tracer);
        let long = |ns: &u64| ns + LONG_NS <= now_ns;
        let tasks: Vec<SceneTask> = tasks
            .iter()
            .map(|task| SceneTask {
                serial: task.born.serial,
                process: task.born.process,
                tgid: task.born.tgid,
                tid: task.born.tid,
                asleep: sleeps_since(task)
                    .filter(long)
                    .and_then(|_| self.asleep(task)),
            })
            .collect();
        if tasks.iter().all(|task| task.asleep.is_none()) {
            return None;
        }
        let (live, untracked) = tracer.live();
        Some(Scene {
            whole: untracked == 0 && live == tasks.len() as u64,
            futex: self.syscalls.futex,
            tasks,
        })
    }

    /// What a task that sleeps waits for; `None`: for something that others than
    /// the workload could bring about.
    fn asleep(&self, task: &TaskRecord) -> Option<Asleep> {
        let open = task.open.as_ref()?;
        let sleep = if open.compat || task.born.kernel_worker {
            return None;
        } else if self.syscalls.children.contains(&open.syscall) {
            Sleep::Child
        } else if open.syscall == self.syscalls.futex && open.timeout == Timeout::None {
            Sleep::Futex {
                address: open.arg0,
                op: futex::op(open.arg1),
            }
        } else {
            return None;
        };
        Some(Asleep {
            seq: task.totals.seq,
            since_ns: open.out_ns,
            sleep,
        })
    }

    /// What was read one after the other was all true at one time if everybody
    /// still sleeps the same sleep.
    fn confirmed(&mut self, mut groups: Vec<Group>, tracer: &Tracer, now_ns: u64) -> Vec<Found> {
        groups.retain(|group| !self.known.contains(&key(&group.sleepers)));
        if groups.is_empty() {
            return Vec::new();
        }
        let still: HashSet<(u32, u32)> = living(tracer)
            .iter()
            .filter(|task| sleeps_since(task).is_some())
            .map(|task| (task.born.serial, task.totals.seq))
            .collect();
        let mut found = Vec::new();
        for group in groups {
            let key = key(&group.sleepers);
            if !key.is_empty() && key.iter().all(|sleep| still.contains(sleep)) {
                self.known.insert(key);
                found.push(named(group, now_ns));
            }
        }
        found
    }
}

fn named(group: Group, now_ns: u64) -> Found {
    let stuck = group.sleepers.iter().map(|sleeper| Stuck {
        serial: sleeper.serial,
        on: sleeper.wait.into(),
        since_ns: sleeper.since_ns,
    });
    let names = group.names.into_iter();
    Found {
        deadlock: Deadlock {
            at_ns: now_ns,
            cycle: group.cycle,
            tasks: stuck.collect(),
        },
        names: names
            .map(|(serial, tid, name)| (serial, (tid, name)))
            .collect(),
    }
}

/// All tasks that live.
pub(crate) fn living(tracer: &Tracer) -> Vec<TaskRecord> {
    let mut tasks = Vec::new();
    tracer.living(|state| tasks.extend(decode::task(&state).ok()));
    tasks
}

/// Since when the task is asleep.
fn sleeps_since(task: &TaskRecord) -> Option<u64> {
    let open = task.open.as_ref()?;
    let asleep = matches!(open.why, Why::Interruptible | Why::Killable);
    (asleep && open.wake_ns.is_none()).then_some(open.out_ns)
}

fn key(group: &[Sleeper]) -> Vec<(u32, u32)> {
    let mut key: Vec<_> = group.iter().map(|s| (s.serial, s.seq)).collect();
    key.sort_unstable();
    key
}
