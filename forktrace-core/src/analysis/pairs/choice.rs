//! Which pairs are worth a test: all of few tasks, of many those that have
//! something to do with each other.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{PAIRS, TASKS};
use crate::{
    analysis::sum_by_key::SumByKey,
    model::{Model, Segment, State, Target, Task},
    report::WaitsFor,
};

/// What is tested.
pub(super) struct Choice {
    /// Indices in [`Model::tasks`].
    pub(super) tasks: Vec<usize>,
    /// Pairs of positions in `tasks`, the smaller first.
    pub(super) pairs: Vec<(usize, usize)>,
    /// How many pairs there are in all.
    pub(super) possible: u64,
}

/// Tasks that wait for one thing and are paired with each other, at most.
const SHARERS: usize = 8;

/// Chooses. Of more than [`TASKS`] tasks a third each: those that wait longest for
/// each other, those that wait longest for the same thing, and those that are
/// blocked longest.
pub(super) fn choose(model: &Model, waits_for: &[WaitsFor]) -> Choice {
    let followed: Vec<usize> = (0..model.tasks.len())
        .filter(|&at| model.tasks[at].followed)
        .collect();
    let n = followed.len() as u64;
    let possible = n * n.saturating_sub(1) / 2;
    let chosen: BTreeSet<(usize, usize)> = if followed.len() <= TASKS {
        all_of(&followed).collect()
    } else {
        let mut chosen = BTreeSet::new();
        let mut add = |pairs: Vec<(usize, usize)>, until: usize| {
            for pair in pairs {
                if chosen.len() >= until {
                    break;
                }
                chosen.insert(pair);
            }
        };
        add(wake_each_other(model, waits_for), PAIRS / 3);
        add(share(model, &followed), PAIRS * 2 / 3);
        add(most_blocked(model, &followed), PAIRS);
        chosen
    };
    let in_pairs: BTreeSet<usize> = chosen.iter().flat_map(|&(a, b)| [a, b]).collect();
    let tasks: Vec<usize> = in_pairs.into_iter().collect();
    let position = |at: usize| tasks.binary_search(&at).unwrap_or(0);
    let pairs = chosen
        .iter()
        .map(|&(a, b)| (position(a), position(b)))
        .collect();
    Choice {
        tasks,
        pairs,
        possible,
    }
}

fn all_of(tasks: &[usize]) -> impl Iterator<Item = (usize, usize)> {
    let pairs = |(at, &a): (usize, &usize)| tasks[at + 1..].iter().map(move |&b| (a, b));
    tasks.iter().enumerate().flat_map(pairs)
}

/// Pairs by how long they waited for each other, longest first.
fn wake_each_other(model: &Model, waits_for: &[WaitsFor]) -> Vec<(usize, usize)> {
    let index: HashMap<u32, usize> = model
        .tasks
        .iter()
        .enumerate()
        .map(|(at, task)| (task.serial, at))
        .collect();
    let mut waited: BTreeMap<(usize, usize), u64> = BTreeMap::new();
    for edge in waits_for {
        if let Some(serial) = edge.to.serial
            && let (Some(&a), Some(&b)) = (index.get(&edge.from), index.get(&serial))
            && a != b
        {
            *waited.entry((a.min(b), a.max(b))).or_default() += edge.ns;
        }
    }
    longest_first(waited)
}

/// Pairs by how long both waited for the same thing.
fn share(model: &Model, tasks: &[usize]) -> Vec<(usize, usize)> {
    let mut by_target: BTreeMap<u32, Vec<(u64, usize)>> = BTreeMap::new();
    for &at in tasks {
        for (target, ns) in targets(&model.tasks[at]) {
            if matches!(
                model.targets.get(target as usize),
                Some(Target::File { .. } | Target::Futex(_))
            ) {
                by_target.entry(target).or_default().push((ns, at));
            }
        }
    }
    let mut shared: BTreeMap<(usize, usize), u64> = BTreeMap::new();
    for mut waiters in by_target.into_values() {
        waiters.sort_by_key(|&(ns, at)| (std::cmp::Reverse(ns), at));
        waiters.truncate(SHARERS);
        for (i, &(_, a)) in waiters.iter().enumerate() {
            for &(ns, b) in &waiters[i + 1..] {
                *shared.entry((a.min(b), a.max(b))).or_default() += ns;
            }
        }
    }
    longest_first(shared)
}

/// How long the task waited for each target.
fn targets(task: &Task) -> Vec<(u32, u64)> {
    let mut waited: SumByKey<u32, u64> = SumByKey::default();
    let blocks = task
        .stretches
        .iter()
        .filter(|s| s.state() == State::Blocked);
    for off in blocks.filter(|off| off.target != 0) {
        *waited.of(off.target) += off.wake_ns - off.out_ns;
    }
    if let Some(open) = task.open {
        *waited.of(task.open_target) += task.end_ns.saturating_sub(open.out_ns);
    }
    waited.into_rows()
}

fn longest_first(waited: BTreeMap<(usize, usize), u64>) -> Vec<(usize, usize)> {
    let mut pairs: Vec<_> = waited.into_iter().filter(|(_, ns)| *ns > 0).collect();
    pairs.sort_by_key(|&(pair, ns)| (std::cmp::Reverse(ns), pair));
    pairs.into_iter().map(|(pair, _)| pair).collect()
}

/// All pairs of the tasks that were blocked longest.
fn most_blocked(model: &Model, tasks: &[usize]) -> Vec<(usize, usize)> {
    let blocked = |at: &usize| blocked_ns(&model.tasks[*at]);
    let mut tasks: Vec<(u64, usize)> = tasks.iter().map(|at| (blocked(at), *at)).collect();
    tasks.sort_by_key(|&(ns, at)| (std::cmp::Reverse(ns), at));
    tasks.truncate(TASKS);
    let mut longest: Vec<usize> = tasks.into_iter().map(|(_, at)| at).collect();
    longest.sort_unstable();
    all_of(&longest).collect()
}

/// How long a task was blocked: as its stretches were added up where nothing of them is lost,
/// open, or doubtful.
fn blocked_ns(task: &Task) -> u64 {
    if let Some(sums) = task.all_sums().filter(|_| task.open.is_none()) {
        return sums.blocked_ns;
    }
    let mut ns = 0;
    let blocked = |it: Segment| {
        if it.state == State::Blocked {
            ns += it.end_ns - it.start_ns;
        }
    };
    task.segments().each(|_| {}, blocked);
    ns
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::analysis::changes::tests::{model, some_tasks};

    proptest! {
        #[test]
        fn sums_say_what_segments_say(tasks in some_tasks()) {
            for task in &model(&tasks).tasks {
                let segments = task.segments().filter(|it| it.state == State::Blocked);
                let expected: u64 = segments.map(|it| it.end_ns - it.start_ns).sum();
                prop_assert_eq!(blocked_ns(task), expected);
            }
        }
    }
}
