//! Checks a claim file as a whole and compiles its expressions.

mod picture;

use std::collections::{BTreeMap, BTreeSet};

use toml::Spanned;

use super::{
    figures,
    file::{
        Arm, Claim, ClaimError, Evidence, Need, Origin, Param, Placed, Raw, RawArm, RawRule,
        RawRuns, Rule, line_of,
    },
    machine,
    template::Template,
};
use crate::expression::{Expression, Invalid, Shape};

/// Placeholders that every command has.
pub(super) const STANDARD: [&str; 4] = ["forktrace", "python", "workloads", "here"];
/// Names that variables of predicates can't have.
const TAKEN: [&str; 6] = ["machine", "params", "points", "us", "ms", "s"];

const RUNS: RawRuns = RawRuns { quick: 3, full: 11 };
/// Time limit of a run, in seconds.
const LIMIT_S: f64 = 30.0;

impl Claim {
    /// Reads and checks a claim file.
    ///
    /// # Errors
    /// With the line, when it is no TOML, has an unknown or a missing field, or
    /// an expression that does not compile.
    pub fn parse(text: &str, origin: Origin) -> Result<Self> {
        let raw: Raw = toml::from_str(text).map_err(|error| ClaimError {
            file: origin.name.clone(),
            line: line_of(text, error.span().map_or(0, |span| span.start)),
            message: error.message().to_owned(),
        })?;
        compile(raw, text, origin)
    }
}

fn compile(raw: Raw, text: &str, origin: Origin) -> Result<Claim> {
    Compiler {
        text,
        file: origin.name.clone(),
    }
    .claim(raw, origin)
}

/// A claim file under way.
pub(super) struct Compiler<'a> {
    text: &'a str,
    file: String,
}

pub(super) type Result<T> = std::result::Result<T, ClaimError>;

