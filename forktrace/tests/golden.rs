//! Golden reports: saved traces of real runs, and what is said of them, word for
//! word. Needs neither root nor a kernel that can be traced.
//!
//! After a change of the reports that is meant, look at what becomes of them:
//!
//! ```text
//! UPDATE_GOLDEN=1 cargo test -p forktrace --test golden; git diff forktrace/tests/golden
//! ```
//!
//! Traces that are here stay as they are: each shows that what a forktrace of its time
//! recorded can still be read. After a change of the trace format add one to the list, record
//! it, as root, and then do the same:
//!
//! ```text
//! cargo test -p forktrace --test golden -- --ignored record
//! ```

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
};

use forktrace_core::{
    analysis,
    model::{Shelf, Spill},
    pipeline, render,
    trace_file::Source,
};
use serde_json::Value;

mod comparisons;
mod documents;
#[path = "shared/schema_check.rs"]
#[allow(dead_code, reason = "the schemas themselves are checked by unit tests")]
mod schema_check;
mod windows;

/// A saved trace is no larger than this, bytes: they are in the repository.
const MOST_BYTES: u64 = 30 << 10;

/// A report fits a terminal.
const MOST_LINES: usize = 40;

/// A saved trace.
struct Trace {
    name: &'static str,
    /// Of `forktrace run`.
    options: &'static [&'static str],
    workload: &'static str,
    /// The weakness that it shows; `None`: it is complete.
    weakness: Option<&'static str>,
}

const fn complete(name: &'static str, workload: &'static str) -> Trace {
    Trace {
        name,
        options: &[],
        workload,
        weakness: None,
    }
}

const TRACES: [Trace; 9] = [
    complete("sleepers", "sleepers --seconds 0.2"),
    complete(
        "select_and_compute",
        "select-and-compute --seconds 0.1 --threads 2",
    ),
    complete("fork_tree", "fork-tree --depth 2 --fanout 2 --millis 5"),
    complete("spinners", "spinners --count 3 --seconds 0.1"),
    complete("polls", "polls --calls 20"),
    complete("exec_non_leader", "exec-non-leader --millis 20"),
    Trace {
        name: "ping_pong_loss",
        options: &["--ring-size", "4K"],
        workload: "ping-pong --pairs 3 --pin --rounds 300",
        weakness: Some("ring_full"),
    },
    Trace {
        name: "table_full",
        options: &["--max-tasks", "3"],
        workload: "sleepers --seconds 0.05",
        weakness: Some("table_full"),
    },
    // All above are of version 2 of the format.
    complete("version_3", "fork-tree --depth 1 --fanout 2 --millis 5"),
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn trace_file(name: &str) -> PathBuf {
    folder().join(name).with_extension("ft")
}

/// What forktrace says of a trace.
fn report(trace: &Path, options: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_forktrace"))
        // Colour and width are to come from nowhere.
        .env_clear()
        .args(["report", "-"])
        .args(options)
        // So that it tells of no path of ours.
        .stdin(fs::File::open(trace).expect("a trace"))
        .output()
        .expect("forktrace was built");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", trace.display());
    assert_eq!(errors, "", "{}", trace.display());
    String::from_utf8(output.stdout).expect("a report is UTF-8")
}

/// Takes everything, and gives it back.
#[derive(Default)]
struct Elsewhere(Mutex<Vec<u8>>);

impl Spill for Elsewhere {
    fn keep(&self, bytes: &[u8]) -> io::Result<u64> {
        let mut all = self.0.lock().expect("nobody panicked");
        all.extend_from_slice(bytes);
        Ok((all.len() - bytes.len()) as u64)
    }

    fn read(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
        let all = self.0.lock().expect("nobody panicked");
        into.copy_from_slice(&all[at as usize..][..into.len()]);
        Ok(())
    }
}

/// However stretches are packed, and wherever they are kept, the report is the same.
#[test]
fn little_room_changes_no_report() {
    for trace in &TRACES {
        let data = fs::read(trace_file(trace.name)).expect("a trace");
        let report = |shelf: Shelf| {
            let read = pipeline::read_onto(&Arc::new(shelf), Source::Memory(&data), None);
            let (info, model) = read.expect("a trace");
            let report = analysis::analyse(&info, &model);
            render::render(&report, render::Format::Json, &render::Style::PLAIN)
        };
        let usual = report(Shelf::default());
        for log in [0, 1, 3] {
            let shelf = || Shelf::new(0, Some(Arc::<Elsewhere>::default())).in_chunks_of(log);
            assert!(report(shelf()) == usual, "{}, 2^{log} at once", trace.name);
        }
    }
}

/// Compares with the file of this name, or writes it.
#[track_caller]
fn compare(file: &str, report: &str) {
    let path = folder().join(file);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, report).expect("the golden folder can be written");
        return;
    }
    let expected = fs::read_to_string(&path)
        .unwrap_or_else(|e| panic!("{}: {e}; UPDATE_GOLDEN=1 writes it", path.display()));
    if let Some((i, (is, was))) = first_difference(report, &expected) {
        panic!(
            "{file} differs in line {}:\n  expected: {was}\n  found:    {is}\n\
             UPDATE_GOLDEN=1 takes over what was found:\n{report}",
            i + 1
        );
    }
}

