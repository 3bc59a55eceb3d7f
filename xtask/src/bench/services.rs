//! What it costs services that they are traced: requests a second of five servers by
//! themselves, below `forktrace run`, and with `forktrace attach` on them once they serve.

mod load;
mod servers;

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use self::servers::{SERVERS, Server};
use super::{
    Bench,
    compare::TOO_NOISY,
    page::{Goal, Section, Spread, Table},
    process::{Background, settle},
};
use crate::util::find_program;

/// Who is there twice, so long after each other, stays: a server has children that only answered
/// whether it serves.
const STAYS: Duration = Duration::from_millis(200);
/// How long a server may take to serve and to end, and forktrace to write its report.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a server is run. In the order of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Bare,
    Run,
    Attach,
    /// Bare once more: how far two equal runs are apart.
    Again,
}

impl Way {
    const ALL: [Way; 4] = [Way::Bare, Way::Run, Way::Attach, Way::Again];
}

/// Requests a second of a server, one figure a round for each way.
type Rates = [Vec<f64>; 4];

/// Measures all servers that are here.
pub(super) fn services(bench: &Bench) -> Result<Section> {
    let mut table = Table::new(&[
        "service",
        "requests/s",
        "`forktrace run`, × bare",
        "`forktrace attach`, × bare",
        "bare again, × bare",
    ]);
    let mut goals = Vec::new();
    for server in &SERVERS {
        let lacks = server.programs.iter().find(|it| find_program(it).is_none());
        let rates = match lacks {
            Some(program) => Err(anyhow::anyhow!("no {program} here")),
            None => measure(bench, server),
        };
        match rates {
            Ok(rates) => {
                let bare = Spread::of(rates[0].iter().copied()).context("no rounds")?;
                let mut row = vec![server.name.to_owned(), bare.show(0)];
                row.extend((1..4).filter_map(|way| Some(ratio(&rates, way)?.show(3))));
                table.row(row);
                goals.push(goal(server.name, &rates));
            }
            Err(error) => {
                eprintln!("{}: {error:#}", server.name);
                table.row(vec![
                    server.name.to_owned(),
                    format!("not measured: {error:#}"),
                ]);
            }
        }
    }
    Ok(Section {
        title: "Services",
        text: format!(
            "Requests a second of servers on one CPU, asked over 8 connections from another one for {} s, after \
             a time of warming up. `forktrace attach` begins when the server serves. {} rounds, in each of which every way has \
             its turn: median (least to greatest); compared with the bare run of the same round.",
            bench.size.service_seconds, bench.size.service_rounds
        ),
        table: Some(table),
        goals,
    })
}

fn ratio(rates: &Rates, way: usize) -> Option<Spread> {
    let pairs = rates[way].iter().zip(&rates[0]);
    Spread::of(pairs.map(|(rate, bare)| rate / bare))
}

/// A service that is attached to loses no more than one that was started below forktrace.
fn goal(name: &str, rates: &Rates) -> Goal {
    let pairs = rates[2].iter().zip(&rates[1]);
    let against = Spread::of(pairs.map(|(attach, run)| attach / run));
    let noise = ratio(rates, 3).map(|it| (it.min - 1.0).abs().max((it.max - 1.0).abs()));
    let (measured, met) = match (against, noise) {
        (Some(it), Some(noise)) => (
            it.show(3),
            match it.median >= 1.0 - noise {
                true if noise > TOO_NOISY => None,
                met => Some(met),
            },
        ),
        _ => ("no figure".to_owned(), None),
    };
    Goal {
        what: format!("{name}: rate when attached to, × that below `run`"),
        measured,
        goal: noise.map_or_else(String::new, |noise| {
            format!("≥ 1, or within bare against bare: ±{:.1} %", 100.0 * noise)
        }),
        met,
    }
}

fn measure(bench: &Bench, server: &Server) -> Result<Rates> {
    let folder = bench.path(server.name);
    fs::create_dir(&folder).with_context(|| format!("could not make {}", folder.display()))?;
    (server.prepare)(&folder)?;
    let mut rates = Rates::default();
    // The first round shows whether it works, and warms up.
    for round in 0..=bench.size.service_rounds {
        eprintln!(
            "{}: round {round} of {}",
            server.name, bench.size.service_rounds
        );
        for (way, rates) in Way::ALL.into_iter().zip(&mut rates) {
            let rate = one(bench, server, &folder, way);
            let settled = settle();
            let rate = rate.with_context(|| format!("{way:?}"))?;
            settled?;
            if round > 0 {
                rates.push(rate);
            }
        }
    }
    Ok(rates)
}

