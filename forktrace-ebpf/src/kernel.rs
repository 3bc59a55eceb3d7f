//! The only reader of kernel structures.
//!
//! Pointers come from tracepoint arguments and from helpers, so the verifier
//! knows their types and checks each load against the kernel's BTF; a load
//! through a stale pointer reads 0 instead of faulting. That, and that
//! [`LAYOUT`] is constant, is what makes these functions safe to call with any
//! pointer that the verifier accepts.

pub mod sock;

use core::arch::asm;

use aya_ebpf::helpers::{
    bpf_get_current_task_btf, bpf_ktime_get_ns, bpf_probe_read_kernel, bpf_task_pt_regs, generated,
};
use forktrace_common::{
    event::{LAST_NAME_BYTES, kernel_lock},
    layout::{Layout, WAITS, Waits, wait},
    limits::COMM_LEN,
};

/// Set by user space before the programs are loaded.
#[unsafe(no_mangle)]
// SAFETY: it consists of integers.
pub(crate) static LAYOUT: Layout = unsafe { core::mem::zeroed() };

/// Set by user space before the programs are loaded: what each syscall waits for.
#[unsafe(no_mangle)]
pub(crate) static WAIT_KINDS: Waits = [0; WAITS];

/// What a syscall waits for ([`forktrace_common::layout::wait`]).
#[inline(always)]
pub fn wait_kind(syscall: i16) -> u8 {
    let number = syscall as u16 as usize;
    if number >= WAITS {
        return wait::NONE;
    }
    // SAFETY: within the table; volatile because the zeros that stand there when
    // this is compiled are not those that it has when it runs.
    unsafe {
        (&raw const WAIT_KINDS)
            .cast::<u8>()
            .add(number & (WAITS - 1))
            .read_volatile()
    }
}

/// Reads a field of [`LAYOUT`]. Volatile, so that the compiler does not fold the
/// zeros that stand there when it compiles.
#[inline(always)]
pub(crate) fn constant<T: Copy>(field: *const T) -> T {
    // SAFETY: called by `layout!` only, with a field of a static that nobody writes.
    unsafe { field.read_volatile() }
}

/// The value of a field of [`LAYOUT`].
macro_rules! layout {
    ($($field:tt)+) => {
        $crate::kernel::constant(&raw const $crate::kernel::LAYOUT.$($field)+)
    };
}
pub(crate) use layout;

/// A `task_struct` of the kernel.
#[derive(Clone, Copy)]
pub struct Task(*const u8);

// Sleeping states and flags, from include/linux/sched.h; the same since 6.1 and
// part of what `ps` and tracepoints show.
const TASK_INTERRUPTIBLE: u64 = 0x1;
const TASK_UNINTERRUPTIBLE: u64 = 0x2;
const TASK_STOPPED: u64 = 0x4;
const TASK_TRACED: u64 = 0x8;
const TASK_DEAD: u64 = 0x80;
const TASK_WAKING: u64 = 0x200;
const TASK_NEW: u64 = 0x800;
const TASK_WAKEKILL: u64 = 0x100;
const TASK_NOLOAD: u64 = 0x400;
const TASK_FROZEN: u64 = 0x8000;
const PF_EXITING: u32 = 0x4;
const PF_POSTCOREDUMP: u32 = 0x8;
const PF_IO_WORKER: u32 = 0x10;
const PF_USER_WORKER: u32 = 0x4000;
const PF_KTHREAD: u32 = 0x0020_0000;
/// include/linux/sched/jobctl.h: the cgroup v2 freezer has this task.
const JOBCTL_TRAP_FREEZE: u64 = 1 << 23;
/// arch/x86/include/asm/thread_info.h: the task is in a 32-bit syscall.
const TS_COMPAT: u32 = 0x2;

/// Flags of `clone` (include/uapi/linux/sched.h).
pub mod clone {
    /// Shares the memory.
    pub const VM: u64 = 0x100;
    /// Shares root and working directory.
    pub const FS: u64 = 0x200;
    /// Shares the open files.
    pub const FILES: u64 = 0x400;
    /// Shares the signal handlers.
    pub const SIGHAND: u64 = 0x800;
    /// Its creator waits until it executes a program or ends.
    pub const VFORK: u64 = 0x4000;
    /// Is of the same process.
    pub const THREAD: u64 = 0x1_0000;
}

