//! Threads that wait for the lock of Python's interpreter (the GIL). A thread that wants it
//! asks for it every few milliseconds, and each thread that runs Python has it meanwhile: so
//! who ran while it waited is told, which names more than the lock itself.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashSet},
};

use super::{
    Blocks, Confidence, Finding, FindingKind, Report, duration, finding, part_of, quantity, who,
};
use crate::{
    analysis::{blocks::Block, interpreter::words, intervals::Intervals},
    model::Off,
    trace::Timeout,
};

/// Fewer waits tell nothing.
const WAITS: u64 = 10;

/// When a thread waited for it, and how often.
struct Waited {
    spans: Intervals,
    times: u64,
}

/// That of the thread that waited longest.
pub(super) fn finding_of(report: &Report, blocks: &Blocks<'_>) -> Option<Finding> {
    let tasks = &blocks.model.tasks;
    let words = words(blocks.model);
    if words.is_empty() {
        return None;
    }
    let mut waits: Vec<(usize, Waited)> = tasks
        .iter()
        .enumerate()
        .filter_map(|(at, _)| Some((at, waited(blocks, at, &words)?)))
        .collect();
    waits.sort_by_key(|(at, waited)| (Reverse(waited.spans.sum()), *at));
    let (at, waited) = waits.first()?;
    let (task, ns) = (&tasks[*at], waited.spans.sum());
    let mut others: BTreeMap<(Reverse<u64>, u32), String> = BTreeMap::new();
    for other in tasks.iter().filter(|it| it.process == task.process) {
        let ran_ns = waited.spans.overlap(&ran(other));
        if other.serial != task.serial && ran_ns > 0 {
            let ran = format!(
                "{} ran for {}",
                who(&other.name, other.tid),
                duration(ran_ns)
            );
            others.insert((Reverse(ran_ns), other.serial), ran);
        }
    }
    let told: u64 = others.keys().map(|(Reverse(ns), _)| ns).sum();
    // Of less the lock was somebody's who waited for something else: that is told elsewhere.
    let mut others = others.into_iter();
    let ((_, first), ran) = others.next().filter(|_| told >= ns / 2)?;
    let sentence = format!(
        "{} waited {}, {}, for the lock of Python's interpreter (GIL): meanwhile {ran} of it.",
        who(&task.name, task.tid),
        part_of(ns, report),
        quantity(waited.times, "time"),
    );
    Some(Finding {
        tasks: vec![task.serial, first],
        evidence: others.take(3).map(|(_, ran)| ran).collect(),
        next: Some("--stacks shows where".to_owned()),
        ..finding(FindingKind::Lock, ns, Confidence::Likely, sentence)
    })
}

/// Waits of a thread for the lock, most of them with a time limit: others of the runtime's
/// locks have none.
fn waited(blocks: &Blocks<'_>, at: usize, words: &HashSet<u32>) -> Option<Waited> {
    let task = &blocks.model.tasks[at];
    let (mut spans, mut times, mut timed) = (Vec::new(), 0, 0);
    let mut until_ns = None;
    let of_lock = |off: &Off| words.contains(&off.target);
    let stretches = task.stretches.iter_if(|off| of_lock(&off));
    for block in stretches.filter(of_lock).filter_map(Block::of) {
        let end_ns = block.end_ns(task);
        spans.push((block.start_ns, end_ns));
        // It asks again: the same wait.
        let again = until_ns.is_some_and(|until_ns: u64| {
            block.start_ns - until_ns < crate::analysis::blocks::LOOK_UP_NS
        });
        times += u64::from(!again);
        timed += u64::from(block.timeout != Timeout::None);
        until_ns = Some(end_ns);
    }
    let is_one = spans.len() as u64 >= WAITS && timed * 2 >= spans.len() as u64;
    is_one.then(|| Waited {
        spans: Intervals::union(spans),
        times,
    })
}

/// When a task ran.
fn ran(task: &crate::model::Task) -> Intervals {
    let mut ran = Intervals::default();
    let mut since_ns: Option<u64> = None;
    for off in task.stretches.iter() {
        if let Some(since_ns) = since_ns.filter(|since_ns| *since_ns < off.out_ns) {
            ran.push(since_ns, off.out_ns);
        }
        since_ns = Some(off.in_ns);
    }
    let until_ns = task.open.map_or(task.end_ns, |open| open.out_ns);
    if let Some(since_ns) = since_ns.filter(|since_ns| *since_ns < until_ns) {
        ran.push(since_ns, until_ns);
    }
    ran
}
