//! Makes the roll-up of a host out of a few real traces that follow each other without a pause, for
//! so many days: which comes when is drawn by a seed. It tells how large a roll-up grows and what it
//! takes to make, and nothing about a host.
//!
//!     cargo run --release -p forktrace-export --example month -- FILE.ndjson.gz DAYS SEED TRACE…

use std::{
    env,
    error::Error,
    fs::{self, File},
    io::{self, BufWriter, Write as _},
};

use forktrace_core::{analysis::analyse, pipeline, random::SplitMix};
use forktrace_export::{Rollup, Source};

/// 1 January 2026.
const FIRST_DAY: u64 = 20_454;
const DAY_NS: u64 = 86_400_000_000_000;

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [file, days, seed, traces @ ..] = &arguments[..] else {
        return Err("give FILE DAYS SEED TRACE…".into());
    };
    if traces.is_empty() {
        return Err("give FILE DAYS SEED and a TRACE or more".into());
    }
    let (days, mut random) = (days.parse::<u64>()?, SplitMix(seed.parse()?));
    let mut real = Vec::new();
    for trace in traces {
        let (info, model) = pipeline::read(&fs::read(trace)?, None)?;
        let report = analyse(&info, &model);
        real.push((info, model, report));
    }
    let mut rollup = Rollup::default();
    let (mut at_ns, end_ns) = (FIRST_DAY * DAY_NS, (FIRST_DAY + days) * DAY_NS);
    let mut stretches = 0;
    while at_ns < end_ns {
        let (info, model, report) = &real[random.below(real.len() as u64) as usize];
        let mut info = info.clone();
        info.header.start_unix_ns = at_ns;
        let source = Source {
            info: &info,
            model,
            report,
        };
        rollup.add(&source, "host")?;
        let ends = model.tasks.iter().map(|task| task.end_ns);
        at_ns += ends.max().unwrap_or(0).max(1_000_000_000);
        let of_tasks = model.tasks.iter().map(|task| task.stretches.len() as u64);
        stretches += of_tasks.sum::<u64>();
    }
    rollup.write(&mut BufWriter::new(File::create(file)?))?;
    let bytes = fs::metadata(file)?.len();
    writeln!(
        io::stdout(),
        "{} rows of {} traces with {stretches} stretches in {bytes} bytes",
        rollup.rows(),
        rollup.traces()
    )?;
    Ok(())
}
