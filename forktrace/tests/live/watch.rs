//! `forktrace watch`: what is saved, when, and what it says.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    attach::{Target, interrupt},
    metrics::{address, sample, scrape},
    support::{Forktrace, Report, Running, check_recorded, forktrace, lacks, unspoilt},
};

const STALL: &str = "all_blocked.now_ns > 200 * ms && cause != 'idle'";

fn service() -> Target {
    Target::of("watch.py", Command::new("python3"), &[])
}

/// A watch that saves in a folder, and leaves out no stall for being soon after another.
fn watch<'a>(folder: &Path, arguments: impl IntoIterator<Item = &'a str>) -> Forktrace {
    let quick = ["--after", "50ms", "--pause", "1ms", "--save-dir"];
    let watch = Forktrace::new("watch").args(arguments).args(quick);
    watch.args([folder])
}

/// Waits until it has said this so many times.
#[track_caller]
fn until_said(running: &mut Running, what: &str, times: usize) {
    while running.stderr().matches(what).count() < times {
        assert!(!running.has_ended(), "{}", running.stderr());
        sleep(Duration::from_millis(2));
    }
}

/// A stall that lasts until the condition is true: the longer the service has rested before,
/// the surer it is that it does not in this.
fn stall(target: &mut Target, running: &mut Running) {
    for _ in 0..20 {
        sleep(Duration::from_secs(2));
        target.have("stall");
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(2) {
            if running.stderr().contains("is true") {
                return target.have("go on");
            }
            sleep(Duration::from_millis(2));
        }
        target.have("go on");
    }
    panic!("{}", running.stderr());
}

/// The traces in a folder, the oldest first.
fn saved(folder: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(folder).expect("the folder");
    let files = files.map(|file| file.expect("a file").path());
    let mut traces: Vec<PathBuf> = files
        .filter(|path| path.extension().is_some_and(|it| it == "ft"))
        .collect();
    traces.sort_by_key(|path| {
        path.metadata()
            .and_then(|it| it.modified())
            .expect("its time")
    });
    traces
}

/// The report beside a trace, which is that of the trace.
#[track_caller]
fn report_of(trace: &Path) -> Report {
    let json = fs::read_to_string(trace.with_extension("json")).expect("a report");
    let text = fs::read_to_string(trace.with_extension("txt")).expect("a report");
    assert!(
        text.contains("all blocked") || text.contains("blocked"),
        "{text}"
    );
    let again = Command::new(forktrace())
        .args(["report", "--format", "json"])
        .arg(trace)
        .output()
        .expect("forktrace starts");
    assert!(again.status.success(), "{again:?}");
    assert_eq!(String::from_utf8_lossy(&again.stdout), json);
    serde_json::from_str(&json).expect("a report")
}

