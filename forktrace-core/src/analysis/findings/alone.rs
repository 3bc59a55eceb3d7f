//! What a task waited for while it was the only one that lived, in a workload of several: nobody
//! else could be blocked at the same time, so no stall tells of it.

use std::collections::HashMap;

use super::{
    Blocks, Confidence, Finding, Report, Waiter, asked::Asked, did, finding, part_of,
    path::so_often, whom,
};
use crate::analysis::{blocks::Block, chains};

/// No more kinds of waits are told.
const TOLD: usize = 3;

/// Waits of one kind: how long, how many, and the longest.
struct Sum {
    ns: u64,
    count: u64,
    longest: (u64, usize, Block),
}

pub(super) fn findings(report: &Report, blocks: &Blocks<'_>, asked: &Asked) -> Vec<Finding> {
    let mut sums: HashMap<(usize, i16, u32), Sum> = HashMap::new();
    // Whether it was the only one is not known beside one that was not followed.
    if report.audit.tasks_not_followed > 0 {
        return Vec::new();
    }
    for (at, from_ns, to_ns) in alone(blocks) {
        let task = &blocks.model.tasks[at];
        let first = task.stretches.partition_point(|off| off.in_ns <= from_ns);
        let offs = task.stretches.from(first);
        let offs = offs.take_while(|off| off.out_ns < to_ns);
        for block in offs.filter_map(Block::of).chain(Block::open(task)) {
            let (start_ns, end_ns) = (block.start_ns.max(from_ns), block.end_ns(task).min(to_ns));
            let Some(ns) = end_ns.checked_sub(start_ns).filter(|ns| *ns > 0) else {
                continue;
            };
            let sum = sums
                .entry((at, block.syscall, block.target))
                .or_insert(Sum {
                    ns: 0,
                    count: 0,
                    longest: (0, at, block),
                });
            (sum.ns, sum.count) = (sum.ns.saturating_add(ns), sum.count + 1);
            if ns > sum.longest.0 {
                sum.longest = (ns, at, block);
            }
        }
    }
    let mut sums: Vec<Sum> = sums.into_values().collect();
    sums.sort_unstable_by_key(|sum| (std::cmp::Reverse(sum.ns), sum.longest.2.start_ns));
    sums.truncate(TOLD);
    let told = sums
        .into_iter()
        .filter_map(|sum| told(report, blocks, &sum, asked));
    told.collect()
}

/// `None`: the critical path tells of all page faults, and of all that waits for the disk.
fn told(report: &Report, blocks: &Blocks<'_>, sum: &Sum, asked: &Asked) -> Option<Finding> {
    let (_, at, block) = sum.longest;
    let link = chains::link(blocks, (at as u32, block));
    if matches!(link.reason.as_str(), "page fault" | "fsync") {
        return None;
    }
    let object = link.object.as_ref();
    let serial = link.task.serial;
    let waiter = Waiter::of_tasks(report, [serial].into_iter(), (&link.reason, None));
    let sentence = format!(
        "{} {} for {}{}{}, while it was the only task.",
        whom(&link.task),
        did(&link.reason, link.syscall.as_deref(), object, None),
        part_of(sum.ns, report),
        so_often(sum.count),
        waiter.told(),
    );
    Some(Finding {
        tasks: vec![serial],
        object: link.object.clone(),
        code: waiter.name,
        ..finding(
            asked.kind(&link.reason, object),
            sum.ns,
            Confidence::Proved,
            sentence,
        )
    })
}

/// When only one task lived: which, from when to when.
fn alone(blocks: &Blocks<'_>) -> Vec<(usize, u64, u64)> {
    let tasks = &blocks.model.tasks;
    let chosen = || {
        tasks
            .iter()
            .enumerate()
            .filter(|(at, _)| blocks.part.has(*at))
    };
    let mut edges: Vec<(u64, bool, usize)> = chosen()
        .flat_map(|(at, task)| [(task.start_ns, true, at), (task.end_ns, false, at)])
        .collect();
    if edges.len() < 4 {
        return Vec::new();
    }
    // Of one moment those who end come first.
    edges.sort_unstable();
    let (mut live, mut sum) = (0usize, 0usize);
    let mut found = Vec::new();
    for (edge, next) in edges.iter().zip(edges.iter().skip(1)) {
        let (at_ns, starts, at) = *edge;
        (live, sum) = match starts {
            true => (live + 1, sum.wrapping_add(at)),
            false => (live.saturating_sub(1), sum.wrapping_sub(at)),
        };
        // Of one, the sum is who it is.
        if live == 1 && next.0 > at_ns && sum < tasks.len() {
            let (from_ns, to_ns) = (
                at_ns.max(blocks.part.from_ns),
                next.0.min(blocks.part.to_ns),
            );
            found.extend((to_ns > from_ns).then_some((sum, from_ns, to_ns)));
        }
    }
    found
}
