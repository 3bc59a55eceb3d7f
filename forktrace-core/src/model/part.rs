//! A part of a recording: a time, and some of the tasks.
//!
//! What is said of a part is what the whole says, cut at its edges. So reasons are found in
//! the whole (who ended a wait that goes on after the part is known), and figures are taken
//! from the model that [`Part::cut`] leaves.

use super::{Fate, Model, Off, Task};
use crate::trace::Why;

/// A time of a recording, and which of its tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Since the trace began, ns.
    pub from_ns: u64,
    /// Since the trace began, ns.
    pub to_ns: u64,
    /// By index in the model; `None`: all.
    pub tasks: Option<Vec<bool>>,
}

/// Everything.
pub static WHOLE: Part = Part {
    from_ns: 0,
    to_ns: u64::MAX,
    tasks: None,
};

impl Part {
    /// Is it everything?
    pub fn is_whole(&self) -> bool {
        *self == WHOLE
    }

    /// Is it all of the time?
    pub fn is_all_time(&self) -> bool {
        (self.from_ns, self.to_ns) == (WHOLE.from_ns, WHOLE.to_ns)
    }

    /// What of this time is in it. Where nothing is, the end is not after the start.
    #[inline]
    pub fn of(&self, start_ns: u64, end_ns: u64) -> (u64, u64) {
        (start_ns.max(self.from_ns), end_ns.min(self.to_ns))
    }

    /// How much of this time is in it.
    #[inline]
    pub fn ns(&self, start_ns: u64, end_ns: u64) -> u64 {
        let (start_ns, end_ns) = self.of(start_ns, end_ns);
        end_ns.saturating_sub(start_ns)
    }

    /// Is this moment in it?
    pub fn has_moment(&self, at_ns: u64) -> bool {
        self.from_ns <= at_ns && at_ns < self.to_ns
    }

    /// Is a task of the whole model, given by its index, one of those that were chosen?
    #[inline]
    pub fn has(&self, task: usize) -> bool {
        self.tasks.as_ref().is_none_or(|tasks| tasks[task])
    }

    /// Was it chosen, and did it live in this time?
    pub fn has_life(&self, at: usize, task: &Task) -> bool {
        let (start_ns, end_ns) = (task.start_ns, task.end_ns);
        let lives = self.ns(start_ns, end_ns) > 0
            || start_ns == end_ns && self.of(start_ns, end_ns) == (start_ns, end_ns);
        self.has(at) && lives
    }

    /// The model of this time: all tasks, each with what is left of its life. Those that did
    /// not live in it have an empty one, so that indices stay what they are.
    ///
    /// A stretch that an edge cuts keeps who ended it: that is known.
    pub fn cut(&self, model: &Model) -> Model {
        let tasks = model.tasks.iter().map(|task| self.cut_task(task));
        let marks = model.marks.iter().filter(|mark| match mark.at_ns {
            Some(at_ns) => self.has_moment(at_ns),
            None => true,
        });
        let cpu_users = model.cpu_users.iter();
        Model {
            tasks: tasks.collect(),
            since_ns: model.since_ns,
            ended_before: model.ended_before,
            end_ns: model.end_ns.min(self.to_ns),
            marks: marks.cloned().collect(),
            // One that came before can be what stopped somebody.
            signals: model.signals.clone(),
            cpu_users: cpu_users
                .filter(|user| self.ns(user.at_ns.saturating_sub(user.ns), user.at_ns) > 0)
                .cloned()
                .collect(),
            marks_refused: model.marks_refused.clone(),
            marks_unread: model.marks_unread,
            targets: model.targets.clone(),
            files: model.files.clone(),
            waitsets: model.waitsets.clone(),
            outsiders: model.outsiders.clone(),
            stacks: model.stacks.clone(),
            frames: model.frames.clone(),
            deadlocks: model.deadlocks.clone(),
            providers: model.providers.clone(),
            given: model.given.clone(),
            lock_names: model.lock_names.clone(),
            cgroups: model.cgroups.clone(),
            futexes: model.futexes.clone(),
            polls_left_out: model.polls_left_out,
            polls_counted: model.polls_counted.clone(),
            tables_refused: model.tables_refused,
            helper_lost: model.helper_lost.clone(),
            lags: model.lags.clone(),
            lags_left_out: model.lags_left_out,
            lag_counts: model.lag_counts,
        }
    }

