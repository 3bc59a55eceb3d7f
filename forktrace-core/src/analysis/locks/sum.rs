//! What is added up of the waits for one thing.

use std::collections::{BTreeMap, HashMap};

use crate::analysis::{code::CodeSum, distribution::Distribution};

/// Waits for one thing.
#[derive(Default)]
pub(super) struct Sum {
    pub(super) times: Distribution,
    pub(super) ns: u64,
    pub(super) waits: u64,
    pub(super) longest_ns: u64,
    /// How long each task waited, in the order of tasks: those are looked at one by one.
    pub(super) waiters: Vec<(u32, u64)>,
    /// Wakeups by each task, but for those of the last one.
    wakers: HashMap<u32, u64>,
    last_waker: (u32, u64),
    /// A target of the waits.
    pub(super) target: u32,
    pub(super) is_file: bool,
    /// Which functions waited.
    pub(super) code: CodeSum,
}

impl Sum {
    pub(super) fn add(&mut self, task: u32, ns: u64, waker: Option<u32>) {
        self.times.add(ns);
        self.ns = self.ns.saturating_add(ns);
        self.waits += 1;
        self.longest_ns = self.longest_ns.max(ns);
        match self.waiters.last_mut().filter(|(last, _)| *last == task) {
            Some((_, of_task)) => *of_task = of_task.saturating_add(ns),
            None => self.waiters.push((task, ns)),
        }
        if let Some(waker) = waker {
            if self.last_waker.0 != waker {
                self.count_wakers();
            }
            self.last_waker = (waker, self.last_waker.1 + 1);
        }
    }

    pub(super) fn count_wakers(&mut self) {
        let (waker, wakeups) = std::mem::take(&mut self.last_waker);
        if wakeups > 0 {
            *self.wakers.entry(waker).or_default() += wakeups;
        }
    }

    /// Those who wait are woken, half of the times at least, by one who waits at other times.
    pub(super) fn is_passed_on(&self) -> bool {
        let waits = |waker: &u32| {
            let at = self.waiters.binary_search_by_key(waker, |(task, _)| *task);
            at.is_ok()
        };
        let by_waiters = self.wakers.iter().filter(|(waker, _)| waits(waker));
        let by_waiters: u64 = by_waiters.map(|(_, n)| n).sum();
        self.waiters.len() > 1 && by_waiters * 2 >= self.waits
    }
}

/// One of all.
pub(super) fn all_of(sums: impl Iterator<Item = Sum>) -> Sum {
    let mut all = Sum::default();
    let mut waiters: BTreeMap<u32, u64> = BTreeMap::new();
    for sum in sums {
        all.times.merge(&sum.times);
        all.ns = all.ns.saturating_add(sum.ns);
        all.waits += sum.waits;
        all.longest_ns = all.longest_ns.max(sum.longest_ns);
        all.target = sum.target;
        all.code.merge(sum.code);
        for (task, ns) in sum.waiters {
            let of_task = waiters.entry(task).or_default();
            *of_task = of_task.saturating_add(ns);
        }
        for (task, wakeups) in sum.wakers {
            *all.wakers.entry(task).or_default() += wakeups;
        }
    }
    all.waiters = waiters.into_iter().collect();
    all
}
