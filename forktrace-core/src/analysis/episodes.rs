//! Episodes in which all of a group were blocked: what can be said of each, and
//! sums over all of them.
//!
//! There can be a million of them in a group of a thousand tasks, so nothing here
//! looks at each task for each episode. Figures are kept up to date as blocks
//! begin and end ([`super::blocked_set`]), and the verdict on an episode is read off
//! them.

use std::{cell::Cell, cmp::Reverse, collections::BinaryHeap};

use super::{
    blocked_set::BlockedSet,
    blocks::{Block, Blocks, Class, LOOK_UP_NS},
    changes::{Change, Early, NONE, Seen, Wait},
    held_by::HeldBy,
    members::Members,
    profile::Watcher,
    providers::Kin,
    standstill::Hang,
    sum_by_key::SumByKey,
};
use crate::{
    model::{FutexKey, Part, State, Target, Task},
    report::{Ended, Verdict},
    trace::{Interrupt, Timeout, Waker, Why},
};

mod entering;
#[cfg(test)]
mod entering_tests;
mod one_cause;
mod pending;
mod verdict;

use entering::Entered;
use one_cause::OneCause;
use pending::Pending;

/// It is preempted on its way no more often.
const LOOK_UP_STRETCHES: usize = 8;
/// Of more than [`FEW_SHORT`] stalls that signals end, it is not asked who else could have
/// ended those that are shorter than this, ns: that takes a look at each task.
const INTERRUPTED_NS: u64 = 100_000_000;
const FEW_SHORT: u32 = 1000;

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
    pub(super) longest: Stall,
}

/// A stall.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stall {
    pub(super) start_ns: u64,
    pub(super) end_ns: u64,
    /// How long all were blocked.
    pub(super) ns: u64,
    pub(super) look_ups: u64,
    /// Position of the task whose state changes at the end.
    pub(super) next: u32,
    /// Position of the root: the task that the stall is put down to.
    pub(super) root: u32,
    /// Nothing that was waited for came.
    pub(super) unfulfilled: bool,
}

/// What comes of a group's sweep.
#[derive(Default)]
pub(super) struct Stalls {
    /// By verdict.
    pub(super) verdicts: SumByKey<Verdict, Total>,
    pub(super) causes: SumByKey<CauseKey, CauseSum>,
    /// The longest episodes, longest first.
    pub(super) longest: Vec<(Verdict, Stall)>,
}

/// A task as of now.
#[derive(Clone, Copy)]
struct Now {
    /// `None`: it has not entered. An edge counts from the time on that it says itself.
    held_by: Option<HeldBy>,
    /// When its block began, or the last one.
    start_ns: u64,
    /// Its block: an index of a stretch, or [`NONE`] for the open one.
    block: u32,
    /// The same, itself; `None`: it is not blocked.
    it: Option<Block>,
    /// What was seen of it already.
    seen: Option<Seen>,
    /// When it began, and when the last one ended, by [`Watch::clock`].
    began: u64,
    ended: u64,
    /// It is among those who have not entered.
    is_fresh: bool,
    /// From when to when it looked up last.
    looks_up_ns: (u64, u64),
}

/// A stall under way, or over if nothing follows it at once.
struct OpenStall {
    key: CauseKey,
    stall: Stall,
    /// Somebody's wait is over for good, or a task came.
    over: bool,
    /// How many looked up since all were blocked, and when the last of them waits again.
    look_ups: u64,
    awake_until_ns: u64,
    /// A timer of theirs came, and nothing else.
    tick: bool,
    /// One whose time ran out again got a CPU only at this time, and then did not wait any
    /// more.
    late: Option<Late>,
}

/// A member that looked up too late: what it waited for can have come while it was ready.
#[derive(Clone, Copy)]
struct Late {
    /// When it got a CPU.
    on_cpu_ns: u64,
    /// The process whose tasks can bring it.
    process: u32,
}

