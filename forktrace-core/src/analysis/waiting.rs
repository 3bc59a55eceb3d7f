//! How many tasks of a group were blocked for the same reason at once, and
//! whether another one ran meanwhile.
//!
//! That all n tasks were *blocked* together says little: any n tasks with little
//! to do are. That n were blocked *in read* while one ran says that reading does
//! not need what the running one has.

use super::families::wait_reason;
use crate::{
    model::{InSyscall, Segment},
    report::WaitingAtOnce,
    trace::Arch,
};

/// What the sweep over a group tells of reasons.
pub(super) struct Waiting {
    arch: Arch,
    /// By task: it waits in the kernel, whatever its registers say.
    kernel_workers: Vec<bool>,
    /// The reason of each syscall met, by index in `reasons`. There are a handful:
    /// a list is quicker than a map.
    met: Vec<(InSyscall, bool, usize)>,
    reasons: Vec<Reason>,
}

struct Reason {
    name: String,
    /// Tasks blocked for it now.
    count: usize,
    /// By count: time, and time with another task running.
    times: Vec<(u64, u64)>,
}

impl Waiting {
    pub(super) fn new(arch: Arch, kernel_workers: Vec<bool>) -> Self {
        Self {
            arch,
            kernel_workers,
            met: Vec::new(),
            reasons: Vec::new(),
        }
    }

    pub(super) fn enter(&mut self, task: usize, segment: &Segment) {
        if let Some(reason) = self.reason(task, segment) {
            reason.count += 1;
            if reason.times.len() <= reason.count {
                reason.times.resize(reason.count + 1, (0, 0));
            }
        }
    }

    pub(super) fn leave(&mut self, task: usize, segment: &Segment) {
        if let Some(reason) = self.reason(task, segment) {
            reason.count -= 1;
        }
    }

    /// Time passes in which nothing changes.
    pub(super) fn pass(&mut self, ns: u64, running: u32) {
        for reason in self.reasons.iter_mut().filter(|reason| reason.count > 0) {
            let (total_ns, others_running_ns) = &mut reason.times[reason.count];
            *total_ns += ns;
            if running > 0 {
                *others_running_ns += ns;
            }
        }
    }

    pub(super) fn finish(mut self) -> Vec<WaitingAtOnce> {
        self.reasons.sort_by(|a, b| a.name.cmp(&b.name));
        let rows = |reason: Reason| {
            let rows = reason.times.into_iter().enumerate();
            rows.filter(|(_, (ns, _))| *ns > 0)
                .map(move |(count, (ns, others_running_ns))| WaitingAtOnce {
                    reason: reason.name.clone(),
                    count: count as u32,
                    ns,
                    others_running_ns,
                })
        };
        self.reasons.into_iter().flat_map(rows).collect()
    }

    fn reason(&mut self, task: usize, segment: &Segment) -> Option<&mut Reason> {
        let syscall = segment.syscall?;
        let kernel_worker = self.kernel_workers[task];
        let mut met = self.met.iter();
        let index = match met.find(|(s, worker, _)| *s == syscall && *worker == kernel_worker) {
            Some((_, _, index)) => *index,
            None => {
                let InSyscall { number, compat } = syscall;
                let (name, _) = wait_reason(self.arch, number, compat, kernel_worker);
                let same = self.reasons.iter().position(|reason| reason.name == name);
                let index = same.unwrap_or_else(|| {
                    self.reasons.push(Reason {
                        name,
                        count: 0,
                        times: Vec::new(),
                    });
                    self.reasons.len() - 1
                });
                self.met.push((syscall, kernel_worker, index));
                index
            }
        };
        self.reasons.get_mut(index)
    }
}
