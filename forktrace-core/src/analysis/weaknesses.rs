//! What makes a report weaker: a function for each kind.

use super::{look_ups, sum_by_key::total};
use crate::{
    model::{Fate, Model, Off, State},
    report::{Task, Weakness, WeaknessKind as Kind},
    trace::{
        Finish, MarksRefused, Totals,
        marks::{LONGEST_LINE, MOST, MOST_BYTES, VARIABLE},
    },
    trace_file::TraceInfo,
    words::{quantity, times},
};

/// What is known when weaknesses are looked for.
pub(super) struct Facts<'a> {
    pub(super) info: &'a TraceInfo,
    pub(super) model: &'a Model,
    pub(super) tasks: &'a [Task],
    pub(super) tasks_not_followed: u64,
    /// Unknown and unplaced time, over all tasks.
    pub(super) unknown_ns: u64,
}

/// Looks for one kind.
type Look = fn(&Facts<'_>) -> Option<Weakness>;

const LOOKS: [Look; 27] = [
    end_missing,
    file_too_large,
    records_unreadable,
    write_failed,
    ring_full,
    no_ring,
    table_full,
    other_records,
    undecodable,
    switches_differ,
    switches_missed,
    sums_differ,
    task_end_missing,
    wakeup_missing,
    events_lost,
    imported,
    cut_short,
    switch_in_inferred,
    polls_left_out,
    slots_lost,
    tables_refused,
    stacks_lost,
    look_ups_lost,
    names_missing,
    marks_refused,
    marks_unread,
    records_unknown,
];

/// All that makes the report weaker, worst first.
pub(super) fn weaknesses(facts: &Facts<'_>) -> Vec<Weakness> {
    let mut found: Vec<Weakness> = LOOKS.iter().filter_map(|look| look(facts)).collect();
    found.extend(file_damaged(facts));
    found.extend(plain(facts));
    // Whatever the reason, the report is not whole then.
    if found.iter().all(Weakness::is_note) {
        found.extend(time_unknown(facts));
    }
    found.sort_by_key(|weakness| weakness.kind);
    found
}

/// A weakness, if there is anything to count.
fn weakness(kind: Kind, count: u64, text: impl FnOnce() -> String) -> Option<Weakness> {
    (count > 0).then(|| Weakness {
        kind,
        count,
        start_ns: None,
        end_ns: None,
        text: text(),
    })
}

/// Says from when until when.
fn placed(weakness: Weakness, range: Option<(u64, u64)>) -> Weakness {
    Weakness {
        start_ns: range.map(|r| r.0),
        end_ns: range.map(|r| r.1),
        ..weakness
    }
}

impl Facts<'_> {
    fn finish(&self) -> Option<&Finish> {
        self.info.finish.as_ref()
    }

    fn since_start(&self, ns: u64) -> u64 {
        ns.saturating_sub(self.info.header.start_ns)
    }
}

fn was(count: u64) -> &'static str {
    if count == 1 { "was" } else { "were" }
}

fn end_missing(facts: &Facts<'_>) -> Option<Weakness> {
    if facts.finish().is_some() {
        return None;
    }
    let last = facts.since_start(facts.info.last_ns);
    let found = weakness(Kind::EndMissing, 1, || {
        format!(
            "the trace has no end: forktrace was killed, or the file was cut off; it goes up \
             to {:.3} s",
            last as f64 / 1e9
        )
    })?;
    Some(placed(found, Some((last, facts.model.end_ns))))
}

fn file_too_large(facts: &Facts<'_>) -> Option<Weakness> {
    let from = facts.info.skipped.too_large_from?;
    weakness(Kind::FileTooLarge, 1, || {
        format!(
            "the trace is read up to byte {from} only: what follows takes more memory than a \
             file of its length may"
        )
    })
}

fn file_damaged(facts: &Facts<'_>) -> Vec<Weakness> {
    let damages = facts.info.damage.iter();
    let found = damages.filter_map(|damage| {
        let count = damage.records_lost.unwrap_or(1).max(1);
        let found = weakness(Kind::FileDamaged, count, || {
            format!("the trace file is damaged: {damage}")
        })?;
        let until = damage.before_ns.map(|ns| facts.since_start(ns));
        let range = (
            facts.since_start(damage.after_ns),
            until.unwrap_or(facts.model.end_ns),
        );
        Some(placed(found, Some(range)))
    });
    found.collect()
}

