//! Packs events into the bytes of a block.
//!
//! Nearly all events are stretches, and nearly all of a stretch can be foretold
//! from the task's last one: so a stretch is stored as the difference, in
//! variable-length integers (postcard's), and the block is compressed. That
//! makes about 10 bytes of 56. Each block starts afresh, so that it can be read
//! when the one before it is lost.
//!
//! # Records
//!
//! A record is a number (variable-length, as all numbers of postcard), and as many
//! bytes as the number's upper bits say. The lowest bit is 0 for a [`PackedStretch`],
//! 1 for an [`Event`]: the position of its variant, and its fields. So a reader can
//! pass over what it does not know:
//!
//! - a variant that was added at the end of [`Event`], or inside a record;
//! - fields that were added at the end of a record. A reader that knows more fields
//!   than the record has takes the missing ones for zeros: 0, `false`, `None`, empty.
//!
//! Version 2 had no lengths: a byte told a stretch from an event, and a reader had to know
//! everything.

use postcard::{Error, take_from_bytes};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{damage::Skipped, numbers::Numbers};
use crate::trace::{Event, Stretch, Timeout, Waker, Why};

/// The longest record, bytes: longer ones are not written. It bounds what a record can
/// take when it is unpacked, where an empty text of one byte takes 24.
pub(super) const MAX_RECORD_LEN: usize = 1 << 20;

/// The lowest bit of a record's first number.
const OTHER: u32 = 1;

/// So many zeros stand for the fields that a record does not have: enough for what will be
/// added to one kind of record, and too few to make a stretch or a task of nothing.
const MISSING_FIELDS: [u8; 8] = [0; 8];

/// What version 2 stores.
#[derive(Serialize, Deserialize)]
enum PackedV2 {
    Stretch(PackedStretch),
    Other(Event),
}

/// Reads what [`postcard`] wrote, perhaps with fewer fields, or with more.
pub(super) fn read_fields<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    match postcard::from_bytes(bytes) {
        Err(Error::DeserializeUnexpectedEnd) if !bytes.is_empty() => {
            postcard::from_bytes(&[bytes, &MISSING_FIELDS].concat())
        }
        read => read,
    }
}

/// A stretch as the difference from [`Last`].
#[derive(Serialize, Deserialize)]
struct PackedStretch {
    serial: u32,
    /// Number of skipped sequence numbers.
    seq: i64,
    why_and_flags: u8,
    /// From the end of the last stretch.
    out_ns: i64,
    /// From `out_ns`.
    wake_ns: u64,
    /// From `wake_ns`.
    in_ns: u64,
    syscall: i16,
    cpu_out: u16,
    cpu_in: u16,
    arg0: i64,
    arg1: i32,
    waker: Waker,
    object: i32,
    timeout: Timeout,
}

impl PackedStretch {
    /// Reads what an [`Encoder`] wrote; `None`: it is something else, and `postcard` knows what.
    #[inline]
    fn by_hand(numbers: &mut Numbers<'_>) -> Option<Self> {
        Some(Self {
            serial: numbers.u32()?,
            seq: numbers.i64()?,
            why_and_flags: numbers.byte()?,
            out_ns: numbers.signed_time()?,
            wake_ns: numbers.time()?,
            in_ns: numbers.time()?,
            syscall: numbers.i16()?,
            cpu_out: numbers.u16()?,
            cpu_in: numbers.u16()?,
            arg0: numbers.i64()?,
            arg1: numbers.i32()?,
            waker: numbers.waker()?,
            object: numbers.i32()?,
            timeout: numbers.timeout()?,
        })
    }
}

/// What is foretold for a task's next stretch.
#[derive(Clone, Copy, Default)]
struct Last {
    /// The block in which this was set; of another block, it counts for nothing.
    block: u64,
    seq: u32,
    in_ns: u64,
    arg0: u64,
    arg1: u32,
    object: u32,
}

impl Last {
    fn after(s: &Stretch, block: u64) -> Self {
        Self {
            block,
            seq: s.seq.wrapping_add(1),
            in_ns: s.in_ns,
            arg0: s.arg0,
            arg1: s.arg1,
            object: s.object,
        }
    }
}

/// The last stretch of each task, by serial.
#[derive(Default)]
struct Lasts {
    tasks: Vec<Last>,
    /// Number of the block, from 1.
    block: u64,
    /// The time of the last stretch of any task in this block, for a task's
    /// first: so a block needs no time of its own.
    in_ns: u64,
}

/// Tasks whose serials differ by this share an entry, which costs some bytes when
/// both are at work, and bounds the memory whatever a file says.
const ENTRIES: u32 = 1 << 16;

impl Lasts {
    fn start_block(&mut self) {
        self.block += 1;
        self.in_ns = 0;
    }

    #[inline]
    fn of(&mut self, serial: u32) -> &mut Last {
        let index = (serial % ENTRIES) as usize;
        if index >= self.tasks.len() {
            self.tasks.resize(index + 1, Last::default());
        }
        let last = &mut self.tasks[index];
        if last.block != self.block {
            *last = Last {
                block: self.block,
                in_ns: self.in_ns,
                ..Last::default()
            };
        }
        last
    }

