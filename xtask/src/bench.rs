//! `cargo xtask bench`: what tracing costs, beside other tracers and beside
//! the project's goals.
//!
//! Every figure of docs/performance.md comes from one run of this command
//! (`--markdown`), so that they belong together. A goal that is missed is a
//! result, not a failure.

mod compare;
mod noop;
mod own;
mod page;
mod process;
mod scale;
mod services;
mod stacks;
mod tools;
mod workloads;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use clap::{Args, ValueEnum};
use nix::mount::umount;
use tempfile::TempDir;

use self::page::Section;
use crate::util::{around, cargo, is_root, run as run_command, target_dir};

pub(crate) use own::run_measured;

/// Between what the result stands in a document.
type Marks = [&'static str; 2];
const ALL: Marks = ["<!-- bench:begin -->", "<!-- bench:end -->"];
const SERVICES: Marks = ["<!-- services:begin -->", "<!-- services:end -->"];

/// Options of the command.
#[derive(Args)]
pub(crate) struct Options {
    /// Measure this in place of what tracing costs
    #[arg(value_enum)]
    what: Option<What>,
    /// `scale`: also 100 million stretches
    #[arg(long, requires = "what")]
    large: bool,
    /// Fewer and shorter rounds, for trying out
    #[arg(long)]
    quick: bool,
    /// Measure only this; can be given several times
    #[arg(long, value_name = "NAME")]
    only: Vec<Part>,
    /// Write the result into FILE: between its lines `<!-- bench:begin -->`
    /// and `<!-- bench:end -->` (`services`: `<!-- services:begin -->` and so on),
    /// or all of it if there is no such file
    #[arg(long, value_name = "FILE", conflicts_with = "only")]
    markdown: Option<PathBuf>,
}

/// What else can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// How a report's time and memory grow with its trace
    Scale,
    /// What it costs servers that they are traced: requests a second
    Services,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// A byte to and fro on one CPU, with each tool
    PingPong,
    /// perf's messaging benchmark, with each tool
    Messaging,
    /// A redis-server, with each tool
    Redis,
    /// What stacks cost a block, by how deep they are
    Stacks,
    /// Loss at the full rate, and the size and the reading of the trace
    Trace,
    /// `forktrace run -- true`
    Start,
}

/// How much is done.
struct Size {
    /// Rounds that count; one more comes before them.
    rounds: u32,
    ping_pong_rounds: u64,
    messaging_loops: u64,
    redis_requests: u64,
    stack_rounds: u32,
    service_rounds: u32,
    /// How long a server is asked in a round.
    service_seconds: u32,
    trace_seconds: u32,
    /// How often the trace is read back.
    reads: u32,
}

const FULL: Size = Size {
    rounds: 15,
    ping_pong_rounds: 300_000,
    messaging_loops: 1000,
    redis_requests: 100_000,
    stack_rounds: 5,
    service_rounds: 9,
    service_seconds: 4,
    trace_seconds: 10,
    reads: 5,
};

const QUICK: Size = Size {
    rounds: 3,
    ping_pong_rounds: 50_000,
    messaging_loops: 500,
    redis_requests: 30_000,
    stack_rounds: 3,
    service_rounds: 3,
    service_seconds: 2,
    trace_seconds: 3,
    reads: 2,
};

/// What all parts use.
struct Bench {
    size: Size,
    forktrace: PathBuf,
    /// The CPUs that we may use.
    cpus: Vec<usize>,
    /// For the files of the tools; gone when we are.
    folder: TempDir,
}

impl Bench {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// Measures and prints, and writes the file that was asked for. Gives whether
/// every part could be measured.
pub(crate) fn run(options: &Options) -> Result<bool> {
    if options.what == Some(What::Scale) {
        return scale::run(options.large, options.markdown.as_deref());
    }
    ensure!(
        is_root(),
        "`cargo xtask bench` traces: run it as root, or with `sudo -E env PATH=$PATH`"
    );
    let marks = match options.what {
        Some(What::Services) => SERVICES,
        _ => ALL,
    };
    let document = options
        .markdown
        .as_deref()
        .map(|path| Document::open(path, marks))
        .transpose()?;
    // Building forktrace is a load of its own.
    let load = load_average();
    run_command(cargo()?.args(["build", "--release", "--locked", "-p", "forktrace"]))?;
    let bench = Bench {
        size: if options.quick { QUICK } else { FULL },
        forktrace: target_dir()?.join("release/forktrace"),
        cpus: allowed_cpus()?,
        folder: tempfile::tempdir().context("could not make a temporary folder")?,
    };
    process::adopt_orphans()?;
    let tracefs = Tracefs::look();
    let mut sections = Vec::new();
    let mut passed = true;
    let mut add = |title, measured: Result<Section>| {
        sections.push(measured.unwrap_or_else(|error| {
            eprintln!("{title}: {error:#}");
            passed = false;
            Section {
                title,
                text: format!("Not measured: {error:#}"),
                table: None,
                goals: Vec::new(),
            }
        }));
    };
    if options.what == Some(What::Services) {
        add("Services", services::services(&bench));
    } else {
        for part in Part::value_variants() {
            if options.only.is_empty() || options.only.contains(part) {
                add(part.title(), part.measure(&bench));
            }
        }
    }
    drop(tracefs);

    let mut text = machine(&bench, &load, options);
    for section in &sections {
        text += "\n";
        text += &section.markdown();
    }
    print!("{text}");
    if let Some(document) = document {
        document.write(&text)?;
    }
    Ok(passed)
}

impl Part {
    fn title(self) -> &'static str {
        match self {
            Part::PingPong => "Ping-pong",
            Part::Messaging => "Messaging",
            Part::Redis => "Redis",
            Part::Stacks => "Stacks",
            Part::Trace => "Trace",
            Part::Start => "Start",
        }
    }

