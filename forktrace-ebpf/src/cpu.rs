//! The CPU that a program runs on.

use aya_ebpf::helpers::bpf_get_smp_processor_id;
use forktrace_common::{event::CpuStats, limits::NO_SLOT};

use crate::{
    kernel::Task,
    maps::CPUS,
    shared::{Shared, at},
};

/// This CPU's counters and words. Asked for once a run of a program and handed down: a
/// program stays on its CPU.
#[derive(Clone, Copy)]
pub struct Cpu {
    /// See [`CpuStats`].
    pub stats: Shared<CpuStats>,
}

impl Cpu {
    /// The one that we are on. `None` only on one that came later and has a greater
    /// number than forktrace knows.
    #[inline(always)]
    pub fn this() -> Option<Self> {
        // SAFETY: a helper without arguments.
        let number = unsafe { bpf_get_smp_processor_id() };
        let stats = Shared::in_map(CPUS.get_ptr_mut(number)?);
        // Noted beside the rest: one word to hand down instead of two.
        at!(stats.number).store(number);
        Some(Self { stats })
    }

    /// Its number.
    #[inline(always)]
    pub fn number(self) -> u32 {
        let stats = self.stats;
        at!(stats.number).load()
    }

    /// An address as a number like any other: the verifier forbids much with addresses,
    /// but what went into a map as an address comes out as a number.
    #[inline(always)]
    pub fn as_number(self, address: u64) -> u64 {
        let stats = self.stats;
        at!(stats.address).store(address);
        at!(stats.address).load()
    }

    /// A task leaves; who comes is told by [`Self::runs`], if it is traced.
    #[inline(always)]
    pub fn runs_nobody(self) {
        let stats = self.stats;
        at!(stats.running).store(u64::from(NO_SLOT));
    }

    /// A traced task comes. Its kernel stack ends at `stack_top`.
    #[inline(always)]
    pub fn runs(self, task: Task, slot: u32, stack_top: u64) {
        let stats = self.stats;
        at!(stats.running).store(u64::from(slot));
        at!(stats.stack_low).store(task.stack());
        at!(stats.stack_top).store(stack_top);
    }
}

/// Adds 1 to a counter of what went wrong. Atomic, because an interrupt can come between
/// load and store where a program can be interrupted.
macro_rules! count {
    ($cpu:expr, $counter:ident) => {{
        let stats = $cpu.stats;
        $crate::shared::at!(stats.$counter).fetch_add(1);
    }};
}
pub(crate) use count;
