//! What the figures are worth.

use super::{
    View,
    figures::{clean, count, duration, percent, quantity, recased},
    layout::{Ink, paint, wrapped},
};

/// The verdict on the record, and a line for each thing that weakens it.
pub(super) fn section(view: &View<'_>) -> String {
    let audit = &view.report.audit;
    let (verdict, ink) = if audit.complete {
        ("complete", Ink::Good)
    } else {
        ("INCOMPLETE", Ink::Bad)
    };

    let tasks = &view.report.tasks;
    // The kernel's count is read at a task's end.
    let of_whom = if tasks.iter().any(|task| task.switches.kernel.is_none()) {
        " in the tasks that ended"
    } else {
        ""
    };
    let mut facts = vec![match audit.switches_kernel {
        0 => "no task ended, so the kernel's count of context switches is not known".to_owned(),
        kernel => format!(
            "{} of {} context switches accounted for{of_whom}",
            count(audit.switches_traced),
            count(kernel)
        ),
    }];
    facts.push(quantity(audit.lost_records, "record") + " lost");
    if audit.tasks_not_followed > 0 {
        facts.push(quantity(audit.tasks_not_followed, "task") + " not followed");
    }
    let mut text = format!(
        "Audit: {verdict}. {}",
        recased(&facts.join(", "), char::to_ascii_uppercase)
    );
    text.push_str(&match audit.tracer_cpu_ns {
        Some(cpu) => format!(
            "; forktrace used {} of CPU ({} of one CPU).",
            duration(cpu),
            percent(cpu, view.report.workload.duration_ns)
        ),
        None => "; the CPU time of forktrace itself is not known.".to_owned(),
    });
    if audit.unknown_ns > 0 {
        text.push_str(&format!(
            " {} of the tasks' time is unknown or can't be placed.",
            duration(audit.unknown_ns)
        ));
    }
    // The verdict stands in the first line, which is never broken before it.
    let painted = paint(view.style, ink, verdict);
    let mut out = wrapped("", &text).replacen(verdict, &painted, 1);

    for weakness in &audit.weaknesses {
        let text = recased(&clean(&weakness.text), char::to_ascii_uppercase);
        let stop = if text.ends_with('.') { "" } else { "." };
        out.push_str(&wrapped("  - ", &format!("{text}{stop}")));
    }
    if view.style.verbose {
        if audit.running_ns != audit.kernel_cpu_ns {
            let text = format!(
                "CPU time of the tasks that ended: {} between their switches, {} charged by the \
                 kernel, which can count from the wakeup on.",
                duration(audit.running_ns),
                duration(audit.kernel_cpu_ns)
            );
            out.push_str(&wrapped("  ", &text));
        }
        if audit.early_wakeups > 0 {
            let text = format!(
                "{} found that the wakeup had come before the switch: they count as blocks of no \
                 length.",
                quantity(audit.early_wakeups, "block")
            );
            out.push_str(&wrapped("  ", &text));
        }
    }
    out
}
