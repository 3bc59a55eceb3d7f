//! The records of a perf.data file: samples of tracepoints, and what perf tells of tasks.

use std::collections::HashMap;

use anyhow::{Result, bail, ensure};
use bytemuck::Zeroable as _;

use super::{
    bytes::{Numbers, Reader},
    formats::{Formats, Point},
};
use crate::{
    record::{Record, flag, kind, state},
    sink::Sink,
    text,
};

/// Bits of `sample_type`, `include/uapi/linux/perf_event.h`.
mod has {
    pub(super) const IP: u64 = 1;
    pub(super) const TID: u64 = 1 << 1;
    pub(super) const TIME: u64 = 1 << 2;
    pub(super) const ADDR: u64 = 1 << 3;
    pub(super) const READ: u64 = 1 << 4;
    pub(super) const CALLCHAIN: u64 = 1 << 5;
    pub(super) const ID: u64 = 1 << 6;
    pub(super) const CPU: u64 = 1 << 7;
    pub(super) const PERIOD: u64 = 1 << 8;
    pub(super) const STREAM_ID: u64 = 1 << 9;
    pub(super) const RAW: u64 = 1 << 10;
    pub(super) const IDENTIFIER: u64 = 1 << 16;
}

/// Types of records.
mod record {
    pub(super) const LOST: u32 = 2;
    pub(super) const COMM: u32 = 3;
    pub(super) const FORK: u32 = 7;
    pub(super) const SAMPLE: u32 = 9;
    pub(super) const LOST_SAMPLES: u32 = 13;
    /// Perf's own: these have no time.
    pub(super) const FIRST_OWN: u32 = 64;
    pub(super) const TRACING_DATA: u32 = 66;
    pub(super) const AUXTRACE: u32 = 71;
    pub(super) const COMPRESSED: u32 = 81;
    pub(super) const COMPRESSED_2: u32 = 83;
}

/// `PERF_RECORD_MISC_COMM_EXEC`.
const BY_EXEC: u16 = 1 << 13;
/// `TRACE_FLAG_HARDIRQ`, `TRACE_FLAG_NMI` and `TRACE_FLAG_SOFTIRQ`, `include/linux/trace_events.h`.
const HARD_INTERRUPT: u64 = 0x08 | 0x40;
const SOFT_INTERRUPT: u64 = 0x10;
/// `perf_event_attr.flags`: the clock was chosen; records that are no samples have times.
const USE_CLOCK: u64 = 1 << 25;
const SAMPLE_ID_ALL: u64 = 1 << 18;
/// `CLOCK_MONOTONIC`.
const MONOTONIC: u32 = 1;

/// What was recorded how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Attribute {
    sample_type: u64,
    read_format: u64,
}

/// What was recorded.
pub(super) struct Attributes {
    first: Attribute,
    /// By the id in a sample, where they differ.
    by_id: HashMap<u64, Attribute>,
    sample_id_all: bool,
    pub(super) by_monotonic_clock: bool,
}

impl Attributes {
    /// # Errors
    /// When they make no sense, or lack what is needed.
    pub(super) fn read(reader: &mut Reader<'_>, (at, size): (u64, u64), len: u64) -> Result<Self> {
        ensure!(
            (64 + 16..4096).contains(&len) && size >= len,
            "its list of events has {size} bytes, of {len} each"
        );
        let (mut all, mut by_id) = (Vec::new(), HashMap::new());
        let (mut sample_id_all, mut by_monotonic_clock) = (true, true);
        for number in 0..size / len {
            reader.seek(at + number * len);
            let bytes = reader.bytes(len as usize)?;
            let word = |at: usize| {
                let word = bytes.get(at..at + 8).and_then(|it| it.try_into().ok());
                word.map_or(0, u64::from_ne_bytes)
            };
            let attribute = Attribute {
                sample_type: word(24),
                read_format: word(32),
            };
            let flags = word(40);
            sample_id_all &= flags & SAMPLE_ID_ALL != 0;
            // Between the two a file of an old perf has its ids.
            let clock = if len >= 96 + 16 {
                (word(88) >> 32) as u32
            } else {
                0
            };
            by_monotonic_clock &= flags & USE_CLOCK != 0 && clock == MONOTONIC;
            let (ids_at, ids_size) = (word(len as usize - 16), word(len as usize - 8));
            ensure!(
                ids_at
                    .checked_add(ids_size)
                    .is_some_and(|end| end <= reader.length()),
                "the ids of event {number} should be {ids_size} bytes from byte {ids_at} on"
            );
            reader.seek(ids_at);
            for _ in 0..ids_size / 8 {
                by_id.insert(reader.u64()?, attribute);
            }
            all.push(attribute);
        }
        let Some(first) = all.first().copied() else {
            bail!("it says that nothing was recorded");
        };
        if all.iter().all(|it| *it == first) {
            by_id.clear();
        }
        let needed = has::TIME | has::CPU;
        for attribute in &all {
            ensure!(
                attribute.sample_type & needed == needed,
                "its events were recorded without time or CPU (sample_type {:#x}); `perf sched \
                 record` records both",
                attribute.sample_type
            );
            let same = attribute.sample_type & has::IDENTIFIER;
            ensure!(
                by_id.is_empty() || same != 0,
                "its events were recorded in several ways, and without saying which is which"
            );
        }
        Ok(Self {
            first,
            by_id,
            sample_id_all,
            by_monotonic_clock,
        })
    }

