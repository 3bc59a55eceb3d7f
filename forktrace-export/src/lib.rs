//! Writes what was found, in the forms that people and other tools read.
//!
//! Each form is one [`Export`]: a function from a trace, its model and its report to bytes,
//! which go out as they come about. Nothing here opens a file, and nothing is computed that
//! the report has: all forms say the same.
//!
//! Names and arguments come from the traced programs, which nobody has to trust. A form that
//! a terminal or a browser may show holds no character of theirs that acts ([`text::clean`]).

mod diff;
mod firefox;
mod flame;
mod folded;
mod form;
mod html;
mod ndjson;
mod perfetto;
mod pprof;
mod proto;
mod rendered;
mod rollup;
mod stacks;
#[cfg(feature = "parquet")]
pub mod tables;
pub mod text;
mod trace_id;

use std::io::{self, Write};

use forktrace_core::{model::Model, report::Report, trace_file::TraceInfo};

pub use self::{
    diff::DiffForm,
    form::{Form, OddSuffix},
    ndjson::SCHEMA as NDJSON_SCHEMA,
    rollup::{Rollup, is_packed},
    stacks::StackKind,
    trace_id::trace_id,
};

/// What was recorded.
#[derive(Clone, Copy)]
pub struct Recording<'a> {
    /// The trace's header and end.
    pub info: &'a TraceInfo,
    /// A time line a task.
    pub model: &'a Model,
}

/// What there is to write.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    /// The trace's header and end.
    pub info: &'a TraceInfo,
    /// A time line a task.
    pub model: &'a Model,
    /// What was found.
    pub report: &'a Report,
}

impl<'a> Source<'a> {
    /// The same without what was found.
    pub fn recording(&self) -> Recording<'a> {
        let Self { info, model, .. } = *self;
        Recording { info, model }
    }
}

/// A form that something can be written in.
pub trait Export {
    /// Writes all of it.
    ///
    /// # Errors
    /// Those of `out`.
    fn write(&self, source: &Source<'_>, out: &mut dyn Write) -> io::Result<()>;
}
