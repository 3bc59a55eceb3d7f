//! Signals to forktrace, and a forktrace that is killed.

use std::{fs, os::unix::process::ExitStatusExt as _, thread::sleep, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use forktrace_core::trace::{Event, Waker};

use crate::support::{Forktrace, Report, Running, check_complete, check_figures, lacks, unspoilt};

fn send(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).expect("a pid");
    kill(Pid::from_raw(pid), signal).unwrap_or_else(|e| panic!("{signal} to {pid}: {e}"));
}

/// Ends what a test left running, if it still does.
pub(crate) fn kill_and_forget(pid: u32) {
    let pid = i32::try_from(pid).expect("a pid");
    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
}

/// Is there such a process, and not only its remains?
fn lives(pid: u32) -> bool {
    status(pid).is_some_and(|status| !status.contains("State:\tZ"))
}

fn status(pid: u32) -> Option<String> {
    fs::read_to_string(format!("/proc/{pid}/status")).ok()
}

/// A run that starts with no signal ignored: a shell ignores SIGINT and SIGQUIT for what
/// it starts in the background, `nohup` SIGHUP, and who is ignored at the start stays so.
fn run() -> Forktrace {
    let status = fs::read_to_string("/proc/self/status").expect("a status");
    let ignored = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:\t"));
    let ignored = u64::from_str_radix(ignored.expect("SigIgn"), 16).expect("a mask");
    let ours = [
        Signal::SIGHUP,
        Signal::SIGINT,
        Signal::SIGQUIT,
        Signal::SIGTERM,
    ];
    if ours.iter().all(|&it| ignored & (1 << (it as u32 - 1)) == 0) {
        return crate::support::run();
    }
    Forktrace::under("env", &["--default-signal"], "run")
}

/// A workload that prints its pid and then, whenever it gets the signal, "got it".
fn with_handler(signal: &str) -> (Running, u32) {
    let script = format!(
        "trap 'echo got it' {signal}; echo $$; while :; do $FORKTRACE workload nap --millis 20 >/dev/null; done"
    );
    let mut running = run().shell(&script).start();
    let pid = running.line(1).parse().expect("a pid");
    (running, pid)
}

#[test]
fn a_signal_to_forktrace_alone_is_passed_on() {
    unspoilt(|| {
        for signal in [
            Signal::SIGTERM,
            Signal::SIGINT,
            Signal::SIGHUP,
            Signal::SIGQUIT,
        ] {
            let mut running = run()
                .shell("ulimit -c 0; echo ready; exec $FORKTRACE workload nap --millis 100000")
                .start();
            running.line(1);
            send(running.pid(), signal);
            let finished = running.finish();
            assert_eq!(
                finished.status.signal(),
                Some(signal as i32),
                "{}",
                finished.status
            );
            check_complete(finished.report());
            assert_eq!(finished.report().workload.signal, Some(signal as i32));
        }
    });
}

#[test]
fn a_second_signal_detaches_and_still_reports() {
    unspoilt(|| {
        for (signal, name) in [(Signal::SIGTERM, "TERM"), (Signal::SIGINT, "INT")] {
            let (mut running, pid) = with_handler(name);
            send(running.pid(), signal);
            assert_eq!(running.line(2), "got it");
            send(running.pid(), signal);
            let finished = running.finish();
            assert!(lives(pid), "the workload lives on");
            kill_and_forget(pid);
            assert_eq!(
                finished.stdout.matches("got it").count(),
                1,
                "the second is not passed on"
            );
            assert_eq!(finished.status.code(), Some(124), "{}", finished.stderr);
            let named = format!("still running: {pid} (");
            assert!(finished.stderr.contains(&named), "{}", finished.stderr);
            let report = finished.report();
            check_figures(report);
            assert!(report.weakness("cut_short").count >= 1);
            assert_eq!(
                (report.workload.exit_code, report.workload.signal),
                (None, None)
            );
            assert_eq!(report.task(pid).fate, "alive");
        }
    });
}

#[test]
fn a_stop_of_the_workload_is_not_its_end() {
    unspoilt(|| {
        let mut running = run()
            .shell("echo $$; exec $FORKTRACE workload nap --millis 300")
            .start();
        let pid = running.line(1).parse().expect("a pid");
        send(pid, Signal::SIGSTOP);
        // A stop that is continued before it has begun is none.
        while !status(pid).is_some_and(|status| status.contains("State:\tT")) {
            assert!(!running.has_ended(), "it ended before it stopped");
            sleep(Duration::from_millis(1));
        }
        sleep(Duration::from_millis(50));
        send(pid, Signal::SIGCONT);
        let finished = running.finish();
        check_complete(finished.report());
        assert!(finished.report().task(pid).stopped_ns > 0);
        assert!(finished.status.success());
    });
}

