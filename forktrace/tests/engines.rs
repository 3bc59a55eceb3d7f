//! The questions of `docs/sql` are asked of the engines that they are for, and what these say
//! is compared with the report, and with each other. `cargo xtask setup --engines` installs
//! them; without one of them its test is skipped, and says so.
#![cfg(feature = "parquet")]

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

/// Two services on two hosts: one of them lost records, of another the ends differ.
const TRACES: [(&str, &str); 5] = [
    ("sleepers", "web-1"),
    ("select_and_compute", "web-1"),
    ("polls", "web.2"),
    ("fork_tree", "web.2"),
    ("ping_pong_loss", "db_1"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Where `cargo xtask setup --engines` puts them.
fn tools() -> PathBuf {
    env::var_os("FORKTRACE_TOOLS")
        .map_or_else(|| root().join("target/tools"), PathBuf::from)
        .join("engines")
}

fn trace(name: &str) -> PathBuf {
    root()
        .join("forktrace/tests/golden")
        .join(name)
        .with_extension("ft")
}

fn forktrace(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forktrace"));
    let output = command.args(arguments).output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
    output
}

fn export(name: &str, host: &str, to: &Path) -> String {
    let (trace, to) = (trace(name), to.to_str().expect("a name").to_owned());
    let trace = trace.to_str().expect("a name");
    let output = forktrace(&["export", trace, "--host", host, "--to", &to]);
    String::from_utf8(output.stderr).expect("text")
}

fn exported() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, host) in TRACES {
        export(name, host, folder.path());
    }
    // Nothing is doubled.
    export(TRACES[0].0, TRACES[0].1, folder.path());
    folder
}

fn reports() -> Vec<(&'static str, Value)> {
    let report = |(name, host): (&'static str, &'static str)| {
        let trace = trace(name);
        let trace = trace.to_str().expect("a name");
        let output = forktrace(&["report", "--format", "json", trace]);
        (host, serde_json::from_slice(&output.stdout).expect("JSON"))
    };
    TRACES.into_iter().map(report).collect()
}

/// The questions, by name, each with the file that this engine takes.
fn questions(engine: &str) -> BTreeMap<String, PathBuf> {
    let folder = root().join("docs/sql");
    let files = fs::read_dir(folder).expect("docs/sql");
    let files = files.map(|file| file.expect("a file").path());
    let mut questions = BTreeMap::new();
    for path in files.filter(|it| it.extension().is_some_and(|it| it == "sql")) {
        let stem = path
            .file_stem()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        match stem.split_once('.') {
            Some((name, of)) if of == engine && name != "setup" => {
                questions.insert(name.to_owned(), path);
            }
            Some(_) => {}
            None => {
                questions.entry(stem).or_insert(path);
            }
        }
    }
    questions
}

type Rows = Vec<Vec<Value>>;

/// What an engine answers; `None`: it is not installed.
fn answers(engine: &str, package: &str, folder: &Path) -> Option<BTreeMap<String, Rows>> {
    if !tools().join(package).is_dir() {
        skip(engine);
        return None;
    }
    let questions = questions(engine);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/engines/ask.py");
    let mut ask = Command::new("python3");
    ask.arg(script).arg(engine).arg(folder);
    ask.arg(root().join(format!("docs/sql/setup.{engine}.sql")));
    ask.args(questions.values()).env("PYTHONPATH", tools());
    let output = ask.stdin(Stdio::null()).output().expect("python3 starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{engine}: {said}");
    let lines = String::from_utf8(output.stdout).expect("text");
    let rows = lines
        .lines()
        .map(|line| serde_json::from_str(line).expect("rows"));
    let answers: BTreeMap<String, Rows> = questions.into_keys().zip(rows).collect();
    assert_eq!(answers.len(), 9, "{engine}: each question has an answer");
    Some(answers)
}

#[expect(clippy::print_stdout, reason = "so a test says that it is skipped")]
fn skip(engine: &str) {
    println!("SKIP {engine}: it is not installed (cargo xtask setup --engines)");
}

/// Numbers are compared as numbers: an engine may write 5 as 5.0.
fn same(one: &Value, other: &Value) -> bool {
    match (one.as_f64(), other.as_f64()) {
        (Some(a), Some(b)) if one.is_f64() || other.is_f64() => (a - b).abs() <= 1.5e-6,
        _ => one == other,
    }
}

fn assert_same(engine: &str, question: &str, found: &Rows, expected: &Rows) {
    let equal = found.len() == expected.len()
        && found.iter().zip(expected).all(|(one, other)| {
            one.len() == other.len() && one.iter().zip(other).all(|(a, b)| same(a, b))
        });
    assert!(
        equal,
        "{engine}, {question}: {found:?}\nexpected {expected:?}"
    );
}

