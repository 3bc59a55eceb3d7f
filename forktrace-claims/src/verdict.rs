//! Decides a claim.
//!
//! The order of the questions makes sure that nothing is decided on weak ground:
//! can it be tested here; did all runs do what they should; are all traces
//! complete; did the control hit its mark; and only then the predicates.

use std::fmt;

use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    figures::{Arms, arms_of, variables},
    file::{Claim, ClaimError, Evidence, Rule},
    machine::Machine,
    measured::{Measured, RunAudit},
    picture::Picture,
    run::{Progress, Runner},
    words::sentence,
};
use crate::expression::Figures;

/// What became of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The runs show what it says.
    Supported,
    /// The runs show the contrary.
    Refuted,
    /// Not on this machine.
    NotTestable,
    /// The runs don't decide, their traces are incomplete, or the control missed its mark.
    Inconclusive,
    /// It could not be run, or its figures not be computed: [`Settled::error`] says why. That
    /// is a mistake, and not a lack of evidence.
    Error,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Supported => "supported",
            Self::Refuted => "refuted",
            Self::NotTestable => "not testable here",
            Self::Inconclusive => "inconclusive",
            Self::Error => "error",
        })
    }
}

/// A claim with its verdict and what that rests on.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Settled {
    /// Its name; of a file that can't be used, the file's.
    pub id: String,
    /// What is claimed.
    pub statement: String,
    /// Who says so.
    pub said_by: Vec<String>,
    /// Who denies it.
    pub denied_by: Vec<String>,
    /// How the experiment decides.
    pub method: String,
    /// The verdict.
    pub verdict: Verdict,
    /// The sentence that says why.
    pub reason: String,
    /// What the control showed; `None`: nothing was run.
    pub control: Option<Control>,
    /// What the traces are worth; `None`: nothing was run.
    pub audit: Option<Audit>,
    /// The figures over all arms, by name: each a `value` and, if that is a number, the ends
    /// `low` and `high` of its interval.
    pub figures: Map<String, Value>,
    /// What each arm measured.
    pub arms: Vec<ArmSummary>,
    /// Arms that can't be run here, and without which it is decided.
    pub left_out: Vec<LeftOut>,
    /// The moment that decides it, or the figures that are compared; `None`: nothing was
    /// run, or the file asks for none.
    pub picture: Option<Picture>,
    /// Why it could not be run; `None`: it could.
    pub error: Option<Problem>,
}

/// The control's outcome.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Control {
    /// Whether it came out as it must.
    pub holds: bool,
    /// What it showed.
    pub text: String,
}

/// The audits of all runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Audit {
    /// Every trace that a figure comes from is complete, or as much of it is
    /// uncertain as the claim tolerates.
    pub complete: bool,
    /// Runs.
    pub runs: usize,
    /// Of these, runs with a complete trace.
    pub runs_complete: usize,
    /// Runs that don't count and were done again, since their traces were incomplete or
    /// lacked what is measured.
    pub runs_repeated: u64,
    /// Why.
    pub repeated_because: Vec<String>,
    /// Records lost.
    pub lost_records: u64,
    /// Context switches seen.
    pub switches_traced: u64,
    /// Context switches that the kernel counted.
    pub switches_kernel: u64,
    /// What makes them weaker.
    pub weaknesses: Vec<String>,
}

/// What an arm measured.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ArmSummary {
    /// Its name.
    pub name: String,
    /// Its command, with placeholders.
    pub command: Vec<String>,
    /// A row for each combination of parameters: these by name, and each measure with its
    /// `value` (the median of the runs), `low` and `high` (an interval for it), `min`, `max`,
    /// `values` and `n`. Null: its figures could not be computed.
    pub points: Value,
    /// The kept traces.
    pub traces: Vec<String>,
}

/// An arm that can't be run here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct LeftOut {
    /// Its name.
    pub arm: String,
    /// Why.
    pub because: String,
}

/// An error and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Problem {
    /// The claim file.
    pub file: String,
    /// The line in it.
    pub line: usize,
    /// What is wrong.
    pub message: String,
}

impl From<ClaimError> for Problem {
    fn from(error: ClaimError) -> Self {
        Self {
            file: error.file,
            line: error.line,
            message: error.message,
        }
    }
}

