//! What the kernel stopped.

use super::{
    View,
    figures::{clean, count, duration, quantity},
    layout::wrapped,
    phrases::by,
};
use crate::report::{Stop, StopKind};

/// The longest stops.
pub(super) fn section(view: &View<'_>) -> String {
    let all = &view.report.stops;
    let mut out = String::new();
    for stop in all {
        out.push_str(&wrapped(view.style, "  - ", &line(stop)));
    }
    if view.report.other_stops > 0 {
        let text = format!("… and {} shorter ones", count(view.report.other_stops));
        out.push_str(&wrapped(view.style, "  ", &text));
    }
    out
}

fn line(stop: &Stop) -> String {
    let who = stop.by.as_ref().map(by);
    let how = match (stop.kind, who) {
        (StopKind::Signal, Some(who)) => format!("stopped by a signal from {who}"),
        (StopKind::Signal, None) => "stopped by a signal".to_owned(),
        (StopKind::Tracer, Some(who)) => format!("held by its tracer, {who}"),
        (StopKind::Tracer, None) => "held by a tracer".to_owned(),
        (StopKind::Freezer, Some(who)) => format!("frozen, and thawed by {who}"),
        (StopKind::Freezer, None) => "frozen".to_owned(),
        (StopKind::CoreDump, Some(who)) => format!("held while {who} dumped core"),
        (StopKind::CoreDump, None) => "held for its core dump".to_owned(),
        (StopKind::Vfork, Some(who)) => format!("waited for its vfork child, {who}, to exec"),
        (StopKind::Vfork, None) => "waited for its vfork child to exec".to_owned(),
        (StopKind::Exec, who) => format!(
            "held in exec until the other threads of its process had ended{}",
            who.map_or_else(String::new, |who| format!(", the last of them {who}"))
        ),
    };
    format!(
        "pid {} ({}), {}: {how}, for {} at {}.",
        stop.pid,
        clean(&stop.name),
        quantity(stop.tasks.len() as u64, "task"),
        duration(stop.end_ns - stop.start_ns),
        duration(stop.start_ns),
    )
}
