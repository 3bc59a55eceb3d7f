//! A task's blocks, one by one: what each was in, and what ended it.

use std::{
    collections::{HashMap, HashSet},
    sync::OnceLock,
};

use super::{code::Code, syscall_families::family, wakers::Wakers};
use crate::{
    model::{Fate, Model, Off, PAGE_FAULT, Part, State, Target, Task, WHOLE, state_of},
    trace::{Arch, FileKind, Interrupt, ProviderKind, Providers, Timeout, Waker, Why},
};

mod behind;
mod ends;
mod held;
mod killers;
mod runtime;

use behind::Behind;
pub(super) use ends::End;
pub(super) use held::Looks;

/// A task that goes on with the same wait after running for so long, ns, has only looked
/// up. Measured on runs of condition variables in ticks, of Python's interpreter lock, of
/// `poll` loops, progress bars and interval timers: see `CONTRIBUTING.md`.
pub(super) const LOOK_UP_NS: u64 = 1_000_000;

/// One block, finished or open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) start_ns: u64,
    /// When it was woken; `None`: not before the trace or its life ended.
    pub(super) wake_ns: Option<u64>,
    pub(super) why: Why,
    pub(super) syscall: i16,
    pub(super) compat: bool,
    pub(super) target: u32,
    pub(super) timeout: Timeout,
    /// [`Waker::None`] where none is known.
    pub(super) waker: Waker,
    /// Its number among the task's stretches.
    pub(super) seq: u32,
}

impl Block {
    /// `None` if it is no block.
    #[inline]
    pub(super) fn of(off: Off) -> Option<Self> {
        // Not with `then_some`: what is not asked for of one that is none need not be read.
        if off.state() != State::Blocked {
            return None;
        }
        Some(Self {
            start_ns: off.out_ns,
            wake_ns: Some(off.wake_ns),
            why: off.why,
            syscall: off.syscall,
            compat: off.flags & Off::COMPAT != 0,
            target: off.target,
            timeout: off.timeout(),
            waker: if off.flags & Off::NO_WAKE != 0 {
                Waker::None
            } else {
                off.waker
            },
            seq: off.seq,
        })
    }

    /// The one that was open when the recording ended.
    pub(super) fn open(task: &Task) -> Option<Self> {
        let open = task.open.filter(|o| state_of(o.why) == State::Blocked)?;
        let wake_ns = open.wake_ns.filter(|wake| *wake <= task.end_ns);
        Some(Self {
            start_ns: open.out_ns.min(task.end_ns),
            wake_ns: wake_ns.map(|wake| wake.max(open.out_ns)),
            why: open.why,
            syscall: open.syscall,
            compat: open.compat,
            target: task.open_target,
            timeout: open.timeout,
            waker: open.waker,
            seq: task.stretches_expected.unwrap_or(u32::MAX),
        })
    }

    /// The block that a task is in just before this time.
    pub(super) fn before(task: &Task, at_ns: u64) -> Option<Self> {
        Self::last_before(task, task.stretches.left_before(at_ns), at_ns)
    }

    /// The same where so many of its stretches began before.
    pub(super) fn last_before(task: &Task, next: usize, at_ns: u64) -> Option<Self> {
        let last = next.checked_sub(1).map(|at| task.stretches.at(at));
        match last.filter(|off| off.wake_ns >= at_ns) {
            Some(off) => Self::of(off),
            None => Self::open(task).filter(|b| b.start_ns < at_ns && b.end_ns(task) >= at_ns),
        }
    }

    /// When it ended for us.
    pub(super) fn end_ns(&self, task: &Task) -> u64 {
        self.wake_ns.unwrap_or(task.end_ns).max(self.start_ns)
    }

    /// Did a timer end it after about the time that its call had? A call that
    /// blocks more than once has less left each time, so not every timeout is
    /// seen.
    #[inline]
    pub(super) fn timed_out(&self) -> bool {
        let (Timeout::Us(us), Some(wake_ns)) = (self.timeout, self.wake_ns) else {
            return false;
        };
        let timer = matches!(
            self.waker,
            Waker::Interrupt(Interrupt::Timer | Interrupt::Soft(1 | 8))
        );
        let limit_ns = u64::from(us) * 1000;
        // The time counts from the call, which is a little before the block.
        let slack_ns = 50_000 + limit_ns / 100;
        timer && (wake_ns - self.start_ns).saturating_add(slack_ns) >= limit_ns
    }
}

