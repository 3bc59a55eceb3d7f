//! From events to a time line a task.
//!
//! Nothing here does I/O, reads a clock or fails: what can't be made sense of
//! becomes a gap, and a gap is shown.

mod build;
mod earlier;
mod futexes;
mod later;
mod lock_names;
mod part;
mod segments;
mod stretches;
mod targets;
#[cfg(test)]
mod tests;
mod untracked;

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::trace::{
    Attached, CpuUser, Deadlock, Frames, GivenWhat, Header, HelperLost, Lag, LagCounts, Mark,
    MarksRefused, OpenStretch, Outsider, PollUse, PollsCounted, Providers, Signal, Stacks,
    TablesRefused, TaskRecord, Timeout, Totals, Waker, Why,
};

pub use self::build::Builder;
pub use self::futexes::{Futexes, OwnerSeen};
pub use self::lock_names::LockNames;
pub use self::part::{Part, WHOLE};
pub use self::segments::Segments;
pub use self::stretches::{Iter, Reader, Shelf, Spill, Stretches, Sums as StretchSums};
pub use self::targets::{File, FutexKey, Target, Waited, Waitset};

/// What a task is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum State {
    /// On a CPU.
    Running,
    /// Wants a CPU.
    Runnable,
    /// Asleep.
    Blocked,
    /// Stopped, traced or frozen.
    Stopped,
    /// Records were lost there.
    Unknown,
}

impl State {
    /// Its place in the order above, for tables and for sorting.
    pub fn index(self) -> usize {
        self as usize
    }
}

/// A part of a task's life in one state. Never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Since the trace began, ns.
    pub start_ns: u64,
    /// Since the trace began, ns.
    pub end_ns: u64,
    /// The state.
    pub state: State,
    /// Of a blocked task: the syscall that it was in.
    pub syscall: Option<InSyscall>,
}

/// The syscall that a task was in when it left the CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct InSyscall {
    /// Its number; -1: none, or [`PAGE_FAULT`].
    pub number: i16,
    /// The number is of the 32-bit table.
    pub compat: bool,
}

impl InSyscall {
    /// That in which a task left the CPU.
    fn of(off: &Off) -> Self {
        Self {
            number: off.syscall,
            compat: off.flags & Off::COMPAT != 0,
        }
    }
}

/// In place of a syscall's number: the task was in a page fault.
pub const PAGE_FAULT: i16 = -2;

/// A stretch off the CPU. There are millions: they are kept as [`Stretches`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Off {
    /// When the task left the CPU.
    pub out_ns: u64,
    /// When it became runnable.
    pub wake_ns: u64,
    /// When it came back.
    pub in_ns: u64,
    /// Number among the task's stretches.
    pub seq: u32,
    /// The syscall that it was in; -1: none, or [`PAGE_FAULT`]. `restart_syscall` is
    /// already replaced by the syscall that is restarted.
    pub syscall: i16,
    /// Why it left.
    pub why: Why,
    /// Bits of [`Off::EARLY_WAKE`] and so on.
    pub flags: u8,
    /// Who made it runnable again.
    pub waker: Waker,
    /// What it waited for: index in [`Model::targets`].
    pub target: u32,
    /// How long the call waits at most: see [`Off::timeout`].
    pub timeout_us: u32,
}

impl Off {
    /// The wakeup came before the task had left.
    pub const EARLY_WAKE: u8 = 1;
    /// No wakeup was seen.
    pub const NO_WAKE: u8 = 2;
    /// The syscall is of the 32-bit table.
    pub const COMPAT: u8 = 4;
    /// `in_ns` is computed: see [`crate::trace::Stretch::inferred`].
    pub const INFERRED: u8 = 8;

    /// The state from `out_ns` to `wake_ns`.
    pub fn state(&self) -> State {
        state_of(self.why)
    }

    /// How long the call waits at most.
    pub fn timeout(&self) -> Timeout {
        Timeout::from_us(self.timeout_us)
    }
}

/// The state of a task that left the CPU, until it is woken.
pub fn state_of(why: Why) -> State {
    match why {
        Why::New | Why::Preempted => State::Runnable,
        Why::Interruptible | Why::Killable | Why::Uninterruptible => State::Blocked,
        Why::Stopped | Why::Traced | Why::Frozen | Why::CoreDump => State::Stopped,
    }
}

