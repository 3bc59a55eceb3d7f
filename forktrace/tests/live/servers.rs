//! Servers under load, pools and jobs: each design blocks as it is meant to.

use std::process::Command;

use serde_json::Value;

use crate::support::{Finished, Report, Task, forktrace, id, list, n, trace, unspoilt};

const CONNECTIONS: usize = 20;

fn serve(design: &str) -> Finished {
    let traced = trace(&format!(
        "serve --design {design} --connections {CONNECTIONS} --work-us 10 --seconds 0.2"
    ));
    check_result(&list(&traced.truth()["results"])[0], CONNECTIONS);
    traced
}

fn check_result(result: &Value, connections: usize) {
    assert_eq!(n(&result["errors"]), 0, "{result}");
    assert_eq!(n(&result["connections_established"]), connections as u64);
    // Each was asked once before the clock started and once when it did.
    assert!(n(&result["answers"]) >= 2 * connections as u64, "{result}");
    assert_eq!(result["answers"], result["served"], "{result}");
}

/// The tasks of the server's process, its first one first.
fn server(traced: &Finished) -> (&Report, u32, Vec<&Task>) {
    let truth = traced.truth();
    let result = &list(&truth["results"])[0];
    let (report, pid) = (traced.report(), id(&result["server_pid"]));
    let tasks = report.of_process(pid);
    assert_eq!(tasks[0].name, "server", "{:?}", report.ids());
    let load = report.of_process(id(&result["load_pid"]));
    assert_eq!((load.len(), &*load[0].name), (1, "load"));
    (report, pid, tasks)
}

/// What the system may make any task wait for.
const ANY: [&str; 4] = ["memory", "close", "exec", "exit"];

/// What a task waited in, but for what the system does to any task.
fn reasons(task: &Task) -> Vec<&str> {
    let mut reasons: Vec<&str> = task
        .waits
        .iter()
        .filter(|wait| wait.syscall.is_some() && !ANY.contains(&&*wait.reason))
        .map(|wait| &*wait.reason)
        .collect();
    reasons.sort_unstable();
    reasons.dedup();
    reasons
}

fn check_loop(design: &str, reason: &str, syscall: &str) {
    let traced = serve(design);
    let (_, _, tasks) = server(&traced);
    assert_eq!(tasks.len(), 1, "{design} has one thread: {tasks:?}");
    assert!(tasks[0].waited(reason, syscall).count > 0);
    assert_eq!(reasons(tasks[0]), [reason], "{:?}", tasks[0].waits);
}

#[test]
fn the_select_server_blocks_in_select_alone() {
    unspoilt(|| {
        check_loop("select", "select", "pselect6");
    });
}

#[test]
fn the_poll_server_blocks_in_poll_alone() {
    unspoilt(|| {
        let syscall = if cfg!(target_arch = "x86_64") {
            "poll"
        } else {
            "ppoll"
        };
        check_loop("poll", "poll", syscall);
    });
}

#[test]
fn the_epoll_server_blocks_in_epoll_alone() {
    unspoilt(|| {
        let syscall = if cfg!(target_arch = "x86_64") {
            "epoll_wait"
        } else {
            "epoll_pwait"
        };
        check_loop("epoll", "epoll", syscall);
    });
}

#[test]
fn a_thread_for_each_connection_blocks_in_recv_and_the_first_in_accept() {
    unspoilt(|| {
        let traced = serve("thread");
        let (_, _, tasks) = server(&traced);
        assert_eq!(tasks.len(), 1 + CONNECTIONS);
        assert!(tasks[0].waited("accept", "accept4").count > 0);
        check_connections(&tasks[1..], "connection");
    });
}

fn check_connections(tasks: &[&Task], name: &str) {
    assert_eq!(tasks.len(), CONNECTIONS);
    for task in tasks {
        assert_eq!(task.name, name);
        assert!(task.waited("recv", "recvfrom").count > 0);
        let polls = reasons(task);
        assert!(
            !["select", "poll", "epoll"]
                .iter()
                .any(|r| polls.contains(r)),
            "{task:?}"
        );
    }
}

#[test]
fn a_process_for_each_connection_blocks_in_recv() {
    unspoilt(|| {
        for (design, name) in [("process", "connection"), ("preforked", "worker")] {
            let traced = serve(design);
            let (report, pid, tasks) = server(&traced);
            assert_eq!(tasks.len(), 1, "{design} has no threads");
            let children: Vec<&Task> = report.tasks.iter().filter(|t| t.ppid == pid).collect();
            check_connections(&children, name);
            // What it does all the time that there is load.
            let parent = reasons(tasks[0]);
            let expected = if design == "process" {
                "accept"
            } else {
                "wait"
            };
            assert!(parent.contains(&expected), "{design}: {parent:?}");
        }
    });
}

