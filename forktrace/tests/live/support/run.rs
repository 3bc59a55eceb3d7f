//! Runs forktrace.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

use super::{Report, check_complete, spoilt};
use crate::schema_check;

/// Nothing takes so long, even emulated: forktrace hangs.
const GIVE_UP: Duration = Duration::from_secs(300);

/// Reports up to this size, bytes, are compared with their schema, which takes a while.
const CHECKED_BYTES: usize = 256 << 10;

/// The program to test.
pub(crate) fn forktrace() -> PathBuf {
    let given = std::env::var_os("FORKTRACE_BIN");
    let path = given.map_or_else(|| env!("CARGO_BIN_EXE_forktrace").into(), PathBuf::from);
    path.canonicalize()
        .unwrap_or_else(|e| panic!("no forktrace at {}: {e}", path.display()))
}

/// Traces one `forktrace workload`, given with its options, to a complete report.
#[track_caller]
pub(crate) fn trace(workload: &str) -> Finished {
    run().workload(workload).complete()
}

/// The same until the answer is as it was meant: the machine can spoil it.
#[track_caller]
#[expect(
    clippy::print_stdout,
    reason = "runs that are made again are counted by it"
)]
pub(crate) fn trace_until(workload: &str, as_meant: impl Fn(&Finished) -> bool) -> Finished {
    const TRIES: u32 = 20;
    for _ in 0..TRIES {
        let traced = trace(workload);
        if as_meant(&traced) {
            return traced;
        }
        println!("AGAIN: the machine did not do what it should have");
    }
    panic!("in {TRIES} runs of {workload} the machine never did what it should have");
}

/// A `forktrace run` to be.
pub(crate) fn run() -> Forktrace {
    Forktrace::new("run")
}

/// A shell script that runs a workload while two pairs of players fill both CPUs' rings and the
/// recorder is stopped again and again, so that records are lost on any machine: first of
/// all those of some players who have no part in it.
pub(crate) fn beside_noise(workload: &str) -> String {
    const PLAYERS: &str = "$FORKTRACE workload ping-pong --pin --pairs 2";
    format!(
        "kill -STOP $PPID; {PLAYERS} --rounds 1000; kill -CONT $PPID
        for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
            kill -STOP $PPID; sleep 0.03; kill -CONT $PPID; sleep 0.01
        done &
        {PLAYERS} --seconds 1.5 &
        $FORKTRACE workload nap --millis 150; $FORKTRACE workload {workload}; wait"
    )
}

/// A call of forktrace to be.
pub(crate) struct Forktrace {
    command: Command,
    folder: TempDir,
    wants_json: bool,
}

impl Forktrace {
    pub(crate) fn new(subcommand: &str) -> Self {
        Self::by(Command::new(forktrace()), subcommand)
    }

    /// Started by a program that runs its arguments, such as `unshare`.
    pub(crate) fn under(program: &str, arguments: &[&str], subcommand: &str) -> Self {
        let mut command = Command::new(program);
        command.args(arguments).arg(forktrace());
        Self::by(command, subcommand)
    }

    /// A program that is forktrace, or runs it.
    pub(crate) fn by(mut command: Command, subcommand: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        command.arg(subcommand).stdin(Stdio::null());
        // The tests themselves may run under sudo.
        for name in ["SUDO_UID", "SUDO_GID", "SUDO_USER", "NO_COLOR"] {
            command.env_remove(name);
        }
        Self {
            command,
            folder,
            wants_json: false,
        }
    }

    pub(crate) fn args<S: AsRef<std::ffi::OsStr>>(
        mut self,
        arguments: impl IntoIterator<Item = S>,
    ) -> Self {
        self.command.args(arguments);
        self
    }

    pub(crate) fn command(&mut self) -> &mut Command {
        &mut self.command
    }

    /// A file in a folder of this run's own.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Asks for a JSON report in a file.
    pub(crate) fn json(mut self) -> Self {
        let file = self.file("report.json");
        self.wants_json = true;
        self.args(["--format", "json", "-o"]).args([file])
    }

    /// Runs one of our workloads.
    pub(crate) fn workload(self, workload: &str) -> Self {
        let program = forktrace();
        self.json()
            .args([Path::new("--"), &program, Path::new("workload")])
            .args(workload.split(' '))
    }

    /// Runs a shell script, with our program's path in `$FORKTRACE`.
    pub(crate) fn shell(mut self, script: &str) -> Self {
        self.command.env("FORKTRACE", forktrace());
        self.json().args(["--", "sh", "-c", script])
    }

    /// Starts it. Its output goes to files, so that it never waits for a reader.
    pub(crate) fn start(mut self) -> Running {
        let create = |name| File::create(self.folder.path().join(name)).expect("an output file");
        self.command
            .stdout(create("stdout"))
            .stderr(create("stderr"));
        let child = self.command.spawn().expect("forktrace starts");
        Running {
            child,
            folder: self.folder,
            wants_json: self.wants_json,
        }
    }

