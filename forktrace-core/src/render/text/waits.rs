//! What the tasks waited in, summed over all of them.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    View,
    figures::{clean, count_cell, duration_cell},
    layout::Table,
};

#[derive(Default)]
struct Sum<'a> {
    ns: u64,
    count: u64,
    longest_ns: u64,
    cut_off: u64,
    tasks: BTreeSet<u32>,
    syscalls: BTreeSet<&'a str>,
}

/// The waits by reason, most time first.
pub(super) fn section(view: &View<'_>) -> String {
    let mut sums: BTreeMap<(&str, bool), Sum<'_>> = BTreeMap::new();
    for task in &view.report.tasks {
        for wait in &task.waits {
            let sum = sums.entry((&wait.reason, wait.interruptible)).or_default();
            sum.ns = sum.ns.saturating_add(wait.ns);
            sum.count = sum.count.saturating_add(wait.count);
            sum.longest_ns = sum.longest_ns.max(wait.longest_ns);
            sum.cut_off = sum.cut_off.saturating_add(wait.cut_off);
            sum.tasks.insert(task.serial);
            sum.syscalls.extend(wait.syscall.as_deref());
        }
    }
    if sums.is_empty() {
        return String::new();
    }
    let mut rows: Vec<_> = sums.iter().collect();
    rows.sort_by_key(|(_, sum)| std::cmp::Reverse(sum.ns));

    let mut table = Table::default();
    let places = rows.iter().map(|((reason, interruptible), sum)| {
        let syscalls: Vec<&str> = sum.syscalls.iter().copied().collect();
        let place = place(reason, &syscalls);
        if *interruptible {
            place
        } else {
            format!("{place}, uninterruptible")
        }
    });
    let (head, members) = match view.noun() {
        "thread" => ("BLOCKED IN (ALL THREADS)", "THREADS"),
        "process" => ("BLOCKED IN (ALL PROCESSES)", "PROCESSES"),
        _ => ("BLOCKED IN (ALL TASKS)", "TASKS"),
    };
    let several = view.report.tasks.len() > 1;
    let head = if several { head } else { "BLOCKED IN" };
    table.text(head, 20, places.collect());
    let mut column = |head, figure: fn(&Sum<'_>) -> String| {
        table.number(head, rows.iter().map(|(_, sum)| figure(sum)).collect());
    };
    column("TIME", |sum| duration_cell(sum.ns));
    column("COUNT", |sum| count_cell(sum.count));
    column("LONGEST", |sum| duration_cell(sum.longest_ns));
    if several {
        column(members, |sum| count_cell(sum.tasks.len() as u64));
    }
    if rows.iter().any(|(_, sum)| sum.cut_off > 0) {
        column("STILL IN IT", |sum| count_cell(sum.cut_off));
    }
    table.into_text(view.style)
}

/// `futex`, or the family and its syscalls: `select (pselect6)`.
pub(super) fn place(reason: &str, syscalls: &[&str]) -> String {
    if syscalls.is_empty() || syscalls == [reason] {
        return clean(reason);
    }
    format!("{} ({})", clean(reason), clean(&syscalls.join(", ")))
}
