//! Can the report be trusted? The kernel's own counters say.

use super::{
    sum_by_key::total,
    weaknesses::{Facts, weaknesses},
};
use crate::{
    model::{Model, Off, Target},
    report::{Audit, LookUps, Task, Weakness},
    trace::Timeout,
    trace_file::TraceInfo,
};

pub(super) fn audit(info: &TraceInfo, model: &Model, tasks: &[Task]) -> Audit {
    let checked = || tasks.iter().filter(|task| task.switches.kernel.is_some());
    // Of tasks that live, the kernel's count of switches can be known, its CPU time is not.
    let ended = || tasks.iter().filter(|task| task.kernel_cpu_ns.is_some());
    let tasks_not_followed = tasks.iter().filter(|t| !t.followed).count() as u64;
    let unknown_ns = total(
        tasks
            .iter()
            .map(|t| t.unknown_ns.saturating_add(t.unplaced_ns)),
    );
    let facts = Facts {
        info,
        model,
        tasks,
        tasks_not_followed,
        unknown_ns,
    };
    let weaknesses = weaknesses(&facts);
    Audit {
        complete: weaknesses.iter().all(Weakness::is_note),
        lost_records: lost_records(info),
        tasks_not_followed,
        switches_traced: total(checked().map(|t| t.switches.traced)),
        switches_kernel: total(checked().filter_map(|t| t.switches.kernel)),
        unknown_ns,
        tracer_cpu_ns: info.finish.as_ref().map(|f| f.tracer_cpu_ns),
        early_wakeups: model.stretches_with(Off::EARLY_WAKE),
        unwoken_ns: total(model.tasks.iter().map(|task| unwoken_ns(model, task))),
        uncertain_ns: 0,
        running_ns: total(ended().map(|t| t.running_ns)),
        kernel_cpu_ns: total(ended().filter_map(|t| t.kernel_cpu_ns)),
        look_ups: info.finish.as_ref().map(|f| LookUps {
            done: f.look_ups.done,
            gone: f.look_ups.gone,
            changed: f.look_ups.changed,
            not_looked_up: f.look_ups.not_looked_up,
            cpu_ns: f.look_ups.cpu_ns,
        }),
        weaknesses,
    }
}

/// Time in blocks that ended without a wakeup that was seen. A sleep lasted as long as it was to
/// be at least: only what came after that can have been a wait for a CPU.
fn unwoken_ns(model: &Model, task: &crate::model::Task) -> u64 {
    let unwoken = task
        .stretches
        .iter_if(|off| off.flags & Off::NO_WAKE != 0)
        .filter(|off| off.flags & Off::NO_WAKE != 0);
    let slept_ns = |off: &Off| match (model.targets.get(off.target as usize), off.timeout()) {
        (Some(Target::Sleep), Timeout::Us(us)) => u64::from(us).saturating_mul(1000),
        _ => 0,
    };
    total(unwoken.map(|off| (off.in_ns - off.out_ns).saturating_sub(slept_ns(&off))))
}

fn lost_records(info: &TraceInfo) -> u64 {
    let in_file = total(info.damage.iter().filter_map(|d| d.records_lost));
    let on_the_way = info.finish.as_ref().map_or(0, |f| {
        let lost = [
            f.lost_ring_full,
            f.lost_no_ring,
            f.lost_other,
            f.unwritten,
            f.undecodable,
        ];
        total(lost.into_iter())
    });
    on_the_way.saturating_add(in_file)
}
