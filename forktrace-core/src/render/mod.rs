//! Shows a [`Report`]: a pure function from its figures to text.
//!
//! Nothing is computed here beyond sums over rows, percentages and sorting, so
//! that all formats say the same.

mod assertions;
mod dot;
mod json;
mod open_metrics;
pub mod text;
mod views;

#[cfg(test)]
mod samples;
#[cfg(test)]
mod samples_locks;
#[cfg(test)]
mod samples_why;
#[cfg(test)]
mod tests;

use std::io;

pub use self::{
    assertions::{Assertion, assertions},
    json::escaped,
    open_metrics::{MetricsForm, Recorder, metrics},
    views::{Show, Views},
};
use crate::report::Report;

/// Output format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people, as wide as the terminal.
    #[default]
    Text,
    /// For programs: `docs/report.schema.json` describes it.
    Json,
    /// Who waited for whom, as a graph for `dot -Tsvg` (Graphviz).
    Dot,
}

/// How the text looks; JSON is always the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Use colour and weight (never as the only carrier of a meaning).
    pub color: bool,
    /// Write nothing but ASCII.
    pub ascii: bool,
    /// Columns of the page; no line is wider.
    pub columns: usize,
    /// Say more: of a report, all views after the summary.
    pub verbose: bool,
    /// What to show in place of the summary; nothing: the summary.
    pub views: Views,
}

impl Style {
    /// Without colour, 100 columns wide: for what is pasted into mails and issues.
    pub const PLAIN: Self = Self {
        color: false,
        ascii: false,
        columns: 100,
        verbose: false,
        views: Views::NONE,
    };
}

impl Default for Style {
    fn default() -> Self {
        Self::PLAIN
    }
}

/// A line for people: what to ask next, of the trace in this file if there is one.
pub fn pointer(report: &Report, style: &Style, trace: Option<&str>) -> String {
    text::pointer(report, *style, trace)
}

/// The whole report, ending in a newline.
///
/// Names and arguments come from the traced programs, which nobody has to
/// trust: no control character of theirs gets into the result.
pub fn render(report: &Report, format: Format, style: &Style) -> String {
    let mut out = Vec::new();
    write(report, format, style, &mut out).expect("memory takes all that is written");
    String::from_utf8(out).expect("what is written is UTF-8")
}

/// Writes the same, piece by piece where it can be long: wants a buffer.
///
/// # Errors
/// When it can't be written.
pub fn write(
    report: &Report,
    format: Format,
    style: &Style,
    mut to: impl io::Write,
) -> io::Result<()> {
    let text = match format {
        Format::Json => return json::write(report, to),
        Format::Text => text::render(report, style),
        Format::Dot => dot::render(report),
    };
    to.write_all(text.as_bytes())
}
