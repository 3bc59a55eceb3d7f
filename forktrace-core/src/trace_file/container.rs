//! The trace file as a container: checksummed, compressed blocks, one after
//! the other.
//!
//! The file is written while the recording goes on, and only ever appended
//! to. Whatever happens to it afterwards (a crash, a full disk, a cut at any
//! byte, a flipped bit), every block that is whole can still be read, and
//! every byte that can't be is reported as [`Damage`]. The container knows
//! nothing of events: what is in a block is the caller's business.
//!
//! # Format
//!
//! All numbers are little-endian. The file starts with a header of 20 bytes;
//! its layout is the same in every version of the format.
//!
//! | bytes | content                                                       |
//! |------:|---------------------------------------------------------------|
//! | 0–7   | magic, `89 46 54 52 0d 0a 1a 0a`                               |
//! | 8–11  | format version                                                |
//! | 12–15 | file id: random, repeated in each block                       |
//! | 16–19 | CRC-32 of bytes 0–15                                          |
//!
//! The magic takes after PNG's: a byte with the high bit set and both kinds
//! of line ending, so that a transfer "as text" can't go unnoticed.
//!
//! Blocks follow without gaps, each a header of 64 bytes and a payload.
//!
//! | bytes | content                                                       |
//! |------:|---------------------------------------------------------------|
//! | 0–3   | magic, `f5 4b 42 d1`                                           |
//! | 4–7   | file id                                                       |
//! | 8–15  | sequence number: 0, 1, 2, …                                   |
//! | 16–23 | records in all blocks before this one                         |
//! | 24–31 | time of the first record, ns                                  |
//! | 32–39 | time of the last record, ns                                   |
//! | 40–43 | records in this block                                         |
//! | 44–47 | length of the payload                                         |
//! | 48–51 | length of the payload as stored                               |
//! | 52–55 | CRC-32 of the payload as stored                               |
//! | 56    | kind, defined by the caller                                   |
//! | 57    | how the payload is stored: 0 as it is, 1 one zstd frame       |
//! | 58–59 | zero                                                          |
//! | 60–63 | CRC-32 of bytes 0–59                                          |
//!
//! # Reading past damage
//!
//! The header has a checksum of its own, so a length in a good header can be
//! trusted. Where a block is bad, the reader looks for the next good header,
//! byte by byte. The sequence number and the count of records before then say
//! how much was lost in between, even where the lost headers are gone. The
//! file id keeps apart what only looks like a block of this file: a trace
//! stored inside a payload, or a disk sector left over from an older file.
//!
//! What the container can't know is whether there was more after the last
//! block: a file cut exactly between two blocks looks whole. The caller ends
//! its trace with a block that says so.

use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::ops::RangeInclusive;

use zstd::bulk::{Compressor, Decompressor};

pub use super::format::BlockInfo;
use super::{
    bytes::Source,
    damage::{Damage, DamageKind, OpenError},
    format::{FILE_HEADER_LEN, FILE_MAGIC},
};

mod seek;
#[cfg(test)]
mod tests;

/// The longest payload of a block, in bytes. It also bounds what a forged
/// length in a file can make the reader allocate.
pub const MAX_PAYLOAD_LEN: usize = 16 << 20;

const BLOCK_MAGIC: [u8; 4] = *b"\xf5KB\xd1";
const BLOCK_HEADER_LEN: usize = 64;
/// So many bytes of a file are searched for a header at once: at first, and at most.
const FIRST_SEARCHED: usize = 256;
const SEARCHED: usize = 64 << 10;

/// What the file magic becomes when a program takes the file for text.
const MANGLED_MAGICS: [&[u8]; 5] = [
    b"\x89FTR\n\x1a\n",         // CR LF became LF
    b"\x89FTR\r\r\n\x1a\r\n",   // LF became CR LF
    b"\x09FTR\r\n\x1a\n",       // the high bits were dropped
    b"\xc2\x89FTR\r\n\x1a\n",   // read as Latin-1, written as UTF-8
    b"\xef\xbf\xbdFTR\r\n\x1a", // read as UTF-8, the invalid replaced
];

