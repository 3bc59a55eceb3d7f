//! The command line: one place for every option, its help and its completion.

#[cfg(feature = "record")]
mod claims;
#[cfg(feature = "record")]
mod kept;
#[cfg(feature = "record")]
mod lag;
mod part;
#[cfg(feature = "record")]
mod stacks;
#[cfg(feature = "record")]
mod top;
mod values;

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, Parser, Subcommand, ValueEnum};

use forktrace_core::{analysis::Options, render::Show};
use forktrace_export::{DiffForm, Form, StackKind};
#[cfg(feature = "record")]
use forktrace_record::capture::{LogLevel, PollProbes};
use forktrace_workload::Workload;

#[cfg(feature = "record")]
pub(crate) use claims::{ClaimsCommand, ClaimsRunArgs};
#[cfg(feature = "record")]
pub(crate) use kept::{KeptArgs, TableArgs};
#[cfg(feature = "record")]
pub(crate) use lag::LagArgs;
pub(crate) use part::PartArgs;
#[cfg(feature = "record")]
pub(crate) use stacks::StackArgs;
#[cfg(feature = "record")]
pub(crate) use top::TopArgs;
#[cfg(feature = "record")]
use values::length;
use values::time;

/// So many stalls are listed in tables unless something else is asked for.
pub(crate) const STALLS: usize = 1_000;

/// Were the threads and processes of a workload blocked at the same time, on what, and why?
///
/// forktrace runs a command, follows every process and thread that it starts through
/// the kernel's own scheduler events, and reports what held the workload up: when its
/// tasks ran, waited for a CPU and slept, what each waited for, and who ended the wait.
/// Deadlocks are reported while they last.
#[derive(Debug, Parser)]
#[command(
    name = "forktrace",
    version,
    long_version = crate::version::LONG.as_str(),
    propagate_version = true,
    max_term_width = 100
)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[cfg(feature = "record")]
    /// Run a command, follow every process it starts, and report when and why they blocked.
    Run(RunArgs),
    #[cfg(feature = "record")]
    /// Attach to what runs already: processes, a cgroup, a unit, a container; report when and why they blocked.
    Attach(AttachArgs),
    #[cfg(feature = "record")]
    /// Keep the last seconds of what runs already, and save them when a condition comes true.
    Watch(Box<WatchArgs>),
    #[cfg(feature = "record")]
    /// Show what runs already on the terminal: who runs, who is blocked, in what, and behind whom.
    Top(TopArgs),
    /// Report on a trace that `run --save` or `attach --save` wrote, on any machine, without root.
    Report(ReportArgs),
    /// Compare traces before and after a change: what explains the difference in time.
    Diff(DiffArgs),
    /// Answer one question about a trace in ten lines: a moment, a task, a stall.
    Explain(ExplainArgs),
    /// Write traces as Parquet tables, for DuckDB, Spark or ClickHouse, of many hosts and days.
    Export(ExportArgs),
    /// Make a trace of what `perf sched record`, Perfetto or wprof recorded.
    Import(ImportArgs),
    /// Add up traces minute by minute, so that a month of a host finds room in one small file.
    Rollup(RollupArgs),
    #[cfg(feature = "record")]
    /// Test claims about blocking experimentally on this machine.
    Claims {
        /// What to do.
        #[command(subcommand)]
        command: ClaimsCommand,
    },
    #[cfg(feature = "record")]
    /// Check kernel and privileges, and explain how to fix what is missing.
    Doctor {
        /// Show everything that was looked up, with offsets.
        #[arg(short, long)]
        verbose: bool,
    },
    /// Run a small program whose blocking is known, to try forktrace on it.
    Workload {
        /// Which.
        #[command(subcommand)]
        workload: Workload,
    },
    /// Print the JSON Schema of what forktrace writes for programs.
    Schema {
        /// Of what.
        #[arg(value_enum)]
        of: SchemaOf,
    },
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print a manual page (view it with: forktrace man run | man -l -).
    Man {
        /// The subcommand that it is about, such as: claims run [default: forktrace as a whole].
        subcommand: Vec<String>,
        /// Write the pages of forktrace and of all subcommands into DIR instead.
        #[arg(long, value_name = "DIR", conflicts_with = "subcommand")]
        all: Option<PathBuf>,
    },
}

