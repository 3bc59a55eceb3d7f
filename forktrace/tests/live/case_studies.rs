//! The programs of `docs/case-studies.md`, run by the scripts that it shows.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use forktrace_core::{
    model::{Off, Task},
    trace::Waker,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Report, Timelines, again, forktrace, lacks, run, unspoilt};

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/case-studies")
}

/// A folder that other users can look into.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let everybody = fs::Permissions::from_mode(0o755);
    fs::set_permissions(&folder, everybody).expect("the folder is ours");
    folder
}

/// Free now, and nobody hands it out at once again.
fn free_port() -> String {
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
    free.local_addr().expect("an address").port().to_string()
}

/// Runs a script in a folder of its own, and reads the trace that it leaves.
#[track_caller]
fn run_script(name: &str, trace: &str) -> (TempDir, Timelines) {
    let folder = folder();
    let output = Command::new("sh")
        .arg(scripts().join(name))
        .args([folder.path(), &forktrace()])
        .arg(free_port())
        .output()
        .expect("sh starts");
    if !output.status.success() {
        again(format!("{name}: {output:?}"));
    }
    let lines = Timelines::read(&folder.path().join(trace));
    (folder, lines)
}

/// The report on a trace.
#[track_caller]
fn report(trace: &Path) -> Report {
    let output = Command::new(forktrace())
        .args(["report", "--format", "json", "-o", "-"])
        .arg(trace)
        .output()
        .expect("forktrace starts");
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("a report")
}

#[track_caller]
fn check_all_known(lines: &Timelines) {
    let unknown = lines.of_unknown_wakers();
    assert!(unknown.is_empty(), "{unknown:?}");
}

fn name_of_outsider(lines: &Timelines, block: Off) -> Option<String> {
    let Waker::Outsider { tid, .. } = block.waker else {
        return None;
    };
    let outsider = lines.model.outsider(tid, block.wake_ns);
    outsider.map(|it| it.comm.clone())
}

fn named<'a>(lines: &'a Timelines, prefix: &str) -> Vec<&'a Task> {
    let tasks = lines.model.tasks.iter();
    tasks.filter(|task| task.name.starts_with(prefix)).collect()
}

#[test]
fn redis_syncs_alone_and_its_clients_wake_it() {
    unspoilt(|| {
        const TEST: &str = "redis_syncs_alone_and_its_clients_wake_it";
        if lacks(TEST, &["redis-server", "redis-benchmark", "redis-cli"]) {
            return;
        }
        let (folder, lines) = run_script("redis.sh", "redis.ft");
        let main = &lines.model.tasks[0];
        let mut by_benchmark = 0;
        for block in lines.blocks_in(main.tid, Some("epoll_wait")) {
            assert_eq!(lines.waker_tid(block), None, "{block:?}");
            let name = name_of_outsider(&lines, block);
            by_benchmark += u32::from(name.as_deref() == Some("redis-benchmark"));
        }
        assert!(by_benchmark > 0, "redis-benchmark never woke it");
        // Where the disk takes time.
        let mut synced_ns = 0;
        for block in lines.blocks_in(main.tid, Some("fdatasync")) {
            assert_eq!(lines.waker_tid(block), None, "{block:?}");
            synced_ns += block.wake_ns - block.out_ns;
        }
        // All threads stood still for that, and it is said so: the helpers have no work.
        let report = report(&folder.path().join("redis.ft"));
        let behind = report.causes.iter().filter(|cause| {
            let sync = cause.root.as_ref().is_some_and(|r| r.reason == "fsync");
            cause.group == 0 && sync && (cause.alone || cause.verdict == "caused")
        });
        let behind_main = behind.flat_map(|c| &c.by).filter(|by| by.tid == main.tid);
        let behind_ns: u64 = behind_main.map(|by| by.ns).sum();
        assert!(
            behind_ns >= synced_ns / 2,
            "{behind_ns} of {synced_ns} ns: {:#?}",
            report.causes
        );
        check_all_known(&lines);
    });
}

#[test]
fn postgres_backends_that_wait_for_a_row_are_woken_by_each_other() {
    unspoilt(|| {
        const TEST: &str = "postgres_backends_that_wait_for_a_row_are_woken_by_each_other";
        if lacks(TEST, &["initdb", "pgbench"]) {
            return;
        }
        let (folder, lines) = run_script("postgres.sh", "postgres.ft");
        let samples = fs::read_to_string(folder.path().join("samples.txt")).expect("samples");
        assert!(
            samples.contains("Lock:"),
            "nobody waited for a row: {samples}"
        );
        let (mut by_backend, mut by_pgbench) = (0, 0);
        for task in &lines.model.tasks {
            for block in lines.blocks_in(task.tid, Some("epoll_wait")) {
                by_backend += u32::from(lines.waker_tid(block).is_some_and(|tid| tid != task.tid));
                let name = name_of_outsider(&lines, block);
                by_pgbench += u32::from(name.as_deref() == Some("pgbench"));
            }
        }
        assert!(
            by_backend > 0 && by_pgbench > 0,
            "{by_backend} {by_pgbench}"
        );
        check_all_known(&lines);
    });
}

