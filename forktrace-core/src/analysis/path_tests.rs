//! The critical path by way of those who ended others. Lines are drawn as in
//! [`super::why_tests`].

use super::{why_tests::*, *};
use crate::{
    model::Task,
    report::PathState,
    trace::{Signal, Waker},
};

const EXIT_GROUP: i16 = 231;
const KILL: u8 = 9;
const TERM: u8 = 15;

/// Role, state and length of each part.
fn path(tasks: Vec<Task>, signals: &[(u32, u8, u64)]) -> Vec<(String, PathState, u64)> {
    let mut model = model(tasks);
    let sent = signals.iter().map(|(serial, signal, at_ns)| Signal {
        serial: *serial,
        signal: *signal,
        group: true,
        sender: by(1),
        at_ns: *at_ns,
    });
    model.signals.extend(sent);
    parts(&model)
}

fn parts(model: &Model) -> Vec<(String, PathState, u64)> {
    let parts = analyse(&info(), model).path.parts;
    let mut parts: Vec<_> = parts.into_iter().map(|p| (p.role, p.state, p.ns)).collect();
    parts.sort_by(|a, b| (&a.0, a.1 as u8).cmp(&(&b.0, b.1 as u8)));
    parts
}

fn part(role: &str, state: PathState, ns: u64) -> (String, PathState, u64) {
    (role.to_owned(), state, ns)
}

/// The task ended in this call (-1: in none), with this exit code.
fn ended(task: Task, ended_in: i16, exit_code: u32) -> Task {
    let mut task = killed(task);
    let record = task.record.as_mut().unwrap();
    record.ended_in = Some(ended_in);
    record.exit_code = Some(exit_code);
    task
}

/// Whoever spins until it is killed lasts as long as its killer lets it.
#[test]
fn who_was_killed_waited_for_the_killer() {
    let tasks = || {
        vec![
            task(1, 1, "rbbbbbbrbr$", &[(SLEEP, 0, TIMER), (WAIT, 0, by(2))]),
            // It tells its parent that it ends, and then does.
            ended(task(2, 2, "rrrrrrrrrr$", &[]), -1, KILL.into()),
        ]
    };
    let with = path(tasks(), &[(2, KILL, 8)]);
    let expected = [
        part("t1", PathState::Running, 3),
        part("t1", PathState::Blocked, 6),
        part("t2", PathState::Running, 1),
    ];
    assert_eq!(with, expected);
    // Nobody knows who sent the signal that killed it: it ran.
    for other in [&[][..], &[(2, TERM, 8)], &[(1, KILL, 8)]] {
        let without = path(tasks(), other);
        assert!(
            without.contains(&part("t2", PathState::Running, 9)),
            "{without:?}"
        );
    }
}

/// The same of a thread that spins until another one leaves their process.
#[test]
fn who_ends_with_its_process_waited_for_the_thread_that_left() {
    let tasks = |left_by: i16| {
        vec![
            ended(task(1, 1, "rbbbbbbr$", &[(SLEEP, 0, TIMER)]), left_by, 0),
            ended(task(2, 1, "rrrrrrrrr$", &[]), -1, 0),
        ]
    };
    let expected = [
        part("t1", PathState::Running, 2),
        part("t1", PathState::Blocked, 6),
        part("t1: t2", PathState::Running, 1),
    ];
    assert_eq!(path(tasks(EXIT_GROUP), &[]), expected);
    // One that left alone.
    assert_eq!(
        path(tasks(60), &[]),
        [part("t1: t2", PathState::Running, 9)]
    );
}

/// A server that is told to end ends for that, not for the client that never came.
#[test]
fn a_wait_that_a_signal_ended_leads_to_the_sender() {
    let tasks = |line: &str, blocks: &[In]| {
        vec![
            task(
                1,
                1,
                "rbbbbbbrbbbbbbr$",
                &[(SLEEP, 0, TIMER), (WAIT, 0, by(2))],
            ),
            ended(task(2, 2, line, blocks), EXIT_GROUP, 0),
        ]
    };
    let told = tasks("rbbbbbbbrrrrrr$", &[(POLL, FILE, by(1))]);
    let expected = [
        part("t1", PathState::Running, 3),
        part("t1", PathState::Blocked, 6),
        part("t2", PathState::Running, 6),
    ];
    assert_eq!(path(told, &[(2, TERM, 8)]), expected);
    // It goes on to wait for the same: the signal gave nothing.
    let again = [(POLL, FILE, by(1)), (POLL, FILE, NETWORK)];
    let again = path(tasks("rbbbbbbbrbbbrr$", &again), &[(2, TERM, 8)]);
    assert!(
        again.contains(&part("t2", PathState::Blocked, 10)),
        "{again:?}"
    );
}

/// The path adds up whatever the killer did afterwards.
#[test]
fn two_who_kill_each_other_are_gone_through_once() {
    let tasks = vec![
        ended(task(1, 1, "rrrrrrrrr$", &[]), -1, KILL.into()),
        ended(task(2, 2, "rrrrrrrrr$", &[]), -1, KILL.into()),
    ];
    let mut model = model(tasks);
    let sent = [(1, 2, 8), (2, 1, 8), (1, 2, 9), (2, 1, 9)];
    model
        .signals
        .extend(sent.map(|(serial, sender, at_ns)| Signal {
            serial,
            signal: KILL,
            group: true,
            sender: Waker::Task {
                serial: sender,
                softirq: false,
            },
            at_ns,
        }));
    let report = analyse(&info(), &model);
    let sum: u64 = report.path.parts.iter().map(|part| part.ns).sum();
    assert_eq!((report.path.ns, sum), (9, 9));
}

/// A thread that computes lets the interpreter's lock go since it is asked to: what the asking
/// one did before is what took the time.
#[test]
fn who_asked_for_the_interpreters_lock_goes_on_before_it_asked() {
    let with = |variable: &str| {
        let gil = model(Vec::new()).targets.len() as u32;
        let mut model = model(vec![
            task(
                1,
                1,
                "rbbbbbrbbrr$",
                &[(SLEEP, 0, TIMER), (FUTEX, gil, by(2))],
            ),
            task(2, 1, "rrrrrrrrrr$", &[]),
        ]);
        name_futex(&mut model, variable);
        parts(&model)
    };
    let expected = [
        part("t1", PathState::Running, 4),
        part("t1", PathState::Blocked, 5),
        part("t1: t2", PathState::Running, 2),
    ];
    assert_eq!(with("_PyRuntime+0x1b0"), expected);
    let other = with("queue_lock");
    assert!(
        other.contains(&part("t1: t2", PathState::Running, 9)),
        "{other:?}"
    );
}
