//! What the container promises: whatever happens to a file, its whole blocks
//! are read, and nothing else is taken for one.

#![allow(clippy::unwrap_used)]

mod harm;
mod opening;
mod writing;

use std::ops::Range;
use std::time::{Duration, Instant};

use super::*;
use crate::{random::SplitMix, trace_file::damage::recognise};

const VERSION: u32 = 3;
const FILE_ID: u32 = 0x1234_abcd;

/// A block as it was given to the writer, and where it went.
#[derive(Clone, Debug)]
struct Original {
    info: BlockInfo,
    payload: Vec<u8>,
    start: usize,
    end: usize,
}

/// Writes the payloads as blocks with telling headers.
fn file(payloads: &[Vec<u8>]) -> (Vec<u8>, Vec<Original>) {
    let mut writer = BlockWriter::with_file_id(Vec::new(), VERSION, FILE_ID).unwrap();
    let mut originals = Vec::new();
    for (i, payload) in payloads.iter().enumerate() {
        let start = writer.bytes_written() as usize;
        writer.append(&info(i), payload).unwrap();
        originals.push(Original {
            info: info(i),
            payload: payload.clone(),
            start,
            end: writer.bytes_written() as usize,
        });
    }
    (writer.into_inner(), originals)
}

fn info(i: usize) -> BlockInfo {
    BlockInfo {
        kind: i as u8 % 3,
        records: 10 + i as u32,
        first_ns: 1000 * i as u64 + 100,
        last_ns: 1000 * i as u64 + 900,
    }
}

/// Bytes that don't compress.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut random = SplitMix(seed);
    std::iter::repeat_with(|| random.next() as u8)
        .take(len)
        .collect()
}

/// A trace with one block, which looks like noise to the compressor.
fn other_trace() -> Vec<u8> {
    let info = BlockInfo {
        kind: 1,
        records: 0x1f2e_3d4c,
        first_ns: 0x9a8b_7c6d_5e4f_3021,
        last_ns: 0xfedc_ba98_7654_3210,
    };
    let mut writer = BlockWriter::with_file_id(Vec::new(), VERSION, !FILE_ID).unwrap();
    writer.append(&info, &noise(40, 11)).unwrap();
    writer.into_inner()
}

/// Every sort of block, in about a kilobyte.
fn sample() -> (Vec<u8>, Vec<Original>) {
    let magics = [noise(9, 1), BLOCK_MAGIC.repeat(4), noise(30, 2)].concat();
    file(&[
        b"names and clocks".to_vec(),
        (0..400u32).flat_map(|i| (i / 7).to_le_bytes()).collect(),
        noise(70, 3),
        Vec::new(),
        magics,
        other_trace(),
        b"abcabcabc".repeat(20),
        Vec::new(),
    ])
}

struct Read {
    blocks: Vec<(Block, Vec<u8>)>,
    damages: Vec<Damage>,
}

/// Reads a file to its end, and checks what must hold of any file: blocks and
/// damages cover it without gap or overlap, and sequence numbers increase.
fn read(data: &[u8]) -> Result<Read, OpenError> {
    let read = read_whole(data)?;
    let parts = Parts(data);
    let mut by_parts = blocks_of(Source::File(&parts), VERSION..=VERSION)?;
    let mut payload = Vec::new();
    let (mut blocks, mut damages) = (Vec::new(), Vec::new());
    while let Some(item) = by_parts.read_next(&mut payload) {
        match item {
            Ok(block) => blocks.push((block, payload.clone())),
            Err(damage) => damages.push(damage),
        }
    }
    assert_eq!((&blocks, &damages), (&read.blocks, &read.damages));
    Ok(read)
}

/// A file of which parts are read.
struct Parts<'a>(&'a [u8]);

impl crate::trace_file::Bytes for Parts<'_> {
    fn length(&self) -> usize {
        self.0.len()
    }

    fn read(&self, at: usize, into: &mut [u8]) -> usize {
        Source::Memory(self.0).read(at, into)
    }
}

