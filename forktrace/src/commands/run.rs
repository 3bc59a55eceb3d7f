//! `forktrace run`: records a workload and reports on it.

use std::{
    fs::File,
    io::{IsTerminal as _, Read as _, Seek as _},
    path::Path,
};

use anyhow::{Context as _, Result, bail};

use super::{
    Outcome,
    assert::{self, Assertions},
    output::{Output, create},
};
use forktrace_core::{pipeline, render::Format};
use forktrace_record::{
    background,
    capture::Settings,
    launch::Account,
    record::{Interrupted, Notice, Plan, Recorded, Recording},
    signals::Signals,
};

use crate::{cli::RunArgs, progress::ProgressLine};

/// Records a workload and reports on it.
///
/// # Errors
/// When the workload could not be started or traced, or the report not be
/// written. A workload that fails is no error.
pub(crate) fn run(args: &RunArgs) -> Result<Outcome> {
    let assertions = Assertions::compile(&args.assertions)?;
    let account = Account::choose(args.user.as_deref(), args.as_root)?;
    let wants_report = !args.quiet || args.output.output.is_some();
    let mut output = Output::open(&args.output, true, account.as_ref())?;
    let mut file = open_trace(args.save.as_deref(), account.as_ref())?;
    let plan = Plan {
        argv: args.command.clone(),
        account,
        until_exit: args.until_exit,
        settings: Settings {
            ring_bytes: args.ring_size,
            max_tasks: args.max_tasks,
            polls: args.polls,
            plain: args.plain,
            stacks: args.stacks || args.output.format == Format::Folded,
        },
    };
    let shows_progress = !args.quiet && std::io::stderr().is_terminal();
    let mut line = ProgressLine::new(shows_progress);
    let to_file = file
        .try_clone()
        .context("the trace file can't be opened twice")?;
    let recording = match Recording::start(&plan, Signals::take()?, to_file) {
        Ok(recording) => recording,
        Err(error) => {
            return match error.downcast_ref() {
                Some(&Interrupted { signal }) => Ok(Outcome::Signal(signal)),
                None => Err(error),
            };
        }
    };
    let recorded = recording.run(|notice| match notice {
        Notice::Progress(progress) => line.show(&progress),
        Notice::Deadlock(deadlock) if !args.quiet => line.deadlock(&deadlock),
        Notice::Deadlock(_) => {}
    });
    line.clear();
    let Recorded {
        finish,
        finish_error,
        tracer,
    } = recorded?;
    background::drop_in_background(tracer)?;

    let mut holds = true;
    if wants_report || !assertions.is_empty() {
        file.rewind().context("the trace file can't be read back")?;
        let mut data = Vec::new();
        file.read_to_end(&mut data)
            .context("the trace file can't be read back")?;
        let report = pipeline::make(&data, Some(finish.clone()), &args.output.analysis())
            .context("the trace that was just recorded")?;
        if wants_report {
            output.write(&report)?;
        }
        holds = assertions.hold(&report)?;
    }
    if let (Some(error), Some(path)) = (finish_error, &args.save) {
        bail!(
            "the end of the trace could not be written to {}: {error}; \
             the report above is whole but for what it says is missing, the file is not",
            path.display()
        );
    }
    if !holds {
        return Ok(Outcome::Exit(assert::FALSE));
    }
    Ok(match (finish.exit_code, finish.signal) {
        (Some(code), _) => Outcome::Exit(code as u8),
        (None, Some(signal)) => Outcome::Signal(signal),
        // We were told to stop before it ended.
        (None, None) => Outcome::Exit(0),
    })
}

/// The file that the trace goes to: one with a name, or one that is gone when we
/// are.
fn open_trace(save: Option<&Path>, account: Option<&Account>) -> Result<File> {
    match save {
        Some(path) => {
            let file = create(path, account)?;
            if !file.metadata().is_ok_and(|m| m.is_file()) {
                bail!(
                    "{} is no regular file, and a trace is read back after it is written",
                    path.display()
                );
            }
            Ok(file)
        }
        None => tempfile::tempfile().with_context(|| {
            format!(
                "no temporary file for the trace in {}; set TMPDIR, or use --save FILE",
                std::env::temp_dir().display()
            )
        }),
    }
}
