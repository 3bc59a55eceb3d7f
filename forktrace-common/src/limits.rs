//! Sizes that both sides must agree on.

/// Length of a task's name in the kernel (`TASK_COMM_LEN`), with the final NUL.
pub const COMM_LEN: usize = 16;

/// Tids that share one element of the tid table. An array map rounds elements
/// up to 8 bytes, so a `u32` for each tid has to be packed to cost 4.
pub const TIDS_PER_ELEMENT: u32 = 16;

/// The kernel gives no tid from here on (`PID_MAX_LIMIT`, 64-bit), whatever
/// `pid_max` says now.
pub const MAX_TID: u32 = 4 << 20;

/// Most CPUs that can have a ring.
pub const MAX_CPUS: usize = 1024;

/// Slot 0 of the task table is never used: 0 in the tid table means "not traced".
pub const NO_SLOT: u32 = 0;

/// In the tid table: a task of the workload that is not followed: the task table was full.
/// Its life is reported, its states are not.
pub const UNTRACKED: u32 = u32::MAX;

/// Number of syscalls in the select/poll family, see [`crate::layout::Layout::poll_syscalls`].
pub const POLL_KINDS: usize = 7;
