//! Programs of which it is known who is late, and whether it blocks.

use std::{fs, path::Path, process::Command};

use crate::support::{Finished, id, lacks, n, run, skip, unspoilt};

/// Compiles a source into this folder.
fn compiled(folder: &Path, name: &str, source: &str, options: &[&str]) {
    let file = format!("{name}.c");
    fs::write(folder.join(&file), source).expect("a file");
    let mut compiler = Command::new("gcc");
    let compiler = compiler.args(["-O2"]).args(options);
    let compiler = compiler.args([&*file, "-o", name]).current_dir(folder);
    assert!(compiler.status().expect("gcc starts").success());
}

/// How long one task waited for the other, ns.
fn waited(finished: &Finished, from: &str, to: &str) -> u64 {
    let (truth, report) = (finished.truth(), finished.report());
    let serial = |who: &str| report.task(id(&truth[who])).serial;
    let (from, to) = (serial(from), serial(to));
    let edges = report.waits_for.iter();
    let between = edges.filter(|it| it.from == from && it.to.serial == Some(to));
    between.map(|it| it.ns).sum()
}

#[test]
fn whoever_is_late_at_a_barrier_is_who_is_waited_for() {
    const TEST: &str = "whoever_is_late_at_a_barrier_is_who_is_waited_for";
    if lacks(TEST, &["gcc"]) {
        return;
    }
    // Not in /tmp, which can be memory.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let source = include_str!("barriers.c");
    compiled(folder.path(), "barriers", source, &["-pthread"]);
    for (late, other) in [("computes", "writes"), ("writes", "computes")] {
        unspoilt(|| {
            let mut run = run().json();
            run.command().current_dir(folder.path());
            let how = if late == "writes" { "write" } else { "compute" };
            let run = run.args(["--"]).args([folder.path().join("barriers")]);
            let finished = run.args([how]).complete();
            let truth = finished.truth();
            if truth["can"] == false {
                return skip(TEST, "this file system has no O_DIRECT");
            }
            // The other one slept before the late one went on, and was woken after.
            let for_late = waited(&finished, other, late);
            assert!(for_late >= n(&truth["went_on_ns"]), "{how}: {for_late}");
            let for_other = waited(&finished, late, other);
            assert!(for_other < for_late / 2, "{how}: {for_other} {for_late}");
        });
    }
}

#[test]
fn threads_that_sort_on_too_few_cpus_wait_for_these_and_not_for_each_other() {
    const TEST: &str = "threads_that_sort_on_too_few_cpus_wait_for_these_and_not_for_each_other";
    if lacks(TEST, &["gcc", "taskset"]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let source = include_str!("sorts.c");
    compiled(folder.path(), "sorts", source, &["-fopenmp"]);
    unspoilt(|| {
        let mut run = run().json();
        run.command().env("OMP_WAIT_POLICY", "passive");
        let run = run.args(["--", "taskset", "-c", "0"]);
        let finished = run.args([folder.path().join("sorts")]).complete();
        let tasks = &finished.report().tasks;
        let sum = |of: fn(&crate::support::Task) -> u64| tasks.iter().map(of).sum::<u64>();
        let (runnable, blocked) = (sum(|it| it.runnable_ns), sum(|it| it.blocked_ns));
        let running = sum(|it| it.running_ns);
        // Four want one CPU, and have about the same to do.
        assert!(runnable > running, "{tasks:#?}");
        assert!(blocked < runnable, "{tasks:#?}");
    });
}