#[test]
fn a_stall_is_saved_with_its_cause_and_nothing_else_is() {
    if lacks(
        "a_stall_is_saved_with_its_cause_and_nothing_else_is",
        &["python3"],
    ) {
        return;
    }
    unspoilt(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let mut target = service();
        let pid = target.pid().to_string();
        for stall in 1..=2 {
            let arguments = ["-p", &pid, "--when", STALL, "--keep", "5s", "--after", "1h"];
            let watch = Forktrace::new("watch").args(arguments);
            let mut running = watch.args([Path::new("--save-dir"), folder.path()]).start();
            until_said(&mut running, "watching", 1);
            target.have("load");
            assert!(
                !running.stderr().contains("is true"),
                "{}",
                running.stderr()
            );
            self::stall(&mut target, &mut running);
            target.have("load");
            // What comes after is cut short, and saved.
            let finished = interrupt(running);
            assert!(finished.status.success(), "{}", finished.stderr);
            assert!(
                finished.stderr.contains("1 trace saved"),
                "{}",
                finished.stderr
            );
            let traces = saved(folder.path());
            assert_eq!(traces.len(), stall, "{}", finished.stderr);
            for suffix in ["ft", "txt", "json"] {
                let file = traces[stall - 1].with_extension(suffix);
                let mode = fs::metadata(&file).expect("a file").permissions().mode();
                assert_eq!(mode & 0o777, 0o600, "{}", file.display());
            }
            let report = report_of(&traces[stall - 1]);
            let text = fs::read_to_string(traces[stall - 1].with_extension("txt"));
            let why = format!("Saved because {STALL} came true at ");
            let text = text
                .expect("a report")
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ");
            assert!(text.contains(&why), "{text}");
            let json = fs::read_to_string(traces[stall - 1].with_extension("json"));
            let json: Value = serde_json::from_str(&json.expect("a report")).expect("JSON");
            let saved = &json["workload"]["saved"];
            assert_eq!(saved["condition"], STALL);
            assert!(saved["at_ns"].as_u64().is_some_and(|at| at > 0), "{saved}");
            check_recorded(&report, &["cut_short"]);
            assert_eq!(
                report.of_process(target.pid()).len(),
                5,
                "{:?}",
                report.ids()
            );
            for task in &report.tasks {
                assert_eq!(Some(task.switches.traced), task.switches.kernel, "{task:?}");
            }
            let longest = report.tree().all_blocked.longest_ns;
            assert!(longest >= 200_000_000, "{longest}");
            let stall = &report.episodes[0];
            let ended_by = stall.ended_by.as_ref().expect("it ended");
            assert_eq!(ended_by.reason, "read", "{stall:?}");
        }
        target.end();
    });
}

#[test]
fn a_target_by_name_may_end_and_come_again() {
    if lacks("a_target_by_name_may_end_and_come_again", &["python3"]) {
        return;
    }
    unspoilt(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let name = format!("again{}", std::process::id());
        let start = || Target::of("watch.py", Command::new("python3"), &[&name]);
        let first = start();
        let arguments = [
            "-n",
            &name,
            "--when",
            STALL,
            "--keep",
            "5s",
            "--metrics",
            "0",
        ];
        let mut running = watch(folder.path(), arguments).start();
        until_said(&mut running, "watching", 1);
        let metrics = address(&running);
        first.end();
        let mut second = start();
        loop {
            let page = scrape(metrics);
            let seen = sample(&page, "forktrace_tasks_seen_total").unwrap_or(0.0);
            let blocked = sample(&page, "forktrace_tasks{state=\"blocked\"}");
            if seen >= 10.0 && blocked == Some(5.0) {
                break;
            }
            sleep(Duration::from_millis(2));
        }
        stall(&mut second, &mut running);
        until_said(&mut running, "saved ", 1);
        assert!(interrupt(running).status.success());
        let report = report_of(&saved(folder.path())[0]);
        assert_eq!(
            report.of_process(second.pid()).len(),
            5,
            "{:?}",
            report.ids()
        );
        second.end();
    });
}

#[test]
fn the_oldest_trace_makes_room_and_a_command_is_told() {
    if lacks(
        "the_oldest_trace_makes_room_and_a_command_is_told",
        &["python3"],
    ) {
        return;
    }
    unspoilt(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let told = folder.path().join("told");
        let then = format!(
            "echo $FORKTRACE_TRACE $FORKTRACE_JSON >> {}",
            told.display()
        );
        let target = service();
        let pid = target.pid().to_string();
        let when = "elapsed_ns % (800 * ms) > 400 * ms";
        let arguments = ["-p", &pid, "--when", when, "--max", "2", "--then", &then];
        let mut running = watch(folder.path(), arguments).start();
        until_said(&mut running, "saved ", 4);
        let finished = interrupt(running);
        assert!(finished.status.success(), "{}", finished.stderr);
        let times = finished.stderr.matches("saved /").count();
        let traces = saved(folder.path());
        assert_eq!(traces.len(), 2);
        let read = || fs::read_to_string(&told).unwrap_or_default();
        while read().lines().count() < times {
            sleep(Duration::from_millis(2));
        }
        let newest = format!("{} ", traces[1].display());
        let json = traces[1].with_extension("json").display().to_string();
        assert!(read().contains(&(newest + &json)), "{}", read());
        target.end();
    });
}

