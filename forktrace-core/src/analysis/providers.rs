//! Who could have ended a wait that nobody ended.
//!
//! A wait that was fulfilled tells by its waker whom it was for. One that was cut short
//! does not; but a child ends a wait for a child, a thread of the same process one for a
//! private futex, time a sleep. Where the trace does not tell, it is taken that somebody
//! could have: nobody is said to hang for want of a record.

use std::collections::HashMap;

use super::blocks::{Block, Blocks, Class, End};
use crate::{
    model::{FutexKey, Model, PAGE_FAULT, Target},
    trace::{self, FileKind, ProviderKind, StuckOn, Timeout, Why},
};

/// Who could end a wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Providers {
    /// Time.
    Time,
    /// A disk, or what else the kernel does by itself.
    Device,
    /// Somebody outside the workload, a peer or a user.
    Outside,
    /// Any of these tasks (indices in the model); none of them: nobody.
    Tasks(Vec<u32>),
    /// Any other task of this process.
    Process(u32),
    /// Any other task of this process, and meanwhile time, again and again: it only looks up.
    LooksUp(u32),
    /// It is not known.
    Unknown,
}

/// Which tasks belong together.
pub(super) struct Kin<'a> {
    pub(super) blocks: &'a Blocks<'a>,
    /// By process.
    threads: HashMap<u32, Vec<u32>>,
    /// First tasks of processes, by the tgid of their parent.
    children: HashMap<u32, Vec<u32>>,
    /// What was looked up while a wait lasted, by task and stretch.
    looked_up: HashMap<(u32, u32), &'a trace::Providers>,
    /// Those that were found during the recording not to be able to go on, by task: when
    /// they blocked, and which of [`Model::deadlocks`].
    found: HashMap<u32, (u64, usize)>,
}

impl<'a> Kin<'a> {
    pub(super) fn new(blocks: &'a Blocks<'a>) -> Self {
        let model = blocks.model;
        let mut threads: HashMap<u32, Vec<u32>> = HashMap::new();
        let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
        for (at, task) in model.tasks.iter().enumerate() {
            threads.entry(task.process).or_default().push(at as u32);
            if task.serial == task.process {
                children.entry(task.ppid).or_default().push(at as u32);
            }
        }
        let mut looked_up: HashMap<(u32, u32), &trace::Providers> = HashMap::new();
        for found in &model.providers {
            // Who holds a lock of the kernel holds up whatever the call wants of others.
            let known = looked_up.entry((found.serial, found.seq)).or_insert(found);
            if known.kind != ProviderKind::KernelLock || found.kind == known.kind {
                *known = found;
            }
        }
        let mut found = HashMap::new();
        for (which, deadlock) in model.deadlocks.iter().enumerate() {
            let stands = !taken_back(blocks, deadlock);
            for stuck in deadlock.tasks.iter().filter(|_| stands) {
                found.insert(stuck.serial, (stuck.since_ns, which));
            }
        }
        Self {
            blocks,
            threads,
            children,
            looked_up,
            found,
        }
    }

    /// Is this one a child of that, or of its children, and so on?
    pub(super) fn descends(&self, at: u32, from: u32) -> bool {
        let tasks = &self.blocks.model.tasks;
        let process = tasks[from as usize].process;
        let parent = |at: &u32| {
            let first = self.blocks.wakers.index(tasks[*at as usize].process)?;
            let parent = self.blocks.wakers.index(tasks[first].parent)?;
            Some(parent as u32)
        };
        // Forged parents could make a circle.
        let mut above = std::iter::successors(Some(at), parent).take(tasks.len());
        tasks[at as usize].process != process
            && above.any(|above| tasks[above as usize].process == process)
    }

    /// The tasks of a process.
    pub(super) fn threads(&self, process: u32) -> &[u32] {
        self.threads.get(&process).map_or(&[], Vec::as_slice)
    }

