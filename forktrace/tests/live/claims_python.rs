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
fn threads_that_share_one_cpu_support_processes_for_io() {
    check_flips(
        "threads_that_share_one_cpu_support_processes_for_io",
        "processes-for-io",
        &[("threads", "\"thread\"", "\"thread\", \"--pin-cpu\", \"0\"")],
        "supported",
    );
}
