//! Programs of which it is known who is late, and whether it blocks.

use std::{fs, path::Path, process::Command};

use serde_json::Value;

use crate::support::{Finished, id, lacks, n, run, skip, too_busy, unspoilt};

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

/// Threads that sort, and how they wait for each other: asleep, or in a loop where there is a CPU for
/// each. For how long they ran, wanted a CPU, and were blocked, ns.
#[track_caller]
fn sorted(program: &Path, cpus: &str, policy: &str) -> ([u64; 3], Finished) {
    let mut run = run().json();
    run.command().env("OMP_WAIT_POLICY", policy);
    // In turn with each other, and before all others of the machine.
    let run = run.args(["--", "chrt", "-r", "1", "taskset", "-c", cpus]);
    let finished = run.args([program]).complete();
    let tasks = &finished.report().tasks;
    let sum = |of: fn(&crate::support::Task) -> u64| tasks.iter().map(of).sum::<u64>();
    let times = [
        sum(|it| it.running_ns),
        sum(|it| it.runnable_ns),
        sum(|it| it.blocked_ns),
    ];
    (times, finished)
}

#[test]
fn threads_that_sort_on_too_few_cpus_wait_for_these_and_not_for_each_other() {
    const TEST: &str = "threads_that_sort_on_too_few_cpus_wait_for_these_and_not_for_each_other";
    if lacks(TEST, &["gcc", "taskset", "chrt"]) {
        return;
    }
    let alone = Command::new("chrt").args(["-r", "1", "true"]).output();
    if !alone.is_ok_and(|output| output.status.success()) {
        return skip(TEST, "nothing may run before all others here");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let source = include_str!("sorts.c");
    for threads in [2, 4] {
        let name = format!("sorts{threads}");
        let threads = format!("-DTHREADS={threads}");
        compiled(folder.path(), &name, source, &["-fopenmp", &threads]);
    }
    let [two, four] = ["sorts2", "sorts4"].map(|name| folder.path().join(name));
    let is_starved = |finished: &Finished| {
        let first = finished.report().findings.first();
        first.is_some_and(|it| it.kind == "starved")
    };
    for policy in ["passive", "active"] {
        unspoilt(|| {
            let ([running, runnable, blocked], finished) = sorted(&four, "0", policy);
            let told = &finished.report().findings;
            // Four want one CPU, and have about the same to do.
            assert!(runnable > running, "{policy}: {runnable} {running}");
            assert!(blocked < runnable, "{policy}: {blocked} {runnable}");
            assert!(is_starved(&finished), "{policy}: {told:#?}");
        });
        if std::thread::available_parallelism().is_ok_and(|cpus| cpus.get() >= 2) {
            unspoilt(|| {
                let ([running, runnable, blocked], finished) = sorted(&two, "0,1", policy);
                let told = &finished.report().findings;
                if runnable > running / 4 {
                    // Others that run before others had the CPUs.
                    too_busy(format!("{policy}: {runnable} of {running}: {told:#?}"));
                }
                assert!(!is_starved(&finished), "{policy}: {told:#?}");
                // What spins does not sleep.
                let spins = policy == "active";
                assert!(!spins || blocked < running, "{blocked} {running}");
            });
        }
    }
}

#[test]
fn the_holder_of_a_lock_that_a_higher_priority_waits_for_is_told_to_lack_a_cpu() {
    const TEST: &str =
        "the_holder_of_a_lock_that_a_higher_priority_waits_for_is_told_to_lack_a_cpu";
    if lacks(TEST, &["gcc"]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let source = include_str!("inversion.c");
    compiled(folder.path(), "inversion", source, &["-pthread"]);
    unspoilt(|| {
        let run = run().json();
        let finished = run.args(["--"]).args([folder.path().join("inversion")]);
        let finished = finished.complete();
        let report = finished.report();
        let named = |name: &str| report.tasks.iter().find(|it| it.name == name);
        let [low, high, middle] = ["low", "high", "middle"].map(named);
        let [Some(low), Some(high), Some(middle)] = [low, high, middle] else {
            return skip(TEST, "threads may not have real-time priorities");
        };
        let lock = report.locks.iter().find(|it| it.kind == "mutex");
        let [holder] = &*lock.expect("the lock").holders else {
            panic!("{:#?}", report.locks);
        };
        assert_eq!((holder.tid, &*holder.proof), (Some(low.tid), "proved"));
        // It had three parts to do nothing in for each one that it computed.
        assert!(holder.runnable_ns > 2 * holder.ran_ns, "{holder:#?}");
        assert!(holder.ns <= high.blocked_ns, "{holder:#?} {high:#?}");
        let behind = report.findings.first().expect("a finding");
        assert!(behind.sentence.contains("middle"), "{}", behind.sentence);
        assert!(middle.blocked_ns < low.runnable_ns, "{middle:#?}");
    });
}

/// Blocked time that began below this function, ns, of stacks that a report lists.
fn below(stacks: &[&Value], function: &str) -> u64 {
    let is_below = |it: &&&Value| {
        let frames = it["frames"].as_array().expect("frames");
        frames.iter().any(|frame| frame == function)
    };
    let found = stacks.iter().filter(is_below);
    found.map(|it| n(&it["ns"])).sum()
}

/// The functions of a stack are those of the program that was executed when it was taken, though
/// another one has functions at the same addresses a moment later.
#[test]
fn stacks_of_a_process_that_executes_another_program_are_of_the_first_one() {
    const TEST: &str = "stacks_of_a_process_that_executes_another_program_are_of_the_first_one";
    if lacks(TEST, &["gcc"]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let source = include_str!("executes.c");
    for (name, ms) in [("first", "-DMS=4"), ("second", "-DMS=9")] {
        let nap = format!("-DNAP=in_{name}");
        let options = ["-static", "-no-pie", "-fno-omit-frame-pointer", &nap, ms];
        compiled(folder.path(), name, source, &options);
    }
    let [first, second] = ["first", "second"].map(|name| folder.path().join(name));
    for way in ["--stacks=fp", "--stacks=dwarf"] {
        unspoilt(|| {
            let run = run()
                .json()
                .args([way, "--"])
                .args([&first, &second, &first]);
            let finished = run.args(["21", "0", "0"]).complete();
            let truth = finished.truth();
            let report = fs::read(finished.file("report.json")).expect("a report");
            let report: Value = serde_json::from_slice(&report).expect("JSON");
            let stacks = report["stacks"].as_array().expect("stacks");
            let is_block = |it: &&Value| it["kind"] == "off_cpu";
            let blocks: Vec<&Value> = stacks.iter().filter(is_block).collect();
            // The last one is the second.
            let mut told_of_any = 0;
            for (nap, napped) in [("in_second", "own_ns"), ("in_first", "others_ns")] {
                let told = below(&blocks, nap);
                let most = n(&truth[napped]);
                assert!(told <= most, "{way} {nap}: {told} {truth} {blocks:#?}");
                told_of_any += told;
            }
            if told_of_any == 0 {
                too_busy("no function was looked up while its program lived".to_owned());
            }
        });
    }
}

/// Both call the same function, which calls fsync; each measures how long it was in it.
#[test]
fn the_time_of_a_call_is_told_by_who_makes_it() {
    const TEST: &str = "the_time_of_a_call_is_told_by_who_makes_it";
    if lacks(TEST, &["gcc"]) {
        return;
    }
    // Not in /tmp, which can be memory.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let source = include_str!("syncs.c");
    let options = ["-fno-omit-frame-pointer", "-fno-optimize-sibling-calls"];
    compiled(folder.path(), "syncs", source, &options);
    unspoilt(|| {
        let mut run = run().json();
        run.command().current_dir(folder.path());
        let run = run.args(["--stacks=fp", "--"]);
        let finished = run.args([folder.path().join("syncs")]).complete();
        let truth = finished.truth();
        let report = fs::read(finished.file("report.json")).expect("a report");
        let report: Value = serde_json::from_slice(&report).expect("JSON");
        let stacks = report["stacks"].as_array().expect("stacks");
        let is_block = |it: &&Value| it["kind"] == "off_cpu";
        let blocks: Vec<&Value> = stacks.iter().filter(is_block).collect();
        // Where no name is known below fsync, the program was gone before it was looked up.
        let frames = |it: &Value| -> Vec<String> {
            let frames = it["frames"].as_array().expect("frames").iter();
            frames
                .map(|it| it.as_str().expect("a text").to_owned())
                .collect()
        };
        let is_nameless = |frames: &Vec<String>| {
            frames.iter().any(|it| it.contains("fsync")) && !frames.iter().any(|it| it == "main")
        };
        if blocks
            .iter()
            .map(|it| frames(it))
            .any(|it| is_nameless(&it))
        {
            too_busy("the program was gone before its functions were named".to_owned());
        }
        let task = &finished.report().tasks[0];
        let else_ns = task.running_ns + task.runnable_ns;
        for (function, measured) in [("save", "save_ns"), ("log_line", "log_ns")] {
            let (ns, measured_ns) = (below(&blocks, function), n(&truth[measured]));
            assert!(ns <= measured_ns, "{function}: {ns} of {measured_ns}");
            // In the call it was blocked, or something else.
            let least_ns = measured_ns.saturating_sub(else_ns);
            assert!(ns >= least_ns, "{function}: {ns} of {least_ns}");
        }
    });
}
