//! What is lost is counted, the sums stay exact, and bounds hold the truth.

use crate::support::{
    Finished, Report, assert_within, beside_noise, check_figures, id, list, n, run, span, unspoilt,
};

/// Traces with rings of 64 records each.
fn trace_with_tiny_rings(script: &str) -> Finished {
    let traced = run().args(["--ring-size", "4K"]).shell(script).finish();
    assert!(
        traced.status.success(),
        "{}: {}",
        traced.status,
        traced.stderr
    );
    check_sums_are_exact(traced.report());
    traced
}

fn check_sums_are_exact(report: &Report) {
    check_figures(report);
    let audit = &report.audit;
    assert!(audit.lost_records > 0, "{audit:?}");
    assert!(!audit.complete, "{audit:?}");
    assert!(
        report.weakness("ring_full").text.contains("--ring-size"),
        "{audit:?}"
    );
    assert!(audit.unknown_ns > 0, "{audit:?}");
    for task in &report.tasks {
        assert_eq!(task.unknown_ns, 0, "the sums are known: {task:?}");
        assert_eq!(task.fate, "ended", "{task:?}");
        assert_eq!(Some(task.switches.traced), task.switches.kernel, "{task:?}");
    }
    assert!(report.tasks.iter().any(|task| task.unplaced_ns > 0));
}

#[test]
fn sums_stay_exact_when_records_are_lost() {
    unspoilt(|| {
        let traced = trace_with_tiny_rings(
            "kill -STOP $PPID
                $FORKTRACE workload ping-pong --pin --rounds 50000
                kill -CONT $PPID",
        );
        let (truth, report) = (traced.truth(), traced.report());
        // The shell is the third.
        assert_eq!(report.tasks.len(), 3);
        let all_blocked = report.tree().all_blocked;
        for pair in list(&truth["pairs"]) {
            for tid in [&pair["a_tid"], &pair["b_tid"]] {
                let task = report.task(id(tid));
                assert!(task.switches.traced >= n(&pair["rounds"]), "{task:?}");
                assert!(task.unplaced_ns > 0, "{task:?}");
            }
            // While they played they were never both blocked.
            let elsewhere = report.tree().lifetime_ns - span(pair);
            if announced_wakeups(report) {
                assert!(all_blocked.lower_ns <= elsewhere, "{all_blocked:?} {pair}");
            }
        }
        assert!(
            all_blocked.upper_ns > all_blocked.lower_ns,
            "{all_blocked:?}"
        );
    });
}

/// A wakeup that the kernel did not announce makes a block longer than it was.
fn announced_wakeups(report: &Report) -> bool {
    report
        .audit
        .weaknesses
        .iter()
        .all(|weakness| weakness.kind != "wakeup_missing")
}

#[test]
fn bounds_hold_the_truth_of_sleepers_when_records_are_lost() {
    unspoilt(|| {
        let script = beside_noise("sleepers --seconds 0.7");
        let traced = trace_with_tiny_rings(&script);
        let truth = traced.truth_of("sleepers");
        check_bounds_of_sleepers(traced.report(), &truth);
        let sleeping = list(&truth["threads"]).iter().map(|t| id(&t["tid"]));
        for task in sleeping.map(|tid| traced.report().task(tid)) {
            // Each thread slept once for 0.7 s, whether or not that record is there.
            assert!(
                task.blocked_ns + task.awake_ns() == task.lifetime_ns(),
                "{task:?}"
            );
            assert!(
                task.blocked_ns >= 700_000_000_u64.saturating_sub(task.awake_ns()),
                "{task:?}"
            );
        }
    });
}

/// All tasks were blocked for `truth["all_blocked"]["ns"]`, less what it took them to
/// get there; and if the main thread blocked more than once, perhaps at other times.
fn check_bounds_of_sleepers(report: &Report, truth: &serde_json::Value) {
    let pid = id(&truth["pid"]);
    let all_blocked = report.process(pid).all_blocked;
    let at_most = n(&truth["all_blocked"]["ns"]);
    let at_least = at_most.saturating_sub(report.awake_ns(pid));
    if n(&truth["main_switches"]) == 1 {
        assert!(all_blocked.lower_ns <= at_most, "{all_blocked:?} {truth}");
    }
    assert!(all_blocked.upper_ns >= at_least, "{all_blocked:?} {truth}");
}

#[test]
fn bounds_hold_the_truth_of_computing_threads_when_records_are_lost() {
    unspoilt(|| {
        let script = beside_noise("select-and-compute --seconds 0.7");
        for _ in 0..3 {
            let traced = trace_with_tiny_rings(&script);
            let truth = traced.truth_of("select-and-compute");
            let all_blocked = traced.report().process(id(&truth["pid"])).all_blocked;
            if n(&truth["main_switches"]) == 0 {
                assert_eq!(all_blocked.lower_ns, 0, "never: {all_blocked:?} {truth}");
            }
        }
    });
}