fn number(value: &Value) -> u64 {
    value
        .as_u64()
        .unwrap_or_else(|| panic!("{value} is no number"))
}

/// What the reports say of the questions that they can answer themselves.
fn by_the_reports() -> BTreeMap<&'static str, Rows> {
    let reports = reports();
    let mut blocked: BTreeMap<(String, String), (u64, BTreeSet<&str>)> = BTreeMap::new();
    let mut incomplete: BTreeMap<&str, [u64; 6]> = BTreeMap::new();
    for (host, report) in &reports {
        for task in report["tasks"].as_array().expect("tasks") {
            for wait in task["waits"].as_array().expect("waits") {
                let text = |value: &Value| value.as_str().expect("text").to_owned();
                let key = (text(&task["role"]), text(&wait["reason"]));
                // Where records are missing, the report knows sums without a place in time,
                // and without a reason. Stretches have a place.
                let placed = wait["reason"] != "unknown" && wait["reason"] != "stop";
                if placed && number(&wait["ns"]) > 0 {
                    let entry = blocked.entry(key).or_default();
                    entry.0 += number(&wait["ns"]);
                    entry.1.insert(host);
                }
            }
        }
        let audit = &report["audit"];
        let of_host = incomplete.entry(host).or_default();
        of_host[0] += 1;
        of_host[1] += u64::from(audit["complete"] == false);
        of_host[2] += number(&audit["lost_records"]);
        of_host[3] += number(&audit["tasks_not_followed"]);
        of_host[4] += number(&audit["unknown_ns"]);
        of_host[5] = of_host[5].max(number(&audit["uncertain_ns"]));
    }
    let mut blocked: Vec<_> = blocked.into_iter().collect();
    blocked.sort_by_key(|(key, (ns, _))| (std::cmp::Reverse(*ns), key.clone()));
    let blocked = blocked
        .into_iter()
        .take(50)
        .map(|((role, reason), (ns, hosts))| {
            vec![role.into(), reason.into(), ns.into(), hosts.len().into()]
        });
    let mut incomplete: Vec<_> = incomplete.into_iter().collect();
    incomplete.sort_by_key(|(host, of)| (std::cmp::Reverse((of[1], of[2])), *host));
    let incomplete = incomplete.into_iter().map(|(host, of)| {
        let numbers = of.into_iter().map(Value::from);
        [Value::from(host)].into_iter().chain(numbers).collect()
    });
    BTreeMap::from([
        ("blocked_by_role_and_reason", blocked.collect()),
        ("incomplete_traces", incomplete.collect()),
    ])
}

/// Rows of a question without the number of blocks, which counts those of no length in the
/// report only.
fn without_counts(question: &str, rows: &Rows) -> Rows {
    let mut rows = rows.clone();
    if question == "blocked_by_role_and_reason" {
        for row in &mut rows {
            row.remove(3);
        }
    }
    rows
}

fn texts(value: &Value) -> String {
    value.as_str().expect("text").to_owned()
}

/// For how long all were blocked, with bounds, and how long was recorded, ns.
type OfServices = BTreeMap<String, [u64; 3]>;
/// By service, kind and name: the figures of a lock.
type OfLocks = BTreeMap<[String; 3], [u64; 5]>;

/// Of each service (a tree of tasks, by its name): for how long all were blocked, and who waited
/// for which locks.
fn services_by_the_reports() -> (OfServices, OfLocks) {
    let (mut blocked, mut locks) = (BTreeMap::new(), BTreeMap::new());
    for (_, report) in reports() {
        let groups = report["groups"].as_array().expect("groups");
        let tree = groups.iter().find(|it| it["kind"] == "tree");
        let tree = tree.expect("a tree");
        let of: &mut [u64; 3] = blocked.entry(texts(&tree["name"])).or_default();
        let all_blocked = &tree["all_blocked"];
        of[0] += number(&all_blocked["lower_ns"]);
        of[1] += number(&all_blocked["upper_ns"]);
        of[2] += number(&tree["lifetime_ns"]);
        for lock in report["locks"].as_array().expect("locks") {
            let key = [&tree["name"], &lock["kind"], &lock["name"]].map(texts);
            let of: &mut [u64; 5] = locks.entry(key).or_default();
            for (sum, field) in of.iter_mut().zip(["contended_ns", "ns", "waits"]) {
                *sum += number(&lock[field]);
            }
            of[3] = of[3].max(number(&lock["longest_ns"]));
            of[4] += number(&lock["proved_ns"]);
        }
    }
    (blocked, locks)
}

