//! Pictures and witnesses of drawn lives: see `why_tests` for the drawings.

use proptest::prelude::*;

use super::{
    longest_run::Runs,
    timeline::{ROWS, SLICES, timeline},
    why_tests::{In, model, task},
};
use crate::{
    model::{State, Task},
    report::{Interval, Slice, Timeline},
    trace::Waker,
};

const NOTHING: In = (-1, 0, Waker::None);

fn draw(lines: &[&str], moment: (u64, u64), context: f64) -> Option<Timeline> {
    let tasks: Vec<Task> = lines
        .iter()
        .zip(1..)
        .map(|(line, serial)| task(serial, 1, line, &[NOTHING; 9]))
        .collect();
    let serials: Vec<u32> = tasks.iter().map(|task| task.serial).collect();
    let moment = Interval {
        start_ns: moment.0,
        end_ns: moment.1,
    };
    timeline(&model(tasks), &serials, moment, context)
}

fn letters(timeline: &Timeline) -> Vec<String> {
    let row = |slices: &[Slice]| slices.iter().map(|slice| slice.letter()).collect();
    timeline.rows.iter().map(|row_| row(&row_.slices)).collect()
}

/// So many times the same.
fn times(parts: &[(char, usize)]) -> String {
    parts
        .iter()
        .map(|&(letter, n)| letter.to_string().repeat(n))
        .collect()
}

/// A life of 720 ns, ten to a slice.
fn long(parts: &[(char, usize)]) -> String {
    times(parts) + "$"
}

#[test]
fn a_slice_of_one_nanosecond_shows_the_state() {
    let first = long(&[('r', 10), ('b', 50), ('w', 5), ('r', 7)]);
    let late = long(&[(' ', 12), ('w', 3), ('r', 30), ('w', 4), ('r', 3)]);
    let seen = draw(&[&first, &late], (0, 72), 1.0).expect("a picture");
    assert_eq!((seen.window.start_ns, seen.window.end_ns), (0, 72));
    let late = times(&[
        (' ', 12),
        ('w', 3),
        ('r', 30),
        ('w', 4),
        ('r', 3),
        (' ', 20),
    ]);
    assert_eq!(letters(&seen), [first.trim_end_matches('$'), &late]);
}

#[test]
fn a_slice_shows_the_state_with_the_most_time() {
    // In slices of ten: 10 r; 4 r 6 b; 10 b; 5 b 5 r, of which the first in the list
    // wins; then w.
    let life = long(&[('r', 14), ('b', 21), ('r', 5), ('w', 9), ('r', 671)]);
    let seen = draw(&[&life], (0, 720), 1.0).expect("a picture");
    assert_eq!(
        letters(&seen),
        [times(&[('r', 1), ('b', 2), ('r', 1), ('w', 1), ('r', 67)])]
    );
}

#[test]
fn a_window_is_as_wide_as_asked_and_as_the_trace_goes() {
    let life = long(&[('r', 100), ('b', 100), ('r', 520)]);
    let window = |moment, context| {
        let seen = draw(&[&life], moment, context).expect("a picture");
        (seen.window.start_ns, seen.window.end_ns)
    };
    assert_eq!(window((300, 400), 3.0), (200, 500));
    assert_eq!(window((0, 100), 3.0), (0, 200));
    assert_eq!(window((600, 700), 3.0), (500, 720));
    assert_eq!(
        window((600, 610), 1.0),
        (600, 672),
        "no slice is shorter than a nanosecond"
    );
    let seen = draw(&[&life], (300, 400), 3.0).expect("a picture");
    assert_eq!(seen.moment_slices, [24, 47], "the middle third");
    // What is outside the trace is no moment.
    assert_eq!(draw(&[&life], (800, 900), 2.0), None);
    assert_eq!(draw(&[&life], (300, 300), 2.0), None);
    assert_eq!(draw(&[], (0, 100), 2.0), None);
}

#[test]
fn tasks_without_room_are_counted() {
    let life = long(&[('r', 72)]);
    let lives = vec![life.as_str(); ROWS + 3];
    let seen = draw(&lives, (0, 72), 1.0).expect("a picture");
    assert_eq!((seen.rows.len(), seen.more_tasks), (ROWS, 3));
    assert_eq!(seen.rows[0].tid, 101);
}

#[test]
fn a_witness_says_on_which_cpu_it_ran() {
    // The drawn tasks come back to CPU 0 and 1 in turn.
    let sleeper = task(1, 1, "rrbbbbbbbbbbbbbbbbbrr$", &[NOTHING]);
    for (line, cpu, run) in [
        // New on 0, back from its block on 1.
        ("rrrrbbbrrrrrrrrrbbbrr$", 1, (7, 16)),
        ("rrrrbbbrrbrrrrrrrbbrr$", 0, (10, 17)),
        // Its first run, and its last one.
        ("rrrrrrrrrrbbbbbbbbbrr$", 0, (2, 10)),
        ("rrrrbbbbbbbrrrrrrrrrr$", 1, (11, 19)),
    ] {
        let other = task(2, 1, line, &[NOTHING; 2]);
        let found = Runs::new(vec![&sleeper, &other]);
        let found = found.longest(1, 2, 19).expect("a witness");
        assert_eq!((found.tid, found.cpu), (102, Some(cpu)), "{line}");
        assert_eq!((found.start_ns, found.end_ns), run, "{line}");
    }
}

proptest! {
    /// Against a look at each nanosecond.
    #[test]
    fn a_slice_is_as_an_oracle_sees_it(
        parts in prop::collection::vec((0usize..3, 1usize..40), 1..12),
        start in 0usize..60, from in 0u64..200, length in 1u64..400,
    ) {
        let mut life = times(&[(' ', start), ('w', 1)]);
        let mut before = 'w';
        for (state, n) in parts {
            // A preempted or woken task waits for a CPU, then runs.
            let next = ['r', 'b', 'w'][state];
            if next == before || (before == 'w' && next == 'b') {
                continue;
            }
            life.push_str(&times(&[(next, n)]));
            before = next;
        }
        life.push_str("rr$");
        let Some(seen) = draw(&[&life], (from, from + length), 1.0) else {
            return Ok(());
        };
        let drawn = task(1, 1, &life, &[NOTHING; 12]);
        let at = |ns: u64| drawn.segments().find(|s| s.start_ns <= ns && ns < s.end_ns);
        let ns = seen.window.end_ns - seen.window.start_ns;
        for (slice, shown) in seen.rows[0].slices.iter().enumerate() {
            let border = |slice: u64| seen.window.start_ns + ns * slice / SLICES;
            let states: Vec<Option<State>> = (border(slice as u64)..border(slice as u64 + 1))
                .map(|ns| at(ns).map(|segment| segment.state))
                .collect();
            let count = |state| states.iter().filter(|&&s| s == state).count();
            let of_shown = count(match shown {
                Slice::Running => Some(State::Running),
                Slice::Runnable => Some(State::Runnable),
                Slice::Blocked => Some(State::Blocked),
                Slice::NotAlive => None,
                other => panic!("{other:?} in {life}"),
            });
            for state in states.iter() {
                prop_assert!(count(*state) <= of_shown, "{life}: {slice} is {states:?}");
            }
        }
    }
}
