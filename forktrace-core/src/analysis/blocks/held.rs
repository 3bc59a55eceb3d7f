//! From when on a task's blocks hold up the one that it will wake.
//!
//! A waker that waits for input again and again, and wakes another after the hundredth
//! time, held that one up the last time only. But a short wait for input does not undo a
//! long block: a server's thread that slept for half a second while it had a lock, then
//! read the next line of its client in 0.1 ms, and let the lock go, held it all the while.
//!
//! And a thread that looks at several descriptors owes nothing to another thread of its
//! process that is parked on a futex: whatever comes first is not what that one waits for.
//! What the first does from then on until it wakes the other does hold that one up. Where
//! it was seen that the other waits for a lock of the first, or for its end, it is owed.

use super::{Block, Blocks, Class, HeldFrom, behind::Behind};
use crate::{
    model::{Reader, Target, Task},
    trace::FileKind,
};

/// Blocks of a waker among which its last wait for input is looked for.
pub(super) const LOOK_BACK: usize = 64;
/// Blocks before short waits for input that are looked at.
const SHORT: usize = 8;
/// A helper that is told to end has nothing more to do than it can do in this time, ns.
const ENDING_NS: u64 = 10_000_000;
/// Waits for input are short if all that follows a block takes no more than this part of it.
const SHORT_PART: u64 = 4;

/// Looks at a waker's stretches: where it woke somebody, and from where on it held that one up.
pub(in crate::analysis) struct Looks<'a> {
    until: Reader<'a>,
    from: Reader<'a>,
}

impl<'a> Looks<'a> {
    pub(in crate::analysis) fn of(waker: &'a Task) -> Self {
        Self {
            until: waker.stretches.reader(),
            from: waker.stretches.reader(),
        }
    }
}