/// What a task waits for in a block, as far as syscall and state tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// For something to come in, from one source.
    Input,
    /// For whatever comes first, from whomever: among several descriptors, or from the
    /// next to connect. Nobody owes it anything.
    Anything,
    /// For time to pass.
    Time,
    /// For another task, for a device, or for something else.
    Busy,
}

impl Class {
    /// From one source or from any.
    #[inline]
    pub(super) fn is_input(self) -> bool {
        matches!(self, Self::Input | Self::Anything)
    }
}

/// From when on a waker's blocks hold up the one that it wakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HeldFrom {
    pub(super) ns: u64,
    /// It is known of those before that they did not.
    pub(super) known_before: bool,
}

/// Tells what blocks were.
pub(super) struct Blocks<'a> {
    pub(super) model: &'a Model,
    pub(super) wakers: &'a Wakers<'a>,
    pub(super) arch: Arch,
    /// Which functions waited.
    pub(super) code: Code,
    classes: Vec<Class>,
    /// When the block began that each task was killed in, if it was, and whether a
    /// signal killed it.
    killed_in: Vec<Option<(u64, bool)>>,
    /// Calls that a task ends itself by: itself alone, or its whole process.
    exits: [Option<i16>; 2],
    /// By process: which task ended it.
    left: HashMap<u32, u32>,
    /// All children are followed.
    all_followed: bool,
    /// When each task blocked for the last time; `None`: it did not end.
    ends_after: Vec<Option<u64>>,
    /// Calls that wait for the end of a child.
    child_waits: [Option<i16>; 2],
    /// Calls that wait for a disk where no signal can end them.
    disk_calls: Vec<bool>,
    /// Calls that wait for signals.
    signal_calls: Vec<bool>,
    /// Signals that were sent, by process.
    signals: HashMap<u32, Vec<Sent>>,
    /// What is behind each stretch of the tasks that woke others.
    behind: Vec<OnceLock<Behind>>,
    /// By target: a thread of a runtime parks there (see [`runtime`]); empty: none.
    parks: Vec<bool>,
    /// Waits, by serial and stretch, of which it was seen who owed it to the waiting task.
    owed: HashSet<(u32, u32)>,
    /// Waits for locks, in the same way, that stay with who has them while it goes round its
    /// event loop: whoever waits is parked there, as Redis parks its threads.
    parked: HashSet<(u32, u32)>,
    /// Those who were found during the recording not to be able to go on, by serial, and when
    /// they blocked.
    stuck: HashSet<(u32, u64)>,
    /// What is reported on; blocks are those of the whole.
    pub(super) part: &'a Part,
}

/// A signal that was sent.
struct Sent {
    at_ns: u64,
    number: u8,
    sender: Waker,
    /// Serial of the one task that it is for; `None`: any of the process's.
    to: Option<u32>,
}

