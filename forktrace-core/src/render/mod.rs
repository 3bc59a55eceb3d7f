//! Shows a [`Report`]: a pure function from its figures to text.
//!
//! Nothing is computed here beyond sums over rows, percentages and sorting, so
//! that all formats say the same.

mod assertions;
mod dot;
mod folded;
mod json;
pub mod text;

#[cfg(test)]
mod samples;
#[cfg(test)]
mod samples_why;
#[cfg(test)]
mod tests;

pub use self::{
    assertions::{Assertion, assertions},
    json::escaped,
};
use crate::report::Report;

/// Output format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum Format {
    /// For people, at most 100 columns wide.
    #[default]
    Text,
    /// For programs: `docs/report.schema.json` describes it.
    Json,
    /// For flame-graph tools: stacks, with the time blocked in µs (needs --stacks).
    Folded,
    /// Who waited for whom, as a graph for `dot -Tsvg` (Graphviz).
    Dot,
}

/// How the text looks; JSON is always the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// Use colour and weight (never as the only carrier of a meaning).
    pub color: bool,
    /// Show all rows, and the tables that serve to check the figures.
    pub verbose: bool,
}

/// The whole report, ending in a newline.
///
/// Names and arguments come from the traced programs, which nobody has to
/// trust: no control character of theirs gets into the result.
pub fn render(report: &Report, format: Format, style: &Style) -> String {
    match format {
        Format::Text => text::render(report, style),
        Format::Json => json::render(report),
        Format::Folded => folded::folded(report),
        Format::Dot => dot::render(report),
    }
}
