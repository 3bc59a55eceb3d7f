//! What a run of an arm measured.

use std::path::PathBuf;

use serde::Serialize;
use serde_json::{Map, Value};

use super::picture::Picture;

/// A run that is over.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Index of its arm.
    pub arm: usize,
    /// Its parameters.
    pub params: Map<String, Value>,
    /// What it measured.
    pub measures: Map<String, Value>,
    /// What its trace is worth.
    pub audit: RunAudit,
    /// The trace, if it is kept.
    pub trace: Option<PathBuf>,
    /// The claim's picture, if it is of this run.
    pub picture: Option<Picture>,
}

/// What the trace of a run is worth.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RunAudit {
    /// Nothing was lost.
    pub complete: bool,
    /// It is complete, or as much of it is uncertain as the claim tolerates.
    pub carries: bool,
    /// Records lost.
    pub lost_records: u64,
    /// Context switches seen.
    pub switches_traced: u64,
    /// Context switches that the kernel counted.
    pub switches_kernel: u64,
    /// What makes it weaker, in sentences, the worst first.
    pub weaknesses: Vec<String>,
    /// Why runs before it don't count: their traces were incomplete, or had no value to
    /// measure.
    pub repeated: Vec<String>,
}
