//! Where events go: a file, or memory that holds the last seconds, or both.

use std::fs::File;

use forktrace_core::recent::{Counters, Recent};

use crate::{trace::Event, trace_file::TraceWriter};

pub(crate) enum Sink {
    File(Box<TraceWriter<File>>),
    Recent(Box<Recent>),
    Both(Box<TraceWriter<File>>, Box<Recent>),
}

impl Sink {
    pub(crate) fn push(&mut self, event: &Event) {
        match self {
            Self::File(writer) => writer.push(event),
            Self::Recent(recent) => recent.push(event),
            Self::Both(writer, recent) => {
                writer.push(event);
                recent.push(event);
            }
        }
    }

    /// Does what there is to do at this time.
    pub(crate) fn tick(&mut self, now_ns: u64, counters: &Counters) {
        match self {
            Self::File(writer) => writer.tick(now_ns),
            Self::Recent(recent) => recent.tick(now_ns, counters),
            Self::Both(writer, recent) => {
                writer.tick(now_ns);
                recent.tick(now_ns, counters);
            }
        }
    }

    /// Why something could not be written, the first time.
    pub(crate) fn error(&self) -> Option<&str> {
        match self {
            Self::File(writer) | Self::Both(writer, _) => writer.error(),
            Self::Recent(_) => None,
        }
    }

    /// The last seconds, if they are kept.
    pub(crate) fn recent(&self) -> Option<&Recent> {
        match self {
            Self::File(_) => None,
            Self::Recent(recent) | Self::Both(_, recent) => Some(recent),
        }
    }
}
