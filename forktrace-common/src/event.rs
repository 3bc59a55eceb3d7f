//! The records that go through the rings, one struct a kind, and the state of a
//! task, which is itself the record of the task's end.
//!
//! Each CPU has two rings. A [`Stretch`] goes to the one that is a part of a mapped array:
//! a store to it costs no call. Only a switch sends it, and a CPU switches once at a time, so
//! there is one writer, which nobody interrupts. All other records come from programs that
//! interrupt each other, and go to the kernel's ring buffer, which is made for that: each
//! as a [`Placed`] one.
//!
//! Times are nanoseconds of `CLOCK_MONOTONIC` (`bpf_ktime_get_ns`).

use bytemuck::{Pod, Zeroable};

use crate::limits::{COMM_LEN, POLL_KINDS};

/// The first byte of every record.
pub mod kind {
    /// [`super::Stretch`].
    pub const STRETCH: u8 = 1;
    /// [`super::Totals`].
    pub const TOTALS: u8 = 2;
    /// [`super::Born`].
    pub const BORN: u8 = 3;
    /// [`super::Exec`].
    pub const EXEC: u8 = 4;
    /// [`super::End`].
    pub const END: u8 = 5;
    /// [`super::Polls`].
    pub const POLLS: u8 = 6;
    /// [`super::Untracked`]: a task that is not followed: the task table was full.
    pub const UNTRACKED: u8 = 7;
    /// [`super::Untracked`]: the end of such a task.
    pub const UNTRACKED_END: u8 = 8;
    /// [`super::Outsider`].
    pub const OUTSIDER: u8 = 9;
    /// [`super::Object`].
    pub const OBJECT: u8 = 10;
    /// [`super::Waitset`].
    pub const WAITSET: u8 = 11;
    /// [`super::Signal`].
    pub const SIGNAL: u8 = 12;
    /// [`super::Stacks`].
    pub const STACKS: u8 = 13;
    /// [`super::CpuUser`].
    pub const CPU_USER: u8 = 14;
    /// [`super::Argv`].
    pub const ARGV: u8 = 15;
    /// [`super::Lag`].
    pub const LAG: u8 = 16;
}

/// Who woke a task: values of [`Stretch::waker_class`], with the meaning of
/// [`Stretch::waker`].
pub mod waker {
    /// Nobody: the task was not asleep, or no wakeup was seen.
    pub const NONE: u8 = 0;
    /// A task of the workload, itself: its serial.
    pub const TASK: u8 = 1;
    /// Another task or a kernel thread, itself: its tid.
    pub const OUTSIDER: u8 = 2;
    /// A task of the workload, through a soft interrupt that its own sending
    /// ran (loopback): its serial.
    pub const TASK_SOFTIRQ: u8 = 3;
    /// Another task, in the same way: its tid.
    pub const OUTSIDER_SOFTIRQ: u8 = 4;
    /// A timer's interrupt: 0.
    pub const TIMER: u8 = 5;
    /// A device's interrupt: its number.
    pub const HARD_INTERRUPT: u8 = 6;
    /// A soft interrupt: its vector.
    pub const SOFT_INTERRUPT: u8 = 7;
    /// An interrupt of another kind: 0.
    pub const OTHER_INTERRUPT: u8 = 8;
    /// It can't be told whether the current task or an interrupt.
    pub const UNKNOWN: u8 = 9;
}

/// Values of [`Stretch::timeout_us`] that are no time.
pub mod timeout {
    /// The call waits without limit, or its arguments hold no timeout.
    pub const NONE: u32 = u32::MAX;
    /// There is a timeout and its length is not known.
    pub const UNKNOWN: u32 = u32::MAX - 1;
    /// This long or longer, µs.
    pub const MAX: u32 = u32::MAX - 2;
}

/// What a task waits for in the kernel: values of [`TaskState::lock_kind`], the lowest bits of
/// `task_struct.blocker` (include/linux/hung_task.h).
pub mod kernel_lock {
    /// A mutex, which has an owner.
    pub const MUTEX: u32 = 0;
    /// A semaphore: who took it last is known, and need not be the one to give it back.
    pub const SEMAPHORE: u32 = 1;
    /// A `rw_semaphore`, to read.
    pub const RWSEM_READER: u32 = 2;
    /// A `rw_semaphore`, to write.
    pub const RWSEM_WRITER: u32 = 3;
}

