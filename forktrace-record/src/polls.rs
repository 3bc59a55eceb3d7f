//! When calls of the select/poll family begin to be counted, where that makes every syscall of
//! the machine slower: when a task is seen in one, or could be in many without being seen.

use std::time::{Duration, Instant};

use forktrace_common::{
    event::{TaskState, flag},
    layout::poll,
};

use crate::{
    capture::Tracer,
    trace::{Arch, Event, PollsCounted},
};

/// The task table is looked at this often.
const LOOKS: Duration = Duration::from_secs(1);
/// A task that runs for so long at one go may do nothing but ask again and again, ns.
const LONG_NS: u64 = 1_000_000_000;

/// Sees whether it is time.
pub(crate) struct Polls {
    numbers: Vec<i16>,
    /// A task was seen.
    seen: bool,
    looked: Option<Instant>,
}

impl Polls {
    pub(crate) fn new(arch: Arch) -> Self {
        let numbers = poll::NAMES.into_iter();
        let numbers = numbers.filter_map(|name| arch.syscall_number(name)?.try_into().ok());
        Self {
            numbers: numbers.collect(),
            seen: false,
            looked: None,
        }
    }

    /// An event of the recording. Also who is preempted on the way back from such a call is
    /// seen in it.
    pub(crate) fn note(&mut self, event: &Event) {
        if let Event::Stretch(stretch) = event {
            self.seen |= !stretch.compat && self.numbers.contains(&stretch.syscall);
        }
    }

    /// Lets the programs be attached if it is time, and gives what is to be told of that.
    pub(crate) fn turn(&mut self, tracer: &mut Tracer, now_ns: u64) -> Option<PollsCounted> {
        let due = self.looked.is_none_or(|looked| looked.elapsed() >= LOOKS);
        if !self.seen && due {
            self.looked = Some(Instant::now());
            tracer.living(|task| self.see(&task, now_ns));
        }
        let later = tracer.polls_later()?;
        if self.seen && later.begin() {
            return Some(PollsCounted::Attaching);
        }
        later.answer()
    }

    /// A task as the table has it.
    fn see(&mut self, task: &TaskState, now_ns: u64) {
        let compat = task.flags & flag::COMPAT != 0;
        let since_ns = task.in_ns.max(task.born_ns);
        self.seen |= match task.out_ns {
            0 => now_ns.saturating_sub(since_ns) >= LONG_NS,
            _ => !compat && self.numbers.contains(&task.syscall),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 10_000_000_000;

    fn sees(task: TaskState) -> bool {
        let mut polls = Polls::new(Arch::X86_64);
        polls.see(&task, NOW);
        polls.seen
    }

    #[test]
    fn who_waits_in_such_a_call_or_runs_for_long_is_seen() {
        let asleep = |syscall, flags| TaskState {
            out_ns: NOW - 5,
            syscall,
            flags,
            ..TaskState::default()
        };
        let select = Arch::X86_64.syscall_number("select").unwrap() as i16;
        let read = Arch::X86_64.syscall_number("read").unwrap() as i16;
        assert!(sees(asleep(select, 0)));
        assert!(!sees(asleep(read, 0)));
        // Another table's number.
        assert!(!sees(asleep(select, flag::COMPAT)));

        let runs = |born_ns, in_ns| TaskState {
            born_ns,
            in_ns,
            syscall: select,
            ..TaskState::default()
        };
        assert!(!sees(runs(1, NOW - LONG_NS / 2)));
        assert!(sees(runs(1, NOW - LONG_NS)));
        // It was there before the recording, and no switch of it was seen.
        assert!(sees(runs(NOW - LONG_NS, 0)));
        assert!(!sees(runs(NOW - LONG_NS / 2, 0)));
    }
}
