//! Follows the stacks of tasks while they sleep: what is done in the helper.
//!
//! A task that sleeps holds still. So nothing is done when it goes to sleep, but that its
//! registers are kept in a table, beside that of the tasks; and only if it sleeps for long enough, its stack
//! is followed from these. What was read was true if the task is in the same block when all has
//! been read.
//!
//! The helper sees the tables itself, and says from time to time what it has found: so a block costs
//! nobody else anything. It looks when the next block of those that are known will have lasted
//! long enough, and once in the time that a new one takes for that; less often when there were
//! none lately; and never for more than a part of the time that goes by (`allowance`). Whoever
//! has slept longest comes first.

use std::{
    collections::HashMap,
    os::fd::OwnedFd,
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::{
    allowance::Allowance,
    unwind::{Followed, Sleeper, Unwinder, monotonic_ns},
};
use crate::{
    capture::{Asleep, Block, Sleepers},
    clock::{of_records_ns, own_cpu},
};

/// The table of tasks is gone through no more often.
const SHORTEST: Duration = Duration::from_micros(250);
/// And no less often.
const LONGEST: Duration = Duration::from_millis(10);
/// It is gone through often for so long after a block was found: others will come.
const LATELY: Duration = Duration::from_millis(30);
/// So many are looked at together.
const MOST_AT_ONCE: usize = 64;
/// What is found is told after so long; if it has yet to get its names, after so long; and that
/// there was nothing, after so long.
const TOLD_AFTER: Duration = Duration::from_millis(10);
const NEW_AFTER: Duration = Duration::from_micros(2500);
const NOTHING_AFTER: Duration = Duration::from_millis(20);

/// What the recorder wants to know.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Ask {
    /// Blocks that last for so long are looked at, ns.
    pub(super) over_ns: u64,
    /// So long they may last until they are, ns: not less than that.
    pub(super) until_ns: u64,
    /// Processes in which another program has begun.
    pub(super) began: Vec<u32>,
    /// Nothing is looked at: the helper says that it has begun.
    pub(super) only_begin: bool,
}

/// The stack of a block, as it was while it lasted.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Found {
    pub(super) serial: u32,
    pub(super) seq: u32,
    pub(super) pid: u32,
    /// When the block began, ns.
    pub(super) since_ns: u64,
    pub(super) stack: Followed,
    /// The task slept on until it had been read; otherwise it is told only since later
    /// ones can be the same.
    pub(super) is_true: bool,
}

pub(crate) struct Lookout {
    sleepers: Sleepers,
    unwinder: Unwinder,
    /// Which program each process is in, of those that were told to have begun.
    programs: HashMap<u32, u32>,
    /// The block of each slot that was looked at.
    seen: Vec<u64>,
    allowance: Allowance,
    /// CPU time that was used so far.
    used: Duration,
    /// When the next look is due.
    due: Instant,
    /// When a block was found last.
    found_at: Instant,
}

impl Lookout {
    /// With the tables of the tasks.
    ///
    /// # Errors
    /// When they can't be mapped.
    pub(crate) fn new(tables: Vec<OwnedFd>) -> Result<Self> {
        Sleepers::map(tables).map(Self::of)
    }

    fn of(sleepers: Sleepers) -> Self {
        let now = Instant::now();
        Self {
            sleepers,
            unwinder: Unwinder::default(),
            programs: HashMap::new(),
            seen: Vec::new(),
            allowance: Allowance::new(now),
            used: own_cpu(),
            due: now,
            found_at: now,
        }
    }

    /// Looks until there is something to tell, or for a while.
    pub(crate) fn answer(&mut self, ask: &Ask) -> Vec<Found> {
        for pid in &ask.began {
            *self.programs.entry(*pid).or_default() += 1;
        }
        let mut found: Vec<Found> = Vec::new();
        if ask.only_begin {
            return found;
        }
        let begun = Instant::now();
        loop {
            let due = self.due.max(self.allowance.ready_at());
            let is_new = |it: &Found| matches!(it.stack, Followed::New(..));
            let until = begun
                + match &*found {
                    [] => NOTHING_AFTER,
                    some if some.iter().any(is_new) => NEW_AFTER,
                    _ => TOLD_AFTER,
                };
            let now = Instant::now();
            // Nobody sleeps only to tell what can be told now.
            if now >= until || (due >= until && !found.is_empty()) {
                break;
            }
            if due > now {
                thread::sleep(due.min(until) - now);
                continue;
            }
            self.look(ask, &mut found);
            let used = own_cpu();
            let more = used.saturating_sub(self.used);
            self.allowance.spend(more, Instant::now());
            self.used = used;
        }
        found
    }

