//! The maps. User space sets the sizes marked "set at load".

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    btf_maps::{Array, ArrayOfMaps, HashMap, RingBuf, Stack, StackTrace},
    macros::btf_map,
};
use forktrace_common::{
    event::{Control, CpuStats, Entry, PollState, Registers, Stretch, TaskState, WAITSET_BYTES},
    limits::{MAX_CPUS, TIDS_PER_ELEMENT},
};

/// User space maps the table into its memory, and its first value lies at the start of a
/// page. In any other array the first value is 56 bytes into a cache line (Linux 6.18).
const MAPPED: usize = BPF_F_MMAPABLE as usize;

/// Words of each CPU's [`SCRATCH`]: more than is used, so that lengths can be
/// bounded by a mask. A power of two.
pub const SCRATCH_WORDS: usize = 4 * (WAITSET_BYTES / 8);

/// Entries of [`OUTSIDERS`]: a power of two.
pub const OUTSIDERS_SIZE: u32 = 4096;

/// An entry of [`OBJECTS`]. The kernel uses the memory of a `struct file` again at
/// once; all eventfds, timerfds and the like share one inode; and inode numbers are
/// a file system's own. So it takes all four to know a file again.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct KnownObject {
    /// Address of the `struct file`.
    pub file: u64,
    /// Address of its `file_operations`.
    pub operations: u64,
    /// Address of its inode.
    pub inode: u64,
    /// Inode number.
    pub number: u64,
    /// Its number for us; 0: the entry is free.
    pub id: u32,
    /// What waits for it have in [`TaskState::common_wait`].
    pub common_wait: u32,
}

/// Tid → slot in [`TASKS`]: 0 for a task that is not traced. A hint: see `filter`.
/// Size set at load, by `kernel.pid_max`: 4 bytes a tid.
#[btf_map]
pub static TIDS: Array<[u32; TIDS_PER_ELEMENT as usize], 2> = Array::new();

/// The tasks, by slot. Size set at load.
#[btf_map]
pub static TASKS: Array<TaskState, 2, MAPPED> = Array::new();

/// The select/poll counters and the waitsets sent last, by slot. Size set at load.
#[btf_map]
pub static POLLS: Array<PollState, 2> = Array::new();

/// Address of the `task_struct` → slot: decides when the hint is wrong. Size set at load.
#[btf_map]
pub static BY_TASK: HashMap<u64, u32, 2> = HashMap::new();

/// The registers that the tasks went to sleep with, by slot. Size set at load.
#[btf_map]
pub static REGISTERS: Array<Registers, 2, MAPPED> = Array::new();

/// What tasks that were taken in from outside were found doing, by slot. Size set at load.
#[btf_map]
pub static ENTRIES: Array<Entry, 2, MAPPED> = Array::new();

/// Which tasks are to be taken in: a kind ([`forktrace_common::event::wanted`]) and a number.
/// User space writes it. Size set at load.
#[btf_map]
pub static WANTED: HashMap<[u64; 2], u32, 2> = HashMap::new();

/// The serial of the first task that was taken in of a process, by pid and the low half of
/// the time when the process began. Size set at load.
#[btf_map]
pub static PROCESSES: HashMap<u64, u32, 2> = HashMap::new();

/// Slots of dead tasks, to be used again. Size set at load.
#[btf_map]
pub static FREE_SLOTS: Stack<u32, 2> = Stack::new();

/// Files that were sent, a part for each CPU, so that no two write to it at once.
/// An entry that is overwritten is sent again, under another number. Size set at
/// load.
#[btf_map]
pub static OBJECTS: Array<KnownObject, 2> = Array::new();

/// Tasks outside the workload that were sent: tid and the low half of the start
/// time, by the low bits of the tid.
#[btf_map]
pub static OUTSIDERS: Array<u64, { OUTSIDERS_SIZE as usize }> = Array::new();

/// Room for each CPU to read user memory and stacks into. Size set at load.
#[btf_map]
pub static SCRATCH: Array<[u64; SCRATCH_WORDS], 2> = Array::new();

/// TCP sockets with data that nobody has looked at, by the address of the `sock`: when the
/// first of it came. Size set at load.
#[btf_map]
pub static DATA_SINCE: HashMap<u64, u64, 2> = HashMap::new();

/// Until when, by the clock of each CPU's run queue, it was told who had the CPU.
#[btf_map]
pub static TOLD: Array<u64, MAX_CPUS> = Array::new();

/// Stacks, each once, by a number that the kernel gives. Size set at load.
#[btf_map]
pub static STACKS: StackTrace<2> = StackTrace::new();

/// Shared counters and settings.
#[btf_map]
pub static CONTROL: Array<Control, 1, MAPPED> = Array::new();

/// Counters of each CPU. An array by CPU number, because the JIT inlines its
/// look-up on every kernel, unlike a per-CPU array's.
#[btf_map]
pub static CPUS: Array<CpuStats, MAX_CPUS, MAPPED> = Array::new();

/// The rings of the stretches, CPU after CPU. Size set at load.
#[btf_map]
pub static STRETCHES: Array<Stretch, 2, MAPPED> = Array::new();

/// A ring buffer for each CPU: one shared ring collapses when many CPUs write to it.
/// User space makes the rings.
#[btf_map]
pub static RINGS: ArrayOfMaps<RingBuf<u64, 4096>, MAX_CPUS> = ArrayOfMaps::new();
