//! Columns of values that come again and again: each value once in a dictionary, and the rows'
//! numbers in it. The library writes such columns too, but compares the value of each row; here
//! texts have numbers already, and rows that have the same come together.
//!
//! The form is that of <https://parquet.apache.org/docs/file-format/data-pages/encodings/>: a page
//! with the dictionary, and one of version 2 with the numbers, as runs of equal ones and packed bits.

use std::collections::HashMap;

use parquet::{
    basic::{Encoding, EncodingMask, PageType},
    column::page::{CompressedPage, Page},
    data_type::ByteArray,
    errors::ParquetError,
    file::{metadata::PageEncodingStats, statistics::Statistics},
    schema::types::ColumnDescPtr,
};

use super::pages::{Bits, Packed, Stored, pack, varint};

/// Numbers that are no farther apart are found by their distance from the least one.
const NEAR: usize = 1 << 16;
/// Longer texts don't tell an engine where to look, bytes.
const LONGEST_STATISTIC: usize = 256;
/// A run of fewer equal values is packed in bits like others.
const SHORTEST_RUN: usize = 8;

/// Values, each with how many times it comes one after the other.
#[derive(Clone, Debug, Default)]
pub(super) struct Runs(Vec<(u32, u32)>);

impl Runs {
    #[inline]
    pub(super) fn push(&mut self, value: u32, times: u32) {
        match self.0.last_mut() {
            Some((last, so_often)) if *last == value => *so_often += times,
            _ => self.0.push((value, times)),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, u32)> + Clone {
        self.0.iter().copied()
    }
}

/// A dictionary, and the values of rows by their numbers in it.
#[derive(Default)]
pub(super) struct Numbered {
    /// The values, packed one after the other.
    values: Vec<u8>,
    count: u32,
    indices: Runs,
    /// Which rows have a value: 1, or 0.
    defined: Runs,
    rows: usize,
    nulls: usize,
    first_and_last: Option<(Statistic, Statistic)>,
}

/// A value that tells which others there can be.
enum Statistic {
    Number(i64),
    Text(ByteArray),
}

/// Texts, each given by its number among `words`, with how many rows have it one after the other.
pub(super) fn texts(
    words: &[ByteArray],
    rows: impl Iterator<Item = (Option<u32>, u32)>,
) -> Numbered {
    let mut all = Numbered::default();
    let mut of_word = vec![u32::MAX; words.len()];
    let mut found: Option<(&ByteArray, &ByteArray)> = None;
    for (word, times) in rows {
        // Only numbers that were given out come back.
        let index = word.and_then(|word| Some((of_word.get_mut(word as usize)?, word)));
        let Some((index, word)) = index else {
            all.push(None, times);
            continue;
        };
        if *index == u32::MAX {
            *index = all.count;
            all.count += 1;
            let text = &words[word as usize];
            all.values
                .extend_from_slice(&(text.len() as u32).to_le_bytes());
            all.values.extend_from_slice(text.data());
            let (first, last) = found.unwrap_or((text, text));
            let is_first = text.data() < first.data();
            let is_last = text.data() > last.data();
            found = Some((
                if is_first { text } else { first },
                if is_last { text } else { last },
            ));
        }
        all.push(Some(*index), times);
    }
    let short = |text: &ByteArray| text.len() <= LONGEST_STATISTIC;
    let found = found.filter(|(first, last)| short(first) && short(last));
    let of = |text: &ByteArray| Statistic::Text(text.clone());
    all.first_and_last = found.map(|(first, last)| (of(first), of(last)));
    all
}

/// Numbers, in the same way; `None`: more than so many differ.
pub(super) fn numbers(
    rows: impl Iterator<Item = (Option<i64>, u32)> + Clone,
    most: u32,
) -> Option<Numbered> {
    let mut all = Numbered::default();
    let known = rows.clone().filter_map(|(number, _)| number);
    let ends = known.fold(None, |ends: Option<(i64, i64)>, number| {
        let (first, last) = ends.unwrap_or((number, number));
        Some((first.min(number), last.max(number)))
    });
    let mut places = Places::new(ends);
    let mut before: Option<(i64, u32)> = None;
    for (number, times) in rows {
        let Some(number) = number else {
            all.push(None, times);
            continue;
        };
        let index = match before {
            Some((same, index)) if same == number => index,
            _ => places.of(number, all.count),
        };
        if index == all.count {
            if all.count >= most {
                return None;
            }
            all.count += 1;
            all.values.extend_from_slice(&number.to_le_bytes());
        }
        before = Some((number, index));
        all.push(Some(index), times);
    }
    let of = |(first, last)| (Statistic::Number(first), Statistic::Number(last));
    all.first_and_last = ends.map(of);
    Some(all)
}

/// Where numbers are in a dictionary.
enum Places {
    /// Of each number from the first on; [`u32::MAX`]: it is in none.
    Near(i64, Vec<u32>),
    Far(HashMap<i64, u32>),
}

impl Places {
    /// For numbers from and to these.
    fn new(ends: Option<(i64, i64)>) -> Self {
        let span = ends.map_or(0, |(first, last)| last.abs_diff(first));
        match (ends, usize::try_from(span)) {
            (Some((first, _)), Ok(span)) if span < NEAR => {
                Self::Near(first, vec![u32::MAX; span + 1])
            }
            _ => Self::Far(HashMap::new()),
        }
    }

