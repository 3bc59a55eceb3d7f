//! A row a role: what worked as well as what slept.

use super::{
    View,
    figures::{clean, command_line, count_cell, duration, duration_cell, quantity},
    findings,
    layout::{Table, wrapped},
    waited::{helpers, what},
};
use crate::{
    report::{Fate, Role, Task},
    words::long_duration,
};

/// The first roles, and the rest in a line.
pub(super) fn summary(view: &View<'_>, most: usize) -> String {
    let all = &view.report.roles;
    // What did nothing but wait for what never came is told last.
    let busy: Vec<&Role> = all
        .iter()
        .filter(|role| role.helpers < role.tasks)
        .collect();
    let shown = chosen(view, busy, |role| role, most);
    let mut out = table(view, &shown);
    let tasks: u64 = shown.iter().map(|role| role.tasks).sum();
    let rest = view.report.tasks.len() as u64 - tasks.min(view.report.tasks.len() as u64);
    if rest > 0 {
        let of = |figure: fn(&Role) -> u64| {
            let sum = |roles: &mut dyn Iterator<Item = &Role>| -> u64 {
                roles.map(figure).fold(0, u64::saturating_add)
            };
            sum(&mut all.iter()) - sum(&mut shown.iter().copied())
        };
        let text = format!(
            "… and {} of {}, which ran for {} (--show tasks)",
            quantity(rest, view.noun()),
            quantity((all.len() - shown.len()) as u64, "other role"),
            duration(of(|role| role.running_ns)),
        );
        out.push_str(&wrapped(view.style, "  ", &text));
    }
    if let Some(text) = asleep_throughout(view) {
        out.push_str(&wrapped(view.style, "  ", &text));
    }
    out
}

/// Those who slept from before the recording to its end, whose longest block is longer than
/// the table can say.
fn asleep_throughout(view: &View<'_>) -> Option<String> {
    let slept = |task: &&Task| {
        task.running_ns + task.runnable_ns == 0 && task.blocks == 1 && task.fate == Fate::Alive
    };
    let tasks = view.report.tasks.iter().filter(slept);
    let tasks: Vec<(u64, &Task)> = tasks
        .filter_map(|task| Some((task.asleep_before_ns?, task)))
        .collect();
    let (before_ns, task) = tasks.iter().max_by_key(|(before_ns, _)| *before_ns)?;
    let since = long_duration(*before_ns);
    let tid = task.tid;
    Some(match tasks.len() {
        1 => format!("Tid {tid} slept throughout, since {since} before the recording."),
        n => format!(
            "{} slept throughout, tid {tid} for longest: since {since} before the recording.",
            quantity(n as u64, view.noun()),
        ),
    })
}

/// Some of these rows, in their order: those of the roles that the findings are about and of
/// what began it all, the first of them first, and of the others as many as there is room for.
pub(super) fn chosen<'a, T>(
    view: &View<'a>,
    rows: Vec<T>,
    role: impl Fn(&T) -> &Role,
    most: usize,
) -> Vec<T> {
    if rows.len() <= most {
        return rows;
    }
    let mut wanted = findings::roles(view);
    let first = view.report.tasks.first();
    wanted.insert(wanted.len().min(1), first.map_or("", |task| &task.role));
    let mut kept: Vec<bool> = vec![false; rows.len()];
    let mut left = most;
    let mut keep = |at: usize| {
        if left > 0 && !kept[at] {
            kept[at] = true;
            left -= 1;
        }
    };
    let place = |name: &str| rows.iter().position(|row| role(row).name == name);
    wanted
        .iter()
        .filter_map(|name| place(name))
        .for_each(&mut keep);
    (0..rows.len()).for_each(keep);
    let rows = rows.into_iter().zip(kept);
    rows.filter_map(|(row, kept)| kept.then_some(row)).collect()
}

/// All roles.
pub(super) fn section(view: &View<'_>) -> String {
    table(view, &view.report.roles.iter().collect::<Vec<_>>())
}

fn table(view: &View<'_>, roles: &[&Role]) -> String {
    if roles.is_empty() {
        return String::new();
    }
    let any = |figure: fn(&Role) -> u64| roles.iter().any(|role| figure(role) > 0);
    let (any_stopped, any_unknown) = (any(|role| role.stopped_ns), any(|role| role.unknown_ns));
    let mut table = Table::default();
    let labels = roles.iter().map(|role| label(view, role));
    let head = match view.noun() {
        "thread" => "THREADS",
        "process" => "PROCESSES",
        _ => "TASKS",
    };
    table.text(head, 12, labels.collect());
    let numbers = roles.iter().map(|role| count_cell(role.tasks));
    table.number("N", numbers.collect());
    let mut time = |head, figure: fn(&Role) -> u64| {
        let cells = roles.iter().map(|role| duration_cell(figure(role)));
        table.number(head, cells.collect());
    };
    time("RAN", |role| role.running_ns);
    time("NO CPU", |role| role.runnable_ns);
    // Columns of nothing would only push out the names.
    if any_stopped {
        time("STOPPED", |role| role.stopped_ns);
    }
    if any_unknown {
        time("UNKNOWN", |role| role.unknown_ns);
    }
    time("BLOCKED", |role| role.blocked_ns);
    time("LONGEST", |role| role.longest_block_ns);
    table.spare(2);
    let mostly = roles.iter().map(|role| {
        let wait = role.mostly.as_ref();
        let what = wait.map(|wait| what(&wait.reason, wait.object.as_ref()));
        let parts = [what, helpers(role.helpers, role.tasks)];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    });
    table.text("MOSTLY FOR", 10, mostly.collect());
    table.spare(1);
    table.into_text(view.style)
}

/// The name of a role; of a single task, the command that it executed.
pub(super) fn label(view: &View<'_>, role: &Role) -> String {
    let task = view.by_serial.get(&role.longest_lived);
    match task.map(|task| task.argv.as_slice()) {
        Some([program, arguments @ ..]) if role.tasks == 1 => {
            let name = program.rsplit('/').next().unwrap_or(program);
            let mut argv = vec![name.to_owned()];
            argv.extend_from_slice(arguments);
            command_line(&argv)
        }
        _ => clean(&role.name),
    }
}
