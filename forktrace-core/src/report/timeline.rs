//! A picture of a part of a trace.

use schemars::JsonSchema;
use serde::{Serialize, Serializer};

/// What a task mostly did in a slice of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slice {
    /// On a CPU.
    Running,
    /// Wanted a CPU.
    Runnable,
    /// Asleep.
    Blocked,
    /// Stopped, traced or frozen.
    Stopped,
    /// Records were lost there.
    Unknown,
    /// Not born yet, or dead.
    NotAlive,
}

impl Slice {
    /// As a letter.
    pub fn letter(self) -> char {
        match self {
            Self::Running => 'r',
            Self::Runnable => 'w',
            Self::Blocked => 'b',
            Self::Stopped => 's',
            Self::Unknown => '?',
            Self::NotAlive => ' ',
        }
    }
}

/// A part of a trace's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Interval {
    /// Its start.
    pub start_ns: u64,
    /// Its end.
    pub end_ns: u64,
}

impl Interval {
    /// Its length.
    pub fn ns(self) -> u64 {
        self.end_ns.saturating_sub(self.start_ns)
    }
}

/// What one task did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct TimelineRow {
    /// Its serial.
    pub serial: u32,
    /// Its tid.
    pub tid: u32,
    /// Its name.
    pub name: String,
    /// A letter for each slice, for the state in which it was for most of it: `r` running, `w`
    /// wanting a CPU, `b` blocked, `s` stopped, `?` not known, a space when it was not alive.
    #[serde(serialize_with = "as_letters")]
    #[schemars(with = "String")]
    pub slices: Vec<Slice>,
}

/// What some tasks did in a part of a trace, slice by slice. In a slice a task can
/// have been in several states: the one with the most time is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Timeline {
    /// What is shown, in slices of the same length.
    pub window: Interval,
    /// The moment that it is about, within the window.
    pub moment: Interval,
    /// The first slice that the moment has a part in, and the last one; from 0.
    pub moment_slices: [u64; 2],
    /// A row a task.
    pub rows: Vec<TimelineRow>,
    /// So many more tasks are not shown.
    pub more_tasks: u64,
}

fn as_letters<S: Serializer>(slices: &[Slice], serializer: S) -> Result<S::Ok, S::Error> {
    let letters: String = slices.iter().map(|slice| slice.letter()).collect();
    serializer.serialize_str(&letters)
}
