//! The reason that is named is the reason: programs whose cause is known, whatever ends
//! them and whoever else is there.

use std::time::{Duration, Instant};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::support::{Episode, Finished, Report, lacks, run, unspoilt};

/// Runs a Python script to its end.
#[track_caller]
pub(crate) fn python(script: &str) -> Finished {
    run().json().args(["--", "python3", "-c", script]).finish()
}

/// What holds of every report: the wait that is named ends when the stall ends, or it is
/// said why not; the path adds up.
#[track_caller]
pub(crate) fn check(report: &Report) {
    for episode in &report.episodes {
        let Some(ended_by) = &episode.ended_by else {
            continue;
        };
        if ended_by.apart.is_none() {
            assert_eq!(ended_by.end_ns, Some(episode.end_ns), "{episode:#?}");
        }
    }
    let parts: u64 = report.path.parts.iter().map(|part| part.ns).sum();
    assert_eq!(parts, report.path.ns);
    assert!(!report.findings.is_empty());
}

/// The time of the tree's stalls that end by this task's wait in this.
pub(crate) fn put_down_to(report: &Report, name: &str, reason: &str) -> u64 {
    let of_tree = report.episodes.iter().filter(|e| e.group == 0);
    let is_it = |e: &&Episode| {
        let by = e.ended_by.as_ref();
        by.is_some_and(|by| by.name == name && by.reason == reason)
    };
    of_tree.filter(is_it).map(|e| e.ns).sum()
}

pub(crate) fn all(report: &Report) -> u64 {
    let of_tree = report.episodes.iter().filter(|e| e.group == 0);
    of_tree.map(|e| e.ns).sum()
}

/// Its end is a task's sleep, also where a signal ended it before.
#[test]
fn a_shell_is_behind_its_sleeping_child_when_a_signal_ends_both() {
    unspoilt(|| {
        let mut running = run().shell("echo $$; sleep 100; true").start();
        let shell = running.line(1);
        // Long enough for a wait that is told from the start of the programs.
        std::thread::sleep(Duration::from_millis(700));
        let children = format!("/proc/{shell}/task/{shell}/children");
        let children = std::fs::read_to_string(children).expect("the shell runs");
        let child: i32 = children.trim().parse().expect("it has one child");
        // Both get it, as from a terminal.
        kill(Pid::from_raw(running.pid() as i32), Signal::SIGTERM).expect("forktrace runs");
        kill(Pid::from_raw(child), Signal::SIGTERM).expect("it sleeps");
        let finished = running.finish();
        let report = finished.report();
        check(report);
        let slept = put_down_to(report, "sleep", "sleep");
        assert!(slept * 10 >= all(report) * 9, "{:#?}", report.episodes);
        let first = &report.findings[0];
        assert_eq!(first.kind, "stall", "{first:?}");
        assert!(first.sentence.contains("`sleep`"), "{first:?}");
    });
}

/// The main thread naps; three threads are parked until the very end, when they are let
/// go in a chain.
const PARKED: &str = r#"
import threading, time
parked = [threading.Semaphore(0) for _ in range(3)]
def park(i):
    parked[i].acquire()
    if i + 1 < len(parked): parked[i + 1].release()
threads = [threading.Thread(target=park, args=(i,)) for i in range(3)]
for thread in threads: thread.start()
for _ in range(10):
    time.sleep(0.1)
    sum(range(3000))
end = threading.Thread(target=parked[0].release)
end.start()
for thread in threads + [end]: thread.join()
"#;

#[test]
fn parked_threads_that_are_let_go_at_the_end_held_up_nobody() {
    unspoilt(|| {
        const TEST: &str = "parked_threads_that_are_let_go_at_the_end_held_up_nobody";
        if lacks(TEST, &["python3"]) {
            return;
        }
        let traced = python(PARKED);
        let report = traced.report();
        check(report);
        let root = report.workload.argv[0].clone();
        assert_eq!(root, "python3");
        let slept = put_down_to(report, "python3", "sleep");
        assert!(slept * 100 >= all(report) * 95, "{:#?}", report.episodes);
        assert!(slept >= 900_000_000, "{:#?}", report.episodes);
    });
}

/// The main thread waits for a result, but looks up every 50 ms.
const LOOKS_UP: &str = r#"
import ctypes, threading, time
libc = ctypes.CDLL(None)
done = threading.Condition()
ready = []
def work():
    libc.prctl(15, b"worker", 0, 0, 0)
    time.sleep(1)
    with done:
        ready.append(1)
        done.notify()
