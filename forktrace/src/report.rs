//! What a report says: plain figures, computed by `analysis`, shown by `render`.
//!
//! The JSON report is this structure as serde writes it, so a change of a name
//! here changes the interface: see `docs/report.schema.json`. Times are
//! nanoseconds since the trace began; durations are nanoseconds.
//!
//! `None` (JSON `null`) always means "not known" or "not measured", never 0.

mod timeline;
mod why;

use serde::Serialize;
use serde_json::{Map, Value};

pub use self::timeline::*;
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
    /// Where tasks blocked and where they were woken, most time first; `None` when
    /// stacks were not taken.
    pub stacks: Option<Vec<StackUse>>,
    /// What the workload said about itself, by time.
    pub marks: Vec<Mark>,
    /// Cgroups of the workload that the kernel held off the CPUs because of a limit.
    pub throttled: Vec<Throttled>,
    /// Pairs of tasks: were they blocked together more than by chance?
    pub pairs: Vec<Pair>,
    /// Which pairs were tested, and how.
    pub pair_tests: PairTests,
    /// Who ended whose waits, longest first.
    pub waits_for: Vec<WaitsFor>,
    /// Deadlocks that were found while the workload ran, by time.
    pub deadlocks: Vec<Deadlock>,
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

/// Time during which exactly `count` tasks were blocked for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
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
    /// By what tasks were blocked in and how many of them were, names ascending.
    pub waiting_at_once: Vec<WaitingAtOnce>,
    /// Time during which the state of at least one live task is unknown.
    pub unknown_ns: u64,
    /// When tasks were stopped, traced or frozen: each time from the first one's stop
    /// until none was, but no more than the first 1000 times.
    pub stops: Vec<GroupStop>,
    /// What its tasks did during the spans that the workload marked, by name.
    pub spans: Vec<Span>,
}

/// A time during which tasks of a group were stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Span {
    /// Name of the marks.
    pub name: String,
    /// Number of spans.
    pub count: u64,
    /// Time in at least one of them.
    pub ns: u64,
    /// Of that, time in which at least one task ran.
    pub ran_ns: u64,
    /// Of that, time in which two or more tasks lived and all were blocked.
    pub all_blocked_ns: u64,
    /// The 99th percentile, over the spans, of the time all blocked in each.
    pub all_blocked_p99_ns: u64,
    /// The most of that in one span.
    pub all_blocked_longest_ns: u64,
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
    /// What it shares with its creator, by the flags of its clone: `memory`,
    /// `files`, `signal handlers`, `file system`, `thread group`. A thread shares
    /// all of these, a forked process none.
    pub shares: Vec<String>,
    /// When it was created.
    pub start_ns: u64,
    /// When it ran for the first time; `None`: it did not, or it is not known.
    pub first_run_ns: Option<u64>,
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
    /// Of the time, that in which another task of its process ran.
    pub others_ran_ns: u64,
    /// Of the time, that in which its process had other tasks and all were
    /// blocked.
    pub others_blocked_ns: u64,
    /// Another task of its process that ran during the longest of the blocks.
    pub witness: Option<Witness>,
    /// Of the blocks, those that a timer ended after about the time that the call
    /// had at most.
    pub timeouts: u64,
    /// What it waited for, most time first, as far as that is known; only the
    /// first few.
    pub objects: Vec<ObjectWait>,
    /// How many more there are.
    pub other_objects: u64,
}

/// A task that ran while another one was blocked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Witness {
    /// Its serial.
    pub serial: u32,
    /// Its tid.
    pub tid: u32,
    /// Its name.
    pub name: String,
    /// The CPU that it ran on; `None`: not known.
    pub cpu: Option<u32>,
    /// From when it ran.
    pub start_ns: u64,
    /// Until when it ran, within the block.
    pub end_ns: u64,
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

/// What a stack is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StackKind {
    /// Where a task blocked.
    OffCpu,
    /// Where a task was woken, by whom.
    Wakeup,
}

