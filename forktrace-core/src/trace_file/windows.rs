//! Windows: a long file is cut into parts that can be read without those before them.
//!
//! A window is opened by a *keyframe*: what all events before it have led to ([`crate::base`]), told
//! again as events, in blocks of their own kinds. A reader that comes from the beginning passes over
//! it. One that begins there, or has lost a block before, takes it, and knows all that it has to
//! know of what went before.
//!
//! ```text
//! … events  KEYFRAME  events  KEYFRAME_MORE  events  KEYFRAME_MORE  WINDOW  events …
//!           └ the tasks, some at a time ┘            └ the rest ┘   └ so much for that
//! … events  INDEX  TAIL  FINISH
//! ```
//!
//! Where there are many tasks a keyframe is large, and whoever writes it has other things to do: so
//! it is told in slices, a slice after a block of events. What happens meanwhile is in the events
//! between; each slice is true where it stands. The block `WINDOW` says where the keyframe began,
//! and that it is complete.
//!
//! A keyframe takes no more than a thirty-second part of the bytes that come before the next one.
//! The index, a list of all windows, comes before the end of a file; where it lies says a block
//! whose length is always the same. In a file that was cut off the windows are found by going from
//! block to block.

mod find;

use std::io::{self, Write};

use serde::{Deserialize, Serialize};

pub use self::find::{Found, find};
use super::{
    codec::Encoder,
    container::{BlockInfo, BlockWriter},
};
use crate::{
    base::{Base, Restating},
    trace::Event,
};

/// A keyframe begins.
pub(super) const KIND_KEYFRAME: u8 = 4;
/// It goes on.
pub(super) const KIND_KEYFRAME_MORE: u8 = 5;
/// It is complete: a [`Window`].
pub(super) const KIND_WINDOW: u8 = 6;
/// All windows, in the order of the file.
pub(super) const KIND_INDEX: u8 = 7;
/// Where the index begins in the file: eight bytes, lowest first.
pub(super) const KIND_TAIL: u8 = 8;
/// The length of a tail's payload, which is stored as it is.
const TAIL: usize = 8;

/// So many bytes of a keyframe are written at once, before they are packed.
const SLICE: usize = 32 << 10;
/// A window takes so many times what its keyframe took.
const TIMES_KEYFRAME: u64 = 32;
/// More windows are not listed: every other one is then left out, and those that follow are twice
/// as long.
const MOST: usize = 8192;
/// A keyframe is put off so often while it is not known whose the last event was.
const MOST_PUT_OFF: u32 = 4;

/// A part of a file that can be read without what is before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Where in the file its keyframe begins.
    pub offset: u64,
    /// How many events are before that.
    pub records: u64,
    /// The latest moment of any event before that, ns.
    pub first_ns: u64,
    /// The same of any event before the keyframe was complete, ns: what came later is in the
    /// window.
    pub open_ns: u64,
    /// Tasks that had ended when the keyframe was complete.
    pub ended: u64,
}

/// A keyframe that is being written.
struct UnderWay {
    restating: Restating,
    offset: u64,
    records: u64,
    first_ns: u64,
    begun: bool,
    /// What of it was written, bytes.
    bytes: u64,
}

/// Cuts a file into windows.
pub(super) struct Windows {
    base: Base,
    /// They are at least so long, bytes.
    least: u64,
    records: u64,
    windows: Vec<Window>,
    /// Where the last keyframe was complete, and how long it was, bytes.
    last: (u64, u64),
    under_way: Option<UnderWay>,
    put_off: u32,
    encoder: Encoder,
}

impl Windows {
    /// Of windows that are at least so long, bytes.
    pub(super) fn new(start_ns: u64, least: u64) -> Self {
        Self {
            base: Base::new(),
            least,
            records: 0,
            windows: Vec::new(),
            last: (0, 0),
            under_way: None,
            put_off: 0,
            encoder: Encoder::new(start_ns),
        }
    }

