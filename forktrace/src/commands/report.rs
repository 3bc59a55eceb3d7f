//! `forktrace report`: from a trace to a report.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

use super::{
    Outcome,
    assert::{self, Assertions},
    output::Output,
};
use forktrace_core::pipeline;

use crate::cli::ReportArgs;

/// Reports on a saved trace.
///
/// # Errors
/// When the file can't be read, is no trace, the report can't be written, or an
/// assertion has no value.
pub(crate) fn report(args: &ReportArgs) -> Result<Outcome> {
    let assertions = Assertions::compile(&args.assertions)?;
    let mut output = Output::open(&args.output, false, None)?;
    let data = read_file(&args.trace)?;
    let report = pipeline::make(&data, None, &args.output.analysis())
        .with_context(|| format!("{}", args.trace.display()))?;
    output.write(&report)?;
    Ok(Outcome::Exit(if assertions.hold(&report)? {
        0
    } else {
        assert::FALSE
    }))
}

fn read_file(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("{} can't be read", path.display()))
}
