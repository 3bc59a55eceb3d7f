//! Reads numbers as postcard writes them, for the one record that comes by the million.
//!
//! It takes what an [`super::codec::Encoder`] writes, and nothing else: of all that is unusual
//! (an end too early, a number that is longer than it has to be, or too large, a variant that
//! is not known) it says `None`, and postcard is asked.

use crate::trace::{Interrupt, Timeout, Waker};

/// Bytes that are left to read.
pub(super) struct Numbers<'a>(pub(super) &'a [u8]);

impl Numbers<'_> {
    /// A byte.
    #[inline(always)]
    pub(super) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// A number of variable length: seven bits a byte, the lowest first.
    #[inline(always)]
    pub(super) fn u64(&mut self) -> Option<u64> {
        let (first, rest) = self.0.split_first()?;
        if *first < 0x80 {
            self.0 = rest;
            return Some(u64::from(*first));
        }
        self.long()
    }

    /// The same of one whose length is hard to foretell, so that nothing branches on it.
    #[inline(always)]
    pub(super) fn time(&mut self) -> Option<u64> {
        /// The upper bit of each byte: of all but the last one of a number it is set.
        const GOES_ON: u64 = 0x8080_8080_8080_8080;
        let word = self.0.first_chunk().map(|word| u64::from_le_bytes(*word));
        let ends = word.map_or(0, |word| !word & GOES_ON);
        let (Some(word), 1..) = (word, ends) else {
            return self.u64();
        };
        let len = ends.trailing_zeros() as usize / 8 + 1;
        let number = word & (ends ^ (ends - 1));
        let last = number >> (8 * (len - 1));
        self.0 = &self.0[len..];
        // Seven bits each come together: two of them, four, and eight.
        let sevens = number & !GOES_ON;
        let pairs = sevens & 0x007f_007f_007f_007f | (sevens & 0x7f00_7f00_7f00_7f00) >> 1;
        let fours = pairs & 0x3fff_0000_3fff | (pairs & 0x3fff_0000_3fff_0000) >> 2;
        let all = fours & 0x0fff_ffff | (fours & 0x0fff_ffff_0000_0000) >> 4;
        (len == 1 || last != 0).then_some(all)
    }

    #[inline]
    fn long(&mut self) -> Option<u64> {
        /// Seven bits each, and one.
        const LONGEST: usize = 10;
        let mut value = 0;
        for (at, byte) in self.0.iter().take(LONGEST).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * at);
            if *byte < 0x80 {
                self.0 = &self.0[at + 1..];
                let fits = at + 1 < LONGEST || *byte == 1;
                return (*byte != 0 && fits).then_some(value);
            }
        }
        None
    }

    #[inline(always)]
    pub(super) fn u32(&mut self) -> Option<u32> {
        u32::try_from(self.u64()?).ok()
    }

    #[inline(always)]
    pub(super) fn u16(&mut self) -> Option<u16> {
        u16::try_from(self.u64()?).ok()
    }

    /// A number with a sign, which is its lowest bit.
    #[inline(always)]
    pub(super) fn i64(&mut self) -> Option<i64> {
        self.u64().map(signed)
    }

    /// The same of one whose length is hard to foretell.
    #[inline(always)]
    pub(super) fn signed_time(&mut self) -> Option<i64> {
        self.time().map(signed)
    }

    #[inline(always)]
    pub(super) fn i32(&mut self) -> Option<i32> {
        let value = self.u32()?;
        Some((value >> 1) as i32 ^ -((value & 1) as i32))
    }

    #[inline(always)]
    pub(super) fn i16(&mut self) -> Option<i16> {
        let value = self.u16()?;
        Some((value >> 1) as i16 ^ -((value & 1) as i16))
    }

    #[inline(always)]
    fn bool(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    #[inline(always)]
    pub(super) fn waker(&mut self) -> Option<Waker> {
        Some(match self.byte()? {
            0 => Waker::None,
            1 => Waker::Task {
                serial: self.u32()?,
                softirq: self.bool()?,
            },
            2 => Waker::Outsider {
                tid: self.u32()?,
                softirq: self.bool()?,
            },
            3 => Waker::Interrupt(match self.byte()? {
                0 => Interrupt::Timer,
                1 => Interrupt::Device(self.u32()?),
                2 => Interrupt::Soft(self.byte()?),
                3 => Interrupt::Other,
                _ => return None,
            }),
            4 => Waker::Unknown,
            _ => return None,
        })
    }

    #[inline(always)]
    pub(super) fn timeout(&mut self) -> Option<Timeout> {
        Some(match self.byte()? {
            0 => Timeout::None,
            1 => Timeout::Unknown,
            2 => Timeout::Us(self.u32()?),
            _ => return None,
        })
    }
}

