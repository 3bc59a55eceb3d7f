//! Some stretches of a task, packed: rows of equal length, each field as wide as the largest
//! value in it needs.
//!
//! ```text
//! kinds: 12 bytes each   why, flags, syscall, target, timeout
//! rows:                  time since the first one left | wake - out | in - wake
//!                        | waker | kind | CPU + 1 | seq - expected
//! padding                so that each field can be read as eight bytes
//! ```
//!
//! So a row can be read without those before it. Whatever the values are, they come back as
//! they were.

use std::sync::Arc;

use forktrace_common::event::timeout;

use super::shelf::{Kept, Shelf};
use crate::{
    model::Off,
    trace::{Interrupt, Waker, Why},
};

/// Fields of a row.
const FIELDS: usize = 7;
/// Bytes of a kind.
const KIND: usize = 12;
/// Each field is read as so many bytes.
const WORD: usize = 8;
/// The last field of a row begins no later than here, so no row is longer than [`LONGEST`].
const LAST: usize = (FIELDS - 1) * WORD;
const LONGEST: usize = FIELDS * WORD;

/// A stretch, and the CPU that the task came back to, if that is known.
pub(super) type Row = (Off, Option<u16>);

/// Where packed stretches are, and what is the same for all of them.
#[derive(Clone, Debug)]
pub(super) struct Chunk {
    kept: Kept,
    /// When the first one left.
    out_ns: u64,
    first_seq: u32,
    /// Where the rows begin, and how long they are.
    rows_at: u16,
    row_len: u8,
    /// Where in a row each field begins, and how wide it is.
    offsets: [u8; FIELDS],
    widths: [u8; FIELDS],
    /// The longest time until a wakeup, and from there on, ns.
    longest: [u64; 2],
}

/// By width: the bits of a field.
const MASKS: [u64; WORD + 1] = {
    let mut masks = [0; WORD + 1];
    let mut width = 1;
    while width <= WORD {
        masks[width] = u64::MAX >> (64 - 8 * width);
        width += 1;
    }
    masks
};

/// What many stretches have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    why: Why,
    flags: u8,
    syscall: i16,
    target: u32,
    timeout_us: u32,
}

impl Kind {
    fn of(off: &Off) -> Self {
        Self {
            why: off.why,
            flags: off.flags,
            syscall: off.syscall,
            target: off.target,
            timeout_us: off.timeout_us,
        }
    }

    /// A stretch of this kind, at no time.
    pub(super) fn off(&self) -> Off {
        Off {
            out_ns: 0,
            wake_ns: 0,
            in_ns: 0,
            seq: 0,
            syscall: self.syscall,
            why: self.why,
            flags: self.flags,
            waker: Waker::None,
            target: self.target,
            timeout_us: self.timeout_us,
        }
    }

    /// The same, whatever the timeout, if there is one.
    fn without_timeout(&self) -> Self {
        let timeout_us = match self.timeout_us {
            timeout::NONE => timeout::NONE,
            _ => timeout::UNKNOWN,
        };
        Self {
            timeout_us,
            ..*self
        }
    }

    fn packed(&self) -> [u8; KIND] {
        let mut bytes = [0; KIND];
        bytes[0] = Why::ALL
            .iter()
            .position(|why| *why == self.why)
            .unwrap_or(0) as u8;
        bytes[1] = self.flags;
        bytes[2..4].copy_from_slice(&self.syscall.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.target.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.timeout_us.to_le_bytes());
        bytes
    }
}

/// A waker as a number: small where its own is.
fn packed(waker: Waker) -> u64 {
    let (tag, value) = match waker {
        Waker::None => (0, 0),
        Waker::Unknown => (1, 0),
        Waker::Task { serial, softirq } => (2 + u64::from(softirq), serial),
        Waker::Outsider { tid, softirq } => (4 + u64::from(softirq), tid),
        Waker::Interrupt(Interrupt::Timer) => (6, 0),
        Waker::Interrupt(Interrupt::Other) => (7, 0),
        Waker::Interrupt(Interrupt::Device(number)) => (8, number),
        Waker::Interrupt(Interrupt::Soft(vector)) => (9, vector.into()),
    };
    u64::from(value) << 4 | tag
}