#[test]
fn what_comes_true_too_soon_is_told_when_the_watch_is_over() {
    let name = "what_comes_true_too_soon_is_told_when_the_watch_is_over";
    if lacks(name, &["python3"]) {
        return;
    }
    unspoilt(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let target = service();
        let pid = target.pid().to_string();
        // Anew every 0.4 s.
        let when = "elapsed_ns % (400 * ms) > 200 * ms";
        let arguments = ["-p", &pid, "--when", when, "--after", "50ms"];
        let watch = Forktrace::new("watch").args(arguments);
        let watch = watch.args(["--pause", "1h", "--save-dir"]);
        let mut running = watch.args([folder.path()]).start();
        until_said(&mut running, "saved /", 1);
        sleep(Duration::from_secs(2));
        let finished = interrupt(running);
        assert_eq!(saved(folder.path()).len(), 1, "{}", finished.stderr);
        let over = finished.stderr.lines().find(|it| it.contains("is over"));
        let told = over.is_some_and(|it| {
            it.contains("more times, too soon after the last to be saved (--pause)")
        });
        assert!(told, "{}", finished.stderr);
        target.end();
    });
}

/// Killed as hard as can be, it takes nothing of the target with it, nor leaves anything to it.
#[test]
fn a_watch_that_is_killed_leaves_its_target_as_it_is() {
    if lacks(
        "a_watch_that_is_killed_leaves_its_target_as_it_is",
        &["python3"],
    ) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let mut target = service();
    let pid = target.pid().to_string();
    let arguments = ["-p", &pid, "--when", "false"];
    let mut running = watch(folder.path(), arguments).start();
    until_said(&mut running, "watching", 1);
    let killed = Command::new("kill")
        .args(["-9", &running.pid().to_string()])
        .status();
    assert!(killed.expect("kill runs").success());
    running.finish();
    target.have("load");
    target.end();
}

#[test]
fn what_can_not_be_watched_or_saved_is_told_before_it_begins() {
    if lacks(
        "what_can_not_be_watched_or_saved_is_told_before_it_begins",
        &["python3"],
    ) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let own_pid = std::process::id().to_string();
    let none = folder.path().join("none");
    for (when, folder, expected) in [
        (
            "all_blocked.now > 1",
            folder.path(),
            "all_blocked has no now; it has",
        ),
        ("blocked('x'", folder.path(), "--when 'blocked('x''"),
        ("blocked", folder.path(), "neither true nor false"),
        ("false", none.as_path(), "nothing can be saved in"),
    ] {
        let finished = watch(folder, ["-p", &own_pid, "--when", when]).finish();
        assert_eq!(finished.status.code(), Some(125), "{}", finished.stderr);
        assert!(finished.stderr.contains(expected), "{}", finished.stderr);
    }
}

/// What comes after is waited for until the end: by then there is no folder any more.
#[test]
fn a_watch_that_could_save_nothing_says_so_and_fails() {
    if lacks(
        "a_watch_that_could_save_nothing_says_so_and_fails",
        &["python3"],
    ) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let saves = folder.path().join("saves");
    fs::create_dir(&saves).expect("a folder");
    let target = service();
    let pid = target.pid().to_string();
    let arguments = ["-p", &pid, "--when", "live > 0", "--after", "1h"];
    let watch = Forktrace::new("watch").args(arguments);
    let mut running = watch.args([Path::new("--save-dir"), &saves]).start();
    until_said(&mut running, "is true", 1);
    fs::remove_dir(&saves).expect("it is empty");
    let finished = interrupt(running);
    assert_eq!(finished.status.code(), Some(125), "{}", finished.stderr);
    let said = "0 traces saved in ";
    assert!(finished.stderr.contains(said), "{}", finished.stderr);
    assert!(
        finished.stderr.contains("1 other could not be"),
        "{}",
        finished.stderr
    );
    target.end();
}
