//! How much of the CPUs looks may take.

use std::{
    thread,
    time::{Duration, Instant},
};

/// One part in so many of the CPUs that there are, but no more than so many such parts of one: looks come one after
/// the other.
const SHARE: u32 = 8;
const MOST_PARTS: u32 = 4;
/// What is not used is saved up to so much: the first look at a large program takes some 50 ms,
/// and blocks come in bursts.
const MOST: Duration = Duration::from_millis(100);

/// CPU time that may be used now.
pub(super) struct Allowance {
    saved: Duration,
    /// What was used beyond it.
    owed: Duration,
    /// Until when it was reckoned.
    at: Instant,
    /// Parts of a CPU, of which [`SHARE`] make one.
    parts: u32,
}

impl Allowance {
    /// It begins with all that can be saved.
    pub(super) fn new(now: Instant) -> Self {
        let cpus = thread::available_parallelism().map_or(1, |cpus| cpus.get() as u32);
        Self::of(cpus, now)
    }

    fn of(cpus: u32, now: Instant) -> Self {
        Self {
            saved: MOST,
            owed: Duration::ZERO,
            at: now,
            parts: cpus.clamp(1, MOST_PARTS),
        }
    }

    /// So much was used until now.
    pub(super) fn spend(&mut self, used: Duration, now: Instant) {
        let earned = now.saturating_duration_since(self.at) * self.parts / SHARE;
        self.at = self.at.max(now);
        let saved = (self.saved + earned).saturating_sub(self.owed).min(MOST);
        self.owed = self.owed.saturating_sub(self.saved + earned);
        self.saved = saved.saturating_sub(used);
        self.owed += used.saturating_sub(saved);
    }

    /// When something may be used again.
    pub(super) fn ready_at(&self) -> Instant {
        self.at + SHARE * self.owed / self.parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_time_may_be_used_and_what_was_saved() {
        let begun = Instant::now();
        let ms = Duration::from_millis;
        let mut allowance = Allowance::of(1, begun);
        assert_eq!(allowance.ready_at(), begun);
        allowance.spend(MOST, begun);
        assert_eq!(allowance.ready_at(), begun);
        // Beyond it an eighth of the time is earned.
        allowance.spend(ms(3), begun);
        assert_eq!(allowance.ready_at(), begun + ms(24));
        allowance.spend(ms(1), begun + ms(16));
        assert_eq!(allowance.ready_at(), begun + ms(32));
        allowance.spend(ms(0), begun + ms(40));
        assert_eq!(allowance.ready_at(), begun + ms(40));
        allowance.spend(ms(2), begun + ms(40));
        assert_eq!(allowance.ready_at(), begun + ms(48));
        // However long it was, no more than so much is saved.
        let later = begun + Duration::from_secs(1000);
        allowance.spend(ms(0), later);
        allowance.spend(MOST + ms(1), later);
        assert_eq!(allowance.ready_at(), later + ms(8));
    }

    #[test]
    fn more_cpus_have_more_to_give_up_to_half_of_one() {
        let begun = Instant::now();
        let ms = Duration::from_millis;
        for (cpus, wait) in [(1, 24), (2, 12), (4, 6), (64, 6)] {
            let mut allowance = Allowance::of(cpus, begun);
            allowance.spend(MOST + ms(3), begun);
            assert_eq!(allowance.ready_at(), begun + ms(wait));
            allowance.spend(ms(0), begun + ms(wait));
            assert_eq!(allowance.ready_at(), begun + ms(wait));
        }
    }
}