/// When to use colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What there is a schema of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SchemaOf {
    /// A report in JSON.
    Json,
    /// A line of NDJSON.
    Ndjson,
    /// A comparison in JSON.
    Diff,
}

/// Where a report goes and how it looks.
#[derive(Args, Debug)]
pub(crate) struct OutputArgs {
    /// Write the report to FILE, in the form that its suffix stands for (docs/exports.md); may be given several times; - is standard output [default: run: standard error, report: standard output].
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Vec<PathBuf>,
    /// Overwrite the files of -o and --save whatever they hold. Without it, a report never replaces a trace, and a trace replaces only traces.
    #[arg(long)]
    pub(crate) force: bool,
    /// Form of what goes to standard output, or to a FILE without a suffix [default: text].
    #[arg(long, value_enum)]
    pub(crate) format: Option<Form>,
    /// What stacks in folded files and flame graphs are made of [default: where tasks blocked, and where they were woken if --stacks recorded it].
    #[arg(long, value_enum, value_name = "KIND")]
    pub(crate) folded: Option<StackKind>,
    /// Show these views in place of the summary.
    #[arg(long, value_enum, value_name = "VIEWS", value_delimiter = ',')]
    pub(crate) show: Vec<Show>,
    /// Show the summary and every view: the same as --show all.
    #[arg(short, long)]
    pub(crate) verbose: bool,
    /// For --show episodes: list the N longest stalls, each with its chain of wakers.
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(crate) episodes: usize,
    /// When to use colour.
    #[arg(long, value_enum, default_value_t, value_name = "WHEN")]
    pub(crate) color: Color,
}

/// Does this name of `-o` stand for a folder of tables?
pub(crate) fn is_tables(path: &Path) -> bool {
    let suffix = path.extension().unwrap_or_default();
    suffix.eq_ignore_ascii_case("parquet")
}

impl OutputArgs {
    /// Does one of the files show where tasks blocked, if that is recorded?
    pub(crate) fn shows_stacks(&self) -> bool {
        let told = self.output.iter().filter_map(|path| Form::of(path).ok()?);
        told.chain(self.format).any(Form::shows_stacks)
    }

    /// Is one of them a folder of tables?
    pub(crate) fn has_tables(&self) -> bool {
        self.output.iter().any(|path| is_tables(path))
    }

    /// The reports of these files, as they are when nothing more is said.
    pub(crate) fn to_files(files: &[PathBuf]) -> Self {
        Self {
            output: files.to_vec(),
            force: false,
            format: None,
            folded: None,
            show: Vec::new(),
            verbose: false,
            episodes: 10,
            color: Color::Never,
        }
    }

    /// What they ask of the analysis.
    pub(crate) fn analysis(&self) -> Options {
        Options {
            episodes: self.episodes,
            more_episodes: self.has_tables().then_some(STALLS),
            ..Options::default()
        }
    }
}

#[cfg(feature = "record")]
/// Arguments of `run`.
#[derive(Args, Debug)]
#[command(after_help = "\
Exit status: that of COMMAND, or the signal that ended it; 126 when COMMAND can't be executed, \
127 when it is not found, 125 when forktrace itself fails; 124 when a signal ended the recording \
before COMMAND ended; 3 when an assertion is false, whatever COMMAND returned.

Signals: those that reach forktrace alone are passed on to COMMAND, the second ends the recording. \
Ctrl-C is COMMAND's to answer; three within a few seconds end the recording and leave COMMAND, and what \
it started, running: they are named.

--user is no sandbox. COMMAND gets the user's id, groups and no capability, and no keyring of another's. \
It keeps the terminal, so where the kernel allows TIOCSTI (sysctl dev.tty.legacy_tiocsti) it can type \
into it; it keeps descriptors, namespaces, cgroup, limits, securebits, no_new_privs and the capability \
bounding set as they are, so that setuid programs work. For what is not trusted use a container.

