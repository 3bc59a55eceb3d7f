//! Runs the arms of a claim.
//!
//! Each run is a `forktrace run` of its own, in a process of its own: a workload
//! that crashes or hangs can harm no other run. The report is made here, from
//! the trace that it saved, as `forktrace report` would make it.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::Read as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};
use serde::Serialize;
use serde_json::{Map, Value};
use tempfile::TempDir;

use super::{
    builtin,
    compile::names_in,
    figures::MARKS_ONLY,
    file::{Arm, Claim, ClaimError, Evidence},
    kill,
    machine::Machine,
    measured::{Measured, RunAudit},
};
use crate::expression::Figures;
use forktrace_core::{
    analysis::analyse,
    model::Model,
    pipeline,
    report::{Report, Weakness, WeaknessKind},
};

/// How thorough.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Few and short runs.
    Quick,
    /// More and longer ones.
    Full,
}

/// A run whose trace is incomplete, or that has no value to measure, is repeated so often
/// in each [`Mode`]: the machine can be at fault, and what was measured does not matter for
/// it. One such run is enough to decide nothing, and of many long ones more are spoilt.
const REPEATS: [usize; 2] = [3, 10];

/// Is a trace complete, or uncertain in nothing but when some tasks were woken, and
/// that for no more than this share of the run's time?
fn carries(report: &Report, tolerates: f64) -> bool {
    let audit = &report.audit;
    let unwoken = |weakness: &Weakness| weakness.kind == WeaknessKind::WakeupMissing;
    let serious = audit
        .weaknesses
        .iter()
        .filter(|weakness| !weakness.is_note());
    let bound_ns = tolerates * report.workload.duration_ns as f64;
    audit.complete || serious.clone().all(unwoken) && audit.unwoken_ns as f64 <= bound_ns
}

/// How far it is.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// The arm that runs.
    pub arm: &'a str,
    /// Runs of this claim that are over.
    pub done: usize,
    /// Runs of this claim.
    pub all: usize,
}

/// One run to be.
struct Job {
    arm: usize,
    params: Map<String, Value>,
    repetition: u32,
}

/// Runs claims.
pub struct Runner {
    mode: Mode,
    machine: Machine,
    program: PathBuf,
    save: Option<PathBuf>,
    traces: PathBuf,
    folder: TempDir,
}

