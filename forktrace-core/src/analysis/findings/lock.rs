//! Locks that tasks queued for. The trace tells a lock from other futexes by how it is
//! passed on: who waits for it is woken by another one who waits for it at other times.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap, HashSet},
};

use super::{
    Blocks, Confidence, Finding, FindingKind, Report, Waiter, count, duration, finding, percent,
};
use crate::{
    analysis::{
        blocks::{Block, End},
        code::CodeSum,
        locks, objects,
    },
    model::Target,
    report::Object,
};

/// Fewer waits tell nothing.
const WAITS: u64 = 10;

/// A lock that tasks queued for.
struct Queue {
    /// What was waited for; `None`: futexes of their own.
    object: Option<Object>,
    what: String,
    ns: u64,
    longest_ns: u64,
    waits: u64,
    /// How long each task (index in the model) waited, longest first.
    waiters: Vec<(u32, u64)>,
    told: Vec<String>,
    waiter: Waiter,
}

pub(super) fn findings(
    report: &Report,
    blocks: &Blocks<'_>,
    locks: &[locks::Row],
) -> Option<Finding> {
    let all: u64 = report
        .tasks
        .iter()
        .map(|t| t.blocked_ns)
        .fold(0, u64::saturating_add);
    let is_lock = |row: &&locks::Row| {
        let passed_on = row.futex.is_some() && row.passed_on && row.lock.waits >= WAITS;
        passed_on && never_got_ns(blocks, row) < row.lock.ns / 2
    };
    // They are sorted, most time first.
    let first = locks.iter().find(is_lock).and_then(|row| {
        let object = objects::describe(blocks.model, row.futex?)?;
        Some(Queue {
            what: format!("for {}", row.lock.name),
            waiter: match row.named_by_code {
                false => Waiter::of(&row.lock.code, row.lock.ns),
                // Its name tells.
                true => Waiter::default(),
            },
            object: Some(Object {
                name: row.lock.name.clone(),
                ..object
            }),
            ns: row.lock.ns,
            longest_ns: row.lock.longest_ns,
            waits: row.lock.waits,
            waiters: row.waiters.clone(),
            told: row.lock.told(),
        })
    });
    let queues = parked(report, blocks).into_iter().chain(first);
    let sum = queues.max_by_key(|queue| queue.ns)?;
    let (object, what) = (sum.object, sum.what);
    let code = sum.waiter.name.clone();
    // Each of them stood still for so long on average: what the lock costs the run.
    let waiters = sum.waiters.len() as u64;
    let ns = (sum.ns / waiters).min(report.workload.duration_ns);
    // Where they are blocked in other things for most of the time, those hold them up.
    let begin = match sum.ns >= all / 2 {
        true => format!("One lock holds them up: {} tasks", count(waiters)),
        false => format!("{} tasks queued for one lock: they", count(waiters)),
    };
    let sentence = format!(
        "{begin} waited {} in all {what}{}, {} of the time that tasks were blocked.",
        duration(sum.ns),
        sum.waiter.told(),
        percent(sum.ns, all),
    );
    let serials = sum.waiters.iter();
    let serials = serials.map(|(at, _)| blocks.model.tasks[*at as usize].serial);
    let mut evidence = vec![format!(
        "{} waits, {} each on average, the longest {}",
        count(sum.waits),
        duration(sum.ns / sum.waits),
        duration(sum.longest_ns)
    )];
    evidence.extend(sum.told);
    Some(Finding {
        tasks: serials.collect(),
        object,
        code,
        evidence,
        next: Some("--stacks shows who takes it where".to_owned()),
        ..finding(FindingKind::Lock, ns, Confidence::Likely, sentence)
    })
}

