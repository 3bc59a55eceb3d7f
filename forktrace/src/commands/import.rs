//! `forktrace import`: a trace of what another recorder wrote.

use std::{
    io::{BufWriter, Read as _, Write as _},
    sync::Arc,
    time::UNIX_EPOCH,
};

use anyhow::{Context as _, Result, ensure};
use forktrace_core::{render::text::figures::clean, trace_file::Source, words};
use forktrace_import::{About, import as make};
use forktrace_process::{launch::Accounts, privileges::drop_all};

use super::{
    Outcome,
    files::{TraceFile, same},
    output::to_stderr,
    report::open,
    spill::{Away, TraceBytes},
};
use crate::{cli::ImportArgs, patience::Patience};

/// Makes a trace of another recorder's file.
///
/// # Errors
/// When the file can't be read, is of no form that is known, or the trace can't be written.
pub(crate) fn import(args: &ImportArgs) -> Result<Outcome> {
    let name = args.file.to_string_lossy().into_owned();
    // It is opened first, so that nothing is created for a file that is not there.
    let mut file = open(&args.file)?;
    let accounts = Accounts::choose(None, false)?;
    let mut trace = TraceFile::open(&args.output, &accounts, args.force)?;
    ensure!(
        !same(&file, trace.target()).unwrap_or(false),
        "{name} would be overwritten by the trace that is made of it; choose another name for -o"
    );
    // All is open, and a file can be a stranger's.
    drop_all()?;
    let patience = Patience::new(clean(&name), "reading");
    let written = file.metadata().ok().filter(|meta| meta.is_file());
    let written = written.and_then(|meta| meta.modified().ok());
    let written = written.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    let about = About {
        name: args
            .file
            .file_name()
            .map_or(name.clone(), |it| it.to_string_lossy().into_owned()),
        written_unix_ns: written.and_then(|at| u64::try_from(at.as_nanos()).ok()),
        spill: Some(Arc::new(Away::default())),
    };
    let mut out = BufWriter::new(trace.file());
    let made = match TraceBytes::new(&file) {
        Some(bytes) => {
            let made = make(Source::File(&bytes), &about, &mut out);
            bytes
                .check()
                .with_context(|| format!("{name} can't be read"))?;
            made
        }
        None => {
            let mut data = Vec::new();
            let read = file.read_to_end(&mut data);
            read.with_context(|| format!("{name} can't be read"))?;
            make(Source::Memory(&data), &about, &mut out)
        }
    };
    let made = made.with_context(|| name.clone())?;
    let to = args.output.display();
    out.flush()
        .with_context(|| format!("{to} can't be written"))?;
    drop(out);
    drop(patience);
    trace.begin();
    trace.finish()?;
    let said = format!(
        "forktrace: {name}: {} of {} in {to}; `forktrace report {to}` tells of them\n",
        words::quantity(made.stretches, "stretch"),
        words::quantity(made.tasks, "task"),
    );
    to_stderr(clean(said.trim_end()).as_bytes())?;
    to_stderr(b"\n")?;
    Ok(Outcome::Exit(0))
}
