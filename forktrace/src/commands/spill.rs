//! What of a long trace doesn't fit into memory: in a temporary file without a name.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _},
    os::unix::fs::FileExt as _,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::{Context as _, Result};
use forktrace_core::{
    model::{Model, Shelf, Spill},
    pipeline,
    render::text::figures::clean,
    trace::Finish,
    trace_file::{Bytes, Source, TraceInfo},
};
use rustix::fs::{Mode, OFlags};

use super::output::to_stderr;

/// So many bytes of packed stretches are kept in memory.
const BUDGET: usize = 96 << 20;
/// So many are written at once.
const BATCH: usize = 1 << 20;

/// A file without a name, made when it is needed.
#[derive(Default)]
pub(super) struct Away {
    file: OnceLock<File>,
    /// What is to be written, and from where on.
    rest: Mutex<(Vec<u8>, u64)>,
}

impl Spill for Away {
    fn keep(&self, bytes: &[u8]) -> io::Result<u64> {
        let mut rest = self.rest.lock().unwrap_or_else(PoisonError::into_inner);
        let (buffer, from) = &mut *rest;
        if buffer.len() >= BATCH {
            if self.file.get().is_none() {
                let file = unnamed()?;
                self.file.get_or_init(|| file);
            }
            let file = self.file.get().ok_or(io::ErrorKind::NotFound)?;
            file.write_all_at(buffer, *from)?;
            *from += buffer.len() as u64;
            buffer.clear();
        }
        let at = *from + buffer.len() as u64;
        buffer.extend_from_slice(bytes);
        Ok(at)
    }

    fn read(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
        let written = {
            let rest = self.rest.lock().unwrap_or_else(PoisonError::into_inner);
            let (buffer, from) = &*rest;
            match at.checked_sub(*from) {
                Some(at) => {
                    let at = at as usize;
                    let bytes = buffer.get(at..at + into.len());
                    into.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
                    None
                }
                None => self.file.get(),
            }
        };
        match written {
            Some(file) => file.read_exact_at(into, at),
            None => Ok(()),
        }
    }
}

/// A file without a name, in the folder for temporary files.
pub(super) fn unnamed() -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR;
    match rustix::fs::open(std::env::temp_dir(), flags, mode) {
        Ok(file) => Ok(File::from(file)),
        // Some file systems have none that never had a name.
        Err(_) => tempfile::tempfile(),
    }
}

/// Where a long trace is kept.
pub(super) struct Room {
    shelf: Arc<Shelf>,
    away: Arc<Away>,
    /// Of a part of a trace: how many bytes of the file were read, and how many there are.
    read: OnceLock<(u64, u64)>,
}

impl Room {
    pub(super) fn new() -> Self {
        let away = Arc::<Away>::default();
        let spill: Arc<dyn Spill> = Arc::<Away>::clone(&away);
        Self {
            shelf: Arc::new(Shelf::new(BUDGET, Some(spill))),
            away,
            read: OnceLock::new(),
        }
    }

    /// Reads a trace from here on: part by part where that can be, else as a whole. `end` as in
    /// [`pipeline::read`].
    ///
    /// # Errors
    /// When it can't be read, or is no trace.
    pub(super) fn read(&self, trace: &mut File, end: Option<Finish>) -> Result<(TraceInfo, Model)> {
        self.with(trace, |data| pipeline::read_onto(&self.shelf, data, end))
    }

