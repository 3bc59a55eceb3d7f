//! What the tasks did at one moment.

use super::{
    blocks::{Block, Blocks},
    chains,
    wakers::Wakers,
};
use crate::{
    model::{Model, State},
    report::{Moment, MomentTask, Slice, TaskName},
    trace_file::TraceInfo,
};

/// What each task did at this time. Empty where none lived.
pub fn moment(info: &TraceInfo, model: &Model, at_ns: u64) -> Moment {
    let wakers = Wakers::new(model, &info.header);
    let blocks = Blocks::new(model, &wakers, info.header.arch);
    let mut tasks = Vec::new();
    for (at, task) in model.tasks.iter().enumerate() {
        let mut segments = task.segments_from(at_ns);
        let Some(segment) = segments.find(|s| s.start_ns <= at_ns && at_ns < s.end_ns) else {
            continue;
        };
        let block = match segment.state {
            State::Blocked => Block::before(task, at_ns.saturating_add(1)),
            _ => None,
        };
        let (chain, chain_cut) = match block {
            Some(block) => chains::chain(&blocks, at as u32, block),
            None => (Vec::new(), false),
        };
        tasks.push(MomentTask {
            task: TaskName {
                serial: task.serial,
                tid: task.tid,
                name: task.name.clone(),
            },
            state: match segment.state {
                State::Running => Slice::Running,
                State::Runnable => Slice::Runnable,
                State::Blocked => Slice::Blocked,
                State::Stopped => Slice::Stopped,
                State::Unknown => Slice::Unknown,
            },
            start_ns: segment.start_ns,
            end_ns: segment.end_ns,
            chain,
            chain_cut,
        });
    }
    Moment { at_ns, tasks }
}
