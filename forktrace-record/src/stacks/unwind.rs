//! Follows the stacks of programs that sleep by what their files tell of unwinding
//! (`.eh_frame`), and by frame pointers where these tell nothing. In place of an interpreter's
//! own functions there are those that it executes (`python`).
//!
//! All that this takes is the memory of the process: the stack, and the tables, which are
//! mapped with the code. So a program that was deleted, or lies in a container, or in no file at all
//! (`[vdso]`), is like any other. A file is opened only if it has no tables in memory of a function: it can
//! have them in itself (`.debug_frame`). Whether the task
//! slept all the while is for the recorder to say, who sees its switches.

mod again;
mod debug_frame;
mod dynamic;
mod lately;
mod memory;
mod process;
mod python;
mod registers;
mod tables;
mod unindexed;

use std::{collections::HashMap, rc::Rc};

use nix::{
    sys::time::TimeValLike as _,
    time::{ClockId, clock_gettime},
};
use serde::{Deserialize, Serialize};

use self::{process::Process, tables::Files};
use super::code::Whose;

/// A stack is followed no deeper.
const DEEPEST: usize = 512;
/// Stacks that are known again.
pub(crate) const MOST_WALKS: u32 = 1 << 16;
/// Processes of which the memory is held open.
const MOST_PROCESSES: usize = 64;

/// A program that sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sleeper {
    /// Its process, and which of the programs that had this number.
    pub(crate) process: (u32, u32),
    /// Its thread.
    pub(crate) tid: u32,
    /// The instruction, the stack's pointer, the frame pointer and the link register.
    pub(crate) registers: [u64; 4],
}

/// The stack of a program, innermost first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Walk {
    /// Where it is, and where it will come back to.
    pub(crate) addresses: Vec<u64>,
    /// Where each of them is. Can be shorter.
    pub(crate) places: Vec<Place>,
    /// What it ends with.
    pub(crate) end: End,
}

/// A stack in an answer: each is told in full once only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Followed {
    New(u32, Walk),
    Known(u32),
}

/// Where a function of a stack is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Place {
    /// What it is called if it has no name: `[nginx+0x41f3c]`.
    pub(crate) text: String,
    /// Whose code it is.
    pub(super) whose: Whose,
    /// The text is its name, and its address is none: an interpreter executes it.
    pub(crate) is_name: bool,
}

/// What a stack ends with, on the outer side.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum End {
    /// That is for the names to tell.
    #[default]
    Unknown,
    /// The function that the thread began with.
    Start,
    /// Nothing: it could not be followed any more, and why.
    Cut(String),
}

/// Follows stacks.
#[derive(Default)]
pub(crate) struct Unwinder {
    processes: HashMap<u32, Process>,
    files: Files,
    told: HashMap<Rc<Walk>, u32>,
    numbers: u32,
}

/// What following a stack came to.
enum Found {
    Walk(Walk),
    /// The same as the last time, which was told by this number.
    Again(u32),
}

impl Unwinder {
    /// The stack of one that sleeps. One that is known is one of the last [`MOST_WALKS`] that were
    /// new.
    pub(super) fn stack(&mut self, sleeper: &Sleeper) -> Followed {
        let walk = match self.follow(sleeper) {
            Found::Again(number) if self.is_recent(number) => return Followed::Known(number),
            Found::Again(_) => {
                // It was told too long ago.
                self.processes.remove(&sleeper.process.0);
                return self.stack(sleeper);
            }
            Found::Walk(walk) => walk,
        };
        let known = self.told.get(&walk).copied();
        let (number, followed) = match known.filter(|number| self.is_recent(*number)) {
            Some(number) => (number, Followed::Known(number)),
            None => {
                if self.told.len() >= MOST_WALKS as usize {
                    self.told.clear();
                }
                let number = self.numbers;
                self.numbers = self.numbers.wrapping_add(1);
                self.told.insert(Rc::new(walk.clone()), number);
                (number, Followed::New(number, walk))
            }
        };
        if let Some(process) = self.processes.get_mut(&sleeper.process.0) {
            process.number(sleeper, number);
        }
        followed
    }

    fn is_recent(&self, number: u32) -> bool {
        self.numbers.wrapping_sub(number) <= MOST_WALKS
    }

    fn follow(&mut self, sleeper: &Sleeper) -> Found {
        let known = self.processes.get_mut(&sleeper.process.0);
        let known = known.and_then(|process| process.is_fresh(sleeper).then_some(process));
        let walk = known.and_then(|process| process.follow(sleeper, &mut self.files, false));
        walk.or_else(|| self.follow_anew(sleeper))
            .unwrap_or_else(|| {
                Found::Walk(Walk {
                    end: End::Cut("the memory of the process can't be read".to_owned()),
                    ..Walk::default()
                })
            })
    }

    /// The same, after a look at what is mapped.
    fn follow_anew(&mut self, sleeper: &Sleeper) -> Option<Found> {
        let pid = sleeper.process.0;
        self.processes.remove(&pid);
        if self.processes.len() >= MOST_PROCESSES {
            self.processes.clear();
        }
        let mut process = Process::open(sleeper)?;
        let walk = process.follow(sleeper, &mut self.files, true);
        self.processes.insert(pid, process);
        walk
    }
}

/// Where the clock can't be read, the end of time: nothing that was read is believed then.
pub(super) fn monotonic_ns() -> i64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC);
    time.map_or(i64::MAX, |time| time.num_nanoseconds())
}

#[cfg(test)]
#[path = "unwind_tests.rs"]
mod tests;
