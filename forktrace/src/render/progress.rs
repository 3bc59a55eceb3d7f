//! The progress line of a long recording.

use std::{
    io::{self, Write as _},
    time::Duration,
};

use crate::record::Progress;

/// Nothing is shown before this: most recordings are short.
const FIRST: Duration = Duration::from_secs(3);
/// The line is renewed this often.
const INTERVAL: Duration = Duration::from_secs(1);

/// A line on standard error that is written over again and again.
#[derive(Debug)]
pub struct ProgressLine {
    enabled: bool,
    /// When the next line is due, since the workload began.
    due: Duration,
    shown: bool,
}

impl ProgressLine {
    /// A line, or none.
    pub fn new(enabled: bool) -> Self {
        Self {
            enabled,
            due: FIRST,
            shown: false,
        }
    }

    /// Shows how far the recording is, if it is time.
    pub fn show(&mut self, progress: &Progress) {
        if !self.enabled || progress.elapsed < self.due {
            return;
        }
        self.due = progress.elapsed + INTERVAL;
        self.shown = true;
        // The line is a courtesy: a terminal that can't be written to is no error.
        let _ = write!(io::stderr(), "\r\x1b[K{}", line(progress));
    }

    /// Takes the line away.
    pub fn clear(&mut self) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_what_a_waiting_person_wants_to_know() {
        let progress = Progress {
            elapsed: Duration::from_millis(12_345),
            tasks: 7,
            live: 5,
            records: 1_000,
            lost: 0,
        };
        assert_eq!(
            line(&progress),
            "forktrace: 12 s, 7 tasks (5 live), 1000 records, 0 lost"
        );
    }
}
