//! Who could have ended a wait that nobody ended, and who could not go on since all who
//! could have were in the same place.
//!
//! A wait that was fulfilled tells by its waker whom it was for. One that was cut short
//! does not; but a child ends a wait for a child, a thread of the same process one for a
//! private futex, time a sleep. Where the trace does not tell, it is taken that somebody
//! could have: nobody is said to hang for want of a record.

use std::collections::HashMap;

use super::blocks::{Block, Blocks, Class, End, LOOK_UP_NS};
use crate::{
    model::{FutexKey, Model, PAGE_FAULT, Target, Task},
    trace::{self, FileKind, Interrupt, ProviderKind, StuckOn, Timeout, Waker, Why},
};

/// A set that can't go on is said to hang from this age on, ns: as long as the watch of the
/// recording lets tasks sleep before it looks at them.
pub(super) const HANG_NS: u64 = 500_000_000;

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

    /// The same of a wait that was under way at this time. Whom a signal took from a wait for
    /// whatever came wakes the others of its process so that they end, too: they had not waited
    /// for it. And the last thread of a process that was killed closes what the process had: it
    /// was that which was waited for.
    fn of_standstill(&self, at: u32, block: &Block, at_ns: u64) -> Providers {
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

/// All tasks at one time.
pub(super) struct Standstill {
    /// By index in the model; `None`: it did not live, or was not blocked.
    pub(super) waits: Vec<Option<(Block, Providers)>>,
    alive: Vec<bool>,
    /// Those that could not go on.
    pub(super) stuck: Vec<bool>,
}

impl Standstill {
    /// As it was just before this time.
    pub(super) fn before(kin: &Kin<'_>, at_ns: u64) -> Self {
        Self::with(kin, at_ns, |at, block| kin.of(at, block))
    }

    /// The same where something from outside ended it: what tasks do then to end is not taken
    /// for what others had waited for.
    pub(super) fn called_off(kin: &Kin<'_>, at_ns: u64) -> Self {
        Self::with(kin, at_ns, |at, block| kin.of_standstill(at, block, at_ns))
    }

    fn with(kin: &Kin<'_>, at_ns: u64, of: impl Fn(u32, &Block) -> Providers) -> Self {
        let tasks = &kin.blocks.model.tasks;
        let lives = |task: &Task| task.start_ns < at_ns && task.end_ns >= at_ns;
        let waits = tasks.iter().enumerate().map(|(at, task)| {
            let block = wait_at(kin.blocks, task, at_ns).filter(|_| lives(task))?;
            Some((block, of(at as u32, &block)))
        });
        let waits: Vec<Option<(Block, Providers)>> = waits.collect();
        let alive: Vec<bool> = tasks.iter().map(lives).collect();
        let stuck = stuck(kin.blocks, &waits, &alive);
        Self {
            waits,
            alive,
            stuck,
        }
    }

    /// The only task that could have ended this one's wait; of the threads of one other process
    /// its first one, which stands for it.
    pub(super) fn leads_to(&self, kin: &Kin<'_>, at: u32) -> Option<u32> {
        let (_, providers) = self.waits[at as usize].as_ref()?;
        let alive = |other: &u32| *other != at && self.alive[*other as usize];
        let only = |tasks: &[u32]| {
            let mut those = tasks.iter().copied().filter(alive);
            match (those.next(), those.next()) {
                (Some(only), None) => Some(only),
                _ => None,
            }
        };
        let all = &kin.blocks.model.tasks;
        let first = |tasks: &[u32]| {
            let process = all[*tasks.iter().find(|other| alive(other))? as usize].process;
            let mut those = tasks.iter().filter(|other| alive(other));
            let is_one = those.all(|other| all[*other as usize].process == process);
            let first = kin.blocks.wakers.index(process).filter(|_| is_one)? as u32;
            // One that waits for its own threads says nothing of what they do.
            let tells = self.waits[first as usize]
                .as_ref()
                .is_some_and(|(block, _)| {
                    let class = kin.blocks.class(block);
                    class.is_input() || class == Class::Time
                });
            let other = process != all[at as usize].process && tasks.contains(&first);
            (other && tells).then_some(first)
        };
        let found = match providers {
            Providers::Tasks(tasks) => only(tasks).or_else(|| first(tasks)),
            Providers::Process(process) | Providers::LooksUp(process) => {
                only(kin.threads(*process))
            }
            _ => None,
        };
        found.filter(|other| self.waits[*other as usize].is_some())
    }
}

/// What a task waits for just before this time, also where it is awake for a moment and goes
/// on with the sleep that it has just come from.
pub(super) fn wait_at(blocks: &Blocks<'_>, task: &Task, at_ns: u64) -> Option<Block> {
    Block::before(task, at_ns).or_else(|| looks_up(blocks, task, at_ns))
}

/// The sleep that a task has just come from, or what it waits for again: both go on in a moment.
fn looks_up(blocks: &Blocks<'_>, task: &Task, at_ns: u64) -> Option<Block> {
    let next = task.stretches.left_before(at_ns);
    let off = task.stretches.at(next.checked_sub(1)?);
    // However long it takes to get a CPU.
    let now = at_ns.saturating_sub(off.in_ns) < LOOK_UP_NS;
    let last = Block::of(off).filter(|_| now)?;
    /// It can have to wait for a CPU on its way so often.
    const READY: usize = 4;
    let next = task.stretches.from(next).take(READY).find_map(Block::of);
    let goes_on = || {
        let next = next.or_else(|| Block::open(task));
        let same =
            next.is_some_and(|next| (next.syscall, next.target) == (last.syscall, last.target));
        same && blocks.class(&last).is_input()
    };
    (blocks.is_sleep(&last) || goes_on()).then_some(last)
}

/// Who can't go on: all but those that somebody can wake who can.
fn stuck(blocks: &Blocks<'_>, waits: &[Option<(Block, Providers)>], alive: &[bool]) -> Vec<bool> {
    let mut by_task: HashMap<u32, Vec<u32>> = HashMap::new();
    let mut by_process: HashMap<u32, Vec<u32>> = HashMap::new();
    let mut can: Vec<u32> = Vec::new();
    let mut stuck: Vec<bool> = alive.to_vec();
    for (at, wait) in waits.iter().enumerate().filter(|(at, _)| alive[*at]) {
        match wait {
            Some((_, Providers::Tasks(tasks))) => {
                for task in tasks {
                    by_task.entry(*task).or_default().push(at as u32);
                }
            }
            Some((_, Providers::Process(process))) => {
                by_process.entry(*process).or_default().push(at as u32);
            }
            _ => {
                stuck[at] = false;
                can.push(at as u32);
            }
        }
    }
    while let Some(at) = can.pop() {
        let process = blocks.model.tasks[at as usize].process;
        let woken = by_task.remove(&at).into_iter().flatten();
        let woken: Vec<u32> = woken
            .chain(by_process.remove(&process).into_iter().flatten())
            .collect();
        for woken in woken {
            if std::mem::take(&mut stuck[woken as usize]) {
                can.push(woken);
            }
        }
    }
    stuck
}

/// Tasks that could not go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hang {
    /// When the last of them blocked.
    pub(super) from_ns: u64,
    /// When the first of them was cut short, or the last of those who then waited for each other;
    /// or when the recording ended.
    pub(super) to_ns: u64,
    /// Indices in the model: those in the circle, or all.
    pub(super) tasks: Vec<u32>,
    /// Each waits for the next one.
    pub(super) cycle: bool,
}

