//! Episodes in which all of a group were blocked: what can be said of each, and
//! sums over all of them.
//!
//! There can be a million of them in a group of a thousand tasks, so nothing here
//! looks at each task for each episode. Figures are kept up to date as blocks
//! begin and end ([`super::standing`]), and the verdict on an episode is read off
//! them.

use std::{cmp::Reverse, collections::BinaryHeap};

use super::{
    blocks::{Block, Blocks},
    families::NO_SYSCALL,
    parts::{Members, Part, part},
    profile::Watcher,
    standing::Standing,
    tally::Tally,
};
use crate::{
    model::{Segment, State, Target, Task},
    report::Verdict,
    trace::Waker,
};

const NONE: u32 = u32::MAX;

/// A sum over episodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Total {
    pub(super) ns: u64,
    pub(super) episodes: u64,
    pub(super) longest_ns: u64,
}

impl Total {
    fn add(&mut self, ns: u64) {
        self.ns = self.ns.saturating_add(ns);
        self.episodes += 1;
        self.longest_ns = self.longest_ns.max(ns);
    }
}

/// What an episode is put down to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct CauseKey {
    pub(super) verdict: Verdict,
    /// The root was the only one with anything to do.
    pub(super) alone: bool,
    /// Its position.
    pub(super) root: u32,
    syscall: i16,
    /// The one that stands for all that are the same; each by itself where none does.
    target: u32,
    /// [`Waker::None`]: the kernel, in whatever way.
    waker: Waker,
}

/// A cause's sum, and its longest episode.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CauseSum {
    pub(super) total: Total,
    pub(super) longest: Found,
}

/// An episode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) start_ns: u64,
    pub(super) end_ns: u64,
    /// Position of the task whose state changes at the end.
    pub(super) next: u32,
    /// Position of the root; of one of several that nothing connects.
    pub(super) root: u32,
}

impl Found {
    pub(super) fn ns(&self) -> u64 {
        self.end_ns - self.start_ns
    }
}

/// What comes of a group's sweep.
#[derive(Default)]
pub(super) struct Findings {
    /// By verdict.
    pub(super) verdicts: Tally<Verdict, Total>,
    pub(super) causes: Tally<CauseKey, CauseSum>,
    /// The longest episodes, longest first.
    pub(super) longest: Vec<(Verdict, Found)>,
}

/// A task as of now.
#[derive(Clone, Copy)]
struct Now {
    /// Index of its next stretch.
    stretch: u32,
    /// `None`: it is not blocked. An edge counts as the part says that it has.
    part: Option<Part>,
    /// When its block began.
    start_ns: u64,
    /// Its block: an index of a stretch, or [`NONE`] for the open one.
    block: u32,
}

/// Watches a sweep over a group.
pub(super) struct Watch<'a> {
    blocks: &'a Blocks<'a>,
    members: &'a Members<'a>,
    /// For each target the one that stands for all that are the same.
    targets: &'a [u32],
    keep: usize,
    now: Vec<Now>,
    standing: Standing,
    /// By member: edges to it that don't count yet, by when they will.
    pending: Vec<BinaryHeap<Reverse<(u64, u32, u64)>>>,
    open: Option<(CauseKey, Found)>,
    findings: Findings,
    longest: BinaryHeap<Reverse<(u64, Reverse<u64>, usize)>>,
    kept: Vec<(Verdict, Found)>,
}

impl<'a> Watch<'a> {
    /// Keeps so many episodes.
    pub(super) fn new(
        blocks: &'a Blocks<'a>,
        members: &'a Members<'a>,
        targets: &'a [u32],
        keep: usize,
    ) -> Self {
        let now = Now {
            stretch: 0,
            part: None,
            start_ns: 0,
            block: NONE,
        };
        Self {
            blocks,
            members,
            targets,
            keep,
            now: vec![now; members.tasks.len()],
            standing: Standing::new(members.tasks.len()),
            pending: vec![BinaryHeap::new(); members.tasks.len()],
            open: None,
            findings: Findings::default(),
            longest: BinaryHeap::new(),
            kept: Vec::new(),
        }
    }

