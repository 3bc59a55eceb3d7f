//! Stragglers: one task of a process ran while others waited for it, as at a barrier or at
//! the end of a parallel loop.
//!
//! The trace tells it from a task that only has something to do when the others have not:
//! they all ran, one after the other went to sleep while it ran on, and what it did in the
//! end woke them, directly or in turn.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap, binary_heap::PeekMut},
};

use super::{
    Blocks, Confidence, Finding, FindingKind, Report, count, duration, finding, part_of, quantity,
    spells, who,
};
use crate::{
    analysis::blocks::{Block, End},
    model::Task,
};

/// For so long one has to run alone, ns: shorter is how a round ends.
const ALONE_NS: u64 = 5_000_000;
/// Who blocks for less than this goes on with what it does, ns.
const SHORT_NS: u64 = 1_000_000;
/// Who ran for less before it waited was only looking for something to do, ns.
const RAN_NS: u64 = 1_000_000;
/// So many have to wait: of two, either waits for the other.
const WAITERS: usize = 2;

#[derive(Default)]
struct Sum {
    ns: u64,
    times: u64,
    longest_ns: u64,
    by: BTreeMap<usize, u64>,
    waiters: BTreeSet<usize>,
}

pub(super) fn findings(report: &Report, blocks: &Blocks<'_>) -> Vec<Finding> {
    let mut processes: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (at, task) in blocks.model.tasks.iter().enumerate() {
        processes.entry(task.process).or_default().push(at);
    }
    let large = processes
        .into_values()
        .filter(|tasks| tasks.len() > WAITERS);
    large
        .filter_map(|tasks| of(report, blocks, &tasks))
        .collect()
}

fn of(report: &Report, blocks: &Blocks<'_>, tasks: &[usize]) -> Option<Finding> {
    let mut sum = Sum::default();
    for alone in alone(blocks, tasks) {
        let waiters = of_one_team(report, blocks, &alone, waiters(blocks, tasks, &alone));
        if waiters.len() < WAITERS {
            continue;
        }
        let ns = alone.to_ns - alone.from_ns;
        sum.ns = sum.ns.saturating_add(ns);
        sum.times += 1;
        sum.longest_ns = sum.longest_ns.max(ns);
        let by = sum.by.entry(alone.task).or_default();
        *by = by.saturating_add(ns);
        sum.waiters.extend(waiters);
    }
    let (worst, worst_ns) = sum.by.iter().max_by_key(|(at, ns)| (**ns, **at))?;
    let task = &blocks.model.tasks[*worst];
    let others = match sum.by.len() {
        1 => String::new(),
        _ => format!(
            ", {} of it {}",
            duration(*worst_ns),
            who(&task.name, task.tid)
        ),
    };
    let subject = match sum.by.len() {
        1 => who(&task.name, task.tid),
        n => format!("one of {} tasks", count(n as u64)),
    };
    let sentence = format!(
        "{subject} ran alone {}{others}, while {} of its process waited \
         for it.",
        spells(sum.times, &part_of(sum.ns, report), sum.longest_ns),
        quantity(sum.waiters.len() as u64, "task"),
    );
    let mut by: Vec<(u64, usize)> = sum.by.iter().map(|(at, ns)| (*ns, *at)).collect();
    by.sort_unstable_by_key(|(ns, at)| (Reverse(*ns), *at));
    let named = by
        .iter()
        .map(|(_, at)| *at)
        .chain(sum.waiters.iter().copied());
    Some(Finding {
        tasks: named.map(|at| blocks.model.tasks[at].serial).collect(),
        ..finding(
            FindingKind::Straggler,
            sum.ns,
            Confidence::Likely,
            uppercase(&sentence),
        )
    })
}

fn uppercase(sentence: &str) -> String {
    match sentence.strip_prefix("one of") {
        Some(rest) => format!("One of{rest}"),
        None => sentence.to_owned(),
    }
}

/// When one task of several was the only one awake.
struct Alone {
    task: usize,
    /// Since when it was awake itself.
    awake_ns: u64,
    from_ns: u64,
    to_ns: u64,
}

fn alone(blocks: &Blocks<'_>, tasks: &[usize]) -> Vec<Alone> {
    let of = |at: &usize| awake(&blocks.model.tasks[*at]);
    // Who is alone for so long is awake for so long: mostly nobody is, and none is merged.
    let is_long = |(from_ns, to_ns): (u64, u64)| to_ns - from_ns >= ALONE_NS;
    if !tasks.iter().any(|at| of(at).any(is_long)) {
        return Vec::new();
    }
    let mut times: Vec<_> = tasks.iter().map(of).collect();
    // By position in `tasks`: when it wakes, or, while it is awake, since when that is.
    let mut wakes: Vec<u64> = vec![0; tasks.len()];
    // Of each task the next change; of one moment those who go to sleep come first.
    let mut changes: BinaryHeap<Reverse<Edge>> = BinaryHeap::new();
    for (which, times) in times.iter_mut().enumerate() {
        changes.extend(times.next().map(|times| Reverse(Edge::awake(times, which))));
    }
    // How many are awake, and the sum of their positions: of one, who it is.
    let (mut now, mut sum) = (0u32, 0usize);
    let mut since: Option<u64> = None;
    let mut found = Vec::new();
    while let Some(mut first) = changes.peek_mut() {
        let edge = first.0;
        if let Some(from_ns) = since.take()
            && edge.at_ns - from_ns >= ALONE_NS
        {
            found.push(Alone {
                task: tasks[sum],
                awake_ns: wakes[sum],
                from_ns,
                to_ns: edge.at_ns,
            });
        }
        if edge.starts {
            (now, sum) = (now + 1, sum + edge.which);
            wakes[edge.which] = edge.at_ns;
            *first = Reverse(Edge {
                at_ns: edge.end_ns,
                starts: false,
                ..edge
            });
        } else {
            (now, sum) = (now - 1, sum - edge.which);
            match times[edge.which].next() {
                Some(times) => *first = Reverse(Edge::awake(times, edge.which)),
                None => {
                    PeekMut::pop(first);
                }
            }
        }
        since = (now == 1).then_some(edge.at_ns);
    }
    found
}