fn records_unreadable(facts: &Facts<'_>) -> Option<Weakness> {
    let count = facts.info.skipped.unreadable;
    weakness(Kind::RecordsUnreadable, count, || {
        format!(
            "{} of the trace could not be read",
            quantity(count, "record")
        )
    })
}

fn write_failed(facts: &Facts<'_>) -> Option<Weakness> {
    let f = facts.finish()?;
    let found = weakness(Kind::WriteFailed, f.unwritten, || {
        format!(
            "{} could not be written: {}; --save puts the trace on another disk",
            quantity(f.unwritten, "record"),
            f.write_error.as_deref().unwrap_or("for an unknown reason")
        )
    })?;
    let range = f.unwritten_from_ns.zip(f.unwritten_until_ns);
    let since = |(from, until)| (facts.since_start(from), facts.since_start(until));
    Some(placed(found, range.map(since)))
}

fn ring_full(facts: &Facts<'_>) -> Option<Weakness> {
    let lost = facts.finish()?.lost_ring_full;
    let bytes = facts.info.header.ring_bytes;
    let why_slow = facts.finish()?.not_real_time.as_ref().map(|why| {
        format!(
            "; forktrace could not get real-time priority ({why}), which `ulimit -r 60` or \
             CAP_SYS_NICE allows"
        )
    });
    let found = weakness(Kind::RingFull, lost, || {
        format!(
            "{} {} dropped because a ring of {} KiB was full; --ring-size {} makes the rings larger{}",
            quantity(lost, "record"),
            was(lost),
            bytes >> 10,
            ring_size_to_try(bytes),
            why_slow.unwrap_or_default(),
        )
    })?;
    Some(placed(found, gap_range(facts.model)))
}

fn no_ring(facts: &Facts<'_>) -> Option<Weakness> {
    let lost = facts.finish()?.lost_no_ring;
    let found = weakness(Kind::NoRing, lost, || {
        format!(
            "{} came from a CPU that was brought online after the start and has no ring",
            quantity(lost, "record")
        )
    })?;
    Some(placed(found, gap_range(facts.model)))
}

fn table_full(facts: &Facts<'_>) -> Option<Weakness> {
    let count = facts.finish().map_or(0, |f| f.not_followed);
    let count = count.max(facts.tasks_not_followed);
    let found = weakness(Kind::TableFull, count, || {
        format!(
            "{} {} not followed: the table of {} was full; --max-tasks makes it larger",
            quantity(count, "task"),
            was(count),
            quantity(facts.info.header.max_tasks.into(), "task"),
        )
    })?;
    let first = facts.tasks.iter().find(|t| !t.followed);
    let range = first.map(|first| (first.start_ns, facts.model.end_ns));
    Some(placed(found, range))
}

fn other_records(facts: &Facts<'_>) -> Option<Weakness> {
    let lost = facts.finish()?.lost_other;
    weakness(Kind::OtherRecords, lost, || {
        format!(
            "{} of creations, execs, wakers, wait targets and untracked tasks {} dropped, because \
             a ring was full or the kernel skipped the probe (recursion): names may be stale or \
             unknown, and tasks missing; --ring-size makes the rings larger",
            quantity(lost, "record"),
            was(lost)
        )
    })
}

fn undecodable(facts: &Facts<'_>) -> Option<Weakness> {
    let count = facts.finish()?.undecodable;
    weakness(Kind::Undecodable, count, || {
        format!(
            "{} could not be read: the eBPF programs and forktrace do not fit together",
            quantity(count, "record")
        )
    })
}

fn switches_differ(facts: &Facts<'_>) -> Option<Weakness> {
    let differ = |t: &&Task| t.switches.kernel.is_some_and(|k| k != t.switches.traced);
    let count = facts.tasks.iter().filter(differ).count() as u64;
    weakness(Kind::SwitchesDiffer, count, || {
        format!(
            "{} with another number of context switches than the kernel counted",
            quantity(count, "task")
        )
    })
}