#[test]
fn a_killed_forktrace_leaves_the_workload_alone_and_a_trace_that_can_be_read() {
    unspoilt(|| {
        let run = run();
        let trace = run.file("trace");
        let mut running = run
            .args(["--save"])
            .args([&trace])
            .shell("echo $$; exec $FORKTRACE workload ping-pong --pin --seconds 100")
            .start();
        let pid = running.line(1).parse().expect("a pid");
        // Until two blocks of events or more have come to the file.
        while fs::metadata(&trace).map_or(0, |data| data.len()) < 150_000 {
            sleep(Duration::from_millis(10));
        }
        send(running.pid(), Signal::SIGKILL);
        // Its folder goes with what is finished.
        let finished = running.finish();
        assert_eq!(finished.status.signal(), Some(9));
        assert!(lives(pid), "the workload lives on");
        kill_and_forget(pid);

        let read = Forktrace::new("report").json().args([&trace]).finish();
        assert!(read.status.success(), "{}", read.stderr);
        let report: &Report = read.report();
        check_figures(report);
        assert_eq!(report.weakness("end_missing").count, 1);
        assert!(!report.audit.complete);
        assert_eq!(
            (report.workload.exit_code, report.workload.signal),
            (None, None)
        );
        assert_eq!(report.tasks.len(), 2, "{:?}", report.ids());
        let player = report.task(pid);
        assert_eq!(player.fate, "unknown");
        assert!(player.waited("read", "read").count > 1000, "{player:?}");
        let elsewhere = |wait: &&crate::support::Wait| wait.reason != "read";
        let waits = report.tasks.iter().flat_map(|task| &task.waits);
        let elsewhere: u64 = waits.filter(elsewhere).map(|wait| wait.ns).sum();
        // As in a whole trace of a ping-pong, but for a wakeup that was not announced.
        if !report
            .audit
            .weaknesses
            .iter()
            .any(|w| w.kind == "wakeup_missing")
        {
            assert!(
                report.tree().all_blocked.lower_ns <= elsewhere,
                "{:?}",
                report.tree()
            );
        }
    });
}

#[test]
fn signals_that_end_or_tell_something_are_recorded_with_who_sent_them() {
    let run = run();
    let trace = run.file("trace");
    let script = "trap : HUP INT QUIT USR1 USR2 ALRM TERM CONT
        for signal in HUP INT QUIT USR1 USR2 ALRM TERM CONT; do kill -s $signal $$; done";
    let run = run.args(["--save"]).args([&trace]).shell(script);
    let finished = run.complete();
    let mut sent = Vec::new();
    let bytes = fs::read(finished.file("trace")).expect("a trace");
    let read = forktrace_core::trace_file::read(&bytes, |_, event| {
        if let Event::Signal(signal) = event {
            sent.push((signal.signal, signal.sender, signal.serial));
        }
    });
    read.expect("it can be read");
    for number in [1, 2, 3, 10, 12, 14, 15, 18] {
        let to_itself = |(signal, sender, to): &(u8, Waker, u32)| {
            let by = matches!(sender, Waker::Task { serial, .. } if serial == to);
            *signal == number && by
        };
        assert!(sent.iter().any(to_itself), "{number}: {sent:?}");
    }
}

#[test]
fn who_sends_a_signal_that_a_task_waits_for_gives_it_what_it_wants() {
    if lacks(
        "who_sends_a_signal_that_a_task_waits_for_gives_it_what_it_wants",
        &["python3"],
    ) {
        return;
    }
    let program = "import os, signal, time
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
parent = os.getpid()
pid = os.fork()
if pid == 0:
    # Until it waits: pause, sigtimedwait.
    while open(f'/proc/{parent}/syscall').read().split()[0] not in ('128', '137'):
        time.sleep(0.01)
    time.sleep(0.3)
    os.kill(parent, signal.SIGUSR1)
    os._exit(0)
signal.sigwait([signal.SIGUSR1])
os.waitpid(pid, 0)
print(parent, pid, flush=True)";
    let finished = run()
        .json()
        .args(["--", "python3", "-c", program])
        .complete();
    let line = finished.stdout.trim().to_owned();
    let (parent, child) = line.split_once(' ').expect("two pids");
    let [parent, child] = [parent, child].map(|pid| pid.parse().expect("a pid"));
    let task = finished.report().task(parent);
    let links = task
        .longest_blocks
        .iter()
        .filter_map(|block| block.chain.first());
    let mut waits = links.filter(|link| link.reason == "signal wait");
    let wait = waits.next().unwrap_or_else(|| panic!("{task:?}"));
    assert_eq!(wait.ended, "fulfilled", "{wait:?}");
    assert_eq!(wait.woken_by.tid, Some(child), "{wait:?}");
}
