//! Episodes in which all of a group were blocked: what can be said of each, and
//! sums over all of them.
//!
//! There can be a million of them in a group of a thousand tasks, so nothing here
//! looks at each task for each episode. Figures are kept up to date as blocks
//! begin and end, and the verdict on an episode is read off them. In an episode
//! each task is in one block, and that block tells who will end it: either
//! another task of the group, which is blocked as well (an edge), or something
//! else. So the edges of an episode are there at once, though most of its blocks
//! end long after it.
//!
//! A waker that waits for input again and again, and wakes another after the
//! hundredth time, held that one up the last time only. So an edge counts from the
//! waker's last wait for input on; where a task waits for the other's end, it
//! counts all the time.

use std::{cmp::Reverse, collections::BinaryHeap};

use super::{
    blocks::{Block, Blocks, Class, End},
    families::NO_SYSCALL,
    profile::Watcher,
    tally::Tally,
};
use crate::{
    model::{Segment, State, Task},
    report::Verdict,
    trace::Waker,
};

/// No chain is followed further.
pub(super) const DEPTH: usize = 64;

const NONE: u32 = u32::MAX;

/// A group's tasks.
pub(super) struct Members<'a> {
    /// [`crate::report::Group::id`].
    pub(super) group: u32,
    /// Indices in the model, ascending.
    pub(super) tasks: Vec<u32>,
    /// The position in `tasks` of a task of the model, if it is one of its own
    /// group.
    pub(super) positions: &'a [u32],
}

impl Members<'_> {
    /// The position of a task of the model.
    #[inline]
    pub(super) fn position(&self, task: u32) -> Option<u32> {
        let position = *self.positions.get(task as usize)?;
        (self.tasks.get(position as usize) == Some(&task)).then_some(position)
    }
}

/// A block's part in the verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// A member woke it.
    Edge {
        /// Its position.
        to: u32,
        /// It counts in blocks of that member which began at this time or later.
        from_ns: u64,
        /// It waited for input.
        input: bool,
    },
    /// A member woke it, after it had waited for other input first.
    Later,
    /// It waited for input from outside the group.
    Input,
    /// It waited for a time.
    Time,
    /// It waited for something else, which came from outside the group.
    Busy,
    /// The same, and a task of another process of the workload brought it: what
    /// that one waited for is not looked at.
    Abroad,
    /// What it waited for did not come.
    NotWoken,
    /// The record does not tell who woke it.
    Unknown,
}

impl Part {
    /// Its part while the member that it may lead to is in a block that began at
    /// this time.
    #[inline]
    pub(super) fn during(self, start_ns: Option<u64>) -> Self {
        match self {
            Self::Edge { from_ns, input, .. } if start_ns.is_none_or(|start| start < from_ns) => {
                match input {
                    true => Self::Input,
                    false => Self::Later,
                }
            }
            part => part,
        }
    }
}

/// The part of a block of a member. `near` gives a stretch of another member not
/// long before.
pub(super) fn part(
    blocks: &Blocks<'_>,
    members: &Members<'_>,
    task: u32,
    block: &Block,
    near: impl Fn(u32) -> usize,
) -> Part {
    let class = blocks.class(block);
    let without_end = match class {
        Class::Input => Part::Input,
        Class::Time => Part::Time,
        Class::Busy => Part::NotWoken,
    };
    match blocks.end(task as usize, block) {
        End::Unknown => Part::Unknown,
        End::CutShort | End::Nobody => without_end,
        // A task that wakes a sleeper cuts its sleep short.
        _ if class == Class::Time => Part::Time,
        End::Task(waker) => match (members.position(waker), class) {
            (Some(to), class) => Part::Edge {
                to,
                from_ns: blocks.held_from_ns(block, waker as usize, near(to)),
                input: class == Class::Input,
            },
            (None, Class::Input) => Part::Input,
            (None, _) => Part::Abroad,
        },
        End::Outside | End::Interrupt => match class {
            Class::Input => Part::Input,
            _ => Part::Busy,
        },
    }
}

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
    root: u32,
    syscall: i16,
    target: u32,
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
    /// Position of the root.
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
    /// Its part in an episode now.
    counted: Option<Part>,
    /// When its block began.
    start_ns: u64,
    /// Its block: an index of a stretch, or [`NONE`] for the open one.
    block: u32,
    /// Where it is in `Counts::busy`.
    busy_at: u32,
    /// How many edges lead to it, and its place among those with as many.
    edges: u32,
    edges_at: u32,
}