thread = threading.Thread(target=work)
thread.start()
with done:
    while not ready: done.wait(0.05)
thread.join()
"#;

#[test]
fn who_looks_up_now_and_then_waits_for_the_worker_all_the_while() {
    unspoilt(|| {
        const TEST: &str = "who_looks_up_now_and_then_waits_for_the_worker_all_the_while";
        if lacks(TEST, &["python3"]) {
            return;
        }
        let traced = python(LOOKS_UP);
        let report = traced.report();
        check(report);
        let slept = put_down_to(report, "worker", "sleep");
        assert!(slept >= 700_000_000, "{:#?}", report.episodes);
        let look_ups: u64 = report.episodes.iter().map(|e| e.look_ups).sum();
        assert!(look_ups >= 5, "{:#?}", report.episodes);
    });
}

/// A lock that another thread holds when the process forks; that thread goes on ticking.
const FORKED_LOCK: &str = r#"
import os, threading, time
lock, held = threading.Lock(), threading.Event()
def hold():
    lock.acquire()
    held.set()
    time.sleep(0.3)
    lock.release()
    while True: time.sleep(0.2)
threading.Thread(target=hold, daemon=True).start()
held.wait()
child = os.fork()
if child == 0:
    lock.acquire()
    os._exit(0)
print(child, flush=True)
os.waitpid(child, 0)
"#;

#[test]
fn a_lock_that_was_copied_locked_hangs_though_another_thread_ticks() {
    unspoilt(|| {
        const TEST: &str = "a_lock_that_was_copied_locked_hangs_though_another_thread_ticks";
        if lacks(TEST, &["python3"]) {
            return;
        }
        let run = run().json().args(["--", "python3", "-c", FORKED_LOCK]);
        let mut running = run.start();
        let child: u32 = running.line(1).trim().parse().expect("a pid");
        let begun = Instant::now();
        while !running.stderr().contains("The run goes on") {
            let waited = begun.elapsed();
            assert!(waited < Duration::from_secs(100), "{}", running.stderr());
            std::thread::sleep(Duration::from_millis(20));
        }
        kill(Pid::from_raw(child as i32), Signal::SIGKILL).expect("it hangs");
        let finished = running.finish();
        let report = finished.report();
        check(report);
        assert_eq!(report.findings[0].kind, "hang", "{:#?}", report.findings);
        let serial = report.task(child).serial;
        assert!(
            report.findings[0].tasks.contains(&serial),
            "{:#?}",
            report.findings
        );
    });
}

/// A mutex that another thread unlocks: no deadlock, whatever it looked like for a while.
const UNLOCKED_BY_ANOTHER: &str = r#"
import ctypes, threading, time
libc = ctypes.CDLL(None)
mutex = ctypes.create_string_buffer(64)
def unlock():
    time.sleep(2.5)
    libc.pthread_mutex_unlock(mutex)
libc.pthread_mutex_lock(mutex)
thread = threading.Thread(target=unlock)
thread.start()
libc.pthread_mutex_lock(mutex)
thread.join()
"#;

#[test]
fn a_deadlock_that_ends_by_itself_was_none() {
    unspoilt(|| {
        const TEST: &str = "a_deadlock_that_ends_by_itself_was_none";
        if lacks(TEST, &["python3"]) {
            return;
        }
        let traced = python(UNLOCKED_BY_ANOTHER);
        let report = traced.report();
        check(report);
        assert!(report.deadlocks.is_empty(), "{:#?}", report.deadlocks);
        let kinds = report.findings.iter().map(|f| f.kind.as_str());
        let stuck = kinds.filter(|kind| ["deadlock", "hang"].contains(kind));
        assert_eq!(stuck.count(), 0, "{:#?}", report.findings);
        assert!(report.findings.iter().all(|f| f.ns <= report.path.ns));
    });
}

#[test]
fn two_sleeping_processes_are_idle() {
    unspoilt(|| {
        let traced = run().shell("sleep 0.5 & exec sleep 1").finish();
        let report = traced.report();
        check(report);
        let longest = report.episodes.iter().max_by_key(|e| e.ns).expect("one");
        assert_eq!(longest.verdict, "idle", "{longest:#?}");
        let by = longest.ended_by.as_ref().expect("it is known");
        assert_eq!(
            (by.reason.as_str(), by.how.as_str()),
            ("sleep", "fulfilled")
        );
        assert_eq!(report.task(by.tid).name, "sleep");
    });
}
