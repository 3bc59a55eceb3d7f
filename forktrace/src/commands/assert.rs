//! `--assert`: conditions that a report or a comparison must meet.

use std::path::Path;

use anyhow::{Context as _, Result};

use super::{junit::Junit, output::to_stderr};
use crate::cli::AssertArgs;
use forktrace_claims::expression::{Expression, Figures, Shape};
use forktrace_core::{
    diff::Diff,
    render::{self, Assertion},
    report::Report,
};
use forktrace_process::launch::Accounts;
use serde_json::{Map, Value};

/// An assertion is false.
pub(super) const FALSE: u8 = 3;

/// The conditions of one command line.
pub(super) struct Assertions<'a> {
    all: Vec<Expression>,
    /// The file for CI.
    path: Option<&'a Path>,
    junit: Option<Junit>,
}

impl<'a> Assertions<'a> {
    /// Compiles those over a report, so that a mistake is found before anything is run.
    pub(super) fn of_report(args: &'a AssertArgs) -> Result<Self> {
        Self::compile(args, Shape::of_report)
    }

    /// Compiles those over a comparison.
    pub(super) fn of_diff(args: &'a AssertArgs) -> Result<Self> {
        Self::compile(args, Shape::of_diff)
    }

    fn compile(args: &'a AssertArgs, shape: fn() -> Shape) -> Result<Self> {
        let mut all = Vec::new();
        let shape = (!args.assertions.is_empty()).then(shape);
        for (source, shape) in args.assertions.iter().zip(shape.iter().cycle()) {
            let compiled = Expression::compile(source, shape)
                .map_err(anyhow::Error::from)
                .and_then(|expression| {
                    anyhow::ensure!(
                        expression.shape().can_be_true(),
                        "it is neither true nor false; compare it with something"
                    );
                    Ok(expression)
                });
            all.push(compiled.with_context(|| format!("--assert '{source}'"))?);
        }
        Ok(Self {
            all,
            path: args.junit.as_deref(),
            junit: None,
        })
    }

    /// Opens the file for CI, if one is wanted, for this command about this.
    ///
    /// # Errors
    /// When it can't be written.
    pub(super) fn open(
        &mut self,
        command: &str,
        about: &str,
        accounts: &Accounts,
        force: bool,
    ) -> Result<()> {
        if let Some(path) = self.path {
            let name = format!("forktrace {command} {about}");
            self.junit = Some(Junit::open(path, name.trim_end(), accounts, force)?);
        }
        Ok(())
    }

    /// Another process has written that file.
    pub(super) fn done(&mut self) {
        if let Some(junit) = &mut self.junit {
            junit.done();
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether all are true of a report.
    ///
    /// # Errors
    /// As [`Self::hold`].
    pub(super) fn of(&mut self, report: &Report) -> Result<bool> {
        if self.is_empty() {
            return Ok(true);
        }
        let audit = &report.audit;
        let weakness = audit.weaknesses.first();
        let weakness = weakness.map_or("", |weakness| weakness.text.as_str());
        self.hold(
            serde_json::to_value(report)?,
            (!audit.complete).then_some(weakness),
        )
    }

    /// Whether all are true of a comparison.
    ///
    /// # Errors
    /// As [`Self::hold`].
    pub(super) fn compared(&mut self, diff: &Diff) -> Result<bool> {
        if self.is_empty() {
            return Ok(true);
        }
        let incomplete = diff.base.incomplete + diff.new.incomplete > 0;
        self.hold(
            serde_json::to_value(diff)?,
            incomplete.then_some("records are missing in traces"),
        )
    }

    /// Whether all are true; says on standard error which are not, and when what they are
    /// about is too weak for them.
    ///
    /// # Errors
    /// When one has no value, for example because a figure was not measured; when the file
    /// for CI can't be written.
    fn hold(&mut self, figures: Value, incomplete: Option<&str>) -> Result<bool> {
        let figures = match figures {
            Value::Object(fields) => Figures::new(&fields),
            _ => Figures::new(&Map::new()),
        };
        let mut checked = Vec::new();
        let mut failed = Vec::new();
        for expression in &self.all {
            match expression.holds(&figures) {
                Ok(holds) => checked.push(Assertion {
                    source: expression.source(),
                    holds,
                    used: expression.used(&figures),
                }),
                Err(failure) => failed.push((expression.source(), failure)),
            }
        }
        if let Some(junit) = &mut self.junit {
            let failed = failed.iter();
            let failed = failed.map(|(source, failure)| (*source, failure.to_string()));
            junit.write(&checked, &failed.collect::<Vec<_>>(), incomplete)?;
        }
        to_stderr(render::assertions(&checked, incomplete).as_bytes())?;
        if let Some((source, failure)) = failed.into_iter().next() {
            return Err(failure).with_context(|| format!("--assert '{source}'"));
        }
        Ok(checked.iter().all(|assertion| assertion.holds))
    }
}
