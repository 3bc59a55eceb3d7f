//! What all tasks do, one change after the other.
//!
//! Each task's life is read in its order, a window of time of all of them at once, and what
//! happens in a window is sorted. So a task's stretches are read once, one after the other,
//! whoever wants to know: groups of any kind go through the same windows. What is wanted of a
//! block is looked at on the way, once for all groups (see [`Look`]).
//!
//! A window is as long as it takes for some thousand changes; it never holds many more, however
//! they come: those that a window has no room for wait for the next one.

mod sorted;

use std::sync::atomic::{AtomicU8, Ordering};

use super::{
    blocks::{Block, Blocks, Class, End, HeldFrom, Looks},
    members::Members,
};
use crate::model::{InSyscall, Model, Off, Segment, Segments, State};
use sorted::Room;

/// Changes that a window is to have at least, on average.
const CHANGES: usize = 4096;

/// A window has no more so that each task has some.
const MANY_CHANGES: usize = 1 << 15;

/// What so few tasks do is merged as it is read, and not sorted.
const FEW_LINES: usize = 4;

/// No wait, or none of the task's stretches.
pub(super) const NONE: u32 = u32::MAX;

/// A task's state changes, or its life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) at_ns: u64,
    /// Index in the model.
    pub(super) task: u32,
    /// Where in [`Window::waits`] the block is that begins; [`NONE`]: none does.
    wait: u32,
    /// `None`: its life ends.
    pub(super) state: Option<State>,
    /// That it is blocked in.
    pub(super) syscall: Option<InSyscall>,
}

impl Change {
    /// To this segment; `None`: the task's life ends.
    pub(super) fn new(at_ns: u64, task: u32, to: Option<&Segment>) -> Self {
        Self {
            at_ns,
            task,
            wait: NONE,
            state: to.map(|segment| segment.state),
            syscall: to.and_then(|segment| segment.syscall),
        }
    }
}

/// A block that begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wait {
    /// Index of its stretch, or [`NONE`]: it is open when the recording ends.
    pub(super) stretch: u32,
    pub(super) block: Block,
    /// If it was looked at what it was.
    pub(super) seen: Option<Seen>,
}

/// What is seen of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) class: Class,
    pub(super) end: End,
    /// Where a task ended it.
    pub(super) from: Option<HeldFrom>,
}

/// Whose blocks are looked at ahead, by who reads them: since it is a thread of its own, that
/// is better where most are looked at anyway. It makes no other difference.
pub(super) struct Early {
    /// A bit for those who tell of all tasks, one for those who tell of groups of some.
    tasks: Vec<AtomicU8>,
}

impl Early {
    /// Of so many tasks: those of none.
    pub(super) fn new(tasks: usize) -> Self {
        Self {
            tasks: (0..tasks).map(|_| AtomicU8::new(0)).collect(),
        }
    }

    /// From now on those of these members, or not any more, as far as who tells of them goes.
    pub(super) fn set(&self, members: &Members<'_>, are: bool) {
        let bit = 1 << u8::from(members.group != 0);
        for at in &members.tasks {
            let task = &self.tasks[*at as usize];
            match are {
                true => task.fetch_or(bit, Ordering::Relaxed),
                false => task.fetch_and(!bit, Ordering::Relaxed),
            };
        }
    }

    fn has(&self, task: usize) -> bool {
        self.tasks[task].load(Ordering::Relaxed) != 0
    }
}

/// Looks at a block when it begins, for whoever sweeps.
pub(super) trait Look {
    /// What was seen.
    type Seen: Copy;

    /// A task (index in the model) blocks. `stretch`: which of its stretches that is; `None`:
    /// the one that is open when the recording ends.
    fn look(&mut self, task: u32, stretch: Option<(usize, &Off)>) -> Option<Self::Seen>;
}

/// Some changes that follow each other, and what was seen of blocks.
pub(super) struct Window<T = Wait> {
    changes: Vec<Change>,
    waits: Vec<T>,
}

impl<T: Copy> Window<T> {
    /// In the order of time; of one moment in the order of the tasks.
    pub(super) fn changes(&self) -> impl Iterator<Item = (&Change, Option<&T>)> {
        let wait = |change: &Change| self.waits.get(change.wait as usize);
        self.changes
            .iter()
            .map(move |change| (change, wait(change)))
    }
}

/// A task on its way.
struct Line<'a> {
    /// [`NONE`]: its life is over.
    task: u32,
    segments: Segments<'a>,
    /// When its state changes.
    at_ns: u64,
    end_ns: u64,
}

/// Goes over windows.
pub(super) struct Changes<'a, L: Look> {
    model: &'a Model,
    look: L,
    /// Tasks that have not begun, the last one first.
    later: Vec<u32>,
    /// Those that live.
    lines: Vec<Line<'a>>,
    /// What the last window had no room for.
    left: Vec<(Change, Option<L::Seen>)>,
    /// Lines are in the order of the tasks: all that there were so far.
    by_task: bool,
    room: Room,
    /// Windows that are over: memory that is at hand is not asked for again.
    over: Vec<Window<L::Seen>>,
    /// How long a window is, ns.
    length_ns: u64,
    least: usize,
}

