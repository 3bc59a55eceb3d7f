//! Blocked at the same time, or not.

use serde_json::Value;

use crate::support::{
    Finished, Group, Report, assert_within, check_complete, check_figures, id, lacks, list, n, run,
    skip, span, too_busy, trace, trace_until, unspoilt,
};

fn never_all_blocked(group: &Group) {
    assert_eq!(group.all_blocked.upper_ns, 0, "{group:?}");
    assert_eq!(group.all_blocked.episodes, 0, "{group:?}");
}

#[test]
fn one_in_select_does_not_stop_the_others() {
    unspoilt(|| {
        let as_meant = |traced: &Finished| n(&traced.truth()["main_switches"]) == 0;
        let traced = trace_until("select-and-compute --seconds 0.7", as_meant);
        let (truth, report) = (traced.truth(), traced.report());

        let process = report.process(id(&truth["pid"]));
        assert_eq!(process.tasks.len(), 4);
        assert_eq!(process.most_live, 4);
        never_all_blocked(process);
        never_all_blocked(report.tree());

        let select = &truth["select"];
        let selector = report.task(id(&select["tid"]));
        assert_eq!(selector.name, "selector");
        let wait = selector.waited("select", "pselect6");
        assert_eq!((wait.count, wait.cut_off), (1, 0));
        let at_least = selector.least_wait(span(select), wait.ns);
        assert_within("blocked in select", wait.ns, at_least, span(select));

        for thread in list(&truth["computing"]) {
            let task = report.task(id(&thread["tid"]));
            let (wall_ns, cpu_ns) = (span(thread), n(&thread["cpu_ns"]));
            // The kernel charges some time before the switch that we see.
            assert!(task.running_ns >= cpu_ns - cpu_ns / 20, "{thread} {task:?}");
            if n(&thread["switches"]) == 0 {
                let outside_ns = task.lifetime_ns() - wall_ns;
                assert!(
                    task.blocked_ns <= outside_ns,
                    "it never blocked: {thread} {task:?}"
                );
                assert!(task.awake_ns() >= wall_ns, "{thread} {task:?}");
            }
        }
        // While the select lasted the others had both CPUs.
        let computing: u64 = list(&truth["computing"])
            .iter()
            .map(|t| n(&t["cpu_ns"]))
            .sum();
        let others = report.tasks.iter().filter(|task| task.tid != selector.tid);
        let ran: u64 = others.map(|task| task.running_ns).sum();
        assert!(ran >= computing - computing / 20, "{ran} of {computing}");
    });
}

#[test]
fn sleepers_are_all_blocked_from_the_last_begin_to_the_first_end() {
    unspoilt(|| {
        let as_meant = |traced: &Finished| n(&traced.truth()["main_switches"]) == 1;
        let traced = trace_until("sleepers --threads 8 --seconds 0.5", as_meant);
        let (truth, report) = (traced.truth(), traced.report());
        let pid = id(&truth["pid"]);

        check_common_sleep(report, pid, &truth["all_blocked"]);
        let process = report.process(pid);
        assert_eq!((process.tasks.len(), process.most_live), (8, 8));
        assert_eq!(process.all_blocked.episodes, 1);
        assert_eq!(
            report.tree().all_blocked.longest_ns,
            process.all_blocked.longest_ns
        );

        for thread in list(&truth["threads"]) {
            let task = report.task(id(&thread["tid"]));
            let syscall = thread["syscall"].as_str().expect("a name");
            let reason = match syscall {
                "clock_nanosleep" => "sleep",
                "poll" | "ppoll" => "poll",
                "futex" => "futex",
                "rt_sigtimedwait" => "signal wait",
                other => panic!("no reason known for {other}"),
            };
            let wait = task.waited(reason, syscall);
            let at_least = task.least_wait(span(thread), wait.longest_ns);
            assert_within(syscall, wait.longest_ns, at_least, span(thread));
        }
    });
}

