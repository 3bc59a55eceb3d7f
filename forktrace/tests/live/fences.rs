//! Where a recording can't have all that it wants: limits, namespaces, what is not mounted,
//! rights that are given up.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    helpers::{children, is_ours, status},
    support::{Finished, Forktrace, Report, check_complete, lacks, run, skip, unspoilt},
};

/// Much longer than anything here takes.
const SOON: Duration = Duration::from_secs(60);

/// Forktrace, started by a shell that does something before.
fn after(script: &str) -> Forktrace {
    let script = format!("{script} && exec \"$@\"");
    Forktrace::under("sh", &["-c", &script, "sh"], "run")
}

fn in_namespaces(options: &[&str], script: &str) -> Forktrace {
    let script = format!("{script} && exec \"$@\"");
    let shell = ["sh", "-c", &script, "sh"];
    Forktrace::under("unshare", &[options, &shell].concat(), "run")
}

/// What is said of look-ups that were lost.
fn said(report: &Report) -> Option<&str> {
    let mut found = report.audit.weaknesses.iter();
    let found = found.find(|it| it.kind == "look_ups_lost");
    found.map(|it| &*it.text)
}

#[track_caller]
fn refused(finished: &Finished, words: &[&str]) {
    let stderr = &finished.stderr;
    assert_eq!(finished.status.code(), Some(125), "{stderr}");
    for word in words {
        assert!(stderr.contains(word), "no {word:?} in {stderr:?}");
    }
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert_eq!(finished.stdout, "", "it began");
    let left = fs::read_dir(finished.file("")).expect("a folder").flatten();
    let left: Vec<_> = left.map(|it| it.file_name()).collect();
    assert_eq!(left.len(), 2, "besides stdout and stderr: {left:?}");
}

#[test]
fn limits_that_are_too_low_are_told_before_anything_is_made() {
    for (limit, command) in [
        ("-v 61440", "`ulimit -v "),
        ("-v 102400", "`ulimit -v "),
        ("-v 204800", "`ulimit -v "),
        ("-d 10240", "`ulimit -d "),
        ("-d 40960", "`ulimit -d "),
        ("-n 10", "`ulimit -n "),
        ("-n 20", "`ulimit -n "),
    ] {
        let run = after(&format!("ulimit {limit}"));
        let trace = run.file("trace");
        let run = run.args(["--save"]).args([trace]);
        refused(&run.shell("echo it began").finish(), &[command, "systemd"]);
    }
}

/// What the error says is enough is enough.
#[test]
fn the_limit_that_an_error_asks_for_is_enough() {
    unspoilt(|| {
        for (option, low) in [("v", 61440), ("d", 10240), ("n", 10)] {
            let low = after(&format!("ulimit -{option} {low}")).args(["--", "true"]);
            let stderr = low.finish().stderr;
            let asked = stderr.split(&format!("`ulimit -{option} ")).nth(1);
            let asked = asked.and_then(|rest| rest.split('`').next());
            let asked = asked.unwrap_or_else(|| panic!("{stderr}"));
            let run = after(&format!("ulimit -{option} {asked}"));
            run.shell("sleep 0.01").complete();
        }
    });
}

/// A soft limit is ours to raise, and the workload's to keep.
#[test]
fn a_soft_limit_is_raised_for_us_alone() {
    let run = after("ulimit -Sv 102400 && ulimit -Sd 20480");
    let finished = run.shell("ulimit -Sv; ulimit -Sd").finish();
    assert_eq!(finished.stdout, "102400\n20480\n", "{}", finished.stderr);
    check_complete(finished.report());
}

/// A control group of our own that may have so many tasks; `None`: there can be none.
struct Group(PathBuf);

