//! The forms that the core renders from a report alone.

use std::io::{self, Write};

use forktrace_core::render::{self, Format, Style};

use crate::{Export, Source};

/// For people.
pub(crate) struct Text {
    pub(crate) style: Style,
}

/// For programs.
pub(crate) struct Json;

/// Who waited for whom.
pub(crate) struct Dot;

fn write(
    format: Format,
    style: &Style,
    source: &Source<'_>,
    out: &mut dyn Write,
) -> io::Result<()> {
    render::write(source.report, format, style, out)
}

impl Export for Text {
    fn write(&self, source: &Source<'_>, out: &mut dyn Write) -> io::Result<()> {
        write(Format::Text, &self.style, source, out)
    }
}

impl Export for Json {
    fn write(&self, source: &Source<'_>, out: &mut dyn Write) -> io::Result<()> {
        write(Format::Json, &Style::default(), source, out)
    }
}

impl Export for Dot {
    fn write(&self, source: &Source<'_>, out: &mut dyn Write) -> io::Result<()> {
        write(Format::Dot, &Style::default(), source, out)
    }
}