/// The number of the first line that differs, and both.
fn first_difference<'a>(is: &'a str, was: &'a str) -> Option<(usize, (&'a str, &'a str))> {
    let end = "(the end)";
    let lines = is.lines().chain([end]).zip(was.lines().chain([end]));
    let mut lines = lines.enumerate();
    lines.find(|(_, (is, was))| is != was)
}

/// Compares all forms of a trace's report.
#[track_caller]
fn check(name: &str) {
    check_trace(name, &trace_file(name));
}

#[track_caller]
fn check_trace(name: &str, trace: &Path) {
    let text = report(trace, &[]);
    let verbose = report(trace, &["--verbose"]);
    for line in text.lines().chain(verbose.lines()) {
        assert!(
            line.chars().count() <= 100,
            "{name}: wider than 100 columns: {line}"
        );
        assert_eq!(line.trim_end(), line, "{name}: blanks at the end of a line");
    }
    let lines = text.lines().count();
    assert!(lines <= MOST_LINES, "{name}: {lines} lines:\n{text}");
    let json = report(trace, &["--format", "json"]);
    let report = serde_json::from_str(&json).expect("it is JSON");
    check_sums(name, &report);
    let wrong = schema_check::check(forktrace_core::report::schema().as_value(), &report);
    assert_eq!(wrong, Vec::<String>::new(), "{name}");
    if report["audit"]["complete"] == Value::Bool(true) {
        check_parts(name, trace, &report);
    }
    if let Some(trace) = TRACES.iter().find(|trace| trace.name == name) {
        assert!(shows(&report, trace), "{name}: {}", report["audit"]);
    }
    compare(&format!("{name}.txt"), &text);
    compare(&format!("{name}_verbose.txt"), &verbose);
    compare(&format!("{name}.json"), &json);
}

/// Is the report complete, or weak for the reason that it should be?
fn shows(report: &Value, trace: &Trace) -> bool {
    let audit = &report["audit"];
    match trace.weakness {
        None => audit["complete"] == Value::Bool(true),
        Some(kind) => {
            let weaknesses = audit["weaknesses"].as_array().expect("weaknesses");
            weaknesses.iter().any(|weakness| weakness["kind"] == kind)
        }
    }
}

/// A figure of a report, and how it is got.
type Figure<'a> = (&'a str, &'a dyn Fn(&Value) -> u64);

