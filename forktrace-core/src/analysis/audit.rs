//! Can the report be trusted? The kernel's own counters say.

use super::tally::total;
use crate::{
    model::{Fate, Model, Off, State},
    report::{Audit, LookUps, Task, Weakness},
    trace::marks::{LONGEST_LINE, MOST, VARIABLE},
    trace::{Finish, MarksRefused, Totals},
    trace_file::TraceInfo,
};

pub(super) fn audit(info: &TraceInfo, model: &Model, tasks: &[Task]) -> Audit {
    let checked = || tasks.iter().filter(|task| task.switches.kernel.is_some());
    let weaknesses = weaknesses(info, model, tasks);
    Audit {
        complete: weaknesses.iter().all(Weakness::is_note),
        lost_records: lost_records(info),
        tasks_not_followed: tasks.iter().filter(|t| !t.followed).count() as u64,
        switches_traced: total(checked().map(|t| t.switches.traced)),
        switches_kernel: total(checked().filter_map(|t| t.switches.kernel)),
        unknown_ns: total(
            tasks
                .iter()
                .map(|t| t.unknown_ns.saturating_add(t.unplaced_ns)),
        ),
        tracer_cpu_ns: info.finish.as_ref().map(|f| f.tracer_cpu_ns),
        early_wakeups: stretches_with(model, Off::EARLY_WAKE),
        unwoken_ns: total(model.tasks.iter().map(unwoken_ns)),
        running_ns: total(checked().map(|t| t.running_ns)),
        kernel_cpu_ns: total(checked().filter_map(|t| t.kernel_cpu_ns)),
        look_ups: info.finish.as_ref().map(|f| LookUps {
            done: f.look_ups.done,
            gone: f.look_ups.gone,
            changed: f.look_ups.changed,
            not_looked_up: f.look_ups.not_looked_up,
            cpu_ns: f.look_ups.cpu_ns,
        }),
        weaknesses,
    }
}

fn stretches_with(model: &Model, flag: u8) -> u64 {
    let has = |off: &&Off| off.flags & flag != 0;
    let of = |t: &crate::model::Task| t.stretches.iter().filter(has).count() as u64;
    total(model.tasks.iter().map(of))
}

/// Time in blocks that ended without a wakeup that was seen.
fn unwoken_ns(task: &crate::model::Task) -> u64 {
    let unwoken = task
        .stretches
        .iter()
        .filter(|off| off.flags & Off::NO_WAKE != 0);
    total(unwoken.map(|off| off.in_ns - off.out_ns))
}

