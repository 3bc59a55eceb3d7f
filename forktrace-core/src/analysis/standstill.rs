//! All tasks at one time: who waits for whom, and which of them can't go on since all who could
//! have ended their waits are in the same place.

use std::collections::HashMap;

use super::{
    blocks::{Block, Blocks, Class, End, LOOK_UP_NS},
    providers::{Kin, Providers},
};
use crate::{
    model::Task,
    trace::{Interrupt, Waker},
};

/// A set that can't go on is said to hang from this age on, ns: as long as the watch of the
/// recording lets tasks sleep before it looks at them.
pub(super) const HANG_NS: u64 = 500_000_000;

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
