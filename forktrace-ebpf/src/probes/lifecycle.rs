//! Creation, exec and death of tasks: who is traced.

use aya_ebpf::{EbpfContext, macros::btf_tracepoint, programs::BtfTracePointContext};
use aya_log_ebpf::warn;
use forktrace_common::{
    event::{
        Born, End, Exec, NO_SYSCALL, Polls, Signal, TaskState, Untracked, flag, kind, timeout, why,
    },
    limits::{NO_SLOT, UNTRACKED},
};

use super::sched;
use crate::{
    cpu::{Cpu, count},
    emit, enter,
    filter::{self, Traced, control},
    kernel::{self, Task, clone, layout},
    maps::{BY_TASK, POLLS, TASKS},
    shared::{Shared, at},
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
    let child = Task::from_arg(ctx.arg(0));
    let Some(parent) = parent(creator, child) else {
        return 0;
    };
    let Some(cpu) = Cpu::this() else {
        return 0;
    };
    let now = kernel::now();
    match take_in(cpu, creator, parent, child, now) {
        Taken::In(state) => {
            born(cpu, child, state);
            sched::woken(&ctx, cpu, state);
        }
        Taken::ByAnother(traced) => {
            filter::set_hint(child.tid(), traced.slot);
            sched::woken(&ctx, cpu, traced.state);
        }
        Taken::NoRoom => untracked(cpu, child, child.tid(), now),
    }
    0
}

/// The parent of a new task of the workload, as far as it is known.
#[derive(Clone, Copy)]
struct Parent {
    /// Its serial; 0: it is the launcher, or is not followed.
    serial: u32,
    /// That of its process's first task.
    process: u32,
}

/// What the task that creates a new one makes of that: a task of the workload, or not.
#[inline(always)]
fn parent(creator: Task, child: Task) -> Option<Parent> {
    let tid = creator.tid();
    let hint = filter::hint(tid);
    if hint != NO_SLOT {
        if let Some(traced) = filter::resolve_hint(creator, tid, hint) {
            let state = traced.state;
            return Some(Parent {
                serial: at!(state.serial).load(),
                process: at!(state.process).load(),
            });
        }
    }
    let outside = Parent {
        serial: 0,
        process: 0,
    };
    (hint == UNTRACKED
        || filter::current_is_launcher(control()?)
        || enter::is_born_in_wanted_cgroup(creator, child))
    .then_some(outside)
}

/// What became of a new task.
enum Taken {
    /// It is in the table, with this state.
    In(Shared<TaskState>),
    /// So it is, but the iterator was faster.
    ByAnother(Traced),
    /// There is no room.
    NoRoom,
}

/// Takes a new task into the table.
#[inline(always)]
fn take_in(cpu: Cpu, creator: Task, parent: Parent, child: Task, now: u64) -> Taken {
    if layout!(attach) != 0 {
        if let Some(traced) = enter::by_address(child) {
            return Taken::ByAnother(traced);
        }
    }
    match enter_new(cpu, creator, parent, child, now) {
        Some(state) => Taken::In(state),
        None if layout!(attach) == 0 => Taken::NoRoom,
        None => enter::by_address(child).map_or(Taken::NoRoom, Taken::ByAnother),
    }
}

/// Takes a new task into the table. `None`: there is no room, or another was faster.
#[inline(always)]
fn enter_new(
    cpu: Cpu,
    creator: Task,
    parent: Parent,
    child: Task,
    now: u64,
) -> Option<Shared<TaskState>> {
    let tid = child.tid();
    let control = control()?;
    if !filter::set_hint(tid, NO_SLOT) {
        return None;
    }
    let slot = filter::take_slot(cpu)?;
    let state = TASKS.get_ptr_mut(slot)?;
    let serial = at!(control.serial).fetch_add(1) as u32 + 1;
    let clone_flags = child.clone_flags(creator);
    let process = if clone_flags & clone::THREAD != 0 && parent.process != 0 {
        parent.process
    } else {
        serial
    };
    let flags = if child.is_kernel_worker() {
        flag::KERNEL_WORKER
    } else {
        0
    };
    // SAFETY: the pointer is into the map, and nobody else knows the slot yet.
    unsafe {
        *state = TaskState {
            task: child.address(),
            serial,
            out_ns: now,
            why: why::NEW,
            flags,
            syscall: NO_SYSCALL,
            cpu_out: cpu.number() as u16,
            process,
            parent: parent.serial,
            tid,
            tgid: child.tgid(),
            ppid: child.ppid(),
            clone_flags,
            timeout_us: timeout::NONE,
            stack_top: child.regs().address(),
            born_ns: now,
            ..TaskState::default()
        };
    }
    let state = Shared::in_map(state);
    // An entry for this address that is there is of a dead task, whose removal was refused;
    // but the iterator may be at it in this moment, and then it is the first that counts.
    let flags = if layout!(attach) == 0 {
        0
    } else {
        enter::BPF_NOEXIST
    };
    if BY_TASK.insert(child.address(), slot, flags).is_err()
        && !(layout!(attach) != 0 && enter::replace_stale(child, slot))
    {
        at!(state.task).store(0);
        filter::free_slot(cpu, slot);
        return None;
    }
    // Only now: a hint that leads to no state would be taken back.
    filter::set_hint(tid, slot);
    at!(control.live).fetch_add(1);
    Some(state)
}

