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
//! All callers run with interrupts off, so the words can't change meanwhile. Not so on a
//! kernel with PREEMPT_RT, where also soft interrupts run in threads that can be
//! preempted: user space warns.

use aya_ebpf::helpers::generated::bpf_get_stack;
use core::ffi::c_void;
use forktrace_common::{
    event::{Outsider, hard, kind, waker},
    layout::own_code,
    limits::NO_SLOT,
};

use crate::{
    cpu::Cpu,
    emit, filter,
    kernel::{self, Task, layout},
    maps::{OUTSIDERS, OUTSIDERS_SIZE, SCRATCH, TASKS},
    shared::{Shared, at},
};

/// `NET_RX_SOFTIRQ` (include/linux/interrupt.h), as [`CpuStats::soft`] has it.
///
/// [`CpuStats::soft`]: forktrace_common::event::CpuStats::soft
const SOFT_NET_RX: u32 = 3 + 1;

/// Frames of the stack that are looked at.
const FRAMES: usize = 48;

/// The class and the number of whoever runs here now and wakes a task ([`waker`]).
/// `common_wait` is that task's ([`TaskState::common_wait`]).
///
/// [`TaskState::common_wait`]: forktrace_common::event::TaskState::common_wait
#[inline(always)]
pub fn current(ctx: *mut c_void, cpu: Cpu, common_wait: bool) -> (u8, u32) {
    let stats = cpu.stats;
    match at!(stats.hard).load() & hard::INNERMOST {
        0 => {}
        hard::TIMER => return (waker::TIMER, 0),
        number => return (waker::HARD_INTERRUPT, number as u32 - 1),
    }
    // A tracepoint's arguments are on the stack of whoever runs into it.
    let here = cpu.as_number(ctx as u64);
    let soft = at!(stats.soft).load();
    if soft == 0 {
        if let Some(serial) = known_to_run_here(cpu, here, common_wait) {
            return (waker::TASK, serial);
        }
    }
    let task = Task::current();
    if soft != 0 {
        if soft == SOFT_NET_RX && at!(stats.sender).load() == task.address() {
            return match identify(cpu, task) {
                (waker::TASK, serial) => (waker::TASK_SOFTIRQ, serial),
                (_, tid) => (waker::OUTSIDER_SOFTIRQ, tid),
            };
        }
        return (waker::SOFT_INTERRUPT, soft - 1);
    }
    let (tid, regs) = (task.tid(), task.regs());
    // The idle task never wakes by itself.
    if tid == 0 || !(task.stack() <= here && here < regs.address()) {
        return (waker::OTHER_INTERRUPT, 0);
    }
    if regs.syscall() < 0
        && !task.is_kernel_thread()
        && !task.is_exiting()
        && !in_own_code(ctx, cpu, 0)
    {
        return (waker::UNKNOWN, 0);
    }
    identify(cpu, task)
}

/// The task that was seen to come to this CPU, when it is on its own stack and works for
/// itself: its serial. Most wakeups in a workload are such, and asking for the
/// current task and its registers takes two calls, each dearer than all this.
///
/// Whatever switch the kernel did not announce: only the task itself is on its stack.
#[inline(always)]
fn known_to_run_here(cpu: Cpu, here: u64, common_wait: bool) -> Option<u32> {
    let stats = cpu.stats;
    let running = at!(stats.running).load();
    let stack_top = at!(stats.stack_top).load();
    if running == u64::from(NO_SLOT) || here < at!(stats.stack_low).load() || here >= stack_top {
        return None;
    }
    let state = Shared::in_map(TASKS.get_ptr_mut(running as u32)?);
    // The slot may be another's by now, had its end not been announced.
    if at!(state.stack_top).load() != stack_top {
        return None;
    }
    // An interrupt from user mode is on the task's stack too. One that is in none of this
    // CPU's words can't have ended a common wait.
    (common_wait || kernel::syscall_at(stack_top)? >= 0).then(|| at!(state.serial).load())
}

/// Is the task, which is in no syscall, in a page fault?
#[inline(always)]
pub fn in_page_fault(ctx: *mut c_void, cpu: Cpu) -> bool {
    in_own_code(ctx, cpu, 1 << own_code::PAGE_FAULT)
}

/// Is the task, which is in no syscall, in one of these parts of the kernel that work
/// for it? `which` has a bit for each position in `own_code`; 0 is any.
#[inline(never)]
fn in_own_code(ctx: *mut c_void, cpu: Cpu, which: u32) -> bool {
    if layout!(own_code[own_code::PAGE_FAULT][0]) == 0 {
        return false;
    }
    let Some(frames) = SCRATCH.get_ptr_mut(cpu.number()) else {
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
fn identify(cpu: Cpu, task: Task) -> (u8, u32) {
    if let Some(traced) = filter::resolve(task) {
        let state = traced.state;
        return (waker::TASK, at!(state.serial).load());
    }
    let tid = task.tid();
    if let Some(known) = OUTSIDERS.get_ptr_mut(tid % OUTSIDERS_SIZE) {
        let known = Shared::in_map(known);
        let identity = u64::from(tid) << 32 | task.start_time() & 0xffff_ffff;
        if known.load() != identity && send_outsider(cpu, task, tid) {
            known.store(identity);
        }
    }
    (waker::OUTSIDER, tid)
}

#[inline(never)]
fn send_outsider(cpu: Cpu, task: Task, tid: u32) -> bool {
    let (tgid, at_ns, comm) = (task.tgid(), kernel::now(), task.comm());
    let kernel_thread = u8::from(task.is_kernel_thread());
    emit::other(cpu, || Outsider {
        kind: kind::OUTSIDER,
        kernel_thread,
        zero: [0; 2],
        tid,
        tgid,
        zero2: 0,
        at_ns,
        comm,
    })
}