    /// With the standard output that was given, and only its status.
    pub(crate) fn finish_with_own_stdout(mut self) -> ExitStatus {
        let status = self.command.stderr(Stdio::null()).status();
        status.expect("forktrace starts")
    }

    #[track_caller]
    pub(crate) fn finish(self) -> Finished {
        self.start().finish()
    }

    /// A run in which the workload succeeds and nothing is lost.
    #[track_caller]
    pub(crate) fn complete(self) -> Finished {
        let finished = self.finish();
        assert!(
            finished.status.success(),
            "{}: {}",
            finished.status,
            finished.stderr
        );
        assert_eq!(finished.report().workload.exit_code, Some(0));
        check_complete(finished.report());
        finished
    }
}

/// A forktrace that runs.
pub(crate) struct Running {
    child: Child,
    folder: TempDir,
    wants_json: bool,
}

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn stdout(&self) -> String {
        fs::read_to_string(self.folder.path().join("stdout")).expect("stdout is UTF-8")
    }

    pub(crate) fn stderr(&self) -> String {
        fs::read_to_string(self.folder.path().join("stderr")).expect("stderr is UTF-8")
    }

    /// Waits until the workload has printed so many lines, and gives the last.
    #[track_caller]
    pub(crate) fn line(&mut self, number: usize) -> String {
        let found = |text: String| {
            // A line without its end is not whole.
            let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
            whole.lines().nth(number - 1).map(str::to_owned)
        };
        let begun = Instant::now();
        loop {
            if let Some(line) = found(self.stdout()) {
                return line;
            }
            let ended = self.child.try_wait().expect("forktrace can be waited for");
            assert!(
                begun.elapsed() < GIVE_UP && ended.is_none(),
                "line {number} never came: {ended:?}"
            );
            sleep(Duration::from_millis(2));
        }
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        let ended = self.child.try_wait().expect("forktrace can be waited for");
        ended.is_some()
    }

    #[track_caller]
    pub(crate) fn finish(mut self) -> Finished {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("forktrace can be waited for") {
                break status;
            }
            if begun.elapsed() > GIVE_UP {
                self.child.kill().expect("forktrace can be killed");
                panic!(
                    "forktrace still runs after {GIVE_UP:?}; stdout: {}",
                    self.stdout()
                );
            }
            sleep(Duration::from_millis(2));
        };
        let read = |name| fs::read(self.folder.path().join(name)).unwrap_or_default();
        let text = |name| String::from_utf8_lossy(&read(name)).into_owned();
        let json = self.wants_json.then(|| read("report.json"));
        let (stdout, stderr) = (text("stdout"), text("stderr"));
        for output in [&stdout, &stderr] {
            spoilt::note_text(output);
        }
        if let Some(json) = json.as_deref().filter(|json| json.len() <= CHECKED_BYTES) {
            check_schema(json);
        }
        let report: Option<Report> = json
            .as_deref()
            .and_then(|json| serde_json::from_slice(json).ok());
        if let Some(report) = &report {
            spoilt::note(report);
        }
        Finished {
            pid: self.child.id(),
            status,
            stdout,
            stderr,
            report,
            folder: self.folder,
        }
    }
}

/// Fails if a report is not as its schema says. One that is none at all is left to the test.
#[track_caller]
fn check_schema(json: &[u8]) {
    if let Ok(report) = serde_json::from_slice(json) {
        let wrong = schema_check::check(forktrace_core::report::schema().as_value(), &report);
        assert_eq!(wrong, Vec::<String>::new());
    }
}

/// What came of it.
pub(crate) struct Finished {
    pub(crate) pid: u32,
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    report: Option<Report>,
    folder: TempDir,
}

impl Finished {
    #[track_caller]
    pub(crate) fn report(&self) -> &Report {
        let report = self.report.as_ref();
        report.unwrap_or_else(|| panic!("no report; {}: {}", self.status, self.stderr))
    }

    /// All truth lines.
    pub(crate) fn truths(&self) -> Vec<Value> {
        let parse = |line| serde_json::from_str(line);
        let lines: Result<Vec<Value>, _> = self.stdout.lines().map(parse).collect();
        lines.unwrap_or_else(|error| panic!("{error} in {:?}", self.stdout))
    }

    /// The truth line of this workload.
    #[track_caller]
    pub(crate) fn truth_of(&self, workload: &str) -> Value {
        let mut truths = self.truths();
        truths.retain(|truth| truth["workload"] == workload);
        assert_eq!(
            truths.len(),
            1,
            "truth lines of {workload} in {:?}",
            self.stdout
        );
        truths.remove(0)
    }

    /// The only truth line.
    #[track_caller]
    pub(crate) fn truth(&self) -> Value {
        let mut truths = self.truths();
        assert_eq!(truths.len(), 1, "truth lines in {:?}", self.stdout);
        truths.remove(0)
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}
