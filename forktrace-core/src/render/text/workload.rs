//! What was run.

use super::{
    View,
    figures::{clean, command_line, duration, elided, listed, plain, quantity, width},
    layout::{Ink, paint, wrapped},
};
use crate::{
    report::{Fate, Group, GroupKind, Part, Report},
    trace::signals,
};

/// A command is told in so many columns at least, if it is as long.
const LEAST: usize = 24;

/// What was run, how long and how it ended: in a line, or two.
pub(super) fn section(view: &View<'_>) -> String {
    let workload = &view.report.workload;
    let command = match &workload.attached {
        Some(targets) => attached(targets, workload.imported.as_deref()),
        None => command_line(&workload.argv),
    };
    let mut facts = Vec::new();
    match view.tree {
        Some(tree) => {
            facts.push(duration(workload.duration_ns));
            facts.push(members(view));
            facts.push(quantity(workload.cpus.into(), "CPU"));
            if workload.attached.is_none() {
                facts.push(format!("pid {}", tree.pid));
            }
        }
        None => facts.push("no task is in the trace".to_owned()),
    }
    facts.extend(end(view.report));
    let facts = plain(view.style, &facts.join("   ")).into_owned();
    let command = match (command.is_empty(), view.tree) {
        (true, Some(tree)) => clean(&tree.name),
        _ => command,
    };
    let room = view.style.columns.saturating_sub(width(&facts) + 3);
    // Several blanks keep the facts apart. Of a command that has no room beside them too little
    // would be left.
    let line = if width(&command) <= room || room >= LEAST {
        let command = elided(view.style, &command, room);
        let bold = paint(view.style, Ink::Bold, &command);
        format!("{bold}   {facts}\n")
    } else {
        let command = elided(view.style, &command, view.style.columns);
        let bold = paint(view.style, Ink::Bold, &command);
        let facts = match width(&facts) <= view.style.columns {
            true => format!("{facts}\n"),
            false => wrapped(view.style, "", &facts),
        };
        format!("{bold}\n{facts}")
    };
    line + &saved(view) + &part(view)
}

/// Why it was saved, if that was for a reason.
fn saved(view: &View<'_>) -> String {
    let text = saved_words(view.report);
    text.map_or_else(String::new, |text| {
        paint(view.style, Ink::Dim, &wrapped(view.style, "  ", &text))
    })
}

/// `Saved because deadlocks.size() > 0 came true at 3.20 s.`
pub fn saved_words(report: &Report) -> Option<String> {
    let saved = report.workload.saved.as_ref()?;
    Some(format!(
        "Saved because {} came true at {}.",
        clean(&saved.condition),
        duration(saved.at_ns)
    ))
}

/// Which part of the recording it is, if it is not all of it.
fn part(view: &View<'_>) -> String {
    let Some(part) = &view.report.part else {
        return String::new();
    };
    let text = format!("A part: {}.", part_words(part));
    paint(view.style, Ink::Dim, &wrapped(view.style, "  ", &text))
}

/// `2 s to 4 s of the 10.3 s that were recorded`.
pub fn part_words(part: &Part) -> String {
    let recorded = duration(part.recorded_ns);
    let time = match (part.from_ns, part.to_ns) {
        (0, to) if to == part.recorded_ns => format!("all {recorded} that were recorded"),
        (from, to) => format!(
            "{} to {} of the {recorded} that were recorded",
            duration(from),
            duration(to)
        ),
    };
    if part.only.is_empty() {
        return time;
    }
    let words: Vec<String> = part.only.iter().map(|word| clean(word)).collect();
    let all = quantity(part.of_tasks, "task");
    format!("{time}, {} of its {all}", words.join(" and "))
}

/// `attached to redis-server (pid 123)`, `imported from perf.data (perf sched record)`.
fn attached(targets: &[String], imported: Option<&str>) -> String {
    const SHOWN: usize = 3;
    let mut names: Vec<String> = targets.iter().take(SHOWN).map(|it| clean(it)).collect();
    if targets.len() > SHOWN {
        names.push(format!("{} more", targets.len() - SHOWN));
    }
    match imported {
        Some(by) => format!("imported from {} ({})", listed(&names), clean(by)),
        None => format!("attached to {}", listed(&names)),
    }
}

/// `python3 (pid 4121)`.
pub(super) fn title(group: &Group) -> String {
    match group.kind {
        GroupKind::Tree | GroupKind::Process => {
            format!("{} (pid {})", clean(&group.name), group.pid)
        }
        GroupKind::Name => format!("the name `{}`", clean(&group.name)),
        GroupKind::Role => format!("the role `{}`", clean(&group.name)),
        GroupKind::Cgroup => format!("the cgroup `{}`", clean(&group.name)),
    }
}

/// What its tasks are to a user.
pub(super) fn member(group: &Group) -> &'static str {
    match group.kind {
        GroupKind::Process => "thread",
        _ => "task",
    }
}

/// `5 threads`, `3 processes`, `7 tasks in 3 processes`.
pub(super) fn members(view: &View<'_>) -> String {
    let tasks = quantity(view.report.tasks.len() as u64, view.noun());
    if view.noun() == "task" {
        let processes = quantity(view.processes as u64, "process");
        format!("{tasks} in {processes}")
    } else {
        tasks
    }
}

fn end(report: &Report) -> Option<String> {
    let workload = &report.workload;
    match (workload.signal, workload.exit_code) {
        (Some(number), _) => Some(format!("killed by {}", signals::name(number))),
        (None, Some(code)) => Some(format!("exit status {code}")),
        // A recording without an end does not know its own CPU time.
        (None, None) if report.audit.tracer_cpu_ns.is_none() => {
            Some("its end is not in the trace".to_owned())
        }
        (None, None) if workload.attached.is_some() => {
            let ended = report.tasks.iter().all(|task| task.fate == Fate::Ended);
            ended.then(|| "all of it ended".to_owned())
        }
        (None, None) => Some("still running when the recording ended".to_owned()),
    }
}
