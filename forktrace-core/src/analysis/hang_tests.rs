//! Who could have ended waits that were cut short, on time lines that are known and on random
//! ones against a search. Lines are drawn as in [`super::why_tests`].

use proptest::prelude::*;

use super::{providers, standstill, why_tests::*, *};
use crate::{
    model::{FutexKey, Target, Task},
    report::{Ended, Episode, Verdict},
    trace::{ProviderKind, Providers, Timeout, Waker},
};

/// A character, ns.
const MS: u64 = 1_000_000;
/// A futex of process 1, and any child: targets after those of [`model`].
const OWN: u32 = 5;
const CHILD: u32 = 6;

fn slow(mut task: Task) -> Task {
    task.start_ns *= MS;
    task.end_ns *= MS;
    task.stretches.edit(|offs| {
        for off in offs {
            off.out_ns *= MS;
            off.wake_ns *= MS;
            off.in_ns *= MS;
        }
    });
    if let Some(open) = &mut task.open {
        open.out_ns *= MS;
    }
    task
}

/// The tree's longest episode.
fn longest(tasks: Vec<Task>) -> Episode {
    let mut model = model(tasks);
    model.targets.extend([
        Target::Futex(FutexKey::Private {
            process: 1,
            address: 64,
        }),
        Target::Child(Some(102)),
    ]);
    let found = analyse(&info(), &model).episodes;
    let of_tree = found.into_iter().filter(|e| e.group == 0);
    of_tree.max_by_key(|e| e.ns).unwrap()
}

pub(super) const OUTSIDE: Waker = Waker::Outsider {
    tid: 9,
    softirq: false,
};

/// The first thread looks up every 20 ms, and the worker sleeps; then both are killed.
#[test]
fn who_only_looks_up_waits_for_the_other_thread_of_its_process() {
    let run = |times: usize| {
        let line = format!("r{}bbbb$", "bbbbbbbbbbbbbbbbbbbbr".repeat(times));
        let looks_up = [(FUTEX, OWN, TIMER)].repeat(times);
        let last = (FUTEX, OWN, OUTSIDE);
        let mut first = slow(task(1, 1, &line, &[&looks_up[..], &[last]].concat()));
        first.stretches.edit(|offs| {
            for off in &mut offs[1..] {
                off.timeout_us = Timeout::Us(20_000).to_us();
                // It runs for a moment only.
                if off.waker == TIMER {
                    off.wake_ns += MS - 10_000;
                    off.in_ns += MS - 10_000;
                }
            }
        });
        let sleep = "b".repeat(line.len() - 2);
        let worker = task(2, 1, &format!("r{sleep}$"), &[(SLEEP, 0, OUTSIDE)]);
        longest(vec![killed(first), killed(slow(worker))])
    };
    let e = run(8);
    assert_eq!((e.verdict, e.held), (Verdict::Caused, 1), "{e:#?}");
    let ended_by = e.ended_by.unwrap();
    assert_eq!((ended_by.task.serial, ended_by.how), (2, Ended::CutShort));
    // Time could have been all that it waited for.
    assert_eq!(run(0).verdict, Verdict::Idle);
}

/// A parent waits for its child, which sleeps a little again and again, and is killed in one of
/// the moments in which the child is awake.
#[test]
fn a_child_that_has_just_slept_is_what_its_parent_waits_for() {
    let sleeps = 40;
    let parent = format!("r{}b$", "bbbb".repeat(sleeps));
    let parent = killed(slow(task(1, 1, &parent, &[(WAIT, CHILD, OUTSIDE)])));
    let child = format!("{}r$", "rbbb".repeat(sleeps + 1));
    let all = [(SLEEP, 0, TIMER)].repeat(sleeps + 1);
    let mut child = slow(task(2, 2, &child, &all));
    child.ppid = 101;
    child.stretches.edit(|offs| {
        for off in &mut offs[1..] {
            off.timeout_us = Timeout::Us(3_000).to_us();
            off.out_ns -= MS - 100_000;
        }
    });
    // The child has just slept for the last time but one.
    let mut parent = parent;
    let woken_ns = child.stretches.at(sleeps).wake_ns;
    parent.stretches.edit(|offs| {
        let last = offs.last_mut().unwrap();
        (last.wake_ns, last.in_ns) = (woken_ns + 50_000, woken_ns + 60_000);
    });
    parent.end_ns = woken_ns + 100_000;
    let e = longest(vec![parent, child]);
    assert_eq!(e.verdict, Verdict::Caused, "{e:#?}");
    assert_eq!(e.ended_by.unwrap().task.serial, 2);
}

