//! `forktrace report`: from a trace to a report.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

use super::{
    Outcome,
    assert::{self, Assertions},
    output::Output,
};
use crate::{
    analysis::{Options, analyse_with},
    cli::ReportArgs,
    model::{Builder, Model},
    report::Report,
    trace::{Finish, Header},
    trace_file::{self, TraceInfo},
};

/// Reports on a saved trace.
///
/// # Errors
/// When the file can't be read, is no trace, the report can't be written, or an
/// assertion has no value.
pub fn report(args: &ReportArgs) -> Result<Outcome> {
    let assertions = Assertions::compile(&args.assertions)?;
    let mut output = Output::open(&args.output, false, None)?;
    let data = read_file(&args.trace)?;
    let report = make(&data, None, &args.output.analysis())
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

/// Makes a report of a trace. `end` replaces the file's own, for a recording
/// whose end could not be written to the file.
pub(crate) fn make(data: &[u8], end: Option<Finish>, options: &Options) -> Result<Report> {
    let (info, model) = read(data, end)?;
    Ok(analyse_with(&info, &model, options))
}

/// Reads a trace. `end` as above.
pub(crate) fn read(data: &[u8], end: Option<Finish>) -> Result<(TraceInfo, Model)> {
    let mut builder: Option<Builder> = None;
    let header = |header: &Header| Builder::new(header.start_ns, header.arch);
    let mut info = trace_file::read(data, |from, event| {
        builder.get_or_insert_with(|| header(from)).push(event);
    })?;
    if end.is_some() {
        info.finish = end;
    }
    let end_ns = info.finish.as_ref().map_or(info.last_ns, |f| f.end_ns);
    let model = builder
        .unwrap_or_else(|| header(&info.header))
        .build(end_ns);
    Ok((info, model))
}