impl<'a, L: Look> Changes<'a, L> {
    /// Of these tasks, by index in the model.
    pub(super) fn new(model: &'a Model, tasks: &[u32], look: L) -> Self {
        Self::in_windows_of(CHANGES, model, tasks, look)
    }

    fn in_windows_of(least: usize, model: &'a Model, tasks: &[u32], look: L) -> Self {
        let all = &model.tasks;
        let mut later = tasks.to_vec();
        later.sort_by_key(|at| std::cmp::Reverse((all[*at as usize].start_ns, *at)));
        Self {
            model,
            look,
            later,
            lines: Vec::new(),
            left: Vec::new(),
            by_task: true,
            room: Room::default(),
            over: Vec::new(),
            length_ns: 1 << 20,
            least,
        }
    }

    /// A window was looked at.
    pub(super) fn is_over(&mut self, mut window: Window<L::Seen>) {
        window.changes.clear();
        window.waits.clear();
        self.over.push(window);
    }

    /// The next window; `None`: nothing happens any more.
    pub(super) fn next(&mut self) -> Option<Window<L::Seen>> {
        let from_ns = self.soonest()?;
        let mut last_ns = from_ns.saturating_add(self.length_ns);
        let mut window = self.over.pop().unwrap_or_else(|| Window {
            changes: Vec::new(),
            waits: Vec::new(),
        });
        let by_task = self.by_task && self.left.is_empty();
        self.left.retain(|(change, wait)| {
            let now = change.at_ns <= last_ns;
            if now {
                window.add(*change, *wait);
            }
            !now
        });
        self.begin(last_ns);
        let room = 4 * self.wanted();
        if self.lines.len() <= FEW_LINES && window.changes.is_empty() {
            last_ns = self.merge(room, last_ns, &mut window);
            self.lines.retain(|line| line.task != NONE);
        } else {
            let left = &mut self.left;
            window.keep(room, from_ns, &mut last_ns, left);
            for line in &mut self.lines {
                while line.at_ns <= last_ns && line.task != NONE {
                    line.go_on(last_ns, room, (&mut self.look, &mut window));
                    window.keep(room, from_ns, &mut last_ns, left);
                }
            }
            self.lines.retain(|line| line.task != NONE);
            let lines = self.lines.len();
            let by_task = by_task && self.by_task;
            sorted::sort(
                &mut window.changes,
                (from_ns, lines),
                by_task,
                &mut self.room,
            );
        }
        let wanted = self.wanted();
        let length_ns = last_ns - from_ns;
        self.length_ns = match window.changes.len() {
            few if few < wanted / 2 => length_ns.saturating_mul(2),
            many if many > 2 * wanted => length_ns / 2,
            _ => length_ns,
        };
        self.length_ns = self.length_ns.max(1);
        Some(window)
    }

    /// Adds what the tasks do until `last_ns`, in order, up to so many changes; gives until when
    /// that is.
    fn merge(&mut self, room: usize, last_ns: u64, window: &mut Window<L::Seen>) -> u64 {
        let when = |line: &Line<'_>| (line.at_ns, line.task);
        loop {
            let (mut first, mut then) = (None, (last_ns, NONE));
            for (at, line) in self.lines.iter().enumerate() {
                if line.task == NONE || line.at_ns > last_ns {
                    continue;
                }
                match first.map(|first: usize| when(&self.lines[first])) {
                    Some(before) if before < when(line) => then = then.min(when(line)),
                    Some(before) => (first, then) = (Some(at), before),
                    None => first = Some(at),
                }
            }
            let Some(line) = first.map(|at| &mut self.lines[at]) else {
                return last_ns;
            };
            // Of one moment it comes first if its task does.
            let until_ns = match line.task < then.1 {
                true => then.0,
                false => then.0 - 1,
            };
            line.go_on(until_ns, room - 1, (&mut self.look, window));
            if let Some(last) = window
                .changes
                .last()
                .filter(|_| window.changes.len() >= room)
            {
                return last.at_ns;
            }
        }
    }

    /// So many changes a window is to have: of many tasks some of each, since what is known of a
    /// task is not at hand when its turn comes.
    fn wanted(&self) -> usize {
        let lines = self.lines.len();
        self.least
            .max(4 * lines)
            .max((16 * lines).min(MANY_CHANGES))
    }

    /// When something happens next.
    fn soonest(&self) -> Option<u64> {
        let tasks = &self.model.tasks;
        let begins = self.later.last().map(|at| tasks[*at as usize].start_ns);
        let left = self.left.iter().map(|(change, _)| change.at_ns);
        let lines = self.lines.iter().map(|line| line.at_ns);
        lines.chain(left).chain(begins).min()
    }

