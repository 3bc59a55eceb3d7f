//! What the writer and the reader of blocks, and the words for damage, have in common.

/// Version of the format. It is raised when what is known already changes its meaning: what
/// is added to it, a reader passes over and counts ([`super::Skipped`]).
pub const VERSION: u32 = 3;
/// The oldest version that can be read: a guess at the content of another could be wrong.
pub const OLDEST_VERSION: u32 = 2;

pub(super) const KIND_HEADER: u8 = 1;
pub(super) const KIND_EVENTS: u8 = 2;
pub(super) const KIND_FINISH: u8 = 3;

/// The longest header and the longest end, bytes: an empty argument of one byte takes 24
/// when it is unpacked.
pub(super) const MAX_HEADER_LEN: usize = 4 << 20;
/// How a trace file begins.
pub(super) const FILE_MAGIC: [u8; 8] = *b"\x89FTR\r\n\x1a\n";
/// Bytes before the first block.
pub(super) const FILE_HEADER_LEN: usize = 20;

/// What the caller says about a block, and gets back on reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockInfo {
    /// What sort of block it is. The container gives it no meaning.
    pub kind: u8,
    /// How many records are in the block. Counts what is lost with it.
    pub records: u32,
    /// The time of the first record. A block whose content has no time should
    /// carry the time it was written: its neighbours' damage is placed by it.
    pub first_ns: u64,
    /// The time of the last record.
    pub last_ns: u64,
}
