//! What forktrace does by itself: whether it keeps up, how long it takes to
//! start, how big its traces are and how fast it reads them.

use std::{
    env,
    ffi::OsString,
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeValLike as _,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Bench,
    page::{Goal, Section, Spread},
    process::{adopt_orphans, capture, settle},
};

/// Records a ping-pong on every CPU and reads the trace back.
pub(super) fn trace(bench: &Bench) -> Result<Section> {
    let (report, trace) = (bench.path("report.json"), bench.path("trace.ft"));
    record_ping_pong(bench, &report, &trace)?;

    let text = fs::read(&report).context("could not read the report")?;
    let report: Value = serde_json::from_slice(&text).context("the report is not JSON")?;
    let number = |pointer: &str| {
        let value = report.pointer(pointer).and_then(Value::as_f64);
        value.with_context(|| format!("the report has no number at {pointer}"))
    };
    let stretches = number("/audit/switches_traced")?;
    let expected = number("/audit/switches_kernel")?;
    let lost = number("/audit/lost_records")?;
    let cpu = number("/audit/tracer_cpu_ns")? / number("/workload/duration_ns")?;
    let complete = report.pointer("/audit/complete").and_then(Value::as_bool) == Some(true);
    let weaknesses: Vec<&str> = report
        .pointer("/audit/weaknesses")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|weakness| weakness["text"].as_str())
        .collect();
    let rate = stretches / number("/workload/duration_ns")? * 1e9;
    let size = fs::metadata(&trace).context("there is no trace")?.len();

    let seconds_to_read = read_back(bench, &trace)?;
    let millions = Spread::of(
        seconds_to_read
            .iter()
            .map(|seconds| stretches / seconds / 1e6),
    )
    .context("the trace was not read back")?;

    let bytes = size as f64 / stretches;
    Ok(Section {
        title: "Trace",
        text: format!(
            "A pinned ping-pong on each of {} CPUs for {} s makes {:.2} million context \
             switches a second. forktrace used {:.0} % of one CPU beside it. `forktrace report` \
             read the trace of {:.0} MB {} times. Each switch of a traced task counts as a stretch \
             here, also its last one, which begins none.",
            bench.cpus.len(),
            bench.size.trace_seconds,
            rate / 1e6,
            100.0 * cpu,
            size as f64 / 1e6,
            bench.size.reads,
        ),
        table: None,
        goals: vec![
            Goal {
                what: "records lost".to_owned(),
                measured: format!("{lost:.0} ({stretches:.0} of {expected:.0} switches traced)"),
                goal: "0".to_owned(),
                met: Some(lost == 0.0 && stretches == expected),
            },
            Goal {
                what: "audit".to_owned(),
                measured: match (complete, weaknesses.join("; ")) {
                    (true, _) => "complete".to_owned(),
                    (false, why) => format!("not complete: {why}"),
                },
                goal: "complete".to_owned(),
                met: Some(complete),
            },
            Goal {
                what: "a stretch in the file".to_owned(),
                measured: format!("{bytes:.1} bytes"),
                goal: "≤ 16 bytes".to_owned(),
                met: Some(bytes <= 16.0),
            },
            Goal {
                what: "`forktrace report`".to_owned(),
                measured: format!("{} million stretches/s", millions.show(2)),
                goal: "≥ 5 million/s".to_owned(),
                met: Some(millions.median >= 5.0),
            },
        ],
    })
}

/// Leaves the report and the trace of a ping-pong on every CPU.
fn record_ping_pong(bench: &Bench, report: &Path, trace: &Path) -> Result<()> {
    let seconds = bench.size.trace_seconds.to_string();
    let pairs = bench.cpus.len().to_string();
    let mut record: Vec<OsString> = vec![bench.forktrace.clone().into()];
    record.extend(["run", "--as-root", "--format", "json", "-o"].map(Into::into));
    record.extend([report.into(), "--save".into(), trace.into()]);
    record.extend(["--".into(), bench.forktrace.clone().into()]);
    let workload = [
        "workload",
        "ping-pong",
        "--seconds",
        &seconds,
        "--pairs",
        &pairs,
        "--pin",
    ];
    record.extend(workload.map(Into::into));
    eprintln!("Trace: recording for {seconds} s");
    capture(&record).context("could not record the ping-pong")?;
    settle()
}