/// Blocks with the same stack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StackUse {
    /// What it is of.
    pub kind: StackKind,
    /// Name of the task whose stack it is: that blocked, or that woke. For an
    /// interrupt `[interrupt]`.
    pub name: String,
    /// Of a wakeup: name of the task that was woken.
    pub wakee: Option<String>,
    /// The functions, outermost first; those of the kernel end in `_[k]`.
    pub frames: Vec<String>,
    /// Does the program's part not go back to where the thread began?
    pub cut_off: bool,
    /// Blocked time that began, or ended, there.
    pub ns: u64,
    /// Number of blocks.
    pub count: u64,
}

/// Something that the workload said about itself, on the descriptor that
/// `FORKTRACE_MARKS_FD` names.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Mark {
    /// What it is about.
    pub name: String,
    /// When, as the workload says; `None`: it does not say.
    pub time_ns: Option<u64>,
    /// When what it speaks of began; `None`: it speaks of a moment.
    pub since_ns: Option<u64>,
    /// Its value, of any kind; null: none.
    pub value: Value,
    /// All else that it says.
    #[serde(flatten)]
    pub fields: Map<String, Value>,
}

/// A cgroup that the kernel held off the CPUs because of its limit. Its tasks were
/// waiting for a CPU then, not blocked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Throttled {
    /// Its path.
    pub cgroup: String,
    /// Periods of the limit in which it was held off.
    pub periods: u64,
    /// How long: the sum over the CPUs.
    pub ns: u64,
    /// The limit: CPU time a period, µs; `None`: not known.
    pub quota_us: Option<u64>,
    /// The period, µs.
    pub period_us: Option<u64>,
}

/// Two tasks, over the time that both lived and both are known.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Pair {
    /// Serial of the task that was created first.
    pub a: u32,
    /// Serial of the other.
    pub b: u32,
    /// The time looked at: both lived and both are known.
    pub common_ns: u64,
    /// Time left out since one of them is unknown.
    pub unknown_ns: u64,
    /// Both were blocked.
    pub overlap_ns: u64,
    /// How long both would have been blocked by chance: the product of the times
    /// that each was, divided by `common_ns`.
    pub expected_ns: u64,
    /// `overlap_ns / expected_ns`; `None` when one was never blocked.
    pub lift: Option<f64>,
    /// What was tested; `None`: nothing could be.
    pub test: Option<PairTest>,
    /// Probability of a difference like this, or a larger one, by chance.
    pub p: Option<f64>,
    /// The same, adjusted for the number of pairs (Benjamini–Hochberg).
    pub q: Option<f64>,
    /// What follows.
    pub verdict: PairVerdict,
}

/// What of a pair was compared with chance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PairTest {
    /// How long both were blocked.
    Overlap,
    /// Whether their blocks begin at the same moments, since their overlap can't
    /// tell anything.
    Onset,
}

/// What can be said of a pair. None of it says that one is the cause of the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PairVerdict {
    /// Blocked together as chance would have it.
    Chance,
    /// Blocked together more than by chance.
    Together,
    /// Blocked together less than by chance.
    Apart,
    /// One was blocked nearly always or nearly never, so the overlap tells
    /// nothing; but their blocks begin at the same moments more than by chance.
    StartTogether,
    /// The overlap tells nothing, nor do the moments at which blocks begin.
    Uninformative,
    /// Too few blocks for a test.
    TooFew,
}

/// Which pairs were tested, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PairTests {
    /// Pairs that there are.
    pub possible: u64,
    /// Pairs in the report. Where there are more tasks than `all_up_to_tasks`, it
    /// is those that wake each other, wait for the same things, and are blocked
    /// longest.
    pub tested: u64,
    /// Up to so many tasks, all pairs are in the report.
    pub all_up_to_tasks: u32,
    /// By how many amounts a time line is shifted against the other at most.
    pub shifts: u32,
    /// How much of the time was looked at: of a trace with very many stretches,
    /// evenly spread parts.
    pub looked_at_ns: u64,
}

