//! Threads that sleep where they slept before: a stack that has not changed need not be followed
//! again.

use std::{collections::HashMap, fs::File};

use super::{Sleeper, pages::Pages, tables::read};

/// A larger stack is not kept, bytes.
const LARGEST: u64 = 16 << 10;
/// Stacks that are kept, of one process.
const MOST: usize = 512;

/// The last stacks of a process, by tid. They are good as long as what is mapped stays.
#[derive(Default)]
pub(super) struct Lasts(HashMap<u32, Last>);

struct Last {
    registers: [u64; 4],
    /// What was read of the stack, from there on.
    from: u64,
    bytes: Vec<u8>,
    /// The number that it was told by.
    number: Option<u32>,
}

impl Lasts {
    /// The number of the stack of the last time, if nothing that it was told by has changed.
    pub(super) fn again(&self, memory: &File, sleeper: &Sleeper) -> Option<u32> {
        let last = self.0.get(&sleeper.tid)?;
        let is_same = last.registers == sleeper.registers
            && read(memory, last.from, last.bytes.len() as u64) == last.bytes;
        last.number.filter(|_| is_same)
    }

    /// The last stack of this thread is told by this number.
    pub(super) fn number(&mut self, tid: u32, number: u32) {
        if let Some(last) = self.0.get_mut(&tid) {
            last.number = Some(number);
        }
    }

    /// Keeps a stack that was followed by what is in these pages alone.
    pub(super) fn keep(&mut self, sleeper: &Sleeper, stack: &mut Pages<'_>) {
        let Some((from, to)) = stack.span().filter(|(from, to)| to - from <= LARGEST) else {
            self.0.remove(&sleeper.tid);
            return;
        };
        let Some(bytes) = stack.bytes(from, (to - from) as usize) else {
            self.0.remove(&sleeper.tid);
            return;
        };
        if self.0.len() >= MOST {
            self.0.clear();
        }
        let last = Last {
            registers: sleeper.registers,
            from,
            bytes,
            number: None,
        };
        self.0.insert(sleeper.tid, last);
    }
}
