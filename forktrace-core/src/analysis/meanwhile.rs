//! What the other tasks of a process did meanwhile, while one of them was blocked.
//!
//! A blocked task does not run itself, so the time in which *any* task of the
//! process ran is, within its blocks, time in which *another* one ran. One sweep keeps
//! for how long any ran so far, and for how long all of two or more were blocked: what of
//! it lies in a block is the difference from its beginning to its end. So nothing is kept
//! of what is over ([`Meantime`]). Where it is asked for any times, the intervals are kept
//! ([`of_tasks`]).

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
};

use super::{
    changes::{Change, Changes, Look},
    intervals::Intervals,
    sum_by_key::SumByKey,
    syscall_families::NO_SYSCALL,
};
use crate::{
    model::{Model, Off, Segment, State, Task},
    trace::Why,
};

/// When the tasks of a group ran, and when all of them were blocked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Meanwhile {
    /// At least one ran.
    pub(super) any_ran: Intervals,
    /// Two or more lived and all were blocked.
    pub(super) all_blocked: Intervals,
}

/// Merges the segments of tasks, each given in order.
pub(super) fn of_tasks(tasks: impl Iterator<Item = impl Iterator<Item = Segment>>) -> Meanwhile {
    let mut tasks: Vec<_> = tasks.map(|segments| segments.peekable()).collect();
    let mut current: Vec<Option<State>> = vec![None; tasks.len()];
    let mut heap: BinaryHeap<Reverse<(u64, usize)>> = tasks
        .iter_mut()
        .enumerate()
        .filter_map(|(task, segments)| Some(Reverse((segments.peek()?.start_ns, task))))
        .collect();
    let mut found = Meanwhile::default();
    let (mut live, mut running, mut blocked) = (0u32, 0u32, 0u32);
    let mut now_ns = 0;
    while let Some(mut first) = heap.peek_mut() {
        let (at_ns, task) = first.0;
        if at_ns > now_ns {
            if running > 0 {
                found.any_ran.push(now_ns, at_ns);
            }
            if live >= 2 && blocked == live {
                found.all_blocked.push(now_ns, at_ns);
            }
            now_ns = at_ns;
        }
        if let Some(before) = current[task].take() {
            live -= 1;
            running -= u32::from(before == State::Running);
            blocked -= u32::from(before == State::Blocked);
        }
        match tasks[task].next() {
            Some(segment) => {
                current[task] = Some(segment.state);
                live += 1;
                running += u32::from(segment.state == State::Running);
                blocked += u32::from(segment.state == State::Blocked);
                first.0.0 = segment.end_ns;
            }
            None => {
                std::collections::binary_heap::PeekMut::pop(first);
            }
        }
    }
    found
}

/// What a wait is counted under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct WaitKey {
    pub(super) syscall: i16,
    pub(super) compat: bool,
    pub(super) interruptible: bool,
}

impl WaitKey {
    /// Of a wait of this task.
    #[inline]
    pub(super) fn of(task: &Task, syscall: i16, compat: bool, why: Why) -> Self {
        Self {
            syscall: if task.kernel_worker {
                NO_SYSCALL
            } else {
                syscall
            },
            compat,
            interruptible: why == Why::Interruptible,
        }
    }
}

/// What the other tasks of its process did while a task was blocked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Others {
    /// At least one ran.
    pub(super) ran_ns: u64,
    /// It and all others were blocked, and there were others.
    pub(super) blocked_ns: u64,
}

/// A process as of now, and for how long what has held so far.
#[derive(Clone, Copy, Default)]
struct Process {
    now_ns: u64,
    live: u32,
    running: u32,
    blocked: u32,
    so_far: Others,
}

/// Of a task that is alone in its process.
const ALONE: u32 = u32::MAX;

/// A task as of now.
#[derive(Clone, Copy)]
struct Member {
    /// Which process it is of, or [`ALONE`].
    process: u32,
    state: Option<State>,
    /// Of a blocked one: as what that counts, and its process's times when it began.
    wait: Option<(WaitKey, Others)>,
}

/// Looks at as what a block counts.
struct Keys<'a>(&'a Model);

