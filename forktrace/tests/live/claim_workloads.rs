//! The workloads of the claims do what they say.

use serde_json::Value;

use crate::support::{
    Finished, Task, again, id, list, n, run, span, too_busy, trace, trace_until, unspoilt,
};

/// The task of this name in a process.
#[track_caller]
fn named<'a>(traced: &'a Finished, name: &str) -> &'a Task {
    let found: Vec<_> = traced
        .report()
        .tasks
        .iter()
        .filter(|t| t.name == name)
        .collect();
    assert_eq!(
        found.len(),
        1,
        "tasks named {name}: {:?}",
        traced.report().ids()
    );
    found[0]
}

fn all_named<'a>(traced: &'a Finished, prefix: &str) -> Vec<&'a Task> {
    traced
        .report()
        .tasks
        .iter()
        .filter(|t| t.name.starts_with(prefix))
        .collect()
}

const CALLS: &str = "select,pselect6,poll,ppoll,epoll_wait,epoll_pwait2,read,futex,wait4,connect,\
                     openat,clock_nanosleep,accept4";

#[test]
fn a_waiter_is_blocked_in_each_call_and_its_siblings_get_on() {
    unspoilt(|| {
        let traced = trace(&format!("wait-calls --millis 60 --calls {CALLS}"));
        let truth = traced.truth();
        let waiter = traced.report().task(id(&truth["waiter_tid"]));
        assert_eq!(waiter.name, "waiter");
        assert_eq!(list(&truth["calls"]).len(), CALLS.split(',').count());
        for call in list(&truth["calls"]) {
            let name = call["call"].as_str().expect("a name");
            let ns: u64 = waiter
                .waits
                .iter()
                .filter(|wait| wait.syscall.as_deref() == Some(name))
                .map(|wait| wait.ns)
                .sum();
            assert!(ns > 0 && ns <= span(call), "{name}: {ns} of {}", span(call));
            assert!(n(&call["switches"]) >= 1, "{call}");
            if n(&call["computed"]) == 0 {
                too_busy(format!("no CPU for its sibling: {call}"));
            }
        }
        // One sibling only computes.
        let compute = named(&traced, "compute");
        assert_eq!(compute.tid, id(&truth["siblings"]["compute"]));
        let process = traced.report().process(id(&truth["tid"]));
        assert!(
            process.all_blocked.upper_ns <= compute.blocked_ns,
            "{process:?}"
        );
    });
}

#[test]
fn a_waiter_that_holds_a_lock_stands_in_its_siblings_way() {
    unspoilt(|| {
        let traced = trace("wait-calls --millis 200 --calls pselect6 --holding-lock");
        let truth = traced.truth();
        let call = &list(&truth["calls"])[0];
        for steps in ["received", "slept"] {
            assert!(n(&call[steps]) <= 1, "{call}");
        }
        let compute = named(&traced, "compute");
        let futex = compute.waited("futex", "futex");
        // It was awake on the way to the lock, and blocked on it for the rest.
        assert!(
            futex.longest_ns + compute.awake_ns() >= span(call),
            "{compute:?} {call}"
        );
    });
}

#[test]
fn fsync_is_among_the_calls() {
    unspoilt(|| {
        let truth = trace("wait-calls --millis 30 --calls fsync").truth();
        let call = &list(&truth["calls"])[0];
        assert_eq!(call["call"], "fsync");
        assert!(span(call) >= 30_000_000, "{call}");
    });
}

fn group_op(operation: &str, more: &str) -> Finished {
    let traced = run()
        .workload(&format!("group-op --operation {operation} {more}"))
        .finish();
    assert!(traced.status.success(), "{operation}: {}", traced.stderr);
    traced
}

const SIBLINGS: [&str; 4] = ["fault", "compute", "getpid", "blocked"];

#[test]
fn operations_on_a_process_stop_or_end_its_threads() {
    unspoilt(|| {
        for operation in ["sigstop", "freeze"] {
            let traced = group_op(operation, "--millis 60");
            assert_eq!(traced.truth()["survived"], true);
            for name in SIBLINGS {
                let task = named(&traced, name);
                assert!(task.stopped_ns >= 30_000_000, "{operation}: {task:?}");
            }
        }
        for operation in ["execve", "exit-group", "sigkill"] {
            let truth = group_op(operation, "--millis 20").truth();
            assert_eq!(truth["survived"], false, "{operation}");
        }
    });
}

