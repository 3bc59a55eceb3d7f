//! What was run.

use super::{
    COLUMNS, View,
    figures::{clean, command_line, duration, quantity, shortened},
    layout::wrapped,
};
use crate::{
    report::{Group, Report},
    trace::signals,
};

/// What was run, how long and how it ended.
pub(super) fn section(view: &View<'_>) -> String {
    let workload = &view.report.workload;
    let command = command_line(&workload.argv);
    let mut line = match view.tree {
        Some(tree) => format!(
            "{}: {}, {} on {}",
            title(tree),
            members(view),
            duration(workload.duration_ns),
            quantity(workload.cpus.into(), "CPU"),
        ),
        None => "Nothing was traced".to_owned(),
    };
    if let Some(end) = end(view.report) {
        line.push_str(&format!("; {end}"));
    }
    let mut out = wrapped("", &line);
    let name = view.tree.map_or_else(String::new, |tree| clean(&tree.name));
    if view.style.verbose {
        out.push_str(&wrapped("  command: ", &command));
        let system = format!("{} {}", clean(&workload.kernel), clean(&workload.arch));
        out.push_str(&wrapped("  kernel: ", &system));
    } else if !command.is_empty() && command.rsplit('/').next() != Some(&name) {
        let line = format!("  command: {command}");
        out.push_str(&shortened(&line, COLUMNS));
        out.push('\n');
    }
    out
}

/// `python3 (pid 4121)`.
pub(super) fn title(group: &Group) -> String {
    format!("{} (pid {})", clean(&group.name), group.pid)
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
        (None, Some(0)) => None,
        (None, Some(code)) => Some(format!("exit status {code}")),
        // A recording without an end does not know its own CPU time.
        (None, None) if report.audit.tracer_cpu_ns.is_none() => {
            Some("its end is not in the trace".to_owned())
        }
        (None, None) => Some("still running when the recording ended".to_owned()),
    }
}
