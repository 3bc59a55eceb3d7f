//! Stopped is not asleep.

use forktrace_core::model::State;
use serde_json::Value;

use crate::support::{
    Finished, Task, Timelines, assert_within, id, list, n, span, timelines_of, unspoilt,
};

/// Traces a stop, and checks when each of the two threads was stopped.
fn trace_stop(during: &str) -> (Finished, Value) {
    trace_stop_with(during, &[])
}

fn trace_stop_with(during: &str, arguments: &[&str]) -> (Finished, Value) {
    let workload = format!("stop --seconds 0.4 --wait-seconds 1 --during {during}");
    let (traced, lines) = timelines_of(|run| run.args(arguments).workload(&workload));
    let truth = traced.truth();
    assert_eq!(list(&truth["threads"]).len(), 2);
    for (thread, task) in threads(&traced, &truth) {
        let at_most = n(&thread["end_ns"]) - n(&truth["stop_ns"]);
        assert_within("stopped", task.stopped_ns, 1, at_most);
        check_stopped(&lines, &truth, task.tid);
        assert_eq!(task.pid, id(&truth["child_pid"]));
    }
    let parent = traced.report().task(id(&truth["pid"]));
    assert_eq!(parent.stopped_ns, 0, "only the child was stopped");
    (traced, truth)
}

/// From the kernel's report of the stop to its end the thread was stopped. But the kernel
/// reports the stop a moment before the last one has left its CPU, or it can be held up
/// there.
fn check_stopped(lines: &Timelines, truth: &Value, tid: u32) {
    let (from, until) = (
        lines.since(&truth["stopped_ns"]),
        lines.since(&truth["cont_ns"]),
    );
    let segments = lines.task(tid).segments();
    let within = segments.filter(|it| it.end_ns > from && it.start_ns < until);
    let within: Vec<_> = within.collect();
    let (stop, on_its_way) = within.split_last().expect("it lived");
    assert_eq!(stop.state, State::Stopped, "{truth} {within:?}");
    let awake = |state| matches!(state, State::Running | State::Runnable);
    let on_its_way = on_its_way.iter().all(|it| awake(it.state));
    assert!(on_its_way, "{truth} {within:?}");
}

fn threads<'a>(traced: &'a Finished, truth: &'a Value) -> Vec<(&'a Value, &'a Task)> {
    let of = |thread: &'a Value| (thread, traced.report().task(id(&thread["tid"])));
    list(&truth["threads"]).iter().map(of).collect()
}

#[test]
fn a_stopped_computation_is_stopped_and_neither_blocked_nor_runnable() {
    unspoilt(|| {
        let (traced, truth) = trace_stop("compute");
        for (thread, task) in threads(&traced, &truth) {
            let gap_ns = n(&thread["longest_gap_ns"]);
            assert!(
                task.stopped_ns <= gap_ns,
                "the stop is in the gap: {thread} {task:?}"
            );
            let outside_ns = task.lifetime_ns() - span(thread);
            assert!(
                task.blocked_ns <= outside_ns,
                "it never blocked: {thread} {task:?}"
            );
        }
    });
}

#[test]
fn a_stop_in_a_sleep_is_not_part_of_the_sleep() {
    unspoilt(|| {
        let (traced, truth) = trace_stop("nanosleep");
        check_interrupted(&traced, &truth, "sleep", "clock_nanosleep");
    });
}

#[test]
fn a_poll_that_a_stop_interrupts_goes_on_as_the_same_call() {
    unspoilt(|| {
        let (traced, truth) = trace_stop("poll");
        let syscall = list(&truth["threads"])[0]["syscall"]
            .as_str()
            .expect("a name")
            .to_owned();
        check_interrupted(&traced, &truth, "poll", &syscall);

        // Else those that are under way when counting begins are no calls.
        let from_start = ["--polls", "tracepoint"];
        let (traced, truth) = match crate::polls::are_counted_later(traced.report()) {
            true => trace_stop_with("poll", &from_start),
            false => (traced, truth),
        };
        let polls = traced.report().polls.as_ref();
        let Some(polls) = polls else {
            let why = &traced.report().poll_probes;
            crate::support::skip(
                "a_poll_that_a_stop_interrupts_goes_on_as_the_same_call/calls",
                why,
            );
            return;
        };
        for (thread, task) in threads(&traced, &truth) {
            assert_eq!(n(&thread["returned"]), 0);
            let calls: Vec<_> = polls
                .iter()
                .filter(|p| p.tid == task.tid && p.syscall == syscall)
                .collect();
            assert_eq!(calls.len(), 1, "{polls:?}");
            let poll = calls[0];
            assert_eq!(
                (poll.calls, poll.blocked, poll.timed_out),
                (1, 1, 1),
                "{poll:?}"
            );
            assert_eq!((poll.failed, poll.unfinished), (0, 0), "{poll:?}");
            assert_eq!(poll.max_fds, Some(1), "{poll:?}");
        }
    });
}

/// One call, before and after the stop.
fn check_interrupted(traced: &Finished, truth: &Value, reason: &str, syscall: &str) {
    for (thread, task) in threads(traced, truth) {
        assert!(
            task.waits.iter().all(|wait| wait.reason != "restart"),
            "{task:?}"
        );
        let wait = task.waited(reason, syscall);
        assert_eq!(wait.count, 2, "before and after the stop: {task:?}");
        let at_least = task.least_wait(span(thread), wait.ns);
        let at_most = span(thread) - task.stopped_ns;
        assert_within(reason, wait.ns, at_least, at_most);
    }
}

#[test]
fn a_stop_between_sleeps_and_computation_is_stopped() {
    unspoilt(|| {
        let (traced, truth) = trace_stop("mixed");
        for (thread, task) in threads(&traced, &truth) {
            let naps = task.waited("sleep", "clock_nanosleep");
            // The stop can cut one in two.
            assert_within("naps", naps.count, 1, n(&thread["naps"]) + 1);
            assert!(
                naps.ns <= span(thread) - task.stopped_ns,
                "{thread} {task:?}"
            );
            assert!(task.running_ns > 0);
        }
    });
}
