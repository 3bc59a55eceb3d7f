//! The workload owns the streams and the exit status; errors say what to do.

use std::{
    fs::{self, File},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    process::{Command, Stdio},
};

use crate::support::{
    Finished, Forktrace, Report, check_complete, forktrace, lacks, run, unspoilt,
};

#[track_caller]
fn check_fails(finished: &Finished, status: i32, words: &[&str]) {
    assert_eq!(finished.status.code(), Some(status), "{}", finished.stderr);
    assert!(
        finished.stderr.starts_with("forktrace: "),
        "{}",
        finished.stderr
    );
    for word in words {
        assert!(
            finished.stderr.contains(word),
            "no {word:?} in {:?}",
            finished.stderr
        );
    }
}

#[test]
fn the_workload_has_the_streams_to_itself() {
    let mut run = run();
    let input = run.file("input");
    fs::write(&input, "from stdin\n").expect("a file");
    run.command().stdin(File::open(input).expect("the file"));
    let finished = run.shell("cat; echo out; echo err >&2; exit 42").finish();
    assert_eq!(finished.stdout, "from stdin\nout\n");
    assert_eq!(finished.stderr, "err\n", "the report is in the file");
    assert_eq!(finished.status.code(), Some(42));
    assert_eq!(finished.report().workload.exit_code, Some(42));
    assert_eq!(finished.report().workload.argv[..2], ["sh", "-c"]);
    check_complete(finished.report());
}

#[test]
fn the_report_goes_to_stderr_unless_told_otherwise() {
    unspoilt(|| {
        let finished = run().args(["--", "sh", "-c", "echo out"]).finish();
        assert_eq!(finished.stdout, "out\n");
        assert!(
            finished.stderr.contains("Audit: complete"),
            "{}",
            finished.stderr
        );
        assert!(
            !finished.stderr.contains('\x1b'),
            "colour without a terminal"
        );

        let finished = run()
            .args(["-q", "--", "sh", "-c", "echo out; exit 3"])
            .finish();
        assert_eq!((&*finished.stdout, &*finished.stderr), ("out\n", ""));
        assert_eq!(finished.status.code(), Some(3));
    });
}

#[test]
fn a_dash_is_stdout() {
    let finished = run()
        .args(["--format", "json", "-o", "-", "--", "sh", "-c", "echo out"])
        .finish();
    let json = finished
        .stdout
        .strip_prefix("out\n")
        .expect("the workload's output first");
    check_complete(&serde_json::from_str::<Report>(json).expect("a report"));
    assert_eq!(finished.stderr, "");
}

#[test]
fn a_command_that_cant_be_executed_is_126_and_one_that_is_not_there_127() {
    let run_command = |command: &str| run().json().args(["--", command]).finish();
    check_fails(
        &run_command("no-such-program-anywhere"),
        127,
        &["no-such-program-anywhere", "PATH"],
    );
    check_fails(
        &run_command("/nonexistent/program"),
        127,
        &["/nonexistent/program"],
    );
    check_fails(&run_command("/"), 126, &["executed"]);

    let run = run();
    let file = run.file("script");
    fs::write(&file, "#!/bin/sh\n").expect("a file");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("permissions");
    let finished = run.json().args(["--"]).args([&file]).finish();
    check_fails(&finished, 126, &["script", "chmod +x"]);
}

#[test]
fn a_wrong_command_line_is_125() {
    for wrong in [
        &["--ring-size", "3K", "--", "true"][..],
        &["--max-tasks", "0", "--", "true"],
        &["-u", "root", "--as-root", "--", "true"],
        &[],
    ] {
        let finished = run().args(wrong).finish();
        assert_eq!(
            finished.status.code(),
            Some(125),
            "{wrong:?}: {}",
            finished.stderr
        );
    }
    let finished = Forktrace::new("--help").finish();
    assert_eq!(finished.status.code(), Some(0));
}

#[test]
fn a_mistyped_option_is_an_error_and_not_a_command() {
    let finished = run()
        .args(["--no-such-option", "--", "echo", "it ran"])
        .finish();
    assert_eq!(finished.status.code(), Some(125), "{}", finished.stderr);
    assert!(
        finished.stderr.contains("unexpected argument"),
        "{}",
        finished.stderr
    );
    // What comes after the command is the command's.
    let finished = run()
        .args(["-q", "sh", "-c", "echo $0", "--no-such-option"])
        .finish();
    assert_eq!(finished.stdout, "--no-such-option\n");
}

#[test]
fn output_that_cant_be_written_fails_before_the_workload_runs() {
    for option in ["-o", "--save"] {
        let finished = run()
            .args([option, "/nonexistent/x", "--", "echo", "it ran"])
            .finish();
        check_fails(&finished, 125, &["/nonexistent/x", "can't be written"]);
        assert_eq!(finished.stdout, "", "the workload ran");
    }
    let finished = run()
        .args(["--save", "/dev/null", "--", "echo", "it ran"])
        .finish();
    check_fails(&finished, 125, &["/dev/null", "regular file"]);
    assert_eq!(finished.stdout, "", "the workload ran");
}