/// A server that nobody wants anything of is ended by a signal. Its helper waits for whatever
/// comes of a socket, too, whose other end the server has.
#[test]
fn a_server_without_clients_is_idle_until_a_signal_ends_it() {
    let run = |helper_waits: i16| {
        let line = format!("r{}$", "b".repeat(900));
        let server = killed(slow(task(1, 1, &line, &[(POLL, 0, OUTSIDE)])));
        let helper = killed(slow(task(2, 2, &line, &[(helper_waits, 0, OUTSIDE)])));
        let mut model = model(vec![server, helper]);
        model.providers.push(Providers {
            serial: 2,
            seq: 1,
            at_ns: 2 * MS,
            kind: ProviderKind::OtherEnd,
            tasks: vec![1],
            outside: false,
            foreign: None,
        });
        let found = analyse(&info(), &model).episodes;
        let of_tree = found.into_iter().filter(|e| e.group == 0);
        of_tree.max_by_key(|e| e.ns).unwrap().verdict
    };
    assert_eq!(run(POLL), Verdict::Idle);
    // It wants an answer.
    assert_eq!(run(READ), Verdict::Caused);
}

/// A thread that waits for a lock would have work, but for one that is parked at a lock which
/// stays with an event loop, as those of Redis are.
#[test]
fn who_waits_for_a_lock_has_work_unless_it_stays_with_an_event_loop() {
    let run = |turns: usize, is_told: bool| {
        let each = format!("{}r", "b".repeat(900 / turns));
        let line = format!("r{}$", each.repeat(turns));
        let polls = [(POLL, 0, OUTSIDE)].repeat(turns);
        let server = killed(slow(task(1, 1, &line, &polls)));
        let line = format!("r{}$", "b".repeat(line.len() - 2));
        let thread = killed(slow(task(2, 1, &line, &[(FUTEX, OWN, OUTSIDE)])));
        let mut model = model(vec![server, thread]);
        model.targets.push(Target::Futex(FutexKey::Private {
            process: 1,
            address: 64,
        }));
        if is_told {
            model.providers.push(Providers {
                serial: 2,
                seq: 1,
                at_ns: 2 * MS,
                kind: ProviderKind::Owner,
                tasks: vec![1],
                outside: false,
                foreign: None,
            });
        }
        let report = analyse(&info(), &model);
        let of_tree = report.episodes.into_iter().filter(|e| e.group == 0);
        let verdict = of_tree.max_by_key(|e| e.ns).unwrap().verdict;
        (report.tasks[1].helper, verdict)
    };
    assert_eq!(run(1, true), (false, Verdict::Caused));
    assert_eq!(run(4, true), (true, Verdict::Idle));
    assert_eq!(run(4, false), (true, Verdict::Idle));
}

/// Two that wait for each other hang, however often the one that a signal interrupts sleeps
/// before it ends; but not where an alarm ended the wait, or where it goes on to live.
#[test]
fn who_is_interrupted_hung_where_that_was_its_end() {
    let run = |ended_by: Waker, sleeps: usize, then: usize| {
        let wait = "b".repeat(700);
        let after = "rb".repeat(sleeps);
        let line = format!("r{wait}{after}{}$", "r".repeat(then));
        let ins = [
            &[(WAIT, CHILD, ended_by)][..],
            &[(SLEEP, 0, TIMER)].repeat(sleeps),
        ]
        .concat();
        let parent = slow(task(1, 1, &line, &ins));
        let wait = "b".repeat(line.len() - 4);
        let mut child = slow(task(2, 2, &format!("rr{wait}r$"), &[(1, 0, by(1))]));
        child.ppid = 101;
        let mut model = model(vec![parent, child]);
        let own = FutexKey::Private {
            process: 1,
            address: 64,
        };
        model
            .targets
            .extend([Target::Futex(own), Target::Child(Some(102))]);
        analyse(&info(), &model).deadlocks.len()
    };
    assert_eq!(run(OUTSIDE, 20, 100), 1);
    assert_eq!(run(OUTSIDE, 20, 2_000), 0);
    assert_eq!(run(TIMER, 20, 100), 0);
}

/// A parent waits for its child, whose main thread waits for another one, which waits for room in
/// a pipe that all of them read. All hang, though the two are left alone when the parent is killed.
#[test]
fn who_is_killed_first_of_those_who_hang_is_one_of_them() {
    let line = |asleep: usize| format!("r{}$", "b".repeat(asleep));
    let mut main = task(2, 2, &line(900), &[(FUTEX, OWN, OUTSIDE)]);
    main.ppid = 101;
    let tasks = vec![
        task(1, 1, &line(800), &[(WAIT, CHILD, OUTSIDE)]),
        main,
        task(3, 2, &line(900), &[(1, FILE, OUTSIDE)]),
    ];
    let mut model = model(tasks.into_iter().map(slow).map(killed).collect());
    let own = FutexKey::Private {
        process: 2,
        address: 64,
    };
    model
        .targets
        .extend([Target::Futex(own), Target::Child(Some(102))]);
    model.providers.push(Providers {
        serial: 3,
        seq: 1,
        at_ns: 2 * MS,
        kind: ProviderKind::OtherEnd,
        tasks: vec![1, 2],
        outside: false,
        foreign: None,
    });
    let found = analyse(&info(), &model).deadlocks;
    let serials = |d: &crate::report::Deadlock| d.tasks.iter().map(|t| t.serial).collect();
    let all: Vec<Vec<u32>> = found.iter().map(serials).collect();
    assert_eq!(all, [[1, 2, 3]]);
    assert_eq!(found[0].end_ns, Some(901 * MS));
}

