//! From a recorded trace to a report. Nothing here knows eBPF or the machine that it
//! runs on: traces are read from bytes, reports are written as strings.
//!
//! The data flows one way: [`trace`] (events) ← [`trace_file`] (bytes) → [`model`]
//! (a time line per task) → [`analysis`] → [`report`] → [`render`]; [`pipeline`] goes
//! the whole way. [`diff`] compares reports.

pub mod analysis;
mod base;
pub mod diff;
#[cfg(test)]
mod drawn;
mod lately;
pub mod live;
pub mod model;
pub mod pipeline;
mod quick;
pub mod random;
pub mod recent;
pub mod render;
pub mod report;
pub mod trace;
pub mod trace_file;
pub mod utc;
pub mod words;
