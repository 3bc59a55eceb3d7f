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
use aya_log_ebpf::info;
use forktrace_common::{
    event::{NO_SYSCALL, Stretch, TaskState, flag, kind, timeout, waker as class, why},
    limits::{NO_SLOT, UNTRACKED},
};

use super::rivals::{self, LONG_NS};
use crate::{
    cpu::Cpu,
    death, emit, enter,
    filter::{self, Traced},
    kernel::{self, Task, layout},
    shared::{Shared, at},
    stacks, untracked, wait, waker,
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
    let Some(cpu) = Cpu::this() else {
        return 0;
    };
    let now = kernel::now();
    if layout!(plain) == 0 {
        cpu.runs_nobody();
    }
    if prev_hint != NO_SLOT {
        match filter::resolve_hint(prev, prev_tid, prev_hint) {
            Some(traced) => leave(&ctx, cpu, prev, traced, now),
            None if prev_hint == UNTRACKED && kernel::is_dead(prev_state(&ctx)) => {
                untracked::end(cpu, prev, prev_tid, now);
            }
            None => {}
        }
    }
    if next_hint != NO_SLOT {
        if let Some(traced) = filter::resolve_hint(next, next_tid, next_hint) {
            let state = traced.state;
            if layout!(attach) != 0 && at!(state.flags).load() & flag::ENTERED != 0 {
                enter::first_switch_in(next, traced);
            }
            if layout!(plain) == 0 {
                cpu.runs(next, traced.slot, at!(state.stack_top).load());
            }
            let waited_ns = switch_in(cpu, state, now, at!(state.wake_ns).load(), 0);
            at!(state.wake_ns).store(0);
            at!(state.waker_class).store(class::NONE);
            // The idle task is no user of the CPU.
            if layout!(plain) == 0 && waited_ns >= LONG_NS && prev_hint == NO_SLOT && prev_tid != 0
            {
                rivals::cpu_users(cpu, prev, now);
            }
        }
    }
    0
}

/// The state that the task leaves the CPU in, as the tracepoint has it.
#[inline(always)]
fn prev_state(ctx: &BtfTracePointContext) -> u64 {
    let state: u64 = ctx.arg(3);
    // Only the low half is the state: the tracepoint's argument is 32 bits wide.
    state & 0xffff_ffff
}

/// A traced task leaves this CPU.
#[inline(always)]
fn leave(ctx: &BtfTracePointContext, cpu: Cpu, task: Task, traced: Traced, now: u64) {
    let state = traced.state;
    at!(state.switches).increase(1);
    if at!(state.out_ns).load() != 0 {
        let entered = layout!(attach) != 0 && at!(state.flags).load() & flag::ENTERED != 0;
        if !entered || enter::first_switch_out(task, traced, now) {
            infer_switch_in(cpu, task, state, now);
        }
    }
    if kernel::is_dead(prev_state(ctx)) {
        at!(state.end_ns).store(now.max(at!(state.in_ns).load()));
        death::last_switch(cpu, task, traced);
    } else {
        switch_out(ctx, cpu, task, traced, now);
    }
}

