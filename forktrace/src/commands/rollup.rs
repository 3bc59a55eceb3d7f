//! `forktrace rollup`: what tasks did, minute by minute, of many traces in one small file.

use std::{
    fs::File,
    io::{Read as _, Seek as _},
    path::Path,
};

use anyhow::{Context as _, Result};
use forktrace_core::{analysis::analyse, render::text::figures::clean, words};
use forktrace_export::{Rollup, Source, is_packed};
use forktrace_process::launch::Accounts;

use super::{
    Outcome,
    files::{Target, Use},
    output::to_stderr,
    report::open,
    spill::Room,
};
use crate::{cli::RollupArgs, patience::Patience};

/// Adds up traces and files that it wrote before.
///
/// # Errors
/// When a file can't be read or is neither, a trace comes twice, or the sum can't be written.
/// What was there before is then still there.
pub(crate) fn rollup(args: &RollupArgs) -> Result<Outcome> {
    // It needs no rights but those of who called, and a file can be a stranger's.
    let caller = Accounts::choose(None, false)?.caller;
    if let Some(caller) = &caller {
        let assumed = caller.assume();
        assumed.with_context(|| format!("can't go on with the rights of {}", caller.name))?;
    }
    let ours = Accounts {
        workload: None,
        caller: None,
    };
    let mut rollup = Rollup::default();
    for path in &args.files {
        let file = open(path)?;
        let added = add(&mut rollup, (path, file), args.host.as_deref());
        added.with_context(|| path.display().to_string())?;
    }
    let mut target = Target::open(&args.output, Use::Report, &ours, args.force)?;
    target.write(|out| rollup.write(out))?;
    let said = format!(
        "forktrace: {}: {} of {}\n",
        clean(&args.output.to_string_lossy()),
        words::quantity(rollup.rows() as u64, "row"),
        words::quantity(rollup.traces() as u64, "trace"),
    );
    to_stderr(said.as_bytes())?;
    Ok(Outcome::Exit(0))
}

fn add(rollup: &mut Rollup, (path, mut file): (&Path, File), host: Option<&str>) -> Result<()> {
    if begins_packed(&mut file)? {
        rollup.read(file)?;
        return Ok(());
    }
    let name = clean(&path.to_string_lossy());
    let patience = Patience::new(name, "reading");
    let room = Room::new();
    let (info, model) = room.read(&mut file, None)?;
    patience.step("finding out what held up");
    let report = analyse(&info, &model);
    let source = Source {
        info: &info,
        model: &model,
        report: &report,
    };
    let of_trace = info.header.machine.as_ref().map(|it| it.host.as_str());
    rollup.add(&source, host.or(of_trace).unwrap_or_default())?;
    room.check()
}

/// Looks at the beginning of a file, and goes back there. What can't go back is a trace.
fn begins_packed(file: &mut File) -> Result<bool> {
    if file.stream_position().is_err() {
        return Ok(false);
    }
    let mut begin = [0; 2];
    let read = file.read(&mut begin).context("it can't be read")?;
    file.rewind().context("it can't be read")?;
    Ok(is_packed(&begin[..read]))
}