/// Watches a sweep over a group.
pub(super) struct Watch<'a> {
    blocks: &'a Blocks<'a>,
    kin: &'a Kin<'a>,
    members: &'a Members<'a>,
    /// For each target the one that stands for all that are the same.
    targets: &'a [u32],
    hangs: &'a [Hang],
    keep: usize,
    now: Vec<Now>,
    /// How many blocks began or ended so far.
    clock: u64,
    /// Those who are blocked, or were, and have not entered.
    fresh: Vec<u32>,
    entered: Entered<'a>,
    /// Each enters when it blocks.
    at_once: bool,
    blocked: BlockedSet,
    /// What those have in common who wait neither for input, nor for a time, nor for another
    /// member.
    one_cause: OneCause,
    /// By member: edges to it that don't count yet.
    pending: Vec<Pending>,
    open: Option<OpenStall>,
    /// How many short stalls signals ended, and when the last of them.
    short_ones: Cell<(u32, u64)>,
    /// Members that edges may count to from now on; kept for its room.
    changed: Vec<u32>,
    stalls: Stalls,
    longest: BinaryHeap<Reverse<(u64, Reverse<u64>, usize)>>,
    kept: Vec<(Verdict, Stall)>,
}

impl<'a> Watch<'a> {
    /// Keeps so many stalls. `early`: who is told whose blocks are to be looked at ahead.
    pub(super) fn new(
        kin: &'a Kin<'a>,
        members: &'a Members<'a>,
        targets: &'a [u32],
        hangs: &'a [Hang],
        (keep, early): (usize, &'a Early),
    ) -> Self {
        let now = Now {
            held_by: None,
            start_ns: 0,
            block: NONE,
            it: None,
            seen: None,
            began: 0,
            ended: 0,
            is_fresh: false,
            looks_up_ns: (0, 0),
        };
        Self {
            blocks: kin.blocks,
            kin,
            members,
            targets,
            hangs,
            keep,
            now: vec![now; members.tasks.len()],
            clock: 0,
            fresh: Vec::new(),
            entered: Entered::new(early),
            at_once: false,
            blocked: BlockedSet::new(members.tasks.len()),
            one_cause: OneCause::new(members.tasks.len()),
            pending: vec![Pending::default(); members.tasks.len()],
            open: None,
            short_ones: Cell::new((0, 0)),
            changed: Vec::new(),
            stalls: Stalls::default(),
            longest: BinaryHeap::new(),
            kept: Vec::new(),
        }
    }

    /// What came of it.
    pub(super) fn finish(mut self) -> Stalls {
        self.close();
        let mut kept: Vec<_> = self.longest.into_iter().map(|Reverse(l)| l).collect();
        kept.sort_by_key(|(ns, start, _)| Reverse((*ns, *start)));
        let longest = kept.into_iter().map(|(_, _, at)| self.kept[at]);
        self.stalls.longest = longest.collect();
        self.stalls
    }

    fn task(&self, position: u32) -> &'a Task {
        &self.blocks.model.tasks[self.members.tasks[position as usize] as usize]
    }

    fn close(&mut self) {
        let Some(OpenStall { key, stall, .. }) = self.open.take() else {
            return;
        };
        let (ns, verdict) = (stall.ns, key.verdict);
        if ns == 0 {
            // It is in no part that is reported on.
            return;
        }
        self.stalls.verdicts.of(verdict).add(ns);
        let sum = self.stalls.causes.of(key);
        if sum.total.episodes == 0 || ns > sum.total.longest_ns {
            sum.longest = stall;
        }
        sum.total.add(ns);
        if self.keep == 0 {
            return;
        }
        if self.kept.len() < self.keep {
            self.longest
                .push(Reverse((ns, Reverse(stall.start_ns), self.kept.len())));
            self.kept.push((verdict, stall));
        } else if let Some(mut least) = self.longest.peek_mut()
            && ns > least.0.0
        {
            let at = least.0.2;
            *least = Reverse((ns, Reverse(stall.start_ns), at));
            self.kept[at] = (verdict, stall);
        }
    }

    /// While a stall is under way, a member's state changes.
    fn goes_on_or_ends(&mut self, position: u32, to: &Change) {
        let looks_up_ns = self.now[position as usize].looks_up_ns;
        match (self.block(position), &mut self.open) {
            (Some(block), _) => self.leaves(position, &block),
            // A task came, or one that looked up ended.
            (None, Some(open))
                if to.state.is_none()
                    || !is_within(looks_up_ns, to.at_ns)
                        && open.late.is_none_or(|late| to.at_ns > late.on_cpu_ns) =>
            {
                open.over = true;
            }
            (None, _) => {}
        }
    }

