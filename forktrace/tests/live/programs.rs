//! Programs that we did not write.

use std::{
    net::TcpListener,
    process::{Command, Stdio},
    thread::sleep,
    time::Duration,
};

use crate::support::{again, assert_within, id, lacks, list, n, run, span, unspoilt};

#[test]
fn forty_processes_of_perf_bench() {
    unspoilt(|| {
        if lacks("forty_processes_of_perf_bench", &["perf"]) {
            return;
        }
        let traced = run()
            .json()
            .args([
                "--",
                "perf",
                "bench",
                "sched",
                "messaging",
                "-g",
                "1",
                "-l",
                "100",
            ])
            .complete();
        let report = traced.report();
        assert!(traced.stdout.contains("40 processes"), "{}", traced.stdout);
        let perf = report.task(report.tree().pid);
        let children: Vec<_> = report
            .tasks
            .iter()
            .filter(|task| task.ppid == perf.pid)
            .collect();
        assert_eq!(children.len(), 40, "{:?}", report.ids());
        // Each receiver reads 100 messages of each of 20 senders.
        assert!(report.audit.switches_traced > 100, "{:?}", report.audit);
    });
}

#[test]
fn redis_serves_twenty_clients() {
    unspoilt(|| {
        const TEST: &str = "redis_serves_twenty_clients";
        if lacks(TEST, &["redis-server", "redis-benchmark", "redis-cli"]) {
            return;
        }
        // Free now, and nobody hands it out at once again.
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = free.local_addr().expect("an address").port().to_string();
        drop(free);
        let mut server = run();
        let folder = server.folder().to_owned();
        server.command().current_dir(folder);
        let mut server = server
            .json()
            .args(["--polls", "tracepoint"])
            .args(["--", "redis-server", "--port", &port, "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no"])
            .start();
        let cli = |command: &str| {
            let output = Command::new("redis-cli")
                .args(["-p", &port, command])
                .output();
            String::from_utf8_lossy(&output.expect("redis-cli runs").stdout).into_owned()
        };
        while cli("PING").trim() != "PONG" {
            if server.has_ended() {
                again(format!("another took the port: {}", server.finish().stderr));
            }
            sleep(Duration::from_millis(10));
        }
        let benchmark = Command::new("redis-benchmark")
            .args([
                "-p", &port, "-q", "-n", "20000", "-c", "20", "-t", "set,get",
            ])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .expect("redis-benchmark runs");
        assert!(benchmark.success());
        cli("SHUTDOWN");

        let traced = server.finish();
        let report = traced.report();
        crate::support::check_complete(report);
        let main = report.task(report.tree().pid);
        assert!(
            main.waits.iter().any(|wait| wait.reason == "epoll"),
            "{main:?}"
        );
        if let Some(polls) = &report.polls {
            let epoll = polls
                .iter()
                .filter(|p| p.tid == main.tid && p.syscall.starts_with("epoll"));
            let calls: u64 = epoll.map(|poll| poll.calls).sum();
            // 40000 requests of 20 clients, each with one under way.
            assert!(calls >= 40_000 / 20, "{polls:?}");
        }
    });
}

#[test]
fn threads_of_python() {
    unspoilt(|| {
        if lacks("threads_of_python", &["python3"]) {
            return;
        }
        let script = r#"
import json, os, select, threading, time
def timed(act):
    begin = time.monotonic_ns()
    act()
    return {"tid": threading.get_native_id(), "begin_ns": begin, "end_ns": time.monotonic_ns()}
truth = {"pid": os.getpid()}
def thread(name, act):
    def run(): truth[name] = timed(act)
    return threading.Thread(target=run)
pipe = os.pipe()
threads = [
    thread("select", lambda: select.select([pipe[0]], [], [], 0.4)),
    thread("sleep", lambda: time.sleep(0.3)),
]
for it in threads: it.start()
for it in threads: it.join()
print(json.dumps(truth))
"#;
        let traced = run()
            .json()
            .args(["--", "python3", "-c", script])
            .complete();
        let (truth, report) = (traced.truth(), traced.report());
        assert_eq!(report.of_process(id(&truth["pid"])).len(), 3);
        for (name, reason) in [("select", "select"), ("sleep", "sleep")] {
            let call = &truth[name];
            let task = report.task(id(&call["tid"]));
            let longest = task
                .waits
                .iter()
                .filter(|w| w.reason == reason)
                .map(|w| w.longest_ns)
                .max()
                .expect("it waited");
            // Between the two there is also the wait for the interpreter's lock.
            let at_least = task.least_wait(span(call), longest);
            assert_within(name, longest, at_least, span(call));
        }
    });
}

#[test]
fn a_traced_workload_can_trace_with_strace() {
    unspoilt(|| {
        const TEST: &str = "a_traced_workload_can_trace_with_strace";
        if lacks(TEST, &["strace"]) {
            return;
        }
        let traced = run()
            .shell("exec strace -f -o /dev/null $FORKTRACE workload sleepers --seconds 0.2")
            .complete();
        let (truth, report) = (traced.truth(), traced.report());
        for thread in list(&truth["threads"]) {
            let task = report.task(id(&thread["tid"]));
            assert!(task.stopped_ns > 0, "it stopped at each syscall: {task:?}");
            let at_most = n(&thread["end_ns"]) - n(&thread["begin_ns"]);
            assert!(task.longest_block_ns <= at_most, "{thread} {task:?}");
        }
    });
}

#[test]
fn a_shell_pipeline_is_complete() {
    unspoilt(|| {
        let traced = run()
            .shell("(echo b; echo a) | sort | cat; true")
            .complete();
        assert_eq!(traced.stdout, "a\nb\n");
        assert!(
            traced.report().tasks.len() >= 3,
            "{:?}",
            traced.report().ids()
        );
    });
}