/// All sets of tasks that hung until they were cut short.
pub(super) fn hangs(kin: &Kin<'_>) -> Vec<Hang> {
    let blocks = kin.blocks;
    /// Ends of one set are no further apart.
    const TOGETHER_NS: u64 = 50_000_000;
    /// Of a trace with more, the rest is left out.
    const MOST: usize = 64;
    /// After a signal a program has ended within this time.
    const ON_ITS_WAY_NS: u64 = 1_000_000_000;
    let mut ends: Vec<u64> = Vec::new();
    for (at, task) in blocks.model.tasks.iter().enumerate() {
        let last = task.stretches.iter().rev().filter_map(Block::of);
        // Who is interrupted has something to do before it ends.
        let on_its_way = |(which, block): &(usize, Block)| {
            *which < 4 || block.end_ns(task) >= task.end_ns.saturating_sub(ON_ITS_WAY_NS)
        };
        let last = last.enumerate().take_while(on_its_way);
        for block in Block::open(task)
            .into_iter()
            .chain(last.map(|(_, block)| block))
        {
            let end_ns = block.end_ns(task);
            let long = end_ns - block.start_ns >= HANG_NS;
            if long && is_unfulfilled(blocks, at, &block) {
                ends.push(end_ns);
            }
        }
    }
    ends.sort_unstable();
    let mut hangs: Vec<Hang> = Vec::new();
    let mut before = None;
    for end_ns in ends {
        if before.is_some_and(|before: u64| end_ns - before < TOGETHER_NS) || hangs.len() == MOST {
            continue;
        }
        before = Some(end_ns);
        let still = Standstill::before(kin, end_ns);
        let stuck = still.stuck.iter().enumerate();
        let tasks: Vec<u32> = stuck
            .filter_map(|(at, is)| is.then_some(at as u32))
            .collect();
        let starts = tasks
            .iter()
            .filter_map(|at| still.waits[*at as usize].as_ref());
        let from_ns = starts
            .map(|(block, _)| block.start_ns)
            .max()
            .unwrap_or(end_ns);
        let known = |hang: &Hang| hang.tasks == tasks && hang.to_ns > from_ns;
        if end_ns - from_ns >= HANG_NS && !tasks.is_empty() && !hangs.iter().any(known) {
            let circle = circle(kin, &still, &tasks);
            let is_of = |hang: &Hang| {
                hang.to_ns > from_ns && tasks.iter().all(|at| hang.tasks.contains(at))
            };
            // Who could have helped one of them, and ended first, closed the circle by that.
            let open = hangs.iter_mut().find(|hang| !hang.cycle && is_of(hang));
            if let Some(same) = open.filter(|_| circle.is_some()) {
                same.to_ns = end_ns;
                continue;
            }
            // Those who waited for them, and were cut short before, are no other hang.
            hangs.retain(|hang| !is_of(hang));
            let set = circle.as_ref().unwrap_or(&tasks);
            // A signal interrupted some of them, and they waited for the same again.
            let again = |hang: &&mut Hang| {
                hang.tasks == *set && from_ns.saturating_sub(hang.to_ns) < TOGETHER_NS
            };
            if let Some(same) = hangs.last_mut().filter(again) {
                same.to_ns = end_ns;
                continue;
            }
            hangs.push(Hang {
                from_ns,
                to_ns: end_ns,
                cycle: circle.is_some(),
                tasks: circle.unwrap_or(tasks),
            });
        }
    }
    hangs
}

/// Did nothing come of it? An alarm is a limit of time that the task gave itself.
fn is_unfulfilled(blocks: &Blocks<'_>, at: usize, block: &Block) -> bool {
    match blocks.end(at, block) {
        End::Nobody | End::CutShort => true,
        End::Interrupted => !matches!(
            block.waker,
            Waker::Interrupt(Interrupt::Timer | Interrupt::Soft(1 | 8))
        ),
        _ => false,
    }
}

/// Those of them of whom each waits for the next one, in a circle, if some do.
fn circle(kin: &Kin<'_>, still: &Standstill, tasks: &[u32]) -> Option<Vec<u32>> {
    let mut seen: HashMap<u32, u32> = HashMap::new();
    for first in tasks {
        let (mut at, mut path) = (*first, Vec::new());
        loop {
            match seen.get(&at) {
                Some(round) if round == first => {
                    let begin = path.iter().position(|other| *other == at)?;
                    return Some(path.split_off(begin));
                }
                Some(_) => break,
                None => {}
            }
            seen.insert(at, *first);
            path.push(at);
            match still.leads_to(kin, at) {
                Some(next) => at = next,
                None => break,
            }
        }
    }
    None
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