/// Parts of the time say of it what the whole says.
#[track_caller]
fn check_parts(name: &str, trace: &Path, whole: &Value) {
    let parts = [&["--to", "31%"][..], &["--from", "31%"]].map(|options| {
        let json = report(trace, &[&["--format", "json"], options].concat());
        let part: Value = serde_json::from_str(&json).expect("it is JSON");
        check_sums(name, &part);
        let wrong = schema_check::check(forktrace_core::report::schema().as_value(), &part);
        assert_eq!(wrong, Vec::<String>::new(), "{name} {options:?}");
        let text = report(trace, options);
        assert!(
            text.lines().count() <= MOST_LINES,
            "{name} {options:?}:\n{text}"
        );
        assert!(text.contains("A part: "), "{name}: {text}");
        part
    });
    let all = |rows: &Value, of: &dyn Fn(&Value) -> u64| -> u64 {
        rows.as_array().expect("rows").iter().map(of).sum()
    };
    let figures: [Figure<'_>; 6] = [
        ("blocked", &|it| {
            all(&it["tasks"], &|task| ns(&task["blocked_ns"]))
        }),
        ("running", &|it| {
            all(&it["tasks"], &|task| ns(&task["running_ns"]))
        }),
        ("waits", &|it| {
            all(&it["waits_for"], &|edge| ns(&edge["ns"]))
        }),
        ("path", &|it| {
            all(&it["path"]["parts"], &|part| ns(&part["ns"]))
        }),
        ("all blocked", &|it| {
            ns(&it["groups"][0]["all_blocked"]["lower_ns"])
        }),
        ("lived", &|it| ns(&it["groups"][0]["lifetime_ns"])),
    ];
    for (what, figure) in figures {
        let of_parts: u64 = parts.iter().map(figure).sum();
        assert_eq!(of_parts, figure(whole), "{name}: {what}");
    }
}

fn ns(value: &Value) -> u64 {
    value.as_u64().expect("a time")
}

/// What must hold of any report, so that no update takes over nonsense.
#[track_caller]
fn check_sums(name: &str, report: &Value) {
    let tasks = report["tasks"].as_array().expect("tasks");
    let groups = report["groups"].as_array().expect("groups");
    assert!(!tasks.is_empty() && !groups.is_empty(), "{name}");
    for task in tasks {
        let ns = |field: &str| {
            task[field]
                .as_u64()
                .unwrap_or_else(|| panic!("{name}: {field}"))
        };
        let states = [
            "running_ns",
            "runnable_ns",
            "blocked_ns",
            "stopped_ns",
            "unknown_ns",
        ];
        let sum: u64 = states.into_iter().map(ns).sum();
        assert_eq!(sum, ns("end_ns") - ns("start_ns"), "{name}: {task}");
    }
    for group in groups {
        for profile in ["blocked_at_once", "running_at_once"] {
            let rows = group[profile].as_array().expect("a profile");
            let sum: u64 = rows.iter().filter_map(|row| row["ns"].as_u64()).sum();
            assert_eq!(
                Some(sum),
                group["lifetime_ns"].as_u64(),
                "{name}: {profile} of {group}"
            );
        }
        for bounds in ["all_blocked", "starved"] {
            let ns = |field: &str| group[bounds][field].as_u64().expect("a time");
            assert!(
                ns("lower_ns") <= ns("upper_ns"),
                "{name}: {bounds} of {group}"
            );
        }
    }
    let weak = report["audit"]["weaknesses"]
        .as_array()
        .expect("weaknesses");
    let complete = report["audit"]["complete"] == Value::Bool(true);
    assert!(
        complete || !weak.is_empty(),
        "{name}: incomplete for no reason"
    );
}

#[test]
fn sleepers() {
    check("sleepers");
}

#[test]
fn select_and_compute() {
    check("select_and_compute");
}

#[test]
fn fork_tree() {
    check("fork_tree");
}

#[test]
fn spinners() {
    check("spinners");
}

#[test]
fn polls() {
    check("polls");
}

#[test]
fn exec_non_leader() {
    check("exec_non_leader");
}

