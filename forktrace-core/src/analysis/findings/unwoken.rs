//! Threads that nobody woke until a signal ended their process, which waited for no input: nothing
//! from outside could have made them go on. That can be a deadlock of locks that don't tell who
//! has them, as those of Java and of Python.

use std::collections::BTreeMap;

use super::{
    Blocks, Confidence, Finding, FindingKind, Report, count, finding, listed, part_of, who,
};
use crate::{
    analysis::blocks::{Block, End},
    model::Task,
    trace::Timeout,
};

/// Who waited for less than this part of the run was perhaps about to be woken: half.
const PART: u64 = 2;
/// No more are named.
const NAMED: usize = 3;

/// What is known of a process.
#[derive(Default)]
struct Process {
    /// A task of it waited for input in the end.
    input: bool,
    /// Those that nobody woke, each with its last block.
    unwoken: Vec<(usize, Block)>,
}

pub(super) fn finding_of(report: &Report, blocks: &Blocks<'_>) -> Option<Finding> {
    let tasks = &blocks.model.tasks;
    let mut processes: BTreeMap<u32, Process> = BTreeMap::new();
    for (at, task) in tasks.iter().enumerate() {
        let last = || task.stretches.iter().rev().find_map(Block::of);
        let Some(block) = Block::open(task).or_else(last) else {
            continue;
        };
        let process = processes.entry(task.process).or_default();
        process.input |= blocks.class(&block).is_input();
        let ns = block.end_ns(task) - block.start_ns;
        let unwoken = matches!(blocks.end(at, &block), End::CutShort | End::Interrupted)
            && block.timeout == Timeout::None
            && blocks.is_futex(&block)
            && !crate::analysis::roles::is_helper_name(&task.name)
            && ns >= report.workload.duration_ns / PART;
        if unwoken {
            process.unwoken.push((at, block));
        }
    }
    processes.retain(|serial, process| {
        let leader = blocks.wakers.index(*serial).map(|at| &tasks[at]);
        !process.input && !process.unwoken.is_empty() && leader.is_some_and(by_signal)
    });
    let most = processes
        .into_values()
        .max_by_key(|process| process.unwoken.len())?;
    let starts = most.unwoken.iter().map(|(_, block)| block.start_ns);
    let ends = most
        .unwoken
        .iter()
        .map(|(at, block)| block.end_ns(&tasks[*at]));
    let ns = ends.min()?.saturating_sub(starts.max()?);
    let named = most.unwoken.iter().take(NAMED);
    let named = named.map(|(at, _)| who(&tasks[*at].name, tasks[*at].tid));
    let more = most.unwoken.len().saturating_sub(NAMED);
    let more = (more > 0).then(|| format!("{} more", count(more as u64)));
    let named: Vec<String> = named.chain(more).collect();
    let (them, their, futex) = match &most.unwoken[..] {
        [_] => ("it", "its", "a futex"),
        _ => ("them", "their", "futexes"),
    };
    let sentence = format!(
        "{} waited for {futex} for {}, until a signal ended {them}: nobody woke {them}, and \
         {their} process waited for no input. It may be a deadlock: such locks don't tell who has \
         them.",
        listed(&named),
        part_of(ns, report)
    );
    Some(Finding {
        tasks: most
            .unwoken
            .iter()
            .map(|(at, _)| tasks[*at].serial)
            .collect(),
        ..finding(FindingKind::Stall, ns, Confidence::Possible, sentence)
    })
}

/// Did a signal end this process, whether it handled that or not?
fn by_signal(leader: &Task) -> bool {
    // As `wait` gives it. Who handles a signal and ends says so as a shell would.
    let code = leader.record.as_ref().and_then(|record| record.exit_code);
    code.is_some_and(|code| code & 0x7f != 0 || code >> 8 & 0xff >= 128)
}
