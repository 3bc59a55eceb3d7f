//! Files that were harmed, or made to do harm.

use proptest::prelude::*;

use super::*;

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
    // One that looks again from each of a million places takes days.
    let elapsed = started.elapsed();
    assert!(elapsed < Duration::from_secs(600), "took {elapsed:?}");
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
