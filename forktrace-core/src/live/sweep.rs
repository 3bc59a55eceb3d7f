//! How many tasks are in each state, and for how long that was so: time goes on from one
//! change to the next.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::kinds::{Kind, WaitKind};
use crate::model::State;

/// How many tasks are in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// On a CPU.
    pub running: u64,
    /// Want one.
    pub runnable: u64,
    /// Asleep.
    pub blocked: u64,
    /// Stopped, traced or frozen.
    pub stopped: u64,
}

impl Counts {
    fn of(&mut self, state: State) -> &mut u64 {
        match state {
            State::Running | State::Unknown => &mut self.running,
            State::Runnable => &mut self.runnable,
            State::Blocked => &mut self.blocked,
            State::Stopped => &mut self.stopped,
        }
    }

    pub(super) fn enter(&mut self, state: State) {
        *self.of(state) += 1;
    }

    pub(super) fn leave(&mut self, state: State) {
        let count = self.of(state);
        *count = count.saturating_sub(1);
    }

    /// All tasks.
    pub fn live(&self) -> u64 {
        self.running + self.runnable + self.blocked + self.stopped
    }

    fn all_blocked(&self) -> bool {
        self.blocked >= 2 && self.blocked == self.live()
    }

    fn starved(&self) -> bool {
        self.running == 0 && self.runnable > 0
    }
}

/// Episodes of something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spells {
    /// In all, with the one that lasts.
    pub ns: u64,
    /// Those that are over.
    pub count: u64,
    /// The longest of those.
    pub longest_ns: u64,
    /// Since when one lasts.
    pub since_ns: Option<u64>,
}

impl Spells {
    /// From now on it is so, or not. Returns how long the one lasted that is over.
    fn set(&mut self, is_so: bool, at_ns: u64) -> Option<u64> {
        match (self.since_ns, is_so) {
            (None, true) => self.since_ns = Some(at_ns),
            (Some(since_ns), false) => {
                let ns = at_ns.saturating_sub(since_ns);
                self.since_ns = None;
                self.count += 1;
                self.longest_ns = self.longest_ns.max(ns);
                return Some(ns);
            }
            _ => {}
        }
        None
    }
}

/// Sums over time, up to a moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Sweep {
    pub(super) at_ns: u64,
    pub(super) counts: Counts,
    pub(super) all_blocked: Spells,
    pub(super) starved: Spells,
    /// What the episodes in which all were blocked were ended by.
    pub(super) ended_by: BTreeMap<Kind, u64>,
    /// CPU time of all tasks, ns.
    pub(super) running_ns: u64,
    /// Whose change ended it, of those at this moment.
    ender: Option<Kind>,
}

impl Sweep {
    /// Nothing is known before then.
    pub(super) fn new(at_ns: u64) -> Self {
        Self {
            at_ns,
            ..Self::default()
        }
    }

    /// Time goes on until then.
    pub(super) fn pass(&mut self, until_ns: u64) {
        if until_ns <= self.at_ns {
            return;
        }
        self.settle();
        let ns = until_ns - self.at_ns;
        self.running_ns += self.counts.running * ns;
        if self.all_blocked.since_ns.is_some() {
            self.all_blocked.ns += ns;
        }
        if self.starved.since_ns.is_some() {
            self.starved.ns += ns;
        }
        self.at_ns = until_ns;
    }

    /// All changes of this moment have come.
    pub(super) fn settle(&mut self) {
        let ended = self.all_blocked.set(self.counts.all_blocked(), self.at_ns);
        let ender = self.ender.take();
        if let Some(ns) = ended {
            *self.ended_by.entry(ender.unwrap_or_default()).or_default() += ns;
        }
        self.starved.set(self.counts.starved(), self.at_ns);
    }

    /// A task goes from one state to another at this moment, out of a wait of this kind.
    pub(super) fn change(&mut self, from: Option<State>, to: Option<State>, kind: Kind) {
        if let Some(from) = from {
            self.counts.leave(from);
        }
        if let Some(to) = to {
            self.counts.enter(to);
        }
        if to.is_some_and(|to| to != State::Blocked) {
            self.ender.get_or_insert(match from {
                Some(_) => kind,
                None => Kind {
                    wait: WaitKind::Created,
                    ..Kind::default()
                },
            });
        }
    }
}
