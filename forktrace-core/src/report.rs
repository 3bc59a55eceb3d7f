//! What a report says: plain figures, computed by `analysis`, shown by `render`.
//!
//! The JSON report is this structure as serde writes it, so a change of a name
//! here changes the interface. The comments are the descriptions in its schema,
//! `docs/report.schema.json`, which `cargo xtask schema` writes. Times are
//! nanoseconds since the trace began; durations are nanoseconds.
//!
//! `None` (JSON `null`) always means "not known" or "not measured", never 0.

mod audit;
mod findings;
mod lags;
mod locks;
mod moment;
mod overview;
mod part;
mod relations;
mod schema;
#[cfg(test)]
pub(crate) mod schema_check;
mod spread;
mod task;
mod timeline;
mod why;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

pub use self::audit::*;
pub use self::findings::*;
pub use self::lags::*;
pub use self::locks::*;
pub use self::moment::*;
pub use self::overview::*;
pub use self::part::*;
pub use self::relations::*;
pub use self::schema::{schema, schema_of};
pub use self::spread::*;
pub use self::task::*;
pub use self::timeline::*;
pub use self::why::*;
pub use crate::trace::InterruptKind;
pub use crate::words;

/// Version of the JSON report; a reader that knows this number can read it.
pub const SCHEMA_VERSION: u32 = 1;

/// What `forktrace --format json` writes. Points in time are nanoseconds since the trace
/// began, durations are nanoseconds. `None` always means not known or not measured, never
/// 0. Later versions with the same `schema_version` may add properties, and values where a
/// description lists them by way of example.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Report {
    /// Version of this format; it changes when a property changes its meaning or goes away.
    #[schemars(extend("const" = SCHEMA_VERSION))]
    pub schema_version: u32,
    /// What was run, where and how it ended.
    pub workload: Workload,
    /// The part of the recording that is reported on; `None`: all of it.
    pub part: Option<Part>,
    /// What is worth telling, the most important first: by the wall time that it took, but
    /// deadlocks and hangs first, and that nothing is wrong after all that took a tenth of
    /// the run. Never empty.
    pub findings: Vec<Finding>,
    /// What the run took its time for; empty when wakers were left out.
    pub path: CriticalPath,
    /// What the tasks of each role did when; only of the first few roles.
    pub timeline: RoleTimeline,
    /// Tasks that do the same job, the most important first: by how much of the critical path
    /// was theirs, then by what they ran and wanted to run. No more than 200.
    pub roles: Vec<Role>,
    /// What tasks waited for, over all tasks, most time first. No more than 200.
    pub waited_for: Vec<WaitedFor>,
    /// Locks, and what else can be one, most time waited first, with who had them. No more
    /// than 200; holders are looked for of the first 20.
    pub locks: Vec<Lock>,
    /// Sets of tasks that are compared with each other: the whole tree first, then each
    /// process that had two tasks or more or blocked at all, in the order of creation. With
    /// `--group-by`, tasks of one name or one role in place of a process's.
    pub groups: Vec<Group>,
    /// The longest episodes in which all tasks of a group were blocked (`--episodes N`): the
    /// tree's, then those of all processes, each longest first. A workload of one process has
    /// the tree's only.
    pub episodes: Vec<Episode>,
    /// The same, as many as tables have, where they are made of this report too.
    #[serde(skip)]
    pub more_episodes: Option<Vec<Episode>>,
    /// All such episodes by what they are put down to: the tree's, then each
    /// process's, each worst first. A workload of one process has the tree's only.
    pub causes: Vec<Cause>,
    /// What the kernel stopped, longest first; only the first few.
    pub stops: Vec<Stop>,
    /// How many more there are.
    pub other_stops: u64,
    /// All tasks (threads), in the order of creation.
    pub tasks: Vec<Task>,
    /// Calls of the select/poll family, a row a task and syscall; `None` when they were not
    /// watched (see `poll_probes`).
    pub polls: Option<Vec<Poll>>,
    /// How the select/poll family was watched, or why it was not. For people.
    pub poll_probes: String,
    /// Where tasks blocked (`off_cpu`) and where they were woken (`wakeup`), blocks with the
    /// same stack put together, most time first; `None` when stacks were not taken (`--stacks`).
    pub stacks: Option<Vec<StackUse>>,
    /// How much of the time blocked has such a stack, of the program; `None` as above.
    pub stack_coverage: Option<StackCoverage>,
    /// What the workload said about itself on the descriptor that `FORKTRACE_MARKS_FD`
    /// names, by time.
    pub marks: Vec<Mark>,
    /// Cgroups of the workload that the kernel held off the CPUs because of a limit on their
    /// CPU time. Their tasks were waiting for a CPU then, not blocked.
    pub throttled: Vec<Throttled>,
    /// Who had the CPUs that tasks of the workload waited for while they were ready to run,
    /// for 0.1 ms or more at a time, most time first.
    pub cpu_users: Vec<CpuUser>,
    /// For how long a task of the workload waited for a CPU that it then got, the sum over
    /// the CPUs: `cpu_users` and `cpu_users_unknown_ns` add up to this.
    pub cpu_wanted_ns: u64,
    /// Of `cpu_wanted_ns`, the time of which it is not known who had the CPU, if anybody had
    /// it. Of tasks that are not traced those are seen that give the CPU up to a task of the
    /// workload, and the last turn of others that still want the CPU then.
    pub cpu_users_unknown_ns: u64,
    /// How long data waited in TCP sockets until tasks looked; `None`: that was not recorded
    /// (`--lag`).
    pub lags: Option<Lags>,
    /// Pairs of tasks: were they blocked at the same time more than by chance? See
    /// `pair_tests` for which pairs these are. Association is no cause.
    pub pairs: Vec<Pair>,
    /// Which pairs were tested, and how.
    pub pair_tests: PairTests,
    /// The wait-for graph: how long each task was blocked until whom woke it, most time
    /// first; no more than 20,000.
    pub waits_for: Vec<WaitsFor>,
    /// What is left out of `waits_for`.
    pub other_edges: OtherEdges,
    /// Deadlocks that were found while the workload ran, in the order of time.
    pub deadlocks: Vec<Deadlock>,
    /// Whether all this can be trusted.
    pub audit: Audit,
}

