//! A small trace for each kind of finding that tells of a wait, and what its sentence says. A
//! character is 10 ms, unless a test says otherwise.

use super::{tests::*, *};
use crate::{
    analysis::{
        hang_tests::OUTSIDE,
        why_tests::{DISK, FSYNC, POLL, WAIT, by, killed, task},
    },
    model::{Model, PAGE_FAULT, Target, Task},
    trace::{
        Attached, Deadlock, FileKind, Finish, Frames, PollUse, ProviderKind, Providers, Signal,
        Stacks, Stuck, StuckOn, Throttled, Waker, Why,
    },
    trace_file::TraceInfo,
};

/// A child, and a page: targets after those of [`found`].
const MORE: u32 = 8;

/// The first of a kind, which must be there.
#[track_caller]
fn one(kind: FindingKind, all: Vec<Finding>) -> Finding {
    let found = all.iter().find(|f| f.kind == kind);
    found.unwrap_or_else(|| panic!("{all:#?}")).clone()
}

/// That it ranks first, as well.
#[track_caller]
fn first(
    kind: FindingKind,
    tasks: Vec<Task>,
    change: impl FnOnce(&mut Model, &mut TraceInfo),
) -> Finding {
    let all = findings_with(tasks, change);
    assert_eq!(all[0].kind, kind, "{all:#?}");
    all[0].clone()
}

#[track_caller]
fn says(finding: &Finding, words: &str) {
    assert!(finding.sentence.contains(words), "{}", finding.sentence);
}

/// Both wait from the second character on, for ever.
fn two_that_wait(one: (i16, u32), other: (i16, u32)) -> Vec<Task> {
    let line = format!("r{}>", "b".repeat(99));
    let wait = |serial, (syscall, target)| {
        let task = task(serial, serial, &line, &[(syscall, target, Waker::None)]);
        slow("waits", task)
    };
    let mut tasks = vec![wait(1, one), wait(2, other)];
    tasks[1].ppid = 101;
    tasks
}

/// Each has the lock that the other waits for.
fn deadlocked(model: &mut Model) {
    let stuck = |serial, owner| Stuck {
        serial,
        on: StuckOn::Lock {
            address: 0x1000,
            owner,
        },
        since_ns: 10_000_000,
    };
    model.deadlocks = vec![Deadlock {
        at_ns: 110_000_000,
        cycle: true,
        tasks: vec![stuck(1, 2), stuck(2, 1)],
    }];
}

#[test]
fn a_deadlock_is_first_and_lasts_from_the_later_block_to_the_end() {
    let found = first(
        FindingKind::Deadlock,
        two_that_wait((FUTEX, LOCK), (FUTEX, LOCK)),
        |model, _| deadlocked(model),
    );
    assert_eq!((found.ns, &found.tasks[..]), (990_000_000, &[1, 2][..]));
    says(&found, "each wait for a lock that the other holds.");
}

#[test]
fn a_deadlock_is_told_with_the_functions_that_wait_as_far_as_they_are_known() {
    let with = |functions: [&str; 2]| {
        let found = first(
            FindingKind::Deadlock,
            two_that_wait((FUTEX, LOCK), (FUTEX, LOCK)),
            |model, _| {
                deadlocked(model);
                for (number, name) in (0..).zip(functions) {
                    let frames = Frames {
                        number,
                        frames: vec![name.to_owned()],
                        cut_off: false,
                        waits_in: (!name.is_empty()).then_some(0),
                    };
                    model.frames.insert(number, frames);
                    model.stacks.push(Stacks {
                        serial: number + 1,
                        seq: 1,
                        waker: Waker::None,
                        kernel: None,
                        user: Some(number),
                        at_ns: 0,
                    });
                }
            },
        );
        found.sentence
    };
    let ends = |told: [&str; 2], with_code: &str| {
        let sentence = with(told);
        let end = format!("that the other holds{with_code}.");
        assert!(sentence.ends_with(&end), "{sentence}");
    };
    ends(["pay", "ship"], ", in `pay` and in `ship`");
    ends(["pay", "pay"], ", both in `pay`");
    ends(["pay", ""], "");
}

