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

use aya_ebpf::{bindings::bpf_pidns_info, helpers::bpf_get_ns_current_pid_tgid};
use aya_log_ebpf::{debug, warn};
use forktrace_common::{
    event::{Control, TaskState},
    limits::{NO_SLOT, TIDS_PER_ELEMENT, UNTRACKED},
};

use crate::{
    cpu::{Cpu, count},
    kernel::{Task, layout},
    maps::{BY_TASK, CONTROL, FREE_SLOTS, TASKS, TIDS},
    shared::{Shared, at},
};

/// Where the hint for a tid is. `None`: the table ends before it.
#[inline(always)]
fn hint_place(tid: u32) -> Option<Shared<u32>> {
    let element = TIDS.get_ptr_mut(tid / TIDS_PER_ELEMENT)?;
    // SAFETY: the index is within the element.
    let place = |e: *mut [u32; TIDS_PER_ELEMENT as usize]| unsafe {
        e.cast::<u32>().add((tid % TIDS_PER_ELEMENT) as usize)
    };
    Some(Shared::in_map(element).part(place))
}

/// The hint for a tid: 0 when no task with this tid is traced.
#[inline(always)]
pub fn hint(tid: u32) -> u32 {
    hint_place(tid).map_or(NO_SLOT, Shared::load)
}

/// Sets the hint for a tid. False where the table has no place for it: somebody has raised
/// `kernel.pid_max` since it was made.
#[inline(always)]
pub fn set_hint(tid: u32, slot: u32) -> bool {
    let place = hint_place(tid);
    if let Some(place) = place {
        place.store(slot);
    }
    place.is_some()
}

/// A traced task: its state and where that is.
#[derive(Clone, Copy)]
pub struct Traced {
    /// Slot in [`TASKS`].
    pub slot: u32,
    /// Its state in the map.
    pub state: Shared<TaskState>,
}

/// The state in a slot, if that is of this task.
#[inline(always)]
pub fn in_slot(slot: u32, address: u64) -> Option<Traced> {
    let state = Shared::in_map(TASKS.get_ptr_mut(slot)?);
    (at!(state.task).load() == address).then_some(Traced { slot, state })
}

/// The state of a task, if it is traced.
#[inline(always)]
pub fn resolve(task: Task) -> Option<Traced> {
    let tid = task.tid();
    match hint(tid) {
        NO_SLOT => None,
        hint => resolve_hint(task, tid, hint),
    }
}

/// The same for a task whose tid has a hint.
#[inline(always)]
pub fn resolve_hint(task: Task, tid: u32, hint: u32) -> Option<Traced> {
    let address = task.address();
    in_slot(hint, address).or_else(|| resolve_by_address(address, tid, hint))
}

/// The same when the hint named another task.
#[inline(never)]
fn resolve_by_address(address: u64, tid: u32, hint: u32) -> Option<Traced> {
    // SAFETY: the value is copied at once; only this task's own creation and
    // death change its entry.
    let slot = unsafe { BY_TASK.get(address) }.copied();
    // The entry of a dead task is still there when its removal was refused.
    match slot.and_then(|slot| in_slot(slot, address)) {
        Some(traced) => {
            set_hint(tid, traced.slot);
            let state = traced.state;
            at!(state.tid).store(tid);
            Some(traced)
        }
        None => {
            if hint != UNTRACKED {
                set_hint(tid, NO_SLOT);
            }
            None
        }
    }
}

/// The serial of the task at this address; 0: it is not traced.
#[inline(always)]
pub fn serial_at(address: u64) -> u32 {
    // SAFETY: the value is copied at once.
    let slot = unsafe { BY_TASK.get(address) }.copied();
    match slot.and_then(|slot| in_slot(slot, address)) {
        Some(Traced { state, .. }) => at!(state.serial).load(),
        None => 0,
    }
}

/// The shared counters and settings.
#[inline(always)]
pub fn control() -> Option<Shared<Control>> {
    CONTROL.get_ptr_mut(0).map(Shared::in_map)
}

/// Is the current task the one whose children are the workload?
///
/// User space knows its tid in its own pid namespace only, which in a container
/// is not the kernel's.
#[inline(always)]
pub fn current_is_launcher(control: Shared<Control>) -> bool {
    let launcher = at!(control.launcher).load();
    if launcher == 0 {
        return false;
    }
    let mut tid = bpf_pidns_info { pid: 0, tgid: 0 };
    // SAFETY: the helper writes to a variable of ours.
    let failed = unsafe {
        bpf_get_ns_current_pid_tgid(
            at!(control.namespace_device).load(),
            at!(control.namespace_inode).load(),
            &raw mut tid,
            size_of::<bpf_pidns_info>() as u32,
        )
    };
    failed == 0 && u64::from(tid.pid) == launcher
}

/// A free slot.
#[inline(always)]
pub fn take_slot(cpu: Cpu) -> Option<u32> {
    match FREE_SLOTS.pop() {
        Ok(Some(slot)) => return Some(slot),
        Ok(None) => {}
        // Since Linux 6.15 a pop gives up (EBUSY) where the lock can't be had.
        Err(error) => {
            count!(cpu, refused);
            debug!(
                (),
                "no slot could be taken from the free ones: error {}", error
            );
        }
    }
    let control = control()?;
    let max = u64::from(layout!(max_tasks));
    if at!(control.slots).load() >= max {
        return None;
    }
    let used = at!(control.slots).fetch_add(1);
    (used < max).then_some(used as u32 + 1)
}

/// Gives a slot back. The stack has room for all, but since Linux 6.15 a push gives up
/// (EBUSY) where the lock can't be had, and then the slot is lost.
#[inline(always)]
pub fn free_slot(cpu: Cpu, slot: u32) {
    if FREE_SLOTS.push(slot, 0).is_err() {
        count!(cpu, lost_slots);
        warn!(
            (),
            "slot {} could not be given back: the table is smaller now", slot
        );
    }
}

/// Forgets the address of a task that is dead, or could not be taken into the table.
#[inline(always)]
pub fn forget(cpu: Cpu, task: Task) {
    if let Err(error) = BY_TASK.remove(task.address()) {
        count!(cpu, refused);
        debug!(
            (),
            "the address of tid {} could not be removed: error {}",
            task.tid(),
            error
        );
    }
}
