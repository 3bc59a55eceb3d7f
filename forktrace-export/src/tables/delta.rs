//! Columns of numbers that seldom come twice: the differences from one to the next, in as many bits
//! as some of them need. The library writes such columns too, number by number; here are all of
//! them at once.
//!
//! The form is that of
//! <https://parquet.apache.org/docs/file-format/data-pages/encodings/#delta-encoding-delta_binary_packed--5>.

use parquet::{
    basic::{Encoding, EncodingMask, PageType},
    errors::ParquetError,
    file::{metadata::PageEncodingStats, statistics::Statistics},
    schema::types::ColumnDescPtr,
};

use super::pages::{Bits, Packed, Stored, data, pack, varint};

/// Differences from one least one.
const BLOCK: usize = 256;
/// Those of as many bits each, and how many times in a block.
const PART: usize = 64;
const PARTS: usize = BLOCK / PART;

/// Packs numbers, one of each row.
pub(super) fn encode(column: ColumnDescPtr, rows: &[i64]) -> Result<Packed, ParquetError> {
    let page = data(
        (rows.len(), 0),
        Encoding::DELTA_BINARY_PACKED,
        (Vec::new(), differences(rows)),
    )?;
    let ends = rows.iter().fold(None, |ends: Option<(i64, i64)>, number| {
        let (first, last) = ends.unwrap_or((*number, *number));
        Some((first.min(*number), last.max(*number)))
    });
    let (first, last) = ends.unzip();
    let encodings = [Encoding::RLE, Encoding::DELTA_BINARY_PACKED];
    let stored = Stored {
        statistics: Statistics::int64(first, last, None, Some(0), false),
        encodings: EncodingMask::new_from_encodings(encodings.iter()),
        pages: vec![PageEncodingStats {
            page_type: PageType::DATA_PAGE_V2,
            encoding: Encoding::DELTA_BINARY_PACKED,
            count: 1,
        }],
    };
    pack(column, rows.len(), (None, page), stored)
}

fn differences(rows: &[i64]) -> Vec<u8> {
    let mut to = Vec::with_capacity(rows.len() * 3);
    varint(BLOCK as u64, &mut to);
    varint(PARTS as u64, &mut to);
    varint(rows.len() as u64, &mut to);
    varint(zigzag(rows.first().copied().unwrap_or(0)), &mut to);
    let mut block = [0i64; BLOCK];
    let mut from = 1;
    while from < rows.len() {
        let len = (rows.len() - from).min(BLOCK);
        let pairs = rows[from - 1..from + len].array_windows::<2>();
        for (difference, [before, number]) in block.iter_mut().zip(pairs) {
            *difference = number.wrapping_sub(*before);
        }
        add_block(&mut block, len, &mut to);
        from += len;
    }
    to
}

/// Adds so many differences. What their last part lacks is as the least of them.
fn add_block(block: &mut [i64; BLOCK], len: usize, to: &mut Vec<u8>) {
    let least = block[..len].iter().copied().min().unwrap_or(0);
    block[len..].fill(least);
    varint(zigzag(least), to);
    let over = |difference: &i64| difference.wrapping_sub(least) as u64;
    let mut widths = [0u32; PARTS];
    for (width, part) in widths.iter_mut().zip(block.chunks(PART)) {
        let all = part.iter().map(over).fold(0, |all, one| all | one);
        *width = u64::BITS - all.leading_zeros();
    }
    to.extend(widths.map(|width| width as u8));
    let parts = block.chunks(PART).zip(widths).take(len.div_ceil(PART));
    for (part, width) in parts {
        let mut bits = Bits::new(to);
        for difference in part {
            bits.push(over(difference), width);
        }
        bits.finish();
    }
}

/// A number with a sign as one without: small where it is near 0.
fn zigzag(number: i64) -> u64 {
    (number << 1 ^ number >> (i64::BITS - 1)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the page about encodings has it.
    fn unpacked(mut bytes: &[u8]) -> Vec<i64> {
        let number = |bytes: &mut &[u8]| {
            let (mut value, mut shift) = (0u64, 0);
            loop {
                let byte = bytes[0];
                *bytes = &bytes[1..];
                value |= u64::from(byte & 0x7f) << shift;
                shift += 7;
                if byte < 0x80 {
                    return value;
                }
            }
        };
        let signed = |value: u64| (value >> 1) as i64 ^ -((value & 1) as i64);
        let block = number(&mut bytes) as usize;
        let parts = number(&mut bytes) as usize;
        let count = number(&mut bytes) as usize;
        let mut last = signed(number(&mut bytes));
        let mut values = vec![last];
        while values.len() < count {
            let least = signed(number(&mut bytes));
            let widths = bytes[..parts].to_vec();
            bytes = &bytes[parts..];
            for width in widths {
                if values.len() >= count {
                    break;
                }
                let len = block / parts;
                for at in 0..len {
                    let bit = |n: usize| u64::from(bytes[n / 8] >> (n % 8) & 1);
                    let first = at * usize::from(width);
                    let over: u64 = (0..usize::from(width)).map(|n| bit(first + n) << n).sum();
                    last = last.wrapping_add(least).wrapping_add(over as i64);
                    values.push(last);
                }
                bytes = &bytes[len * usize::from(width) / 8..];
            }
        }
        assert!(bytes.is_empty());
        values.truncate(count);
        values
    }

    #[test]
    fn numbers_come_back() {
        let mut random = forktrace_core::random::SplitMix(5);
        for len in [1, 2, 63, 64, 65, 66, 256, 257, 258, 1000] {
            for shift in [0, 1, 7, 31, 32, 33, 50, 63] {
                let rows: Vec<i64> = (0..len).map(|_| random.next() as i64 >> shift).collect();
                assert_eq!(unpacked(&differences(&rows)), rows, "{len} {shift}");
                let steady: Vec<i64> = (0..len).map(|at| at << (shift % 40)).collect();
                assert_eq!(unpacked(&differences(&steady)), steady, "{len} {shift}");
            }
        }
    }
}
