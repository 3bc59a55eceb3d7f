//! Cuts a task's life into segments.
//!
//! A task starts with a stretch off the CPU (number 0: created, not yet run) and
//! then alternates: off (blocked until its wakeup, runnable until it is switched
//! in), running, off, … Between stretch n and stretch n + 1 it ran. Where a
//! number is missing, all from the end of the one before to the start of the
//! next is unknown. Whatever the events say, segments never overlap, never leave
//! a gap, and stay within the task's life: times are clamped on the way.

use super::{InSyscall, Iter, Off, Segment, State, Task, state_of};
use crate::trace::{Waker, Why};

/// What a task was before this stretch, which should have the number `expected`; then that is the
/// number of the next one.
#[inline]
fn before(off: &Off, expected: &mut u32) -> State {
    let before = match off.seq == *expected {
        true => State::Running,
        false => State::Unknown,
    };
    *expected = off.seq.wrapping_add(1);
    before
}

/// Iterator over the segments of a task.
#[derive(Debug)]
pub struct Segments<'a> {
    task: &'a Task,
    stretches: Iter<'a>,
    /// Up to here segments have been given out.
    cursor: u64,
    /// Sequence number that should come next.
    expected: u32,
    /// How many stretches are before the one under way.
    at: usize,
    /// The stretch under way.
    part: Part,
    off: Times,
    stretch: Off,
}

/// The next part of the stretch under way.
#[derive(Clone, Copy, Debug)]
enum Part {
    /// Between the stretch before and this one.
    Before,
    /// Until it was woken.
    Away,
    /// Until it was switched in.
    Runnable,
    /// There are no more.
    Done,
}