fn read_whole(data: &[u8]) -> Result<Read, OpenError> {
    let mut reader = blocks(data, VERSION..=VERSION)?;
    // A dirty buffer, to see that nothing is left in it.
    let mut payload = noise(50, 9);
    let mut read = Read {
        blocks: Vec::new(),
        damages: Vec::new(),
    };
    let mut at = FILE_HEADER_LEN as u64;
    let mut lost = 0;
    while let Some(item) = reader.read_next(&mut payload) {
        match item {
            Ok(block) => {
                assert_eq!(block.offset, at);
                assert_eq!(block.sequence, read.blocks.len() as u64 + lost);
                let stored_len = u32_at(&data[at as usize..], 48);
                at += (BLOCK_HEADER_LEN as u64) + u64::from(stored_len);
                read.blocks.push((block, payload.clone()));
            }
            Err(damage) => {
                assert_eq!(damage.offset, at);
                assert_eq!(damage.bytes == 0, damage.kind == DamageKind::Missing);
                assert_eq!(damage.blocks_lost.is_none(), damage.before_ns.is_none());
                assert!(payload.is_empty());
                assert!(!damage.to_string().is_empty());
                at += damage.bytes;
                lost += damage.blocks_lost.unwrap_or(0);
                read.damages.push(damage);
            }
        }
    }
    assert_eq!(at, data.len() as u64);
    assert!(payload.is_empty());
    Ok(read)
}

/// Checks that exactly these blocks were read, each as it was written.
#[track_caller]
fn assert_blocks<'a>(read: &Read, expected: impl IntoIterator<Item = (usize, &'a Original)>) {
    let expected: Vec<_> = expected.into_iter().collect();
    let found = read.blocks.iter().map(|(block, _)| block.sequence as usize);
    let wanted = expected.iter().map(|(i, _)| *i);
    assert_eq!(found.collect::<Vec<_>>(), wanted.collect::<Vec<_>>());
    for ((block, payload), (i, original)) in read.blocks.iter().zip(expected) {
        assert_eq!(block.info, original.info, "block {i}");
        // Not assert_eq: payloads are too long to print.
        assert!(*payload == original.payload, "block {i} differs");
    }
}

/// All originals but some.
fn all_but(
    originals: &[Original],
    lost: impl Fn(usize, &Original) -> bool,
) -> impl Iterator<Item = (usize, &Original)> {
    originals
        .iter()
        .enumerate()
        .filter(move |(i, original)| !lost(*i, original))
}

fn none(_: usize, _: &Original) -> bool {
    false
}

/// The records of some originals.
fn records(originals: &[Original]) -> u64 {
    originals.iter().map(|o| u64::from(o.info.records)).sum()
}

/// The damage that costs a range of blocks and lies where they were.
fn damage(originals: &[Original], lost: Range<usize>, kind: DamageKind, bytes: usize) -> Damage {
    let next = originals.get(lost.end);
    Damage {
        offset: originals[lost.start].start as u64,
        bytes: bytes as u64,
        kind,
        blocks_lost: next.map(|_| lost.len() as u64),
        records_lost: next.map(|_| records(&originals[lost.clone()])),
        lost: None,
        after_ns: originals[..lost.start]
            .last()
            .map_or(0, |before| before.info.last_ns),
        before_ns: next.map(|next| next.info.first_ns),
    }
}

#[test]
fn what_is_written_is_read() {
    let (data, originals) = sample();
    let read = read(&data).unwrap();
    assert_blocks(&read, all_but(&originals, none));
    assert_eq!(read.damages, []);
    for ((block, _), original) in read.blocks.iter().zip(&originals) {
        assert_eq!(block.offset, original.start as u64);
    }
    assert_eq!(originals[7].end, data.len());
}

#[test]
fn the_sample_has_blocks_of_both_encodings_and_a_foreign_trace_in_the_clear() {
    let (data, originals) = sample();
    let encodings = originals.iter().map(|o| data[o.start + 57]);
    assert_eq!(encodings.collect::<Vec<_>>(), [0, 1, 0, 0, 0, 0, 1, 0]);
    let foreign = &data[originals[5].start + BLOCK_HEADER_LEN..originals[5].end];
    assert_eq!(foreign, originals[5].payload);
    let mut inner = blocks(foreign, VERSION..=VERSION).unwrap();
    assert!(inner.read_next(&mut Vec::new()).unwrap().is_ok());
}

#[test]
fn a_file_without_blocks_is_read() {
    let (data, _) = file(&[]);
    assert_eq!(data.len(), FILE_HEADER_LEN);
    let read = read(&data).unwrap();
    assert!(read.blocks.is_empty() && read.damages.is_empty());
}

