//! Overlaps against a naive count, and verdicts on time lines whose story is known.

use proptest::prelude::*;

use super::*;
use crate::random::SplitMix;
use crate::{
    model::{Builder, State},
    trace::Arch,
    trace::{Event, Stretch, Timeout, Waker, Why},
};

/// The states of every nanosecond.
fn ticks(spans: &[Span], length: u64) -> Vec<bool> {
    let holds = |at| {
        spans
            .iter()
            .any(|span| (span.start..span.end).contains(&at))
    };
    (0..length).map(holds).collect()
}

/// From gap and length of each.
fn spans(parts: &[(u64, u64)]) -> Vec<Span> {
    let mut at = 0;
    let mut spans = Vec::new();
    for &(gap, length) in parts {
        let start = at + gap;
        at = start + length;
        spans.push(Span { start, end: at });
    }
    spans
}

fn some_spans() -> impl Strategy<Value = Vec<Span>> {
    proptest::collection::vec((1_u64..5, 1_u64..6), 0..12).prop_map(|parts| spans(&parts))
}

const LENGTH: u64 = 140;

proptest! {
    #[test]
    fn overlap_and_common_time_are_what_a_count_says(
        a in some_spans(), b in some_spans(), unknown in some_spans(), windows in some_spans(),
    ) {
        let line = |blocked: &[Span], unknown: &[Span]| Line {
            life: Span { start: 3, end: 120 },
            blocked: without(&within(blocked, &[Span { start: 0, end: LENGTH }]), unknown),
            unknown: unknown.to_vec(),
        };
        let (a, b) = (line(&a, &unknown), line(&b, &[]));
        let effort = Effort { shifts: 10, words: 4 };
        let found = pair((1, &a), (2, &b), &windows, effort);
        let [seen, hidden] = [&windows, &unknown].map(|spans| ticks(spans, LENGTH));
        let [x, y] = [&a, &b].map(|line| ticks(&line.blocked, LENGTH));
        let known = |at: &usize| (3..120).contains(at) && seen[*at] && !hidden[*at];
        let count = |holds: &dyn Fn(usize) -> bool| {
            (0..LENGTH as usize).filter(known).filter(|&at| holds(at)).count() as u64
        };
        let w = count(&|_| true);
        match found {
            None => prop_assert_eq!(w, 0),
            Some(pair) => {
                prop_assert_eq!(pair.common_ns, w);
                prop_assert_eq!(pair.overlap_ns, count(&|at| x[at] && y[at]));
                let product = count(&|at| x[at]) * count(&|at| y[at]);
                prop_assert_eq!(pair.expected_ns, (product as f64 / w as f64).round() as u64);
                let left_out = (3..120).filter(|&at| seen[at] && hidden[at]).count() as u64;
                prop_assert_eq!(pair.unknown_ns, left_out);
            }
        }
    }
}

/// A task whose stretches are this far apart, blocked and then runnable for so
/// long; before some a record is lost.
fn task(parts: &[(u64, u64, u64, bool)]) -> Model {
    let mut builder = Builder::new(0, Arch::X86_64);
    let (mut at, mut seq) = (2, 0);
    for &(ran, blocked, runnable, lost) in parts {
        seq += u32::from(lost);
        let (out_ns, wake_ns) = (at + ran, at + ran + blocked);
        at = wake_ns + runnable;
        builder.push(Event::Stretch(Stretch {
            serial: 1,
            seq,
            out_ns,
            wake_ns,
            in_ns: at,
            why: Why::Interruptible,
            early_wake: false,
            no_wake: false,
            inferred: false,
            compat: false,
            syscall: 0,
            cpu_out: 0,
            cpu_in: 0,
            arg0: 0,
            arg1: 0,
            waker: Waker::None,
            object: 0,
            timeout: Timeout::None,
        }));
        seq += 1;
    }
    builder.build(at + 3)
}

