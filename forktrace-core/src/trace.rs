//! What a trace consists of: the header, the events, the end. This is what a
//! recording writes and a report reads; it is the same on every architecture.
//!
//! Times are nanoseconds of the traced machine's `CLOCK_MONOTONIC`.

use forktrace_common::event::{PollCounters, timeout};
use serde::{Deserialize, Serialize};

mod arch;
pub mod cgroups;
mod helpers;
pub mod interrupts;
mod last_name;
pub mod marks;
pub mod signals;

pub use self::{
    arch::{Arch, waits},
    helpers::{HelperEnd, HelperLost, HelperOf, How},
    interrupts::InterruptKind,
    last_name::{FOLDERS_UNKNOWN, LastName},
};

/// How calls of select, poll and epoll were counted: part of the trace, so that a
/// report says how it was measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PollWay {
    /// fentry and fexit.
    Fentry,
    /// Syscall tracepoints.
    Tracepoint,
    /// Raw tracepoints of all syscalls.
    Raw,
    /// Not watched, and why.
    None {
        /// The reason, for people.
        why: String,
    },
}

/// What is known when a recording begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Version of forktrace that recorded.
    pub forktrace: String,
    /// The workload's command line.
    pub argv: Vec<String>,
    /// Kernel release (`uname -r`).
    pub kernel: String,
    /// Architecture: which table syscall numbers are of.
    pub arch: Arch,
    /// CPUs online.
    pub cpus: u32,
    /// When the recording began.
    pub start_ns: u64,
    /// The same in wall-clock time, nanoseconds since 1970.
    pub start_unix_ns: u64,
    /// How the select/poll family is watched.
    pub polls: PollWay,
    /// Size of each CPU's ring, bytes.
    pub ring_bytes: u32,
    /// Size of the task table.
    pub max_tasks: u32,
    /// Who woke each task, and what it waited for beyond the syscall, was left out.
    pub plain: bool,
    /// The interrupts of devices: number and names, as `/proc/interrupts` has them.
    pub interrupts: Vec<(u32, String)>,
    /// What it was attached to; `None`: a command was run.
    pub attached: Option<AttachedTo>,
    /// The machine; `None`: an earlier version recorded, which did not say.
    pub machine: Option<Machine>,
    /// The cgroup, in the unified hierarchy, that the workload was in when the recording
    /// began: of several the first's. Empty: not known.
    pub cgroup: String,
    /// Data that waited in a TCP socket for so long or longer until a task looked is in the
    /// trace, ns; `None`: none is.
    pub lag_min_ns: Option<u64>,
    /// Another recorder's file that the trace was made of; `None`: forktrace recorded it.
    pub imported: Option<Imported>,
}

/// Another recorder's file that a trace was made of (`forktrace import`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Imported {
    /// The recorder: `perf sched record`.
    pub from: String,
    /// What such a file does not tell, each in words that go on from "it does not tell".
    pub lacks: Vec<String>,
    /// What is wrong with this file, each a sentence without its full stop.
    pub faults: Vec<String>,
    /// Events that the recorder says it lost.
    pub lost: u64,
}

/// In place of a syscall's number: it was not recorded in which one the task was.
pub const CALL_NOT_RECORDED: i16 = -3;

/// The machine that was traced: what tells its traces from those of others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Its name (`uname -n`).
    pub host: String,
    /// `/etc/machine-id`; empty: it has none, or it can't be read.
    pub id: String,
    /// `/proc/sys/kernel/random/boot_id`: another one each time that it starts; empty: it
    /// can't be read.
    pub boot_id: String,
}

/// What a recording was attached to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachedTo {
    /// What was asked for, each in words that tell it from others: `redis-server (pid 123)`,
    /// `the unit nginx.service`.
    pub targets: Vec<String>,
}

/// Why a task left the CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Why {
    /// It has not run yet.
    New,
    /// It still wanted to run.
    Preempted,
    /// Asleep, any signal can wake it.
    Interruptible,
    /// Asleep, a fatal signal can wake it.
    Killable,
    /// Asleep, no signal can wake it.
    Uninterruptible,
    /// Stopped by a signal.
    Stopped,
    /// Stopped by a tracer.
    Traced,
    /// Frozen by a cgroup or by suspend.
    Frozen,
    /// Waits for the core dump of its process.
    CoreDump,
}

