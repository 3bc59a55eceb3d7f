//! Threads that sleep where they slept before: a stack of which nothing has changed that it was
//! told by need not be followed again.
//!
//! What a stack was told by is the registers and the pieces of memory that were read on the way:
//! return addresses, saved frame pointers, what an interpreter has of the functions that it executes. If all
//! of that is as it was, following it would come to the same. It takes one call of the
//! kernel to see, however many pieces there are.

use std::{collections::HashMap, fs::File, io::IoSliceMut};

use nix::{
    sys::uio::{RemoteIoVec, process_vm_readv},
    unistd::Pid,
};

use super::{
    Sleeper,
    memory::{Memory, Piece},
    tables::read,
};

/// Of a stack that takes more, nothing is kept: bytes, and parts of the memory (the kernel takes
/// no more at a time, `UIO_MAXIOV`).
const LARGEST: usize = 32 << 10;
const MOST_PARTS: usize = 1024;
/// What lies between two pieces is read with them, if it is no longer, bytes.
const GAP: u64 = 512;
/// All that is kept of a process, bytes.
const MOST: usize = 2 << 20;

/// A thread, and where it sleeps.
type Key = (u32, [u64; 4]);

/// The last stacks of a process. They are good as long as what is mapped stays.
#[derive(Default)]
pub(super) struct Lasts {
    lasts: HashMap<Key, Last>,
    /// What they take, bytes.
    size: usize,
    /// Whatever is read.
    scratch: Vec<u8>,
}

struct Last {
    /// Where to read.
    parts: Vec<RemoteIoVec>,
    /// What was there.
    bytes: Vec<u8>,
    /// Which of it counts: from where to where in these bytes.
    counts: Vec<(u32, u32)>,
    /// The number that it was told by.
    number: Option<u32>,
}

impl Last {
    fn size(&self) -> usize {
        size_of_val(&*self.parts) + size_of_val(&*self.counts) + self.bytes.len()
    }

    /// Is all that counts as it was?
    fn is_same(&self, now: &[u8]) -> bool {
        self.counts.iter().all(|(from, to)| {
            let all = *from as usize..*to as usize;
            now.get(all.clone())
                .is_some_and(|now| self.bytes.get(all) == Some(now))
        })
    }
}

impl Lasts {
    /// The number of the stack of the last time, if nothing that it was told by has changed.
    pub(super) fn again(&mut self, memory: &File, sleeper: &Sleeper) -> Option<u32> {
        let last = self.lasts.get(&key(sleeper))?;
        let number = last.number?;
        self.scratch.resize(last.bytes.len(), 0);
        let is_same = read_all(memory, sleeper.tid, &last.parts, &mut self.scratch)
            && last.is_same(&self.scratch);
        is_same.then_some(number)
    }

    /// The last stack of this thread is told by this number.
    pub(super) fn number(&mut self, sleeper: &Sleeper, number: u32) {
        if let Some(last) = self.lasts.get_mut(&key(sleeper)) {
            last.number = Some(number);
        }
    }

