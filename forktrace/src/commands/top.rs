//! `forktrace top`: shows what runs already on the terminal.

use std::fs::File;

use anyhow::Result;
use forktrace_process::launch::Accounts;

use super::{Outcome, recording::Picture};
use crate::cli::{RunArgs, TopArgs};

/// Shows what runs already until the user quits.
///
/// # Errors
/// When there is no terminal, or no such target, or it can't be traced.
#[cfg(feature = "top")]
pub(crate) fn top(args: &TopArgs) -> Result<Outcome> {
    super::view::top(args)
}

/// The view of a command that is run, which prints into `output` meanwhile.
///
/// # Errors
/// When there is no terminal, or no process for it.
#[cfg(feature = "top")]
pub(super) fn beside<'a>(
    command: &str,
    args: &'a RunArgs,
    accounts: &'a Accounts,
    output: &File,
) -> Result<Box<dyn Picture + 'a>> {
    Ok(Box::new(super::view::beside(
        command, args, accounts, output,
    )?))
}

/// A build without the view says how to get one.
///
/// # Errors
/// Always.
#[cfg(not(feature = "top"))]
pub(crate) fn top(_: &TopArgs) -> Result<Outcome> {
    lacks()
}

/// The same.
///
/// # Errors
/// Always.
#[cfg(not(feature = "top"))]
pub(super) fn beside<'a>(
    _: &str,
    _: &'a RunArgs,
    _: &'a Accounts,
    _: &File,
) -> Result<Box<dyn Picture + 'a>> {
    lacks()
}

#[cfg(not(feature = "top"))]
fn lacks<T>() -> Result<T> {
    anyhow::bail!(
        "this build has no terminal view, which takes long to compile; with it: \
         cargo install --locked --path forktrace --features top"
    )
}