    fn set(&mut self, s: &Stretch) {
        self.in_ns = s.in_ns;
        let block = self.block;
        *self.of(s.serial) = Last::after(s, block);
    }
}

const EARLY_WAKE: u8 = 0x10;
const NO_WAKE: u8 = 0x20;
const COMPAT: u8 = 0x40;
const INFERRED: u8 = 0x80;

/// Fills blocks.
pub(crate) struct Encoder {
    bytes: Vec<u8>,
    /// The record under way.
    record: Vec<u8>,
    lasts: Lasts,
    records: u32,
    first_ns: u64,
    last_ns: u64,
}

impl Encoder {
    pub(crate) fn new(start_ns: u64) -> Self {
        let mut encoder = Self {
            bytes: Vec::new(),
            record: Vec::new(),
            lasts: Lasts::default(),
            records: 0,
            first_ns: start_ns,
            last_ns: start_ns,
        };
        encoder.lasts.start_block();
        encoder
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn records(&self) -> u32 {
        self.records
    }

    /// Time of the first event in the block, or of the last before it.
    pub(crate) fn first_ns(&self) -> u64 {
        self.first_ns
    }

    pub(crate) fn last_ns(&self) -> u64 {
        self.last_ns
    }

    pub(crate) fn start_block(&mut self) {
        self.bytes.clear();
        self.records = 0;
        self.first_ns = self.last_ns;
        self.lasts.start_block();
    }

    /// Adds an event. False: it is longer than a record can be, and was left out.
    #[must_use]
    pub(crate) fn push(&mut self, event: &Event) -> bool {
        let kind = match event {
            Event::Stretch(stretch) => {
                let packed = self.pack(stretch);
                self.serialize(&packed);
                0
            }
            other => {
                self.serialize(other);
                OTHER
            }
        };
        if self.record.len() > MAX_RECORD_LEN {
            return false;
        }
        // MAX_RECORD_LEN leaves room for the bit.
        let prefix = (self.record.len() as u32) << 1 | kind;
        // Can't fail: a `Vec` takes everything.
        let bytes = std::mem::take(&mut self.bytes);
        self.bytes = postcard::to_extend(&prefix, bytes).unwrap_or_default();
        self.bytes.extend_from_slice(&self.record);
        self.count(event);
        true
    }

    /// Makes `self.record`.
    fn serialize(&mut self, record: &impl Serialize) {
        self.record.clear();
        // Can't fail: a `Vec` takes everything, and our types all serialise.
        let bytes = std::mem::take(&mut self.record);
        self.record = postcard::to_extend(record, bytes).unwrap_or_default();
    }

    fn count(&mut self, event: &Event) {
        if let Some(at) = event.at_ns() {
            // CPUs are drained one after the other, so time goes back and forth.
            self.first_ns = if self.records == 0 {
                at
            } else {
                self.first_ns.min(at)
            };
            self.last_ns = if self.records == 0 {
                at
            } else {
                self.last_ns.max(at)
            };
        }
        self.records += 1;
    }

    fn pack(&mut self, s: &Stretch) -> PackedStretch {
        let last = *self.lasts.of(s.serial);
        self.lasts.set(s);
        let why = Why::ALL.iter().position(|&w| w == s.why).unwrap_or(0) as u8;
        PackedStretch {
            serial: s.serial,
            seq: i64::from(s.seq) - i64::from(last.seq),
            why_and_flags: why
                | if s.early_wake { EARLY_WAKE } else { 0 }
                | if s.no_wake { NO_WAKE } else { 0 }
                | if s.compat { COMPAT } else { 0 }
                | if s.inferred { INFERRED } else { 0 },
            out_ns: s.out_ns.wrapping_sub(last.in_ns) as i64,
            wake_ns: s.wake_ns.wrapping_sub(s.out_ns),
            in_ns: s.in_ns.wrapping_sub(s.wake_ns),
            syscall: s.syscall,
            cpu_out: s.cpu_out,
            cpu_in: s.cpu_in,
            arg0: s.arg0.wrapping_sub(last.arg0) as i64,
            arg1: s.arg1.wrapping_sub(last.arg1) as i32,
            waker: s.waker,
            object: s.object.wrapping_sub(last.object) as i32,
            timeout: s.timeout,
        }
    }
}

/// Takes the events of a block, and says whether it takes more. Nearly all are stretches, which
/// take a fourth of the room of an event of any kind: so they come by themselves.
pub(super) trait Sink {
    fn stretch(&mut self, stretch: Stretch) -> bool;
    fn event(&mut self, event: Event) -> bool;
}

/// Makes no difference.
struct Events<F>(F);

impl<F: FnMut(Event) -> bool> Sink for Events<F> {
    fn stretch(&mut self, stretch: Stretch) -> bool {
        self.0(Event::Stretch(stretch))
    }

