//! What the container promises: whatever happens to a file, its whole blocks
//! are read, and nothing else is taken for one.

#![allow(clippy::unwrap_used)]

use std::ops::Range;
use std::time::{Duration, Instant};

use proptest::prelude::*;

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

/// A disk that takes so many bytes, then none, then any again.
struct FullDisk {
    taken: Vec<u8>,
    room: Option<usize>,
}

impl io::Write for FullDisk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = match self.room {
            None => bytes.len(),
            Some(0) => return Err(io::ErrorKind::StorageFull.into()),
            // Never much at once, as a pipe may do.
            Some(room) => room.min(bytes.len()).min(7),
        };
        self.room = self.room.map(|room| room - n);
        self.taken.extend_from_slice(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_costs_only_the_blocks_that_did_not_fit() {
    let (whole, originals) = sample();
    for room in FILE_HEADER_LEN..whole.len() {
        let disk = FullDisk {
            taken: Vec::new(),
            room: Some(room),
        };
        let mut writer = BlockWriter::with_file_id(disk, VERSION, FILE_ID).unwrap();
        let mut failed = None;
        for (i, original) in originals.iter().enumerate() {
            if let Err(error) = writer.append(&original.info, &original.payload) {
                assert_eq!(error.kind(), io::ErrorKind::StorageFull);
                assert_eq!(writer.bytes_written(), room as u64);
                assert_eq!(failed, None);
                failed = Some(i);
                writer.inner.room = None;
            }
        }
        let failed = failed.unwrap();
        let written = writer.bytes_written();
        let data = writer.into_inner().taken;
        assert_eq!(written, data.len() as u64);

        let read = read(&data).unwrap();
        assert_blocks(&read, all_but(&originals, |i, _| i == failed));
        let torn = room - originals[failed].start;
        if failed + 1 == originals.len() {
            assert_eq!(read.damages.len(), usize::from(torn > 0));
            continue;
        }
        let kind = match torn {
            0 => DamageKind::Missing,
            1..BLOCK_HEADER_LEN => DamageKind::BadHeader,
            _ => DamageKind::CutShort,
        };
        let expected = Damage {
            lost: (torn >= BLOCK_HEADER_LEN).then_some(originals[failed].info),
            ..damage(&originals, failed..failed + 1, kind, torn)
        };
        assert_eq!(read.damages, [expected], "room for {room}");
    }
}

/// Fails in turn in all the ways that `Write` allows.
struct Fickle {
    taken: Vec<u8>,
    calls: usize,
}

impl io::Write for Fickle {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.calls += 1;
        match self.calls % 3 {
            0 => Err(io::ErrorKind::Interrupted.into()),
            1 => {
                let n = bytes.len().min(100);
                self.taken.extend_from_slice(&bytes[..n]);
                Ok(n)
            }
            _ if self.taken.len() > 200 => Ok(0),
            _ => Err(io::ErrorKind::Interrupted.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn an_interrupted_write_goes_on_and_one_that_takes_nothing_fails() {
    let fickle = Fickle {
        taken: Vec::new(),
        calls: 0,
    };
    let mut writer = BlockWriter::with_file_id(fickle, VERSION, FILE_ID).unwrap();
    writer.append(&info(0), &noise(100, 12)).unwrap();
    let error = writer.append(&info(1), &noise(100, 13)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WriteZero);
    let written = writer.bytes_written() as usize;
    let data = writer.into_inner().taken;
    assert_eq!(written, data.len());
    let read = read(&data).unwrap();
    assert_eq!(read.blocks.len(), 1);
    assert_eq!(read.damages[0].kind, DamageKind::Truncated);
}

/// The half-written block's length leads by chance to where a later one
/// starts. Reading must not go on there, over the blocks in between.
#[test]
fn a_half_written_block_does_not_hide_the_blocks_after_it() {
    let torn_payload = noise(3 * (BLOCK_HEADER_LEN + 50) + 10, 6);
    for torn_off in [2, 3] {
        let payloads = [
            torn_payload.clone(),
            noise(50, 7),
            noise(50, 8),
            noise(50, 9),
        ];
        let (data, originals) = file(&payloads);
        let kept = originals[0].end - torn_off * (BLOCK_HEADER_LEN + 50);
        let data = [&data[..kept], &data[originals[0].end..]].concat();
        let read = read(&data).unwrap();
        assert_blocks(&read, all_but(&originals, |i, _| i == 0));
        assert_eq!(read.damages.len(), 1);
        assert_eq!(read.damages[0].kind, DamageKind::CutShort);
        assert_eq!(read.damages[0].bytes, (kept - originals[0].start) as u64);
    }
}

/// All of a payload is gone and the last byte of its header too, which the
/// first byte of the next header happens to stand in for.
#[test]
fn a_header_that_runs_into_the_next_does_not_hide_it() {
    let (data, kept) = (0..)
        .find_map(|records| {
            let mut writer = BlockWriter::with_file_id(Vec::new(), VERSION, FILE_ID).unwrap();
            let first = BlockInfo { records, ..info(0) };
            writer.append(&first, &noise(30, 14)).unwrap();
            writer.append(&info(1), b"next").unwrap();
            let data = writer.into_inner();
            let last = FILE_HEADER_LEN + BLOCK_HEADER_LEN - 1;
            (data[last] == BLOCK_MAGIC[0]).then_some((data, last))
        })
        .unwrap();
    let data = [&data[..kept], &data[kept + 31..]].concat();
    let read = read(&data).unwrap();
    assert_eq!(read.damages.len(), 1);
    assert_eq!(read.damages[0].kind, DamageKind::CutShort);
    assert_eq!(read.blocks.len(), 1);
    assert_eq!(read.blocks[0].1, b"next");
}

#[test]
fn a_payload_over_the_limit_is_refused_and_counted_as_lost() {
    let payload = noise(MAX_PAYLOAD_LEN + 1, 10);
    let mut writer = BlockWriter::with_file_id(Vec::new(), VERSION, FILE_ID).unwrap();
    let before = writer.bytes_written();
    let error = writer.append(&info(0), &payload).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    assert_eq!(writer.bytes_written(), before);
    writer
        .append(&info(1), &payload[..MAX_PAYLOAD_LEN])
        .unwrap();
    let data = writer.into_inner();
    let read = read(&data).unwrap();
    assert_eq!(read.blocks[0].1, payload[..MAX_PAYLOAD_LEN]);
    assert_eq!(read.damages[0].kind, DamageKind::Missing);
    assert_eq!(read.damages[0].blocks_lost, Some(1));
    assert_eq!(read.damages[0].records_lost, Some(10));
}

#[test]
fn a_real_file_is_written_and_read() {
    let mut file = tempfile::tempfile().unwrap();
    let mut writer = BlockWriter::new(file.try_clone().unwrap(), VERSION).unwrap();
    writer.append(&info(0), b"first").unwrap();
    writer.append(&info(1), &[1; 5000]).unwrap();
    writer.flush().unwrap();
    let written = writer.bytes_written();
    assert_eq!(writer.get_ref().metadata().unwrap().len(), written);
    drop(writer.into_inner());

    let mut data = Vec::new();
    io::Seek::rewind(&mut file).unwrap();
    io::Read::read_to_end(&mut file, &mut data).unwrap();
    let read = read(&data).unwrap();
    assert_eq!(read.blocks[0].1, b"first");
    assert_eq!(read.blocks[1].1, [1; 5000]);
    assert_eq!(read.blocks.len(), 2);
    assert_eq!(read.damages, []);
}

#[test]
fn each_file_has_an_id_of_its_own() {
    let id = || {
        let writer = BlockWriter::new(Vec::new(), VERSION).unwrap();
        u32_at(&writer.into_inner(), 12)
    };
    let ids = std::collections::HashSet::from([id(), id(), id(), id()]);
    assert!(ids.len() > 1);
}

#[track_caller]
fn assert_refused(data: &[u8], text: &str) {
    let error = blocks(data, VERSION..=VERSION).err().expect("not refused");
    assert_eq!(error.to_string(), text);
}

#[test]
fn what_is_not_a_trace_is_named() {
    assert_refused(
        b"",
        "the file is empty: no recording ever got as far as writing to it; record one with \
         `forktrace run --save FILE -- COMMAND`",
    );
    assert_refused(
        &sample().0[..12],
        "the file ends after 12 bytes, inside its 20-byte header, so there is nothing in it to \
         read; if it is a copy, copy it again, else record one with `forktrace run --save FILE \
         -- COMMAND`",
    );
    assert_refused(
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x01",
        "this is not a forktrace trace but a PNG image (it starts with 89 50 4e 47 0d 0a 1a 0a); \
         record one with `forktrace run --save FILE -- COMMAND`",
    );
    assert_refused(
        "Liebe Grüße aus Zürich".as_bytes(),
        "this is not a forktrace trace but a text file (it starts with 4c 69 65 62 65 20 47 72); \
         record one with `forktrace run --save FILE -- COMMAND`",
    );
    assert_refused(
        b"\x01\x02",
        "this is not a forktrace trace (it starts with 01 02); record one with \
         `forktrace run --save FILE -- COMMAND`",
    );
}

#[test]
fn files_are_recognised_by_how_they_start() {
    for (start, what) in [
        (
            b"PERFILE2h\0\0\0\0\0\0\0".as_slice(),
            Some("a perf recording"),
        ),
        (b"{\"schema_version\"", Some("JSON, perhaps a report")),
        (&[0; 16], Some("zeros, as after a crash")),
        // Ends inside a character.
        (b"abcdefghijklmno\xc3", Some("a text file")),
        (b"abcdefghijklm\xc3no", None),
        (b"abc\0", None),
        (b"\xc3", None),
    ] {
        assert_eq!(recognise(start), what, "{start:x?}");
    }
}

#[test]
fn another_version_is_refused_with_both_numbers() {
    let (data, _) = sample();
    let text = |supported| {
        blocks(&data, supported..=supported)
            .err()
            .unwrap()
            .to_string()
    };
    assert_eq!(
        text(2),
        "this trace was written by a newer forktrace: its format is version 3, this forktrace \
         reads version 2; update forktrace, or record it again"
    );
    assert_eq!(
        text(4),
        "this trace was written by an older forktrace: its format is version 3, this forktrace \
         reads version 4; read it with the forktrace that wrote it, or record it again"
    );
}

#[test]
fn a_transfer_as_text_is_recognised() {
    let (data, _) = sample();
    let replace = |from: &[u8], to: &[u8]| {
        let mut rest = data.as_slice();
        let mut changed = Vec::new();
        while let Some((first, others)) = rest.split_first() {
            if let Some(after) = rest.strip_prefix(from) {
                changed.extend_from_slice(to);
                rest = after;
            } else {
                changed.push(*first);
                rest = others;
            }
        }
        changed
    };
    let latin1: String = data.iter().map(|&byte| char::from(byte)).collect();
    for changed in [
        replace(b"\r\n", b"\n"),
        replace(b"\n", b"\r\n"),
        data.iter().map(|byte| byte & 0x7f).collect(),
        latin1.into_bytes(),
        String::from_utf8_lossy(&data).into_owned().into_bytes(),
    ] {
        assert!(matches!(
            blocks(&changed, VERSION..=VERSION),
            Err(OpenError::Mangled)
        ));
    }
}

#[test]
fn a_damage_says_what_is_lost() {
    let damage = Damage {
        offset: 84,
        bytes: 1,
        kind: DamageKind::BadPayload,
        blocks_lost: Some(1),
        records_lost: Some(200),
        lost: None,
        after_ns: 0,
        before_ns: Some(1),
    };
    let at_end = Damage {
        kind: DamageKind::Truncated,
        bytes: 70,
        blocks_lost: None,
        records_lost: None,
        before_ns: None,
        ..damage
    };
    for (damage, text) in [
        (
            damage,
            "at byte 84: a block whose content does not match its checksum; 1 byte skipped, \
             1 block with 200 records lost",
        ),
        (
            Damage {
                kind: DamageKind::Missing,
                bytes: 0,
                records_lost: None,
                ..damage
            },
            "at byte 84: blocks were never written or were taken out; 1 block lost",
        ),
        (
            Damage {
                kind: DamageKind::BadHeader,
                blocks_lost: Some(0),
                records_lost: Some(0),
                ..damage
            },
            "at byte 84: no intact block header; 1 byte skipped, nothing lost",
        ),
        (
            at_end,
            "at byte 84: the file ends inside a block; 70 bytes skipped, how much is lost is \
             unknown",
        ),
        (
            Damage {
                lost: Some(info(0)),
                ..at_end
            },
            "at byte 84: the file ends inside a block; 70 bytes skipped, at least 10 records lost",
        ),
    ] {
        assert_eq!(damage.to_string(), text);
    }
}

/// Files made to be slow: each takes minutes, or hours, if any part of the
/// reading is quadratic, and a second otherwise.
#[test]
fn a_forged_file_takes_linear_time() {
    const LEN: usize = 8 << 20;
    let header = |sequence, stored_len| {
        Header {
            sequence,
            records_before: 0,
            info: info(0),
            raw_len: stored_len,
            stored_len,
            payload_crc: 0,
            encoding: Encoding::Raw,
        }
        .encode(FILE_ID)
    };
    let count = LEN / BLOCK_HEADER_LEN;
    let to_the_end = |i: usize| ((count - i - 1) * BLOCK_HEADER_LEN) as u32;
    let forged = |one: &dyn Fn(usize) -> [u8; BLOCK_HEADER_LEN]| {
        let mut data = encode_file_header(VERSION, FILE_ID).to_vec();
        for i in 0..count {
            data.extend_from_slice(&one(i));
        }
        data
    };
    let started = Instant::now();
    for data in [
        [
            &encode_file_header(VERSION, FILE_ID)[..],
            &BLOCK_MAGIC.repeat(LEN / 4),
        ]
        .concat(),
        // Each claims all of the rest as its payload.
        forged(&|i| header(i as u64, to_the_end(i))),
        forged(&|_| header(0, to_the_end(0))),
        forged(&|_| header(u64::MAX, 0)),
        forged(&|i| header((count - i) as u64, to_the_end(i))),
        // Each claims all but a last one that seems to follow on it.
        forged(&|i| {
            let last = i + 1 == count;
            header(i as u64, if last { 0 } else { to_the_end(i + 1) })
        }),
        // Good blocks that send the reader looking for what is not there.
        forged(&|i| header(if i == 0 { 7 } else { 0 }, 0)),
    ] {
        let mut reader = blocks(&data, VERSION..=VERSION).unwrap();
        let mut payload = Vec::new();
        while reader.read_next(&mut payload).is_some() {}
    }
    let elapsed = started.elapsed();
    assert!(elapsed < Duration::from_secs(20), "took {elapsed:?}");
}

/// Something that happens to a file.
#[derive(Clone, Debug)]
enum Harm {
    Overwrite(usize, Vec<u8>),
    Insert(usize, Vec<u8>),
    Remove(usize, usize),
}

fn harm() -> impl Strategy<Value = Harm> {
    let bytes = || {
        prop_oneof![
            prop::collection::vec(any::<u8>(), 1..200),
            (1..200usize).prop_map(|len| vec![0; len]),
            (1..20usize).prop_map(|n| BLOCK_MAGIC.repeat(n)),
        ]
    };
    prop_oneof![
        (any::<usize>(), bytes()).prop_map(|(at, bytes)| Harm::Overwrite(at, bytes)),
        (any::<usize>(), bytes()).prop_map(|(at, bytes)| Harm::Insert(at, bytes)),
        (any::<usize>(), 1..300usize).prop_map(|(at, len)| Harm::Remove(at, len)),
    ]
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        (any::<u8>(), 0..3000usize).prop_map(|(byte, len)| vec![byte; len]),
        (0..30usize, any::<u64>()).prop_map(|(n, seed)| {
            [noise(seed as usize % 20, seed), BLOCK_MAGIC.repeat(n)].concat()
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_payloads_are_read_as_written(payloads in prop::collection::vec(payload(), 0..12)) {
        let (data, originals) = file(&payloads);
        let read = read(&data).unwrap();
        assert_blocks(&read, all_but(&originals, none));
        prop_assert!(read.damages.is_empty());
    }

    /// Whatever is done to a file, what was not touched is read, what was
    /// touched is not, and the count of what was lost is exact.
    #[test]
    fn any_harm_costs_only_the_blocks_that_are_hit(
        payloads in prop::collection::vec(payload(), 1..8),
        harms in prop::collection::vec(harm(), 1..5),
    ) {
        let (whole, originals) = file(&payloads);
        let mut data = whole.clone();
        // One last block, out of harm's way, so that all losses can be counted.
        let harmed = FILE_HEADER_LEN..originals[originals.len() - 1].start;
        let mut end = harmed.end;
        for harm in harms {
            let room = end - harmed.start;
            match harm {
                Harm::Overwrite(at, bytes) => {
                    for (i, byte) in bytes.into_iter().enumerate() {
                        let at = harmed.start + at % (room + 1) + i;
                        if at < end {
                            data[at] = byte;
                        }
                    }
                }
                Harm::Insert(at, bytes) => {
                    let at = harmed.start + at % (room + 1);
                    end += bytes.len();
                    data.splice(at..at, bytes);
                }
                Harm::Remove(at, len) => {
                    let at = harmed.start + at % (room + 1);
                    let to = end.min(at + len);
                    end -= to - at;
                    data.drain(at..to);
                }
            }
        }
        // A block may survive its harm: a zero more and a zero less among zeros,
        // or its last bytes gone where the next header starts with the same. The
        // latter does not count: a block with a header inside was cut short.
        let find = |bytes: &[u8]| data.windows(bytes.len()).position(|window| window == bytes);
        let header_of = |o: &Original| find(&whole[o.start..o.start + BLOCK_HEADER_LEN]);
        let headers: Vec<_> = originals.iter().filter_map(header_of).collect();
        let is_whole = |original: &Original| {
            find(&whole[original.start..original.end]).is_some_and(|start| {
                let end = start + original.end - original.start;
                !headers.iter().any(|at| start < *at && *at < end)
            })
        };
        let read = read(&data).unwrap();
        let lost: Vec<bool> = originals.iter().map(|o| !is_whole(o)).collect();
        assert_blocks(&read, all_but(&originals, |i, _| lost[i]));

        let blocks_lost: u64 = read.damages.iter().map(|d| d.blocks_lost.unwrap()).sum();
        let records_lost: u64 = read.damages.iter().map(|d| d.records_lost.unwrap()).sum();
        let lost = originals.iter().zip(lost).filter_map(|(o, lost)| lost.then_some(o.clone()));
        let lost: Vec<_> = lost.collect();
        prop_assert_eq!(blocks_lost, lost.len() as u64);
        prop_assert_eq!(records_lost, records(&lost));
    }

    #[test]
    fn garbage_never_panics(
        garbage in prop::collection::vec(any::<u8>(), 0..500),
        magics in prop::collection::vec(0..500usize, 0..5),
        with_header in any::<bool>(),
    ) {
        let mut data = garbage;
        for at in magics {
            let at = at.min(data.len());
            data.splice(at..at, BLOCK_MAGIC.into_iter().chain(FILE_ID.to_le_bytes()));
        }
        if with_header {
            data.splice(0..0, encode_file_header(VERSION, FILE_ID));
            let read = read(&data).unwrap();
            prop_assert!(read.blocks.is_empty());
        } else {
            prop_assert!(!blocks(&data, VERSION..=VERSION).err().unwrap().to_string().is_empty());
        }
    }

    /// Headers that are good in form and lie about all else.
    #[test]
    fn forged_headers_never_panic(
        parts in prop::collection::vec(
            (
                any::<(u64, u64, u32, u32, u32, bool)>(),
                prop::collection::vec(any::<u8>(), 0..100),
            ),
            0..20,
        ),
    ) {
        let mut data = encode_file_header(VERSION, FILE_ID).to_vec();
        for ((a, b, raw_len, stored_len, records, honest), bytes) in parts {
            let extreme = |n: u64| if n.is_multiple_of(4) { u64::MAX - n % 3 } else { n % 7 };
            let stored_len = if honest { bytes.len() as u32 } else { stored_len % 300 };
            let header = Header {
                sequence: extreme(a),
                records_before: extreme(b),
                info: BlockInfo { kind: 0, records, first_ns: a, last_ns: b },
                raw_len: stored_len + 1 + raw_len % MAX_PAYLOAD_LEN as u32 / 2,
                stored_len,
                payload_crc: crc32fast::hash(&bytes),
                encoding: Encoding::Zstd,
            };
            let header = if raw_len.is_multiple_of(3) {
                Header { raw_len: stored_len, encoding: Encoding::Raw, ..header }
            } else {
                header
            };
            data.extend_from_slice(&header.encode(FILE_ID));
            data.extend_from_slice(&bytes);
        }
        let mut reader = blocks(&data, VERSION..=VERSION).unwrap();
        let mut payload = Vec::new();
        while let Some(item) = reader.read_next(&mut payload) {
            if let Err(damage) = item {
                let _ = damage.to_string();
            }
        }
        prop_assert!(payload.capacity() <= 2 * MAX_PAYLOAD_LEN);
    }
}