/// Who ends a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PeerKind {
    /// A task of the workload.
    Task,
    /// A task outside the workload.
    Outside,
    /// A kernel thread.
    KernelThread,
    /// An interrupt.
    Interrupt,
    /// It is not known who.
    Unknown,
    /// Nobody: the wait goes on when the task or the recording ends.
    Nobody,
}

/// One who ends a wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Peer {
    /// What it is.
    pub kind: PeerKind,
    /// Serial, of a task of the workload.
    pub serial: Option<u32>,
    /// Tid, of another task.
    pub tid: Option<u32>,
    /// Name, of another task; `None` when it is not known.
    pub name: Option<String>,
    /// Kind, of an interrupt.
    pub interrupt: Option<InterruptKind>,
}

/// Kinds of interrupts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum InterruptKind {
    /// A timer ran out.
    Timer,
    /// Of a network device.
    Network,
    /// Of a block device.
    Block,
    /// Another.
    Other,
}

/// What one task waited until the other one woke it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WaitsFor {
    /// Serial of the task that waited.
    pub from: u32,
    /// Who woke it. That proves an order, not that it held what was waited for.
    pub to: Peer,
    /// How long it was blocked, in all.
    pub ns: u64,
    /// How often.
    pub count: u64,
}

/// What kind of deadlock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DeadlockKind {
    /// Each holds a lock that the one before waits for.
    Cycle,
    /// All tasks sleep in waits that only they could end.
    AllAsleep,
}

/// Tasks that can never go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Deadlock {
    /// When it was found.
    pub at_ns: u64,
    /// What it is.
    pub kind: DeadlockKind,
    /// The tasks; in a cycle each waits for the next one, the last for the first.
    pub tasks: Vec<DeadlockedTask>,
}

/// A task in a deadlock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeadlockedTask {
    /// Its serial.
    pub serial: u32,
    /// Its tid.
    pub tid: u32,
    /// Its name.
    pub name: String,
    /// What it waits for, for people: `mutex 0x7f…`, `futex 0x7f…`, `child`.
    pub waits_for: String,
    /// Serial of the task that holds it; `None` when that is not known.
    pub owner: Option<u32>,
    /// Since when.
    pub since_ns: u64,
}

/// Something that makes the report weaker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Weakness {
    /// What it is, for programs: `ring_full`, `no_ring`, `other_records`,
    /// `table_full`, `end_missing`, `file_damaged`, `write_failed`,
    /// `switches_differ`, `wakeup_missing`, `cut_short`, `names_missing`, `polls_left_out`.
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

impl Weakness {
    /// Is it said, but leaves the report complete? Nothing is lost then, and no state
    /// but those named is uncertain.
    pub fn is_note(&self) -> bool {
        const NOTES: [&str; 6] = [
            "stacks_lost",
            "plain",
            "cut_short",
            "switch_in_inferred",
            "marks_refused",
            "names_missing",
        ];
        NOTES.contains(&self.kind.as_str())
    }
}

/// Attempts to find out, while the tasks lived, what they waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct LookUps {
    /// Files and futexes that were looked up.
    pub done: u64,
    /// Of these: the process had ended.
    pub gone: u64,
    /// Of these: it was closed, or something else by then.
    pub changed: u64,
    /// In addition: there was no time to look.
    pub not_looked_up: u64,
    /// CPU time that it took; a part of `tracer_cpu_ns`.
    pub cpu_ns: u64,
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
    /// Blocks whose wakeup was not announced, in all: how much of this they waited
    /// for a CPU is not known.
    pub unwoken_ns: u64,
    /// Our running time, over the tasks that ended.
    pub running_ns: u64,
    /// The kernel's CPU time of the same tasks.
    pub kernel_cpu_ns: u64,
    /// What became of the attempts to find out what tasks waited for; `None` when
    /// the recording has no end.
    pub look_ups: Option<LookUps>,
    /// Everything that makes the report weaker, worst first.
    pub weaknesses: Vec<Weakness>,
}