/// `1 task`, `2 tasks`.
fn counted(count: u64, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

fn lost_records(info: &TraceInfo) -> u64 {
    let in_file = total(info.damage.iter().filter_map(|d| d.records_lost));
    info.finish.as_ref().map_or(0, |f| {
        f.lost_ring_full + f.lost_no_ring + f.lost_other + f.unwritten + f.undecodable
    }) + in_file
}

fn weaknesses(info: &TraceInfo, model: &Model, tasks: &[Task]) -> Vec<Weakness> {
    let mut found = Vec::new();
    let mut add = |kind: &str, count: u64, range: Option<(u64, u64)>, text: String| {
        if count > 0 {
            found.push(Weakness {
                kind: kind.to_owned(),
                count,
                start_ns: range.map(|r| r.0),
                end_ns: range.map(|r| r.1),
                text,
            });
        }
    };
    let start_ns = info.header.start_ns;
    let since_start = |ns: u64| ns.saturating_sub(start_ns);
    let lost_on_the_way = info
        .finish
        .as_ref()
        .is_some_and(|f| f.lost_ring_full + f.lost_no_ring > 0);
    let gaps = if lost_on_the_way {
        gap_range(model)
    } else {
        None
    };

    if let Some(f) = &info.finish {
        add(
            "ring_full",
            f.lost_ring_full,
            gaps,
            format!(
                "{} found no room in a ring of {} KiB; --ring-size {} makes the rings larger",
                counted(f.lost_ring_full, "record"),
                info.header.ring_bytes >> 10,
                ring_size_to_try(info.header.ring_bytes),
            ),
        );
        add(
            "no_ring",
            f.lost_no_ring,
            gaps,
            format!(
                "{} came from a CPU that was brought online after the start and has no ring",
                counted(f.lost_no_ring, "record")
            ),
        );
        add(
            "other_records",
            f.lost_other,
            None,
            format!(
                "{} of creations, execs, wakers, of what is waited for and of tasks that are not \
                 followed found no room, or the kernel left out the program that makes them: \
                 names may be old or not known and tasks missing; --ring-size makes the rings \
                 larger",
                counted(f.lost_other, "record")
            ),
        );
        let stacks = f.lost_stacks.unwrap_or(0);
        add(
            "stacks_lost",
            stacks,
            None,
            format!(
                "{} found no room: the blocks are there, where they were is not",
                counted(stacks, "stack")
            ),
        );
        let first = tasks.iter().find(|t| !t.followed).map(|t| t.start_ns);
        add(
            "table_full",
            f.not_followed,
            first.map(|first| (first, model.end_ns)),
            format!(
                "{} found no room in the table of {} and had to be left out; --max-tasks makes it larger",
                counted(f.not_followed, "task"),
                counted(info.header.max_tasks.into(), "task"),
            ),
        );
        let range = f.unwritten_from_ns.zip(f.unwritten_until_ns);
        add(
            "write_failed",
            f.unwritten,
            range.map(|(from, until)| (since_start(from), since_start(until))),
            format!(
                "{} could not be written: {}; --save puts the trace on another disk",
                counted(f.unwritten, "record"),
                f.write_error.as_deref().unwrap_or("for an unknown reason")
            ),
        );
        add(
            "undecodable",
            f.undecodable,
            None,
            format!(
                "{} could not be read: the eBPF programs and forktrace do not fit together",
                counted(f.undecodable, "record")
            ),
        );
        let alive = tasks.iter().filter(|t| t.end_ns == model.end_ns);
        let alive = alive.filter(|t| t.switches.kernel.is_none()).count() as u64;
        add(
            "cut_short",
            if f.cut_short { alive } else { 0 },
            None,
            format!(
                "{} still alive when the recording ended: last waits are cut off and the kernel's \
                 count of the switches is not known",
                counted(alive, "task")
            ),
        );
    } else {
        let last = since_start(info.last_ns);
        add(
            "end_missing",
            1,
            Some((last, model.end_ns)),
            format!(
                "the trace has no end: forktrace was killed, or the file was cut off; it goes up \
                 to {:.3} s",
                last as f64 / 1e9
            ),
        );
    }
    for damage in &info.damage {
        add(
            "file_damaged",
            damage.records_lost.unwrap_or(1).max(1),
            Some((
                since_start(damage.after_ns),
                damage.before_ns.map_or(model.end_ns, since_start),
            )),
            format!("the trace file is damaged: {damage}"),
        );
    }

    let skipped = &info.skipped;
    add(
        "file_too_large",
        u64::from(skipped.too_large_from.is_some()),
        None,
        format!(
            "the trace is read up to byte {} only: what follows takes more memory than a file of \
             its length may",
            skipped.too_large_from.unwrap_or(0)
        ),
    );
    add(
        "records_unreadable",
        skipped.unreadable,
        None,
        format!(
            "{} of the trace could not be read",
            counted(skipped.unreadable, "record")
        ),
    );
    add(
        "records_unknown",
        skipped.unknown_kind,
        None,
        format!(
            "{} of a kind that only a later forktrace knows: what they tell is not in the report",
            counted(skipped.unknown_kind, "record")
        ),
    );

    let differ = |t: &&Task| t.switches.kernel.is_some_and(|k| k != t.switches.traced);
    let unequal = tasks.iter().filter(differ).count() as u64;
    add(
        "switches_differ",
        unequal,
        None,
        format!(
            "{} with another number of context switches than the kernel counted",
            counted(unequal, "task")
        ),
    );
    let (inferred, uncertain_ns) = inferred(model);
    add(
        "switch_in_inferred",
        inferred,
        None,
        format!(
            "{} not announced by the kernel; its CPU clock tells when (of {:.1} ms after the \
             wakeups it is uncertain how much was waiting for a CPU and how much running)",
            if inferred == 1 {
                "1 switch was".to_owned()
            } else {
                format!("{inferred} switches were")
            },
            uncertain_ns as f64 / 1e6
        ),
    );
    let missed = |t: &crate::model::Task| t.record.as_ref().map_or(0, |r| u64::from(r.missed));
    let missed = total(model.tasks.iter().map(missed));
    add(
        "switches_missed",
        missed,
        None,
        format!(
            "{} that the kernel did not announce to the probe: what the task did before is unknown",
            counted(missed, "context switch").replace("switchs", "switches")
        ),
    );
    let refused = &model.marks_refused;
    add(
        "marks_refused",
        refused.count(),
        None,
        marks_refused(refused),
    );
    add(
        "polls_left_out",
        model.polls_left_out,
        None,
        format!(
            "{} of calls, of any task of the machine, came while the program that counts calls of \
             select, poll and epoll was interrupted on that CPU: the table of these calls may be \
             too small by as many",
            if model.polls_left_out == 1 {
                "1 entry or return".to_owned()
            } else {
                format!("{} entries and returns", model.polls_left_out)
            }
        ),
    );
    let refused = model.tables_refused;
    add(
        "slots_lost",
        refused.slots,
        None,
        format!(
            "{} of the task table could not be used again: the kernel refused to take it back, \
             and the table held fewer tasks from then on",
            counted(refused.slots, "place")
        ),
    );
    add(
        "tables_refused",
        refused.others,
        None,
        format!(
            "the kernel refused {} of the tables of tasks, on which no figure depends",
            counted(refused.others, "change")
        ),
    );
    let unwoken = stretches_with(model, Off::NO_WAKE);
    add(
        "wakeup_missing",
        unwoken,
        None,
        format!(
            "{} ended without a wakeup that was seen: shown as blocked to the end",
            counted(unwoken, "block")
        ),
    );
    let unseen = model
        .tasks
        .iter()
        .filter(|t| t.followed && t.fate == Fate::Unknown);
    let unseen = unseen.count() as u64;
    if info.finish.is_some() {
        add(
            "task_end_missing",
            unseen,
            None,
            format!("{} whose end is not in the trace", counted(unseen, "task")),
        );
    }
    let wrong = model.tasks.iter().filter(|t| sums_differ(t)).count() as u64;
    add(
        "sums_differ",
        wrong,
        None,
        format!(
            "{} whose times are not those that the kernel program added up",
            counted(wrong, "task")
        ),
    );
    let (nameless, files) = nameless(model);
    add(
        "names_missing",
        nameless,
        None,
        format!(
            "no name was found for {nameless} of {} that tasks waited for{}",
            counted(files, "open file"),
            info.finish.as_ref().map_or(String::new(), why_nameless)
        ),
    );
    add(
        "plain",
        u64::from(info.header.plain),
        None,
        "recorded with --plain: who woke whom, and what was waited for beyond the syscall, was left \
         out"
            .to_owned(),
    );
    found
}

fn marks_refused(refused: &MarksRefused) -> String {
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
    format!(
        "{} that the workload wrote to {VARIABLE} is no mark: {}",
        counted(refused.count(), "line"),
        why.join(", ")
    )
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
fn sums_differ(task: &crate::model::Task) -> bool {
    let Some(record) = &task.record else {
        return false;
    };
    let whole = task
        .stretches
        .iter()
        .enumerate()
        .all(|(i, s)| s.seq as usize == i)
        && task.stretches.len() == record.totals.seq as usize;
    let mut sums = Totals {
        serial: task.serial,
        seq: record.totals.seq,
        lost: record.totals.lost,
        ..Totals::default()
    };
    for off in &task.stretches {
        let away_ns = off.wake_ns - off.out_ns;
        match off.state() {
            State::Blocked => sums.blocked_ns = sums.blocked_ns.saturating_add(away_ns),
            State::Stopped => sums.stopped_ns = sums.stopped_ns.saturating_add(away_ns),
            _ => sums.runnable_ns = sums.runnable_ns.saturating_add(away_ns),
        }
        sums.runnable_ns = sums.runnable_ns.saturating_add(off.in_ns - off.wake_ns);
    }
    whole && record.missed == 0 && sums != record.totals
}

/// Switch-ins that are computed, and the time in which they can lie: from the
/// wakeup to the next time that the task left.
fn inferred(model: &Model) -> (u64, u64) {
    let (mut count, mut uncertain_ns) = (0, 0u64);
    for task in &model.tasks {
        for (i, off) in task.stretches.iter().enumerate() {
            if off.flags & Off::INFERRED != 0 {
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
