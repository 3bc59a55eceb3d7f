//! What became of the processes that look things up for a recording.

use serde::{Deserialize, Serialize};

/// Processes that looked up names for the recording and had to be replaced.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelperLost {
    /// Times that one did not answer in time: a file system that hangs.
    pub stuck: u64,
    /// Times that one died, or had to be ended.
    pub died: u64,
    /// Files and stacks, and looks for deadlocks, that nothing came of.
    pub unanswered: u64,
    /// How those that died did, as far as that is known.
    pub ends: Vec<HelperEnd>,
}

/// How processes that looked things up ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelperEnd {
    /// What they were for.
    pub of: HelperOf,
    /// How they ended.
    pub how: How,
    /// So many times.
    pub times: u64,
    /// Memory that each might allocate, bytes; 0: not recorded.
    pub memory_bytes: u64,
}

/// What a process looks up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum HelperOf {
    /// What tasks wait for.
    Names,
    /// Deadlocks.
    Deadlocks,
    /// Who could end waits.
    Providers,
    /// Functions of stacks.
    Symbols,
    /// Stacks of tasks that sleep.
    Stacks,
    /// Names of Java methods, which it asks for.
    Java,
}

/// How a process that looked things up ended.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum How {
    /// A signal, by its number.
    Signal(i32),
    /// It ended itself with this status, which it does only when something is wrong.
    Exit(i32),
    /// It could not begin, and said why.
    NotBegun(String),
    /// It gave an answer that is none, or to no question, and was ended.
    Senseless,
    /// It lives: a file was cut short while it looked up functions, and what it found is not
    /// believed.
    FileCut,
}