    /// What came of it.
    pub(super) fn finish(mut self) -> Findings {
        self.close();
        let mut kept: Vec<_> = self.longest.into_iter().map(|Reverse(l)| l).collect();
        kept.sort_by_key(|(ns, start, _)| Reverse((*ns, *start)));
        let longest = kept.into_iter().map(|(_, _, at)| self.kept[at]);
        self.findings.longest = longest.collect();
        self.findings
    }

    fn task(&self, position: u32) -> &'a Task {
        &self.blocks.model.tasks[self.members.tasks[position as usize] as usize]
    }

    /// The block that a member is in.
    fn block(&self, position: u32) -> Option<Block> {
        let (now, task) = (&self.now[position as usize], self.task(position));
        now.part?;
        match task.stretches.get(now.block as usize) {
            Some(off) => Block::of(off),
            None => Block::open(task),
        }
    }

    /// Finds the block that a segment is of.
    fn find(&mut self, position: u32, segment: &Segment) -> Option<(u32, Block)> {
        let task = self.task(position);
        let at = &mut self.now[position as usize].stretch;
        while let Some(off) = task.stretches.get(*at as usize) {
            let is_it = off.state() == State::Blocked && off.wake_ns >= segment.end_ns;
            if is_it && off.out_ns < segment.end_ns {
                return Some((*at, Block::of(off)?));
            }
            *at += 1;
        }
        Some((NONE, Block::open(task)?))
    }

    fn begin(&mut self, position: u32, segment: &Segment) {
        let Some((block, it)) = self.find(position, segment) else {
            return;
        };
        let task = self.members.tasks[position as usize];
        let near = |member: u32| self.now[member as usize].stretch as usize;
        let part = part(self.blocks, self.members, task, &it, near);
        let now = &mut self.now[position as usize];
        (now.part, now.block, now.start_ns) = (Some(part), block, it.start_ns);
        let counted = match part {
            Part::Edge { to, from, .. } => {
                let counted = part.during(self.counted(to));
                if !matches!(counted, Part::Edge { .. }) {
                    let entry = (from.ns, position, it.start_ns);
                    self.pending[to as usize].push(Reverse(entry));
                }
                counted
            }
            part => part,
        };
        self.standing.enter(position, counted);
        self.count_edges_to(position);
    }

    /// The block that a member is in: when it began, and the part that counts.
    fn counted(&self, position: u32) -> Option<(u64, Part)> {
        let part = self.standing.part(position)?;
        Some((self.now[position as usize].start_ns, part))
    }

    /// Edges to a member that count from now on.
    fn count_edges_to(&mut self, position: u32) {
        let mut changed = vec![position];
        while let Some(position) = changed.pop() {
            let waker = self.counted(position);
            let mut not_yet = Vec::new();
            while let Some(Reverse(entry)) = self.pending[position as usize].peek().copied()
                && waker.is_some_and(|(start_ns, _)| entry.0 <= start_ns)
            {
                self.pending[position as usize].pop();
                let (_, from, start_ns) = entry;
                let now = self.now[from as usize];
                if let Some(part @ Part::Edge { to, .. }) = now.part
                    && (to, now.start_ns) == (position, start_ns)
                {
                    if part.during(waker) == part {
                        self.standing.leave(from);
                        self.standing.enter(from, part);
                        changed.push(from);
                    } else {
                        not_yet.push(Reverse(entry));
                    }
                }
            }
            self.pending[position as usize].extend(not_yet);
        }
    }

    fn end(&mut self, position: u32) {
        self.now[position as usize].part = None;
        self.standing.leave(position);
    }

    /// The verdict on an episode that ends when the state of `next` changes, and
    /// its root.
    fn verdict(&self, next: u32) -> (Verdict, u32) {
        let counts = self.standing.counts();
        if counts.edges > 0 {
            let from = self.standing.most_waited_for(next);
            let root = from.and_then(|from| self.standing.root(from));
            return match root {
                Some(root) if self.standing.part(root) != Some(Part::Unknown) => {
                    (Verdict::Caused, root)
                }
                Some(root) => (Verdict::Unknown, root),
                None => (Verdict::Unknown, next),
            };
        }
        if counts.unknown > 0 {
            return (Verdict::Unknown, next);
        }
        match *self.standing.busy() {
            [] if counts.input > 0 => (Verdict::Idle, next),
            [] if counts.time > 1 => (Verdict::Coincidence, next),
            // The others wait for work of their own group.
            [] if counts.time == 1 => (Verdict::Idle, next),
            [] => (Verdict::Unknown, next),
            // The others have nothing to do.
            [alone] => (Verdict::CommonCause, alone),
            _ if self.busy_have_one_cause() => (Verdict::CommonCause, self.first_busy(next)),
            _ if counts.abroad > 1 => (Verdict::Unknown, self.first_busy(next)),
            _ => (Verdict::Coincidence, self.first_busy(next)),
        }
    }

    /// Of those that are not idle the one that ends the episode, or else has waited
    /// longest.
    fn first_busy(&self, next: u32) -> u32 {
        let busy = self.standing.busy();
        if busy.contains(&next) {
            return next;
        }
        let start_ns = |position: &u32| (self.now[*position as usize].start_ns, *position);
        busy.iter().copied().min_by_key(start_ns).unwrap_or(next)
    }

    /// What an episode with this verdict and root is put down to.
    fn key(&self, verdict: Verdict, root: u32) -> CauseKey {
        let block = self.block(root);
        let waker = block.map_or(Waker::None, |b| b.waker);
        // The same sync can be ended by a disk's interrupt or by a kernel thread.
        let by_kernel = self.standing.part(root) == Some(Part::Busy)
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
            alone: verdict == Verdict::CommonCause && self.standing.busy() == [root],
            root,
            syscall: block.map_or(NO_SYSCALL, |b| b.syscall),
            target: block.map_or(0, |b| self.target(b.target)),
            waker: if by_kernel { Waker::None } else { waker },
        }
    }

    fn target(&self, target: u32) -> u32 {
        match self.blocks.model.targets.get(target as usize) {
            // There are too many of them.
            None | Some(Target::PageFault(_)) => 0,
            Some(_) => match self.targets.get(target as usize) {
                None | Some(0) => target,
                Some(same) => *same,
            },
        }
    }

    /// Do those that wait neither for input nor for a time all wait for the same
    /// thing, or for the same process outside the group?
    fn busy_have_one_cause(&self) -> bool {
        let of = |position: &u32| {
            let block = self.block(*position);
            let target = block.map_or(0, |b| *self.targets.get(b.target as usize).unwrap_or(&0));
            let waker = block.and_then(|b| self.waker_process(&b));
            (target, waker)
        };
        let mut busy = self.standing.busy().iter().map(of);
        let Some((target, waker)) = busy.next() else {
            return false;
        };
        let (mut one_target, mut one_waker) = (target != 0, waker.is_some());
        for (other_target, other_waker) in busy {
            one_target &= other_target == target;
            one_waker &= other_waker == waker;
            if !one_target && !one_waker {
                return false;
            }
        }
        true
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

    fn close(&mut self) {
        let Some((key, found)) = self.open.take() else {
            return;
        };
        let (ns, verdict) = (found.ns(), key.verdict);
        self.findings.verdicts.of(verdict).add(ns);
        let sum = self.findings.causes.of(key);
        if sum.total.episodes == 0 || ns > sum.total.longest_ns {
            sum.longest = found;
        }
        sum.total.add(ns);
        if self.keep == 0 {
            return;
        }
        if self.kept.len() < self.keep {
            self.longest
                .push(Reverse((ns, Reverse(found.start_ns), self.kept.len())));
            self.kept.push((verdict, found));
        } else if let Some(mut least) = self.longest.peek_mut()
            && ns > least.0.0
        {
            let at = least.0.2;
            *least = Reverse((ns, Reverse(found.start_ns), at));
            self.kept[at] = (verdict, found);
        }
    }
}

impl Watcher for Watch<'_> {
    fn all_blocked(&mut self, start_ns: u64, end_ns: u64, next: usize) {
        let next = next as u32;
        let (verdict, root) = self.verdict(next);
        let key = self.key(verdict, root);
        let mut found = Found {
            start_ns,
            end_ns,
            next,
            root,
        };
        match &self.open {
            Some((_, before)) if before.end_ns == start_ns => found.start_ns = before.start_ns,
            _ => self.close(),
        }
        self.open = Some((key, found));
    }

    fn change(&mut self, task: usize, segment: Option<&Segment>) {
        self.end(task as u32);
        if let Some(segment) = segment
            && segment.state == State::Blocked
        {
            self.begin(task as u32, segment);
        }
    }
}