/// The bytes themselves: a change here is a new version of the format.
#[test]
fn the_format_is_as_documented() {
    let mut writer = BlockWriter::with_file_id(Vec::new(), 3, 0x0403_0201).unwrap();
    let info = BlockInfo {
        kind: 7,
        records: 0x0102_0304,
        first_ns: 0x1112_1314_1516_1718,
        last_ns: 0x2122_2324_2526_2728,
    };
    writer.append(&info, b"").unwrap();
    writer.append(&info, b"hello").unwrap();
    let file_header = b"\x89FTR\r\n\x1a\n\x03\0\0\0\x01\x02\x03\x04";
    let block = b"\xf5KB\xd1\x01\x02\x03\x04\
        \x01\0\0\0\0\0\0\0\
        \x04\x03\x02\x01\0\0\0\0\
        \x18\x17\x16\x15\x14\x13\x12\x11\
        \x28\x27\x26\x25\x24\x23\x22\x21\
        \x04\x03\x02\x01\
        \x05\0\0\0\x05\0\0\0\x86\xa6\x10\x36\
        \x07\0\0\0";
    let expected = [
        file_header.as_slice(),
        &crc32fast::hash(file_header).to_le_bytes(),
    ]
    .concat();
    let data = writer.into_inner();
    assert_eq!(data[..20], expected);
    let expected = [
        block.as_slice(),
        &crc32fast::hash(block).to_le_bytes(),
        b"hello",
    ]
    .concat();
    assert_eq!(data[84..], expected);
}

#[test]
fn a_cut_at_any_byte_costs_only_the_block_that_is_cut() {
    let (data, originals) = sample();
    for cut in 0..data.len() {
        let cut_file = &data[..cut];
        let read = match read(cut_file) {
            Ok(read) => read,
            Err(OpenError::Empty) if cut == 0 => continue,
            Err(OpenError::TooShort { len }) if cut < FILE_HEADER_LEN => {
                assert_eq!(len, cut);
                continue;
            }
            Err(error) => panic!("cut at {cut}: {error}"),
        };
        assert!(cut >= FILE_HEADER_LEN);
        assert_blocks(&read, all_but(&originals, |_, o| o.end > cut));

        let hit = originals.iter().position(|o| o.start < cut && cut < o.end);
        let expected = hit.map(|hit| {
            let Original { start, info, .. } = originals[hit];
            Damage {
                lost: (cut >= start + BLOCK_HEADER_LEN).then_some(info),
                ..damage(
                    &originals[..=hit],
                    hit..hit + 1,
                    DamageKind::Truncated,
                    cut - start,
                )
            }
        });
        assert_eq!(read.damages, Vec::from_iter(expected), "cut at {cut}");
    }
}

#[test]
fn a_flip_of_any_bit_costs_only_the_block_that_is_hit() {
    let (data, originals) = sample();
    for bit in 0..data.len() * 8 {
        let at = bit / 8;
        let mut data = data.clone();
        data[at] ^= 1 << (bit % 8);
        if at < FILE_HEADER_LEN {
            assert!(
                matches!(read(&data), Err(OpenError::HeaderDamaged)),
                "bit {bit}"
            );
            continue;
        }
        let read = read(&data).unwrap();
        let hit = originals.iter().position(|o| at < o.end).unwrap();
        assert_blocks(&read, all_but(&originals, |i, _| i == hit));

        let Original {
            start, end, info, ..
        } = originals[hit];
        let (kind, lost) = if at < start + BLOCK_HEADER_LEN {
            (DamageKind::BadHeader, None)
        } else {
            (DamageKind::BadPayload, Some(info))
        };
        let expected = Damage {
            lost,
            ..damage(&originals, hit..hit + 1, kind, end - start)
        };
        assert_eq!(read.damages, [expected], "bit {bit}");
    }
}

#[test]
fn any_byte_taken_out_costs_only_the_block_that_is_hit() {
    let (data, originals) = sample();
    for at in FILE_HEADER_LEN..data.len() {
        let mut data = data.clone();
        data.remove(at);
        let read = read(&data).unwrap();
        let hit = originals.iter().position(|o| at < o.end).unwrap();
        assert_blocks(&read, all_but(&originals, |i, _| i == hit));
        assert_eq!(read.damages.len(), 1, "byte {at}");
    }
}

#[test]
fn any_stretch_of_blocks_taken_out_is_counted() {
    let (data, originals) = sample();
    for from in 0..originals.len() {
        for to in from + 1..originals.len() {
            let (start, end) = (originals[from].start, originals[to].start);
            let data = [&data[..start], &data[end..]].concat();
            let read = read(&data).unwrap();
            assert_blocks(&read, all_but(&originals, |i, _| (from..to).contains(&i)));
            let expected = damage(&originals, from..to, DamageKind::Missing, 0);
            assert_eq!(read.damages, [expected]);
        }
    }
}

/// A disk sector of zeros over the middle of a file.
#[test]
fn a_hole_costs_the_blocks_it_touches_and_they_are_counted() {
    let (mut data, originals) = sample();
    let (start, end) = (originals[2].start + 70, originals[4].start + 3);
    data[start..end].fill(0);
    let read = read(&data).unwrap();
    assert_blocks(&read, all_but(&originals, |i, _| (2..=4).contains(&i)));
    let blocks_lost: u64 = read.damages.iter().map(|d| d.blocks_lost.unwrap()).sum();
    let records_lost: u64 = read.damages.iter().map(|d| d.records_lost.unwrap()).sum();
    assert_eq!(blocks_lost, 3);
    assert_eq!(records_lost, records(&originals[2..=4]));
}