/// A task wakes, or goes to sleep.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Edge {
    at_ns: u64,
    /// It wakes, until `end_ns`.
    starts: bool,
    which: usize,
    end_ns: u64,
}

impl Edge {
    fn awake((at_ns, end_ns): (u64, u64), which: usize) -> Self {
        Self {
            at_ns,
            starts: true,
            which,
            end_ns,
        }
    }
}

/// When a task was awake, short blocks left out.
fn awake(task: &Task) -> impl Iterator<Item = (u64, u64)> + '_ {
    let blocks = task.stretches.woken_after(SHORT_NS).filter_map(Block::of);
    let blocks = blocks.chain(Block::open(task));
    let long = blocks.map(|block| (block.start_ns, block.end_ns(task)));
    let long = long.filter(|(start_ns, end_ns)| end_ns - start_ns >= SHORT_NS);
    let end = (task.end_ns, task.end_ns);
    let awake = long
        .chain([end])
        .scan(task.start_ns, |since_ns, (start_ns, end_ns)| {
            let from_ns = *since_ns;
            *since_ns = end_ns.max(from_ns);
            Some((from_ns, start_ns))
        });
    awake.filter(|(from_ns, to_ns)| to_ns > from_ns)
}

/// Who went to sleep while the one was awake, and was woken by what it did after that,
/// directly or in turn.
fn waiters(blocks: &Blocks<'_>, tasks: &[usize], alone: &Alone) -> Vec<usize> {
    let of = |task: &usize| {
        let block = Block::before(&blocks.model.tasks[*task], alone.to_ns)?;
        Some((block.wake_ns?, *task, block))
    };
    let others = tasks.iter().filter(|task| **task != alone.task);
    let mut asleep: Vec<(u64, usize, Block)> = others.filter_map(of).collect();
    asleep.sort_unstable_by_key(|(wake_ns, task, _)| (*wake_ns, *task));
    let mut released = BTreeSet::from([alone.task]);
    for (_, task, block) in &asleep {
        if let End::Task(waker) = blocks.end(*task, block)
            && released.contains(&(waker as usize))
        {
            released.insert(*task);
        }
    }
    let waited = asleep.iter().filter(|(_, task, block)| {
        released.contains(task)
            && block.start_ns <= alone.from_ns
            && ran_ns(&blocks.model.tasks[*task], alone.awake_ns, block.start_ns) >= RAN_NS
    });
    waited.map(|(_, task, _)| *task).collect()
}

/// Of those that waited for one the ones that do the same as it, or as each other: a team is
/// threads of one role, and the process's first thread, which often takes part.
fn of_one_team(
    report: &Report,
    blocks: &Blocks<'_>,
    alone: &Alone,
    waiters: Vec<usize>,
) -> Vec<usize> {
    let role = |at: usize| report.tasks.get(at).map_or("", |task| task.role.as_str());
    let is_first = |at: usize| {
        let task = &blocks.model.tasks[at];
        task.serial == task.process
    };
    let team = match is_first(alone.task) {
        false => role(alone.task),
        true => {
            let mut sizes: BTreeMap<&str, usize> = BTreeMap::new();
            for at in &waiters {
                *sizes.entry(role(*at)).or_default() += 1;
            }
            let largest = sizes.into_iter().max_by_key(|(_, size)| *size);
            largest.map_or("", |(role, _)| role)
        }
    };
    let in_team = |at: &usize| role(*at) == team || is_first(*at);
    waiters.into_iter().filter(in_team).collect()
}

/// For how long a task ran in this time.
fn ran_ns(task: &Task, from_ns: u64, to_ns: u64) -> u64 {
    let from_ns = from_ns.max(task.start_ns);
    let Some(within_ns) = to_ns.checked_sub(from_ns) else {
        return 0;
    };
    let first = task.stretches.partition_point(|off| off.in_ns <= from_ns);
    let offs = task
        .stretches
        .from(first)
        .take_while(|off| off.out_ns < to_ns);
    let off_ns = offs.map(|off| off.in_ns.min(to_ns).saturating_sub(off.out_ns.max(from_ns)));
    within_ns.saturating_sub(off_ns.fold(0, u64::saturating_add))
}
