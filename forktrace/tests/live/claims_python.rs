//! The claims about Python: altered so that the truth is another, each must come out
//! the other way.
//!
//! Each test runs a built-in claim's file with one thing changed in an arm. On a busy
//! machine a control can miss its mark, and then there must be no verdict.

use std::{fs, path::Path, process::Command};

use serde_json::Value;

use crate::support::{forktrace, have, skip};

/// Replaces the first `from` after the heading of an arm, and settles the claim.
#[track_caller]
fn check_flips(test: &str, claim: &str, changes: &[(&str, &str, &str)], expected: &str) {
    if !have("python3") {
        return skip(test, "there is no python3");
    }
    let file = format!("{claim}.toml");
    let built_in = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("claims")
        .join(&file);
    let mut text = fs::read_to_string(built_in).expect("the claim's file");
    for (arm, from, to) in changes {
        let heading = format!("[arms.{arm}]");
        let at = text.find(&heading).expect("the arm") + heading.len();
        let at = at + text[at..].find(from).expect("what to change");
        text.replace_range(at..at + from.len(), to);
    }
    let folder = tempfile::tempdir().expect("a folder");
    let altered = folder.path().join(&file);
    fs::write(&altered, text).expect("the altered claim");
    let output = Command::new(forktrace())
        .args(["claims", "run", "--quick", "--format", "json"])
        .arg(&altered)
        .output()
        .expect("forktrace runs");
    let outcome: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)));
    let settled = &outcome["claims"][0];
    assert!(settled["error"].is_null(), "{settled:#}");
    let verdict = settled["verdict"].as_str().expect("a verdict");
    if verdict == "not_testable" {
        return skip(test, settled["reason"].as_str().unwrap_or_default());
    }
    let sound = settled["control"]["holds"] == true && settled["audit"]["complete"] == true;
    if sound {
        assert_eq!(verdict, expected, "{settled:#}");
    } else {
        assert_eq!(verdict, "inconclusive", "{settled:#}");
        skip(test, "the machine is too busy: the control missed its mark");
    }
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
