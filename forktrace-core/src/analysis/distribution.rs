//! How times are distributed: kept in little room, and put together by adding.
//!
//! Few times are kept as they are. Of more, it is counted how many fall into each bucket: one
//! for each nanosecond below [`FINE`], from there on [`PARTS`] of equal width for each power
//! of two. A bucket is told by its middle, so a percentile is off by no more than 1/64 of
//! itself (1.6 %).

use std::collections::HashMap;

use crate::report::Spread;

/// So many times are kept as they are.
const FEW: usize = 64;
/// Buckets for each power of two.
const PARTS: u64 = 32;
/// Below this each nanosecond is a bucket of its own.
const FINE: u64 = 2 * PARTS;

/// Times, or how many there are of which length.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Distribution {
    few: Vec<u64>,
    /// By bucket; empty while there are few.
    buckets: Vec<u64>,
    count: u64,
    longest_ns: u64,
}

impl Distribution {
    pub(super) fn add(&mut self, ns: u64) {
        self.count += 1;
        self.longest_ns = self.longest_ns.max(ns);
        if self.buckets.is_empty() && self.few.len() < FEW {
            self.few.push(ns);
            return;
        }
        if !self.few.is_empty() {
            self.spill();
        }
        self.count_in(bucket(ns), 1);
    }

    /// Adds all of another one.
    pub(super) fn merge(&mut self, other: &Self) {
        if other.buckets.is_empty() {
            for ns in &other.few {
                self.add(*ns);
            }
            return;
        }
        self.spill();
        for (at, count) in other.buckets.iter().enumerate() {
            if *count > 0 {
                self.count_in(at, *count);
            }
        }
        self.count += other.count;
        self.longest_ns = self.longest_ns.max(other.longest_ns);
    }

    /// `None`: there is no time.
    pub(super) fn spread(&self) -> Option<Spread> {
        let mut few = self.few.clone();
        few.sort_unstable();
        (self.count > 0).then(|| Spread {
            count: self.count,
            p50_ns: self.percentile(&few, 50),
            p90_ns: self.percentile(&few, 90),
            p99_ns: self.percentile(&few, 99),
            longest_ns: self.longest_ns,
        })
    }

    /// The smallest time that is not below so many percent of them.
    fn percentile(&self, few: &[u64], percent: u64) -> u64 {
        let rank = (u128::from(self.count) * u128::from(percent))
            .div_ceil(100)
            .max(1) as u64;
        if self.buckets.is_empty() {
            return few.get(rank as usize - 1).copied().unwrap_or(0);
        }
        let mut so_far = 0;
        let at = self.buckets.iter().position(|count| {
            so_far += count;
            so_far >= rank
        });
        at.map_or(self.longest_ns, |at| middle(at).min(self.longest_ns))
    }

    fn spill(&mut self) {
        for ns in std::mem::take(&mut self.few) {
            self.count_in(bucket(ns), 1);
        }
    }

    fn count_in(&mut self, at: usize, count: u64) {
        if at >= self.buckets.len() {
            self.buckets.resize(at + 1, 0);
        }
        self.buckets[at] += count;
    }
}

fn bucket(ns: u64) -> usize {
    if ns < FINE {
        return ns as usize;
    }
    // The power of two that it is in, cut into parts.
    let power = u64::from(ns.ilog2());
    let width_log = power - u64::from(PARTS.ilog2());
    let part = (ns >> width_log) - PARTS;
    (FINE + (power - u64::from(FINE.ilog2())) * PARTS + part) as usize
}

/// The middle of a bucket.
fn middle(at: usize) -> u64 {
    let at = at as u64;
    if at < FINE {
        return at;
    }
    let (power, part) = ((at - FINE) / PARTS, (at - FINE) % PARTS);
    let width_log = power + 1;
    let first = (PARTS + part) << width_log;
    first + ((1 << width_log) - 1) / 2
}

/// A task's blocks, and its waits for a CPU.
#[derive(Clone, Debug, Default)]
pub(super) struct OfTask {
    pub(super) blocked: Distribution,
    pub(super) runnable: Distribution,
}

/// The same of all tasks of each role.
#[derive(Default)]
pub(super) struct OfRoles(HashMap<String, OfTask>);

impl OfRoles {
    pub(super) fn add(&mut self, role: &str, task: &OfTask) {
        let sum = match self.0.get_mut(role) {
            Some(sum) => sum,
            None => self.0.entry(role.to_owned()).or_default(),
        };
        sum.blocked.merge(&task.blocked);
        sum.runnable.merge(&task.runnable);
    }

    /// Of one role: blocks, and waits for a CPU.
    pub(super) fn of(&self, role: &str) -> (Option<Spread>, Option<Spread>) {
        match self.0.get(role) {
            Some(sum) => (sum.blocked.spread(), sum.runnable.spread()),
            None => (None, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(times: &[u64]) -> Distribution {
        let mut all = Distribution::default();
        for ns in times {
            all.add(*ns);
        }
        all
    }

    #[test]
    fn few_are_exact() {
        let times: Vec<u64> = (1..=50).map(|n| n * 1_000_003).collect();
        let spread = of(&times).spread();
        let expected = Spread {
            count: 50,
            p50_ns: 25 * 1_000_003,
            p90_ns: 45 * 1_000_003,
            p99_ns: 50 * 1_000_003,
            longest_ns: 50 * 1_000_003,
        };
        assert_eq!(spread, Some(expected));
        assert_eq!(Distribution::default().spread(), None);
    }

    #[test]
    fn buckets_follow_each_other_and_hold_their_middle() {
        assert_eq!(bucket(u64::MAX), 64 + 57 * 32 + 31);
        for at in 0..=bucket(u64::MAX) {
            assert_eq!(bucket(middle(at)), at);
        }
        for ns in 1..1 << 16 {
            let step = bucket(ns) - bucket(ns - 1);
            assert!(step <= 1, "{ns}");
        }
    }

    proptest! {
        #[test]
        fn percentiles_are_near_and_parts_add_up(
            times in prop::collection::vec(prop_oneof![0u64..200, 0u64..2_000_000, any::<u64>()], 1..400),
            cut in 0usize..400,
        ) {
            let whole = of(&times).spread().unwrap();
            let mut sorted = times.clone();
            sorted.sort_unstable();
            for (percent, told) in [(50, whole.p50_ns), (90, whole.p90_ns), (99, whole.p99_ns)] {
                let rank = (sorted.len() * percent).div_ceil(100).max(1);
                let exact = sorted[rank - 1];
                prop_assert!(told.abs_diff(exact) <= exact / 64, "p{}: {} for {}", percent, told, exact);
            }
            prop_assert_eq!(whole.longest_ns, sorted[sorted.len() - 1]);
            let (one, other) = times.split_at(cut.min(times.len()));
            let mut merged = of(one);
            merged.merge(&of(other));
            prop_assert_eq!(merged.spread().unwrap(), whole);
        }
    }
}
