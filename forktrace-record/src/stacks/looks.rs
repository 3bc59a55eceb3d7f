//! What the helper finds that follows the stacks of tasks while they sleep (`lookout`), and what it is
//! to look for.

use std::{
    collections::{HashMap, HashSet},
    rc::Rc,
    thread,
    time::{Duration, Instant},
};

use super::{
    lasting::Lasting,
    lookout::{Ask, Found},
    unwind::{Followed, MOST_WALKS, Walk},
};
use crate::{
    helper::{Channel, Kind, Nursery, Troubles},
    trace::Stretch,
};

/// Questions that the helper has at a time: while it has one, it looks.
const AHEAD: usize = 5;
/// Blocks that ended lately, of which the stack may still be told.
const MOST_ENDED: usize = 4096;
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
    /// When the block began, ns.
    pub(super) since_ns: u64,
    /// The number of the stack, of its own kind.
    pub(super) number: u64,
    pub(super) walk: Rc<Walk>,
}

pub(super) struct Looks {
    helper: Channel<(), Vec<Found>>,
    /// What the helper has told, by its numbers.
    walks: HashMap<u32, Rc<Walk>>,
    /// Helpers that were lost: each one begins with numbers of its own.
    lost: u32,
    /// Blocks that have lasted for so long are looked at, ns.
    over_ns: u64,
    lasting: Lasting,
    /// Processes in which another program has begun since the helper was asked last.
    began: Vec<u32>,
    ended: HashSet<(u32, u32)>,
    found: Vec<Looked>,
}

impl Looks {
    /// Looks at blocks that last for so long.
    pub(super) fn new(nursery: &Rc<Nursery>, over: Duration) -> Self {
        let over_ns = over.as_nanos() as u64;
        let mut helper = Channel::new(nursery.clone(), Kind::Stacks, PATIENCE, REPLACED);
        // Once it answers, it gets a CPU in time.
        let only_begin = true;
        let ask = Ask {
            only_begin,
            ..Ask::default()
        };
        helper.ask((), &ask);
        Self {
            helper,
            walks: HashMap::new(),
            lost: 0,
            over_ns: early(over_ns),
            lasting: Lasting::new(over_ns, Instant::now()),
            began: Vec::new(),
            ended: HashSet::new(),
            found: Vec::new(),
        }
    }

    /// Waits until the helper has begun, on a busy machine for so long at most: blocks that
    /// are over before have no stack.
    pub(super) fn wait_for_helper(&mut self, at_most: Duration) {
        self.wait_while(at_most, |looks| looks.helper.waiting() > 0);
    }

    /// Waits for what it has found by now.
    pub(super) fn wait_for_answer(&mut self, at_most: Duration) {
        let waiting = self.helper.waiting();
        self.wait_while(at_most, |looks| {
            (1..=looks.helper.waiting()).contains(&waiting)
        });
    }

    fn wait_while(&mut self, at_most: Duration, wait: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        while self.helper.is_open() && wait(self) && begun.elapsed() < at_most {
            if !self.receive() {
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

    /// What was found since this was last called.
    pub(super) fn take(&mut self) -> Vec<Looked> {
        for looked in &self.found {
            self.ended.remove(&(looked.serial, looked.seq));
        }
        std::mem::take(&mut self.found)
    }

    /// A block ended that lasted long enough: is its stack still to be told?
    pub(super) fn is_open(&self, serial: u32, seq: u32) -> bool {
        self.ended.contains(&(serial, seq))
    }

    /// Another program begins in this process.
    pub(super) fn began(&mut self, pid: u32) {
        if self.helper.is_open() {
            self.began.push(pid);
        }
    }

    /// A task has come back to a CPU; `was_told`: the stack of this block has been told.
    pub(super) fn ended(&mut self, off: &Stretch, was_told: impl FnOnce() -> bool) {
        let length_ns = off.in_ns.saturating_sub(off.out_ns);
        if length_ns >= self.over_ns {
            self.lasting.ended(length_ns);
            if was_told() {
                return;
            }
            if self.ended.len() >= MOST_ENDED {
                self.ended.clear();
            }
            self.ended.insert((off.serial, off.seq));
        }
    }

    /// Takes what was found, and has the helper look on.
    pub(super) fn turn(&mut self) {
        self.receive();
        while self.helper.is_open() && self.helper.waiting() < AHEAD {
            let until_ns = early(self.lasting.shortest_ns(Instant::now()));
            let ask = Ask {
                over_ns: self.over_ns,
                until_ns,
                began: std::mem::take(&mut self.began),
                only_begin: false,
            };
            self.helper.ask((), &ask);
        }
    }

    /// True: something was answered.
    fn receive(&mut self) -> bool {
        let received = self.helper.receive();
        let is_any = !received.answers.is_empty();
        for found in received.answers.into_iter().flat_map(|(_, found, _)| found) {
            self.take_in(found);
        }
        if received.anew {
            self.walks.clear();
            self.lost += 1;
            self.helper.go_on::<Ask>([]);
        }
        is_any
    }

    fn take_in(&mut self, found: Found) {
        let (serial, seq) = (found.serial, found.seq);
        let Some((number, walk)) = self.walk(found.stack) else {
            return;
        };
        if found.is_true {
            self.found.push(Looked {
                serial,
                seq,
                pid: found.pid,
                since_ns: found.since_ns,
                number,
                walk,
            });
        } else {
            self.ended.remove(&(serial, seq));
        }
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
}

/// A little before a block has lasted for so long, ns: it takes a while until it has been read.
fn early(ns: u64) -> u64 {
    ns / 4 * 3
}
