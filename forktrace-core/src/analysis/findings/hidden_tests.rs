//! What the run waited for behind whatever else came back meanwhile, and waits that nobody ended.
//! A character is 10 ms.

use super::{tests::*, *};
use crate::{
    analysis::{
        hang_tests::OUTSIDE,
        why_tests::{POLL, WAIT, by, killed, task},
    },
    model::{Model, Target, Task},
    trace::{AttachedTo, Finish, ProviderKind, Providers, Waker},
    trace_file::TraceInfo,
};

const FCNTL: i16 = 72;
const SIGSUSPEND: i16 = 130;
const RECV: i16 = 45;
const WRITE: i16 = 1;

fn ended_by_itself(_: &mut Model, info: &mut TraceInfo) {
    info.finish = Some(Finish {
        exit_code: Some(0),
        ..Finish::default()
    });
}

/// The first task waits for a child, beside one that sleeps again and again and wakes another one.
fn with_a_heartbeat() -> Vec<Task> {
    let beats = format!("r{}r$", "bbbbbbbbbr".repeat(9));
    let main = format!("r{}rr$", "b".repeat(91));
    let child = format!("r{}rr$", "b".repeat(89));
    let pong = task(3, 3, &beats, &[(READ, FILE, by(2)); 9]);
    let mut tasks = vec![
        slow("main", task(1, 1, &main, &[(WAIT, 0, by(4))])),
        slow("ping", task(2, 2, &beats, &[(SLEEP, 0, TIMER); 9])),
        slow("pong", pong),
        slow("job", task(4, 4, &child, &[(SLEEP, 0, TIMER)])),
    ];
    for task in &mut tasks[1..] {
        (task.ppid, task.parent) = (101, 1);
    }
    tasks
}

#[test]
fn a_heartbeat_and_whom_it_wakes_are_not_what_the_run_waited_for() {
    let all = findings_with(with_a_heartbeat(), ended_by_itself);
    assert!(
        all[0].sentence.contains("The run waited")
            && all[0].sentence.contains("for `job` (104), which slept"),
        "{all:#?}"
    );
    assert_eq!(all[0].tasks, [4]);
    let beat = |f: &&Finding| f.kind == FindingKind::Stall && f.tasks.contains(&2);
    assert_eq!(all.iter().find(beat), None);
}

/// Two that wait in a call until they are killed, with a parent and one that sleeps.
fn two_killed(wait: (i16, u32, Waker), more: (i16, u32, Waker)) -> Vec<Task> {
    let line = format!("r{}$", "b".repeat(90));
    let waits = |serial| killed(task(serial, serial, &line, &[wait]));
    let mut tasks = vec![
        slow("main", killed(task(1, 1, &line, &[(WAIT, 0, OUTSIDE)]))),
        slow("a", waits(2)),
        slow("b", waits(3)),
        slow("c", killed(task(4, 4, &line, &[more]))),
    ];
    for task in &mut tasks[1..] {
        (task.ppid, task.parent) = (101, 1);
    }
    tasks
}

#[test]
fn who_waits_for_a_file_lock_until_a_signal_comes_may_be_deadlocked() {
    let tasks = two_killed((FCNTL, FILE, OUTSIDE), (SLEEP, 0, OUTSIDE));
    let first = findings_with(tasks, |_, _| ()).remove(0);
    assert_eq!(
        (&first.tasks[..], first.confidence),
        (&[2, 3][..], Confidence::Possible)
    );
    assert!(
        first
            .sentence
            .starts_with("`a` (102) and `b` (103) waited in fcntl"),
        "{}",
        first.sentence
    );
    // Somebody outside can have it.
    let tasks = two_killed((FCNTL, FILE, OUTSIDE), (POLL, 0, OUTSIDE));
    let all = findings_with(tasks, |_, _| ());
    assert!(
        all.iter().all(|f| !f.sentence.contains("may be")),
        "{all:#?}"
    );
}

#[test]
fn threads_that_are_parked_while_the_first_one_goes_on_are_idle() {
    let line = format!("r{}$", "b".repeat(90));
    let thread = |serial, wait| slow("T", killed(task(serial, 1, &line, &[wait])));
    let with = |main| {
        let own = |at: u32| (FUTEX, 6 + at, OUTSIDE);
        let tasks = vec![thread(1, main), thread(2, own(0)), thread(3, own(1))];
        let all = findings_with(tasks, |_, _| ());
        all.iter().any(|f| f.sentence.contains("may be a deadlock"))
    };
    assert!(!with((SLEEP, 0, OUTSIDE)));
    assert!(with((WAIT, 0, OUTSIDE)));
}

#[test]
fn who_waits_for_signals_holds_up_nobody_whom_it_then_ends() {
    let main = task(1, 1, "rbbbbbbbbbbrr$", &[(SIGSUSPEND, 0, OUTSIDE)]);
    let parked = task(2, 1, "rbbbbbbbbbbbr$", &[(FUTEX, 6, by(1))]);
    let all = findings_with(vec![slow("s", main), slow("t", parked)], |_, _| ());
    assert_eq!(all[0].kind, FindingKind::Idle, "{all:#?}");
}