#[test]
fn other_operations_leave_the_threads_alone() {
    unspoilt(|| {
        for operation in [
            "getpid",
            "vfork",
            "posix-spawn",
            "membarrier",
            "munmap",
            "fork",
        ] {
            let traced = group_op(operation, "--millis 20");
            assert_eq!(traced.truth()["survived"], true);
            for name in SIBLINGS {
                assert_eq!(named(&traced, name).stopped_ns, 0, "{operation}: {name}");
            }
        }
        let traced = group_op("ptrace", "--millis 60");
        let stopped: Vec<&str> = SIBLINGS
            .into_iter()
            .filter(|name| named(&traced, name).stopped_ns > 0)
            .collect();
        assert_eq!(stopped, ["compute"]);
    });
}

#[test]
fn each_stop_of_a_group_is_in_the_report() {
    unspoilt(|| {
        // The kernel reports a stop a moment before the last thread has left its CPU, and
        // one that is held up there is too late for this stop.
        let all_stopped = |traced: &Finished| {
            let group = traced.report().process(id(&traced.truth()["child_pid"]));
            group.stops.iter().all(|stop| stop.tasks == 20)
        };
        let traced = trace_until("group-stop --threads 20 --rounds 4", all_stopped);
        let truth = traced.truth();
        let stops = list(&truth["stops"]);
        let group = traced.report().process(id(&truth["child_pid"]));
        assert_eq!(group.stops.len(), stops.len(), "{group:?}");
        for (stop, truth) in group.stops.iter().zip(stops) {
            assert_eq!((stop.tasks, stop.of), (20, 20));
            let at_most = n(&truth["cont_ns"]) - n(&truth["stop_ns"]);
            assert!(stop.spread_ns <= at_most, "{stop:?} {truth}");
            let at_least = n(&truth["cont_ns"]) - n(&truth["stopped_ns"]);
            assert!(stop.end_ns - stop.start_ns >= at_least, "{stop:?} {truth}");
        }
        assert!(traced.report().tree().stops.len() >= stops.len());
    });
}

/// A task that waited for no other while it worked. Threads can meet at a lock of the C
/// library when they begin and end.
#[track_caller]
fn check_alone(worker: &Task, is_thread: bool) {
    let blocks = |reason: &str| -> u64 {
        let waits = worker.waits.iter().filter(|wait| wait.reason == reason);
        waits.map(|wait| wait.count).sum()
    };
    let at_most = if is_thread { 2 } else { 0 };
    assert!(blocks("futex") <= at_most, "{worker:?}");
    assert_eq!(blocks("read") + blocks("write"), 0, "{worker:?}");
}

#[test]
fn tasks_that_share_nothing_are_not_blocked() {
    unspoilt(|| {
        for kind in ["", " --processes"] {
            let traced = trace(&format!("contention --millis 200{kind}"));
            let workers = all_named(&traced, "worker-");
            assert_eq!(workers.len(), 4);
            for worker in workers {
                check_alone(worker, kind.is_empty());
            }
            for (share, reason) in [("lock", "futex"), ("pipe", "read")] {
                let traced = trace(&format!("contention --millis 200 --share {share}{kind}"));
                let blocks: u64 = all_named(&traced, "worker-")
                    .iter()
                    .flat_map(|worker| &worker.waits)
                    .filter(|wait| wait.reason == reason)
                    .map(|wait| wait.count)
                    .sum();
                if blocks == 0 {
                    again(format!("nobody met another: {share}{kind}"));
                }
            }
        }
    });
}

/// Blocks of all waiters in what they wait with.
fn wakes(traced: &Finished, reason: &str) -> u64 {
    all_named(traced, "waiter-")
        .iter()
        .flat_map(|waiter| &waiter.waits)
        .filter(|wait| wait.reason == reason)
        .map(|wait| wait.count)
        .sum()
}