#[inline(always)]
fn unpacked(code: u64) -> Waker {
    let value = (code >> 4) as u32;
    match code & 15 {
        0 => Waker::None,
        tag @ (2 | 3) => Waker::Task {
            serial: value,
            softirq: tag == 3,
        },
        tag @ (4 | 5) => Waker::Outsider {
            tid: value,
            softirq: tag == 5,
        },
        6 => Waker::Interrupt(Interrupt::Timer),
        7 => Waker::Interrupt(Interrupt::Other),
        8 => Waker::Interrupt(Interrupt::Device(value)),
        9 => Waker::Interrupt(Interrupt::Soft(value as u8)),
        _ => Waker::Unknown,
    }
}

/// The values of a row, but for its kind.
#[inline]
fn fields((off, cpu): &Row, at: usize, first: &Off, kind: u64) -> [u64; FIELDS] {
    let expected = first.seq.wrapping_add(at as u32);
    [
        off.out_ns.wrapping_sub(first.out_ns),
        off.wake_ns.wrapping_sub(off.out_ns),
        off.in_ns.wrapping_sub(off.wake_ns),
        packed(off.waker),
        kind,
        cpu.map_or(0, |cpu| u64::from(cpu) + 1),
        off.seq.wrapping_sub(expected).into(),
    ]
}

/// The kinds of all stretches of a task, unless there are many.
#[derive(Clone, Debug, Default)]
pub(super) struct Kinds {
    all: Vec<Kind>,
    many: bool,
}

impl Kinds {
    /// More are not kept.
    const MOST: usize = 64;

    /// `None`: there are many.
    pub(super) fn all(&self) -> Option<&[Kind]> {
        (!self.many).then_some(&self.all)
    }

    fn add(&mut self, kind: &Kind) {
        let kind = kind.without_timeout();
        if self.many || self.all.contains(&kind) {
            return;
        }
        if self.all.len() == Self::MOST {
            self.many = true;
            self.all = Vec::new();
        } else {
            self.all.push(kind);
        }
    }
}

/// Packs stretches: at least one, and no more than a kind's number can tell apart.
pub(super) fn pack(
    rows: &[Row],
    known: &mut Kinds,
    shelf: &Shelf,
    buffer: &mut Vec<u8>,
) -> Option<Chunk> {
    let (first, _) = rows.first()?;
    let mut kinds: Vec<Kind> = Vec::new();
    let mut last = 0;
    let mut most = [0u64; FIELDS];
    let mut longest = [0u64; 2];
    let mut all: Vec<[u64; FIELDS]> = Vec::with_capacity(rows.len());
    for (at, row) in rows.iter().enumerate() {
        let kind = Kind::of(&row.0);
        if kinds.get(last) != Some(&kind) {
            let same = kinds.iter().position(|other| *other == kind);
            last = same.unwrap_or_else(|| {
                kinds.push(kind);
                kinds.len() - 1
            });
        }
        let fields = fields(row, at, first, last as u64);
        for (most, value) in most.iter_mut().zip(fields) {
            *most |= value;
        }
        longest = [longest[0].max(fields[1]), longest[1].max(fields[2])];
        all.push(fields);
    }
    let widths = most.map(|most| (64 - most.leading_zeros()).div_ceil(8) as u8);
    let mut offsets = [0; FIELDS];
    for field in 1..FIELDS {
        offsets[field] = offsets[field - 1] + widths[field - 1];
    }
    let rows_at = kinds.len() * KIND;
    let row_len: u8 = widths.iter().sum();
    buffer.clear();
    for kind in &kinds {
        known.add(kind);
        buffer.extend_from_slice(&kind.packed());
    }
    // A row takes as much as it can have, from the end of the one before on.
    buffer.resize(
        rows_at + (all.len() - 1) * usize::from(row_len) + LONGEST,
        0,
    );
    let mut left = &mut buffer[rows_at..];
    for fields in all {
        if let Some(row) = left.first_chunk_mut() {
            write(row, fields, offsets);
        }
        left = &mut left[row_len.into()..];
    }
    Some(Chunk {
        kept: shelf.keep(buffer),
        out_ns: first.out_ns,
        first_seq: first.seq,
        rows_at: rows_at as u16,
        row_len,
        offsets,
        widths,
        longest,
    })
}

/// Writes a row. Each field is written as a word, and the next one over what of that is not its
/// own.
#[inline]
fn write(row: &mut [u8; LONGEST], fields: [u64; FIELDS], offsets: [u8; FIELDS]) {
    for (value, at) in fields.into_iter().zip(offsets) {
        if let Some(word) = row[usize::from(at).min(LAST)..].first_chunk_mut() {
            *word = value.to_le_bytes();
        }
    }
}

