//! Why tasks were blocked: what they waited for, who woke them, what came of it.

use schemars::JsonSchema;
use serde::Serialize;

use super::InterruptKind;

/// What a task waited for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, JsonSchema)]
pub struct Object {
    /// `file`, `directory`, `pipe`, `fifo`, `unix socket`, `tcp`, `socket`, `eventfd`,
    /// `timerfd`, `epoll`, `terminal`, `device`, `fds` (several descriptors), `fd` (a descriptor
    /// of which nothing else is known), `futex`, `child`, `page`, `sleep`, …
    pub kind: String,
    /// The same for all who waited for the same thing, and for nothing else in this report.
    pub id: String,
    /// For people: a path, `tcp 127.0.0.1:6379 ↔ 127.0.0.1:50412`, `pipe 1368548`, …
    pub name: String,
}

/// Blocks of one task for one reason on one object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ObjectWait {
    /// What it waited for.
    #[serde(flatten)]
    pub object: Object,
    /// Total time.
    pub ns: u64,
    /// Number of blocks.
    pub count: u64,
}

/// Blocks that one function of the program waited in. That is the innermost function of the
/// stack that is neither of the C library nor of a runtime.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct CodeWait {
    /// Its name, without parameters: `update_index`, `fetch (app.py:41)`; where it is in its
    /// file if it has none: `nginx+0x41f3c`.
    pub name: String,
    /// Total time.
    pub ns: u64,
    /// Number of blocks.
    pub count: u64,
}

/// What kind of thing ended a block.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum WakerKind {
    /// A task.
    Task,
    /// A task, through a soft interrupt that its own sending ran (loopback).
    TaskSoftirq,
    /// An interrupt. The task that it interrupted has nothing to do with it.
    Interrupt,
    /// The record does not tell.
    #[default]
    Unknown,
    /// Nobody: it was still asleep when the trace ended.
    Nobody,
}

/// Who ended a block. A waker proves order: it says who went before, not who held
/// what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct WokenBy {
    /// What it was.
    pub kind: WakerKind,
    /// The task, if it is one of the workload.
    pub serial: Option<u32>,
    /// Its tid, if it is a task.
    pub tid: Option<u32>,
    /// Its name, if it is a task whose name is known.
    pub name: Option<String>,
    /// It is a task, and not one of the workload.
    pub outside: bool,
    /// It is a kernel thread.
    pub kernel_thread: bool,
    /// If it is an interrupt: what it was for.
    pub interrupt: Option<InterruptKind>,
    /// If it is a device's interrupt: its name, as `/proc/interrupts` has it.
    pub device: Option<String>,
}

/// Blocks of one task that one waker ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Waker {
    /// Who.
    #[serde(flatten)]
    pub by: WokenBy,
    /// Blocks that it ended, those of length 0 included.
    pub count: u64,
    /// How long they were in all.
    pub ns: u64,
}

/// A task, named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct TaskName {
    /// Its serial.
    pub serial: u32,
    /// Its tid.
    pub tid: u32,
    /// Its name.
    pub name: String,
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// What it waited for came: somebody brought it, or a sleeper's time was over.
    Fulfilled,
    /// The time that its call had at most was over.
    TimedOut,
    /// A signal that the task survived.
    Interrupted,
    /// The task was killed, or the recording ended.
    CutShort,
    /// The record does not tell.
    Unknown,
}

/// One task's block, as a link of a chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Link {
    /// Who was blocked.
    #[serde(flatten)]
    pub task: TaskName,
    /// In what: see [`super::Wait::reason`].
    pub reason: String,
    /// In which syscall.
    pub syscall: Option<String>,
    /// What it waited for; `None` when that is not known.
    pub object: Option<Object>,
    /// How long the call waits at most; `None` when it has no limit or that is not known.
    pub timeout_ns: Option<u64>,
    /// When it blocked.
    pub start_ns: u64,
    /// When it was woken; `None`: not before the trace ended.
    pub end_ns: Option<u64>,
    /// How it ended.
    pub ended: Ended,
    /// Who woke it.
    pub woken_by: WokenBy,
    /// The function that waited, as [`CodeWait::name`]; `None` when there is no stack that
    /// tells.
    pub code: Option<String>,
}

