//! Which part of a recording a report is on.

use schemars::JsonSchema;
use serde::Serialize;

/// A part of a recording (`--from`, `--to`, `--only`). Times and sums are of the part: what
/// reaches over an edge is counted as far as it is inside. How things came about is told as in
/// the whole, so stalls, deadlocks and the links of chains keep the times that they have, also
/// outside of the part. Calls of the select/poll family and limits of cgroups are told of all of the time
/// only, so a part of it has none; `audit` is of the whole recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Part {
    /// From when.
    pub from_ns: u64,
    /// Until when.
    pub to_ns: u64,
    /// How long all of it is.
    pub recorded_ns: u64,
    /// Tasks were chosen by these names, pids and roles; empty: all are reported on.
    pub only: Vec<String>,
    /// How many tasks the whole recording has.
    pub of_tasks: u64,
}
