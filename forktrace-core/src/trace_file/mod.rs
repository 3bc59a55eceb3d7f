//! The trace file: written as the recording goes, read by every report.
//!
//! `container` keeps blocks of bytes safe, `damage` has words for what became of them,
//! `codec` packs events into blocks, and this file says which blocks there are: one
//! with the header, many with events, one with the end. A file without the last was
//! cut off.
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
#[cfg(test)]
mod tests;

use std::io::{self, Write};

use anyhow::{Context as _, Result, anyhow};

pub use self::bytes::{Bytes, Source};
pub use self::damage::{Damage, OpenError};
use self::{
    budget::Budget,
    codec::{Decoder, Encoder, MAX_RECORD_LEN, read_fields},
    container::{BlockInfo, BlockWriter},
};
use crate::trace::{Event, Finish, Header};

/// Version of the format. It is raised when what is known already changes its meaning: what
/// is added to it, a reader passes over and counts ([`Skipped`]).
pub const VERSION: u32 = 3;
/// The oldest version that can be read: a guess at the content of another could be wrong.
pub const OLDEST_VERSION: u32 = 2;

const KIND_HEADER: u8 = 1;
const KIND_EVENTS: u8 = 2;
const KIND_FINISH: u8 = 3;

/// The longest header and the longest end, bytes: an empty argument of one byte takes 24
/// when it is unpacked.
const MAX_HEADER_LEN: usize = 4 << 20;
/// A block is written when it holds this much.
const BLOCK_BYTES: usize = 128 << 10;
/// A block is written when it holds events of more than this time, ns: so much
/// is missing after a crash.
const BLOCK_NS: u64 = 1_000_000_000;

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
    unwritten: Unwritten,
}

impl<W: Write> TraceWriter<W> {
    /// Starts a file.
    ///
    /// # Errors
    /// When the header can't be written.
    pub fn new(inner: W, header: &Header) -> io::Result<Self> {
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
            unwritten: Unwritten::default(),
        })
    }

    /// Adds an event.
    pub fn push(&mut self, event: &Event) {
        if !self.encoder.push(event) {
            self.not_written(1, event.at_ns().map(|at| (at, at)), || {
                format!("a record can't be longer than {MAX_RECORD_LEN} bytes")
            });
        }
        if self.encoder.len() >= BLOCK_BYTES {
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

    /// Size of the file so far, bytes.
    pub fn bytes_written(&self) -> u64 {
        self.blocks.bytes_written()
    }

    /// Writes what is left and the end, and gives back the end with the records
    /// that could not be written counted in it, and the error when the end could
    /// not be written: the file then reads as one that was cut off.
    pub fn finish(mut self, mut finish: Finish) -> (Finish, Option<io::Error>) {
        self.write_block();
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

/// Parts of a whole file that were passed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Records and blocks of a kind that this version does not know: a later version
    /// wrote them.
    pub unknown_kind: u64,
    /// Records of a known kind that can't be read.
    pub unreadable: u64,
    /// From this byte of the file on nothing was read: it takes too much memory.
    pub too_large_from: Option<u64>,
}

/// Whether a file that begins so is a trace, of whatever version.
pub fn is_trace(start: &[u8]) -> bool {
    start.starts_with(&format::FILE_MAGIC)
}

/// What a file holds besides its events.
#[derive(Clone, Debug)]
pub struct TraceInfo {
    /// Drawn when the file was begun: the same in each copy of it.
    pub file_id: u32,
    /// The header.
    pub header: Header,
    /// The end; `None`: the file was cut off.
    pub finish: Option<Finish>,
    /// Parts that can't be read.
    pub damage: Vec<Damage>,
    /// What was passed over.
    pub skipped: Skipped,
    /// Last time that any block covers.
    pub last_ns: u64,
}

/// Reads a file and hands its events to `sink`, with the header, in the order of
/// the file.
///
/// # Errors
/// When it is not a trace of a version that can be read or its header is lost. Damage after
/// the header is no error: it is part of the result.
pub fn read(data: &[u8], sink: impl FnMut(&Header, Event)) -> Result<TraceInfo> {
    read_from(Source::Memory(data), sink)
}

/// The same, of a file that is not in memory as a whole.
///
/// # Errors
/// As above.
pub fn read_from(data: Source<'_>, mut sink: impl FnMut(&Header, Event)) -> Result<TraceInfo> {
    let mut blocks = container::blocks_of(data, OLDEST_VERSION..=VERSION)?;
    let mut payload = Vec::new();
    let (mut header, mut finish) = (None::<Header>, None);
    let mut damage = Vec::new();
    let mut last_ns = 0;
    let mut decoder = Decoder::default();
    let mut skipped = Skipped::default();
    let mut budget = Budget::of_file(data.length());
    while let Some(block) = blocks.read_next(&mut payload) {
        let block = match block {
            Ok(block) => block,
            Err(found) => {
                damage.push(found);
                continue;
            }
        };
        last_ns = last_ns.max(block.info.last_ns);
        let mut fits = budget.take(payload.len() as u64);
        match block.info.kind {
            _ if !fits => {}
            KIND_HEADER if header.is_none() && payload.len() <= MAX_HEADER_LEN => {
                let mut found = read_fields(&payload).context("its header is no header")?;
                limit_arguments(&mut found);
                header = Some(found);
            }
            KIND_EVENTS => {
                let Some(header) = &header else {
                    return Err(no_header(data));
                };
                let sink = &mut |event: Event| {
                    fits = budget.take(budget::memory_of(&event));
                    if fits {
                        sink(header, event);
                    }
                    fits
                };
                let records = block.info.records;
                let passed = match blocks.version() {
                    2 => decoder.decode_v2(&payload, records, sink),
                    _ => decoder.decode(&payload, records, sink),
                };
                skipped.unknown_kind += passed.unknown_kind;
                skipped.unreadable += passed.unreadable;
            }
            KIND_FINISH if finish.is_none() && payload.len() <= MAX_HEADER_LEN => {
                finish = Some(read_fields(&payload).context("its end is no end")?);
            }
            KIND_HEADER | KIND_FINISH => skipped.unreadable += 1,
            _ => skipped.unknown_kind += u64::from(block.info.records.max(1)),
        }
        if !fits {
            skipped.too_large_from = Some(block.offset);
            break;
        }
    }
    let Some(header) = header else {
        return Err(no_header(data));
    };
    Ok(TraceInfo {
        file_id: blocks.file_id(),
        last_ns: last_ns.max(header.start_ns),
        header,
        finish,
        damage,
        skipped,
    })
}

/// A command line of empty arguments takes many times what it takes in the file: of so many
/// the first are kept, and the last one says how many are left out.
fn limit_arguments(header: &mut Header) {
    const MOST: usize = 100_000;
    let count = header.argv.len();
    if count > MOST {
        header.argv.truncate(MOST);
        header.argv.shrink_to_fit();
        header
            .argv
            .push(format!("… and {} more arguments", count - MOST));
    }
    if let Some(attached) = &mut header.attached {
        attached.targets.truncate(MOST);
    }
    if let Some(imported) = &mut header.imported {
        imported.lacks.truncate(MOST);
        imported.faults.truncate(MOST);
    }
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

fn no_header(data: Source<'_>) -> anyhow::Error {
    anyhow!(
        "its first block, which says what was recorded, is lost; the {} bytes of the file can't \
         be read without",
        data.length()
    )
}
