//! Where things are in the running kernel's structures.
//!
//! Rust's eBPF target emits no CO-RE relocations, so user space reads the
//! offsets from the kernel's BTF and sets [`Layout`] as a read-only global
//! before the programs are loaded. The verifier treats a read-only global as a
//! constant: loads at these offsets cost what fixed offsets cost, and a branch
//! on a flag that is 0 is pruned.

use bytemuck::{Pod, Zeroable};

use crate::limits::POLL_KINDS;

/// A field of a kernel structure whose offset the programs need.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// The structure.
    pub structure: &'static str,
    /// The field, or the way to it: `se.sum_exec_runtime`.
    pub path: &'static str,
    /// Sets its offset, bytes.
    pub set: fn(&mut Layout, u32),
}

/// Names each offset once: as a field of [`Layout`] and in [`FIELDS`].
macro_rules! layout {
    (
        { $($(#[$doc:meta])* $name:ident: $structure:literal, $path:literal;)* }
        { $($(#[$attach_doc:meta])* $attach:ident: $attach_structure:literal, $attach_path:literal;)* }
        { $($rest:tt)* }
    ) => {
        /// Offsets in bytes, syscall numbers, and what exists on this kernel and
        /// architecture. Filled in by user space, constant for the programs.
        #[repr(C)]
        #[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
        pub struct Layout {
            $($rest)*
            $(
                #[doc = concat!("Offset of `", $structure, ".", $path, "`.")]
                #[doc = ""]
                $(#[$doc])*
                pub $name: u32,
            )*
            $(
                #[doc = concat!("Offset of `", $attach_structure, ".", $attach_path, "`.")]
                #[doc = ""]
                $(#[$attach_doc])*
                pub $attach: u32,
            )*
        }

        /// The fields of kernel structures that have the same name on all architectures.
        pub const FIELDS: &[Field] = &[$(Field {
            structure: $structure,
            path: $path,
            set: |layout, offset| layout.$name = offset,
        },)*];

        /// The fields that only tasks which are there already are asked for: what a
        /// recording of a new workload does without.
        pub const ATTACH_FIELDS: &[Field] = &[$(Field {
            structure: $attach_structure,
            path: $attach_path,
            set: |layout, offset| layout.$attach = offset,
        },)*];
    };
}

layout! {
{
    /// The tid.
    task_pid: "task_struct", "pid";
    task_tgid: "task_struct", "tgid";
    task_comm: "task_struct", "comm";
    task_state: "task_struct", "__state";
    /// `PF_*`.
    task_flags: "task_struct", "flags";
    task_jobctl: "task_struct", "jobctl";
    /// Voluntary switches.
    task_nvcsw: "task_struct", "nvcsw";
    /// Involuntary switches.
    task_nivcsw: "task_struct", "nivcsw";
    /// CPU time, ns.
    task_cpu_time: "task_struct", "se.sum_exec_runtime";
    /// Its value when the task was last switched in.
    task_cpu_time_before: "task_struct", "se.prev_sum_exec_runtime";
    task_real_parent: "task_struct", "real_parent";
    task_exit_code: "task_struct", "exit_code";
    /// The lowest address of its kernel stack.
    task_stack: "task_struct", "stack";
    task_mm: "task_struct", "mm";
    /// Where the command line of a process begins in its memory, and where it ends.
    mm_arg_start: "mm_struct", "arg_start";
    mm_arg_end: "mm_struct", "arg_end";
    task_fs: "task_struct", "fs";
    task_sighand: "task_struct", "sighand";
    /// Not 0 while its creator waits for it in `vfork`.
    task_vfork_done: "task_struct", "vfork_done";
    task_files: "task_struct", "files";
    files_fdt: "files_struct", "fdt";
    /// The table of a process that never had many files.
    files_fd_array: "files_struct", "fd_array";
    fdt_max_fds: "fdtable", "max_fds";
    fdt_fd: "fdtable", "fd";
    file_inode: "file", "f_inode";
    file_operations: "file", "f_op";
    file_dentry: "file", "f_path.dentry";
    /// The last name of the path, as a `char *`.
    dentry_name: "dentry", "d_name.name";
    inode_number: "inode", "i_ino";
    inode_mode: "inode", "i_mode";
    inode_super_block: "inode", "i_sb";
    super_block_device: "super_block", "s_dev";
    task_start_time: "task_struct", "start_time";
    /// Not 0 while somebody has it.
    task_pi_lock: "task_struct", "pi_lock";
}
{
    /// Not 0 while it is on a CPU, or has not quite left it.
    task_on_cpu: "task_struct", "on_cpu";
    /// Not 0 while it is in a run queue.
    task_on_rq: "task_struct", "on_rq";
    /// Not 0 once it has ended.
    task_exit_state: "task_struct", "exit_state";
    task_group_leader: "task_struct", "group_leader";
    task_thread_pid: "task_struct", "thread_pid";
    /// The depth of the innermost pid namespace that it is in.
    pid_level: "pid", "level";
    /// Its number in each pid namespace, from the outermost.
    pid_numbers: "pid", "numbers";
    task_cgroups: "task_struct", "cgroups";
    css_set_cgroup: "css_set", "dfl_cgrp";
    cgroup_level: "cgroup", "level";
    /// The cgroups above it, and itself, from the root.
    cgroup_ancestors: "cgroup", "ancestors";
    cgroup_node: "cgroup", "kn";
    node_id: "kernfs_node", "id";
    /// When it was last switched in, by the run queue's clock.
    task_last_arrival: "task_struct", "sched_info.last_arrival";
}
{
    /// The kernel's code that is on the stack only while a task works for itself
    /// outside a syscall: where each begins and ends. See [`own_code`].
    pub own_code: [[u64; 2]; own_code::COUNT],
    /// `task_struct.thread_info.status` on x86, where bit 1 (`TS_COMPAT`) marks
    /// a 32-bit syscall; see [`Layout::has_compat_status`].
    pub task_compat_status: u32,
    /// 1 when `task_compat_status` exists.
    pub has_compat_status: u32,
    /// Who had a CPU last, by the clock of its run queue.
    pub turn: TurnLayout,
    /// Who holds the kernel's locks.
    pub blocker: BlockerLayout,
    /// `pt_regs` field that holds the syscall number (`orig_ax`, `syscallno`).
    pub regs_syscall: u32,
    /// `pt_regs` fields that hold the syscall's six arguments.
    pub regs_args: [u32; 6],
    /// Numbers of select, pselect6, poll, ppoll, epoll_wait, epoll_pwait and
    /// epoll_pwait2 in this order; -1 where the architecture has none.
    pub poll_syscalls: [i32; POLL_KINDS],
    /// Number of `restart_syscall`.
    pub restart_syscall: i32,
    /// The reader is woken when so many bytes came to a ring buffer since it was last woken
    /// for that.
    pub wake_bytes: u32,
    /// Stretches that each CPU's ring holds: a power of two, at least 4.
    pub ring_slots: u32,
    /// 1: others see the stores of a CPU in the order of its program, as on x86; 0: it has
    /// to be asked for that.
    pub ordered_stores: u32,
    /// Slots in the task table.
    pub max_tasks: u32,
    /// Entries of each CPU's part of the object cache, less one: a power of two
    /// less one.
    pub object_mask: u32,
    /// What is done for stacks: see [`stacks`]. 0: none are wanted.
    pub stacks: u32,
    /// `pt_regs` fields that hold the instruction, the stack's pointer, the frame pointer and
    /// the link register (where there is none, the instruction again).
    pub regs_of_stack: [u32; 4],
    /// 1: wakers, and what a call waits for, are not wanted.
    pub plain: u32,
    /// 1: tasks that are there already are taken in.
    pub attach: u32,
    /// 1: some of them by their cgroup.
    pub by_cgroup: u32,
    /// `task_struct.se.sched_delayed`: not 0 while a task that sleeps is still in the
    /// run queue; see [`Layout::has_sched_delayed`].
    pub task_sched_delayed: u32,
    /// 1 when that exists (Linux 6.12).
    pub has_sched_delayed: u32,
    /// Where a socket says what it is.
    pub socket: SocketLayout,
    /// Data that waited for less, µs, before its task looked is not told of.
    pub lag_min_us: u32,
}
}

/// Offsets that tell of a socket whose it is. All are there, or none is used.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct SocketLayout {
    /// `sock.__sk_common.skc_family`.
    pub family: u32,
    /// `sock.__sk_common.skc_state`.
    pub state: u32,
    /// `sock.__sk_common.skc_num`: the port of this side, in the order of the machine.
    pub local_port: u32,
    /// `sock.__sk_common.skc_dport`: that of the other side, in the order of the network.
    pub remote_port: u32,
    /// `sock.sk_protocol`.
    pub protocol: u32,
}

/// Offsets that tell who had a CPU last, and for how long. All are there, or none is used.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct TurnLayout {
    /// 1: the kernel has all of them.
    pub known: u32,
    /// `task_struct.sched_info.last_arrival`: when it came to the CPU.
    pub last_arrival: u32,
    /// `task_struct.se.cfs_rq`: also of tasks of other classes that of their CPU.
    pub cfs_rq: u32,
    /// `cfs_rq.rq`.
    pub rq: u32,
    /// `rq.clock`.
    pub clock: u32,
    /// `rq.cfs_tasks`: the tasks of the fair class that are on the run queue, those that ran
    /// last first (`set_next_task_fair`).
    pub tasks: u32,
    /// `task_struct.se.group_node`: their places in that list.
    pub node: u32,
    /// `task_struct.group_leader`.
    pub leader: u32,
}

/// Offsets that tell who holds the lock that a task waits for in the kernel, since Linux
/// 6.16 with `CONFIG_DETECT_HUNG_TASK_BLOCKER`. All are there, or none is used.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct BlockerLayout {
    /// `task_struct.blocker`: address of the lock, and its kind in the lowest bits; see
    /// [`crate::event::kernel_lock`]. 0: the kernel lacks one of these.
    pub blocker: u32,
    /// `mutex.owner`.
    pub mutex_owner: u32,
    /// `rw_semaphore.owner`.
    pub rwsem_owner: u32,
    /// `semaphore.last_holder`.
    pub semaphore_holder: u32,
}

/// Bits of [`Layout::stacks`].
pub mod stacks {
    /// The kernel follows the stacks of blocks and of wakers by their frame pointers.
    pub const WALK: u32 = 1;
    /// The registers of programs that go to sleep are kept ([`crate::event::Registers`]).
    pub const KEEP_REGISTERS: u32 = 2;
}

/// Positions in [`Layout::own_code`]. All 0 where the kernel doesn't tell.
pub mod own_code {
    /// The entry for page faults.
    pub const PAGE_FAULT: usize = 0;
    /// Signals that are handled on the way back to user mode, also after an
    /// interrupt: stops and deaths, of which others are told.
    pub const SIGNAL: usize = 1;
    /// Other work on that way, such as the last close of a file.
    pub const TASK_WORK: usize = 2;
    /// How many there are.
    pub const COUNT: usize = 3;
}

/// What a blocking syscall waits for, and where its arguments say so and for how
/// long: by number in [`Waits`].
pub mod wait {
    /// Nothing that we look up.
    pub const NONE: u8 = 0;
    /// The descriptor in argument 0.
    pub const FD: u8 = 1;
    /// `poll(fds, nfds, ms)`.
    pub const POLL: u8 = 2;
    /// `ppoll(fds, nfds, timespec)`.
    pub const PPOLL: u8 = 3;
    /// `select(n, in, out, except, timeval)`.
    pub const SELECT: u8 = 4;
    /// `pselect6(n, in, out, except, timespec)`.
    pub const PSELECT6: u8 = 5;
    /// `epoll_wait(epfd, events, n, ms)`.
    pub const EPOLL_MS: u8 = 6;
    /// `epoll_pwait2(epfd, events, n, timespec)`.
    pub const EPOLL_TIMESPEC: u8 = 7;
    /// `futex(address, op, value, timespec)`.
    pub const FUTEX: u8 = 8;
    /// `nanosleep(timespec)`.
    pub const NANOSLEEP: u8 = 9;
    /// `clock_nanosleep(clock, flags, timespec)`.
    pub const CLOCK_NANOSLEEP: u8 = 10;
    /// `futex_wait(address, value, mask, flags, timespec, clock)`: always absolute.
    pub const FUTEX_WAIT: u8 = 11;
    /// `wait4(pid)`, `waitid(type, id)`: known from the arguments alone.
    pub const CHILD: u8 = 12;
    /// `semtimedop(id, ops, n, timespec)`.
    pub const TIMESPEC_3: u8 = 13;
    /// `rt_sigtimedwait(set, info, timespec)`.
    pub const TIMESPEC_2: u8 = 14;
    /// `futex_waitv(waiters, n, flags, timespec, clock)`: always absolute.
    pub const FUTEX_WAITV: u8 = 15;
}

/// The second argument of `futex` as a stretch has it: the operation, and above it the owner
/// that was in the lock when the task went to sleep, where the lock has one.
pub mod futex {
    /// The command, `FUTEX_PRIVATE_FLAG` and `FUTEX_CLOCK_REALTIME`.
    const OP: u32 = 0x1ff;
    /// Wide enough for every tid: the kernel gives none from 2^22 on (`PID_MAX_LIMIT`).
    const OWNER_SHIFT: u32 = 9;

    /// Both in one. An owner that can be no tid is left out.
    pub const fn arg1(op: u32, owner: u32) -> u32 {
        let owner = if owner >> (u32::BITS - OWNER_SHIFT) == 0 {
            owner
        } else {
            0
        };
        op & OP | owner << OWNER_SHIFT
    }

    /// The operation.
    pub const fn op(arg1: u32) -> u32 {
        arg1 & OP
    }

    /// Tid of the owner; 0: the lock has none that is known.
    pub const fn owner(arg1: u32) -> u32 {
        arg1 >> OWNER_SHIFT
    }
}

/// The list of `futex_waitv` as a stretch has it: the first futex's address in `arg0`
/// (0: it could not be read) and this in `arg1`.
pub mod waitv {
    /// The first futex's flags, and the length of the list.
    pub const fn arg1(flags: u32, futexes: u32) -> u32 {
        flags & 0xffff | futexes << 16
    }

    /// The length of the list.
    pub const fn futexes(arg1: u32) -> u32 {
        arg1 >> 16
    }
}

/// Syscall numbers from here on wait for nothing that we look up. A power of two.
pub const WAITS: usize = 512;

/// See [`wait`]: one for each syscall number.
pub type Waits = [u8; WAITS];

/// Positions in [`Layout::poll_syscalls`] and of the poll counters.
pub mod poll {
    /// `select`.
    pub const SELECT: usize = 0;
    /// `pselect6`.
    pub const PSELECT6: usize = 1;
    /// `poll`.
    pub const POLL: usize = 2;
    /// `ppoll`.
    pub const PPOLL: usize = 3;
    /// `epoll_wait`.
    pub const EPOLL_WAIT: usize = 4;
    /// `epoll_pwait`.
    pub const EPOLL_PWAIT: usize = 5;
    /// `epoll_pwait2`.
    pub const EPOLL_PWAIT2: usize = 6;
    /// Names in the order of the positions.
    pub const NAMES: [&str; super::POLL_KINDS] = [
        "select",
        "pselect6",
        "poll",
        "ppoll",
        "epoll_wait",
        "epoll_pwait",
        "epoll_pwait2",
    ];
}
