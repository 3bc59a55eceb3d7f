//! What a finding weighs: what the run would be shorter without it, however many tasks were
//! ready or blocked besides. A character is 10 ms.

use super::{tests::*, *};
use crate::{
    analysis::why_tests::{DISK, FSYNC, WAIT, name_futex, task},
    model::{File, Model, Target, Task},
    trace::{
        FileKind, Interest, PollUse, ProviderKind, Providers, Timeout, WaitFd, Waker, Watched,
    },
};

#[track_caller]
fn of(kind: FindingKind, all: &[Finding]) -> &Finding {
    let found = all.iter().find(|f| f.kind == kind);
    found.unwrap_or_else(|| panic!("{all:#?}"))
}

/// A parent that waits for its child, and others that are always ready.
fn waits_for(wait: (i16, u32, Waker), child: &str, in_child: (i16, u32, Waker)) -> Vec<Task> {
    let line = |body: &str| format!("{body}$");
    let b = "b".repeat(child.len() - 1);
    let mut child = slow("child", task(2, 2, &line(child), &[in_child]));
    child.ppid = 101;
    vec![
        slow("parent", task(1, 1, &line(&format!("r{b}r")), &[wait])),
        child,
        slow(
            "ready",
            task(3, 1, &line(&format!("r{}", "w".repeat(b.len() - 1))), &[]),
        ),
    ]
}

#[test]
fn who_is_always_ready_does_not_outweigh_what_the_run_waited_for() {
    let tasks = waits_for((WAIT, 0, by(2)), "rbbbbbbbbr", (SLEEP, 0, TIMER));
    let all = findings_with(tasks, |_, _| ());
    assert!(
        all.iter().all(|f| f.kind != FindingKind::Starved),
        "{all:#?}"
    );
}

#[test]
fn what_the_run_waited_for_is_told_though_others_went_on() {
    let tasks = || waits_for((WAIT, 0, by(2)), "rbbbbbbbbr", (SLEEP, 0, TIMER));
    let with_code = |code| {
        let ends = |_: &mut Model, info: &mut crate::trace_file::TraceInfo| {
            info.finish.as_mut().expect("an end").exit_code = Some(code);
        };
        findings_with(tasks(), ends)
    };
    let all = with_code(0);
    let told = "The run waited 80.0 ms (72.7 %) for `parent/child`, which slept, while";
    assert!(all[0].sentence.starts_with(told), "{all:#?}");
    assert_eq!((all[0].kind, all[0].ns), (FindingKind::Stall, 80_000_000));
    assert_eq!(all[0].tasks, [2]);
    // Whatever ended it, ended what it was about.
    let all = with_code(143);
    assert_eq!(all[0].kind, FindingKind::Idle, "{all:#?}");
    let told = "No stall: a task ran at nearly all times. Of the critical path, 80.0 ms of 110 ms";
    assert!(all[0].sentence.contains(told), "{all:#?}");
}

#[test]
fn a_server_whose_workers_are_starved_is() {
    let signals = Waker::Outsider {
        tid: 9,
        softirq: false,
    };
    let mut tasks = waits_for((READ, FILE, signals), "rwwwwwwwwr", (SLEEP, 0, TIMER));
    // The parent ends last, and nobody of them woke it.
    tasks[0] = slow(
        "parent",
        task(1, 1, "rbbbbbbbbbr$", &[(READ, FILE, signals)]),
    );
    let all = findings_with(tasks, |_, _| ());
    assert_eq!(of(FindingKind::Starved, &all).ns, 80_000_000, "{all:#?}");
}

#[test]
fn who_was_ready_on_the_path_is_named() {
    let tasks = vec![
        slow("waits", task(1, 1, "rbbbbbbbbr$", &[(FUTEX, LOCK, by(2))])),
        slow("holder", task(2, 1, "rwwwwwwwr$", &[])),
        slow("hog", task(3, 1, "rrrrrrrrr$", &[])),
    ];
    let all = findings_with(tasks, |_, _| ());
    let found = of(FindingKind::Starved, &all);
    assert_eq!(found.ns, 70_000_000);
    let told = "For 70.0 ms (70.0 %) what the run waited for (mostly `waits: holder`) was ready";
    assert!(found.sentence.starts_with(told), "{}", found.sentence);
}

