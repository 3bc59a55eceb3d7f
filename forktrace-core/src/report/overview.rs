//! The workload at a glance: where the time went, who did what, what was waited for.

use schemars::JsonSchema;
use serde::Serialize;

use super::{Object, Spread};

/// The time during which a group lived, each moment in one state. They add up to
/// [`super::Group::lifetime_ns`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Wall {
    /// At least one task ran.
    pub running_ns: u64,
    /// None ran, and at least one wanted to.
    pub starved_ns: u64,
    /// None ran or wanted to; at least one was blocked.
    pub blocked_ns: u64,
    /// All were stopped.
    pub stopped_ns: u64,
    /// None is known to have run, and the state of at least one is not known.
    pub unknown_ns: u64,
    /// CPU time of all tasks while at least one ran: divided by `running_ns`, the CPUs that
    /// were used on average.
    pub cpu_ns: u64,
}

/// Tasks that do the same job: see [`super::Task::role`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Role {
    /// Its name.
    pub name: String,
    /// How many tasks have it.
    pub tasks: u64,
    /// Of these: a runtime keeps them for itself, or nobody ever had work for them.
    pub helpers: u64,
    /// The one of them that lived longest.
    pub longest_lived: u32,
    /// When the first of them was created.
    pub start_ns: u64,
    /// How much of the critical path was theirs.
    pub path_ns: u64,
    /// On a CPU, in all.
    pub running_ns: u64,
    /// Wanted a CPU, in all.
    pub runnable_ns: u64,
    /// Asleep, in all.
    pub blocked_ns: u64,
    /// Stopped, traced or frozen, in all.
    pub stopped_ns: u64,
    /// Not known, in all.
    pub unknown_ns: u64,
    /// The longest block of one of them.
    pub longest_block_ns: u64,
    /// How long their blocks were; `None`: there were none.
    pub blocked: Option<Spread>,
    /// How long they waited for a CPU each time; `None`: they never did.
    pub runnable: Option<Spread>,
    /// What they were blocked in longest; `None`: they never were.
    pub mostly: Option<RoleWait>,
}

/// What the tasks of a role were blocked in longest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RoleWait {
    /// As in [`super::Wait::reason`].
    pub reason: String,
    /// For what, where it was the same thing for most of this time.
    pub object: Option<Object>,
    /// How long, in all.
    pub ns: u64,
}

/// Something that tasks waited for, over all tasks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct WaitedFor {
    /// In what, as in [`super::Wait::reason`]; `parked`: helper threads that nobody had work
    /// for, in whatever they slept.
    pub reason: String,
    /// What; `None`: all waits for this reason that have no object of their own (a time, a
    /// child, a page) or whose object is not known.
    pub object: Option<Object>,
    /// Total time, over all tasks.
    pub ns: u64,
    /// Number of blocks.
    pub count: u64,
    /// Number of tasks.
    pub tasks: u64,
}

/// What the tasks of each role did, cell by cell.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RoleTimeline {
    /// When the first cell begins.
    pub start_ns: u64,
    /// When the last cell ends.
    pub end_ns: u64,
    /// Cells of a row, all of the same length within a nanosecond.
    pub cells: u64,
    /// A row a role, in the order of [`super::Report::roles`]; only the first few.
    pub rows: Vec<RoleRow>,
}

/// What the tasks of one role did: for each state the time spent in it in each cell, ns,
/// summed over the tasks. A state that they were never in has no cells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RoleRow {
    /// Name of the role.
    pub role: String,
    /// On a CPU.
    pub running: Vec<u64>,
    /// Wanted a CPU.
    pub runnable: Vec<u64>,
    /// Asleep.
    pub blocked: Vec<u64>,
    /// Stopped, traced or frozen.
    pub stopped: Vec<u64>,
    /// Not known.
    pub unknown: Vec<u64>,
}
