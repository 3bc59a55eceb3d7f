//! The tasks that sleep, with the registers that their programs went to sleep with.

use std::{mem::offset_of, sync::atomic::Ordering::Acquire};

use forktrace_common::event::{Registers, TaskState};

use super::Tracer;

/// A task in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asleep {
    /// Its place in the task table.
    slot: u32,
    /// Its serial.
    pub serial: u32,
    /// The stretch that the block is of.
    pub seq: u32,
    /// Its tid.
    pub tid: u32,
    /// Its tgid.
    pub tgid: u32,
    /// The registers of its program.
    pub registers: Registers,
}

/// A block: which, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    slot: u32,
    of: u64,
    /// When the task went to sleep, ns.
    pub since_ns: u64,
}

impl Block {
    /// Its task's place in the table.
    pub fn slot(&self) -> usize {
        self.slot as usize
    }

    /// What it is known by, among all blocks of a recording; never 0.
    pub fn key(&self) -> u64 {
        self.of
    }
}

impl Tracer {
    /// The blocks of this moment: what is read of one is of another moment than what is read
    /// of the next. None if no registers are kept.
    pub fn blocks(&self, mut sink: impl FnMut(Block)) {
        if !self.keeps_registers {
            return;
        }
        self.used_slots()
            .filter_map(|slot| self.block(slot))
            .for_each(&mut sink);
    }

    /// Places in the task table so far.
    pub fn slots(&self) -> usize {
        *self.used_slots().end() as usize + 1
    }

    /// The block that the task in this slot is in, if its registers are of that.
    fn block(&self, slot: u32) -> Option<Block> {
        let at = slot as usize;
        let word = |offset| self.tasks.word(at, offset).load(Acquire);
        let of = self.registers.word(at, offset_of!(Registers, of));
        let of = of.load(Acquire);
        if of == 0 {
            return None;
        }
        // The serial, and in the high half the stretch.
        let now = word(offset_of!(TaskState, serial));
        let since_ns = word(offset_of!(TaskState, out_ns));
        let lives = word(offset_of!(TaskState, task)) != 0;
        (of == now && since_ns != 0 && lives).then_some(Block { slot, of, since_ns })
    }

    /// Who is in a block, and with which registers; `None`: it is over.
    pub fn asleep(&self, block: &Block) -> Option<Asleep> {
        let registers = self.registers.load(block.slot());
        let state = self.tasks.load(block.slot());
        let asleep = Asleep {
            slot: block.slot,
            serial: state.serial,
            seq: state.seq,
            tid: state.tid,
            tgid: state.tgid,
            registers,
        };
        self.still_sleeps(&asleep).then_some(asleep)
    }

    /// Is it in that block still? Then it has not run meanwhile, and whatever was read of its
    /// memory that only itself writes was true all the time.
    pub fn still_sleeps(&self, asleep: &Asleep) -> bool {
        let block = self.block(asleep.slot);
        block.is_some_and(|block| block.of == asleep.registers.of)
            && self.registers.load(asleep.slot as usize) == asleep.registers
    }
}

const _: () = assert!(
    offset_of!(TaskState, seq) == offset_of!(TaskState, serial) + 4
        && offset_of!(TaskState, serial).is_multiple_of(8),
    "the two are read as one word, as the kernel programs write them"
);