    fn look(&mut self, ask: &Ask, found: &mut Vec<Found>) {
        for asleep in self.who_sleeps(ask) {
            let registers = &asleep.registers;
            let program = self.programs.get(&asleep.tgid);
            let sleeper = Sleeper {
                process: (asleep.tgid, program.copied().unwrap_or(0)),
                tid: asleep.tid,
                registers: [registers.pc, registers.sp, registers.fp, registers.lr],
            };
            let stack = self.unwinder.stack(&sleeper);
            let is_true = self.sleepers.still_sleeps(&asleep);
            if is_true || matches!(stack, Followed::New(..)) {
                found.push(Found {
                    serial: asleep.serial,
                    seq: asleep.seq,
                    pid: asleep.tgid,
                    since_ns: asleep.since_ns,
                    stack,
                    is_true,
                });
            }
        }
    }

    /// Those who have slept for long enough and were not looked at, the longest first. Sets when
    /// to look again.
    fn who_sleeps(&mut self, ask: &Ask) -> Vec<Asleep> {
        let now_ns = of_records_ns(monotonic_ns());
        self.seen
            .resize(self.sleepers.slots().max(self.seen.len()), 0);
        let mut old: Vec<Block> = Vec::new();
        let mut soon_ns = u64::MAX;
        self.sleepers.blocks(|block| {
            if self.seen.get(block.slot()) != Some(&block.key()) {
                let lasted_ns = now_ns.saturating_sub(block.since_ns);
                if lasted_ns >= ask.over_ns {
                    old.push(block);
                } else {
                    soon_ns = soon_ns.min(ask.until_ns.saturating_sub(lasted_ns));
                }
            }
        });
        old.sort_unstable_by_key(|block| block.since_ns);
        if old.len() > MOST_AT_ONCE {
            old.truncate(MOST_AT_ONCE);
            soon_ns = 0;
        }
        for block in &old {
            if let Some(seen) = self.seen.get_mut(block.slot()) {
                *seen = block.key();
            }
        }
        let now = Instant::now();
        if !old.is_empty() {
            self.found_at = now;
        }
        // One that begins from now on needs so long as well.
        if now.duration_since(self.found_at) < LATELY {
            soon_ns = soon_ns.min(ask.until_ns);
        }
        self.due = now + Duration::from_nanos(soon_ns).clamp(SHORTEST, LONGEST);
        let asleep = old.iter().filter_map(|block| self.sleepers.asleep(block));
        asleep.collect()
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::unix::fs::FileExt as _};

    use forktrace_common::event::{Control, Registers, TaskState};
    use nix::sys::memfd::{MFdFlags, memfd_create};

    use super::*;

    const SLOTS: u32 = 4;
    const MS: u64 = 1_000_000;

    /// The tables, as the kernel programs would write them.
    struct Tables {
        control: File,
        tasks: File,
        registers: File,
    }

    impl Tables {
        fn new() -> Self {
            let table = |size: usize| {
                let file =
                    File::from(memfd_create("table", MFdFlags::MFD_CLOEXEC).expect("a file"));
                file.set_len(size as u64).expect("room");
                file
            };
            let tables = Self {
                control: table(size_of::<Control>()),
                tasks: table(SLOTS as usize * size_of::<TaskState>()),
                registers: table(SLOTS as usize * size_of::<Registers>()),
            };
            let control = Control {
                slots: u64::from(SLOTS) - 1,
                ..Control::default()
            };
            write(&tables.control, 0, bytemuck::bytes_of(&control));
            tables
        }

