//! Who is idle and who is behind another: each kind of wait that real programs showed, as a
//! small trace. Lines are drawn as in [`super::why_tests`].

use super::{why_tests::*, *};
use crate::{
    model::{FutexKey, Target, Task},
    report::{Episode, Verdict},
    trace::{ProviderKind, Providers, Signal, Timeout, Waker},
};

/// Futexes that nobody shares, of process 1: targets from this on.
const OWN: u32 = 5;
/// Any child.
const ANY_CHILD: u32 = OWN + 4;
/// A set of descriptors that several threads look at, and another one.
const SET: u32 = ANY_CHILD + 1;

fn episodes(tasks: Vec<Task>) -> Vec<Episode> {
    episodes_with(tasks, |_| ())
}

/// The tree's episodes, in the order of time.
fn episodes_with(tasks: Vec<Task>, change: impl Fn(&mut Model)) -> Vec<Episode> {
    let mut model = model(tasks);
    let own = (0..4).map(|at| {
        Target::Futex(FutexKey::Private {
            process: 1,
            address: 64 * at,
        })
    });
    model.targets.extend(own);
    model.targets.push(Target::Child(Some(-1)));
    model.targets.extend([Target::Fd(3), Target::Fd(4)]);
    change(&mut model);
    let mut found = analyse(&info(), &model).episodes;
    found.retain(|e| e.group == 0);
    found.sort_by_key(|e| e.start_ns);
    found
}

fn told(episodes: &[Episode]) -> Vec<(u64, u64, Verdict, u32)> {
    let told = episodes.iter().map(|e| {
        let by = e.ended_by.as_ref().map_or(0, |by| by.task.serial);
        (e.start_ns, e.end_ns, e.verdict, by)
    });
    told.collect()
}

/// A thread of a server sleeps while it has a lock, reads its client's next line, which takes
/// no time, and lets the lock go: MariaDB, with `select sleep(…)` in a transaction.
#[test]
fn a_short_wait_for_input_does_not_undo_a_long_block() {
    let tasks = |then: In| {
        vec![
            task(
                1,
                1,
                "rbbbbbbbbbbbbrbrrrbr$",
                &[(SLEEP, 0, TIMER), then, (FSYNC, FILE, DISK)],
            ),
            task(2, 1, "rbbbbbbbbbbbbbbbrr$", &[(FUTEX, OWN, by(1))]),
        ]
    };
    for input in [READ, POLL] {
        let found = episodes(tasks((input, 0, NETWORK)));
        assert_eq!(told(&found)[0], (1, 13, Verdict::Caused, 1), "{found:#?}");
        assert_eq!(found[0].held, 1);
    }
    // It takes its time: what it reads then is what it waits for.
    let found = episodes(vec![
        task(
            1,
            1,
            "rbbbbrbbbbbbbbrrbr$",
            &[(SLEEP, 0, TIMER), (READ, 0, NETWORK), (FSYNC, FILE, DISK)],
        ),
        task(2, 1, "rbbbbbbbbbbbbbbrr$", &[(FUTEX, OWN, by(1))]),
    ]);
    assert_ne!(found[0].verdict, Verdict::Caused);
    assert_eq!((found[1].verdict, found[1].held), (Verdict::Caused, 1));
    // Nor was a long wait for input before it owed to anybody.
    let found = episodes(vec![
        task(
            1,
            1,
            "rbbbbbbbbbbbbrbrrrbr$",
            &[(READ, 0, NETWORK), (READ, 0, NETWORK), (FSYNC, FILE, DISK)],
        ),
        task(2, 1, "rbbbbbbbbbbbbbbbrr$", &[(FUTEX, OWN, by(1))]),
    ]);
    assert_eq!(found[0].verdict, Verdict::Idle);
}