    /// How a sample with this body was recorded.
    fn of(&self, body: &[u8]) -> Option<Attribute> {
        if self.by_id.is_empty() {
            return Some(self.first);
        }
        self.by_id.get(&Numbers(body).u64()?).copied()
    }

    /// Time and CPU of a record that is no sample: they are at its end.
    fn at(&self, body: &[u8]) -> Option<(u64, u32)> {
        if !self.sample_id_all {
            return None;
        }
        let sample_type = self.first.sample_type;
        let parts = [
            has::TID,
            has::TIME,
            has::ID,
            has::STREAM_ID,
            has::CPU,
            has::IDENTIFIER,
        ];
        let there = |part: &&u64| sample_type & **part != 0;
        let len = 8 * parts.iter().filter(there).count();
        let mut numbers = Numbers(body.get(body.len().checked_sub(len)?..)?);
        let (mut time, mut cpu) = (0, 0);
        for part in parts.iter().filter(there) {
            let word = numbers.u64()?;
            match *part {
                has::TIME => time = word,
                // The upper half is reserved.
                has::CPU => cpu = low_half(word),
                _ => {}
            }
        }
        Some((time, cpu))
    }
}

/// Of two numbers of 32 bits that were read as one, the first.
fn low_half(word: u64) -> u32 {
    if cfg!(target_endian = "little") {
        word as u32
    } else {
        (word >> 32) as u32
    }
}

/// What a sample says of itself, and the tracepoint's data.
struct Sample<'a> {
    at_ns: u64,
    cpu: u32,
    raw: &'a [u8],
}

fn sample(attribute: Attribute, body: &[u8]) -> Option<Sample<'_>> {
    let mut numbers = Numbers(body);
    let has = |bit: u64| attribute.sample_type & bit != 0;
    let (mut at_ns, mut cpu) = (0, 0);
    for part in [
        has::IDENTIFIER,
        has::IP,
        has::TID,
        has::TIME,
        has::ADDR,
        has::ID,
        has::STREAM_ID,
        has::CPU,
        has::PERIOD,
    ] {
        if has(part) {
            let word = numbers.u64()?;
            match part {
                has::TIME => at_ns = word,
                has::CPU => cpu = low_half(word),
                _ => {}
            }
        }
    }
    if has(has::READ) {
        skip_read(attribute.read_format, &mut numbers)?;
    }
    if has(has::CALLCHAIN) {
        let count = usize::try_from(numbers.u64()?).ok()?;
        numbers.take(count.checked_mul(8)?)?;
    }
    let raw: &[u8] = if has(has::RAW) {
        let len = numbers.u32()? as usize;
        numbers.take(len)?
    } else {
        &[]
    };
    Some(Sample { at_ns, cpu, raw })
}

/// Passes over counters, whose number depends on `read_format`.
fn skip_read(format: u64, numbers: &mut Numbers<'_>) -> Option<()> {
    let times = usize::from(format & 1 != 0) + usize::from(format & 2 != 0);
    let each = 1 + usize::from(format & 4 != 0) + usize::from(format & 16 != 0);
    let words = if format & 8 != 0 {
        let count = usize::try_from(numbers.u64()?).ok()?;
        times.checked_add(count.checked_mul(each)?)?
    } else {
        times + each
    };
    numbers.take(words.checked_mul(8)?)?;
    Some(())
}

