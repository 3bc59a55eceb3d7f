//! When the stacks of tasks that sleep are followed.
//!
//! A task that sleeps holds still. So nothing is done when it goes to sleep, but that its
//! registers are kept; and only if it sleeps for long enough, a helper follows its stack
//! from these. What it read was true if the task was in the same block until all was read
//! (`proofs`). Otherwise that is forgotten.
//!
//! The table of tasks is gone through when the next block of those that are known will have lasted
//! long enough, and once in the time that a new one takes for that; less often when there were
//! none lately; and never for more than a part of the time that goes by (`allowance`). Whoever
//! has slept longest comes first.

use std::{
    collections::HashMap,
    rc::Rc,
    thread,
    time::{Duration, Instant},
};

use super::{
    allowance::Allowance,
    proofs::Proofs,
    unwind::{Followed, MOST_WALKS, Sleeper, Told, Walk},
};
use crate::{
    capture::{Asleep, Block, Tracer},
    clock::{of_records_ns, own_cpu},
    helper::{Channel, Kind, Nursery, Troubles},
    trace::Stretch,
};

/// The table of tasks is gone through no more often.
const SHORTEST: Duration = Duration::from_micros(250);
/// And no less often.
const LONGEST: Duration = Duration::from_millis(10);
/// It is gone through often for so long after a block was found: others will come.
const LATELY: Duration = Duration::from_millis(30);
/// So many are looked at together.
const MOST_AT_ONCE: usize = 64;
/// A helper that does not answer for so long is abandoned: memory that can't be read hangs it.
const PATIENCE: Duration = Duration::from_secs(5);
/// And so many more are tried.
const REPLACED: u64 = 8;
/// Whether it has begun is looked at so often.
const HELPER_LOOK: Duration = Duration::from_millis(1);

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
    helper: Channel<Vec<Asleep>, Vec<Told>>,
    /// What the helper has told, by its numbers.
    walks: HashMap<u32, Rc<Walk>>,
    /// Helpers that were lost: each one begins with numbers of its own.
    lost: u32,
    /// Blocks that have lasted for so long are looked at, ns: a little before they have to be
    /// known, for it takes a while until one has been read.
    over_ns: u64,
    /// The block of each slot that was looked at.
    seen: Vec<u64>,
    allowance: Allowance,
    /// When the next look is due.
    due: Instant,
    /// When a block was found last.
    found_at: Instant,
    proofs: Proofs<Looked>,
    found: Vec<Looked>,
}

impl Looks {
    /// Looks at blocks that last for so long.
    pub(super) fn new(nursery: &Rc<Nursery>, over: Duration) -> Self {
        let now = Instant::now();
        let mut helper = Channel::new(nursery.clone(), Kind::Stacks, PATIENCE, REPLACED);
        // Once it answers, it gets a CPU in time.
        helper.ask(Vec::new(), &Vec::<Sleeper>::new());
        Self {
            helper,
            walks: HashMap::new(),
            lost: 0,
            over_ns: over.as_nanos() as u64 / 4 * 3,
            seen: Vec::new(),
            allowance: Allowance::new(now),
            due: now,
            found_at: now,
            proofs: Proofs::default(),
            found: Vec::new(),
        }
    }

    /// Waits until the helper has begun, on a busy machine for so long at most: blocks that
    /// are over before have no stack.
    pub(super) fn wait_for_helper(&mut self, at_most: Duration) {
        let begun = Instant::now();
        while self.helper.is_open() && self.helper.waiting() > 0 && begun.elapsed() < at_most {
            if self.helper.receive().answers.is_empty() {
                thread::sleep(HELPER_LOOK);
            }
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

    /// Is the stack of this block still to be told?
    pub(super) fn is_open(&self, serial: u32, seq: u32) -> bool {
        let is_it = |it: &Looked| (it.serial, it.seq) == (serial, seq);
        self.proofs.is_open((serial, seq)) || self.found.iter().any(is_it)
    }

    /// A task has come back to a CPU.
    pub(super) fn ended(&mut self, off: &Stretch) {
        if off.in_ns.saturating_sub(off.out_ns) >= self.over_ns {
            let in_ns = (!off.inferred).then_some(off.in_ns);
            let found = self.proofs.ended((off.serial, off.seq), in_ns);
            self.found.extend(found);
        }
    }

    /// Takes answers, and asks for more. `program` tells which of the programs that had its
    /// number a process is.
    pub(super) fn turn(&mut self, tracer: &Tracer, now_ns: u64, program: impl Fn(u32) -> u32) {
        let (begun, begun_cpu) = (Instant::now(), own_cpu());
        let mut used = Duration::ZERO;
        let received = self.helper.receive();
        for (asked, told, cpu_ns) in received.answers {
            used += Duration::from_nanos(cpu_ns);
            for (asleep, told) in asked.iter().zip(told) {
                self.take_in(tracer, asleep, told);
            }
        }
        for asleep in received.lost.iter().flatten() {
            self.proofs.forget((asleep.serial, asleep.seq));
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
        used += own_cpu().saturating_sub(begun_cpu);
        self.allowance.spend(used, begun);
        self.due = self.due.max(self.allowance.ready_at());
    }

    fn take_in(&mut self, tracer: &Tracer, asleep: &Asleep, told: Told) {
        let of = (asleep.serial, asleep.seq);
        let Some((number, walk)) = self.walk(told.stack) else {
            self.proofs.forget(of);
            return;
        };
        let looked = Looked {
            serial: asleep.serial,
            seq: asleep.seq,
            pid: asleep.tgid,
            number,
            walk,
        };
        let sleeps = tracer.still_sleeps(asleep);
        let until_ns = of_records_ns(told.read_ns);
        let found = self.proofs.read(of, until_ns, sleeps, looked);
        self.found.extend(found);
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

    /// Those who have slept for long enough and were not looked at, the longest first. Sets when
    /// to look again.
    fn who_sleeps(&mut self, tracer: &Tracer, now_ns: u64) -> Vec<Asleep> {
        self.seen.resize(tracer.slots().max(self.seen.len()), 0);
        let mut old: Vec<Block> = Vec::new();
        let mut soon_ns = u64::MAX;
        tracer.blocks(|block| {
            if self.seen[block.slot()] != block.key() {
                let lasted_ns = now_ns.saturating_sub(block.since_ns);
                match self.over_ns.checked_sub(lasted_ns) {
                    None | Some(0) => old.push(block),
                    Some(left_ns) => soon_ns = soon_ns.min(left_ns),
                }
            }
        });
        old.sort_unstable_by_key(|block| block.since_ns);
        old.truncate(MOST_AT_ONCE);
        for block in &old {
            self.seen[block.slot()] = block.key();
        }
        let now = Instant::now();
        if !old.is_empty() {
            self.found_at = now;
        }
        // One that begins from now on needs so long as well.
        if now.duration_since(self.found_at) < LATELY {
            soon_ns = soon_ns.min(self.over_ns);
        }
        self.due = now + Duration::from_nanos(soon_ns).clamp(SHORTEST, LONGEST);
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
        for it in &asleep {
            self.proofs.asked((it.serial, it.seq));
        }
        self.helper.ask(asleep, &sleepers);
    }
}
