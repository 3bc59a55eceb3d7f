//! Stacks of blocks and of wakers, when they are wanted: the branches on
//! `layout!(stacks)` are on a constant, so without they are not there.

use aya_ebpf::{
    bindings::BPF_F_USER_STACK,
    programs::{BtfTracePointContext, tracing::StackIdContext as _},
};
use forktrace_common::event::{Stacks, TaskState, kind, waker};

use crate::{
    cpu::{Cpu, count},
    emit,
    kernel::layout,
    maps::STACKS,
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
pub fn of_block(ctx: &BtfTracePointContext, cpu: Cpu, state: Shared<TaskState>) {
    if layout!(stacks) != 0 {
        send(ctx, cpu, state, waker::NONE, 0);
    }
}

/// The current task, or what interrupts it, wakes a task.
#[inline(always)]
pub fn of_waker(ctx: &BtfTracePointContext, cpu: Cpu, state: Shared<TaskState>) {
    if layout!(stacks) != 0 {
        let (class, waker) = (at!(state.waker_class).load(), at!(state.waker).load());
        send(ctx, cpu, state, class, waker);
    }
}

#[inline(always)]
fn send(
    ctx: &BtfTracePointContext,
    cpu: Cpu,
    state: Shared<TaskState>,
    waker_class: u8,
    waker: u32,
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
    });
    if !sent {
        count!(cpu, lost_stacks);
    }
}
