//! The tasks that sleep, with the registers that their programs went to sleep with: for a helper, which
//! has nothing of the tracer but the tables.

use std::{
    fs,
    mem::offset_of,
    os::fd::{AsRawFd as _, OwnedFd},
    sync::atomic::Ordering::Acquire,
};

use anyhow::{Context as _, Result, bail};
use forktrace_common::event::{Control, Registers, TaskState};

use super::mapped::Mapped;

/// A task in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asleep {
    /// Its place in the task table.
    slot: u32,
    /// Its serial.
    pub(crate) serial: u32,
    /// The stretch that the block is of.
    pub(crate) seq: u32,
    /// When it went to sleep, ns.
    pub(crate) since_ns: u64,
    /// Its tid.
    pub(crate) tid: u32,
    /// Its tgid.
    pub(crate) tgid: u32,
    /// The registers of its program.
    pub(crate) registers: Registers,
}

/// A block: which, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    slot: u32,
    of: u64,
    /// When the task went to sleep, ns.
    pub(crate) since_ns: u64,
}

impl Block {
    /// Its task's place in the table.
    pub(crate) fn slot(&self) -> usize {
        self.slot as usize
    }

    /// What it is known by, among all blocks of a recording; never 0.
    pub(crate) fn key(&self) -> u64 {
        self.of
    }
}

/// The tables, to be read only.
pub(crate) struct Sleepers {
    control: Mapped<Control>,
    tasks: Mapped<TaskState>,
    registers: Mapped<Registers>,
}

impl Sleepers {
    /// By what [`super::Tracer::sleepers`] gives.
    ///
    /// # Errors
    /// When these are no such tables, or can't be mapped.
    pub(crate) fn map(files: Vec<OwnedFd>) -> Result<Self> {
        let Ok([control, tasks, registers]) = <[OwnedFd; 3]>::try_from(files) else {
            bail!("the tables of tasks are missing");
        };
        let slots = entries(&tasks)?.min(entries(&registers)?);
        Self::of([&control, &tasks, &registers], slots)
    }

    /// Of tables with so many slots.
    pub(crate) fn of([control, tasks, registers]: [&OwnedFd; 3], slots: u32) -> Result<Self> {
        Ok(Self {
            control: Mapped::read_only(control, 1)?,
            tasks: Mapped::read_only(tasks, slots)?,
            registers: Mapped::read_only(registers, slots)?,
        })
    }

    /// The blocks of this moment: what is read of one is of another moment than what is read
    /// of the next.
    pub(crate) fn blocks(&self, sink: impl FnMut(Block)) {
        (1..self.slots() as u32)
            .filter_map(|slot| self.block(slot))
            .for_each(sink);
    }

    /// Places in the task table so far, of which the first is nobody's.
    pub(crate) fn slots(&self) -> usize {
        let used = self.control.word(0, offset_of!(Control, slots));
        let used = usize::try_from(used.load(Acquire)).unwrap_or(usize::MAX);
        used.saturating_add(1).min(self.tasks.entries().end)
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
    pub(crate) fn asleep(&self, block: &Block) -> Option<Asleep> {
        let registers = self.registers.load(block.slot());
        let state = self.tasks.load(block.slot());
        let asleep = Asleep {
            slot: block.slot,
            serial: state.serial,
            seq: state.seq,
            since_ns: state.out_ns,
            tid: state.tid,
            tgid: state.tgid,
            registers,
        };
        self.still_sleeps(&asleep).then_some(asleep)
    }

    /// Is it in that block still? Then it has not run meanwhile, and whatever was read of its
    /// memory that only itself writes was true all the time.
    pub(crate) fn still_sleeps(&self, asleep: &Asleep) -> bool {
        let block = self.block(asleep.slot);
        block.is_some_and(|block| block.of == asleep.registers.of)
            && self.registers.load(asleep.slot as usize) == asleep.registers
    }
}

/// How many a table of the kernel programs has.
fn entries(table: &OwnedFd) -> Result<u32> {
    let path = format!("/proc/self/fdinfo/{}", table.as_raw_fd());
    let text = fs::read_to_string(&path).context(path)?;
    let mut lines = text.lines();
    let found = lines.find_map(|line| line.strip_prefix("max_entries:")?.trim().parse().ok());
    found.context("the size of a table is not told")
}

const _: () = assert!(
    offset_of!(TaskState, seq) == offset_of!(TaskState, serial) + 4
        && offset_of!(TaskState, serial).is_multiple_of(8),
    "the two are read as one word, as the kernel programs write them"
);