/// How a task's life ends in the trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Its last switch was seen.
    Ended,
    /// It lived when the recording ended.
    Alive,
    /// Its end is not in the trace.
    Unknown,
}

/// A task and its time line. Times are ns since the trace began.
#[derive(Clone, Debug)]
pub struct Task {
    /// Its identity. Tasks that are not followed get serials of our own, above
    /// all others.
    pub serial: u32,
    /// Serial of its process's first task.
    pub process: u32,
    /// Last tid.
    pub tid: u32,
    /// Tgid.
    pub pid: u32,
    /// Parent process.
    pub ppid: u32,
    /// Serial of its creator; 0: not known, or none of the workload.
    pub parent: u32,
    /// Last name.
    pub name: String,
    /// The command line of the last program that it executed; empty: it executed none, or
    /// the command line is not known.
    pub argv: Vec<String>,
    /// Flags of the clone that made it; 0: not known, or a plain fork.
    pub clone_flags: u64,
    /// It never runs in user mode.
    pub kernel_worker: bool,
    /// It was there before the recording, which took it in at `start_ns`.
    pub attached: Option<Attached>,
    /// When it was created.
    pub start_ns: u64,
    /// When it ended, or the end of the trace.
    pub end_ns: u64,
    /// How it ended.
    pub fate: Fate,
    /// False: the task table was full, nothing of its states is known.
    pub followed: bool,
    /// Stretches off the CPU, in order; a jump in `seq` is a gap.
    pub stretches: Stretches,
    /// The stretch that is open at the end of the trace.
    pub open: Option<OpenStretch>,
    /// What it waits for: index in [`Model::targets`].
    pub open_target: u32,
    /// Number of the first stretch that there should be: 0, but for a [`Part`] of a life.
    pub first_seq: u32,
    /// Number of stretches that there should be; `None`: not known, so after the
    /// last one all is unknown.
    pub stretches_expected: Option<u32>,
    /// Sums that the kernel program sent after losses, by `seq`.
    pub sums: Vec<Totals>,
    /// What the kernel program knew at the end.
    pub record: Option<TaskRecord>,
    /// Its use of the select/poll family.
    pub polls: Vec<PollUse>,
}

impl Task {
    /// Its life in segments, without gap or overlap from `start_ns` to `end_ns`.
    pub fn segments(&self) -> Segments<'_> {
        Segments::new(self)
    }

    /// The same without most of those that are over at `from_ns`: for a look at a
    /// part of a long life.
    pub fn segments_from(&self, from_ns: u64) -> Segments<'_> {
        Segments::starting(self, from_ns)
    }

    /// What its stretches come to, if none is missing and all of them follow each other within its
    /// life: between them it ran.
    pub fn all_sums(&self) -> Option<StretchSums> {
        let sums = self.stretches.sums_within(self.start_ns, self.end_ns);
        sums.filter(|_| self.first_seq == 0)
    }

    /// How long it lived.
    pub fn lifetime_ns(&self) -> u64 {
        self.end_ns - self.start_ns
    }
}