    /// Tasks that begin in this window.
    fn begin(&mut self, last_ns: u64) {
        let tasks = &self.model.tasks;
        while let Some(at) = self
            .later
            .pop_if(|at| tasks[*at as usize].start_ns <= last_ns)
        {
            let task = &tasks[at as usize];
            let segments = task.segments();
            // One that never lived changes nothing.
            if let Some(at_ns) = segments.next_ns() {
                self.by_task &= self.lines.last().is_none_or(|last| last.task < at);
                self.lines.push(Line {
                    task: at,
                    segments,
                    at_ns,
                    end_ns: task.end_ns,
                });
            }
        }
    }
}

impl<T: Copy> Window<T> {
    /// Makes the window shorter until it has no more changes than there is room for, if it is
    /// longer than a moment: the others are `left`.
    #[inline]
    fn keep(
        &mut self,
        room: usize,
        from_ns: u64,
        last_ns: &mut u64,
        left: &mut Vec<(Change, Option<T>)>,
    ) {
        while self.changes.len() > room && *last_ns > from_ns {
            *last_ns = from_ns + (*last_ns - from_ns) / 2;
            self.changes.retain(|change| {
                let now = change.at_ns <= *last_ns;
                if !now {
                    let wait = self.waits.get(change.wait as usize);
                    left.push((*change, wait.copied()));
                }
                now
            });
        }
    }

    fn add(&mut self, mut change: Change, wait: Option<T>) {
        change.wait = match wait {
            Some(wait) => {
                self.waits.push(wait);
                self.waits.len() as u32 - 1
            }
            None => NONE,
        };
        self.changes.push(change);
    }
}

impl Line<'_> {
    /// Adds what the task does until this time, at least one change, until the window has more than
    /// so many. After the last one it is no task's any more.
    #[inline]
    fn go_on<L: Look>(
        &mut self,
        until_ns: u64,
        most: usize,
        (look, window): (&mut L, &mut Window<L::Seen>),
    ) {
        let (task, len) = (self.task, window.changes.len());
        let before_ns = until_ns.saturating_add(1);
        self.segments.each_before(before_ns, |segment, stretch| {
            let wait = match segment.state {
                State::Blocked => look.look(task, stretch),
                _ => None,
            };
            window.add(Change::new(segment.start_ns, task, Some(segment)), wait);
            window.changes.len() <= most
        });
        let has_room = window.changes.len() <= most || window.changes.len() == len;
        match self.segments.next_ns() {
            Some(at_ns) => self.at_ns = at_ns,
            None if self.end_ns <= until_ns && has_room => {
                window.add(Change::new(self.end_ns, task, None), None);
                self.task = NONE;
            }
            None => self.at_ns = self.end_ns,
        }
    }
}

/// Looks at what a block was for, what ended it, and from when on its waker held it up, where
/// that will be wanted.
pub(super) struct Waits<'a> {
    blocks: &'a Blocks<'a>,
    early: &'a Early,
    /// By task: the stretch that it was last in.
    near: Vec<u32>,
    /// By task: who woke it last, and after which of that one's stretches.
    wakers: Vec<(u32, u32)>,
    /// By task: its stretches, as one that wakes others.
    looks: Vec<Looks<'a>>,
}

impl<'a> Waits<'a> {
    pub(super) fn new(blocks: &'a Blocks<'a>, early: &'a Early) -> Self {
        let tasks = blocks.model.tasks.len();
        Self {
            blocks,
            early,
            near: vec![0; tasks],
            wakers: vec![(NONE, 0); tasks],
            looks: blocks.model.tasks.iter().map(Looks::of).collect(),
        }
    }

    fn seen(&mut self, task: u32, block: &Block, class: Class) -> Seen {
        let (blocks, of) = (self.blocks, task as usize);
        let end = blocks.end(of, block);
        let from = match end {
            End::Task(waker) if class != Class::Time => {
                let last = &mut self.wakers[of];
                if last.0 != waker {
                    *last = (waker, self.near[waker as usize]);
                }
                let mut near = last.1 as usize;
                let waker = waker as usize;
                let looks = (&mut near, &mut self.looks[waker]);
                let from = blocks.held_from_seen((task, block), waker, looks);
                last.1 = near as u32;
                Some(from)
            }
            _ => None,
        };
        Seen { class, end, from }
    }
}

impl Look for Waits<'_> {
    type Seen = Wait;

    fn look(&mut self, task: u32, stretch: Option<(usize, &Off)>) -> Option<Wait> {
        let (blocks, of) = (self.blocks, task as usize);
        let (stretch, block) = match stretch {
            Some((at, off)) => (at as u32, Block::of(*off)?),
            None => (NONE, Block::open(&blocks.model.tasks[of])?),
        };
        if stretch != NONE {
            self.near[of] = stretch;
        }
        let class = blocks.class(&block);
        let wanted = class == Class::Anything || self.early.has(of);
        Some(Wait {
            stretch,
            block,
            seen: wanted.then(|| self.seen(task, &block, class)),
        })
    }
}

#[cfg(test)]
#[path = "changes_tests.rs"]
pub(super) mod tests;
