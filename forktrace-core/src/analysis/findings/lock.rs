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

/// What is waited for.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Key {
    /// Index in the model's targets.
    Futex(u32),
    /// A lock of a runtime that lets each thread sleep on a futex of its own, of the threads
    /// of this role in this process.
    Parkers(u32, String),
}

/// Fewer waits tell nothing.
const WAITS: u64 = 10;

pub(super) fn findings(report: &Report, blocks: &Blocks<'_>) -> Option<Finding> {
    let mut sums: HashMap<Key, Sum> = HashMap::new();
    let parkers = with_parkers(blocks);
    let role = |at: usize| {
        (
            blocks.model.tasks[at].process,
            report.tasks.get(at).map(|t| &t.role),
        )
    };
    let is_futex = |block: &Block| {
        let target = blocks.model.targets.get(block.target as usize);
        matches!(target, Some(Target::Futex(_)))
    };
    for (at, task) in blocks.model.tasks.iter().enumerate() {
        for block in task.stretches.iter().filter_map(Block::of).filter(is_futex) {
            let ns = block.end_ns(task) - block.start_ns;
            let waker = match blocks.end(at, &block) {
                End::Task(waker) => Some(waker),
                _ => None,
            };
            let mut add = |key| {
                let sum = sums.entry(key).or_default();
                sum.ns = sum.ns.saturating_add(ns);
                sum.longest_ns = sum.longest_ns.max(ns);
                sum.waits += 1;
                *sum.waiters.entry(at as u32).or_default() += ns;
                if let Some(waker) = waker {
                    *sum.wakers.entry(waker).or_default() += 1;
                }
            };
            add(Key::Futex(block.target));
            let passed_on = waker.is_some_and(|waker| role(waker as usize) == role(at));
            if let (true, true, (process, Some(role))) =
                (parkers.contains(&task.process), passed_on, role(at))
            {
                add(Key::Parkers(process, role.clone()));
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
    let (key, sum) = locks.max_by(|(a, one), (b, other)| (one.ns, a).cmp(&(other.ns, b)))?;
    let (object, what) = match key {
        Key::Futex(target) => {
            let object = objects::describe(blocks.model, target)?;
            let what = format!("for {}", object.name);
            (Some(object), what)
        }
        Key::Parkers(_, role) => (None, format!("until another `{role}` let them go on")),
    };
    // Each of them stood still for so long on average: what the lock costs the run.
    let waiters = sum.waiters.len() as u64;
    let ns = (sum.ns / waiters).min(report.workload.duration_ns);
    let sentence = format!(
        "One lock holds them up: {} tasks waited {} in all {what}, {} of the time that tasks were \
         blocked.",
        count(waiters),
        duration(sum.ns),
        percent(sum.ns, all),
    );
    let mut tasks: Vec<(u64, u32)> = sum.waiters.iter().map(|(at, ns)| (*ns, *at)).collect();
    tasks.sort_unstable_by_key(|(ns, at)| (std::cmp::Reverse(*ns), *at));
    let serials = tasks
        .iter()
        .map(|(_, at)| blocks.model.tasks[*at as usize].serial);
    Some(Finding {
        tasks: serials.collect(),
        object,
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
