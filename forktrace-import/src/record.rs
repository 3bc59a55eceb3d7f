//! What readers make of files: one thing that happened to one task.

use bytemuck::{Pod, Zeroable};

/// Something that happened. Forty bytes, since there are hundreds of millions, of which most
/// are in a file for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Record {
    /// When, on the file's clock.
    pub(crate) at_ns: u64,
    /// Its number in the file: what comes first of one CPU happened first.
    pub(crate) order: u64,
    /// See [`kind`].
    pub(crate) value: u64,
    /// The task.
    pub(crate) tid: u32,
    /// Another one: see [`kind`].
    pub(crate) other: u32,
    /// The task's name, by number in [`crate::people::People`].
    pub(crate) name: u32,
    /// Where.
    pub(crate) cpu: u16,
    /// What: see [`kind`].
    pub(crate) kind: u8,
    /// Bits of [`flag`].
    pub(crate) flags: u8,
}

/// What happened.
pub(crate) mod kind {
    /// It was created, by `other`. `value` is its process, 0: not known.
    pub(crate) const NEW: u8 = 1;
    /// It left the CPU, in the state `value`: see [`super::state`].
    pub(crate) const OUT: u8 = 2;
    /// It was made runnable, by `other`.
    pub(crate) const WAKING: u8 = 3;
    /// It came to the CPU.
    pub(crate) const IN: u8 = 4;
    /// It executed a program. `other` is its tid before; 0: not known.
    pub(crate) const EXEC: u8 = 5;
    /// It has another name.
    pub(crate) const RENAME: u8 = 6;
    /// After this, some events of this CPU are lost.
    pub(crate) const LOST_FROM: u8 = 7;
    /// Before this.
    pub(crate) const LOST_UNTIL: u8 = 8;
}

/// More about it.
pub(crate) mod flag {
    /// [`super::kind::WAKING`]: in a hard interrupt.
    pub(crate) const HARD: u8 = 1;
    /// The same: in a soft interrupt.
    pub(crate) const SOFT: u8 = 2;
    /// The same: it is not recorded whether in an interrupt.
    pub(crate) const EITHER: u8 = 4;
    /// The same: who is on the CPU, not `other`.
    pub(crate) const ON_CPU: u8 = 8;
    /// The same: told when the task was put into a queue, which counts where there is nothing
    /// else.
    pub(crate) const QUEUED: u8 = 16;
    /// [`super::kind::NEW`]: in the process of its creator.
    pub(crate) const THREAD: u8 = 32;
    /// The same: a process of its own. With neither it is not recorded.
    pub(crate) const PROCESS: u8 = 64;
}

/// The state that a task leaves in.
pub(crate) mod state {
    pub(crate) const RUNNABLE: u64 = 0;
    pub(crate) const INTERRUPTIBLE: u64 = 1;
    pub(crate) const UNINTERRUPTIBLE: u64 = 2;
    pub(crate) const KILLABLE: u64 = 3;
    pub(crate) const STOPPED: u64 = 4;
    pub(crate) const TRACED: u64 = 5;
    pub(crate) const FROZEN: u64 = 6;
    pub(crate) const DEAD: u64 = 7;
    /// Not known, and so until it comes again.
    pub(crate) const UNKNOWN: u64 = 8;

    /// As the tracepoint `sched_switch` has it: bits of `include/linux/sched.h`
    /// (`TASK_REPORT`), one more for who was preempted. Before Linux 4.14 some of the upper
    /// ones were others; those that are looked at were not.
    pub(crate) fn of_kernel(bits: u64) -> u64 {
        /// What `forktrace report -o FILE.pftrace` writes where records are missing. No kernel has it.
        const MISSING: u64 = 0x2000;
        match bits {
            // EXIT_DEAD and EXIT_ZOMBIE.
            _ if bits & 0x30 != 0 => DEAD,
            _ if bits & 0x01 != 0 => INTERRUPTIBLE,
            // Parked and idle ones are threads of the kernel.
            _ if bits & 0xc2 != 0 => UNINTERRUPTIBLE,
            _ if bits & 0x04 != 0 => STOPPED,
            _ if bits & 0x08 != 0 => TRACED,
            MISSING => UNKNOWN,
            _ => RUNNABLE,
        }
    }
}