    fn event(&mut self, event: Event) -> bool {
        self.0(event)
    }
}

/// Empties blocks.
#[derive(Default)]
pub(crate) struct Decoder {
    lasts: Lasts,
}

impl Decoder {
    /// Hands the events of a block to `sink`, until that returns false. `records`: how many
    /// the block's header promises. Returns what was passed over.
    pub(crate) fn decode(
        &mut self,
        bytes: &[u8],
        records: u32,
        sink: &mut impl FnMut(Event) -> bool,
    ) -> Skipped {
        self.decode_into(bytes, records, &mut Events(sink))
    }

    /// The same.
    pub(super) fn decode_into(
        &mut self,
        mut bytes: &[u8],
        records: u32,
        sink: &mut impl Sink,
    ) -> Skipped {
        self.lasts.start_block();
        let mut skipped = Skipped::default();
        let mut read = 0;
        while !bytes.is_empty() {
            let Some((kind, record, rest)) = take_record(bytes) else {
                // Where the next one begins can't be told.
                skipped.unreadable += u64::from(records.saturating_sub(read).max(1));
                break;
            };
            bytes = rest;
            read = read.saturating_add(1);
            let goes_on = match kind {
                OTHER => read_fields(record).map(|event| sink.event(event)),
                _ => self.stretch(record).map(|stretch| sink.stretch(stretch)),
            };
            match goes_on {
                Ok(true) => {}
                Ok(false) => break,
                Err(Error::SerdeDeCustom) if kind == OTHER && !is_known(record) => {
                    skipped.unknown_kind += 1;
                }
                Err(_) => skipped.unreadable += 1,
            }
        }
        skipped
    }

    #[inline]
    fn stretch(&mut self, record: &[u8]) -> Result<Stretch, Error> {
        let packed = match PackedStretch::by_hand(&mut Numbers(record)) {
            Some(packed) => packed,
            None => read_fields(record)?,
        };
        Ok(self.unpack(&packed))
    }

    /// As [`Self::decode_into`], of a file of version 2.
    pub(super) fn decode_v2(
        &mut self,
        mut bytes: &[u8],
        records: u32,
        sink: &mut impl Sink,
    ) -> Skipped {
        self.lasts.start_block();
        let mut skipped = Skipped::default();
        let mut read = 0;
        while !bytes.is_empty() {
            let within = &bytes[..bytes.len().min(MAX_RECORD_LEN)];
            let Ok((packed, rest)) = take_from_bytes(within) else {
                skipped.unreadable += u64::from(records.saturating_sub(read).max(1));
                break;
            };
            bytes = &bytes[within.len() - rest.len()..];
            read = read.saturating_add(1);
            let goes_on = match packed {
                PackedV2::Stretch(packed) => sink.stretch(self.unpack(&packed)),
                PackedV2::Other(event) => sink.event(event),
            };
            if !goes_on {
                break;
            }
        }
        skipped
    }

    #[inline]
    fn unpack(&mut self, p: &PackedStretch) -> Stretch {
        let block = self.lasts.block;
        let known = self.lasts.of(p.serial);
        let last = *known;
        let out_ns = last.in_ns.wrapping_add(p.out_ns as u64);
        let wake_ns = out_ns.wrapping_add(p.wake_ns);
        let s = Stretch {
            serial: p.serial,
            seq: (i64::from(last.seq).wrapping_add(p.seq)) as u32,
            out_ns,
            wake_ns,
            in_ns: wake_ns.wrapping_add(p.in_ns),
            why: *Why::ALL
                .get((p.why_and_flags & 0x0f) as usize)
                .unwrap_or(&Why::New),
            early_wake: p.why_and_flags & EARLY_WAKE != 0,
            no_wake: p.why_and_flags & NO_WAKE != 0,
            inferred: p.why_and_flags & INFERRED != 0,
            compat: p.why_and_flags & COMPAT != 0,
            syscall: p.syscall,
            cpu_out: p.cpu_out,
            cpu_in: p.cpu_in,
            arg0: last.arg0.wrapping_add(p.arg0 as u64),
            arg1: last.arg1.wrapping_add(p.arg1 as u32),
            waker: p.waker,
            object: last.object.wrapping_add(p.object as u32),
            timeout: p.timeout,
        };
        *known = Last::after(&s, block);
        self.lasts.in_ns = s.in_ns;
        s
    }
}

/// The kind of the first record, its bytes, and those after it.
fn take_record(bytes: &[u8]) -> Option<(u32, &[u8], &[u8])> {
    let mut numbers = Numbers(bytes);
    let (prefix, rest) = match numbers.u32() {
        Some(prefix) => (prefix, numbers.0),
        None => take_from_bytes(bytes).ok()?,
    };
    let (record, rest) = rest.split_at_checked((prefix >> 1) as usize)?;
    (record.len() <= MAX_RECORD_LEN).then_some((prefix & OTHER, record, rest))
}

/// Is it an event of a kind that this version knows?
fn is_known(record: &[u8]) -> bool {
    let rest = take_from_bytes::<u32>(record).map_or(&[][..], |(_, rest)| rest);
    let kind = &record[..record.len() - rest.len()];
    // Each kind has fields, so a known one goes wrong by their lack.
    postcard::from_bytes::<Event>(kind) != Err(Error::SerdeDeCustom)
}
