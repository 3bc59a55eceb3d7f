//! The forms of a comparison.

mod html;
mod markdown;

use std::{
    io::{self, Write},
    path::Path,
};

use forktrace_core::{
    diff::Diff,
    render::{Style, escaped, text},
};

/// A form that a comparison can be written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum DiffForm {
    /// For people (.txt).
    #[default]
    Text,
    /// For programs: `docs/diff.schema.json` describes it (.json).
    Json,
    /// For a pull request (.md).
    Markdown,
    /// A page for a browser, in one file (.html).
    Html,
}

/// How a file's name ends.
const SUFFIXES: [(&str, DiffForm); 4] = [
    ("txt", DiffForm::Text),
    ("json", DiffForm::Json),
    ("md", DiffForm::Markdown),
    ("html", DiffForm::Html),
];

impl DiffForm {
    /// The form that a file's name tells; `None`: it tells none.
    pub fn of(path: &Path) -> Option<Self> {
        let suffix = path.extension()?.to_str()?.to_ascii_lowercase();
        let known = SUFFIXES.iter().find(|(name, _)| *name == suffix);
        known.map(|(_, form)| *form)
    }

    /// Writes a comparison.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(self, diff: &Diff, style: &Style, out: &mut dyn Write) -> io::Result<()> {
        let text = match self {
            Self::Text => text::diff::render(diff, style),
            Self::Json => escaped(&serde_json::to_string_pretty(diff)?),
            Self::Markdown => markdown::render(diff),
            Self::Html => html::render(diff),
        };
        out.write_all(text.as_bytes())
    }
}