impl Blocks<'_> {
    /// From when on a task's blocks hold up the one that it will wake from this
    /// block: from its last wait for input on; from the beginning where its end is
    /// waited for.
    ///
    /// `near`: a stretch of the waker not far from there; then the one after it woke.
    pub(in crate::analysis) fn held_from(
        &self,
        waits: (u32, &Block),
        waker: usize,
        near: &mut usize,
    ) -> HeldFrom {
        let mut looks = Looks::of(&self.model.tasks[waker]);
        self.held_from_seen(waits, waker, (near, &mut looks))
    }

    /// The same for who looks at the stretches of a waker again and again.
    pub(in crate::analysis) fn held_from_seen(
        &self,
        (task, block): (u32, &Block),
        waker: usize,
        (near, looks): (&mut usize, &mut Looks<'_>),
    ) -> HeldFrom {
        let mut held = HeldFrom {
            ns: u64::MAX,
            known_before: true,
        };
        let Some(wake_ns) = block.wake_ns else {
            return held;
        };
        // Who waits for input is told of the end of another too, by a signal.
        let ends = self.ends_after[waker].is_some_and(|last| last < wake_ns)
            && !self.class(block).is_input();
        let parked = self.is_parked(task, block, waker);
        // A main thread that ends tells the helpers of its process to end, too.
        let tells = parked && {
            let waker = &self.model.tasks[waker];
            waker.serial == waker.process && self.ends_next(task as usize, block)
        };
        if ends && !tells || self.child_waits.contains(&Some(block.syscall)) {
            held.ns = 0;
            return held;
        }
        let task = &self.model.tasks[waker];
        let until = looks.until.left_before_near(*near, wake_ns);
        *near = until;
        let next = looks.until.seq(until).or(task.stretches_expected);
        let Some(last) = until.checked_sub(1) else {
            held.known_before = next == Some(0);
            return held;
        };
        if next != looks.until.seq(last).map(|seq| seq.wrapping_add(1)) {
            // What is lost there can be a wait for input.
            held.known_before = false;
            return held;
        }
        let behind = self.behind[waker].get_or_init(|| self.behind(task));
        let mut begin = |block: usize| {
            let at = behind.stretch(block, last).unwrap_or(last);
            looks.from.out_ns(at).unwrap_or(u64::MAX)
        };
        let gap = behind.gap(last);
        let first = gap.map_or(0, |gap| behind.blocks_before(gap));
        let before = behind.blocks_before(until);
        if first == before {
            held.known_before = gap.is_none();
            return held;
        }
        let input = behind.last_input(last);
        // So far and no farther.
        let farthest = before.checked_sub(LOOK_BACK + 1);
        match input.max(farthest).filter(|block| *block >= first) {
            Some(at) if Some(at) == input => {
                let near = self.before_short_input(task, behind, (first, at, last), wake_ns);
                let anything = || {
                    let block = self.block(task, behind, (at, last));
                    block.is_some_and(|b| self.class(&b) == Class::Anything)
                };
                held.ns = match near {
                    Some(ns) => ns,
                    None if parked && at + 1 < before && anything() => begin(at + 1),
                    None if parked && anything() => u64::MAX,
                    None => begin(at),
                };
            }
            Some(block) => held.ns = begin(block),
            None => {
                held.ns = begin(first);
                held.known_before = gap.is_none();
            }
        }
        held
    }

    /// Looks at all of a task's stretches once.
    fn behind(&self, task: &Task) -> Behind {
        let mut behind = Behind::default();
        let mut expected = task.first_seq;
        for off in &task.stretches {
            let gap = off.seq != expected;
            expected = off.seq.wrapping_add(1);
            let block = Block::of(off);
            let input = block.map(|block| self.class(&block).is_input());
            let ns = block.map_or(0, |block| block.end_ns(task) - block.start_ns);
            behind.push(input, ns, gap);
        }
        behind
    }

    /// A block by its number, not long before a stretch.
    fn block(&self, task: &Task, behind: &Behind, (at, near): (usize, usize)) -> Option<Block> {
        Block::of(task.stretches.get(behind.stretch(at, near)?)?)
    }

    /// When the block began before a wait for input that was short beside it.
    fn before_short_input(
        &self,
        task: &Task,
        behind: &Behind,
        (first, input, last): (usize, usize, usize),
        wake_ns: u64,
    ) -> Option<u64> {
        let at = behind.stretch(input, last)?;
        let since_ns = wake_ns.saturating_sub(task.stretches.out_ns(at));
        let from = first.max(input.saturating_sub(SHORT));
        let begins = behind.stretch(from, at)?;
        if from == input || behind.are_shorter(begins..at, since_ns.saturating_mul(SHORT_PART)) {
            return None;
        }
        let back = task.stretches.range(begins..at).rev();
        let mut back = back.filter_map(Block::of);
        let long = back.find(|block| {
            let end_ns = block.end_ns(task);
            let after_ns = wake_ns.saturating_sub(end_ns);
            after_ns.saturating_mul(SHORT_PART) <= end_ns - block.start_ns
        });
        let long = long.filter(|block| !self.class(block).is_input());
        long.map(|block| block.start_ns)
    }

    /// Is it parked, on a futex or for a word through a pipe or an eventfd, where a thread of
    /// its own process will wake it, and was it not seen that this one owes it something?
    fn is_parked(&self, task: u32, block: &Block, waker: usize) -> bool {
        let tasks = &self.model.tasks;
        let (task, waker) = (&tasks[task as usize], &tasks[waker]);
        task.process == waker.process
            && (self.is_futex(block) || self.is_word(block))
            && !self.owed.contains(&(task.serial, block.seq))
    }

    /// Did the task end after this block, or was it killed in one that began in a moment? A helper
    /// that is told to end can park once more, until its process has ended.
    fn ends_next(&self, task: usize, block: &Block) -> bool {
        let soon = |(start_ns, _): (u64, bool)| {
            let woken_ns = block.wake_ns.unwrap_or(u64::MAX);
            (woken_ns..woken_ns.saturating_add(ENDING_NS)).contains(&start_ns)
        };
        self.is_last(task, block) || self.killed_in[task].is_some_and(soon)
    }

    /// Does it wait for a pipe or an eventfd?
    fn is_word(&self, block: &Block) -> bool {
        let is_one =
            |kind: Option<&FileKind>| matches!(kind, Some(FileKind::Pipe | FileKind::EventFd));
        match self.model.targets.get(block.target as usize) {
            Some(Target::File { file, .. }) => {
                let file = self.model.files.get(*file as usize);
                is_one(file.and_then(|file| file.kind.as_ref()))
            }
            Some(Target::Fds(set)) => match self.model.waitsets.get(*set as usize) {
                Some(set) if !set.cut_off && set.fds.len() == 1 => is_one(set.fds[0].kind.as_ref()),
                _ => false,
            },
            _ => false,
        }
    }

    /// Does it wait for a futex?
    pub(in crate::analysis) fn is_futex(&self, block: &Block) -> bool {
        matches!(
            self.model.targets.get(block.target as usize),
            Some(Target::Futex(_) | Target::AnyFutex { .. })
        )
    }
}
