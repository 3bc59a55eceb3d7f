//! Findings on time lines that are known. A character is 10 ms.

use super::*;
use crate::{
    analysis::{
        analyse,
        why_tests::{WAIT, info, model, task},
    },
    model::{File, FutexKey, Model, Target, Task},
    trace::{FileKind, Finish, Interrupt, Waker, Why},
    trace_file::TraceInfo,
};

pub(super) const SLEEP: i16 = 35;
pub(super) const ACCEPT: i16 = 43;
pub(super) const FUTEX: i16 = 202;
pub(super) const TIMER: Waker = Waker::Interrupt(Interrupt::Timer);
pub(super) const NETWORK: Waker = Waker::Interrupt(Interrupt::Soft(3));
pub(super) const LOCK: u32 = 2;
/// The model's targets are as many as this without it.
pub(super) const SOCKET: u32 = 5;
/// Futexes of one thread each.
const OWN: [u32; 2] = [6, 7];
const EPOLL: i16 = 232;
pub(super) const FILE: u32 = 1;
pub(super) const YIELD: i16 = 24;
pub(super) const READ: i16 = 0;

pub(super) fn by(serial: u32) -> Waker {
    Waker::Task {
        serial,
        softirq: false,
    }
}

/// With a character of 10 ms in place of 1 ns.
pub(super) fn slow(name: &str, task: Task) -> Task {
    scaled(name, task, 10_000_000)
}

/// With a character of so many ns.
pub(super) fn scaled(name: &str, mut task: Task, factor: u64) -> Task {
    task.name = name.to_owned();
    task.start_ns *= factor;
    task.end_ns *= factor;
    task.stretches.edit(|offs| {
        for off in offs {
            off.out_ns *= factor;
            off.wake_ns *= factor;
            off.in_ns *= factor;
        }
    });
    if let Some(open) = &mut task.open {
        open.out_ns *= factor;
    }
    task
}

pub(super) fn found(tasks: Vec<Task>, kind: FindingKind) -> Vec<Finding> {
    let mut all = findings_with(tasks, |_, _| ());
    all.retain(|f| f.kind == kind);
    all
}

/// All findings on these tasks, with what else is to be in the trace.
pub(super) fn findings_with(
    tasks: Vec<Task>,
    change: impl FnOnce(&mut Model, &mut TraceInfo),
) -> Vec<Finding> {
    let mut model: Model = model(tasks);
    assert_eq!(model.targets.len(), SOCKET as usize);
    model.targets.push(Target::File {
        fd: 4,
        file: model.files.len() as u32,
    });
    model.files.push(File {
        file: 1,
        inode: 11,
        device: 8,
        mode: 0o140_777,
        kind: Some(FileKind::InetSocket {
            protocol: "tcp".to_owned(),
            local: "127.0.0.1:80".to_owned(),
            remote: String::new(),
            listening: true,
        }),
        interests: Vec::new(),
    });
    for address in [0x1000, 0x2000] {
        let key = FutexKey::Private {
            process: 1,
            address,
        };
        model.targets.push(Target::Futex(key));
    }
    let mut info = info();
    info.finish = Some(Finish::default());
    change(&mut model, &mut info);
    analyse(&info, &model).findings
}

/// A worker process: waits for a connection, then for something else.
fn worker(serial: u32, line: &str) -> Task {
    let waits = [
        (ACCEPT, SOCKET, NETWORK),
        (SLEEP, 0, TIMER),
        (ACCEPT, SOCKET, NETWORK),
    ];
    slow("worker", task(serial, serial, line, &waits))
}

#[test]
fn a_pool_is_exhausted_while_all_its_workers_are_blocked_elsewhere() {
    let tasks = vec![
        worker(1, "rbbrbbbbbbbbrbr$"),
        worker(2, "rbbbbrbbbbbbbrbr$"),
    ];
    let [pool] = &found(tasks, FindingKind::PoolExhausted)[..] else {
        panic!("one pool")
    };
    // From the sixth character on, until the first has slept.
    assert_eq!((pool.ns, &pool.tasks[..]), (60_000_000, &[1, 2][..]));
    assert!(
        pool.sentence
            .starts_with("Both workers of `worker` were busy at the same time, once, for "),
        "{}",
        pool.sentence
    );
}

