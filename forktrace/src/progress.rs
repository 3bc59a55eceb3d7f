//! The progress line of a long recording.

use std::{
    io::{self, Write as _},
    time::Duration,
};

use forktrace_core::{
    render::text::{deadlock_lines, deadlock_sentence},
    report::Deadlock,
};
use forktrace_record::record::Progress;

/// Nothing is shown before this: most recordings are short.
const FIRST: Duration = Duration::from_secs(3);
/// The line is renewed this often.
const INTERVAL: Duration = Duration::from_secs(1);

/// A line on standard error that is written over again and again.
#[derive(Debug)]
pub(crate) struct ProgressLine {
    enabled: bool,
    /// When the next line is due, since the workload began.
    due: Duration,
    shown: bool,
}

impl ProgressLine {
    /// A line, or none.
    pub(crate) fn new(enabled: bool) -> Self {
        Self {
            enabled,
            due: FIRST,
            shown: false,
        }
    }

    /// Shows how far the recording is, if it is time.
    pub(crate) fn show(&mut self, progress: &Progress) {
        if !self.enabled || progress.elapsed < self.due {
            return;
        }
        self.due = progress.elapsed + INTERVAL;
        self.shown = true;
        // The line is a courtesy: a terminal that can't be written to is no error.
        let _ = write!(io::stderr(), "\r\x1b[K{}", line(progress));
    }

    /// Says at once that tasks can never go on.
    pub(crate) fn deadlock(&mut self, deadlock: &Deadlock) {
        self.clear();
        let _ = write!(io::stderr(), "{}", message(deadlock));
    }

    /// Takes the line away.
    pub(crate) fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

fn line(p: &Progress) -> String {
    format!(
        "forktrace: {} s, {} tasks ({} live), {} records, {} lost",
        p.elapsed.as_secs(),
        p.tasks,
        p.live,
        p.records,
        p.lost
    )
}

fn message(deadlock: &Deadlock) -> String {
    let mut text = format!("forktrace: {}\n", deadlock_sentence(deadlock));
    for line in deadlock_lines(deadlock) {
        text.push_str(&format!("  - {line}\n"));
    }
    text.push_str("  The run goes on; end it with Ctrl-C and the report follows.\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use forktrace_core::report::{DeadlockKind, DeadlockedTask};

    #[test]
    fn a_deadlock_is_told_with_names_and_owners() {
        let task = |serial: u32, name: &str, waits_for: &str, owner| DeadlockedTask {
            serial,
            tid: 4120 + serial,
            name: name.to_owned(),
            waits_for: waits_for.to_owned(),
            owner,
            since_ns: 200_000_000,
        };
        let mut deadlock = Deadlock {
            at_ns: 1_200_000_000,
            kind: DeadlockKind::Cycle,
            tasks: vec![
                task(1, "left", "mutex 0x7f01", Some(2)),
                task(2, "ri\x1bght", "mutex 0x7f02", Some(1)),
            ],
        };
        assert_eq!(
            message(&deadlock),
            "forktrace: Deadlock, found at 1.20 s: each of 2 tasks waits for a lock that the next one holds, \
             in a circle.\n  \
             - tid 4121 (left) waits for mutex 0x7f01, held by tid 4122, since 200 ms\n  \
             - tid 4122 (ri\\x1bght) waits for mutex 0x7f02, held by tid 4121, since 200 ms\n  \
             The run goes on; end it with Ctrl-C and the report follows.\n"
        );
        deadlock.tasks = vec![task(1, "once", "mutex 0x7f01", Some(1))];
        assert!(message(&deadlock).contains("held by itself"));
        deadlock.kind = DeadlockKind::AllAsleep;
        deadlock.tasks = vec![
            task(1, "sh", "child", None),
            task(2, "worker", "futex 0x1", None),
        ];
        let text = message(&deadlock);
        assert!(text.contains("Hang since 1.20 s: 2 tasks sleep"), "{text}");
        assert!(text.contains("waits for a child to end"), "{text}");
    }

    #[test]
    fn the_line_says_what_a_waiting_person_wants_to_know() {
        let progress = Progress {
            elapsed: Duration::from_millis(12_345),
            tasks: 7,
            live: 5,
            records: 1_000,
            lost: 0,
            presses_left: None,
        };
        assert_eq!(
            line(&progress),
            "forktrace: 12 s, 7 tasks (5 live), 1000 records, 0 lost"
        );
    }
}
