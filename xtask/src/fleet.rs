//! `cargo xtask fleet`: makes the tables of many hosts and days out of a few recordings, asks all
//! questions of `docs/sql` in each engine, and says what that took, in docs/fleet.md too.
//!
//! What was made and measured stays in a folder, so that it goes on where it was stopped.

mod loads;
mod page;

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use nix::sys::{
    resource::{UsageWho, getrusage},
    statvfs::statvfs,
    time::TimeValLike as _,
};
use serde::{Deserialize, Serialize};

use crate::util::{around, cargo, output, root, run as run_command, target_dir};

const BEGIN: &str = "<!-- fleet:begin -->";
const END: &str = "<!-- fleet:end -->";
/// Hours of one host that are rolled up: a month is longer in the same way.
pub(super) const ROLLED_HOURS: u64 = 2;
/// For each row, with room to spare, bytes.
const ROW: u64 = 24;

/// Options of the command.
#[derive(Args)]
pub(crate) struct Options {
    /// How many hosts there are
    #[arg(long, default_value_t = 200)]
    hosts: u64,
    /// How many days each was recorded
    #[arg(long, default_value_t = 7)]
    days: u64,
    /// Stretches in all
    #[arg(long, default_value_t = 100_000_000)]
    rows: u64,
    /// What is drawn is drawn by this
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The recordings that it is made of, in place of those of three loads that run now, as root
    #[arg(long, value_name = "FILE")]
    trace: Vec<PathBuf>,
    /// Ask only these engines
    #[arg(long, value_name = "ENGINE")]
    engine: Vec<String>,
    /// Where to keep all of it [default: target/fleet]
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Write what was measured into docs/fleet.md
    #[arg(long)]
    write: bool,
}

/// An engine: its name in `docs/sql`, what people call it, and its package for Python.
pub(super) struct Engine {
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    package: &'static str,
}

const ENGINES: [Engine; 3] = [
    Engine {
        name: "duckdb",
        title: "DuckDB",
        package: "duckdb",
    },
    Engine {
        name: "spark",
        title: "Spark",
        package: "pyspark",
    },
    Engine {
        name: "clickhouse",
        title: "ClickHouse",
        package: "chdb",
    },
];

/// What a question took in an engine, as `ask.py --measure` prints it.
#[derive(Serialize, Deserialize)]
pub(super) struct Asked {
    pub(super) rows: u64,
    pub(super) seconds: f64,
    pub(super) read_bytes: u64,
    pub(super) memory_bytes: u64,
}

/// What is written for some stretches, and what that took.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(super) struct Made {
    pub(super) stretches: u64,
    pub(super) rows: u64,
    pub(super) bytes: u64,
    pub(super) seconds: f64,
    pub(super) cpu_seconds: f64,
}

/// All that was measured.
pub(super) struct Measured<'a> {
    pub(super) options: &'a Options,
    pub(super) stretches: u64,
    /// Files and bytes of each table.
    pub(super) tables: BTreeMap<String, (u64, u64)>,
    pub(super) export: Made,
    /// [`ROLLED_HOURS`] of one host, rolled up.
    pub(super) rolled: Made,
    pub(super) engines: Vec<&'static Engine>,
    pub(super) versions: BTreeMap<&'static str, String>,
    /// By question and engine.
    pub(super) asked: BTreeMap<(String, &'static str), Asked>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let folder = match &options.folder {
        Some(folder) => std::path::absolute(folder)?,
        None => target_dir()?.join("fleet"),
    };
    let wanted =
        |it: &&Engine| options.engine.is_empty() || options.engine.iter().any(|e| e == it.name);
    let engines: Vec<&Engine> = ENGINES.iter().filter(wanted).collect();
    ensure!(
        !engines.is_empty(),
        "engines are duckdb, spark and clickhouse"
    );
    let tools = tools()?;
    for engine in &engines {
        let package = tools.join(engine.package);
        ensure!(
            package.is_dir(),
            "{} is not there: `cargo xtask setup --engines` installs it",
            package.display()
        );
    }
    let built = build()?;
    fs::create_dir_all(&folder).with_context(|| format!("{} can't be made", folder.display()))?;
    let mut traces = options.trace.clone();
    if traces.is_empty() {
        traces = loads::record(&built.join("forktrace"), &folder)?;
    }
    let name = format!(
        "{}x{}-{}-{}",
        options.hosts, options.days, options.rows, options.seed
    );
    let folder = folder.join(name);
    fs::create_dir_all(&folder)?;
    has_room(&folder, options.rows)?;
    let made = |name: &str, make: &dyn Fn() -> Result<Made>| once(&folder.join(name), make);
    let export = made("export.json", &|| export(&built, &traces, &folder))?;
    let rolled = made("rolled.json", &|| {
        roll_up(&built, &traces, options, &folder)
    })?;
    let tables = folder.join("tables");
    let stretches = fleet(&built, &traces, options, &tables)?;
    let mut asked = BTreeMap::new();
    let mut versions = BTreeMap::new();
    for engine in &engines {
        versions.insert(engine.name, version(&tools, engine)?);
        for (question, file) in questions(engine)? {
            let note = folder.join(format!("{}.{question}.json", engine.name));
            let took = once(&note, &|| ask(&tools, engine, &tables, &file))?;
            println!(
                "{}, {question}: {:.2} s, {:.1} MB read",
                engine.title,
                took.seconds,
                took.read_bytes as f64 / 1e6
            );
            asked.insert((question, engine.name), took);
        }
    }
    let text = page::text(&Measured {
        options,
        stretches,
        tables: sizes(&tables)?,
        export,
        rolled,
        engines,
        versions,
        asked,
    });
    print!("{text}");
    if options.write {
        let page = root()?.join("docs/fleet.md");
        let old = fs::read_to_string(&page).with_context(|| format!("{}", page.display()))?;
        let (before, after) = around(&old, BEGIN, END)?;
        fs::write(&page, format!("{before}{BEGIN}\n{text}{END}{after}"))?;
        println!("{} is written: read the difference", page.display());
    }
    Ok(())
}