#[inline(always)]
fn switch_out(ctx: &BtfTracePointContext, cpu: Cpu, task: Task, traced: Traced, now: u64) {
    let state = traced.state;
    // Before the time: a waker that sees that must not see the wait before this.
    at!(state.common_wait).store(0);
    // The fast clock may step back by a little when time is adjusted.
    at!(state.out_ns).store(now.max(at!(state.in_ns).load()));
    at!(state.cpu_out).store(cpu.number() as u16);
    let preempt = ctx.arg::<u64>(0) & 0xff != 0;
    let why = task.why(preempt, prev_state(ctx));
    at!(state.why).store(why);
    if why == why::PREEMPTED {
        // In which call it gave up the CPU, if it did: who yields asks again and again.
        let syscall = if preempt {
            NO_SYSCALL
        } else {
            task.regs().syscall() as i16
        };
        at!(state.syscall).store(syscall);
        return;
    }
    let woken_before = at!(state.wake_ns).load();
    if woken_before != 0 && !task.is_being_woken() {
        // Stale: this wakeup belongs to an earlier sleep, which it ended before the
        // task had switched out. A wakeup that begins just now is kept.
        at!(state.wake_ns).clear_if(woken_before);
    }
    at!(state.blocks).increase(1);
    if layout!(plain) == 0 {
        let blocker = task.blocker();
        if blocker != 0 {
            rivals::lock_holder(state, blocker);
        }
    }
    stacks::of_block(ctx, cpu, task, traced);
    let flags = at!(state.flags).load();
    if flags & flag::KERNEL_WORKER != 0 {
        return;
    }
    let regs = task.regs();
    let syscall = regs.syscall() as i16;
    at!(state.syscall).store(syscall);
    if syscall == NO_SYSCALL {
        // It also sleeps on its way back to user mode, for instance when it is stopped.
        let faulted = why < why::STOPPED && waker::in_page_fault(ctx.as_ptr(), cpu);
        let fault = if faulted { at!(state.fault).load() } else { 0 };
        waits_for(state, fault, 0, timeout::NONE);
        return;
    }
    if task.is_compat() {
        at!(state.flags).store(flags | flag::COMPAT);
        waits_for(state, regs.arg(0), regs.arg(1), timeout::UNKNOWN);
        return;
    }
    at!(state.flags).store(flags & !flag::COMPAT);
    // A call that goes on after a stop is the one before, and waits for the same.
    if i32::from(syscall) == layout!(restart_syscall) {
        return;
    }
    at!(state.arg0).store(regs.arg(0));
    at!(state.arg1).store(regs.arg(1) as u32);
    if layout!(plain) == 0 {
        wait::look(cpu, task, regs, state, now);
    }
}

/// What it waits for is in no table of ours.
#[inline(always)]
fn waits_for(state: Shared<TaskState>, arg0: u64, arg1: u64, timeout_us: u32) {
    at!(state.arg0).store(arg0);
    at!(state.arg1).store(arg1 as u32);
    at!(state.object).store(0);
    at!(state.timeout_us).store(timeout_us);
}

/// The task leaves a CPU that it never came to: the kernel did not announce the
/// switch. (Seen about once a second on one kernel, in perf's events too, though
/// its own counters have them.) The CPU time charged to this turn says when it
/// came.
#[inline(never)]
fn infer_switch_in(cpu: Cpu, task: Task, state: Shared<TaskState>, now: u64) {
    let in_ns = now.saturating_sub(task.cpu_time_of_this_turn());
    info!(
        (),
        "tid {} leaves a CPU that it was not seen to come to",
        task.tid()
    );
    let (wake_ns, out_ns) = (at!(state.wake_ns).load(), at!(state.out_ns).load());
    if task.is_being_woken() {
        // From the sleep that begins now. Perhaps its waker has written already, and
        // perhaps it is at it: who woke the task before is not known.
        switch_in(cpu, state, in_ns.max(out_ns), 0, flag::INFERRED);
        if wake_ns <= in_ns {
            at!(state.wake_ns).clear_if(wake_ns);
        }
        return;
    }
    // Not before it was woken, or left.
    let in_ns = in_ns.max(wake_ns).max(out_ns);
    switch_in(cpu, state, in_ns, wake_ns, flag::INFERRED);
    // A wakeup that has come meanwhile stays.
    at!(state.wake_ns).clear_if(wake_ns);
}