impl Group {
    fn new(name: &str, most: u32) -> Option<Self> {
        let roots = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"];
        let made = roots.iter().find_map(|root| {
            let group = Path::new(root).join(format!("{name}-{}", std::process::id()));
            fs::create_dir(&group).ok()?;
            let group = Self(group);
            fs::write(group.0.join("pids.max"), most.to_string()).ok()?;
            Some(group)
        });
        made.filter(|group| group.0.join("pids.current").exists())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // What was in it can take a moment to be gone.
        for _ in 0..100 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn a_control_group_that_is_full_is_named() {
    let name = "a_control_group_that_is_full_is_named";
    let Some(group) = Group::new("forktrace-full", 1) else {
        return skip(name, "no control group with a limit of tasks can be made");
    };
    let shown = group.0.display().to_string();
    let run = after(&format!("echo $$ > {shown}/cgroup.procs"));
    let finished = run.shell("echo it began").finish();
    refused(&finished, &[&shown, "may have (1)", "pids.max"]);
}

#[test]
fn few_tasks_are_enough_for_a_recording() {
    let name = "few_tasks_are_enough_for_a_recording";
    // Ourselves, who makes helpers, three of them, the workload, and who makes the report.
    let Some(group) = Group::new("forktrace-few", 7) else {
        return skip(name, "no control group with a limit of tasks can be made");
    };
    let run = after(&format!("echo $$ > {}/cgroup.procs", group.0.display()));
    let finished = run.args(["--", "sleep", "0.1"]).finish();
    assert!(finished.status.success(), "{}", finished.stderr);
}

#[test]
fn without_proc_it_records_and_says_once_what_is_missing() {
    unspoilt(|| {
        let run = in_namespaces(&["--mount"], "umount -l /proc");
        let run = run.json().args(["--stacks", "--", "sleep", "0.1"]);
        let finished = run.finish();
        assert!(finished.status.success(), "{}", finished.stderr);
        let report = finished.report();
        assert_eq!(report.audit.lost_records, 0);
        assert_eq!(report.tasks.len(), 1);
        let said = said(report).expect("a weakness");
        assert_eq!(said.matches("/proc is not mounted").count(), 1, "{said}");
        for what in ["names", "deadlocks", "functions", "mount -t proc"] {
            assert!(said.contains(what), "no {what} in {said}");
        }
    });
}

#[test]
fn without_dev_null_nothing_is_missing() {
    unspoilt(|| {
        let run = in_namespaces(&["--mount"], "mount -t tmpfs none /dev");
        let finished = run.json().args(["--", "sleep", "0.1"]).finish();
        assert!(finished.status.success(), "{}", finished.stderr);
        check_complete(finished.report());
        assert_eq!(said(finished.report()), None);
    });
}

/// Its tasks have the numbers of others.
#[test]
fn a_proc_of_another_pid_namespace_is_not_believed() {
    unspoilt(|| {
        let run = Forktrace::under("unshare", &["--pid", "--fork"], "run");
        let finished = run.json().args(["--", "sleep", "0.1"]).finish();
        assert!(finished.status.success(), "{}", finished.stderr);
        let said = said(finished.report()).expect("a weakness");
        assert!(said.contains("another pid namespace"), "{said}");
        let options = ["--pid", "--fork", "--mount-proc"];
        let run = Forktrace::under("unshare", &options, "run");
        let finished = run.json().args(["--", "sleep", "0.1"]).finish();
        check_complete(finished.report());
    });
}

#[test]
fn children_in_another_pid_namespace_are_refused() {
    let run = Forktrace::under("unshare", &["--pid"], "run");
    let finished = run.shell("echo it began").finish();
    refused(&finished, &["pid namespace", "--fork"]);
}

#[test]
fn a_user_namespace_is_named_where_it_is_the_reason() {
    let test = "a_user_namespace_is_named_where_it_is_the_reason";
    let options = ["--user", "--map-root-user"];
    let can = Command::new("unshare").args(options).arg("true").output();
    if !can.is_ok_and(|it| it.status.success()) {
        // user_namespaces(7): nor in a chroot.
        return skip(test, "no user namespace can be made here");
    }
    let run = Forktrace::under("unshare", &options, "run");
    let finished = run.shell("echo it began").finish();
    refused(&finished, &["user namespace"]);
}

/// CAP_KILL, CAP_SETGID, CAP_SETUID (include/uapi/linux/capability.h).
const OF_RECORDER: u64 = 1 << 5 | 1 << 6 | 1 << 7;

#[test]
fn the_recorder_keeps_the_rights_that_it_needs() {
    let (input, mut go) = std::io::pipe().expect("a pipe");
    let mut run = run();
    run.command().stdin(input);
    // It has begun when it is heard.
    let mut running = run.shell("echo ready; read line; exit 7").start();
    running.line(1);
    let pid = running.pid().to_string();
    let begun = Instant::now();
    while status(&pid, "NoNewPrivs") != "1" {
        assert!(begun.elapsed() < SOON, "it keeps them");
    }
    let begun = Instant::now();
    let capabilities = |set| u64::from_str_radix(&status(&pid, set), 16).expect("hex");
    while capabilities("CapPrm") & !OF_RECORDER != 0 {
        assert!(begun.elapsed() < SOON, "{:x}", capabilities("CapPrm"));
    }
    for set in ["CapEff", "CapInh", "CapAmb"] {
        assert_eq!(capabilities(set) & !OF_RECORDER, 0, "{set}");
    }
    go.write_all(b"\n").expect("it waits");
    let finished = running.finish();
    assert_eq!(finished.status.code(), Some(7), "{}", finished.stderr);
}

/// Root that called no sudo writes into the folders of others, as without these rights it
/// could not.
#[test]
fn a_trace_in_the_folder_of_another_is_replaced() {
    let run = run();
    let folder = run.file("theirs");
    let trace = folder.join("trace");
    fs::create_dir(&folder).expect("a folder");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).expect("it is ours");
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/sleepers.ft");
    fs::copy(golden, &trace).expect("a trace");
    std::os::unix::fs::chown(&folder, Some(4242), Some(4242)).expect("root may");
    let before = fs::read(&trace).expect("a trace");
    let run = run.args(["-q", "--save"]).args([&trace]);
    let finished = run.args(["--", "true"]).finish();
    assert!(finished.status.success(), "{}", finished.stderr);
    assert_ne!(fs::read(&trace).expect("a trace"), before);
    assert_eq!(fs::read_dir(&folder).expect("a folder").count(), 1);
}

/// Whoever looks things up and dies is replaced, leaves no remains, and it is said of what
/// it died.
#[test]
fn helpers_that_are_killed_are_replaced_and_it_is_said_of_what_they_died() {
    unspoilt(|| {
        let (input, mut go) = std::io::pipe().expect("a pipe");
        let mut run = run();
        run.command().stdin(input);
        let mut running = run.shell("echo ready; read line").start();
        running.line(1);
        let pid = running.pid().to_string();
        let helpers = || -> Vec<String> {
            let of = children(&pid).into_iter();
            let nursery = of.filter(|it| is_ours(it));
            nursery.flat_map(|it| children(&it)).collect()
        };
        let fenced = |helpers: &[String]| {
            helpers.len() >= 3 && helpers.iter().all(|it| status(it, "Seccomp") == "2")
        };
        let until = |done: &dyn Fn(&[String]) -> bool| {
            let begun = Instant::now();
            loop {
                let helpers = helpers();
                if done(&helpers) {
                    return helpers;
                }
                assert!(begun.elapsed() < SOON, "{helpers:?}");
            }
        };
        let first = until(&fenced);
        for helper in &first {
            let helper = helper.parse().expect("a pid");
            kill(Pid::from_raw(helper), Signal::SIGKILL).expect("it lives");
        }
        // The dead are gone, not only dead.
        let others = |now: &[String]| fenced(now) && now.iter().all(|it| !first.contains(it));
        until(&others);
        go.write_all(b"\n").expect("it waits");
        let finished = running.finish();
        assert!(finished.status.success(), "{}", finished.stderr);
        let said = said(finished.report()).expect("a weakness");
        assert_eq!(said.matches("SIGKILL").count(), 3, "{said}");
        assert!(!said.contains("nobody saw"), "{said}");
    });
}

/// What a workload of nobody's does with the file of its marks.
#[test]
fn a_marks_file_that_is_made_endless_holds_nobody_up() {
    if lacks(
        "a_marks_file_that_is_made_endless_holds_nobody_up",
        &["python3"],
    ) {
        return;
    }
    let script = "import os; os.ftruncate(int(os.environ['FORKTRACE_MARKS_FD']), 1 << 62)";
    let mut run = run().json();
    let folder = run.folder().to_owned();
    run.command().current_dir(folder);
    let run = run.args(["-u", "65534", "--", "python3", "-Ic", script]);
    let finished = run.finish();
    assert!(finished.status.success(), "{}", finished.stderr);
    assert!(finished.report().weakness("marks_unread").count > 0);
}