/// What was run.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Workload {
    /// The command line; empty where a recording was attached to what ran already.
    pub argv: Vec<String>,
    /// What it was attached to, each in words; `None`: a command was run.
    pub attached: Option<Vec<String>>,
    /// The recorder that wrote the file that `attached` names (`forktrace import`); `None`:
    /// forktrace recorded it.
    pub imported: Option<String>,
    /// Why the last seconds were saved (`forktrace watch`); `None`: they are all that was
    /// recorded.
    pub saved: Option<Saved>,
    /// Exit code of the first process; `None` when a signal ended it or it had
    /// not ended.
    pub exit_code: Option<i32>,
    /// Number of the signal that ended the first process; `None` when none did.
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

/// Why the last seconds of a recording were saved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Saved {
    /// The condition that came true, as it was given.
    pub condition: String,
    /// When it did.
    pub at_ns: u64,
}

/// A figure that is exact, or bounded where time is unknown: `lower` counts
/// unknown time as running, `upper` as what makes the figure largest: blocked
/// (all blocked), or waiting for a CPU (starved).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Episodes {
    /// Total time, at least.
    pub lower_ns: u64,
    /// Total time, at most.
    pub upper_ns: u64,
    /// Number of maximal intervals of the state, by the lower bound's count.
    pub episodes: u64,
    /// Length of the longest of them.
    pub longest_ns: u64,
    /// When the longest began; `None` when there is none.
    pub longest_start_ns: Option<u64>,
}

/// Time during which exactly `count` tasks were in a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct AtOnce {
    /// How many tasks.
    pub count: u32,
    /// How long. Unknown time counts as running in the profile of blocked
    /// tasks, and as blocked in the profile of running tasks.
    pub ns: u64,
}

