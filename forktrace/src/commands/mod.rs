//! What the subcommands do.

mod assert;
#[cfg(feature = "record")]
mod attach;
mod browser;
#[cfg(feature = "record")]
mod claims;
mod diff;
#[cfg(feature = "record")]
mod doctor;
mod explain;
mod export;
mod files;
mod import;
mod junit;
#[cfg(feature = "record")]
mod making;
mod man;
mod output;
mod page;
#[cfg(feature = "record")]
mod recording;
#[cfg(feature = "record")]
mod repeat;
mod report;
#[cfg(feature = "record")]
mod rights;
mod rollup;
#[cfg(feature = "record")]
mod run;
#[cfg(feature = "record")]
mod saving;
#[cfg(feature = "record")]
mod scratch;
mod spill;
mod tables;
#[cfg(feature = "record")]
mod top;
#[cfg(feature = "top")]
mod view;
#[cfg(feature = "record")]
mod watch;
#[cfg(feature = "record")]
mod windows;

use anyhow::Result;
use clap::CommandFactory as _;

use crate::cli::{Cli, SchemaOf};

#[cfg(feature = "record")]
pub(crate) use self::{
    attach::attach, claims::claims, doctor::doctor, run::run, top::top, watch::watch,
};
pub(crate) use self::{
    diff::diff,
    explain::explain,
    export::export,
    import::import,
    man::{man, man_all},
    report::report,
    rollup::rollup,
};

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// With this status.
    Exit(u8),
    /// By the signal that ended the workload.
    Signal(i32),
}

/// Prints a schema.
///
/// # Errors
/// When standard output can't be written.
pub(crate) fn schema(of: SchemaOf) -> Result<Outcome> {
    let schema = match of {
        SchemaOf::Json => serde_json::to_string_pretty(&forktrace_core::report::schema())? + "\n",
        SchemaOf::Diff => serde_json::to_string_pretty(&forktrace_core::diff::schema())? + "\n",
        SchemaOf::Ndjson => forktrace_export::NDJSON_SCHEMA.to_owned(),
    };
    output::to_stdout(schema.as_bytes())?;
    Ok(Outcome::Exit(0))
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