/// Why a task left the CPU: values of [`Stretch::why`].
pub mod why {
    /// It has not run yet: the stretch begins with its creation.
    pub const NEW: u8 = 1;
    /// It still wanted to run: preempted, yielded, or found a signal pending on
    /// its way to sleep.
    pub const PREEMPTED: u8 = 2;
    /// Asleep, a signal can wake it (`TASK_INTERRUPTIBLE`).
    pub const INTERRUPTIBLE: u8 = 3;
    /// Asleep, no signal but a fatal one can wake it (`TASK_KILLABLE`).
    pub const KILLABLE: u8 = 4;
    /// Asleep, no signal can wake it (`TASK_UNINTERRUPTIBLE`, `TASK_IDLE`, parked).
    pub const UNINTERRUPTIBLE: u8 = 5;
    /// Stopped by a signal (`TASK_STOPPED`).
    pub const STOPPED: u8 = 6;
    /// Stopped by a tracer (`TASK_TRACED`).
    pub const TRACED: u8 = 7;
    /// Frozen by a cgroup or by suspend.
    pub const FROZEN: u8 = 8;
    /// Waits for the core dump of its process.
    pub const CORE_DUMP: u8 = 9;
}

/// Bits of [`Stretch::flags`] and [`TaskState::flags`].
pub mod flag {
    /// The wakeup came before the task had left the CPU: the block has length 0.
    pub const EARLY_WAKE: u8 = 1;
    /// The block ended and no wakeup was seen. Should not happen; counted.
    pub const NO_WAKE: u8 = 2;
    /// The syscall was made through a 32-bit entry: its number is of another table.
    pub const COMPAT: u8 = 4;
    /// The switch-in was not announced: `in_ns` is computed from the CPU time
    /// that the kernel charged until the task left again.
    pub const INFERRED: u8 = 128;
    /// State only: the next record of this task follows at least one lost record.
    pub const RESYNC: u8 = 8;
    /// State only: the task never was in user mode (io_uring worker and the
    /// like), so its registers hold no syscall.
    pub const KERNEL_WORKER: u8 = 16;
    /// State only: the task was there before the recording and was taken in from outside,
    /// and no switch of it was seen since. What it is doing, its [`super::Entry`] tells.
    pub const ENTERED: u8 = 32;
    /// State only: the task is dead and no record could be sent: user space
    /// finds it in the task table.
    pub const UNREPORTED: u8 = 64;
}

/// `syscall` of a task that is not in a syscall: it entered the kernel by a
/// page fault or an interrupt.
pub const NO_SYSCALL: i16 = -1;

/// A record in the kernel's ring buffer.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Placed<T> {
    /// So many stretches came before it on its CPU: [`CpuStats::written`].
    pub after: u64,
    /// The record.
    pub record: T,
}

/// Bytes before a record that is [`Placed`].
pub const PLACE_BYTES: usize = size_of::<u64>();

/// One stretch off the CPU, sent when the task is switched in again.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Stretch {
    /// [`kind::STRETCH`].
    pub kind: u8,
    /// See [`why`].
    pub why: u8,
    /// See [`flag`].
    pub flags: u8,
    /// See [`waker`].
    pub waker_class: u8,
    /// The task.
    pub serial: u32,
    /// Number of this stretch among the task's, from 0, without gaps.
    pub seq: u32,
    /// Who woke it, as `waker_class` says.
    pub waker: u32,
    /// When it left the CPU (for the first stretch: when it was created).
    pub out_ns: u64,
    /// When it became runnable: `out_ns <= wake_ns <= in_ns`.
    pub wake_ns: u64,
    /// When it came back to a CPU.
    pub in_ns: u64,
    /// First argument of the syscall; outside a syscall the address of the page fault
    /// that the task is in, or 0.
    pub arg0: u64,
    /// Second argument of the syscall, low half.
    pub arg1: u32,
    /// The CPU that it left.
    pub cpu_out: u16,
    /// Syscall that it was in when it left, or [`NO_SYSCALL`], also where it was preempted.
    pub syscall: i16,
    /// What the syscall waits for, where it waits for a descriptor
    /// ([`Object::id`]) or several ([`Waitset::id`]); 0: not known, or neither.
    pub object: u32,
    /// How long the syscall waits at most, µs; see [`timeout`].
    pub timeout_us: u32,
}

