//! Calls of select, poll and epoll are counted.

use crate::support::{Finished, check_complete, id, n, run, skip, unspoilt};

const WORKLOAD: &str = "polls --calls 60";

fn check_counts(traced: &Finished) {
    check_complete(traced.report());
    let truth = traced.truth();
    let report = traced.report();
    let polls = report.polls.as_ref().expect("they are watched");
    let measured = truth["measured"].as_object().expect("an object");
    let tid = id(&truth["tid"]);
    assert!(measured.len() >= 4, "{truth}");
    for (syscall, counts) in measured {
        let is_it = |poll: &&crate::support::Poll| poll.tid == tid && poll.syscall == *syscall;
        let found: Vec<_> = polls.iter().filter(is_it).collect();
        let [poll] = found[..] else {
            panic!("{syscall} of {tid}: {found:?}");
        };
        let of = |name: &str| n(&counts[name]);
        assert_eq!(poll.calls, of("calls"), "{poll:?} {counts}");
        assert_eq!(poll.ready_at_once, of("ready_at_once"), "{poll:?} {counts}");
        assert_eq!(poll.blocked, of("blocked"), "{poll:?} {counts}");
        // Returned 0, in the truth apart by whether there was a timeout.
        assert_eq!(
            poll.timed_out,
            of("timed_out") + of("empty_at_once"),
            "{poll:?} {counts}"
        );
        let did_not_block = of("calls") - of("blocked");
        assert_eq!(
            poll.empty_at_once,
            did_not_block - of("ready_at_once"),
            "{poll:?} {counts}"
        );
        assert_eq!((poll.failed, poll.unfinished), (0, 0), "{poll:?}");
        let expected = &truth["expected"][syscall]["max_fds"];
        assert_eq!(poll.max_fds, expected.as_u64(), "{poll:?}");
    }
    let others = polls
        .iter()
        .filter(|p| p.tid == tid && !measured.contains_key(&p.syscall));
    assert_eq!(others.count(), 0, "{polls:?}");
}

fn check_way(way: &str, test: &str) {
    let traced = run().args(["--polls", way]).workload(WORKLOAD).finish();
    let not_possible = "not possible on this kernel";
    if traced.stderr.contains(not_possible) && traced.status.code() == Some(125) {
        assert!(
            way != "raw",
            "raw tracepoints work everywhere: {}",
            traced.stderr
        );
        return skip(
            &format!("polls_are_counted_by_{test}"),
            traced.stderr.trim(),
        );
    }
    assert!(
        traced.status.success(),
        "{}: {}",
        traced.status,
        traced.stderr
    );
    if traced.report().polls.is_none() && way == "auto" {
        return skip("polls_are_counted_by_default", &traced.report().poll_probes);
    }
    check_counts(&traced);
}

#[test]
fn polls_are_counted_by_default() {
    unspoilt(|| {
        check_way("auto", "default");
    });
}

#[test]
fn polls_are_counted_by_tracepoints() {
    unspoilt(|| {
        check_way("tracepoint", "tracepoints");
    });
}

#[test]
fn polls_are_counted_by_raw_tracepoints() {
    unspoilt(|| {
        check_way("raw", "raw_tracepoints");
    });
}

#[test]
fn polls_are_counted_by_fentry() {
    unspoilt(|| {
        check_way("fentry", "fentry");
    });
}

#[test]
fn polls_that_are_not_watched_are_absent_and_not_zero() {
    unspoilt(|| {
        let traced = run()
            .args(["--polls", "off"])
            .workload("polls --calls 3")
            .complete();
        assert!(traced.report().polls.is_none());
        assert!(
            traced.report().poll_probes.contains("--polls off"),
            "{}",
            traced.report().poll_probes
        );
        let caller = traced.report().task(id(&traced.truth()["tid"]));
        caller.waited("epoll", "epoll_pwait");
    });
}
