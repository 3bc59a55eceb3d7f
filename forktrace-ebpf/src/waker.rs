//! Who is waking a task: the current task, or an interrupt that has nothing to do
//! with it?
//!
//! In order: an interrupt that is being handled says so in this CPU's words
//! (`probes/interrupt.rs`). Otherwise the current task is the waker when we are
//! on its kernel stack and it is in a syscall: from user mode an interrupt comes
//! on the task's stack too, but then the task is in none. A task in a page fault,
//! or that handles a signal before it goes on in user mode, is in none either; there
//! the stack itself decides, which is slow and rare.
//!
//! That costs two calls of the kernel's helpers, and a call is dearer than all else
//! here. So `sched_switch` notes which traced task comes to a CPU and where its stack is:
//! being on that stack says as much as asking who is current, and for a common wait
//! ([`TaskState::common_wait`]) it says all.
//!
//! All callers run with interrupts off, so the words can't change meanwhile.

use aya_ebpf::helpers::generated::bpf_get_stack;
use core::ffi::c_void;
use forktrace_common::{
    event::{CpuStats, HARD_TIMER, Outsider, TaskState, kind, waker},
    layout::own_code,
    limits::NO_SLOT,
};

use crate::{
    emit,
    filter::{self, cpu},
    kernel::{self, Task, layout},
    maps::{OUTSIDERS, OUTSIDERS_SIZE, SCRATCH, TASKS},
};

/// `NET_RX_SOFTIRQ` (include/linux/interrupt.h), as [`CpuStats::soft`] has it.
///
/// [`CpuStats::soft`]: forktrace_common::event::CpuStats::soft
const SOFT_NET_RX: u32 = 3 + 1;

/// Frames of the stack that are looked at.
const FRAMES: usize = 48;

/// The class and the number of whoever runs here now and wakes a task ([`waker`]).
/// `common_wait` is that task's ([`TaskState::common_wait`]).
#[inline(always)]
pub fn current(ctx: *mut c_void, common_wait: bool) -> (u8, u32) {
    let Some(stats) = filter::stats(cpu()) else {
        return (waker::UNKNOWN, 0);
    };
    match stats.hard {
        0 => {}
        HARD_TIMER => return (waker::TIMER, 0),
        number => return (waker::HARD_INTERRUPT, number - 1),
    }
    // A tracepoint's arguments are on the stack of whoever runs into it.
    let here = filter::number(stats, ctx as u64);
    if stats.soft == 0 {
        if let Some(serial) = known_to_run_here(stats, here, common_wait) {
            return (waker::TASK, serial);
        }
    }
    let task = Task::current();
    if stats.soft != 0 {
        if stats.soft == SOFT_NET_RX && stats.sender == task.address() {
            return match identify(task) {
                (waker::TASK, serial) => (waker::TASK_SOFTIRQ, serial),
                (_, tid) => (waker::OUTSIDER_SOFTIRQ, tid),
            };
        }
        return (waker::SOFT_INTERRUPT, stats.soft - 1);
    }
    let (tid, regs) = (task.tid(), task.regs());
    // The idle task never wakes by itself.
    if tid == 0 || !(task.stack() <= here && here < regs.address()) {
        return (waker::OTHER_INTERRUPT, 0);
    }
    if regs.syscall() < 0 && !task.is_kernel_thread() && !task.is_exiting() && !in_own_code(ctx, 0)
    {
        return (waker::UNKNOWN, 0);
    }
    identify(task)
}

/// The task that was seen to come to this CPU, when it is on its own stack and works for
/// itself: its serial. Most wakeups in a workload are such, and asking for the
/// current task and its registers takes two calls, each dearer than all this.
///
/// Whatever switch the kernel did not announce: only the task itself is on its stack.
#[inline(always)]
fn known_to_run_here(stats: &CpuStats, here: u64, common_wait: bool) -> Option<u32> {
    if stats.running == u64::from(NO_SLOT) || here < stats.stack_low || here >= stats.stack_top {
        return None;
    }
    // SAFETY: the pointer is into the map, and the task is running.
    let state = unsafe { &*TASKS.get_ptr(stats.running as u32)? };
    // The slot may be another's by now, had its end not been announced.
    if state.stack_top != stats.stack_top {
        return None;
    }
    // An interrupt from user mode is on the task's stack too. One that is in none of this
    // CPU's words can't have ended a common wait.
    (common_wait || kernel::syscall_at(stats.stack_top)? >= 0).then_some(state.serial)
}

