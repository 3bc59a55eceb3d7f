//! Is this task traced, and which is its state?
//!
//! [`TIDS`] gives each tid a slot, or 0, which is all that an untraced task pays.
//! A tid is not an identity: a thread that is not the leader takes over the
//! leader's tid when it executes a program, before any tracepoint says so, and
//! the dying leader goes on under the thread's; and tids are used again. So the
//! slot is a hint. The address of the `task_struct` in the state confirms it,
//! and where it does not, [`BY_TASK`] decides and the hint is corrected.
//!
//! The one rule that keeps this right: a tid that a traced task may come to have
//! never loses its hint. Hence hints are not cleared when a task dies, only when
//! an untraced task is met under that tid.

use core::arch::asm;

use aya_ebpf::{
    bindings::bpf_pidns_info,
    helpers::{bpf_get_ns_current_pid_tgid, bpf_get_smp_processor_id},
};
use forktrace_common::{
    event::{Control, CpuStats, TaskState},
    limits::{NO_SLOT, TIDS_PER_ELEMENT, UNTRACKED},
};

use crate::{
    kernel::{Task, layout},
    maps::{BY_TASK, CONTROL, CPUS, FREE_SLOTS, TASKS, TIDS},
};

/// The hint for a tid: 0 when no task with this tid is traced.
#[inline(always)]
pub fn hint(tid: u32) -> u32 {
    match TIDS.get_ptr(tid / TIDS_PER_ELEMENT) {
        // SAFETY: the pointer is into the map, the index within the element.
        Some(element) => unsafe { (*element)[(tid % TIDS_PER_ELEMENT) as usize] },
        None => NO_SLOT,
    }
}

/// Sets the hint for a tid.
#[inline(always)]
pub fn set_hint(tid: u32, slot: u32) {
    if let Some(element) = TIDS.get_ptr_mut(tid / TIDS_PER_ELEMENT) {
        // SAFETY: the pointer is into the map, the index within the element.
        unsafe { (*element)[(tid % TIDS_PER_ELEMENT) as usize] = slot };
    }
}

/// A traced task: its state and where that is.
#[derive(Clone, Copy)]
pub struct Traced {
    /// Slot in [`TASKS`].
    pub slot: u32,
    /// Its state in the map. Written by the CPU that switches the task, and, the
    /// wakeup only, by the waker's, under the task's `pi_lock`.
    pub state: *mut TaskState,
}

/// The state of a task whose tid has a hint.
#[inline(always)]
pub fn resolve(task: Task, tid: u32, hint: u32) -> Option<Traced> {
    if let Some(state) = TASKS.get_ptr_mut(hint) {
        // SAFETY: the pointer is into the map.
        if unsafe { (*state).task } == task.address() {
            return Some(Traced { slot: hint, state });
        }
    }
    resolve_by_address(task.address(), tid, hint)
}

/// The same when the hint named another task.
#[inline(never)]
fn resolve_by_address(address: u64, tid: u32, hint: u32) -> Option<Traced> {
    // SAFETY: the value is copied at once; only this task's own creation and
    // death change its entry.
    match unsafe { BY_TASK.get(address) }.copied() {
        Some(slot) => {
            set_hint(tid, slot);
            let state = TASKS.get_ptr_mut(slot)?;
            // SAFETY: the pointer is into the map.
            unsafe { (*state).tid = tid };
            Some(Traced { slot, state })
        }
        None => {
            if hint != UNTRACKED {
                set_hint(tid, NO_SLOT);
            }
            None
        }
    }
}

/// The state of the current task, if it is traced.
#[inline(always)]
pub fn current() -> Option<Traced> {
    let task = Task::current();
    let tid = task.tid();
    match hint(tid) {
        NO_SLOT => None,
        hint => resolve(task, tid, hint),
    }
}

/// The shared counters and settings.
#[inline(always)]
pub fn control() -> Option<&'static mut Control> {
    // SAFETY: the pointer is into the map; fields that several CPUs change are
    // changed by atomic instructions only.
    CONTROL
        .get_ptr_mut(0)
        .map(|control| unsafe { &mut *control })
}

/// Is the current task the one whose children are the workload?
///
/// User space knows its tid in its own pid namespace only, which in a container
/// is not the kernel's.
#[inline(always)]
pub fn current_is_launcher(control: &Control) -> bool {
    if control.launcher == 0 {
        return false;
    }
    let mut tid = bpf_pidns_info { pid: 0, tgid: 0 };
    // SAFETY: the helper writes to a variable of ours.
    let failed = unsafe {
        bpf_get_ns_current_pid_tgid(
            control.namespace_device,
            control.namespace_inode,
            &raw mut tid,
            size_of::<bpf_pidns_info>() as u32,
        )
    };
    failed == 0 && u64::from(tid.pid) == control.launcher
}

/// Adds to a counter that several CPUs change, and returns the value before.
///
/// In assembly, since the compiler's eBPF target declares no read-modify-write
/// atomics, though the machine has had them since Linux 5.12.
#[inline(always)]
pub fn add(counter: &mut u64, n: u64) -> u64 {
    let before;
    // SAFETY: one instruction on a valid, aligned reference.
    unsafe {
        asm!(
            "{n} = atomic_fetch_add((u64 *)({counter} + 0), {n})",
            counter = in(reg) counter,
            n = inout(reg) n => before,
        );
    }
    before
}

/// Makes a word 0 that still is what it was.
#[inline(always)]
pub fn clear_if(word: &mut u64, before: u64) {
    // SAFETY: one instruction on a valid, aligned reference.
    unsafe {
        asm!(
            "r0 = cmpxchg_64({word} + 0, r0, {zero})",
            word = in(reg) word,
            zero = in(reg) 0u64,
            inout("r0") before => _,
        );
    }
}

/// The number of this CPU.
#[inline(always)]
pub fn cpu() -> u32 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_get_smp_processor_id() }
}

/// This CPU's counters.
#[inline(always)]
pub fn stats(cpu: u32) -> Option<&'static mut CpuStats> {
    // SAFETY: the pointer is into the map, and only this CPU writes there.
    CPUS.get_ptr_mut(cpu).map(|stats| unsafe { &mut *stats })
}

/// An address as a number like any other: the verifier forbids much with addresses,
/// but what went into a map as an address comes out as a number.
#[inline(always)]
pub fn number(stats: &mut CpuStats, address: u64) -> u64 {
    let room: *mut u64 = &raw mut stats.address;
    // SAFETY: a valid reference; volatile, so that the compiler does not see through.
    unsafe {
        room.write_volatile(address);
        room.read_volatile()
    }
}

/// A free slot.
#[inline(always)]
pub fn take_slot() -> Option<u32> {
    if let Ok(Some(slot)) = FREE_SLOTS.pop() {
        return Some(slot);
    }
    let control = control()?;
    let max = u64::from(layout!(max_tasks));
    if control.slots >= max {
        return None;
    }
    let used = add(&mut control.slots, 1);
    (used < max).then_some(used as u32 + 1)
}

/// Gives a slot back.
#[inline(always)]
pub fn free_slot(slot: u32) {
    // Can't fail: the stack holds as many as there are slots.
    let _ = FREE_SLOTS.push(slot, 0);
}
