//! Where a trace is read from.

/// The bytes of a file, of which some are asked for at a time.
pub trait Bytes: Sync {
    /// How many there are.
    fn length(&self) -> usize;

    /// Reads from this place on, and says how many were there.
    fn read(&self, at: usize, into: &mut [u8]) -> usize;
}

/// A file in memory, or one of which parts are read.
#[derive(Clone, Copy)]
pub enum Source<'a> {
    /// All of it.
    Memory(&'a [u8]),
    /// Parts of it are asked for.
    File(&'a dyn Bytes),
}

impl Source<'_> {
    /// How many bytes there are.
    pub fn length(&self) -> usize {
        match self {
            Self::Memory(bytes) => bytes.len(),
            Self::File(file) => file.length(),
        }
    }

    /// The bytes from this place on: all of a file in memory, so many of another one.
    pub(super) fn part<'b>(&'b self, at: usize, len: usize, buffer: &'b mut Vec<u8>) -> &'b [u8] {
        match self {
            Self::Memory(bytes) => bytes.get(at..).unwrap_or_default(),
            Self::File(file) => {
                buffer.resize(len, 0);
                let len = file.read(at, buffer);
                &buffer[..len]
            }
        }
    }

    /// Reads from this place on, and says how many bytes were there.
    pub fn read(&self, at: usize, into: &mut [u8]) -> usize {
        match self {
            Self::Memory(bytes) => {
                let from = bytes.get(at..).unwrap_or_default();
                let len = into.len().min(from.len());
                into[..len].copy_from_slice(&from[..len]);
                len
            }
            Self::File(file) => file.read(at, into),
        }
    }
}