/// Where `cargo xtask setup --engines` puts them.
fn tools() -> Result<PathBuf> {
    Ok(match std::env::var_os("FORKTRACE_TOOLS") {
        Some(tools) => PathBuf::from(tools),
        None => root()?.join("target/tools"),
    }
    .join("engines"))
}

/// Builds what is needed; gives the folder that it is in.
fn build() -> Result<PathBuf> {
    run_command(cargo()?.args([
        "build",
        "--release",
        "--package=forktrace",
        "--package=forktrace-export",
        "--features=forktrace/parquet,forktrace-export/parquet",
        "--bin=forktrace",
        "--example=fleet",
        "--example=host_hours",
    ]))?;
    Ok(target_dir()?.join("release"))
}

fn has_room(folder: &Path, rows: u64) -> Result<()> {
    let disk = statvfs(folder).with_context(|| format!("{}", folder.display()))?;
    let free = disk.blocks_available() * disk.fragment_size();
    let needed = rows * ROW;
    ensure!(
        free >= needed || folder.join("tables").exists(),
        "{} has {} MB free, and {} MB are needed: give --folder, or fewer --rows",
        folder.display(),
        free / 1_000_000,
        needed / 1_000_000
    );
    Ok(())
}

/// What was measured before, or is now.
fn once<T: Serialize + for<'a> Deserialize<'a>>(
    file: &Path,
    make: &dyn Fn() -> Result<T>,
) -> Result<T> {
    if let Ok(text) = fs::read_to_string(file) {
        return serde_json::from_str(&text)
            .with_context(|| format!("{} is not what was measured: remove it", file.display()));
    }
    let made = make()?;
    fs::write(file, serde_json::to_string(&made)?)?;
    Ok(made)
}

/// Runs a command; gives what it printed, how long it took, and its time on CPUs.
fn timed(command: &mut Command) -> Result<(String, f64, f64)> {
    let cpu = || -> Result<Duration> {
        let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
        let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
        Ok(Duration::from_micros(micros.unsigned_abs()))
    };
    let (before, began) = (cpu()?, Instant::now());
    let printed = output(command)?;
    let seconds = began.elapsed().as_secs_f64();
    Ok((printed, seconds, (cpu()? - before).as_secs_f64()))
}

/// The numbers in a line, in their order.
fn numbers(line: &str) -> Vec<u64> {
    let words = line.split(|c: char| !c.is_ascii_digit());
    words.filter_map(|word| word.parse().ok()).collect()
}

/// Exports the recordings as `forktrace export` does, and takes the time.
fn export(built: &Path, traces: &[PathBuf], folder: &Path) -> Result<Made> {
    let to = folder.join("export");
    let mut command = Command::new(built.join("forktrace"));
    command.arg("export").args(traces).arg("--to").arg(&to);
    let (_, seconds, cpu_seconds) = timed(&mut command)?;
    let sizes = sizes(&to)?;
    // A fleet of one host and no rows prints how many the recordings have.
    let arguments = ["1", "0", "0", "1"].map(OsString::from);
    let mut counts = Command::new(built.join("examples/fleet"));
    counts.arg(folder.join("none")).args(arguments).args(traces);
    let line = output(&mut counts)?;
    let [_, stretches] = numbers(&line)[..] else {
        anyhow::bail!("`fleet` printed {line:?}");
    };
    Ok(Made {
        stretches,
        rows: stretches,
        bytes: sizes.values().map(|(_, bytes)| bytes).sum(),
        seconds,
        cpu_seconds,
    })
}

