//! A task: what it did, and what it waited in.

use schemars::JsonSchema;
use serde::Serialize;

use super::{CodeWait, LongBlock, ObjectWait, Spread, Waker};

/// How a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It exited or was killed under trace.
    Ended,
    /// It lived when the recording ended.
    Alive,
    /// Its end is not in the trace.
    Unknown,
}

/// One task. `running + runnable + blocked + stopped + unknown` is exactly
/// `end - start`.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Task {
    /// The task's identity: a tid can be used twice, a serial is not.
    pub serial: u32,
    /// Its last tid (an exec by another thread than the first changes it).
    pub tid: u32,
    /// Its process (tgid).
    pub pid: u32,
    /// Its parent process.
    pub ppid: u32,
    /// Its last name, at most 15 bytes long; not to be trusted, since the program chose it.
    pub name: String,
    /// Tasks that do the same job have the same: the program, the thread's name without
    /// its number, and the program of the parent.
    pub role: String,
    /// A runtime keeps it for itself, as its name says; or nobody ever woke it from the
    /// futex that it slept on for nearly all its life.
    pub helper: bool,
    /// The command line of the last program that it executed; empty when it executed none
    /// itself, or when the command line is not known. The end of a long one is left out. Not
    /// to be trusted: a program can change it.
    pub argv: Vec<String>,
    /// What it shares with its creator, by the flags of its clone: `memory`,
    /// `files`, `signal handlers`, `file system`, `thread group`. A thread shares
    /// all of these, a forked process none.
    pub shares: Vec<String>,
    /// It was there before the recording: `start_ns` is when it was taken in, and its
    /// figures count from then on.
    pub attached: bool,
    /// Of such a task: it was asleep when it was taken in, and had been for about so long;
    /// `None`: it was not, or it is not known.
    pub asleep_before_ns: Option<u64>,
    /// When it was created, or taken in.
    pub start_ns: u64,
    /// When it ran for the first time; `None` when it did not, or when that is not known.
    pub first_run_ns: Option<u64>,
    /// When it was switched out for the last time, or the end of the recording.
    pub end_ns: u64,
    /// How it ended.
    pub fate: Fate,
    /// Time on a CPU.
    pub running_ns: u64,
    /// Time in which it wanted a CPU and had none: new, preempted, or woken and not yet
    /// switched in.
    pub runnable_ns: u64,
    /// Time asleep, until the wakeup that really ended the sleep.
    pub blocked_ns: u64,
    /// Time in which the kernel held it stopped, traced or frozen.
    pub stopped_ns: u64,
    /// Time in which its state is not known.
    pub unknown_ns: u64,
    /// Time whose sums are known (they are in the figures above), but not when
    /// in it the task ran or slept: records were lost there.
    pub unplaced_ns: u64,
    /// How often it blocked.
    pub blocks: u64,
    /// The longest block.
    pub longest_block_ns: u64,
    /// The longest wait for a CPU.
    pub longest_runnable_ns: u64,
    /// How long its blocks were; `None`: it had none.
    pub blocked: Option<Spread>,
    /// How long it waited for a CPU each time, as far as it got one; `None`: it never did.
    pub runnable: Option<Spread>,
    /// Blocks by what the task waited in, most time first.
    pub waits: Vec<Wait>,
    /// Who ended its blocks, most blocked time first; no more than 100, and fewer where there
    /// are more than 1000 tasks.
    pub wakers: Vec<Waker>,
    /// How many more there are.
    pub other_wakers: u64,
    /// Its longest blocks, longest first; only the first few, and, of more than 1000 tasks, only
    /// of those 1000 that were blocked longest at a time.
    pub longest_blocks: Vec<LongBlock>,
    /// Context switches.
    pub switches: Switches,
    /// CPU time in nanoseconds that the kernel charged, for comparison: it can count from the
    /// wakeup of a task onto an idle CPU, and so be more than `running_ns`. `None` when not
    /// known.
    pub kernel_cpu_ns: Option<u64>,
    /// It lived before the part that is reported on: `start_ns` is when that begins.
    pub began_before: bool,
    /// It lived on after the part that is reported on: `end_ns` is when that ends.
    pub goes_on: bool,
    /// It was blocked when the part that is reported on began, since then; `None`: it was not,
    /// or all is reported on.
    pub waiting_since_ns: Option<u64>,
    /// Whether it was followed; false when the task table was full: then all its time is
    /// unknown.
    pub followed: bool,
}

/// Blocks of one task for one reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Wait {
    /// Family of syscalls, or what it was without one: for example `select`, `poll`, `epoll`,
    /// `futex`, `read`, `page fault`, `stop`, `outside syscalls` (for example on the way back
    /// from a signal; a page fault too, where it can't be told), `kernel`.
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
    /// Of the time, that in which its process had other tasks and all of them were blocked.
    pub others_blocked_ns: u64,
    /// Another task of its process that ran during the longest of the blocks: the longest
    /// such run, or one of the longest where there are thousands. `None` when none ran.
    pub witness: Option<Witness>,
    /// Of the blocks, those that a timer ended after about the time that the call had at
    /// most. A call that blocks several times has less left each time, so not every timeout
    /// is seen; [`super::Poll::timed_out`] is exact.
    pub timeouts: u64,
    /// What it waited for, most time first, as far as that is known; only the
    /// first few.
    pub objects: Vec<ObjectWait>,
    /// How many more there are.
    pub other_objects: u64,
    /// The functions of the program that it waited in, most time first, as far as stacks tell;
    /// only the first few.
    pub code: Vec<CodeWait>,
}

/// A task that ran while another one was blocked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Switches {
    /// Seen by our probe.
    pub traced: u64,
    /// Counted by the kernel; `None` while the task lives.
    pub kernel: Option<u64>,
}