proptest! {
    /// A look through windows shows what is there.
    #[test]
    fn windows_show_the_same_time_line(
        parts in proptest::collection::vec((0_u64..4, 0_u64..5, 0_u64..3, any::<bool>()), 1..12),
        windows in some_spans(),
    ) {
        let model = task(&parts);
        let task = &model.tasks[0];
        let seen = ticks(&windows, LENGTH);
        let through = Line::new(task, &windows);
        for (state, found) in [(State::Blocked, through.blocked), (State::Unknown, through.unknown)] {
            let of_state = task.segments().filter(|segment| segment.state == state);
            let all: Vec<Span> = of_state
                .map(|segment| Span { start: segment.start_ns, end: segment.end_ns })
                .collect();
            let expected: Vec<bool> = ticks(&all, LENGTH)
                .into_iter()
                .zip(&seen)
                .map(|(holds, seen)| holds && *seen)
                .collect();
            prop_assert_eq!(ticks(&found, LENGTH), expected);
        }
    }
}

const MS: u64 = 1_000_000;
const RUN: u64 = 10_000 * MS;

fn line_of(blocked: Vec<Span>) -> Line {
    Line {
        life: Span { start: 0, end: RUN },
        blocked,
        unknown: Vec::new(),
    }
}

/// Sleeps and works by turns, each as long as `sleep` and `work` say but for a
/// tenth, from a random phase on.
fn sleeper(random: &mut SplitMix, sleep: u64, work: u64) -> Vec<Span> {
    let mut about = |ns: u64| ns - ns / 20 + random.below(ns / 10 + 1);
    let mut at = about(sleep + work) % (sleep + work);
    let mut blocked = Vec::new();
    loop {
        let start = at + about(work);
        let end = start + about(sleep);
        if end >= RUN {
            return blocked;
        }
        blocked.push(Span { start, end });
        at = end;
    }
}

/// All pairs of these, judged.
fn judged(lines: &[Line]) -> Vec<Pair> {
    let all = [Span { start: 0, end: RUN }];
    let numbers: Vec<u32> = (0..lines.len() as u32).collect();
    let effort = Effort::new(lines.len() * (lines.len() - 1) / 2);
    let mut pairs = Vec::new();
    for (i, a) in lines.iter().enumerate() {
        for (j, b) in lines.iter().enumerate().skip(i + 1) {
            pairs.extend(pair((numbers[i], a), (numbers[j], b), &all, effort));
        }
    }
    judge(&mut pairs);
    pairs
}

/// Over 200 runs the share of wrong verdicts stays near the nominal 5 %.
#[test]
fn independent_sleepers_are_chance() {
    let mut random = SplitMix(2012);
    let (mut small, mut runs_with_a_find, mut lifts) = (0, 0, Vec::new());
    let mut pairs_seen = 0;
    for _ in 0..200 {
        // Periods without a common measure, and different shares of sleep.
        let periods = [17, 23, 41, 59].map(|ms| ms * MS + random.below(5 * MS));
        let lines = periods.map(|period| {
            let sleep = period * (3 + random.below(5)) / 10;
            line_of(sleeper(&mut random, sleep, period - sleep))
        });
        let pairs = judged(&lines);
        assert!(pairs.iter().all(|p| p.test == Some(PairTest::Overlap)));
        pairs_seen += pairs.len();
        small += pairs
            .iter()
            .filter(|p| p.p.is_some_and(|p| p <= 0.05))
            .count();
        runs_with_a_find += usize::from(pairs.iter().any(|p| p.verdict != PairVerdict::Chance));
        lifts.extend(pairs.iter().filter_map(|pair| pair.lift));
    }
    // 1,200 pairs, 60 by chance; 200 runs, 10 by chance. Three standard deviations.
    assert_eq!(pairs_seen, 1200);
    assert!(small <= 60 + 23, "{small} of 1,200 pairs have p ≤ 0.05");
    assert!(small >= 60 - 40, "p-values are too large: {small} of 1,200");
    assert!(runs_with_a_find <= 10 + 9, "{runs_with_a_find} of 200 runs");
    let mean = lifts.iter().sum::<f64>() / lifts.len() as f64;
    assert!((0.98..1.02).contains(&mean), "{mean}");
}