impl Why {
    /// All of them. The position is the number in a trace file.
    pub const ALL: [Self; 9] = [
        Self::New,
        Self::Preempted,
        Self::Interruptible,
        Self::Killable,
        Self::Uninterruptible,
        Self::Stopped,
        Self::Traced,
        Self::Frozen,
        Self::CoreDump,
    ];
}

/// Who ended a wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Waker {
    /// Nobody: the task was not asleep, or no wakeup was seen.
    #[default]
    None,
    /// A task of the workload.
    Task {
        /// Its serial.
        serial: u32,
        /// Through a soft interrupt that its own sending ran (loopback).
        softirq: bool,
    },
    /// A task outside the workload, or a kernel thread: the latest
    /// [`Event::Outsider`] with this tid at that time.
    Outsider {
        /// Its tid.
        tid: u32,
        /// As above.
        softirq: bool,
    },
    /// An interrupt. The task that it interrupted has nothing to do with it.
    Interrupt(Interrupt),
    /// It can't be told whether a task or an interrupt.
    Unknown,
}

/// A kind of interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Interrupt {
    /// A timer ran out.
    Timer,
    /// A device's, by number: see [`Header::interrupts`].
    Device(u32),
    /// A soft interrupt, by its vector (`include/linux/interrupt.h`).
    Soft(u8),
    /// Another.
    Other,
}

/// How long a call waits at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Timeout {
    /// Without limit, or the call has no timeout.
    #[default]
    None,
    /// There is one, and its length is not known.
    Unknown,
    /// So long, µs; [`Timeout::LONGEST_US`] stands for anything longer.
    Us(u32),
}

impl Timeout {
    /// The longest that a trace holds, µs: more than an hour.
    pub const LONGEST_US: u32 = timeout::MAX;

    /// As the kernel programs send it ([`timeout`]).
    pub fn from_us(us: u32) -> Self {
        match us {
            timeout::NONE => Self::None,
            timeout::UNKNOWN => Self::Unknown,
            us => Self::Us(us),
        }
    }

    /// The inverse of [`Self::from_us`].
    pub fn to_us(self) -> u32 {
        match self {
            Self::None => timeout::NONE,
            Self::Unknown => timeout::UNKNOWN,
            Self::Us(us) => us.min(timeout::MAX),
        }
    }
}

/// One stretch off the CPU: `[out_ns, wake_ns)` in the state that `why` tells,
/// `[wake_ns, in_ns)` runnable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stretch {
    /// The task.
    pub serial: u32,
    /// Its number among the task's stretches, from 0.
    pub seq: u32,
    /// When the task left the CPU.
    pub out_ns: u64,
    /// When it became runnable.
    pub wake_ns: u64,
    /// When it came back.
    pub in_ns: u64,
    /// Why it left.
    pub why: Why,
    /// The wakeup came before the task had left: the block has length 0.
    pub early_wake: bool,
    /// No wakeup was seen.
    pub no_wake: bool,
    /// `in_ns` is computed from the kernel's CPU time: the switch-in was not
    /// announced.
    pub inferred: bool,
    /// The syscall is of the 32-bit table.
    pub compat: bool,
    /// The syscall that it was in; -1: none (page fault, interrupt); or
    /// [`CALL_NOT_RECORDED`].
    pub syscall: i16,
    /// CPU that it left.
    pub cpu_out: u16,
    /// CPU that it came back to.
    pub cpu_in: u16,
    /// First argument of the syscall; outside a syscall the address of the page fault
    /// that the task is in, or 0.
    pub arg0: u64,
    /// Second argument of the syscall, low half.
    pub arg1: u32,
    /// Who made it runnable again.
    pub waker: Waker,
    /// What the syscall waits for: number of an [`Object`] or a [`Waitset`]; 0:
    /// not known, or neither.
    pub object: u32,
    /// How long the syscall waits at most.
    pub timeout: Timeout,
}

/// Running sums of a task, over its stretches with a smaller `seq`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// The task.
    pub serial: u32,
    /// Stretches so far.
    pub seq: u32,
    /// Of these, records lost.
    pub lost: u32,
    /// Time blocked.
    pub blocked_ns: u64,
    /// Time runnable.
    pub runnable_ns: u64,
    /// Time stopped.
    pub stopped_ns: u64,
}