/// The task comes to a CPU, for which it waited so long, ns. `wake_ns`: when it was woken; 0:
/// not known. The caller makes the state forget that.
#[inline(always)]
fn switch_in(cpu: Cpu, state: Shared<TaskState>, now: u64, wake_ns: u64, inferred: u8) -> u64 {
    let out_ns = at!(state.out_ns).load();
    if out_ns == 0 {
        // Its switch-out was not announced. A gap in its numbers marks the time
        // since its last record as unknown.
        at!(state.missed).increase(1);
        at!(state.seq).increase(1);
        return 0;
    }
    let mut kept = at!(state.flags).load();
    // Sums that lack a stretch would be wrong: better none.
    if kept & flag::RESYNC != 0 && at!(state.missed).load() == 0 && emit::totals(cpu, state) {
        kept &= !flag::RESYNC;
        at!(state.flags).store(kept);
    }
    let in_ns = now.max(out_ns);
    let mut flags = (kept & flag::COMPAT) | inferred;
    let mut wake_ns = wake_ns.min(in_ns);
    let mut waker_class = at!(state.waker_class).load();
    let why = at!(state.why).load();
    if why == why::NEW || why == why::PREEMPTED {
        if wake_ns < out_ns || why == why::PREEMPTED {
            wake_ns = out_ns;
        }
        at!(state.runnable_ns).increase(in_ns - out_ns);
    } else {
        if wake_ns == 0 {
            flags |= flag::NO_WAKE;
            wake_ns = in_ns;
            waker_class = class::NONE;
        } else if wake_ns < out_ns {
            flags |= flag::EARLY_WAKE;
            wake_ns = out_ns;
        }
        at!(state.runnable_ns).increase(in_ns - wake_ns);
        if why >= why::STOPPED {
            at!(state.stopped_ns).increase(wake_ns - out_ns);
        } else {
            at!(state.blocked_ns).increase(wake_ns - out_ns);
        }
    }
    let sent = emit::stretch(cpu, || Stretch {
        kind: kind::STRETCH,
        why,
        flags,
        waker_class,
        serial: at!(state.serial).load(),
        seq: at!(state.seq).load(),
        waker: at!(state.waker).load(),
        out_ns,
        wake_ns,
        in_ns,
        arg0: at!(state.arg0).load(),
        arg1: at!(state.arg1).load(),
        cpu_out: at!(state.cpu_out).load(),
        syscall: at!(state.syscall).load(),
        object: at!(state.object).load(),
        timeout_us: at!(state.timeout_us).load(),
    });
    if !sent {
        at!(state.lost).increase(1);
        at!(state.flags).store(kept | flag::RESYNC);
    }
    at!(state.seq).increase(1);
    at!(state.out_ns).store(0);
    at!(state.in_ns).store(in_ns);
    in_ns - wake_ns
}

/// A page fault in user mode: its address, for when the task has to wait for it.
#[btf_tracepoint(function = "page_fault_user")]
pub fn page_fault_user(ctx: BtfTracePointContext) -> i32 {
    if let Some(traced) = filter::resolve(Task::current()) {
        let state = traced.state;
        at!(state.fault).store(ctx.arg(0));
    }
    0
}

/// A sleeping task is about to be woken. Runs with the task's `pi_lock` held.
#[btf_tracepoint(function = "sched_waking")]
pub fn sched_waking(ctx: BtfTracePointContext) -> i32 {
    if let Some(traced) = filter::resolve(Task::from_arg(ctx.arg(0))) {
        if let Some(cpu) = Cpu::this() {
            woken(&ctx, cpu, traced.state);
        }
    }
    0
}

/// Keeps who wakes the task, and when. The switch-in that clears these comes after the
/// wakeup by the kernel's own locks.
#[inline(always)]
pub fn woken(ctx: &BtfTracePointContext, cpu: Cpu, state: Shared<TaskState>) {
    let (by, number) = if layout!(plain) == 0 {
        // The time first: `switch_out` writes it last.
        let sleeps = at!(state.out_ns).load() != 0;
        waker::current(
            ctx.as_ptr(),
            cpu,
            sleeps && at!(state.common_wait).load() != 0,
        )
    } else {
        (class::NONE, 0)
    };
    at!(state.waker_class).store(by);
    at!(state.waker).store(number);
    stacks::of_waker(ctx, cpu, state);
    at!(state.wake_ns).store(kernel::now());
}
