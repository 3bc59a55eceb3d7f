//! Calls of select, poll and epoll are counted.

use std::{
    fs,
    io::Write as _,
    path::Path,
    time::{Duration, Instant},
};

use forktrace_common::layout::poll;
use forktrace_core::trace::Arch;
use nix::{sys::stat::Mode, unistd::mkfifo};

use crate::{
    helpers::{children, is_ours},
    support::{Finished, Report, check_complete, id, lacks, n, run, skip, unspoilt},
};

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

/// Does counting begin only once a task waits in such a call?
pub(crate) fn are_counted_later(report: &Report) -> bool {
    report
        .poll_probes
        .contains("`--polls tracepoint` counts from the start")
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
    check_counts(&traced);
}

#[test]
fn polls_are_counted_by_default() {
    unspoilt(|| {
        let traced = run().workload(WORKLOAD).finish();
        if are_counted_later(traced.report()) {
            let test = "polls_are_counted_by_default/from_the_start";
            return skip(test, "this kernel refuses fentry");
        }
        if traced.report().polls.is_none() {
            return skip("polls_are_counted_by_default", &traced.report().poll_probes);
        }
        check_counts(&traced);
    });
}

/// Syscall tracepoints that a process of forktrace holds.
fn attached(forktrace: &str) -> usize {
    let held = |pid: String| {
        let open = fs::read_dir(format!("/proc/{pid}/fd"))
            .into_iter()
            .flatten();
        let links = open
            .flatten()
            .filter_map(|it| fs::read_link(it.path()).ok());
        links
            .filter(|it| it == Path::new("anon_inode:bpf_link"))
            .count()
    };
    children(forktrace)
        .into_iter()
        .filter(|it| is_ours(it))
        .map(held)
        .sum()
}

/// Waits in a poll, then for its standard input, then makes calls.
const LATE: &str = "
import os, select, sys
poll = select.poll()
poll.register(os.pipe()[0], select.POLLIN)
poll.poll(1)
sys.stdin.readline()
os.execv(sys.argv[1], sys.argv[1:])
";
/// Far longer than attaching takes.
const LONG: Duration = Duration::from_secs(60);

#[test]
fn polls_are_counted_from_the_first_that_blocks_where_that_costs_others() {
    const TEST: &str = "polls_are_counted_from_the_first_that_blocks_where_that_costs_others";
    if lacks(TEST, &["python3"]) {
        return;
    }
    let first = run().shell("true").finish();
    if !are_counted_later(first.report()) {
        return skip(TEST, &first.report().poll_probes);
    }
    let arch = Arch::of_this_machine().expect("a known one");
    let names = poll::NAMES.into_iter();
    let calls = names
        .filter(|name| arch.syscall_number(name).is_some())
        .count();
    // Entry and return of each, and the return of a restarted one.
    let all = 2 * calls + 1;
    unspoilt(|| {
        let mut run = run();
        let fifo = run.file("fifo");
        mkfifo(&fifo, Mode::S_IRWXU).expect("a fifo");
        run.command().env("LATE", LATE).env("FIFO", &fifo);
        let script =
            format!("exec python3 -c \"$LATE\" \"$FORKTRACE\" workload {WORKLOAD} <\"$FIFO\"");
        let running = run.shell(&script).start();
        let pid = running.pid().to_string();
        let mut tell = fs::OpenOptions::new()
            .write(true)
            .open(&fifo)
            .expect("it is read");
        let begun = Instant::now();
        while attached(&pid) < all {
            assert!(begun.elapsed() < LONG, "{} of {all}", attached(&pid));
            std::thread::sleep(Duration::from_millis(20));
        }
        tell.write_all(b"go\n").expect("it is read");
        let traced = running.finish();
        let how = &traced.report().poll_probes;
        assert!(
            how.contains(" from ") && how.contains("no calls before "),
            "{how}"
        );
        check_counts(&traced);
    });
}

#[test]
fn who_never_waits_in_a_poll_makes_no_syscall_slower() {
    unspoilt(|| {
        let traced = run().shell("sleep 0.1").finish();
        let report = traced.report();
        if !are_counted_later(report) {
            let test = "who_never_waits_in_a_poll_makes_no_syscall_slower";
            return skip(test, &report.poll_probes);
        }
        assert!(report.polls.is_none(), "absent, not 0: {:?}", report.polls);
        let how = &report.poll_probes;
        assert!(
            how.starts_with("no task was seen to wait in such a call"),
            "{how}"
        );
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
