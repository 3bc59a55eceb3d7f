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
//! All callers run with interrupts off, so the words can't change meanwhile.

use aya_ebpf::helpers::generated::bpf_get_stack;
use core::ffi::c_void;
use forktrace_common::{
    event::{HARD_TIMER, Outsider, kind, waker},
    layout::own_code,
    limits::NO_SLOT,
};

use crate::{
    emit,
    filter::{self, cpu},
    kernel::{self, Task, layout},
    maps::{OUTSIDERS, OUTSIDERS_SIZE, SCRATCH},
};

/// `NET_RX_SOFTIRQ` (include/linux/interrupt.h), as [`CpuStats::soft`] has it.
///
/// [`CpuStats::soft`]: forktrace_common::event::CpuStats::soft
const SOFT_NET_RX: u32 = 3 + 1;

/// Frames of the stack that are looked at.
const FRAMES: usize = 48;

/// The class and the number of whoever runs here now ([`waker`]).
#[inline(always)]
pub fn current(ctx: *mut c_void) -> (u8, u32) {
    let Some(stats) = filter::stats(cpu()) else {
        return (waker::UNKNOWN, 0);
    };
    match stats.hard {
        0 => {}
        HARD_TIMER => return (waker::TIMER, 0),
        number => return (waker::HARD_INTERRUPT, number - 1),
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
    let tid = task.tid();
    let regs = task.regs();
    // The idle task never wakes by itself.
    if tid == 0 || !on_stack_of(task, regs.address(), &mut stats.frame) {
        return (waker::OTHER_INTERRUPT, 0);
    }
    if regs.syscall() < 0 && !task.is_kernel_thread() && !task.is_exiting() && !in_own_code(ctx, 0)
    {
        return (waker::UNKNOWN, 0);
    }
    identify(task)
}

/// Are we on the kernel stack of the task?
#[inline(always)]
fn on_stack_of(task: Task, top: u64, frame: &mut u64) -> bool {
    note_frame(frame);
    // What went into the map as an address comes out as a number like any other.
    // SAFETY: a valid reference; volatile, so that the compiler does not see
    // through.
    let here = unsafe { (frame as *const u64).read_volatile() };
    task.stack() <= here && here < top
}

/// Notes where the stack is. A function of its own and small: the kernel gives
/// functions that need more than 64 bytes a stack elsewhere
/// (`BPF_PRIV_STACK_MIN_SIZE`).
#[inline(never)]
fn note_frame(frame: &mut u64) -> u64 {
    let local = 0u8;
    // SAFETY: a valid reference. The verifier lets an address of the stack go
    // into a map.
    unsafe { (frame as *mut u64).write_volatile(&raw const local as u64) };
    0
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
