//! Who had a lock, of programs that say who had it.

use std::{fs, process::Command};

use serde_json::Value;

use crate::support::{Finished, LockRow, lacks, list, n, run, span, unspoilt};

/// Runs `locks.c` with this argument.
fn traced(kind: &str) -> Finished {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("locks.c"), include_str!("locks.c")).expect("a file");
    let mut compiler = Command::new("gcc");
    let compiler = compiler.args(["-O2", "-pthread", "locks.c", "-o", "locks"]);
    let status = compiler.current_dir(folder.path()).status();
    assert!(status.expect("gcc starts").success());
    let run = run().json().args(["--"]);
    run.args([folder.path().join("locks")])
        .args([kind])
        .complete()
}

/// The one for which the four threads waited.
#[track_caller]
fn of_four(finished: &Finished) -> &LockRow {
    let locks = &finished.report().locks;
    let found = locks.iter().find(|lock| lock.waiters == 4);
    found.unwrap_or_else(|| panic!("{locks:#?}"))
}

/// How long a task had a lock, by whatever proof, or by this one.
fn had(lock: &LockRow, tid: &Value, proof: Option<&str>) -> u64 {
    let of_task = lock
        .holders
        .iter()
        .filter(|it| it.tid.map(u64::from) == Some(n(tid)));
    let of_task = of_task.filter(|it| proof.is_none_or(|proof| it.proof == proof));
    of_task.map(|it| it.ns).sum()
}

fn check_mutex(kind: &str, expected: &str) {
    unspoilt(|| {
        let finished = traced(kind);
        let truth = finished.truth();
        let lock = of_four(&finished);
        assert_eq!(lock.kind, expected, "{lock:#?}");
        let holds = list(&truth["holds"]);
        let main = &holds[0];
        // The others slept before it napped, and it woke none of them before it was over.
        let proved = had(lock, &main["tid"], Some("proved"));
        assert!(proved >= span(main), "{main}: {lock:#?}");
        // They came in turn. While the last one had it, nobody waited.
        let mut others: Vec<&Value> = holds[1..].iter().collect();
        others.sort_by_key(|hold| n(&hold["begin_ns"]));
        for hold in &others[..3] {
            assert!(
                had(lock, &hold["tid"], None) >= span(hold),
                "{hold}: {lock:#?}"
            );
        }
        assert_eq!(had(lock, &others[3]["tid"], None), 0, "{lock:#?}");
        let parts = lock.proved_ns + lock.inferred_ns + lock.unknown_ns + lock.hand_off_ns;
        assert_eq!(parts, lock.contended_ns, "{lock:#?}");
        // The last thread's end was waited for.
        let locks = &finished.report().locks;
        let joined = locks.iter().find(|lock| lock.kind == "join");
        let joined = joined.unwrap_or_else(|| panic!("{locks:#?}"));
        assert_eq!(
            (joined.waiters, joined.proved_ns),
            (1, joined.ns),
            "{joined:#?}"
        );
    });
}

#[test]
fn the_holders_of_a_mutex_are_those_who_had_it() {
    if !lacks("the_holders_of_a_mutex_are_those_who_had_it", &["gcc"]) {
        check_mutex("plain", "mutex");
    }
}

#[test]
fn so_are_those_of_one_with_priority_inheritance() {
    if !lacks("so_are_those_of_one_with_priority_inheritance", &["gcc"]) {
        check_mutex("pi", "pi_mutex");
    }
}

#[test]
fn a_notice_has_no_holder() {
    if lacks("a_notice_has_no_holder", &["gcc"]) {
        return;
    }
    unspoilt(|| {
        let finished = traced("cond");
        let lock = of_four(&finished);
        assert_eq!(lock.kind, "futex", "{lock:#?}");
        assert!(
            lock.holders.iter().all(|it| it.proof == "unknown"),
            "{lock:#?}"
        );
    });
}
