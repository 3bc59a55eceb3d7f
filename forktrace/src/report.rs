//! What a report says: plain figures, computed by `analysis`, shown by `render`.
//!
//! The JSON report is this structure as serde writes it, so a change of a name
//! here changes the interface: see `docs/report.schema.json`. Times are
//! nanoseconds since the trace began; durations are nanoseconds.
//!
//! `None` (JSON `null`) always means "not known" or "not measured", never 0.

mod why;

use serde::Serialize;

pub use self::why::*;

/// Version of the JSON report; a reader that knows this number can read it.
pub const SCHEMA_VERSION: u32 = 1;

/// A whole report.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// What was run, where and how it ended.
    pub workload: Workload,
    /// The whole tree first, then each process that had two tasks or more or
    /// blocked at all, in the order of creation.
    pub groups: Vec<Group>,
    /// The longest episodes in which all tasks of a group were blocked: the tree's,
    /// then those of all processes. A workload of one process has the tree's only.
    pub episodes: Vec<Episode>,
    /// All such episodes by what they are put down to: the tree's, then each
    /// process's, each worst first. A workload of one process has the tree's only.
    pub causes: Vec<Cause>,
    /// What the kernel stopped, longest first; only the first few.
    pub stops: Vec<Stop>,
    /// How many more there are.
    pub other_stops: u64,
    /// All tasks, in the order of creation.
    pub tasks: Vec<Task>,
    /// The select/poll family; `None` when it was not watched.
    pub polls: Option<Vec<Poll>>,
    /// How the select/poll family was watched, or why not.
    pub poll_probes: String,
    /// Whether all this can be trusted.
    pub audit: Audit,
}

/// What was run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Workload {
    /// The command line.
    pub argv: Vec<String>,
    /// Exit code of the first process; `None` when a signal ended it or it had
    /// not ended.
    pub exit_code: Option<i32>,
    /// Signal that ended the first process.
    pub signal: Option<i32>,
    /// From the first task's creation to the last one's end (or to the end of
    /// the recording).
    pub duration_ns: u64,
    /// CPUs online on the machine that was traced.
    pub cpus: u32,
    /// Kernel release of that machine.
    pub kernel: String,
    /// Its architecture.
    pub arch: String,
}

/// A figure that is exact, or bounded where time is unknown: `lower` counts
/// unknown time as running, `upper` as what makes the figure largest: blocked
/// (all blocked), or waiting for a CPU (starved).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Episodes {
    /// Total time, at least.
    pub lower_ns: u64,
    /// Total time, at most.
    pub upper_ns: u64,
    /// Number of maximal intervals, by the lower bound's count.
    pub episodes: u64,
    /// The longest of them.
    pub longest_ns: u64,
    /// When the longest began; `None` when there is none.
    pub longest_start_ns: Option<u64>,
}

/// Time during which exactly `count` tasks were in a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct AtOnce {
    /// How many tasks.
    pub count: u32,
    /// How long. Unknown time counts as running in the profile of blocked
    /// tasks, and as blocked in the profile of running tasks.
    pub ns: u64,
}

/// What a group is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum GroupKind {
    /// Everything that the workload started.
    Tree,
    /// The threads of one process.
    Process,
}

/// Tasks that are compared with each other.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Group {
    /// What it is.
    pub kind: GroupKind,
    /// Serial of the process's first task; 0 for the tree.
    pub id: u32,
    /// Its tgid; for the tree that of the first process.
    pub pid: u32,
    /// Name of the process; for the tree that of the first process.
    pub name: String,
    /// Serials of its tasks (see [`Task::serial`]).
    pub tasks: Vec<u32>,
    /// Time during which at least one task lived.
    pub lifetime_ns: u64,
    /// Most tasks that lived at the same time.
    pub most_live: u32,
    /// All of two or more live tasks were blocked.
    pub all_blocked: Episodes,
    /// The same by what can be said of it, most time first.
    pub verdicts: Vec<VerdictSum>,
    /// No task ran and at least one wanted to.
    pub starved: Episodes,
    /// By number of blocked tasks, ascending; sums to `lifetime_ns`.
    pub blocked_at_once: Vec<AtOnce>,
    /// By number of running tasks, ascending; sums to `lifetime_ns`.
    pub running_at_once: Vec<AtOnce>,
    /// Time during which the state of at least one live task is unknown.
    pub unknown_ns: u64,
}

/// How a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It exited or was killed under trace.
    Ended,
    /// It lived when the recording ended.
    Alive,
    /// It was gone after another thread of its process executed a program.
    ReplacedByExec,
    /// Its end is not in the trace.
    Unknown,
}

