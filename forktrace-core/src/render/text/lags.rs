//! How long data waited until tasks looked.

use super::{
    View,
    figures::{clean, count, count_cell, duration},
    layout::{Table, wrapped},
};
use crate::report::{Lag, LagSide};

/// A row for each role and port.
pub(super) fn section(view: &View<'_>) -> String {
    let Some(lags) = &view.report.lags else {
        return String::new();
    };
    let min = duration(lags.min_ns);
    let looks = lags.looks.map_or_else(String::new, |n| {
        format!(" Tasks read {} times what had come before.", count(n))
    });
    if lags.rows.is_empty() {
        let text = format!("No data waited for {min} or longer in a TCP socket.{looks}");
        return wrapped(view.style, "  ", &text);
    }
    let rows = &lags.rows;
    let mut table = Table::default();
    let name = |row: &Lag| match row.side {
        LagSide::Serves => format!("{} on :{}", clean(&row.role), row.port),
        LagSide::Asks => format!("{} from :{}", clean(&row.role), row.port),
    };
    table.text("WHO READ LATE", 13, rows.iter().map(name).collect());
    table.number(
        "TIMES",
        rows.iter()
            .map(|row| count_cell(row.waited.count))
            .collect(),
    );
    let mut rank = 0;
    let mut column = |head, figure: fn(&Lag) -> u64| {
        table.number(head, rows.iter().map(|row| duration(figure(row))).collect());
        table.spare(rank);
        rank += 1;
    };
    column("MEDIAN", |row| row.waited.p50_ns);
    column("P99", |row| row.waited.p99_ns);
    column("LONGEST", |row| row.waited.longest_ns);
    column("RAN", |row| row.did.running_ns);
    column("NO CPU", |row| row.did.runnable_ns);
    column("BLOCKED", |row| row.did.blocked_ns);
    let mostly = |row: &Lag| match row.did.waits.first() {
        Some(wait) => clean(wait.object.as_ref().map_or_else(
            || wait.syscall.as_deref().unwrap_or(&wait.reason),
            |object| object.name.as_str(),
        )),
        None => String::new(),
    };
    table.text("MOSTLY FOR", 10, rows.iter().map(mostly).collect());
    let mut out = table.into_text(view.style);
    let mut note = format!(
        "Data in TCP sockets that waited for {min} or longer until the task had read it, and what \
         the task did meanwhile; times of several sockets add up.{looks}"
    );
    if lags.other_rows > 0 {
        note += &format!(" {} more rows are not shown.", count(lags.other_rows));
    }
    match lags.not_noted.unwrap_or(0) + lags.left_out {
        0 => {}
        n => note += &format!(" {} more times are not known.", count(n)),
    }
    out.push_str(&wrapped(view.style, "  ", &note));
    out
}
