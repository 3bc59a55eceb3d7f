//! The calls of the select/poll family.

use std::collections::{BTreeMap, HashMap};

use super::{
    View,
    figures::{clean, count_cell, recased},
    layout::{Table, wrapped},
};
use crate::report::Poll;

/// How the calls ended, by syscall and by task.
pub(super) fn section(view: &View<'_>) -> String {
    let how = clean(&view.report.poll_probes);
    let Some(polls) = &view.report.polls else {
        return wrapped(
            view.style,
            "  ",
            &format!("select/poll/epoll calls: not counted ({how})."),
        );
    };
    if polls
        .iter()
        .all(|poll| poll.calls == 0 && poll.unfinished == 0)
    {
        return String::new();
    }
    let rows = rows(view, polls);

    let mut table = Table::default();
    table.text(
        "SYSCALL",
        13,
        rows.iter().map(|row| row.label.clone()).collect(),
    );
    let mut rank = 0;
    let mut column = |head, figure: fn(&Row) -> u64| {
        let cells = rows.iter().map(|row| count_cell(figure(row)));
        table.number(head, cells.collect());
        table.spare(rank);
        rank += 1;
    };
    column("CALLS", |row| row.calls);
    column("READY AT ONCE", |row| row.ready_at_once);
    column("BLOCKED", |row| row.blocked);
    column("TIMED OUT", |row| row.timed_out);
    column("EMPTY", |row| row.empty_at_once);
    column("FAILED", |row| row.failed);
    if rows.iter().any(|row| row.unfinished > 0) {
        column("STILL IN IT", |row| row.unfinished);
    }
    table.number("MAX FDS", rows.iter().map(Row::max_fds).collect());

    let mut out = table.into_text(view.style);
    let how = recased(&how, char::to_ascii_uppercase);
    let note = format!("{how}. Timed out: returned 0; empty: the same without blocking.");
    out.push_str(&wrapped(view.style, "  ", &note));
    out
}

#[derive(Default)]
struct Row {
    label: String,
    calls: u64,
    ready_at_once: u64,
    blocked: u64,
    timed_out: u64,
    empty_at_once: u64,
    failed: u64,
    unfinished: u64,
    max_fds: Option<u32>,
    /// In some of the calls the number of fds is not known.
    fds_unknown: bool,
}

impl Row {
    fn add(&mut self, poll: &Poll) {
        self.calls = self.calls.saturating_add(poll.calls);
        self.ready_at_once = self.ready_at_once.saturating_add(poll.ready_at_once);
        self.blocked = self.blocked.saturating_add(poll.blocked);
        self.timed_out = self.timed_out.saturating_add(poll.timed_out);
        self.empty_at_once = self.empty_at_once.saturating_add(poll.empty_at_once);
        self.failed = self.failed.saturating_add(poll.failed);
        self.unfinished = self.unfinished.saturating_add(poll.unfinished);
        self.max_fds = self.max_fds.max(poll.max_fds);
        self.fds_unknown |= poll.max_fds.is_none();
    }

    fn max_fds(&self) -> String {
        match self.max_fds {
            None => "?".to_owned(),
            Some(most) if self.fds_unknown => format!("≥{most}"),
            Some(most) => most.to_string(),
        }
    }
}

fn rows(view: &View<'_>, polls: &[Poll]) -> Vec<Row> {
    let names: HashMap<u32, &str> = view
        .report
        .tasks
        .iter()
        .map(|task| (task.serial, task.name.as_str()))
        .collect();
    let mut by_syscall: BTreeMap<&str, Vec<&Poll>> = BTreeMap::new();
    for poll in polls {
        by_syscall.entry(&poll.syscall).or_default().push(poll);
    }
    let mut rows = Vec::new();
    for (syscall, polls) in by_syscall {
        let mut sum = Row {
            label: clean(syscall),
            ..Row::default()
        };
        for poll in &polls {
            sum.add(poll);
        }
        rows.push(sum);
        if view.report.tasks.len() > 1 {
            for poll in polls {
                let name = names.get(&poll.serial).copied().unwrap_or_default();
                let mut row = Row {
                    label: format!("  {} {}", poll.tid, clean(name)),
                    ..Row::default()
                };
                row.add(poll);
                rows.push(row);
            }
        }
    }
    rows
}
