//! The memory of a process, read page by page, each page once.

use std::{collections::HashMap, fs::File, io::IoSliceMut};

use nix::{
    sys::uio::{RemoteIoVec, process_vm_readv},
    unistd::Pid,
};

use super::tables::read;

pub(super) const PAGE: u64 = 4096;

/// More pieces are not noted.
const MOST_PIECES: usize = 4096;
/// The kernel takes no more parts at a time (`UIO_MAXIOV`).
const MOST_FETCHED: usize = 1024;

/// Memory that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Piece {
    pub(super) at: u64,
    pub(super) length: u32,
}

/// The pages that were read.
pub(super) struct Pages<'a> {
    memory: &'a File,
    pages: HashMap<u64, Vec<u8>>,
    most: usize,
    /// What was asked for; `None`: too much, or not all of it is there.
    pieces: Option<Vec<Piece>>,
}

impl<'a> Pages<'a> {
    /// No more pages than so are read.
    pub(super) fn new(memory: &'a File, most: usize) -> Self {
        Self {
            memory,
            pages: HashMap::new(),
            most,
            pieces: Some(Vec::new()),
        }
    }

    /// Reads pages that will be wanted, of the process of this thread, in one call: where that
    /// can't be, each is read when it is asked for.
    pub(super) fn fetch(&mut self, tid: u32, wanted: &[u64]) {
        let wanted = &wanted[..wanted.len().min(self.most).min(MOST_FETCHED)];
        let parts = wanted.iter().map(|page| RemoteIoVec {
            base: *page as usize,
            len: PAGE as usize,
        });
        let parts: Vec<_> = parts.collect();
        let mut bytes = vec![0; parts.len() * PAGE as usize];
        let local = &mut [IoSliceMut::new(&mut bytes)];
        let there = process_vm_readv(Pid::from_raw(tid as i32), local, &parts);
        let whole = bytes[..there.unwrap_or(0)].chunks_exact(PAGE as usize);
        let whole = wanted.iter().zip(whole);
        self.pages
            .extend(whole.map(|(page, bytes)| (*page, bytes.to_vec())));
    }

    /// Those that were asked for.
    pub(super) fn asked_for(&self) -> Vec<u64> {
        let pieces = self.pieces.iter().flatten();
        let mut pages: Vec<u64> = pieces.map(|piece| piece.at - piece.at % PAGE).collect();
        pages.sort_unstable();
        pages.dedup();
        pages
    }

    /// What was asked for; `None`: too much, or not all of it is there. What is asked for from
    /// here on is not noted.
    pub(super) fn take_pieces(&mut self) -> Option<Vec<Piece>> {
        self.pieces.take()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }

    /// There are as many as may be.
    pub(super) fn is_full(&self) -> bool {
        self.pages.len() >= self.most
    }

    fn page(&mut self, page: u64) -> Option<&[u8]> {
        if !self.pages.contains_key(&page) {
            if self.is_full() {
                return None;
            }
            let bytes = read(self.memory, page, PAGE);
            if bytes.is_empty() {
                return None;
            }
            self.pages.insert(page, bytes);
        }
        self.pages.get(&page).map(Vec::as_slice)
    }

    fn note(&mut self, at: u64, length: usize, is_there: bool) {
        let length = u32::try_from(length).ok();
        let length = length.filter(|_| is_there);
        self.pieces = self.pieces.take().and_then(|mut pieces| {
            pieces.push(Piece {
                at,
                length: length?,
            });
            (pieces.len() <= MOST_PIECES).then_some(pieces)
        });
    }

    /// What is there; `None`: not all of it can be read.
    pub(super) fn bytes(&mut self, address: u64, length: usize) -> Option<Vec<u8>> {
        let bytes = self.read(address, length);
        self.note(address, length, bytes.is_some());
        bytes
    }

    fn read(&mut self, address: u64, length: usize) -> Option<Vec<u8>> {
        let mut bytes = Vec::with_capacity(length.min(PAGE as usize));
        while bytes.len() < length {
            let from = address.checked_add(bytes.len() as u64)?;
            let at = (from % PAGE) as usize;
            let page = self.page(from - from % PAGE)?.get(at..)?;
            let more = page.len().min(length - bytes.len());
            if more == 0 {
                return None;
            }
            bytes.extend_from_slice(&page[..more]);
        }
        Some(bytes)
    }

    fn array<const N: usize>(&mut self, address: u64) -> Option<[u8; N]> {
        let at = (address % PAGE) as usize;
        let page = self.page(address - address % PAGE);
        let array = page.and_then(|page| page.get(at..)?.first_chunk().copied());
        let array = match array {
            Some(array) => Some(array),
            None => self.read(address, N).and_then(|it| it.try_into().ok()),
        };
        self.note(address, N, array.is_some());
        array
    }

    pub(super) fn word(&mut self, address: u64) -> Option<u64> {
        self.array(address).map(u64::from_ne_bytes)
    }

    pub(super) fn half(&mut self, address: u64) -> Option<u32> {
        self.array(address).map(u32::from_ne_bytes)
    }

    pub(super) fn byte(&mut self, address: u64) -> Option<u8> {
        self.array(address).map(|[byte]| byte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_that_are_fetched_are_those_that_would_have_been_read() {
        let memory = File::open("/proc/self/mem").expect("our memory");
        let words: Vec<u64> = (0..4096).collect();
        let at = words.as_ptr() as u64;
        let own = std::process::id();
        let mut before = Pages::new(&memory, 8);
        assert_eq!(before.word(at + 8 * 1000), Some(1000));
        assert_eq!(before.word(at + 8 * 3000), Some(3000));
        let pages = before.asked_for();
        assert_eq!(pages.len(), 2);
        // Nothing can be read at 0: what comes before it is there.
        let mut after = Pages::new(&memory, 8);
        after.fetch(own, &[pages[0], 0, pages[1]]);
        assert_eq!(after.pages.keys().collect::<Vec<_>>(), [&pages[0]]);
        assert_eq!(after.word(at + 8 * 1000), Some(1000));
        assert_eq!(after.word(at + 8 * 3000), Some(3000));
        assert_eq!(after.asked_for(), pages);
        // No more than may be read, and not of a process that is gone.
        let mut few = Pages::new(&memory, 1);
        few.fetch(own, &pages);
        assert_eq!(few.pages.len(), 1);
        few.fetch(u32::MAX >> 1, &pages[1..]);
        assert_eq!(few.pages.len(), 1);
    }
}
