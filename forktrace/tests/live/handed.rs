//! Who had a lock that names no owner, of programs that say who had it: what the report claims
//! is never more than that.

use std::{fs, process::Command};

use serde_json::Value;

use crate::support::{Finished, LockRow, lacks, list, n, run, span, unspoilt};

/// Runs `handed.c` with this argument.
fn traced(kind: &str) -> Finished {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("handed.c"), include_str!("handed.c")).expect("a file");
    let mut compiler = Command::new("gcc");
    let compiler = compiler.args(["-O2", "-pthread", "handed.c", "-o", "handed"]);
    let status = compiler.current_dir(folder.path()).status();
    assert!(status.expect("gcc starts").success());
    let run = run().json().args(["--"]);
    run.args([folder.path().join("handed")])
        .args([kind])
        .complete()
}

/// How long a task had the lock by what the report says.
fn claimed(lock: &LockRow, tid: &Value) -> u64 {
    let holders = lock.holders.iter().filter(|it| it.proof != "unknown");
    let of_task = holders.filter(|it| it.tid.map(u64::from) == Some(n(tid)));
    of_task.map(|it| it.ns).sum()
}

/// How long a task can have had it at most: from when the last one before it had not yet let
/// it go.
fn at_most(holds: &[Value], tid: &Value) -> u64 {
    let of_task = holds.iter().filter(|hold| hold["tid"] == *tid);
    let length = |hold: &Value| {
        let begin_ns = n(&hold["begin_ns"]);
        let before = holds.iter().map(|it| n(&it["end_ns"]));
        let before = before.filter(|ns| *ns <= begin_ns).max();
        n(&hold["gone_ns"]) - before.unwrap_or(begin_ns)
    };
    of_task.map(length).sum()
}

/// Checks that no claim is false; gives the lock and the truth, in the order of time.
fn checked(kind: &str) -> (LockRow, Vec<Value>) {
    let finished = traced(kind);
    let truth = finished.truth();
    let mut holds = list(&truth["holds"]).to_vec();
    holds.sort_by_key(|hold| n(&hold["begin_ns"]));
    let locks = &finished.report().locks;
    let lock = locks.iter().find(|lock| lock.waiters == 4);
    let lock = lock.unwrap_or_else(|| panic!("{locks:#?}")).clone();
    for hold in &holds {
        // Who had it first did so before anybody waited.
        let claimed = claimed(&lock, &hold["tid"]);
        let most = at_most(&holds, &hold["tid"]);
        assert!(claimed <= most, "{claimed} > {most}: {hold} {lock:#?}");
    }
    let parts = lock.proved_ns + lock.inferred_ns + lock.unknown_ns + lock.hand_off_ns;
    assert_eq!(parts, lock.contended_ns, "{lock:#?}");
    (lock, holds)
}

#[test]
fn turns_of_a_lock_that_is_handed_on_in_order_are_inferred() {
    if lacks(
        "turns_of_a_lock_that_is_handed_on_in_order_are_inferred",
        &["gcc"],
    ) {
        return;
    }
    unspoilt(|| {
        let (lock, holds) = checked("queue");
        // While the last one had it nobody waited.
        for hold in &holds[1..4] {
            let claimed = claimed(&lock, &hold["tid"]);
            assert!(claimed >= span(hold), "{hold}: {lock:#?}");
        }
        // Nobody saw how the first one came by it.
        assert_eq!(claimed(&lock, &holds[0]["tid"]), 0, "{lock:#?}");
        assert_eq!(lock.proved_ns, 0, "{lock:#?}");
    });
}

#[test]
fn who_was_woken_for_a_lock_that_another_took_has_no_turn() {
    if lacks(
        "who_was_woken_for_a_lock_that_another_took_has_no_turn",
        &["gcc"],
    ) {
        return;
    }
    unspoilt(|| {
        let (lock, holds) = checked("barging");
        assert_eq!(holds[0]["tid"], holds[1]["tid"], "main took it again");
        assert_eq!(lock.proved_ns, 0, "{lock:#?}");
    });
}

#[test]
fn who_read_side_by_side_had_no_turns() {
    if lacks("who_read_side_by_side_had_no_turns", &["gcc"]) {
        return;
    }
    unspoilt(|| {
        let (lock, holds) = checked("rwlock");
        for hold in &holds[1..] {
            assert_eq!(claimed(&lock, &hold["tid"]), 0, "{lock:#?}");
        }
    });
}