impl Runner {
    /// Prepares: looks at the machine, lays out the workloads. Traces are written by
    /// `owner` (user and group id), if not by us.
    ///
    /// # Errors
    /// When a folder can't be made.
    pub fn new(mode: Mode, save: Option<PathBuf>, owner: Option<(u32, u32)>) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("forktrace-claims-")
            .tempdir()
            .context("no temporary folder; set TMPDIR")?;
        // Workloads run as the user who called sudo.
        open_to_all(folder.path())?;
        let workloads = folder.path().join("workloads");
        fs::create_dir(&workloads).context("no folder for the workloads")?;
        open_to_all(&workloads)?;
        for (name, text) in builtin::WORKLOADS {
            fs::write(workloads.join(name), text)
                .with_context(|| format!("the workload {name} can't be written"))?;
        }
        if let Some(save) = &save {
            fs::create_dir_all(save)
                .with_context(|| format!("{} can't be made", save.display()))?;
        }
        let traces = folder.path().join("traces");
        fs::create_dir(&traces).context("no folder for the traces")?;
        if let Some((uid, gid)) = owner {
            std::os::unix::fs::chown(&traces, Some(uid), Some(gid))
                .context("the folder for the traces can't be given away")?;
        }
        kill::adopt_orphans().context("orphans can't be adopted")?;
        Ok(Self {
            mode,
            machine: Machine::this(),
            program: std::env::current_exe().context("our own program can't be found")?,
            traces: save.clone().unwrap_or(traces),
            save,
            folder,
        })
    }

    /// The machine that it runs on.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// How thorough it is.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// How many runs a claim takes.
    pub fn count(&self, claim: &Claim) -> usize {
        self.jobs(claim).len()
    }

    /// Whether a claim's commands need something that is not there.
    pub fn missing(&self, claim: &Claim) -> Option<String> {
        let mut needed = claim.arms.iter().filter(|arm| !arm.optional);
        needed
            .find_map(|arm| arm.missing(&self.machine))
            .map(str::to_owned)
    }

    /// All runs in their order: each repetition goes through all arms, so that
    /// whatever else the machine does meets all of them alike.
    fn jobs(&self, claim: &Claim) -> Vec<Job> {
        let mode = self.mode as usize;
        let most = claim
            .arms
            .iter()
            .map(|arm| arm.runs[mode])
            .max()
            .unwrap_or(0);
        let mut jobs = Vec::new();
        for repetition in 0..most {
            for (index, arm) in claim.arms.iter().enumerate() {
                let left_out = arm.optional && arm.missing(&self.machine).is_some();
                if left_out || repetition >= arm.runs[mode] {
                    continue;
                }
                for params in combinations(arm, mode) {
                    jobs.push(Job {
                        arm: index,
                        params,
                        repetition,
                    });
                }
            }
        }
        jobs
    }

    /// Runs all arms of a claim.
    ///
    /// # Errors
    /// With the line of the file, when a workload can't be run, fails, hangs, or
    /// does not show what it has to.
    pub fn run(
        &self,
        claim: &Claim,
        mut progress: impl FnMut(Progress<'_>),
    ) -> Result<Vec<Measured>, ClaimError> {
        let jobs = self.jobs(claim);
        let all = jobs.len();
        let mut measured = Vec::with_capacity(all);
        for (done, job) in jobs.into_iter().enumerate() {
            let arm = &claim.arms[job.arm];
            progress(Progress {
                arm: &arm.name,
                done,
                all,
            });
            measured.push(self.measure(claim, &job)?);
        }
        Ok(measured)
    }

    /// One run, repeated while its trace is incomplete.
    fn measure(&self, claim: &Claim, job: &Job) -> Result<Measured, ClaimError> {
        let arm = &claim.arms[job.arm];
        let repeats = REPEATS[self.mode as usize];
        let mut repeated = Vec::new();
        loop {
            let trace = self.trace_path(claim, arm, job);
            let traced = self
                .trace(claim, arm, job, &trace)
                .map_err(|error| ClaimError {
                    file: claim.origin.name.clone(),
                    line: arm.line,
                    message: format!("arms.{}, run {}: {error:#}", arm.name, job.repetition + 1),
                });
            let kept = self.save.is_some();
            if !kept {
                // It is in our temporary folder, and that goes at the end.
                let _ = fs::remove_file(&trace);
            }
            let (report, model) = traced?;
            let audit = &report.audit;
            let weaknesses = &audit.weaknesses;
            let carries = carries(&report, claim.tolerates);
            let spoilt = arm.evidence == Evidence::Trace && !carries;
            if spoilt && repeated.len() < repeats {
                let why = weaknesses
                    .first()
                    .map_or("its trace was incomplete", |weakness| &weakness.text);
                repeated.push(why.to_owned());
                continue;
            }
            let variables = variables(arm, job, &report);
            let measures = evaluate(claim, arm, job, &variables)?;
            // Such as a share of a time that the run did not come to have.
            let without = measures.iter().find(|(_, value)| value.is_null());
            if let Some((name, _)) = without
                && repeated.len() < repeats
            {
                repeated.push(format!("it had no value for {name}"));
                continue;
            }
            let plan = claim.picture.as_ref().filter(|_| job.repetition == 0);
            let picture = plan
                .filter(|plan| plan.is_of(arm, &job.params))
                .and_then(|plan| plan.of_run(self.run_name(arm, job), &variables, &model));
            return Ok(Measured {
                arm: job.arm,
                params: job.params.clone(),
                measures,
                audit: RunAudit {
                    complete: audit.complete,
                    carries,
                    lost_records: audit.lost_records,
                    switches_traced: audit.switches_traced,
                    switches_kernel: audit.switches_kernel,
                    weaknesses: weaknesses.iter().map(|w| w.text.clone()).collect(),
                    repeated,
                },
                trace: kept.then_some(trace),
                picture,
            });
        }
    }

    fn trace_path(&self, claim: &Claim, arm: &Arm, job: &Job) -> PathBuf {
        let mut name = format!("{}.{}", claim.id, arm.name);
        for (param, value) in self.varied(arm, job) {
            let plain: String = word(value)
                .chars()
                .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
                .collect();
            name.push_str(&format!(".{param}={plain}"));
        }
        self.traces
            .join(format!("{name}.{}.ft", job.repetition + 1))
    }

    /// A run, for people.
    fn run_name(&self, arm: &Arm, job: &Job) -> String {
        let mut name = format!("run {} of the arm {}", job.repetition + 1, arm.name);
        for (param, value) in self.varied(arm, job) {
            name.push_str(&format!(", {param} {}", word(value)));
        }
        name
    }

    /// A run's parameters that tell it from others: one with a single value needs no
    /// mention.
    fn varied<'a>(&self, arm: &Arm, job: &'a Job) -> Vec<(&'a String, &'a Value)> {
        let axes = &arm.params[self.mode as usize];
        let several = |name: &String| axes.iter().any(|a| a.name == *name && a.values.len() > 1);
        job.params
            .iter()
            .filter(|(name, _)| several(name))
            .collect()
    }

    /// Traces one run and reports on it.
    fn trace(&self, claim: &Claim, arm: &Arm, job: &Job, trace: &Path) -> Result<(Report, Model)> {
        let argv = self.argv(claim, arm, job);
        let words = self.folder.path().join("stderr");
        let stderr = File::create(&words).context("no file for the workload's words")?;
        let mut command = Command::new(&self.program);
        command.args(["run", "-q", "--save"]).arg(trace);
        if arm.as_root {
            command.arg("--as-root");
        }
        if !arm.names("polls") {
            // Counting the calls costs each of them, and a moment at the end.
            command.args(["--polls", "off"]);
        }
        command
            .arg("--")
            .args(&argv)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr);
        let mut child = command.spawn().context("forktrace can't run itself")?;
        let limit = Duration::from_secs_f64(arm.limit_s);
        let status = wait(&mut child, limit);
        // Nothing of a run may disturb the next one.
        kill::kill_descendants(std::process::id() as i32, None);
        kill::reap_adopted(None);
        let said = || last_words(&words);
        let status = status?.with_context(|| {
            format!(
                "it did not end within {} s and was killed; `limit_s` gives it more{}",
                arm.limit_s,
                said()
            )
        })?;
        let data = fs::read(trace).unwrap_or_default();
        let traced = (!data.is_empty()).then(|| pipeline::read(&data, None));
        let traced = traced.and_then(Result::ok);
        match traced.map(|(info, model)| (analyse(&info, &model), model)) {
            Some((report, model)) if ended(&report) => {
                let failed = report.workload.exit_code != Some(0);
                if failed && !arm.may_fail {
                    return Err(anyhow!("the workload failed: {}{}", how(&report), said()));
                }
                Ok((report, model))
            }
            _ => Err(anyhow!("{}{}", not_run(status), said())),
        }
    }

    fn argv(&self, claim: &Claim, arm: &Arm, job: &Job) -> Vec<OsString> {
        let python = self
            .machine
            .python
            .as_ref()
            .map(|python| python.path.clone());
        let value = |name: &str| -> Option<String> {
            let path = match name {
                "forktrace" => self.program.clone(),
                "python" => python.clone().unwrap_or_default(),
                "workloads" => self.folder.path().join("workloads"),
                "here" => claim.origin.folder.clone().unwrap_or_default(),
                _ => return job.params.get(name).map(word),
            };
            Some(path.to_string_lossy().into_owned())
        };
        arm.command
            .iter()
            .map(|part| {
                let mut filled = part.clone();
                for name in names_in(part) {
                    if let Some(value) = value(name) {
                        filled = filled.replace(&format!("{{{name}}}"), &value);
                    }
                }
                filled.into()
            })
            .collect()
    }
}