fn agrees_on_services(engine: &str, answers: &BTreeMap<String, Rows>) {
    let (blocked, locks) = services_by_the_reports();
    let mut found: BTreeMap<String, [u64; 3]> = BTreeMap::new();
    for row in &answers["all_blocked_by_hour"] {
        let of = found.entry(texts(&row[0])).or_default();
        of.iter_mut()
            .zip(&row[2..])
            .for_each(|(sum, ns)| *sum += number(ns));
    }
    assert_eq!(found, blocked, "{engine}");
    let row = |row: &Vec<Value>| {
        let key = [&row[0], &row[1], &row[2]].map(texts);
        let numbers = [&row[3], &row[4], &row[5], &row[6], &row[7]].map(number);
        (key, numbers)
    };
    let found: BTreeMap<_, _> = answers["most_contended_locks"].iter().map(row).collect();
    assert!(!found.is_empty());
    assert_eq!(found, locks, "{engine}");
}

fn agrees_with_the_reports(engine: &str, answers: &BTreeMap<String, Rows>) {
    agrees_on_services(engine, answers);
    for (question, expected) in by_the_reports() {
        let found = without_counts(question, &answers[question]);
        assert_same(engine, question, &found, &expected);
    }
}

#[test]
fn duckdb_agrees_with_the_reports() {
    let folder = exported();
    if let Some(answers) = answers("duckdb", "duckdb", folder.path()) {
        agrees_with_the_reports("duckdb", &answers);
    }
}

#[test]
fn clickhouse_and_spark_agree_with_the_reports_and_with_duckdb() {
    let folder = exported();
    let first = answers("duckdb", "duckdb", folder.path());
    for (engine, package) in [("clickhouse", "chdb"), ("spark", "pyspark")] {
        let Some(answers) = answers(engine, package, folder.path()) else {
            continue;
        };
        agrees_with_the_reports(engine, &answers);
        for (question, expected) in first.iter().flatten() {
            assert_same(engine, question, &answers[question], expected);
        }
    }
}

#[test]
fn two_machines_of_one_name_are_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = export("sleepers", "web", folder.path());
    assert!(!first.contains("note:"), "{first}");
    let of_audit = |folder: &Path| -> PathBuf {
        let days = fs::read_dir(folder.join("audit")).expect("days");
        let day = days.map(|it| it.expect("a day").path()).next();
        day.expect("one").join("host=web")
    };
    let place = of_audit(folder.path());
    fs::write(place.join("0123abcd-0123456789abcdef.parquet"), "").expect("another's");
    let second = export("sleepers", "web", folder.path());
    assert!(
        second.contains("two machines") && second.contains("0123abcd"),
        "{second}"
    );
}

/// What is in a folder: each file's path and content.
fn content(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut left = vec![folder.to_owned()];
    while let Some(at) = left.pop() {
        for entry in fs::read_dir(at).expect("a folder") {
            let path = entry.expect("it").path();
            if path.is_dir() {
                left.push(path);
            } else {
                let place = path.strip_prefix(folder).expect("it is below").to_owned();
                found.insert(place, fs::read(path).expect("it can be read"));
            }
        }
    }
    found
}

#[test]
fn a_report_writes_the_tables_that_export_writes() {
    let folder = tempfile::tempdir().expect("a folder");
    let (one, other) = (
        folder.path().join("one"),
        folder.path().join("other.parquet"),
    );
    let trace = trace("sleepers");
    let trace = trace.to_str().expect("a name");
    forktrace(&["export", trace, "--to", one.to_str().expect("a name")]);
    // With a slash, as one writes a folder.
    let with_slash = format!("{}/", other.display());
    let output = forktrace(&["report", trace, "-o", &with_slash]);
    assert_eq!(output.stdout, b"", "who asks for tables gets no text");
    let (one, other) = (content(&one), content(&other));
    assert_eq!(one.len(), 12);
    assert!(one == other);
}

#[test]
fn what_can_not_be_exported_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let tell = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_forktrace"));
        let output = command
            .arg("export")
            .args(arguments)
            .output()
            .expect("it starts");
        assert_eq!(output.status.code(), Some(125));
        String::from_utf8(output.stderr).expect("text")
    };
    let to = folder.path().join("tables");
    let to = to.to_str().expect("a name");
    let said = tell(&["Cargo.toml", "--to", to]);
    assert!(said.contains("Cargo.toml"), "{said}");
    let file = folder.path().join("file");
    fs::write(&file, "").expect("a file");
    let trace = trace("sleepers");
    let trace = trace.to_str().expect("a name");
    let said = tell(&[trace, "--to", file.to_str().expect("a name")]);
    assert!(said.contains("can't be made"), "{said}");
    let said = tell(&[trace, "--to", folder.path().to_str().expect("a name")]);
    assert!(said.contains("holds other files"), "{said}");
    // Nothing is left behind.
    assert_eq!(fs::read_dir(to).map_or(0, Iterator::count), 0);
}