#[test]
fn bytes_between_blocks_are_skipped_and_reported() {
    let (data, originals) = sample();
    let foreign = originals[5].payload.as_slice();
    for garbage in [
        b"x".as_slice(),
        &BLOCK_MAGIC,
        &[0; 4096],
        &noise(500, 4),
        foreign,
    ] {
        for (i, at) in originals.iter().map(|o| o.start).enumerate() {
            let data = [&data[..at], garbage, &data[at..]].concat();
            let read = read(&data).unwrap();
            assert_blocks(&read, all_but(&originals, none));
            let expected = damage(&originals, i..i, DamageKind::BadHeader, garbage.len());
            assert_eq!(read.damages, [expected]);
        }
    }
}

#[test]
fn bytes_after_the_last_block_are_reported() {
    let (mut data, originals) = sample();
    data.extend_from_slice(b"something else");
    let read = read(&data).unwrap();
    assert_blocks(&read, all_but(&originals, none));
    assert_eq!(read.damages.len(), 1);
    assert_eq!(read.damages[0].kind, DamageKind::BadHeader);
    assert_eq!(read.damages[0].bytes, 14);
    assert_eq!(read.damages[0].blocks_lost, None);
}

#[test]
fn a_block_that_comes_twice_is_read_once() {
    let (data, originals) = sample();
    let (start, end) = (originals[1].start, originals[2].end);
    let again = &data[start..end];
    let data = [&data[..end], again, &data[end..]].concat();
    let read = read(&data).unwrap();
    assert_blocks(&read, all_but(&originals, none));
    assert_eq!(read.damages.len(), 1);
    assert_eq!(read.damages[0].kind, DamageKind::Repeated);
    assert_eq!(read.damages[0].blocks_lost, Some(0));
}

/// A header that is right about a payload that is not.
#[test]
fn a_payload_that_does_not_decompress_is_reported() {
    let (data, originals) = sample();
    for (raw_len, stored) in [
        (500, noise(100, 5)),
        // Too short and too long for what the header says.
        (500, zstd::bulk::compress(&[7; 499], 1).unwrap()),
        (500, zstd::bulk::compress(&[7; 501], 1).unwrap()),
        // Nothing the reader would allocate for.
        (
            MAX_PAYLOAD_LEN as u32,
            zstd::bulk::compress(&[7; 500], 1).unwrap(),
        ),
    ] {
        let header = Header {
            sequence: 1,
            records_before: u64::from(originals[0].info.records),
            info: originals[1].info,
            raw_len,
            stored_len: stored.len() as u32,
            payload_crc: crc32fast::hash(&stored),
            encoding: Encoding::Zstd,
        };
        let data = [
            &data[..originals[1].start],
            &header.encode(FILE_ID),
            &stored,
            &data[originals[1].end..],
        ]
        .concat();
        let read = read(&data).unwrap();
        assert_blocks(&read, all_but(&originals, |i, _| i == 1));
        assert_eq!(read.damages.len(), 1);
        assert_eq!(read.damages[0].kind, DamageKind::Undecodable);
        assert_eq!(read.damages[0].lost, Some(originals[1].info));
    }
}

#[test]
fn a_forged_header_is_no_header() {
    let good = Header {
        sequence: 0,
        records_before: 0,
        info: info(0),
        raw_len: 100,
        stored_len: 90,
        payload_crc: 0,
        encoding: Encoding::Zstd,
    };
    let decode = |header: Header| Header::decode(&header.encode(FILE_ID), FILE_ID);
    assert_eq!(decode(good), Some(good));
    assert_eq!(Header::decode(&good.encode(FILE_ID), FILE_ID + 1), None);
    for forged in [
        Header {
            raw_len: MAX_PAYLOAD_LEN as u32 + 1,
            ..good
        },
        Header {
            raw_len: u32::MAX,
            stored_len: u32::MAX,
            encoding: Encoding::Raw,
            ..good
        },
        Header {
            stored_len: 101,
            ..good
        },
        Header {
            encoding: Encoding::Raw,
            ..good
        },
    ] {
        assert_eq!(decode(forged), None);
    }
    // A way to store it, and a field, that this version does not have.
    for at in [57, 58, 59] {
        let mut bytes = good.encode(FILE_ID);
        bytes[at] = 2;
        let crc = crc32fast::hash(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(Header::decode(&bytes, FILE_ID), None);
    }
}