/// Two threads sync in turn, so that all are never blocked at once.
#[test]
fn a_disk_is_told_by_what_the_run_waited_for() {
    let sync = (FSYNC, FILE, DISK);
    let one = "rbbbbrrrrrbbbbrrrrrr$";
    let other = "rrrrrrbbbbrrrrrbbbbr$";
    let tasks = vec![
        slow(
            "parent",
            task(1, 1, "rbbbbbbbbbbbbbbbbbbbbr$", &[(FUTEX, 0, by(3))]),
        ),
        slow("sync", task(2, 1, one, &[sync, sync])),
        slow(
            "sync",
            task(3, 1, &format!("{}r$", &other[..20]), &[sync, sync]),
        ),
    ];
    let all = findings_with(tasks, |_, _| ());
    let found = of(FindingKind::Disk, &all);
    assert_eq!(found.ns, 80_000_000, "{all:#?}");
    assert!(
        found
            .sentence
            .contains(": `parent: sync` waited for it in fsync"),
        "{}",
        found.sentence
    );
    assert_eq!(
        all.iter().filter(|f| f.kind == FindingKind::Disk).count(),
        1
    );
}

#[test]
fn who_spins_would_not_want_a_cpu_without_that() {
    let mut spins = slow("spins", task(1, 1, "rwwwwwrrrr$", &[]));
    spins.polls = vec![PollUse {
        serial: 1,
        position: 0,
        calls: 1_000_000,
        ready_at_once: 1_000_000,
        blocked: 0,
        timed_out: 0,
        empty_at_once: 0,
        failed: 0,
        max_fds: 1,
        unfinished: 0,
        unknown_fds: 0,
    }];
    let all = findings_with(vec![spins], |_, _| ());
    assert_eq!(all[0].kind, FindingKind::BusyLoop, "{all:#?}");
    assert_eq!(all[0].ns, 100_000_000);
}

#[test]
fn sleeps_of_different_lengths_are_told_by_the_longest() {
    let line = format!("r{}rbrbrbrbrbrbrbrbrr$", "b".repeat(10));
    let sleeps = [(SLEEP, 0, TIMER)].repeat(9);
    let mut sleeper = slow("sleeper", task(1, 1, &line, &sleeps));
    sleeper.stretches.edit(|offs| {
        for off in &mut offs[1..] {
            off.timeout_us = Timeout::Us(((off.wake_ns - off.out_ns) / 1000) as u32).to_us();
        }
    });
    let waits = format!("r{}r$", "b".repeat(line.len() - 2));
    let tasks = vec![
        sleeper,
        slow("waits", task(2, 1, &waits, &[(FUTEX, LOCK, by(1))])),
    ];
    let all = findings_with(tasks, |_, _| ());
    let found = of(FindingKind::Stall, &all);
    let told = "which slept, for up to 100 ms at a time";
    assert!(found.sentence.contains(told), "{}", found.sentence);
}

/// The sleeps are what takes the time, and the lock is why each of them stops the other one.
#[test]
fn a_lock_comes_before_what_its_holders_do_in_turn() {
    let asks = |of| (FUTEX, LOCK, by(of));
    let nap = (SLEEP, 0, TIMER);
    let tasks = vec![
        slow(
            "one",
            task(
                1,
                1,
                &format!("{}r$", "bbbbbbrbbbbr".repeat(8)),
                &[asks(2), nap].repeat(8),
            ),
        ),
        slow(
            "other",
            task(
                2,
                1,
                &format!("{}r$", "rbbbbrbbbbbb".repeat(8)),
                &[nap, asks(1)].repeat(8),
            ),
        ),
    ];
    let all = findings_with(tasks, |_, _| ());
    let kinds: Vec<FindingKind> = all.iter().map(|f| f.kind).collect();
    assert_eq!(
        kinds[..2],
        [FindingKind::Lock, FindingKind::Stall],
        "{all:#?}"
    );
}

/// The lock finding says it all; what readers sleep is no second one.
#[test]
fn a_writer_that_waits_for_readers_is_told_once() {
    let waits = [(SLEEP, 0, TIMER)].repeat(5);
    let reader = |serial, line: &str| slow("reader", task(serial, 1, line, &waits));
    let tasks = vec![
        slow(
            "writer",
            task(1, 1, "rbbbbbbbbbbbbbbb>", &[(FUTEX, LOCK, Waker::None)]),
        ),
        reader(2, "rbbrbbrbbrbbrbbr$"),
        reader(3, "rbbrbbrbbrbbrbbr$"),
    ];
    let all = findings_with(tasks, |model, _| {
        model.providers = vec![Providers {
            serial: 1,
            seq: 1,
            at_ns: 50_000_000,
            kind: ProviderKind::Readers,
            tasks: vec![2, 3],
            outside: false,
            foreign: None,
        }];
    });
    assert_eq!(all[0].kind, FindingKind::Lock, "{all:#?}");
    let nothing = |f: &Finding| !f.sentence.contains("each in a wait of its own");
    assert!(all.iter().all(nothing), "{all:#?}");
}

