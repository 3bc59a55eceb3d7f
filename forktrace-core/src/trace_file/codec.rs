//! Packs events into the bytes of a block.
//!
//! Nearly all events are stretches, and nearly all of a stretch can be foretold
//! from the task's last one: so a stretch is stored as the difference, in
//! variable-length integers (postcard's), and the block is compressed. That
//! makes about 10 bytes of 56. Each block starts afresh, so that it can be read
//! when the one before it is lost.

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::trace::{Event, Stretch, Timeout, Waker, Why};

/// What is stored.
#[derive(Serialize, Deserialize)]
enum Packed {
    Stretch(PackedStretch),
    Other(Event),
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
        *self.of(s.serial) = Last {
            block: self.block,
            seq: s.seq.wrapping_add(1),
            in_ns: s.in_ns,
            arg0: s.arg0,
            arg1: s.arg1,
            object: s.object,
        };
    }
}

const WHYS: [Why; 9] = [
    Why::New,
    Why::Preempted,
    Why::Interruptible,
    Why::Killable,
    Why::Uninterruptible,
    Why::Stopped,
    Why::Traced,
    Why::Frozen,
    Why::CoreDump,
];
const EARLY_WAKE: u8 = 0x10;
const NO_WAKE: u8 = 0x20;
const COMPAT: u8 = 0x40;
const INFERRED: u8 = 0x80;

/// Fills blocks.
pub(super) struct Encoder {
    bytes: Vec<u8>,
    lasts: Lasts,
    records: u32,
    first_ns: u64,
    last_ns: u64,
}

impl Encoder {
    pub(super) fn new(start_ns: u64) -> Self {
        let mut encoder = Self {
            bytes: Vec::new(),
            lasts: Lasts::default(),
            records: 0,
            first_ns: start_ns,
            last_ns: start_ns,
        };
        encoder.lasts.start_block();
        encoder
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn records(&self) -> u32 {
        self.records
    }

    /// Time of the first event in the block, or of the last before it.
    pub(super) fn first_ns(&self) -> u64 {
        self.first_ns
    }

    pub(super) fn last_ns(&self) -> u64 {
        self.last_ns
    }

    pub(super) fn start_block(&mut self) {
        self.bytes.clear();
        self.records = 0;
        self.first_ns = self.last_ns;
        self.lasts.start_block();
    }

    pub(super) fn push(&mut self, event: &Event) {
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
        let packed = match event {
            Event::Stretch(stretch) => Packed::Stretch(self.pack(stretch)),
            other => Packed::Other(other.clone()),
        };
        // Can't fail: a `Vec` takes everything, and our types all serialise.
        let bytes = std::mem::take(&mut self.bytes);
        self.bytes = postcard::to_extend(&packed, bytes).unwrap_or_default();
    }

    fn pack(&mut self, s: &Stretch) -> PackedStretch {
        let last = *self.lasts.of(s.serial);
        self.lasts.set(s);
        let why = WHYS.iter().position(|&w| w == s.why).unwrap_or(0) as u8;
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

/// Empties blocks.
#[derive(Default)]
pub(super) struct Decoder {
    lasts: Lasts,
}

impl Decoder {
    /// Hands the events of a block to `sink`.
    ///
    /// # Errors
    /// When the bytes are no events; those before are handed over.
    pub(super) fn decode(&mut self, mut bytes: &[u8], sink: &mut impl FnMut(Event)) -> Result<()> {
        self.lasts.start_block();
        while !bytes.is_empty() {
            let (packed, rest) = postcard::take_from_bytes(bytes)
                .with_context(|| format!("no event {} bytes before its end", bytes.len()))?;
            bytes = rest;
            match packed {
                Packed::Stretch(packed) => sink(Event::Stretch(self.unpack(&packed))),
                Packed::Other(event) => sink(event),
            }
        }
        Ok(())
    }

    fn unpack(&mut self, p: &PackedStretch) -> Stretch {
        let last = *self.lasts.of(p.serial);
        let out_ns = last.in_ns.wrapping_add(p.out_ns as u64);
        let wake_ns = out_ns.wrapping_add(p.wake_ns);
        let s = Stretch {
            serial: p.serial,
            seq: (i64::from(last.seq).wrapping_add(p.seq)) as u32,
            out_ns,
            wake_ns,
            in_ns: wake_ns.wrapping_add(p.in_ns),
            why: *WHYS
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
        self.lasts.set(&s);
        s
    }
}