    fn measure(self, bench: &Bench) -> Result<Section> {
        match self {
            Part::PingPong => compare::ping_pong(bench),
            Part::Messaging => compare::messaging(bench),
            Part::Redis => compare::redis(bench),
            Part::Stacks => stacks::stacks(bench),
            Part::Trace => own::trace(bench),
            Part::Start => own::start(bench),
        }
    }
}

/// Where and when it was measured.
fn machine(bench: &Bench, load: &str, options: &Options) -> String {
    let what = match options.what {
        Some(What::Services) => " services",
        _ => "",
    };
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown processor", |(_, model)| model);
    let virtual_machine = cpuinfo
        .lines()
        .any(|line| line.starts_with("flags") && line.split(' ').any(|flag| flag == "hypervisor"));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "Measured with `cargo xtask bench{what}{}` on {model}{}, {} CPUs, Linux {}. \
         Load average at the start {load}, at the end {}.\n",
        if options.quick { " --quick" } else { "" },
        if virtual_machine {
            " (a virtual machine)"
        } else {
            ""
        },
        bench.cpus.len(),
        kernel.trim(),
        load_average(),
    )
}

/// That of the last minute.
fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or("unknown").to_owned()
}

fn allowed_cpus() -> Result<Vec<usize>> {
    const FILE: &str = "/proc/self/status";
    let status = fs::read_to_string(FILE).with_context(|| format!("could not read {FILE}"))?;
    let list = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))
        .with_context(|| format!("{FILE} has no Cpus_allowed_list"))?;
    cpus_of(list.trim()).with_context(|| format!("{FILE} lists the CPUs as {list:?}"))
}

/// Reads a list such as `0-3,8`.
fn cpus_of(list: &str) -> Result<Vec<usize>> {
    let mut cpus = Vec::new();
    for range in list.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        cpus.extend(first.parse::<usize>()?..=last.parse()?);
    }
    Ok(cpus)
}

/// perf mounts tracefs when nobody has, and leaves it mounted. Dropping this
/// takes it away again.
struct Tracefs {
    mounts_before: Vec<PathBuf>,
}

impl Tracefs {
    fn look() -> Self {
        Self {
            mounts_before: Self::mounts(),
        }
    }

    fn mounts() -> Vec<PathBuf> {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        mounts
            .lines()
            .filter_map(|line| {
                let mut fields = line.split(' ').skip(1);
                let place = fields.next()?;
                (fields.next()? == "tracefs").then(|| PathBuf::from(place))
            })
            .collect()
    }
}

impl Drop for Tracefs {
    fn drop(&mut self) {
        for place in Self::mounts() {
            if self.mounts_before.contains(&place) {
                continue;
            }
            if let Err(error) = umount(&place) {
                eprintln!("tracefs stays mounted at {}: {error}", place.display());
            }
        }
    }
}

/// The file that the result goes into.
struct Document {
    path: PathBuf,
    marks: Marks,
    before: String,
    after: String,
}

impl Document {
    /// Reads what is around the result. Done before anything is measured, so
    /// that a file which has no place for it is known at once.
    fn open(path: &Path, marks: Marks) -> Result<Self> {
        let path = std::path::absolute(path)?;
        let (before, after) = if path.exists() {
            let text = fs::read_to_string(&path)
                .with_context(|| format!("could not read {}", path.display()))?;
            around(&text, marks[0], marks[1])
                .with_context(|| format!("{} has no place for the result", path.display()))?
        } else {
            ("# Performance\n\n".to_owned(), "\n".to_owned())
        };
        Ok(Self {
            path,
            marks,
            before,
            after,
        })
    }

    fn write(&self, text: &str) -> Result<()> {
        let Self { before, after, .. } = self;
        let [begin, end] = self.marks;
        fs::write(&self.path, format!("{before}{begin}\n{text}{end}{after}"))
            .with_context(|| format!("could not write {}", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_cpus() {
        assert_eq!(cpus_of("0-2,5,7-8").unwrap(), [0, 1, 2, 5, 7, 8]);
        assert!(cpus_of("").is_err());
    }

    #[test]
    fn the_result_replaces_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("performance.md");
        for text in ["first\n", "second\n"] {
            Document::open(&path, ALL).unwrap().write(text).unwrap();
        }
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(
            text,
            "# Performance\n\n<!-- bench:begin -->\nsecond\n<!-- bench:end -->\n"
        );
        fs::write(&path, "nothing here\n").unwrap();
        assert!(Document::open(&path, ALL).is_err());
    }
}
