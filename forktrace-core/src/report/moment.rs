//! What the tasks did at one moment.

use super::{Link, Slice, TaskName};

/// A moment of a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    /// When.
    pub at_ns: u64,
    /// The tasks that lived, in the order of creation.
    pub tasks: Vec<MomentTask>,
}

/// What a task did at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MomentTask {
    /// Who.
    pub task: TaskName,
    /// In which state.
    pub state: Slice,
    /// Since when it was in it.
    pub start_ns: u64,
    /// Until when.
    pub end_ns: u64,
    /// Of a blocked task: its wait, its waker's inside it, and so on.
    pub chain: Vec<Link>,
    /// The chain goes on.
    pub chain_cut: bool,
}