fn switches_missed(facts: &Facts<'_>) -> Option<Weakness> {
    let missed = |t: &crate::model::Task| t.record.as_ref().map_or(0, |r| u64::from(r.missed));
    let count = total(facts.model.tasks.iter().map(missed));
    weakness(Kind::SwitchesMissed, count, || {
        format!(
            "{} {} not seen: the task's state before them is unknown",
            quantity(count, "context switch"),
            was(count)
        )
    })
}

fn sums_differ(facts: &Facts<'_>) -> Option<Weakness> {
    let wrong = facts.model.tasks.iter().filter(|t| sums_of_task_differ(t));
    let wrong = wrong.count() as u64;
    weakness(Kind::SumsDiffer, wrong, || {
        format!(
            "{} whose times are not those that the kernel program added up",
            quantity(wrong, "task")
        )
    })
}

fn task_end_missing(facts: &Facts<'_>) -> Option<Weakness> {
    facts.finish()?;
    let unseen = |t: &&crate::model::Task| t.followed && t.fate == Fate::Unknown;
    let count = facts.model.tasks.iter().filter(unseen).count() as u64;
    weakness(Kind::TaskEndMissing, count, || {
        format!("{} whose end is not in the trace", quantity(count, "task"))
    })
}

fn time_unknown(facts: &Facts<'_>) -> Option<Weakness> {
    weakness(Kind::TimeUnknown, facts.unknown_ns, || {
        format!(
            "{:.3} ms of the tasks' time is unknown or can't be placed, though no record is known \
             to be lost",
            facts.unknown_ns as f64 / 1e6
        )
    })
}

fn wakeup_missing(facts: &Facts<'_>) -> Option<Weakness> {
    let unwoken = facts.model.stretches_with(Off::NO_WAKE);
    weakness(Kind::WakeupMissing, unwoken, || {
        format!(
            "{} ended without a recorded wakeup: shown as blocked to the end",
            quantity(unwoken, "block")
        )
    })
}

fn events_lost(facts: &Facts<'_>) -> Option<Weakness> {
    let from = facts.info.header.imported.as_ref()?;
    let found = weakness(Kind::EventsLost, from.lost, || {
        format!(
            "{} lost {}: what tasks did from the event before to the one after on that CPU is \
             unknown",
            from.from,
            quantity(from.lost, "event"),
        )
    })?;
    Some(placed(found, gap_range(facts.model)))
}

fn imported(facts: &Facts<'_>) -> Option<Weakness> {
    let from = facts.info.header.imported.as_ref()?;
    weakness(Kind::Imported, 1, || {
        let mut text = format!(
            "imported from what {} recorded: nothing in such a file says whether it is whole, so \
             no count of the kernel was compared",
            from.from
        );
        if !from.lacks.is_empty() {
            text += &format!("; it does not tell {}", from.lacks.join(", nor "));
        }
        for fault in &from.faults {
            text += &format!("; {fault}");
        }
        text
    })
}

fn cut_short(facts: &Facts<'_>) -> Option<Weakness> {
    if !facts.finish()?.cut_short {
        return None;
    }
    let lives = |t: &&Task| t.end_ns == facts.model.end_ns && t.switches.kernel.is_none();
    let alive = facts.tasks.iter().filter(lives).count() as u64;
    weakness(Kind::CutShort, alive, || {
        format!(
            "{} {} still alive at the end of the recording: their last waits are truncated, and \
             the kernel's count of their switches is unknown",
            quantity(alive, "task"),
            was(alive)
        )
    })
}

fn switch_in_inferred(facts: &Facts<'_>) -> Option<Weakness> {
    let (inferred, uncertain_ns) = inferred(facts.model);
    weakness(Kind::SwitchInInferred, inferred, || {
        format!(
            "{} {} not traced and {} inferred from the CPU clock ({:.1} ms can't be split between \
             waiting for a CPU and running)",
            if inferred == 1 {
                "1 switch-in".to_owned()
            } else {
                format!("{inferred} switch-ins")
            },
            was(inferred),
            was(inferred),
            uncertain_ns as f64 / 1e6
        )
    })
}

