//! A report on a part of a recording: a time, or some of its tasks.
//!
//! Reasons are found in the whole: who ended a wait that goes on after the part is known, and
//! a stall in the middle is the same stall. Figures are cut at the edges of the part, so those
//! of parts that divide the time add up to those of the whole.

use std::collections::BTreeMap;

use super::{
    Options, Views, audit,
    blocks::{Block, Blocks},
    overview, report, tasks,
};
use crate::{
    model::{Model, Part, Stretches, Task},
    report::{self as figures, Audit, Deadlock, Report},
    trace_file::TraceInfo,
};

/// Makes a report of a part, and the model of it: its tasks as the part shows them. `only`:
/// the words by which tasks were chosen.
pub fn analyse_part(
    info: &TraceInfo,
    model: &Model,
    options: &Options,
    part: &Part,
    only: &[String],
) -> (Report, Model) {
    let cut = part.cut(model);
    let chosen = part.tasks.is_some().then(|| {
        let mut chosen = cut.clone();
        for (at, task) in chosen.tasks.iter_mut().enumerate() {
            if !part.has(at) {
                task.stretches = Stretches::default();
                task.open = None;
            }
        }
        chosen
    });
    let rest = part.without_others(model, cut.clone());
    let views = Views {
        whole: model,
        cut: &cut,
        chosen: chosen.as_ref().unwrap_or(&cut),
        rest: &rest,
    };
    let mut made = report(info, views, options, part);
    made.deadlocks
        .retain(|deadlock| is_in(part, model, deadlock));
    let recorded_ns = end_ns(model);
    let to_ns = part.to_ns.min(recorded_ns);
    made.part = Some(figures::Part {
        from_ns: part.from_ns.min(to_ns),
        to_ns,
        recorded_ns,
        only: only.to_vec(),
        of_tasks: model.ended_before + model.tasks.len() as u64,
    });
    (made, rest)
}

/// When the last task ended, or the recording.
fn end_ns(model: &Model) -> u64 {
    let last = model.tasks.iter().map(|task| task.end_ns).max();
    last.unwrap_or(model.end_ns)
}

/// The audit of everything that was recorded, of which `tasks` are those of the part.
pub(super) fn audit_of_whole(
    info: &TraceInfo,
    blocks: &Blocks<'_>,
    context: &tasks::Context<'_>,
    tasks: &[figures::Task],
) -> Audit {
    let model = blocks.model;
    if blocks.part.is_whole() {
        return audit::audit(info, model, tasks);
    }
    let context = tasks::Context { model, ..*context };
    let mut waited = overview::Waited::new(model);
    // What others did meanwhile is of no interest to it.
    let row = |task: &Task| tasks::task(task, false, &context, &mut waited).0;
    let tasks = model.tasks.iter().map(row);
    let tasks: Vec<figures::Task> = tasks.collect();
    audit::audit(info, model, &tasks)
}

/// Says what of a task's life is outside of the part.
pub(super) fn with_edges(row: figures::Task, blocks: &Blocks<'_>, at: usize) -> figures::Task {
    let (part, task) = (blocks.part, &blocks.model.tasks[at]);
    let began_before = task.start_ns < part.from_ns;
    if !began_before && task.end_ns <= part.to_ns {
        return row;
    }
    let waiting = Block::before(task, part.from_ns.saturating_add(1));
    let waiting = waiting.filter(|block| block.start_ns < part.from_ns);
    let waiting = waiting.filter(|block| block.end_ns(task) > part.from_ns);
    figures::Task {
        first_run_ns: tasks::first_run_ns(task),
        began_before,
        goes_on: task.end_ns > part.to_ns,
        waiting_since_ns: waiting.map(|block| block.start_ns),
        ..row
    }
}

/// Did tasks that were chosen stand still then?
fn is_in(part: &Part, model: &Model, deadlock: &Deadlock) -> bool {
    let by_serial: BTreeMap<u32, u64> = deadlock
        .tasks
        .iter()
        .map(|task| (task.serial, task.since_ns))
        .collect();
    let tasks = model.tasks.iter().enumerate();
    tasks.filter(|(at, _)| part.has(*at)).any(|(_, task)| {
        let Some(since_ns) = by_serial.get(&task.serial) else {
            return false;
        };
        let block = Block::before(task, since_ns.saturating_add(1));
        let end_ns = block.map_or(deadlock.at_ns, |block| block.end_ns(task));
        part.ns(*since_ns, end_ns.max(deadlock.at_ns)) > 0
    })
}