impl Look for Keys<'_> {
    type Seen = WaitKey;

    #[inline]
    fn look(&mut self, task: u32, stretch: Option<(usize, &Off)>) -> Option<WaitKey> {
        let task = &self.0.tasks[task as usize];
        Some(match stretch {
            Some((_, off)) => {
                let compat = off.flags & Off::COMPAT != 0;
                WaitKey::of(task, off.syscall, compat, off.why)
            }
            None => {
                let open = task.open?;
                WaitKey::of(task, open.syscall, open.compat, open.why)
            }
        })
    }
}

/// What others did, by index of the task and by wait: of tasks that are alone in their process,
/// nothing.
pub(super) type OfWaits = Vec<SumByKey<WaitKey, Others>>;

/// Adds it up.
pub(super) struct Meantime {
    processes: Vec<Process>,
    members: Vec<Member>,
    sums: OfWaits,
}

impl Meantime {
    pub(super) fn new(model: &Model) -> Self {
        let mut sums = OfWaits::new();
        sums.resize_with(model.tasks.len(), SumByKey::default);
        let mut sizes: HashMap<u32, (u32, u32)> = HashMap::new();
        for task in &model.tasks {
            let next = sizes.len() as u32;
            sizes.entry(task.process).or_insert((next, 0)).1 += 1;
        }
        let member = |task: &Task| Member {
            process: match sizes[&task.process] {
                (_, 1) => ALONE,
                (at, _) => at,
            },
            state: None,
            wait: None,
        };
        Self {
            processes: vec![Process::default(); sizes.len()],
            members: model.tasks.iter().map(member).collect(),
            sums,
        }
    }

    /// The tasks that are not alone, by index in the model.
    fn tasks(&self) -> Vec<u32> {
        let members = self.members.iter().enumerate();
        let members = members.filter(|(_, member)| member.process != ALONE);
        members.map(|(at, _)| at as u32).collect()
    }

    /// The state of a task changes. Changes come in the order of time. `key`: as what the block
    /// counts that begins, if one does.
    #[inline]
    pub(super) fn change(&mut self, change: &Change, key: impl FnOnce() -> Option<WaitKey>) {
        let at = change.task as usize;
        let member = &mut self.members[at];
        let Some(process) = self.processes.get_mut(member.process as usize) else {
            return;
        };
        process.pass(change.at_ns);
        if let Some((key, before)) = member.wait.take() {
            let sum = self.sums[at].of(key);
            let now = process.so_far;
            sum.ran_ns += now.ran_ns - before.ran_ns;
            sum.blocked_ns += now.blocked_ns - before.blocked_ns;
        }
        process.change(
            std::mem::replace(&mut member.state, change.state),
            change.state,
        );
        member.wait = key().map(|key| (key, process.so_far));
    }

    pub(super) fn finish(self) -> OfWaits {
        self.sums
    }
}

/// What others did, by a look at all tasks that are not alone.
pub(super) fn of_waits(model: &Model) -> OfWaits {
    let mut sums = Meantime::new(model);
    let mut changes = Changes::new(model, &sums.tasks(), Keys(model));
    while let Some(window) = changes.next() {
        for (change, key) in window.changes() {
            sums.change(change, || key.copied());
        }
        changes.is_over(window);
    }
    sums.finish()
}

impl Process {
    /// Nothing changes until this time.
    #[inline]
    fn pass(&mut self, at_ns: u64) {
        let ns = at_ns - self.now_ns;
        if self.running > 0 {
            self.so_far.ran_ns += ns;
        }
        if self.live >= 2 && self.blocked == self.live {
            self.so_far.blocked_ns += ns;
        }
        self.now_ns = at_ns;
    }

    #[inline]
    fn change(&mut self, from: Option<State>, to: Option<State>) {
        let is = |state: Option<State>, it: State| u32::from(state == Some(it));
        self.live = self.live + u32::from(to.is_some()) - u32::from(from.is_some());
        self.running = self.running + is(to, State::Running) - is(from, State::Running);
        self.blocked = self.blocked + is(to, State::Blocked) - is(from, State::Blocked);
    }
}