    /// The place of a number; one that has none gets `next`.
    fn of(&mut self, number: i64, next: u32) -> u32 {
        let place = match self {
            // The first one is the least of all.
            Self::Near(first, places) => &mut places[number.abs_diff(*first) as usize],
            Self::Far(places) => places.entry(number).or_insert(u32::MAX),
        };
        if *place == u32::MAX {
            *place = next;
        }
        *place
    }
}

impl Numbered {
    /// So many rows have the value of this number; `None`: they have none.
    #[inline]
    fn push(&mut self, index: Option<u32>, times: u32) {
        self.rows += times as usize;
        self.defined.push(u32::from(index.is_some()), times);
        match index {
            Some(index) => self.indices.push(index, times),
            None => self.nulls += times as usize,
        }
    }

    /// Packs them.
    pub(super) fn encode(self, column: ColumnDescPtr) -> Result<Packed, ParquetError> {
        let stats = |page_type, encoding| PageEncodingStats {
            page_type,
            encoding,
            count: 1,
        };
        let (dictionary, data) = (self.dictionary()?, self.data(column.max_def_level() > 0)?);
        let encodings = [Encoding::PLAIN, Encoding::RLE, Encoding::RLE_DICTIONARY];
        let nulls = Some(self.nulls as u64);
        let statistics = match self.first_and_last {
            Some((Statistic::Number(first), Statistic::Number(last))) => {
                Statistics::int64(Some(first), Some(last), None, nulls, false)
            }
            Some((Statistic::Text(first), Statistic::Text(last))) => {
                Statistics::byte_array(Some(first), Some(last), None, nulls, false)
            }
            _ if column.physical_type() == parquet::basic::Type::INT64 => {
                Statistics::int64(None, None, None, nulls, false)
            }
            _ => Statistics::byte_array(None, None, None, nulls, false),
        };
        pack(
            column,
            self.rows,
            (Some(dictionary), data),
            Stored {
                statistics,
                encodings: EncodingMask::new_from_encodings(encodings.iter()),
                pages: vec![
                    stats(PageType::DICTIONARY_PAGE, Encoding::PLAIN),
                    stats(PageType::DATA_PAGE_V2, Encoding::RLE_DICTIONARY),
                ],
            },
        )
    }

    fn dictionary(&self) -> Result<CompressedPage, ParquetError> {
        let page = Page::DictionaryPage {
            buf: super::pages::compressed(&self.values)?.into(),
            num_values: self.count,
            encoding: Encoding::PLAIN,
            is_sorted: false,
        };
        Ok(CompressedPage::new(page, self.values.len()))
    }

