//! What all live tests share.

mod claims;
mod figures;
mod report;
mod run;
mod timelines;

pub(crate) use self::{
    claims::{check_altered, check_verdict, file_of},
    figures::{all_announced, check_complete, check_figures},
    report::{Deadlock, Group, Poll, Report, Task, Wait, WaitsFor},
    run::{Finished, Forktrace, Running, forktrace, run, trace, trace_until},
    timelines::{Timelines, timelines},
};

use serde_json::Value;

/// Says that a test can't be run on this machine.
#[expect(
    clippy::print_stdout,
    reason = "the closing count of all tests reads it there"
)]
pub(crate) fn skip(test: &str, reason: &str) {
    println!("SKIP {test}: {reason}");
}

/// Is there such a program?
pub(crate) fn have(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// A number of a truth line.
pub(crate) fn n(value: &Value) -> u64 {
    let number = value.as_u64();
    number.unwrap_or_else(|| panic!("{value} is no number in the truth line"))
}

/// A tid or pid of a truth line.
pub(crate) fn id(value: &Value) -> u32 {
    u32::try_from(n(value)).expect("a tid fits in 32 bits")
}

/// The items of a list in a truth line.
pub(crate) fn list(value: &Value) -> &[Value] {
    let items = value.as_array();
    items.unwrap_or_else(|| panic!("{value} is no list in the truth line"))
}

/// From `begin_ns` to `end_ns` of a part of a truth line.
pub(crate) fn span(value: &Value) -> u64 {
    n(&value["end_ns"]) - n(&value["begin_ns"])
}

#[track_caller]
pub(crate) fn assert_within(what: &str, ns: u64, low: u64, high: u64) {
    assert!(
        (low..=high).contains(&ns),
        "{what}: {ns} ns is not from {low} to {high}"
    );
}