/// Where a task went to sleep, or where it was woken, if that is wanted. Sent at
/// once, so that names can be looked up while the process lives.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Stacks {
    /// [`kind::STACKS`].
    pub kind: u8,
    /// 0: where the task went to sleep; else where it was woken, and by whom: see
    /// [`waker`].
    pub waker_class: u8,
    /// Always 0.
    pub zero: [u8; 2],
    /// The task.
    pub serial: u32,
    /// Its stretch.
    pub seq: u32,
    /// See [`waker`].
    pub waker: u32,
    /// The kernel's stack: its number in the stack map; less than 0: there is none,
    /// or it was dropped.
    pub kernel: i32,
    /// The program's stack, as above.
    pub user: i32,
    /// When it was taken: which program a process was in by then, records say that can be read
    /// later than this one.
    pub at_ns: u64,
}

/// The registers that a program went to sleep with, of each task that sleeps, if they are
/// wanted: as long as it sleeps, its stack can be followed from them.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Registers {
    /// The block: the task's serial, and in the high half the number of its stretch
    /// ([`TaskState::serial`] and [`TaskState::seq`] as one word). Written last; 0 while the
    /// others are written. *(switch)*
    pub of: u64,
    /// The instruction. *(switch)*
    pub pc: u64,
    /// The stack's pointer. *(switch)*
    pub sp: u64,
    /// The register for frame pointers, which need not hold one. *(switch)*
    pub fp: u64,
    /// The link register, on machines that have one (arm64); else nothing. *(switch)*
    pub lr: u64,
}

/// Running sums of a task, sent with the first record after a loss.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct Totals {
    /// [`kind::TOTALS`].
    pub kind: u8,
    /// Always 0.
    pub zero: [u8; 3],
    /// The task.
    pub serial: u32,
    /// Stretches so far: the sums are over those with a smaller `seq`.
    pub seq: u32,
    /// Of these, records that were dropped.
    pub lost: u32,
    /// Time blocked, ns.
    pub blocked_ns: u64,
    /// Time runnable, ns.
    pub runnable_ns: u64,
    /// Time stopped, traced or frozen, ns.
    pub stopped_ns: u64,
}

/// A new task of the workload.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Born {
    /// [`kind::BORN`].
    pub kind: u8,
    /// See [`flag`].
    pub flags: u8,
    /// Always 0.
    pub zero: [u8; 2],
    /// Serial of the new task.
    pub serial: u32,
    /// Serial of the task that created it; 0 for the root of the workload.
    pub parent: u32,
    /// Serial of the first task of its process (its own, when it is the first).
    pub process: u32,
    /// Its tid.
    pub tid: u32,
    /// Its tgid.
    pub tgid: u32,
    /// Tgid of its parent process as the kernel sees it (`CLONE_PARENT` counts).
    pub ppid: u32,
    /// Always 0.
    pub zero2: u32,
    /// Flags of `clone`: those of what is shared, and of `vfork`.
    pub clone_flags: u64,
    /// When it was created.
    pub at_ns: u64,
    /// Its name.
    pub comm: [u8; COMM_LEN],
}

/// A task of the workload executed a program.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Exec {
    /// [`kind::EXEC`].
    pub kind: u8,
    /// Always 0.
    pub zero: [u8; 3],
    /// The task.
    pub serial: u32,
    /// Its tid before. Not the one after when it was not the leader of its process.
    pub old_tid: u32,
    /// Its tid now.
    pub tid: u32,
    /// When.
    pub at_ns: u64,
    /// Its new name.
    pub comm: [u8; COMM_LEN],
}

/// Bytes of a command line that are in an [`Argv`]: a power of two.
pub const ARGV_BYTES: usize = 512;

/// What a task of the workload executed a program with: comes after the [`Exec`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Argv {
    /// [`kind::ARGV`].
    pub kind: u8,
    /// Always 0.
    pub zero: [u8; 3],
    /// The task.
    pub serial: u32,
    /// When: as of the [`Exec`].
    pub at_ns: u64,
    /// So many bytes are here, less than [`ARGV_BYTES`].
    pub here: u32,
    /// So many the command line has.
    pub bytes_of_all: u32,
    /// Its arguments, a NUL after each. Those after `here` mean nothing.
    pub bytes: [u8; ARGV_BYTES],
}

