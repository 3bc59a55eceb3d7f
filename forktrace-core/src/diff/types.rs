//! A comparison, as its JSON has it.

use schemars::JsonSchema;
use serde::Serialize;

use crate::report::{FindingKind, PathState, Verdict};

/// Version of the JSON; a reader that knows this number can read it.
pub const DIFF_SCHEMA_VERSION: u32 = 1;

/// What `forktrace diff --format json` writes. Durations are nanoseconds; `None` always means
/// not known, never 0. Later versions with the same `schema_version` may add properties.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Diff {
    /// Version of this format; it changes when a property changes its meaning or goes away.
    #[schemars(extend("const" = DIFF_SCHEMA_VERSION))]
    pub schema_version: u32,
    /// The answer, for people. Names in it are as the workload gave them.
    pub sentence: String,
    /// More sentences that help to understand it, the most important first.
    pub more: Vec<String>,
    /// What makes the comparison weaker, for people.
    pub notes: Vec<String>,
    /// The runs before.
    pub base: Side,
    /// The runs after.
    pub new: Side,
    /// Wall time: from the first task's creation to the last one's end, or to the end of the
    /// recording.
    pub wall: Change,
    /// Time in which two tasks or more lived and all of them were blocked.
    pub stalled: Change,
    /// Parts of the critical path, the largest change first. Their changes add up to that of
    /// `wall`, to the nanosecond. Empty when a trace has no path (`--plain`).
    pub path: Vec<PathChange>,
    /// What stalls are put down to, the largest change first. Their changes add up to that of
    /// `stalled`. Empty when a trace does not tell (`--plain`).
    pub stalls: Vec<StallChange>,
    /// What the tasks of each role waited for, over all tasks but a runtime's helper threads,
    /// the largest change first. No more than 200.
    pub waits: Vec<WaitChange>,
    /// Tasks that do the same job, the largest change of their part of the path first.
    pub roles: Vec<RoleChange>,
    /// Findings that the two have or one of them has, the largest change first.
    pub findings: Vec<FindingChange>,
    /// By how much the change of the wall time, or a part of it, can be off because records
    /// are missing: what is uncertain before and after, added. 0: all traces are complete.
    pub uncertain_ns: u64,
    /// How sure the intervals of changes are: each by itself holds the true change with this
    /// probability.
    pub confidence: f64,
}

impl Diff {
    /// Is this change worth telling: beyond what repeated runs scatter, and not little? Little is
    /// less than one part in a hundred of the run. Where less than that is proved for the whole
    /// run, it is less than a tenth of that.
    pub fn tells(&self, change: &Change) -> bool {
        let run_ns = self.wall.base_ns.max(self.wall.new_ns);
        let little_ns = match self.wall.significant {
            Some(true) => (run_ns / LITTLE).min(self.wall.delta_ns.unsigned_abs() / 10),
            _ => run_ns / LITTLE,
        };
        let ns = change.delta_ns.unsigned_abs();
        ns > 0 && ns >= little_ns && change.significant != Some(false)
    }
}

/// A change by less than one part in so many of the run is little.
const LITTLE: u64 = 100;

/// The runs of one side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Side {
    /// Its traces.
    pub traces: Vec<String>,
    /// What the first of them is of; empty where it was attached to what ran already.
    pub argv: Vec<String>,
    /// Wall time of each run, in the order of the traces.
    pub wall_ns: Vec<u64>,
    /// The time all blocked, of each run.
    pub stalled_ns: Vec<u64>,
    /// Runs of which records are missing.
    pub incomplete: u64,
    /// Of these, runs whose trace breaks off: how long they took is not known.
    pub without_end: u64,
}

/// How a figure changed. Of several runs it is the mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Change {
    /// Before.
    pub base_ns: u64,
    /// After.
    pub new_ns: u64,
    /// After less before.
    pub delta_ns: i64,
    /// The same as a part of what was before, such as 0.12; `None`: it was nothing before.
    pub share: Option<f64>,
    /// The change is at least this (`confidence`); `None`: a side has one run only, so it is
    /// not known how much is chance.
    pub low_ns: Option<i64>,
    /// The change is at most this.
    pub high_ns: Option<i64>,
    /// Is it more than chance: is 0 outside of the interval? `None`: there is no interval.
    pub significant: Option<bool>,
}

/// A thing that was waited for, by a name that it has in each run: without process ids, inode
/// numbers, ports of clients, and the part of an address that differs from run to run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
pub struct Thing {
    /// As `kind` of an object in a report.
    pub kind: String,
    /// Its name.
    pub name: String,
}

/// How a part of the critical path changed.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct PathChange {
    /// Role of the tasks.
    pub role: String,
    /// What they did.
    pub state: PathState,
    /// Of blocked tasks: in what.
    pub reason: Option<String>,
    /// Of blocked tasks: what they waited for.
    pub object: Option<Thing>,
    /// How much of the path it is.
    #[serde(flatten)]
    pub change: Change,
}

/// How stalls with one cause changed.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct StallChange {
    /// What is said of them; `None`: all stalls that the reports do not list by cause.
    pub verdict: Option<Verdict>,
    /// Name of the task whose wait they are put down to.
    pub name: Option<String>,
    /// In what it waited.
    pub reason: Option<String>,
    /// For what.
    pub object: Option<Thing>,
    /// How long they were in all.
    #[serde(flatten)]
    pub change: Change,
}

/// How long tasks of a role waited for something.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct WaitChange {
    /// Their role.
    pub role: String,
    /// In what they waited.
    pub reason: String,
    /// For what; `None`: it has no name, or several little ones together.
    pub object: Option<Thing>,
    /// Summed over the tasks.
    #[serde(flatten)]
    pub change: Change,
}

/// How a role changed.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct RoleChange {
    /// Its name.
    pub name: String,
    /// How many tasks had it before, on average.
    pub base_tasks: f64,
    /// How many have it after.
    pub new_tasks: f64,
    /// Its part of the critical path.
    pub path: Change,
    /// On a CPU, summed over the tasks.
    pub running: Change,
    /// Wanted a CPU.
    pub runnable: Change,
    /// Asleep.
    pub blocked: Change,
}

/// How a finding changed.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct FindingChange {
    /// What it is about.
    pub kind: FindingKind,
    /// Role of the first task that it is about.
    pub role: Option<String>,
    /// What it is about, if it is about one thing.
    pub object: Option<Thing>,
    /// What was said before, of the first run that has it; `None`: nothing.
    pub base_sentence: Option<String>,
    /// What is said after; `None`: nothing.
    pub new_sentence: Option<String>,
    /// The wall time that it took.
    #[serde(flatten)]
    pub change: Change,
}
