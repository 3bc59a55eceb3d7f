//! A row a task.

use std::collections::BTreeMap;

use super::{
    View,
    figures::{clean, command_line, count_cell, duration, duration_cell, elided, percent},
    layout::{Table, wrapped},
    waits::place,
};
use crate::{
    render::Style,
    report::{Fate, Task},
};

/// Columns of a command line.
const COMMAND: usize = 32;

/// What each task did with its time.
pub(super) fn table(view: &View<'_>) -> String {
    let all = &view.report.tasks;
    let mut tasks: Vec<&Task> = all.iter().collect();
    tasks.sort_by_key(|task| task.start_ns);
    let mut table = who(view, &tasks);
    let any = |figure: fn(&Task) -> u64| all.iter().any(|task| figure(task) > 0);
    let mut time = |head, figure: fn(&Task) -> u64| {
        let cells = tasks.iter().map(|task| duration_cell(figure(task)));
        table.number(head, cells.collect());
    };
    time("RAN", |task| task.running_ns);
    time("NO CPU", |task| task.runnable_ns);
    // Columns of nothing would only push out the names.
    if any(|task| task.stopped_ns) {
        time("STOPPED", |task| task.stopped_ns);
    }
    if any(|task| task.unknown_ns) {
        time("UNKNOWN", |task| task.unknown_ns);
    }
    time("BLOCKED", |task| task.blocked_ns);
    time("LONGEST", |task| task.longest_block_ns);
    table.spare(2);
    table.text(
        "MOSTLY IN",
        8,
        tasks.iter().map(|task| mostly_in(task)).collect(),
    );
    table.spare(1);
    let code: Vec<String> = tasks.iter().map(|task| waits_in(task)).collect();
    if code.iter().any(|code| !code.is_empty()) {
        table.text("CODE", 12, code);
    }
    table.into_text(view.style)
}

/// The function that it waited in longest, and for how much of the time that it was blocked.
fn waits_in(task: &Task) -> String {
    let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
    for code in task.waits.iter().flat_map(|wait| &wait.code) {
        let sum = sums.entry(&code.name).or_default();
        *sum = sum.saturating_add(code.ns);
    }
    let most = sums.into_iter().max_by_key(|(_, ns)| *ns);
    most.map_or_else(String::new, |(name, ns)| code(name, ns, task.blocked_ns))
}

/// A function that waited, with its share where it was not nearly all.
pub(super) fn code(name: &str, ns: u64, whole_ns: u64) -> String {
    match ns >= whole_ns - whole_ns / 20 {
        true => clean(name),
        false => format!("{}, {}", clean(name), percent(ns, whole_ns)),
    }
}

/// The columns that say which task it is.
fn who(view: &View<'_>, tasks: &[&Task]) -> Table {
    let mut table = Table::default();
    if view.processes > 1 {
        table.number(
            "PID",
            tasks.iter().map(|task| task.pid.to_string()).collect(),
        );
        table.spare(3);
    }
    table.number(
        "TID",
        tasks.iter().map(|task| task.tid.to_string()).collect(),
    );
    table.text("NAME", 8, tasks.iter().map(|task| command(task)).collect());
    table
}

/// The command that it executed, or its name.
pub(super) fn command(task: &Task) -> String {
    match task.argv.as_slice() {
        [program, arguments @ ..] if !arguments.is_empty() => {
            let program = program.rsplit('/').next().unwrap_or(program);
            let mut argv = vec![program.to_owned()];
            argv.extend_from_slice(arguments);
            elided(Style::PLAIN, &command_line(&argv), COMMAND)
        }
        _ => clean(&task.name),
    }
}

/// The wait that took the most time, with its share where there were others.
fn mostly_in(task: &Task) -> String {
    if !task.followed {
        return "(not followed)".to_owned();
    }
    let Some(most) = task.waits.first() else {
        return String::new();
    };
    // Under loss the sum over the waits can be less than the known total.
    let waits = task.waits.iter().map(|wait| wait.ns);
    let waits = waits.fold(0, u64::saturating_add);
    let whole = waits.max(task.blocked_ns);
    let place = place(&most.reason, most.syscall.as_deref().as_slice());
    match most.ns {
        0 => place,
        ns if ns == whole => place,
        ns => format!("{place}, {}", percent(ns, whole)),
    }
}

/// The figures to check the others by: lives, switches and CPU time.
pub(super) fn accounts(view: &View<'_>) -> String {
    let mut tasks: Vec<&Task> = view.report.tasks.iter().collect();
    tasks.sort_by_key(|task| task.start_ns);
    let mut table = Table::default();
    table.number(
        "TID",
        tasks.iter().map(|task| task.tid.to_string()).collect(),
    );
    table.text(
        "NAME",
        8,
        tasks.iter().map(|task| clean(&task.name)).collect(),
    );
    let mut rank = 0;
    let mut column = |head, figure: fn(&Task) -> String| {
        table.number(head, tasks.iter().map(|task| figure(task)).collect());
        rank += 1;
        table.spare(rank);
    };
    column("START", |task| duration(task.start_ns));
    column("END", |task| match task.fate {
        Fate::Ended => duration(task.end_ns),
        Fate::Alive => "alive".to_owned(),
        Fate::Unknown => "?".to_owned(),
    });
    column("BLOCKS", |task| count_cell(task.blocks));
    column("MAX WAIT", |task| duration_cell(task.longest_runnable_ns));
    column("SWITCHES", |task| count_cell(task.switches.traced));
    column("KERNEL'S", |task| {
        task.switches
            .kernel
            .map_or_else(|| "?".to_owned(), count_cell)
    });
    column("CPU TIME", |task| duration_cell(task.running_ns));
    column("KERNEL'S", |task| {
        task.kernel_cpu_ns
            .map_or_else(|| "?".to_owned(), duration_cell)
    });
    let note = "Max wait: the longest wait for a CPU. Kernel's: what the kernel counted for the \
                same task.";
    table.into_text(view.style) + &wrapped(view.style, "  ", note)
}
