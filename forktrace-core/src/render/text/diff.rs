//! A comparison as text.

use super::{
    Style,
    layout::{Ink, Table, paint, wrapped},
    sheets::{
        HEADS, Row, SHORT, Sheet, left_out, notes, others, rest, sentences, share, sheets, side,
    },
};
use crate::diff::Diff;

/// Lines of a summary, if it can be told in so many.
const LINES: usize = 40;

/// Rows that a table has at least while there are others to leave out.
const FEW: usize = 3;

/// The whole comparison, ending in a newline.
pub fn render(diff: &Diff, style: &Style) -> String {
    if style.verbose {
        return told(diff, *style, None, usize::MAX);
    }
    let lines = |text: &str| text.lines().count();
    let all = sheets(diff, Some(SHORT)).len();
    let mut out = String::new();
    // Fewer rows first; then without the last tables, which others follow from.
    let rows = (FEW..=SHORT).rev().map(|most| (most, all));
    let fewer = (2..all).rev();
    let fewer = fewer.flat_map(|tables| (1..=FEW).rev().map(move |most| (most, tables)));
    for (most, tables) in rows.chain(fewer) {
        out = told(diff, *style, Some(most), tables);
        if lines(&out) <= LINES {
            break;
        }
    }
    out
}

/// The same with tables of at most so many rows, and so many of them.
fn told(diff: &Diff, style: Style, most: Option<usize>, tables: usize) -> String {
    let (first, more) = sentences(diff);
    let mut out = paint(style, Ink::Bold, &wrapped(style, "  ", &first));
    for sentence in more {
        out.push_str(&wrapped(style, "  - ", &sentence));
    }
    out.push('\n');
    for (name, of) in [("A", &diff.base), ("B", &diff.new)] {
        out.push_str(&wrapped(style, &format!("  {name}  "), &side(of)));
    }
    let with_interval = diff.wall.low_ns.is_some();
    let all = sheets(diff, most);
    for sheet in all.iter().take(tables) {
        out.push('\n');
        out.push_str(&paint(style, Ink::Bold, &format!("{}\n", sheet.title)));
        out.push_str(&table(style, &sheet.rows, with_interval));
        if !sheet.others.is_empty() {
            let heading = wrapped(style, "  ", others(diff));
            out.push_str(&paint(style, Ink::Dim, &heading));
            out.push_str(&table(style, &sheet.others, with_interval));
        }
        out.push_str(&below(style, sheet));
    }
    let mut notes = notes(diff);
    if let Some(most) = most {
        let tables = (tables < all.len()).then_some("Other tables are left out");
        let what = left_out(diff, most).or(tables);
        notes.extend(what.map(|what| format!("{what} (-v shows all).")));
    }
    if !notes.is_empty() {
        out.push('\n');
    }
    for note in notes {
        out.push_str(&paint(style, Ink::Dim, &wrapped(style, "", &note)));
    }
    out
}

fn table(style: Style, rows: &[Row], with_interval: bool) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let cells: Vec<[String; 4]> = rows.iter().map(Row::cells).collect();
    let column = |at: usize| cells.iter().map(|row| row[at].clone()).collect();
    let mut table = Table::default();
    table.number(HEADS[2], column(2));
    // There is no room for both beside what changed.
    if with_interval {
        table.number(HEADS[3], column(3));
    } else {
        table.number("%", rows.iter().map(|row| share(&row.change)).collect());
    }
    // What a narrow page has no room for follows from the rest: the share, or what was before.
    table.spare(usize::from(!with_interval));
    table.number(HEADS[0], column(0));
    table.spare(usize::from(with_interval));
    table.number(HEADS[1], column(1));
    table.prose("WHAT", rows.iter().map(|row| row.what.clone()).collect());
    table.into_text(style)
}

fn below(style: Style, sheet: &Sheet) -> String {
    let mut out = String::new();
    if let Some(rest) = rest(sheet) {
        out.push_str(&wrapped(style, "  ", &rest));
    }
    if !sheet.about.is_empty() {
        out.push_str(&paint(style, Ink::Dim, &wrapped(style, "  ", sheet.about)));
    }
    out
}
