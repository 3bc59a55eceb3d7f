//! Claim files: what is in them, read and checked as a whole before anything
//! runs.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use serde::Deserialize;
use serde_json::Value;
use toml::Spanned;

use super::template::Template;
use crate::expression::{Expression, Failure};

/// A claim, ready to be run.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Its name.
    pub id: String,
    /// What is claimed, in a sentence.
    pub statement: String,
    /// Who says so.
    pub said_by: Vec<String>,
    /// Who denies it.
    pub denied_by: Vec<String>,
    /// How the experiment decides, in a paragraph.
    pub method: String,
    /// What must be so on this machine.
    pub needs: Vec<Need>,
    /// What is run.
    pub arms: Vec<Arm>,
    /// A trace may leave it open for so much of the run's time, as a share of it,
    /// whether a task was still blocked or already waited for a CPU.
    pub tolerates: f64,
    /// Figures over all arms, in the order of the file.
    pub figures: Vec<(String, Placed)>,
    /// The predicate that shows that the experiment can tell.
    pub control: Rule,
    /// When the claim is supported.
    pub supported: Rule,
    /// When the claim is refuted.
    pub refuted: Rule,
    /// When the runs show that this machine can't decide it.
    pub not_testable: Option<Rule>,
    /// What its picture shows.
    pub picture: Option<Plan>,
    /// Where it comes from.
    pub origin: Origin,
}

/// A claim file.
#[derive(Clone, Debug)]
pub struct Origin {
    /// Its path, or its name among the built-in ones.
    pub name: String,
    /// The folder that it is in; `None` for a built-in one.
    pub folder: Option<PathBuf>,
}

/// An expression and the line of the file where it is.
#[derive(Clone, Debug)]
pub struct Placed {
    /// The expression.
    pub expression: Expression,
    /// Line, from 1.
    pub line: usize,
}

impl Placed {
    /// Says what failed and where.
    pub fn error(&self, origin: &Origin, what: &str, failure: &Failure) -> ClaimError {
        ClaimError {
            file: origin.name.clone(),
            line: self.line,
            message: format!(
                "{what}: {} has no value: {failure}",
                self.expression.source()
            ),
        }
    }
}

/// A requirement.
#[derive(Clone, Debug)]
pub struct Need {
    /// What must be true.
    pub that: Placed,
    /// Otherwise: why the claim is not testable.
    pub otherwise: Template,
}

/// A predicate and the sentence that gives the reason.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The predicate.
    pub when: Placed,
    /// The sentence.
    pub because: Template,
}

/// What an arm's figures come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Evidence {
    /// The trace: it must be complete.
    #[default]
    Trace,
    /// Only what the workload says itself: a gap in the trace does no harm, and
    /// expressions see nothing else.
    Marks,
}

/// A command that is run several times.
#[derive(Clone, Debug)]
pub struct Arm {
    /// Its name: a variable in the predicates.
    pub name: String,
    /// Program and arguments, with placeholders.
    pub command: Vec<String>,
    /// Line of the command in the file.
    pub line: usize,
    /// Values of its placeholders, in each mode: the quick ones, the full ones.
    pub params: [Vec<Param>; 2],
    /// Repetitions in each mode.
    pub runs: [u32; 2],
    /// Longest time that a run may take, in seconds.
    pub limit_s: f64,
    /// What every run must show, or it was not the experiment.
    pub holds: Vec<Placed>,
    /// What is measured in each run.
    pub measures: Vec<(String, Placed)>,
    /// Where the figures come from.
    pub evidence: Evidence,
    /// Run as root even under sudo.
    pub as_root: bool,
    /// An exit status other than 0 is no failure.
    pub may_fail: bool,
    /// Where it can't be run, the claim is decided without it.
    pub optional: bool,
}

/// A placeholder's values; several make a run for each.
#[derive(Clone, Debug, PartialEq)]
pub struct Param {
    /// Name.
    pub name: String,
    /// Values.
    pub values: Vec<serde_json::Value>,
}

