//! How far the report can be trusted.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What makes a report weaker, the worst first.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum WeaknessKind {
    /// The trace has no end: forktrace was killed, or the file was cut off.
    EndMissing,
    /// The file unpacks to more than it may: its rest was not read.
    FileTooLarge,
    /// A part of the file can't be read.
    FileDamaged,
    /// Records of the file can't be read.
    RecordsUnreadable,
    /// Records could not be written to the file.
    WriteFailed,
    /// Records found a ring full.
    RingFull,
    /// Records came from a CPU without a ring.
    NoRing,
    /// The task table was full: tasks are not followed.
    TableFull,
    /// Other records were dropped.
    OtherRecords,
    /// The eBPF programs and forktrace do not fit together.
    Undecodable,
    /// Tasks have another number of context switches than the kernel counted.
    SwitchesDiffer,
    /// Context switches were not seen.
    SwitchesMissed,
    /// Times are not those that the kernel program added up.
    SumsDiffer,
    /// Ends of tasks are not in the trace.
    TaskEndMissing,
    /// Time is unknown for a reason that is none of the above.
    TimeUnknown,
    /// Blocks ended without a wakeup that was seen.
    WakeupMissing,
    /// The recorder that the trace was imported from lost events.
    EventsLost,
    /// Imported from another recorder's file: what it holds can't be checked.
    Imported,
    /// A note: tasks lived when the recording ended.
    CutShort,
    /// A note: switch-ins were inferred from the CPU clock.
    SwitchInInferred,
    /// A note: calls of the select/poll family were not counted.
    PollsLeftOut,
    /// A note: places of the task table could not be used again.
    SlotsLost,
    /// A note: the kernel refused other changes of the tables of tasks.
    TablesRefused,
    /// A note: stacks were dropped.
    StacksLost,
    /// A note: look-ups of names had to be begun anew.
    LookUpsLost,
    /// A note: files have no name.
    NamesMissing,
    /// A note: lines of the workload are not valid marks.
    MarksRefused,
    /// A note: some of what the workload wrote as marks was not read.
    MarksUnread,
    /// A note: a later forktrace knows what these records tell.
    RecordsUnknown,
    /// A note: recorded with `--plain`.
    Plain,
}

impl WeaknessKind {
    /// Is it said, but leaves the report complete? No stretch of a time line is lost then,
    /// and no state but those named is uncertain.
    pub fn is_note(self) -> bool {
        self >= Self::CutShort
    }
}

/// Something that makes the report weaker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Weakness {
    /// What it is, for programs.
    pub kind: WeaknessKind,
    /// How many records, tasks, …
    pub count: u64,
    /// From when; `None` when it can't be placed.
    pub start_ns: Option<u64>,
    /// Until when.
    pub end_ns: Option<u64>,
    /// A sentence for people, with the option that would avoid it if there is one.
    pub text: String,
}

impl Weakness {
    /// See [`WeaknessKind::is_note`].
    pub fn is_note(&self) -> bool {
        self.kind.is_note()
    }
}

/// Attempts to find out, while the tasks lived, what they waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LookUps {
    /// Files and futexes that were looked up.
    pub done: u64,
    /// Of these: the process had ended.
    pub gone: u64,
    /// Of these: it was closed, or something else by then.
    pub changed: u64,
    /// In addition: there was no time to look.
    pub not_looked_up: u64,
    /// CPU time that it took; a part of `tracer_cpu_ns`.
    pub cpu_ns: u64,
}

/// Whether the report can be trusted.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Audit {
    /// No record was lost, no task missed, no time is unknown or can't be placed, and every
    /// task's context switches are as many as the kernel counted: `weaknesses` holds nothing
    /// but notes.
    pub complete: bool,
    /// Records that were dropped or lost with a part of the file.
    pub lost_records: u64,
    /// Tasks of the workload that are not followed.
    pub tasks_not_followed: u64,
    /// Context switches seen, over the tasks that the kernel's count is known of.
    pub switches_traced: u64,
    /// The kernel's count of the same.
    pub switches_kernel: u64,
    /// Time whose place is not known, summed over all tasks: `unknown_ns` and `unplaced_ns`.
    pub unknown_ns: u64,
    /// CPU time of forktrace itself while it recorded; `None` when the recording
    /// has no end. The time in its kernel programs is charged to the workload.
    pub tracer_cpu_ns: Option<u64>,
    /// Blocks that found an early wakeup and have length 0.
    pub early_wakeups: u64,
    /// Blocks whose wakeup was not announced, in all: how much of this they waited
    /// for a CPU is not known.
    pub unwoken_ns: u64,
    /// The wall time by which a figure of the whole workload can be off.
    pub uncertain_ns: u64,
    /// Our running time, over the tasks that ended.
    pub running_ns: u64,
    /// The kernel's CPU time of the same tasks.
    pub kernel_cpu_ns: u64,
    /// What became of the attempts to find out what tasks waited for; `None` when
    /// the recording has no end.
    pub look_ups: Option<LookUps>,
    /// Everything that makes the report weaker, worst first.
    pub weaknesses: Vec<Weakness>,
}