/// The whole workload.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// The tasks, in the order of creation.
    pub tasks: Vec<Task>,
    /// What was before this moment was not read, ns since the trace began: tasks that were there
    /// begin at it.
    pub since_ns: u64,
    /// Tasks that had ended by then.
    pub ended_before: u64,
    /// End of the trace, ns since it began.
    pub end_ns: u64,
    /// What the workload said about itself, times since the trace began.
    pub marks: Vec<Mark>,
    /// What it said that is no mark.
    pub marks_refused: MarksRefused,
    /// Bytes that it wrote as marks and that were not read.
    pub marks_unread: u64,
    /// What tasks waited for; the first is [`Target::Unknown`].
    pub targets: Vec<Target>,
    /// The files among the targets.
    pub files: Vec<File>,
    /// The sets of descriptors among the targets.
    pub waitsets: Vec<Waitset>,
    /// Wakers outside the workload, by tid and time; times are since the trace
    /// began.
    pub outsiders: Vec<Outsider>,
    /// Tasks outside the workload that had CPUs which its tasks waited for; times are since
    /// the trace began.
    pub cpu_users: Vec<CpuUser>,
    /// Data that waited in sockets until a task looked; times are since the trace began.
    pub lags: Vec<Lag>,
    /// How many more there are in the trace.
    pub lags_left_out: u64,
    /// How often tasks looked; `None`: not known.
    pub lag_counts: Option<LagCounts>,
    /// Signals that stop, continue, end or tell something, by time since the trace began.
    pub signals: Vec<Signal>,
    /// The stacks of blocks, if they were taken.
    pub stacks: Vec<Stacks>,
    /// The stacks that these are made of, by number.
    pub frames: HashMap<u32, Frames>,
    /// Deadlocks that were found, by time since the trace began.
    pub deadlocks: Vec<Deadlock>,
    /// Who could end waits, where that was found out while they lasted; times are since the
    /// trace began.
    pub providers: Vec<Providers>,
    /// What calls were given, each once: what targets point to.
    pub given: Vec<GivenWhat>,
    /// Entries and returns of calls, of any task, that the programs which count calls of
    /// the select/poll family did not see.
    pub polls_left_out: u64,
    /// Since when these are counted, since the trace began; `None`: always, or never (see the
    /// header).
    pub polls_counted: Option<PollsCounted>,
    /// Changes of the programs' tables that the kernel refused.
    pub tables_refused: TablesRefused,
    /// Helpers of the recorder that had to be replaced.
    pub helper_lost: Option<HelperLost>,
    /// What programs call their locks.
    pub lock_names: LockNames,
    /// The cgroups that processes were in last, where they were told, by the serial of the first
    /// task: see [`Model::cgroups_of_tasks`].
    pub cgroups: HashMap<u32, String>,
    /// What the calls that waited for futexes tell.
    pub futexes: Futexes,
}

impl Model {
    /// Stretches of all tasks that have this flag of [`Off`].
    pub fn stretches_with(&self, flag: u8) -> u64 {
        let has = |off: &Off| off.flags & flag != 0;
        let any = |task: &Task| task.stretches.iter_if(|off| has(&off)).filter(has).count();
        let of = |task: &Task| any(task) as u64;
        self.tasks.iter().map(of).sum()
    }
}

impl Model {
    /// The cgroup that each task's process was in last, by its path, in the order of the tasks;
    /// `None`: it is not known. A process of which nothing is told is where the one that created
    /// it was, and the first one of a workload where [`Header::cgroup`] says.
    pub fn cgroups_of_tasks<'a>(&'a self, header: &'a Header) -> Vec<Option<&'a str>> {
        let tasks = &self.tasks;
        let first = (header.attached.is_none() && !header.cgroup.is_empty())
            .then_some(header.cgroup.as_str());
        let index: HashMap<u32, usize> = (0..).zip(tasks).map(|(at, it)| (it.serial, at)).collect();
        let mut of_process: HashMap<u32, Option<&str>> = HashMap::new();
        // Who creates others is before them.
        for task in tasks {
            if of_process.contains_key(&task.process) {
                continue;
            }
            let told = self.cgroups.get(&task.process).map(String::as_str);
            let creator = index.get(&task.parent).map(|at| tasks[*at].process);
            let of_creator = creator.and_then(|process| of_process.get(&process).copied());
            let where_it_began = || match of_creator {
                Some(cgroup) => cgroup,
                None => first.filter(|_| task.attached.is_none()),
            };
            of_process.insert(task.process, told.or_else(where_it_began));
        }
        let of = |task: &Task| of_process.get(&task.process).copied().flatten();
        tasks.iter().map(of).collect()
    }

    /// Who had this tid outside the workload at this time.
    pub fn outsider(&self, tid: u32, at_ns: u64) -> Option<&Outsider> {
        let until = self
            .outsiders
            .partition_point(|o| (o.tid, o.at_ns) <= (tid, at_ns));
        let of_this_tid = |o: &&Outsider| o.tid == tid;
        // The record can come a moment after the wakeup that it is sent for.
        let before = until.checked_sub(1).and_then(|i| self.outsiders.get(i));
        before
            .filter(of_this_tid)
            .or(self.outsiders.get(until).filter(of_this_tid))
    }
}
