//! The memory of a process, read once: in one call what will be wanted, page by page what else is.

use std::{collections::HashMap, fs::File, io::IoSliceMut, ops::Range};

use nix::{
    sys::uio::{RemoteIoVec, process_vm_readv},
    unistd::Pid,
};

use super::tables::read;

/// What is fetched at once, bytes: what is wanted of a page is mostly less, and the rest takes time to copy.
pub(super) const UNIT: u64 = 1024;
/// What is read at once if it was not fetched.
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

/// The memory that was read.
pub(super) struct Memory<'a> {
    file: &'a File,
    /// All that was read, one unit after the other.
    bytes: Vec<u8>,
    /// Where in it each unit is, as far as it is there.
    units: HashMap<u64, Range<usize>>,
    most: usize,
    /// What was asked for; `None`: too much, or not all of it is there.
    pieces: Option<Vec<Piece>>,
}

impl<'a> Memory<'a> {
    /// No more units than so are read.
    pub(super) fn new(file: &'a File, most: usize) -> Self {
        Self {
            file,
            bytes: Vec::new(),
            units: HashMap::new(),
            most,
            pieces: Some(Vec::new()),
        }
    }

    /// Reads units that will be wanted, in order, of the process of this thread, in one call, before anything
    /// else is read. Where that can't be, its page is read when it is asked for.
    pub(super) fn fetch(&mut self, tid: u32, wanted: &[u64]) {
        let wanted = &wanted[..wanted.len().min(self.most)];
        if wanted.is_empty() || !self.bytes.is_empty() {
            return;
        }
        let together = wanted.chunk_by(|one, next| one.checked_add(UNIT) == Some(*next));
        let parts = together.take(MOST_FETCHED).map(|units| RemoteIoVec {
            base: units[0] as usize,
            len: units.len() * UNIT as usize,
        });
        let parts: Vec<_> = parts.collect();
        self.bytes
            .resize(parts.iter().map(|part| part.len).sum(), 0);
        let local = &mut [IoSliceMut::new(&mut self.bytes)];
        let there = process_vm_readv(Pid::from_raw(tid as i32), local, &parts);
        let whole = there.unwrap_or(0) / UNIT as usize;
        self.bytes.truncate(whole * UNIT as usize);
        let begins = (0..).step_by(UNIT as usize);
        let units = wanted[..whole].iter().zip(begins);
        self.units
            .extend(units.map(|(unit, begin)| (*unit, begin..begin + UNIT as usize)));
    }

    /// Those that were asked for.
    pub(super) fn asked_for(&self) -> Vec<u64> {
        let pieces = self.pieces.iter().flatten();
        let units = pieces.flat_map(|piece| {
            let last = piece.at.saturating_add(u64::from(piece.length).max(1) - 1);
            (unit_of(piece.at)..=last).step_by(UNIT as usize)
        });
        let mut units: Vec<u64> = units.collect();
        units.sort_unstable();
        units.dedup();
        units
    }

    /// What was asked for; `None`: too much, or not all of it is there. What is asked for from
    /// here on is not noted.
    pub(super) fn take_pieces(&mut self) -> Option<Vec<Piece>> {
        self.pieces.take()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.units.is_empty()
    }

    /// There is as much as may be.
    pub(super) fn is_full(&self) -> bool {
        self.units.len() >= self.most
    }

    /// Those that were read, in order.
    #[cfg(test)]
    pub(super) fn units(&self) -> Vec<u64> {
        let mut units: Vec<u64> = self.units.keys().copied().collect();
        units.sort_unstable();
        units
    }

    fn unit(&mut self, unit: u64) -> Option<&[u8]> {
        if !self.units.contains_key(&unit) {
            self.read_page(unit - unit % PAGE);
        }
        self.bytes.get(self.units.get(&unit)?.clone())
    }

    /// Reads all of a page: what is of a thread alone lies together, and was not fetched.
    fn read_page(&mut self, page: u64) {
        if self.is_full() {
            return;
        }
        let bytes = read(self.file, page, PAGE);
        for (unit, bytes) in (page..)
            .step_by(UNIT as usize)
            .zip(bytes.chunks(UNIT as usize))
        {
            let begin = self.bytes.len();
            self.units.entry(unit).or_insert_with(|| {
                self.bytes.extend_from_slice(bytes);
                begin..self.bytes.len()
            });
        }
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
        let mut bytes = Vec::with_capacity(length.min(UNIT as usize));
        while bytes.len() < length {
            let from = address.checked_add(bytes.len() as u64)?;
            let at = (from % UNIT) as usize;
            let unit = self.unit(unit_of(from))?.get(at..)?;
            let more = unit.len().min(length - bytes.len());
            if more == 0 {
                return None;
            }
            bytes.extend_from_slice(&unit[..more]);
        }
        Some(bytes)
    }

    fn array<const N: usize>(&mut self, address: u64) -> Option<[u8; N]> {
        let at = (address % UNIT) as usize;
        let unit = self.unit(unit_of(address));
        let array = unit.and_then(|unit| unit.get(at..)?.first_chunk().copied());
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

/// The unit that an address is in.
pub(super) fn unit_of(address: u64) -> u64 {
    address - address % UNIT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_fetched_is_what_would_have_been_read() {
        let memory = File::open("/proc/self/mem").expect("our memory");
        let words: Vec<u64> = (0..4096).collect();
        let at = words.as_ptr() as u64;
        let own = std::process::id();
        let mut before = Memory::new(&memory, 8);
        assert_eq!(before.word(at + 8 * 1000), Some(1000));
        assert_eq!(before.word(at + 8 * 3000), Some(3000));
        // What lies between two units of which the first one ends in what was asked for.
        let end = unit_of(at + 8 * 3000) + UNIT;
        assert_eq!(before.word(end - 4).map(|_| ()), Some(()));
        let units = before.asked_for();
        assert_eq!(units[1..], [end - UNIT, end]);
        // Nothing can be read at 0: what comes before it is there.
        let mut after = Memory::new(&memory, 8);
        after.fetch(own, &[units[0], 0, units[1], units[2]]);
        assert_eq!(after.units(), [units[0]]);
        assert_eq!(after.word(at + 8 * 1000), Some(1000));
        assert_eq!(after.word(at + 8 * 3000), Some(3000));
        assert_eq!(after.word(end - 4), before.word(end - 4));
        assert_eq!(after.asked_for(), units);
        // No more than may be read, and not of a process that is gone.
        let mut few = Memory::new(&memory, 1);
        few.fetch(own, &units);
        assert_eq!(few.units.len(), 1);
        let mut gone = Memory::new(&memory, 8);
        gone.fetch(u32::MAX >> 1, &units);
        assert!(gone.is_empty());
        // Units that follow each other are one part.
        let mut together = Memory::new(&memory, 8);
        together.fetch(own, &units[1..]);
        assert_eq!(together.units.len(), 2);
        assert_eq!(together.word(end - 4), before.word(end - 4));
    }
}
