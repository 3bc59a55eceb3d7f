//! `--assert`: conditions that a report must meet.

use anyhow::{Context as _, Result};

use super::output::to_stderr;
use forktrace_claims::expression::{Expression, Figures, Shape};
use forktrace_core::{
    render::{self, Assertion},
    report::Report,
};

/// An assertion is false.
pub(super) const FALSE: u8 = 3;

/// The conditions of one command line.
pub(super) struct Assertions(Vec<Expression>);

impl Assertions {
    /// Compiles them, so that a mistake is found before anything is run.
    pub(super) fn compile(sources: &[String]) -> Result<Self> {
        if sources.is_empty() {
            return Ok(Self(Vec::new()));
        }
        let report = Shape::of_report();
        let compile = |source: &String| {
            let compiled = Expression::compile(source, &report)
                .map_err(anyhow::Error::from)
                .and_then(|expression| {
                    anyhow::ensure!(
                        expression.shape().can_be_true(),
                        "it is neither true nor false; compare it with something"
                    );
                    Ok(expression)
                });
            compiled.with_context(|| format!("--assert '{source}'"))
        };
        Ok(Self(sources.iter().map(compile).collect::<Result<_>>()?))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all are true; says on standard error which are not, and when the
    /// report is too weak for them.
    ///
    /// # Errors
    /// When one has no value, for example because a figure was not measured.
    pub(super) fn hold(&self, report: &Report) -> Result<bool> {
        if self.0.is_empty() {
            return Ok(true);
        }
        let variables = match serde_json::to_value(report) {
            Ok(serde_json::Value::Object(fields)) => fields,
            _ => serde_json::Map::new(),
        };
        let figures = Figures::new(&variables);
        let mut checked = Vec::new();
        for expression in &self.0 {
            let holds = expression.holds(&figures);
            checked.push(Assertion {
                source: expression.source(),
                holds: holds.with_context(|| format!("--assert '{}'", expression.source()))?,
                used: expression.used(&figures),
            });
        }
        to_stderr(render::assertions(&checked, &report.audit).as_bytes())?;
        Ok(checked.iter().all(|assertion| assertion.holds))
    }
}