/// Watches a sweep over a group.
pub(super) struct Watch<'a> {
    blocks: &'a Blocks<'a>,
    members: &'a Members<'a>,
    /// For each target the one that stands for all that are the same.
    targets: &'a [u32],
    keep: usize,
    now: Vec<Now>,
    counts: Counts,
    busy: Vec<u32>,
    /// Members by how many edges lead to them, from 1.
    by_edges: Vec<Vec<u32>>,
    most_edges: usize,
    /// By member: edges to it that don't count yet, by when they will.
    pending: Vec<BinaryHeap<Reverse<(u64, u32, u64)>>>,
    open: Option<(CauseKey, Found)>,
    findings: Findings,
    longest: BinaryHeap<Reverse<(u64, Reverse<u64>, usize)>>,
    kept: Vec<(Verdict, Found)>,
}

/// Blocked members by part.
#[derive(Default)]
struct Counts {
    edges: u32,
    input: u32,
    time: u32,
    abroad: u32,
    unknown: u32,
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
            counted: None,
            start_ns: 0,
            block: NONE,
            busy_at: 0,
            edges: 0,
            edges_at: 0,
        };
        Self {
            blocks,
            members,
            targets,
            keep,
            now: vec![now; members.tasks.len()],
            counts: Counts::default(),
            busy: Vec::new(),
            by_edges: vec![Vec::new()],
            most_edges: 0,
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
            Part::Edge { to, from_ns, .. } => {
                let waker = &self.now[to as usize];
                let counted = part.during(waker.part.map(|_| waker.start_ns));
                if !matches!(counted, Part::Edge { .. }) {
                    let entry = (from_ns, position, it.start_ns);
                    self.pending[to as usize].push(Reverse(entry));
                }
                counted
            }
            part => part,
        };
        self.count(position, counted);
        // Edges to it that count from now on.
        while let Some(Reverse((from_ns, from, start_ns))) =
            self.pending[position as usize].peek().copied()
            && from_ns <= it.start_ns
        {
            self.pending[position as usize].pop();
            let now = self.now[from as usize];
            if let Some(part @ Part::Edge { to, .. }) = now.part
                && (to, now.start_ns) == (position, start_ns)
            {
                self.discount(from);
                self.count(from, part);
            }
        }
    }

    fn count(&mut self, position: u32, part: Part) {
        let now = &mut self.now[position as usize];
        now.counted = Some(part);
        match part {
            Part::Edge { to, .. } => {
                self.counts.edges += 1;
                self.add_edge(to);
            }
            Part::Input => self.counts.input += 1,
            Part::Time => self.counts.time += 1,
            Part::Busy | Part::Abroad => {
                now.busy_at = self.busy.len() as u32;
                self.busy.push(position);
                self.counts.abroad += u32::from(part == Part::Abroad);
            }
            Part::Later | Part::NotWoken => {}
            Part::Unknown => self.counts.unknown += 1,
        }
    }

    fn end(&mut self, position: u32) {
        self.now[position as usize].part = None;
        self.discount(position);
    }

    fn discount(&mut self, position: u32) {
        let now = &mut self.now[position as usize];
        match now.counted.take() {
            Some(Part::Edge { to, .. }) => {
                self.counts.edges -= 1;
                self.remove_edge(to);
            }
            Some(Part::Input) => self.counts.input -= 1,
            Some(Part::Time) => self.counts.time -= 1,
            Some(part @ (Part::Busy | Part::Abroad)) => {
                let at = now.busy_at;
                self.counts.abroad -= u32::from(part == Part::Abroad);
                self.busy.swap_remove(at as usize);
                if let Some(moved) = self.busy.get(at as usize) {
                    self.now[*moved as usize].busy_at = at;
                }
            }
            Some(Part::Later | Part::NotWoken) | None => {}
            Some(Part::Unknown) => self.counts.unknown -= 1,
        }
    }

    fn add_edge(&mut self, to: u32) {
        self.take_from_its_bucket(to);
        self.now[to as usize].edges += 1;
        self.put_into_its_bucket(to);
        self.most_edges = self.most_edges.max(self.now[to as usize].edges as usize);
    }

    fn remove_edge(&mut self, to: u32) {
        self.take_from_its_bucket(to);
        self.now[to as usize].edges -= 1;
        self.put_into_its_bucket(to);
        // It went down by one, so the bucket below is not empty.
        if self.by_edges[self.most_edges].is_empty() && self.most_edges > 0 {
            self.most_edges -= 1;
        }
    }

    fn take_from_its_bucket(&mut self, position: u32) {
        let Now {
            edges, edges_at, ..
        } = self.now[position as usize];
        if edges > 0 {
            let bucket = &mut self.by_edges[edges as usize];
            bucket.swap_remove(edges_at as usize);
            if let Some(moved) = bucket.get(edges_at as usize) {
                self.now[*moved as usize].edges_at = edges_at;
            }
        }
    }

    fn put_into_its_bucket(&mut self, position: u32) {
        let now = &mut self.now[position as usize];
        if now.edges > 0 {
            let edges = now.edges as usize;
            if self.by_edges.len() <= edges {
                self.by_edges.resize(edges + 1, Vec::new());
            }
            now.edges_at = self.by_edges[edges].len() as u32;
            self.by_edges[edges].push(position);
        }
    }

    /// The verdict on an episode that ends when the state of `next` changes, and
    /// its root.
    fn verdict(&self, next: u32) -> (Verdict, u32) {
        let counts = &self.counts;
        if counts.edges > 0 {
            let most = self.most_edges as u32;
            let from = if self.now[next as usize].edges == most {
                Some(next)
            } else {
                self.by_edges[self.most_edges].last().copied()
            };
            let root = from.and_then(|from| self.root(from));
            return match root {
                Some(root) if self.now[root as usize].counted != Some(Part::Unknown) => {
                    (Verdict::Caused, root)
                }
                Some(root) => (Verdict::Unknown, root),
                None => (Verdict::Unknown, next),
            };
        }
        let verdict = if counts.unknown > 0 {
            Verdict::Unknown
        } else {
            match self.busy.len() {
                0 if counts.input > 0 => Verdict::Idle,
                0 if counts.time > 1 => Verdict::Coincidence,
                0 => Verdict::Unknown,
                1 => Verdict::Coincidence,
                _ if self.busy_have_one_cause() => Verdict::CommonCause,
                _ if counts.abroad > 1 => Verdict::Unknown,
                _ => Verdict::Coincidence,
            }
        };
        (verdict, next)
    }

    /// What an episode with this verdict and root is put down to.
    fn key(&self, verdict: Verdict, root: u32) -> CauseKey {
        let block = self.block(root);
        let target = block.map_or(0, |b| *self.targets.get(b.target as usize).unwrap_or(&0));
        CauseKey {
            verdict,
            root,
            syscall: block.map_or(NO_SYSCALL, |b| b.syscall),
            target,
            waker: block.map_or(Waker::None, |b| b.waker),
        }
    }

    /// The end of the chain that begins here.
    fn root(&self, from: u32) -> Option<u32> {
        let mut at = from;
        for _ in 0..DEPTH {
            match self.now[at as usize].counted? {
                Part::Edge { to, .. } => at = to,
                _ => return Some(at),
            }
        }
        None
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
        let mut busy = self.busy.iter().map(of);
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
