//! Numbers that look random and are the same for the same seed.

/// The SplitMix64 generator.
pub(super) struct Random(pub(super) u64);

const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

impl Random {
    /// The next number.
    pub(super) fn next(&mut self) -> u64 {
        let number = mix(self.0);
        self.0 = self.0.wrapping_add(STEP);
        number
    }

    /// Time to the next of events that come at any time alike: exponentially distributed.
    pub(super) fn gap_ns(&mut self, mean_ns: u64) -> u64 {
        let uniform = (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
        (-(1.0 - uniform).ln() * mean_ns as f64) as u64
    }
}

/// What the generator makes of a state: a hash.
pub(super) fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(STEP);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_gaps_with_the_mean_asked_for() {
        let gaps = |seed| {
            let mut random = Random(seed);
            (0..10_000)
                .map(|_| random.gap_ns(1_000_000))
                .collect::<Vec<_>>()
        };
        assert_eq!(gaps(1), gaps(1));
        assert_ne!(gaps(1), gaps(2));
        let mean = gaps(1).iter().sum::<u64>() / 10_000;
        assert!((950_000..1_050_000).contains(&mean), "{mean}");
    }
}
