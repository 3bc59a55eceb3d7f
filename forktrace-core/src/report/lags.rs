//! How long data waited in sockets until tasks looked (`--lag`).

use schemars::JsonSchema;
use serde::Serialize;

use super::{Object, Spread};

/// How long data waited in TCP sockets until tasks of the workload looked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Lags {
    /// Data that waited for less is in none of the rows.
    pub min_ns: u64,
    /// Times that a task looked at data that had come before it asked, however long ago;
    /// `None`: not known, or a part of the time is reported on.
    pub looks: Option<u64>,
    /// Times that data came to any TCP socket of the machine and was not noted, so that it is
    /// in none of the rows; `None`: not known.
    pub not_noted: Option<u64>,
    /// Times that data waited that are in the trace and in none of the rows: there are more
    /// than a report keeps.
    pub left_out: u64,
    /// By role, side and port, most time first; no more than 50.
    pub rows: Vec<Lag>,
    /// How many more rows there are.
    pub other_rows: u64,
}

/// Which side of a connection tasks are on: the port that many are connected to is taken for
/// that of who serves, or else the lower one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LagSide {
    /// Others connect to them: what waits are requests.
    Serves,
    /// They connected: what waits are answers.
    Asks,
}

/// Data for tasks of one role, over connections to one port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Lag {
    /// See [`super::Task::role`].
    pub role: String,
    /// Which side they are on.
    pub side: LagSide,
    /// The TCP port of who serves.
    pub port: u16,
    /// How long data waited each time: from when the first of it came until the task had
    /// looked.
    pub waited: Spread,
    /// The sum of that; times of several sockets overlap.
    pub ns: u64,
    /// What the task that looked did meanwhile: adds up to `ns`.
    pub did: LagDid,
    /// The longest time.
    pub longest: LongestLag,
}

/// What a task did while data waited for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LagDid {
    /// It ran: it did something else, or was about to look.
    pub running_ns: u64,
    /// It was ready to run and had no CPU.
    pub runnable_ns: u64,
    /// It was blocked or stopped.
    pub blocked_ns: u64,
    /// It is not known.
    pub unknown_ns: u64,
    /// What it was blocked in, most time first; no more than 5.
    pub waits: Vec<LagWait>,
}

/// What a task was blocked in while data waited for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LagWait {
    /// As in [`super::Wait::reason`].
    pub reason: String,
    /// The syscall.
    pub syscall: Option<String>,
    /// What it waited for.
    pub object: Option<Object>,
    /// How long.
    pub ns: u64,
}

/// The longest time that data waited.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LongestLag {
    /// The task that looked.
    pub serial: u32,
    /// Its tid.
    pub tid: u32,
    /// Its name.
    pub name: String,
    /// When the data came.
    pub start_ns: u64,
    /// How long it waited.
    pub ns: u64,
    /// What the task did meanwhile: adds up to `ns`.
    pub did: LagDid,
}
