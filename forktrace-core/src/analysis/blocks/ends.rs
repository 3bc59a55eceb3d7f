//! What ended a block, and how.

use super::{Block, Blocks, Class};
use crate::{
    model::{FutexKey, Target},
    report::Ended,
    trace::{FileKind, Interrupt, Timeout, Waker, Why},
};

/// The kernel sends a signal and wakes for it in one go; so much later it was
/// something else.
const SIGNAL_WAKES_WITHIN_NS: u64 = 1_000_000;
/// It tells of a signal when it has woken all whom that concerns (`complete_signal` comes
/// before `trace_signal_generate`), so much later at most, also where there are hundreds.
const SIGNAL_TOLD_WITHIN_NS: u64 = 100_000;

/// What ended a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::analysis) enum End {
    /// The wakeup of this task (index in the model) that what it waited for had
    /// come.
    Task(u32),
    /// A task outside the workload.
    Outside,
    /// An interrupt.
    Interrupt,
    /// It was killed: what it waited for did not come.
    CutShort,
    /// A signal that it survived: what it waited for did not come.
    Interrupted,
    /// Nobody woke it.
    Nobody,
    /// The record does not tell.
    Unknown,
}

impl Blocks<'_> {
    /// What ended this block of a task.
    #[inline]
    pub(in crate::analysis) fn end(&self, task: usize, block: &Block) -> End {
        let Some(wake_ns) = block.wake_ns else {
            return End::Nobody;
        };
        let waker = match block.waker {
            // A sleep that was as long as it was to be needs no witness.
            Waker::None | Waker::Unknown if self.slept_its_time(block, wake_ns) => {
                return End::Interrupt;
            }
            Waker::None | Waker::Unknown => return End::Unknown,
            Waker::Interrupt(_) => {
                return match self.only_a_signal(task, block, None) {
                    true if self.killed(task, None, block) => End::CutShort,
                    true if block.timeout == Timeout::None => End::Interrupted,
                    _ => End::Interrupt,
                };
            }
            Waker::Outsider { .. } => None,
            Waker::Task { serial, .. } => match self.wakers.index(serial) {
                // A task can't wake itself from a sleep.
                Some(waker) if waker != task => Some(waker),
                _ => return End::Unknown,
            },
        };
        if self.killed(task, waker, block) {
            End::CutShort
        } else if self.signalled(task, block, wake_ns) || self.only_a_signal(task, block, waker) {
            End::Interrupted
        } else {
            waker.map_or(End::Outside, |waker| End::Task(waker as u32))
        }
    }

    /// Was it a sleep, and did it last as long as was asked for?
    fn slept_its_time(&self, block: &Block, wake_ns: u64) -> bool {
        match block.timeout {
            Timeout::Us(us) if self.class(block) == Class::Time => {
                wake_ns - block.start_ns >= u64::from(us).saturating_mul(1000)
            }
            _ => false,
        }
    }

    /// How a block ended.
    pub(in crate::analysis) fn how(&self, task: usize, block: &Block) -> Ended {
        match self.end(task, block) {
            End::Nobody | End::CutShort => Ended::CutShort,
            End::Interrupted => Ended::Interrupted,
            End::Unknown => Ended::Unknown,
            // For a time to pass is what a sleeper waits for.
            _ if self.is_sleep(block) => Ended::Fulfilled,
            _ if self.timed_out(block) => Ended::TimedOut,
            _ => Ended::Fulfilled,
        }
    }

    /// Does it wait for nothing but time?
    pub(in crate::analysis) fn is_sleep(&self, block: &Block) -> bool {
        self.class(block) == Class::Time && !self.timed_out_call(block)
    }

    /// A call of another kind whose time ran out.
    fn timed_out_call(&self, block: &Block) -> bool {
        let number = usize::try_from(block.syscall).unwrap_or(usize::MAX);
        self.classes.get(number) == Some(&Class::Busy) && self.timed_out(block)
    }

    /// Did its time run out? A futex is woken by nobody but a task, so a timer's wakeup
    /// of one is always that, however little was left of its time.
    #[inline]
    pub(in crate::analysis) fn timed_out(&self, block: &Block) -> bool {
        block.timed_out()
            || block.timeout != Timeout::None
                && matches!(block.waker, Waker::Interrupt(Interrupt::Timer))
                && matches!(
                    self.model.targets.get(block.target as usize),
                    Some(Target::Futex(_) | Target::AnyFutex { .. } | Target::Thread(_))
                )
    }

    /// Is it a wait that only certain tasks can end, none of which this waker is? Then it
    /// was a signal. A private futex is woken from within its process, a wait for a child
    /// by that child, a page fault that any signal can end by the task that handles it (one for
    /// a disk only those can end that kill, `folio_lock_or_retry`).
    fn only_a_signal(&self, task: usize, block: &Block, waker: Option<usize>) -> bool {
        let process = self.model.tasks[task].process;
        let waker = waker.map(|waker| self.model.tasks[waker].process);
        match self.model.targets.get(block.target as usize) {
            Some(
                Target::Futex(FutexKey::Private { process: of, .. })
                | Target::AnyFutex {
                    first: FutexKey::Private { process: of, .. },
                    ..
                },
            ) => waker != Some(*of),
            Some(Target::Thread(_)) => waker != Some(process),
            Some(Target::PageFault(_)) => {
                block.why == Why::Interruptible && waker.is_none() && self.all_followed
            }
            Some(Target::Child(_)) => {
                self.all_followed && waker.is_none_or(|waker| waker == process)
            }
            _ => false,
        }
    }

    /// Was it woken to end, by a signal, or by a task that ended its process?
    #[inline]
    fn killed(&self, task: usize, waker: Option<usize>, block: &Block) -> bool {
        let tasks = &self.model.tasks;
        match self.killed_in[task] {
            Some((start_ns, by_signal)) if start_ns == block.start_ns => {
                by_signal || waker.is_some_and(|w| tasks[task].process == tasks[w].process)
            }
            _ => false,
        }
    }

    #[inline]
    fn signalled(&self, task: usize, block: &Block, wake_ns: u64) -> bool {
        if self.signals.is_empty() {
            return false;
        }
        let Some(sent) = self.signals.get(&self.model.tasks[task].process) else {
            return false;
        };
        let told_ns = wake_ns.saturating_add(SIGNAL_TOLD_WITHIN_NS);
        let until = sent.partition_point(|signal| signal.at_ns <= told_ns);
        let recent = sent[..until].iter().rev();
        let from_ns = block
            .start_ns
            .max(wake_ns.saturating_sub(SIGNAL_WAKES_WITHIN_NS));
        let serial = self.model.tasks[task].serial;
        recent
            .take_while(|signal| signal.at_ns >= from_ns)
            .filter(|signal| signal.to.is_none_or(|to| to == serial))
            .any(|signal| same_task(signal.sender, block.waker))
            && !self.waits_for_signals(block)
    }

    /// Is it a wait for signals and nothing else, as `pause` and `sigwait` are?
    pub(in crate::analysis) fn is_signal_wait(&self, block: &Block) -> bool {
        let number = usize::try_from(block.syscall).unwrap_or(usize::MAX);
        self.signal_calls.get(number) == Some(&true)
    }

    /// Is a signal what it waits for, or one of several things?
    fn waits_for_signals(&self, block: &Block) -> bool {
        if self.is_signal_wait(block) {
            return true;
        }
        let is_signals = |kind: Option<&FileKind>| matches!(kind, Some(FileKind::SignalFd));
        match self.model.targets.get(block.target as usize) {
            Some(Target::File { file, .. }) => {
                self.model.files.get(*file as usize).is_some_and(|file| {
                    let of_epoll = file.interests.iter().flat_map(|interest| &interest.fds);
                    is_signals(file.kind.as_ref())
                        || of_epoll.into_iter().any(|fd| is_signals(fd.kind.as_ref()))
                })
            }
            Some(Target::Fds(set)) => {
                let set = self.model.waitsets.get(*set as usize);
                set.is_some_and(|set| set.fds.iter().any(|fd| is_signals(fd.kind.as_ref())))
            }
            _ => false,
        }
    }
}

fn same_task(a: Waker, b: Waker) -> bool {
    match (a, b) {
        (Waker::Task { serial: a, .. }, Waker::Task { serial: b, .. })
        | (Waker::Outsider { tid: a, .. }, Waker::Outsider { tid: b, .. }) => a == b,
        _ => false,
    }
}