    /// Takes notice of an event that goes to the file.
    pub(super) fn note(&mut self, event: &Event) {
        self.records += 1;
        match event {
            Event::Stretch(stretch) => self.base.stretch(stretch),
            other => self.base.fold(other.clone()),
        }
    }

    /// Writes a part of a keyframe, if it is time. To be called when all events that were noted are
    /// in the file. What can't be written of it is none: the next one is tried.
    pub(super) fn turn<W: Write>(&mut self, blocks: &mut BlockWriter<W>) {
        let at = blocks.bytes_written();
        if self.under_way.is_none() {
            let length = self.least.max(TIMES_KEYFRAME.saturating_mul(self.last.1));
            if at.saturating_sub(self.last.0) < length {
                return;
            }
            if self.base.is_in_between() && self.put_off < MOST_PUT_OFF {
                self.put_off += 1;
                return;
            }
            self.put_off = 0;
            self.under_way = Some(UnderWay {
                restating: Restating::new(&self.base),
                offset: at,
                records: self.records,
                first_ns: self.base.last_ns,
                begun: false,
                bytes: 0,
            });
        }
        let Some(mut frame) = self.under_way.take() else {
            return;
        };
        let complete = self.slice(&mut frame, blocks);
        frame.bytes += blocks.bytes_written() - at;
        match complete {
            Ok(false) => self.under_way = Some(frame),
            Ok(true) => self.complete(&frame, blocks),
            Err(_) => self.last = (blocks.bytes_written(), frame.bytes),
        }
    }

    /// True: it is the last one.
    fn slice<W: Write>(
        &mut self,
        frame: &mut UnderWay,
        blocks: &mut BlockWriter<W>,
    ) -> io::Result<bool> {
        let Self { base, encoder, .. } = self;
        encoder.start_block();
        let mut more = true;
        // What is told at last is not cut, so that it is true where the keyframe is complete.
        while more && (encoder.len() < SLICE || frame.restating.is_at_rest()) {
            more = frame.restating.next(base, &mut |event| {
                // What is longer than a record can be was not written as an event either.
                let _ = encoder.push(&event);
            });
        }
        let kind = match frame.begun {
            false => KIND_KEYFRAME,
            true => KIND_KEYFRAME_MORE,
        };
        frame.begun = true;
        blocks.append(&info(kind, base.last_ns), encoder.bytes())?;
        Ok(!more)
    }

    fn complete<W: Write>(&mut self, frame: &UnderWay, blocks: &mut BlockWriter<W>) {
        let window = Window {
            offset: frame.offset,
            records: frame.records,
            first_ns: frame.first_ns,
            open_ns: self.base.last_ns,
            ended: self.base.ended,
        };
        let payload = postcard::to_stdvec(&window).map_err(io::Error::other);
        let info = info(KIND_WINDOW, window.open_ns);
        if payload.and_then(|it| blocks.append(&info, &it)).is_ok() {
            self.windows.push(window);
        }
        if self.windows.len() >= MOST {
            let mut keep = false;
            self.windows.retain(|_| {
                keep = !keep;
                keep
            });
            self.least *= 2;
        }
        self.last = (blocks.bytes_written(), frame.bytes);
    }

    /// Writes the index, if there are windows.
    pub(super) fn finish<W: Write>(self, blocks: &mut BlockWriter<W>) {
        let at: [u8; TAIL] = blocks.bytes_written().to_le_bytes();
        let payload = match self.windows.is_empty() {
            true => None,
            false => postcard::to_stdvec(&self.windows).ok(),
        };
        // Without one the windows are found all the same.
        if let Some(payload) = payload
            && blocks
                .append(&info(KIND_INDEX, self.base.last_ns), &payload)
                .is_ok()
        {
            let _ = blocks.append(&info(KIND_TAIL, self.base.last_ns), &at);
        }
    }
}

/// A keyframe's blocks count as no records: nothing is lost with them.
fn info(kind: u8, at_ns: u64) -> BlockInfo {
    BlockInfo {
        kind,
        records: 0,
        first_ns: at_ns,
        last_ns: at_ns,
    }
}
