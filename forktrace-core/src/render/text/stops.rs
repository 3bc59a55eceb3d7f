//! What the kernel stopped.

use super::{
    View,
    figures::{clean, count, duration, quantity},
    layout::{Ink, paint, wrapped},
    phrases::by,
};
use crate::report::{Stop, StopKind};

/// Stops without `-v`.
const STOPS: usize = 5;
/// Without `-v` a stop is shown when it takes at least such a part of the run.
const SHARE: u64 = 100;

pub(super) fn section(view: &View<'_>) -> String {
    let all = &view.report.stops;
    let whole = view.report.workload.duration_ns;
    let long = |stop: &&Stop| (stop.end_ns - stop.start_ns).saturating_mul(SHARE) >= whole;
    let shown: Vec<&Stop> = match view.style.verbose {
        true => all.iter().collect(),
        false => all.iter().filter(long).take(STOPS).collect(),
    };
    if shown.is_empty() {
        return String::new();
    }
    let mut out = paint(view.style, Ink::Dim, "  STOPPED BY THE KERNEL\n");
    for stop in &shown {
        out.push_str(&wrapped("  - ", &line(stop)));
    }
    let rest = (all.len() - shown.len()) as u64 + view.report.other_stops;
    if rest > 0 {
        out.push_str(&format!(
            "  … and {} more (-v and --format json have them)\n",
            count(rest)
        ));
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
        (StopKind::Vfork, Some(who)) => format!("held until its vfork child, {who}, went its way"),
        (StopKind::Vfork, None) => "held until its vfork child went its way".to_owned(),
        (StopKind::Exec, who) => format!(
            "held in exec until the other threads of its process had ended{}",
            who.map_or_else(String::new, |who| format!(", the last of them {who}"))
        ),
    };
    format!(
        "pid {} ({}), {}: {how}, for {} from {} on.",
        stop.pid,
        clean(&stop.name),
        quantity(stop.tasks.len() as u64, "task"),
        duration(stop.end_ns - stop.start_ns),
        duration(stop.start_ns),
    )
}