/// A task was created.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Born {
    /// Its serial.
    pub serial: u32,
    /// Serial of its creator; 0 for the root.
    pub parent: u32,
    /// Serial of the first task of its process.
    pub process: u32,
    /// Tid.
    pub tid: u32,
    /// Tgid.
    pub tgid: u32,
    /// Tgid of its parent process.
    pub ppid: u32,
    /// Flags of `clone`: those of what is shared, and of `vfork`.
    pub clone_flags: u64,
    /// It never runs in user mode (an io_uring worker and the like).
    pub kernel_worker: bool,
    /// When.
    pub at_ns: u64,
    /// Its name.
    pub comm: String,
}

/// A task executed a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exec {
    /// The task.
    pub serial: u32,
    /// Its tid before.
    pub old_tid: u32,
    /// Its tid now.
    pub tid: u32,
    /// When.
    pub at_ns: u64,
    /// Its new name.
    pub comm: String,
}

/// A stretch that was open when the recording ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenStretch {
    /// When the task left the CPU.
    pub out_ns: u64,
    /// When it became runnable; `None`: not yet.
    pub wake_ns: Option<u64>,
    /// Why it left.
    pub why: Why,
    /// The syscall is of the 32-bit table.
    pub compat: bool,
    /// The syscall that it was in.
    pub syscall: i16,
    /// See [`Stretch::arg0`].
    pub arg0: u64,
    /// Second argument of the syscall, low half.
    pub arg1: u32,
    /// Who woke it, if it is woken.
    pub waker: Waker,
    /// See [`Stretch::object`].
    pub object: u32,
    /// See [`Stretch::timeout`].
    pub timeout: Timeout,
}

/// All that the kernel programs know of a task, at its end or at the end of the
/// recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskRecord {
    /// The same as when it was created, but for tid and name: the last ones.
    pub born: Born,
    /// When it was switched out for the last time; `None`: it lives.
    pub end_ns: Option<u64>,
    /// Sums over all its finished stretches.
    pub totals: Totals,
    /// Stretches that our probe did not see whole. The sums lack them.
    pub missed: u32,
    /// Context switches that our probe saw.
    pub switches: u64,
    /// Context switches that the kernel counted; `None` while it lives.
    pub kernel_switches: Option<u64>,
    /// CPU time that the kernel charged; `None` while it lives.
    pub kernel_cpu_ns: Option<u64>,
    /// Exit code as `wait` returns it; `None` while it lives.
    pub exit_code: Option<u32>,
    /// The syscall that it ended in: `exit` or `exit_group`, or that in which it was
    /// killed (-1: in none); `None` while it lives.
    pub ended_in: Option<i16>,
    /// The stretch that it is in; `None` while it runs or when it has ended.
    pub open: Option<OpenStretch>,
}

/// A task that is not followed: the task table was full.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Untracked {
    /// Tid.
    pub tid: u32,
    /// Tgid.
    pub tgid: u32,
    /// Tgid of its parent process.
    pub ppid: u32,
    /// When it was created, or ended.
    pub at_ns: u64,
    /// Its name.
    pub comm: String,
}

/// A task's use of one syscall of the select/poll family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PollUse {
    /// The task.
    pub serial: u32,
    /// Position in [`forktrace_common::layout::poll::NAMES`].
    pub position: u8,
    /// Calls that returned.
    pub calls: u64,
    /// See [`PollCounters`].
    pub ready_at_once: u64,
    /// See [`PollCounters`].
    pub blocked: u64,
    /// See [`PollCounters`].
    pub timed_out: u64,
    /// See [`PollCounters`].
    pub empty_at_once: u64,
    /// See [`PollCounters`].
    pub failed: u64,
    /// See [`PollCounters`].
    pub max_fds: u32,
    /// See [`PollCounters`].
    pub unknown_fds: u32,
    /// 1 when a call was under way.
    pub unfinished: u64,
}

impl PollUse {
    /// From the kernel programs' counters.
    pub fn new(serial: u32, position: u8, c: &PollCounters, unfinished: bool) -> Self {
        Self {
            serial,
            position,
            calls: c.calls,
            ready_at_once: c.ready_at_once,
            blocked: c.blocked,
            timed_out: c.timed_out,
            empty_at_once: c.empty_at_once,
            failed: c.failed,
            max_fds: c.max_fds,
            unknown_fds: c.unknown_fds,
            unfinished: u64::from(unfinished),
        }
    }
}