/// Time during which exactly `count` tasks were blocked for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct WaitingAtOnce {
    /// As in [`Wait::reason`].
    pub reason: String,
    /// How many tasks, at least one.
    pub count: u32,
    /// How long. Unknown time counts as not blocked.
    pub ns: u64,
    /// Of this, with another task of the group running. Unknown time counts as
    /// not running.
    pub others_running_ns: u64,
}

/// Who had CPUs that tasks of the workload waited for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct CpuUser {
    /// Role of tasks of the workload (see `tasks[].role`), name of the process for others.
    pub name: String,
    /// They are of the workload.
    pub traced: bool,
    /// How long they had CPUs that a task of the workload waited for at that time: exact for
    /// tasks of the workload, at least that long for others.
    pub ns: u64,
}

/// What a group is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum GroupKind {
    /// Everything that the workload started.
    Tree,
    /// The threads of one process.
    Process,
    /// Tasks with the same name (`--group-by name`).
    Name,
    /// Tasks with the same role (`--group-by role`).
    Role,
    /// Tasks whose processes are in the same cgroup (`--group-by cgroup`).
    Cgroup,
}

/// Tasks that are compared with each other.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Group {
    /// What it is.
    pub kind: GroupKind,
    /// Serial of the process's first task, or of the first task with this name or role or in this
    /// cgroup; 0 for the tree.
    pub id: u32,
    /// Pid (tgid) of the process; for others that of the first task.
    pub pid: u32,
    /// Name of the process, the name or the role that all have, or the path of their cgroup; for
    /// the tree that of the first process.
    pub name: String,
    /// Serials of its tasks (see [`Task::serial`]).
    pub tasks: Vec<u32>,
    /// Time during which at least one of its tasks lived.
    pub lifetime_ns: u64,
    /// Most of its tasks that lived at the same time.
    pub most_live: u32,
    /// Time during which two tasks or more lived and all of them were blocked.
    pub all_blocked: Episodes,
    /// The same by what can be said of it, most time first.
    pub verdicts: Vec<VerdictSum>,
    /// Time during which no task ran and at least one wanted to.
    pub starved: Episodes,
    /// Where its time went.
    pub wall: Wall,
    /// Time by number of blocked tasks, ascending; sums to `lifetime_ns`. Unknown time counts
    /// as running.
    pub blocked_at_once: Vec<AtOnce>,
    /// Time by number of running tasks, ascending; sums to `lifetime_ns`. Unknown time counts
    /// as blocked.
    pub running_at_once: Vec<AtOnce>,
    /// Time by what tasks were blocked in and how many of them were, reasons ascending.
    pub waiting_at_once: Vec<WaitingAtOnce>,
    /// Time during which the state of at least one live task is unknown.
    pub unknown_ns: u64,
    /// When tasks were stopped, traced or frozen: each time from the first one's stop
    /// until none was, but no more than the first 1000 times.
    pub stops: Vec<GroupStop>,
    /// What its tasks did during the spans that the workload marked (marks with `since`), a
    /// row for each name.
    pub spans: Vec<Span>,
}

/// A time during which tasks of a group were stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct GroupStop {
    /// When the first one was.
    pub start_ns: u64,
    /// When none was any more.
    pub end_ns: u64,
    /// Most tasks that were at once.
    pub tasks: u32,
    /// How many lived then.
    pub of: u32,
    /// From the first one's stop until so many were.
    pub spread_ns: u64,
}

/// What the tasks of a group did during all marked spans of one name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Span {
    /// Name of the marks.
    pub name: String,
    /// Number of spans.
    pub count: u64,
    /// Time in at least one of the spans.
    pub ns: u64,
    /// Of that, time in which at least one task of the group ran.
    pub ran_ns: u64,
    /// Of that, time in which two or more tasks of the group lived and all were blocked.
    pub all_blocked_ns: u64,
    /// The 99th percentile, over the spans, of the time all blocked in each.
    pub all_blocked_p99_ns: u64,
    /// The most time all blocked in one span.
    pub all_blocked_longest_ns: u64,
}

