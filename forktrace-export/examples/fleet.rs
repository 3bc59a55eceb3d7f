//! Makes the tables of a fleet out of a few real traces: each host and day has copies of some
//! of them, drawn by a seed, at drawn times of the day. Nothing but host, time and id differs
//! from the real ones, so it tells how engines take the number of rows, and nothing about a
//! fleet.
//!
//!     cargo run --release -p forktrace-export --features parquet --example fleet -- \
//!         DIR HOSTS DAYS TRACES_A_DAY SEED TRACE…

use std::{
    env,
    error::Error,
    fs::{self, File},
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use forktrace_core::{
    analysis::analyse, model::Model, pipeline, random::SplitMix, report::Report, trace::Machine,
    trace_file::TraceInfo,
};
use forktrace_export::{
    Source,
    tables::{self, Table},
    trace_id,
};

/// 1 January 2026.
const FIRST_DAY: u64 = 20_454;
const DAY_NS: u64 = 86_400_000_000_000;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [folder, hosts, days, each, seed, traces @ ..] = &arguments[..] else {
        return Err("give DIR HOSTS DAYS TRACES_A_DAY SEED TRACE…".into());
    };
    let (hosts, days, each): (u64, u64, u64) = (hosts.parse()?, days.parse()?, each.parse()?);
    let mut random = SplitMix(seed.parse()?);
    let mut real: Vec<(TraceInfo, Model, Report)> = Vec::new();
    for trace in traces {
        let (info, model) = pipeline::read(&fs::read(trace)?, None)?;
        let report = analyse(&info, &model);
        real.push((info, model, report));
    }
    let mut rows = 0;
    for host in 0..hosts {
        for day in 0..days {
            for number in 0..each {
                let (info, model, report) = &mut real[random.below(traces.len() as u64) as usize];
                let room = DAY_NS.saturating_sub(report.workload.duration_ns).max(1);
                let at_ns = random.below(room);
                info.header.start_unix_ns = (FIRST_DAY + day) * DAY_NS + at_ns;
                info.file_id = (host << 16 | day << 8 | number) as u32;
                info.header.machine = Some(Machine {
                    host: format!("host-{host:03}"),
                    id: format!("{host:032x}"),
                    boot_id: String::new(),
                });
                let source = Source {
                    info,
                    model,
                    report,
                };
                rows += write(Path::new(folder), &source)?;
            }
        }
    }
    writeln!(std::io::stdout(), "{rows} stretches")?;
    Ok(())
}

fn write(folder: &Path, source: &Source<'_>) -> std::io::Result<u64> {
    let machine = source.info.header.machine.clone().unwrap_or_default();
    let file = format!("{}-{}.parquet", &machine.id[24..], trace_id(source));
    let written = tables::write(source, &mut |part| {
        let place: PathBuf = [
            part.table.name().to_owned(),
            format!("day={}", part.day),
            format!("host={}", machine.host),
        ]
        .iter()
        .collect();
        let place = folder.join(place);
        fs::create_dir_all(&place)?;
        Ok(Box::new(BufWriter::new(File::create(place.join(&file))?)))
    })?;
    Ok(written.get(&Table::Stretches).copied().unwrap_or_default())
}