/// Makes records of samples.
pub(super) struct Samples<'a> {
    attributes: &'a Attributes,
    formats: &'a Formats,
    sink: &'a mut Sink,
    /// The last time of each CPU.
    last_ns: HashMap<u16, u64>,
    end_ns: u64,
}

impl<'a> Samples<'a> {
    pub(super) fn new(
        attributes: &'a Attributes,
        formats: &'a Formats,
        sink: &'a mut Sink,
    ) -> Self {
        Self {
            attributes,
            formats,
            sink,
            last_ns: HashMap::new(),
            end_ns: 0,
        }
    }

    /// Reads all records from one byte to another.
    ///
    /// # Errors
    /// When one makes no sense.
    pub(super) fn all(&mut self, reader: &mut Reader<'_>, (from, until): (u64, u64)) -> Result<()> {
        let mut at = from;
        while at < until {
            reader.seek(at);
            let head = reader.peek(8)?;
            let mut numbers = Numbers(head);
            let kind = numbers.u32().unwrap_or(0);
            let half = numbers.u32().unwrap_or(0).to_ne_bytes();
            let misc = u16::from_ne_bytes([half[0], half[1]]);
            let size = u16::from_ne_bytes([half[2], half[3]]);
            ensure!(
                size >= 8,
                "the record at byte {at} (type {kind}) says that it is {size} bytes long"
            );
            ensure!(
                at + u64::from(size) <= until,
                "the record at byte {at} (type {kind}) is {size} bytes long, and the records end at \
                 byte {until}"
            );
            let body = &reader.peek(size.into())?[8..];
            match kind {
                record::COMPRESSED | record::COMPRESSED_2 => {
                    bail!("the records are compressed, from byte {at} on; record without -z")
                }
                record::TRACING_DATA => at += u64::from(Numbers(body).u32().unwrap_or(0)),
                record::AUXTRACE => at = at.saturating_add(Numbers(body).u64().unwrap_or(0)),
                _ => {
                    if self.one(kind, misc, body).is_none() {
                        bail!(
                            "the record at byte {at} (type {kind}, {size} bytes) is shorter than what \
                             it should hold"
                        );
                    }
                }
            }
            at = at.saturating_add(size.into());
        }
        self.sink.found.end_ns = Some(self.end_ns);
        Ok(())
    }

    /// `None`: it is too short.
    fn one(&mut self, kind: u32, misc: u16, body: &[u8]) -> Option<()> {
        match kind {
            record::SAMPLE => {
                // Of an event that is not in the list, nothing is known.
                let Some(attribute) = self.attributes.of(body) else {
                    return Some(());
                };
                let sample = sample(attribute, body)?;
                let at = self.seen(sample.at_ns, sample.cpu);
                if let Some(point) = self.formats.point(sample.raw) {
                    self.point(point, at, sample.raw)?;
                }
            }
            record::COMM => self.comm(misc & BY_EXEC != 0, body)?,
            record::FORK => self.fork(body)?,
            record::LOST | record::LOST_SAMPLES => {
                let mut numbers = Numbers(body);
                if kind == record::LOST {
                    numbers.u64()?;
                }
                let count = numbers.u64()?;
                let at = self.attributes.at(body);
                self.lost(count, at);
            }
            kind if kind < record::FIRST_OWN => {
                if let Some((at_ns, cpu)) = self.attributes.at(body) {
                    self.seen(at_ns, cpu);
                }
            }
            _ => {}
        }
        Some(())
    }

    /// Takes note of a time. What perf tells of tasks that were there before has none.
    fn seen(&mut self, at_ns: u64, cpu: u32) -> Record {
        let cpu = u16::try_from(cpu).unwrap_or(u16::MAX);
        if at_ns > 0 {
            self.end_ns = self.end_ns.max(at_ns);
            let last = self.last_ns.entry(cpu).or_default();
            *last = at_ns.max(*last);
        }
        Record {
            at_ns,
            cpu,
            ..Record::zeroed()
        }
    }

    fn name(&mut self, bytes: &[u8]) -> u32 {
        self.sink.people.number(&text::name(bytes))
    }