/// A task outside the workload, or a kernel thread, that woke a task of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outsider {
    /// Tid.
    pub tid: u32,
    /// Tgid.
    pub tgid: u32,
    /// It is a kernel thread.
    pub kernel_thread: bool,
    /// When this was seen.
    pub at_ns: u64,
    /// Its name.
    pub comm: String,
}

/// A task outside the workload that had the CPU which a task of the workload waited for. Turns
/// of less than 0.1 ms are not told of, nor some of a task that went to sleep after its turn or
/// had several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuUser {
    /// The CPU.
    pub cpu: u16,
    /// Tid.
    pub tid: u32,
    /// Tgid.
    pub tgid: u32,
    /// It is a kernel thread.
    pub kernel_thread: bool,
    /// When it gave up the CPU.
    pub at_ns: u64,
    /// CPU time that it had had by then, at one go, ns.
    pub ns: u64,
    /// The name of its process.
    pub comm: String,
}

/// A file that a task waited on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// Its number. The same file can have several: [`Object::file`], `inode` and
    /// `device` are its identity.
    pub id: u32,
    /// The task that waited.
    pub serial: u32,
    /// By which descriptor.
    pub fd: i32,
    /// When.
    pub at_ns: u64,
    /// The open file description: an address, never used again while it is open.
    pub file: u64,
    /// What the file is made of, for files without an inode of their own: an
    /// address.
    pub operations: u64,
    /// Inode number.
    pub inode: u64,
    /// Device of the file system (`major << 20 | minor`).
    pub device: u32,
    /// Type and permissions (`S_IFMT` and so on).
    pub mode: u16,
    /// While recording: the last name of its path, which is all that is left of a file that
    /// was closed before it was looked at.
    #[serde(skip)]
    pub last_name: LastName,
}

/// One descriptor that a call of select or poll waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct WaitFd {
    /// The descriptor.
    pub fd: i32,
    /// For what: bits of `poll(2)`'s `events`.
    pub events: u16,
}

/// The descriptors that a call of select or poll waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waitset {
    /// Its number, of the same row as [`Object::id`].
    pub id: u32,
    /// The task that waited.
    pub serial: u32,
    /// When.
    pub at_ns: u64,
    /// The descriptors.
    pub fds: Vec<WaitFd>,
    /// There are more than are here.
    pub cut_off: bool,
}

/// A signal that stops, continues or ends was sent to a task of the workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signal {
    /// The task that it was sent to.
    pub serial: u32,
    /// Its number.
    pub signal: u8,
    /// To the whole process.
    pub group: bool,
    /// Who sent it.
    pub sender: Waker,
    /// When.
    pub at_ns: u64,
}

/// What a file is, looked up while a task had it open.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FileKind {
    /// A regular file, by its path.
    File(String),
    /// A directory, by its path.
    Directory(String),
    /// A pipe.
    Pipe,
    /// A named pipe, by its path.
    Fifo(String),
    /// A Unix socket, with the path that it or its peer is bound to.
    UnixSocket {
        /// The path or abstract name, if it has one.
        path: Option<String>,
        /// Inode of the other end, if there is one.
        peer: Option<u64>,
        /// It listens.
        listening: bool,
    },
    /// A TCP, UDP or other internet socket.
    InetSocket {
        /// `tcp`, `udp`, …
        protocol: String,
        /// `address:port`.
        local: String,
        /// `address:port`; empty when it is not connected.
        remote: String,
        /// It listens.
        listening: bool,
    },
    /// Another socket.
    OtherSocket(String),
    /// An eventfd.
    EventFd,
    /// A timerfd.
    TimerFd,
    /// A signalfd.
    SignalFd,
    /// A pidfd, of the process with this pid.
    PidFd(Option<u32>),
    /// An inotify or fanotify descriptor.
    Notify,
    /// An epoll instance.
    Epoll,
    /// An io_uring.
    IoUring,
    /// A terminal, by its path.
    Terminal(String),
    /// Another device, by its path.
    Device(String),
    /// Anything else, as the kernel names it.
    Other(String),
}

impl FileKind {
    /// Is it a socket that others connect to?
    pub fn is_listening(&self) -> bool {
        matches!(
            self,
            Self::UnixSocket {
                listening: true,
                ..
            } | Self::InetSocket {
                listening: true,
                ..
            }
        )
    }
}

