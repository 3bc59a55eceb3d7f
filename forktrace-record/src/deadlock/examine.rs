//! What a helper does to find deadlocks: each task and each lock is looked at once, so that
//! a thousand threads that wait for one mutex take no longer than a thousand that wait for
//! a mutex each.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::rules::{self, Candidate, Process, Sleeper, Wait};
use crate::procfs::{self, LockKind};

/// A look takes no longer: what is not known then is no deadlock.
const LONGEST: Duration = Duration::from_secs(2);
/// Waiters of one lock that are asked who holds it, until one tells.
const ASKED: u32 = 3;

/// All that live.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Scene {
    pub(super) tasks: Vec<SceneTask>,
    /// There are no others.
    pub(super) whole: bool,
    /// Number of the system call.
    pub(super) futex: i16,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SceneTask {
    pub(super) serial: u32,
    pub(super) process: u32,
    pub(super) tgid: u32,
    pub(super) tid: u32,
    /// `None`: it does not sleep for long, or somebody outside could wake it.
    pub(super) asleep: Option<Asleep>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Asleep {
    pub(super) seq: u32,
    pub(super) since_ns: u64,
    pub(super) sleep: Sleep,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) enum Sleep {
    Futex { address: u64, op: u32 },
    Child,
}

/// Tasks that can't go on, if all of them still sleep.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Group {
    pub(super) cycle: bool,
    pub(super) sleepers: Vec<Sleeper>,
    /// Serial, tid and name of each.
    pub(super) names: Vec<(u32, u32, String)>,
}

/// Finds deadlocks.
pub(crate) fn examine(scene: &Scene) -> Vec<Group> {
    let mut look = Look {
        scene,
        until: Instant::now() + LONGEST,
        owners: HashMap::new(),
        threads: HashMap::new(),
    };
    let sleepers: Vec<Sleeper> = scene
        .tasks
        .iter()
        .filter_map(|task| look.sleeper(task))
        .collect();
    let tasks: HashMap<u32, &SceneTask> = scene.tasks.iter().map(|t| (t.serial, t)).collect();
    let mut groups: Vec<(bool, Vec<Sleeper>)> = rules::cycles(&sleepers)
        .into_iter()
        .map(|cycle| (true, cycle.into_iter().copied().collect()))
        // One of its waiters told who holds a lock: each of the cycle's has to.
        .filter(|(_, cycle): &(bool, Vec<Sleeper>)| cycle.iter().all(|s| look.holds(s, &tasks)))
        .collect();
    if groups.is_empty() && scene.whole {
        let closed = look.closed(&sleepers, &tasks);
        groups.extend(Some((false, closed)).filter(|(_, closed)| !closed.is_empty()));
    }
    let named = |(cycle, sleepers): (bool, Vec<Sleeper>)| Group {
        cycle,
        names: sleepers
            .iter()
            .filter_map(|sleeper| tasks.get(&sleeper.serial))
            .map(|task| {
                let name = procfs::name_of_living(task.tgid, task.tid);
                (task.serial, task.tid, name)
            })
            .collect(),
        sleepers,
    };
    groups.into_iter().map(named).collect()
}

struct Look<'a> {
    scene: &'a Scene,
    until: Instant,
    /// Of each lock, by process, address and kind: who holds it, and how many waiters
    /// could not tell.
    owners: HashMap<(u32, u64, LockKind), Result<u32, u32>>,
    /// Serials of each process's threads, by the tid that they have for themselves.
    threads: HashMap<u32, HashMap<u32, u32>>,
}

