//! Shows claims and what became of them.

mod json;
mod markdown;
mod picture;
mod progress;
#[cfg(test)]
// A link to the file of forktrace-core, which cargo puts into the package.
mod schema_check;
mod text;

use serde::Serialize;

pub use self::progress::ClaimsLine;
use crate::{Claim, Machine, Mode, Settled};
use forktrace_core::render::Style;

/// Output format of `claims`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ClaimsFormat {
    /// For people, at most 100 columns wide.
    #[default]
    Text,
    /// For programs: `docs/claims.schema.json` describes what `run` gives.
    Json,
    /// For a page or a mail.
    Markdown,
}

/// What `forktrace claims run --format json` writes. Points in time are nanoseconds since
/// the trace began, durations are nanoseconds. `None` means not known, or that there is
/// none. Later versions with the same `schema_version` may add properties.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Outcome<'a> {
    /// Version of this format; it changes when a property changes its meaning or goes away.
    #[cfg_attr(test, schemars(extend("const" = 1)))]
    pub schema_version: u32,
    /// Where the claims were tested.
    pub machine: &'a Machine,
    /// How thoroughly: with few and short runs, or more and longer ones.
    pub mode: Mode,
    /// The claims, in the order in which they were tested.
    pub claims: &'a [Settled],
}

/// All claims with their verdicts.
pub fn outcome(outcome: &Outcome<'_>, format: ClaimsFormat, style: &Style) -> String {
    match format {
        ClaimsFormat::Text => text::outcome(outcome, *style),
        ClaimsFormat::Json => json::pretty(outcome),
        ClaimsFormat::Markdown => markdown::outcome(outcome),
    }
}

/// One claim with its verdict, as text.
pub fn settled(settled: &Settled, style: &Style) -> String {
    text::settled(settled, *style)
}

/// The sums below the claims, as text.
pub fn summary(outcome: &Outcome<'_>, style: &Style) -> String {
    text::summary(outcome, *style)
}

/// What there is to test.
pub fn list(claims: &[Claim], format: ClaimsFormat) -> String {
    match format {
        ClaimsFormat::Text => text::list(claims),
        ClaimsFormat::Json => json::list(claims),
        ClaimsFormat::Markdown => markdown::list(claims),
    }
}

/// A claim and how it is tested.
pub fn show(claim: &Claim, format: ClaimsFormat, style: &Style) -> String {
    match format {
        ClaimsFormat::Text => text::show(claim, *style),
        ClaimsFormat::Json => json::show(claim),
        ClaimsFormat::Markdown => markdown::show(claim),
    }
}