#[test]
fn those_who_wait_for_the_same_thing_block_together() {
    let mut random = SplitMix(1);
    let shared = sleeper(&mut random, 6 * MS, 20 * MS);
    let late = |by: u64| {
        let late = |span: &Span| Span {
            start: span.start + by,
            end: span.end,
        };
        line_of(shared.iter().map(late).collect())
    };
    let other = line_of(sleeper(&mut random, 5 * MS, 10 * MS));
    let pairs = judged(&[late(0), late(MS), other]);
    let verdicts: Vec<_> = pairs.iter().map(|pair| pair.verdict).collect();
    assert_eq!(
        verdicts,
        [
            PairVerdict::Together,
            PairVerdict::Chance,
            PairVerdict::Chance
        ]
    );
    assert!(pairs[0].lift > Some(3.0));
}

/// One sleeps while the other works, 100,000 times a second: far less than a sample.
#[test]
fn ping_pong_blocks_apart() {
    let mut random = SplitMix(2);
    let (mut a, mut b) = (Vec::new(), Vec::new());
    let mut at = 0;
    while at < RUN / 10 {
        let turn = at + 4_000 + random.below(2_000);
        let next = turn + 4_000 + random.below(2_000);
        a.push(Span {
            start: at,
            end: turn,
        });
        b.push(Span {
            start: turn,
            end: next,
        });
        at = next;
    }
    let lines = [a, b].map(|blocked| Line {
        life: Span { start: 0, end: at },
        ..line_of(blocked)
    });
    let pairs = judged(&lines);
    assert_eq!(pairs[0].verdict, PairVerdict::Apart);
    assert_eq!((pairs[0].overlap_ns, pairs[0].lift), (0, Some(0.0)));
}

#[test]
fn of_tasks_that_nearly_always_sleep_the_beginnings_are_compared() {
    let mut random = SplitMix(3);
    let ticks = sleeper(&mut random, 99 * MS, MS / 2);
    let others = sleeper(&mut random, 97 * MS, MS / 2);
    let late = |span: &Span| Span {
        start: span.start + 20_000,
        end: span.end,
    };
    let together = ticks.iter().map(late).collect();
    let pairs = judged(&[ticks, together, others].map(line_of));
    assert!(pairs.iter().all(|pair| pair.test == Some(PairTest::Onset)));
    let verdicts: Vec<_> = pairs.iter().map(|pair| pair.verdict).collect();
    assert_eq!(
        verdicts,
        [
            PairVerdict::StartTogether,
            PairVerdict::Uninformative,
            PairVerdict::Uninformative
        ]
    );
}

#[test]
fn where_there_is_nothing_to_compare_it_is_said() {
    let once = |start, end| {
        line_of(vec![Span {
            start: start * MS,
            end: end * MS,
        }])
    };
    let always = || once(0, 10_000);
    let verdict = |a, b| {
        let pair = judged(&[a, b]).remove(0);
        assert_eq!((pair.test, pair.p), (None, None));
        pair.verdict
    };
    assert_eq!(
        verdict(always(), once(2_000, 5_000)),
        PairVerdict::Uninformative
    );
    assert_eq!(
        verdict(line_of(vec![]), once(2_000, 5_000)),
        PairVerdict::Uninformative
    );
    assert_eq!(
        verdict(once(1_000, 4_000), once(2_000, 5_000)),
        PairVerdict::TooFew
    );
    let pair = &judged(&[line_of(vec![]), always()])[0];
    assert_eq!((pair.expected_ns, pair.lift), (0, None));
}

#[test]
fn the_same_trace_gives_the_same_figures() {
    let lines = || {
        let mut random = SplitMix(4);
        [(); 3].map(|()| line_of(sleeper(&mut random, 6 * MS, 7 * MS)))
    };
    assert_eq!(judged(&lines()), judged(&lines()));
}

#[test]
fn p_values_are_adjusted_for_their_number() {
    // Example of Benjamini and Hochberg's paper: the first four of fifteen.
    let p = [
        0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262,
        0.5719, 0.6528, 0.7590, 1.0,
    ];
    let found = adjusted(&p).iter().filter(|q| **q <= 0.05).count();
    assert_eq!(found, 4);
    assert_eq!(adjusted(&[0.04, 0.01]), [0.04, 0.02]);
    assert!(adjusted(&[]).is_empty());
}