#[test]
fn tasks_that_find_no_room_are_listed_and_counted() {
    unspoilt(|| {
        let traced = run()
            .args(["--max-tasks", "8"])
            .workload("many-sleepers --processes 10 --threads 3 --millis 300")
            .finish();
        assert!(traced.status.success(), "{}", traced.stderr);
        let (truth, report) = (traced.truth(), traced.report());
        check_table_full(report);
        assert_eq!(
            report.tasks.len() as u64,
            n(&truth["tasks"]),
            "each task is listed"
        );
        let followed = report.tasks.iter().filter(|task| task.followed).count();
        // The first process lives all the time, and the sleepers sleep together.
        assert_eq!(followed, 8);
        assert_eq!(report.audit.tasks_not_followed, n(&truth["tasks"]) - 8);

        for process in list(&truth["processes"]) {
            for thread in list(&process["threads"]) {
                let task = report.task(id(&thread["tid"]));
                assert_eq!(task.pid, id(&process["pid"]));
                assert!(task.lifetime_ns() >= n(&thread["end_ns"]) - n(&thread["begin_ns"]));
            }
        }
        let at_least = n(&truth["all_asleep"]["ns"]);
        let followed = report.tasks.iter().filter(|task| task.followed);
        let awake: u64 = followed.map(|task| task.awake_ns()).sum();
        let tree = report.tree();
        assert!(
            tree.all_blocked.upper_ns >= at_least.saturating_sub(awake),
            "{tree:?}"
        );
    });
}

fn check_table_full(report: &Report) {
    check_figures(report);
    assert!(!report.audit.complete, "{:?}", report.audit);
    assert!(report.audit.tasks_not_followed > 0, "{:?}", report.audit);
    let weakness = report.weakness("table_full");
    assert_eq!(weakness.count, report.audit.tasks_not_followed);
    assert!(weakness.text.contains("--max-tasks"), "{weakness:?}");
    for task in report.tasks.iter().filter(|task| !task.followed) {
        assert_within(
            "unknown",
            task.unknown_ns,
            task.lifetime_ns(),
            task.lifetime_ns(),
        );
        assert_eq!(task.switches.kernel, None, "{task:?}");
        assert!(task.waits.is_empty(), "{task:?}");
    }
}

#[test]
fn bounds_hold_the_truth_when_tasks_find_no_room() {
    unspoilt(|| {
        let with_two = || run().args(["--max-tasks", "2"]);
        let traced = with_two()
            .workload("sleepers --threads 4 --seconds 0.4")
            .finish();
        let truth = traced.truth();
        check_table_full(traced.report());
        assert_eq!(traced.report().audit.tasks_not_followed, 2);
        check_bounds_of_sleepers(traced.report(), &truth);

        let traced = with_two()
            .workload("select-and-compute --seconds 0.4")
            .finish();
        check_table_full(traced.report());
        let truth = traced.truth();
        let process = traced.report().process(id(&truth["pid"]));
        if n(&truth["main_switches"]) == 0 {
            assert_eq!(process.all_blocked.lower_ns, 0, "{process:?}");
        }
        // Two of the computing threads are not followed: they may have slept all along.
        assert!(process.unknown_ns > 0, "{process:?}");
    });
}

#[test]
fn a_task_that_found_no_room_may_have_been_awake() {
    unspoilt(|| {
        // The shell is followed, and is blocked until the others, who compute, are gone.
        let script = "$FORKTRACE workload select-and-compute --seconds 0.4; true";
        let traced = run().args(["--max-tasks", "1"]).shell(script).finish();
        let report = traced.report();
        check_table_full(report);
        assert_eq!(report.audit.tasks_not_followed, 4);
        let shell = report.task(report.tree().pid);
        assert!(shell.followed);
        let truth = traced.truth();
        let computing = &list(&truth["computing"])[0];
        let all_blocked = report.tree().all_blocked;
        // Nobody but the shell is known to have slept, and it was not alone.
        assert!(
            shell.blocked_ns >= span(computing).saturating_sub(shell.awake_ns()),
            "{shell:?}"
        );
        if n(&computing["switches"]) == 0 {
            let at_most = report.tree().lifetime_ns - span(computing);
            assert!(
                all_blocked.lower_ns <= at_most,
                "{all_blocked:?} {computing}"
            );
        }
        // For all that is known, all of them may have.
        let at_least = span(computing).saturating_sub(shell.awake_ns());
        assert!(
            all_blocked.upper_ns >= at_least,
            "{all_blocked:?} {computing}"
        );
    });
}

#[test]
fn one_slot_follows_one_task_and_lists_each_other_once() {
    unspoilt(|| {
        // Often: their births and ends come through the rings of both CPUs.
        for _ in 0..10 {
            check_one_slot();
        }
    });
}

fn check_one_slot() {
    let traced = run()
        .args(["--max-tasks", "1"])
        .workload("fork-tree --depth 2")
        .finish();
    let report = traced.report();
    assert_eq!(
        (report.tasks.len(), report.audit.tasks_not_followed),
        (7, 6),
        "{:?}",
        report.ids()
    );
    check_table_full(report);
    let first = report.task(id(&traced.truth()["pid"]));
    assert!(first.followed);
    first.waited("sleep", "clock_nanosleep");
}

#[test]
fn slots_of_the_dead_are_used_again() {
    unspoilt(|| {
        let traced = run()
            .args(["--max-tasks", "32"])
            .workload("short-threads --count 500")
            .complete();
        assert_eq!(traced.report().tasks.len(), 501);
        let traced = run()
            .args(["--max-tasks", "8"])
            .workload("short-processes --count 100")
            .complete();
        assert_eq!(traced.report().tasks.len(), 101);
    });
}

#[test]
fn a_small_ring_is_enough_for_a_quiet_workload() {
    unspoilt(|| {
        let traced = run()
            .args(["--ring-size", "4K"])
            .workload("nap --millis 200")
            .complete();
        let nap = traced
            .report()
            .task(id(&traced.truth()["tid"]))
            .waited("sleep", "clock_nanosleep");
        assert_eq!((traced.report().tasks.len(), nap.count), (1, 1));
    });
}
