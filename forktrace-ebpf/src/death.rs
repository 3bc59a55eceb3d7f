//! The death of a task: its last records, and its place in the tables.

use forktrace_common::event::{End, Polls, TaskState, flag, kind};

use crate::{
    cpu::{Cpu, count},
    emit, enter,
    filter::{self, Traced, control},
    kernel::Task,
    maps::POLLS,
    shared::{Shared, at},
};

/// The last switch of a task, whose [`TaskState::end_ns`] is set. Everything of it is
/// deleted here and not in an exit or free event: those come a switch too early, or late,
/// or never.
#[inline(never)]
pub fn last_switch(cpu: Cpu, task: Task, traced: Traced) {
    let state = traced.state;
    let (switches, cpu_ns) = enter::base(traced);
    at!(state.kernel_switches).store(task.switches() - switches);
    at!(state.kernel_cpu_ns).store(task.cpu_time() - cpu_ns);
    at!(state.exit_code).store(task.exit_code());
    at!(state.comm).store(task.comm());
    if at!(state.flags).load() & flag::KERNEL_WORKER == 0 {
        // Its own `exit`, or the call that it was killed in.
        at!(state.syscall).store(task.regs().syscall() as i16);
    }
    // From here on a task at the same address is another task.
    at!(state.task).store(0);
    filter::forget(cpu, task);

    let Some(control) = control() else {
        return;
    };
    let polls_sent = at!(state.polled).load() == 0 || send_polls(cpu, traced);
    let last = at!(control.live).load() <= 1;
    if polls_sent && send_end(cpu, state, last) {
        filter::free_slot(cpu, traced.slot);
    } else {
        at!(state.flags).store(at!(state.flags).load() | flag::UNREPORTED);
        count!(cpu, unreported);
    }
    // The last act, so that all records are in the rings when the count is 0.
    at!(control.live).fetch_add(u64::MAX);
}

#[inline(always)]
fn send_end(cpu: Cpu, state: Shared<TaskState>, last: bool) -> bool {
    let write = |record: *mut End| {
        // SAFETY: the record is in the ring, reserved for us; nobody else writes to the
        // state of a dead task.
        unsafe {
            (*record).kind = kind::END;
            (*record).zero = [0; 7];
            (&raw mut (*record).state).copy_from_nonoverlapping(state.as_ptr(), 1);
        }
    };
    if last {
        emit::in_place_and_wake(cpu, write)
    } else {
        emit::in_place(cpu, write)
    }
}

#[inline(always)]
fn send_polls(cpu: Cpu, traced: Traced) -> bool {
    let Some(polls) = POLLS.get_ptr_mut(traced.slot) else {
        return false;
    };
    let state = traced.state;
    let sent = emit::in_place(cpu, |record: *mut Polls| {
        // SAFETY: the record is in the ring, reserved for us; `polls` points
        // into the map, and the slot is this task's.
        unsafe {
            (*record).kind = kind::POLLS;
            (*record).zero = [0; 3];
            (*record).serial = at!(state.serial).load();
            (&raw mut (*record).polls).copy_from_nonoverlapping(polls, 1);
        }
    });
    if sent {
        // SAFETY: as above.
        unsafe { polls.write_bytes(0, 1) };
    }
    sent
}