Files: under sudo, those of -o and --save are opened with the rights of the user who called sudo, and \
with --as-root with root's. A new trace is readable by its owner only. While COMMAND runs, a trace that \
replaces another is in FILE.partial.

Examples:
  sudo forktrace run -- python3 service.py
  sudo forktrace run --save trace.ft -- make -j4
  sudo forktrace run -o report.json -o report.txt -o run.pftrace -- ./server --port 8080
  sudo forktrace run --repeat 5 --save before.ft -- make -j4
  sudo forktrace run --assert 'groups[0].all_blocked.longest_ns <= 50 * ms' -- ./server --port 8080")]
pub(crate) struct RunArgs {
    /// What is recorded, and where it goes.
    #[command(flatten)]
    pub(crate) recording: RecordingArgs,
    /// Run COMMAND as USER (a name or an id); not a sandbox, see below [default under sudo: the invoking user].
    #[arg(short, long, value_name = "USER", conflicts_with = "as_root")]
    pub(crate) user: Option<String>,
    /// Run COMMAND, and write files, as root even under sudo.
    #[arg(long)]
    pub(crate) as_root: bool,
    /// Run COMMAND N times, one after the other, until one fails. Files of --save, -o and --junit get the number of the run: trace.1.ft. Reports go to files of -o only; what is printed is how long the runs took.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) repeat: Option<u32>,
    /// Show the run on the terminal while it lasts, as `forktrace top` does. COMMAND gets no terminal: it reads nothing, and what it prints comes when it has ended. q closes the view; the run goes on.
    #[arg(long, conflicts_with = "repeat")]
    pub(crate) top: bool,
    /// Stop when COMMAND ends, even if processes that it started still run.
    #[arg(long)]
    pub(crate) until_exit: bool,
    /// The command and its arguments.
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

#[cfg(feature = "record")]
/// Arguments of `attach`.
#[derive(Args, Debug)]
#[command(after_help = "\
Target: nothing is sent to it, and nothing changes in it. Threads and processes that it creates from then \
on are followed too. What a task was waiting for already counts from then on. forktrace itself is never \
part of it.

End: Ctrl-C ends the recording, or --for, or that all of it has ended; of a cgroup, a unit or a container, \
that it is gone.

Exit status: 0; 3 when an assertion is false, 125 when forktrace fails.

Examples:
  sudo forktrace attach --for 10s --pid 4121
  sudo forktrace attach redis-server
  sudo forktrace attach --for 1m --save stall.ft --unit nginx.service
  sudo forktrace attach --for 30s --container web --format json -o report.json")]
pub(crate) struct AttachArgs {
    /// What is recorded, and where it goes.
    #[command(flatten)]
    pub(crate) recording: RecordingArgs,
    /// What is recorded.
    #[command(flatten)]
    pub(crate) what: TargetArgs,
    /// Stop after TIME, such as 500ms, 30s or 5m.
    #[arg(long = "for", value_name = "TIME", value_parser = length)]
    pub(crate) length: Option<Duration>,
    /// Write files as root even under sudo.
    #[arg(long)]
    pub(crate) as_root: bool,
}

#[cfg(feature = "record")]
/// What is attached to.
#[derive(Args, Debug)]
#[group(id = "what", required = true, multiple = true)]
pub(crate) struct TargetArgs {
    /// The process PID: all its threads, and what they create from now on.
    #[arg(short, long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) pid: Vec<u32>,
    /// The thread TID alone, and what it creates from now on.
    #[arg(long, value_name = "TID", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) tid: Vec<u32>,
    /// Processes whose name, program or whole command line is GLOB (* stands for anything, ? for one character).
    #[arg(short, long, value_name = "GLOB")]
    pub(crate) name: Vec<String>,
    /// All in the cgroup PATH and below, and what comes to it later.
    #[arg(long, value_name = "PATH")]
    pub(crate) cgroup: Vec<PathBuf>,
    /// All of the systemd unit UNIT, likewise.
    #[arg(long, value_name = "UNIT")]
    pub(crate) unit: Vec<String>,
    /// All of a container of docker, podman, nerdctl or containerd, by its name or id, likewise.
    #[arg(long, value_name = "NAME|ID")]
    pub(crate) container: Vec<String>,
    /// All processes.
    #[arg(short, long)]
    pub(crate) all: bool,
    /// A pid, or a name as for --name.
    #[arg(value_name = "TARGET")]
    pub(crate) targets: Vec<String>,
}

#[cfg(feature = "record")]
/// Arguments of `watch`.
#[derive(Args, Debug)]
#[command(after_help = "\
EXPR is a condition in the language of --assert, over the state of the moment: live, running, runnable, \
blocked, stopped (numbers of tasks), all_blocked and starved (each with now_ns, ns, episodes, longest_ns), \
cause (what all are blocked for, 'idle' where each rests), deadlocks, lost, tasks (tid, pid, name, state, \
reason, for_ns), and blocked('GLOB'), how many tasks of such a name are blocked.

When EXPR becomes true, the --keep before and the --after after that are saved in DIR as \
forktrace-TIME.ft, with the report as .txt and .json. Nothing more is saved for --pause. A target that \
is given by name, unit, cgroup or container may end and come again.

With --export, all that is recorded goes to tables as those of `forktrace export`: each window of \
--export-every is a trace that begins where the one before ended. It is there as a whole or not at all.

End: Ctrl-C, --for, or that a target given by pid has ended.

Exit status: 0; 125 when forktrace fails, or EXPR came true and nothing could be saved, or no window could be \
exported.

Examples:
  sudo forktrace watch --unit nginx --when \"all_blocked.now_ns > 200 * ms && cause != 'idle'\" --save-dir /var/lib/forktrace
  sudo forktrace watch -p 4121 --when 'deadlocks.size() > 0' --save-dir . --then 'cat $FORKTRACE_TEXT'
  sudo forktrace watch redis-server --when \"blocked('io_thd_*') == 4\" --keep 10s --save-dir stalls
  sudo forktrace watch --unit nginx --export /srv/traces")]
pub(crate) struct WatchArgs {
    /// What is watched.
    #[command(flatten)]
    pub(crate) what: TargetArgs,
    /// Save when EXPR becomes true [docs/watch.md].
    #[arg(
        long,
        value_name = "EXPR",
        required_unless_present = "export",
        requires = "save_dir"
    )]
    pub(crate) when: Option<String>,
    /// Save so much of what came before.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = length)]
    pub(crate) keep: Duration,
    /// Save so much of what comes after.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = length)]
    pub(crate) after: Duration,
    /// Save nothing more for so long.
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = length)]
    pub(crate) pause: Duration,
    /// Save in the folder DIR.
    #[arg(long, value_name = "DIR", requires = "when")]
    pub(crate) save_dir: Option<PathBuf>,
    /// Write all that is recorded into DIR as tables, as `forktrace export` does, window by window [docs/fleet.md].
    #[arg(long, value_name = "DIR")]
    pub(crate) export: Option<PathBuf>,
    /// A window of --export is so long; it ends earlier when it takes half of --memory.
    #[arg(long = "export-every", value_name = "TIME", default_value = "5m", value_parser = length, requires = "export")]
    pub(crate) every: Duration,
    /// Export into DIR even if it holds other files.
    #[arg(long, requires = "export")]
    pub(crate) force: bool,
    /// Keep the newest N traces in DIR; the oldest are removed, with their reports.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max: u32,
    /// Run CMD in a shell after each: $FORKTRACE_TRACE, $FORKTRACE_TEXT and $FORKTRACE_JSON are its files.
    #[arg(long, value_name = "CMD")]
    pub(crate) then: Option<String>,
    /// How much is kept, and for how long it goes on.
    #[command(flatten)]
    pub(crate) kept: KeptArgs,
    /// Which stacks are recorded.
    #[command(flatten)]
    pub(crate) stacks: StackArgs,
    /// Whether it is told how long data waited.
    #[command(flatten)]
    pub(crate) lag: LagArgs,
    /// Serve metrics for Prometheus at http://ADDR/metrics meanwhile; ADDR is a port of this machine alone, or an address with a port [docs/metrics.md].
    #[arg(long, value_name = "ADDR")]
    pub(crate) metrics: Option<String>,
    /// Write files, and run CMD, as root even under sudo.
    #[arg(long)]
    pub(crate) as_root: bool,
}

