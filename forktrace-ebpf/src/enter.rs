//! Takes in tasks that were there before the recording.
//!
//! Three may be at the same task at once: the iterator, its creator if the task is new, and
//! a CPU that switches it. So:
//! - who enters its address in [`BY_TASK`] first has it, and its state is complete by then;
//! - what it is doing is read only after its hint is set. A switch or a wakeup that comes
//!   later than that is seen by the programs for these, one that came before shows in what
//!   is read;
//! - that goes to an [`Entry`] of its own, which the programs read at the task's first
//!   switch, and believe if the kernel's count of its switches is the same;
//! - the kernel's counters are taken as the base at the first switch that is seen, under
//!   the run queue's lock, where they can't change.
//!
//! A task that ends between the look at it and its hint is never heard of again. User space
//! finds it by [`Entry::seen_ns`].

use forktrace_common::{
    event::{Entry, NO_SYSCALL, TaskState, flag, timeout, wanted, why},
    limits::{NO_SLOT, UNTRACKED},
};

use crate::{
    cpu::Cpu,
    filter::{self, Traced, control},
    kernel::{Cgroup, Task, clone, layout},
    maps::{BY_TASK, ENTRIES, PROCESSES, TASKS, WANTED},
    shared::{Shared, at},
    stacks, untracked, wait,
};

/// Do not replace what is there (include/uapi/linux/bpf.h).
pub const BPF_NOEXIST: u64 = 1;

/// A cgroup is no deeper than this, for us.
const CGROUP_DEPTH: u32 = 32;
/// So many looks at a task's counters are made until they agree: a switch takes longer than
/// a few.
const CHECKS: u32 = 64;
/// So many steps up from a process is looked for the recorder.
const PARENTS: u32 = 6;

/// The iterator meets a task.
#[inline(always)]
pub fn meet(task: Task, now: u64) {
    if task.address() == Task::current().address() {
        // What makes the run queue's times comparable with ours: it knows when it came.
        if let Some(control) = control() {
            at!(control.reader_ran_ns).store(task.last_arrival());
        }
        return;
    }
    if let Some(traced) = by_address(task) {
        seen(task, traced, now);
        return;
    }
    if task.is_over() || !is_wanted(task) || is_ours(task) {
        return;
    }
    if task.is_unborn() {
        // Its creator may be traced and take it in; or it is for the next pass.
        again();
        return;
    }
    enter(task, now);
}

/// A task that is wanted, whatever it is, comes by.
#[inline(always)]
pub fn meet_one_that_is_wanted(task: Task, now: u64) {
    if by_address(task).is_none() && !task.is_over() && !task.is_unborn() {
        enter(task, now);
    }
}

#[inline(always)]
fn again() {
    if let Some(control) = control() {
        at!(control.entered).fetch_add(1);
    }
}

/// The state of a task by its address alone: leaves hints as they are, which only those may
/// take away who can't meet a creator at it.
#[inline(always)]
pub fn by_address(task: Task) -> Option<Traced> {
    let address = task.address();
    // SAFETY: the value is copied at once.
    let slot = unsafe { BY_TASK.get(address) }.copied()?;
    filter::in_slot(slot, address)
}

/// Is it one of those that user space asks for?
#[inline(always)]
fn is_wanted(task: Task) -> bool {
    if task.is_kernel_thread() {
        return false;
    }
    // SAFETY: the values are not looked at.
    let has = |kind: u64, number: u64| unsafe { WANTED.get([kind, number]) }.is_some();
    // The reader is the current task.
    let depth = Task::current().pid_depth();
    has(wanted::ALL, 0)
        || has(wanted::PID, u64::from(task.leader().tid_at(depth)))
        || has(wanted::TID, u64::from(task.tid_at(depth)))
        || layout!(by_cgroup) != 0 && is_cgroup_wanted(task.cgroup())
}

/// Is it a cgroup that user space asks for, or below one?
#[inline(never)]
pub fn is_cgroup_wanted(cgroup: Cgroup) -> bool {
    let depth = cgroup.depth();
    for at in 0..CGROUP_DEPTH {
        if at > depth {
            break;
        }
        // SAFETY: the value is not looked at.
        if unsafe { WANTED.get([wanted::CGROUP, cgroup.id_at(at)]) }.is_some() {
            return true;
        }
    }
    false
}

