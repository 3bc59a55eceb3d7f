//! What a CPU is handling: so that a wakeup from an interrupt is not blamed on the
//! task that it interrupted.
//!
//! The words are kept apart because a timer's interrupt nests in a soft one.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use forktrace_common::event::{CpuStats, HARD_TIMER};

use crate::{
    filter::{self, cpu},
    kernel::Task,
};

#[inline(always)]
fn here(change: impl FnOnce(&mut CpuStats)) -> i32 {
    if let Some(stats) = filter::stats(cpu()) {
        change(stats);
    }
    0
}

/// A device's interrupt.
#[btf_tracepoint(function = "irq_handler_entry")]
pub fn irq_handler_entry(ctx: BtfTracePointContext) -> i32 {
    let number: i32 = ctx.arg(0);
    here(|cpu| cpu.hard = number as u32 + 1)
}

/// Its end.
#[btf_tracepoint(function = "irq_handler_exit")]
pub fn irq_handler_exit(_ctx: BtfTracePointContext) -> i32 {
    here(|cpu| cpu.hard = 0)
}

/// A high-resolution timer ran out: sleeps and timeouts.
#[btf_tracepoint(function = "hrtimer_expire_entry")]
pub fn hrtimer_expire_entry(_ctx: BtfTracePointContext) -> i32 {
    here(|cpu| cpu.hard = HARD_TIMER)
}

/// Its end.
#[btf_tracepoint(function = "hrtimer_expire_exit")]
pub fn hrtimer_expire_exit(_ctx: BtfTracePointContext) -> i32 {
    here(|cpu| cpu.hard = 0)
}

/// A soft interrupt.
#[btf_tracepoint(function = "softirq_entry")]
pub fn softirq_entry(ctx: BtfTracePointContext) -> i32 {
    let vector: u32 = ctx.arg(0);
    here(|cpu| cpu.soft = vector + 1)
}

/// Its end. What was sent on this CPU before is received.
#[btf_tracepoint(function = "softirq_exit")]
pub fn softirq_exit(ctx: BtfTracePointContext) -> i32 {
    /// include/linux/interrupt.h
    const NET_RX_SOFTIRQ: u32 = 3;
    let vector: u32 = ctx.arg(0);
    here(|cpu| {
        cpu.soft = 0;
        if vector == NET_RX_SOFTIRQ {
            cpu.sender = 0;
        }
    })
}

/// A packet that this machine sends to itself: it is received in a soft interrupt
/// that the sender runs before it goes on.
#[btf_tracepoint(function = "netif_rx_entry")]
pub fn netif_rx_entry(_ctx: BtfTracePointContext) -> i32 {
    here(|cpu| {
        if cpu.hard == 0 && cpu.soft == 0 {
            cpu.sender = Task::current().address();
        }
    })
}
