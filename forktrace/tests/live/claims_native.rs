//! The claims about the kernel: a workload altered so that the truth flips flips the
//! verdict.
//!
//! Each test takes the built-in file, checks the verdict that it should have on any
//! Linux, alters a command, and checks that the verdict follows.

use crate::support::{built_in, check_verdict};

/// The file with parts replaced, each of which must be there.
fn altered(id: &str, changes: &[(&str, &str)]) -> String {
    changes.iter().fold(built_in(id), |text, (from, to)| {
        assert!(text.contains(from), "{from} is not in {id}.toml");
        text.replace(from, to)
    })
}

/// Checks that a claim has one verdict as it is and another one when altered.
#[track_caller]
fn flips(id: &str, verdict: &str, changes: &[(&str, &str)], flipped: &str) {
    check_verdict(id, &altered(id, changes), flipped);
    check_verdict(id, &built_in(id), verdict);
}

/// The words of a command that runs a workload.
const RUN: &str = r#"["{forktrace}", "workload", "#;

/// A command of the shell that changes the value of an option first.
fn with_value_changed(from: &str, to: &str) -> String {
    let script = format!(
        "for a; do shift; [ \\\"$a\\\" = {from} ] && a={to}; set -- \\\"$@\\\" \\\"$a\\\"; done; exec \\\"$@\\\""
    );
    format!(r#"["sh", "-c", "{script}", "sh", "{{forktrace}}", "workload", "#)
}

const MILLIS_END: &str = r#""--millis", "{millis}"]"#;

#[test]
fn a_thread_in_select_that_holds_a_lock_blocks_its_siblings() {
    let held = r#""--millis", "{millis}", "--holding-lock"]"#;
    flips(
        "select-blocks-siblings",
        "refuted",
        &[(MILLIS_END, held)],
        "supported",
    );
}

#[test]
fn a_thread_in_any_call_that_holds_a_lock_blocks_its_siblings() {
    let held = r#""--millis", "{millis}", "--holding-lock"]"#;
    flips(
        "any-syscall-blocks-siblings",
        "refuted",
        &[(MILLIS_END, held)],
        "supported",
    );
}

#[test]
fn a_stop_among_the_other_operations_is_seen() {
    let with_stop = [(
        r#"["getpid", "vfork","#,
        r#"["getpid", "sigstop", "vfork","#,
    )];
    flips(
        "only-group-ops-stop-all",
        "supported",
        &with_stop,
        "refuted",
    );
}

#[test]
fn stops_that_take_the_same_time_for_many_threads_are_seen() {
    let changed = with_value_changed("256", "8");
    let same = [
        (RUN, &*changed),
        (
            "params.threads",
            "(params.threads == 256 ? 8 : params.threads)",
        ),
    ];
    flips("no-magic-lock", "supported", &same, "refuted");
}

#[test]
fn tasks_that_share_a_lock_unsaid_block_each_other() {
    let changed = with_value_changed("nothing", "lock");
    flips(
        "contention-only",
        "supported",
        &[(RUN, &changed)],
        "refuted",
    );
}

#[test]
fn waitsets_that_share_after_all_are_seen() {
    flips(
        "shared-waitset",
        "supported",
        &[(r#", "--disjoint""#, "")],
        "refuted",
    );
}

#[test]
fn processes_with_own_sockets_have_no_trouble() {
    let disjoint = [(r#""{events}"]"#, r#""{events}", "--disjoint"]"#)];
    flips("waitset-processes", "supported", &disjoint, "refuted");
}

#[test]
fn an_epoll_that_wakes_one_only_would_be_free_of_the_trouble() {
    let changed = with_value_changed("epoll", "epoll-exclusive");
    flips(
        "other-designs-free",
        "refuted",
        &[(RUN, &changed)],
        "supported",
    );
}

#[test]
fn copies_under_a_lock_are_not_parallel() {
    let locked = r#""--millis", "{millis}", "--one-lock"]"#;
    flips(
        "kernel-copy-parallel",
        "supported",
        &[(MILLIS_END, locked)],
        "refuted",
    );
}

#[test]
fn threads_in_place_of_processes_cost_no_more_memory() {
    flips(
        "thread-memory",
        "supported",
        &[(r#", "--processes""#, "")],
        "refuted",
    );
}

#[test]
fn a_child_that_is_a_thread_shares_its_memory() {
    let thread = [(
        r#""memory-visibility"]"#,
        r#""memory-visibility", "--child-is-thread"]"#,
    )];
    flips("memory-shared", "supported", &thread, "refuted");
}

#[test]
fn a_counter_with_a_lock_loses_nothing() {
    let locked = [
        (r#""{increments}"]"#, r#""{increments}", "--locked"]"#),
        (
            r#""{increments}", "--processes"]"#,
            r#""{increments}", "--processes", "--locked"]"#,
        ),
        (
            r#""{python_increments}"]"#,
            r#""{python_increments}", "--lock"]"#,
        ),
    ];
    flips("shared-counter", "supported", &locked, "refuted");
}

/// The ends of native commands that measure processes too.
const BY_TURNS: &str =
    r#""--how", "contended", "--rounds", "{rounds}", "--operations", "{operations}"]"#;
const ALONE: &str = r#""--how", "alone", "--rounds", "{rounds}", "--operations", "{operations}"]"#;

/// As on a kernel to which processes cost much more than threads.
fn three_times_dearer(end: &str) -> String {
    end.replace(']', r#", "--process-repeats", "3"]"#)
}

#[test]
fn processes_whose_hand_overs_are_dear_would_differ_from_threads() {
    flips(
        "clone-is-clone",
        "supported",
        &[(BY_TURNS, &three_times_dearer(BY_TURNS))],
        "refuted",
    );
}

#[test]
fn processes_that_synchronise_dearly_are_seen() {
    let dearer = [
        (BY_TURNS, &*three_times_dearer(BY_TURNS)),
        (ALONE, &three_times_dearer(ALONE)),
    ];
    flips("sync-cheaper", "refuted", &dearer, "supported");
}
