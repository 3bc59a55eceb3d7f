//! What became of a workload: the reports of its runs before a change and after it, compared.
//!
//! ```text
//! report → digest (figures by names that two runs share) → changes → answer (a sentence)
//! ```
//!
//! The critical path's parts add up to the wall time of a run, so the changes of its parts
//! add up to the change of the wall time, to the nanosecond; and what stalls are put down to
//! adds up to the time in which all tasks were blocked. With several runs a side, figures
//! are means (`shares` says how they still add up), and changes have an
//! `interval`.

mod answer;
mod changes;
mod digest;
mod interval;
pub mod phrases;
mod same;
mod shares;
#[cfg(test)]
mod tests;
mod types;

pub use self::{
    changes::compare,
    digest::Digest,
    interval::deviation,
    shares::mean,
    types::{
        Change, DIFF_SCHEMA_VERSION, Diff, FindingChange, PathChange, RoleChange, Side,
        StallChange, Thing, WaitChange,
    },
};
use crate::report::schema_of;

/// The JSON Schema of a comparison, which `docs/diff.schema.json` shows.
pub fn schema() -> schemars::Schema {
    schema_of::<Diff>("forktrace diff")
}