    /// Keeps a stack that was told by what was read in these alone.
    pub(super) fn keep(&mut self, sleeper: &Sleeper, read: [&mut Memory<'_>; 2]) {
        let key = key(sleeper);
        if let Some(before) = self.lasts.remove(&key) {
            self.size -= before.size();
        }
        let Some(last) = last(read) else {
            return;
        };
        if self.size + last.size() > MOST {
            self.lasts.clear();
            self.size = 0;
        }
        self.size += last.size();
        self.lasts.insert(key, last);
    }
}

fn key(sleeper: &Sleeper) -> Key {
    (sleeper.tid, sleeper.registers)
}

/// `None`: too much was read, or something can't be any more.
fn last(read: [&mut Memory<'_>; 2]) -> Option<Last> {
    let mut last = Last {
        parts: Vec::new(),
        bytes: Vec::new(),
        counts: Vec::new(),
        number: None,
    };
    for memory in read {
        let mut pieces = memory.take_pieces()?;
        pieces.sort_unstable();
        let mut rest = &*pieces;
        while let [first, ..] = rest {
            let (together, length) = part(rest);
            let at = u32::try_from(last.bytes.len()).ok()?;
            for piece in &rest[..together] {
                let from = at + u32::try_from(piece.at - first.at).ok()?;
                last.counts.push((from, from + piece.length));
            }
            last.parts.push(RemoteIoVec {
                base: usize::try_from(first.at).ok()?,
                len: length,
            });
            last.bytes.extend(memory.bytes(first.at, length)?);
            rest = &rest[together..];
        }
    }
    let fits = last.bytes.len() <= LARGEST && last.parts.len() <= MOST_PARTS;
    (fits && !last.parts.is_empty()).then_some(last)
}

/// How many of these pieces, in order, are read together with the first one, and how long that is.
fn part(pieces: &[Piece]) -> (usize, usize) {
    let begin = pieces[0].at;
    let mut end = begin;
    let mut together = 0;
    for piece in pieces {
        if together > 0 && piece.at > end.saturating_add(GAP) {
            break;
        }
        end = end.max(piece.at.saturating_add(piece.length.into()));
        together += 1;
    }
    (together, (end - begin) as usize)
}

/// Reads all parts into the bytes; false: not all of them are there.
fn read_all(memory: &File, tid: u32, parts: &[RemoteIoVec], into: &mut [u8]) -> bool {
    let wanted = into.len();
    let local = &mut [IoSliceMut::new(into)];
    match process_vm_readv(Pid::from_raw(tid as i32), local, parts) {
        Ok(there) => there == wanted,
        // A kernel without this call.
        Err(_) => {
            let mut rest = into;
            parts.iter().all(|part| {
                let bytes = read(memory, part.base as u64, part.len as u64);
                let is_there = bytes.len() == part.len && part.len <= rest.len();
                if is_there {
                    let (head, tail) = std::mem::take(&mut rest).split_at_mut(part.len);
                    head.copy_from_slice(&bytes);
                    rest = tail;
                }
                is_there
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_that_are_near_are_read_together() {
        let piece = |at, length| Piece { at, length };
        let pieces = [
            piece(100, 8),
            piece(100, 16),
            piece(116 + GAP, 8),
            piece(125 + 2 * GAP, 8),
        ];
        assert_eq!(part(&pieces), (3, 24 + GAP as usize));
        assert_eq!(part(&pieces[3..]), (1, 8));
    }

    #[test]
    fn a_stack_is_the_same_as_long_as_all_is_that_it_was_told_by() {
        let memory = File::open("/proc/self/mem").expect("our memory");
        let tid = std::process::id();
        let mut words = vec![0u64; 200];
        let sleeper = |pc| Sleeper {
            process: (tid, 1),
            tid,
            registers: [pc, 0, 0, 0],
        };
        let at = words.as_ptr() as u64;
        let mut lasts = Lasts::default();
        let keep = |lasts: &mut Lasts, numbers: &[u64]| {
            let [mut stack, mut others] = [Memory::new(&memory, 64), Memory::new(&memory, 64)];
            stack.word(at);
            for number in numbers {
                others.word(at + 8 * number);
            }
            lasts.keep(&sleeper(1), [&mut stack, &mut others]);
            lasts.number(&sleeper(1), 7);
        };
        keep(&mut lasts, &[3, 150]);
        assert_eq!(lasts.again(&memory, &sleeper(1)), Some(7));
        // It sleeps elsewhere.
        assert_eq!(lasts.again(&memory, &sleeper(2)), None);
        // What lies between is not what it was told by.
        words[1] = 1;
        words[4] = 1;
        assert_eq!(lasts.again(&memory, &sleeper(1)), Some(7));
        for changed in [0, 3, 150] {
            words[changed] += 1;
            assert_eq!(lasts.again(&memory, &sleeper(1)), None, "{changed}");
            words[changed] -= 1;
            assert_eq!(lasts.again(&memory, &sleeper(1)), Some(7), "{changed}");
        }
        // What can't be read may be there the next time.
        let [mut stack, mut others] = [Memory::new(&memory, 64), Memory::new(&memory, 64)];
        stack.word(at);
        assert_eq!(others.word(8), None);
        lasts.keep(&sleeper(1), [&mut stack, &mut others]);
        assert_eq!(lasts.again(&memory, &sleeper(1)), None);
        assert_eq!(lasts.size, 0);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let memory = File::open("/proc/self/mem").expect("our memory");
        let words = vec![0u64; 4096];
        let at = words.as_ptr() as u64;
        let mut lasts = Lasts::default();
        for tid in 0..200 {
            let [mut stack, mut others] = [Memory::new(&memory, 64), Memory::new(&memory, 64)];
            for n in (0..3000).step_by(32) {
                stack.word(at + 8 * n);
            }
            let sleeper = Sleeper {
                process: (1, 1),
                tid,
                registers: [0; 4],
            };
            lasts.keep(&sleeper, [&mut stack, &mut others]);
            assert!(lasts.size <= MOST);
        }
        assert!(lasts.lasts.len() < 200);
        let sum: usize = lasts.lasts.values().map(Last::size).sum();
        assert_eq!(lasts.size, sum);
        let mut stack = Memory::new(&memory, 64);
        for n in (0..4090).step_by(32) {
            stack.word(at + 8 * n);
        }
        let mut others = Memory::new(&memory, 64);
        others.bytes(at, LARGEST - 8);
        assert!(last([&mut stack, &mut others]).is_none(), "too large");
    }
}