/// A task that is not followed for want of room, or its end.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Untracked {
    /// [`kind::UNTRACKED`] or [`kind::UNTRACKED_END`].
    pub kind: u8,
    /// Always 0.
    pub zero: [u8; 3],
    /// Its tid.
    pub tid: u32,
    /// Its tgid.
    pub tgid: u32,
    /// Tgid of its parent process.
    pub ppid: u32,
    /// When it was created, or ended.
    pub at_ns: u64,
    /// Its name.
    pub comm: [u8; COMM_LEN],
}

/// All that the programs know of a task. Lives in the task table, and is sent
/// whole when the task ends; tasks that have not ended are read from the table.
///
/// The first 64 bytes are what a wakeup touches, the first 128 a switch: whole cache
/// lines, because the table is memory-mapped, which makes it begin on a page.
///
/// Who writes a field stands beside it in brackets:
/// - *birth*: the creator, in `sched_wakeup_new`, before the task has run;
/// - *switch*: the CPU that switches the task, whose run queue is locked. One at a
///   time, and the kernel orders them;
/// - *waker*: whoever wakes the task, on any CPU, under its `pi_lock`;
/// - *itself*: the task, while it runs;
/// - *any*: whoever meets the task.
///
/// Others read meanwhile, so the programs load and store each field whole and in
/// the order of the source (`Shared` in the eBPF crate). User space reads the table at
/// any time; it writes to a slot only when its task is dead and not reported, and
/// then nobody else knows the slot.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct TaskState {
    /// Address of the `task_struct`: the task's identity for the kernel, unique
    /// among living tasks. 0: the slot is free, or the task is dead. *(birth; 0: last switch)*
    pub task: u64,
    /// The task's serial: its identity for us, never used again. *(birth)*
    pub serial: u32,
    /// Number of the stretch that is open or comes next. *(switch)*
    pub seq: u32,
    /// When it left the CPU; 0 while it runs. *(birth, switch)*
    pub out_ns: u64,
    /// Last wakeup since it was last switched in; 0 if none. *(waker; 0: switch)*
    pub wake_ns: u64,
    /// First syscall argument at the last switch-out that blocked. *(switch)*
    pub arg0: u64,
    /// Second syscall argument, low half. *(switch)*
    pub arg1: u32,
    /// Syscall at the last switch-out that blocked or yielded; at its end the one that it
    /// ended in. *(switch)*
    pub syscall: i16,
    /// CPU that it left. *(birth, switch)*
    pub cpu_out: u16,
    /// See [`why`]. *(birth, switch)*
    pub why: u8,
    /// See [`flag`]. *(birth, switch)*
    pub flags: u8,
    /// Who woke it last: see [`waker`]. *(waker; none: switch)*
    pub waker_class: u8,
    /// 1: it blocked in a pipe, a socket, a futex or for a child. Tasks, timers, devices
    /// and soft interrupts end that, and no interrupt that does not say what it is. *(switch)*
    pub common_wait: u8,
    /// See [`waker`]. *(waker)*
    pub waker: u32,
    /// `sched_switch` events with this task as the one that leaves. A `u64`
    /// because it is compared with the kernel's. *(switch)*
    pub switches: u64,

    /// Time blocked in finished stretches, ns. *(switch)*
    pub blocked_ns: u64,
    /// Time runnable in finished stretches, ns. *(switch)*
    pub runnable_ns: u64,
    /// Time stopped in finished stretches, ns. *(switch)*
    pub stopped_ns: u64,
    /// When it was last switched in. *(switch)*
    pub in_ns: u64,
    /// Stretch records that were dropped. *(switch)*
    pub lost: u32,
    /// Stretches so far that were blocks. *(switch)*
    pub blocks: u32,
    /// See [`Stretch::object`], at the last switch-out that blocked. *(switch)*
    pub object: u32,
    /// See [`Stretch::timeout_us`], at the last switch-out that blocked. *(switch)*
    pub timeout_us: u32,
    /// Address of its last page fault in user mode. *(itself)*
    pub fault: u64,
    /// Where its registers are saved at its entry into the kernel: the upper end of
    /// its kernel stack. *(birth)*
    pub stack_top: u64,

    /// Serial of its process's first task. *(birth)*
    pub process: u32,
    /// Serial of the task that created it. *(birth)*
    pub parent: u32,
    /// Tid. *(birth, any)*
    pub tid: u32,
    /// Tgid. *(birth)*
    pub tgid: u32,
    /// Tgid of its parent process when it was created. *(birth)*
    pub ppid: u32,
    /// Times that it was switched in without having been switched out. Each leaves
    /// a gap in `seq`, and the sums above are then too small. *(switch)*
    pub missed: u32,
    /// Flags of `clone`: those of what is shared, and of `vfork`. *(birth)*
    pub clone_flags: u64,
    /// When it was created. *(birth)*
    pub born_ns: u64,
    /// When it was switched out for the last time; 0 while it lives. *(last switch)*
    pub end_ns: u64,
    /// At its end: the kernel's own count of its switches (`nvcsw + nivcsw`), less
    /// [`Entry::base_switches`]. *(last switch)*
    pub kernel_switches: u64,
    /// At its end: the kernel's own count of its CPU time, ns, less [`Entry::base_cpu_ns`].
    /// *(last switch)*
    pub kernel_cpu_ns: u64,
    /// Its name, as of its end or of when it was read. *(last switch)*
    pub comm: [u8; COMM_LEN],
    /// At its end: exit code as `wait` returns it. *(last switch)*
    pub exit_code: u32,
    /// 1: the task made calls of the select/poll family. Not a flag: the programs that
    /// count them can be preempted, and the switch changes the flags. *(itself)*
    pub polled: u32,
    /// Hash of the waitset that was sent last; 0: none. *(switch)*
    pub waitset_hash: u64,
    /// Its [`Waitset::id`]. *(switch)*
    pub waitset: u32,
    /// The stretch that the next four are of; if that is not the one that is open, they mean
    /// nothing. *(switch)*
    pub lock_seq: u32,
    /// Address of the kernel's lock that the task waits for. *(switch)*
    pub lock: u64,
    /// Serial of the task that holds it; 0: it is none of the workload. *(switch)*
    pub lock_holder: u32,
    /// That task's tid; 0: nobody holds it, or it is not known who does. *(switch)*
    pub lock_holder_tid: u32,
    /// See [`kernel_lock`]. *(switch)*
    pub lock_kind: u32,
    /// 1: the task was there before the recording and was taken in from outside. *(birth)*
    pub attached: u32,
}

