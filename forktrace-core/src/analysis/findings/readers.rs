//! Writers that waited for the readers of a lock. The lock counts its readers, and does not
//! tell who they are: what is known is who waited, and for how long.

use std::collections::{BTreeMap, BTreeSet};

use super::{Blocks, Confidence, Finding, FindingKind, Report, finding, part_of, quantity, who};
use crate::{
    analysis::{
        blocks::{Block, End},
        objects,
    },
    trace::ProviderKind,
};

/// A finding for each lock.
pub(super) fn findings(report: &Report, blocks: &Blocks<'_>) -> Vec<Finding> {
    let model = blocks.model;
    // By target: the waits, each once, and whose.
    let mut locks: BTreeMap<u32, BTreeMap<(u64, u64), u32>> = BTreeMap::new();
    // Those of them that somebody got.
    let mut got: BTreeSet<u32> = BTreeSet::new();
    let of_readers = model.providers.iter();
    for found in of_readers.filter(|found| found.kind == ProviderKind::Readers) {
        let Some(at) = blocks.wakers.index(found.serial) else {
            continue;
        };
        let task = &model.tasks[at];
        let Some(block) = Block::before(task, found.at_ns) else {
            continue;
        };
        if block.seq == found.seq && block.target != 0 {
            let wait = (block.start_ns, block.end_ns(task));
            if matches!(blocks.end(at, &block), End::Task(_) | End::Unknown) {
                got.insert(block.target);
            }
            locks
                .entry(block.target)
                .or_default()
                .insert(wait, at as u32);
        }
    }
    let told = locks.into_iter().map(|(target, waits)| {
        let (mut ns, mut until_ns) = (0u64, 0);
        for (start_ns, end_ns) in waits.keys() {
            ns = ns.saturating_add(end_ns.saturating_sub(until_ns.max(*start_ns)));
            until_ns = until_ns.max(*end_ns);
        }
        let mut tasks: Vec<u32> = waits.values().copied().collect();
        tasks.sort_unstable();
        tasks.dedup();
        let whose = match tasks[..] {
            [only] => {
                let task = &model.tasks[only as usize];
                who(&task.name, task.tid)
            }
            _ => quantity(tasks.len() as u64, "task"),
        };
        let object = objects::describe(model, target);
        let lock = object.as_ref().map_or("a lock", |object| &object.name);
        let (end, sure) = match got.contains(&target) {
            true => ("one after the other or together.", Confidence::Likely),
            false => (
                "and never got it: readers came all the time, or one of them waits, too, which is \
                 a deadlock.",
                Confidence::Possible,
            ),
        };
        let sentence = format!(
            "{whose} waited {} to write under {lock}, while others had it for reading, {end}",
            part_of(ns, report),
        );
        Finding {
            tasks: tasks
                .iter()
                .map(|at| model.tasks[*at as usize].serial)
                .collect(),
            object,
            next: Some("--stacks shows who takes it where".to_owned()),
            ..finding(FindingKind::Lock, ns, sure, sentence)
        }
    });
    told.collect()
}
