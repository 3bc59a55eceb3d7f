//! What can be wrong with a trace file, in words.

use std::fmt;
use std::io;
use std::ops::RangeInclusive;

use super::format::{BlockInfo, FILE_HEADER_LEN, FILE_MAGIC};
use crate::words::quantity;

/// A stretch of the file that could not be read, or blocks that should be
/// there and are not.
///
/// The blocks that were read and the damages cover the file without gap or
/// overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Where in the file the damage starts.
    pub offset: u64,
    /// How many bytes were skipped. 0 when blocks are [`DamageKind::Missing`].
    pub bytes: u64,
    /// What is wrong there.
    pub kind: DamageKind,
    /// How many blocks were lost. 0 when there were bytes too many. `None` at
    /// the end of the file, where nothing tells how many there were.
    pub blocks_lost: Option<u64>,
    /// How many records were lost with them. `None` at the end of the file.
    pub records_lost: Option<u64>,
    /// The block that was here, where its header is whole.
    pub lost: Option<BlockInfo>,
    /// The time of the last record of the last block read before the damage;
    /// 0 when there was none.
    pub after_ns: u64,
    /// The time of the first record of the block that reading goes on with.
    /// `None` at the end of the file.
    pub before_ns: Option<u64>,
}

/// What is wrong with a stretch of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DamageKind {
    /// There is no block here, or its header is damaged.
    BadHeader,
    /// The payload is not what was written.
    BadPayload,
    /// The payload is what was written, but can't be decompressed to the
    /// length that the header gives.
    Undecodable,
    /// The block was not written to its end, and others follow: a write
    /// failed half-way, or bytes were taken out of the file.
    CutShort,
    /// The file ends inside the block.
    Truncated,
    /// The block that follows is whole, but ones before it are not there: a
    /// write failed outright, or a whole block was taken out of the file.
    Missing,
    /// The block is an earlier one over again. It was skipped.
    Repeated,
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

impl fmt::Display for DamageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BadHeader => "no intact block header",
            Self::BadPayload => "a block whose content does not match its checksum",
            Self::Undecodable => "a block that can't be decompressed",
            Self::CutShort => "a block that was not written to its end",
            Self::Truncated => "the file ends inside a block",
            Self::Missing => "blocks were never written or were taken out",
            Self::Repeated => "a block that was there before",
        })
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at byte {}: {}; ", self.offset, self.kind)?;
        if self.bytes > 0 {
            write!(f, "{} skipped, ", quantity(self.bytes, "byte"))?;
        }
        match (self.blocks_lost, self.records_lost, self.lost) {
            (Some(0), ..) => f.write_str("nothing lost"),
            (Some(blocks), Some(records), _) => write!(
                f,
                "{} with {} lost",
                quantity(blocks, "block"),
                quantity(records, "record")
            ),
            (Some(blocks), None, _) => write!(f, "{} lost", quantity(blocks, "block")),
            (None, _, Some(lost)) => write!(
                f,
                "at least {} lost",
                quantity(u64::from(lost.records), "record")
            ),
            (None, _, None) => f.write_str("how much is lost is unknown"),
        }
    }
}

/// Why a file can't be read as a trace at all.
///
/// The texts are to follow the name of the file and a colon.
#[derive(Debug)]
pub enum OpenError {
    /// There is nothing in the file.
    Empty,
    /// The file ends inside the file header.
    TooShort {
        /// How long it is, in bytes.
        len: usize,
    },
    /// It is some other sort of file.
    NotATrace {
        /// How it starts: up to 16 bytes.
        first_bytes: Vec<u8>,
    },
    /// It is a trace that some program has taken for text and changed.
    Mangled,
    /// It is a trace, and its file header is damaged.
    HeaderDamaged,
    /// It is a trace in another version of the format.
    Version {
        /// The version of the file.
        found: u32,
        /// The versions that can be read.
        supported: RangeInclusive<u32>,
    },
    /// The file could not be read, or the decompressor not be set up.
    Io(io::Error),
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            _ => None,
        }
    }
}

impl From<io::Error> for OpenError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const RECORD: &str = "record one with `forktrace run --save FILE -- COMMAND`";
        match self {
            Self::Empty => write!(
                f,
                "the file is empty: no recording ever got as far as writing to it; {RECORD}"
            ),
            Self::TooShort { len } => write!(
                f,
                "the file ends after {}, inside its {FILE_HEADER_LEN}-byte header, so there is \
                 nothing in it to read; if it is a copy, copy it again, else {RECORD}",
                quantity(*len as u64, "byte")
            ),
            Self::NotATrace { first_bytes } => {
                f.write_str("this is not a forktrace trace")?;
                if let Some(what) = recognise(first_bytes) {
                    write!(f, " but {what}")?;
                }
                f.write_str(" (it starts with")?;
                for byte in first_bytes.iter().take(FILE_MAGIC.len()) {
                    write!(f, " {byte:02x}")?;
                }
                write!(f, "); {RECORD}")
            }
            Self::Mangled => f.write_str(
                "this was a forktrace trace until a program took it for text and changed bytes \
                 in it; copy the original again, as a binary file",
            ),
            Self::HeaderDamaged => write!(
                f,
                "this is a forktrace trace, but its first {FILE_HEADER_LEN} bytes do not match \
                 their checksum, so its format is not known for sure; if it is a copy, copy it \
                 again"
            ),
            Self::Version { found, supported } => {
                let (age, advice) = if found > supported.end() {
                    ("a newer", "update forktrace")
                } else {
                    ("an older", "read it with the forktrace that wrote it")
                };
                write!(
                    f,
                    "this trace was written by {age} forktrace: its format is version {found}, \
                     this forktrace reads {}; {advice}, or record it again",
                    if supported.start() == supported.end() {
                        format!("version {}", supported.end())
                    } else {
                        format!("versions {} to {}", supported.start(), supported.end())
                    }
                )
            }
            Self::Io(error) => error.fmt(f),
        }
    }
}

/// Names a file that is not a trace by how it starts.
pub(super) fn recognise(first_bytes: &[u8]) -> Option<&'static str> {
    const KNOWN: [(&[u8], &str); 9] = [
        (b"\x89PNG", "a PNG image"),
        (b"\x7fELF", "an ELF program or library"),
        (b"PERFILE2", "a perf recording"),
        (b"\x1f\x8b", "a gzip archive (unpack it first)"),
        (b"\x28\xb5\x2f\xfd", "a zstd archive (unpack it first)"),
        (b"\xfd7zXZ\0", "an xz archive (unpack it first)"),
        (b"PK\x03\x04", "a zip archive (unpack it first)"),
        (b"{", "JSON, perhaps a report"),
        (b"\0\0\0\0\0\0\0\0", "zeros, as after a crash"),
    ];
    let known = KNOWN
        .iter()
        .find(|(magic, _)| first_bytes.starts_with(magic));
    if let Some((_, what)) = known {
        return Some(what);
    }
    // The 16 bytes may end inside a character.
    let is_text = match std::str::from_utf8(first_bytes) {
        Ok(text) => !text.is_empty(),
        Err(error) => error.error_len().is_none() && error.valid_up_to() > 0,
    };
    let is_control = |byte: &u8| byte.is_ascii_control() && !byte.is_ascii_whitespace();
    (is_text && !first_bytes.iter().any(is_control)).then_some("a text file")
}
