//! The whole way from the bytes of a trace to a report.

use anyhow::Result;

use crate::{
    analysis::{Options, analyse_with},
    model::{Builder, Model},
    report::Report,
    trace::{Finish, Header},
    trace_file::{self, TraceInfo},
};

/// Makes a report of a trace. `end` replaces the file's own, for a recording
/// whose end could not be written to the file.
///
/// # Errors
/// When the bytes are no trace, or of another version.
pub fn make(data: &[u8], end: Option<Finish>, options: &Options) -> Result<Report> {
    let (info, model) = read(data, end)?;
    Ok(analyse_with(&info, &model, options))
}

/// Reads a trace. `end` as above.
///
/// # Errors
/// When the bytes are no trace, or of another version.
pub fn read(data: &[u8], end: Option<Finish>) -> Result<(TraceInfo, Model)> {
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