    /// `optional`: it is said which rows have a value.
    fn data(&self, optional: bool) -> Result<CompressedPage, ParquetError> {
        let mut levels = Vec::new();
        if optional {
            runs(self.defined.iter(), 1, &mut levels);
        }
        let bits = (u32::BITS - self.count.saturating_sub(1).leading_zeros()).max(1);
        let mut indices = vec![bits as u8];
        runs(self.indices.iter(), bits, &mut indices);
        super::pages::data(
            (self.rows, self.nulls),
            Encoding::RLE_DICTIONARY,
            (levels, indices),
        )
    }
}

/// Packs numbers of so many bits: runs of equal ones, and groups of eight.
fn runs(values: impl Iterator<Item = (u32, u32)>, bits: u32, to: &mut Vec<u8>) {
    let mut literals = Vec::new();
    for (value, times) in values {
        let times = times as usize;
        // Groups that come before a run have eight each.
        let missing = literals.len().wrapping_neg() % 8;
        if times < SHORTEST_RUN + missing {
            literals.extend(std::iter::repeat_n(value, times));
            continue;
        }
        literals.extend(std::iter::repeat_n(value, missing));
        groups(&mut literals, bits, to);
        varint(((times - missing) as u64) << 1, to);
        let bytes = value.to_le_bytes();
        to.extend_from_slice(&bytes[..bits.div_ceil(8) as usize]);
    }
    groups(&mut literals, bits, to);
}

/// Groups of eight values; what the last one lacks is 0. Then there are none.
fn groups(values: &mut Vec<u32>, bits: u32, to: &mut Vec<u8>) {
    if values.is_empty() {
        return;
    }
    values.resize(values.len().next_multiple_of(8), 0);
    varint((values.len() as u64 / 8) << 1 | 1, to);
    let mut packed = Bits::new(to);
    for value in values.drain(..) {
        packed.push(u64::from(value), bits);
    }
    packed.finish();
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the page about encodings has it.
    fn unpacked(mut bytes: &[u8], bits: u32) -> Vec<u32> {
        let mut values = Vec::new();
        while !bytes.is_empty() {
            let (mut header, mut shift) = (0u64, 0);
            loop {
                let byte = bytes[0];
                bytes = &bytes[1..];
                header |= u64::from(byte & 0x7f) << shift;
                shift += 7;
                if byte < 0x80 {
                    break;
                }
            }
            let count = (header >> 1) as usize;
            if header & 1 == 0 {
                let len = bits.div_ceil(8) as usize;
                let mut value = [0; 4];
                value[..len].copy_from_slice(&bytes[..len]);
                bytes = &bytes[len..];
                values.extend(std::iter::repeat_n(u32::from_le_bytes(value), count));
            } else {
                let len = count * bits as usize;
                for at in 0..count * 8 {
                    let bit = |n: usize| u32::from(bytes[n / 8] >> (n % 8) & 1);
                    let first = at * bits as usize;
                    values.push((0..bits as usize).map(|n| bit(first + n) << n).sum());
                }
                bytes = &bytes[len..];
            }
        }
        values
    }

    fn one_each(rows: &[i64]) -> impl Iterator<Item = (Option<i64>, u32)> + Clone {
        rows.iter().map(|number| (Some(*number), 1))
    }

    #[test]
    fn runs_and_groups_come_back() {
        let mut random = forktrace_core::random::SplitMix(7);
        for bits in [1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32] {
            for _ in 0..50 {
                let mut values = Vec::new();
                while values.len() < 300 {
                    let value = (random.below(1 << bits)) as u32;
                    let times = [1, 1, 3, 7, 8, 9, 40][random.below(7) as usize];
                    values.extend(std::iter::repeat_n(value, times));
                }
                values.truncate(random.below(300) as usize);
                let mut packed = Vec::new();
                let mut all = Runs::default();
                values.iter().for_each(|value| all.push(*value, 1));
                runs(all.iter(), bits, &mut packed);
                let found = unpacked(&packed, bits);
                assert_eq!(found[..values.len()], values, "{bits}");
                assert!(found[values.len()..].iter().all(|it| *it == 0));
            }
        }
    }

    #[test]
    fn numbers_come_back_by_their_places() {
        let mut random = forktrace_core::random::SplitMix(3);
        for (least, span) in [(0, 5), (-3, 300), (i64::MIN, u64::MAX), (7, 1 << 40)] {
            let number = |draw: u64| i64::wrapping_add(least, (draw % 50 * (span / 50)) as i64);
            let rows: Vec<i64> = (0..2000).map(|_| number(random.next())).collect();
            let found = numbers(one_each(&rows), 100).expect("they are few");
            let values: Vec<i64> = found
                .values
                .chunks_exact(8)
                .map(|it| i64::from_le_bytes(it.try_into().expect("eight")))
                .collect();
            assert_eq!(values.len(), found.count as usize);
            let back = found.indices.iter();
            let back = back.flat_map(|(at, times)| vec![values[at as usize]; times as usize]);
            assert_eq!(back.collect::<Vec<i64>>(), rows);
        }
        assert!(numbers(one_each(&[3, 1, 2]), 2).is_none());
        assert_eq!(numbers(one_each(&[]), 1).map(|it| it.count), Some(0));
    }

    #[test]
    fn equal_values_take_no_room() {
        let mut packed = Vec::new();
        runs([(5, 100_000)].into_iter(), 17, &mut packed);
        assert_eq!(packed.len(), 6);
    }
}