fn polls_left_out(facts: &Facts<'_>) -> Option<Weakness> {
    let count = facts.model.polls_left_out;
    weakness(Kind::PollsLeftOut, count, || {
        format!(
            "{} of select, poll or epoll (machine-wide) {} not counted because the probe was \
             interrupted: call counts may be low by up to {count}",
            if count == 1 {
                "1 entry or return".to_owned()
            } else {
                format!("{count} entries or returns")
            },
            was(count)
        )
    })
}

fn slots_lost(facts: &Facts<'_>) -> Option<Weakness> {
    let slots = facts.model.tables_refused.slots;
    weakness(Kind::SlotsLost, slots, || {
        format!(
            "{} of the task table could not be used again: the kernel refused to take it back, \
             and the table held fewer tasks from then on",
            quantity(slots, "place")
        )
    })
}

fn tables_refused(facts: &Facts<'_>) -> Option<Weakness> {
    let others = facts.model.tables_refused.others;
    weakness(Kind::TablesRefused, others, || {
        format!(
            "the kernel refused {} of the tables of tasks, on which no figure depends",
            quantity(others, "change")
        )
    })
}

fn stacks_lost(facts: &Facts<'_>) -> Option<Weakness> {
    let stacks = facts.finish()?.lost_stacks.unwrap_or(0);
    weakness(Kind::StacksLost, stacks, || {
        format!(
            "{} {} dropped: the blocks are there, where they were is not",
            quantity(stacks, "stack"),
            was(stacks)
        )
    })
}

fn look_ups_lost(facts: &Facts<'_>) -> Option<Weakness> {
    let lost = facts.model.helper_lost.as_ref()?;
    weakness(Kind::LookUpsLost, look_ups::times(lost), || {
        look_ups::lost(lost)
    })
}

fn names_missing(facts: &Facts<'_>) -> Option<Weakness> {
    let (nameless, files) = nameless(facts.model);
    weakness(Kind::NamesMissing, nameless, || {
        format!(
            "no name was found for {nameless} of {} that tasks waited for{}",
            quantity(files, "open file"),
            facts.finish().map_or(String::new(), why_nameless)
        )
    })
}

fn marks_refused(facts: &Facts<'_>) -> Option<Weakness> {
    let refused = &facts.model.marks_refused;
    let count = refused.count();
    weakness(Kind::MarksRefused, count, || why_refused(refused))
}

fn marks_unread(facts: &Facts<'_>) -> Option<Weakness> {
    let bytes = facts.model.marks_unread;
    weakness(Kind::MarksUnread, bytes, || {
        format!(
            "{} in the file that {VARIABLE} names {} not read: no more than {} MiB of marks are",
            quantity(bytes, "byte"),
            was(bytes),
            MOST_BYTES >> 20
        )
    })
}

fn records_unknown(facts: &Facts<'_>) -> Option<Weakness> {
    let count = facts.info.skipped.unknown_kind;
    weakness(Kind::RecordsUnknown, count, || {
        format!(
            "{} of a kind that only a later forktrace knows: what they tell is not in the report",
            quantity(count, "record")
        )
    })
}

fn plain(facts: &Facts<'_>) -> Option<Weakness> {
    weakness(Kind::Plain, u64::from(facts.info.header.plain), || {
        "recorded with --plain: who woke whom, and what was waited for beyond the syscall, was left \
         out"
            .to_owned()
    })
}