/// The wait that a stall is put down to: had it been shorter, so had been the stall.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct EndedBy {
    /// Who waited.
    #[serde(flatten)]
    pub task: TaskName,
    /// In what.
    pub reason: String,
    /// In which syscall.
    pub syscall: Option<String>,
    /// What it waited for; `None` when that is not known.
    pub object: Option<Object>,
    /// How it ended.
    pub how: Ended,
    /// When it began; of a wait that was taken up again, the last time.
    pub start_ns: u64,
    /// When it ended; `None`: not before the trace did.
    pub end_ns: Option<u64>,
    /// Why it did not end when the stall did; `None`: it did.
    pub apart: Option<Apart>,
    /// As [`Link::code`].
    pub code: Option<String>,
}

/// Why the wait that a stall is put down to did not end when the stall did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Apart {
    /// Nothing that was waited for came: a signal ended the stall, or the recording did.
    CutShort,
    /// It could never have ended: a deadlock or a hang.
    Stuck,
    /// Another task's wait ended a moment before, and nobody was behind that one.
    AMomentLater,
}

/// What can be said of a stall.
///
/// It is put down to the wait whose end ended it ([`EndedBy`]). Whoever was woken by that
/// task after it, directly or in turn, was behind it. Whoever was not is idle, or waits
/// for something of its own. Idle are those who wait for input from outside the group or
/// for a time; those whom nobody woke before the end of the trace or of their process; and
/// those whose waker waited for input again before it woke them.
///
/// Where nothing that was waited for came before a signal or the end of the trace, those
/// who could have brought it tell. A waker proves order, not ownership.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Others were behind the wait that ended it.
    Caused,
    /// Nobody was behind it, and all but the idle waited for the same thing, for the same
    /// disk, or were woken by the same process outside the group. It can be a single one:
    /// then all others had nothing to do.
    CommonCause,
    /// Nobody was behind it, and others waited for something of their own.
    Coincidence,
    /// Nobody was behind it, and all were idle.
    Idle,
    /// Tasks of the group could never have gone on: a deadlock or a hang.
    Stuck,
    /// The record does not tell.
    Unknown,
}

/// Something that several blocked tasks waited for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Shared {
    /// What.
    #[serde(flatten)]
    pub object: Object,
    /// Serials of the tasks.
    pub tasks: Vec<u32>,
}

/// The wakeup that ended an episode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Terminator {
    /// Who was woken.
    #[serde(flatten)]
    pub task: TaskName,
    /// By whom.
    pub woken_by: WokenBy,
}

/// The last task to block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Trigger {
    /// Who.
    #[serde(flatten)]
    pub task: TaskName,
    /// When. Before the episode's start when that came by the end of another task.
    pub at_ns: u64,
}

/// A stall: an interval in which all of two or more live tasks of a group were blocked. A
/// task that looked up for a moment, since the time of its call was over or a signal came,
/// and then went on with the same wait, does not end it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Episode {
    /// [`super::Group::id`].
    pub group: u32,
    /// When it began.
    pub start_ns: u64,
    /// When it ended.
    pub end_ns: u64,
    /// How long all were blocked: all of it but the look-ups.
    pub ns: u64,
    /// How often a task looked up and went on with the same wait.
    pub look_ups: u64,
    /// What can be said of it.
    pub verdict: Verdict,
    /// The wait that it is put down to: had it been shorter, so had been the stall.
    /// `None`: the record does not tell.
    pub ended_by: Option<EndedBy>,
    /// Tasks that lived, all of them blocked.
    pub tasks: u32,
    /// The last of them to block.
    pub trigger: Option<Trigger>,
    /// The first of them to be woken; `None`: the trace ended first.
    pub terminator: Option<Terminator>,
    /// From a blocked task to its waker, to that one's waker, up to the root and beyond the
    /// group: the longest that leads to the root.
    pub chain: Vec<Link>,
    /// So many links of the chain are of the group. The last of them is the root,
    /// those after it are other tasks of the workload.
    pub chain_in_group: u32,
    /// The chain goes on.
    pub chain_cut: bool,
    /// Links in its middle that are not listed.
    pub chain_left_out: u32,
    /// Tasks whose chains lead to the root.
    pub held: u32,
    /// Tasks that had nothing to do: they waited for input from outside the group, for
    /// a time, or for something from within the group that nobody had for them.
    pub idle: u32,
    /// Of these: nobody woke them before the end of the trace or of their process.
    pub not_woken: u32,
    /// What two or more of them waited for.
    pub shared: Vec<Shared>,
    /// What each of them was in; only the first few, and empty beyond the longest 100 episodes.
    pub blocked: Vec<Link>,
}

