//! Disks that are full, and writes that go half-way.

use super::*;

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
