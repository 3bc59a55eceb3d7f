//! Makes the roll-up of a host out of a few real traces, each of which comes once in every minute
//! of some hours, at a moment that is drawn by a seed. It tells how large a roll-up grows and
//! what it takes to make, and nothing about a host.
//!
//!     cargo run --release -p forktrace-export --example host_hours -- FILE.ndjson.gz HOURS SEED TRACE…

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
const MINUTES_A_DAY: u64 = 24 * 60;
const MINUTE_NS: u64 = 60_000_000_000;

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [file, hours, seed, traces @ ..] = &arguments[..] else {
        return Err("give FILE HOURS SEED TRACE…".into());
    };
    if traces.is_empty() {
        return Err("give FILE HOURS SEED and a TRACE or more".into());
    }
    let (hours, mut random) = (hours.parse::<u64>()?, SplitMix(seed.parse()?));
    let mut real = Vec::new();
    for trace in traces {
        let (info, model) = pipeline::read(&fs::read(trace)?, None)?;
        let report = analyse(&info, &model);
        real.push((info, model, report));
    }
    let mut rollup = Rollup::default();
    let mut stretches = 0;
    let first = FIRST_DAY * MINUTES_A_DAY;
    for minute in first..first + hours * 60 {
        for (info, model, report) in &real {
            let mut info = info.clone();
            info.header.start_unix_ns = minute * MINUTE_NS + random.below(MINUTE_NS);
            let source = Source {
                info: &info,
                model,
                report,
            };
            rollup.add(&source, "host")?;
            let of_tasks = model.tasks.iter().map(|task| task.stretches.len() as u64);
            stretches += of_tasks.sum::<u64>();
        }
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