/// Tells of a new task.
#[inline(always)]
fn born(cpu: Cpu, child: Task, state: Shared<TaskState>) {
    let comm = child.comm();
    let sent = emit::record(cpu, || Born {
        kind: kind::BORN,
        flags: at!(state.flags).load(),
        zero: [0; 2],
        serial: at!(state.serial).load(),
        parent: at!(state.parent).load(),
        process: at!(state.process).load(),
        tid: at!(state.tid).load(),
        tgid: at!(state.tgid).load(),
        ppid: at!(state.ppid).load(),
        zero2: 0,
        clone_flags: at!(state.clone_flags).load(),
        at_ns: at!(state.born_ns).load(),
        comm,
    });
    if !sent {
        // Nothing is lost for good: the task's end tells all this again.
        at!(state.flags).store(at!(state.flags).load() | flag::RESYNC);
    }
}

/// A task of the workload that found no room in the task table.
#[inline(never)]
pub fn untracked(cpu: Cpu, task: Task, tid: u32, now: u64) {
    count!(cpu, untracked_table_full);
    warn!((), "tid {} is not followed: there is no room for it", tid);
    // Without a hint its end is not seen, and must not be waited for.
    if filter::set_hint(tid, UNTRACKED) {
        if let Some(control) = control() {
            at!(control.live_untracked).fetch_add(1);
        }
    }
    report_untracked(cpu, task, kind::UNTRACKED, now);
}

#[inline(always)]
fn report_untracked(cpu: Cpu, task: Task, kind: u8, now: u64) {
    let (tid, tgid, ppid, comm) = (task.tid(), task.tgid(), task.ppid(), task.comm());
    emit::other(cpu, || Untracked {
        kind,
        zero: [0; 3],
        tid,
        tgid,
        ppid,
        at_ns: now,
        comm,
    });
}

/// The last switch of a task that is not followed.
#[inline(never)]
pub fn end_untracked(cpu: Cpu, task: Task, tid: u32, now: u64) {
    filter::set_hint(tid, NO_SLOT);
    if let Some(control) = control() {
        at!(control.live_untracked).fetch_add(u64::MAX);
    }
    report_untracked(cpu, task, kind::UNTRACKED_END, now);
}

/// A task executed a program. Its tid is the leader's now.
#[btf_tracepoint(function = "sched_process_exec")]
pub fn sched_process_exec(ctx: BtfTracePointContext) -> i32 {
    let task = Task::from_arg(ctx.arg(0));
    if layout!(attach) != 0 {
        enter::after_exec(task);
    }
    let (Some(traced), Some(cpu)) = (filter::resolve(task), Cpu::this()) else {
        return 0;
    };
    let state = traced.state;
    let (old_tid, at_ns, comm) = (ctx.arg(1), kernel::now(), task.comm());
    emit::other(cpu, || Exec {
        kind: kind::EXEC,
        zero: [0; 3],
        serial: at!(state.serial).load(),
        old_tid,
        tid: task.tid(),
        at_ns,
        comm,
    });
    0
}

/// A signal was sent. Only those that stop, continue or end a process by default, and that
/// people and programs send for this or to tell something, are reported.
#[btf_tracepoint(function = "signal_generate")]
pub fn signal_generate(ctx: BtfTracePointContext) -> i32 {
    /// HUP, INT, QUIT, KILL, USR1, USR2, ALRM, TERM, CONT, STOP, TSTP, TTIN, TTOU.
    const REPORTED: u64 = 1 << 1
        | 1 << 2
        | 1 << 3
        | 1 << 9
        | 1 << 10
        | 1 << 12
        | 1 << 14
        | 1 << 15
        | 1 << 18
        | 1 << 19
        | 1 << 20
        | 1 << 21
        | 1 << 22;
    let signal: u64 = ctx.arg(0);
    let signal = signal & 0xff;
    if signal > 63 || REPORTED & (1 << (signal & 63)) == 0 {
        return 0;
    }
    let Some(traced) = filter::resolve(Task::from_arg(ctx.arg(2))) else {
        return 0;
    };
    let Some(cpu) = Cpu::this() else {
        return 0;
    };
    let state = traced.state;
    let (sender_class, sender) = waker::current(ctx.as_ptr(), cpu, false);
    let group = u8::from(ctx.arg::<u64>(3) & 1 != 0);
    let at_ns = kernel::now();
    emit::other(cpu, || Signal {
        kind: kind::SIGNAL,
        signal: signal as u8,
        sender_class,
        group,
        serial: at!(state.serial).load(),
        sender,
        zero: 0,
        at_ns,
    });
    0
}

/// The last switch of a task, whose [`TaskState::end_ns`] is set. Everything of it is
/// deleted here and not in an exit or free event: those come a switch too early, or late,
/// or never.
#[inline(never)]
pub fn end(cpu: Cpu, task: Task, traced: Traced) {
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