        fn lookout(&self) -> Lookout {
            let files = [&self.control, &self.tasks, &self.registers];
            let files = files.map(|file| OwnedFd::from(file.try_clone().expect("a file")));
            Lookout::of(Sleepers::of(files.each_ref(), SLOTS).expect("they can be mapped"))
        }

        /// A thread of ours sleeps in this slot, for so long.
        fn sleeps(&self, slot: u32, seq: u32, for_ns: u64) {
            let serial = slot;
            let task = TaskState {
                task: 1,
                serial,
                seq,
                out_ns: of_records_ns(monotonic_ns()) - for_ns,
                tid: std::process::id(),
                tgid: std::process::id(),
                ..TaskState::default()
            };
            let registers = Registers {
                of: u64::from(serial) | u64::from(seq) << 32,
                pc: nix::libc::getpid as *const () as u64,
                ..Registers::default()
            };
            write(&self.tasks, slot, bytemuck::bytes_of(&task));
            write(&self.registers, slot, bytemuck::bytes_of(&registers));
        }

        fn runs(&self, slot: u32) {
            write(&self.tasks, slot, bytemuck::bytes_of(&TaskState::default()));
        }
    }

    fn write(file: &File, slot: u32, bytes: &[u8]) {
        let at = u64::from(slot) * bytes.len() as u64;
        file.write_all_at(bytes, at).expect("a table");
    }

    /// Those that are told of, and whether it is true.
    fn told(lookout: &mut Lookout, ask: &Ask) -> Vec<(u32, u32, bool)> {
        let found = lookout.answer(ask).into_iter();
        found.map(|it| (it.serial, it.seq, it.is_true)).collect()
    }

    #[test]
    fn who_has_slept_long_enough_is_looked_at_once_in_each_block_the_longest_first() {
        let tables = Tables::new();
        let mut lookout = tables.lookout();
        let ask = Ask {
            over_ns: 50_000 * MS,
            until_ns: 50_000 * MS,
            ..Ask::default()
        };
        tables.sleeps(1, 7, 60_000 * MS);
        tables.sleeps(2, 8, 70_000 * MS);
        tables.sleeps(3, 9, 10_000 * MS);
        let only_begin = Ask {
            only_begin: true,
            ..Ask::default()
        };
        assert_eq!(told(&mut lookout, &only_begin), []);
        assert_eq!(told(&mut lookout, &ask), [(2, 8, true), (1, 7, true)]);
        assert_eq!(told(&mut lookout, &ask), []);
        // Another block of one, and one that is over.
        tables.sleeps(1, 8, 60_000 * MS);
        tables.runs(2);
        assert_eq!(told(&mut lookout, &ask), [(1, 8, true)]);
        tables.sleeps(3, 9, 60_000 * MS);
        assert_eq!(told(&mut lookout, &ask), [(3, 9, true)]);
    }

    #[test]
    fn registers_of_another_block_are_none_of_this_one() {
        let tables = Tables::new();
        let mut lookout = tables.lookout();
        let ask = Ask::default();
        tables.sleeps(1, 7, 60_000 * MS);
        let registers = Registers {
            of: 1 | 6 << 32,
            ..Registers::default()
        };
        write(&tables.registers, 1, bytemuck::bytes_of(&registers));
        assert_eq!(told(&mut lookout, &ask), []);
    }

    #[test]
    fn a_task_that_wakes_while_it_is_read_is_not_believed() {
        let tables = Tables::new();
        let lookout = tables.lookout();
        tables.sleeps(1, 7, 60_000 * MS);
        let mut asleep = Vec::new();
        lookout
            .sleepers
            .blocks(|block| asleep.extend(lookout.sleepers.asleep(&block)));
        let [asleep] = *asleep else {
            panic!("{asleep:?}");
        };
        assert!(lookout.sleepers.still_sleeps(&asleep));
        tables.runs(1);
        assert!(!lookout.sleepers.still_sleeps(&asleep));
        // It sleeps again: the same place, and another block.
        tables.sleeps(1, 8, MS);
        assert!(!lookout.sleepers.still_sleeps(&asleep));
    }
}
