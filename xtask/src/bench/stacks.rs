//! What a stack costs a block, by how deep it is.
//!
//! All CPU time counts: that of the workload, in which a tracer's probes run, and that of the
//! tracer. What a tracer costs by itself is left out by comparing two runs that differ in nothing
//! but how often the workload blocks.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeValLike as _,
};

use super::{
    Bench,
    page::{Section, Spread, Table},
    process::{capture, settle},
};
use crate::util::run as run_command;

const DEEP_NAPS: &str = include_str!("deep_naps.c");

/// Calls between main and the naps.
const DEPTHS: [u32; 3] = [5, 25, 100];

/// Blocks: how long each is at least, and how many there are in the two runs.
struct Blocks {
    what: &'static str,
    micros: u64,
    few: u32,
    many: u32,
}

const BLOCKS: [Blocks; 2] = [
    Blocks {
        what: "short",
        micros: 1,
        few: 1_000,
        many: 21_000,
    },
    Blocks {
        what: "2 ms",
        micros: 2_000,
        few: 100,
        many: 1_100,
    },
];

/// What records the blocks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Recorder {
    Nothing,
    Forktrace(&'static str),
    Perf(&'static [&'static str]),
}

const RECORDERS: [(&str, Recorder); 7] = [
    ("bare", Recorder::Nothing),
    ("forktrace", Recorder::Forktrace("")),
    (
        "forktrace --stacks=dwarf",
        Recorder::Forktrace("--stacks=dwarf"),
    ),
    ("forktrace --stacks=fp", Recorder::Forktrace("--stacks=fp")),
    ("forktrace --stacks", Recorder::Forktrace("--stacks")),
    ("perf record -e sched:sched_switch", Recorder::Perf(&[])),
    (
        "the same with --call-graph dwarf",
        Recorder::Perf(&["--call-graph", "dwarf"]),
    ),
];

impl Recorder {
    fn command(self, bench: &Bench, folder: &Path, workload: Vec<OsString>) -> Vec<OsString> {
        let mut command: Vec<OsString> = match self {
            Self::Nothing => Vec::new(),
            Self::Forktrace(option) => {
                let mut command: Vec<OsString> = vec![bench.forktrace.clone().into()];
                command.extend(["run", "-q", "--as-root", "--polls", "off"].map(Into::into));
                if !option.is_empty() {
                    command.push(option.into());
                }
                command.push("--save".into());
                command.push(folder.join("trace.ft").into());
                command.push("--".into());
                command
            }
            Self::Perf(options) => {
                let mut command: Vec<OsString> =
                    ["perf", "record", "-q", "-e"].map(OsString::from).to_vec();
                command.extend(["sched:sched_switch", "-c", "1"].map(Into::into));
                command.extend(options.iter().map(Into::into));
                command.push("-o".into());
                command.push(folder.join("perf.data").into());
                command.push("--".into());
                command
            }
        };
        command.extend(workload);
        command
    }
}

/// Compiles the program that naps: with unwind tables and without frame pointers, as distributions
/// do. forktrace itself, which has the other workloads, has no such tables.
fn deep_naps(bench: &Bench) -> Result<PathBuf> {
    let (source, program) = (bench.path("deep_naps.c"), bench.path("deep-naps"));
    fs::write(&source, DEEP_NAPS)?;
    run_command(
        Command::new("cc")
            .args(["-O2", "-o"])
            .args([&program, &source]),
    )?;
    Ok(program)
}

/// CPU time of one block, in µs: of all that runs.
fn per_block(
    bench: &Bench,
    program: &Path,
    recorder: Recorder,
    depth: u32,
    blocks: &Blocks,
) -> Result<f64> {
    let cpu = |naps: u32| -> Result<Duration> {
        let folder = tempfile::tempdir_in(bench.folder.path())?;
        let mut workload: Vec<OsString> = vec![program.into()];
        let numbers = [u64::from(depth), naps.into(), blocks.micros];
        workload.extend(numbers.map(|number| number.to_string().into()));
        let before = cpu_of_children()?;
        let printed = capture(&recorder.command(bench, folder.path(), workload));
        settle()?;
        printed?;
        Ok(cpu_of_children()?.saturating_sub(before))
    };
    let (few, many) = (cpu(blocks.few)?, cpu(blocks.many)?);
    let more = f64::from(blocks.many - blocks.few);
    Ok((many.as_secs_f64() - few.as_secs_f64()) * 1e6 / more)
}

/// CPU time of all that has ended and was waited for.
fn cpu_of_children() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).context("getrusage")?;
    let us = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(Duration::from_micros(us.max(0) as u64))
}

pub(super) fn stacks(bench: &Bench) -> Result<Section> {
    let program = deep_naps(bench)?;
    let kinds = BLOCKS.iter().flat_map(|blocks| {
        let depths = DEPTHS.into_iter();
        depths.map(move |depth| (blocks, depth))
    });
    let kinds: Vec<(&Blocks, u32)> = kinds.collect();
    let mut figures: Vec<Vec<Result<Vec<f64>, String>>> =
        vec![vec![Ok(Vec::new()); kinds.len()]; RECORDERS.len()];
    for round in 1..=bench.size.stack_rounds {
        eprintln!("Stacks: round {round} of {}", bench.size.stack_rounds);
        for (column, (blocks, depth)) in kinds.iter().enumerate() {
            let mut bare = 0.0;
            for ((name, recorder), row) in RECORDERS.into_iter().zip(&mut figures) {
                let Ok(so_far) = &mut row[column] else {
                    continue;
                };
                match per_block(bench, &program, recorder, *depth, blocks) {
                    Ok(figure) if recorder == Recorder::Nothing => {
                        bare = figure;
                        so_far.push(figure);
                    }
                    Ok(figure) => so_far.push(figure - bare),
                    Err(error) => {
                        eprintln!("Stacks: {name}: {error:#}");
                        row[column] = Err(format!("failed: {error:#}"));
                    }
                }
            }
        }
    }
    let heading = kinds.iter().map(|(blocks, depth)| {
        let what = blocks.what;
        format!("{what}, {depth} deep")
    });
    let heading: Vec<String> = ["tool".to_owned()].into_iter().chain(heading).collect();
    let heading: Vec<&str> = heading.iter().map(String::as_str).collect();
    let mut table = Table::new(&heading);
    for ((name, _), row) in RECORDERS.into_iter().zip(figures) {
        let cells = row.into_iter().map(|cell| match cell {
            Ok(figures) => Spread::of(figures).map_or_else(String::new, |spread| spread.show(1)),
            Err(error) => error,
        });
        table.row([name.to_owned()].into_iter().chain(cells).collect());
    }
    let text = format!(
        "CPU time of a block, µs: of the workload and of what records it, a C program (`cc -O2`) \
         with more and with fewer naps, so that what begins and ends once is left out. First \
         row: by itself; the others: what comes on top in the same round. Short naps are over \
         before their stack is looked at, so `--stacks=dwarf` keeps their registers only; of each one of \
         2 ms it follows the stack and looks names up. perf copies 8 KiB of each stack, and follows none \
         before `perf report`. {} rounds: median (least to greatest).",
        bench.size.stack_rounds
    );
    Ok(Section {
        title: "Stacks",
        text,
        table: Some(table),
        goals: Vec::new(),
    })
}