/// What a task that was there before the recording was found doing when it was taken in.
/// Stands beside its [`TaskState`], by slot. Written by the iterator over all tasks, which
/// runs one at a time, and valid until the task is switched for the first time.
///
/// Of the same time as the task's first switch-in is what it says if no switch came
/// between: `switches` tells.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct Entry {
    /// The task; 0: nothing is known yet. Written last.
    pub serial: u32,
    /// What the syscall waits for, where that is a descriptor: number of an [`Object`]
    /// that user space makes of what stands below; 0: not known.
    pub object: u32,
    /// The kernel's count of its switches.
    pub switches: u64,
    /// First argument of the syscall that it is in.
    pub arg0: u64,
    /// Second argument, low half.
    pub arg1: u32,
    /// See [`Stretch::timeout_us`].
    pub timeout_us: u32,
    /// The syscall that it is in, or [`NO_SYSCALL`].
    pub syscall: i16,
    /// Why it is off the CPU, see [`why`]; 0: it is on one.
    pub why: u8,
    /// [`flag::COMPAT`] or 0.
    pub flags: u8,
    /// Of the file that it waits for: type and permissions.
    pub mode: u16,
    /// Always 0.
    pub zero: u16,
    /// By which descriptor.
    pub fd: u32,
    /// Device of its file system.
    pub device: u32,
    /// Address of its `struct file`.
    pub file: u64,
    /// Address of its `file_operations`.
    pub operations: u64,
    /// Inode number.
    pub inode: u64,
    /// When an iterator met the task last.
    pub seen_ns: u64,
    /// Since it was last switched in: by the run queue's clock, which is not that of the
    /// records, ns; 0: not known.
    pub last_ran_ns: u64,
    /// How long it ran then, ns.
    pub ran_ns: u64,
    /// Switches of the task as the programs had counted them when an iterator met it last.
    pub check_traced: u64,
    /// The same as the kernel had counted them since the task was taken in, or was born.
    pub check_kernel: u64,
    /// The kernel's count of its switches before the first that was seen; written by that.
    pub base_switches: u64,
    /// Its CPU time when it was taken in, ns; written by that switch.
    pub base_cpu_ns: u64,
    /// The task that the two counts are of. Written last.
    pub check_serial: u32,
    /// Always 0.
    pub zero2: u32,
}