/// One task. `running + runnable + blocked + stopped + unknown` is exactly
/// `end - start`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Task {
    /// The task's identity: a tid can be used twice, a serial is not.
    pub serial: u32,
    /// Its last tid.
    pub tid: u32,
    /// Its process (tgid).
    pub pid: u32,
    /// Its parent process.
    pub ppid: u32,
    /// Its last name.
    pub name: String,
    /// When it was created.
    pub start_ns: u64,
    /// When it was switched out for the last time, or the end of the recording.
    pub end_ns: u64,
    /// How it ended.
    pub fate: Fate,
    /// On a CPU.
    pub running_ns: u64,
    /// Wanted a CPU.
    pub runnable_ns: u64,
    /// Asleep.
    pub blocked_ns: u64,
    /// Stopped, traced or frozen.
    pub stopped_ns: u64,
    /// Not known.
    pub unknown_ns: u64,
    /// Time whose sums are known (they are in the figures above), but not when
    /// in it the task ran or slept: records were lost there.
    pub unplaced_ns: u64,
    /// Blocks.
    pub blocks: u64,
    /// The longest block.
    pub longest_block_ns: u64,
    /// The longest wait for a CPU.
    pub longest_runnable_ns: u64,
    /// Blocks by what the task waited in, most time first.
    pub waits: Vec<Wait>,
    /// Who ended its blocks, most blocked time first.
    pub wakers: Vec<Waker>,
    /// Its longest blocks, longest first; only the first few.
    pub longest_blocks: Vec<LongBlock>,
    /// Context switches.
    pub switches: Switches,
    /// CPU time that the kernel charged, for comparison: it counts from the
    /// wakeup of a task onto an idle CPU, so it can be more than `running_ns`.
    pub kernel_cpu_ns: Option<u64>,
    /// Whether it is followed; `false`: the task table was full, all its time is
    /// unknown.
    pub followed: bool,
}

/// Blocks of one task for one reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Wait {
    /// Family: `select`, `poll`, `epoll`, `futex`, `read`, …, `page fault`, `stop`.
    pub reason: String,
    /// The syscall's name, or `syscall 999` for an unknown number; `None` when
    /// the task was not in a syscall.
    pub syscall: Option<String>,
    /// Can a signal end it?
    pub interruptible: bool,
    /// Total time.
    pub ns: u64,
    /// Number of blocks.
    pub count: u64,
    /// The longest.
    pub longest_ns: u64,
    /// Of the blocks, those cut off by the end of the recording.
    pub cut_off: u64,
    /// Of the blocks, those that a timer ended after about the time that the call
    /// had at most.
    pub timeouts: u64,
    /// What it waited for, most time first, as far as that is known; only the
    /// first few.
    pub objects: Vec<ObjectWait>,
    /// How many more there are.
    pub other_objects: u64,
}

/// Context switches of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Switches {
    /// Seen by our probe.
    pub traced: u64,
    /// Counted by the kernel; `None` while the task lives.
    pub kernel: Option<u64>,
}

/// One task's calls of one syscall of the select/poll family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Poll {
    /// The task.
    pub serial: u32,
    /// Its tid.
    pub tid: u32,
    /// `select`, `pselect6`, `poll`, `ppoll`, `epoll_wait`, `epoll_pwait`, `epoll_pwait2`.
    pub syscall: String,
    /// Calls that returned.
    pub calls: u64,
    /// Of these: found something ready and did not block.
    pub ready_at_once: u64,
    /// Of these: blocked at least once.
    pub blocked: u64,
    /// Of these: returned 0.
    pub timed_out: u64,
    /// Of these: returned 0 without blocking.
    pub empty_at_once: u64,
    /// Of these: failed (a signal, a bad argument).
    pub failed: u64,
    /// Calls under way when the task or the recording ended.
    pub unfinished: u64,
    /// Most fds that one call waited for; `None` for epoll, whose arguments do
    /// not tell, and where they could not be read.
    pub max_fds: Option<u32>,
}

/// Something that makes the report weaker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Weakness {
    /// What it is, for programs: `ring_full`, `no_ring`, `other_records`,
    /// `table_full`, `end_missing`, `file_damaged`, `write_failed`,
    /// `switches_differ`, `wakeup_missing`, `cut_short`.
    pub kind: String,
    /// How many records, tasks, …
    pub count: u64,
    /// From when; `None` when it can't be placed.
    pub start_ns: Option<u64>,
    /// Until when.
    pub end_ns: Option<u64>,
    /// A sentence for people, with the option that would avoid it if there is one.
    pub text: String,
}

/// Whether the report can be trusted.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Audit {
    /// No record lost, no task missed, every task's switches as the kernel counts.
    pub complete: bool,
    /// Records that found no room or were lost with a part of the file.
    pub lost_records: u64,
    /// Tasks of the workload that are not followed.
    pub tasks_not_followed: u64,
    /// Context switches seen, over the tasks that the kernel's count is known of.
    pub switches_traced: u64,
    /// The kernel's count of the same.
    pub switches_kernel: u64,
    /// Time whose place is not known, over all tasks: unknown and unplaced.
    pub unknown_ns: u64,
    /// CPU time of forktrace itself while it recorded; `None` when the recording
    /// has no end. The time in its kernel programs is charged to the workload.
    pub tracer_cpu_ns: Option<u64>,
    /// Blocks that found an early wakeup and have length 0.
    pub early_wakeups: u64,
    /// Our running time, over the tasks that ended.
    pub running_ns: u64,
    /// The kernel's CPU time of the same tasks.
    pub kernel_cpu_ns: u64,
    /// Everything that makes the report weaker, worst first.
    pub weaknesses: Vec<Weakness>,
}