/// One task's calls of one syscall of the select/poll family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Poll {
    /// The task.
    pub serial: u32,
    /// Its tid.
    pub tid: u32,
    /// For example `select`, `pselect6`, `poll`, `ppoll`, `epoll_wait`, `epoll_pwait`,
    /// `epoll_pwait2`. The C library's select() arrives as pselect6 on many machines.
    pub syscall: String,
    /// Calls that returned.
    pub calls: u64,
    /// Of the calls, those that found something ready and did not block.
    pub ready_at_once: u64,
    /// Of the calls, those that blocked at least once.
    pub blocked: u64,
    /// Of the calls, those that returned 0.
    pub timed_out: u64,
    /// Of the calls, those that returned 0 without blocking.
    pub empty_at_once: u64,
    /// Of the calls, those that failed: a signal, a bad argument.
    pub failed: u64,
    /// Calls under way when the task or the recording ended; not in `calls`.
    pub unfinished: u64,
    /// Most file descriptors that one call waited for; `None` for epoll, whose arguments do
    /// not tell, and where they could not be read.
    pub max_fds: Option<u32>,
}

/// What a stack is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StackKind {
    /// Where a task blocked.
    OffCpu,
    /// Where a task was woken, by whom.
    Wakeup,
}

/// How much of the time blocked has a stack of the program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct StackCoverage {
    /// Of all blocks.
    pub all: StackShare,
    /// Of those that lasted for 1 ms or longer.
    pub long: StackShare,
    /// Why the rest of the latter has none that goes back to where its thread began, most time
    /// first; only the first few.
    pub lacks: Vec<StackLack>,
}

/// Time blocked without a stack that goes back to where its thread began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct StackLack {
    /// Why: what the stack ends with, where it was cut off.
    pub why: String,
    /// The time, blocked, summed over the tasks.
    pub ns: u64,
    /// Number of blocks.
    pub count: u64,
}

/// How much of some time has a stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct StackShare {
    /// The time, blocked, summed over the tasks.
    pub blocked_ns: u64,
    /// Of that, with a stack of the program, be it cut off.
    pub with_stack_ns: u64,
    /// Of that, with one that goes back to where its thread began.
    pub whole_ns: u64,
}

/// Blocks with the same stack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct StackUse {
    /// What it is of.
    pub kind: StackKind,
    /// Name of the task whose stack it is: that blocked, or that woke. For an
    /// interrupt `[interrupt]`.
    pub name: String,
    /// Of a wakeup: name of the task that was woken.
    pub wakee: Option<String>,
    /// Functions, outermost first; those of the kernel end in `_[k]`, those without a name are
    /// addresses in brackets.
    pub frames: Vec<String>,
    /// The program's part does not go back to where its thread began: the outermost frame says
    /// why, if that is known.
    pub cut_off: bool,
    /// Blocked time that began, or ended, there.
    pub ns: u64,
    /// Number of blocks.
    pub count: u64,
}

/// Something that the workload said about itself, on the descriptor that
/// `FORKTRACE_MARKS_FD` names.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Mark {
    /// What it is about.
    pub name: String,
    /// When, as the workload says; `None`: it does not say.
    pub time_ns: Option<u64>,
    /// When what it speaks of began; `None`: it speaks of a moment.
    pub since_ns: Option<u64>,
    /// Its value, of any kind; null when it has none.
    pub value: Value,
    /// All else that it says.
    #[serde(flatten)]
    pub fields: Map<String, Value>,
}

/// A cgroup that the kernel held off the CPUs because of its limit. Its tasks were
/// waiting for a CPU then, not blocked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Throttled {
    /// Its path.
    pub cgroup: String,
    /// Periods of the limit in which it was held off.
    pub periods: u64,
    /// How long: the sum over the CPUs.
    pub ns: u64,
    /// The limit: µs of CPU time per period; `None` when not known.
    pub quota_us: Option<u64>,
    /// The period in µs; `None` when not known.
    pub period_us: Option<u64>,
}