impl Chunk {
    pub(super) fn kept(&self) -> &Kept {
        &self.kept
    }

    /// When the first one left.
    pub(super) fn out_ns(&self) -> u64 {
        self.out_ns
    }

    /// No wakeup in it came later than this after its task had left, ns.
    pub(super) fn woken_within_ns(&self) -> u64 {
        self.longest[0]
    }

    /// None of its tasks came back later than this after the wakeup, ns.
    pub(super) fn back_within_ns(&self) -> u64 {
        self.longest[1]
    }

    /// Its stretches, to be read. `away`: where to get what is not in memory.
    #[inline]
    pub(super) fn view(&self, away: impl FnOnce(u64, u32) -> Arc<[u8]>) -> View<'_> {
        View {
            bytes: match &self.kept {
                Kept::Here(bytes) => Bytes::Here(bytes),
                Kept::Away { at, len } => Bytes::Read(away(*at, *len)),
            },
            chunk: self,
        }
    }
}

/// The bytes of a chunk.
#[derive(Clone, Debug)]
enum Bytes<'a> {
    Here(&'a [u8]),
    Read(Arc<[u8]>),
}

/// A chunk that can be read.
#[derive(Clone, Debug)]
pub(super) struct View<'a> {
    bytes: Bytes<'a>,
    chunk: &'a Chunk,
}

impl View<'_> {
    #[inline(always)]
    fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Here(bytes) => bytes,
            Bytes::Read(bytes) => bytes,
        }
    }

    /// The bytes from a row on: all that it can have, so that no field has to be looked for.
    #[inline(always)]
    fn bytes_from(&self, at: usize) -> &[u8; LONGEST] {
        let at = usize::from(self.chunk.rows_at) + at * usize::from(self.chunk.row_len);
        let row = self.bytes().get(at..).and_then(|row| row.first_chunk());
        row.unwrap_or(&[0; LONGEST])
    }

    /// A field of the row that begins with these bytes.
    #[inline(always)]
    fn field(&self, row: &[u8; LONGEST], field: usize) -> u64 {
        let at = usize::from(self.chunk.offsets[field]).min(LAST);
        let word = row[at..].first_chunk();
        let mask = MASKS[usize::from(self.chunk.widths[field]).min(WORD)];
        word.map_or(0, |word| u64::from_le_bytes(*word)) & mask
    }

    /// A stretch by its place in the chunk. In line, so that what of it nobody asks for is not
    /// read.
    #[inline(always)]
    pub(super) fn row(&self, at: usize) -> Row {
        let row = self.bytes_from(at);
        let kind = self.field(row, 4) as usize * KIND;
        let kind = self.bytes().get(kind..).and_then(|kind| kind.first_chunk());
        let kind: &[u8; KIND] = kind.unwrap_or(&[0; KIND]);
        let out_ns = self.chunk.out_ns.wrapping_add(self.field(row, 0));
        let wake_ns = out_ns.wrapping_add(self.field(row, 1));
        let seq = self.chunk.first_seq.wrapping_add(at as u32);
        let off = Off {
            out_ns,
            wake_ns,
            in_ns: wake_ns.wrapping_add(self.field(row, 2)),
            seq: seq.wrapping_add(self.field(row, 6) as u32),
            syscall: i16::from_le_bytes([kind[2], kind[3]]),
            why: *Why::ALL.get(usize::from(kind[0])).unwrap_or(&Why::New),
            flags: kind[1],
            waker: unpacked(self.field(row, 3)),
            target: u32::from_le_bytes([kind[4], kind[5], kind[6], kind[7]]),
            timeout_us: u32::from_le_bytes([kind[8], kind[9], kind[10], kind[11]]),
        };
        let cpu = self.field(row, 5) as u32;
        (off, cpu.checked_sub(1).map(|cpu| cpu as u16))
    }

    /// The number of one.
    #[inline]
    pub(super) fn seq(&self, at: usize) -> u32 {
        let skipped = self.field(self.bytes_from(at), 6) as u32;
        let seq = self.chunk.first_seq.wrapping_add(at as u32);
        seq.wrapping_add(skipped)
    }

    /// When one left.
    #[inline]
    pub(super) fn out_ns(&self, at: usize) -> u64 {
        self.chunk
            .out_ns
            .wrapping_add(self.field(self.bytes_from(at), 0))
    }
}
