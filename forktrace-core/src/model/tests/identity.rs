//! Whose record is it: names, tids and processes that are used again, and system calls that
//! the kernel restarts.

use super::*;
use crate::trace::{AttachedTo, Cgroup};

/// Of a process whose first thread is 90.
fn no_first_thread() -> Born {
    Born {
        tgid: 90,
        ..born(SERIAL, 0)
    }
}

#[test]
fn exec_gives_a_new_name_and_the_leaders_tid() {
    let events = vec![
        Event::Born(no_first_thread()),
        exec(SERIAL, 5, 107, 90, "first"),
        exec(SERIAL, 9, 90, 90, "second"),
    ];
    for events in orders(events) {
        let model = build(events, 20);
        let task = &model.tasks[0];
        assert_eq!((task.name.as_str(), task.tid), ("second", 90));
    }
}

#[test]
fn the_record_knows_the_last_name_and_tid_best() {
    let last = Born {
        tid: 90,
        comm: "renamed".to_owned(),
        ..no_first_thread()
    };
    let nameless = Born {
        comm: String::new(),
        ..last.clone()
    };
    for (last, name) in [(last, "renamed"), (nameless, "executed")] {
        let events = vec![
            Event::Born(no_first_thread()),
            exec(SERIAL, 5, 107, 107, "executed"),
            Event::Task(record(last, Some(9))),
        ];
        for events in orders(events) {
            let model = build(events, 20);
            assert_eq!(
                (model.tasks[0].name.as_str(), model.tasks[0].tid),
                (name, 90)
            );
        }
    }
}

#[test]
fn two_tasks_with_one_tid_are_kept_apart() {
    // After the exec of another thread, the leader's tid is that thread's.
    let leader = record(born(1, 0), Some(6));
    let thread = Born {
        tid: 101,
        process: 1,
        ..born(2, 2)
    };
    let events = vec![
        Event::Task(leader),
        exec(2, 6, 102, 101, "thread"),
        Event::Task(record(thread, Some(12))),
    ];
    for events in orders(events) {
        let model = build(events, 20);
        let lives: Vec<_> = model
            .tasks
            .iter()
            .map(|t| (t.tid, t.start_ns, t.end_ns))
            .collect();
        assert_eq!(lives, [(101, 0, 6), (101, 2, 12)]);
        assert!(model.tasks.iter().all(|t| t.process == 1));
    }
}

fn syscall(name: &str) -> i16 {
    Arch::X86_64.syscall_number(name).expect("x86 has it") as i16
}

/// Numbers of stretches, the syscalls that they were in, and those that are seen.
#[track_caller]
fn check_restarts(stretches: &[(u32, Why, &str)], seen: &[&str]) {
    let mut events = vec![Event::Born(born(SERIAL, 0))];
    for &(seq, why, name) in stretches {
        let at = 10 * u64::from(seq);
        let mut s = stretch(SERIAL, seq, why, [at, at + 2, at + 3]);
        s.syscall = syscall(name);
        events.push(Event::Stretch(s));
    }
    for events in orders(events) {
        let model = build(events, 100);
        let names = model.tasks[0].stretches.iter();
        let names = names.map(|s| Arch::X86_64.syscall_name(s.syscall.into()).expect("a name"));
        assert_eq!(names.collect::<Vec<_>>(), seen, "{stretches:?}");
    }
}

#[test]
fn a_restarted_syscall_is_the_one_before() {
    use Why::{Interruptible, Preempted, Stopped};
    check_restarts(
        &[
            (0, Interruptible, "poll"),
            (1, Stopped, "poll"),
            (2, Interruptible, "restart_syscall"),
            (3, Interruptible, "restart_syscall"),
            (4, Interruptible, "read"),
        ],
        &["poll", "poll", "poll", "poll", "read"],
    );
    // A preemption on the way is no syscall.
    check_restarts(
        &[
            (0, Interruptible, "clock_nanosleep"),
            (1, Preempted, "getpid"),
            (2, Interruptible, "restart_syscall"),
        ],
        &["clock_nanosleep", "getpid", "clock_nanosleep"],
    );
}

#[test]
fn a_restarted_syscall_is_not_joined_across_a_gap() {
    use Why::Interruptible;
    check_restarts(
        &[
            (0, Interruptible, "poll"),
            (2, Interruptible, "restart_syscall"),
            (3, Interruptible, "restart_syscall"),
        ],
        &["poll", "restart_syscall", "restart_syscall"],
    );
    // The gap is at the start.
    check_restarts(
        &[(1, Interruptible, "restart_syscall")],
        &["restart_syscall"],
    );
}