/// Is it the recorder, which is the current task, or a helper of it?
#[inline(always)]
fn is_ours(task: Task) -> bool {
    let ours = Task::current().tgid();
    let mut it = task;
    for _ in 0..PARENTS {
        let tgid = it.tgid();
        if tgid == ours {
            return true;
        }
        if tgid <= 1 {
            return false;
        }
        it = it.real_parent();
    }
    false
}

/// Takes it in.
#[inline(always)]
fn enter(task: Task, now: u64) {
    let tid = task.tid();
    if filter::hint(tid) == UNTRACKED {
        return;
    }
    let Some(cpu) = Cpu::this() else {
        return;
    };
    let Some(slot) = take_place(cpu, task, tid, now) else {
        return;
    };
    again();
    let state = TASKS.get_ptr_mut(slot).map(Shared::in_map);
    if let Some(state) = state {
        // Only from here on its switches are seen.
        filter::set_hint(tid, slot);
        describe(task, Traced { slot, state }, now);
    }
}

/// A slot with a state for it, that nobody else has given it. `None`: there is no room, or
/// its creator was faster.
#[inline(always)]
fn take_place(cpu: Cpu, task: Task, tid: u32, now: u64) -> Option<u32> {
    let Some(slot) = filter::take_slot(cpu) else {
        untracked::begin(cpu, task, tid, now);
        return None;
    };
    let state = TASKS.get_ptr_mut(slot)?;
    let control = control()?;
    let serial = at!(control.serial).fetch_add(1) as u32 + 1;
    let (tgid, leader) = (task.tgid(), task.leader());
    let process = process(tgid, leader, serial);
    let (parent, clone_flags) = if tid == tgid {
        (serial_of(task.real_parent()), 0)
    } else {
        (0, task.clone_flags(leader) & !clone::VFORK)
    };
    let flags = if task.is_kernel_worker() {
        flag::KERNEL_WORKER
    } else {
        0
    };
    // SAFETY: the pointer is into the map, and nobody else knows the slot yet.
    unsafe {
        *state = TaskState {
            task: task.address(),
            serial,
            out_ns: now,
            why: why::PREEMPTED,
            flags: flags | flag::ENTERED,
            syscall: NO_SYSCALL,
            process,
            parent,
            tid,
            tgid,
            ppid: task.ppid(),
            clone_flags,
            timeout_us: timeout::NONE,
            stack_top: task.regs().address(),
            born_ns: now,
            attached: 1,
            ..TaskState::default()
        };
    }
    let state = Shared::in_map(state);
    if BY_TASK.insert(task.address(), slot, BPF_NOEXIST).is_err() && !replace_stale(task, slot) {
        at!(state.task).store(0);
        filter::free_slot(cpu, slot);
        return None;
    }
    at!(control.live).fetch_add(1);
    Some(slot)
}

/// What is entered for this address may be of a task that is dead: its removal was refused,
/// or it ended unseen.
#[inline(always)]
pub fn replace_stale(task: Task, slot: u32) -> bool {
    by_address(task).is_none() && BY_TASK.insert(task.address(), slot, 0).is_ok()
}

/// The serial of the first task of its process: its own, if it is the first that we meet.
#[inline(always)]
fn process(tgid: u32, leader: Task, serial: u32) -> u32 {
    let key = u64::from(tgid) << 32 | leader.start_time() & 0xffff_ffff;
    let _ = PROCESSES.insert(key, serial, BPF_NOEXIST);
    // SAFETY: the value is copied at once.
    unsafe { PROCESSES.get(key) }.copied().unwrap_or(serial)
}

#[inline(always)]
fn serial_of(task: Task) -> u32 {
    by_address(task).map_or(0, |traced| {
        let state = traced.state;
        at!(state.serial).load()
    })
}

/// The iterator meets a task that is traced already.
#[inline(always)]
fn seen(task: Task, traced: Traced, now: u64) {
    let (tid, state) = (task.tid(), traced.state);
    // A thread that executed a program has another tid since, which may have had no hint.
    if filter::hint(tid) != traced.slot {
        filter::set_hint(tid, traced.slot);
        at!(state.tid).store(tid);
    }
    let Some(entry) = ENTRIES.get_ptr_mut(traced.slot).map(Shared::in_map) else {
        return;
    };
    if task.is_over() {
        // Its last switch is still to come, or was not seen.
        return;
    }
    check(task, traced, entry);
    if at!(state.flags).load() & flag::ENTERED == 0 {
        return;
    }
    at!(entry.seen_ns).store(now);
    let known = at!(entry.serial).load() == at!(state.serial).load();
    let left = at!(entry.why).load() == 0 && !task.is_on_cpu();
    if !known || left {
        describe(task, traced, now);
    }
}