/// Who can't go on, as a person would find out: whoever can is crossed out until nobody is left
/// that one of those could wake.
fn search(waits: &[Option<(Vec<u32>, bool)>]) -> Vec<u32> {
    let mut can: Vec<bool> = waits
        .iter()
        .map(|wait| wait.as_ref().is_none_or(|(_, outside)| *outside))
        .collect();
    for _ in 0..waits.len() {
        for (at, wait) in waits.iter().enumerate() {
            let Some((tasks, _)) = wait else { continue };
            let woken = tasks.iter().any(|serial| can[*serial as usize - 1]);
            can[at] |= woken;
        }
    }
    let all = 0..waits.len();
    all.filter(|at| !can[*at]).map(|at| at as u32).collect()
}

proptest! {
    /// A graph of who could end whose wait, of which some are awake and some wait for the world.
    #[test]
    fn those_are_said_to_hang_that_nobody_can_wake(
        waits in prop::collection::vec(
            prop::option::weighted(0.9, (prop::collection::vec(0usize..8, 0..3), prop::bool::weighted(0.1))),
            2..8,
        ),
    ) {
        let count = waits.len();
        let waits: Vec<Option<(Vec<u32>, bool)>> = waits
            .into_iter()
            .map(|wait| wait.map(|(tasks, outside)| {
                let tasks = tasks.into_iter().map(|at| (at % count) as u32 + 1);
                (tasks.collect(), outside)
            }))
            .collect();
        let tasks = waits.iter().enumerate().map(|(at, wait)| {
            let serial = at as u32 + 1;
            match wait {
                Some(_) => task(serial, serial, &format!("r{}>", "b".repeat(800)), &[(1, 0, Waker::None)]),
                None => task(serial, serial, &"r".repeat(801), &[]),
            }
        });
        let mut model = model(tasks.map(slow).collect());
        let known = waits.iter().enumerate().filter_map(|(at, wait)| {
            let (tasks, outside) = wait.clone()?;
            Some(Providers {
                serial: at as u32 + 1,
                seq: 1,
                at_ns: 2 * MS,
                kind: ProviderKind::OtherEnd,
                tasks,
                outside,
                foreign: None,
            })
        });
        model.providers = known.collect();
        let header = header();
        let wakers = Wakers::new(&model, &header);
        let blocks = Blocks::new(&model, &wakers, Arch::X86_64);
        let kin = providers::Kin::new(&blocks);
        let expected = search(&waits);
        match &standstill::hangs(&kin)[..] {
            [] => prop_assert!(expected.is_empty(), "{:?}", expected),
            [hang] if hang.cycle => {
                prop_assert!(hang.tasks.iter().all(|at| expected.contains(at)));
                for (at, next) in hang.tasks.iter().zip(hang.tasks.iter().cycle().skip(1)) {
                    let (tasks, _) = waits[*at as usize].as_ref().unwrap();
                    prop_assert!(tasks.contains(&(next + 1)), "{:?}", hang);
                }
            }
            [hang] => prop_assert_eq!(&hang.tasks, &expected),
            more => prop_assert!(false, "{:?}", more),
        }
    }
}

/// The first thread looks up, and is ready for a moment when the worker's sleep ends: it finds
/// that done, and does not wait again.
#[test]
fn who_looked_up_too_late_waited_for_what_came_meanwhile() {
    let run = |asleep: usize| {
        let looks_up = [(FUTEX, OWN, TIMER)].repeat(3);
        let mut first = task(1, 1, "rbbbbrbbbbrbbbbwwwwrrrrr$", &looks_up);
        first.stretches.edit(|offs| {
            for off in &mut offs[1..] {
                off.timeout_us = Timeout::Us(1).to_us();
            }
        });
        let sleep = format!("r{}", "b".repeat(asleep));
        let worker = format!("{sleep}{}$", "r".repeat(24 - sleep.len()));
        let worker = task(2, 1, &worker, &[(SLEEP, 0, TIMER)]);
        longest(vec![first, worker])
    };
    let e = run(16);
    assert_eq!(e.verdict, Verdict::Caused, "{e:#?}");
    let ended_by = e.ended_by.unwrap();
    assert_eq!((ended_by.task.serial, ended_by.end_ns), (2, Some(17)));
    assert_eq!((e.ns, e.end_ns, e.look_ups), (12, 17, 2));
    // On the CPU it went on by itself.
    let e = run(20);
    assert_eq!((e.verdict, e.end_ns), (Verdict::Idle, 15), "{e:#?}");
}
