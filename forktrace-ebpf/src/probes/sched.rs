//! Switches and wakeups: the time line of each task.
//!
//! A wakeup can be announced *before* its task has left the CPU: the task had
//! set its state and was on its way out. So a switch-out keeps the wakeup that
//! is there if it is still under way, a wakeup during the sleep replaces it, and a
//! switch-in clears it. A block that finds just an early wakeup has length 0.
//!
//! A wakeup can even come before the task has begun to leave: then it does not leave,
//! no switch tells so, and the wakeup is of no block.

use aya_ebpf::{EbpfContext, macros::btf_tracepoint, programs::BtfTracePointContext};
use forktrace_common::{
    event::{NO_SYSCALL, Stretch, TaskState, flag, kind, timeout, waker as class, why},
    limits::{NO_SLOT, UNTRACKED},
};

use super::lifecycle;
use crate::{
    emit,
    filter::{self, Traced, cpu},
    kernel::{self, Task, layout},
    stacks, wait, waker,
};

/// A CPU goes from one task to another. Runs with interrupts off and the run
/// queue locked, so it never meets itself on the same CPU.
#[btf_tracepoint(function = "sched_switch")]
pub fn sched_switch(ctx: BtfTracePointContext) -> i32 {
    let prev = Task::from_arg(ctx.arg(1));
    let next = Task::from_arg(ctx.arg(2));
    let prev_tid = prev.tid();
    let next_tid = next.tid();
    let prev_hint = filter::hint(prev_tid);
    let next_hint = filter::hint(next_tid);
    if prev_hint | next_hint == NO_SLOT {
        return 0;
    }
    let now = kernel::now();
    if layout!(plain) == 0 {
        waker::nobody_runs_here();
    }

    if prev_hint != NO_SLOT {
        let prev_state: u64 = ctx.arg(3);
        // Only the low half is the state: the tracepoint's argument is 32 bits wide.
        let prev_state = prev_state & 0xffff_ffff;
        match filter::resolve(prev, prev_tid, prev_hint) {
            Some(traced) => {
                // SAFETY: the pointer is into the map, and a task is switched
                // by one CPU at a time.
                let state = unsafe { &mut *traced.state };
                state.switches += 1;
                if state.out_ns != 0 {
                    infer_switch_in(prev, state, now);
                }
                if kernel::is_dead(prev_state) {
                    lifecycle::end(prev, traced, now);
                } else {
                    let preempt = ctx.arg::<u64>(0) & 0xff != 0;
                    switch_out(&ctx, prev, traced, preempt, prev_state, now);
                }
            }
            None if prev_hint == UNTRACKED && kernel::is_dead(prev_state) => {
                lifecycle::end_untracked(prev, prev_tid, now);
            }
            None => {}
        }
    }
    if next_hint != NO_SLOT {
        if let Some(traced) = filter::resolve(next, next_tid, next_hint) {
            // SAFETY: as above.
            let state = unsafe { &mut *traced.state };
            if layout!(plain) == 0 {
                waker::runs_here(next, traced.slot, state);
            }
            switch_in(state, now, state.wake_ns, 0);
            state.wake_ns = 0;
            state.waker_class = class::NONE;
        }
    }
    0
}

#[inline(always)]
fn switch_out(
    ctx: &BtfTracePointContext,
    task: Task,
    traced: Traced,
    preempt: bool,
    prev_state: u64,
    now: u64,
) {
    // SAFETY: the pointer is into the map, and a task is switched by one CPU at a
    // time.
    let state = unsafe { &mut *traced.state };
    // Before the time: a waker that sees that must not see the wait before this.
    state.common_wait = 0;
    // The fast clock may step back by a little when time is adjusted.
    state.out_ns = now.max(state.in_ns);
    state.cpu_out = cpu() as u16;
    state.why = task.why(preempt, prev_state);
    if state.why == why::PREEMPTED {
        return;
    }
    if state.wake_ns != 0 && !task.is_being_woken() {
        // It is of a sleep before this one, which it ended before it began. A
        // wakeup that begins just now is kept.
        let before = state.wake_ns;
        filter::clear_if(&mut state.wake_ns, before);
    }
    state.blocks += 1;
    stacks::of_block(ctx, state);
    if state.flags & flag::KERNEL_WORKER != 0 {
        return;
    }
    let regs = task.regs();
    let syscall = regs.syscall() as i16;
    // A call that goes on after a stop is the one before, and waits for the same.
    let restarted = i32::from(syscall) == layout!(restart_syscall);
    state.syscall = syscall;
    if syscall == NO_SYSCALL {
        // It also sleeps on its way back to user mode, for instance when it is stopped.
        let faulted = state.why < why::STOPPED && waker::in_page_fault(ctx.as_ptr());
        state.arg0 = if faulted { state.fault } else { 0 };
        state.arg1 = 0;
        state.object = 0;
        state.timeout_us = timeout::NONE;
        return;
    }
    if task.is_compat() {
        state.flags |= flag::COMPAT;
        state.arg0 = regs.arg0();
        state.arg1 = regs.arg1() as u32;
        state.object = 0;
        state.timeout_us = timeout::UNKNOWN;
        return;
    }
    state.flags &= !flag::COMPAT;
    if !restarted {
        state.arg0 = regs.arg0();
        state.arg1 = regs.arg1() as u32;
        if layout!(plain) != 0 {
            return;
        }
        wait::look(task, regs, state, traced.slot, now);
    }
}