/// A task leaves this CPU; who comes is told by [`runs_here`], if it is traced.
#[inline(always)]
pub fn nobody_runs_here() {
    if let Some(stats) = filter::stats(cpu()) {
        stats.running = u64::from(NO_SLOT);
    }
}

/// A traced task comes to this CPU.
#[inline(always)]
pub fn runs_here(task: Task, slot: u32, state: &TaskState) {
    if let Some(stats) = filter::stats(cpu()) {
        stats.running = u64::from(slot);
        stats.stack_low = task.stack();
        stats.stack_top = state.stack_top;
    }
}

/// Is the task, which is in no syscall, in a page fault?
#[inline(always)]
pub fn in_page_fault(ctx: *mut c_void) -> bool {
    in_own_code(ctx, 1 << own_code::PAGE_FAULT)
}

/// Is the task, which is in no syscall, in one of these parts of the kernel that work
/// for it? `which` has a bit for each position in `own_code`; 0 is any.
#[inline(never)]
fn in_own_code(ctx: *mut c_void, which: u32) -> bool {
    if layout!(own_code[own_code::PAGE_FAULT][0]) == 0 {
        return false;
    }
    let Some(frames) = SCRATCH.get_ptr_mut(cpu()) else {
        return false;
    };
    // SAFETY: the buffer is in the map and larger than what is asked for.
    let bytes = unsafe { bpf_get_stack(ctx, frames.cast(), (FRAMES * 8) as u32, 0) };
    for i in 0..FRAMES {
        if (i * 8) as i64 >= bytes {
            break;
        }
        // SAFETY: within the buffer.
        let address = unsafe { (*frames)[i] };
        let within = |part: [u64; 2]| part[0] <= address && address < part[1];
        let found = u32::from(within(layout!(own_code[own_code::PAGE_FAULT])))
            << own_code::PAGE_FAULT
            | u32::from(within(layout!(own_code[own_code::SIGNAL]))) << own_code::SIGNAL
            | u32::from(within(layout!(own_code[own_code::TASK_WORK]))) << own_code::TASK_WORK;
        if found != 0 && (which == 0 || found & which != 0) {
            return true;
        }
    }
    false
}

/// The task as a waker: its serial, or its tid, about which a record is sent
/// first.
#[inline(always)]
pub fn identify(task: Task) -> (u8, u32) {
    let tid = task.tid();
    let hint = filter::hint(tid);
    if hint != NO_SLOT {
        if let Some(traced) = filter::resolve(task, tid, hint) {
            // SAFETY: the pointer is into the map.
            return (waker::TASK, unsafe { (*traced.state).serial });
        }
    }
    if let Some(known) = OUTSIDERS.get_ptr_mut(tid % OUTSIDERS_SIZE) {
        let identity = u64::from(tid) << 32 | task.start_time() & 0xffff_ffff;
        // SAFETY: the pointer is into the map; a word is read and written whole.
        if unsafe { *known } != identity && send_outsider(task, tid) {
            unsafe { *known = identity };
        }
    }
    (waker::OUTSIDER, tid)
}

#[inline(never)]
fn send_outsider(task: Task, tid: u32) -> bool {
    let (tgid, at_ns, comm) = (task.tgid(), kernel::now(), task.comm());
    let kernel_thread = u8::from(task.is_kernel_thread());
    let sent = emit::rare(|record: *mut Outsider| {
        let outsider = Outsider {
            kind: kind::OUTSIDER,
            kernel_thread,
            zero: [0; 2],
            tid,
            tgid,
            zero2: 0,
            at_ns,
            comm,
        };
        // SAFETY: the record is in the ring, reserved for us.
        unsafe { *record = outsider };
    });
    if !sent {
        emit::count_lost_other();
    }
    sent
}