#[test]
fn a_pool_with_an_idle_worker_is_not_exhausted() {
    let tasks = vec![
        worker(1, "rbbrbbbbbbbbrbr$"),
        worker(2, "rbbbbbbbbbbbbrbr$"),
    ];
    assert_eq!(found(tasks, FindingKind::PoolExhausted), []);
}

/// There was always a connection for it.
#[test]
fn a_worker_that_never_waited_for_work_is_one_of_its_siblings() {
    let busy = task(2, 2, "rrrrrbbbbbbbrrr$", &[(SLEEP, 0, TIMER)]);
    let mut tasks = vec![worker(1, "rbbrbbbbbbbbrbr$"), slow("worker", busy)];
    assert_eq!(found(tasks.clone(), FindingKind::PoolExhausted), []);
    for task in &mut tasks {
        task.parent = 9;
    }
    let [pool] = &found(tasks, FindingKind::PoolExhausted)[..] else {
        panic!("one pool")
    };
    assert_eq!((pool.ns, &pool.tasks[..]), (70_000_000, &[1, 2][..]));
}

#[test]
fn who_takes_a_lock_in_turn_is_no_pool() {
    let waits = |other| {
        [
            (FUTEX, LOCK, by(other)),
            (SLEEP, 0, TIMER),
            (FUTEX, LOCK, by(other)),
        ]
    };
    let tasks = vec![
        slow("worker", task(1, 1, "rbbrbbbbbbbbrbr$", &waits(2))),
        slow("worker", task(2, 1, "rrrrrrbbbrbbbbrbr$", &waits(1))),
    ];
    assert_eq!(found(tasks, FindingKind::PoolExhausted), []);
}

/// Threads that begin together meet at a lock of the C library.
#[test]
fn two_of_many_that_meet_at_a_futex_once_are_no_pool() {
    let meets = |serial| {
        let waits = [(FUTEX, LOCK, by(1)), (SLEEP, 0, TIMER)];
        slow("worker", task(serial, 1, "rbrbbbbbbr$", &waits))
    };
    let first = slow("main", task(1, 1, "rrrrrrrrrr$", &[]));
    let sleeper = task(4, 1, "rrrbbbbbbr$", &[(SLEEP, 0, TIMER)]);
    let mut tasks = vec![first, meets(2), meets(3), slow("worker", sleeper)];
    assert_eq!(found(tasks.clone(), FindingKind::PoolExhausted), []);
    // The holder of a lock would not have called three.
    let mut called = tasks.clone();
    called.push(meets(5));
    let [pool] = &found(called, FindingKind::PoolExhausted)[..] else {
        panic!("one pool")
    };
    assert_eq!(pool.tasks, [2, 3, 5]);
    // Unless there are no others.
    tasks.pop();
    assert_eq!(found(tasks, FindingKind::PoolExhausted).len(), 1);
}

/// A thread of a team: it waits for the one with this serial.
fn member(serial: u32, line: &str, of: u32) -> Task {
    slow(
        &format!("team-{serial}"),
        task(serial, 1, line, &[(FUTEX, LOCK, by(of))]),
    )
}

#[test]
fn a_team_waits_for_its_straggler() {
    let tasks = vec![
        member(1, "rrbbbbbbbbrr$", 2),
        member(2, "rrrrrrrrrrrr$", 2),
        member(3, "rrrbbbbbbbrr$", 2),
    ];
    let [straggler] = &found(tasks, FindingKind::Straggler)[..] else {
        panic!("one straggler")
    };
    assert_eq!((straggler.ns, straggler.tasks[0]), (70_000_000, 2));
}

#[test]
fn who_was_asleep_all_the_time_waits_for_no_straggler() {
    let tasks = vec![
        member(1, "rrrrrrrrrrrr$", 1),
        member(2, "bbbbbbbbbbrr$", 1),
        member(3, "bbbbbbbbbbrr$", 1),
    ];
    assert_eq!(found(tasks, FindingKind::Straggler), []);
}