/// Kinds of what can be wanted of tasks that are there: the upper half of a key of the table
/// of what is wanted, the other half is the number.
pub mod wanted {
    /// All threads of the process with this pid, in the pid namespace of the reader.
    pub const PID: u64 = 1;
    /// The thread with this tid, in that namespace.
    pub const TID: u64 = 2;
    /// All tasks in the cgroup with this id, and in those below it.
    pub const CGROUP: u64 = 3;
    /// All that are not the kernel's (number 0).
    pub const ALL: u64 = 4;
}

/// The end of a task: its last switch. Sent once a task.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct End {
    /// [`kind::END`].
    pub kind: u8,
    /// Always 0.
    pub zero: [u8; 7],
    /// The state, complete.
    pub state: TaskState,
}

/// What a task did with one syscall of the select/poll family.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct PollCounters {
    /// Calls that returned (a call that the kernel restarts has not returned).
    pub calls: u64,
    /// Of these, calls that found something ready and never blocked.
    pub ready_at_once: u64,
    /// Of these, calls that blocked at least once.
    pub blocked: u64,
    /// Of these, calls that returned 0: nothing became ready in time.
    pub timed_out: u64,
    /// Of these, calls that returned 0 and never blocked (a timeout of 0).
    pub empty_at_once: u64,
    /// Of these, calls that failed.
    pub failed: u64,
    /// Largest number of fds waited for; 0 when none was seen.
    pub max_fds: u32,
    /// Calls whose number of fds could not be read.
    pub unknown_fds: u32,
}

/// The select/poll family's counters of a task, and the call that is under way. Written
/// by the task itself while it runs, and read by its last switch.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct PollState {
    /// Position of the call under way plus 1, see [`crate::layout::poll`]; 0: none.
    pub pending: u32,
    /// The task's [`TaskState::blocks`] when the call began.
    pub blocks: u32,
    /// Counters by syscall, at its position plus 1: the same number as in
    /// `pending`, so that the oldest verifiers can follow the index. Element 0 is
    /// not used.
    pub counters: [PollCounters; POLL_KINDS + 1],
}

/// A task's use of the select/poll family, sent once, before its [`End`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Polls {
    /// [`kind::POLLS`].
    pub kind: u8,
    /// Always 0.
    pub zero: [u8; 3],
    /// The task.
    pub serial: u32,
    /// The counters.
    pub polls: PollState,
}

/// A task outside the workload, or a kernel thread, that woke a task of the
/// workload. Sent before its wakeup is, and again when it was forgotten.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Outsider {
    /// [`kind::OUTSIDER`].
    pub kind: u8,
    /// 1: a kernel thread.
    pub kernel_thread: u8,
    /// Always 0.
    pub zero: [u8; 2],
    /// Its tid.
    pub tid: u32,
    /// Its tgid.
    pub tgid: u32,
    /// Always 0.
    pub zero2: u32,
    /// When.
    pub at_ns: u64,
    /// Its name.
    pub comm: [u8; COMM_LEN],
}

/// Who else ran on the CPU that a task of the workload had to wait for. Sent when the task
/// comes to the CPU: of the task that gives it up just now, and of those that had it before
/// and still want it; each turn once.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct CpuUser {
    /// [`kind::CPU_USER`].
    pub kind: u8,
    /// 1: a kernel thread.
    pub kernel_thread: u8,
    /// Always 0.
    pub zero: [u8; 2],
    /// Its tid.
    pub tid: u32,
    /// Its tgid.
    pub tgid: u32,
    /// Always 0.
    pub zero2: u32,
    /// CPU time that it had at one go, ns.
    pub ns: u64,
    /// When it gave it up.
    pub at_ns: u64,
    /// The name of its process, by words.
    pub comm: [u64; COMM_LEN / 8],
}

/// Data came to a TCP socket and a task of the workload looked at it so much later. Sent when
/// it looks, if that is wanted and took long enough ([`crate::layout::Layout::lag_min_us`]).
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Lag {
    /// [`kind::LAG`].
    pub kind: u8,
    /// Always 0.
    pub zero: [u8; 3],
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
    /// Always 0.
    pub zero2: u32,
}

