//! Tasks of the workload for which the task table has no room: counted, and told of when
//! they begin and end.

use aya_log_ebpf::warn;
use forktrace_common::{
    event::{Untracked, kind},
    limits::{NO_SLOT, UNTRACKED},
};

use crate::{
    cpu::{Cpu, count},
    emit,
    filter::{self, control},
    kernel::Task,
    shared::at,
};

/// A task of the workload that is not followed: the task table was full.
#[inline(never)]
pub fn begin(cpu: Cpu, task: Task, tid: u32, now: u64) {
    count!(cpu, untracked_table_full);
    warn!((), "tid {} is not followed: there is no room for it", tid);
    // Without a hint its end is not seen, and must not be waited for.
    if filter::set_hint(tid, UNTRACKED) {
        if let Some(control) = control() {
            at!(control.live_untracked).fetch_add(1);
        }
    }
    report(cpu, task, kind::UNTRACKED, now);
}

#[inline(always)]
fn report(cpu: Cpu, task: Task, kind: u8, now: u64) {
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
pub fn end(cpu: Cpu, task: Task, tid: u32, now: u64) {
    filter::set_hint(tid, NO_SLOT);
    if let Some(control) = control() {
        at!(control.live_untracked).fetch_add(u64::MAX);
    }
    report(cpu, task, kind::UNTRACKED_END, now);
}