/// Who is attached to a service that hangs wants to know since when.
#[test]
fn a_hang_that_was_there_before_the_recording_is_said_to_be_older() {
    let attached = |model: &mut Model, asleep_for_ns: [Option<u64>; 2]| {
        found_while_it_lasted(model);
        for (task, asleep_for_ns) in model.tasks.iter_mut().zip(asleep_for_ns) {
            task.attached = Some(Attached {
                serial: task.serial,
                at_ns: 10_000_000,
                asleep_for_ns,
            });
        }
    };
    let hang = |asleep| {
        let tasks = two_that_wait((WAIT, MORE), (1, 0));
        first(FindingKind::Hang, tasks, |model, _| attached(model, asleep))
    };
    let old = hang([Some(7_500_000_000_000), Some(7_300_000_000_000)]);
    says(&old, "and for 2 h 1 min before the recording: ");
    assert!(
        old.evidence[0].ends_with("since 2 h 5 min before the recording"),
        "{:?}",
        old.evidence
    );
    // The younger wait closed the circle.
    says(&hang([Some(7_500_000_000_000), None]), "from 10.0 ms on");
}

/// A parent waits for its child, which writes to a pipe that only the parent could read.
#[test]
fn who_wait_for_each_other_hang() {
    let found = first(
        FindingKind::Hang,
        two_that_wait((WAIT, MORE), (1, 0)),
        |model, _| {
            model.targets.push(Target::Child(Some(102)));
            model.providers = vec![Providers {
                serial: 2,
                seq: 1,
                at_ns: 20_000_000,
                kind: ProviderKind::OtherEnd,
                tasks: vec![1],
                outside: false,
                foreign: None,
            }];
        },
    );
    assert_eq!(found.ns, 990_000_000);
    says(&found, "in a circle, `waits` (101) waits for `waits` (102)");
}

/// The parent handles a signal in between, and waits again.
#[test]
fn a_hang_that_a_signal_interrupts_is_one() {
    let found = first(
        FindingKind::Hang,
        {
            let outside = Waker::Outsider {
                tid: 9,
                softirq: false,
            };
            let line = format!("r{}r{}>", "b".repeat(60), "b".repeat(70));
            let waits = [(WAIT, MORE, outside), (WAIT, MORE, Waker::None)];
            let mut tasks = two_that_wait((WAIT, MORE), (1, 0));
            tasks[1].end_ns = 1_320_000_000;
            tasks[0] = slow("waits", task(1, 1, &line, &waits));
            tasks
        },
        |model, _| {
            found_while_it_lasted(model);
            model.deadlocks.clear();
            let mut again = model.providers[0].clone();
            again.seq = 2;
            model.providers.push(again);
            model.targets.push(Target::Child(Some(102)));
        },
    );
    assert_eq!(found.ns, 1_310_000_000, "{found:#?}");
    says(&found, "from 10.0 ms on");
}

/// Of a recording that was killed nothing tells how the waits ended; what was found while
/// they lasted does.
fn found_while_it_lasted(model: &mut Model) {
    let told = |serial, kind, by| Providers {
        serial,
        seq: 1,
        at_ns: 20_000_000,
        kind,
        tasks: vec![by],
        outside: false,
        foreign: None,
    };
    model.providers = vec![
        told(1, ProviderKind::Child, 2),
        told(2, ProviderKind::OtherEnd, 1),
    ];
    let stuck = |serial| Stuck {
        serial,
        on: StuckOn::Told,
        since_ns: 10_000_000,
    };
    model.deadlocks = vec![Deadlock {
        at_ns: 110_000_000,
        cycle: false,
        tasks: vec![stuck(1), stuck(2)],
    }];
}

#[test]
fn a_hang_that_was_found_is_told_also_where_its_end_is_lost() {
    let found = first(
        FindingKind::Hang,
        two_that_wait((WAIT, MORE), (1, 0)),
        |model, _| {
            found_while_it_lasted(model);
            for task in &mut model.tasks {
                task.open = None;
                task.stretches.edit(|offs| offs.truncate(1));
                task.stretches_expected = None;
            }
        },
    );
    assert_eq!((found.ns, &found.tasks[..]), (990_000_000, &[1, 2][..]));
    says(
        &found,
        "`waits` (101) waits for tid 102 (waits) to end, `waits` (102) waits for tid 101 (waits) at the \
         other end",
    );
}

