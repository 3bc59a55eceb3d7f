//! Tasks that are there already: an iterator over all of them, and those that come to a
//! cgroup. Loaded for `forktrace attach` only.

use core::ffi::c_void;

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};

use crate::{
    enter,
    filter::control,
    kernel::{Cgroup, Task, now},
    shared::at,
};

/// Called for each task that the reader's pid namespace has, and once without one at the
/// end. Reading the iterator is a pass over all tasks.
///
/// It can be preempted, also by our other programs: it uses nothing that belongs to a CPU
/// but counters.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
pub extern "C" fn enter_tasks(ctx: *mut c_void) -> i32 {
    // `struct bpf_iter__task`: a pointer to what is told of the iterator, then the task.
    // SAFETY: the verifier knows the context.
    let task: *const u8 = unsafe { *ctx.cast::<*const u8>().add(1) };
    if !task.is_null() {
        enter::meet(Task::from_arg(task), now());
    }
    0
}

/// A process, or one thread of it, has come to a cgroup.
#[btf_tracepoint(function = "cgroup_attach_task")]
pub fn cgroup_attach_task(ctx: BtfTracePointContext) -> i32 {
    if enter::is_cgroup_wanted(Cgroup::from_arg(ctx.arg(0))) {
        let leader = Task::from_arg(ctx.arg(2));
        enter::meet_one_that_is_wanted(leader, now());
        // Its other threads are for a pass over all tasks, which user space begins.
        if let Some(control) = control() {
            at!(control.arrivals).fetch_add(1);
        }
    }
    0
}
