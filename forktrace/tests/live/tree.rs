//! Everything that a workload starts is followed, and nothing is taken for
//! something else.

use std::collections::{HashMap, HashSet};

use crate::support::{
    assert_within, check_figures, forktrace, id, lacks, list, n, run, span, trace, unspoilt,
};

/// The name that the kernel gives a process that runs our program.
fn program_name() -> String {
    let path = forktrace();
    let name = path
        .file_name()
        .expect("a program has a name")
        .to_string_lossy();
    name.chars().take(15).collect()
}

#[test]
fn all_fifteen_processes_of_a_fork_tree_are_in_their_places() {
    unspoilt(|| {
        let traced = trace("fork-tree --depth 3");
        let (truth, report) = (traced.truth(), traced.report());
        assert_eq!(n(&truth["count"]), 15);
        assert_eq!(report.tasks.len(), 15);
        assert_eq!(report.groups.len(), 1 + 15);
        let parents: HashMap<u32, u32> = report.tasks.iter().map(|t| (t.pid, t.ppid)).collect();
        let depth = |mut pid: u32| {
            let mut depth = 0;
            while let Some(&parent) = parents.get(&pid).filter(|&&p| parents.contains_key(&p)) {
                (pid, depth) = (parent, depth + 1);
            }
            depth
        };

        for process in list(&truth["processes"]) {
            let task = report.task(id(&process["pid"]));
            assert_eq!(task.pid, task.tid);
            assert_eq!(task.ppid, id(&process["ppid"]), "{process}");
            assert_eq!(depth(task.pid), n(&process["depth"]), "{process}");
            assert_eq!(task.name, program_name());
            let lived = n(&process["end_ns"]) - n(&process["start_ns"]);
            assert!(task.lifetime_ns() >= lived, "{process} {task:?}");

            let nap_ns = n(&process["nap_end_ns"]) - n(&process["nap_begin_ns"]);
            let nap = task.waited("sleep", "clock_nanosleep");
            assert_eq!(nap.count, 1);
            assert_within("nap", nap.ns, task.least_wait(nap_ns, nap.ns), nap_ns);
            let reaping_ns = n(&process["end_ns"]) - n(&process["nap_end_ns"]);
            let waited = task.wait("wait", "wait4").map_or(0, |wait| wait.ns);
            assert!(waited <= reaping_ns, "{process} {task:?}");
        }
        let first = report.task(id(&truth["pid"]));
        assert_eq!(first.ppid, traced.pid, "forktrace started it");
    });
}

#[test]
fn no_short_thread_is_missed() {
    unspoilt(|| {
        let traced = trace("short-threads --count 500");
        let report = traced.report();
        assert_eq!(report.tasks.len(), 501);
        assert_eq!(report.process(id(&traced.truth()["pid"])).tasks.len(), 501);
        assert_eq!(
            report
                .tasks
                .iter()
                .filter(|task| task.name == "short")
                .count(),
            500
        );
    });
}

#[test]
fn no_short_process_is_missed() {
    unspoilt(|| {
        let traced = trace("short-processes --count 200");
        let (truth, report) = (traced.truth(), traced.report());
        assert_eq!(report.tasks.len(), 201);
        let pids = |list: &serde_json::Value| crate::support::list(list).iter().map(id).collect();
        let forked: HashSet<u32> = pids(&truth["forked_pids"]);
        let spawned: HashSet<u32> = pids(&truth["spawned_pids"]);
        assert_eq!((forked.len(), spawned.len()), (100, 100));
        let seen: HashSet<u32> = report.tasks.iter().map(|task| task.pid).collect();
        let first = HashSet::from([id(&truth["pid"])]);
        assert_eq!(seen, &(&forked | &spawned) | &first);
        for task in &report.tasks {
            // Our program runs itself as /proc/self/exe.
            let expected = if spawned.contains(&task.pid) {
                "exe"
            } else {
                &program_name()
            };
            assert_eq!(task.name, expected, "{task:?}");
        }
    });
}