/// Threads of a pool that are let go by an event loop: asyncio at its end, Go, libuv.
#[test]
fn who_is_parked_is_not_behind_a_thread_that_waits_for_whatever_comes() {
    let tasks = || {
        vec![
            task(
                1,
                1,
                "rbbbbbbbbrrrrbr$",
                &[(POLL, 0, TIMER), (FSYNC, FILE, DISK)],
            ),
            task(2, 1, "rbbbbbbbbbrrrrrr$", &[(FUTEX, OWN, by(1))]),
            // 2 wakes it in turn.
            task(3, 1, "rbbbbbbbbbbbrrrr$", &[(FUTEX, OWN + 1, by(2))]),
        ]
    };
    assert_eq!(told(&episodes(tasks())), [(1, 9, Verdict::Idle, 1)]);
    // It was seen that 1 has the lock.
    let found = episodes_with(tasks(), |model| {
        model.providers.push(Providers {
            serial: 2,
            seq: 1,
            at_ns: 5,
            kind: ProviderKind::Owner,
            tasks: vec![1],
            outside: false,
            foreign: None,
        });
    });
    assert_eq!(told(&found), [(1, 9, Verdict::Caused, 1)]);
    assert_eq!(found[0].held, 2);
    // A thread of another process does not park there.
    let mut other = tasks();
    other[1].process = 2;
    other[1].serial = 2;
    assert_eq!(told(&episodes(other))[0], (1, 9, Verdict::Caused, 1));
    // What 1 does after the event holds them up.
    let found = episodes(vec![
        task(
            1,
            1,
            "rbbbbbrbbbrrbr$",
            &[(POLL, 0, TIMER), (FSYNC, FILE, DISK), (FSYNC, FILE, DISK)],
        ),
        task(2, 1, "rbbbbbbbbbbrrr$", &[(FUTEX, OWN, by(1))]),
    ]);
    let expected = [(1, 6, Verdict::Idle, 1), (7, 10, Verdict::Caused, 1)];
    assert_eq!(told(&found), expected);
}

/// Two threads take turns at one set of descriptors; who does not is parked with a time
/// limit, as Erlang's schedulers are. Others are parked for good until one of them comes.
#[test]
fn threads_that_take_turns_at_one_set_are_idle_where_they_park() {
    let tasks = |set: u32| {
        vec![
            task(
                1,
                1,
                "rbrbbbbbbbrrbr$",
                &[(POLL, SET, TIMER), (FUTEX, OWN, TIMER), (FSYNC, FILE, DISK)],
            ),
            task(2, 1, "rrbbbbbbbbbrrrr$", &[(POLL, set, by(1))]),
            task(3, 1, "rbbbbbbbbbbbrrr$", &[(FUTEX, OWN + 1, by(1))]),
        ]
    };
    let found = episodes(tasks(SET));
    assert_eq!(told(&found), [(3, 10, Verdict::Idle, 1)], "{found:#?}");
    // By itself a wait for a futex with a limit is a sleep, and the others are behind it.
    let found = episodes(tasks(SET + 1));
    assert_eq!(told(&found), [(3, 10, Verdict::Caused, 1)], "{found:#?}");
    // A lock of theirs is none of their places to park.
    let mut contended = tasks(SET);
    contended.push(task(4, 1, "rrrrrrrrrrrrbr$", &[(FUTEX, OWN, by(1))]));
    contended[3].start_ns = 12;
    contended[3].stretches.edit(|offs| {
        for off in &mut offs[..1] {
            (off.out_ns, off.wake_ns, off.in_ns) = (12, 12, 12);
        }
    });
    let found = episodes(contended);
    assert_eq!(told(&found)[0], (3, 10, Verdict::Caused, 1), "{found:#?}");
}