#[cfg(feature = "record")]
/// What all recordings can be told.
#[derive(Args, Debug)]
pub(crate) struct RecordingArgs {
    /// Where the report goes.
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    /// Keep the trace in FILE, for `forktrace report FILE` (written to FILE.partial until it is whole, if FILE exists).
    #[arg(long, value_name = "FILE")]
    pub(crate) save: Option<PathBuf>,
    /// Quiet: no progress, no deadlock warnings, and no report unless -o is given.
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// How large the recorder's tables are.
    #[command(flatten)]
    pub(crate) tables: TableArgs,
    /// How to count calls of select, poll and epoll.
    #[arg(long, value_enum, default_value_t, value_name = "METHOD")]
    pub(crate) polls: PollProbes,
    /// Which stacks are recorded.
    #[command(flatten)]
    pub(crate) stacks: StackArgs,
    /// Whether it is told how long data waited.
    #[command(flatten)]
    pub(crate) lag: LagArgs,
    /// Record only when tasks ran and blocked and in which syscall, without wakers or wait targets (lowest overhead).
    #[arg(long, conflicts_with = "stacks")]
    pub(crate) plain: bool,
    /// Print messages of the eBPF programs about rare events to standard error.
    #[arg(long, value_enum, default_value_t, value_name = "LEVEL")]
    pub(crate) log_bpf: LogLevel,
    /// Serve metrics for Prometheus at http://ADDR/metrics meanwhile; ADDR is a port of this machine alone, or an address with a port [docs/metrics.md].
    #[arg(long, value_name = "ADDR")]
    pub(crate) metrics: Option<String>,
    /// What is asserted.
    #[command(flatten)]
    pub(crate) asserts: AssertArgs,
}