/// A word from outside wakes one of them.
#[test]
fn a_hang_that_was_found_is_taken_back_where_one_of_them_got_what_it_waited_for() {
    let line = format!("r{}r$", "b".repeat(99));
    let outside = Waker::Outsider {
        tid: 9,
        softirq: false,
    };
    let wait = |serial, (syscall, target), waker| {
        slow(
            "waits",
            task(serial, serial, &line, &[(syscall, target, waker)]),
        )
    };
    let tasks = vec![wait(1, (WAIT, MORE), by(2)), wait(2, (1, 0), outside)];
    let all = findings_with(tasks, |model, _| found_while_it_lasted(model));
    let hangs = all.iter().filter(|f| f.kind == FindingKind::Hang);
    assert_eq!(hangs.count(), 0, "{all:#?}");
}

/// A writer waits while readers, who nap, have a lock in turns; nobody's nap is what it is for.
#[test]
fn a_writer_that_waits_for_readers_is_first() {
    let line = format!("r{}r$", "b".repeat(20));
    let naps = format!("{}rr$", "bbbr".repeat(5));
    let tasks = vec![
        slow("writer", task(1, 1, &line, &[(FUTEX, LOCK, by(2))])),
        slow("reader", task(2, 1, &naps, &[(SLEEP, 0, TIMER); 5])),
        slow(
            "reader",
            task(3, 1, &format!("r{naps}"), &[(SLEEP, 0, TIMER); 5]),
        ),
    ];
    let found = first(FindingKind::Lock, tasks, |model, _| {
        model.providers = vec![Providers {
            serial: 1,
            seq: 1,
            at_ns: 110_000_000,
            kind: ProviderKind::Readers,
            tasks: vec![2, 3],
            outside: false,
            foreign: None,
        }];
    });
    assert_eq!((found.ns, &found.tasks[..]), (200_000_000, &[1][..]));
    says(&found, "`writer` (101) waited 200 ms");
    says(&found, "others had it for reading");
}

#[test]
fn syncs_of_several_files_by_a_program_alone_are_one_finding() {
    const SAME_DISK: u32 = 3;
    let syncs = |second| {
        let waits = [(FSYNC, FILE, DISK), (FSYNC, second, DISK)];
        vec![slow("db", task(1, 1, "rbbbbrbbbbbr$", &waits))]
    };
    for second in [FILE, SAME_DISK] {
        let found = first(FindingKind::Disk, syncs(second), |model, _| {
            let journal = "/data/journal".to_owned();
            model.files[1].kind = Some(FileKind::File(journal));
        });
        assert_eq!(found.ns, 90_000_000);
        assert_eq!(found.object.is_some(), second == FILE, "{found:#?}");
        says(&found, "`db` waited for the disk in fsync");
        says(&found, ", 2 times.");
    }
}

#[test]
fn who_sleeps_with_a_lock_is_a_stall() {
    let tasks = vec![
        slow("holder", task(1, 1, "rbbbbbrr$", &[(SLEEP, 0, TIMER)])),
        slow("waiter", task(2, 1, "rbbbbbbrr$", &[(FUTEX, LOCK, by(1))])),
    ];
    let found = first(FindingKind::Stall, tasks, |_, _| ());
    assert_eq!(
        (found.ns, found.confidence),
        (50_000_000, Confidence::Proved)
    );
    says(&found, "for `holder` (101), which slept");
}

#[test]
fn who_syncs_waits_for_a_disk() {
    let tasks = vec![
        slow("db", task(1, 1, "rbbbbbrr$", &[(FSYNC, FILE, DISK)])),
        slow("client", task(2, 1, "rbbbbbbrr$", &[(FUTEX, LOCK, by(1))])),
    ];
    let found = first(FindingKind::Disk, tasks, |_, _| ());
    says(&found, "for `db` (101), which waited for the disk in fsync");
}