/// A thread that asks for the interpreter's lock while another one computes.
#[test]
fn who_has_the_lock_of_an_interpreter_is_told() {
    const GIL: u32 = 8;
    let line = format!("r{}r$", "bbr".repeat(12));
    let asks = [(FUTEX, GIL, TIMER)].repeat(12);
    let mut serves = slow("serves", task(1, 1, &line, &asks));
    serves.stretches.edit(|offs| {
        for off in &mut offs[1..] {
            off.timeout_us = Timeout::Us(20_000).to_us();
        }
    });
    let computes = format!("{}$", "r".repeat(line.len() - 1));
    let tasks = vec![serves, slow("computes", task(2, 1, &computes, &[]))];
    let named = |name: &str| {
        findings_with(tasks.clone(), |model, _| {
            name_futex(model, name);
        })
    };
    let all = named("_PyRuntime+0x1b0");
    let found = of(FindingKind::Lock, &all);
    assert_eq!((found.ns, &found.tasks[..]), (240_000_000, &[1, 2][..]));
    let told =
        "for the lock of Python's interpreter (GIL): meanwhile `computes` (102) ran for 240 ms";
    assert!(found.sentence.contains(told), "{}", found.sentence);
    let other = named("_PyRuntimeOther+0x1b0");
    assert!(
        other.iter().all(|f| f.kind != FindingKind::Lock),
        "{other:#?}"
    );
}

/// Instances that a program makes anew each time have the same name: they are one finding.
#[test]
fn waits_that_read_the_same_are_one_finding() {
    let waits: Vec<_> = (0..3).map(|at| (232, 8 + at, TIMER)).collect();
    let tasks = vec![slow("one", task(1, 1, "rbbbrbbbrbbbrr$", &waits))];
    let all = findings_with(tasks, |model, _| {
        for at in 0..3 {
            model.targets.push(Target::File {
                fd: 3,
                file: model.files.len() as u32,
            });
            let watched = Watched {
                fd: WaitFd { fd: 4, events: 1 },
                inode: 70,
                device: 13,
                kind: Some(FileKind::Pipe),
            };
            model.files.push(File {
                file: 100 + at,
                inode: 5,
                device: 14,
                mode: 0,
                kind: Some(FileKind::Epoll),
                interests: vec![Interest {
                    id: at as u32,
                    at_ns: 0,
                    fds: vec![watched],
                    cut_off: false,
                }],
            });
        }
    });
    let idle: Vec<_> = all.iter().filter(|f| f.kind == FindingKind::Idle).collect();
    let [only] = idle[..] else { panic!("{all:#?}") };
    let told = "waited for events of epoll (fd 3) of 1 fd: pipe 70 in epoll for 90.0 ms";
    assert!(only.sentence.contains(told), "{}", only.sentence);
    assert!(only.sentence.contains("3 times"), "{}", only.sentence);
}

#[test]
fn each_wait_is_told_as_people_say_it() {
    let told = |reason: &str, call: &str, (kind, name): (&str, &str)| {
        let object = Object {
            kind: kind.to_owned(),
            id: name.to_owned(),
            name: name.to_owned(),
        };
        super::did(reason, Some(call), Some(&object), Some(100_000_000))
    };
    let sleep = ("sleep", "sleep");
    assert_eq!(
        told("select", "pselect6", sleep),
        "slept 100 ms in pselect6"
    );
    assert_eq!(told("sleep", "clock_nanosleep", sleep), "slept 100 ms");
    let set = ("fds", "2 fds: pipe 7, pipe 8");
    let told_set = told("poll", "ppoll", set);
    assert_eq!(
        told_set,
        "waited for events of 2 fds: pipe 7, pipe 8 in ppoll"
    );
    let (file, pipe) = (("file", "/x/y"), ("pipe", "pipe 7"));
    assert_eq!(
        told("write", "pwrite64", file),
        "waited in pwrite64 to /x/y"
    );
    assert_eq!(told("read", "read", file), "waited in read of /x/y");
    assert_eq!(
        told("write", "write", pipe),
        "waited for room to write to pipe 7"
    );
    assert_eq!(told("read", "read", pipe), "waited for input from pipe 7");
}