    /// A member's block is over: does that end the stall under way?
    fn leaves(&mut self, position: u32, block: &Block) {
        if self.open.as_ref().is_none_or(|open| open.over) {
            return;
        }
        let alone = self.looks_up(position, block);
        let tick = alone.is_some() && self.is_tick(block);
        let until_ns = alone.or_else(|| self.looks_up_with(position, block));
        let late = match until_ns {
            None => self.late(position, block),
            Some(_) => None,
        };
        let process = self.task(position).process;
        let Some(open) = self.open.as_mut().filter(|open| !open.over) else {
            return;
        };
        let end_ns = block.wake_ns.unwrap_or(block.start_ns);
        let brought = open
            .late
            .map(|late| late.on_cpu_ns >= end_ns && late.process == process);
        let (woken_ns, back_ns) = self.now[position as usize].looks_up_ns;
        if (woken_ns..back_ns).contains(&block.start_ns) {
            // It had to wait for a moment on its way.
            return;
        }
        if let Some(until_ns) = until_ns {
            open.tick = match open.look_ups {
                0 => tick,
                _ => open.tick && (tick || alone.is_none()),
            };
            open.look_ups += 1;
            open.awake_until_ns = open.awake_until_ns.max(until_ns);
            self.now[position as usize].looks_up_ns = (end_ns, until_ns);
            return;
        }
        if let Some(late) = late.filter(|_| open.late.is_none()) {
            open.late = Some(late);
            return;
        }
        open.over = true;
        if let Some(brought) = brought {
            let stall = open.stall;
            if brought {
                self.put_late(position, stall, end_ns);
            }
            return;
        }
        let nobody = open.look_ups == 0 && open.awake_until_ns <= end_ns;
        if nobody || position == open.stall.next {
            return;
        }
        // Those who were awake went on to wait: it was this one. But one of them who woke
        // it did more than to look up.
        let waker = self.blocks.wakers.task(block.waker);
        let waker = waker.and_then(|waker| self.members.position(waker as u32));
        let looks_up = |at: u32| is_within(self.now[at as usize].looks_up_ns, end_ns);
        if waker.is_none_or(|waker| !looks_up(waker)) {
            let mut stall = open.stall;
            stall.end_ns = stall.end_ns.max(block.wake_ns.unwrap_or(stall.end_ns));
            self.put(position, stall);
        }
    }

    /// Will a member go on with the wait that is over, after a moment and without waiting
    /// for anything else? Its time ran out, or a signal interrupted it; whoever waits for
    /// whatever comes first has looked up as well where a timer came, and so has whoever has
    /// a time limit where it was not seen what came.
    /// Gives when it waits again.
    fn looks_up(&self, position: u32, block: &Block) -> Option<u64> {
        let task = self.members.tasks[position as usize] as usize;
        let again = match self.blocks.how(task, block) {
            Ended::TimedOut | Ended::Interrupted => true,
            Ended::Unknown => block.timeout != Timeout::None,
            _ => self.blocks.is_sleep(block) || self.is_tick(block),
        };
        again.then(|| self.goes_on(position, block))?
    }

    /// Did its time run out as often before, and did it have to wait for a CPU then? What it
    /// looks for can have come meanwhile.
    fn late(&self, position: u32, block: &Block) -> Option<Late> {
        let now = &self.now[position as usize];
        let again = now.looks_up_ns.1 == block.start_ns && now.looks_up_ns.0 < block.start_ns;
        let task = self.members.tasks[position as usize] as usize;
        if !again || self.blocks.how(task, block) != Ended::TimedOut {
            return None;
        }
        let off = self.task(position).stretches.get(now.block as usize)?;
        // Of others it is not known who could have brought it.
        let process = match self.blocks.model.targets.get(block.target as usize)? {
            Target::Futex(FutexKey::Private { process, .. }) => *process,
            _ => return None,
        };
        (off.in_ns > off.wake_ns).then_some(Late {
            on_cpu_ns: off.in_ns,
            process,
        })
    }

    /// Did a timer end a wait for whatever comes first?
    fn is_tick(&self, block: &Block) -> bool {
        self.blocks.class(block) == Class::Anything
            && matches!(
                block.waker,
                Waker::Interrupt(Interrupt::Timer | Interrupt::Soft(1 | 8))
            )
    }

    /// A runtime's thread that a timer woke can wake others, to see whether there is anything
    /// to do: they look up with it if they go on with what they waited for.
    fn looks_up_with(&self, position: u32, block: &Block) -> Option<u64> {
        self.open.as_ref().filter(|open| open.tick)?;
        let waker = self.blocks.wakers.task(block.waker)?;
        let waker = self.members.position(waker as u32)?;
        let looks_up_ns = self.now[waker as usize].looks_up_ns;
        is_within(looks_up_ns, block.wake_ns?).then(|| self.goes_on(position, block))?
    }