/// Erlang's scheduler comes from epoll by a timer, wakes another one to look for work, and
/// both go back, while a child sleeps.
#[test]
fn a_tick_that_wakes_others_which_find_nothing_to_do_ends_no_stall() {
    let tasks = |again: u32| {
        vec![
            task(
                1,
                1,
                "rbbbbbrrbbbbbb>",
                &[(POLL, SET, TIMER), (POLL, SET, TIMER)],
            ),
            task(
                2,
                1,
                "rbbbbbbrrbbbbb>",
                &[(FUTEX, OWN, by(1)), (FUTEX, again, by(1))],
            ),
            task(3, 2, "rbbbbbbbbbbrr$", &[(SLEEP, 0, TIMER)]),
            task(4, 3, "rbbbbbbbbbbbrr$", &[(READ, 0, by(3))]),
        ]
    };
    let found = episodes(tasks(OWN));
    assert_eq!(told(&found), [(1, 11, Verdict::Caused, 3)], "{found:#?}");
    assert_eq!((found[0].look_ups, found[0].ns), (2, 7));
    // The other one did something.
    assert_eq!(episodes(tasks(OWN + 1)).len(), 2);
}

/// `make` waits for any child; it goes on with the first that ends.
#[test]
fn who_waits_for_any_child_is_behind_each_that_ends() {
    let child = |serial: u32, line: &str| {
        let mut child = task(serial, serial, line, &[(SLEEP, 0, TIMER)]);
        (child.ppid, child.parent) = (101, 1);
        child
    };
    // 2 comes first, and is preempted before it can end: 3 ends before it.
    let tasks = |line: &str| {
        vec![
            task(1, 1, "rbbbbbbbbr$", &[(WAIT, ANY_CHILD, by(3))]),
            child(2, line),
            child(3, "rrbbbbbbr$"),
        ]
    };
    let found = episodes(tasks("rbbbbbbwwwwr$"));
    assert_eq!(told(&found), [(2, 7, Verdict::Caused, 2)], "{found:#?}");
    assert_eq!(found[0].held, 1);
    assert_eq!(found[0].chain.len(), 2);
    // It waits once more: it is not its end that is near.
    let found = episodes(tasks("rbbbbbbrbrrr$"));
    assert_eq!(found[0].verdict, Verdict::Coincidence, "{found:#?}");
}

/// A thread asks for the disk; another one naps, and tells a third in the end, which waits for
/// whatever comes first. That one is as idle as the napping one, unless it waits for a lock.
#[test]
fn whoever_a_napping_one_tells_something_at_last_is_idle() {
    let tasks = |syscall, target| {
        vec![
            task(1, 1, "rbbbbbbrrrrrr$", &[(FSYNC, FILE, DISK)]),
            task(2, 1, "rbbbbbbbbrrrr$", &[(SLEEP, 0, TIMER)]),
            task(3, 1, "rbbbbbbbbbrrr$", &[(syscall, target, by(2))]),
        ]
    };
    let found = episodes(tasks(POLL, 0));
    assert_eq!(found[0].verdict, Verdict::CommonCause, "{found:#?}");
    assert_eq!(found[0].ended_by.as_ref().unwrap().task.serial, 1);
    let found = episodes(tasks(FUTEX, LOCK));
    assert_eq!(found[0].verdict, Verdict::Coincidence, "{found:#?}");
}

/// The kernel tells of a signal after it has woken those that it is for.
#[test]
fn a_signal_is_told_after_the_wakeup() {
    let outside = Waker::Outsider {
        tid: 9,
        softirq: false,
    };
    let how = |at_ns: Option<u64>| {
        let tasks = vec![
            task(1, 1, "rbbbbbbr>", &[(READ, FILE, outside)]),
            task(2, 1, "rbbbbbbb>", &[(READ, FILE, Waker::None)]),
        ];
        let found = episodes_with(tasks, |model| {
            model.signals.extend(at_ns.map(|at_ns| Signal {
                serial: 1,
                signal: 15,
                group: true,
                sender: outside,
                at_ns,
            }));
        });
        found[0].ended_by.as_ref().unwrap().how
    };
    use crate::report::Ended;
    assert_eq!(how(None), Ended::Fulfilled);
    assert_eq!(how(Some(7)), Ended::Interrupted);
    assert_eq!(how(Some(50_000)), Ended::Interrupted);
    assert_eq!(how(Some(1_000_000)), Ended::Fulfilled);
}

