//! What perf records of a run beside forktrace says the same of it, task by task.

use std::{fs, process::Command};

use forktrace_core::{
    model::{Model, State},
    pipeline,
    trace::Waker,
    trace_file::TraceInfo,
};

use crate::cpu_users::Burner;
use crate::support::{Forktrace, again, forktrace, lacks, own_mounts, unspoilt};

/// Both write the time into their records with the interrupts off, one after the other. What
/// lies between the two is short, unless a hypervisor takes the CPU away meanwhile.
const APART_NS: u64 = 2_000_000;

fn read(path: &std::path::Path) -> (TraceInfo, Model) {
    let bytes = fs::read(path).expect("the trace");
    pipeline::read(&bytes, None).expect("it is a trace")
}

/// The tid of a task that woke.
fn tid_of(model: &Model, waker: Waker) -> Option<u32> {
    match waker {
        Waker::Task { serial, .. } => {
            let mut tasks = model.tasks.iter();
            tasks.find(|it| it.serial == serial).map(|it| it.tid)
        }
        _ => None,
    }
}

#[test]
fn perf_sched_record_tells_the_same_task_by_task() {
    const TEST: &str = "perf_sched_record_tells_the_same_task_by_task";
    if lacks(TEST, &["perf", "unshare"]) {
        return;
    }
    unspoilt(|| {
        let folder = tempfile::tempdir().expect("a folder");
        // Perf is not told of all switches from the idle task on every machine: here no CPU is
        // ever idle.
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let _burners: Vec<Burner> = (0..cpus)
            .map(|cpu| Burner::start(folder.path(), cpu))
            .collect();
        let perf_data = folder.path().join("perf.data");
        let data = perf_data.to_str().expect("UTF-8");
        // perf mounts tracefs where nobody has, and nobody else shall see it.
        let mut perf = own_mounts(&[]);
        perf.extend([
            "perf",
            "sched",
            "record",
            "-k",
            "CLOCK_MONOTONIC",
            "-m",
            "4096",
        ]);
        perf.extend(["-o", data, "--"]);
        let mut run = Forktrace::under("unshare", &perf, "run");
        let ours = run.file("ours.ft");
        run.command().arg("--save").arg(&ours);
        let finished = run
            .shell("for i in 1 2 3; do sleep 0.02; done; { sleep 0.01; echo; } | cat | wc -l; wait")
            .finish();
        assert!(finished.status.success(), "{}", finished.stderr);
        finished.report();
        let theirs = folder.path().join("theirs.ft");
        let imported = Command::new(forktrace())
            .args(["import", data, "-o"])
            .arg(&theirs)
            .output()
            .expect("forktrace starts");
        assert!(imported.status.success(), "{imported:?}");
        compare(&read(&finished.file("ours.ft")), &read(&theirs));
    });
}

fn compare((info, ours): &(TraceInfo, Model), (their_info, theirs): &(TraceInfo, Model)) {
    let imported = their_info.header.imported.as_ref();
    let imported = imported.expect("it says what it was made of");
    if imported.lost > 0 {
        again(format!("perf lost {} events", imported.lost));
    }
    assert!(ours.tasks.len() > 6, "{} tasks", ours.tasks.len());
    let mut blocks = 0;
    for task in &ours.tasks {
        let same = |it: &&forktrace_core::model::Task| it.tid == task.tid && it.name == task.name;
        let their = theirs.tasks.iter().find(same);
        let their = their.unwrap_or_else(|| panic!("perf knows no {} ({})", task.name, task.tid));
        assert_eq!(
            (their.pid, their.ppid),
            (task.pid, task.ppid),
            "{}",
            task.name
        );
        let (a, b) = (task.stretches.iter(), their.stretches.iter());
        if task.stretches.len() != their.stretches.len() {
            again(format!(
                "{} left the CPU {} times, and {} times for perf",
                task.name,
                task.stretches.len(),
                their.stretches.len()
            ));
        }
        for (a, b) in a.zip(b) {
            if a.seq != b.seq {
                again(format!("{}: perf was not told of a switch", task.name));
            }
            assert_eq!(
                a.state(),
                b.state(),
                "{} ({}): {a:?} {b:?}",
                task.name,
                a.seq
            );
            let since = |start_ns: u64, ns: u64| start_ns + ns;
            for (a_ns, b_ns) in [
                (a.out_ns, b.out_ns),
                (a.wake_ns, b.wake_ns),
                (a.in_ns, b.in_ns),
            ] {
                let a_ns = since(info.header.start_ns, a_ns);
                let b_ns = since(their_info.header.start_ns, b_ns);
                if a.state() != State::Runnable && a_ns.abs_diff(b_ns) > APART_NS {
                    again(format!("{}: {a_ns} is {b_ns} for perf", task.name));
                }
            }
            if a.state() != State::Blocked {
                continue;
            }
            blocks += 1;
            // It may know less, and never blames another.
            let (by, by_perf) = (tid_of(ours, a.waker), tid_of(theirs, b.waker));
            if by_perf.is_some() {
                assert_eq!(by_perf, by, "{} ({}): {a:?} {b:?}", task.name, a.seq);
            }
        }
    }
    assert!(blocks >= 8, "{blocks} blocks");
}
