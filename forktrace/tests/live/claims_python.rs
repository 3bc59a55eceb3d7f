//! The claims about Python: altered so that the truth is another, each must come out
//! the other way.
//!
//! Each test runs a built-in claim's file with one thing changed in an arm.

use crate::support::{check_altered, lacks};

#[track_caller]
fn check_flips(test: &str, claim: &str, changes: &[(&str, &str, &str)], expected: &str) {
    if lacks(test, &["python3"]) {
        return;
    }
    check_altered(claim, changes, expected);
}

#[test]
fn processes_in_place_of_threads_refute_that_the_gil_serialises() {
    check_flips(
        "processes_in_place_of_threads_refute_that_the_gil_serialises",
        "gil-serialises",
        &[("threads", "\"threads\"", "\"processes\"")],
        "refuted",
    );
}

#[test]
fn processes_in_place_of_threads_refute_that_only_processes_scale() {
    check_flips(
        "processes_in_place_of_threads_refute_that_only_processes_scale",
        "multiprocessing-scales",
        &[("threads", "\"threads\"", "\"processes\"")],
        "refuted",
    );
}

#[test]
fn a_lock_across_the_read_refutes_that_python_io_overlaps() {
    check_flips(
        "a_lock_across_the_read_refutes_that_python_io_overlaps",
        "python-io-overlaps",
        &[("apart", "\"{rounds}\"", "\"{rounds}\", \"--lock\"")],
        "refuted",
    );
}

#[test]
fn threads_for_forks_refute_that_a_fork_costs_more() {
    check_flips(
        "threads_for_forks_refute_that_a_fork_costs_more",
        "fork-cost",
        &[
            ("thread", "\"threads\"", "\"processes\""),
            ("fork", "\"processes\"", "\"threads\""),
        ],
        "refuted",
    );
}

#[test]
fn a_server_of_one_thread_supports_processes_for_io() {
    const THREADS: &str = "m.design == \"thread\"";
    const ONE_THREAD: &str = "m.design == \"select\"";
    check_flips(
        "a_server_of_one_thread_supports_processes_for_io",
        "processes-for-io",
        &[
            ("native", "\"thread,preforked\"", "\"select,preforked\""),
            ("native", "\"0,100\"", "\"0,400\""),
            ("native", THREADS, ONE_THREAD),
            ("native", THREADS, ONE_THREAD),
            ("native", "m.work_us == 100", "m.work_us == 400"),
            ("native", "m.work_us == 100", "m.work_us == 400"),
        ],
        "supported",
    );
}