/// What an [`Object`] or a descriptor of a [`Waitset`] is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// Number of the object or the waitset.
    pub id: u32,
    /// The descriptor.
    pub fd: i32,
    /// Inode number.
    pub inode: u64,
    /// Device of the file system.
    pub device: u32,
    /// What it is.
    pub kind: FileKind,
}

/// One descriptor that an epoll instance watches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watched {
    /// The descriptor, and for what.
    pub fd: WaitFd,
    /// Inode number of its file.
    pub inode: u64,
    /// Device of the file system.
    pub device: u32,
    /// What it is; `None`: the descriptor is closed, or another file by now.
    pub kind: Option<FileKind>,
}

/// What an epoll instance watches, as of one moment. There can be several, when
/// it changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interest {
    /// Number of the epoll instance's [`Object`].
    pub id: u32,
    /// When it was read.
    pub at_ns: u64,
    /// The descriptors.
    pub fds: Vec<Watched>,
    /// There are more than are here.
    pub cut_off: bool,
}

/// Where a futex really is: processes that share memory can have it at
/// different addresses. A private futex is its process's, and needs none of this.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedFutex {
    /// A task that waited on it.
    pub serial: u32,
    /// Where that task has it.
    pub address: u64,
    /// The file that is mapped there: device; 0 for memory without a file.
    pub device: u32,
    /// Inode of that file.
    pub inode: u64,
    /// Where in that file.
    pub offset: u64,
    /// Path of that file.
    pub path: String,
}

/// What a program calls the memory of a private futex, where it is a variable of the program
/// or of one of its libraries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockName {
    /// A task that waited on it.
    pub serial: u32,
    /// Where that task has it.
    pub address: u64,
    /// The variable, and where in it: `locks+0xc8`. Without symbols the module and where in
    /// it, by the addresses that its file has.
    pub name: String,
    /// File name of the program or the library.
    pub module: String,
}

/// Where a task went to sleep, or where it was woken, by number of a [`Frames`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stacks {
    /// The task.
    pub serial: u32,
    /// Its stretch.
    pub seq: u32,
    /// [`Waker::None`]: where it went to sleep; else where it was woken, by whom. A
    /// stretch can have several of these: its own waker is the last one.
    pub waker: Waker,
    /// The kernel's stack.
    pub kernel: Option<u32>,
    /// The program's stack: the task's, or the waker's.
    pub user: Option<u32>,
    /// When it was taken, ns: told while it is recorded only, and 0 in a trace. A block's is of
    /// when that began.
    #[serde(skip)]
    pub at_ns: u64,
}

/// A stack, with names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frames {
    /// Its number, from 0.
    pub number: u32,
    /// The functions, innermost first; an address where there is no name.
    pub frames: Vec<String>,
    /// It does not go back to where the thread began: a function was built without
    /// frame pointers, or it is deeper than what the kernel takes.
    pub cut_off: bool,
    /// Of `frames`, the innermost function that is the program's own, and no part of the C
    /// library or of a runtime; `None`: that is not known, or there is none. A trace tells it in
    /// an event of its own, [`WaitsIn`]: the records of version 2 can't grow.
    #[serde(skip)]
    pub waits_in: Option<u32>,
}

/// Of a stack, the innermost function that is the program's own: comes after its [`Frames`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitsIn {
    /// The stack's number.
    pub number: u32,
    /// See [`Frames::waits_in`].
    pub frame: u32,
}

/// Something that the workload said about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// When, as the workload says; `None`: it does not say.
    pub at_ns: Option<u64>,
    /// When what it speaks of began; `None`: it speaks of a moment.
    pub since_ns: Option<u64>,
    /// What it is about.
    pub name: String,
    /// All else, a JSON object.
    pub fields: String,
}

/// Lines of the workload that are no marks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MarksRefused {
    /// No JSON object, or without a name, or with a time that is none.
    pub not_understood: u64,
    /// Longer than [`self::marks::LONGEST_LINE`].
    pub too_long: u64,
    /// More than [`self::marks::MOST`].
    pub too_many: u64,
    /// The first that was not understood, cut short.
    pub example: String,
    /// Times that the file was seen to have become shorter: what it held then and had not
    /// been read is gone.
    pub cuts: u64,
}

impl MarksRefused {
    /// All of them, and times that some may have been lost.
    pub fn count(&self) -> u64 {
        self.not_understood
            .saturating_add(self.too_long)
            .saturating_add(self.too_many)
            .saturating_add(self.cuts)
    }
}

