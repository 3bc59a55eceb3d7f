//! A hash of small numbers that takes a nanosecond: for tables that are asked at each record.

use std::hash::{BuildHasher, Hasher, RandomState};

/// The golden ratio, as a part of 2^64: odd, and its bits look random.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// Makes hashers, each table its own: so nobody can choose numbers that all fall together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quick {
    seed: u64,
}

impl Default for Quick {
    fn default() -> Self {
        Self {
            seed: RandomState::new().hash_one(0),
        }
    }
}

impl BuildHasher for Quick {
    type Hasher = QuickHasher;

    #[inline]
    fn build_hasher(&self) -> QuickHasher {
        QuickHasher(self.seed)
    }
}

/// See [`Quick`].
pub(crate) struct QuickHasher(u64);

impl QuickHasher {
    #[inline]
    fn add(&mut self, number: u64) {
        let product = u128::from(self.0 ^ number) * u128::from(FACTOR);
        self.0 = (product as u64) ^ (product >> 64) as u64 ^ self.0.rotate_left(32);
    }
}

impl Hasher for QuickHasher {
    #[inline]
    fn write_u32(&mut self, number: u32) {
        self.add(number.into());
    }

    #[inline]
    fn write_u64(&mut self, number: u64) {
        self.add(number);
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.add((*byte).into());
        }
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn numbers_in_a_row_and_with_gaps_spread_over_low_and_high_bits() {
        let quick = Quick::default();
        for step in [1u32, 2, 64, 1 << 12, 1 << 16] {
            let hashes = (0..4096u32).map(|n| quick.hash_one(n.wrapping_mul(step)));
            let hashes: HashSet<u64> = hashes.collect();
            let different = |of: &dyn Fn(u64) -> u64| {
                let bits: HashSet<u64> = hashes.iter().map(|hash| of(*hash)).collect();
                bits.len()
            };
            assert!(different(&|hash| hash & 0xfff) > 1800, "step {step}");
            assert_eq!(different(&|hash| hash >> 57), 128, "step {step}");
        }
    }
}