/// Conditions, for CI.
#[derive(Args, Debug)]
pub(crate) struct AssertArgs {
    /// Exit with status 3 if EXPR does not hold; may be given several times [docs/writing-claims.md].
    #[arg(long = "assert", value_name = "EXPR")]
    pub(crate) assertions: Vec<String>,
    /// Write the outcome of each --assert to FILE as JUnit XML, which CI systems show.
    #[arg(long, value_name = "FILE", requires = "assertions")]
    pub(crate) junit: Option<PathBuf>,
}

/// Arguments of `report`.
#[derive(Args, Debug)]
#[command(after_help = "\
Exit status: 0; 3 when an assertion is false, 125 when forktrace fails.

Examples:
  forktrace report trace.ft
  forktrace report --open trace.ft
  forktrace report --from 2s --to 50% --only python3 trace.ft
  forktrace report -o run.pftrace -o blocked.svg trace.ft
  forktrace report --format dot trace.ft | dot -Tsvg > who-waits-for-whom.svg")]
pub(crate) struct ReportArgs {
    /// Where the report goes.
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    /// Of what.
    #[command(flatten)]
    pub(crate) part: PartArgs,
    /// Show the report as a page in the browser.
    #[arg(long)]
    pub(crate) open: bool,
    /// What is asserted.
    #[command(flatten)]
    pub(crate) asserts: AssertArgs,
    /// The trace; - is standard input.
    #[arg(value_name = "FILE")]
    pub(crate) trace: PathBuf,
}

