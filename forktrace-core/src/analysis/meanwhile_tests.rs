//! What others did, against an oracle that looks at each nanosecond.

use proptest::prelude::*;

use super::{
    blocks::Block,
    changes::tests::{model, some_tasks},
    intervals::Intervals,
    meanwhile::{self, Others, WaitKey},
    sum_by_key::SumByKey,
};
use crate::model::{Segment, State};

const STATES: [State; 5] = [
    State::Running,
    State::Runnable,
    State::Blocked,
    State::Stopped,
    State::Unknown,
];

/// A task's life: when it begins, and its segments' states and lengths.
fn life() -> impl Strategy<Value = Vec<Segment>> {
    let segments = prop::collection::vec((0usize..5, 1u64..8), 1..8);
    (0u64..20, segments).prop_map(|(start, segments)| {
        let mut at = start;
        segments
            .into_iter()
            .map(|(state, length)| {
                let start_ns = at;
                at += length;
                Segment {
                    start_ns,
                    end_ns: at,
                    state: STATES[state],
                    syscall: None,
                }
            })
            .collect()
    })
}

/// The states of the tasks that live in this nanosecond.
fn at(lives: &[Vec<Segment>], ns: u64) -> Vec<State> {
    let holds = |s: &&Segment| s.start_ns <= ns && ns < s.end_ns;
    lives
        .iter()
        .filter_map(|life| life.iter().find(holds).map(|s| s.state))
        .collect()
}

proptest! {
    #[test]
    fn others_are_as_an_oracle_sees_them(
        lives in prop::collection::vec(life(), 0..5), from in 0u64..80, length in 0u64..80,
        near in 0usize..12,
    ) {
        let found = meanwhile::of_tasks(lives.iter().map(|life| life.iter().copied()));
        let count = |holds: &dyn Fn(&[State]) -> bool| {
            (from..from + length).filter(|&ns| holds(&at(&lives, ns))).count() as u64
        };
        let ran = count(&|states| states.contains(&State::Running));
        let stood = count(&|states| {
            states.len() >= 2 && states.iter().all(|state| *state == State::Blocked)
        });
        prop_assert_eq!(found.any_ran.within(from, from + length), ran);
        prop_assert_eq!(found.all_blocked.within(from, from + length), stood);
        // Wherever the search begins.
        let any_ran = found.any_ran.within_near(&mut near.clone(), from, from + length);
        prop_assert_eq!(any_ran, ran);
    }

    #[test]
    fn a_union_counts_nothing_twice(
        spans in prop::collection::vec((0u64..60, 0u64..20), 0..12),
        others in prop::collection::vec((0u64..60, 0u64..20), 0..12),
    ) {
        let ends = |spans: Vec<(u64, u64)>| -> Vec<(u64, u64)> {
            spans.into_iter().map(|(start, length)| (start, start + length)).collect()
        };
        let (spans, others) = (ends(spans), ends(others));
        let covers = |spans: &[(u64, u64)], ns| spans.iter().any(|(s, e)| *s <= ns && ns < *e);
        let (union, other) = (Intervals::union(spans.clone()), Intervals::union(others.clone()));
        let sum = (0..100).filter(|&ns| covers(&spans, ns)).count() as u64;
        let both = (0..100).filter(|&ns| covers(&spans, ns) && covers(&others, ns)).count() as u64;
        prop_assert_eq!(union.sum(), sum);
        prop_assert_eq!(union.overlap(&other), both);
    }

    #[test]
    fn sums_of_waits_are_what_the_intervals_tell(tasks in some_tasks()) {
        let mut model = model(&tasks);
        for task in &mut model.tasks {
            task.process = 1 + task.serial % 2;
        }
        let found = meanwhile::of_waits(&model);
        for (task, found) in model.tasks.iter().zip(found) {
            let of_process = model.tasks.iter().filter(|it| it.process == task.process);
            let all = meanwhile::of_tasks(of_process.clone().map(|it| it.segments()));
            let mut sums: SumByKey<WaitKey, Others> = SumByKey::default();
            for block in task.stretches.iter().filter_map(Block::of).chain(Block::open(task)) {
                let end_ns = block.end_ns(task).min(task.end_ns);
                let sum = sums.of(WaitKey::of(task, block.syscall, block.compat, block.why));
                sum.ran_ns += all.any_ran.within(block.start_ns, end_ns);
                sum.blocked_ns += all.all_blocked.within(block.start_ns, end_ns);
            }
            let by_key = |sums: SumByKey<WaitKey, Others>| {
                let rows = sums.into_rows().into_iter();
                let mut rows: Vec<_> = rows.filter(|(_, it)| *it != Others::default()).collect();
                rows.sort_by_key(|(key, _)| (key.syscall, key.compat, key.interruptible));
                rows
            };
            if of_process.count() > 1 {
                prop_assert_eq!(by_key(found), by_key(sums));
            }
        }
    }
}
