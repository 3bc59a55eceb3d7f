//! Columns of values that come again and again: each value once in a dictionary, and the rows'
//! numbers in it. The library writes such columns too, but compares the value of each row; here
//! texts have numbers already.
//!
//! The form is that of <https://parquet.apache.org/docs/file-format/data-pages/encodings/>: a page
//! with the dictionary, and one of version 2 with the numbers, as runs of equal ones and packed bits.

use std::{collections::HashMap, io};

use bytes::Bytes;
use parquet::{
    basic::{Compression, Encoding, EncodingMask, PageType, ZstdLevel},
    column::{
        page::{CompressedPage, Page, PageWriter as _},
        writer::ColumnCloseResult,
    },
    data_type::ByteArray,
    errors::ParquetError,
    file::{
        metadata::{ColumnChunkMetaData, PageEncodingStats},
        page_index::offset_index::{OffsetIndexMetaData, PageLocation},
        statistics::Statistics,
        writer::{SerializedPageWriter, TrackedWrite},
    },
    schema::types::ColumnDescPtr,
};

/// Numbers are left to the library where more than so many differ.
const MOST_NUMBERS: u32 = 1 << 15;
/// Numbers that are no farther apart are found by their distance from the least one.
const NEAR: usize = 1 << 16;
/// Longer texts don't tell an engine where to look, bytes.
const LONGEST_STATISTIC: usize = 256;
/// A run of fewer equal values is packed in bits like others.
const SHORTEST_RUN: usize = 8;

/// A dictionary, and the values by their numbers in it.
pub(super) struct Numbered {
    /// The values, packed one after the other.
    values: Vec<u8>,
    count: u32,
    indices: Vec<u32>,
    first_and_last: Option<(Statistic, Statistic)>,
}

/// A value that tells which others there can be.
enum Statistic {
    Number(i64),
    Text(ByteArray),
}

/// Texts, each given by its number among `words`.
pub(super) fn texts(words: &[ByteArray], rows: &[u32]) -> Numbered {
    let mut of_word = vec![u32::MAX; words.len()];
    let (mut values, mut count) = (Vec::new(), 0);
    let mut found: Option<(&ByteArray, &ByteArray)> = None;
    let indices = rows.iter().map(|word| {
        // Only numbers that were given out come back.
        let Some(index) = of_word.get_mut(*word as usize) else {
            return 0;
        };
        if *index == u32::MAX {
            *index = count;
            count += 1;
            let text = &words[*word as usize];
            values.extend_from_slice(&(text.len() as u32).to_le_bytes());
            values.extend_from_slice(text.data());
            let (first, last) = found.unwrap_or((text, text));
            let first = if text.data() < first.data() {
                text
            } else {
                first
            };
            let last = if text.data() > last.data() {
                text
            } else {
                last
            };
            found = Some((first, last));
        }
        *index
    });
    let indices = indices.collect();
    let short = |text: &ByteArray| text.len() <= LONGEST_STATISTIC;
    let found = found.filter(|(first, last)| short(first) && short(last));
    let of = |text: &ByteArray| Statistic::Text(text.clone());
    Numbered {
        values,
        count,
        indices,
        first_and_last: found.map(|(first, last)| (of(first), of(last))),
    }
}

/// Numbers; `None`: too many differ.
pub(super) fn numbers(rows: &[i64]) -> Option<Numbered> {
    let ends = rows.iter().min().zip(rows.iter().max());
    let mut places = Places::new(ends);
    let (mut values, mut count) = (Vec::new(), 0);
    let mut indices = Vec::with_capacity(rows.len());
    let mut before: Option<(i64, u32)> = None;
    for number in rows {
        let index = match before {
            Some((same, index)) if same == *number => index,
            _ => {
                let index = places.of(*number, count);
                if index == count {
                    if count >= MOST_NUMBERS {
                        return None;
                    }
                    count += 1;
                    values.extend_from_slice(&number.to_le_bytes());
                }
                index
            }
        };
        before = Some((*number, index));
        indices.push(index);
    }
    Some(Numbered {
        values,
        count,
        indices,
        first_and_last: ends.map(|(a, b)| (Statistic::Number(*a), Statistic::Number(*b))),
    })
}

