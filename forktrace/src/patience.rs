//! What is shown while a long report is made.

use std::{
    io::{self, IsTerminal as _, Write as _},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use forktrace_core::words::duration;
use rustix::{process::getpgrp, termios::tcgetpgrp};

/// Nothing is shown before this: most reports are made sooner.
const FIRST: Duration = Duration::from_secs(2);
/// The line is renewed this often.
const INTERVAL: Duration = Duration::from_secs(1);

/// A line on standard error, if that is a terminal, that says what takes so long. It is gone
/// when this is.
pub(crate) struct Patience {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    /// What is done now; `None`: all is done.
    step: Mutex<Option<&'static str>>,
    changed: Condvar,
}

impl Patience {
    /// Begins with a step of the work on `what`.
    pub(crate) fn new(what: String, step: &'static str) -> Self {
        let shared = Arc::new(Shared {
            step: Mutex::new(Some(step)),
            changed: Condvar::new(),
        });
        let shows = io::stderr().is_terminal().then(|| Arc::clone(&shared));
        // It is a courtesy: without a thread there is no line.
        let thread = shows.and_then(|shared| {
            let show = move || shared.show(&what);
            thread::Builder::new().spawn(show).ok()
        });
        Self { shared, thread }
    }

    /// Goes on to the next step.
    pub(crate) fn step(&self, step: &'static str) {
        self.shared.set(Some(step));
    }
}

impl Drop for Patience {
    fn drop(&mut self) {
        self.shared.set(None);
        if let Some(thread) = self.thread.take() {
            // It does not panic, and there is nothing to say if it did.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn set(&self, step: Option<&'static str>) {
        *self.step.lock().unwrap_or_else(PoisonError::into_inner) = step;
        self.changed.notify_all();
    }

    fn show(&self, what: &str) {
        let (began, mut due, mut shown) = (Instant::now(), FIRST, false);
        let mut step = self.step.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(now) = *step {
            let left = due.saturating_sub(began.elapsed());
            if left.is_zero() {
                due += INTERVAL;
                shown = in_foreground();
                if shown {
                    let so_far = duration(began.elapsed().as_secs() * 1_000_000_000);
                    // A terminal that can't be written to is no error.
                    let _ = write!(io::stderr(), "\r\x1b[Kforktrace: {now} {what}: {so_far}");
                }
                continue;
            }
            let waited = self.changed.wait_timeout(step, left);
            step = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        if shown && in_foreground() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

/// A job in the background that writes could be stopped for it.
fn in_foreground() -> bool {
    tcgetpgrp(io::stderr()).is_ok_and(|group| group == getpgrp())
}
