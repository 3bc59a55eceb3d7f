//! Numbers from a file, in the byte order of this machine.

use anyhow::{Result, bail};
use forktrace_core::trace_file::Source;

/// So many bytes are read at once.
const PART: usize = 256 << 10;

/// Reads a file from any place on.
pub(super) struct Reader<'a> {
    source: Source<'a>,
    part: Vec<u8>,
    /// Where in the file `part` begins.
    from: u64,
    at: u64,
}

impl<'a> Reader<'a> {
    pub(super) fn new(source: Source<'a>) -> Self {
        Self {
            source,
            part: Vec::new(),
            from: 0,
            at: 0,
        }
    }

    pub(super) fn length(&self) -> u64 {
        self.source.length() as u64
    }

    /// Where the next byte is.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    pub(super) fn seek(&mut self, at: u64) {
        self.at = at;
    }

    /// The next bytes, which must be fewer than [`PART`], without going on.
    pub(super) fn peek(&mut self, len: usize) -> Result<&[u8]> {
        let skip = self.at.checked_sub(self.from).map(|it| it as usize);
        let there = skip.is_some_and(|skip| skip.saturating_add(len) <= self.part.len());
        if !there {
            self.part.resize(PART.max(len), 0);
            let read = match usize::try_from(self.at) {
                Ok(at) => self.source.read(at, &mut self.part),
                Err(_) => 0,
            };
            self.part.truncate(read);
            self.from = self.at;
        }
        let skip = (self.at - self.from) as usize;
        match self.part.get(skip..skip + len) {
            Some(bytes) => Ok(bytes),
            None => bail!(
                "it ends at byte {}, where {len} more should be from byte {} on",
                self.source.length(),
                self.at
            ),
        }
    }

    /// The next bytes, as many as the caller has made sure that it wants in memory.
    pub(super) fn bytes(&mut self, len: usize) -> Result<Vec<u8>> {
        let left = self.length().saturating_sub(self.at);
        if len as u64 > left {
            bail!(
                "it ends at byte {}, where {len} more should be from byte {} on",
                self.source.length(),
                self.at
            );
        }
        let mut bytes = vec![0; len];
        let read = self.source.read(self.at as usize, &mut bytes);
        bytes.truncate(read);
        self.at += len as u64;
        Ok(bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32> {
        let number = u32::from_ne_bytes(self.peek(4)?.try_into()?);
        self.at += 4;
        Ok(number)
    }

    pub(super) fn u64(&mut self) -> Result<u64> {
        let number = u64::from_ne_bytes(self.peek(8)?.try_into()?);
        self.at += 8;
        Ok(number)
    }
}

/// Numbers from bytes in memory: each says `None` where there are too few.
pub(super) struct Numbers<'a>(pub(super) &'a [u8]);

impl<'a> Numbers<'a> {
    pub(super) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (first, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(first)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        Some(u32::from_ne_bytes(self.take(4)?.try_into().ok()?))
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        Some(u64::from_ne_bytes(self.take(8)?.try_into().ok()?))
    }

    /// A text that ends with a NUL.
    pub(super) fn text(&mut self) -> Option<&'a [u8]> {
        let len = self.0.iter().position(|byte| *byte == 0)?;
        let text = self.take(len);
        self.take(1)?;
        text
    }
}