impl Look<'_> {
    fn is_late(&self) -> bool {
        Instant::now() >= self.until
    }

    fn sleeper(&mut self, task: &SceneTask) -> Option<Sleeper> {
        let asleep = task.asleep?;
        let wait = match asleep.sleep {
            Sleep::Child => Wait::Child,
            Sleep::Futex { address, op } => match self.owner(task, address, op) {
                Some(owner) => Wait::Lock { address, owner },
                None => Wait::Futex { address },
            },
        };
        Some(Sleeper {
            serial: task.serial,
            seq: asleep.seq,
            since_ns: asleep.since_ns,
            wait,
        })
    }

    /// Who holds the lock at this address, if it is one that tells.
    fn owner(&mut self, task: &SceneTask, address: u64, op: u32) -> Option<u32> {
        let kind = procfs::lock_kind(op)?;
        let lock = (task.process, address, kind);
        let failed = match self.owners.get(&lock) {
            Some(Ok(owner)) => return Some(*owner),
            Some(Err(failed)) => *failed,
            None => 0,
        };
        if failed >= ASKED || self.is_late() {
            return None;
        }
        let owner = self.ask_owner(task, address, kind);
        self.owners.insert(lock, owner.ok_or(failed + 1));
        owner
    }

    fn ask_owner(&mut self, task: &SceneTask, address: u64, kind: LockKind) -> Option<u32> {
        let lock = procfs::owner(task.tgid, task.tid, self.scene.futex, address, kind)?;
        let scene = self.scene;
        let threads = self.threads.entry(task.process).or_insert_with(|| {
            let same = scene.tasks.iter().filter(|t| t.process == task.process);
            // Outside of pid namespaces all have the tids that we see.
            let as_we_do = procfs::own_tid(task.tgid, task.tid) == Some(task.tid);
            let own = |t: &SceneTask| match as_we_do {
                true => Some(t.tid),
                false => procfs::own_tid(task.tgid, t.tid),
            };
            same.filter_map(|t| Some((own(t)?, t.serial))).collect()
        });
        if let Some(owner) = threads.get(&lock.owner) {
            return Some(*owner);
        }
        // Another process can own a lock in shared memory. Its tid is what it is in its own
        // pid namespace: where two have it, it is not known whose it is.
        let owns = |t: &&SceneTask| {
            t.process != task.process && procfs::own_tid(t.tgid, t.tid) == Some(lock.owner)
        };
        let mut others = scene.tasks.iter().filter(|_| lock.shared).filter(owns);
        let owner = others.next()?;
        others.next().is_none().then_some(owner.serial)
    }

    /// Does this task itself say that it waits for a lock, and for whose?
    fn holds(&mut self, sleeper: &Sleeper, tasks: &HashMap<u32, &SceneTask>) -> bool {
        let (Wait::Lock { address, owner }, Some(task)) =
            (sleeper.wait, tasks.get(&sleeper.serial))
        else {
            return false;
        };
        let Some(Sleep::Futex { op, .. }) = task.asleep.map(|asleep| asleep.sleep) else {
            return false;
        };
        let kind = procfs::lock_kind(op);
        !self.is_late()
            && kind.is_some_and(|kind| self.ask_owner(task, address, kind) == Some(owner))
    }

    /// Those whom nobody could wake but one of themselves, or nobody at all: no other task,
    /// no timer, no debugger, nobody outside. None of them where there was no time to see.
    fn closed(&self, sleepers: &[Sleeper], tasks: &HashMap<u32, &SceneTask>) -> Vec<Sleeper> {
        let mut processes: HashMap<u32, Process> = HashMap::new();
        for task in &self.scene.tasks {
            processes.entry(task.tgid).or_default().tasks += 1;
        }
        for (&pid, process) in &mut processes {
            process.parent = procfs::parent(pid);
        }
        let candidates: Vec<Candidate<'_>> = sleepers
            .iter()
            .filter_map(|sleeper| {
                let task = tasks.get(&sleeper.serial)?;
                let locked_in = match sleeper.wait {
                    Wait::Child => true,
                    Wait::Lock { address, .. } | Wait::Futex { address } => {
                        !self.is_late() && procfs::waits_forever(task.tgid, task.tid, address)
                    }
                };
                let pid = task.tgid;
                locked_in.then_some(Candidate { sleeper, pid })
            })
            .collect();
        let pids: HashSet<u32> = candidates.iter().map(|candidate| candidate.pid).collect();
        let expects = |pid: &u32| self.is_late() || !procfs::expects_nothing(*pid);
        let expecting = pids.into_iter().filter(expects).collect();
        let closed = rules::closed(&candidates, &processes, &expecting);
        let pids = closed.iter().map(|candidate| candidate.pid).collect();
        if self.is_late() || closed.is_empty() || procfs::traces_others(&pids) {
            return Vec::new();
        }
        closed
            .into_iter()
            .map(|candidate| *candidate.sleeper)
            .collect()
    }
}
