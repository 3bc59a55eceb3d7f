//! Deadlocks are found while the workload runs, and nothing else is.

use std::time::{Duration, Instant};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::support::{Deadlock, Finished, Forktrace, run, too_busy, trace, unspoilt};

/// Traces a workload that can't end, until forktrace has said so. Gives the truth
/// line too.
#[track_caller]
fn until_found(kind: &str) -> (Finished, serde_json::Value) {
    until_found_by(run(), kind)
}

#[track_caller]
fn until_found_by(run: Forktrace, kind: &str) -> (Finished, serde_json::Value) {
    let mut running = run
        .workload(&format!("deadlock --kind {kind} --give-up 250"))
        .start();
    let truth = running.line(1);
    let begun = Instant::now();
    // The workload still runs: it ends by our signal only.
    while !running.stderr().contains("The run goes on") {
        assert!(
            begun.elapsed() < Duration::from_secs(200),
            "{}",
            running.stderr()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    kill(Pid::from_raw(running.pid() as i32), Signal::SIGTERM).expect("forktrace runs");
    let finished = running.finish();
    assert_eq!(
        finished.report().workload.signal,
        Some(15),
        "{}",
        finished.stderr
    );
    let truth = serde_json::from_str(&truth).expect("a truth line is JSON");
    (finished, truth)
}

fn numbers(truth: &serde_json::Value, name: &str) -> Vec<u32> {
    serde_json::from_value(truth[name].clone()).expect("a list of numbers")
}

/// The one deadlock of the report.
#[track_caller]
fn the_deadlock(finished: &Finished) -> &Deadlock {
    let deadlocks = &finished.report().deadlocks;
    assert_eq!(deadlocks.len(), 1, "{deadlocks:?}");
    &deadlocks[0]
}

#[test]
fn a_mutex_locked_twice_is_found_during_the_run() {
    unspoilt(|| {
        let (finished, truth) = until_found("self");
        let deadlock = the_deadlock(&finished);
        assert_eq!((deadlock.kind.as_str(), deadlock.tasks.len()), ("cycle", 1));
        let task = &deadlock.tasks[0];
        assert_eq!(u64::from(task.tid), truth["main"]);
        assert_eq!(task.owner, Some(task.serial));
        assert!(task.waits_for.starts_with("mutex 0x"), "{task:?}");
        assert!(
            finished.stderr.contains("held by itself"),
            "{}",
            finished.stderr
        );
    });
}

#[test]
fn two_locks_in_opposite_order_are_found_during_the_run() {
    unspoilt(|| {
        let (finished, truth) = until_found("abba");
        let deadlock = the_deadlock(&finished);
        assert_eq!(deadlock.kind, "cycle");
        let [a, b] = &deadlock.tasks[..] else {
            panic!("{deadlock:?}")
        };
        assert_eq!(vec![a.tid, b.tid], numbers(&truth, "threads"));
        assert_eq!((a.owner, b.owner), (Some(b.serial), Some(a.serial)));
        assert_eq!((a.name.as_str(), b.name.as_str()), ("lock-0", "lock-1"));
        let said = format!("tid {} (lock-0) waits for mutex", a.tid);
        assert!(finished.stderr.contains(&said), "{}", finished.stderr);
        // It was over half a second old when it was found, and was found before the end.
        assert!(
            a.since_ns < deadlock.at_ns && deadlock.at_ns < finished.report().task(a.tid).end_ns
        );
    });
}

#[test]
fn the_functions_of_a_deadlock_are_told_where_stacks_are_recorded() {
    unspoilt(|| {
        let run = run().args(["--stacks=dwarf"]);
        let (finished, _) = until_found_by(run, "abba");
        // It was found only after half a second: there was time to look.
        for task in &the_deadlock(&finished).tasks {
            let code = task.code.as_deref().unwrap_or_default();
            // The symbols of a program this large are read for longer than it lives, on a busy machine.
            if code.starts_with("forktrace+0x") {
                too_busy("its functions were not looked up before it ended".to_owned());
            }
            assert!(code.starts_with("forktrace_workload::"), "{task:?}");
        }
        let findings = &finished.report().findings;
        let told = findings.iter().find(|it| it.kind == "deadlock");
        let told = told.expect("a deadlock").sentence.clone();
        assert!(
            told.contains("that the other holds, ") && told.contains('`'),
            "{told}"
        );
    });
}

#[test]
fn of_a_ring_of_three_a_bystander_is_no_part() {
    unspoilt(|| {
        let (finished, truth) = until_found("ring");
        let tids: Vec<u32> = the_deadlock(&finished)
            .tasks
            .iter()
            .map(|t| t.tid)
            .collect();
        assert_eq!(tids, numbers(&truth, "threads"));
    });
}

#[test]
fn a_pool_that_nobody_is_left_to_wake_is_found_during_the_run() {
    unspoilt(|| {
        let (finished, truth) = until_found("hang");
        let deadlock = the_deadlock(&finished);
        assert_eq!(deadlock.kind, "all_asleep");
        let mut tids: Vec<u32> = deadlock.tasks.iter().map(|t| t.tid).collect();
        tids.sort_unstable();
        let mut expected = numbers(&truth, "threads");
        expected.extend(truth["main"].as_u64().map(|tid| tid as u32));
        expected.sort_unstable();
        assert_eq!(tids, expected);
        assert!(deadlock.tasks.iter().all(|task| task.owner.is_none()));
    });
}

/// All these sleep for seconds, some of them all at once, and go on.
#[test]
fn whoever_can_go_on_is_in_no_deadlock() {
    unspoilt(|| {
        for workload in [
            "deadlock --kind held --give-up 3",
            "deadlock --kind idle --give-up 4",
            "sleepers --seconds 3",
            "sleepers --threads 3 --seconds 3",
            "ping-pong --seconds 3",
            "many-sleepers --millis 2500",
        ] {
            let finished = trace(workload);
            let deadlocks = &finished.report().deadlocks;
            assert!(deadlocks.is_empty(), "{workload}: {deadlocks:?}");
            assert!(
                !finished.stderr.contains("forktrace:"),
                "{workload}: {}",
                finished.stderr
            );
        }
    });
}

/// A shell that waits for a child, which reads what never comes: somebody outside
/// could still write it.
#[test]
fn whoever_waits_for_the_world_is_in_no_deadlock() {
    unspoilt(|| {
        for script in [
            "d=$(mktemp -d); mkfifo $d/f; timeout 3 cat <> $d/f; rm -r $d",
            "(sleep 3) | cat",
        ] {
            let finished = run().shell(script).finish();
            let deadlocks = &finished.report().deadlocks;
            assert!(deadlocks.is_empty(), "{script}: {deadlocks:?}");
        }
    });
}
