//! `forktrace top`: shows what runs already on the terminal.

use anyhow::Result;

use super::Outcome;
use crate::cli::TopArgs;

/// Shows what runs already until the user quits.
///
/// # Errors
/// When there is no terminal, or no such target, or it can't be traced.
#[cfg(feature = "top")]
pub(crate) fn top(args: &TopArgs) -> Result<Outcome> {
    super::view::top(args)
}

/// A build without the view says how to get one.
///
/// # Errors
/// Always.
#[cfg(not(feature = "top"))]
pub(crate) fn top(_: &TopArgs) -> Result<Outcome> {
    anyhow::bail!(
        "this build has no terminal view, which takes long to compile; with it: \
         cargo install --locked --path forktrace --features top"
    )
}