#[test]
fn whose_answer_comes_from_the_network_waits_for_a_peer() {
    let tasks = vec![
        slow(
            "client",
            task(1, 1, "rbbbbbrr$", &[(READ, SOCKET, NETWORK)]),
        ),
        slow("caller", task(2, 1, "rbbbbbbrr$", &[(FUTEX, LOCK, by(1))])),
    ];
    let found = first(FindingKind::Peer, tasks, |_, _| ());
    says(&found, "for `client` (101), which waited for input from");
}

/// Waits for the other end of a connection, of a run that ends with this status.
fn asks(tasks: Vec<Task>, exit_code: Option<i32>, remote: &str) -> Finding {
    let all = findings_with(tasks, |model, info| {
        let socket = model.files.last_mut().expect("the socket");
        socket.kind = Some(FileKind::InetSocket {
            protocol: "tcp".to_owned(),
            local: "127.0.0.1:40000".to_owned(),
            remote: remote.to_owned(),
            listening: remote.is_empty(),
        });
        info.finish = Some(Finish {
            exit_code,
            ..Finish::default()
        });
    });
    all.into_iter().next().expect("one finding")
}

#[test]
fn a_client_that_waits_for_its_server_is_not_idle() {
    let alone = || {
        let client = task(1, 1, "rbbbbbrrr$", &[(POLL, SOCKET, NETWORK)]);
        vec![slow("client", client)]
    };
    let all = || {
        // Who waits for input as well, and goes on later.
        let other = task(2, 2, "bbbbbbbr$", &[(READ, FILE, NETWORK)]);
        let mut tasks = alone();
        tasks.push(slow("other", other));
        tasks
    };
    const REMOTE: &str = "127.0.0.1:80";
    for tasks in [alone(), all()] {
        let found = asks(tasks.clone(), Some(0), REMOTE);
        assert_eq!((found.kind, found.ns), (FindingKind::Peer, 50_000_000));
        // Whoever ends a service had seen enough of it.
        assert_ne!(
            asks(tasks.clone(), Some(143), REMOTE).kind,
            FindingKind::Peer
        );
        assert_ne!(asks(tasks, Some(0), "").kind, FindingKind::Peer);
    }
}

#[test]
fn who_are_ready_and_get_no_cpu_are_starved() {
    let tasks = vec![
        slow("one", task(1, 1, "rwwwwwwrr$", &[])),
        slow("other", task(2, 1, "rwwwwwwrr$", &[])),
    ];
    let found = first(FindingKind::Starved, tasks, |_, _| ());
    assert_eq!(found.ns, 60_000_000);
}

#[test]
fn a_quota_counts_for_each_cpu() {
    let tasks = vec![slow("one", task(1, 1, "rrrrrrrrrr$", &[]))];
    let all = findings_with(tasks, |_, info| {
        info.finish = Some(Finish {
            throttled: vec![Throttled {
                cgroup: "/limited".to_owned(),
                periods: 3,
                ns: 80_000_000,
                quota_us: None,
                period_us: None,
            }],
            ..Finish::default()
        });
    });
    let found = one(FindingKind::Quota, all);
    assert_eq!(found.ns, 40_000_000, "there are two CPUs");
    says(&found, "the cgroup /limited held tasks off the CPUs");
}

#[test]
fn a_page_that_is_waited_for_is_no_stall_of_a_call() {
    let tasks = vec![slow(
        "one",
        task(1, 1, "rbbbbrrr$", &[(PAGE_FAULT, MORE, DISK)]),
    )];
    let found = first(FindingKind::PageFault, tasks, |model, _| {
        model.targets.push(Target::PageFault(0x7000));
    });
    assert_eq!(found.ns, 40_000_000);
    says(&found, "waited for a page of memory");
}

/// Only what kills it could end that wait before, and it lives.
#[test]
fn no_signal_ends_a_wait_for_a_page_on_a_disk() {
    let mut reads = slow("one", task(1, 1, "rbbbbrrr$", &[(PAGE_FAULT, MORE, DISK)]));
    reads.stretches.edit(|offs| offs[1].why = Why::Killable);
    let idle = task(2, 2, "bbbbbbbr$", &[(READ, FILE, NETWORK)]);
    let all = findings_with(vec![reads, slow("idle", idle)], |model, _| {
        model.targets.push(Target::PageFault(0x7000));
    });
    let found = one(FindingKind::PageFault, all);
    let told =
        "Everything waited 40.0 ms (50.0 %) for `one` (101), which waited for a page of memory.";
    assert_eq!((found.sentence.as_str(), found.ns), (told, 40_000_000));
}