impl Part {
    /// What comes after it, in the last stretch of a task or in another one.
    #[inline]
    fn next(self, last: bool) -> Self {
        match self {
            Self::Before => Self::Away,
            Self::Away => Self::Runnable,
            Self::Runnable if !last => Self::Before,
            Self::Runnable | Self::Done => Self::Done,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Times {
    wake_ns: u64,
    in_ns: u64,
    state: State,
    syscall: InSyscall,
    last: bool,
}

/// In place of a stretch before the first one.
const NONE: Off = Off {
    out_ns: 0,
    wake_ns: 0,
    in_ns: 0,
    seq: 0,
    syscall: -1,
    why: Why::New,
    flags: 0,
    waker: Waker::None,
    target: 0,
    timeout_us: 0,
};

impl<'a> Segments<'a> {
    pub(super) fn new(task: &'a Task) -> Self {
        Self {
            task,
            stretches: task.stretches.iter(),
            cursor: task.start_ns,
            expected: task.first_seq,
            at: usize::MAX,
            part: Part::Before,
            off: Times {
                wake_ns: 0,
                in_ns: 0,
                state: State::Unknown,
                syscall: InSyscall {
                    number: -1,
                    compat: false,
                },
                last: false,
            },
            stretch: NONE,
        }
    }

    /// Those from the stretch on that is not over at `from_ns`.
    pub(super) fn starting(task: &'a Task, from_ns: u64) -> Self {
        let mut segments = Self::new(task);
        let next = task.stretches.partition_point(|s| s.in_ns <= from_ns);
        segments.stretches = task.stretches.from(next);
        segments.at = next.wrapping_sub(1);
        if let Some(before) = next.checked_sub(1) {
            let before = task.stretches.at(before);
            segments.expected = before.seq.wrapping_add(1);
            segments.cursor = before.in_ns.clamp(task.start_ns, task.end_ns);
        }
        segments
    }

    /// Of the segment that was given last, if the task was blocked or stopped in it: which
    /// stretch it is of; `None`: of the one that is open at the end.
    pub fn stretch(&self) -> Option<usize> {
        (!self.off.last).then_some(self.at)
    }

    /// The same with the stretch itself.
    pub fn stretch_itself(&self) -> Option<(usize, &Off)> {
        Some((self.stretch()?, &self.stretch))
    }

    /// Goes over all of them at once, which is quicker: tells of each stretch, and then of the
    /// segments that end with its parts.
    pub fn each(mut self, mut stretch: impl FnMut(&Off), mut segment: impl FnMut(Segment)) {
        let life_ends_ns = self.task.end_ns;
        let mut cursor = self.cursor;
        let mut expected = self.expected;
        let mut until = |end_ns: u64, state: State, syscall: InSyscall| {
            let end_ns = end_ns.min(life_ends_ns);
            if end_ns > cursor {
                let start_ns = std::mem::replace(&mut cursor, end_ns);
                segment(Segment {
                    start_ns,
                    end_ns,
                    state,
                    syscall: (state == State::Blocked).then_some(syscall),
                });
            }
        };
        // By value, so that of a stretch only what is asked for is read.
        let none = self.task.stretches.range(0..0);
        for off in std::mem::replace(&mut self.stretches, none) {
            stretch(&off);
            let before = before(&off, &mut expected);
            let syscall = InSyscall::of(&off);
            until(off.out_ns, before, syscall);
            until(off.wake_ns, off.state(), syscall);
            until(off.in_ns, State::Runnable, syscall);
        }
        self.expected = expected;
        let (out_ns, before) = self.advance_to_end();
        let off = self.off;
        until(out_ns, before, off.syscall);
        until(off.wake_ns, off.state, off.syscall);
        until(off.in_ns, State::Runnable, off.syscall);
    }

    /// Tells the segments that begin before this time and were not given yet, each with the stretch
    /// that it belongs to ([`Self::stretch_itself`]), until `each` wants no more.
    #[inline]
    pub fn each_before(
        &mut self,
        before_ns: u64,
        mut each: impl FnMut(&Segment, Option<(usize, &Off)>) -> bool,
    ) {
        while self.cursor < before_ns {
            let (end_ns, state) = match self.part {
                Part::Before => self.advance(),
                Part::Away => (self.off.wake_ns, self.off.state),
                Part::Runnable => (self.off.in_ns, State::Runnable),
                Part::Done => return,
            };
            self.part = self.part.next(self.off.last);
            let end_ns = end_ns.min(self.task.end_ns);
            if end_ns > self.cursor {
                let segment = Segment {
                    start_ns: std::mem::replace(&mut self.cursor, end_ns),
                    end_ns,
                    state,
                    syscall: (state == State::Blocked).then_some(self.off.syscall),
                };
                let stretch = (!self.off.last).then_some((self.at, &self.stretch));
                if !each(&segment, stretch) {
                    return;
                }
            }
        }
    }

    /// When the next one begins; `None`: there is none.
    #[inline]
    pub fn next_ns(&self) -> Option<u64> {
        (self.cursor < self.task.end_ns).then_some(self.cursor)
    }

    /// Goes on to the next stretch, or to what comes after the last one, and
    /// says until when and what the task was before it.
    #[inline]
    fn advance(&mut self) -> (u64, State) {
        let Some(off) = self.stretches.next() else {
            return self.advance_to_end();
        };
        let before = before(&off, &mut self.expected);
        self.at = self.at.wrapping_add(1);
        self.off = Times {
            wake_ns: off.wake_ns,
            in_ns: off.in_ns,
            state: off.state(),
            syscall: InSyscall::of(&off),
            last: false,
        };
        self.stretch = off;
        (off.out_ns, before)
    }

    #[cold]
    fn advance_to_end(&mut self) -> (u64, State) {
        let end_ns = self.task.end_ns;
        let before = if self.task.stretches_expected == Some(self.expected) {
            State::Running
        } else {
            State::Unknown
        };
        let (out_ns, wake_ns, state) = match self.task.open {
            Some(open) => (
                open.out_ns,
                open.wake_ns.unwrap_or(end_ns),
                state_of(open.why),
            ),
            None => (end_ns, end_ns, before),
        };
        self.off = Times {
            wake_ns,
            in_ns: end_ns,
            state,
            syscall: self.task.open.map_or(self.off.syscall, |open| InSyscall {
                number: open.syscall,
                compat: open.compat,
            }),
            last: true,
        };
        (out_ns, before)
    }
}

impl Iterator for Segments<'_> {
    type Item = Segment;

    #[inline]
    fn next(&mut self) -> Option<Segment> {
        let mut next = None;
        self.each_before(u64::MAX, |segment, _| {
            next = Some(*segment);
            false
        });
        next
    }
}