#[test]
fn a_thread_that_execs_keeps_its_identity_and_takes_the_leaders_tid() {
    unspoilt(|| {
        let traced = trace("exec-non-leader --millis 200");
        let report = traced.report();
        let (before, after) = (traced.truth_of("exec-non-leader"), traced.truth_of("nap"));
        let pid = id(&before["pid"]);
        assert_eq!(id(&after["tid"]), pid);
        assert_ne!(id(&before["tid"]), pid);

        let process = report.process(pid);
        assert_eq!(process.tasks.len(), 4);
        assert_eq!(report.groups.len(), 2, "the exec makes no second process");

        let [leader, execs]: [_; 2] = report.tasks_with(pid).try_into().expect("two had the tid");
        assert!(leader.serial < execs.serial);
        assert!(
            execs.start_ns > leader.start_ns,
            "it is as old as the thread was"
        );
        assert_eq!(execs.name, "exe");
        assert!(leader.end_ns <= execs.end_ns);
        leader.waited("futex", "futex");
        let nap = execs.waited("sleep", "clock_nanosleep");
        let at_least = execs.least_wait(span(&after), nap.longest_ns);
        assert_within("nap", nap.longest_ns, at_least, span(&after));

        let others: HashSet<u32> = list(&before["other_tids"]).iter().map(id).collect();
        let ended_in_exec = |tid: &&u32| **tid != pid;
        for tid in others.iter().filter(ended_in_exec) {
            let task = report.task(*tid);
            assert!(task.end_ns < execs.end_ns, "{task:?}");
            assert!(task.name.starts_with("sleeper-"), "{task:?}");
            // The exec ended a sleep of 10 s.
            assert_eq!(task.waited("sleep", "clock_nanosleep").count, 1);
            assert!(task.blocked_ns < task.lifetime_ns());
        }
        assert!(
            report.tasks_with(id(&before["tid"])).is_empty(),
            "its tid is the leader's now"
        );
    });
}

#[test]
fn tasks_that_have_the_same_tid_are_kept_apart() {
    unspoilt(|| {
        let traced = trace("tid-reuse --count 20");
        let (truth, report) = (traced.truth(), traced.report());
        let uses = list(&truth["uses"]);
        let tasks = report.tasks_with(id(&truth["tid"]));
        assert_eq!((uses.len(), tasks.len()), (20, 20));
        assert_eq!(report.groups.len(), 1 + 1 + 20);
        for (used, task) in uses.iter().zip(tasks) {
            let nap = task.waited("sleep", "clock_nanosleep");
            let nap_ns = n(&used["nap_end_ns"]) - n(&used["nap_begin_ns"]);
            let at_least = task.least_wait(n(&used["nap_ns"]), nap.ns);
            assert_within("nap", nap.ns, at_least, nap_ns);
            assert_eq!(nap.count, 1);
        }
    });
}

#[test]
fn a_daemon_is_followed_to_its_end() {
    unspoilt(|| {
        let traced = trace("daemon --millis 300");
        let (truth, report) = (traced.truth(), traced.report());
        assert_eq!(report.tasks.len(), 3);
        let first = report.task(id(&truth["first_pid"]));
        let middle = report.task(id(&truth["middle_pid"]));
        let daemon = report.task(id(&truth["pid"]));
        assert_eq!((first.ppid, middle.ppid), (traced.pid, first.pid));
        assert!(daemon.end_ns > first.end_ns && daemon.end_ns > middle.end_ns);
        let nap_ns = n(&truth["nap_end_ns"]) - n(&truth["nap_begin_ns"]);
        let nap = daemon.waited("sleep", "clock_nanosleep");
        assert_within("nap", nap.ns, daemon.least_wait(nap_ns, nap.ns), nap_ns);
    });
}

#[test]
fn until_exit_leaves_a_daemon_alone_and_says_so() {
    unspoilt(|| {
        let finished = run()
            .args(["--until-exit"])
            .workload("daemon --millis 3000")
            .finish();
        assert_eq!(
            finished.stdout, "",
            "the daemon prints its line when it ends"
        );
        let report = finished.report();
        check_figures(report);
        let alive: Vec<_> = report
            .tasks
            .iter()
            .filter(|task| task.fate == "alive")
            .collect();
        assert!(!alive.is_empty(), "{:?}", report.ids());
        assert!(alive.iter().all(|task| task.switches.kernel.is_none()));
        assert!(alive.iter().all(|task| task.end_ns == alive[0].end_ns));
        assert_eq!(report.weakness("cut_short").count, alive.len() as u64);
        assert!(
            report.audit.complete,
            "what was seen is whole: {:?}",
            report.audit
        );
        assert_eq!(report.workload.exit_code, Some(0));
        for task in alive {
            crate::signals::kill_and_forget(task.tid);
        }
    });
}

#[test]
fn a_workload_in_a_pid_namespace_of_its_own_is_found() {
    unspoilt(|| {
        const TEST: &str = "a_workload_in_a_pid_namespace_of_its_own_is_found";
        if lacks(TEST, &["unshare"]) {
            return;
        }
        let unshare = crate::support::own_mounts(&["--pid", "--fork", "--mount-proc"]);
        let traced = crate::support::Forktrace::under("unshare", &unshare, "run")
            .workload("sleepers --seconds 0.3")
            .complete();
        let (truth, report) = (traced.truth(), traced.report());
        assert!(
            id(&truth["pid"]) < 100,
            "the namespace has pids of its own: {truth}"
        );
        assert_eq!(report.tasks.len(), 4);
        assert_eq!(report.groups.len(), 2);
        // The report has the tids of the machine, and they are in the same order.
        for (thread, task) in list(&truth["threads"]).iter().zip(&report.tasks) {
            let at_least = task.least_wait(span(thread), task.longest_block_ns);
            assert_within("asleep", task.longest_block_ns, at_least, span(thread));
        }
    });
}