    /// The tasks that were chosen and lived, of a model that was [cut](Self::cut) of `whole`.
    pub fn without_others(&self, whole: &Model, mut cut: Model) -> Model {
        let mut all = whole.tasks.iter().enumerate();
        cut.tasks
            .retain(|_| all.next().is_some_and(|(at, task)| self.has_life(at, task)));
        cut
    }

    fn cut_task(&self, task: &Task) -> Task {
        let (from_ns, to_ns) = (self.from_ns, self.to_ns);
        let (start_ns, end_ns) = (task.start_ns, task.end_ns);
        if from_ns <= start_ns && end_ns <= to_ns {
            return task.clone();
        }
        let over = |off: &Off| off.in_ns < from_ns || off.in_ns == from_ns && off.out_ns < from_ns;
        let first = task.stretches.partition_point(over);
        let first = match start_ns < from_ns {
            true => first,
            false => 0,
        };
        let until = task.stretches.partition_point(|off| off.out_ns < to_ns);
        let until = until.max(first);
        let whole = &task.stretches;
        let first_seq = match first.checked_sub(1) {
            Some(before) => whole.at(before).seq.wrapping_add(1),
            None => task.first_seq,
        };
        let last = until.checked_sub(1).filter(|last| *last >= first);
        let next_seq = last.map_or(first_seq, |last| whole.at(last).seq.wrapping_add(1));
        let mut woken = None;
        let mut open = task.open.filter(|open| open.out_ns < to_ns);
        let ended_later = end_ns > to_ns;
        // What is lost after the last stretch, is lost here too.
        let follows = match whole.get(until) {
            Some(next) => Some(next.seq),
            None => task.stretches_expected,
        };
        let mut stretches_expected = follows.filter(|next| *next == next_seq);
        if let Some(it) = &mut open {
            it.out_ns = it.out_ns.max(from_ns);
            match it.wake_ns {
                // It is known who ended it: it is no open one any more.
                Some(wake_ns) if wake_ns >= to_ns && ended_later => {
                    woken = Some(Off {
                        out_ns: it.out_ns,
                        wake_ns: to_ns,
                        in_ns: to_ns,
                        seq: task.stretches_expected.unwrap_or(next_seq),
                        syscall: it.syscall,
                        why: it.why,
                        flags: if it.compat { Off::COMPAT } else { 0 },
                        waker: it.waker,
                        target: task.open_target,
                        timeout_us: it.timeout.to_us(),
                    });
                    stretches_expected = stretches_expected.map(|next| next.wrapping_add(1));
                    open = None;
                }
                Some(wake_ns) if wake_ns <= from_ns => {
                    it.wake_ns = Some(from_ns);
                    it.why = Why::Preempted;
                }
                _ => {}
            }
        }
        let cpu = last.map_or(Some(0), |last| whole.cpu(last));
        let cut = whole.range(first..until).with_cpus();
        let cut = cut.map(|(off, cpu)| (self.cut_off(&off), cpu));
        let stretches = whole.of_these(cut.chain(woken.map(|off| (off, cpu))));
        let mut record = task.record.clone();
        if let Some(record) = &mut record {
            // What was counted and summed is of the whole life.
            record.missed = record.missed.max(1);
            record.switches = stretches.len() as u64;
            record.kernel_switches = None;
            record.kernel_cpu_ns = None;
            if ended_later {
                record.end_ns = None;
                record.exit_code = None;
                record.ended_in = None;
            }
            record.open = open;
        }
        Task {
            start_ns: start_ns.max(from_ns).min(to_ns),
            end_ns: end_ns.max(from_ns).min(to_ns),
            fate: match task.fate {
                Fate::Ended if ended_later => Fate::Alive,
                fate => fate,
            },
            open,
            first_seq,
            stretches_expected,
            stretches,
            record,
            polls: Vec::new(),
            sums: task.sums.clone(),
            name: task.name.clone(),
            argv: task.argv.clone(),
            ..*task
        }
    }

    /// Cuts a stretch that is not over before this time, and that began before its end.
    fn cut_off(&self, off: &Off) -> Off {
        let clamp = |ns: u64| ns.max(self.from_ns).min(self.to_ns);
        // What is left of it is that it wanted a CPU.
        let woken_before = off.out_ns < self.from_ns && off.wake_ns <= self.from_ns;
        Off {
            out_ns: clamp(off.out_ns),
            wake_ns: clamp(off.wake_ns),
            in_ns: clamp(off.in_ns),
            why: if woken_before {
                Why::Preempted
            } else {
                off.why
            },
            ..*off
        }
    }
}
