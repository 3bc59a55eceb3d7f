//! Stragglers: one task of a process ran while others waited for it, as at a barrier or at
//! the end of a parallel loop.
//!
//! The trace tells it from a task that only has something to do when the others have not:
//! they all ran, one after the other went to sleep while it ran on, and what it did in the
//! end woke them, directly or in turn.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Blocks, Confidence, Finding, FindingKind, Report, count, duration, finding, part_of, quantity,
    who,
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

/// A task was awake.
#[derive(Clone, Copy)]
struct Awake {
    start_ns: u64,
    end_ns: u64,
    task: usize,
}

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
        "{subject} ran alone for {}, {}, the longest {}{others}, while {} of its process waited \
         for it.",
        part_of(sum.ns, report),
        quantity(sum.times, "time"),
        duration(sum.longest_ns),
        quantity(sum.waiters.len() as u64, "task"),
    );
    let mut by: Vec<(u64, usize)> = sum.by.iter().map(|(at, ns)| (*ns, *at)).collect();
    by.sort_unstable_by_key(|(ns, at)| (std::cmp::Reverse(*ns), *at));
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
    let mut all: Vec<Awake> = Vec::new();
    for &task in tasks {
        all.extend(awake(task, &blocks.model.tasks[task]));
    }
    let mut edges: Vec<(u64, bool, usize)> = Vec::with_capacity(all.len() * 2);
    for (which, awake) in all.iter().enumerate() {
        edges.extend([(awake.start_ns, true, which), (awake.end_ns, false, which)]);
    }
    edges.sort_unstable();
    let mut now: BTreeSet<usize> = BTreeSet::new();
    let mut since: Option<(u64, usize)> = None;
    let mut found = Vec::new();
    for (at_ns, starts, which) in edges {
        if let Some((from_ns, only)) = since.take()
            && at_ns - from_ns >= ALONE_NS
        {
            let Awake { start_ns, task, .. } = all[only];
            found.push(Alone {
                task,
                awake_ns: start_ns,
                from_ns,
                to_ns: at_ns,
            });
        }
        match starts {
            true => now.insert(which),
            false => now.remove(&which),
        };
        if let (1, Some(only)) = (now.len(), now.first()) {
            since = Some((at_ns, *only));
        }
    }
    found
}

/// When a task was awake, short blocks left out.
fn awake(which: usize, task: &Task) -> Vec<Awake> {
    let mut found = Vec::new();
    let mut start_ns = task.start_ns;
    let blocks = task
        .stretches
        .iter()
        .filter_map(Block::of)
        .chain(Block::open(task));
    for block in blocks {
        let end_ns = block.end_ns(task);
        if end_ns - block.start_ns >= SHORT_NS {
            found.push(Awake {
                start_ns,
                end_ns: block.start_ns,
                task: which,
            });
            start_ns = end_ns;
        }
    }
    found.push(Awake {
        start_ns,
        end_ns: task.end_ns,
        task: which,
    });
    found.retain(|awake| awake.end_ns > awake.start_ns);
    found
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
