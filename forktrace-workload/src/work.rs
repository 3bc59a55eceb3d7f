//! Work: a wanted amount of CPU time, spent without a system call.

use std::hint::black_box;

use super::sys::cpu_ns;

/// How fast this machine's CPUs count, so that work can be counted out.
///
/// A thread that looked at a clock until its time is over would work less when others
/// take its CPU, and would make a system call for each look at its CPU clock.
#[derive(Clone, Copy)]
pub(super) struct Work {
    steps_per_ns: f64,
}

impl Work {
    /// Measures by the CPU clock of this thread, for some milliseconds. The best of
    /// several tries counts: whatever disturbs makes it slower.
    pub(super) fn calibrate() -> Self {
        const TRIES: usize = 9;
        const STEPS: u64 = 1_000_000;
        let ns = (0..TRIES)
            .map(|_| {
                let begin_ns = cpu_ns();
                count(STEPS);
                cpu_ns() - begin_ns
            })
            .min()
            .unwrap_or(0);
        Self {
            steps_per_ns: STEPS as f64 / ns.max(1) as f64,
        }
    }

    /// Works for so many nanoseconds of CPU time.
    pub(super) fn run_ns(self, ns: u64) {
        count((ns as f64 * self.steps_per_ns) as u64);
    }
}

fn count(steps: u64) {
    for i in 0..steps {
        black_box(i);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_cpu_time() {
        let work = Work::calibrate();
        let begin_ns = cpu_ns();
        work.run_ns(5_000_000);
        let spent_ns = cpu_ns() - begin_ns;
        // Calibrated by the best try, so it is never much less; more when the CPU is
        // shared with its sibling thread.
        assert!(spent_ns > 2_500_000, "{spent_ns}");
    }
}
