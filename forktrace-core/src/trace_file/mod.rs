//! The trace file: written as the recording goes, read by every report.
//!
//! `container` keeps blocks of bytes safe, `damage` has words for what became of them,
//! `codec` packs events into blocks, and this file writes them: one
//! with the header, many with events, one with the end. A file without the last was
//! cut off. `windows` is what a reader needs to begin in the middle, and to go on with full
//! knowledge behind what is damaged; `reading` is that reader.
//!
//! A file can come from anybody. What it takes to unpack is bounded by its length
//! (`budget`).

mod budget;
mod bytes;
pub(crate) mod codec;
pub mod container;
pub mod damage;
mod format;
mod numbers;
mod reading;
#[cfg(test)]
mod tests;
mod windows;

use std::io::{self, Write};

pub use self::{
    bytes::{Bytes, Source},
    damage::{Damage, OpenError, Skipped},
    format::{OLDEST_VERSION, VERSION},
    reading::{Listener, Told, TraceInfo, read, read_from, read_window},
    windows::{Found, Window, find as find_windows},
};
use self::{
    codec::{Encoder, MAX_RECORD_LEN},
    container::{BlockInfo, BlockWriter},
    format::{KIND_EVENTS, KIND_FINISH, KIND_HEADER, MAX_HEADER_LEN},
    windows::Windows,
};
use crate::trace::{Event, Finish, Header};

/// A block is written when it holds this much.
const BLOCK_BYTES: usize = 128 << 10;
/// A block is written when it holds events of more than this time, ns: so much
/// is missing after a crash.
const BLOCK_NS: u64 = 1_000_000_000;
/// A window is at least so long, bytes of the file: so much more than what is asked for is read
/// of it.
const WINDOW_BYTES: u64 = 512 << 10;

/// Records that could not be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unwritten {
    /// How many.
    pub records: u64,
    /// When the first and the last of them happened.
    pub range_ns: Option<(u64, u64)>,
    /// Why.
    pub error: Option<String>,
}

/// Writes a trace. A failed write (a full disk) does not end the recording: what
/// can't be written is counted and placed in time, and the next block is tried
/// again.
pub struct TraceWriter<W: Write> {
    blocks: BlockWriter<W>,
    encoder: Encoder,
    windows: Windows,
    unwritten: Unwritten,
    block_bytes: usize,
}

impl<W: Write> TraceWriter<W> {
    /// Starts a file.
    ///
    /// # Errors
    /// When the header can't be written.
    pub fn new(inner: W, header: &Header) -> io::Result<Self> {
        Self::with_windows(inner, header, (BLOCK_BYTES, WINDOW_BYTES))
    }

    /// The same of blocks that hold so many bytes, and windows of at least so many bytes of the
    /// file.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_windows(
        inner: W,
        header: &Header,
        (block_bytes, window_bytes): (usize, u64),
    ) -> io::Result<Self> {
        let mut blocks = BlockWriter::new(inner, VERSION)?;
        let mut payload = postcard::to_stdvec(header).map_err(io::Error::other)?;
        if payload.len() > MAX_HEADER_LEN {
            payload = postcard::to_stdvec(&shortened(header)).map_err(io::Error::other)?;
        }
        let info = BlockInfo {
            kind: KIND_HEADER,
            records: 1,
            first_ns: header.start_ns,
            last_ns: header.start_ns,
        };
        blocks.append(&info, &payload)?;
        blocks.flush()?;
        Ok(Self {
            blocks,
            encoder: Encoder::new(header.start_ns),
            windows: Windows::new(header.start_ns, window_bytes),
            unwritten: Unwritten::default(),
            block_bytes,
        })
    }

    /// Adds an event.
    pub fn push(&mut self, event: &Event) {
        if self.encoder.push(event) {
            self.windows.note(event);
        } else {
            self.not_written(1, event.at_ns().map(|at| (at, at)), || {
                format!("a record can't be longer than {MAX_RECORD_LEN} bytes")
            });
        }
        if self.encoder.len() >= self.block_bytes {
            self.write_block();
        }
    }

    /// Writes what is older than a second, so that a crash loses no more.
    pub fn tick(&mut self, now_ns: u64) {
        if self.encoder.records() > 0 && now_ns.saturating_sub(self.encoder.first_ns()) > BLOCK_NS {
            self.write_block();
        }
    }

    fn write_block(&mut self) {
        if self.encoder.records() == 0 {
            return;
        }
        let info = BlockInfo {
            kind: KIND_EVENTS,
            records: self.encoder.records(),
            first_ns: self.encoder.first_ns(),
            last_ns: self.encoder.last_ns(),
        };
        let written = self
            .blocks
            .append(&info, self.encoder.bytes())
            .and_then(|()| self.blocks.flush());
        if let Err(error) = written {
            let range = Some((info.first_ns, info.last_ns));
            self.not_written(u64::from(info.records), range, || error.to_string());
        }
        self.encoder.start_block();
        self.windows.turn(&mut self.blocks);
    }

    fn not_written(
        &mut self,
        records: u64,
        range_ns: Option<(u64, u64)>,
        error: impl FnOnce() -> String,
    ) {
        self.unwritten.records += records;
        if let Some((first, last)) = range_ns {
            let (from, until) = self.unwritten.range_ns.unwrap_or((first, last));
            self.unwritten.range_ns = Some((from.min(first), until.max(last)));
        }
        self.unwritten.error.get_or_insert_with(error);
    }

    /// Why something could not be written, the first time.
    pub fn error(&self) -> Option<&str> {
        self.unwritten.error.as_deref()
    }

    /// Size of the file so far, bytes.
    pub fn bytes_written(&self) -> u64 {
        self.blocks.bytes_written()
    }

    /// Writes what is left and the end, and gives back the end with the records
    /// that could not be written counted in it, and the error when the end could
    /// not be written: the file then reads as one that was cut off.
    pub fn finish(mut self, mut finish: Finish) -> (Finish, Option<io::Error>) {
        self.write_block();
        self.windows.finish(&mut self.blocks);
        finish.unwritten = self.unwritten.records;
        finish.unwritten_from_ns = self.unwritten.range_ns.map(|r| r.0);
        finish.unwritten_until_ns = self.unwritten.range_ns.map(|r| r.1);
        finish.write_error = self.unwritten.error;
        let info = BlockInfo {
            kind: KIND_FINISH,
            records: 1,
            first_ns: finish.end_ns,
            last_ns: finish.end_ns,
        };
        let written = postcard::to_stdvec(&finish)
            .map_err(io::Error::other)
            .and_then(|payload| self.blocks.append(&info, &payload))
            .and_then(|()| self.blocks.flush());
        (finish, written.err())
    }
}

/// Whether a file that begins so is a trace, of whatever version.
pub fn is_trace(start: &[u8]) -> bool {
    start.starts_with(&format::FILE_MAGIC)
}

/// With as much of the command line as a header can hold; the last argument says how many
/// are left out.
fn shortened(header: &Header) -> Header {
    let mut left = MAX_HEADER_LEN / 2;
    let fits = header.argv.iter().take_while(|arg| {
        let rest = left.checked_sub(arg.len() + 4);
        left = rest.unwrap_or(0);
        rest.is_some()
    });
    let mut argv: Vec<String> = fits.cloned().collect();
    argv.push(format!(
        "… and {} more arguments",
        header.argv.len() - argv.len()
    ));
    Header {
        argv,
        ..header.clone()
    }
}