/// Arguments of `export`.
#[derive(Args, Debug)]
#[command(after_help = "\
Tables: DIR/TABLE/day=2026-01-31/host=NAME/*.parquet, one file for each trace and day (UTC). docs/fleet.md \
describes the tables, docs/sql has questions to ask of them.

Files appear whole or not at all, the one in the table audit last. A trace that is exported again replaces \
what is there of it.

Exit status: 0; 125 when forktrace fails.

Examples:
  forktrace export trace.ft --to /srv/traces
  forktrace export --host web-3 /var/lib/forktrace/*.ft --to /srv/traces
  duckdb -c \"select sum(blocked_ns) from '/srv/traces/stretches/*/*/*.parquet'\"")]
pub(crate) struct ExportArgs {
    /// Write the tables into DIR, which is made if it is not there.
    #[arg(long, value_name = "DIR")]
    pub(crate) to: PathBuf,
    /// Say that the traces are of the host NAME, of letters, digits, dots, dashes and underscores [default: what each trace says].
    #[arg(long, value_name = "NAME")]
    pub(crate) host: Option<String>,
    /// List the N longest stalls of each trace; sums are of all of them.
    #[arg(long, value_name = "N", default_value_t = STALLS)]
    pub(crate) stalls: usize,
    /// Write into DIR even if it holds other files.
    #[arg(long)]
    pub(crate) force: bool,
    /// The traces.
    #[arg(required = true, value_name = "FILE")]
    pub(crate) traces: Vec<PathBuf>,
}

/// Arguments of `import`.
#[derive(Args, Debug)]
#[command(after_help = "\
FILE is a perf.data of `perf sched record`, a trace of Perfetto (and of ftrace, recorded by it), or what \
`wprof --json-trace` writes. All tasks in it are taken for the workload, but for the kernel's threads; \
`forktrace report --only NAME` looks at some of them.

What such a file does not tell (calls, what tasks waited for) is unknown in the trace, and nothing of it can \
be checked against the kernel's counters: `forktrace report --show audit` says what is missing. \
docs/importing.md has the details.

Exit status: 0; 125 when forktrace fails.

Examples:
  perf sched record -k CLOCK_MONOTONIC -o perf.data sleep 10; forktrace import perf.data -o trace.ft
  forktrace import trace.pftrace -o trace.ft
  wprof -d 1000 --json-trace wprof.json; forktrace import wprof.json -o trace.ft")]
pub(crate) struct ImportArgs {
    /// Write the trace to FILE.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// Overwrite the file of -o whatever it holds. Without it, a trace replaces only traces.
    #[arg(long)]
    pub(crate) force: bool,
    /// What another recorder wrote; - is standard input.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}

/// Arguments of `rollup`.
#[derive(Args, Debug)]
#[command(after_help = "\
A row of the file is what the tasks of a role did in a minute: running, runnable, blocked (by reason), stopped, \
unknown; how long, how often, and the longest time that began in it. It is NDJSON packed by gzip, which DuckDB, \
Spark and ClickHouse read as it is: docs/fleet.md has questions. FILE is a trace, or such a file: those add up, \
and no trace is added twice.

Exit status: 0; 125 when forktrace fails.

Examples:
  forktrace rollup stalls/*.ft -o november.ndjson.gz
  forktrace rollup november.ndjson.gz new.ft -o november.ndjson.gz
  duckdb -c \"select role, reason, sum(ns) / 1e9 from 'november.ndjson.gz' where state = 'blocked' group by all\"")]
pub(crate) struct RollupArgs {
    /// Write the rows to FILE; what it held is replaced when all is there.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// Say that the traces are of the host NAME [default: what each trace says].
    #[arg(long, value_name = "NAME")]
    pub(crate) host: Option<String>,
    /// Overwrite the file of -o even if it is a trace.
    #[arg(long)]
    pub(crate) force: bool,
    /// Traces, and files that this wrote.
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
}

/// Arguments of `diff`.
#[derive(Args, Debug)]
#[command(
    override_usage = "forktrace diff [OPTIONS] <A> <B>\n       forktrace diff [OPTIONS] <A>... -- <B>...",
    after_help = "\
The changes of the parts of the critical path add up to the change of the wall time. Tasks are matched by \
role, and what they waited for by a name that is the same in each run. With two runs or more on each side \
changes have a 95 % interval (Welch's); one run says nothing about chance.

Exit status: 0; 3 when an assertion is false, 125 when forktrace fails.

Examples:
  forktrace diff before.ft after.ft
  forktrace diff before.*.ft -- after.*.ft
  forktrace diff --assert 'wall.share <= 0.05' -o diff.md -o diff.html before.ft after.ft"
)]
pub(crate) struct DiffArgs {
    /// Write the comparison to FILE, in the form that its suffix stands for (.txt .json .md .html); may be given several times; - is standard output [default: standard output].
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Vec<PathBuf>,
    /// Overwrite the files of -o and --junit even if they are traces.
    #[arg(long)]
    pub(crate) force: bool,
    /// Form of what goes to standard output, or to a FILE without a suffix [default: text].
    #[arg(long, value_enum)]
    pub(crate) format: Option<DiffForm>,
    /// Show all rows of the tables.
    #[arg(short, long)]
    pub(crate) verbose: bool,
    /// When to use colour.
    #[arg(long, value_enum, default_value_t, value_name = "WHEN")]
    pub(crate) color: Color,
    /// What is asserted.
    #[command(flatten)]
    pub(crate) asserts: AssertArgs,
    /// The traces before the change; without -- one, and after it the one after the change.
    #[arg(required = true, value_name = "A")]
    pub(crate) base: Vec<PathBuf>,
    /// The traces after the change.
    #[arg(last = true, value_name = "B")]
    pub(crate) new: Vec<PathBuf>,
}

/// Arguments of `explain`.
#[derive(Args, Debug)]
#[command(after_help = "\
Exit status: 0; 125 when there is no answer, such as no such task, or forktrace fails.

Examples:
  forktrace explain trace.ft --at 3.2s
  forktrace explain trace.ft --task 4123
  forktrace explain trace.ft --stall 1")]
pub(crate) struct ExplainArgs {
    /// What is asked.
    #[command(flatten)]
    pub(crate) question: Question,
    /// When to use colour.
    #[arg(long, value_enum, default_value_t, value_name = "WHEN")]
    pub(crate) color: Color,
    /// The trace; - is standard input.
    #[arg(value_name = "FILE")]
    pub(crate) trace: PathBuf,
}

/// What `explain` is asked.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(crate) struct Question {
    /// What every task did at TIME since the recording began, such as 3.2s or 250ms.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) at: Option<u64>,
    /// What the task with this tid did, and what it waited for.
    #[arg(long, value_name = "TID")]
    pub(crate) task: Option<u32>,
    /// How stall N came about; 1 is the longest.
    #[arg(long, value_name = "N")]
    pub(crate) stall: Option<usize>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn attach_takes_targets_of_all_kinds_and_at_least_one() {
        let all = "forktrace attach -p 1 -p 2 --tid 3 -n a* --unit b --container c --cgroup /d e 5";
        let cli = Cli::try_parse_from(all.split(' '));
        let Ok(Cli {
            command: Command::Attach(args),
        }) = cli
        else {
            panic!("{cli:?}")
        };
        assert_eq!((args.what.pid, args.what.tid), (vec![1, 2], vec![3]));
        assert_eq!(args.what.targets, ["e", "5"]);
        assert!(Cli::try_parse_from(["forktrace", "attach", "--for", "1s"]).is_err());
    }

    #[test]
    fn options_after_the_command_are_the_commands() {
        let cli = Cli::try_parse_from(["forktrace", "run", "-q", "ls", "-q", "--save", "x"]);
        let Ok(Cli {
            command: Command::Run(args),
        }) = cli
        else {
            panic!("{cli:?}")
        };
        assert_eq!(args.command, ["ls", "-q", "--save", "x"]);
        assert!(args.recording.quiet && args.recording.save.is_none());
    }
}
