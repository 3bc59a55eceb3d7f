//! What can be said of a stall, and what it is put down to.

use super::{CauseKey, FEW_SHORT, INTERRUPTED_NS, Watch, one_cause::WaitsFor};
use crate::{
    analysis::{
        blocks::{Block, Class},
        held_by::{HeldBy, awaited_by, waits_for_child},
        providers::Providers,
        standstill::{Hang, Standstill},
        syscall_families::NO_SYSCALL,
    },
    model::Target,
    report::{Ended, Verdict},
    trace::{Timeout, Waker},
};

/// Of shorter stalls it is not asked who came back a moment later: that is a look at all who
/// sleep while others wait for them.
const LOCKSTEP_NS: u64 = 10_000_000;
/// So much later at most, and a hundredth of the stall: what a timer is late, and a CPU to be had.
const MOMENT_NS: u64 = 1_000_000;

impl Watch<'_> {
    /// The verdict on a stall that ends when the state of `next` changes, what it is put
    /// down to, and whether nothing came of what was waited for.
    pub(super) fn verdict(
        &self,
        next: u32,
        (start_ns, end_ns): (u64, u64),
    ) -> (Verdict, u32, bool) {
        if let Some(root) = self.hung(start_ns, end_ns) {
            return (Verdict::Stuck, root, true);
        }
        let task = self.members.tasks[next as usize] as usize;
        if self.comes_asleep(task, end_ns) {
            return (Verdict::Unknown, next, true);
        }
        let how = self.block(next).map(|block| self.blocks.how(task, &block));
        let unfulfilled = match how {
            Some(Ended::CutShort) | None => true,
            Some(Ended::Interrupted) => {
                let tells = || !matches!(self.put_down_to(next), Verdict::Coincidence);
                end_ns - start_ns >= INTERRUPTED_NS || !tells() && self.is_one_of_few(end_ns)
            }
            _ => false,
        };
        if unfulfilled {
            let (verdict, root) = self.unfulfilled(next, end_ns);
            return (verdict, root, true);
        }
        let verdict = self.put_down_to(next);
        if verdict == Verdict::Coincidence
            && let Some(other) = self.a_moment_later((start_ns, end_ns))
        {
            return (Verdict::Caused, other, false);
        }
        (verdict, next, false)
    }

    /// Whose wait ended a moment after this stall, by itself, with others behind it: of several
    /// who sleep for the same time, as those of a pool, the first to come back ends the stall, and
    /// the others come back with it.
    fn a_moment_later(&self, (start_ns, end_ns): (u64, u64)) -> Option<u32> {
        let ns = end_ns - start_ns;
        if ns < LOCKSTEP_NS {
            return None;
        }
        let until_ns = end_ns.saturating_add((ns / 100).min(MOMENT_NS));
        let owing = self.blocked.owing().iter();
        let ends = owing.filter_map(|at| Some((self.block(*at)?.wake_ns?, *at)));
        let soon = ends.filter(|(wake_ns, _)| (end_ns..=until_ns).contains(wake_ns));
        soon.min().map(|(_, at)| at)
    }

    /// Is it taken in at this time, and asleep? That ends no stall, and there can be tens of
    /// thousands of them: what is said in between counts for nothing.
    fn comes_asleep(&self, task: usize, at_ns: u64) -> bool {
        let task = &self.blocks.model.tasks[task];
        task.attached.is_some()
            && task.start_ns == at_ns
            && Block::before(task, at_ns.saturating_add(1)).is_some()
    }

    /// Of a short stall that a signal ended and that tells nothing by itself it is asked, too,
    /// who could have ended the waits, unless there are many.
    fn is_one_of_few(&self, end_ns: u64) -> bool {
        let asked = self.short_ones.get();
        if asked.1 == end_ns {
            return true;
        }
        self.short_ones.set((asked.0.saturating_add(1), end_ns));
        asked.0 < FEW_SHORT
    }

    /// A task of the group that could not go on for most of this time.
    fn hung(&self, start_ns: u64, end_ns: u64) -> Option<u32> {
        let most = |hang: &&Hang| {
            let (from, to) = (hang.from_ns.max(start_ns), hang.to_ns.min(end_ns));
            to.saturating_sub(from) > (end_ns - start_ns) / 2
        };
        let of_group = |hang: &Hang| hang.tasks.iter().find_map(|at| self.members.position(*at));
        self.hangs.iter().filter(most).find_map(of_group)
    }

    /// What can be said of a stall that the end of this member's wait ended.
    fn put_down_to(&self, root: u32) -> Verdict {
        let counts = self.blocked.counts();
        let held_by = self.blocked.held_by(root);
        let for_signals = |block: Block| self.blocks.is_signal_wait(&block);
        // What a signal makes it do, as to end, others had not waited for.
        if !matches!(held_by, Some(HeldBy::Edge { .. }))
            && self.block(root).is_some_and(for_signals)
        {
            return Verdict::Idle;
        }
        if self.blocked.edges_to(root) > 0 {
            return match held_by {
                Some(HeldBy::Unknown) | None => Verdict::Unknown,
                _ => Verdict::Caused,
            };
        }
        if self.waits_for_end(root).is_some() {
            return Verdict::Caused;
        }
        if counts.unknown > 0 {
            return Verdict::Unknown;
        }
        let busy = self.blocked.busy();
        let own = usize::from(matches!(held_by, Some(HeldBy::Busy | HeldBy::Abroad)));
        let others = busy.len() - own;
        match held_by {
            _ if own == 1 && others == 0 && self.blocked.owing().is_empty() => Verdict::CommonCause,
            _ if own == 1 && others > 0 && self.one_cause.is_one(root) => Verdict::CommonCause,
            // The others wait for work of their own group.
            Some(HeldBy::Time) if others == 0 && counts.time == 1 && counts.input == 0 => {
                Verdict::CommonCause
            }
            Some(HeldBy::Edge { .. }) => Verdict::Coincidence,
            _ if others > 0 => Verdict::Coincidence,
            // What came from outside is for whoever waited for it, also while others are
            // behind a sleep.
            Some(HeldBy::Input) => Verdict::Idle,
            _ if !self.blocked.owing().is_empty() => Verdict::Coincidence,
            _ => Verdict::Idle,
        }
    }

    /// The member that waits for the end of this one, which comes after this block.
    fn waits_for_end(&self, root: u32) -> Option<u32> {
        let waiter = awaited_by(self.blocks, self.members, root, &self.block(root)?)?;
        let block = self.block(waiter)?;
        waits_for_child(self.blocks, &block, self.task(root)).then_some(waiter)
    }

    /// The same of one that a signal or the end of the trace ended. The root is where the
    /// most chains of those lead who could have ended the waits.
    fn unfulfilled(&self, next: u32, end_ns: u64) -> (Verdict, u32) {
        let still = Standstill::called_off(self.kin, end_ns);
        let of = |position: u32| self.members.tasks[position as usize];
        let there = |position: &u32| still.waits[of(*position) as usize].is_some();
        let live: Vec<u32> = (0..self.members.tasks.len() as u32).filter(there).collect();
        let mut roots: Vec<Option<u32>> = vec![None; self.members.tasks.len()];
        let mut behind = vec![0u32; self.members.tasks.len()];
        for first in &live {
            let (mut at, mut path) = (*first, Vec::new());
            let root = loop {
                if let Some(root) = roots[at as usize] {
                    let circle = path.iter().position(|other| *other == at);
                    let circle = circle.map_or(&[][..], |begin| &path[begin..]);
                    break circle
                        .iter()
                        .copied()
                        .max_by_key(|it| (self.tells(*it), *it == root))
                        .unwrap_or(root);
                }
                // For now: a circle ends where it began, or at one that waits for more than the
                // end of another one.
                roots[at as usize] = Some(at);
                path.push(at);
                let next = still.leads_to(self.kin, of(at));
                match next.and_then(|next| self.members.position(next)) {
                    Some(next) => at = next,
                    None => break at,
                }
            };
            for at in path {
                roots[at as usize] = Some(root);
            }
            let parked = || self.is_parked(&still, of(*first), of(root));
            behind[root as usize] += u32::from(root != *first && !parked());
        }
        let provider = |position: u32| still.waits[of(position) as usize].as_ref().map(|(_, p)| p);
        let known = |position: &u32| match provider(*position) {
            Some(Providers::Time | Providers::Device) => 2,
            Some(Providers::Outside) => 1,
            _ => 0,
        };
        let matters = |position: &&u32| {
            let position = **position;
            (
                behind[position as usize],
                known(&position),
                position == next,
            )
        };
        let is_root = |position: &&u32| roots[**position as usize] == Some(**position);
        let Some(root) = live.iter().filter(is_root).max_by_key(matters) else {
            return (Verdict::Unknown, next);
        };
        let device = |position: &&u32| provider(**position) == Some(&Providers::Device);
        let nothing_to_do = live.iter().any(|position| known(position) > 0);
        let verdict = match (behind[*root as usize], live.iter().filter(device).count()) {
            (1.., _) => Verdict::Caused,
            (0, 1..) => Verdict::CommonCause,
            (0, 0) if nothing_to_do => Verdict::Idle,
            // Nobody brought it, and the record does not tell who could have.
            (0, 0) => Verdict::Unknown,
        };
        (verdict, *root)
    }

    /// Is this task parked on a futex of its process, or waits for whatever comes first, and
    /// does the root wait for that, too? Then there was nothing to do for either.
    fn is_parked(&self, still: &Standstill, at: u32, root: u32) -> bool {
        let wait = |at: u32| still.waits[at as usize].as_ref();
        let anything = |block: &Block| self.blocks.class(block) == Class::Anything;
        let parked = match wait(at) {
            Some((_, Providers::Process(_))) => true,
            // It wants something of those that it started.
            Some((_, Providers::Tasks(_))) if self.kin.descends(root, at) => false,
            Some((block, _)) => anything(block),
            None => false,
        };
        // A program's first thread often waits for signals, of all.
        let pauses = |block: &Block| {
            let blocks = self.blocks;
            let for_ever = blocks.class(block) == Class::Time && block.timeout == Timeout::None;
            for_ever || blocks.is_signal_wait(block)
        };
        parked && wait(root).is_some_and(|(block, _)| anything(block) || pauses(block))
    }

    /// How much the wait of one of a circle tells: most who can't go on for want of room or a
    /// lock, least who waits for another one to end.
    fn tells(&self, position: u32) -> u8 {
        let Some(block) = self.block(position) else {
            return 0;
        };
        match self.blocks.model.targets.get(block.target as usize) {
            Some(Target::Child(_) | Target::Thread(_)) => 0,
            _ if self.blocks.class(&block) != Class::Busy => 1,
            _ => 2,
        }
    }

    /// What an episode with this verdict and root is put down to.
    pub(super) fn key(&self, verdict: Verdict, root: u32) -> CauseKey {
        let block = self.block(root);
        let waker = block.map_or(Waker::None, |b| b.waker);
        // The same sync can be ended by a disk's interrupt or by a kernel thread.
        let by_kernel = self.blocked.held_by(root) == Some(HeldBy::Busy)
            && match waker {
                Waker::Interrupt(_) => true,
                Waker::Outsider { tid, .. } => {
                    let at_ns = block.and_then(|b| b.wake_ns).unwrap_or(0);
                    let outsider = self.blocks.model.outsider(tid, at_ns);
                    outsider.is_some_and(|o| o.kernel_thread)
                }
                _ => false,
            };
        CauseKey {
            verdict,
            alone: verdict == Verdict::CommonCause && self.blocked.busy().len() < 2,
            root,
            syscall: block.map_or(NO_SYSCALL, |b| b.syscall),
            target: block.map_or(0, |b| self.target(b.target)),
            waker: if by_kernel { Waker::None } else { waker },
        }
    }

    pub(super) fn target(&self, target: u32) -> u32 {
        match self.blocks.model.targets.get(target as usize) {
            // There are too many of them.
            None | Some(Target::PageFault(_)) => 0,
            Some(_) => match self.targets.get(target as usize) {
                None | Some(0) => target,
                Some(same) => *same,
            },
        }
    }

    /// What a member waits for that waits neither for input, nor for a time, nor for another.
    pub(super) fn waits_for(&self, block: &Block) -> WaitsFor {
        WaitsFor {
            target: *self.targets.get(block.target as usize).unwrap_or(&0),
            process: self.waker_process(block),
            disk: self.blocks.is_disk(block),
        }
    }

    /// The process outside the group that ended a block.
    fn waker_process(&self, block: &Block) -> Option<(bool, u32)> {
        match block.waker {
            Waker::Task { serial, .. } => {
                let at = self.blocks.wakers.index(serial)?;
                Some((true, self.blocks.model.tasks[at].process))
            }
            Waker::Outsider { tid, .. } => {
                let outsider = self.blocks.model.outsider(tid, block.wake_ns?)?;
                // Kernel threads work for everybody.
                (!outsider.kernel_thread).then_some((false, outsider.tgid))
            }
            _ => None,
        }
    }
}