/// A server from start to end.
fn one(bench: &Bench, server: &Server, folder: &Path, way: Way) -> Result<f64> {
    let [server_cpu, client_cpu, ..] = bench.cpus[..] else {
        bail!("it takes two CPUs");
    };
    let own = tempfile::tempdir_in(bench.folder.path())?;
    let (pid_file, report) = (own.path().join("pid"), own.path().join("report.json"));
    let port = load::free_port()?;
    let mut argv = match way {
        Way::Run => forktrace(bench, &["run", "--as-root"], &report),
        _ => Vec::new(),
    };
    if way == Way::Run {
        argv.push("--".into());
    }
    argv.extend(["sh", "-c", "echo $$ >\"$0\"; exec \"$@\""].map(OsString::from));
    argv.push(pid_file.clone().into());
    argv.extend(["taskset", "-c", &server_cpu.to_string()].map(OsString::from));
    argv.extend((server.argv)(folder, port)?);
    let mut process = Background::start(&argv, own.path())?;
    process.until(PATIENCE, |_| (server.serves)(port))?;
    let pid = pid_of(&pid_file)?;
    let ends = Ends(pid);
    let tracer = match way {
        Way::Attach => Some(attach(bench, pid, own.path(), &report)?),
        _ => None,
    };
    let rate = (server.load)(port, client_cpu, bench.size.service_seconds);
    drop(ends);
    ensure!(
        process.wait(PATIENCE)?.is_some(),
        "it did not end within {} s of SIGTERM",
        PATIENCE.as_secs()
    );
    if let Some(tracer) = tracer {
        tracer.end(PATIENCE)?;
    }
    if matches!(way, Way::Run | Way::Attach) {
        was_traced(&report)?;
    }
    rate
}

fn forktrace(bench: &Bench, command: &[&str], report: &Path) -> Vec<OsString> {
    let mut argv: Vec<OsString> = vec![bench.forktrace.clone().into()];
    argv.extend(command.iter().map(OsString::from));
    argv.extend(["-o".into(), report.into()]);
    argv
}

/// Attaches to a process and all that it has started.
fn attach(bench: &Bench, pid: Pid, folder: &Path, report: &Path) -> Result<Background> {
    let mut argv = forktrace(bench, &["attach"], report);
    let before = family(pid);
    thread::sleep(STAYS);
    for pid in family(pid).into_iter().filter(|pid| before.contains(pid)) {
        argv.extend(["-p".into(), pid.to_string().into()]);
    }
    let own = folder.join("attach");
    fs::create_dir(&own)?;
    let mut tracer = Background::start(&argv, &own)?;
    let said = own.join("stderr");
    tracer.until(PATIENCE, |_| {
        fs::read_to_string(&said).is_ok_and(|said| said.contains("attached to"))
    })?;
    Ok(tracer)
}

/// The process and its children, theirs, and so on.
fn family(pid: Pid) -> Vec<i32> {
    let mut all = vec![pid.as_raw()];
    let mut at = 0;
    while let Some(pid) = all.get(at) {
        let tasks = fs::read_dir(format!("/proc/{pid}/task"));
        for task in tasks.into_iter().flatten().flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            all.extend(children.split_whitespace().flat_map(str::parse::<i32>));
        }
        at += 1;
    }
    all
}

fn pid_of(file: &PathBuf) -> Result<Pid> {
    let text =
        fs::read_to_string(file).with_context(|| format!("could not read {}", file.display()))?;
    let pid = text.trim().parse();
    Ok(Pid::from_raw(pid.with_context(|| {
        format!("{} has {text:?}", file.display())
    })?))
}

/// Ends the server when dropped.
struct Ends(Pid);

impl Drop for Ends {
    fn drop(&mut self) {
        // It may have failed, which its load has told.
        let _ = kill(self.0, Signal::SIGTERM);
    }
}

/// A rate counts only if what served was really recorded.
fn was_traced(report: &Path) -> Result<()> {
    let text = fs::read(report).context("forktrace wrote no report")?;
    let report: Value = serde_json::from_slice(&text).context("the report is not JSON")?;
    let number = |pointer: &str| {
        let value = report.pointer(pointer).and_then(Value::as_f64);
        value.with_context(|| format!("the report has no number at {pointer}"))
    };
    let (traced, kernel) = (
        number("/audit/switches_traced")?,
        number("/audit/switches_kernel")?,
    );
    ensure!(traced > 0.0, "forktrace saw no switch");
    ensure!(
        traced == kernel,
        "forktrace saw {traced} of {kernel} switches"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attach_may_not_lose_more_than_run() {
        let met = |run: f64, attach: f64, again: f64| {
            goal("x", &[vec![100.0], vec![run], vec![attach], vec![again]]).met
        };
        assert_eq!(met(95.0, 96.0, 101.0), Some(true));
        assert_eq!(met(95.0, 94.5, 101.0), Some(true));
        assert_eq!(met(95.0, 90.0, 101.0), Some(false));
        assert_eq!(met(95.0, 94.0, 130.0), None);
    }
}