/// How long those waited for it who never got it: nobody had it then.
fn never_got_ns(blocks: &Blocks<'_>, row: &locks::Row) -> u64 {
    let waits = row.waiters.iter().filter_map(|(at, _)| {
        let task = &blocks.model.tasks[*at as usize];
        let last = || task.stretches.iter().rev().find_map(Block::of);
        let block = Block::open(task).or_else(last)?;
        let ended = blocks.end(*at as usize, &block);
        let never = matches!(ended, End::CutShort | End::Interrupted | End::Nobody);
        let is_it = never && Some(block.target) == row.futex;
        is_it.then(|| block.end_ns(task) - block.start_ns)
    });
    waits.fold(0, u64::saturating_add)
}

/// Locks of runtimes that let each thread sleep on a futex of its own: threads of one role that
/// let each other go on.
fn parked(report: &Report, blocks: &Blocks<'_>) -> Vec<Queue> {
    #[derive(Default)]
    struct Sum {
        ns: u64,
        longest_ns: u64,
        waits: u64,
        waiters: HashMap<u32, u64>,
        wakers: HashMap<u32, u64>,
        code: CodeSum,
    }
    let parkers = with_parkers(blocks);
    let tasks = &blocks.model.tasks;
    let role = |at: usize| (tasks[at].process, report.tasks.get(at).map(|t| &t.role));
    let is_futex = |block: &Block| {
        let target = blocks.model.targets.get(block.target as usize);
        matches!(target, Some(Target::Futex(_)))
    };
    let mut sums: BTreeMap<(u32, &str), Sum> = BTreeMap::new();
    let of_runtime = |(_, task): &(usize, &crate::model::Task)| parkers.contains(&task.process);
    for (at, task) in tasks.iter().enumerate().filter(of_runtime) {
        let stretches = task
            .stretches
            .iter_if(|off| Block::of(off).is_some_and(|block| is_futex(&block)));
        for block in stretches.filter_map(Block::of).filter(is_futex) {
            let End::Task(waker) = blocks.end(at, &block) else {
                continue;
            };
            let (process, Some(name)) = role(at) else {
                continue;
            };
            if role(waker as usize) == role(at) {
                let ns = block.end_ns(task) - block.start_ns;
                let sum = sums.entry((process, name)).or_default();
                sum.ns = sum.ns.saturating_add(ns);
                sum.longest_ns = sum.longest_ns.max(ns);
                sum.waits += 1;
                *sum.waiters.entry(at as u32).or_default() += ns;
                blocks.code.add(&mut sum.code, task.serial, block.seq, ns);
                *sum.wakers.entry(waker).or_default() += 1;
            }
        }
    }
    let locks = sums.into_iter().filter(|(_, sum)| {
        let wakers = sum.wakers.iter();
        let passed_on = wakers.filter(|(waker, _)| sum.waiters.contains_key(waker));
        let passed_on: u64 = passed_on.map(|(_, n)| n).sum();
        sum.waiters.len() > 1 && sum.waits >= WAITS && passed_on * 2 >= sum.waits
    });
    let queues = locks.map(|((_, role), sum)| {
        let mut waiters: Vec<(u32, u64)> = sum.waiters.into_iter().collect();
        waiters.sort_unstable_by_key(|(task, ns)| (Reverse(*ns), *task));
        Queue {
            object: None,
            what: format!("until another `{role}` let them go on"),
            ns: sum.ns,
            longest_ns: sum.longest_ns,
            waits: sum.waits,
            waiters,
            told: Vec::new(),
            waiter: Waiter::of(&blocks.code.rows(sum.code), sum.ns),
        }
    });
    queues.collect()
}

/// The processes whose runtime is known to let each thread sleep on a futex of its own: those
/// of a JVM (`os::PlatformEvent`) and of Ruby (`rb_native_cond_t` in each thread). In others,
/// threads that wake each other can be a pool that passes on work.
fn with_parkers(blocks: &Blocks<'_>) -> HashSet<u32> {
    let tasks = blocks.model.tasks.iter();
    let of_runtime = tasks.filter(|task| {
        task.name == "VM Thread" || task.serial == task.process && task.name.starts_with("ruby")
    });
    of_runtime.map(|task| task.process).collect()
}