/// Tasks that can never go on, found while the workload ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deadlock {
    /// When it was found.
    pub at_ns: u64,
    /// A cycle of owners, each of `tasks` waiting for the next one. Otherwise all
    /// tasks sleep in waits that only they could end.
    pub cycle: bool,
    /// The tasks.
    pub tasks: Vec<Stuck>,
}

/// A task in a [`Deadlock`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stuck {
    /// The task.
    pub serial: u32,
    /// What it waits for.
    pub on: StuckOn,
    /// Since when.
    pub since_ns: u64,
}

/// What a task in a [`Deadlock`] waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StuckOn {
    /// A lock whose owner is known.
    Lock {
        /// Address.
        address: u64,
        /// Serial of the task that holds it.
        owner: u32,
    },
    /// A futex of which nobody is known to be the owner.
    Futex {
        /// Address.
        address: u64,
    },
    /// The end of a child.
    Child,
    /// What the last [`Providers`] of this task tell.
    Told,
}

/// Changes of the tables of tasks that the kernel refused: since Linux 6.15 it gives up
/// (`EBUSY`) where it can't get a table's lock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TablesRefused {
    /// Slots of dead tasks that could not be given back: the table was smaller by as
    /// many from then on.
    pub slots: u64,
    /// Others, which nothing depends on: a slot that was not used again, an address that
    /// was not forgotten.
    pub others: u64,
}

/// Who could end a wait, found out while it lasted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Providers {
    /// The task that waits.
    pub serial: u32,
    /// The stretch that it is in.
    pub seq: u32,
    /// When this was true.
    pub at_ns: u64,
    /// How they come to be it.
    pub kind: ProviderKind,
    /// Tasks of the workload, by serial: any of them can end it.
    pub tasks: Vec<u32>,
    /// So can others, outside the workload.
    pub outside: bool,
    /// The tid that the lock, the peer or the kernel names, as it is there, where that is
    /// no task of [`Self::tasks`]: it is dead, or of another address space.
    pub foreign: Option<u32>,
}

/// What a call was given that a task has long waited in, where no descriptor tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Given {
    /// The task that waits.
    pub serial: u32,
    /// The stretch that it is in.
    pub seq: u32,
    /// When this was true.
    pub at_ns: u64,
    /// What it was given.
    pub what: GivenWhat,
}

/// See [`Given`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum GivenWhat {
    /// An absolute path, as the caller sees it.
    Path(String),
    /// A set of System V semaphores.
    Semaphores {
        /// Its id.
        id: i32,
        /// Its key; `None`: it is not known, 0: it has none (`IPC_PRIVATE`).
        key: Option<u32>,
    },
    /// A queue of System V messages.
    Messages {
        /// Its id.
        id: i32,
        /// As of semaphores.
        key: Option<u32>,
    },
    /// Signals, the lowest bit for the first.
    Signals(u64),
    /// A page of a file that is mapped, by the file's path.
    Page(String),
    /// The descriptors of a `select` or `poll` that was there before the recording: see
    /// [`Waitset::id`].
    Set(u32),
}

/// How a task comes to be able to end another one's wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ProviderKind {
    /// It owns the lock: the owner's word is in it.
    Owner,
    /// Its end is waited for: the futex is its `clear_child_tid`.
    Joined,
    /// It is the child that is waited for.
    Child,
    /// It has the other end of the pipe or socket.
    OtherEnd,
    /// It shares the memory or the descriptor.
    Shares,
    /// It holds the file lock.
    FileLock,
    /// It traces the waiting task.
    Tracer,
    /// It answers the page fault, or serves the file system.
    Server,
    /// It holds the lock of the kernel (`task_struct.blocker`).
    KernelLock,
    /// It may be one of those who have the lock for reading: the lock counts them only.
    Readers,
}