    /// Who could have ended this block of a task, or did.
    pub(super) fn of(&self, at: u32, block: &Block) -> Providers {
        let blocks = self.blocks;
        let task = &blocks.model.tasks[at as usize];
        if let Some((since_ns, which)) = self.found.get(&task.serial)
            && *since_ns == block.start_ns
        {
            let set = &blocks.model.deadlocks[*which].tasks;
            let on = set.iter().find(|stuck| stuck.serial == task.serial);
            let told = self.looked_up.get(&(task.serial, block.seq));
            let by = |serial: &u32| match on.map(|stuck| stuck.on) {
                Some(StuckOn::Lock { owner, .. }) => owner == *serial,
                Some(StuckOn::Told) => told.is_none_or(|told| told.tasks.contains(serial)),
                _ => true,
            };
            let these = set.iter().map(|stuck| stuck.serial).filter(by);
            let these = these.filter_map(|serial| blocks.wakers.index(serial));
            let others = these.map(|at| at as u32).filter(|other| *other != at);
            return Providers::Tasks(others.collect());
        }
        let end = blocks.end(at as usize, block);
        match end {
            End::Task(waker) => return Providers::Tasks(vec![waker]),
            End::Outside => return Providers::Outside,
            End::Unknown => return Providers::Unknown,
            End::Interrupt if blocks.is_disk(block).is_some() => return Providers::Device,
            End::Interrupt if blocks.class(block).is_input() => return Providers::Outside,
            End::Interrupt => return Providers::Time,
            End::Nobody | End::CutShort | End::Interrupted => {}
        }
        if let Some(known) = self.looked_up.get(&(task.serial, block.seq))
            && !blocks.is_parked_at_lock(task.serial, block)
        {
            return match known.outside {
                true => Providers::Outside,
                false => {
                    let tasks = known.tasks.iter().filter_map(|s| blocks.wakers.index(*s));
                    Providers::Tasks(tasks.map(|at| at as u32).collect())
                }
            };
        }
        if block.timeout != Timeout::None || blocks.class(block) == Class::Time {
            return match model_target(blocks.model, block) {
                Some(Target::Futex(FutexKey::Private { process, .. }))
                    if self.is_again(at as usize, block) =>
                {
                    Providers::LooksUp(*process)
                }
                _ => Providers::Time,
            };
        }
        self.by_target(at, block, end)
    }

    /// The same of a wait that was under way at this time (see `standstill`). Whom a signal took from a wait for
    /// whatever came wakes the others of its process so that they end, too: they had not waited
    /// for it. And the last thread of a process that was killed closes what the process had: it
    /// was that which was waited for.
    pub(super) fn of_standstill(&self, at: u32, block: &Block, at_ns: u64) -> Providers {
        let blocks = self.blocks;
        let tasks = &blocks.model.tasks;
        let is_killed = |waker: u32| {
            let of = &tasks[waker as usize];
            of.process != tasks[at as usize].process
                && Block::before(of, at_ns)
                    .is_some_and(|wait| blocks.end(waker as usize, &wait) == End::CutShort)
        };
        match blocks.end(at as usize, block) {
            End::Task(waker) if self.is_called_off(at, waker, at_ns) => {
                self.by_target(at, block, End::CutShort)
            }
            End::Task(waker) if is_killed(waker) => {
                let threads = self.threads(tasks[waker as usize].process);
                let is_first =
                    |at: &&u32| tasks[**at as usize].serial == tasks[**at as usize].process;
                match threads.iter().find(is_first) {
                    Some(first) if tasks[*first as usize].end_ns >= at_ns => {
                        Providers::Tasks(threads.to_vec())
                    }
                    _ => Providers::Unknown,
                }
            }
            _ => self.of(at, block),
        }
    }

    /// Did a signal take this waker from a wait for whatever came, or one who woke it in turn?
    fn is_called_off(&self, at: u32, waker: u32, at_ns: u64) -> bool {
        /// No runtime hands a signal on more often.
        const MOST: usize = 4;
        let blocks = self.blocks;
        let tasks = &blocks.model.tasks;
        let mut waker = waker;
        for _ in 0..MOST {
            let of = &tasks[waker as usize];
            let Some(wait) = Block::before(of, at_ns) else {
                return false;
            };
            let class = blocks.class(&wait);
            let anything =
                class.is_input() || class == Class::Time && wait.timeout == Timeout::None;
            if of.process != tasks[at as usize].process || !anything {
                return false;
            }
            match blocks.end(waker as usize, &wait) {
                End::Interrupted => return true,
                End::Task(before) => waker = before,
                _ => return false,
            }
        }
        false
    }

    /// Did this task wait for the same just before, until its time ran out?
    fn is_again(&self, at: usize, block: &Block) -> bool {
        let offs = &self.blocks.model.tasks[at].stretches;
        let before = offs.left_before(block.start_ns);
        let last = offs.range(0..before).rev().filter_map(Block::of).next();
        last.is_some_and(|last| {
            (last.syscall, last.target) == (block.syscall, block.target)
                && self.blocks.timed_out(&last)
        })
    }