/// Level 1: the recording shares the machine with what it records.
const COMPRESSION_LEVEL: i32 = 1;

/// A block that was read, without its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Where the block starts in the file.
    pub offset: u64,
    /// Its place among the blocks that were written, from 0.
    pub sequence: u64,
    /// What the writer said about it.
    pub info: BlockInfo,
}

/// How a payload is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Raw,
    Zstd,
}

/// A block's header, without the constant parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    sequence: u64,
    records_before: u64,
    info: BlockInfo,
    raw_len: u32,
    stored_len: u32,
    payload_crc: u32,
    encoding: Encoding,
}

impl Header {
    fn encode(&self, file_id: u32) -> [u8; BLOCK_HEADER_LEN] {
        let mut bytes = [0; BLOCK_HEADER_LEN];
        bytes[0..4].copy_from_slice(&BLOCK_MAGIC);
        bytes[4..8].copy_from_slice(&file_id.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.records_before.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.info.first_ns.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.info.last_ns.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.info.records.to_le_bytes());
        bytes[44..48].copy_from_slice(&self.raw_len.to_le_bytes());
        bytes[48..52].copy_from_slice(&self.stored_len.to_le_bytes());
        bytes[52..56].copy_from_slice(&self.payload_crc.to_le_bytes());
        bytes[56] = self.info.kind;
        bytes[57] = match self.encoding {
            Encoding::Raw => 0,
            Encoding::Zstd => 1,
        };
        let crc = crc32fast::hash(&bytes[..60]);
        bytes[60..64].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// `None` unless this is the header of a block of that file, with nothing
    /// in it that a writer would not have written.
    fn decode(bytes: &[u8; BLOCK_HEADER_LEN], file_id: u32) -> Option<Self> {
        if bytes[..4] != BLOCK_MAGIC
            || u32_at(bytes, 4) != file_id
            || u32_at(bytes, 60) != crc32fast::hash(&bytes[..60])
        {
            return None;
        }
        let raw_len = u32_at(bytes, 44);
        let stored_len = u32_at(bytes, 48);
        let encoding = match bytes[57] {
            0 if stored_len == raw_len => Encoding::Raw,
            1 if stored_len < raw_len => Encoding::Zstd,
            _ => return None,
        };
        if raw_len as usize > MAX_PAYLOAD_LEN || bytes[58..60] != [0, 0] {
            return None;
        }
        Some(Self {
            sequence: u64_at(bytes, 8),
            records_before: u64_at(bytes, 16),
            info: BlockInfo {
                kind: bytes[56],
                records: u32_at(bytes, 40),
                first_ns: u64_at(bytes, 24),
                last_ns: u64_at(bytes, 32),
            },
            raw_len,
            stored_len,
            payload_crc: u32_at(bytes, 52),
            encoding,
        })
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(number)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}

fn encode_file_header(version: u32, file_id: u32) -> [u8; FILE_HEADER_LEN] {
    let mut bytes = [0; FILE_HEADER_LEN];
    bytes[0..8].copy_from_slice(&FILE_MAGIC);
    bytes[8..12].copy_from_slice(&version.to_le_bytes());
    bytes[12..16].copy_from_slice(&file_id.to_le_bytes());
    let crc = crc32fast::hash(&bytes[..16]);
    bytes[16..20].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// Checks the file header and returns the file's version and its id.
fn decode_file_header(data: &[u8], versions: RangeInclusive<u32>) -> Result<(u32, u32), OpenError> {
    if data.is_empty() {
        return Err(OpenError::Empty);
    }
    if data.len() < FILE_HEADER_LEN && data.starts_with(&FILE_MAGIC[..data.len().min(8)]) {
        return Err(OpenError::TooShort { len: data.len() });
    }
    // One that would be right but for the magic is ours, and damaged.
    let would_be = data
        .first_chunk::<FILE_HEADER_LEN>()
        .map(|header| encode_file_header(u32_at(header, 8), u32_at(header, 12)));
    match (data.starts_with(&FILE_MAGIC), would_be) {
        (true, Some(header)) if data.starts_with(&header) => {
            let found = u32_at(&header, 8);
            if !versions.contains(&found) {
                return Err(OpenError::Version {
                    found,
                    supported: versions,
                });
            }
            Ok((found, u32_at(&header, 12)))
        }
        (true, _) => Err(OpenError::HeaderDamaged),
        (false, Some(header)) if data[8..].starts_with(&header[8..]) => {
            Err(OpenError::HeaderDamaged)
        }
        (false, _) if MANGLED_MAGICS.iter().any(|m| data.starts_with(m)) => Err(OpenError::Mangled),
        (false, _) => Err(OpenError::NotATrace {
            first_bytes: data.iter().copied().take(16).collect(),
        }),
    }
}

/// Writes a trace file, block by block.
pub struct BlockWriter<W: Write> {
    inner: W,
    compressor: Compressor<'static>,
    /// The block under way: its header and payload, to go out in one write.
    buffer: Vec<u8>,
    file_id: u32,
    next_sequence: u64,
    records: u64,
    bytes_written: u64,
}

impl<W: Write> BlockWriter<W> {
    /// Starts a trace file: writes the file header.
    ///
    /// Each block becomes a single write, so `inner` needs no buffer.
    pub fn new(inner: W, version: u32) -> io::Result<Self> {
        // The only source of randomness in the standard library.
        let random = RandomState::new().hash_one(std::process::id());
        Self::with_file_id(inner, version, random as u32)
    }

    fn with_file_id(inner: W, version: u32, file_id: u32) -> io::Result<Self> {
        let mut writer = Self {
            inner,
            compressor: Compressor::new(COMPRESSION_LEVEL)?,
            buffer: encode_file_header(version, file_id).to_vec(),
            file_id,
            next_sequence: 0,
            records: 0,
            bytes_written: 0,
        };
        writer.write_buffer(FILE_HEADER_LEN)?;
        Ok(writer)
    }

    /// Appends a block.
    ///
    /// When this fails, the block counts as lost, and a reader will say so.
    /// Further blocks can be appended: the reader finds its way past one that
    /// was half written. Fails without writing anything when the payload is
    /// longer than [`MAX_PAYLOAD_LEN`].
    pub fn append(&mut self, info: &BlockInfo, payload: &[u8]) -> io::Result<()> {
        // Spent even when the write fails: that is how the loss will show.
        let sequence = self.next_sequence;
        let records_before = self.records;
        self.next_sequence += 1;
        self.records += u64::from(info.records);

        let raw_len = payload.len();
        if raw_len > MAX_PAYLOAD_LEN {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("a block of {raw_len} bytes is over the limit of {MAX_PAYLOAD_LEN}"),
            ));
        }
        let room = BLOCK_HEADER_LEN + zstd::zstd_safe::compress_bound(raw_len);
        if self.buffer.len() < room {
            self.buffer.resize(room, 0);
        }
        let (header_out, stored_out) = self.buffer.split_at_mut(BLOCK_HEADER_LEN);
        let (encoding, stored_len) = match self
            .compressor
            .compress_to_buffer(payload, &mut *stored_out)
        {
            Ok(len) if len < raw_len => (Encoding::Zstd, len),
            // What can't be compressed, for whatever reason, is kept as it is.
            _ => {
                stored_out[..raw_len].copy_from_slice(payload);
                (Encoding::Raw, raw_len)
            }
        };
        let header = Header {
            sequence,
            records_before,
            info: *info,
            // Both are at most MAX_PAYLOAD_LEN.
            raw_len: raw_len as u32,
            stored_len: stored_len as u32,
            payload_crc: crc32fast::hash(&stored_out[..stored_len]),
            encoding,
        };
        header_out.copy_from_slice(&header.encode(self.file_id));
        self.write_buffer(BLOCK_HEADER_LEN + stored_len)
    }

    /// Like `write_all`, but counts what was taken even when it fails.
    fn write_buffer(&mut self, len: usize) -> io::Result<()> {
        let mut rest = &self.buffer[..len];
        while !rest.is_empty() {
            match self.inner.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    self.bytes_written += n as u64;
                    rest = &rest[n..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// How many bytes were written: the length of the file.
    pub fn bytes_written(&self) -> u64 {
        self.bytes_written
    }

    /// Flushes the underlying writer.
    pub fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }

    /// The underlying writer, for example to sync it to disk.
    pub fn get_ref(&self) -> &W {
        &self.inner
    }

    /// Gives the underlying writer back, without flushing it.
    pub fn into_inner(self) -> W {
        self.inner
    }
}

/// Opens a trace file of one of these versions, given as its content, for reading its
/// blocks.
pub fn blocks(data: &[u8], versions: RangeInclusive<u32>) -> Result<Blocks<'_>, OpenError> {
    blocks_of(Source::Memory(data), versions)
}

/// The same, of a file from wherever it comes.
pub fn blocks_of(data: Source<'_>, versions: RangeInclusive<u32>) -> Result<Blocks<'_>, OpenError> {
    let mut start = [0; 64];
    let len = data.read(0, &mut start);
    let (version, file_id) = decode_file_header(&start[..len], versions)?;
    Ok(Blocks {
        data,
        stored: Vec::new(),
        decompressor: Decompressor::new()?,
        version,
        file_id,
        offset: FILE_HEADER_LEN,
        next_sequence: 0,
        next_records: 0,
        last_ns: 0,
    })
}

/// Reads the blocks of a trace file in the order they were written.
///
/// ```text
/// let mut blocks = container::blocks(&data, VERSION..=VERSION)?;
/// let mut payload = Vec::new();
/// while let Some(block) = blocks.read_next(&mut payload) {
///     match block {
///         Ok(block) => { /* decode `payload`, as `block.info.kind` says */ }
///         Err(damage) => { /* count it, and go on */ }
///     }
/// }
/// ```
pub struct Blocks<'a> {
    data: Source<'a>,
    /// The block under way, as it is in the file.
    stored: Vec<u8>,
    decompressor: Decompressor<'static>,
    version: u32,
    file_id: u32,
    /// Where the next block should start.
    offset: usize,
    /// The sequence number and records before that it should have.
    next_sequence: u64,
    next_records: u64,
    /// The end of the last block that was read.
    last_ns: u64,
}

impl Blocks<'_> {
    /// The version of the file.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Drawn when the file was begun.
    pub fn file_id(&self) -> u32 {
        self.file_id
    }

    /// Reads the next block, or the next damage; `None` at the end of the
    /// file.
    ///
    /// The block's payload replaces what is in `payload`. It is empty after a
    /// damage, and at the end.
    pub fn read_next(&mut self, payload: &mut Vec<u8>) -> Option<Result<Block, Damage>> {
        payload.clear();
        if self.offset >= self.data.length() {
            return None;
        }
        let block = self.read_here(payload);
        if block.is_err() {
            payload.clear();
        }
        Some(block)
    }

    /// Reads what is at `self.offset` and moves it on.
    ///
    /// Takes linear time whatever the file holds. No byte is searched for a
    /// header more than twice: a good block may look ahead to the next header,
    /// and if there is damage in between, skipping it ends at that header. No
    /// byte is checksummed as payload twice: one that has a header inside
    /// is not tried, and any other is skipped as a whole.
    fn read_here(&mut self, payload: &mut Vec<u8>) -> Result<Block, Damage> {
        let start = self.offset;
        let Some(header) = self.header_at(start) else {
            let mut rest = [0; BLOCK_HEADER_LEN];
            let len = self.data.read(start, &mut rest);
            let kind = if len < BLOCK_HEADER_LEN && rest.starts_with(&BLOCK_MAGIC[..len.min(4)]) {
                DamageKind::Truncated
            } else {
                DamageKind::BadHeader
            };
            let next = self.find_header(start + 1, self.next_sequence);
            return Err(self.skip_to(next, kind, None));
        };
        if header.sequence < self.next_sequence {
            let next = self.find_header(start + 1, self.next_sequence);
            return Err(self.skip_to(next, DamageKind::Repeated, None));
        }
        if header.sequence > self.next_sequence {
            return Err(self.skip_to(Some((start, header)), DamageKind::Missing, None));
        }

        let body = start + BLOCK_HEADER_LEN;
        let end = body + header.stored_len as usize;
        let next_sequence = header.sequence.saturating_add(1);
        // The next header is where this block ends, or else wherever one is.
        let next = match self.header_at(end) {
            Some(next) if next.sequence == next_sequence => Some((end, next)),
            _ => self.find_header(start + 1, next_sequence),
        };
        let is_cut = next.is_some_and(|(at, _)| at < end);
        let kind = match !is_cut && self.stored(body, end) {
            _ if is_cut => DamageKind::CutShort,
            false => DamageKind::Truncated,
            true if crc32fast::hash(&self.stored) != header.payload_crc => DamageKind::BadPayload,
            true if !self.unpack(&header, payload) => DamageKind::Undecodable,
            true => {
                self.offset = end;
                self.next_sequence = next_sequence;
                self.next_records = header
                    .records_before
                    .saturating_add(u64::from(header.info.records));
                self.last_ns = header.info.last_ns;
                return Ok(Block {
                    offset: start as u64,
                    sequence: header.sequence,
                    info: header.info,
                });
            }
        };
        Err(self.skip_to(next, kind, Some(header.info)))
    }

    /// Moves on to the given header, or else to the end of the file, and says
    /// what is lost by that.
    fn skip_to(
        &mut self,
        next: Option<(usize, Header)>,
        kind: DamageKind,
        lost: Option<BlockInfo>,
    ) -> Damage {
        let end = next.map_or(self.data.length(), |(at, _)| at);
        let header = next.map(|(_, header)| header);
        let damage = Damage {
            offset: self.offset as u64,
            bytes: (end - self.offset) as u64,
            kind,
            blocks_lost: header.and_then(|h| h.sequence.checked_sub(self.next_sequence)),
            records_lost: header.and_then(|h| h.records_before.checked_sub(self.next_records)),
            lost,
            after_ns: self.last_ns,
            before_ns: header.map(|h| h.info.first_ns),
        };
        self.offset = end;
        if let Some(header) = header {
            self.next_sequence = header.sequence;
            self.next_records = header.records_before;
        }
        damage
    }

    /// Decompresses a block; false when it does not come to the length that
    /// the header gives.
    fn unpack(&mut self, header: &Header, payload: &mut Vec<u8>) -> bool {
        let stored = &self.stored;
        match header.encoding {
            Encoding::Raw => {
                payload.extend_from_slice(stored);
                true
            }
            Encoding::Zstd => {
                let raw_len = header.raw_len as usize;
                payload.reserve(raw_len);
                let unpacked = self.decompressor.decompress_to_buffer(stored, payload);
                matches!(unpacked, Ok(len) if len == raw_len)
            }
        }
    }

    /// The header at a place in the file, if a good one is there.
    fn header_at(&self, at: usize) -> Option<Header> {
        let mut bytes = [0; BLOCK_HEADER_LEN];
        let len = self.data.read(at, &mut bytes);
        (len == bytes.len()).then(|| Header::decode(&bytes, self.file_id))?
    }

    /// Reads a part of the file into `self.stored`; false: it is not all there.
    fn stored(&mut self, from: usize, to: usize) -> bool {
        if to > self.data.length() {
            return false;
        }
        self.stored.resize(to - from, 0);
        self.data.read(from, &mut self.stored) == to - from
    }

    /// The first good header from a place in the file on, of a block that is
    /// not older than the one given.
    fn find_header(&self, from: usize, sequence: u64) -> Option<(usize, Header)> {
        let is_wanted = |(_, header): &(usize, Header)| header.sequence >= sequence;
        let (mut from, mut len) = (from, FIRST_SEARCHED);
        let mut buffer = Vec::new();
        loop {
            let part = self.data.part(from, len, &mut buffer);
            let windows = part.array_windows::<4>().enumerate();
            let found = windows
                .filter(|(_, window)| **window == BLOCK_MAGIC)
                .find_map(|(i, _)| Some((from + i, self.header_at(from + i)?)).filter(is_wanted));
            if found.is_some() || from + part.len() >= self.data.length() || part.len() < len {
                return found;
            }
            // A header can begin with the last bytes.
            from += part.len() - (BLOCK_MAGIC.len() - 1);
            len = (2 * len).min(SEARCHED);
        }
    }
}
