//! What settles claims.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use forktrace_claims::render::ClaimsFormat;

use super::Color;

/// The subcommands of `claims`.
#[derive(Debug, Subcommand)]
pub(crate) enum ClaimsCommand {
    /// List the claims that can be tested.
    List(ClaimsListArgs),
    /// Test claims and give a verdict on each.
    Run(ClaimsRunArgs),
    /// Show a claim: who says it, how it is tested, and what decides it.
    Show(ClaimsShowArgs),
}

/// Arguments of `claims list`.
#[derive(Args, Debug)]
pub(crate) struct ClaimsListArgs {
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: ClaimsFormat,
}

/// Arguments of `claims show`.
#[derive(Args, Debug)]
pub(crate) struct ClaimsShowArgs {
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: ClaimsFormat,
    /// When to use colour.
    #[arg(long, value_enum, default_value_t, value_name = "WHEN")]
    pub(crate) color: Color,
    /// A claim's id, or a claim file.
    #[arg(value_name = "ID|FILE")]
    pub(crate) claim: String,
}

/// Arguments of `claims run`.
#[derive(Args, Debug)]
#[command(after_help = "\
Exit status: 0 when each claim is supported, refuted or not testable here; 1 when one is \
inconclusive; 125 when one could not be run (the others are).

Examples:
  sudo forktrace claims run --quick
  sudo forktrace claims run gil-serialises --save traces
  sudo forktrace claims run ./my-claim.toml --format markdown -o verdict.md")]
pub(crate) struct ClaimsRunArgs {
    /// Use fewer and shorter runs of each claim.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Keep the traces in DIR, for `forktrace report`.
    #[arg(long, value_name = "DIR")]
    pub(crate) save: Option<PathBuf>,
    /// Write the verdicts to FILE; - is standard output [default: standard output].
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: ClaimsFormat,
    /// Show what each arm measured.
    #[arg(short, long)]
    pub(crate) verbose: bool,
    /// When to use colour.
    #[arg(long, value_enum, default_value_t, value_name = "WHEN")]
    pub(crate) color: Color,
    /// Quiet: no progress line.
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Ids of claims, or claim files (with a / or ending in .toml) [default: all built-in claims].
    #[arg(value_name = "ID|FILE")]
    pub(crate) claims: Vec<String>,
}
