//! How many tasks of a group were blocked for the same reason at once, and
//! whether another one ran meanwhile.
//!
//! That all n tasks were *blocked* together says little: any n tasks with little
//! to do are. That n were blocked *in read* while one ran says that reading does
//! not need what the running one has.

use std::collections::HashMap;

use super::{sum_by_key::SumByKey, syscall_families::wait_reason};
use crate::{model::InSyscall, report::WaitingAtOnce, trace::Arch};

/// What the sweep over a group tells of reasons.
pub(super) struct SameReason {
    arch: Arch,
    /// By task: it waits in the kernel, whatever its registers say.
    kernel_workers: Vec<bool>,
    /// The reason of each syscall met, by index in `reasons`.
    met: SumByKey<(InSyscall, bool), Option<usize>>,
    by_name: HashMap<String, usize>,
    reasons: Vec<Reason>,
    /// Time so far, and time with a task running.
    passed: Passed,
}

#[derive(Clone, Copy, Default)]
struct Passed {
    ns: u64,
    running_ns: u64,
}

struct Reason {
    name: String,
    /// Tasks blocked for it now.
    count: usize,
    /// Since when it is so many.
    since: Passed,
    /// By count: time, and time with another task running.
    times: Vec<Passed>,
}

impl Reason {
    /// Notes for how long it was as many as now.
    fn settle(&mut self, now: Passed) {
        let Passed { ns, running_ns } = std::mem::replace(&mut self.since, now);
        if let Some(times) = self.times.get_mut(self.count) {
            times.ns += now.ns - ns;
            times.running_ns += now.running_ns - running_ns;
        }
    }
}

impl SameReason {
    pub(super) fn new(arch: Arch, kernel_workers: Vec<bool>) -> Self {
        Self {
            arch,
            kernel_workers,
            met: SumByKey::default(),
            by_name: HashMap::new(),
            reasons: Vec::new(),
            passed: Passed::default(),
        }
    }

    /// A task is blocked for this reason.
    #[inline]
    pub(super) fn enter(&mut self, reason: usize) {
        let now = self.passed;
        let reason = &mut self.reasons[reason];
        reason.settle(now);
        reason.count += 1;
        if reason.times.len() <= reason.count {
            reason.times.resize(reason.count + 1, Passed::default());
        }
    }

    /// It is no more blocked for this reason.
    #[inline]
    pub(super) fn leave(&mut self, reason: usize) {
        let now = self.passed;
        let reason = &mut self.reasons[reason];
        reason.settle(now);
        reason.count -= 1;
    }

    /// Time passes in which nothing changes.
    #[inline]
    pub(super) fn pass(&mut self, ns: u64, running: u32) {
        self.passed.ns += ns;
        if running > 0 {
            self.passed.running_ns += ns;
        }
    }

    pub(super) fn finish(mut self) -> Vec<WaitingAtOnce> {
        for reason in &mut self.reasons {
            reason.settle(self.passed);
        }
        self.reasons.sort_by(|a, b| a.name.cmp(&b.name));
        let rows = |reason: Reason| {
            let rows = reason.times.into_iter().enumerate();
            // How long nobody waited for it is nobody's business.
            rows.filter(|(count, times)| *count > 0 && times.ns > 0)
                .map(move |(count, times)| WaitingAtOnce {
                    reason: reason.name.clone(),
                    count: count as u32,
                    ns: times.ns,
                    others_running_ns: times.running_ns,
                })
        };
        self.reasons.into_iter().flat_map(rows).collect()
    }

    /// For which reason a task is blocked in this call.
    pub(super) fn reason(&mut self, task: usize, syscall: InSyscall) -> usize {
        let kernel_worker = self.kernel_workers[task];
        let index = self.met.of((syscall, kernel_worker));
        *index.get_or_insert_with(|| {
            let InSyscall { number, compat } = syscall;
            let (name, _) = wait_reason(self.arch, number, compat, kernel_worker);
            let reasons = &mut self.reasons;
            *self.by_name.entry(name).or_insert_with_key(|name| {
                reasons.push(Reason {
                    name: name.clone(),
                    count: 0,
                    since: self.passed,
                    times: Vec::new(),
                });
                reasons.len() - 1
            })
        })
    }
}
