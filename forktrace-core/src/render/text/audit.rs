//! What the figures are worth.

use super::{
    View,
    figures::{clean, count, duration, percent, quantity, recased, shortened},
    layout::{Ink, paint, wrapped},
};
use crate::report::{Report, StackCoverage, Weakness};

/// Lines of a weakness in a summary.
const LINES: usize = 2;

/// A line, and one for the worst of what weakens the record.
pub(super) fn summary(view: &View<'_>, most: usize) -> String {
    let weaknesses = &view.report.audit.weaknesses;
    let worst: Vec<&Weakness> = weaknesses.iter().filter(|it| !it.is_note()).collect();
    let shown = worst.len().min(most);
    let notes = weaknesses.len() - worst.len();
    let more = match (worst.len() - shown, notes) {
        (0, 0) => String::new(),
        (0, notes) => format!("; {} (--show audit)", quantity(notes as u64, "note")),
        (more, 0) => format!("; {more} more weaknesses than these (--show audit)"),
        (more, notes) => {
            let notes = quantity(notes as u64, "note");
            format!("; {more} more weaknesses than these and {notes} (--show audit)")
        }
    };
    let mut out = line(view, &more);
    for weakness in &worst[..shown] {
        let room = LINES * (view.style.columns - 12);
        out.push_str(&of(view, weakness, room));
    }
    out
}

/// All that can be said of it.
pub(super) fn section(view: &View<'_>) -> String {
    let audit = &view.report.audit;
    let mut out = line(view, "");
    for weakness in &audit.weaknesses {
        out.push_str(&of(view, weakness, usize::MAX));
    }
    let system = &view.report.workload;
    let mut facts = vec![format!(
        "Recorded on Linux {} ({}), {}.",
        clean(&system.kernel),
        clean(&system.arch),
        quantity(system.cpus.into(), "CPU")
    )];
    facts.push(match audit.lost_records {
        // Its end would tell.
        0 if audit.tracer_cpu_ns.is_none() => {
            "How many records were lost is not known, as the trace has no end.".to_owned()
        }
        0 => "No record was lost.".to_owned(),
        lost => format!("{} lost.", quantity(lost, "record")),
    });
    if audit.tasks_not_followed > 0 {
        let tasks = quantity(audit.tasks_not_followed, "task");
        facts.push(format!("{tasks} not followed: all their time is unknown."));
    }
    if audit.unknown_ns > 0 {
        let time = duration(audit.unknown_ns);
        facts.push(format!(
            "{time} of the tasks' time is unknown or can't be placed."
        ));
    }
    if audit.running_ns != audit.kernel_cpu_ns {
        facts.push(format!(
            "CPU time of the tasks that ended: {} between their switches, {} charged by the \
             kernel, which can count from the wakeup on.",
            duration(audit.running_ns),
            duration(audit.kernel_cpu_ns)
        ));
    }
    if audit.early_wakeups > 0 {
        facts.push(format!(
            "{} found that the wakeup had come before the switch: they count as blocks of no \
             length.",
            quantity(audit.early_wakeups, "block")
        ));
    }
    facts.extend(view.report.stack_coverage.as_ref().and_then(stacks));
    for fact in facts {
        out.push_str(&wrapped(view.style, "  - ", &fact));
    }
    out
}

/// How much of the time blocked has a stack, and why the rest has none.
fn stacks(coverage: &StackCoverage) -> Option<String> {
    let long = coverage.long;
    let mut fact = format!(
        "Of the time blocked for 1 ms or longer {} has a stack, {} one that goes back to where \
         its thread began.",
        percent(long.with_stack_ns, long.blocked_ns),
        percent(long.whole_ns, long.blocked_ns)
    );
    let lacks = coverage.lacks.iter();
    let lacks: Vec<String> = lacks
        .map(|lack| {
            let part = percent(lack.ns, long.blocked_ns);
            format!("{part} {}", clean(&lack.why))
        })
        .collect();
    if !lacks.is_empty() {
        fact.push_str(&format!(" Why others have none: {}.", lacks.join("; ")));
    }
    (long.blocked_ns > 0).then_some(fact)
}

fn of(view: &View<'_>, weakness: &Weakness, room: usize) -> String {
    let text = recased(&clean(&weakness.text), char::to_ascii_uppercase);
    let stop = if text.ends_with('.') { "" } else { "." };
    let text = shortened(view.style, &format!("{text}{stop}"), room);
    wrapped(view.style, "  - ", &text)
}

/// Whether it is complete, and how far the figures can be off.
pub fn verdict(report: &Report) -> String {
    let off = match report.audit.uncertain_ns {
        0 => None,
        ns => {
            let share = percent(ns, report.workload.duration_ns);
            Some(format!("± {} ({share})", duration(ns)))
        }
    };
    match (report.audit.complete, off) {
        (true, None) => "complete".to_owned(),
        (true, Some(off)) => format!("complete, {off}"),
        (false, None) => "not complete".to_owned(),
        (false, Some(off)) => off,
    }
}

/// How far the figures can be off, what was checked, and what forktrace took.
fn line(view: &View<'_>, more: &str) -> String {
    let audit = &view.report.audit;
    let whole = view.report.workload.duration_ns;
    let verdict = verdict(view.report);
    let ink = match audit.complete {
        true => Ink::Good,
        false => Ink::Bad,
    };
    // The kernel's count is read at a task's end, and when forktrace detaches.
    let tasks = &view.report.tasks;
    let of_whom = match tasks.iter().any(|task| task.switches.kernel.is_none()) {
        true => " in the tasks that ended",
        false => "",
    };
    let is_known = tasks.iter().any(|task| task.switches.kernel.is_some());
    let switches = match audit.switches_kernel {
        0 if !is_known => {
            "no task ended, so the kernel's count of switches is not known".to_owned()
        }
        kernel => format!(
            "{} of {} context switches{of_whom}",
            count(audit.switches_traced),
            count(kernel)
        ),
    };
    // What forktrace took is of all that was recorded, also where a part of it is reported on.
    let part = view.report.part.as_ref();
    let recorded = part.map_or(whole, |part| part.recorded_ns);
    let cost = match audit.tracer_cpu_ns {
        // Of a run of milliseconds it is mostly the start, and a share says nothing.
        Some(cpu) if recorded >= 100_000_000 => format!(
            "forktrace took {} of CPU ({} of one)",
            duration(cpu),
            percent(cpu, recorded)
        ),
        Some(cpu) => format!("forktrace took {} of CPU", duration(cpu)),
        None => "the CPU time of forktrace is not known".to_owned(),
    };
    let text = format!("Audit: {verdict}; {switches}; {cost}{more}.");
    // The verdict stands in the first line, which is never broken before it.
    let verdict = super::figures::plain(view.style, &verdict).into_owned();
    let painted = paint(view.style, ink, &verdict);
    wrapped(view.style, "", &text).replacen(&verdict, &painted, 1)
}
