//! Rows of locks, on time lines that are known: a character is a nanosecond.

use crate::{
    analysis::{
        analyse,
        why_tests::{FUTEX, LOCK, by, info, model, report_on, task},
    },
    model::{FutexKey, Futexes, OwnerSeen, Target, Task},
    report::{Lock, LockKind, Proof},
    trace::{Frames, ProviderKind, Providers, Stacks, Waker},
};

/// Two tasks wait for the first one, which sleeps and runs meanwhile.
fn queue() -> Vec<Task> {
    vec![
        task(1, 1, "rrrrbbrrrrrrr$", &[(35, 0, Waker::None)]),
        task(2, 1, "rrbbbbbbrrrrr$", &[(FUTEX, LOCK, by(1))]),
        task(3, 1, "rrrbbbbbbbbrr$", &[(FUTEX, LOCK, by(2))]),
    ]
}

fn with_owners(tids: [u32; 2]) -> Vec<Lock> {
    let mut model = model(queue());
    let seen = |serial, tid| OwnerSeen {
        serial,
        seq: 1,
        tid,
    };
    let owners = vec![seen(2, tids[0]), seen(3, tids[1])];
    model.futexes = Futexes::new(Vec::new(), owners);
    analyse(&info(), &model).locks
}

#[test]
fn a_lock_that_names_its_owner_is_a_mutex_and_tells_what_the_owner_did() {
    let locks = with_owners([101, 101]);
    let [lock] = &locks[..] else {
        panic!("{locks:#?}")
    };
    assert_eq!((lock.kind, lock.waits, lock.ns), (LockKind::Mutex, 2, 14));
    assert_eq!((lock.contended_ns, lock.proved_ns), (9, 6));
    let first = &lock.holders[0];
    assert_eq!((first.task, first.proof), (Some(1), Proof::Proved));
    let did = (first.ns, first.ran_ns, first.blocked_ns);
    assert_eq!(did, (6, 4, 2), "{lock:#?}");
    assert_eq!(first.blocked_in.as_deref(), Some("sleep"));
    // The second had it from when it came back until it woke the third.
    let second = &lock.holders[1];
    let had = (second.task, second.proof, second.ns);
    assert_eq!(had, (Some(2), Proof::Inferred, 3));
    let told = lock.told().join(" ");
    assert!(told.contains("`t1` (101) had it for 66.7 %"), "{told}");
}

#[test]
fn an_owner_that_is_no_thread_of_the_process_is_not_believed() {
    let locks = with_owners([101, 4]);
    assert_ne!(locks[0].kind, LockKind::Mutex, "{locks:#?}");
    assert_eq!(locks[0].proved_ns, 0, "{locks:#?}");
}

#[test]
fn what_was_looked_up_while_it_lasted_proves_a_holder_from_then_on() {
    let mut model = model(queue());
    model.providers = vec![Providers {
        serial: 2,
        seq: 1,
        at_ns: 5,
        kind: ProviderKind::KernelLock,
        tasks: vec![1],
        outside: false,
        foreign: None,
    }];
    let locks = analyse(&info(), &model).locks;
    let lock = locks.iter().find(|lock| lock.kind == LockKind::Kernel);
    let lock = lock.expect("the one that the second waited for");
    assert_eq!((lock.contended_ns, lock.proved_ns), (6, 3), "{lock:#?}");
    assert_eq!(lock.holders[0].task, None, "{lock:#?}");
}

#[test]
fn threads_that_sleep_on_a_futex_each_are_one_row() {
    let waits = |serial, target| task(serial, 1, "rbbbr$", &[(FUTEX, target, by(1))]);
    let mut model = model(vec![
        task(1, 1, "rrrrr$", &[]),
        waits(2, 5),
        waits(3, 6),
        waits(4, LOCK),
    ]);
    for task in &mut model.tasks[1..] {
        task.name = format!("worker-{}", task.serial);
    }
    for address in [0x1000, 0x2000] {
        let key = FutexKey::Private {
            process: 1,
            address,
        };
        model.targets.push(Target::Futex(key));
    }
    let locks = analyse(&info(), &model).locks;
    let rows: Vec<(LockKind, u64, u64)> = locks
        .iter()
        .map(|lock| (lock.kind, lock.waiters, lock.ns))
        .collect();
    let expected = [(LockKind::Parkers, 2, 6), (LockKind::Futex, 1, 3)];
    assert_eq!(rows, expected, "{locks:#?}");
    assert!(locks[0].name.contains("worker"), "{}", locks[0].name);
}

#[test]
fn a_report_without_waits_has_no_locks() {
    let locks = report_on(vec![task(1, 1, "rrrr$", &[])]).locks;
    assert_eq!(locks, []);
}

/// Of two who wait: what each calls, innermost first, and by which command of `futex`.
fn called(calls: [&[&str]; 2], command: u16) -> LockKind {
    let mut model = model(queue());
    model.futexes = Futexes::new(vec![0, 0, 1 << command], Vec::new());
    for (number, calls) in (0..).zip(calls) {
        let own = calls.iter().chain(&["update_index"]);
        let frames = Frames {
            number,
            frames: own.map(|it| (*it).to_owned()).collect(),
            cut_off: false,
            waits_in: Some(calls.len() as u32),
        };
        model.frames.insert(number, frames);
        model.stacks.push(Stacks {
            serial: number + 2,
            seq: 1,
            waker: Waker::None,
            kernel: None,
            user: Some(number),
            at_ns: 0,
        });
    }
    let locks = analyse(&info(), &model).locks;
    assert_eq!(locks[0].code[0].name, "update_index", "{locks:#?}");
    locks[0].kind
}

#[test]
fn the_functions_that_wait_tell_what_it_is_if_they_agree() {
    let nothing = called([&["[libc.so.6+0x1]"], &[]], 0);
    assert!(matches!(nothing, LockKind::Lock | LockKind::Futex));
    let read: &[&str] = &["[libc.so.6+0x1]", "pthread_rwlock_rdlock"];
    let write: &[&str] = &["pthread_rwlock_wrlock"];
    assert_eq!(called([read, write], 9), LockKind::RwLock);
    assert_eq!(called([read, &[]], 9), LockKind::RwLock);
    assert_eq!(called([read, &["pthread_mutex_lock"]], 9), nothing);
    // A condition variable, or the mutex that is had with it.
    let notice: &[&str] = &["pthread_cond_wait"];
    assert_eq!(called([notice, notice], 9), LockKind::Condition);
    assert_eq!(called([notice, notice], 0), nothing);
}
