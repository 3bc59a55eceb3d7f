//! What the subcommands do.

mod assert;
mod claims;
mod doctor;
mod man;
mod output;
mod report;
mod run;

use std::process::ExitCode;

use anyhow::Result;
use clap::CommandFactory as _;
use nix::sys::{
    resource::{Resource, setrlimit},
    signal::{SigHandler, SigSet, SigmaskHow, Signal, raise, signal, sigprocmask},
};

use crate::cli::Cli;

pub(crate) use self::{
    claims::claims,
    doctor::doctor,
    man::{man, man_all},
    report::report,
    run::run,
};

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// With this status.
    Exit(u8),
    /// By the signal that ended the workload.
    Signal(i32),
}

/// Prints a completion script.
///
/// # Errors
/// When standard output can't be written.
pub(crate) fn completions(shell: clap_complete::Shell) -> Result<Outcome> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "forktrace", &mut script);
    output::to_stdout(&script)?;
    Ok(Outcome::Exit(0))
}

/// Ends this process by a signal, as the workload ended, so that whoever waits
/// for us sees the same. Without a core dump: the workload has made its own.
pub(crate) fn die_of(number: i32) -> ExitCode {
    let status = ExitCode::from(128u8.saturating_add(number as u8));
    let Ok(number) = Signal::try_from(number) else {
        return status;
    };
    // Whatever fails here, the status still tells.
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
    // SAFETY: the default action has no handler that could be unsafe.
    #[expect(unsafe_code, reason = "nix can't know that the default action is safe")]
    let _ = unsafe { signal(number, SigHandler::SigDfl) };
    let mut only = SigSet::empty();
    only.add(number);
    let _ = sigprocmask(SigmaskHow::SIG_UNBLOCK, Some(&only), None);
    let _ = raise(number);
    status
}