/// Reports on the trace again and again, removes it, and gives how long each took, seconds.
fn read_back(bench: &Bench, trace: &Path) -> Result<Vec<f64>> {
    let mut read: Vec<OsString> = vec![bench.forktrace.clone().into(), "report".into()];
    read.extend([trace.into(), "--format".into(), "json".into()]);
    read.extend(["-o".into(), bench.path("again.json").into()]);
    let mut seconds_to_read = Vec::new();
    for turn in 1..=bench.size.reads {
        eprintln!("Trace: reading it back, {turn} of {}", bench.size.reads);
        let start = Instant::now();
        capture(&read).context("could not report on the trace")?;
        seconds_to_read.push(start.elapsed().as_secs_f64());
    }
    // It is the biggest of our files.
    fs::remove_file(trace).context("could not remove the trace")?;
    Ok(seconds_to_read)
}

/// Runs a command that does nothing, with forktrace and without.
pub(super) fn start(bench: &Bench) -> Result<Section> {
    const TURNS: u32 = 10;
    let bare: [OsString; 1] = ["true".into()];
    let mut traced: Vec<OsString> = vec![bench.forktrace.clone().into()];
    traced.extend(["run", "--as-root", "--", "true"].map(Into::into));
    let (mut bare_ms, mut traced_ms) = (Vec::new(), Vec::new());
    let (mut settled_ms, mut memory_mb) = (Vec::new(), Vec::new());
    eprintln!("Start: {TURNS} rounds");
    for turn in 0..=TURNS {
        let (bare, traced) = (measured(&bare)?, measured(&traced)?);
        // The first is for warming up.
        if turn > 0 {
            bare_ms.push(bare.seconds * 1e3);
            traced_ms.push(traced.seconds * 1e3);
            settled_ms.push(traced.seconds_to_settle * 1e3);
            memory_mb.push(traced.peak_bytes as f64 / 1e6);
        }
    }
    let spread = |figures: Vec<f64>| Spread::of(figures).context("no rounds");
    let (bare, traced) = (spread(bare_ms)?, spread(traced_ms)?);
    let (settled, memory) = (spread(settled_ms)?, spread(memory_mb)?);
    Ok(Section {
        title: "Start",
        text: format!(
            "`forktrace run -- true` and `true`, {TURNS} times in turns: median (least to greatest). \
             `true` by itself takes {} ms. A process that forktrace leaves behind goes on taking its \
             probes away; that is over {} ms after the start.",
            bare.show(1),
            settled.show(1)
        ),
        table: None,
        goals: vec![
            Goal {
                what: "`forktrace run -- true`".to_owned(),
                measured: format!("{} ms", traced.show(1)),
                goal: "≤ 250 ms".to_owned(),
                met: Some(traced.median <= 250.0),
            },
            Goal {
                what: "its peak memory".to_owned(),
                measured: format!("{} MB", memory.show(1)),
                goal: "≤ 60 MB".to_owned(),
                met: Some(memory.max <= 60.0),
            },
        ],
    })
}

/// What a command took.
#[derive(Deserialize, Serialize)]
pub(super) struct Usage {
    pub(super) seconds: f64,
    /// The same, and until no process that it left behind was there any more.
    seconds_to_settle: f64,
    /// What it took of all CPUs, whoever else used them.
    pub(super) cpu_seconds: f64,
    /// The most physical memory that a process had, of the command and of what
    /// it started and waited for.
    pub(super) peak_bytes: u64,
}

/// Runs a command below a process of ours that has no other child: the kernel
/// sums the usage of all children.
pub(super) fn measured(argv: &[OsString]) -> Result<Usage> {
    let own = env::current_exe().context("could not find the path of xtask itself")?;
    let mut command: Vec<OsString> = vec![own.into(), "run-measured".into(), "--".into()];
    command.extend_from_slice(argv);
    let printed = capture(&command)?;
    serde_json::from_str(printed.trim())
        .with_context(|| format!("run-measured printed {printed:?}"))
}

/// Runs a command, its output thrown away, and prints what it took.
pub(crate) fn run_measured(argv: &[OsString]) -> Result<()> {
    let (program, arguments) = argv.split_first().context("no command was given")?;
    adopt_orphans()?;
    let start = Instant::now();
    // Not `output`: that would wait until nobody has its standard error open.
    let status = Command::new(program)
        .args(arguments)
        .stdout(Stdio::null())
        .status()
        .with_context(|| format!("could not start {}", program.display()))?;
    let seconds = start.elapsed().as_secs_f64();
    ensure!(status.success(), "{} failed: {status}", program.display());
    settle()?;
    let seconds_to_settle = start.elapsed().as_secs_f64();
    let of_children = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let kilobytes = of_children.max_rss();
    let cpu = [of_children.user_time(), of_children.system_time()];
    let usage = Usage {
        seconds,
        cpu_seconds: cpu
            .map(|time| time.num_microseconds() as f64 / 1e6)
            .iter()
            .sum(),
        seconds_to_settle,
        peak_bytes: u64::try_from(kilobytes)? * 1024,
    };
    println!("{}", serde_json::to_string(&usage)?);
    Ok(())
}
