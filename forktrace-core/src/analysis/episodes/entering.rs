//! Which members are blocked, and who holds them up.
//!
//! Who holds up a member is asked only when all are blocked. Most blocks of a busy workload are
//! over before that, so a member that blocks is noted, and *enters* the set of those that are
//! blocked when it is asked about. It enters at once where what counts of others can depend on
//! what its block was for, or on that it was there: if it waits for whatever comes first, and if
//! somebody waits for it whose edge does not count yet. So what counts is at any time the same as
//! if each had entered at once; a property test compares.

use super::{
    super::{
        blocks::{Block, Class},
        changes::{Early, NONE, Seen, Wait},
        held_by::{HeldBy, held_by_what},
        members::Members,
    },
    Watch,
    pending::Edge,
};

/// After so many blocks it is looked at whether those who begin enter anyway, and after several of
/// each member: all enter at once, and then none for a while.
const BLOCKS: u32 = 256;
const OF_EACH: u32 = 4;

/// How many of those who blocked entered.
pub(super) struct Entered<'a> {
    early: &'a Early,
    blocks: u32,
    entered: u32,
    is_early: bool,
}

impl<'a> Entered<'a> {
    pub(super) fn new(early: &'a Early) -> Self {
        Self {
            early,
            blocks: 0,
            entered: 0,
            is_early: false,
        }
    }

    /// Another one blocks. Where many enter, whoever reads their blocks can look ahead.
    fn count(&mut self, members: &Members<'_>) {
        self.blocks += 1;
        let wanted = (members.len() as u32).saturating_mul(OF_EACH).max(BLOCKS);
        if self.blocks >= wanted {
            let is_early = self.entered > wanted / 4;
            if is_early != self.is_early {
                self.early.set(members, is_early);
                self.is_early = is_early;
            }
            (self.blocks, self.entered) = (0, 0);
        }
    }
}

impl Watch<'_> {
    /// The block that a member is in.
    pub(super) fn block(&self, position: u32) -> Option<Block> {
        self.now[position as usize].it
    }

    pub(super) fn begin(&mut self, position: u32, wait: &Wait) {
        self.clock += 1;
        let now = &mut self.now[position as usize];
        (now.block, now.start_ns) = (wait.stretch, wait.block.start_ns);
        (now.it, now.seen, now.began) = (Some(wait.block), wait.seen, self.clock);
        self.entered.count(self.members);
        let awaited = !self.pending[position as usize].is_empty();
        if self.at_once || awaited || self.blocks.class(&wait.block) == Class::Anything {
            self.enter(position);
        } else if !now.is_fresh {
            now.is_fresh = true;
            self.fresh.push(position);
        }
    }

    pub(super) fn end(&mut self, position: u32) {
        let now = &mut self.now[position as usize];
        if now.it.take().is_none() {
            return;
        }
        self.clock += 1;
        now.ended = self.clock;
        if now.held_by.take().is_some() {
            self.blocked.leave(position);
            self.one_cause.leave(position);
        }
    }

    /// All that are blocked enter.
    pub(super) fn enter_all(&mut self) {
        while let Some(position) = self.fresh.pop() {
            self.now[position as usize].is_fresh = false;
            self.enter(position);
        }
    }

    /// A member enters, if it is blocked and has not.
    fn enter(&mut self, position: u32) {
        let now = &self.now[position as usize];
        let (Some(it), None) = (now.it, now.held_by) else {
            return;
        };
        self.entered.entered += 1;
        let task = self.members.tasks[position as usize];
        let (class, end, from) = match now.seen {
            Some(Seen { class, end, from }) => (class, end, from),
            None => {
                let end = self.blocks.end(task as usize, &it);
                (self.blocks.class(&it), end, None)
            }
        };
        let held_from = |waker: u32| {
            from.unwrap_or_else(|| {
                let mut near = self.near(waker);
                let waker = waker as usize;
                self.blocks.held_from((task, &it), waker, &mut near)
            })
        };
        let what = (class, end);
        let held_by = held_by_what(self.blocks, self.members, task, what, held_from);
        self.now[position as usize].held_by = Some(held_by);
        let counted = match held_by {
            HeldBy::Edge { to, from, class } => {
                let of_other = match class {
                    Class::Anything => {
                        self.enter(to);
                        self.counted(to)
                    }
                    // It does not matter what held that one up.
                    _ => self.was_in(to, position).map(|ns| (ns, HeldBy::Busy)),
                };
                let counted = held_by.during(of_other);
                if !matches!(counted, HeldBy::Edge { .. }) {
                    self.pending[to as usize].add(Edge {
                        from_ns: from.ns,
                        position,
                        start_ns: it.start_ns,
                        anything: class == Class::Anything,
                    });
                }
                counted
            }
            held_by => held_by,
        };
        self.blocked.enter(position, counted);
        if matches!(counted, HeldBy::Busy | HeldBy::Abroad) {
            let what = self.waits_for(&it);
            self.one_cause.enter(position, what);
        }
        self.count_edges_to(position);
    }

    /// A stretch of a task not far from what it does now.
    fn near(&self, task: u32) -> usize {
        let position = self.members.position(task);
        let block = position.map(|it| self.now[it as usize].block);
        block.filter(|it| *it != NONE).map_or(0, |it| it as usize)
    }

    /// When the last block began that a member was in at any time since another one is in its
    /// own.
    fn was_in(&self, position: u32, since: u32) -> Option<u64> {
        let (of, since) = (&self.now[position as usize], self.now[since as usize].began);
        (of.it.is_some() || of.ended > since).then_some(of.start_ns)
    }

    /// The block that a member is in: when it began, and what counts of what holds it up.
    fn counted(&self, position: u32) -> Option<(u64, HeldBy)> {
        let held_by = self.blocked.held_by(position)?;
        Some((self.now[position as usize].start_ns, held_by))
    }

    /// Edges to a member that count from now on.
    fn count_edges_to(&mut self, position: u32) {
        let mut changed = std::mem::take(&mut self.changed);
        changed.push(position);
        while let Some(position) = changed.pop() {
            if self.pending[position as usize].is_empty() {
                continue;
            }
            let Some((start_ns, held_by)) = self.counted(position) else {
                continue;
            };
            let now = &self.now;
            let lasts = |edge: &Edge| {
                let of = &now[edge.position as usize];
                let here = matches!(of.held_by, Some(HeldBy::Edge { to, .. }) if to == position);
                here && of.start_ns == edge.start_ns
            };
            let input = held_by == HeldBy::Input;
            let due = self.pending[position as usize].due(start_ns, input, lasts);
            for edge in due {
                if let Some(held_by) = self.now[edge.position as usize].held_by {
                    self.blocked.leave(edge.position);
                    self.blocked.enter(edge.position, held_by);
                    changed.push(edge.position);
                }
            }
        }
        self.changed = changed;
    }
}