/// All episodes of a group with one root cause, whichever tasks waited for it.
///
/// Where one held up others, or was the only one that was not idle, that is what it
/// waited in, and for what. Where nobody held up another, it is who ended the first
/// wait that ended, by kind and name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Cause {
    /// [`super::Group::id`].
    pub group: u32,
    /// What is said of the episodes: `caused` also where in some of them all others
    /// were idle (see `alone_ns`).
    pub verdict: Verdict,
    /// In each of them the root's task was the only one that was not idle.
    pub alone: bool,
    /// How long those were in which it was.
    pub alone_ns: u64,
    /// The last link of their chains, that of the longest of them; `None`: all
    /// others together.
    pub root: Option<Link>,
    /// What the roots' tasks waited for; `None` where it was not the same in all episodes, or
    /// is not known.
    pub object: Option<Object>,
    /// In which syscall; `None` where it was not the same in all of them.
    pub syscall: Option<String>,
    /// Who ended the roots' waits, as far as it was the same in all of them: without
    /// tid and serial where several with one name did.
    pub woken_by: Option<WokenBy>,
    /// How many tasks were a root.
    pub tasks: u32,
    /// Their name; `None` where they have several.
    pub name: Option<String>,
    /// The tasks, worst first; only the first few.
    pub by: Vec<CauseTask>,
    /// How long they were in all.
    pub ns: u64,
    /// How many.
    pub episodes: u64,
    /// The longest.
    pub longest_ns: u64,
}

/// A task's part in a [`Cause`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct CauseTask {
    /// Who.
    #[serde(flatten)]
    pub task: TaskName,
    /// How long the episodes were of which it was the root.
    pub ns: u64,
    /// How many.
    pub episodes: u64,
}

/// All episodes of a group with one verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct VerdictSum {
    /// Which.
    pub verdict: Verdict,
    /// How long they were in all.
    pub ns: u64,
    /// How many.
    pub episodes: u64,
    /// The longest.
    pub longest_ns: u64,
}

/// One of the longest blocks of a task, with the chain of wakers that ended it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LongBlock {
    /// The block itself, then its waker's longest block inside it, and so on.
    pub chain: Vec<Link>,
    /// The chain goes on.
    pub chain_cut: bool,
}

/// How the kernel stopped tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StopKind {
    /// By a stop signal.
    Signal,
    /// By a tracer (a debugger).
    Tracer,
    /// By the freezer of a cgroup, or for suspend.
    Freezer,
    /// For the core dump of its process.
    CoreDump,
    /// Until a child made by `vfork` (or `posix_spawn`) executed its program.
    Vfork,
    /// Until the other threads of its process had ended, to execute a program.
    Exec,
}

/// Tasks of one process that the kernel stopped, together or overlapping.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Stop {
    /// How.
    pub kind: StopKind,
    /// Serial of the process's first task.
    pub process: u32,
    /// Its pid.
    pub pid: u32,
    /// Name of the first of them to be stopped.
    pub name: String,
    /// When the first was stopped.
    pub start_ns: u64,
    /// When the last went on.
    pub end_ns: u64,
    /// Their serials.
    pub tasks: Vec<u32>,
    /// The sum of how long each was stopped.
    pub task_ns: u64,
    /// Who did it: who sent the signal, the tracer, who thawed it, the task that dumped
    /// core, the child, the last of the other threads to end; `None`: not known.
    pub by: Option<WokenBy>,
}
