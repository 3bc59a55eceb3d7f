//! A hang reads the same whatever ended it: Ctrl-C on a terminal, SIGINT to the group, as a
//! harness sends it, or SIGTERM. It is said while it lasts, and the report says nothing else.

use std::{
    fs::File,
    io::Write as _,
    path::Path,
    time::{Duration, Instant},
};

use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    pty::openpty,
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::support::{Finished, Forktrace, Running, lacks, skip, unspoilt};

/// How long something is waited for.
const GIVE_UP: Duration = Duration::from_secs(200);

/// What ends a run.
#[derive(Clone, Copy, Debug)]
enum Ends {
    /// Ctrl-C, typed on its terminal.
    Typed,
    /// SIGINT to its process group.
    Group,
    /// SIGTERM to forktrace.
    Asked,
}

const WAYS: [Ends; 3] = [Ends::Typed, Ends::Group, Ends::Asked];

/// A run in a session of its own, with its terminal's other end where it has one.
fn session(ends: Ends) -> (Forktrace, Option<File>) {
    match ends {
        Ends::Typed => {
            let pty = openpty(None, None).expect("a pseudo-terminal");
            // It hangs up when nobody has it any more.
            fcntl(&pty.master, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).expect("fcntl");
            let mut run = Forktrace::under("setsid", &["--ctty"], "run");
            run.command().stdin(File::from(pty.slave));
            (run, Some(File::from(pty.master)))
        }
        Ends::Group | Ends::Asked => (Forktrace::under("setsid", &[], "run"), None),
    }
}

#[track_caller]
fn end(mut running: Running, ends: Ends, mut terminal: Option<File>) -> Finished {
    let pid = running.pid() as i32;
    match (ends, &mut terminal) {
        (Ends::Typed, Some(terminal)) => terminal.write_all(b"\x03").expect("a terminal"),
        (Ends::Group, _) => kill(Pid::from_raw(-pid), Signal::SIGINT).expect("it runs"),
        _ => kill(Pid::from_raw(pid), Signal::SIGTERM).expect("forktrace runs"),
    }
    let begun = Instant::now();
    while !running.has_ended() {
        assert!(begun.elapsed() < GIVE_UP, "{ends:?}: {}", running.stderr());
        std::thread::sleep(Duration::from_millis(20));
    }
    running.finish()
}