/// Did the task die in this switch? `prev_state` is the tracepoint's.
#[inline(always)]
pub fn is_dead(prev_state: u64) -> bool {
    prev_state & TASK_DEAD != 0
}

impl Task {
    /// The task that a tracepoint names.
    #[inline(always)]
    pub fn from_arg(task: *const u8) -> Self {
        Self(task)
    }

    /// The task that runs on this CPU now.
    #[inline(always)]
    pub fn current() -> Self {
        // SAFETY: a helper without arguments.
        Self(unsafe { bpf_get_current_task_btf() }.cast_const().cast())
    }

    /// Its address: its identity while it lives.
    #[inline(always)]
    pub fn address(self) -> u64 {
        self.0 as u64
    }

    #[inline(always)]
    fn read<T: Copy>(self, offset: u32) -> T {
        // SAFETY: see the module's text.
        unsafe { *self.0.add(offset as usize).cast::<T>() }
    }

    /// Its tid.
    #[inline(always)]
    pub fn tid(self) -> u32 {
        self.read(layout!(task_pid))
    }

    /// Its tgid.
    #[inline(always)]
    pub fn tgid(self) -> u32 {
        self.read(layout!(task_tgid))
    }

    /// Tgid of its parent process.
    #[inline(always)]
    pub fn ppid(self) -> u32 {
        Self(self.read(layout!(task_real_parent))).tgid()
    }

    /// The kernel's count of its context switches.
    #[inline(always)]
    pub fn switches(self) -> u64 {
        let voluntary: u64 = self.read(layout!(task_nvcsw));
        let involuntary: u64 = self.read(layout!(task_nivcsw));
        voluntary + involuntary
    }

    /// The kernel's count of its CPU time, ns.
    #[inline(always)]
    pub fn cpu_time(self) -> u64 {
        self.read(layout!(task_cpu_time))
    }

    /// CPU time since it was last switched in, ns, as the kernel charges it. Up to
    /// date in its switch-out.
    #[inline(always)]
    pub fn cpu_time_of_this_turn(self) -> u64 {
        let before: u64 = self.read(layout!(task_cpu_time_before));
        self.cpu_time().saturating_sub(before)
    }

    /// The run queue of its CPU; `None`: the kernel does not tell enough. To be asked in
    /// its switch-out, where the queue's clock is up to date.
    #[inline(always)]
    pub fn run_queue(self) -> Option<RunQueue> {
        if layout!(turn.known) == 0 {
            return None;
        }
        let cfs_rq: *const u8 = self.read(layout!(turn.cfs_rq));
        // SAFETY: see the module's text, for both.
        let rq: *const u8 = unsafe { *cfs_rq.add(layout!(turn.rq) as usize).cast() };
        let clock: u64 = unsafe { *rq.add(layout!(turn.clock) as usize).cast() };
        Some(RunQueue {
            tasks: rq as u64 + u64::from(layout!(turn.tasks)),
            clock,
        })
    }

    /// The lock of the kernel that it waits for: the address, with its kind in the lowest
    /// bits ([`forktrace_common::event::kernel_lock`]). 0: none, or the kernel does not tell.
    #[inline(always)]
    pub fn blocker(self) -> u64 {
        if layout!(blocker.blocker) == 0 {
            return 0;
        }
        self.read(layout!(blocker.blocker))
    }

    /// Its exit code, as `wait` returns it.
    #[inline(always)]
    pub fn exit_code(self) -> u32 {
        self.read(layout!(task_exit_code))
    }

    /// Does it never run in user mode?
    #[inline(always)]
    pub fn is_kernel_worker(self) -> bool {
        let flags: u32 = self.read(layout!(task_flags));
        flags & (PF_KTHREAD | PF_IO_WORKER | PF_USER_WORKER) != 0
    }