/// A file that a task waited on. The same open file description can have
/// several ids: file, inode and device tell.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Object {
    /// [`kind::OBJECT`].
    pub kind: u8,
    /// Always 0.
    pub zero: u8,
    /// `inode.i_mode`: type and permissions.
    pub mode: u16,
    /// Its number, from 1, shared with waitsets.
    pub id: u32,
    /// The task that waited.
    pub serial: u32,
    /// By which descriptor.
    pub fd: u32,
    /// When.
    pub at_ns: u64,
    /// Address of the `struct file`: the open file description, while it is open.
    pub file: u64,
    /// Address of its `file_operations`: what a file without an inode of its own is.
    pub operations: u64,
    /// Inode number.
    pub inode: u64,
    /// The file system's device, as the kernel encodes it (`major << 20 | minor`).
    pub device: u32,
    /// Always 0.
    pub zero2: u32,
    /// The last name of its path, with a 0 at its end; cut off where it is longer.
    pub name: [u8; LAST_NAME_BYTES],
}

/// Bytes of [`Object::name`].
pub const LAST_NAME_BYTES: usize = 32;

/// Bytes of a waitset's raw form.
pub const WAITSET_BYTES: usize = 512;
/// Most descriptors of a `poll` that are in a [`Waitset`].
pub const WAITSET_POLLFDS: u32 = (WAITSET_BYTES / 8) as u32;
/// Bytes of each of the three sets of a `select` in a [`Waitset`]: 1024 fds.
pub const WAITSET_SET_BYTES: usize = 128;

/// The descriptors that a call of select or poll waits for, as the call got
/// them. Sent when they differ from those that the task waited for last.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Waitset {
    /// [`kind::WAITSET`].
    pub kind: u8,
    /// 1: three sets of a `select`, [`WAITSET_SET_BYTES`] apart; 0: `pollfd`s.
    pub select: u8,
    /// Always 0.
    pub zero: [u8; 2],
    /// Its number, from 1, shared with objects.
    pub id: u32,
    /// The task that waited.
    pub serial: u32,
    /// The call's `nfds`; there can be more descriptors than are here.
    pub nfds: u32,
    /// When.
    pub at_ns: u64,
    /// The raw form.
    pub bytes: [u8; WAITSET_BYTES],
}

/// A signal that stops, continues or kills was sent to a task of the workload.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Signal {
    /// [`kind::SIGNAL`].
    pub kind: u8,
    /// Its number.
    pub signal: u8,
    /// See [`waker`].
    pub sender_class: u8,
    /// 1: to the whole process.
    pub group: u8,
    /// The task that it was sent to.
    pub serial: u32,
    /// Who sent it, as `sender_class` says.
    pub sender: u32,
    /// Always 0.
    pub zero: u32,
    /// When.
    pub at_ns: u64,
}

/// What a CPU knows and counts. Only programs on that CPU write here, but for [`Self::read`];
/// user space reads the counters and [`Self::written`], and nothing else.
///
/// The first cache line is what a switch or a wakeup uses, the second what is counted
/// when something goes wrong, the third what is seldom used, so that reading the counters
/// does not take the first line away. The fourth is user space's. The table is
/// memory-mapped, which makes it begin on a page.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct CpuStats {
    /// Stretches written to this CPU's ring since the start. Written after the stretch.
    pub written: u64,
    /// When [`Self::written`] is this, there is something to do before the next is written:
    /// to see how much room there is, or to wake the reader.
    pub stop: u64,
    /// The interrupts that are being handled, innermost lowest: see [`hard`].
    pub hard: u64,
    /// The soft interrupt that is being handled: its vector plus 1; 0: none. They
    /// don't nest.
    pub soft: u32,
    /// The number of this CPU.
    pub number: u32,
    /// For making an address a number.
    pub address: u64,
    /// Slot of the task that runs here, if it is traced and its switch-in was seen;
    /// 0: not known. With [`plain`](crate::layout::Layout::plain), always 0.
    pub running: u64,
    /// The lower end of that task's kernel stack.
    pub stack_low: u64,
    /// The upper end.
    pub stack_top: u64,

    /// Stretch records that found the ring full.
    pub lost_ring_full: u64,
    /// Stretch records on a CPU that has no ring (one that was not there at the start).
    pub lost_no_ring: u64,
    /// Other records that were dropped: births, execs and untracked tasks.
    pub lost_other: u64,
    /// Tasks of the workload that are not followed: the task table was full.
    pub untracked_table_full: u64,
    /// Tasks that died and whose last record was dropped: they are still in the task table.
    pub unreported: u64,
    /// Stacks that were dropped: the stack map was full.
    pub lost_stacks: u64,
    /// Slots of dead tasks that could not be given back: until the end of the
    /// recording the task table is smaller by as many.
    pub lost_slots: u64,
    /// Other changes of the tables of tasks that the kernel refused: a free slot
    /// that could not be taken, so that a new one was; a dead task that could not be
    /// removed from the table of addresses.
    pub refused: u64,

    /// Bytes sent to this CPU's ring buffer since its reader was woken for them.
    pub unwoken: u64,
    /// [`Self::written`] when the reader was woken for stretches last.
    pub woken: u64,
    /// The task that sent to itself or another through a soft interrupt that this
    /// CPU has not finished: address of its `task_struct`; 0: none.
    pub sender: u64,
    /// Times that a task of the workload looked at data on a socket that had come before.
    pub lags: u64,
    /// Data that came and was not noted: the table of sockets was full.
    pub lags_not_noted: u64,
    /// Always 0.
    pub zero: [u64; 3],

    /// So many stretches were read: their places can be used again. *(user space)*
    pub read: u64,
    /// Always 0.
    pub zero2: [u64; 7],
}

