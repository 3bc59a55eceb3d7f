//! Where packed stretches are kept: in memory as far as the budget goes, the rest wherever
//! the caller says.

use std::{
    fmt, io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

/// Takes what doesn't fit into memory, and gives it back.
pub trait Spill: Send + Sync {
    /// Keeps these bytes, and says where.
    ///
    /// # Errors
    /// When they can't be kept: then they stay in memory.
    fn keep(&self, bytes: &[u8]) -> io::Result<u64>;

    /// Reads bytes that were kept at this place.
    ///
    /// # Errors
    /// When they can't be read.
    fn read(&self, at: u64, into: &mut [u8]) -> io::Result<()>;
}

/// The packed stretches of a model.
pub struct Shelf {
    /// Tells shelves apart.
    id: u64,
    budget: usize,
    used: AtomicUsize,
    spill: Option<Arc<dyn Spill>>,
    chunks: Option<u8>,
    failed: Mutex<Option<io::Error>>,
}

impl Default for Shelf {
    /// All stays in memory.
    fn default() -> Self {
        Self::new(usize::MAX, None)
    }
}

impl fmt::Debug for Shelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shelf")
            .field("used", &self.used)
            .finish_non_exhaustive()
    }
}

/// Bytes on a shelf.
#[derive(Clone, Debug)]
pub(super) enum Kept {
    Here(Arc<[u8]>),
    Away { at: u64, len: u32 },
}

impl Shelf {
    /// Keeps so many bytes in memory. Beyond, it asks `spill`.
    pub fn new(budget: usize, spill: Option<Arc<dyn Spill>>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            budget,
            used: AtomicUsize::new(0),
            spill,
            chunks: None,
            failed: Mutex::new(None),
        }
    }

    /// So many stretches are packed at once, as a power of two: no more than 8.
    #[must_use]
    pub fn in_chunks_of(self, log: u8) -> Self {
        let chunks = Some(log.min(8));
        Self { chunks, ..self }
    }

    pub(in crate::model) fn chunks(&self, usual: u8) -> u8 {
        self.chunks.unwrap_or(usual)
    }

    /// What was kept can't be read back: nothing that was made of it is right.
    pub fn failure(&self) -> Option<io::Error> {
        self.failed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn keep(&self, bytes: &[u8]) -> Kept {
        let used = self.used.fetch_add(bytes.len(), Ordering::Relaxed);
        if used.saturating_add(bytes.len()) > self.budget
            && let Some(spill) = &self.spill
            && let Ok(at) = spill.keep(bytes)
        {
            self.used.fetch_sub(bytes.len(), Ordering::Relaxed);
            let len = bytes.len() as u32;
            return Kept::Away { at, len };
        }
        Kept::Here(bytes.into())
    }

    /// It is dropped.
    pub(super) fn forget(&self, kept: &Kept) {
        if let Kept::Here(bytes) = kept {
            self.used.fetch_sub(bytes.len(), Ordering::Relaxed);
        }
    }

    /// What is away, read back: zeros if that fails.
    pub(super) fn read(&self, at: u64, len: u32) -> Arc<[u8]> {
        let mut bytes = vec![0; len as usize];
        let read = match &self.spill {
            Some(spill) => spill.read(at, &mut bytes),
            None => Err(io::ErrorKind::NotFound.into()),
        };
        if let Err(error) = read {
            let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
            failed.get_or_insert(error);
            bytes.fill(0);
        }
        bytes.into()
    }
}