    /// Is it a kernel thread?
    #[inline(always)]
    pub fn is_kernel_thread(self) -> bool {
        let flags: u32 = self.read(layout!(task_flags));
        flags & PF_KTHREAD != 0
    }

    /// Is it ending?
    #[inline(always)]
    pub fn is_exiting(self) -> bool {
        let flags: u32 = self.read(layout!(task_flags));
        flags & PF_EXITING != 0
    }

    /// The flags of the `clone` that made it, as far as [`clone`] has names for them. To
    /// be asked before it has run: later it may share less.
    #[inline(always)]
    pub fn clone_flags(self, creator: Self) -> u64 {
        let same = |offset: u32| self.read::<u64>(offset) == creator.read::<u64>(offset);
        let mut flags = 0;
        for (set, flag) in [
            (same(layout!(task_mm)), clone::VM),
            (same(layout!(task_fs)), clone::FS),
            (same(layout!(task_files)), clone::FILES),
            (same(layout!(task_sighand)), clone::SIGHAND),
            (
                self.read::<u64>(layout!(task_vfork_done)) != 0,
                clone::VFORK,
            ),
            (self.tgid() == creator.tgid(), clone::THREAD),
        ] {
            if set {
                flags |= flag;
            }
        }
        flags
    }

    /// When it was created, in the kernel's own unit: with the tid, an identity.
    #[inline(always)]
    pub fn start_time(self) -> u64 {
        self.read(layout!(task_start_time))
    }

    /// The lowest address of its kernel stack. The other end is where its
    /// registers are saved ([`Self::regs`]).
    #[inline(always)]
    pub fn stack(self) -> u64 {
        self.read(layout!(task_stack))
    }

    /// The file that it has open as `fd`.
    ///
    /// The table is walked without a lock, which the task could at most change
    /// itself: it is on its way to sleep. Another thread that closes the
    /// descriptor meanwhile makes the file another one, or none.
    #[inline(always)]
    pub fn file(self, fd: u32) -> Option<File> {
        let files: *const u8 = self.read(layout!(task_files));
        if files.is_null() {
            return None;
        }
        // SAFETY: see the module's text, for these three.
        let table: *const u8 = unsafe { *files.add(layout!(files_fdt) as usize).cast() };
        if table.is_null() {
            return None;
        }
        let max: u32 = unsafe { *table.add(layout!(fdt_max_fds) as usize).cast() };
        if fd >= max {
            return None;
        }
        let list: u64 = unsafe { *table.add(layout!(fdt_fd) as usize).cast() };
        // SAFETY: as above.
        let small = unsafe { files.add(layout!(files_fd_array) as usize) };
        if fd < SMALL_TABLE && list == small as u64 {
            return File::known(small_table(small, fd));
        }
        File::read(read_kernel(list + u64::from(fd) * 8)?)
    }

    /// Its name.
    #[inline(always)]
    pub fn comm(self) -> [u8; COMM_LEN] {
        // SAFETY: the helper checks the address.
        unsafe { bpf_probe_read_kernel(self.0.add(layout!(task_comm) as usize).cast()) }
            .unwrap_or_default()
    }

    /// Is a wakeup of it under way? To be asked in its switch-out.
    ///
    /// A waker has `pi_lock` from before its `sched_waking` until the task is
    /// `TASK_WAKING`, which it then is until after the switch (`try_to_wake_up`).
    #[inline(always)]
    pub fn is_being_woken(self) -> bool {
        let state: u32 = self.read(layout!(task_state));
        self.read::<u32>(layout!(task_pi_lock)) != 0 || u64::from(state) & TASK_WAKING != 0
    }

