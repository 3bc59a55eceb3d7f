//! Cuts a task's life into segments.
//!
//! A task starts with a stretch off the CPU (number 0: created, not yet run) and
//! then alternates: off (blocked until its wakeup, runnable until it is switched
//! in), running, off, … Between stretch n and stretch n + 1 it ran. Where a
//! number is missing, all from the end of the one before to the start of the
//! next is unknown. Whatever the events say, segments never overlap, never leave
//! a gap, and stay within the task's life: times are clamped on the way.

use super::{Segment, State, Task, state_of};

/// Iterator over the segments of a task.
#[derive(Debug)]
pub struct Segments<'a> {
    task: &'a Task,
    /// Up to here segments have been given out, or wait in `pending`.
    cursor: u64,
    /// Index of the next stretch.
    next: usize,
    /// Sequence number that should come next.
    expected: u32,
    /// Segments of the stretch under way: at most three, given out from the back.
    pending: [Option<Segment>; 3],
    done: bool,
}

impl<'a> Segments<'a> {
    pub(super) fn new(task: &'a Task) -> Self {
        Self {
            task,
            cursor: task.start_ns,
            next: 0,
            expected: 0,
            pending: [None; 3],
            done: false,
        }
    }

    /// The next segment up to `end_ns`, if that is not empty.
    fn up_to(&mut self, end_ns: u64, state: State) -> Option<Segment> {
        let end_ns = end_ns.min(self.task.end_ns);
        if end_ns <= self.cursor {
            return None;
        }
        let start_ns = std::mem::replace(&mut self.cursor, end_ns);
        Some(Segment {
            start_ns,
            end_ns,
            state,
        })
    }

    /// Queues what comes between the last stretch and the end of the task.
    fn last_part(&mut self) {
        self.done = true;
        let end_ns = self.task.end_ns;
        let before = if self.task.stretches_expected == Some(self.expected) {
            State::Running
        } else {
            State::Unknown
        };
        self.pending = match self.task.open {
            Some(open) => [
                self.up_to(open.out_ns, before),
                self.up_to(open.wake_ns.unwrap_or(end_ns), state_of(open.why)),
                self.up_to(end_ns, State::Runnable),
            ],
            None => [self.up_to(end_ns, before), None, None],
        };
    }
}

impl Iterator for Segments<'_> {
    type Item = Segment;

    fn next(&mut self) -> Option<Segment> {
        loop {
            for segment in &mut self.pending {
                if let Some(segment) = segment.take() {
                    return Some(segment);
                }
            }
            if self.done {
                return None;
            }
            let Some(off) = self.task.stretches.get(self.next) else {
                self.last_part();
                continue;
            };
            self.next += 1;
            let before = if off.seq == self.expected {
                State::Running
            } else {
                State::Unknown
            };
            self.expected = off.seq.wrapping_add(1);
            self.pending = [
                self.up_to(off.out_ns, before),
                self.up_to(off.wake_ns, off.state()),
                self.up_to(off.in_ns, State::Runnable),
            ];
        }
    }
}
