//! What is looked at: the tasks of the workload, and what was read of them in one look.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::{
    holders::Holders,
    memory::{Maps, mappings},
};
use crate::{
    procfs::{self, text},
    trace::{Arch, ProviderKind},
};

/// A look takes no longer; who is left waits for the next one.
const LONGEST: Duration = Duration::from_millis(500);

/// All tasks that live, and those who have slept for long.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Scene {
    pub(super) arch: Arch,
    pub(super) members: Vec<Member>,
    pub(super) sleepers: Vec<Sleeper>,
}

/// A task of the workload.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Member {
    pub(super) serial: u32,
    /// Serial of its creator.
    pub(super) parent: u32,
    pub(super) tgid: u32,
    pub(super) tid: u32,
    /// Its creator waits until it executes a program or ends.
    pub(super) vforked: bool,
}

/// One that sleeps.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Sleeper {
    pub(super) serial: u32,
    /// The number of the stretch that it is in.
    pub(super) seq: u32,
    /// -1: none, it is in a page fault.
    pub(super) syscall: i16,
    pub(super) arg0: u64,
    /// Stopped by a tracer.
    pub(super) traced: bool,
    /// It is not known what it waits for: the wait began before the recording, or the kernel
    /// program could not read the call's arguments.
    pub(super) nameless: bool,
    /// Time ends its wait at the latest: only its name is wanted.
    pub(super) timed: bool,
}

/// Who could end a wait.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Who {
    /// Serials.
    pub(super) tasks: Vec<u32>,
    pub(super) outside: bool,
    pub(super) foreign: Option<u32>,
}

impl Who {
    /// Somebody who is no task of the workload.
    pub(super) fn outside() -> Self {
        Self {
            outside: true,
            ..Self::default()
        }
    }

    /// These tasks.
    pub(super) fn tasks(tasks: Vec<u32>) -> Self {
        Self {
            tasks,
            ..Self::default()
        }
    }

    /// Any of both.
    pub(super) fn and(mut self, other: Self) -> Self {
        self.tasks.extend(other.tasks);
        self.tasks.sort_unstable();
        self.tasks.dedup();
        Self {
            outside: self.outside || other.outside,
            foreign: self.foreign.or(other.foreign),
            ..self
        }
    }
}

/// What is found, and how they come to be it.
pub(super) type Found = Option<(ProviderKind, Who)>;

/// The workload as it is now, and what was read of it in this look.
pub(super) struct World<'a> {
    pub(super) scene: &'a Scene,
    until: Instant,
    by_serial: HashMap<u32, &'a Member>,
    by_process: HashMap<u32, Vec<&'a Member>>,
    /// Serials of a process's threads, by the tid that they have for themselves.
    own_tids: HashMap<u32, HashMap<u32, u32>>,
    maps: HashMap<u32, Maps>,
    expects_nothing: HashMap<u32, bool>,
    holders: Option<Holders>,
}

impl<'a> World<'a> {
    pub(super) fn new(scene: &'a Scene) -> Self {
        let mut by_process: HashMap<u32, Vec<&Member>> = HashMap::new();
        for member in &scene.members {
            by_process.entry(member.tgid).or_default().push(member);
        }
        Self {
            scene,
            until: Instant::now() + LONGEST,
            by_serial: scene.members.iter().map(|m| (m.serial, m)).collect(),
            by_process,
            own_tids: HashMap::new(),
            maps: HashMap::new(),
            expects_nothing: HashMap::new(),
            holders: None,
        }
    }

    pub(super) fn is_late(&self) -> bool {
        Instant::now() >= self.until
    }

    /// A task that lives.
    pub(super) fn member(&self, serial: u32) -> Option<&'a Member> {
        self.by_serial.get(&serial).copied()
    }

    /// The living tasks of a process.
    pub(super) fn process(&self, tgid: u32) -> &[&'a Member] {
        self.by_process.get(&tgid).map_or(&[], Vec::as_slice)
    }

    /// The tasks of these processes but this one, who waits.
    pub(super) fn all_of(&self, processes: &[u32], but: &Member) -> Who {
        let mut who = Who::default();
        for process in processes {
            let threads = self.process(*process);
            who.outside |= threads.is_empty();
            let others = threads.iter().map(|member| member.serial);
            who.tasks
                .extend(others.filter(|serial| *serial != but.serial));
        }
        who.tasks.sort_unstable();
        who.tasks.dedup();
        who
    }

    /// The process that made this one, if it is of the workload.
    pub(super) fn maker(&self, tgid: u32) -> Option<u32> {
        let leader = self.process(tgid).iter().find(|m| m.tid == m.tgid)?;
        let maker = self.by_serial.get(&leader.parent)?;
        (maker.tgid != tgid).then_some(maker.tgid)
    }

    /// The thread of a process that has this tid for itself.
    pub(super) fn thread(&mut self, tgid: u32, own_tid: u32) -> Option<u32> {
        let threads = self.by_process.get(&tgid)?;
        let known = self.own_tids.entry(tgid).or_insert_with(|| {
            // Outside of pid namespaces all have the tids that we see.
            let first = threads[0].tid;
            let as_we_do = procfs::own_tid(tgid, first) == Some(first);
            let own = |tid| match as_we_do {
                true => Some(tid),
                false => procfs::own_tid(tgid, tid),
            };
            let threads = threads.iter();
            threads
                .filter_map(|m| Some((own(m.tid)?, m.serial)))
                .collect()
        });
        known.get(&own_tid).copied()
    }

    /// The memory of a process.
    pub(super) fn maps(&mut self, tgid: u32) -> &Maps {
        self.maps.entry(tgid).or_insert_with(|| {
            let text = text::read(format!("/proc/{tgid}/maps"));
            mappings(&text.unwrap_or_default())
        })
    }

    /// See [`procfs::expects_nothing`].
    pub(super) fn expects_nothing(&mut self, tgid: u32) -> bool {
        let known = self.expects_nothing.entry(tgid);
        *known.or_insert_with(|| procfs::expects_nothing(tgid))
    }

    /// Who has what open.
    pub(super) fn holders(&mut self) -> &Holders {
        self.holders.get_or_insert_with(Holders::look)
    }

    /// Every process of the workload.
    pub(super) fn processes(&self) -> Vec<u32> {
        let mut processes: Vec<u32> = self.by_process.keys().copied().collect();
        processes.sort_unstable();
        processes
    }
}