/// Notes how many switches of a task that lives were traced, and how many there were. Both
/// change meanwhile: the kernel counts a switch a moment before the programs do.
#[inline(always)]
fn check(task: Task, traced_task: Traced, entry: Shared<Entry>) {
    let state = traced_task.state;
    at!(entry.check_serial).store(0);
    let serial = at!(state.serial).load();
    for _ in 0..CHECKS {
        match compare(task, traced_task, entry, serial) {
            Counts::Differ => {}
            Counts::Agree => break,
            Counts::NotKnown => return,
        }
    }
    at!(entry.check_serial).store(serial);
}

/// What a look at a task's counters gave.
#[derive(Clone, Copy)]
#[repr(u32)]
enum Counts {
    Differ,
    Agree,
    /// Nothing is known of the task yet.
    NotKnown,
}

/// Notes both counts. Not inlined: older kernels (6.1) take a loop only where a jump closes it,
/// and around a call the compiler lays it out so.
#[inline(never)]
fn compare(task: Task, traced_task: Traced, entry: Shared<Entry>, serial: u32) -> Counts {
    let state = traced_task.state;
    let traced = at!(state.switches).load();
    let untouched = at!(state.flags).load() & flag::ENTERED != 0;
    let base = if !untouched {
        base(traced_task).0
    } else if at!(entry.serial).load() == serial {
        at!(entry.switches).load()
    } else {
        return Counts::NotKnown;
    };
    let kernel = task.switches() - base;
    at!(entry.check_traced).store(traced);
    at!(entry.check_kernel).store(kernel);
    if traced == kernel && at!(state.switches).load() == traced {
        Counts::Agree
    } else {
        Counts::Differ
    }
}

/// Notes what a task does that was not switched since its hint was set.
#[inline(never)]
fn describe(task: Task, traced: Traced, now: u64) {
    let Some(entry) = ENTRIES.get_ptr_mut(traced.slot).map(Shared::in_map) else {
        return;
    };
    let state = traced.state;
    at!(entry.serial).store(0);
    at!(entry.seen_ns).store(now);
    let switches = task.switches();
    at!(entry.switches).store(switches);
    let why = if task.is_on_cpu() { 0 } else { task.why_off() };
    at!(entry.why).store(why);
    at!(entry.flags).store(0);
    at!(entry.object).store(0);
    at!(entry.arg0).store(0);
    at!(entry.arg1).store(0);
    at!(entry.timeout_us).store(timeout::NONE);
    at!(entry.syscall).store(NO_SYSCALL);
    at!(entry.last_ran_ns).store(task.last_arrival());
    at!(entry.ran_ns).store(task.cpu_time_of_this_turn());
    if why > why::PREEMPTED && at!(state.flags).load() & flag::KERNEL_WORKER == 0 {
        stacks::of_one_asleep(task, traced);
        call(task, entry);
    }
    // Otherwise it was switched meanwhile: for the next pass, if the programs did not see it.
    if task.switches() == switches {
        at!(entry.serial).store(at!(state.serial).load());
    } else {
        again();
    }
}

/// Notes the call that a task sleeps in.
#[inline(always)]
fn call(task: Task, entry: Shared<Entry>) {
    let regs = task.regs();
    let syscall = regs.syscall() as i16;
    at!(entry.syscall).store(syscall);
    if syscall == NO_SYSCALL {
        return;
    }
    at!(entry.arg0).store(regs.arg(0));
    at!(entry.arg1).store(regs.arg(1) as u32);
    if task.is_compat() {
        at!(entry.flags).store(flag::COMPAT);
        at!(entry.timeout_us).store(timeout::UNKNOWN);
    } else if layout!(plain) == 0 {
        wait::look_from_outside(task, regs, entry);
    }
}

