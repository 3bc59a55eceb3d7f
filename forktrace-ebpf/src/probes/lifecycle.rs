//! Creation, exec and death of tasks: who is traced.

use aya_ebpf::{EbpfContext, macros::btf_tracepoint, programs::BtfTracePointContext};
use forktrace_common::{
    event::{Born, End, Exec, Polls, Signal, TaskState, Untracked, flag, kind, timeout, why},
    limits::{NO_SLOT, UNTRACKED},
};

use super::sched;
use crate::{
    emit,
    filter::{self, Traced, add, control, cpu},
    kernel::{self, Task, clone},
    maps::{BY_TASK, POLLS, TASKS},
    waker,
};

/// A new task is woken for the first time; the current task is its creator.
///
/// Not `task_newtask`, which comes a moment earlier and has the flags of the clone: since
/// Linux 7 a program there can be preempted, and then it is left out for what the next
/// task on that CPU creates. Here the run queue is locked and interrupts are off.
#[btf_tracepoint(function = "sched_wakeup_new")]
pub fn sched_wakeup_new(ctx: BtfTracePointContext) -> i32 {
    let creator = Task::current();
    let creator_tid = creator.tid();
    let hint = filter::hint(creator_tid);
    let parent = match hint {
        NO_SLOT => None,
        hint => filter::resolve(creator, creator_tid, hint),
    };
    let Some(control) = control() else {
        return 0;
    };
    let untracked_creator = parent.is_none() && hint == UNTRACKED;
    if parent.is_none() && !untracked_creator && !filter::current_is_launcher(control) {
        return 0;
    }
    let child = Task::from_arg(ctx.arg(0));
    let clone_flags = child.clone_flags(creator);
    let now = kernel::now();

    let tid = child.tid();
    let Some(slot) = filter::take_slot() else {
        untracked(child, tid, now);
        return 0;
    };
    let Some(state) = TASKS.get_ptr_mut(slot) else {
        return 0;
    };
    if BY_TASK.insert(child.address(), slot, 0).is_err() {
        filter::free_slot(slot);
        untracked(child, tid, now);
        return 0;
    }
    let serial = add(&mut control.serial, 1) as u32 + 1;
    let (parent_serial, parent_process) = match parent {
        // SAFETY: the pointer is into the map.
        Some(parent) => unsafe { ((*parent.state).serial, (*parent.state).process) },
        None => (0, 0),
    };
    let process = if clone_flags & clone::THREAD != 0 && parent_process != 0 {
        parent_process
    } else {
        serial
    };
    let flags = if child.is_kernel_worker() {
        flag::KERNEL_WORKER
    } else {
        0
    };
    let tgid = child.tgid();
    let ppid = child.ppid();
    // SAFETY: the pointer is into the map, and nobody else knows the slot yet.
    unsafe {
        *state = TaskState {
            task: child.address(),
            serial,
            out_ns: now,
            why: why::NEW,
            flags,
            syscall: forktrace_common::event::NO_SYSCALL,
            cpu_out: cpu() as u16,
            process,
            parent: parent_serial,
            tid,
            tgid,
            ppid,
            clone_flags,
            timeout_us: timeout::NONE,
            stack_top: child.regs().address(),
            born_ns: now,
            ..TaskState::default()
        };
    }
    filter::set_hint(tid, slot);
    add(&mut control.live, 1);

    let comm = child.comm();
    let sent = emit::rare(|record: *mut Born| {
        let born = Born {
            kind: kind::BORN,
            flags,
            zero: [0; 2],
            serial,
            parent: parent_serial,
            process,
            tid,
            tgid,
            ppid,
            zero2: 0,
            clone_flags,
            at_ns: now,
            comm,
        };
        // SAFETY: the record is in the ring, reserved for us.
        unsafe { *record = born };
    });
    // SAFETY: as above; the task has not run.
    let state = unsafe { &mut *state };
    if !sent {
        // Nothing is lost for good: the task's end tells all this again.
        state.flags |= flag::RESYNC;
    }
    sched::woken(&ctx, state);
    0
}

/// A task of the workload that found no room in the task table.
#[inline(never)]
fn untracked(task: Task, tid: u32, now: u64) {
    if let Some(stats) = filter::stats(cpu()) {
        stats.untracked_table_full += 1;
    }
    filter::set_hint(tid, UNTRACKED);
    if let Some(control) = control() {
        add(&mut control.live_untracked, 1);
    }
    report_untracked(task, kind::UNTRACKED, now);
}

#[inline(always)]
fn report_untracked(task: Task, kind: u8, now: u64) {
    let (tid, tgid, ppid, comm) = (task.tid(), task.tgid(), task.ppid(), task.comm());
    let sent = emit::rare(|record: *mut Untracked| {
        let untracked = Untracked {
            kind,
            zero: [0; 3],
            tid,
            tgid,
            ppid,
            at_ns: now,
            comm,
        };
        // SAFETY: the record is in the ring, reserved for us.
        unsafe { *record = untracked };
    });
    if !sent {
        emit::count_lost_other();
    }
}

/// The last switch of a task that is not followed.
#[inline(never)]
pub fn end_untracked(task: Task, tid: u32, now: u64) {
    filter::set_hint(tid, NO_SLOT);
    if let Some(control) = control() {
        add(&mut control.live_untracked, u64::MAX);
    }
    report_untracked(task, kind::UNTRACKED_END, now);
}

