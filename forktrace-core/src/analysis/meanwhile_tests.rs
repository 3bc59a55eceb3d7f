//! What others did, against an oracle that looks at each nanosecond.

use proptest::prelude::*;

use super::{intervals::Intervals, meanwhile};
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
}