impl Arm {
    /// What its command needs and the machine does not have.
    pub(super) fn missing(&self, machine: &Machine) -> Option<&'static str> {
        let mut names = self.command.iter().flat_map(|word| names_in(word));
        (machine.python.is_none() && names.any(|name| name == "python"))
            .then_some("there is no python3 in PATH")
    }

    /// Whether one of its expressions names this part of the report.
    fn names(&self, variable: &str) -> bool {
        let measures = self.measures.iter().map(|(_, placed)| placed);
        self.holds
            .iter()
            .chain(measures)
            .any(|placed| placed.expression.names(variable))
    }
}

/// Every combination of an arm's parameters.
fn combinations(arm: &Arm, mode: usize) -> Vec<Map<String, Value>> {
    let mut combinations = vec![Map::new()];
    for param in &arm.params[mode] {
        combinations = combinations
            .iter()
            .flat_map(|before| {
                param.values.iter().map(|value| {
                    let mut with = before.clone();
                    with.insert(param.name.clone(), value.clone());
                    with
                })
            })
            .collect();
    }
    combinations
}

fn word(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The variables of expressions over a run.
fn variables(arm: &Arm, job: &Job, report: &Report) -> Map<String, Value> {
    let mut variables = match serde_json::to_value(report) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    };
    if arm.evidence == Evidence::Marks {
        variables.retain(|name, _| MARKS_ONLY.contains(&name.as_str()));
    }
    variables.insert("params".to_owned(), Value::Object(job.params.clone()));
    variables
}

