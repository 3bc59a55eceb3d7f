//! What all live tests share.

mod claims;
mod figures;
mod report;
mod run;
mod spoilt;
mod timelines;

pub(crate) use self::{
    claims::{built_in, check_altered, check_verdict},
    figures::{all_announced, check_complete, check_figures, check_recorded},
    report::{
        CodeWait, Deadlock, Episode, Group, KernelStop, Link, LockRow, Poll, Report, Task, Wait,
        WaitsFor,
    },
    run::{Finished, Forktrace, Running, beside_noise, forktrace, run, trace, trace_until},
    spoilt::{again, too_busy, unspoilt},
    timelines::{Timelines, timelines, timelines_of},
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

/// What is needed to compare rates, and for two CPUs to be at work at the same instant.
pub(crate) const REAL_CPU: &str = "a real CPU";

/// Does this machine lack something that the test needs? Then it has been skipped.
///
/// `cargo xtask setup` installs every program that the tests trace, so one that is not
/// there is a failure, unless `FORKTRACE_TESTS_LACK` names it, between commas, as what
/// the machine can't have. The guests of `cargo xtask matrix` have it set.
#[track_caller]
pub(crate) fn lacks(test: &str, needed: &[&str]) -> bool {
    const VARIABLE: &str = "FORKTRACE_TESTS_LACK";
    let lacking = std::env::var(VARIABLE).unwrap_or_default();
    for thing in needed {
        let excused = lacking.split(',').any(|it| it == *thing);
        if *thing != REAL_CPU && !excused && !have(thing) {
            panic!("there is no {thing}: run `cargo xtask setup`, or set {VARIABLE}={thing}");
        }
        if excused {
            skip(
                test,
                &format!("needs {thing}, which this machine can't have"),
            );
            return true;
        }
    }
    false
}

/// `unshare` for a mount namespace, and more by its arguments. In a chroot, where the root
/// is no mount point, nothing can be done about its propagation.
pub(crate) fn own_mounts<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("the mounts");
    let root_is_one = mounts
        .lines()
        .any(|line| line.split(' ').nth(4) == Some("/"));
    // That of busybox can't leave the propagation alone.
    let unchanged = (!root_is_one).then_some("--propagation=unchanged");
    ["--mount"]
        .iter()
        .chain(more)
        .copied()
        .chain(unchanged)
        .collect()
}

/// Shell commands for that namespace that mount a tmpfs, which the caller may give
/// options, and leave its place in `FOLDER`. It is in `/sys`, a mount of its own that can
/// be made private, so that nobody else sees it, and a folder there that nobody needs.
pub(crate) const OWN_TMPFS: &str =
    "FOLDER=/sys/firmware && mount --make-rprivate /sys && mount -t tmpfs none $FOLDER";

/// Is there such a program?
pub(crate) fn have(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian keeps those of PostgreSQL elsewhere, by version.
    let versions = std::fs::read_dir("/usr/lib/postgresql");
    let versions = versions.into_iter().flatten().flatten();
    std::env::split_paths(&path)
        .chain(versions.map(|version| version.path().join("bin")))
        .any(|folder| folder.join(program).is_file())
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