impl<'a> Blocks<'a> {
    pub(super) fn new(model: &'a Model, wakers: &'a Wakers<'a>, arch: Arch) -> Self {
        let exits = ["exit", "exit_group"].map(|name| arch.syscall_number(name));
        let exits = exits.map(|number| number.map(|number| number as i16));
        // A task that is killed in a wait ends in the call that it waited in. What it
        // waits for on its way out, no signal can end.
        let killed_in = model.tasks.iter().map(|task| {
            let ended_in = task.record.as_ref()?.ended_in?;
            if exits.contains(&Some(ended_in)) {
                return None;
            }
            let last = |off: &Off| matches!(off.why, Why::Interruptible | Why::Killable);
            let last = task.stretches.iter().rfind(last)?;
            // As `wait` gives it: the signal in the low bits.
            let by_signal = task
                .record
                .as_ref()?
                .exit_code
                .is_some_and(|c| c & 0x7f != 0);
            // Outside of system calls it can have been in a page fault.
            let in_it = last.syscall == ended_in || (last.syscall, ended_in) == (PAGE_FAULT, -1);
            in_it.then_some((last.out_ns, by_signal))
        });
        let killed_in = killed_in.collect();
        let left = model.tasks.iter().enumerate().filter(|(_, task)| {
            let ended_in = task.record.as_ref().and_then(|record| record.ended_in);
            exits[1].is_some() && ended_in == exits[1]
        });
        let left = left.map(|(at, task)| (task.process, at as u32)).collect();
        let ends_after = model.tasks.iter().map(|task| {
            let ended = task.fate == Fate::Ended && task.open.is_none();
            let last = |off: &Off| off.state() == State::Blocked;
            let last = task.stretches.iter().rfind(last);
            ended.then(|| last.map_or(0, |off| off.out_ns))
        });
        let ends_after = ends_after.collect();
        let mut signals: HashMap<u32, Vec<Sent>> = HashMap::new();
        for signal in &model.signals {
            if let Some(at) = wakers.index(signal.serial) {
                let process = model.tasks[at].process;
                let sent = signals.entry(process).or_default();
                sent.push(Sent {
                    at_ns: signal.at_ns,
                    number: signal.signal,
                    sender: signal.sender,
                    to: (!signal.group).then_some(signal.serial),
                });
            }
        }
        let disk_calls = (0..512).map(|number| waits_for_disk(arch, number));
        let signal_calls = (0..512).map(|number| {
            let name = arch.syscall_name(number);
            name.is_some_and(|name| family(name) == "signal wait")
        });
        let stuck = model.deadlocks.iter().flat_map(|it| &it.tasks);
        let owed = model.providers.iter().filter(|p| {
            let by_kind = matches!(
                p.kind,
                ProviderKind::Owner
                    | ProviderKind::Readers
                    | ProviderKind::Joined
                    | ProviderKind::KernelLock
            );
            by_kind && !p.tasks.is_empty()
        });
        let mut blocks = Self {
            model,
            wakers,
            arch,
            code: Code::new(model),
            owed: owed.map(|p| (p.serial, p.seq)).collect(),
            stuck: stuck.map(|it| (it.serial, it.since_ns)).collect(),
            parks: Vec::new(),
            parked: HashSet::new(),
            disk_calls: disk_calls.collect(),
            signal_calls: signal_calls.collect(),
            classes: (0..512).map(|number| class_of(arch, number)).collect(),
            killed_in,
            exits,
            left,
            all_followed: model.tasks.iter().all(|task| task.followed),
            ends_after,
            child_waits: ["wait4", "waitid"]
                .map(|name| arch.syscall_number(name).map(|number| number as i16)),
            signals,
            behind: model.tasks.iter().map(|_| OnceLock::new()).collect(),
            part: &WHOLE,
        };
        blocks.parks = runtime::parks(&blocks);
        blocks.parked = blocks.parked_at_locks();
        blocks.owed = &blocks.owed - &blocks.parked;
        blocks
    }

    /// See [`Self::parked`].
    fn parked_at_locks(&self) -> HashSet<(u32, u32)> {
        // Looks at no more of what the owner does: a loop that does more in a turn is busy.
        const MOST: usize = 256;
        let is_parked = |p: &&Providers| {
            let owners = p.tasks.iter().filter_map(|owner| self.wakers.index(*owner));
            let owner = owners.map(|at| &self.model.tasks[at]).next();
            let waiter = self.wakers.index(p.serial).map(|at| &self.model.tasks[at]);
            let (Some(owner), Some(waiter), ProviderKind::Owner) = (owner, waiter, p.kind) else {
                return false;
            };
            let Some(wait) = Block::before(waiter, p.at_ns) else {
                return false;
            };
            let from = owner.stretches.left_before(wait.start_ns);
            let until = owner.stretches.left_before(wait.end_ns(waiter));
            let until = until.min(from.saturating_add(MOST));
            let turns = owner.stretches.range(from..until).filter_map(Block::of);
            let turns = turns.filter(|block| self.class(block) == Class::Anything);
            wait.seq == p.seq && turns.take(2).count() == 2
        };
        let parked = self.model.providers.iter().filter(is_parked);
        parked.map(|p| (p.serial, p.seq)).collect()
    }

    /// Is it parked at a lock that stays with an event loop?
    pub(super) fn is_parked_at_lock(&self, serial: u32, block: &Block) -> bool {
        self.parked.contains(&(serial, block.seq))
    }

