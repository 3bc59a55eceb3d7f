//! Who has what a task wants: the CPU that it waited for, and a lock of the kernel.
//!
//! Both are asked at switches that are told of anyway, and only where there is something to
//! tell: a switch between tasks that are not traced costs nothing of this.

use forktrace_common::{
    event::{CpuUser, TaskState, kind},
    limits::NO_SLOT,
};

use crate::{
    cpu::Cpu,
    emit, filter,
    kernel::{self, Remote, Task},
    maps::TOLD,
    shared::{Shared, at},
};

/// Who waited for a CPU for less, or had it for less, is not told of, ns: so these records
/// come no more often than 10,000 times a second on a CPU.
pub const LONG_NS: u64 = 100_000;

/// So many tasks of a run queue are looked at.
const LOOKED_AT: u32 = 5;

/// A traced task comes to a CPU that it waited for, and `last`, which is not traced, had it
/// until now. Those who had it before `last` are told of too as far as they still want it:
/// the run queue has them in the order in which they ran, and their last turn is known.
#[inline(never)]
pub fn cpu_users(cpu: Cpu, last: Task, now: u64) {
    let (Some(queue), Some(told)) = (last.run_queue(), TOLD.get_ptr_mut(cpu.number())) else {
        return;
    };
    let told = Shared::in_map(told);
    let told_until = told.load();
    told.store(queue.clock);
    let last = cpu.as_number(last.address());
    // The CPU time of real-time tasks is not kept by turns, and is more than that.
    let since_arrival = queue.clock.saturating_sub(Remote(last).arrival());
    let cpu_time = Remote(last).last_turn();
    let ns = if cpu_time < since_arrival {
        cpu_time
    } else {
        since_arrival
    };
    send(cpu, last, ns, now);
    let head = cpu.as_number(queue.tasks);
    let mut place = head;
    // Opaque, or the compiler unrolls the loop into a long program.
    for _ in 0..core::hint::black_box(LOOKED_AT) {
        place = kernel::kernel_word(place);
        if place == head || place == 0 {
            break;
        }
        let user = Remote::at(place);
        // Those of the workload are known, and the one that comes is the first of all.
        if user.0 == last || filter::hint(user.tid()) != NO_SLOT {
            continue;
        }
        let arrival = user.arrival();
        if arrival <= told_until {
            break;
        }
        let ns = user.last_turn();
        let ago = queue.clock.saturating_sub(arrival + ns);
        send(cpu, user.0, ns, now.saturating_sub(ago));
    }
}

/// Tells of a turn of the task at this address.
#[inline(never)]
fn send(cpu: Cpu, user: u64, ns: u64, at_ns: u64) {
    if ns < LONG_NS {
        return;
    }
    let user = Remote(user);
    // Its process's name: threads have many.
    let (tid, tgid, comm) = (user.tid(), user.tgid(), user.leader().comm());
    let kernel_thread = u8::from(user.is_kernel_thread());
    // Not counted when it is dropped: what is not told of shows as time in which it is
    // not known who had the CPU.
    emit::record(cpu, || CpuUser {
        kind: kind::CPU_USER,
        kernel_thread,
        zero: [0; 2],
        tid,
        tgid,
        zero2: 0,
        ns,
        at_ns,
        comm,
    });
}

/// Keeps who holds the lock of the kernel that a task now waits for. User space reads it
/// if the task still waits a good while later.
#[inline(never)]
pub fn lock_holder(state: Shared<TaskState>, blocker: u64) {
    let (serial, tid) = match kernel::holder(blocker) {
        0 => (0, 0),
        holder => (filter::serial_at(holder), Remote(holder).tid()),
    };
    at!(state.lock_holder).store(serial);
    at!(state.lock_holder_tid).store(tid);
    at!(state.lock).store(blocker & !3);
    at!(state.lock_kind).store(blocker as u32 & 3);
    at!(state.lock_seq).store(at!(state.seq).load());
}