    /// Does a member wait for the same again after its block, before it does anything else
    /// but run, and wait for its own memory? Gives when.
    fn goes_on(&self, position: u32, block: &Block) -> Option<u64> {
        let (task, at) = (self.task(position), self.now[position as usize].block);
        let off = task.stretches.get(at as usize)?;
        let again = |syscall: i16, target: u32| {
            syscall == block.syscall && self.target(target) == self.target(block.target)
        };
        let (mut ran_ns, mut in_ns, mut seq) = (0u64, off.in_ns, off.seq);
        for next in task.stretches.from(at as usize + 1).take(LOOK_UP_STRETCHES) {
            ran_ns = ran_ns.saturating_add(next.out_ns.saturating_sub(in_ns));
            if next.seq != seq.wrapping_add(1) || ran_ns > LOOK_UP_NS {
                return None;
            }
            match next.state() {
                State::Blocked if again(next.syscall, next.target) => return Some(next.out_ns),
                State::Blocked if next.why == Why::Killable => {
                    ran_ns = ran_ns.saturating_add(next.in_ns.saturating_sub(next.out_ns));
                    (in_ns, seq) = (next.in_ns, next.seq);
                }
                State::Runnable => (in_ns, seq) = (next.in_ns, next.seq),
                _ => return None,
            }
        }
        let last = task.stretches.last().is_some_and(|last| last.seq == seq);
        let open = Block::open(task).filter(|open| last && open.seq == seq.wrapping_add(1));
        let open = open?;
        let ran_ns = ran_ns.saturating_add(open.start_ns.saturating_sub(in_ns));
        (ran_ns <= LOOK_UP_NS && again(open.syscall, open.target)).then_some(open.start_ns)
    }

    /// Puts the stall under way down to this member, whose wait ended when another one that
    /// had waited for it again and again had looked up, and was ready to run.
    fn put_late(&mut self, root: u32, mut stall: Stall, end_ns: u64) {
        self.enter_all();
        (stall.next, stall.root, stall.unfulfilled) = (root, root, false);
        stall.end_ns = stall.end_ns.max(end_ns);
        let key = self.key(Verdict::Caused, root);
        if let Some(open) = &mut self.open {
            (open.key, open.stall) = (key, stall);
        }
    }

    /// Puts the stall under way down to what its end by this member says.
    fn put(&mut self, next: u32, mut stall: Stall) {
        self.enter_all();
        let (verdict, root, unfulfilled) = self.verdict(next, (stall.start_ns, stall.end_ns));
        (stall.next, stall.root, stall.unfulfilled) = (next, root, unfulfilled);
        let key = self.key(verdict, root);
        match &mut self.open {
            Some(open) => (open.key, open.stall) = (key, stall),
            None => {
                self.open = Some(OpenStall {
                    key,
                    stall,
                    over: false,
                    look_ups: 0,
                    awake_until_ns: 0,
                    tick: false,
                    late: None,
                });
            }
        }
    }
}

/// Is it at this time, or just before it?
fn is_within((from_ns, until_ns): (u64, u64), at_ns: u64) -> bool {
    from_ns < until_ns && from_ns <= at_ns && at_ns <= until_ns
}

impl Watcher for Watch<'_> {
    fn all_blocked(&mut self, start_ns: u64, end_ns: u64, next: usize) {
        let next = next as u32;
        let mut stall = Stall {
            start_ns,
            ..Stall::default()
        };
        match &mut self.open {
            Some(open) if open.stall.end_ns == start_ns => {
                stall = open.stall;
                stall.look_ups += open.look_ups;
                open.over = false;
            }
            Some(open) if !open.over => {
                stall = open.stall;
                stall.look_ups += open.look_ups;
            }
            _ => self.close(),
        }
        if let Some(open) = &mut self.open {
            open.look_ups = 0;
        }
        stall.end_ns = end_ns;
        let ns = self.blocks.part.ns(start_ns, end_ns);
        stall.ns = stall.ns.saturating_add(ns);
        self.put(next, stall);
    }

    fn part(&self) -> &Part {
        self.blocks.part
    }

    fn change(&mut self, task: usize, to: &Change, wait: Option<&Wait>) {
        let position = task as u32;
        if self.open.as_ref().is_some_and(|open| !open.over) {
            self.goes_on_or_ends(position, to);
        }
        self.end(position);
        if let Some(wait) = wait {
            self.begin(position, wait);
        }
    }
}