/// All of a process's tasks slept together for at most `truth["ns"]`: it was less only
/// as far as one of them was on its way.
fn check_common_sleep(report: &Report, pid: u32, truth: &Value) {
    let all_blocked = report.process(pid).all_blocked;
    let at_least = n(&truth["ns"]).saturating_sub(report.awake_ns(pid));
    if at_least == 0 {
        too_busy(format!("hardly ever all slept: {truth}"));
    }
    assert_within(
        "all blocked",
        all_blocked.lower_ns,
        at_least,
        n(&truth["ns"]),
    );
    assert_within(
        "all blocked",
        all_blocked.upper_ns,
        at_least,
        n(&truth["ns"]),
    );
}

#[test]
fn a_plain_recording_has_all_times_and_no_wakers() {
    unspoilt(|| {
        let run = run().args(["--plain"]);
        let traced = run.workload("ping-pong --rounds 5000 --processes").finish();
        assert!(traced.status.success(), "{}", traced.stderr);
        let audit = &traced.report().audit;
        assert!(audit.complete, "{audit:?}");
        assert_eq!(audit.weaknesses[0].kind, "plain", "{audit:?}");

        let truth = traced.truth();
        for tid in ["a_tid", "b_tid"] {
            let task = traced.report().task(id(&truth["pairs"][0][tid]));
            assert!(task.waited("read", "read").count >= 1000, "{task:?}");
            assert!(task.wakers.is_empty(), "{task:?}");
        }
    });
}

#[test]
fn a_pair_that_takes_turns_is_never_all_blocked() {
    unspoilt(|| {
        for options in [
            "--pin",
            "--pin --processes",
            "--processes",
            "--pairs 2",
            "--pairs 2 --pin",
            "--pairs 2 --pin --processes",
        ] {
            check_ping_pong(&format!("ping-pong --rounds 5000 {options}"));
        }
    });
}

fn check_ping_pong(workload: &str) {
    let traced = trace(workload);
    let (truth, report) = (traced.truth(), traced.report());
    let pairs = list(&truth["pairs"]);
    assert_eq!(report.tasks.len(), 2 * pairs.len(), "{workload}");
    let processes = truth["processes"] == true;
    assert_eq!(
        report.groups.len() - 1,
        if processes { 2 * pairs.len() } else { 1 }
    );

    for pair in pairs {
        for tid in [&pair["a_tid"], &pair["b_tid"]] {
            let task = report.task(id(tid));
            let rounds = n(&pair["rounds"]);
            // It blocks at most once for each byte that it reads.
            let reads = task
                .waits
                .iter()
                .filter(|w| w.syscall.as_deref() == Some("read"));
            let reads: u64 = reads.map(|wait| wait.count).sum();
            assert!(reads <= rounds + 2 + STARTUP_READS, "{workload}: {task:?}");
            if !pair["cpu"].is_null() {
                // On one CPU it must leave it for each byte that it reads.
                assert!(task.switches.traced >= rounds, "{workload}: {task:?}");
            }
        }
    }
    // Whoever waits for a byte was woken before the other one waits. So all can be
    // blocked only while one is in something else, as at the start and the end.
    let elsewhere: u64 = report
        .tasks
        .iter()
        .flat_map(|task| &task.waits)
        .filter(|wait| wait.reason != "read")
        .map(|wait| wait.ns)
        .sum();
    // A block whose wakeup the kernel did not announce is too long in the report.
    let at_most = elsewhere + report.audit.unwoken_ns;
    let all_blocked = report.tree().all_blocked.upper_ns;
    assert!(
        all_blocked <= at_most,
        "{workload}: {all_blocked} of {at_most}"
    );
}

/// The dynamic linker and the runtime read some files, perhaps from a disk.
const STARTUP_READS: u64 = 20;