/// The first switch that is seen of a task that was taken in: it comes to a CPU. Its state
/// gets what the stretch that ends here was.
#[inline(never)]
pub fn first_switch_in(task: Task, traced: Traced) {
    let state = traced.state;
    let switches = task.switches();
    set_base(traced, switches, task.cpu_time());
    let flags = at!(state.flags).load() & !flag::ENTERED;
    at!(state.flags).store(flags);
    if apply(traced, switches) {
        return;
    }
    // It left in the moment in which it was taken in, unseen. It slept if somebody woke it.
    if at!(state.wake_ns).load() != 0 {
        at!(state.why).store(why::INTERRUPTIBLE);
        if flags & flag::KERNEL_WORKER == 0 {
            let regs = task.regs();
            at!(state.syscall).store(regs.syscall() as i16);
            at!(state.arg0).store(regs.arg(0));
            at!(state.arg1).store(regs.arg(1) as u32);
        }
    }
}

/// The same where it leaves a CPU. True: it was off the CPU when it was taken in, and its
/// coming was not announced.
#[inline(never)]
pub fn first_switch_out(task: Task, traced: Traced, now: u64) -> bool {
    let state = traced.state;
    // The kernel has counted this switch already.
    let switches = task.switches() - 1;
    let lived = now.saturating_sub(at!(state.born_ns).load());
    let turn = task.cpu_time_of_this_turn();
    let turn = if turn < lived { turn } else { lived };
    set_base(traced, switches, task.cpu_time() - turn);
    at!(state.flags).store(at!(state.flags).load() & !flag::ENTERED);
    if apply(traced, switches) {
        return true;
    }
    // It ran since.
    at!(state.out_ns).store(0);
    false
}

#[inline(always)]
fn set_base(traced: Traced, switches: u64, cpu_ns: u64) {
    if let Some(entry) = ENTRIES.get_ptr_mut(traced.slot).map(Shared::in_map) {
        at!(entry.base_switches).store(switches);
        at!(entry.base_cpu_ns).store(cpu_ns);
    }
}

/// The kernel's counts of switches and CPU time from which a task's count here: 0 for one
/// that was born while it was recorded.
#[inline(always)]
pub fn base(traced: Traced) -> (u64, u64) {
    let state = traced.state;
    if layout!(attach) == 0 || at!(state.attached).load() == 0 {
        return (0, 0);
    }
    let Some(entry) = ENTRIES.get_ptr_mut(traced.slot).map(Shared::in_map) else {
        return (0, 0);
    };
    (
        at!(entry.base_switches).load(),
        at!(entry.base_cpu_ns).load(),
    )
}

/// Puts what the entry says into the state, if it was off the CPU then and the kernel has
/// counted no switch since.
#[inline(always)]
fn apply(traced: Traced, switches: u64) -> bool {
    let state = traced.state;
    let Some(entry) = ENTRIES.get_ptr_mut(traced.slot).map(Shared::in_map) else {
        return false;
    };
    let why = at!(entry.why).load();
    if at!(entry.serial).load() != at!(state.serial).load()
        || at!(entry.switches).load() != switches
        || why == 0
    {
        return false;
    }
    at!(state.why).store(why);
    at!(state.flags).store(at!(state.flags).load() | at!(entry.flags).load());
    at!(state.syscall).store(at!(entry.syscall).load());
    at!(state.arg0).store(at!(entry.arg0).load());
    at!(state.arg1).store(at!(entry.arg1).load());
    at!(state.object).store(at!(entry.object).load());
    at!(state.timeout_us).store(at!(entry.timeout_us).load());
    true
}

/// After an exec by a thread that was not the first one of its process: its tid is one that
/// nobody of us may have had, and then has no hint.
#[inline(always)]
pub fn after_exec(task: Task) {
    let tid = task.tid();
    if filter::hint(tid) == NO_SLOT {
        if let Some(traced) = by_address(task) {
            filter::set_hint(tid, traced.slot);
            let state = traced.state;
            at!(state.tid).store(tid);
        }
    }
}

/// Does a task that a task made which is not traced belong to the recording? It may have
/// been made in a cgroup that is wanted.
#[inline(always)]
pub fn is_born_in_wanted_cgroup(creator: Task, child: Task) -> bool {
    layout!(by_cgroup) != 0
        && creator.cgroup() != child.cgroup()
        && is_cgroup_wanted(child.cgroup())
}
