//! Which forms there are, and how a file's name tells its form.

use std::{fmt, path::Path};

use forktrace_core::render::Style;

use crate::{
    Export,
    firefox::Firefox,
    flame::FlameGraph,
    folded::Folded,
    html::Html,
    ndjson::Ndjson,
    perfetto::Perfetto,
    pprof::Pprof,
    rendered::{Dot, Json, Text},
    stacks::StackKind,
};

/// The form of a report or of a file for another tool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum Form {
    /// For people, at most 100 columns wide (.txt).
    #[default]
    Text,
    /// For programs: `docs/report.schema.json` describes it (.json).
    Json,
    /// A page for a browser, in one file (.html).
    Html,
    /// Time lines for Perfetto, ui.perfetto.dev (.pftrace).
    Perfetto,
    /// Time lines for the Firefox Profiler, profiler.firefox.com (.fx.json).
    Firefox,
    /// Time off the CPU for `go tool pprof` (.pb.gz).
    Pprof,
    /// For flame-graph tools: a line a stack, with the time blocked in µs (.folded).
    Folded,
    /// The same, drawn: a flame graph (.svg).
    Svg,
    /// Who waited for whom, as a graph for `dot -Tsvg`, Graphviz (.dot).
    Dot,
    /// For programs: every stretch, wait, wakeup and stall, a line of JSON each (.ndjson).
    Ndjson,
}

/// How a file's name ends, longer before shorter.
const SUFFIXES: [(&str, Form); 12] = [
    (".fx.json", Form::Firefox),
    (".pb.gz", Form::Pprof),
    (".json", Form::Json),
    (".txt", Form::Text),
    (".html", Form::Html),
    (".pftrace", Form::Perfetto),
    (".perfetto-trace", Form::Perfetto),
    (".folded", Form::Folded),
    (".svg", Form::Svg),
    (".dot", Form::Dot),
    (".ndjson", Form::Ndjson),
    (".jsonl", Form::Ndjson),
];

/// A file's name ends in something that stands for no form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OddSuffix(String);

impl fmt::Display for OddSuffix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known: Vec<&str> = SUFFIXES.iter().map(|(suffix, _)| *suffix).collect();
        let tables = match cfg!(feature = "parquet") {
            true => " (and a folder of tables by .parquet)",
            false => "",
        };
        write!(
            f,
            "{} stands for no form; a file's form is told by how its name ends: {}{tables}",
            self.0,
            known.join(" ")
        )
    }
}

impl std::error::Error for OddSuffix {}

impl Form {
    /// The form that a file's name tells; `None`: it has no suffix, or is in `/dev` or
    /// `/proc`, where a name ends as it ends.
    ///
    /// # Errors
    /// When it ends in something else.
    pub fn of(path: &Path) -> Result<Option<Self>, OddSuffix> {
        if path.starts_with("/dev") || path.starts_with("/proc") {
            return Ok(None);
        }
        let known = Self::suffix(path);
        if let Some((_, form)) = SUFFIXES.iter().find(|(suffix, _)| Some(*suffix) == known) {
            return Ok(Some(*form));
        }
        match path.extension() {
            None => Ok(None),
            Some(suffix) => Err(OddSuffix(format!(
                ".{}",
                crate::text::clean(&suffix.to_string_lossy())
            ))),
        }
    }

    /// The suffix that tells a file's form, whole: of `a.pb.gz` it is `.pb.gz`.
    pub fn suffix(path: &Path) -> Option<&'static str> {
        let name = path.file_name()?.to_string_lossy().to_ascii_lowercase();
        let mut suffixes = SUFFIXES.iter().map(|(suffix, _)| *suffix);
        suffixes.find(|suffix| name.ends_with(suffix))
    }

    /// Does it show where tasks blocked, if that was recorded?
    pub fn shows_stacks(self) -> bool {
        matches!(self, Self::Folded | Self::Svg)
    }

    /// What writes it. `kind` is for those that show stacks.
    pub fn export(self, style: Style, kind: Option<StackKind>) -> Box<dyn Export> {
        match self {
            Self::Text => Box::new(Text { style }),
            Self::Json => Box::new(Json),
            Self::Html => Box::new(Html),
            Self::Perfetto => Box::new(Perfetto),
            Self::Firefox => Box::new(Firefox),
            Self::Pprof => Box::new(Pprof),
            Self::Folded => Box::new(Folded { kind }),
            Self::Svg => Box::new(FlameGraph { kind }),
            Self::Dot => Box::new(Dot),
            Self::Ndjson => Box::new(Ndjson),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(path: &str) -> Result<Option<Form>, OddSuffix> {
        Form::of(Path::new(path))
    }

    #[test]
    fn a_name_tells_the_form() {
        for (path, form) in [
            ("a.json", Form::Json),
            ("a.fx.json", Form::Firefox),
            ("x/run.2.PFTRACE", Form::Perfetto),
            ("prof.pb.gz", Form::Pprof),
            ("a.b.txt", Form::Text),
        ] {
            assert_eq!(of(path), Ok(Some(form)), "{path}");
        }
    }

    #[test]
    fn a_name_without_a_suffix_tells_nothing() {
        for path in [
            "report",
            "-",
            "/dev/fd/3",
            "/dev/x.y",
            ".hidden",
            "a.d/report",
        ] {
            assert_eq!(of(path), Ok(None), "{path}");
        }
    }

    #[test]
    fn an_odd_suffix_is_named_with_all_that_there_are() {
        let error = of("a.\u{1b}[31mpdf").expect_err("odd").to_string();
        assert!(
            error.contains(".pftrace") && error.contains(".pb.gz"),
            "{error}"
        );
        assert!(!error.contains('\u{1b}'), "{error:?}");
    }
}