#[test]
fn an_event_wakes_all_who_wait_for_it_or_one() {
    unspoilt(|| {
        const WAITERS: u64 = 8;
        const EVENTS: u64 = 50;
        for (design, reason, most_wake_all) in [
            ("select", "select", true),
            ("poll", "poll", true),
            ("epoll", "epoll", true),
            ("select --processes", "select", true),
            ("select --disjoint", "select", false),
            ("epoll-exclusive", "epoll", false),
            ("accept", "accept", false),
        ] {
            let workload =
                format!("waitset --waiters {WAITERS} --events {EVENTS} --design {design}");
            let traced = trace_until(&workload, |traced| {
                // Each waiter blocks once before the first event.
                wakes(traced, reason) >= EVENTS
            });
            let truth = traced.truth();
            assert_eq!(n(&truth["taken"]), EVENTS, "{design}");
            let wakes = wakes(&traced, reason);
            if most_wake_all {
                assert!(wakes >= WAITERS * EVENTS / 2, "{design}: {wakes}");
            } else {
                assert!(wakes <= EVENTS + 4 * WAITERS, "{design}: {wakes}");
            }
        }
    });
}

#[test]
fn copiers_are_blocked_by_a_lock_only() {
    unspoilt(|| {
        for source in ["pipe", "zero"] {
            let traced = trace(&format!("kernel-copy --millis 200 --source {source}"));
            for copier in all_named(&traced, "copier-") {
                check_alone(copier, true);
            }
        }
        let traced = trace("kernel-copy --millis 200 --tasks 4 --one-lock");
        let futex: u64 = all_named(&traced, "copier-")
            .iter()
            .filter_map(|copier| copier.wait("futex", "futex"))
            .map(|wait| wait.ns)
            .sum();
        if futex == 0 {
            again("no copier met another".to_owned());
        }
    });
}

#[test]
fn threads_share_with_their_creator_and_processes_do_not() {
    unspoilt(|| {
        let traced = trace("sync-cost --construct pipe --how contended --operations 10 --rounds 1");
        for thread in all_named(&traced, "thread-") {
            assert_eq!(
                thread.shares,
                [
                    "memory",
                    "file system",
                    "files",
                    "signal handlers",
                    "thread group"
                ]
            );
        }
        for process in all_named(&traced, "process-") {
            assert!(process.shares.is_empty(), "{process:?}");
        }
        // One of each to warm up.
        assert_eq!(all_named(&traced, "thread-").len(), 4);
        assert_eq!(all_named(&traced, "process-").len(), 4);
    });
}

#[test]
fn every_construct_synchronises() {
    unspoilt(|| {
        for construct in ["mutex", "pipe", "semaphore"] {
            for how in ["alone", "contended"] {
                let truth = trace(&format!(
                    "sync-cost --construct {construct} --how {how} --operations 100 --rounds 2"
                ))
                .truth();
                let rounds = list(&truth["rounds"]);
                assert_eq!(rounds.len(), 2);
                let positive = |v: &Value| v.as_f64().is_some_and(|ns| ns > 0.0);
                for round in rounds {
                    assert!(
                        positive(&round["thread_ns"]) && positive(&round["process_ns"]),
                        "{truth}"
                    );
                }
            }
        }
    });
}

#[test]
fn a_lock_keeps_every_increment() {
    unspoilt(|| {
        for kind in ["", " --processes"] {
            let truth = trace(&format!(
                "shared-counter --locked --increments 200000{kind}"
            ))
            .truth();
            assert_eq!(n(&truth["expected"]), 400_000);
            assert_eq!(n(&truth["lost"]), 0);
        }
        // Alone nothing is lost either.
        let truth = trace("shared-counter --tasks 1 --increments 200000").truth();
        assert_eq!(n(&truth["lost"]), 0);
    });
}

#[test]
fn a_childs_write_is_seen_through_a_mapping_only() {
    unspoilt(|| {
        let truth = trace("memory-visibility").truth();
        for (figure, value) in [
            ("thread_seen", 1),
            ("child_seen", 0),
            ("child_saw", 1),
            ("mapping_seen", 1),
        ] {
            assert_eq!(n(&truth[figure]), value, "{figure}");
        }
        let truth = trace("memory-visibility --child-is-thread").truth();
        assert_eq!(n(&truth["child_seen"]), 1);
    });
}

#[test]
fn tasks_that_write_to_more_memory_cost_more() {
    unspoilt(|| {
        for kind in ["", " --processes"] {
            let cost = |extra: u64| {
                let options = format!("memory-cost --tasks 8 --extra-kilobytes {extra}{kind}");
                n(&trace(&options).truth()["resident_bytes"])
            };
            assert!(cost(512) >= cost(0) + 256 * 1024, "{kind}");
        }
    });
}
