//! Locks that tasks queued for. The trace tells a lock from other futexes by how it is
//! passed on: who waits for it is woken by another one who waits for it at other times.

use std::collections::{HashMap, HashSet};

use super::{Blocks, Confidence, Finding, FindingKind, Report, count, duration, finding, percent};
use crate::{
    analysis::{
        blocks::{Block, End},
        objects,
    },
    model::Target,
};

#[derive(Default)]
struct Sum {
    ns: u64,
    longest_ns: u64,
    waits: u64,
    waiters: HashMap<u32, u64>,
    wakers: HashMap<u32, u64>,
}

/// Fewer waits tell nothing.
const WAITS: u64 = 10;

pub(super) fn findings(report: &Report, blocks: &Blocks<'_>) -> Option<Finding> {
    let mut sums: HashMap<u32, Sum> = HashMap::new();
    let is_futex = |block: &Block| {
        let target = blocks.model.targets.get(block.target as usize);
        matches!(target, Some(Target::Futex(_)))
    };
    for (at, task) in blocks.model.tasks.iter().enumerate() {
        for block in task.stretches.iter().filter_map(Block::of).filter(is_futex) {
            let ns = block.end_ns(task) - block.start_ns;
            let sum = sums.entry(block.target).or_default();
            sum.ns = sum.ns.saturating_add(ns);
            sum.longest_ns = sum.longest_ns.max(ns);
            sum.waits += 1;
            *sum.waiters.entry(at as u32).or_default() += ns;
            if let End::Task(waker) = blocks.end(at, &block) {
                *sum.wakers.entry(waker).or_default() += 1;
            }
        }
    }
    let all: u64 = report
        .tasks
        .iter()
        .map(|t| t.blocked_ns)
        .fold(0, u64::saturating_add);
    let is_lock = |sum: &Sum| {
        let waiters: HashSet<u32> = sum.waiters.keys().copied().collect();
        let passed_on = sum
            .wakers
            .iter()
            .filter(|(waker, _)| waiters.contains(waker));
        let passed_on: u64 = passed_on.map(|(_, n)| n).sum();
        waiters.len() > 1 && sum.waits >= WAITS && passed_on * 2 >= sum.waits
    };
    let locks = sums.into_iter().filter(|(_, sum)| is_lock(sum));
    let (target, sum) = locks.max_by_key(|(target, sum)| (sum.ns, *target))?;
    let object = objects::describe(blocks.model, target)?;
    // Each of them stood still for so long on average: what the lock costs the run.
    let waiters = sum.waiters.len() as u64;
    let ns = (sum.ns / waiters).min(report.workload.duration_ns);
    let sentence = format!(
        "One lock holds them up: {} tasks waited {} in all for {}, {} of the time that tasks were \
         blocked.",
        count(waiters),
        duration(sum.ns),
        object.name,
        percent(sum.ns, all),
    );
    let mut tasks: Vec<(u64, u32)> = sum.waiters.iter().map(|(at, ns)| (*ns, *at)).collect();
    tasks.sort_unstable_by_key(|(ns, at)| (std::cmp::Reverse(*ns), *at));
    let serials = tasks
        .iter()
        .map(|(_, at)| blocks.model.tasks[*at as usize].serial);
    Some(Finding {
        tasks: serials.collect(),
        object: Some(object),
        evidence: vec![format!(
            "{} waits, {} each on average, the longest {}",
            count(sum.waits),
            duration(sum.ns / sum.waits),
            duration(sum.longest_ns)
        )],
        next: Some("--stacks shows who takes it where".to_owned()),
        ..finding(FindingKind::Lock, ns, Confidence::Likely, sentence)
    })
}
