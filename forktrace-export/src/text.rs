//! Words for what is exported.

use forktrace_core::report::{Ended, InterruptKind, Object, WakerKind, WokenBy};

pub use forktrace_core::render::text::figures::clean;

/// What a task waits in: `futex`, `read pipe 17`, without the call's own name where the object
/// says it all.
pub(crate) fn wait(reason: &str, object: Option<&Object>) -> String {
    match object {
        Some(object) if object.kind != "sleep" => format!("{reason}: {}", clean(&object.name)),
        _ => reason.to_owned(),
    }
}

/// Who woke a task.
pub(crate) fn waker(by: &WokenBy) -> String {
    match by.kind {
        WakerKind::Task | WakerKind::TaskSoftirq => {
            let name = by.name.as_deref().unwrap_or("a task");
            let outside = match (by.outside, by.kernel_thread) {
                (_, true) => ", kernel",
                (true, false) => ", outside",
                (false, false) => "",
            };
            let tid = by.tid.unwrap_or(0);
            format!("{} (tid {tid}{outside})", clean(name))
        }
        WakerKind::Interrupt => {
            let kind = match by.interrupt {
                Some(InterruptKind::Timer) => "a timer",
                Some(InterruptKind::Network) => "the network",
                Some(InterruptKind::Block) => "a disk",
                _ => "an interrupt",
            };
            match &by.device {
                Some(device) => format!("{kind} ({})", clean(device)),
                None => kind.to_owned(),
            }
        }
        WakerKind::Nobody => "nobody".to_owned(),
        WakerKind::Unknown => "unknown".to_owned(),
    }
}

/// How a wait ended, as the JSON says it.
pub(crate) fn ended(how: Ended) -> &'static str {
    match how {
        Ended::Fulfilled => "fulfilled",
        Ended::TimedOut => "timed_out",
        Ended::Interrupted => "interrupted",
        Ended::CutShort => "cut_short",
        Ended::Unknown => "unknown",
    }
}
