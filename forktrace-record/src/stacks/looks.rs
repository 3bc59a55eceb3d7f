//! When the stacks of tasks that sleep are followed.
//!
//! A task that sleeps holds still. So nothing is done when it goes to sleep, but that its
//! registers are kept; and only if it sleeps for long enough, a helper follows its stack
//! from these. What it read was true if the task is still in the same block afterwards, for then
//! it has not run in between. Otherwise that is forgotten.
//!
//! The table of tasks is gone through once a millisecond as long as blocks were found lately that
//! had lasted long enough, or will soon have; less often when there were none; and never for more
//! than a part of the time that goes by: who looks long rests long.

use std::{
    collections::HashMap,
    rc::Rc,
    time::{Duration, Instant},
};

use super::unwind::{Followed, MOST_WALKS, Sleeper, Walk};
use crate::{
    capture::{Asleep, Block, Tracer},
    helper::{Channel, Kind, Nursery, Troubles},
};

/// The table of tasks is gone through no more often. Timers of the event loop end with whole
/// milliseconds, so this is once in one.
const SHORTEST: Duration = Duration::from_micros(500);
/// And no less often.
const LONGEST: Duration = Duration::from_millis(10);
/// It is gone through often for so long after a block was found: others will come.
const LATELY: Duration = Duration::from_millis(30);
/// After a look it rests for so many times what that took.
const REST: u32 = 15;
/// So many are looked at together.
const MOST_AT_ONCE: usize = 256;
/// A helper that does not answer for so long is abandoned: memory that can't be read hangs it.
const PATIENCE: Duration = Duration::from_secs(5);
/// And so many more are tried.
const REPLACED: u64 = 8;

/// The stack of a block, as it was while it lasted.
pub(super) struct Looked {
    pub(super) serial: u32,
    pub(super) seq: u32,
    pub(super) pid: u32,
    /// The number of the stack, of its own kind.
    pub(super) number: u64,
    pub(super) walk: Rc<Walk>,
}

pub(super) struct Looks {
    helper: Channel<Vec<Asleep>, Vec<Followed>>,
    /// What the helper has told, by its numbers.
    walks: HashMap<u32, Rc<Walk>>,
    /// Helpers that were lost: each one begins with numbers of its own.
    lost: u32,
    over: Duration,
    /// The block of each slot that was looked at.
    seen: Vec<u64>,
    /// When the next look is due.
    due: Instant,
    /// When a block was found last.
    found_at: Instant,
    /// Where in the table the next one begins.
    from: usize,
    found: Vec<Looked>,
}

impl Looks {
    /// Looks at blocks that last for so long.
    pub(super) fn new(nursery: &Rc<Nursery>, over: Duration) -> Self {
        Self {
            helper: Channel::new(nursery.clone(), Kind::Stacks, PATIENCE, REPLACED),
            walks: HashMap::new(),
            lost: 0,
            over,
            seen: Vec::new(),
            due: Instant::now(),
            found_at: Instant::now(),
            from: 0,
            found: Vec::new(),
        }
    }

    pub(super) fn helper_cpu_ns(&self) -> u64 {
        self.helper.cpu_ns()
    }

    pub(super) fn troubles(&self) -> Troubles {
        self.helper.troubles()
    }

    /// Until the next look. An answer comes by itself.
    pub(super) fn time_left(&self) -> Duration {
        if self.helper.waiting() > 0 || !self.helper.is_open() {
            return LONGEST;
        }
        self.due.saturating_duration_since(Instant::now())
    }

    /// What was found since this was last called.
    pub(super) fn take(&mut self) -> Vec<Looked> {
        std::mem::take(&mut self.found)
    }

    /// Takes answers, and asks for more. `program` tells which of the programs that had its
    /// number a process is.
    pub(super) fn turn(&mut self, tracer: &Tracer, now_ns: u64, program: impl Fn(u32) -> u32) {
        let begun = Instant::now();
        let mut cost = Duration::ZERO;
        let received = self.helper.receive();
        for (asked, walks, cpu_ns) in received.answers {
            cost += Duration::from_nanos(cpu_ns);
            for (asleep, followed) in asked.into_iter().zip(walks) {
                let Some((number, walk)) = self.walk(followed) else {
                    continue;
                };
                if tracer.still_sleeps(&asleep) {
                    self.found.push(Looked {
                        serial: asleep.serial,
                        seq: asleep.seq,
                        pid: asleep.tgid,
                        number,
                        walk,
                    });
                }
            }
        }
        if received.anew {
            self.walks.clear();
            self.lost += 1;
            self.helper.go_on::<Vec<Sleeper>>([]);
        }
        if self.helper.is_open() && self.helper.waiting() == 0 && begun >= self.due {
            let asleep = self.who_sleeps(tracer, now_ns);
            self.ask(asleep, program);
        }
        cost += begun.elapsed();
        self.due = self.due.max(begun + REST * cost);
    }

    /// A stack that the helper tells of, now or before.
    fn walk(&mut self, followed: Followed) -> Option<(u64, Rc<Walk>)> {
        let (number, walk) = match followed {
            Followed::Known(number) => (number, self.walks.get(&number)?.clone()),
            Followed::New(number, walk) => {
                // It tells no older ones again.
                if self.walks.len() >= 2 * MOST_WALKS as usize {
                    let is_recent = |it: &u32| number.wrapping_sub(*it) <= MOST_WALKS;
                    self.walks.retain(|it, _| is_recent(it));
                }
                let walk = Rc::new(walk);
                self.walks.insert(number, walk.clone());
                (number, walk)
            }
        };
        Some((u64::from(self.lost) << 32 | u64::from(number), walk))
    }

    /// Those who have slept for long enough and were not looked at. Sets when to look again.
    fn who_sleeps(&mut self, tracer: &Tracer, now_ns: u64) -> Vec<Asleep> {
        self.seen.resize(tracer.slots().max(self.seen.len()), 0);
        let mut old: Vec<Block> = Vec::new();
        let mut soon = u64::MAX;
        let over_ns = self.over.as_nanos() as u64;
        tracer.blocks(|block| {
            if self.seen[block.slot()] != block.key() {
                match over_ns.checked_sub(now_ns.saturating_sub(block.since_ns)) {
                    None | Some(0) => old.push(block),
                    Some(left) => soon = soon.min(left),
                }
            }
        });
        // Whoever is left out comes first the next time.
        let begins = old.partition_point(|block| block.slot() < self.from);
        old.rotate_left(begins);
        old.truncate(MOST_AT_ONCE);
        self.from = old.last().map_or(0, |block| block.slot() + 1);
        for block in &old {
            self.seen[block.slot()] = block.key();
        }
        let now = Instant::now();
        if !old.is_empty() {
            self.found_at = now;
        }
        let wait = match now.duration_since(self.found_at) < LATELY {
            true => SHORTEST,
            false => Duration::from_nanos(soon).clamp(SHORTEST, LONGEST),
        };
        self.due = now + wait;
        let asleep = old.iter().filter_map(|block| tracer.asleep(block));
        asleep.collect()
    }

    fn ask(&mut self, asleep: Vec<Asleep>, program: impl Fn(u32) -> u32) {
        if asleep.is_empty() {
            return;
        }
        let sleepers = asleep.iter().map(|it| {
            let registers = &it.registers;
            Sleeper {
                process: (it.tgid, program(it.tgid)),
                tid: it.tid,
                registers: [registers.pc, registers.sp, registers.fp, registers.lr],
            }
        });
        let sleepers: Vec<Sleeper> = sleepers.collect();
        self.helper.ask(asleep, &sleepers);
    }
}
