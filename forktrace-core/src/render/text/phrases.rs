//! How tasks, waits and wakers are put into words.

use super::{
    figures::{clean, duration},
    waits::place,
};
use crate::report::{InterruptKind, Object, TaskName, WakerKind, WokenBy};

/// A task.
pub(super) fn who(task: &TaskName) -> String {
    format!("tid {} ({})", task.tid, clean(&task.name))
}

/// `futex 0x7f…`, `fsync /var/lib/x`, `sleep of 50 ms`.
pub(super) fn wait_in(
    reason: &str,
    syscall: Option<&str>,
    object: Option<&Object>,
    limit_ns: Option<u64>,
) -> String {
    let place = place(reason, syscall.as_slice());
    match (object, limit_ns) {
        (Some(object), _) => on(reason, &place, object),
        (None, Some(limit)) if reason == "sleep" => format!("sleep of {}", duration(limit)),
        _ => place,
    }
}

/// No word twice: `futex 0x7f…`, not `futex (futex) futex 0x7f…`.
fn on(reason: &str, place: &str, object: &Object) -> String {
    let name = clean(&object.name);
    if name.starts_with(reason) {
        name
    } else {
        format!("{place} on {name}")
    }
}

/// Who woke a task.
pub(super) fn by(by: &WokenBy) -> String {
    let task = || {
        let name = match &by.name {
            Some(name) => clean(name),
            None => "?".to_owned(),
        };
        let task = match by.tid {
            Some(tid) => format!("tid {tid} ({name})"),
            // Several with this name.
            None => name.clone(),
        };
        match (by.kernel_thread, by.outside) {
            (true, _) => format!("kernel thread {name}"),
            (false, true) => format!("{task}, outside the workload"),
            (false, false) => task,
        }
    };
    match (by.kind, by.interrupt) {
        (WakerKind::Task, _) => task(),
        (WakerKind::TaskSoftirq, _) => format!("{} over loopback", task()),
        (WakerKind::Nobody, _) => "nobody".to_owned(),
        (WakerKind::Interrupt, Some(InterruptKind::Timer)) => "a timer".to_owned(),
        (WakerKind::Interrupt, Some(InterruptKind::Network)) => "the network".to_owned(),
        (WakerKind::Interrupt, Some(InterruptKind::Block)) => "the disk".to_owned(),
        (WakerKind::Interrupt, _) => match &by.device {
            Some(device) => format!("an interrupt of {}", clean(device)),
            None => "an interrupt".to_owned(),
        },
        (WakerKind::Unknown, _) => "somebody who is not known".to_owned(),
    }
}
