//! Stacks of blocks and of wakers, when they are wanted: the branches on
//! `layout!(stacks)` are on a constant, so without they are not there.
//!
//! A stack is followed by frame pointers here and now, or by user space while the task sleeps:
//! all that this takes is the registers that it went to sleep with.

use aya_ebpf::{
    bindings::BPF_F_USER_STACK,
    programs::{BtfTracePointContext, tracing::StackIdContext as _},
};
use forktrace_common::{
    event::{Stacks, TaskState, flag, kind, waker},
    layout::stacks::{KEEP_REGISTERS, WALK},
};

use crate::{
    cpu::{Cpu, count},
    emit,
    filter::Traced,
    kernel::{Task, layout, now},
    maps::{REGISTERS, STACKS},
    shared::{Shared, at},
};

/// No stack.
const NONE: i32 = -1;

/// On top of the kernel's stack there are the program itself and the function that
/// runs it: the low byte of the flags leaves them out.
const SKIP_OURS: u64 = 2;

#[inline(always)]
fn take(ctx: &BtfTracePointContext, cpu: Cpu, flags: u64) -> i32 {
    match ctx.get_stackid(&STACKS, flags) {
        Ok(id) => id as i32,
        Err(error) => {
            /// A task without a user stack (errno.h).
            const EFAULT: i32 = -14;
            if error != EFAULT {
                count!(cpu, lost_stacks);
            }
            NONE
        }
    }
}

/// The current task goes to sleep.
#[inline(always)]
pub fn of_block(ctx: &BtfTracePointContext, cpu: Cpu, task: Task, traced: Traced) {
    let wanted = layout!(stacks);
    if wanted != 0 {
        if wanted & WALK != 0 {
            let state = traced.state;
            let since_ns = at!(state.out_ns).load();
            send(ctx, cpu, state, waker::NONE, 0, since_ns);
        }
        if wanted & KEEP_REGISTERS != 0 {
            keep_registers(task, traced);
        }
    }
}

/// A task that is taken in was found asleep.
#[inline(always)]
pub fn of_one_asleep(task: Task, traced: Traced) {
    if layout!(stacks) & KEEP_REGISTERS != 0 {
        keep_registers(task, traced);
    }
}

/// Keeps the registers of the program of a task that sleeps, if it has one.
#[inline(always)]
fn keep_registers(task: Task, traced: Traced) {
    let state = traced.state;
    let Some(kept) = REGISTERS.get_ptr_mut(traced.slot).map(Shared::in_map) else {
        return;
    };
    if at!(state.flags).load() & flag::KERNEL_WORKER != 0 {
        return;
    }
    let regs = task.regs();
    let (serial, seq) = (at!(state.serial).load(), at!(state.seq).load());
    at!(kept.of).publish(0);
    at!(kept.pc).store(regs.pc());
    at!(kept.sp).store(regs.sp());
    at!(kept.fp).store(regs.fp());
    at!(kept.lr).store(regs.lr());
    at!(kept.of).publish(u64::from(serial) | u64::from(seq) << 32);
}

/// The current task, or what interrupts it, wakes a task.
#[inline(always)]
pub fn of_waker(ctx: &BtfTracePointContext, cpu: Cpu, state: Shared<TaskState>) {
    let wanted = layout!(stacks);
    if wanted != 0 {
        if wanted & WALK != 0 {
            let (class, waker) = (at!(state.waker_class).load(), at!(state.waker).load());
            send(ctx, cpu, state, class, waker, now());
        }
    }
}

#[inline(always)]
fn send(
    ctx: &BtfTracePointContext,
    cpu: Cpu,
    state: Shared<TaskState>,
    waker_class: u8,
    waker: u32,
    at_ns: u64,
) {
    let kernel = take(ctx, cpu, SKIP_OURS);
    // The program that an interrupt interrupts has nothing to do with it.
    let user = if waker_class <= waker::OUTSIDER_SOFTIRQ {
        take(ctx, cpu, u64::from(BPF_F_USER_STACK))
    } else {
        NONE
    };
    let sent = emit::record(cpu, || Stacks {
        kind: kind::STACKS,
        waker_class,
        zero: [0; 2],
        serial: at!(state.serial).load(),
        seq: at!(state.seq).load(),
        waker,
        kernel,
        user,
        at_ns,
    });
    if !sent {
        count!(cpu, lost_stacks);
    }
}