    /// The same of what is to be known of a part that begins at some moment, as
    /// [`pipeline::read_from_moment`] has it.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(super) fn read_from(
        &self,
        trace: &mut File,
        from: &dyn Fn(u64) -> Option<u64>,
    ) -> Result<(TraceInfo, Model)> {
        self.with(trace, |data| {
            pipeline::read_from_moment(&self.shelf, data, None, from)
        })
    }

    fn with<T>(&self, trace: &mut File, read: impl FnOnce(Source<'_>) -> Result<T>) -> Result<T> {
        const CANT: &str = "it can't be read";
        if let Some(file) = TraceBytes::new(trace) {
            let made = read(Source::File(&file));
            file.check().context(CANT)?;
            let bytes = file.read.load(Ordering::Relaxed);
            self.read.get_or_init(|| (bytes, file.len as u64));
            return made;
        }
        let mut data = Vec::new();
        trace.read_to_end(&mut data).context(CANT)?;
        read(Source::Memory(&data))
    }

    /// Says how much of a trace was read, if not all was, and what is in a temporary file, if
    /// anything is.
    pub(super) fn say(&self) -> Result<()> {
        if let Some((read, all)) = self.read.get().filter(|(read, all)| read < all) {
            let mb = |bytes: &u64| *bytes as f64 / 1e6;
            let text = format!(
                "forktrace: {:.1} of {:.1} MB of the trace were read\n",
                mb(read),
                mb(all)
            );
            to_stderr(text.as_bytes())?;
        }
        let rest = self.away.rest.lock();
        let bytes = rest.unwrap_or_else(PoisonError::into_inner).1;
        if bytes == 0 {
            return Ok(());
        }
        let folder = std::env::temp_dir();
        let text = format!(
            "forktrace: {} MB of the trace don't fit into memory: they are in a temporary file \
             without a name in {}, which is gone when the report is made\n",
            bytes.div_ceil(1_000_000),
            clean(&folder.to_string_lossy()),
        );
        to_stderr(text.as_bytes())
    }

    /// # Errors
    /// When what was written can't be read back: what was made of it is wrong.
    pub(super) fn check(&self) -> Result<()> {
        match self.shelf.failure() {
            None => Ok(()),
            Some(error) => Err(error).context(
                "the temporary file that holds a part of the trace can't be read back; TMPDIR \
                 says where it is",
            ),
        }
    }
}

/// A trace file that is read as it is needed.
pub(super) struct TraceBytes<'a> {
    file: &'a File,
    /// Where the trace begins: standard input can be anywhere in its file.
    from: u64,
    len: usize,
    /// So many bytes were read.
    read: AtomicU64,
    failed: Mutex<Option<io::Error>>,
}

impl<'a> TraceBytes<'a> {
    /// `None`: it can be read from its beginning to its end only.
    pub(super) fn new(mut file: &'a File) -> Option<Self> {
        let meta = file.metadata().ok().filter(|meta| meta.is_file())?;
        let from = file.stream_position().ok()?;
        Some(Self {
            file,
            from,
            len: usize::try_from(meta.len().saturating_sub(from)).ok()?,
            read: AtomicU64::new(0),
            failed: Mutex::new(None),
        })
    }

    /// # Errors
    /// When a part of it could not be read.
    pub(super) fn check(&self) -> io::Result<()> {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.take().map_or(Ok(()), Err)
    }
}

impl Bytes for TraceBytes<'_> {
    fn length(&self) -> usize {
        self.len
    }

    fn read(&self, at: usize, into: &mut [u8]) -> usize {
        let mut read = 0;
        let len = into.len().min(self.len.saturating_sub(at));
        while read < len {
            match self
                .file
                .read_at(&mut into[read..len], self.from + (at + read) as u64)
            {
                Ok(0) => break,
                Ok(n) => read += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
                    failed.get_or_insert(error);
                    break;
                }
            }
        }
        self.read.fetch_add(read as u64, Ordering::Relaxed);
        read
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back() {
        let away = Arc::<Away>::default();
        let mut places = Vec::new();
        for at in 0..5_000u32 {
            let bytes = at.to_le_bytes().repeat(1 + at as usize % 300);
            places.push((away.keep(&bytes).unwrap(), bytes));
        }
        assert!(away.file.get().is_some());
        for (at, bytes) in places {
            let mut read = vec![0; bytes.len()];
            away.read(at, &mut read).unwrap();
            assert_eq!(read, bytes);
        }
    }
}
