//! What is worth telling: findings, ranked, and the critical path.

use schemars::JsonSchema;
use serde::Serialize;

use super::Object;

/// What a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// Tasks wait in a circle for locks that the others hold.
    Deadlock,
    /// Tasks could never have gone on.
    Hang,
    /// Everything waited for one task.
    Stall,
    /// Tasks queued for one lock.
    Lock,
    /// Tasks were ready to run, and had no CPU.
    Starved,
    /// Everything waited for a disk.
    Disk,
    /// Everything waited for an answer from outside the workload.
    Peer,
    /// One task ran while the others of its kind waited for it.
    Straggler,
    /// The thread that waits for events was blocked elsewhere.
    EventLoop,
    /// All workers of a pool were busy.
    PoolExhausted,
    /// A task asks again and again, and gets nothing.
    BusyLoop,
    /// Several tasks are woken for one event.
    Herd,
    /// A cgroup's limit held tasks off the CPUs.
    Quota,
    /// Tasks waited for pages of memory.
    PageFault,
    /// Tasks were stopped.
    Stopped,
    /// Tasks were created and ended again and again.
    Creation,
    /// Data waited in a socket for a task to read it (`--lag`).
    Lag,
    /// Nothing is wrong: tasks had nothing to do.
    Idle,
}

/// How sure a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Confidence {
    /// The record proves it.
    Proved,
    /// It follows from the record, but for what the record can't show.
    Likely,
    /// It is one way to read the record.
    Possible,
}

/// One thing that is worth telling.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Finding {
    /// What it is about.
    pub kind: FindingKind,
    /// A sentence for people. Names in it are as the workload gave them.
    pub sentence: String,
    /// The wall time that it took.
    pub ns: u64,
    /// The same as a part of the run, 0 to 1.
    pub share: f64,
    /// How sure it is.
    pub confidence: Confidence,
    /// Serials of the tasks that it is about, the most important first; only the first few.
    pub tasks: Vec<u32>,
    /// What it is about, if it is about one thing.
    pub object: Option<Object>,
    /// The function of the program that waited for at least half of the time, as far as stacks
    /// tell.
    pub code: Option<String>,
    /// What it rests on, for people.
    pub evidence: Vec<String>,
    /// What shows more, as options of `forktrace`; `None`: nothing.
    pub next: Option<String>,
}

/// What the run took its time for: from its end back to its start, always along what was
/// waited for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct CriticalPath {
    /// Its length: the wall time of the run.
    pub ns: u64,
    /// Its parts, most time first. They add up to `ns`.
    pub parts: Vec<PathPart>,
    /// Whose waits it goes along: serial and time of each that is blocked on it, ns.
    #[serde(skip)]
    pub blocked: Vec<(u32, u64)>,
}

/// What a task does on the critical path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PathState {
    /// It is on a CPU.
    Running,
    /// It wants a CPU.
    Runnable,
    /// It is asleep.
    Blocked,
    /// It is stopped, traced or frozen.
    Stopped,
    /// It is not known.
    Unknown,
}

/// A part of the critical path: all stretches of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PathPart {
    /// Role of the tasks: see [`super::Task::role`].
    pub role: String,
    /// What they did.
    pub state: PathState,
    /// Of a blocked task: in what, as in [`super::Wait::reason`].
    pub reason: Option<String>,
    /// Of a blocked task: what it waited for.
    pub object: Option<Object>,
    /// How long.
    pub ns: u64,
    /// Stretches.
    pub count: u64,
}
