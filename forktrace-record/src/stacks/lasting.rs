//! How long blocks last that are long enough to be looked at: how often it is worth to look for others.

use std::time::{Duration, Instant};

/// Lengths are told apart by classes, so many for each doubling.
const PER_DOUBLING: f64 = 4.0;
const CLASSES: usize = 40;
/// Blocks may be missed that together make up one part in so many of the time blocked.
const MISSED: u64 = 200;
/// What is older counts half, a quarter and so on.
const HALF_LIFE: Duration = Duration::from_millis(250);

/// The time of blocks that ended lately, by how long each was.
pub(super) struct Lasting {
    /// Shorter ones don't count, ns.
    least_ns: u64,
    classes: [u64; CLASSES],
    halved_at: Instant,
}

impl Lasting {
    pub(super) fn new(least_ns: u64, now: Instant) -> Self {
        Self {
            least_ns: least_ns.max(1),
            classes: [0; CLASSES],
            halved_at: now,
        }
    }

    /// A block has ended that was so long, ns.
    pub(super) fn ended(&mut self, length_ns: u64) {
        let times = length_ns as f64 / self.least_ns as f64;
        if times >= 1.0 {
            let class = (times.log2() * PER_DOUBLING) as usize;
            self.classes[class.min(CLASSES - 1)] += length_ns;
        }
    }

    /// Those that are shorter make up next to nothing of the time, ns: never less than the least.
    pub(super) fn shortest_ns(&mut self, now: Instant) -> u64 {
        let halvings = now.saturating_duration_since(self.halved_at).as_nanos();
        let halvings = (halvings / HALF_LIFE.as_nanos()) as u32;
        if halvings > 0 {
            self.halved_at = now;
            for class in &mut self.classes {
                *class = class.checked_shr(halvings).unwrap_or(0);
            }
        }
        let all: u64 = self.classes.iter().sum();
        let mut shorter = 0;
        let class = self.classes.iter().position(|class| {
            shorter += class;
            shorter > all / MISSED
        });
        let doublings = class.unwrap_or(0) as f64 / PER_DOUBLING;
        (self.least_ns as f64 * doublings.exp2()) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: u64 = 1_000_000;

    #[test]
    fn blocks_that_are_next_to_nothing_need_not_be_waited_for() {
        let now = Instant::now();
        let mut lasting = Lasting::new(LEAST, now);
        assert_eq!(lasting.shortest_ns(now), LEAST);
        lasting.ended(LEAST - 1);
        assert_eq!(lasting.shortest_ns(now), LEAST);
        for _ in 0..100 {
            lasting.ended(8 * LEAST + 1);
        }
        assert_eq!(lasting.shortest_ns(now), 8 * LEAST);
        // One in so many of the time can be missed, and no more.
        lasting.ended(2 * LEAST);
        lasting.ended(2 * LEAST);
        assert_eq!(lasting.shortest_ns(now), 8 * LEAST);
        lasting.ended(LEAST);
        assert_eq!(lasting.shortest_ns(now), 2 * LEAST);
        (0..4).for_each(|_| lasting.ended(LEAST));
        assert_eq!(lasting.shortest_ns(now), LEAST);
    }

    #[test]
    fn what_is_long_ago_counts_no_more() {
        let now = Instant::now();
        let mut lasting = Lasting::new(LEAST, now);
        (0..1000).for_each(|_| lasting.ended(16 * LEAST));
        // One that is too long for any class.
        lasting.ended(u64::MAX >> 8);
        assert!(lasting.shortest_ns(now) >= 16 * LEAST);
        assert_eq!(lasting.shortest_ns(now + 100 * HALF_LIFE), LEAST);
        lasting.ended(3 * LEAST);
        assert!(lasting.shortest_ns(now + 100 * HALF_LIFE) < 3 * LEAST);
    }
}