/// What a run shows and measures.
fn evaluate(
    claim: &Claim,
    arm: &Arm,
    job: &Job,
    variables: &Map<String, Value>,
) -> Result<Map<String, Value>, ClaimError> {
    let figures = Figures::new(variables);
    let which = format!("arms.{}, run {}", arm.name, job.repetition + 1);
    for placed in &arm.holds {
        let holds = placed
            .expression
            .holds(&figures)
            .map_err(|failure| placed.error(&claim.origin, &which, &failure))?;
        if !holds {
            return Err(ClaimError {
                file: claim.origin.name.clone(),
                line: placed.line,
                message: format!(
                    "{which}: the workload did not do what it should: `{}` is false ({})",
                    placed.expression.source().trim(),
                    placed.expression.used(&figures).join(", ")
                ),
            });
        }
    }
    let mut measures = Map::new();
    for (name, placed) in &arm.measures {
        let value = placed.expression.evaluate(&figures).map_err(|failure| {
            placed.error(&claim.origin, &format!("{which}: {name}"), &failure)
        })?;
        measures.insert(name.clone(), value);
    }
    Ok(measures)
}

/// Waits for a child at most so long; `None`: it took longer, and it and all
/// that it started are dead.
fn wait(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    const LOOK_AGAIN: Duration = Duration::from_millis(3);
    let begun = Instant::now();
    while begun.elapsed() < limit {
        if let Some(status) = child.try_wait().context("forktrace can't be waited for")? {
            return Ok(Some(status));
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    // The workload first: forktrace then ends by itself and leaves nothing
    // attached.
    let pid = child.id() as i32;
    kill::kill_descendants(std::process::id() as i32, Some(pid));
    let killed = Instant::now();
    while killed.elapsed() < Duration::from_secs(5) {
        if child
            .try_wait()
            .context("forktrace can't be waited for")?
            .is_some()
        {
            return Ok(None);
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    let _ = child.kill();
    child.wait().context("forktrace can't be waited for")?;
    Ok(None)
}

/// Whether a workload was run to its end.
fn ended(report: &Report) -> bool {
    report.workload.exit_code.is_some() || report.workload.signal.is_some()
}

fn how(report: &Report) -> String {
    match (report.workload.exit_code, report.workload.signal) {
        (Some(code), _) => format!("it ended with the exit status {code}"),
        (None, Some(signal)) => match nix::sys::signal::Signal::try_from(signal) {
            Ok(signal) => format!("{signal} ended it"),
            Err(_) => format!("signal {signal} ended it"),
        },
        (None, None) => "its end was not seen".to_owned(),
    }
}

fn not_run(status: ExitStatus) -> String {
    match status.code() {
        Some(126 | 127) => "the workload could not be run".to_owned(),
        _ => format!("forktrace run failed ({status})"),
    }
}

/// The end of what a workload said on standard error.
fn last_words(file: &Path) -> String {
    const MOST: usize = 400;
    let mut bytes = Vec::new();
    if let Ok(mut file) = File::open(file) {
        let _ = file.read_to_end(&mut bytes);
    }
    let text = String::from_utf8_lossy(&bytes);
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.is_empty() {
        return String::new();
    }
    let skip = text.chars().count().saturating_sub(MOST);
    let end: String = text.chars().skip(skip).collect();
    format!("; it said: {}{end}", if skip > 0 { "…" } else { "" })
}

fn open_to_all(folder: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("{} can't be opened to others", folder.display()))
}