impl Settled {
    /// A claim whose file can't be used.
    pub fn unreadable(error: ClaimError) -> Self {
        Self {
            id: error.file.clone(),
            statement: String::new(),
            said_by: Vec::new(),
            denied_by: Vec::new(),
            method: String::new(),
            verdict: Verdict::Error,
            reason: format!("The claim file can't be used: {}", error.message),
            control: None,
            audit: None,
            figures: Map::new(),
            arms: Vec::new(),
            left_out: Vec::new(),
            picture: None,
            error: Some(error.into()),
        }
    }
}

/// Tests a claim.
pub fn settle(claim: &Claim, runner: &Runner, progress: impl FnMut(Progress<'_>)) -> Settled {
    if let Some(reason) = not_testable(claim, runner) {
        return reason.unwrap_or_else(|error| failed(claim, error));
    }
    match runner.run(claim, progress) {
        Ok(measured) => decide(claim, &measured, runner.machine()),
        Err(error) => failed(claim, error),
    }
}

/// A claim about which nothing is known yet.
fn blank(claim: &Claim, verdict: Verdict, reason: String) -> Settled {
    Settled {
        id: claim.id.clone(),
        statement: claim.statement.clone(),
        said_by: claim.said_by.clone(),
        denied_by: claim.denied_by.clone(),
        method: claim.method.clone(),
        verdict,
        reason,
        control: None,
        audit: None,
        figures: Map::new(),
        arms: Vec::new(),
        left_out: Vec::new(),
        picture: None,
        error: None,
    }
}

/// A claim that could not be run.
fn failed(claim: &Claim, error: ClaimError) -> Settled {
    let reason = format!("The experiment failed: {}", error.message);
    Settled {
        error: Some(error.into()),
        ..blank(claim, Verdict::Error, reason)
    }
}

fn not_testable(claim: &Claim, runner: &Runner) -> Option<Result<Settled, ClaimError>> {
    if let Some(missing) = runner.missing(claim) {
        return Some(Ok(blank(claim, Verdict::NotTestable, sentence(&missing))));
    }
    let mut variables = Map::new();
    let machine = serde_json::to_value(runner.machine()).unwrap_or(Value::Null);
    variables.insert("machine".to_owned(), machine);
    let figures = Figures::new(&variables);
    for need in &claim.needs {
        match need.that.expression.holds(&figures) {
            Ok(true) => {}
            Ok(false) => {
                let reason = sentence(&need.otherwise.fill(&figures));
                return Some(Ok(blank(claim, Verdict::NotTestable, reason)));
            }
            Err(failure) => {
                return Some(Err(need.that.error(&claim.origin, "needs.that", &failure)));
            }
        }
    }
    None
}

/// The verdict on runs that are over.
pub fn decide(claim: &Claim, measured: &[Measured], machine: &Machine) -> Settled {
    let arms = arms_of(claim, measured);
    let mut settled = blank(claim, Verdict::Inconclusive, String::new());
    settled.left_out = left_out(claim, machine);
    let audit = audit(claim, measured);
    let variables = match variables(claim, &arms, machine) {
        Ok(variables) => variables,
        Err(error) => {
            let mut failed = failed(claim, error);
            failed.arms = summaries(claim, measured, &arms, &Map::new());
            failed.audit = Some(audit);
            return failed;
        }
    };
    settled.arms = summaries(claim, measured, &arms, &variables);
    for (name, _) in &claim.figures {
        let value = variables.get(name).cloned().unwrap_or(Value::Null);
        settled.figures.insert(name.clone(), value);
    }
    let figures = Figures::new(&variables);
    settled.picture = claim.picture.as_ref().and_then(|plan| {
        let of_a_run = measured.iter().find_map(|run| run.picture.clone());
        of_a_run.or_else(|| plan.of_figures(&figures))
    });
    let outcome = outcome(claim, &figures, &audit, &mut settled.control);
    settled.audit = Some(audit);
    match outcome {
        Ok((verdict, reason)) => {
            settled.verdict = verdict;
            settled.reason = reason;
            for LeftOut { arm, because } in &settled.left_out {
                settled
                    .reason
                    .push_str(&format!(" The arm {arm} was left out: {because}."));
            }
        }
        Err(error) => {
            settled.verdict = Verdict::Error;
            settled.reason = format!("The experiment failed: {}", error.message);
            settled.error = Some(error.into());
        }
    }
    settled
}

/// The verdict and its reason.
fn outcome(
    claim: &Claim,
    figures: &Figures,
    audit: &Audit,
    control: &mut Option<Control>,
) -> Result<(Verdict, String), ClaimError> {
    let holds = |rule: &Rule, name: &str| {
        let holds = rule.when.expression.holds(figures);
        holds.map_err(|failure| rule.when.error(&claim.origin, name, &failure))
    };
    let control_holds = holds(&claim.control, "control.when")?;
    let said = sentence(&claim.control.because.fill(figures));
    *control = Some(Control {
        holds: control_holds,
        text: said.clone(),
    });
    if !audit.complete {
        let reason = format!(
            "The traces don't carry a verdict: {}",
            audit
                .weaknesses
                .first()
                .map_or("they are incomplete.", String::as_str)
        );
        return Ok((Verdict::Inconclusive, reason));
    }
    if let Some(rule) = &claim.not_testable
        && holds(rule, "not_testable.when")?
    {
        return Ok((Verdict::NotTestable, sentence(&rule.because.fill(figures))));
    }
    if !control_holds {
        let reason = format!(
            "The control did not come out as it must, so the experiment can't tell: {said}"
        );
        return Ok((Verdict::Inconclusive, reason));
    }
    let supported = holds(&claim.supported, "supported.when")?;
    let refuted = holds(&claim.refuted, "refuted.when")?;
    let because = |rule: &Rule| sentence(&rule.because.fill(figures));
    match (supported, refuted) {
        (true, false) => Ok((Verdict::Supported, because(&claim.supported))),
        (false, true) => Ok((Verdict::Refuted, because(&claim.refuted))),
        (true, true) => Err(ClaimError {
            file: claim.origin.name.clone(),
            line: claim.refuted.when.line,
            message: format!(
                "the claim is both supported and refuted: its predicates overlap ({})",
                claim.refuted.when.expression.used(figures).join(", ")
            ),
        }),
        (false, false) => {
            let mut used = claim.supported.when.expression.used(figures);
            for figure in claim.refuted.when.expression.used(figures) {
                if !used.contains(&figure) {
                    used.push(figure);
                }
            }
            Ok((
                Verdict::Inconclusive,
                format!(
                    "The figures lie between both verdicts: {}.",
                    used.join(", ")
                ),
            ))
        }
    }
}

/// The arms that it is decided without.
fn left_out(claim: &Claim, machine: &Machine) -> Vec<LeftOut> {
    let optional = claim.arms.iter().filter(|arm| arm.optional);
    optional
        .filter_map(|arm| {
            Some(LeftOut {
                arm: arm.name.clone(),
                because: arm.missing(machine)?.to_owned(),
            })
        })
        .collect()
}

fn audit(claim: &Claim, measured: &[Measured]) -> Audit {
    let mut sum = Audit {
        complete: true,
        runs: measured.len(),
        ..Audit::default()
    };
    for run in measured {
        let arm = &claim.arms[run.arm];
        let RunAudit {
            complete,
            carries,
            lost_records,
            switches_traced,
            switches_kernel,
            weaknesses,
            repeated,
        } = &run.audit;
        sum.runs_complete += usize::from(*complete);
        sum.runs_repeated += repeated.len() as u64;
        for why in repeated {
            let why = format!("arms.{}: {why}", arm.name);
            if !sum.repeated_because.contains(&why) {
                sum.repeated_because.push(why);
            }
        }
        sum.lost_records += lost_records;
        sum.switches_traced += switches_traced;
        sum.switches_kernel += switches_kernel;
        if arm.evidence == Evidence::Trace && !carries {
            sum.complete = false;
            for weakness in weaknesses {
                let weakness = format!("arms.{}: {weakness}", arm.name);
                if !sum.weaknesses.contains(&weakness) {
                    sum.weaknesses.push(weakness);
                }
            }
        }
    }
    sum
}

fn summaries(
    claim: &Claim,
    measured: &[Measured],
    arms: &Arms,
    variables: &Map<String, Value>,
) -> Vec<ArmSummary> {
    claim
        .arms
        .iter()
        .enumerate()
        .filter(|(index, _)| !arms[*index].is_empty())
        .map(|(index, arm)| ArmSummary {
            name: arm.name.clone(),
            command: arm.command.clone(),
            points: variables
                .get(&arm.name)
                .map_or(Value::Null, |value| value["points"].clone()),
            traces: measured
                .iter()
                .filter(|run| run.arm == index)
                .filter_map(|run| Some(run.trace.as_ref()?.display().to_string()))
                .collect(),
        })
        .collect()
}