/// The task leaves a CPU that it never came to: the kernel did not announce the
/// switch. (Seen about once a second on one kernel, in perf's events too, though
/// its own counters have them.) The CPU time charged to this turn says when it
/// came.
#[inline(never)]
fn infer_switch_in(task: Task, state: &mut TaskState, now: u64) {
    let in_ns = now.saturating_sub(task.cpu_time_of_this_turn());
    let wake_ns = state.wake_ns;
    if task.is_being_woken() {
        // From the sleep that begins now. Perhaps its waker has written already, and
        // perhaps it is at it: who woke the task before is not known.
        switch_in(state, in_ns.max(state.out_ns), 0, flag::INFERRED);
        if wake_ns <= in_ns {
            filter::clear_if(&mut state.wake_ns, wake_ns);
        }
        return;
    }
    // Not before it was woken, or left.
    let in_ns = in_ns.max(wake_ns).max(state.out_ns);
    switch_in(state, in_ns, wake_ns, flag::INFERRED);
    // A wakeup that has come meanwhile stays.
    filter::clear_if(&mut state.wake_ns, wake_ns);
}

/// The task comes to a CPU. `wake_ns`: when it was woken; 0: not known. The caller makes
/// the state forget that.
#[inline(always)]
fn switch_in(state: &mut TaskState, now: u64, wake_ns: u64, inferred: u8) {
    let out_ns = state.out_ns;
    if out_ns == 0 {
        // Its switch-out was not announced. A gap in its numbers marks the time
        // since its last record as unknown.
        state.missed += 1;
        state.seq += 1;
        return;
    }
    let in_ns = now.max(out_ns);
    let sums_before = emit::totals(state);
    let mut flags = (state.flags & flag::COMPAT) | inferred;
    let mut wake_ns = wake_ns.min(in_ns);
    let mut waker_class = state.waker_class;
    let reason = state.why;
    if reason == why::NEW || reason == why::PREEMPTED {
        if wake_ns < out_ns || reason == why::PREEMPTED {
            wake_ns = out_ns;
        }
        state.runnable_ns += in_ns - out_ns;
    } else {
        if wake_ns == 0 {
            flags |= flag::NO_WAKE;
            wake_ns = in_ns;
            waker_class = class::NONE;
        } else if wake_ns < out_ns {
            flags |= flag::EARLY_WAKE;
            wake_ns = out_ns;
        }
        state.runnable_ns += in_ns - wake_ns;
        if reason >= why::STOPPED {
            state.stopped_ns += wake_ns - out_ns;
        } else {
            state.blocked_ns += wake_ns - out_ns;
        }
    }
    let (serial, seq, arg0, arg1) = (state.serial, state.seq, state.arg0, state.arg1);
    let (cpu_out, syscall) = (state.cpu_out, state.syscall);
    let (object, timeout_us) = (state.object, state.timeout_us);
    let waker = state.waker;
    emit::stretch(state, sums_before, |record: *mut Stretch| {
        let stretch = Stretch {
            kind: kind::STRETCH,
            why: reason,
            flags,
            waker_class,
            serial,
            seq,
            waker,
            out_ns,
            wake_ns,
            in_ns,
            arg0,
            arg1,
            cpu_out,
            syscall,
            object,
            timeout_us,
        };
        // SAFETY: the record is in the ring, reserved for us.
        unsafe { *record = stretch };
    });
    state.seq += 1;
    state.out_ns = 0;
    state.in_ns = in_ns;
}

/// A page fault in user mode: its address, for when the task has to wait for it.
#[btf_tracepoint(function = "page_fault_user")]
pub fn page_fault_user(ctx: BtfTracePointContext) -> i32 {
    if let Some(traced) = filter::current() {
        // SAFETY: the pointer is into the map; the task runs here.
        unsafe { (*traced.state).fault = ctx.arg(0) };
    }
    0
}

/// A sleeping task is about to be woken. Runs with the task's `pi_lock` held.
#[btf_tracepoint(function = "sched_waking")]
pub fn sched_waking(ctx: BtfTracePointContext) -> i32 {
    let task = Task::from_arg(ctx.arg(0));
    let tid = task.tid();
    let hint = filter::hint(tid);
    if hint == NO_SLOT {
        return 0;
    }
    if let Some(traced) = filter::resolve(task, tid, hint) {
        // SAFETY: the pointer is into the map. Waker and switcher write
        // different fields; the switch-in that clears these comes after the
        // wakeup by the kernel's own locks.
        woken(&ctx, unsafe { &mut *traced.state });
    }
    0
}

/// Keeps who wakes the task, and when.
#[inline(always)]
pub fn woken(ctx: &BtfTracePointContext, state: &mut TaskState) {
    let (by, number) = if layout!(plain) == 0 {
        waker::current(ctx.as_ptr(), state.out_ns != 0 && state.common_wait != 0)
    } else {
        (class::NONE, 0)
    };
    state.waker_class = by;
    state.waker = number;
    stacks::of_waker(ctx, state);
    state.wake_ns = kernel::now();
}