#[test]
fn a_sleep_that_was_as_long_as_asked_for_needs_no_witness() {
    let verdict = |us: u32| {
        let line = format!("r{}r$", "b".repeat(5_000));
        let mut sleeper = task(1, 1, &line, &[(SLEEP, 0, Waker::Unknown)]);
        sleeper
            .stretches
            .edit(|offs| offs[1].timeout_us = Timeout::Us(us).to_us());
        let line = format!("r{}r$", "b".repeat(5_001));
        let found = episodes(vec![sleeper, task(2, 1, &line, &[(FUTEX, LOCK, by(1))])]);
        found[0].verdict
    };
    assert_eq!(verdict(5), Verdict::Caused);
    assert_eq!(verdict(6), Verdict::Unknown);
}

/// Threads of a pool sleep for the same time. The first to come back ends the stall, and nobody
/// is behind it; a moment later another one does, for which the main thread waits.
#[test]
fn who_comes_back_a_moment_later_held_the_others_up() {
    let with = |late: usize| {
        let sleeps = |ns: usize| format!("r{}r$", "b".repeat(ns));
        const NS: usize = 12_000_000;
        let found = episodes(vec![
            task(1, 1, &sleeps(NS + late + 100), &[(FUTEX, LOCK, by(3))]),
            task(2, 1, &sleeps(NS), &[(SLEEP, 0, TIMER)]),
            task(3, 1, &sleeps(NS + late), &[(SLEEP, 0, TIMER)]),
        ]);
        let first = found.first().unwrap();
        let by = first.ended_by.as_ref().unwrap();
        (first.verdict, by.task.serial, by.apart, first.held)
    };
    use crate::report::Apart::AMomentLater;
    assert_eq!(with(50_000), (Verdict::Caused, 3, Some(AMomentLater), 1));
    assert_eq!(with(500_000).0, Verdict::Coincidence);
}

/// A server's helper is parked until the server, which ends, tells it to end.
#[test]
fn a_helper_that_is_told_to_end_was_not_behind_its_main_thread() {
    let with = |waker: u32, process: u32| {
        let (helper, server) = match waker {
            1 => (2, 1),
            _ => (1, 2),
        };
        let mut tasks = vec![
            task(
                server,
                1,
                "rbbbbrbbbrrr$",
                &[(POLL, SET, TIMER), (SLEEP, 0, TIMER)],
            ),
            task(
                helper,
                process,
                "rbbbbbbbbbbr$",
                &[(FUTEX, OWN, by(server))],
            ),
        ];
        tasks.sort_by_key(|task| task.serial);
        told(&episodes(tasks))
    };
    // Its main thread; and one of its others, for whose end the main thread can wait.
    assert_eq!(with(1, 1)[0].2, Verdict::Idle);
    assert_eq!(with(2, 1)[0].2, Verdict::Caused);
}

/// Of thousands of stalls, what each of thousands of tasks was in would fill the memory.
#[test]
fn of_many_stalls_only_the_longest_hundred_are_told_whole() {
    let line = format!("r{}r$", "bbr".repeat(150));
    let syncs = [(FSYNC, FILE, DISK)].repeat(150);
    let tasks = (1..=4).map(|serial| task(serial, 1 + serial % 2, &line, &syncs));
    let options = Options {
        episodes: 120,
        ..Options::default()
    };
    let found = analyse_with(&info(), &model(tasks.collect()), &options).episodes;
    let of_tree = |e: &&Episode| e.group == 0;
    for listed in [
        found.iter().filter(of_tree).collect::<Vec<_>>(),
        found.iter().filter(|e| !of_tree(e)).collect(),
    ] {
        let whole = listed.iter().filter(|e| !e.blocked.is_empty());
        assert_eq!((listed.len(), whole.count()), (120, 100));
        assert!(listed.iter().all(|e| !e.chain.is_empty()));
    }
}
