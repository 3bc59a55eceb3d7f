//! The progress line of claims.

use std::{
    io::{self, Write as _},
    time::{Duration, Instant},
};

use crate::Progress;

/// A line on standard error: the claim under way, and the time left.
#[derive(Debug)]
pub struct ClaimsLine {
    enabled: bool,
    begun: Instant,
    /// Runs of all claims.
    all: usize,
    /// Runs of the claims that are over.
    done: usize,
}

impl ClaimsLine {
    /// A line for so many runs, or none.
    pub fn new(enabled: bool, all: usize) -> Self {
        Self {
            enabled,
            begun: Instant::now(),
            all,
            done: 0,
        }
    }

    /// Shows what is under way.
    pub fn show(&self, claim: &str, progress: &Progress<'_>) {
        if self.enabled {
            let done = self.done + progress.done;
            let line = line(claim, progress, done, self.all, self.begun.elapsed());
            // A courtesy: a terminal that can't be written to is no error.
            let _ = write!(io::stderr(), "\r\x1b[K{line}");
            let _ = io::stderr().flush();
        }
    }

    /// Takes the line away: a claim with so many runs is over.
    pub fn finish(&mut self, runs: usize) {
        self.done += runs;
        if self.enabled {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

fn line(
    claim: &str,
    progress: &Progress<'_>,
    done: usize,
    all: usize,
    elapsed: Duration,
) -> String {
    const WIDTH: usize = 20;
    let filled = (done * WIDTH).checked_div(all).unwrap_or(0).min(WIDTH);
    let bar: String = (0..WIDTH)
        .map(|i| if i < filled { '█' } else { '░' })
        .collect();
    let mut text = format!(
        "{bar} {claim}: {}, run {} of {}",
        progress.arm,
        progress.done + 1,
        progress.all
    );
    if done > 0 {
        // As if the runs to come took as long as those that are over.
        let left = elapsed.as_secs_f64() / done as f64 * all.saturating_sub(done) as f64;
        text.push_str(&format!("; about {} s left", left.ceil()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_names_the_claim_and_the_time_left() {
        let progress = Progress {
            arm: "native",
            done: 2,
            all: 6,
        };
        assert_eq!(
            line("gil-serialises", &progress, 5, 10, Duration::from_secs(20)),
            "██████████░░░░░░░░░░ gil-serialises: native, run 3 of 6; about 20 s left"
        );
        assert_eq!(
            line(
                "x",
                &Progress {
                    done: 0,
                    ..progress
                },
                0,
                10,
                Duration::ZERO
            ),
            "░░░░░░░░░░░░░░░░░░░░ x: native, run 1 of 6"
        );
    }
}
