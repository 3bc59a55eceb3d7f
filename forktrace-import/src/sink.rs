//! What readers fill.

use std::sync::Arc;

use forktrace_core::{
    model::Spill,
    trace::{Arch, Imported},
};

use crate::{
    people::People,
    record::{Record, kind},
    sorted::Sorter,
};

/// What a reader found out about the recording.
#[derive(Default)]
pub(crate) struct Found {
    /// The recorder, and what its files do not tell.
    pub(crate) imported: Imported,
    /// Of the machine.
    pub(crate) kernel: String,
    pub(crate) arch: Option<Arch>,
    pub(crate) cpus: u32,
    pub(crate) host: String,
    /// First and last time, ns; `None`: those of the records.
    pub(crate) start_ns: Option<u64>,
    pub(crate) end_ns: Option<u64>,
    /// A time of the file, and the same in ns since 1970.
    pub(crate) unix: Option<(u64, u64)>,
}

/// What readers fill.
pub(crate) struct Sink {
    pub(crate) people: People,
    pub(crate) sorter: Sorter,
    pub(crate) found: Found,
    /// Of the records.
    pub(crate) first_ns: u64,
    pub(crate) last_ns: u64,
    /// How many there are.
    pub(crate) count: u64,
}

impl Sink {
    pub(crate) fn new(spill: Option<Arc<dyn Spill>>) -> Self {
        Self {
            people: People::default(),
            sorter: Sorter::new(spill),
            found: Found::default(),
            first_ns: u64::MAX,
            last_ns: 0,
            count: 0,
        }
    }

    /// Adds a record.
    pub(crate) fn push(&mut self, record: Record) {
        // What else is told can begin before these are.
        if matches!(record.kind, kind::OUT | kind::IN | kind::WAKING) {
            self.first_ns = self.first_ns.min(record.at_ns);
        }
        self.last_ns = self.last_ns.max(record.at_ns);
        let order = self.count;
        self.count += 1;
        self.found.cpus = self.found.cpus.max(u32::from(record.cpu) + 1);
        self.people.see(&record);
        self.sorter.push(Record { order, ..record });
    }
}
