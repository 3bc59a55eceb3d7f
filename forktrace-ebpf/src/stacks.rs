//! Stacks of blocks and of wakers, when they are wanted: the branches on
//! `layout!(stacks)` are on a constant, so without they are not there.

use aya_ebpf::{
    bindings::BPF_F_USER_STACK,
    programs::{BtfTracePointContext, tracing::StackIdContext as _},
};
use forktrace_common::event::{Stacks, TaskState, kind, waker};

use crate::{
    emit,
    filter::{cpu, stats},
    kernel::layout,
    maps::STACKS,
};

/// No stack.
const NONE: i32 = -1;

/// On top of the kernel's stack there are the program itself and the function that
/// runs it: the low byte of the flags leaves them out.
const SKIP_OURS: u64 = 2;

#[inline(always)]
fn take(ctx: &BtfTracePointContext, flags: u64) -> i32 {
    match ctx.get_stackid(&STACKS, flags) {
        Ok(id) => id as i32,
        Err(error) => {
            /// A task without a user stack (errno.h).
            const EFAULT: i32 = -14;
            if error != EFAULT {
                if let Some(stats) = stats(cpu()) {
                    stats.lost_stacks += 1;
                }
            }
            NONE
        }
    }
}

/// The current task goes to sleep.
#[inline(always)]
pub fn of_block(ctx: &BtfTracePointContext, state: &TaskState) {
    if layout!(stacks) != 0 {
        send(ctx, state, waker::NONE, 0, true);
    }
}

/// The current task, or what interrupts it, wakes a task.
#[inline(always)]
pub fn of_waker(ctx: &BtfTracePointContext, state: &TaskState) {
    if layout!(stacks) != 0 {
        let class = state.waker_class;
        // The program that an interrupt interrupts has nothing to do with it.
        let is_task = class != waker::NONE && class <= waker::OUTSIDER_SOFTIRQ;
        send(ctx, state, class, state.waker, is_task);
    }
}

#[inline(always)]
fn send(ctx: &BtfTracePointContext, state: &TaskState, waker_class: u8, waker: u32, program: bool) {
    let kernel = take(ctx, SKIP_OURS);
    let user = if program {
        take(ctx, u64::from(BPF_F_USER_STACK))
    } else {
        NONE
    };
    let (serial, seq) = (state.serial, state.seq);
    let sent = emit::rare(|record: *mut Stacks| {
        let stacks = Stacks {
            kind: kind::STACKS,
            waker_class,
            zero: [0; 2],
            serial,
            seq,
            waker,
            kernel,
            user,
        };
        // SAFETY: the record is in the ring, reserved for us.
        unsafe { *record = stacks };
    });
    if !sent {
        if let Some(stats) = stats(cpu()) {
            stats.lost_stacks += 1;
        }
    }
}
