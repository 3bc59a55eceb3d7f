//! Locks for the sample reports.

use crate::report::{Lock, LockHolder, LockKind, Proof};

const MS: u64 = 1_000_000;

fn holder(task: u32, name: &str, proof: Proof, [ns, ran, runnable]: [u64; 3]) -> LockHolder {
    LockHolder {
        task: Some(task),
        tid: Some(4_121 + task),
        name: Some(name.to_owned()),
        proof,
        ns,
        turns: 12,
        ran_ns: ran,
        runnable_ns: runnable,
        blocked_ns: ns - ran - runnable,
        blocked_in: Some("fsync".to_owned()),
    }
}

/// A mutex that one who syncs holds most of the time, and the end of a thread.
pub(super) fn locks() -> Vec<Lock> {
    let unknown = LockHolder {
        task: None,
        tid: None,
        name: None,
        turns: 0,
        blocked_ns: 0,
        blocked_in: None,
        ..holder(0, "", Proof::Unknown, [190 * MS, 0, 0])
    };
    let mutex = Lock {
        name: "futex queue+0x8 (in serve)".to_owned(),
        kind: LockKind::Mutex,
        id: "futex 0x55cd56e6f148 of process 2".to_owned(),
        ns: 3_800 * MS,
        waits: 150,
        waiters: 3,
        longest_ns: 400 * MS,
        p50_ns: 21 * MS,
        p99_ns: 380 * MS,
        holders_until_ns: None,
        contended_ns: 2_000 * MS,
        hand_offs: 90,
        hand_off_ns: 310 * MS,
        proved_ns: 1_400 * MS,
        inferred_ns: 100 * MS,
        unknown_ns: 190 * MS,
        held_running_ns: 110 * MS,
        held_runnable_ns: 60 * MS,
        held_blocked_ns: 1_330 * MS,
        held_blocked_in: Some("fsync".to_owned()),
        had_it: 2,
        holders: vec![
            holder(
                4,
                "db-writer",
                Proof::Proved,
                [1_400 * MS, 80 * MS, 40 * MS],
            ),
            unknown,
            holder(
                3,
                "db-reader",
                Proof::Inferred,
                [100 * MS, 30 * MS, 20 * MS],
            ),
        ],
        other_holders: 0,
        code: Vec::new(),
    };
    let joined = Lock {
        name: "end of thread db-writer (4125)".to_owned(),
        kind: LockKind::Join,
        id: "futex 0x7f3862078990 of process 2".to_owned(),
        ns: 278 * MS,
        waits: 1,
        waiters: 1,
        longest_ns: 278 * MS,
        p50_ns: 278 * MS,
        p99_ns: 278 * MS,
        holders: vec![holder(4, "db-writer", Proof::Proved, [278 * MS, MS, 0])],
        ..mutex.clone()
    };
    vec![mutex, joined]
}