/// A task executed a program. Its tid is the leader's now.
#[btf_tracepoint(function = "sched_process_exec")]
pub fn sched_process_exec(ctx: BtfTracePointContext) -> i32 {
    let task = Task::from_arg(ctx.arg(0));
    let tid = task.tid();
    let hint = filter::hint(tid);
    if hint == NO_SLOT {
        return 0;
    }
    let Some(traced) = filter::resolve(task, tid, hint) else {
        return 0;
    };
    // SAFETY: the pointer is into the map.
    let serial = unsafe { (*traced.state).serial };
    let (old_tid, at_ns, comm) = (ctx.arg(1), kernel::now(), task.comm());
    let sent = emit::rare(|record: *mut Exec| {
        let exec = Exec {
            kind: kind::EXEC,
            zero: [0; 3],
            serial,
            old_tid,
            tid,
            at_ns,
            comm,
        };
        // SAFETY: the record is in the ring, reserved for us.
        unsafe { *record = exec };
    });
    if !sent {
        emit::count_lost_other();
    }
    0
}

/// A signal was sent. Only those that stop, continue or end a process by
/// default are reported.
#[btf_tracepoint(function = "signal_generate")]
pub fn signal_generate(ctx: BtfTracePointContext) -> i32 {
    const REPORTED: u64 = 1 << 9 | 1 << 15 | 1 << 18 | 1 << 19 | 1 << 20 | 1 << 21 | 1 << 22;
    let signal: u64 = ctx.arg(0);
    let signal = signal & 0xff;
    if signal > 63 || REPORTED & (1 << (signal & 63)) == 0 {
        return 0;
    }
    let task = Task::from_arg(ctx.arg(2));
    let tid = task.tid();
    let hint = filter::hint(tid);
    if hint == NO_SLOT {
        return 0;
    }
    let Some(traced) = filter::resolve(task, tid, hint) else {
        return 0;
    };
    // SAFETY: the pointer is into the map.
    let serial = unsafe { (*traced.state).serial };
    let (sender_class, sender) = waker::current(ctx.as_ptr(), false);
    let group = u8::from(ctx.arg::<u64>(3) & 1 != 0);
    let at_ns = kernel::now();
    let sent = emit::rare(|record: *mut Signal| {
        let record_of = Signal {
            kind: kind::SIGNAL,
            signal: signal as u8,
            sender_class,
            group,
            serial,
            sender,
            zero: 0,
            at_ns,
        };
        // SAFETY: the record is in the ring, reserved for us.
        unsafe { *record = record_of };
    });
    if !sent {
        emit::count_lost_other();
    }
    0
}

/// The last switch of a task. Everything of it is deleted here and not in an
/// exit or free event: those come a switch too early, or late, or never.
#[inline(never)]
pub fn end(task: Task, traced: Traced, now: u64) {
    // SAFETY: the pointer is into the map, and a task is switched by one CPU at
    // a time.
    let state = unsafe { &mut *traced.state };
    state.end_ns = now.max(state.in_ns);
    state.kernel_switches = task.switches();
    state.kernel_cpu_ns = task.cpu_time();
    state.exit_code = task.exit_code();
    state.comm = task.comm();
    if state.flags & flag::KERNEL_WORKER == 0 {
        // Its own `exit`, or the call that it was killed in.
        state.syscall = task.regs().syscall() as i16;
    }
    // From here on a task at the same address is another task.
    state.task = 0;
    let _ = BY_TASK.remove(task.address());

    let Some(control) = control() else {
        return;
    };
    let sent = if state.flags & flag::POLLED != 0 {
        send_polls(state.serial, traced.slot)
    } else {
        true
    } && send_end(state, control.live <= 1);
    if sent {
        filter::free_slot(traced.slot);
    } else {
        state.flags |= flag::UNREPORTED;
        if let Some(stats) = filter::stats(cpu()) {
            stats.unreported += 1;
        }
    }
    // The last act, so that all records are in the rings when the count is 0.
    add(&mut control.live, u64::MAX);
}

#[inline(always)]
fn send_end(state: &TaskState, last: bool) -> bool {
    let write = |record: *mut End| {
        // SAFETY: the record is in the ring, reserved for us.
        unsafe {
            (*record).kind = kind::END;
            (*record).zero = [0; 7];
            (&raw mut (*record).state).copy_from_nonoverlapping(state, 1);
        }
    };
    if last {
        emit::rare_and_wake(write)
    } else {
        emit::rare(write)
    }
}

#[inline(always)]
fn send_polls(serial: u32, slot: u32) -> bool {
    let Some(polls) = POLLS.get_ptr_mut(slot) else {
        return false;
    };
    let sent = emit::rare(|record: *mut Polls| {
        // SAFETY: the record is in the ring, reserved for us; `polls` points
        // into the map, and the slot is this task's.
        unsafe {
            (*record).kind = kind::POLLS;
            (*record).zero = [0; 3];
            (*record).serial = serial;
            (&raw mut (*record).polls).copy_from_nonoverlapping(polls, 1);
        }
    });
    if sent {
        // SAFETY: as above.
        unsafe { polls.write_bytes(0, 1) };
    }
    sent
}