/// Anything that happened.
///
/// The position of a kind is its number in the trace file: new kinds go to the end, and a
/// field that is added to one goes to its end (see [`crate::trace_file`]).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// A stretch off the CPU is over.
    Stretch(Stretch),
    /// Sums of a task after a loss.
    Totals(Totals),
    /// A task was created.
    Born(Born),
    /// A task executed a program.
    Exec(Exec),
    /// A task ended, or lives at the end of the recording.
    Task(TaskRecord),
    /// A task's use of the select/poll family.
    Poll(PollUse),
    /// A task is not followed.
    Untracked(Untracked),
    /// A task that is not followed ended.
    UntrackedEnd(Untracked),
    /// Somebody outside the workload is a waker.
    Outsider(Outsider),
    /// A file that a task waits on.
    Object(Object),
    /// Descriptors that a task waits on.
    Waitset(Waitset),
    /// A signal was sent.
    Signal(Signal),
    /// What an object or a descriptor is.
    Named(Named),
    /// What an epoll instance watches.
    Interest(Interest),
    /// Where a futex is.
    SharedFutex(SharedFutex),
    /// Stacks of a block.
    Stacks(Stacks),
    /// A stack.
    Frames(Frames),
    /// The workload said something about itself.
    Mark(Mark),
    /// The workload said something that is no mark.
    MarksRefused(MarksRefused),
    /// Tasks can never go on.
    Deadlock(Deadlock),
    /// So many entries and returns of calls, of any task, were not seen by the programs
    /// that count those of the select/poll family: the kernel left them out.
    PollsLeftOut(u64),
    /// The kernel refused changes of the tables of tasks.
    TablesRefused(TablesRefused),
    /// Who could end a wait.
    Providers(Providers),
    /// So many bytes that the workload wrote as marks were not read.
    MarksUnread(u64),
    /// Look-ups of names had to be begun anew.
    HelperLost(HelperLost),
    /// What a process was executed with.
    Argv(Argv),
    /// Who had a CPU that a task waited for.
    CpuUser(CpuUser),
    /// A task was there before the recording.
    Attached(Attached),
    /// What the program calls a futex.
    LockName(LockName),
    /// What a call was given that a task waits in.
    Given(Given),
    /// Since when calls of the select/poll family are counted, where that is not from the
    /// beginning.
    PollsCounted(PollsCounted),
    /// Data waited in a socket.
    Lag(Lag),
    /// How often data was looked at that waited in a socket.
    LagCounts(LagCounts),
    /// Which function of a stack is the program's own.
    WaitsIn(WaitsIn),
    /// In which cgroup a process is.
    Cgroup(Cgroup),
}

impl Event {
    /// When it happened: for a stretch, when it was over. `None`: it has no time.
    pub fn at_ns(&self) -> Option<u64> {
        match self {
            Self::Stretch(s) => Some(s.in_ns),
            Self::Born(b) => Some(b.at_ns),
            Self::Exec(e) => Some(e.at_ns),
            Self::Task(t) => t.end_ns,
            Self::Untracked(u) | Self::UntrackedEnd(u) => Some(u.at_ns),
            Self::Outsider(o) => Some(o.at_ns),
            Self::Object(o) => Some(o.at_ns),
            Self::Waitset(w) => Some(w.at_ns),
            Self::Signal(s) => Some(s.at_ns),
            Self::Interest(i) => Some(i.at_ns),
            Self::Deadlock(d) => Some(d.at_ns),
            Self::Providers(p) => Some(p.at_ns),
            Self::Argv(a) => Some(a.at_ns),
            Self::CpuUser(u) => Some(u.at_ns),
            Self::Attached(a) => Some(a.at_ns),
            Self::Given(g) => Some(g.at_ns),
            Self::Lag(l) => Some(l.looked_ns),
            Self::Cgroup(c) => Some(c.at_ns),
            Self::Totals(_)
            | Self::Poll(_)
            | Self::Named(_)
            | Self::SharedFutex(_)
            | Self::LockName(_)
            | Self::Stacks(_)
            | Self::Frames(_)
            // A mark's time is what the workload makes it.
            | Self::Mark(_)
            | Self::MarksRefused(_)
            | Self::PollsLeftOut(_)
            | Self::PollsCounted(_)
            | Self::TablesRefused(_)
            | Self::MarksUnread(_)
            | Self::HelperLost(_)
            | Self::LagCounts(_)
            | Self::WaitsIn(_) => None,
        }
    }
}

/// Data came to a TCP socket, and a task looked at it later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lag {
    /// The task that looked.
    pub serial: u32,
    /// When the first of the data came that nobody had looked at.
    pub ready_ns: u64,
    /// When the task had looked.
    pub looked_ns: u64,
    /// The port of this side.
    pub local_port: u16,
    /// The port of the other side.
    pub remote_port: u16,
}

/// How often data was looked at that had waited in a TCP socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LagCounts {
    /// Times that a task of the workload looked, however long the data had waited.
    pub looks: u64,
    /// Times that data came, of any socket of the machine, and was not noted: there was no
    /// room, or the kernel left the program out.
    pub not_noted: u64,
}