    /// Why it leaves the CPU ([`forktrace_common::event::why`]).
    ///
    /// `prev_state` is the tracepoint's. It lies in four cases:
    /// - a preempted task can carry a sleeping state, so `preempt` decides first;
    /// - before 6.12 a task that found a signal pending is shown with the state
    ///   that it gave up, so `__state` is read again: it is 0 then, and can't be
    ///   0 otherwise, since a waker needs the run queue's lock that we hold;
    /// - a task frozen by a v2 cgroup shows as asleep: `jobctl` tells;
    /// - siblings of a core dump show as idle: `PF_POSTCOREDUMP` tells.
    #[inline(always)]
    pub fn why(self, preempt: bool, prev_state: u64) -> u8 {
        use forktrace_common::event::why;
        if preempt || prev_state == 0 {
            return why::PREEMPTED;
        }
        if self.read::<u32>(layout!(task_state)) == 0 {
            return why::PREEMPTED;
        }
        if prev_state & TASK_INTERRUPTIBLE != 0 {
            let jobctl: u64 = self.read(layout!(task_jobctl));
            if jobctl & JOBCTL_TRAP_FREEZE != 0 {
                return why::FROZEN;
            }
            return why::INTERRUPTIBLE;
        }
        if prev_state & TASK_STOPPED != 0 {
            return why::STOPPED;
        }
        if prev_state & TASK_TRACED != 0 {
            return why::TRACED;
        }
        if prev_state & TASK_FROZEN != 0 {
            return why::FROZEN;
        }
        if prev_state & TASK_UNINTERRUPTIBLE != 0 && prev_state & TASK_WAKEKILL != 0 {
            return why::KILLABLE;
        }
        if prev_state & TASK_NOLOAD != 0 {
            let flags: u32 = self.read(layout!(task_flags));
            if flags & PF_POSTCOREDUMP != 0 {
                return why::CORE_DUMP;
            }
        }
        why::UNINTERRUPTIBLE
    }

    /// Where the command line of its process is, in its memory: from and to.
    #[inline(always)]
    pub fn command_line(self) -> Option<(u64, u64)> {
        let mm: u64 = self.read(layout!(task_mm));
        let from = read_kernel(mm + u64::from(layout!(mm_arg_start)))?;
        let to = read_kernel(mm + u64::from(layout!(mm_arg_end)))?;
        Some((from, to))
    }

    /// Is it made and not yet woken for the first time? Its creator is at it.
    #[inline(always)]
    pub fn is_unborn(self) -> bool {
        let state: u32 = self.read(layout!(task_state));
        u64::from(state) & TASK_NEW != 0
    }

    /// Has it ended, but for its last switch, or with that?
    #[inline(always)]
    pub fn is_over(self) -> bool {
        let state: u32 = self.read(layout!(task_state));
        let exit_state: u32 = self.read(layout!(task_exit_state));
        exit_state != 0 || is_dead(u64::from(state))
    }

    /// Is it on a CPU, or has it not quite left it?
    #[inline(always)]
    pub fn is_on_cpu(self) -> bool {
        self.read::<u32>(layout!(task_on_cpu)) != 0
    }

    /// Why it is off the CPU, as far as that can be told from outside
    /// ([`forktrace_common::event::why`]).
    ///
    /// A task in the run queue wants to run whatever its state says, but for one that
    /// sleeps and is left there for a while (since 6.12).
    #[inline(always)]
    pub fn why_off(self) -> u8 {
        use forktrace_common::event::why;
        let state = u64::from(self.read::<u32>(layout!(task_state)));
        let queued = self.read::<u32>(layout!(task_on_rq)) != 0 && !self.is_delayed();
        if queued || state & TASK_WAKING != 0 {
            return why::PREEMPTED;
        }
        self.why(false, state)
    }

    #[inline(always)]
    fn is_delayed(self) -> bool {
        layout!(has_sched_delayed) != 0 && self.read::<u8>(layout!(task_sched_delayed)) != 0
    }

    /// When it was last switched in, by the run queue's clock, ns; 0 where the kernel does
    /// not keep that.
    #[inline(always)]
    pub fn last_arrival(self) -> u64 {
        if layout!(task_last_arrival) == 0 {
            return 0;
        }
        self.read(layout!(task_last_arrival))
    }

    /// The first thread of its process.
    #[inline(always)]
    pub fn leader(self) -> Self {
        Self(self.read(layout!(task_group_leader)))
    }

    /// Its parent process's first thread.
    #[inline(always)]
    pub fn real_parent(self) -> Self {
        Self(self.read(layout!(task_real_parent)))
    }