/// A client waits for a server, whose threads are killed one after the other; the last of them
/// closes what it had.
#[test]
fn the_last_thread_of_a_server_that_is_killed_is_not_what_its_clients_waited_for() {
    let client = task(
        1,
        1,
        &format!("r{}r$", "b".repeat(93)),
        &[(RECV, FILE, by(3))],
    );
    let server = killed(task(
        2,
        2,
        &format!("r{}$", "b".repeat(92)),
        &[(POLL, 0, OUTSIDE)],
    ));
    // Two of them: of one, it would be known that only the first thread could have ended its wait.
    let helper = |serial| {
        let line = format!("r{}$", "b".repeat(92));
        slow("bg", killed(task(serial, 2, &line, &[(FUTEX, 6, OUTSIDE)])))
    };
    let tasks = vec![
        slow("client", client),
        slow("server", server),
        helper(3),
        helper(4),
    ];
    let all = findings_with(tasks, |model, _| {
        if let Some(Target::Futex(crate::model::FutexKey::Private { process, .. })) =
            model.targets.get_mut(6)
        {
            *process = 2;
        }
    });
    assert_eq!(all[0].tasks, [2], "{all:#?}");
}

#[test]
fn what_nobody_ended_in_all_of_a_recording_is_told_where_others_have_nothing_to_do() {
    let line = format!("{}>", "b".repeat(90));
    let wait = |serial, name: &str, wait| slow(name, task(serial, serial, &line, &[wait]));
    let tasks = vec![
        wait(1, "server", (POLL, 0, Waker::None)),
        wait(2, "writer", (WRITE, FILE, Waker::None)),
    ];
    let all = findings_with(tasks, |_, info| {
        info.header.attached = Some(AttachedTo {
            targets: vec!["server".to_owned()],
        });
    });
    assert!(
        all[0]
            .sentence
            .starts_with("`writer` (102) waited in write to"),
        "{all:#?}"
    );
    assert!(
        all[0].sentence.ends_with("and nobody ended that."),
        "{all:#?}"
    );
}

/// A writer of a lock that readers have.
#[test]
fn a_writer_that_never_gets_a_lock_is_starved_or_deadlocked() {
    let with = |ends: bool| {
        let line = format!("r{}{}", "b".repeat(80), if ends { "r$" } else { "$" });
        let writer = task(1, 1, &line, &[(FUTEX, 6, by(2))]);
        let writer = if ends { writer } else { killed(writer) };
        let reader = task(
            2,
            1,
            &format!("{}r$", "rrb".repeat(28)),
            &[(SLEEP, 0, TIMER); 28],
        );
        let tasks = vec![slow("writer", writer), slow("reader", reader)];
        let all = findings_with(tasks, |model, _| {
            model.providers = vec![Providers {
                serial: 1,
                seq: 1,
                at_ns: 400_000_000,
                kind: ProviderKind::Readers,
                tasks: vec![2],
                outside: false,
                foreign: None,
            }];
        });
        let lock = all.into_iter().find(|f| f.kind == FindingKind::Lock);
        lock.expect("a lock").sentence
    };
    assert!(with(true).ends_with("one after the other or together."));
    assert!(
        with(false).ends_with("which is a deadlock."),
        "{}",
        with(false)
    );
}

#[test]
fn servers_that_ask_each_other_are_no_pool() {
    let tasks = |waker: Waker| {
        let (first, second) = ((ACCEPT, SOCKET, NETWORK), (SLEEP, 0, TIMER));
        let asks = (RECV, FILE, waker);
        let mut tasks = vec![
            slow(
                "serve",
                task(1, 1, "rbbrbbbbbbbbrbr$", &[first, asks, first]),
            ),
            slow(
                "serve",
                task(2, 2, "rbbrbbbbbbbrrbr$", &[first, second, first]),
            ),
        ];
        for task in &mut tasks {
            task.parent = 9;
        }
        tasks
    };
    assert_eq!(found(tasks(NETWORK), FindingKind::PoolExhausted).len(), 1);
    assert_eq!(found(tasks(by(2)), FindingKind::PoolExhausted), []);
}

#[test]
fn a_run_that_ended_by_itself_is_not_said_to_be_well_for_it_was_idle() {
    let tasks = || {
        vec![
            slow("a", task(1, 1, "rbbbbbbbbr$", &[(SLEEP, 0, TIMER)])),
            slow("b", task(2, 2, "rbbbbbbbr$", &[(SLEEP, 0, TIMER)])),
        ]
    };
    let idle = |all: Vec<Finding>| {
        let idle = all.into_iter().find(|f| f.kind == FindingKind::Idle);
        idle.expect("idle").sentence
    };
    let said = idle(findings_with(tasks(), ended_by_itself));
    assert!(said.starts_with("For "), "{said}");
    let said = idle(findings_with(tasks(), |_, _| ()));
    assert!(said.starts_with("Nothing is wrong: for "), "{said}");
}
