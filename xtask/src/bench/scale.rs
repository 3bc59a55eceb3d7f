//! How the time and the memory of a report grow with its trace: on traces that are made, from
//! 1 to 100 million stretches, and from 16 to 16,000 tasks.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::{allowed_cpus, load_average, own::measured, page::Table, process::adopt_orphans};
use crate::util::{cargo, run as run_command, target_dir};

/// A row: what kind of workload, stretches in thousands, tasks.
type Case = (&'static str, u64, u64);

/// Rows of a kind follow each other from small to large.
const CASES: [Case; 24] = [
    ("ping-pong", 1_000, 2),
    ("ping-pong", 10_000, 2),
    ("ping-pong", 100_000, 2),
    ("locks", 1_000, 16),
    ("locks", 1_000, 1_000),
    ("locks", 1_000, 16_000),
    ("locks", 10_000, 1_000),
    ("locks", 100_000, 1_000),
    ("groups", 1_000, 2_000),
    ("groups", 10_000, 2_000),
    ("sleepers", 1_000, 16),
    ("sleepers", 1_000, 1_000),
    ("sleepers", 1_000, 16_000),
    ("herd", 1_000, 100),
    ("herd", 1_000, 1_000),
    ("herd", 10_000, 1_000),
    ("yields", 200, 2),
    ("yields", 2_000, 2),
    ("short-lived", 0, 1_000),
    ("short-lived", 0, 10_000),
    ("short-lived", 0, 100_000),
    ("not-followed", 0, 1_000),
    ("not-followed", 0, 10_000),
    ("not-followed", 0, 20_000),
];
/// The most thousand stretches that are measured unless more are asked for.
const MOST: u64 = 10_000;

/// Measures, and prints a table.
pub(super) fn run(large: bool, markdown: Option<&Path>) -> Result<bool> {
    run_command(cargo()?.args(["build", "--release", "--locked", "-p", "forktrace"]))?;
    let build = ["build", "--release", "--locked", "-p", "forktrace-core"];
    run_command(cargo()?.args(build).args(["--example", "scale"]))?;
    adopt_orphans()?;
    let release = target_dir()?.join("release");
    let load = load_average();
    let folder = tempfile::tempdir().context("could not make a temporary folder")?;
    let trace = folder.path().join("made.ft");
    let heading = [
        "trace",
        "stretches",
        "tasks",
        "file",
        "JSON",
        "time",
        "CPU time",
        "stretches/s",
        "memory",
        "a stretch",
        "growth",
    ];
    let mut table = Table::new(&heading);
    let mut before: Option<(Case, f64)> = None;
    for case in CASES {
        let (kind, thousands, tasks) = case;
        if thousands > MOST && !large {
            continue;
        }
        eprintln!("scale: {kind}, {thousands},000 stretches, {tasks} tasks");
        make(&release, case, &trace)?;
        let json = folder.path().join("report.json");
        let report: [OsString; 6] = [
            release.join("forktrace").into(),
            "report".into(),
            "--force".into(),
            "-o".into(),
            json.clone().into(),
            trace.clone().into(),
        ];
        let usage = measured(&report)?;
        // Those that end by themselves have few stretches, and as many as they are tasks.
        let stretches = match thousands {
            0 => 3 * tasks,
            thousands => thousands * 1000 + tasks,
        };
        let growth = before
            .filter(|(it, _)| it.0 == kind)
            .map(|((_, t, n), seconds)| {
                let work = (thousands.max(1) * tasks) as f64 / (t.max(1) * n) as f64;
                format!("{:.1} × for {work:.0} ×", usage.cpu_seconds / seconds)
            });
        before = Some((case, usage.cpu_seconds));
        let length = |path: &Path| fs::metadata(path).map_or(0, |it| it.len());
        table.row(vec![
            kind.to_owned(),
            stretches.to_string(),
            tasks.to_string(),
            format!("{:.1} MB", length(&trace) as f64 / 1e6),
            format!("{:.1} MB", length(&json) as f64 / 1e6),
            format!("{:.2} s", usage.seconds),
            format!("{:.2} s", usage.cpu_seconds),
            format!("{:.2} million", stretches as f64 / usage.seconds / 1e6),
            format!("{:.0} MB", usage.peak_bytes as f64 / 1e6),
            format!("{:.0} bytes", usage.peak_bytes as f64 / stretches as f64),
            growth.unwrap_or_default(),
        ]);
    }
    let text = format!(
        "{}\nMeasured with `cargo xtask bench scale` on {} CPUs. Load average at the start {load}, at the \
         end {}. Growth is that of the CPU time, beside that of stretches × tasks.\n",
        table.markdown(),
        allowed_cpus()?.len(),
        load_average(),
    );
    println!("{text}");
    if let Some(path) = markdown {
        fs::write(path, text).with_context(|| format!("could not write {}", path.display()))?;
    }
    Ok(true)
}

fn make(release: &Path, (kind, thousands, tasks): Case, trace: &Path) -> Result<()> {
    let example: PathBuf = release.join("examples/scale");
    let stretches = (thousands * 1000).to_string();
    let mut command = std::process::Command::new(example);
    command
        .args([kind, &stretches, &tasks.to_string()])
        .arg(trace);
    run_command(&mut command)
}