    fn point(&mut self, point: Point, at: Record, data: &[u8]) -> Option<()> {
        match point {
            Point::Switch {
                prev,
                prev_comm,
                state,
                next,
                next_comm,
            } => {
                let name = self.name(prev_comm.text(data)?);
                let out = Record {
                    kind: kind::OUT,
                    tid: prev.number(data)? as u32,
                    name,
                    value: state::of_kernel(state.number(data)?),
                    ..at
                };
                let name = self.name(next_comm.text(data)?);
                let comes = Record {
                    kind: kind::IN,
                    tid: next.number(data)? as u32,
                    name,
                    ..at
                };
                self.switch(out, comes);
            }
            Point::Waking { pid, comm, queued } => {
                let flags = self.formats.flags.number(data)?;
                let name = self.name(comm.text(data)?);
                let flags = [
                    (flags & HARD_INTERRUPT, flag::HARD),
                    (flags & SOFT_INTERRUPT, flag::SOFT),
                    (u64::from(queued), flag::QUEUED),
                ];
                let flags = flags.iter().filter(|(is, _)| *is != 0);
                self.sink.push(Record {
                    kind: kind::WAKING,
                    tid: pid.number(data)? as u32,
                    other: self.formats.pid.number(data)? as u32,
                    name,
                    flags: flags.fold(0, |all, (_, flag)| all | flag),
                    ..at
                });
            }
            Point::Fork {
                parent,
                child,
                comm,
            } => {
                let name = self.name(comm.text(data)?);
                self.sink.push(Record {
                    kind: kind::NEW,
                    tid: child.number(data)? as u32,
                    other: parent.number(data)? as u32,
                    name,
                    ..at
                });
            }
            Point::Exec { pid, old_pid } => self.sink.push(Record {
                kind: kind::EXEC,
                tid: pid.number(data)? as u32,
                other: old_pid.number(data)? as u32,
                ..at
            }),
        }
        Some(())
    }

    /// An idle CPU is no task.
    fn switch(&mut self, out: Record, comes: Record) {
        for record in [out, comes] {
            if record.tid != 0 {
                self.sink.push(record);
            }
        }
    }

    fn comm(&mut self, by_exec: bool, body: &[u8]) -> Option<()> {
        let mut numbers = Numbers(body);
        let (pid, tid) = (numbers.u32()?, numbers.u32()?);
        let name = self.name(numbers.0);
        let (at_ns, cpu) = self.attributes.at(body).unwrap_or_default();
        let at = self.seen(at_ns, cpu);
        let person = self.sink.people.of(tid);
        person.tgid = pid;
        if at_ns == 0 {
            person.name = name;
            return Some(());
        }
        self.sink.push(Record {
            kind: if by_exec { kind::EXEC } else { kind::RENAME },
            tid,
            name,
            ..at
        });
        Some(())
    }

    fn fork(&mut self, body: &[u8]) -> Option<()> {
        let mut numbers = Numbers(body);
        let (pid, ppid) = (numbers.u32()?, numbers.u32()?);
        let (tid, parent) = (numbers.u32()?, numbers.u32()?);
        numbers.u64()?;
        let (at_ns, cpu) = self.attributes.at(body).unwrap_or_default();
        let at = self.seen(at_ns, cpu);
        let person = self.sink.people.of(tid);
        person.tgid = pid;
        if at_ns == 0 {
            // Perf tells of all tasks that are there when it begins.
            if ppid != pid {
                person.ppid = ppid;
            }
            return Some(());
        }
        self.sink.push(Record {
            kind: kind::NEW,
            tid,
            other: parent,
            value: pid.into(),
            ..at
        });
        Some(())
    }

    /// Events were lost, since the last one of that CPU.
    fn lost(&mut self, count: u64, at: Option<(u64, u32)>) {
        let lost = &mut self.sink.found.imported.lost;
        *lost = lost.saturating_add(count);
        let Some((at_ns, cpu)) = at.filter(|(at_ns, _)| *at_ns > 0) else {
            return;
        };
        let before = u16::try_from(cpu).unwrap_or(u16::MAX);
        let before_ns = self.last_ns.get(&before).copied().unwrap_or(0);
        let at = self.seen(at_ns, cpu);
        self.sink.push(Record {
            kind: kind::LOST_FROM,
            at_ns: before_ns.min(at_ns),
            ..at
        });
        self.sink.push(Record {
            kind: kind::LOST_UNTIL,
            ..at
        });
    }
}