#[test]
fn workers_of_a_jvm_hand_their_monitor_on() {
    unspoilt(|| {
        const TEST: &str = "workers_of_a_jvm_hand_their_monitor_on";
        if lacks(TEST, &["java", "javac", "jps", "jstack"]) {
            return;
        }
        let (folder, lines) = run_script("jvm.sh", "jvm.ft");
        let stacks: Vec<String> = (1..=3)
            .map(|i| fs::read_to_string(folder.path().join(format!("jstack.{i}.txt"))))
            .collect::<Result<_, _>>()
            .expect("three jstacks");
        assert!(
            stacks
                .iter()
                .any(|it| it.contains("waiting for monitor entry")),
            "nobody waited: {stacks:?}"
        );
        let workers = named(&lines, "worker-");
        assert_eq!(workers.len(), 4);
        let (mut handed_on, mut slept) = (0, 0);
        for worker in &workers {
            for block in lines.blocks_in(worker.tid, Some("futex")) {
                slept += u32::from(matches!(block.waker, Waker::Interrupt(_)));
                let waker = lines.waker_tid(block);
                let by_worker = workers.iter().any(|it| Some(it.tid) == waker);
                handed_on += u32::from(by_worker);
            }
        }
        assert!(handed_on > 10 && slept > 10, "{handed_on} {slept}");
        check_all_known(&lines);
    });
}

#[test]
fn threads_of_a_python_pool_wait_for_each_other_as_long_as_they_say() {
    unspoilt(|| {
        const TEST: &str = "threads_of_a_python_pool_wait_for_each_other_as_long_as_they_say";
        if lacks(TEST, &["python3"]) {
            return;
        }
        let mut forktrace = run();
        let file = forktrace.file("trace.ft");
        let own = forktrace.folder().to_owned();
        forktrace.command().current_dir(own);
        let traced = forktrace
            .json()
            .args(["--save"])
            .args([&file])
            .args(["--", "python3"])
            .args([scripts().join("pool.py")])
            .complete();
        let lines = Timelines::read(&file);
        let Value::Object(threads) = traced.truth() else {
            panic!("{}", traced.stdout);
        };
        assert_eq!(threads.len(), 4);
        let mut by_pool = 0;
        for (tid, said) in &threads {
            let ns = |key: &str| (said[key].as_f64().expect("a number") * 1e6) as u64;
            let task = traced.report().task(tid.parse().expect("a tid"));
            let of = |reason: &str| -> u64 {
                let waits = task.waits.iter().filter(|wait| wait.reason == reason);
                waits.map(|wait| wait.ns).sum()
            };
            let (futex, fsync) = (of("futex"), of("fsync"));
            assert!(fsync <= ns("fsync_ms"), "{said} {task:?}");
            let at_least = task.least_wait(ns("lock_ms"), futex);
            assert!(futex >= at_least, "{said} {task:?}");
            for block in lines.blocks_in(task.tid, Some("futex")) {
                let waker = lines.waker_tid(block).map(|tid| tid.to_string());
                by_pool += u32::from(waker.is_some_and(|tid| threads.contains_key(&tid)));
            }
        }
        assert!(by_pool > 0, "nobody waited for another");
        check_all_known(&lines);
    });
}

/// Of how much of its time a program has a stack is for the document to say: nobody knows who else wants
/// the CPUs here.
#[test]
fn how_much_of_the_time_of_programs_has_a_stack_is_printed() {
    unspoilt(|| {
        const TEST: &str = "how_much_of_the_time_of_programs_has_a_stack_is_printed";
        if lacks(TEST, &["python3", "gcc"]) {
            return;
        }
        let output = Command::new("python3")
            .arg(scripts().join("stacks.py"))
            .args(["--times", "1", "c", "--forktrace"])
            .arg(forktrace())
            .output()
            .expect("python3 starts");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{output:?}");
        let [.., row] = *text.lines().collect::<Vec<_>>() else {
            panic!("{text}");
        };
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        assert_eq!((cells.len(), cells[1]), (7, "c"), "{text}");
        let share = cells[2].split_whitespace().next().map(str::parse::<f64>);
        let share = share.and_then(Result::ok).expect("a share");
        if share < 95.0 {
            again(format!("it had no CPU when it wanted one: {row}"));
        }
    });
}
