//! What `forktrace run` has in common with `strace`, `time` and `env`: what it takes from
//! its caller and its terminal, and hands on to the workload.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::process::ExitStatusExt as _,
    process::Command,
    thread::sleep,
    time::Duration,
};

use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    pty::openpty,
    sys::signal::Signal,
};

use crate::{
    signals::kill_and_forget,
    support::{Forktrace, Running, check_complete, forktrace, lacks, run, unspoilt},
};

/// A field of a process's status that is a mask.
fn mask(status: &str, field: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let value = line.unwrap_or_else(|| panic!("no {field} in {status}"));
    u64::from_str_radix(value.trim(), 16).expect("a mask")
}

fn bit(signal: Signal) -> u64 {
    1 << (signal as u32 - 1)
}

/// Forktrace as the leader of a session with a terminal, whose other end is given back.
fn on_terminal() -> (Forktrace, File) {
    let pty = openpty(None, None).expect("a pseudo-terminal");
    // It hangs up when nobody has it any more.
    fcntl(&pty.master, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).expect("fcntl");
    let mut run = Forktrace::under("setsid", &["--ctty"], "run");
    run.command().stdin(File::from(pty.slave));
    (run, File::from(pty.master))
}

/// Presses Ctrl-C until something has happened.
fn press_until(terminal: &mut File, mut happened: impl FnMut() -> bool) {
    for _ in 0..600 {
        terminal.write_all(b"\x03").expect("the terminal takes it");
        sleep(Duration::from_millis(100));
        if happened() {
            return;
        }
    }
    panic!("600 presses changed nothing");
}

#[test]
fn a_caller_that_ignores_sigchld_gets_the_status() {
    let run = || Forktrace::under("env", &["--ignore-signal=CHLD"], "run");
    let finished = run().args(["--", "sh", "-c", "exit 7"]).finish();
    assert_eq!(finished.status.code(), Some(7), "{}", finished.stderr);
    // A shell has SIGCHLD for itself.
    let finished = run().args(["--", "grep", "SigIgn:", "/proc/self/status"]);
    let finished = finished.finish();
    let ignored = mask(&finished.stdout, "SigIgn:");
    assert_ne!(ignored & bit(Signal::SIGCHLD), 0, "as the caller had it");
}

#[test]
fn the_workload_has_the_callers_sigpipe_and_signals_of_limits() {
    for (option, expected) in [("--ignore-signal=PIPE", true), ("--default-signal", false)] {
        let run = Forktrace::under("env", &[option], "run");
        let finished = run.shell("grep SigIgn: /proc/self/status").complete();
        let ignored = mask(&finished.stdout, "SigIgn:");
        assert_eq!(ignored & bit(Signal::SIGPIPE) != 0, expected, "{option}");
        assert_eq!(ignored & bit(Signal::SIGXFSZ), 0, "{option}");
        assert_eq!(ignored & bit(Signal::SIGXCPU), 0, "{option}");
    }
}

#[test]
fn a_real_time_signal_ends_the_workload_and_is_its_status() {
    let finished = run().shell("kill -40 $$").finish();
    assert_eq!(finished.status.signal(), Some(40), "{}", finished.stderr);
    check_complete(finished.report());
    assert_eq!(finished.report().workload.signal, Some(40));
}

#[test]
fn a_limit_of_file_sizes_costs_records_and_not_the_report() {
    let limited = ["-c", "ulimit -f 128; exec \"$@\"", "sh"];
    let run = Forktrace::under("sh", &limited, "run");
    let finished = run.workload("ping-pong --seconds 1").finish();
    assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);
    assert_eq!(finished.report().workload.exit_code, Some(0));
}

/// A program that has a signal pending, and blocked, when it becomes its arguments: so
/// it is there before anything else, however fast or slow the machine is.
const SIGNALLED: &str = "import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [int(sys.argv[1])])
os.kill(os.getpid(), int(sys.argv[1]))
os.execv(sys.argv[2], sys.argv[2:])";

#[test]
fn a_signal_before_the_workload_keeps_it_from_beginning() {
    if lacks(
        "a_signal_before_the_workload_keeps_it_from_beginning",
        &["python3"],
    ) {
        return;
    }
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let number = (signal as i32).to_string();
        let run = Forktrace::under("python3", &["-c", SIGNALLED, &number], "run");
        let finished = run.shell("echo it began").finish();
        let stderr = &finished.stderr;
        assert_eq!(finished.status.signal(), Some(signal as i32), "{stderr}");
        assert_eq!(finished.stdout, "");
        // Nor is there a report of nothing.
        assert!(!finished.file("report.json").exists());
    }
}

#[test]
fn a_hang_up_of_the_terminal_reaches_the_workload() {
    unspoilt(|| {
        let (run, terminal) = on_terminal();
        let mut running = run
            .shell("echo ready; exec $FORKTRACE workload nap --millis 100000")
            .start();
        running.line(1);
        drop(terminal);
        let finished = running.finish();
        assert_eq!(finished.status.signal(), Some(1), "{}", finished.stderr);
        assert_eq!(finished.report().workload.signal, Some(1));
    });
}

#[test]
fn ctrl_c_reaches_a_workload_that_left_the_group() {
    unspoilt(|| {
        let (run, mut terminal) = on_terminal();
        let script = "exec setsid sh -c 'echo ready; exec $FORKTRACE workload nap --millis 100000'";
        let mut running = run.shell(script).start();
        running.line(1);
        terminal.write_all(b"\x03").expect("the terminal takes it");
        let finished = running.finish();
        assert_eq!(finished.status.signal(), Some(2), "{}", finished.stderr);
        assert_eq!(finished.report().workload.signal, Some(2));
    });
}