#[test]
fn ping_pong_loss() {
    check("ping_pong_loss");
}

#[test]
fn table_full() {
    check("table_full");
}

#[test]
fn version_3() {
    check("version_3");
}

/// The file ends in the middle.
#[test]
fn cut_off() {
    let whole = fs::read(trace_file("fork_tree")).expect("the trace is there");
    let cut = tempfile::NamedTempFile::new().expect("a temporary file");
    // The last byte of the end is missing: the events are all there.
    fs::write(cut.path(), &whole[..whole.len() - 1]).expect("a temporary file");
    check_trace("cut_off", cut.path());
}

/// No table is wider than the terminal, and the summary no longer than it.
#[test]
fn all_views_of_all_traces_fit_a_terminal() {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/samples");
    let folders = [folder(), samples];
    let files = folders
        .iter()
        .flat_map(|folder| fs::read_dir(folder).expect("a folder"));
    let paths = files.map(|entry| entry.expect("a file").path());
    let mut traces = 0;
    for trace in paths.filter(|path| path.extension().is_some_and(|it| it == "ft")) {
        traces += 1;
        for (columns, options) in [(72, "all"), (80, "all"), (80, "summary")] {
            let mut command = Command::new(env!("CARGO_BIN_EXE_forktrace"));
            command.env_clear().env("COLUMNS", columns.to_string());
            command.arg("report").arg(&trace);
            if options == "all" {
                command.args(["--show", "all"]);
            }
            let output = command.output().expect("forktrace was built");
            let text = String::from_utf8(output.stdout).expect("a report is UTF-8");
            let lines = text.lines().count();
            let wide = text.lines().find(|line| line.chars().count() > columns);
            assert_eq!(wide, None, "{columns} columns: {}", trace.display());
            let is_short = options == "all" || lines <= MOST_LINES;
            assert!(lines > 5 && is_short, "{lines} lines: {}", trace.display());
        }
    }
    assert!(traces > 10, "{traces} traces were found");
}

#[test]
fn each_file_is_of_a_trace_and_each_trace_is_small() {
    for entry in fs::read_dir(folder()).expect("the golden folder") {
        let path = entry.expect("the golden folder").path();
        let name = path
            .file_stem()
            .and_then(|name| name.to_str())
            .expect("a name");
        let name = name.strip_suffix("_verbose").unwrap_or(name);
        let known = name == "cut_off" || TRACES.iter().any(|trace| trace.name == name);
        assert!(known, "{} is of no trace", path.display());
    }
    for Trace { name, .. } in TRACES {
        let len = fs::metadata(trace_file(name)).map(|file| file.len());
        assert!(
            len.is_ok_and(|len| len <= MOST_BYTES),
            "{name}.ft is too large or not there"
        );
    }
}

#[test]
#[ignore = "records the traces that are missing: needs root"]
fn record() {
    let program = Path::new(env!("CARGO_BIN_EXE_forktrace"));
    // Found by its name, so that no path of ours gets into the traces.
    let path = program
        .parent()
        .expect("it is in a folder")
        .as_os_str()
        .to_owned();
    for trace in &TRACES {
        let file = trace_file(trace.name);
        if file.exists() {
            continue;
        }
        let record = || {
            let status = Command::new(program)
                .env("PATH", &path)
                .args(["run", "--as-root", "--quiet", "--save"])
                .arg(&file)
                .args(trace.options)
                .args(["--", "forktrace", "workload"])
                .args(trace.workload.split(' '))
                .status()
                .expect("forktrace was built");
            assert!(status.success(), "{}: {status}", trace.name);
            let json = report(&file, &["--format", "json"]);
            shows(&serde_json::from_str(&json).expect("it is JSON"), trace)
        };
        // Whether records are lost is chance.
        assert!(
            (0..100).any(|_| record()),
            "{}: not once in 100 times",
            trace.name
        );
    }
}