#[test]
fn who_is_stopped_is_told_and_by_what() {
    let mut stopped = slow(
        "one",
        task(1, 1, "rrrrbbbbbrr$", &[(-1, 0, Waker::Unknown)]),
    );
    stopped.stretches.edit(|offs| offs[1].why = Why::Stopped);
    let all = findings_with(vec![stopped], |model, _| {
        model.signals = vec![Signal {
            serial: 1,
            signal: 19,
            group: true,
            sender: Waker::Unknown,
            at_ns: 40_000_000,
        }];
    });
    let found = one(FindingKind::Stopped, all);
    assert_eq!(found.ns, 50_000_000);
    says(&found, "a signal stopped `one` (101)");
}

#[test]
fn who_wait_for_input_are_idle_and_nothing_is_wrong() {
    let tasks = vec![
        slow("one", task(1, 1, "rbbbbbbbbrr$", &[(POLL, 0, NETWORK)])),
        slow("other", task(2, 2, "rbbbbbbbbbrr$", &[(POLL, 0, NETWORK)])),
    ];
    let found = first(FindingKind::Idle, tasks, |_, _| ());
    assert_eq!(found.ns, 80_000_000);
    says(&found, "Nothing is wrong");
}

#[test]
fn whose_polls_return_at_once_spins() {
    let spinning = |ready_at_once| {
        let mut task = slow("one", task(1, 1, "rrrrrrrrrr$", &[]));
        task.polls = vec![PollUse {
            serial: 1,
            position: 0,
            calls: ready_at_once,
            ready_at_once,
            blocked: 0,
            timed_out: 0,
            empty_at_once: 0,
            failed: 0,
            max_fds: 1,
            unfinished: 0,
            unknown_fds: 0,
        }];
        let mut all = findings_with(vec![task], |_, _| ());
        all.retain(|f| f.kind == FindingKind::BusyLoop);
        all
    };
    let [found] = &spinning(1_000_000)[..] else {
        panic!("one loop")
    };
    says(found, "returned at once 1,000,000 times");
    assert_eq!(spinning(900), []);
    // 200,000 a second of CPU time: it reads what it finds.
    assert_eq!(spinning(20_000), []);
}

#[test]
fn what_the_only_task_that_is_left_waits_for_is_told() {
    let mut child = task(2, 2, " rbbbr$", &[(SLEEP, 0, TIMER)]);
    child.ppid = 101;
    let parent = task(
        1,
        1,
        "rbbbbbrbbbbbbbr$",
        &[(WAIT, 0, by(2)), (SLEEP, 0, TIMER)],
    );
    let tasks = [parent, child].map(|task| scaled("p", task, 10_000_000));
    let all = findings_with(tasks.into(), |_, _| ());
    says(
        &all[0],
        "`p` (101) slept for 70.0 ms (46.7 %), while it was the only task",
    );
    assert_eq!(
        (all[0].kind, &all[0].tasks[..]),
        (FindingKind::Stall, &[1][..])
    );
    says(&all[1], "Everything waited 30.0 ms");
}

/// Two wait for futexes until a signal ends them, beside one that does something else.
fn until_a_signal(beside: (i16, u32, Waker)) -> Vec<Finding> {
    let line = format!("r{}$", "b".repeat(90));
    let waits = |serial| killed(task(serial, 1, &line, &[(FUTEX, LOCK, OUTSIDE)]));
    let mut tasks = vec![waits(1), waits(2), killed(task(3, 1, &line, &[beside]))];
    for task in &mut tasks {
        *task = scaled("T", task.clone(), 10_000_000);
    }
    tasks[2].name = "VM Periodic Tas".to_owned();
    findings_with(tasks, |_, _| ())
}