#[test]
fn three_presses_end_the_recording_and_name_what_is_left() {
    unspoilt(|| {
        let (run, mut terminal) = on_terminal();
        let script = "trap '' INT; echo $$; exec $FORKTRACE workload nap --millis 100000";
        let mut running: Running = run.shell(script).start();
        let pid: u32 = running.line(1).parse().expect("a pid");
        press_until(&mut terminal, || running.has_ended());
        let finished = running.finish();
        kill_and_forget(pid);
        assert_eq!(finished.status.code(), Some(124), "{}", finished.stderr);
        let named = format!("still running: {pid} (");
        assert!(finished.stderr.contains(&named), "{}", finished.stderr);
        assert_eq!(finished.report().task(pid).fate, "alive");
    });
}

#[test]
fn who_takes_the_probes_away_holds_nothing_of_the_callers() {
    let folder = tempfile::tempdir().expect("a folder");
    let script = "exec 9>lock; flock 9; $FORKTRACE run -q -- true; exec 9>&-; flock -n lock true";
    let status = Command::new("sh")
        .args(["-c", script])
        .env("FORKTRACE", forktrace())
        .env_remove("SUDO_UID")
        .current_dir(folder.path())
        .status()
        .expect("a shell");
    assert!(status.success(), "the lock is still held");
}

#[test]
fn times_are_right_in_a_time_namespace() {
    for offset in ["100000", "-100"] {
        let options = ["--time", "--monotonic", offset, "--fork"];
        // util-linux 2.39 takes no negative one.
        let can = Command::new("unshare").args(options).arg("true").output();
        if !can.is_ok_and(|it| it.status.success()) && offset.starts_with('-') {
            continue;
        }
        let run = Forktrace::under("unshare", &options, "run");
        let script = "echo '{\"name\": \"now\"}' >&$FORKTRACE_MARKS_FD; \
                      $FORKTRACE workload nap --millis 50 >/dev/null";
        let finished = run.shell(script).complete();
        let report = finished.report();
        let duration_ns = report.workload.duration_ns;
        assert!(duration_ns >= 50_000_000, "{offset}: {duration_ns}");
        // A day is more than a test takes, and less than the offsets are.
        assert!(duration_ns < 90_000_000_000, "{offset}: {duration_ns}");
    }
}

#[test]
fn another_user_has_none_of_our_capabilities() {
    // With this bit the kernel keeps them over a setuid.
    let options = [
        "--securebits=+no_setuid_fixup",
        "--inh-caps=+net_admin",
        "--ambient-caps=+net_admin",
    ];
    let mut run = Forktrace::under("setpriv", &options, "run").args(["-u", "65534"]);
    let folder = run.folder().to_owned();
    run.command().current_dir(folder);
    let finished = run
        .args(["--", "grep", "Cap", "/proc/self/status"])
        .finish();
    assert!(finished.status.success(), "{}", finished.stderr);
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        assert_eq!(mask(&finished.stdout, set), 0, "{}", finished.stdout);
    }
}

#[test]
fn few_descriptors_are_made_more_and_too_few_are_an_error_with_words() {
    let limited = |limit: &str| {
        let script = format!("ulimit {limit}; exec \"$@\"");
        Forktrace::under("sh", &["-c", &script, "sh"], "run")
    };
    let finished = limited("-Sn 30").shell("ulimit -Sn").complete();
    assert_eq!(finished.stdout, "30\n", "the workload has the limit");
    let finished = limited("-n 40").shell("echo it began").finish();
    assert_eq!(finished.status.code(), Some(125));
    assert!(
        finished.stderr.contains("ulimit -n "),
        "{}",
        finished.stderr
    );
    assert_eq!(finished.stdout, "");
}

#[test]
fn a_standard_error_that_is_full_is_no_panic() {
    let full = ["-c", "exec \"$@\" 2>/dev/full", "sh"];
    let run = Forktrace::under("sh", &full, "run");
    let finished = run.args(["--", "sh", "-c", "exit 7"]).finish();
    assert_eq!(finished.status.code(), Some(125));
}

#[test]
fn a_report_that_finds_no_memory_leaves_the_trace() {
    let script = "echo ready; read go; exec $FORKTRACE workload ping-pong --pin --rounds 1000000";
    // Else what its end sets free is enough.
    let mut run = run().args(["--ring-size", "1M", "--max-tasks", "64"]);
    let folder = run.folder().to_owned();
    let (input, mut go) = std::io::pipe().expect("a pipe");
    // The C library would reserve 64 MiB for each thread, and find room there.
    run.command().env("MALLOC_ARENA_MAX", "1");
    run.command().env("TMPDIR", &folder).stdin(input);
    let mut running = run.shell(script).start();
    running.line(1);
    // So much as it has, and some for the recording, which needs no more in time.
    let pid = running.pid();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a status");
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:"));
    let size = size.and_then(|size| size.trim().strip_suffix(" kB"));
    let kib: u64 = size.expect("VmSize").parse().expect("a number");
    let limit = format!("--as={}", (kib + 8_000) << 10);
    let limited = Command::new("prlimit")
        .args(["--pid", &pid.to_string(), &limit])
        .status();
    assert!(limited.expect("prlimit").success());
    go.write_all(b"\n").expect("the workload waits");
    let finished = running.finish();
    assert_eq!(finished.status.code(), Some(125), "{}", finished.stderr);
    let name = folder.join(format!("forktrace-{pid}.ft"));
    let said = format!("the trace is in {}", name.display());
    assert!(finished.stderr.contains(&said), "{}", finished.stderr);
    let read = Forktrace::new("report").json().args([&name]).finish();
    assert!(read.status.success(), "{}", read.stderr);
    assert_eq!(read.report().workload.exit_code, Some(0));
}
