//! How long each wait was: percentiles, by role and by task.

use super::{
    View,
    figures::{clean, count_cell, duration_cell},
    layout::{Table, wrapped},
    roles::label,
};
use crate::report::Spread;

/// Both tables.
pub(super) fn section(view: &View<'_>) -> String {
    let report = view.report;
    let roles = report.roles.iter();
    let roles: Vec<Row> = roles
        .map(|role| Row {
            name: vec![label(view, role)],
            blocked: role.blocked,
            runnable: role.runnable,
        })
        .collect();
    let tasks = report.tasks.iter();
    let tasks: Vec<Row> = tasks
        .map(|task| Row {
            name: vec![clean(&task.name), task.tid.to_string()],
            blocked: task.blocked,
            runnable: task.runnable,
        })
        .collect();
    let any = |row: &Row| row.blocked.is_some() || row.runnable.is_some();
    if !tasks.iter().any(any) {
        return String::new();
    }
    let mut out = String::new();
    // A role for each task says the same twice.
    if roles.len() < tasks.len() {
        out.push_str(&table(view, &["BY ROLE"], &roles));
        out.push('\n');
    }
    out.push_str(&table(view, &["BY TASK", "TID"], &tasks));
    let note = "50%, 90%, 99%: so many of the blocks (of the waits for a CPU) were no longer. Exact for \
                up to 64 of them, else off by no more than 1.6 %.";
    out + &wrapped(view.style, "  ", note)
}

struct Row {
    name: Vec<String>,
    blocked: Option<Spread>,
    runnable: Option<Spread>,
}

fn table(view: &View<'_>, heads: &[&'static str], rows: &[Row]) -> String {
    let mut table = Table::default();
    for (at, head) in heads.iter().enumerate() {
        let cells = rows.iter().map(|row| row.name[at].clone()).collect();
        match at {
            0 => table.text(head, 12, cells),
            _ => table.number(head, cells),
        }
    }
    let mut number = |head, spare, cell: &dyn Fn(&Row) -> Option<String>| {
        let cells = rows.iter().map(|row| cell(row).unwrap_or_default());
        table.number(head, cells.collect());
        if spare > 0 {
            table.spare(spare);
        }
    };
    number("BLOCKS", 0, &|row| Some(count_cell(row.blocked?.count)));
    number("50%", 0, &|row| Some(duration_cell(row.blocked?.p50_ns)));
    number("90%", 0, &|row| Some(duration_cell(row.blocked?.p90_ns)));
    number("99%", 0, &|row| Some(duration_cell(row.blocked?.p99_ns)));
    number("NO CPU", 1, &|row| Some(count_cell(row.runnable?.count)));
    number("50%", 2, &|row| Some(duration_cell(row.runnable?.p50_ns)));
    number("90%", 3, &|row| Some(duration_cell(row.runnable?.p90_ns)));
    number("99%", 1, &|row| Some(duration_cell(row.runnable?.p99_ns)));
    table.into_text(view.style)
}
