//! How tasks stand to each other: pairs, the wait-for graph, deadlocks.

use schemars::JsonSchema;
use serde::Serialize;

use super::InterruptKind;

/// Two tasks, over the time that both lived and both are known.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Pair {
    /// Serial of the task that was created first.
    pub a: u32,
    /// Serial of the other.
    pub b: u32,
    /// The time looked at: both lived and both are known.
    pub common_ns: u64,
    /// Time left out since one of them is unknown.
    pub unknown_ns: u64,
    /// How long both were blocked, within `common_ns`.
    pub overlap_ns: u64,
    /// How long both would have been blocked by chance: the product of the times
    /// that each was, divided by `common_ns`.
    pub expected_ns: u64,
    /// `overlap_ns / expected_ns`; `None` when one was never blocked.
    pub lift: Option<f64>,
    /// What was tested; `None`: nothing could be.
    pub test: Option<PairTest>,
    /// Probability of a difference like this or larger by chance: how often it comes out when
    /// one time line is shifted against the other, by up to an eighth of the time. Two-sided
    /// for overlap, one-sided for onset.
    pub p: Option<f64>,
    /// The same, adjusted for the number of pairs (Benjamini–Hochberg): up to 0.05 counts as
    /// more than chance.
    pub q: Option<f64>,
    /// What follows.
    pub verdict: PairVerdict,
}

/// What of a pair was compared with chance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PairTest {
    /// How long both were blocked.
    Overlap,
    /// Whether their blocks begin at the same moments, where one was blocked for more than
    /// 95 % of the time, or for so little that the overlap tells nothing.
    Onset,
}

/// What can be said of a pair. None of it says that one is the cause of the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PairVerdict {
    /// Blocked together as chance would have it.
    Chance,
    /// Blocked together more than by chance.
    Together,
    /// Blocked together less than by chance.
    Apart,
    /// One was blocked nearly always or nearly never, so the overlap tells
    /// nothing; but their blocks begin at the same moments more than by chance.
    StartTogether,
    /// The overlap tells nothing, nor do the moments at which blocks begin.
    Uninformative,
    /// Fewer than 5 blocks: too few for a test.
    TooFew,
}

/// Which pairs were tested, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PairTests {
    /// Pairs that there are.
    pub possible: u64,
    /// Pairs in the report. Where there are more tasks than `all_up_to_tasks`, it
    /// is those that wake each other, wait for the same things, and are blocked
    /// longest.
    pub tested: u64,
    /// Up to so many tasks, all pairs that had time in common are in this report.
    pub all_up_to_tasks: u32,
    /// By how many random amounts one time line was shifted against the other at most; fewer
    /// where chance is plainly enough.
    pub shifts: u32,
    /// How much of the time was looked at: of a trace with very many stretches,
    /// evenly spread parts.
    pub looked_at_ns: u64,
}

/// Who ends a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PeerKind {
    /// A task of the workload.
    Task,
    /// A task outside the workload.
    Outside,
    /// A kernel thread.
    KernelThread,
    /// An interrupt.
    Interrupt,
    /// No wakeup was seen, or it can't be told whether by a task.
    Unknown,
    /// Nobody: the wait goes on when the task or the recording ends.
    Nobody,
}

/// One who ends a wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Peer {
    /// What it is.
    pub kind: PeerKind,
    /// Serial of a task of the workload; `None` for all others.
    pub serial: Option<u32>,
    /// Tid of another task; `None` for all others.
    pub tid: Option<u32>,
    /// Name of another task; `None` for all others, and when it is not known.
    pub name: Option<String>,
    /// Kind of an interrupt; `None` for all others.
    pub interrupt: Option<InterruptKind>,
}

/// What one task waited until the other one woke it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct WaitsFor {
    /// Serial of the task that waited.
    pub from: u32,
    /// Who woke it. That proves an order, not that it held what was waited for.
    pub to: Peer,
    /// How long it was blocked, in all.
    pub ns: u64,
    /// How often.
    pub count: u64,
}

/// Edges of the wait-for graph that are not listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct OtherEdges {
    /// How many.
    pub edges: u64,
    /// How long these waits were in all.
    pub ns: u64,
}

/// What kind of deadlock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeadlockKind {
    /// Each holds a lock that the one before waits for.
    Cycle,
    /// Each waits for something else that only the next one could bring.
    Circle,
    /// All of them sleep in waits that only they could end, or nobody at all.
    AllAsleep,
}

/// Tasks that can never go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Deadlock {
    /// When it was found.
    pub at_ns: u64,
    /// When the first of them was woken, by a signal as a rule; `None`: none was.
    pub end_ns: Option<u64>,
    /// What it is.
    pub kind: DeadlockKind,
    /// The tasks; in a cycle each waits for the next one, the last for the first.
    pub tasks: Vec<DeadlockedTask>,
}

/// A task in a deadlock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DeadlockedTask {
    /// Its serial.
    pub serial: u32,
    /// Its tid.
    pub tid: u32,
    /// Its name.
    pub name: String,
    /// What it waits for, for people: `mutex 0x7f…`, `futex 0x7f…`, `child`.
    pub waits_for: String,
    /// Serial of the task that holds it; `None` when that is not known.
    pub owner: Option<u32>,
    /// Since when.
    pub since_ns: u64,
    /// If the wait began before the recording: how long before, ns; null: it did not, or that
    /// is not known.
    pub waited_before_ns: Option<u64>,
    /// The function of the program that it waits in, if stacks were taken and tell.
    pub code: Option<String>,
}