/// Rolls up some hours of one host, in every minute of which all that was recorded happens once.
fn roll_up(built: &Path, traces: &[PathBuf], options: &Options, folder: &Path) -> Result<Made> {
    let mut command = Command::new(built.join("examples/host_hours"));
    command.arg(folder.join("rolled.ndjson.gz"));
    command.args([ROLLED_HOURS, options.seed].map(|it| it.to_string()));
    command.args(traces);
    let (line, seconds, cpu_seconds) = timed(&mut command)?;
    let [rows, _, stretches, bytes] = numbers(&line)[..] else {
        anyhow::bail!("`host_hours` printed {line:?}");
    };
    Ok(Made {
        stretches,
        rows,
        bytes,
        seconds,
        cpu_seconds,
    })
}

/// Makes the tables; gives how many stretches they have.
fn fleet(built: &Path, traces: &[PathBuf], options: &Options, tables: &Path) -> Result<u64> {
    let numbers_of = [options.hosts, options.days, options.rows, options.seed];
    let mut command = Command::new(built.join("examples/fleet"));
    command
        .arg(tables)
        .args(numbers_of.map(|it| it.to_string()));
    let line = output(command.args(traces))?;
    let [stretches] = numbers(&line)[..] else {
        anyhow::bail!("`fleet` printed {line:?}");
    };
    Ok(stretches)
}

/// Files and bytes of each table.
fn sizes(tables: &Path) -> Result<BTreeMap<String, (u64, u64)>> {
    let mut sizes = BTreeMap::new();
    let names = |folder: &Path| -> Result<Vec<PathBuf>> {
        let entries = fs::read_dir(folder).with_context(|| format!("{}", folder.display()))?;
        entries.map(|it| Ok(it?.path())).collect()
    };
    for table in names(tables)? {
        let name = table.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with('.') {
            continue;
        }
        let size: &mut (u64, u64) = sizes.entry(name.into_owned()).or_default();
        for day in names(&table)? {
            for host in names(&day)? {
                for file in names(&host)? {
                    size.0 += 1;
                    size.1 += fs::metadata(file)?.len();
                }
            }
        }
    }
    Ok(sizes)
}

/// The questions, by name, each with the file that this engine takes.
fn questions(engine: &Engine) -> Result<BTreeMap<String, PathBuf>> {
    let mut questions = BTreeMap::new();
    for file in fs::read_dir(root()?.join("docs/sql"))? {
        let path = file?.path();
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        match stem.split_once('.') {
            Some(("setup", _)) => {}
            Some((name, of)) if of == engine.name => {
                questions.insert(name.to_owned(), path.clone());
            }
            Some(_) => {}
            None => {
                questions.entry(stem.into_owned()).or_insert(path.clone());
            }
        }
    }
    Ok(questions)
}

/// Asks in a process of its own, so that nothing is remembered of the question before.
fn ask(tools: &Path, engine: &Engine, tables: &Path, question: &Path) -> Result<Asked> {
    let root = root()?;
    let mut ask = Command::new("python3");
    ask.arg(root.join("forktrace/tests/engines/ask.py"));
    ask.args(["--measure", engine.name]).arg(tables);
    ask.arg(root.join(format!("docs/sql/setup.{}.sql", engine.name)));
    let line = output(ask.arg(question).env("PYTHONPATH", tools))?;
    serde_json::from_str(line.trim()).with_context(|| format!("it printed {line:?}"))
}

fn version(tools: &Path, engine: &Engine) -> Result<String> {
    let program = format!(
        "from importlib.metadata import version; print(version('{}'))",
        engine.package
    );
    let mut python = Command::new("python3");
    let version = output(python.args(["-c", &program]).env("PYTHONPATH", tools))?;
    Ok(version.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_engine_has_a_file_for_each_question() {
        let of = |engine: &Engine| questions(engine).expect("docs/sql");
        let names = |engine| of(engine).into_keys().collect::<Vec<_>>();
        let all = names(&ENGINES[0]);
        assert!(
            all.len() >= 9 && !all.iter().any(|it| it == "setup"),
            "{all:?}"
        );
        for engine in &ENGINES {
            assert_eq!(names(engine), all);
        }
        let own = of(&ENGINES[2]).remove("runnable_p99_by_host");
        assert!(own.is_some_and(|it| it.ends_with("runnable_p99_by_host.clickhouse.sql")));
    }

    #[test]
    fn numbers_of_a_line_are_read() {
        assert_eq!(numbers("12 stretches, of 3 traces\n"), [12, 3]);
    }
}