    /// The depth of the innermost pid namespace that it is in.
    #[inline(always)]
    pub fn pid_depth(self) -> u32 {
        let pid: u64 = self.read(layout!(task_thread_pid));
        read_kernel(pid + u64::from(layout!(pid_level))).unwrap_or(0)
    }

    /// Its tid in the pid namespace of this depth, if it is in one; 0: it is not.
    #[inline(always)]
    pub fn tid_at(self, depth: u32) -> u32 {
        /// `sizeof(struct upid)`: a number, and a pointer to the namespace.
        const UPID: u64 = 16;
        let pid: u64 = self.read(layout!(task_thread_pid));
        if pid == 0 {
            return 0;
        }
        let at = pid + u64::from(layout!(pid_numbers)) + u64::from(depth & 31) * UPID;
        read_kernel(at).unwrap_or(0)
    }

    /// Its cgroup of the unified hierarchy.
    #[inline(always)]
    pub fn cgroup(self) -> Cgroup {
        let set: *const u8 = self.read(layout!(task_cgroups));
        // SAFETY: see the module's text.
        Cgroup(unsafe { *set.add(layout!(css_set_cgroup) as usize).cast() })
    }

    /// Is it in a syscall of a 32-bit program?
    #[inline(always)]
    pub fn is_compat(self) -> bool {
        if layout!(has_compat_status) == 0 {
            return false;
        }
        let status: u32 = self.read(layout!(task_compat_status));
        status & TS_COMPAT != 0
    }

    /// Its registers as of its entry into the kernel.
    #[inline(always)]
    pub fn regs(self) -> Regs {
        // SAFETY: the helper takes a task and returns a pointer that the
        // verifier knows as `struct pt_regs *`.
        Regs(unsafe { bpf_task_pt_regs(self.0.cast_mut().cast()) } as *const u8)
    }
}

/// Address of the `task_struct` of whoever holds a lock of the kernel; 0: nobody, or it is not
/// known who. The lock is there as long as somebody waits for it.
#[inline(always)]
pub fn holder(blocker: u64) -> u64 {
    let lock = blocker & !u64::from(kernel_lock::RWSEM_WRITER);
    // The other bits are flags (kernel/locking/mutex.h, rwsem.c).
    let (at, flags) = match blocker as u32 & kernel_lock::RWSEM_WRITER {
        kernel_lock::MUTEX => (layout!(blocker.mutex_owner), 7),
        kernel_lock::SEMAPHORE => (layout!(blocker.semaphore_holder), 0),
        _ => {
            const READER_OWNED: u64 = 1;
            let owner = kernel_word(lock + u64::from(layout!(blocker.rwsem_owner)));
            // One of the readers, and perhaps none that still reads.
            return if owner & READER_OWNED == 0 {
                owner & !3
            } else {
                0
            };
        }
    };
    kernel_word(lock + u64::from(at)) & !flags
}

/// A word at an address of which the verifier knows nothing; 0: it can't be read.
#[inline(always)]
pub fn kernel_word(address: u64) -> u64 {
    let mut word = 0u64;
    // SAFETY: the helper checks the address, and writes no more than the word: zeros where
    // it can't read.
    unsafe { generated::bpf_probe_read_kernel((&raw mut word).cast(), 8, address as *const _) };
    word
}

/// A CPU's run queue, while it is locked.
#[derive(Clone, Copy)]
pub struct RunQueue {
    /// Address of the list of its tasks.
    pub tasks: u64,
    /// Its clock, ns.
    pub clock: u64,
}

/// A task of which there is only the address.
#[derive(Clone, Copy)]
pub struct Remote(pub u64);

impl Remote {
    /// The one at a place in a run queue's list.
    #[inline(always)]
    pub fn at(place: u64) -> Self {
        Self(place - u64::from(layout!(turn.node)))
    }

    #[inline(always)]
    fn word(self, offset: u32) -> u64 {
        kernel_word(self.0 + u64::from(offset))
    }

    /// See [`Task::tid`]; 0: it can't be read.
    #[inline(always)]
    pub fn tid(self) -> u32 {
        self.word(layout!(task_pid)) as u32
    }

