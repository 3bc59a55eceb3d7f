//! `forktrace run --repeat`: how many runs there are, what is kept of them, and what ends them.

use std::fs;

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::support::{forktrace, run};

#[test]
fn each_run_leaves_its_files_by_number() {
    let mut repeated = run();
    let trace = repeated.file("a.ft");
    let report = repeated.file("a.json");
    let junit = repeated.file("a.xml");
    repeated = repeated
        .args(["--repeat", "2", "--assert", "size(tasks) == 1", "--save"])
        .args([&trace])
        .args([
            "-o".as_ref(),
            report.as_os_str(),
            "--junit".as_ref(),
            junit.as_os_str(),
        ])
        .args([
            "--".as_ref(),
            forktrace().as_os_str(),
            "workload".as_ref(),
            "nap".as_ref(),
        ]);
    let finished = repeated.finish();
    assert!(finished.status.success(), "{}", finished.stderr);
    assert_eq!(finished.truths().len(), 2);
    for number in 1..=2 {
        for name in ["ft", "json", "xml"] {
            let file = finished.file(&format!("a.{number}.{name}"));
            assert!(
                fs::metadata(&file).is_ok_and(|it| it.len() > 0),
                "{}",
                file.display()
            );
        }
    }
    assert!(
        finished.stderr.contains("2 runs, mean"),
        "{}",
        finished.stderr
    );
}

#[test]
fn a_run_that_fails_is_the_last_and_gives_its_status() {
    let repeated = run().args(["--repeat", "3", "--", "sh", "-c", "echo {}; exit 7"]);
    let finished = repeated.finish();
    assert_eq!(finished.status.code(), Some(7), "{}", finished.stderr);
    assert_eq!(finished.stdout, "{}\n");
    let ended = "run 1 of 3 ended with exit status 7";
    assert!(finished.stderr.contains(ended), "{}", finished.stderr);
    assert!(
        finished.stderr.contains("1 run of 3"),
        "{}",
        finished.stderr
    );
}

#[test]
fn a_false_assertion_does_not_keep_the_other_runs_from_it() {
    let repeated = run().args(["--repeat", "2", "--assert", "size(tasks) == 2", "--"]);
    let finished = repeated.args(["echo", "{}"]).finish();
    assert_eq!(finished.status.code(), Some(3), "{}", finished.stderr);
    assert_eq!(finished.stdout, "{}\n{}\n");
}

/// The workload says that it is there before the signal is sent, and ends by it.
#[test]
fn a_signal_ends_all_of_them() {
    let script = "echo begun; exec sleep 1000";
    let mut running = run()
        .args(["--repeat", "3", "--", "sh", "-c", script])
        .start();
    running.line(1);
    let pid = Pid::from_raw(running.pid() as i32);
    kill(pid, Signal::SIGTERM).expect("it is there");
    let finished = running.finish();
    assert!(!finished.status.success(), "{}", finished.stderr);
    assert_eq!(finished.stdout, "begun\n");
}
