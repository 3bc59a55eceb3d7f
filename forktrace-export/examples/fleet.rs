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
    io::{self, BufWriter, Write as _},
    path::{Path, PathBuf},
    thread,
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

/// What a fleet is made of.
struct Fleet {
    folder: PathBuf,
    hosts: u64,
    days: u64,
    traces_a_day: u64,
    seed: u64,
    real: Vec<(TraceInfo, Model, Report)>,
}

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [folder, hosts, days, each, seed, traces @ ..] = &arguments[..] else {
        return Err("give DIR HOSTS DAYS TRACES_A_DAY SEED TRACE…".into());
    };
    let mut real = Vec::new();
    for trace in traces {
        let (info, model) = pipeline::read(&fs::read(trace)?, None)?;
        let report = analyse(&info, &model);
        real.push((info, model, report));
    }
    let fleet = Fleet {
        folder: folder.into(),
        hosts: hosts.parse()?,
        days: days.parse()?,
        traces_a_day: each.parse()?,
        seed: seed.parse()?,
        real,
    };
    let threads = thread::available_parallelism().map_or(1, usize::from) as u64;
    let rows = thread::scope(|scope| {
        let work = |first: u64| fleet.hosts_from(first, threads);
        let spawn = |first| scope.spawn(move || work(first));
        let running: Vec<_> = (0..threads).map(spawn).collect();
        let rows = running.into_iter().map(|it| it.join().unwrap_or(Ok(0)));
        rows.sum::<io::Result<u64>>()
    })?;
    writeln!(io::stdout(), "{rows} stretches")?;
    Ok(())
}

impl Fleet {
    /// Each so manieth host from this one on. What a host has depends on its number and the seed.
    fn hosts_from(&self, first: u64, step: u64) -> io::Result<u64> {
        let mut rows = 0;
        for host in (first..self.hosts).step_by(step as usize) {
            let mut random = SplitMix(self.seed.wrapping_mul(1 << 32).wrapping_add(host));
            for day in 0..self.days {
                for number in 0..self.traces_a_day {
                    rows += self.trace(&mut random, host, day, number)?;
                }
            }
        }
        Ok(rows)
    }

    fn trace(&self, random: &mut SplitMix, host: u64, day: u64, number: u64) -> io::Result<u64> {
        let (info, model, report) = &self.real[random.below(self.real.len() as u64) as usize];
        let room = DAY_NS.saturating_sub(report.workload.duration_ns).max(1);
        let mut info = info.clone();
        info.header.start_unix_ns = (FIRST_DAY + day) * DAY_NS + random.below(room);
        info.file_id = (host << 16 | day << 8 | number) as u32;
        info.header.machine = Some(Machine {
            host: format!("host-{host:03}"),
            // What a file is called begins with it.
            id: format!("{host:08x}{:024x}", 0),
            boot_id: String::new(),
        });
        let source = Source {
            info: &info,
            model,
            report,
        };
        write(&self.folder, &source)
    }
}

fn write(folder: &Path, source: &Source<'_>) -> io::Result<u64> {
    let machine = source.info.header.machine.clone().unwrap_or_default();
    let file = format!("{}-{}.parquet", &machine.id[..8], trace_id(source));
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