fn why_refused(refused: &MarksRefused) -> String {
    let mut why = Vec::new();
    if refused.not_understood > 0 {
        why.push(format!(
            "{} no JSON object with a name (the first is {:?})",
            refused.not_understood, refused.example
        ));
    }
    if refused.too_long > 0 {
        why.push(format!(
            "{} longer than {LONGEST_LINE} bytes",
            refused.too_long
        ));
    }
    if refused.too_many > 0 {
        why.push(format!(
            "{} more than the {MOST} that are kept",
            refused.too_many
        ));
    }
    let mut sentences = Vec::new();
    let lines = refused.count().saturating_sub(refused.cuts);
    if lines > 0 {
        sentences.push(format!(
            "{} written to {VARIABLE} {} no valid marks: {}",
            quantity(lines, "line"),
            if lines == 1 { "is" } else { "are" },
            why.join(", ")
        ));
    }
    if refused.cuts > 0 {
        sentences.push(format!(
            "the file that {VARIABLE} names was cut short {}: marks that it held then may be missing",
            times(refused.cuts)
        ));
    }
    sentences.join("; ")
}

/// Files that were waited for and have no name, and all of them.
fn nameless(model: &Model) -> (u64, u64) {
    let waited = model.waitsets.iter().flat_map(|set| &set.fds);
    let kinds = waited.map(|w| &w.kind);
    let kinds = kinds.chain(model.files.iter().map(|f| &f.kind));
    kinds.fold((0, 0), |(nameless, all), kind| {
        (nameless + u64::from(kind.is_none()), all + 1)
    })
}

/// The reasons, as far as they occurred.
fn why_nameless(finish: &Finish) -> String {
    let look_ups = &finish.look_ups;
    let reasons = [
        (look_ups.gone, "their processes had ended"),
        (look_ups.changed, "they were closed by then"),
        (look_ups.not_looked_up, "there was no time to look"),
    ];
    let reasons = reasons.iter().filter(|(count, _)| *count > 0);
    let reasons: Vec<&str> = reasons.map(|(_, why)| *why).collect();
    if reasons.is_empty() {
        return String::new();
    }
    format!(": {}", reasons.join(", or "))
}

/// Do the stretches of a task add up to what the kernel program says, where no
/// record of it is missing?
fn sums_of_task_differ(task: &crate::model::Task) -> bool {
    let Some(record) = &task.record else {
        return false;
    };
    if record.missed != 0 || task.stretches.len() != record.totals.seq as usize {
        return false;
    }
    // Where a trace is read from a later moment on, the first one can begin before that.
    let first = task.stretches.first();
    if task.first_seq != 0 || first.is_some_and(|off| off.out_ns < task.start_ns) {
        return false;
    }
    task.stretches.sums().is_some_and(|sums| {
        let of_stretches = Totals {
            serial: task.serial,
            blocked_ns: sums.blocked_ns,
            runnable_ns: sums.runnable_ns,
            stopped_ns: sums.stopped_ns,
            ..record.totals
        };
        of_stretches != record.totals
    })
}

/// Switch-ins that are computed, and the time in which they can lie: from the
/// wakeup to the next time that the task left.
pub(super) fn inferred(model: &Model) -> (u64, u64) {
    let (mut count, mut uncertain_ns) = (0, 0u64);
    for task in &model.tasks {
        let inferred = |off: Off| off.flags & Off::INFERRED != 0;
        for (i, off) in task.stretches.iter_if(inferred).enumerate() {
            if inferred(off) {
                let next = task.stretches.get(i + 1).map(|next| next.out_ns);
                let next = next
                    .or(task.open.map(|open| open.out_ns))
                    .unwrap_or(task.end_ns);
                count += 1;
                uncertain_ns = uncertain_ns.saturating_add(next.saturating_sub(off.wake_ns));
            }
        }
    }
    (count, uncertain_ns)
}

/// From the first gap of any task to the end of the last.
fn gap_range(model: &Model) -> Option<(u64, u64)> {
    let mut range: Option<(u64, u64)> = None;
    for task in model.tasks.iter().filter(|t| t.followed) {
        for segment in task.segments() {
            if segment.state == State::Unknown {
                let (start, end) = range.unwrap_or((segment.start_ns, segment.end_ns));
                range = Some((start.min(segment.start_ns), end.max(segment.end_ns)));
            }
        }
    }
    range
}

/// The next larger size worth trying.
fn ring_size_to_try(bytes: u32) -> String {
    match bytes.saturating_mul(8) >> 10 {
        kib if kib >= 1024 => format!("{}M", kib >> 10),
        kib => format!("{kib}K"),
    }
}