/// Where numbers are in a dictionary.
enum Places {
    /// Of each number from the first on; [`u32::MAX`]: it is in none.
    Near(i64, Vec<u32>),
    Far(HashMap<i64, u32>),
}

impl Places {
    /// For numbers from and to these.
    fn new(ends: Option<(&i64, &i64)>) -> Self {
        let span = ends.map_or(0, |(first, last)| last.abs_diff(*first));
        match (ends, usize::try_from(span)) {
            (Some((first, _)), Ok(span)) if span < NEAR => {
                Self::Near(*first, vec![u32::MAX; span + 1])
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
    /// Packs them. `defined`: of a column that may have no value, 1 for each row that has one.
    pub(super) fn encode(
        self,
        column: ColumnDescPtr,
        defined: &[i16],
    ) -> Result<(Bytes, ColumnCloseResult), ParquetError> {
        let rows = if defined.is_empty() {
            self.indices.len()
        } else {
            defined.len()
        };
        let nulls = (rows - self.indices.len()) as u64;
        let mut sink = TrackedWrite::new(Vec::new());
        let mut pages = SerializedPageWriter::new(&mut sink);
        let dictionary = pages.write_page(self.dictionary()?)?;
        let data = pages.write_page(self.data(rows, nulls, defined)?)?;
        let [dictionary_size, data_size] =
            [&dictionary, &data].map(|it| (it.compressed_size, it.uncompressed_size));
        let stats = |page_type, encoding| PageEncodingStats {
            page_type,
            encoding,
            count: 1,
        };
        let encodings = [Encoding::PLAIN, Encoding::RLE, Encoding::RLE_DICTIONARY];
        let statistics = match self.first_and_last {
            Some((Statistic::Number(first), Statistic::Number(last))) => {
                Statistics::int64(Some(first), Some(last), None, Some(nulls), false)
            }
            Some((Statistic::Text(first), Statistic::Text(last))) => {
                Statistics::byte_array(Some(first), Some(last), None, Some(nulls), false)
            }
            _ if column.physical_type() == parquet::basic::Type::INT64 => {
                Statistics::int64(None, None, None, Some(nulls), false)
            }
            _ => Statistics::byte_array(None, None, None, Some(nulls), false),
        };
        let metadata = ColumnChunkMetaData::builder(column)
            .set_compression(compression())
            .set_encodings_mask(EncodingMask::new_from_encodings(encodings.iter()))
            .set_page_encoding_stats(vec![
                stats(PageType::DICTIONARY_PAGE, Encoding::PLAIN),
                stats(PageType::DATA_PAGE_V2, Encoding::RLE_DICTIONARY),
            ])
            .set_total_compressed_size((dictionary_size.0 + data_size.0) as i64)
            .set_total_uncompressed_size((dictionary_size.1 + data_size.1) as i64)
            .set_num_values(rows as i64)
            .set_dictionary_page_offset(Some(dictionary.offset as i64))
            .set_data_page_offset(data.offset as i64)
            .set_statistics(statistics)
            .build()?;
        let place = PageLocation {
            offset: data.offset as i64,
            compressed_page_size: data_size.0 as i32,
            first_row_index: 0,
        };
        let closed = ColumnCloseResult {
            bytes_written: dictionary.bytes_written + data.bytes_written,
            rows_written: rows as u64,
            metadata,
            bloom_filter: None,
            column_index: None,
            offset_index: Some(OffsetIndexMetaData {
                page_locations: vec![place],
                unencoded_byte_array_data_bytes: None,
            }),
        };
        Ok((Bytes::from(sink.into_inner()?), closed))
    }

    fn dictionary(&self) -> Result<CompressedPage, ParquetError> {
        let page = Page::DictionaryPage {
            buf: compressed(&self.values)?.into(),
            num_values: self.count,
            encoding: Encoding::PLAIN,
            is_sorted: false,
        };
        Ok(CompressedPage::new(page, self.values.len()))
    }

    fn data(
        &self,
        rows: usize,
        nulls: u64,
        defined: &[i16],
    ) -> Result<CompressedPage, ParquetError> {
        let mut buffer = Vec::new();
        if !defined.is_empty() {
            let levels: Vec<u32> = defined.iter().map(|it| *it as u32).collect();
            runs(&levels, 1, &mut buffer);
        }
        let levels_len = buffer.len();
        let bits = (u32::BITS - self.count.saturating_sub(1).leading_zeros()).max(1);
        let mut indices = vec![bits as u8];
        runs(&self.indices, bits, &mut indices);
        let uncompressed = levels_len + indices.len();
        let smaller = compressed(&indices)?;
        let is_compressed = smaller.len() < indices.len();
        buffer.extend(if is_compressed { smaller } else { indices });
        let page = Page::DataPageV2 {
            buf: buffer.into(),
            num_values: rows as u32,
            encoding: Encoding::RLE_DICTIONARY,
            num_nulls: nulls as u32,
            num_rows: rows as u32,
            def_levels_byte_len: levels_len as u32,
            rep_levels_byte_len: 0,
            is_compressed,
            statistics: None,
        };
        Ok(CompressedPage::new(page, uncompressed))
    }
}

/// How all columns are compressed.
pub(super) fn compression() -> Compression {
    Compression::ZSTD(ZstdLevel::default())
}

fn compressed(bytes: &[u8]) -> Result<Vec<u8>, ParquetError> {
    let level = ZstdLevel::default().compression_level();
    zstd::bulk::compress(bytes, level)
        .map_err(|error: io::Error| ParquetError::External(error.into()))
}

/// Packs numbers of so many bits: runs of equal ones, and groups of eight.
fn runs(values: &[u32], bits: u32, to: &mut Vec<u8>) {
    let mut literals_from = 0;
    let mut at = 0;
    while at < values.len() {
        let value = values[at];
        let equal = values[at..].iter().take_while(|it| **it == value).count();
        // Groups that come before a run have eight each.
        let missing = (at - literals_from).wrapping_neg() % 8;
        if equal >= SHORTEST_RUN + missing {
            let run_from = at + missing;
            groups(&values[literals_from..run_from], bits, to);
            varint(((at + equal - run_from) as u64) << 1, to);
            let bytes = value.to_le_bytes();
            to.extend_from_slice(&bytes[..bits.div_ceil(8) as usize]);
            literals_from = at + equal;
        }
        at += equal;
    }
    groups(&values[literals_from..], bits, to);
}

/// Groups of eight values; what the last one lacks is 0.
fn groups(values: &[u32], bits: u32, to: &mut Vec<u8>) {
    if values.is_empty() {
        return;
    }
    varint((values.len().div_ceil(8) as u64) << 1 | 1, to);
    let (mut packed, mut filled) = (0u64, 0);
    let padding = values.len().next_multiple_of(8) - values.len();
    for value in values.iter().chain(std::iter::repeat_n(&0, padding)) {
        packed |= u64::from(*value) << filled;
        filled += bits;
        while filled >= 8 {
            to.push(packed as u8);
            packed >>= 8;
            filled -= 8;
        }
    }
}

fn varint(mut number: u64, to: &mut Vec<u8>) {
    while number >= 0x80 {
        to.push(number as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
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
                runs(&values, bits, &mut packed);
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
            let found = numbers(&rows).expect("they are few");
            let values: Vec<i64> = found
                .values
                .chunks_exact(8)
                .map(|it| i64::from_le_bytes(it.try_into().expect("eight")))
                .collect();
            assert_eq!(values.len(), found.count as usize);
            let back: Vec<i64> = found
                .indices
                .iter()
                .map(|at| values[*at as usize])
                .collect();
            assert_eq!(back, rows);
        }
        assert!(numbers(&(0..40_000).collect::<Vec<_>>()).is_none());
        assert_eq!(numbers(&[]).map(|it| it.count), Some(0));
    }

    #[test]
    fn equal_values_take_no_room() {
        let mut packed = Vec::new();
        runs(&[5; 100_000], 17, &mut packed);
        assert_eq!(packed.len(), 6);
    }
}
