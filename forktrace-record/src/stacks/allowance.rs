//! How much of a CPU looks may take.

use std::time::{Duration, Instant};

/// One part in so many of a CPU.
const SHARE: u32 = 8;
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
}

impl Allowance {
    /// It begins with all that can be saved.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            saved: MOST,
            owed: Duration::ZERO,
            at: now,
        }
    }

    /// So much was used until now.
    pub(super) fn spend(&mut self, used: Duration, now: Instant) {
        let earned = now.saturating_duration_since(self.at) / SHARE;
        self.at = self.at.max(now);
        let saved = (self.saved + earned).saturating_sub(self.owed).min(MOST);
        self.owed = self.owed.saturating_sub(self.saved + earned);
        self.saved = saved.saturating_sub(used);
        self.owed += used.saturating_sub(saved);
    }

    /// When something may be used again.
    pub(super) fn ready_at(&self) -> Instant {
        self.at + SHARE * self.owed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_time_may_be_used_and_what_was_saved() {
        let begun = Instant::now();
        let ms = Duration::from_millis;
        let mut allowance = Allowance::new(begun);
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
}
