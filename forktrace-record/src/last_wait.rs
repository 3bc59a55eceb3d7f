//! The wait for helpers when the recording is over: what they still have to tell is worth a
//! moment, and whoever wants the report now gets it.

use std::{
    os::fd::BorrowedFd,
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::signals::{Requests, Signals};

/// How long all of it may take, and how long may pass in which nothing comes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    pub(crate) longest: Duration,
    pub(crate) silence: Duration,
}

/// A wait for all helpers, one after the other.
pub(crate) struct LastWait<'a> {
    /// Readable when a helper has answered, or died.
    ready: BorrowedFd<'a>,
    signals: &'a Signals,
    requests: &'a mut Requests,
    /// Told how many more presses of Ctrl-C end it, when one came.
    tell: &'a mut dyn FnMut(u32),
    ended: bool,
}

impl<'a> LastWait<'a> {
    pub(crate) fn new(
        ready: BorrowedFd<'a>,
        signals: &'a Signals,
        requests: &'a mut Requests,
        tell: &'a mut dyn FnMut(u32),
    ) -> Self {
        Self {
            ready,
            signals,
            requests,
            tell,
            ended: false,
        }
    }

    /// Waits while `left` says that there is something to wait for; `left` takes what has
    /// come, and a number that stays the same where nothing has.
    pub(crate) fn until_done<T: PartialEq>(
        &mut self,
        patience: Patience,
        mut left: impl FnMut() -> Option<T>,
    ) {
        let begun = Instant::now();
        let mut last = (Instant::now(), None);
        while let Some(state) = left() {
            if last.1.as_ref() != Some(&state) {
                last = (Instant::now(), Some(state));
            }
            let waits = begun.elapsed() < patience.longest && last.0.elapsed() < patience.silence;
            if self.ended || !waits {
                return;
            }
            self.moment();
        }
    }

    /// Until a helper answers, a signal comes, or a moment has passed.
    fn moment(&mut self) {
        const MOMENT: Timespec = Timespec {
            tv_sec: 0,
            tv_nsec: 50_000_000,
        };
        let mut wakes = [
            PollFd::new(&self.ready, PollFlags::IN),
            PollFd::new(self.signals, PollFlags::IN),
        ];
        // Whatever comes of it, both are looked at next.
        let _ = poll(&mut wakes, Some(&MOMENT));
        while let Ok(Some(signal)) = self.signals.next() {
            let now = Instant::now();
            let left = self.requests.presses_left(now);
            self.ended |= self.requests.ends_wait(&signal, now);
            match self.requests.presses_left(now) {
                Some(presses) if Some(presses) != left && !self.ended => (self.tell)(presses),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use nix::sys::signal::{Signal, raise};

    use super::*;

    const FOR_EVER: Duration = Duration::from_secs(100_000);
    const PATIENCE: Patience = Patience {
        longest: FOR_EVER,
        silence: FOR_EVER,
    };

    /// It never ends if the signal is not seen.
    #[test]
    fn a_signal_ends_the_wait_and_all_that_would_follow() {
        let signals = Signals::take().expect("signals");
        let (silent, _helper) = std::io::pipe().expect("a pipe");
        let mut requests = Requests::default();
        let mut tell = |_: u32| ();
        let mut wait = LastWait::new(silent.as_fd(), &signals, &mut requests, &mut tell);
        raise(Signal::SIGTERM).expect("it is blocked");
        wait.until_done(PATIENCE, || Some(1));
        wait.until_done(PATIENCE, || Some(2));
    }

    #[test]
    fn it_lasts_until_all_is_there_or_nothing_comes() {
        let signals = Signals::take().expect("signals");
        // Always readable: nobody writes any more.
        let (ready, helper) = std::io::pipe().expect("a pipe");
        drop(helper);
        let mut requests = Requests::default();
        let mut tell = |_: u32| ();
        let mut wait = LastWait::new(ready.as_fd(), &signals, &mut requests, &mut tell);
        let mut left = 5;
        wait.until_done(PATIENCE, || {
            left -= 1;
            (left > 0).then_some(left)
        });
        assert_eq!(left, 0);
        let nothing = Patience {
            silence: Duration::ZERO,
            ..PATIENCE
        };
        wait.until_done(nothing, || Some(1));
    }
}