#[test]
fn a_loop_that_sleeps_is_blocked_and_that_is_no_other_stall() {
    let event = (EPOLL, FILE, NETWORK);
    let waits = [event, event, event, event, (SLEEP, 0, TIMER), event];
    let looping = || vec![slow("server", task(1, 1, "rbrbrbrbrbbbbbbrbr$", &waits))];
    let [blocked] = &found(looping(), FindingKind::EventLoop)[..] else {
        panic!("one loop")
    };
    assert_eq!((blocked.ns, &blocked.tasks[..]), (60_000_000, &[1][..]));
    assert_eq!(found(looping(), FindingKind::Stall), []);
}

/// With many clients the next one is always there, and it waits for one only before and after.
#[test]
fn a_server_that_waited_for_clients_twice_is_a_loop() {
    let waits = |target| {
        let [event, read] = [(EPOLL, target, NETWORK), (READ, FILE, NETWORK)];
        [event, read, read, event]
    };
    let serves = |target| {
        let line = "rbrbbbbbrbbbbbrbr$";
        vec![slow("server", task(1, 1, line, &waits(target)))]
    };
    let [blocked] = &found(serves(SOCKET), FindingKind::EventLoop)[..] else {
        panic!("one loop")
    };
    assert_eq!((blocked.ns, &blocked.tasks[..]), (100_000_000, &[1][..]));
    assert_eq!(found(serves(FILE), FindingKind::EventLoop), []);
    // Nor is it idle meanwhile.
    let with_parent = |target| {
        let sleeper = task(2, 2, "bbbbbbbbbbbbbbbbr$", &[(ACCEPT, FILE, NETWORK)]);
        serves(target)
            .into_iter()
            .chain([slow("parent", sleeper)])
            .collect()
    };
    assert_eq!(found(with_parent(FILE), FindingKind::Idle).len(), 1);
    assert_eq!(found(with_parent(SOCKET), FindingKind::Idle), []);
}

/// Each of them is a loop that is blocked elsewhere, which is told once: of all.
#[test]
fn what_exhausts_a_pool_of_loops_is_told_of_the_pool() {
    let event = (EPOLL, SOCKET, NETWORK);
    let waits = [event, (SLEEP, 0, TIMER), event];
    let worker = |serial, line| slow("worker", task(serial, serial, line, &waits));
    let tasks = vec![
        worker(1, "rbbrbbbbbbbbrbr$"),
        worker(2, "rbbbbrbbbbbbrbbr$"),
    ];
    assert_eq!(found(tasks.clone(), FindingKind::PoolExhausted).len(), 1);
    assert_eq!(found(tasks, FindingKind::EventLoop), []);
}

#[test]
fn threads_that_take_turns_at_one_set_are_no_loop_that_one_wait_holds_up() {
    let event = (EPOLL, FILE, NETWORK);
    // It parks, or it waits for a child while the other one looks at the set.
    for elsewhere in [(FUTEX, OWN[0], by(2)), (WAIT, 0, by(2))] {
        let waits = [event, event, event, event, elsewhere, event];
        let tasks = vec![
            slow("1_scheduler", task(1, 1, "rbrbrbrbrbbbbbbrbr$", &waits)),
            slow(
                "2_scheduler",
                task(2, 1, "rbrbrbrbrrrrrrrrbr$", &[event; 5]),
            ),
        ];
        assert_eq!(found(tasks, FindingKind::EventLoop), []);
    }
}

#[test]
fn a_backend_that_another_one_wakes_waited_for_it() {
    let holder = [(EPOLL, FILE, TIMER)];
    let waiter = [(EPOLL, FILE, by(1))];
    let tasks = |process| {
        vec![
            slow("backend", task(1, 1, "rbbbbbbbrr$", &holder)),
            slow("backend", task(2, process, "rbbbbbbbbr$", &waiter)),
        ]
    };
    let [stall] = &found(tasks(2), FindingKind::Stall)[..] else {
        panic!("one stall")
    };
    assert_eq!((stall.ns, stall.tasks[0]), (70_000_000, 1));
    // Threads of a process wake each other for reasons of its runtime.
    assert_eq!(found(tasks(1), FindingKind::Stall), []);
}