    /// See [`Task::tgid`].
    #[inline(always)]
    pub fn tgid(self) -> u32 {
        self.word(layout!(task_tgid)) as u32
    }

    /// Its name, in two words.
    #[inline(always)]
    pub fn comm(self) -> [u64; COMM_LEN / 8] {
        [
            self.word(layout!(task_comm)),
            self.word(layout!(task_comm) + 8),
        ]
    }

    /// See [`Task::is_kernel_thread`].
    #[inline(always)]
    pub fn is_kernel_thread(self) -> bool {
        self.word(layout!(task_flags)) as u32 & PF_KTHREAD != 0
    }

    /// The first thread of its process.
    #[inline(always)]
    pub fn leader(self) -> Self {
        Self(self.word(layout!(turn.leader)))
    }

    /// When it came to its CPU, by the clock of the run queue.
    #[inline(always)]
    pub fn arrival(self) -> u64 {
        self.word(layout!(turn.last_arrival))
    }

    /// CPU time of its last turn, ns.
    #[inline(always)]
    pub fn last_turn(self) -> u64 {
        let before = self.word(layout!(task_cpu_time_before));
        self.word(layout!(task_cpu_time)).saturating_sub(before)
    }
}

/// A `cgroup` of the kernel, by its address.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Cgroup(u64);

impl Cgroup {
    /// The cgroup that a tracepoint names.
    #[inline(always)]
    pub fn from_arg(cgroup: u64) -> Self {
        Self(cgroup)
    }

    /// How deep it is: 0 is the root.
    #[inline(always)]
    pub fn depth(self) -> u32 {
        read_kernel(self.0 + u64::from(layout!(cgroup_level))).unwrap_or(0)
    }

    /// The id of the one above it, or itself, at a depth that is not below its own; 0: not
    /// known.
    #[inline(always)]
    pub fn id_at(self, depth: u32) -> u64 {
        let at = self.0 + u64::from(layout!(cgroup_ancestors)) + 8 * u64::from(depth);
        read_kernel::<u64>(at)
            .and_then(|above| read_kernel::<u64>(above + u64::from(layout!(cgroup_node))))
            .and_then(|node| read_kernel(node + u64::from(layout!(node_id))))
            .unwrap_or(0)
    }
}

/// The number of the syscall in registers that were saved at this address; -1
/// outside a syscall.
#[inline(always)]
pub fn syscall_at(registers: u64) -> Option<i32> {
    read_kernel(registers + u64::from(layout!(regs_syscall)))
}

/// Reads kernel memory at an address of which the verifier knows nothing.
#[inline(always)]
fn read_kernel<T>(address: u64) -> Option<T> {
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_kernel(address as *const T) }.ok()
}

/// An open file of the kernel.
#[derive(Clone, Copy)]
pub struct File {
    /// Address of the `struct file`.
    pub address: u64,
    /// Address of its inode.
    pub inode: u64,
    /// Inode number.
    pub number: u64,
    /// Address of its `file_operations`.
    pub operations: u64,
}

/// `NR_OPEN_DEFAULT` (include/linux/fdtable.h) of a 64-bit kernel: the size of the
/// table of descriptors that a process begins with.
const SMALL_TABLE: u32 = 64;

/// An entry of the small table, as the verifier knows it: a `struct file *` that
/// can be followed without a call. It wants offsets that are constants, so there is
/// a load for each; in assembly, or the compiler makes one of all.
#[inline(always)]
fn small_table(table: *const u8, fd: u32) -> *const u8 {
    macro_rules! load {
        ($($i:literal)*) => {
            match fd {
                $($i => {
                    let file: *const u8;
                    // SAFETY: a load within the table.
                    unsafe {
                        asm!(
                            "{file} = *(u64 *)({table} + {at})",
                            file = out(reg) file,
                            table = in(reg) table,
                            at = const 8 * $i,
                        );
                    }
                    file
                })*
                _ => core::ptr::null(),
            }
        };
    }
    load!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31
        32 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61
        62 63)
}

