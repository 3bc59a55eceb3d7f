//! How far the report can be trusted.

use serde::Serialize;

/// Something that makes the report weaker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Weakness {
    /// What it is, for programs: `ring_full`, `no_ring`, `other_records`,
    /// `table_full`, `end_missing`, `file_damaged`, `write_failed`,
    /// `switches_differ`, `wakeup_missing`, `cut_short`, `names_missing`, `polls_left_out`,
    /// `slots_lost`, `tables_refused`.
    pub kind: String,
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
    /// Is it said, but leaves the report complete? No stretch of a time line is lost then,
    /// and no state but those named is uncertain.
    pub fn is_note(&self) -> bool {
        const NOTES: [&str; 10] = [
            "records_unknown",
            "stacks_lost",
            "polls_left_out",
            "slots_lost",
            "tables_refused",
            "plain",
            "cut_short",
            "switch_in_inferred",
            "marks_refused",
            "names_missing",
        ];
        NOTES.contains(&self.kind.as_str())
    }
}

/// Attempts to find out, while the tasks lived, what they waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
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
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Audit {
    /// No record lost, no task missed, every task's switches as the kernel counts.
    pub complete: bool,
    /// Records that found no room or were lost with a part of the file.
    pub lost_records: u64,
    /// Tasks of the workload that are not followed.
    pub tasks_not_followed: u64,
    /// Context switches seen, over the tasks that the kernel's count is known of.
    pub switches_traced: u64,
    /// The kernel's count of the same.
    pub switches_kernel: u64,
    /// Time whose place is not known, over all tasks: unknown and unplaced.
    pub unknown_ns: u64,
    /// CPU time of forktrace itself while it recorded; `None` when the recording
    /// has no end. The time in its kernel programs is charged to the workload.
    pub tracer_cpu_ns: Option<u64>,
    /// Blocks that found an early wakeup and have length 0.
    pub early_wakeups: u64,
    /// Blocks whose wakeup was not announced, in all: how much of this they waited
    /// for a CPU is not known.
    pub unwoken_ns: u64,
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