#[test]
fn of_leader_and_followers_one_is_in_epoll_and_the_others_wait_for_the_lead() {
    unspoilt(|| {
        let traced = serve("leader-followers");
        let (report, pid, tasks) = server(&traced);
        assert_eq!(tasks.len(), 4);
        let waited = |reason: &str| -> u64 {
            let waits = tasks.iter().flat_map(|task| &task.waits);
            waits.filter(|w| w.reason == reason).map(|w| w.ns).sum()
        };
        assert!(waited("futex") > 0, "{tasks:?}");
        assert!(
            waited("epoll") <= report.process(pid).lifetime_ns,
            "two led at a time: {tasks:?}"
        );
    });
}

#[test]
fn no_design_fails_a_thousand_connections() {
    unspoilt(|| {
        const ALL: &str = "thread,process,preforked,select,poll,epoll,leader-followers";
        let options = format!("serve --design {ALL} --connections 1000 --seconds 0.1");
        let done = Command::new(forktrace())
            .arg("workload")
            .args(options.split(' '))
            .output()
            .expect("forktrace runs");
        assert!(done.status.success(), "{done:?}");
        let truth: Value = serde_json::from_slice(&done.stdout).expect("a truth line");
        let results = list(&truth["results"]);
        assert_eq!(results.len(), 7);
        for result in results {
            check_result(result, 1000);
        }
    });
}

#[test]
fn server_and_load_can_be_run_apart() {
    unspoilt(|| {
        let mut server = Command::new(forktrace())
            .args("workload serve --design epoll --only server --seconds 0".split(' '))
            .args(["--address", "127.0.0.1:0"])
            .spawn()
            .expect("forktrace runs");
        assert!(server.wait().expect("it ends").success());

        // Nobody listens there: each client counts, and that is no failure of the load.
        let done = Command::new(forktrace())
            .args("workload serve --design epoll --only load --connections 3".split(' '))
            .args(["--seconds", "0", "--address", "127.0.0.1:1"])
            .output()
            .expect("forktrace runs");
        let truth: Value = serde_json::from_slice(&done.stdout).expect("a truth line");
        let result = &list(&truth["results"])[0];
        assert_eq!(n(&result["errors"]), 3, "{result}");
        assert!(result["server_pid"].is_null() && result["served"].is_null());
    });
}

#[test]
fn the_pool_leads_in_turn_and_reads_all_that_is_sent() {
    unspoilt(|| {
        let traced = trace("leader-followers --seconds 0.3");
        let (truth, report) = (traced.truth(), traced.report());
        assert!(n(&truth["messages"]) > 0);
        assert_eq!(n(&truth["unread"]), 0);
        let pool = id(&truth["pool_pid"]);
        let tasks = report.of_process(pool);
        assert_eq!((tasks.len(), &*tasks[0].name), (4, "pool"));
        let epoll = tasks.iter().flat_map(|task| &task.waits);
        let led: u64 = epoll.filter(|w| w.reason == "epoll").map(|w| w.ns).sum();
        assert!(led <= report.process(pool).lifetime_ns);
        assert!(tasks.iter().all(|task| !reasons(task).contains(&"sleep")));
    });
}

#[test]
fn the_pools_mistakes_are_made() {
    unspoilt(|| {
        let traced = trace("leader-followers --seconds 0.2 --nap-as-leader-us 1000");
        let truth = traced.truth();
        let tasks = traced.report().of_process(id(&truth["pool_pid"]));
        let naps: u64 = tasks
            .iter()
            .filter_map(|task| task.wait("sleep", "clock_nanosleep"))
            .map(|wait| wait.count)
            .sum();
        assert!(naps > 0, "{tasks:?}");
        assert_eq!(n(&truth["unread"]), 0);

        let truth = trace("leader-followers --seconds 0.3 --gap-us 500 --forget-socket").truth();
        assert!(n(&truth["unread"]) > 0, "{truth}");
    });
}

#[test]
fn a_pool_makes_its_workers_once_and_on_demand_each_job_has_its_own() {
    unspoilt(|| {
        for (by, share, made) in [
            ("threads", "--jobs-per-worker 1", 100),
            ("processes", "--jobs-per-worker 1", 100),
            ("threads", "", 3),
            ("processes", "", 3),
        ] {
            let options = format!("--by {by} --jobs 100 --job-us 20 --workers 3 {share}");
            let traced = trace(format!("jobs {options}").trim_end());
            let (truth, report) = (traced.truth(), traced.report());
            assert_eq!(n(&truth["jobs"]), 100);
            assert_eq!(n(&truth["made"]), made);
            let workers = report.tasks.iter().filter(|task| task.name == "worker");
            assert_eq!(workers.count() as u64, made, "{by}");
            assert_eq!(report.tasks.len() as u64, made + 1);
        }
    });
}