impl File {
    /// A file that the verifier knows to be one.
    #[inline(always)]
    fn known(file: *const u8) -> Option<Self> {
        if file.is_null() {
            return None;
        }
        // SAFETY: see the module's text.
        unsafe {
            let inode: *const u8 = *file.add(layout!(file_inode) as usize).cast();
            if inode.is_null() {
                return None;
            }
            Some(Self {
                address: file as u64,
                inode: inode as u64,
                number: *inode.add(layout!(inode_number) as usize).cast(),
                operations: *file.add(layout!(file_operations) as usize).cast(),
            })
        }
    }

    /// A file of which there is only the address.
    #[inline(never)]
    fn read(file: u64) -> Option<Self> {
        let inode = read_kernel(file + u64::from(layout!(file_inode)))?;
        Some(Self {
            address: file,
            inode,
            number: read_kernel(inode + u64::from(layout!(inode_number)))?,
            operations: read_kernel(file + u64::from(layout!(file_operations)))?,
        })
    }

    /// Type and permissions.
    #[inline(always)]
    pub fn mode(&self) -> u16 {
        read_kernel(self.inode + u64::from(layout!(inode_mode))).unwrap_or(0)
    }

    /// Writes the last name of its path to `to`, which is in a record. That of a file
    /// that is renamed at this very moment can be a mixture.
    #[inline(always)]
    pub fn last_name(&self, to: *mut [u8; LAST_NAME_BYTES]) {
        let dentry: Option<u64> = read_kernel(self.address + u64::from(layout!(file_dentry)));
        let name: Option<u64> =
            dentry.and_then(|dentry| read_kernel(dentry + u64::from(layout!(dentry_name))));
        if let Some(name) = name {
            // SAFETY: the record has room for so many; the helper checks the address.
            unsafe {
                generated::bpf_probe_read_kernel_str(
                    to.cast(),
                    LAST_NAME_BYTES as u32,
                    name as *const _,
                );
            }
        }
    }

    /// The device of its file system.
    #[inline(always)]
    pub fn device(&self) -> u32 {
        let super_block: Option<u64> =
            read_kernel(self.inode + u64::from(layout!(inode_super_block)));
        super_block
            .and_then(|s| read_kernel(s + u64::from(layout!(super_block_device))))
            .unwrap_or(0)
    }
}

/// A `pt_regs` of the kernel.
#[derive(Clone, Copy)]
pub struct Regs(*const u8);

impl Regs {
    /// The registers that a program gets as an argument.
    #[inline(always)]
    pub fn from_arg(regs: *const u8) -> Self {
        Self(regs)
    }

    /// The syscall's number; -1 outside a syscall.
    #[inline(always)]
    pub fn syscall(self) -> i32 {
        // SAFETY: see the module's text. The low half is at the same place
        // where the field is 64 bits wide (x86): both are little-endian.
        unsafe { *self.0.add(layout!(regs_syscall) as usize).cast() }
    }

    /// An argument of the syscall: 0 is the first of six.
    #[inline(always)]
    pub fn arg(self, n: usize) -> u64 {
        // SAFETY: see the module's text.
        unsafe { *self.0.add(layout!(regs_args[n]) as usize).cast() }
    }

    /// The instruction.
    #[inline(always)]
    pub fn pc(self) -> u64 {
        self.at(layout!(regs_of_stack[0]))
    }

    /// The stack's pointer.
    #[inline(always)]
    pub fn sp(self) -> u64 {
        self.at(layout!(regs_of_stack[1]))
    }

    /// The frame pointer, if the program keeps one.
    #[inline(always)]
    pub fn fp(self) -> u64 {
        self.at(layout!(regs_of_stack[2]))
    }

    /// The link register, where there is one.
    #[inline(always)]
    pub fn lr(self) -> u64 {
        self.at(layout!(regs_of_stack[3]))
    }

    #[inline(always)]
    fn at(self, offset: u32) -> u64 {
        // SAFETY: see the module's text.
        unsafe { *self.0.add(offset as usize).cast() }
    }

    /// Where they are: the upper end of the task's kernel stack.
    #[inline(always)]
    pub fn address(self) -> u64 {
        self.0 as u64
    }
}

/// The clock of all records: `CLOCK_MONOTONIC`, ns.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_ktime_get_ns() }
}