#[test]
fn threads_of_a_jvm_that_let_each_other_go_on_wait_for_one_lock() {
    let tasks = |helper| {
        let first = [(FUTEX, OWN[0], by(3)); 11];
        let second = [(FUTEX, OWN[1], by(2)); 11];
        vec![
            slow(
                helper,
                task(1, 1, "bbbbbbbbbbbbbbbbbbbbb$", &[(FUTEX, 0, TIMER)]),
            ),
            slow("worker-1", task(2, 1, "rbrbrbrbrbrbrbrbrbrbrb$", &first)),
            slow("worker-2", task(3, 1, "brbrbrbrbrbrbrbrbrbrbr$", &second)),
        ]
    };
    let [lock] = &found(tasks("VM Thread"), FindingKind::Lock)[..] else {
        panic!("one lock")
    };
    assert_eq!(lock.ns, 110_000_000);
    assert_eq!(found(tasks("main"), FindingKind::Lock), []);
}

#[test]
fn who_mostly_yields_spins() {
    let spinning = |syscall| {
        let mut rank = task(1, 1, &format!("{}r$", "rw".repeat(120)), &[]);
        rank.stretches.edit(|offs| {
            for off in offs {
                if off.why == Why::Preempted {
                    off.syscall = syscall;
                }
            }
        });
        let of = |ns, others: &[Task]| {
            let mut tasks = vec![scaled("rank", rank.clone(), ns)];
            tasks.extend_from_slice(others);
            found(tasks, FindingKind::BusyLoop).len()
        };
        // Of a long run a few ms are not worth a word.
        let long = task(2, 2, "rbbbbbbbbbr$", &[(SLEEP, 0, TIMER)]);
        let long = scaled("other", long, 8_000_000);
        (of(10_000, &[]), of(1_000_000, &[]), of(10_000, &[long]))
    };
    assert_eq!((spinning(YIELD), spinning(-1)), ((1, 0, 0), (0, 0, 0)));
}

/// Two workers that wait for connections, and who makes them. `other`: who wakes the second.
fn herd(other: u32) -> Vec<Task> {
    let connections = 60;
    let line = |part: &str| format!("{}r$", part.repeat(connections));
    let waits = |waker| vec![(ACCEPT, SOCKET, by(waker)); 2 * connections];
    // The one that takes the connection sends an answer.
    let mut tasks = vec![
        slow("taker", task(1, 1, &line("rbbb"), &waits(3))),
        slow("other", task(2, 2, &line("rbbb"), &waits(other))),
        slow(
            "client",
            task(3, 3, &line("rrbr"), &vec![(READ, 0, by(1)); connections]),
        ),
    ];
    // Runs of 10 ms are too long for a look that finds nothing.
    for task in &mut tasks[..2] {
        task.stretches.edit(|offs| {
            for off in &mut offs[1..] {
                off.out_ns -= 9_900_000;
            }
        });
    }
    tasks
}

#[test]
fn who_is_woken_with_others_and_finds_nothing_is_woken_in_vain() {
    let [found] = &found(herd(3), FindingKind::Herd)[..] else {
        panic!("one herd")
    };
    assert!(
        found
            .sentence
            .contains("120 wakeups for 60 events, 59 of them in vain"),
        "{}",
        found.sentence
    );
}

#[test]
fn who_is_woken_for_something_else_is_no_herd() {
    assert_eq!(found(herd(4), FindingKind::Herd), []);
}

#[test]
fn many_tasks_that_live_for_a_moment_are_told_with_what_was_waited_for_them() {
    let child = |at: usize| {
        let line = format!("{}rrr$", " ".repeat(5 * at));
        let mut child = task(at as u32 + 2, at as u32 + 2, &line, &[]);
        child.start_ns *= 1_000_000;
        child.end_ns *= 1_000_000;
        child.stretches.edit(|offs| {
            for off in offs {
                off.out_ns *= 1_000_000;
                off.wake_ns *= 1_000_000;
                off.in_ns *= 1_000_000;
            }
        });
        child.name = "true".to_owned();
        child.ppid = 101;
        child
    };
    let tasks = |count: usize| -> Vec<Task> { (0..count).map(child).collect() };
    let [found] = &found(tasks(200), FindingKind::Creation)[..] else {
        panic!("one finding")
    };
    assert!(
        found
            .sentence
            .starts_with("It created 200 tasks that lived for 3.00 ms on average"),
        "{}",
        found.sentence
    );
    assert_eq!(super::tests::found(tasks(20), FindingKind::Creation), []);
}