    fn by_target(&self, at: u32, block: &Block, end: End) -> Providers {
        let blocks = self.blocks;
        let model = blocks.model;
        let task = &model.tasks[at as usize];
        let until_ns = block.end_ns(task);
        let lived = |other: &u32| {
            let other = &model.tasks[*other as usize];
            other.start_ns <= until_ns && other.end_ns >= block.start_ns
        };
        match model.targets.get(block.target as usize) {
            Some(Target::Child(pid)) => {
                let children = self.children.get(&task.pid).into_iter().flatten();
                let children = children.copied().filter(lived);
                let pid = pid.filter(|pid| *pid > 0);
                let this = |child: &u32| {
                    pid.is_none_or(|pid| i64::from(model.tasks[*child as usize].pid) == pid)
                };
                let all: Vec<u32> = children.collect();
                let these: Vec<u32> = all.iter().copied().filter(this).collect();
                // Its own pid namespace has other numbers.
                match these.is_empty() {
                    true if all.is_empty() => Providers::Unknown,
                    true => Providers::Tasks(all),
                    false => Providers::Tasks(these),
                }
            }
            Some(Target::Thread(serial)) => match blocks.wakers.index(*serial) {
                Some(thread) => Providers::Tasks(vec![thread as u32]),
                None => Providers::Unknown,
            },
            // Who handles a signal can wake another one; that nobody handled it is known
            // of one that the signal killed.
            Some(Target::Futex(FutexKey::Private { process, .. })) => match end {
                End::CutShort => Providers::Process(*process),
                _ => Providers::Unknown,
            },
            _ if block.syscall == PAGE_FAULT && block.why != Why::Uninterruptible => {
                let middle_ns = block.start_ns.midpoint(until_ns);
                match self.handlers(task.process, middle_ns) {
                    handlers if handlers.is_empty() => Providers::Unknown,
                    handlers => Providers::Tasks(handlers),
                }
            }
            Some(Target::File { file, .. }) if is_userfaultfd(model, *file) => {
                Providers::Process(task.process)
            }
            _ if blocks.is_disk(block).is_some() => Providers::Device,
            _ if blocks.class(block) == Class::Anything || blocks.is_signal_wait(block) => {
                Providers::Outside
            }
            _ => Providers::Unknown,
        }
    }

    /// Those of a process that wait for page faults to handle at this time.
    fn handlers(&self, process: u32, at_ns: u64) -> Vec<u32> {
        let blocks = self.blocks;
        let threads = self.threads(process).iter().copied();
        let handles = |at: &u32| {
            let task = &blocks.model.tasks[*at as usize];
            let block = Block::before(task, at_ns.max(1));
            let target = block.and_then(|b| blocks.model.targets.get(b.target as usize));
            matches!(target, Some(Target::File { file, .. }) if is_userfaultfd(blocks.model, *file))
        };
        threads.filter(handles).collect()
    }
}

fn model_target<'a>(model: &'a Model, block: &Block) -> Option<&'a Target> {
    model.targets.get(block.target as usize)
}

fn is_userfaultfd(model: &Model, file: u32) -> bool {
    let kind = model.files.get(file as usize).and_then(|f| f.kind.as_ref());
    matches!(kind, Some(FileKind::Other(what)) if what.contains("userfaultfd"))
}

/// Did what came later show that a deadlock which was found was none? One of them was
/// woken by a task that was no part of it, or its time ran out. Of those who could end waits
/// none may have gone on by itself: whoever did so first, but for a signal, had what it
/// waited for.
pub(super) fn taken_back(blocks: &Blocks<'_>, deadlock: &trace::Deadlock) -> bool {
    let is_part = |at: u32| {
        let serial = blocks.model.tasks[at as usize].serial;
        deadlock.tasks.iter().any(|stuck| stuck.serial == serial)
    };
    if deadlock.tasks.iter().all(|stuck| stuck.on == StuckOn::Told) {
        return first_end(blocks, deadlock).is_some_and(|(_, at, block)| {
            matches!(
                blocks.end(at, &block),
                End::Task(_) | End::Outside | End::Interrupt
            )
        });
    }
    sleeps(blocks, deadlock).any(|(at, block)| match blocks.end(at, &block) {
        End::Task(waker) => !is_part(waker),
        End::Interrupt => blocks.timed_out(&block),
        _ => false,
    })
}

/// When the first of them was woken, and from which sleep; `None`: nobody was.
pub(super) fn first_end(
    blocks: &Blocks<'_>,
    deadlock: &trace::Deadlock,
) -> Option<(u64, usize, Block)> {
    let ends = sleeps(blocks, deadlock);
    let ends = ends.filter_map(|(at, block)| Some((block.wake_ns?, at, block)));
    ends.min_by_key(|(end_ns, at, _)| (*end_ns, *at))
}

/// The sleeps that they were found in, by index in the model.
fn sleeps<'a>(
    blocks: &'a Blocks<'_>,
    deadlock: &'a trace::Deadlock,
) -> impl Iterator<Item = (usize, Block)> + 'a {
    deadlock.tasks.iter().filter_map(|stuck| {
        let at = blocks.wakers.index(stuck.serial)?;
        let task = &blocks.model.tasks[at];
        let block = Block::before(task, stuck.since_ns.saturating_add(1))?;
        Some((at, block))
    })
}