#[test]
fn a_report_that_cant_be_written_is_an_error() {
    let finished = run()
        .args(["-o", "/dev/full", "--", "echo", "it ran"])
        .finish();
    check_fails(&finished, 125, &["/dev/full", "No space left"]);
    assert_eq!(finished.stdout, "it ran\n");
}

#[test]
fn without_privileges_the_error_says_which() {
    let (mut command, _folder) = as_nobody();
    command.args(["run", "--", "echo", "it ran"]);
    let output = command.output().expect("forktrace starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{stderr}");
    for word in ["CAP_BPF", "sudo"] {
        assert!(stderr.contains(word), "no {word:?} in {stderr:?}");
    }
    assert!(output.stdout.is_empty(), "the workload ran");
}

/// With the capabilities that `docs/attach.md` names, and no other, nobody in particular attaches
/// to somebody else's process, and is told the name of what it waits for.
#[test]
fn named_capabilities_are_enough_for_the_process_of_another_user() {
    const CAPABILITIES: &str = "+bpf,+perfmon,+sys_ptrace,+dac_read_search";
    let name = "named_capabilities_are_enough_for_the_process_of_another_user";
    if lacks(name, &["setpriv", "flock"]) {
        return;
    }
    let (own, folder) = as_nobody();
    let lock = folder.path().join("lock");
    fs::write(&lock, "").expect("a file");
    let as_user = |user: u32| {
        let mut command = Command::new("setpriv");
        command.args([format!("--reuid={user}"), format!("--regid={user}")]);
        command.arg("--clear-groups");
        command
    };
    let holds = |command: &[&str]| {
        let mut flock = as_user(1);
        flock.arg("flock").arg(&lock).args(command);
        flock.stdin(Stdio::piped());
        flock.spawn().expect("setpriv starts")
    };
    let mut holder = holds(&["cat"]);
    // It has the lock once the program runs that it has it for.
    let children = format!("/proc/{0}/task/{0}/children", holder.id());
    while fs::read_to_string(&children).is_ok_and(|it| it.is_empty()) {
        std::thread::yield_now();
    }
    let mut waiter = holds(&["true"]);
    let mut attach = as_user(65534);
    attach.args([
        format!("--inh-caps={CAPABILITIES}"),
        format!("--ambient-caps={CAPABILITIES}"),
        format!("--bounding-set=-all,{CAPABILITIES}"),
    ]);
    attach.arg(own.get_program());
    attach.args([
        "attach", "--polls", "off", "--format", "json", "-o", "-", "--for", "2s",
    ]);
    let output = attach.args(["-p", &waiter.id().to_string()]).output();
    let output = output.expect("setpriv starts");
    // At its end of file the holder's program ends, and the other one has the lock.
    drop(holder.stdin.take());
    for child in [&mut holder, &mut waiter] {
        child.wait().expect("it ends");
    }
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let wait = &report["tasks"][0]["waits"][0];
    let path = lock.to_str().expect("a name");
    assert_eq!(wait["objects"][0]["name"], path, "{wait}");
}

#[test]
fn a_report_takes_no_privileges() {
    let (mut command, folder) = as_nobody();
    let trace = folder.path().join("trace");
    let saved = run()
        .args(["--save"])
        .args([&trace])
        .workload("sleepers --seconds 0.1")
        .complete();
    fs::set_permissions(&trace, fs::Permissions::from_mode(0o644)).expect("permissions");
    command.args(["report", "--format", "json"]).arg(&trace);
    let output = command.output().expect("forktrace starts");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let by_root = fs::read(saved.file("report.json")).expect("a report");
    assert!(output.stdout == by_root, "the same report whoever makes it");
}

/// Our program, where anybody can run it, run by somebody who may do nothing.
fn as_nobody() -> (Command, tempfile::TempDir) {
    const NOBODY: u32 = 65534;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let anyone = fs::Permissions::from_mode(0o755);
    fs::set_permissions(folder.path(), anyone.clone()).expect("permissions");
    let program = folder.path().join("forktrace");
    fs::copy(forktrace(), &program).expect("a copy");
    fs::set_permissions(&program, anyone).expect("permissions");
    let mut command = Command::new(program);
    command.uid(NOBODY).gid(NOBODY);
    (command, folder)
}

#[test]
fn the_doctor_finds_this_machine_able() {
    let finished = Forktrace::new("doctor").finish();
    assert_eq!(
        finished.status.code(),
        Some(0),
        "{}{}",
        finished.stdout,
        finished.stderr
    );
    assert!(
        finished.stdout.starts_with("forktrace works here."),
        "{}",
        finished.stdout
    );
    let offset = "task_struct.pid";
    assert!(!finished.stdout.contains(offset), "{}", finished.stdout);
    let verbose = Forktrace::new("doctor").args(["-v"]).finish();
    assert!(verbose.stdout.contains(offset), "{}", verbose.stdout);
}

#[test]
fn claims_ask_for_rights_once() {
    let (mut command, _folder) = as_nobody();
    let finished = command.args(["claims", "run", "--quick"]).output();
    let finished = finished.expect("forktrace starts");
    assert_eq!(finished.status.code(), Some(125), "{finished:?}");
    let said = String::from_utf8_lossy(&finished.stderr);
    assert_eq!(said.matches("run it with sudo").count(), 1, "{said}");
    assert!(finished.stdout.is_empty(), "{finished:?}");
}
