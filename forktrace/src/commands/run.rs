//! `forktrace run`: records a workload and reports on it.

use std::fs::File;

use anyhow::{Context as _, Result};
use forktrace_process::launch::Accounts;
use forktrace_record::{
    marks::Marks,
    record::{Command, Source},
};

use super::{
    Outcome,
    assert::Assertions,
    recording::{Done, From, Picture, record_and_report},
    repeat::repeat,
    scratch, top,
};
use crate::cli::RunArgs;

/// A signal ended the recording while the command still ran.
const LEFT: u8 = 124;

/// Records a workload and reports on it.
///
/// # Errors
/// When the workload could not be started or traced, or the report not be
/// written. A workload that fails is no error.
pub(crate) fn run(args: &RunArgs) -> Result<Outcome> {
    if let Some(times @ 2..) = args.repeat {
        return repeat(args, times);
    }
    let mut assertions = Assertions::of_report(&args.recording.asserts)?;
    let accounts = Accounts::choose(args.user.as_deref(), args.as_root)?;
    let command = args.command.iter().map(|word| word.to_string_lossy());
    let command = command.collect::<Vec<_>>().join(" ");
    assertions.open("run", &command, &accounts, args.recording.output.force)?;
    let output = match args.top {
        true => Some(scratch::create(&accounts)?),
        false => None,
    };
    let output = output.as_ref();
    let mut picture = output.map(|output| top::beside(&command, args, &accounts, output));
    let mut picture = picture.take().transpose()?;
    let source = || {
        let marks = Marks::new().context("no file for the workload's marks")?;
        Ok(Source::Launch(Command {
            argv: args.command.clone(),
            account: accounts.workload.clone(),
            until_exit: args.until_exit,
            marks,
            output: output.map(File::try_clone).transpose()?,
        }))
    };
    let from = From {
        source,
        existing: None,
        picture: picture.as_mut().map(|it| &mut **it as &mut dyn Picture),
    };
    let done = record_and_report(&args.recording, &mut assertions, &accounts, from)?;
    let finish = match done {
        Done::As(outcome) => return Ok(outcome),
        Done::Well(finish) => finish,
    };
    Ok(match (finish.exit_code, finish.signal) {
        (Some(code), _) => Outcome::Exit(code as u8),
        (None, Some(signal)) => Outcome::Signal(signal),
        // We were told to stop before it ended.
        (None, None) => Outcome::Exit(LEFT),
    })
}
