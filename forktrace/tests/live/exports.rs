//! `forktrace watch --export` and killed exports: tables are whole or not there, and nothing is in
//! them twice. What is in them is compared with reports in `tests/engines.rs`.
#![cfg(feature = "parquet")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread::sleep,
    time::Duration,
};

use crate::{
    attach::{Target, interrupt},
    support::{Forktrace, Running, forktrace, lacks},
};

const TABLES: usize = 12;

/// The traces in each table, as their files are called.
fn tables(folder: &Path) -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut left = vec![folder.to_owned()];
    while let Some(at) = left.pop() {
        for entry in fs::read_dir(at).expect("a folder") {
            let path = entry.expect("it").path();
            if path.is_dir() {
                left.push(path);
                continue;
            }
            let place = path.strip_prefix(folder).expect("it is below");
            let mut parts = place
                .components()
                .map(|it| it.as_os_str().to_string_lossy());
            let table = parts.next().expect("a table").into_owned();
            let name = parts.next_back().expect("a name").into_owned();
            let is_new = found.entry(table).or_default().insert(name);
            assert!(is_new, "{} is there twice", path.display());
            let bytes = fs::read(&path).expect("it can be read");
            assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"));
        }
    }
    found
}

/// Every trace is in every table; which they are.
#[track_caller]
fn whole(folder: &Path) -> BTreeSet<String> {
    let found = tables(folder);
    let audit = found.get("audit").cloned().unwrap_or_default();
    assert!(audit.is_empty() || found.len() == TABLES, "{found:?}");
    for (table, traces) in &found {
        assert_eq!(traces, &audit, "{table}");
    }
    audit
}

fn watch(folder: &Path, pid: u32) -> Running {
    let pid = pid.to_string();
    let arguments = ["-p", &pid, "--export-every", "100ms", "--export"];
    Forktrace::new("watch")
        .args(arguments)
        .args([folder])
        .start()
}

fn until(mut done: impl FnMut() -> bool) {
    while !done() {
        sleep(Duration::from_millis(2));
    }
}

fn audits(folder: &Path) -> usize {
    match folder.join("audit").is_dir() {
        true => tables(&folder.join("audit"))
            .values()
            .map(BTreeSet::len)
            .sum(),
        false => 0,
    }
}

#[test]
fn a_watch_exports_window_by_window_and_goes_on_after_a_kill() {
    if lacks(
        "a_watch_exports_window_by_window_and_goes_on_after_a_kill",
        &["python3"],
    ) {
        return;
    }
    let place = tempfile::tempdir().expect("a folder");
    let folder = place.path().join("tables");
    let mut target = Target::of("watch.py", Command::new("python3"), &[]);
    let running = watch(&folder, target.pid());
    until(|| audits(&folder) >= 3);
    target.have("load");
    // In the middle of whatever it is at.
    let killed = Command::new("kill")
        .args(["-9", &running.pid().to_string()])
        .status();
    assert!(killed.expect("kill runs").success());
    running.finish();
    let before = audits(&folder);
    let running = watch(&folder, target.pid());
    until(|| audits(&folder) >= before + 2);
    let finished = interrupt(running);
    assert!(finished.status.success(), "{}", finished.stderr);
    assert!(
        finished.stderr.contains("exported to"),
        "{}",
        finished.stderr
    );
    // What the killed one was writing may have ended later than it did: the next one looks.
    done(export(&folder));
    let traces = whole(&folder);
    assert!(traces.len() >= before + 2, "{traces:?}");
    let left = fs::read_dir(&folder).expect("it").flatten();
    let left: Vec<_> = left
        .filter(|it| it.file_name().to_string_lossy().starts_with('.'))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    target.end();
}

fn golden(name: &str) -> PathBuf {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    golden.join(name).with_extension("ft")
}

fn export(folder: &Path) -> Command {
    let mut command = Command::new(forktrace());
    let traces = ["sleepers", "polls", "fork_tree", "ping_pong_loss"].map(golden);
    command.arg("export").args(traces).arg("--to").arg(folder);
    command.stdin(Stdio::null());
    command
}

fn done(mut command: Command) -> Output {
    let output = command.output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    output
}

/// Killed at some moment of its life, again and again.
#[test]
fn exports_that_are_killed_leave_no_half_table_and_double_nothing() {
    let place = tempfile::tempdir().expect("a folder");
    let expected = place.path().join("expected");
    done(export(&expected));
    let expected = whole(&expected);
    let folder = place.path().join("tables");
    for step in 0..20 {
        let mut running = export(&folder)
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        sleep(Duration::from_millis(8 * step));
        // It may have ended.
        let _ = running.kill();
        let status = running.wait().expect("it ended");
        assert!(status.success() || status.signal() == Some(9), "{status}");
    }
    done(export(&folder));
    assert_eq!(whole(&folder), expected);
    let left = fs::read_dir(&folder).expect("it").flatten();
    assert_eq!(left.count(), TABLES);
}

/// A disk of some kilobytes, which only this command sees.
#[test]
fn a_full_disk_is_an_error_that_leaves_nothing_of_the_trace() {
    let place = tempfile::tempdir().expect("a folder");
    let command = format!(
        "mount -t tmpfs -o size=48k none {place} && {} export {} --to {place}/tables; \
         code=$?; find {place} -name '*.parquet' -o -name '.forktrace-*'; exit $code",
        forktrace().display(),
        golden("ping_pong_loss").display(),
        place = place.path().display(),
    );
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", &command])
        .output()
        .expect("unshare runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{said}");
    assert!(said.contains("No space left on device"), "{said}");
    assert!(output.stdout.is_empty(), "{output:?}");
}