    /// Does it wait for a lock that somebody has and would give back, or can it not go on?
    pub(super) fn is_for_a_lock(&self, serial: u32, block: &Block) -> bool {
        let owners = self.model.futexes.owners_of(serial);
        let has_owner = || owners.binary_search_by_key(&block.seq, |it| it.seq).is_ok();
        !self.is_parked_at_lock(serial, block)
            && (self.owed.contains(&(serial, block.seq))
                || self.stuck.contains(&(serial, block.start_ns))
                || has_owner())
    }

    /// Blocks of what a part has cut of the model. What the whole tells of them stays.
    pub(super) fn of_cut(whole: &Blocks<'_>, cut: &'a Model, wakers: &'a Wakers<'a>) -> Self {
        let part = whole.part;
        let killed_in = whole.killed_in.iter();
        let killed_in = killed_in.map(|killed| {
            killed.map(|(start_ns, by_signal)| (start_ns.max(part.from_ns), by_signal))
        });
        Self {
            killed_in: killed_in.collect(),
            parks: whole.parks.clone(),
            all_followed: whole.all_followed,
            ..Self::new(cut, wakers, whole.arch)
        }
    }

    /// The device of the file system that a task waits for, 0 if it is not known; `None`: it
    /// does not wait for a disk.
    pub(super) fn is_disk(&self, block: &Block) -> Option<u32> {
        let number = usize::try_from(block.syscall).unwrap_or(usize::MAX);
        let disk = block.why == Why::Uninterruptible
            && (block.syscall == PAGE_FAULT || self.disk_calls.get(number) == Some(&true));
        let device = match self.model.targets.get(block.target as usize) {
            Some(Target::File { file, .. }) => self.model.files.get(*file as usize)?.device,
            _ => 0,
        };
        disk.then_some(device)
    }

    /// Did the task end, and was this its last block?
    pub(super) fn is_last(&self, task: usize, block: &Block) -> bool {
        self.ends_after[task] == Some(block.start_ns)
    }

    /// What a task waits for in this block.
    #[inline]
    pub(super) fn class(&self, block: &Block) -> Class {
        if block.why != Why::Interruptible || block.compat {
            return Class::Busy;
        }
        let number = usize::try_from(block.syscall).unwrap_or(usize::MAX);
        match *self.classes.get(number).unwrap_or(&Class::Busy) {
            Class::Busy if self.parks.get(block.target as usize) == Some(&true) => Class::Anything,
            Class::Busy if self.timed_out(block) => Class::Time,
            Class::Anything => self.class_of_set(block.target),
            class => class,
        }
    }

    /// A set of one descriptor is waited for as if it were read, one of none is a
    /// sleep.
    fn class_of_set(&self, target: u32) -> Class {
        let set = match self.model.targets.get(target as usize) {
            Some(Target::Fds(set)) => self.model.waitsets.get(*set as usize),
            _ => None,
        };
        let Some(set) = set.filter(|set| !set.cut_off) else {
            return Class::Anything;
        };
        match &set.fds[..] {
            [] => Class::Time,
            [only] if !only.kind.as_ref().is_some_and(FileKind::is_listening) => Class::Input,
            _ => Class::Anything,
        }
    }
}

/// What an interruptible wait in a syscall is for.
fn class_of(arch: Arch, number: i16) -> Class {
    let name = arch.syscall_name(number.into());
    // Who sends to a queue waits until it is less full.
    if matches!(name, Some("msgsnd" | "mq_timedsend")) {
        return Class::Busy;
    }
    match name.map(family) {
        // A read from a disk is not interruptible.
        Some("read" | "connect" | "recv" | "signal wait" | "message queue") => Class::Input,
        Some("select" | "poll" | "epoll" | "accept") => Class::Anything,
        Some("sleep") => Class::Time,
        _ => Class::Busy,
    }
}

/// Calls that read or write files, in which a task that no signal can wake waits for a disk.
fn waits_for_disk(arch: Arch, number: i16) -> bool {
    matches!(
        arch.syscall_name(number.into()).map(family),
        Some("read" | "write" | "fsync" | "open" | "close" | "copy" | "file system" | "exec")
    )
}

#[cfg(test)]
#[path = "blocks_tests.rs"]
mod tests;