/// Waits until it was said that tasks can't go on, ends it, and looks at what is said.
#[track_caller]
fn check_hang(run: Forktrace, ends: Ends, terminal: Option<File>, kind: &str) {
    let mut running = run.start();
    let truth: serde_json::Value = serde_json::from_str(&running.line(1)).expect("JSON");
    let tids = truth.get("tids").or(truth.get("threads"));
    let tids: Vec<u32> = serde_json::from_value(tids.expect("tids").clone()).expect("tids");
    let begun = Instant::now();
    while !running.stderr().contains("The run goes on") {
        let waited = begun.elapsed();
        assert!(
            waited < GIVE_UP && !running.has_ended(),
            "{}",
            running.stderr()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    for tid in &tids {
        let said = format!("- tid {tid} (");
        assert!(running.stderr().contains(&said), "{}", running.stderr());
    }
    let finished = end(running, ends, terminal);
    assert!(
        !finished.stderr.contains("has gone on"),
        "{}",
        finished.stderr
    );
    let report = finished.report();
    let first = &report.findings[0];
    assert_eq!(first.kind, kind, "{ends:?}: {:#?}", report.findings);
    for tid in &tids {
        let serial = report.task(*tid).serial;
        assert!(first.tasks.contains(&serial), "{tid}, {ends:?}: {first:#?}");
    }
    let others = report.findings[1..].iter();
    let others = others.filter(|f| f.kind == "hang" || f.kind == "deadlock");
    assert_eq!(others.count(), 0, "{ends:?}: {:#?}", report.findings);
    // From when the last of them blocked, no stall is put down to anything else.
    let deadlock = &report.deadlocks[0];
    let since = deadlock.tasks.iter().map(|task| task.since_ns).max();
    let since = since.expect("tasks");
    for episode in report.episodes.iter().filter(|e| e.group == 0) {
        let inside = episode.start_ns >= since && episode.end_ns - episode.start_ns > 50_000_000;
        assert!(
            !inside || episode.verdict == "stuck",
            "{ends:?}: {episode:#?}"
        );
    }
    assert!(first.ns >= 500_000_000, "{ends:?}: {first:#?}");
}

#[track_caller]
fn check_script(kind: &str) {
    let test = std::thread::current().name().unwrap_or(kind).to_owned();
    if lacks(&test, &["python3"]) {
        return;
    }
    for ends in WAYS {
        unspoilt(|| {
            let (run, terminal) = session(ends);
            let script = run.file("hangs.py");
            std::fs::write(&script, include_str!("hangs.py")).expect("a script");
            let mount = run.file("mount");
            std::fs::create_dir(&mount).expect("a folder");
            let run = run.json().args(["--", "python3"]).args([&script]);
            let run = run.args([kind]).args([&mount]);
            check_hang(run, ends, terminal, "hang");
        });
    }
}

#[test]
fn a_parent_that_waits_for_its_child_and_does_not_read_what_that_writes() {
    check_script("pipe");
}

#[test]
fn a_parent_that_joins_its_child_before_it_empties_the_queue_between_them() {
    check_script("queue");
}

#[test]
fn two_that_wait_for_each_others_first_word() {
    check_script("sockets");
}

#[test]
fn a_lock_that_was_copied_locked_by_a_fork() {
    check_script("forked");
}

#[test]
fn a_page_fault_that_nobody_answers() {
    check_script("fault");
}

#[test]
fn a_file_system_whose_server_looks_for_a_file_on_it() {
    if Path::new("/dev/fuse").exists() {
        check_script("fuse");
    } else {
        const TEST: &str = "a_file_system_whose_server_looks_for_a_file_on_it";
        skip(TEST, "no /dev/fuse");
    }
}

#[test]
fn two_processes_that_take_two_locks_the_other_way_round() {
    const TEST: &str = "two_processes_that_take_two_locks_the_other_way_round";
    if lacks(TEST, &["python3"]) {
        return;
    }
    for ends in WAYS {
        unspoilt(|| {
            let (run, terminal) = session(ends);
            let script = run.file("hangs.py");
            std::fs::write(&script, include_str!("hangs.py")).expect("a script");
            let run = run.json().args(["--", "python3"]).args([&script]);
            check_hang(run.args(["processes"]), ends, terminal, "deadlock");
        });
    }
}

#[test]
fn two_threads_that_take_two_locks_the_other_way_round() {
    for ends in WAYS {
        unspoilt(|| {
            let (run, terminal) = session(ends);
            let run = run.workload("deadlock --kind abba --give-up 250");
            check_hang(run, ends, terminal, "deadlock");
        });
    }
}

/// A signal that moves none of those who hang ends the recording: nothing else would.
#[test]
fn a_hang_that_ctrl_c_does_not_end_ends_the_recording() {
    const TEST: &str = "a_hang_that_ctrl_c_does_not_end_ends_the_recording";
    if lacks(TEST, &["python3"]) {
        return;
    }
    for ends in [Ends::Typed, Ends::Group] {
        unspoilt(|| {
            let (run, terminal) = session(ends);
            let script = run.file("hangs.py");
            std::fs::write(&script, include_str!("hangs.py")).expect("a script");
            let run = run.json().args(["--", "python3"]).args([&script]);
            let mut running = run.args(["deaf"]).start();
            let truth: serde_json::Value = serde_json::from_str(&running.line(1)).expect("JSON");
            let tids: Vec<u32> = serde_json::from_value(truth["tids"].clone()).expect("tids");
            let begun = Instant::now();
            while !running.stderr().contains("The run goes on") {
                assert!(begun.elapsed() < GIVE_UP, "{}", running.stderr());
                std::thread::sleep(Duration::from_millis(20));
            }
            let finished = end(running, ends, terminal);
            for tid in &tids {
                // Each is the first thread of its process.
                let _ = kill(Pid::from_raw(*tid as i32), Signal::SIGKILL);
            }
            assert_eq!(finished.status.code(), Some(124), "{}", finished.stderr);
            assert!(
                finished.stderr.contains("still running: "),
                "{}",
                finished.stderr
            );
            let first = &finished.report().findings[0];
            assert_eq!(first.kind, "hang", "{first:#?}");
        });
    }
}

/// What did not last is taken back.
#[test]
fn a_lock_that_another_thread_lets_go_is_taken_back() {
    const TEST: &str = "a_lock_that_another_thread_lets_go_is_taken_back";
    const SCRIPT: &str = r#"
import ctypes, os, threading
libc = ctypes.CDLL(None)
mutex = ctypes.create_string_buffer(64)
told, word = os.pipe()
def unlock():
    os.read(0, 1)
    libc.pthread_mutex_unlock(mutex)
libc.pthread_mutex_lock(mutex)
thread = threading.Thread(target=unlock)
thread.start()
print("begun", flush=True)
libc.pthread_mutex_lock(mutex)
thread.join()
"#;
    if lacks(TEST, &["python3"]) {
        return;
    }
    unspoilt(|| {
        let (read, write) = std::io::pipe().expect("a pipe");
        let mut run = crate::support::run()
            .json()
            .args(["--", "python3", "-c", SCRIPT]);
        run.command().stdin(read);
        let mut running = run.start();
        running.line(1);
        let begun = Instant::now();
        while !running.stderr().contains("The run goes on") {
            assert!(begun.elapsed() < GIVE_UP, "{}", running.stderr());
            std::thread::sleep(Duration::from_millis(20));
        }
        (&write).write_all(b"x").expect("it reads");
        let finished = running.finish();
        assert!(
            finished.stderr.contains("has gone on"),
            "{}",
            finished.stderr
        );
        assert!(finished.report().deadlocks.is_empty());
    });
}