/// Since when calls of the select/poll family are counted: where that makes every call of the
/// machine slower, it begins once tasks make such calls. The last of these events counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PollsCounted {
    /// They are not: no task was seen to make one.
    NotYet,
    /// One was, and the programs are being attached.
    Attaching,
    /// The programs were attached one after the other, between these times, ns.
    From {
        /// None was before.
        attaching_ns: u64,
        /// All were from then on.
        attached_ns: u64,
    },
    /// They could not be attached, and why.
    Failed(String),
}

/// A task that was there before the recording and was taken in. Its [`Born::at_ns`] is when
/// that was. Its counters of switches and CPU time count from then on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// The task.
    pub serial: u32,
    /// When it was taken in.
    pub at_ns: u64,
    /// It was asleep then, and had been for about so long, ns; `None`: it was not, or it is
    /// not known.
    pub asleep_for_ns: Option<u64>,
}

/// The command line of a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Argv {
    /// The task that executed a program.
    pub serial: u32,
    /// When it did.
    pub at_ns: u64,
    /// The command line; the end of a long one is left out.
    pub argv: Vec<String>,
}

/// In which cgroup a process is. Of a workload that was launched, it is told of those that are in
/// another than [`Header::cgroup`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cgroup {
    /// A task of the process.
    pub serial: u32,
    /// When it was there.
    pub at_ns: u64,
    /// Its path in the unified hierarchy, as forktrace saw it (`cgroups(7)`).
    pub path: String,
}

/// What became of the attempts to find out what tasks waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookUps {
    /// Files and futexes that were looked up.
    pub done: u64,
    /// Of these: the process had ended.
    pub gone: u64,
    /// Of these: the descriptor was closed or another file by then.
    pub changed: u64,
    /// There was no time to look: in addition to the above.
    pub not_looked_up: u64,
    /// CPU time that it took.
    pub cpu_ns: u64,
}

/// A cgroup that the kernel held off the CPUs because of its limit, with all that
/// ran in it, of the workload or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Throttled {
    /// Its path.
    pub cgroup: String,
    /// Periods of the limit in which it was.
    pub periods: u64,
    /// How long, ns: the sum over the CPUs.
    pub ns: u64,
    /// The limit: CPU time a period, µs; `None`: not known, or none at the end.
    pub quota_us: Option<u64>,
    /// The period, µs.
    pub period_us: Option<u64>,
}

/// What is known when a recording ends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finish {
    /// When the recording ended.
    pub end_ns: u64,
    /// Exit code of the first process.
    pub exit_code: Option<i32>,
    /// Signal that ended the first process.
    pub signal: Option<i32>,
    /// Tasks lived when the recording ended: it was cut short on demand.
    pub cut_short: bool,
    /// Records that found a ring full.
    pub lost_ring_full: u64,
    /// Records on a CPU without a ring.
    pub lost_no_ring: u64,
    /// Other records that were dropped, or whose program the kernel left out.
    pub lost_other: u64,
    /// Stacks that were dropped; `None`: none were taken.
    pub lost_stacks: Option<u64>,
    /// Tasks that are not followed: the task table was full.
    pub not_followed: u64,
    /// Records that could not be written to the file.
    pub unwritten: u64,
    /// When the first of them happened.
    pub unwritten_from_ns: Option<u64>,
    /// When the last of them happened.
    pub unwritten_until_ns: Option<u64>,
    /// Why they could not be written.
    pub write_error: Option<String>,
    /// Records of a kind or a length that this version does not know.
    pub undecodable: u64,
    /// CPU time of forktrace while it recorded.
    pub tracer_cpu_ns: u64,
    /// What became of the attempts to find out what tasks waited for.
    pub look_ups: LookUps,
    /// Cgroups of the workload that were held off the CPUs.
    pub throttled: Vec<Throttled>,
    /// Why the recorder could not be a real-time task, which real-time tasks of the
    /// workload can keep off the CPUs; `None`: it was one.
    pub not_real_time: Option<String>,
    /// Why the last seconds were saved; `None`: all that was recorded is there.
    pub saved: Option<SavedWhen>,
}

/// Why the last seconds of a recording were saved.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedWhen {
    /// The condition that came true, as it was given.
    pub condition: String,
    /// When it did.
    pub at_ns: u64,
}
