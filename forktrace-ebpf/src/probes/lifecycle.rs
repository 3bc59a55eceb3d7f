//! Creation and exec of tasks, and signals to them: who is traced.

use aya_ebpf::{
    EbpfContext, helpers::generated::bpf_probe_read_user, macros::btf_tracepoint,
    programs::BtfTracePointContext,
};
use forktrace_common::{
    event::{
        ARGV_BYTES, Argv, Born, Exec, NO_SYSCALL, Signal, TaskState, flag, kind, timeout, why,
    },
    limits::{NO_SLOT, UNTRACKED},
};

use super::sched;
use crate::{
    cpu::Cpu,
    emit, enter,
    filter::{self, Traced, control},
    kernel::{self, Task, clone, layout},
    maps::{BY_TASK, TASKS},
    shared::{Shared, at},
    untracked, waker,
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
        Taken::NoRoom => untracked::begin(cpu, child, child.tid(), now),
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
    argv(cpu, task, at!(state.serial).load(), at_ns);
    0
}

/// Sends what a task executed its program with. It may be over before anybody could read it in
/// `/proc`. Not counted when it is dropped: who lives for longer is asked.
#[inline(always)]
fn argv(cpu: Cpu, task: Task, serial: u32, at_ns: u64) {
    let Some((from, to)) = task.command_line() else {
        return;
    };
    let all = to.saturating_sub(from);
    let here = if all < ARGV_BYTES as u64 {
        all as u32
    } else {
        ARGV_BYTES as u32 - 1
    };
    emit::in_place(cpu, |record: *mut Argv| {
        // SAFETY: the record is in the ring, reserved for us; the size is less than that of
        // the field, in a register that the compiler can't do without.
        unsafe {
            (*record).kind = kind::ARGV;
            (*record).zero = [0; 3];
            (*record).serial = serial;
            (*record).at_ns = at_ns;
            (*record).bytes_of_all = all as u32;
            let size = core::hint::black_box(here) & (ARGV_BYTES as u32 - 1);
            let bytes = &raw mut (*record).bytes;
            let failed = bpf_probe_read_user(bytes.cast(), size, from as *const _);
            (*record).here = if failed == 0 { here } else { 0 };
        }
    });
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