#[test]
fn who_waits_for_a_lock_until_a_signal_comes_is_not_said_to_be_well() {
    let all = until_a_signal((SLEEP, 0, OUTSIDE));
    let first = &all[0];
    assert_eq!((first.kind, first.ns), (FindingKind::Stall, 900_000_000));
    assert_eq!(
        (&first.tasks[..], first.confidence),
        (&[1, 2][..], Confidence::Possible)
    );
    says(
        first,
        "`T` (101) and `T` (102) waited for futexes for 900 ms",
    );
    says(first, "nobody woke them");
    assert!(
        all[1..].iter().all(|f| f.kind != FindingKind::Idle),
        "{all:#?}"
    );
    // A server's threads are parked until somebody wants something.
    let all = until_a_signal((POLL, 0, OUTSIDE));
    assert_eq!(all[0].kind, FindingKind::Idle);
    says(&all[0], "Nothing is wrong");
}

/// A rank of MPI: it yields again and again, for so many times 200 µs.
fn rank(serial: u32, yields: usize) -> Task {
    let mut task = task(serial, serial, &format!("{}r$", "rw".repeat(yields)), &[]);
    task.stretches.edit(|offs| {
        for off in offs {
            if off.why == Why::Preempted {
                off.syscall = YIELD;
            }
        }
    });
    scaled("rank", task, 100_000)
}

/// While this one is at work: it sleeps for 80 ms, and then polls as well.
fn late(serial: u32) -> Task {
    let line = format!("r{}{}r$", "b".repeat(800), "rw".repeat(100));
    let mut task = task(serial, serial, &line, &[(SLEEP, 0, TIMER)]);
    task.stretches.edit(|offs| {
        for off in offs {
            if off.why == Why::Preempted {
                off.syscall = YIELD;
            }
        }
    });
    scaled("rank", task, 100_000)
}

#[test]
fn one_that_sleeps_while_those_like_it_poll_is_a_straggler() {
    let team = || vec![rank(1, 500), late(2), rank(3, 500)];
    let all = findings_with(team(), |_, _| ());
    let found = one(FindingKind::Straggler, all);
    // They ask for the first time after 100 µs, and it does after 80.2 ms.
    assert_eq!((found.ns, found.tasks[0]), (80_100_000, 2));
    says(&found, "`rank` (102) mostly slept for 80.1 ms");
    says(&found, "while 2 tasks like it only polled");
    // Of others it is not known that they wait for the same.
    let mut others = team();
    others[1].name = "client".to_owned();
    let mut all = findings_with(others, |_, _| ());
    all.retain(|f| f.kind == FindingKind::Straggler);
    assert_eq!(all, []);
}

/// One that yields all the time, but only every 4 ms somebody wants its CPU; so often it is
/// preempted in place of that.
fn unwanted(serial: u32, preempted: impl Fn(u32) -> bool) -> Task {
    let turn = format!("{}w", "r".repeat(40));
    let mut task = task(serial, serial, &format!("{}r$", turn.repeat(24)), &[]);
    task.stretches.edit(|offs| {
        for off in offs {
            if off.why == Why::Preempted && !preempted(off.seq) {
                off.syscall = YIELD;
            }
        }
    });
    scaled("rank", task, 100_000)
}

#[test]
fn who_leaves_the_cpu_in_a_yield_nearly_whenever_it_has_to_polls() {
    let straggler = |preempted: fn(u32) -> bool| {
        let team = vec![unwanted(1, preempted), late(2), unwanted(3, preempted)];
        let mut all = findings_with(team, |_, _| ());
        all.retain(|f| f.kind == FindingKind::Straggler);
        all
    };
    let all = straggler(|seq| seq == 12);
    assert_eq!(all.len(), 1);
    // They ask for the first time after 4 ms.
    assert_eq!((all[0].ns, all[0].tasks[0]), (76_200_000, 2));
    says(&all[0], "while 2 tasks like it only polled");
    // Who yields now and then between what it computes does not.
    assert_eq!(straggler(|seq| seq % 5 == 2), []);
}

#[test]
fn who_is_preempted_while_it_computes_does_not_poll() {
    let mut team = vec![rank(1, 500), late(2), rank(3, 500)];
    for task in &mut team {
        task.stretches.edit(|offs| {
            for off in offs {
                if off.why == Why::Preempted {
                    off.syscall = -1;
                }
            }
        });
    }
    let mut all = findings_with(team, |_, _| ());
    all.retain(|f| f.kind == FindingKind::Straggler);
    assert_eq!(all, []);
}
