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

use super::{Block, Blocks, Class, HeldFrom};
use crate::{
    model::{Off, Target, Task},
    trace::FileKind,
};

/// Blocks of a waker among which its last wait for input is looked for.
pub(super) const LOOK_BACK: usize = 64;
/// Blocks before short waits for input that are looked at.
const SHORT: usize = 8;
/// Waits for input are short if all that follows a block takes no more than this part of it.
const SHORT_PART: u64 = 4;

/// What a look back from any of a task's stretches finds.
#[derive(Default)]
pub(super) struct Behind {
    /// By stretch: how many blocks are before it.
    blocks_before: Vec<u32>,
    /// By block: its stretch.
    blocks: Vec<u32>,
    /// By block: the last wait for input that is not after it, as a block.
    inputs: Vec<Option<u32>>,
    /// Stretches before which records are lost, in order.
    gaps: Vec<u32>,
}

impl Blocks<'_> {
    /// From when on a task's blocks hold up the one that it will wake from this
    /// block: from its last wait for input on; from the beginning where its end is
    /// waited for.
    ///
    /// `near`: a stretch of the waker not long before.
    pub(in crate::analysis) fn held_from(
        &self,
        (task, block): (u32, &Block),
        waker: usize,
        near: usize,
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
        if ends || self.child_waits.contains(&Some(block.syscall)) {
            held.ns = 0;
            return held;
        }
        let parked = self.is_parked(task, block, waker);
        let task = &self.model.tasks[waker];
        let until = first_from(&task.stretches, near, wake_ns);
        let after = task.stretches.get(until).map(|off| off.seq);
        let next = after.or(task.stretches_expected);
        let Some(last) = until.checked_sub(1) else {
            held.known_before = next == Some(0);
            return held;
        };
        if next != Some(task.stretches[last].seq.wrapping_add(1)) {
            // What is lost there can be a wait for input.
            held.known_before = false;
            return held;
        }
        let behind = self.behind[waker].get_or_init(|| self.behind(task));
        let begin = |block: usize| task.stretches[behind.blocks[block] as usize].out_ns;
        let gaps = behind.gaps.partition_point(|gap| *gap as usize <= last);
        let gap = gaps.checked_sub(1).map(|gap| behind.gaps[gap] as usize);
        let first = gap.map_or(0, |gap| behind.blocks_before[gap] as usize);
        let before = behind.blocks_before[until] as usize;
        if first == before {
            held.known_before = gap.is_none();
            return held;
        }
        let input = behind.inputs[before - 1].map(|input| input as usize);
        // So far and no farther.
        let farthest = before.checked_sub(LOOK_BACK + 1);
        match input.max(farthest).filter(|block| *block >= first) {
            Some(at) if Some(at) == input => {
                let near = self.before_short_input(task, behind, (first, at), wake_ns);
                let anything = self.block(task, behind, at);
                let anything = anything.is_some_and(|b| self.class(&b) == Class::Anything);
                held.ns = match near {
                    Some(ns) => ns,
                    None if parked && anything && at + 1 < before => begin(at + 1),
                    None if parked && anything => u64::MAX,
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
        for (at, off) in task.stretches.iter().enumerate() {
            behind.blocks_before.push(behind.blocks.len() as u32);
            if off.seq != expected {
                behind.gaps.push(at as u32);
            }
            expected = off.seq.wrapping_add(1);
            if let Some(block) = Block::of(off) {
                let input = if self.class(&block).is_input() {
                    Some(behind.blocks.len() as u32)
                } else {
                    behind.inputs.last().copied().flatten()
                };
                behind.inputs.push(input);
                behind.blocks.push(at as u32);
            }
        }
        behind.blocks_before.push(behind.blocks.len() as u32);
        behind
    }

    /// A block by its number.
    fn block(&self, task: &Task, behind: &Behind, at: usize) -> Option<Block> {
        Block::of(task.stretches.get(*behind.blocks.get(at)? as usize)?)
    }

    /// When the block began before a wait for input that was short beside it.
    fn before_short_input(
        &self,
        task: &Task,
        behind: &Behind,
        (first, input): (usize, usize),
        wake_ns: u64,
    ) -> Option<u64> {
        let back = (first..input).rev().take(SHORT);
        let mut back = back.filter_map(|at| self.block(task, behind, at));
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

/// The first stretch that begins at this time or later, looked for from `near` on
/// in growing steps.
pub(super) fn first_from(offs: &[Off], near: usize, at_ns: u64) -> usize {
    let before = |at: usize| offs.get(at).is_some_and(|off| off.out_ns < at_ns);
    let mut from = if before(near) { near } else { 0 };
    let mut step = 1;
    while before(from + step) {
        from += step;
        step *= 2;
    }
    let until = (from + step).min(offs.len());
    from + offs[from..until].partition_point(|off| off.out_ns < at_ns)
}