/// [`CpuStats::hard`]: a stack of up to three interrupts in one word, since a device's
/// interrupt can come while a timer is handled in a soft one, and where the timer is a
/// device (arm64) its interrupt nests in the device's.
pub mod hard {
    /// Bits of each.
    pub const BITS: u32 = 21;
    /// The innermost: 0 is none, else [`TIMER`] or the interrupt's number plus 1.
    pub const INNERMOST: u64 = (1 << BITS) - 1;
    /// A high-resolution timer.
    pub const TIMER: u64 = INNERMOST;
}

/// Counters and settings shared by all programs. One element. User space writes the
/// first three when it arms the tracer and when it disarms it, and only reads the others;
/// the programs change those by atomic instructions.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct Control {
    /// Children of the task with this tid, in the pid namespace below, are roots
    /// of the workload; 0: none. *(user space)*
    pub launcher: u64,
    /// Device of that pid namespace, as the kernel encodes it. *(user space)*
    pub namespace_device: u64,
    /// Inode of that pid namespace. *(user space)*
    pub namespace_inode: u64,
    /// Last serial given. *(programs)*
    pub serial: u64,
    /// Slots of the task table that were ever used (a little more when it is full).
    /// *(programs)*
    pub slots: u64,
    /// Tasks of the workload that live and are followed. *(programs)*
    pub live: u64,
    /// Tasks of the workload that live and are not followed. *(programs)*
    pub live_untracked: u64,
    /// Last number given to an object or a waitset. *(programs)*
    pub objects: u64,

    /// Tasks that the iterator took in, and those that it has to meet again. *(programs)*
    pub entered: u64,
    /// Tasks that came to a cgroup that is wanted, or may have. *(programs)*
    pub arrivals: u64,
    /// When the iterator's reader was last switched in, by the run queue's clock, ns; 0: not
    /// known. *(the iterator)*
    pub reader_ran_ns: u64,
    /// Always 0.
    pub zero: [u64; 5],
}

const _: () = {
    assert!(size_of::<Stretch>() == 64, "a stretch is a cache line");
    assert!(size_of::<Totals>() == 40);
    assert!(size_of::<CpuUser>() == 48);
    assert!(size_of::<Lag>() == 32);
    assert!(size_of::<TaskState>() == 256 && align_of::<TaskState>() == 8);
    assert!(core::mem::offset_of!(TaskState, blocked_ns) == 64);
    assert!(core::mem::offset_of!(TaskState, process) == 128);
    assert!(size_of::<Placed<Stretch>>() == PLACE_BYTES + 64);
    assert!(size_of::<CpuStats>() == 256 && align_of::<CpuStats>() == 64);
    assert!(core::mem::offset_of!(CpuStats, lost_ring_full) == 64);
    assert!(core::mem::offset_of!(CpuStats, unwoken) == 128);
    assert!(core::mem::offset_of!(CpuStats, read) == 192);
    assert!(size_of::<Control>() == 128);
    assert!(core::mem::offset_of!(TaskState, attached) == 252);
};