#[inline(always)]
fn signed(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What postcard makes of bytes: the value, and how many bytes are left.
    fn by_postcard<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Option<(T, usize)> {
        let (value, rest) = postcard::take_from_bytes(bytes).ok()?;
        Some((value, rest.len()))
    }

    /// What is read by hand is what postcard reads.
    fn agrees<T: serde::de::DeserializeOwned + PartialEq + std::fmt::Debug>(
        bytes: &[u8],
        read: impl FnOnce(&mut Numbers<'_>) -> Option<T>,
    ) -> Result<(), TestCaseError> {
        let mut numbers = Numbers(bytes);
        if let Some(value) = read(&mut numbers) {
            prop_assert_eq!(Some((value, numbers.0.len())), by_postcard::<T>(bytes));
        }
        Ok(())
    }

    fn some_waker() -> impl Strategy<Value = Waker> {
        let interrupt = prop_oneof![
            Just(Interrupt::Timer),
            any::<u32>().prop_map(Interrupt::Device),
            any::<u8>().prop_map(Interrupt::Soft),
            Just(Interrupt::Other),
        ];
        prop_oneof![
            Just(Waker::None),
            (any::<u32>(), any::<bool>())
                .prop_map(|(serial, softirq)| Waker::Task { serial, softirq }),
            (any::<u32>(), any::<bool>())
                .prop_map(|(tid, softirq)| Waker::Outsider { tid, softirq }),
            interrupt.prop_map(Waker::Interrupt),
            Just(Waker::Unknown),
        ]
    }

    proptest! {
        #[test]
        fn all_that_is_written_is_read(
            (a, b, c) in (any::<u64>(), any::<u32>(), any::<u16>()),
            (d, e, f) in (any::<i64>(), any::<i32>(), any::<i16>()),
            shift in 0u32..64,
            waker in some_waker(),
            timeout in prop_oneof![
                Just(Timeout::None),
                Just(Timeout::Unknown),
                any::<u32>().prop_map(Timeout::Us),
            ],
        ) {
            let (a, d) = (a >> shift, d >> shift);
            let written = postcard::to_allocvec(&(a, b, c, d, e, f, waker, timeout)).unwrap();
            let mut numbers = Numbers(&written);
            prop_assert_eq!(numbers.u64(), Some(a));
            prop_assert_eq!(Numbers(&written).time(), Some(a));
            prop_assert_eq!(numbers.u32(), Some(b));
            prop_assert_eq!(numbers.u16(), Some(c));
            prop_assert_eq!(numbers.i64(), Some(d));
            prop_assert_eq!(numbers.i32(), Some(e));
            prop_assert_eq!(numbers.i16(), Some(f));
            prop_assert_eq!(numbers.waker(), Some(waker));
            prop_assert_eq!(numbers.timeout(), Some(timeout));
            prop_assert_eq!(numbers.byte(), None);
        }

        #[test]
        fn of_any_bytes_nothing_else_is_read_than_postcard_reads(
            bytes in prop::collection::vec(
                prop_oneof![0u8..6, Just(0x80u8), Just(0xffu8), any::<u8>()],
                0..14,
            ),
        ) {
            agrees(&bytes, |numbers| numbers.u64())?;
            agrees(&bytes, |numbers| numbers.time())?;
            agrees(&bytes, |numbers| numbers.signed_time())?;
            agrees(&bytes, |numbers| numbers.u32())?;
            agrees(&bytes, |numbers| numbers.u16())?;
            agrees(&bytes, |numbers| numbers.i64())?;
            agrees(&bytes, |numbers| numbers.i32())?;
            agrees(&bytes, |numbers| numbers.i16())?;
            agrees(&bytes, |numbers| numbers.waker())?;
            agrees(&bytes, |numbers| numbers.timeout())?;
        }
    }
}
