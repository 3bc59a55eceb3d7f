//! Makes the tables of a fleet out of a few real traces: each host and day has copies of some
//! of them, drawn by a seed, at drawn times of the day, until there are so many rows. Nothing but
//! host, time and id differs from the real ones, so it tells how engines take the number of rows,
//! and nothing about a fleet. `cargo xtask fleet` asks them.
//!
//! What was made is noted host by host: begun again after it was killed, it goes on.
//!
//!     cargo run --release -p forktrace-export --features parquet --example fleet -- \
//!         DIR HOSTS DAYS ROWS SEED TRACE…

use std::{
    env,
    error::Error,
    fs::{self, File},
    io::{self, BufWriter, Write as _},
    path::{Path, PathBuf},
    thread,
};

use forktrace_core::{
    analysis::{Options, analyse_with},
    model::Model,
    pipeline,
    random::SplitMix,
    report::Report,
    trace::Machine,
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
/// So many stalls are listed, as `forktrace export` does.
const STALLS: usize = 10_000;
/// Where it is noted what was made; no engine looks at it.
const NOTES: &str = ".made";

/// What a fleet is made of.
struct Fleet {
    folder: PathBuf,
    hosts: u64,
    days: u64,
    /// Of stretches, in all.
    rows: u64,
    seed: u64,
    real: Vec<(TraceInfo, Model, Report)>,
}

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [folder, hosts, days, rows, seed, traces @ ..] = &arguments[..] else {
        return Err("give DIR HOSTS DAYS ROWS SEED TRACE…".into());
    };
    if traces.is_empty() {
        return Err("give DIR HOSTS DAYS ROWS SEED and a TRACE or more".into());
    }
    let options = Options {
        episodes: STALLS,
        ..Options::default()
    };
    let mut real = Vec::new();
    for trace in traces {
        let (info, model) = pipeline::read(&fs::read(trace)?, None)?;
        let report = analyse_with(&info, &model, &options);
        real.push((info, model, report));
    }
    let fleet = Fleet {
        folder: folder.into(),
        hosts: hosts.parse()?,
        days: days.parse()?,
        rows: rows.parse()?,
        seed: seed.parse()?,
        real,
    };
    if fleet.rows == 0 {
        // Only who they are is asked.
        let mut real = 0;
        for (info, model, report) in &fleet.real {
            let source = Source {
                info,
                model,
                report,
            };
            let written = tables::write(&source, &mut |_| Ok(Box::new(io::sink())))?;
            real += written.get(&Table::Stretches).copied().unwrap_or_default();
        }
        writeln!(io::stdout(), "0 stretches, like {real} real ones")?;
        return Ok(());
    }
    fs::create_dir_all(fleet.folder.join(NOTES))?;
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
            let note = self.folder.join(NOTES).join(format!("{host}"));
            if let Ok(made) = fs::read_to_string(&note) {
                rows += made.trim().parse::<u64>().map_err(io::Error::other)?;
                continue;
            }
            let made = self.host(host)?;
            fs::write(note, made.to_string())?;
            rows += made;
        }
        Ok(rows)
    }

    /// The traces of a host, each day as many as give it its rows.
    fn host(&self, host: u64) -> io::Result<u64> {
        let mut random = SplitMix(self.seed.wrapping_mul(1 << 32).wrapping_add(host));
        let (mut rows, mut number) = (0, 0);
        for day in 0..self.days {
            let wanted = self.rows * (day + 1) / (self.hosts * self.days);
            while rows < wanted {
                rows += self.trace(&mut random, host, day, number)?;
                number += 1;
            }
        }
        Ok(rows)
    }

    fn trace(&self, random: &mut SplitMix, host: u64, day: u64, number: u64) -> io::Result<u64> {
        let (info, model, report) = &self.real[random.below(self.real.len() as u64) as usize];
        let room = DAY_NS.saturating_sub(report.workload.duration_ns).max(1);
        let mut info = info.clone();
        info.header.start_unix_ns = (FIRST_DAY + day) * DAY_NS + random.below(room);
        info.file_id = (host << 16 | number) as u32;
        info.header.machine = Some(Machine {
            host: format!("host-{host:05}"),
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
    let file = format!("{}-{}.parquet", &machine.id[..8], trace_id(source.info));
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
