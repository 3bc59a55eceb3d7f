//! Tables of the programs that are mapped into our memory (`BPF_F_MMAPABLE`): reading an
//! entry is no system call, and what they say of cache lines is true, since they begin
//! on a page.
//!
//! The programs write meanwhile. So entries are loaded and stored a word at a time by
//! atomic instructions; a word is never torn, an entry can be.

use std::{
    marker::PhantomData,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    sync::atomic::{
        AtomicU64,
        Ordering::{Acquire, Relaxed},
    },
};

use anyhow::{Context as _, Result, ensure};
use aya::maps::MapData;
use bytemuck::Pod;
use memmap2::{MmapOptions, MmapRaw};

/// A mapped array of `T`.
pub struct Mapped<T> {
    memory: MmapRaw,
    entries: usize,
    of: PhantomData<T>,
}

impl<T: Pod> Mapped<T> {
    const WORDS: usize = {
        assert!(
            size_of::<T>().is_multiple_of(8),
            "entries of an array are whole words"
        );
        size_of::<T>() / 8
    };

    /// Maps the first `entries` entries. Stays valid when the map itself is closed.
    ///
    /// # Errors
    /// When the map is not one of so many `T`, or can't be mapped.
    pub fn new(map: &MapData, entries: u32) -> Result<Self> {
        let info = map.info()?;
        let (value, max) = (info.value_size() as usize, info.max_entries());
        ensure!(
            value == size_of::<T>() && entries <= max,
            "a table has {max} entries of {value} bytes, not {entries} of {}",
            size_of::<T>()
        );
        let entries = entries as usize;
        let memory = MmapOptions::new()
            .len(entries * size_of::<T>())
            .map_raw(map.fd().as_fd().as_raw_fd())
            .context("a table of the programs can't be mapped")?;
        Ok(Self {
            memory,
            entries,
            of: PhantomData,
        })
    }

    /// Maps the first `entries` entries of one that is given by its descriptor, to be read only.
    ///
    /// # Errors
    /// When it can't be mapped.
    pub(super) fn read_only(map: &OwnedFd, entries: u32) -> Result<Self> {
        let entries = entries as usize;
        let memory = MmapOptions::new()
            .len(entries * size_of::<T>())
            .map_raw_read_only(map.as_raw_fd())
            .context("a table of the programs can't be mapped")?;
        Ok(Self {
            memory,
            entries,
            of: PhantomData,
        })
    }

    /// The entries.
    pub fn entries(&self) -> std::ops::Range<usize> {
        0..self.entries
    }

    /// A word of an entry: `offset` is that of a field of 8 bytes.
    ///
    /// # Panics
    /// When there is no such entry or word.
    pub fn word(&self, index: usize, offset: usize) -> &AtomicU64 {
        let at = index * Self::WORDS + offset / 8;
        assert!(index < self.entries && offset < size_of::<T>() && offset.is_multiple_of(8));
        // SAFETY: within the mapping, which lives as long as we do; aligned, since it
        // begins on a page; and nobody makes a plain access to it here.
        #[expect(unsafe_code, reason = "memory that is shared with the kernel")]
        unsafe {
            AtomicU64::from_ptr(self.memory.as_mut_ptr().cast::<u64>().add(at))
        }
    }

    /// An entry as it is now. What is read after it is no older.
    pub fn load(&self, index: usize) -> T {
        let mut entry = T::zeroed();
        let bytes = bytemuck::bytes_of_mut(&mut entry);
        for (i, word) in bytes.chunks_exact_mut(8).enumerate() {
            word.copy_from_slice(&self.word(index, 8 * i).load(Acquire).to_ne_bytes());
        }
        entry
    }

    /// Makes an entry zeros.
    pub fn clear(&self, index: usize) {
        for word in 0..Self::WORDS {
            self.word(index, 8 * word).store(0, Relaxed);
        }
    }
}
