//! What a CPU is handling: so that a wakeup from an interrupt is not blamed on the
//! task that it interrupted.
//!
//! The words are kept apart because a timer's interrupt nests in a soft one. Hard
//! interrupts nest in each other too, so their word is a stack ([`hard`]).

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use forktrace_common::event::{CpuStats, hard};

use crate::{
    cpu::Cpu,
    kernel::Task,
    shared::{Shared, at},
};

#[inline(always)]
fn here(change: impl FnOnce(Shared<CpuStats>)) -> i32 {
    if let Some(cpu) = Cpu::this() {
        change(cpu.stats);
    }
    0
}

/// A hard interrupt begins, in whatever is being handled.
#[inline(always)]
fn enter(interrupt: u64) -> i32 {
    here(|stats| {
        let outer = at!(stats.hard).load();
        at!(stats.hard).store(outer << hard::BITS | interrupt);
    })
}

/// The innermost ends, and what it interrupted goes on.
#[inline(always)]
fn leave() -> i32 {
    here(|stats| {
        let inner = at!(stats.hard).load();
        at!(stats.hard).store(inner >> hard::BITS);
    })
}

/// A device's interrupt.
#[btf_tracepoint(function = "irq_handler_entry")]
pub fn irq_handler_entry(ctx: BtfTracePointContext) -> i32 {
    let number: i32 = ctx.arg(0);
    let number = u64::from(number as u32);
    enter(number.min(hard::TIMER - 2) + 1)
}

/// Its end.
#[btf_tracepoint(function = "irq_handler_exit")]
pub fn irq_handler_exit(_ctx: BtfTracePointContext) -> i32 {
    leave()
}

/// A high-resolution timer ran out: sleeps and timeouts.
#[btf_tracepoint(function = "hrtimer_expire_entry")]
pub fn hrtimer_expire_entry(_ctx: BtfTracePointContext) -> i32 {
    enter(hard::TIMER)
}

/// Its end.
#[btf_tracepoint(function = "hrtimer_expire_exit")]
pub fn hrtimer_expire_exit(_ctx: BtfTracePointContext) -> i32 {
    leave()
}

/// A soft interrupt. It begins when no hard one is being handled, so should the end of
/// one not have been announced, that is mended here.
#[btf_tracepoint(function = "softirq_entry")]
pub fn softirq_entry(ctx: BtfTracePointContext) -> i32 {
    let vector: u32 = ctx.arg(0);
    here(|stats| {
        at!(stats.hard).store(0);
        at!(stats.soft).store(vector + 1);
    })
}

/// Its end. What was sent on this CPU before is received.
#[btf_tracepoint(function = "softirq_exit")]
pub fn softirq_exit(ctx: BtfTracePointContext) -> i32 {
    /// include/linux/interrupt.h
    const NET_RX_SOFTIRQ: u32 = 3;
    let vector: u32 = ctx.arg(0);
    here(|stats| {
        at!(stats.hard).store(0);
        at!(stats.soft).store(0);
        if vector == NET_RX_SOFTIRQ {
            at!(stats.sender).store(0);
        }
    })
}

/// A packet that this machine sends to itself: it is received in a soft interrupt
/// that the sender runs before it goes on.
#[btf_tracepoint(function = "netif_rx_entry")]
pub fn netif_rx_entry(_ctx: BtfTracePointContext) -> i32 {
    here(|stats| {
        if at!(stats.hard).load() == 0 && at!(stats.soft).load() == 0 {
            at!(stats.sender).store(Task::current().address());
        }
    })
}
