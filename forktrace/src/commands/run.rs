//! `forktrace run`: records a workload and reports on it.

use anyhow::{Context as _, Result};
use forktrace_process::launch::Accounts;
use forktrace_record::{
    marks::Marks,
    record::{Command, Source},
};

use super::{
    Outcome,
    assert::Assertions,
    recording::{Done, record_and_report},
    repeat::repeat,
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
    let source = || {
        let marks = Marks::new().context("no file for the workload's marks")?;
        Ok(Source::Launch(Command {
            argv: args.command.clone(),
            account: accounts.workload.clone(),
            until_exit: args.until_exit,
            marks,
        }))
    };
    let done = record_and_report(&args.recording, &mut assertions, &accounts, source, None)?;
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
