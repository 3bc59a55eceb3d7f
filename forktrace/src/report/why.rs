//! Why tasks were blocked: what they waited for, who woke them, what came of it.

use serde::Serialize;

/// What a task waited for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Object {
    /// `file`, `directory`, `pipe`, `fifo`, `unix socket`, `tcp`, `socket`, `eventfd`,
    /// `timerfd`, `epoll`, `terminal`, `device`, `fds`, `fd`, `futex`, `child`, `page`,
    /// `sleep`, …
    pub kind: String,
    /// The same for all who waited for the same thing, and for nothing else.
    pub id: String,
    /// For people: a path, `tcp 127.0.0.1:6379 ↔ 127.0.0.1:50412`, `pipe 1368548`, …
    pub name: String,
}

/// Blocks of one task for one reason on one object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ObjectWait {
    /// What it waited for.
    #[serde(flatten)]
    pub object: Object,
    /// Total time.
    pub ns: u64,
    /// Number of blocks.
    pub count: u64,
}

/// What kind of thing ended a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
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

/// What an interrupt was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum InterruptKind {
    /// A time had come.
    Timer,
    /// Something came over the network, or could be sent.
    Network,
    /// A block device had finished.
    Block,
    /// Another.
    Other,
}

/// Who ended a block. A waker proves order: it says who went before, not who held
/// what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Waker {
    /// Who.
    #[serde(flatten)]
    pub by: WokenBy,
    /// Blocks that it ended, those of length 0 included.
    pub count: u64,
    /// How long they were in all.
    pub ns: u64,
}