#[test]
fn a_wakeup_that_comes_before_the_sleeper_has_left_its_cpu_is_kept() {
    unspoilt(|| {
        const TEST: &str = "a_wakeup_that_comes_before_the_sleeper_has_left_its_cpu_is_kept";
        const CPUS: usize = 2;
        if lacks(TEST, &["taskset"]) {
            return;
        }
        if std::thread::available_parallelism().is_ok_and(|n| n.get() < CPUS) {
            return skip(TEST, "there is no second CPU");
        }
        // A byte goes round between two programs on two CPUs, each of which goes to sleep
        // while the other one is about to wake it.
        let script = "mkfifo a b; exec 3<>a 4<>b
        taskset -c 0 cat <a >b & first=$!
        taskset -c 1 cat <b >a & second=$!
        echo >&3; $FORKTRACE workload nap --millis 500; kill $first $second";
        for _ in 0..5 {
            let mut run = run();
            let folder = run.folder().to_owned();
            run.command().current_dir(folder);
            let traced = run.shell(script).finish();
            check_figures(traced.report());
            let audit = &traced.report().audit;
            let missing = audit.weaknesses.iter().find(|w| w.kind == "wakeup_missing");
            let missing = missing.map_or(0, |weakness| weakness.count);
            if audit.early_wakeups + missing > 16 {
                // Some kernels do not announce some, early or not: a few.
                let at_most = audit.early_wakeups / 2 + 8;
                assert!(missing <= at_most, "{audit:?}");
                return;
            }
        }
        skip(TEST, "no wakeup came early");
    });
}

#[test]
fn many_sleepers_are_all_blocked_in_each_process_and_in_the_tree() {
    unspoilt(|| {
        let traced = trace("many-sleepers --processes 40 --threads 5 --millis 1000");
        let (truth, report) = (traced.truth(), traced.report());
        assert_eq!(report.tasks.len() as u64, n(&truth["tasks"]));
        assert_eq!(report.groups.len(), 1 + 1 + 40);

        for process in list(&truth["processes"]) {
            let pid = id(&process["pid"]);
            let threads = list(&process["threads"]);
            let group = report.process(pid);
            assert_eq!((group.tasks.len(), group.most_live), (5, 5));
            for thread in threads {
                let task = report.task(id(&thread["tid"]));
                let nap = task.waited("sleep", "clock_nanosleep");
                assert_eq!(nap.count, 1);
                let at_least = task.least_wait(span(thread), nap.ns);
                assert_within("nap", nap.ns, at_least, span(thread));
            }
            let begin = threads
                .iter()
                .map(|t| n(&t["begin_ns"]))
                .max()
                .expect("threads");
            let end = threads
                .iter()
                .map(|t| n(&t["end_ns"]))
                .min()
                .expect("threads");
            let together = end.saturating_sub(begin);
            let at_least = together.saturating_sub(report.awake_ns(pid));
            if at_least == 0 {
                too_busy(format!("process {pid} hardly ever slept: {process}"));
            }
            let longest = group.all_blocked.longest_ns;
            assert!(
                longest >= at_least,
                "process {pid}: {longest} of {at_least}"
            );
        }

        let tree = report.tree();
        assert_eq!(tree.most_live as usize, report.tasks.len());
        let awake: u64 = report.tasks.iter().map(|task| task.awake_ns()).sum();
        let at_least = n(&truth["all_asleep"]["ns"]).saturating_sub(awake);
        assert!(tree.all_blocked.lower_ns >= at_least, "{tree:?}");
        let first = report.task(id(&truth["pid"]));
        assert!(tree.all_blocked.upper_ns <= first.blocked_ns, "{tree:?}");
    });
}

#[test]
fn two_recordings_at_the_same_time_are_both_complete() {
    unspoilt(|| {
        let first = run().workload("sleepers --seconds 0.5").start();
        let second = run().workload("ping-pong --pin --rounds 20000").complete();
        let first = first.finish();
        check_complete(first.report());
        let truth = first.truth();
        assert_eq!(first.report().tasks.len(), 4);
        assert_eq!(second.report().tasks.len(), 2);
        let tid = |truth: &Value| id(&truth["pid"]);
        assert!(
            second.report().tasks_with(tid(&truth)).is_empty(),
            "a task of the other recording"
        );
        let switches = second.report().task(tid(&second.truth())).switches.traced;
        assert!(switches >= 20_000, "{switches}");
    });
}

#[test]
fn forktrace_can_be_traced_itself() {
    unspoilt(|| {
        let traced = run()
        .shell("$FORKTRACE run --format json -o /dev/null -- $FORKTRACE workload sleepers --seconds 0.2")
        .finish();
        let truth = traced.truth();
        for thread in list(&truth["threads"]) {
            let task = traced.report().task(id(&thread["tid"]));
            assert!(task.blocked_ns > 0, "{task:?}");
        }
        check_figures(traced.report());
    });
}