/// What the open stretch is in, after stretches with these numbers.
fn open_restart(seqs: &[u32], expected: u32) -> Option<&'static str> {
    let mut events = Vec::new();
    for &seq in seqs {
        let at = 10 * u64::from(seq);
        let mut s = stretch(SERIAL, seq, Why::Interruptible, [at, at + 2, at + 3]);
        s.syscall = syscall("poll");
        events.push(Event::Stretch(s));
    }
    let mut record = record(born(SERIAL, 0), None);
    record.totals.seq = expected;
    record.open = Some(OpenStretch {
        out_ns: START + 50,
        wake_ns: None,
        why: Why::Interruptible,
        compat: false,
        syscall: syscall("restart_syscall"),
        arg0: 0,
        arg1: 0,
        waker: Waker::None,
        object: 0,
        timeout: Timeout::None,
    });
    events.push(Event::Task(record));
    let model = build(events, 100);
    Arch::X86_64.syscall_name(model.tasks[0].open?.syscall.into())
}

#[test]
fn an_open_restarted_syscall_is_the_one_before() {
    assert_eq!(open_restart(&[0, 1], 2), Some("poll"));
    assert_eq!(open_restart(&[], 0), Some("restart_syscall"));
}

#[test]
fn an_open_restarted_syscall_is_not_joined_across_a_gap() {
    assert_eq!(open_restart(&[0, 1], 4), Some("restart_syscall"));
    assert_eq!(open_restart(&[0, 2], 4), Some("restart_syscall"));
}

#[test]
fn a_reused_tgid_is_that_of_the_process_that_is_followed() {
    let first = record(born(1, 0), Some(5));
    let mut second = record(born(2, 6), Some(12));
    second.born.tgid = first.born.tgid;
    let events = [
        Event::Task(first),
        Event::Task(second),
        // Its end is lost.
        Event::Untracked(untracked(201, 101, 2)),
        Event::Untracked(untracked(202, 101, 8)),
    ];
    let model = build(events, 20);
    let process_of = |tid| model.tasks.iter().find(|t| t.tid == tid).map(|t| t.process);
    assert_eq!(process_of(202), Some(2));
}

/// The kernel gives a first thread's tid to the thread that replaces it by an exec, and the
/// other way round, maybe a moment before the first thread's last switch.
#[test]
fn a_first_thread_keeps_its_tid_though_another_one_has_it_at_last() {
    let first = Born {
        tid: 100,
        tgid: 100,
        ..born(1, 0)
    };
    let second = Born {
        tid: 101,
        tgid: 100,
        ..born(2, 1)
    };
    let at_last = |born: &Born, tid| Born {
        tid,
        ..born.clone()
    };
    let events = [
        Event::Task(record(at_last(&first, 101), Some(8))),
        Event::Task(record(at_last(&second, 100), Some(9))),
        Event::Born(first),
        Event::Born(second),
    ];
    let model = build(events, 20);
    let tids: Vec<u32> = model.tasks.iter().map(|task| task.tid).collect();
    assert_eq!(tids, [100, 100]);
}

fn header() -> Header {
    Header {
        cgroup: "/first".to_owned(),
        ..drawn::header(START)
    }
}

#[test]
fn a_process_is_where_it_was_last_told_or_where_its_creator_was() {
    let told = |serial, at_ns, path: &str| {
        Event::Cgroup(Cgroup {
            serial,
            at_ns: START + at_ns,
            path: path.to_owned(),
        })
    };
    let of = |serial, parent, process| {
        Event::Born(Born {
            parent,
            process,
            ..born(serial, u64::from(serial))
        })
    };
    let events = vec![
        of(1, 0, 1),
        of(2, 1, 2),
        // A thread of it, and a child of that.
        of(3, 2, 2),
        of(4, 3, 4),
        told(3, 7, "/a"),
        told(2, 9, "/b"),
    ];
    for events in orders(events) {
        let model = build(events, 20);
        let mut header = header();
        let expected = [Some("/first"), Some("/b"), Some("/b"), Some("/b")];
        assert_eq!(model.cgroups_of_tasks(&header), expected);
        header.attached = Some(AttachedTo {
            targets: Vec::new(),
        });
        let expected = [None, Some("/b"), Some("/b"), Some("/b")];
        assert_eq!(model.cgroups_of_tasks(&header), expected);
    }
}