impl Compiler<'_> {
    pub(super) fn error<T>(&self, at: &Spanned<T>, message: impl Into<String>) -> ClaimError {
        ClaimError {
            file: self.file.clone(),
            line: line_of(self.text, at.span().start),
            message: message.into(),
        }
    }

    /// An error within a text of several lines.
    fn invalid(&self, at: &Spanned<String>, what: &str, invalid: Invalid) -> ClaimError {
        let start = at.span().start;
        let written = self.text.get(start..).unwrap_or("");
        // TOML drops the line break after opening quotes.
        let dropped = ["\"\"\"\n", "'''\n"]
            .iter()
            .any(|open| written.starts_with(open));
        ClaimError {
            file: self.file.clone(),
            line: line_of(self.text, start) + usize::from(dropped) + invalid.line - 1,
            message: match invalid.column {
                Some(column) => format!("{what}, column {column}: {}", invalid.message),
                None => format!("{what}: {}", invalid.message),
            },
        }
    }

    pub(super) fn placed(&self, at: &Spanned<String>, what: &str, shape: &Shape) -> Result<Placed> {
        let expression = Expression::compile(at.get_ref(), shape)
            .map_err(|invalid| self.invalid(at, what, invalid))?;
        Ok(Placed {
            expression,
            line: line_of(self.text, at.span().start),
        })
    }

    fn predicate(&self, at: &Spanned<String>, what: &str, shape: &Shape) -> Result<Placed> {
        let placed = self.placed(at, what, shape)?;
        if !placed.expression.shape().can_be_true() {
            return Err(self.error(
                at,
                format!("{what}: {} is neither true nor false", at.get_ref()),
            ));
        }
        Ok(placed)
    }

    pub(super) fn template(
        &self,
        at: &Spanned<String>,
        what: &str,
        shape: &Shape,
    ) -> Result<Template> {
        Template::compile(at.get_ref(), shape).map_err(|invalid| self.invalid(at, what, invalid))
    }

    fn rule(&self, raw: &RawRule, what: &str, shape: &Shape) -> Result<Rule> {
        Ok(Rule {
            when: self.predicate(&raw.when, &format!("{what}.when"), shape)?,
            because: self.template(&raw.because, &format!("{what}.because"), shape)?,
        })
    }

    fn name<T>(&self, what: &str, name: &str, at: &Spanned<T>) -> Result<()> {
        let mut chars = name.chars();
        let plain = chars.next().is_some_and(|c| c.is_ascii_lowercase())
            && chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        if !plain {
            return Err(self.error(
                at,
                format!("the {what} {name:?} can't be a name in an expression; use a-z, 0-9 and _"),
            ));
        }
        if TAKEN.contains(&name) {
            return Err(self.error(at, format!("the {what} {name:?}: this name has a meaning")));
        }
        Ok(())
    }

    fn claim(&self, raw: Raw, origin: Origin) -> Result<Claim> {
        let id = raw.id.get_ref();
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if id.is_empty() || !id.chars().all(plain) {
            return Err(self.error(&raw.id, format!("the id {id:?}: use a-z, 0-9 and -")));
        }
        let machine = Shape::object([("machine".to_owned(), machine::shape())]);
        let mut needs = Vec::new();
        for need in &raw.needs {
            needs.push(Need {
                that: self.predicate(&need.that, "needs.that", &machine)?,
                otherwise: self.template(&need.otherwise, "needs.else", &machine)?,
            });
        }
        let mut arms = Vec::new();
        for (name, arm) in in_order(&raw.arms) {
            self.name("arm", name, arm)?;
            arms.push(self.arm(&raw, name, arm)?);
        }
        if arms.is_empty() {
            return Err(self.error(&raw.id, "there is no arm: nothing to run"));
        }

        let mut scope: BTreeMap<String, Shape> = arms
            .iter()
            .map(|arm| (arm.name.clone(), figures::arm_shape(arm)))
            .collect();
        scope.insert("machine".to_owned(), machine::shape());
        let mut compiled = Vec::new();
        for (name, figure) in in_order(&raw.figures) {
            self.name("figure", name, figure)?;
            let shape = Shape::object(scope.clone());
            let placed = self.placed(figure, &format!("figures.{name}"), &shape)?;
            let shape = figures::figure_shape(placed.expression.shape());
            if scope.insert(name.clone(), shape).is_some() {
                return Err(self.error(figure, format!("{name} is an arm's name too")));
            }
            compiled.push((name.clone(), placed));
        }
        let scope = Shape::object(scope);
        let picture = raw.picture.as_ref();
        let picture = picture
            .map(|picture| self.picture(picture, &arms, &scope))
            .transpose()?;
        Ok(Claim {
            picture,
            id: id.clone(),
            statement: one_line(&raw.statement),
            tolerates: self.tolerates(&raw)?,
            method: one_line(&raw.method),
            needs,
            arms,
            figures: compiled,
            control: self.rule(&raw.control, "control", &scope)?,
            supported: self.rule(&raw.supported, "supported", &scope)?,
            refuted: self.rule(&raw.refuted, "refuted", &scope)?,
            not_testable: raw
                .not_testable
                .as_ref()
                .map(|rule| self.rule(rule, "not_testable", &scope))
                .transpose()?,
            said_by: raw.said_by,
            denied_by: raw.denied_by,
            origin,
        })
    }

    fn tolerates(&self, raw: &Raw) -> Result<f64> {
        /// More would be no rounding error.
        const MOST: f64 = 0.05;
        let Some(at) = &raw.tolerates else {
            return Ok(0.0);
        };
        let share = *at.get_ref();
        if !(0.0..=MOST).contains(&share) {
            return Err(self.error(at, format!("tolerates = {share}: use 0 to {MOST}")));
        }
        Ok(share)
    }

    fn arm(&self, raw: &Raw, name: &str, arm: &Spanned<RawArm>) -> Result<Arm> {
        let given = arm.get_ref();
        let command = given.command.get_ref();
        if command.is_empty() {
            return Err(self.error(&given.command, format!("arms.{name}: the command is empty")));
        }
        let (params, fields) = self.params(raw, name, given)?;
        if given.optional && !command.iter().any(|w| names_in(w).any(|n| n == "python")) {
            return Err(self.error(
                arm,
                format!("arms.{name}: optional, but it needs nothing that could be missing"),
            ));
        }
        let shape = shape(given.evidence, fields.into_iter());
        let mut holds = Vec::new();
        for at in [&raw.holds, &given.holds].into_iter().flatten() {
            holds.push(self.predicate(at, "holds", &shape)?);
        }
        if holds.is_empty() {
            return Err(self.error(
                arm,
                format!(
                    "arms.{name}: no `holds`, here or at the top: say what every run must show so \
                     that a workload that did nothing is noticed"
                ),
            ));
        }
        let measures = self.measures(raw, name, given, &shape)?;
        let runs = given.runs.as_ref().or(raw.runs.as_ref());
        if let Some(at) = runs
            && (at.get_ref().quick == 0 || at.get_ref().full == 0)
        {
            return Err(self.error(at, "runs: at least one is needed"));
        }
        let runs = runs.map_or(RUNS, |runs| *runs.get_ref());
        let limit_s = given.limit_s.or(raw.limit_s).unwrap_or(LIMIT_S);
        if !(limit_s > 0.0 && limit_s <= 3600.0) {
            return Err(self.error(arm, format!("limit_s = {limit_s}: use 0 to 3600 seconds")));
        }
        Ok(Arm {
            name: name.to_owned(),
            command: command.clone(),
            line: line_of(self.text, given.command.span().start),
            params,
            runs: [runs.quick, runs.full],
            limit_s,
            holds,
            measures,
            evidence: given.evidence,
            as_root: given.as_root,
            may_fail: given.may_fail,
            optional: given.optional,
        })
    }

    /// The parameters that an arm's command names, in quick and in full mode, and their names.
    fn params(
        &self,
        raw: &Raw,
        name: &str,
        given: &RawArm,
    ) -> Result<([Vec<Param>; 2], BTreeSet<String>)> {
        let command = given.command.get_ref();
        let mut params = [Vec::new(), Vec::new()];
        let mut fields: BTreeSet<String> = BTreeSet::new();
        let mut placeholders: Vec<&str> = command.iter().flat_map(|word| names_in(word)).collect();
        placeholders.sort_unstable();
        placeholders.dedup();
        for placeholder in placeholders {
            if STANDARD.contains(&placeholder) {
                continue;
            }
            let found = given.params.get(placeholder);
            let Some(value) = found.or_else(|| raw.params.get(placeholder)) else {
                let mut there = STANDARD.to_vec();
                there.extend(
                    raw.params
                        .keys()
                        .chain(given.params.keys())
                        .map(String::as_str),
                );
                return Err(self.error(
                    &given.command,
                    format!(
                        "arms.{name}: nothing is called {{{placeholder}}}; there are {}",
                        there.join(", ")
                    ),
                ));
            };
            self.name("parameter", placeholder, value)?;
            for (mode, values) in params.iter_mut().zip(self.values(placeholder, value)?) {
                mode.push(Param {
                    name: placeholder.to_owned(),
                    values,
                });
            }
            fields.insert(placeholder.to_owned());
        }
        for (unused, value) in &given.params {
            if !fields.contains(unused) {
                return Err(self.error(
                    value,
                    format!("arms.{name}: the command does not use {{{unused}}}"),
                ));
            }
        }
        Ok((params, fields))
    }

    /// What an arm measures: what all do, and what it does itself.
    fn measures(
        &self,
        raw: &Raw,
        name: &str,
        given: &RawArm,
        shape: &Shape,
    ) -> Result<Vec<(String, Placed)>> {
        let mut measures: Vec<(String, Placed)> = Vec::new();
        for (measure, at) in in_order(&raw.measures)
            .into_iter()
            .chain(in_order(&given.measures))
        {
            self.name("measure", measure, at)?;
            if measures.iter().any(|(seen, _)| seen == measure) {
                return Err(self.error(at, format!("arms.{name}: {measure} is measured twice")));
            }
            let placed = self.placed(at, &format!("measures.{measure}"), shape)?;
            measures.push((measure.clone(), placed));
        }
        Ok(measures)
    }

    /// A parameter's values in quick and in full mode.
    fn values(&self, name: &str, at: &Spanned<toml::Value>) -> Result<[Vec<serde_json::Value>; 2]> {
        let wrong = || {
            self.error(
                at,
                format!(
                    "params.{name}: it takes a value, a list of values, or \
                     {{ quick = …, full = … }} of these"
                ),
            )
        };
        let list = |value: &toml::Value| -> Option<Vec<serde_json::Value>> {
            let values: Option<Vec<_>> = match value {
                toml::Value::Array(values) => values.iter().map(scalar).collect(),
                one => scalar(one).map(|value| vec![value]),
            };
            values.filter(|values| !values.is_empty())
        };
        match at.get_ref() {
            toml::Value::Table(modes) => match (modes.get("quick"), modes.get("full")) {
                (Some(quick), Some(full)) if modes.len() == 2 => Ok([
                    list(quick).ok_or_else(wrong)?,
                    list(full).ok_or_else(wrong)?,
                ]),
                _ => Err(wrong()),
            },
            value => {
                let values = list(value).ok_or_else(wrong)?;
                Ok([values.clone(), values])
            }
        }
    }
}