/// What a claim file says of its picture.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What is to be seen, in a sentence.
    pub shows: Template,
    /// What is drawn.
    pub of: Of,
}

/// What is drawn.
#[derive(Clone, Debug)]
pub enum Of {
    /// Time lines of tasks.
    Moment(Box<Moment>),
    /// Figures, each with a label.
    Bars(Vec<(String, Placed)>),
}

/// A moment of a run.
#[derive(Clone, Debug)]
pub struct Moment {
    /// Name of the arm.
    pub arm: String,
    /// Its parameters, those of them that have several values.
    pub params: BTreeMap<String, Value>,
    /// Something with a start and an end.
    pub moment: Placed,
    /// A list of tasks.
    pub tasks: Placed,
    /// How many times as long as the moment the picture is.
    pub context: f64,
}

/// Something in a claim file, or in what it led to, that can't be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimError {
    /// The file.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// What is wrong.
    pub message: String,
}

impl std::error::Error for ClaimError {}

impl fmt::Display for ClaimError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.message)
    }
}

/// The line that a byte of a text is in, from 1.
pub(super) fn line_of(text: &str, at: usize) -> usize {
    let before = text.as_bytes().iter().take(at);
    before.filter(|&&byte| byte == b'\n').count() + 1
}

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    pub(super) id: Spanned<String>,
    pub(super) statement: String,
    #[serde(default)]
    pub(super) said_by: Vec<String>,
    #[serde(default)]
    pub(super) denied_by: Vec<String>,
    pub(super) method: String,
    #[serde(default)]
    pub(super) runs: Option<Spanned<RawRuns>>,
    #[serde(default)]
    pub(super) limit_s: Option<f64>,
    #[serde(default)]
    pub(super) tolerates: Option<Spanned<f64>>,
    #[serde(default)]
    pub(super) holds: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) params: BTreeMap<String, Spanned<toml::Value>>,
    #[serde(default)]
    pub(super) needs: Vec<RawNeed>,
    pub(super) arms: BTreeMap<String, Spanned<RawArm>>,
    #[serde(default)]
    pub(super) measures: BTreeMap<String, Spanned<String>>,
    #[serde(default)]
    pub(super) figures: BTreeMap<String, Spanned<String>>,
    pub(super) control: RawRule,
    pub(super) supported: RawRule,
    pub(super) refuted: RawRule,
    #[serde(default)]
    pub(super) not_testable: Option<RawRule>,
    #[serde(default)]
    pub(super) picture: Option<RawPicture>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRuns {
    pub(super) quick: u32,
    pub(super) full: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawNeed {
    pub(super) that: Spanned<String>,
    #[serde(rename = "else")]
    pub(super) otherwise: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRule {
    pub(super) when: Spanned<String>,
    pub(super) because: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawArm {
    pub(super) command: Spanned<Vec<String>>,
    #[serde(default)]
    pub(super) params: BTreeMap<String, Spanned<toml::Value>>,
    #[serde(default)]
    pub(super) runs: Option<Spanned<RawRuns>>,
    #[serde(default)]
    pub(super) limit_s: Option<f64>,
    #[serde(default)]
    pub(super) holds: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) measures: BTreeMap<String, Spanned<String>>,
    #[serde(default)]
    pub(super) evidence: Evidence,
    #[serde(default)]
    pub(super) as_root: bool,
    #[serde(default)]
    pub(super) may_fail: bool,
    #[serde(default)]
    pub(super) optional: bool,
}

/// The picture as the file has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPicture {
    pub(super) shows: Spanned<String>,
    pub(super) arm: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) params: BTreeMap<String, Spanned<toml::Value>>,
    pub(super) moment: Option<Spanned<String>>,
    pub(super) tasks: Option<Spanned<String>>,
    pub(super) context: Option<Spanned<f64>>,
    #[serde(default)]
    pub(super) bars: BTreeMap<String, Spanned<String>>,
}