/// The variables of expressions over a run of an arm.
pub(super) fn run_shape(arm: &Arm) -> Shape {
    shape(arm.evidence, arm.params[0].iter().map(|p| p.name.clone()))
}

fn shape(evidence: Evidence, params: impl Iterator<Item = String>) -> Shape {
    let report = match evidence {
        Evidence::Trace => Shape::of_report(),
        Evidence::Marks => figures::marks_only(Shape::of_report()),
    };
    let params = Shape::object(params.map(|name| (name, Shape::Any)));
    report.with("params", params)
}

pub(super) fn scalar(value: &toml::Value) -> Option<serde_json::Value> {
    match value {
        toml::Value::String(s) => Some(s.as_str().into()),
        toml::Value::Integer(i) => Some((*i).into()),
        toml::Value::Float(x) => Some((*x).into()),
        toml::Value::Boolean(b) => Some((*b).into()),
        _ => None,
    }
}

/// A table's entries in the order of the file.
pub(super) fn in_order<T>(table: &BTreeMap<String, Spanned<T>>) -> Vec<(&String, &Spanned<T>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(_, value)| value.span().start);
    entries
}

/// The names in braces in a word of a command.
pub(super) fn names_in(word: &str) -> impl Iterator<Item = &str> {
    word.split('{')
        .skip(1)
        .filter_map(|part| part.split_once('}').map(|(name, _)| name))
        .filter(|name| {
            // Anything else in braces is the command's own.
            !name.is_empty()
                && name
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        })
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
