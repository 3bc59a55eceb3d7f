//! What the workload said about itself.

use std::collections::BTreeMap;

use super::{
    View,
    figures::{clean, quantity, shortened},
    layout::{Ink, paint, wrapped},
};
use crate::report::Mark;

/// Marks of one name that are shown one by one.
const MOST: usize = 3;
/// Columns of a name in a summary.
const NAME: usize = 24;

/// A line for each name of marks, up to so many names.
pub(super) fn summary(view: &View<'_>, names: usize) -> String {
    of(view, Some(names))
}

/// All marks, by name.
pub(super) fn section(view: &View<'_>) -> String {
    of(view, None)
}

fn of(view: &View<'_>, names: Option<usize>) -> String {
    let mut by_name: BTreeMap<&str, Vec<&Mark>> = BTreeMap::new();
    for mark in &view.report.marks {
        by_name.entry(&mark.name).or_default().push(mark);
    }
    if by_name.is_empty() {
        return String::new();
    }
    let whole = names.is_none();
    let names = names.unwrap_or(by_name.len());
    let mut rows: String = by_name
        .iter()
        .take(names)
        .map(|(name, marks)| {
            let shown = if whole { marks.len() } else { MOST };
            let mut parts: Vec<String> = marks.iter().take(shown).map(|mark| words(mark)).collect();
            if marks.len() > shown {
                parts.push("…".to_owned());
            }
            parts.retain(|part| !part.is_empty());
            let number = quantity(marks.len() as u64, "mark");
            let rest = match parts.as_slice() {
                [] => number,
                parts => format!("{number}: {}", parts.join("; ")),
            };
            let (mut name, mut rest) = (clean(name), clean(&rest));
            if !whole {
                (name, rest) = (
                    shortened(view.style, &name, NAME),
                    shortened(view.style, &rest, view.style.columns / 3),
                );
            }
            wrapped(view.style, &format!("  {name}  "), &rest)
        })
        .collect();
    if by_name.len() > names {
        let more = &by_name.iter().skip(names);
        let marks = more.clone().map(|(_, marks)| marks.len() as u64).sum();
        let text = format!(
            "… {} of {} (--show marks)",
            quantity(marks, "mark"),
            quantity(more.len() as u64, "other name")
        );
        rows.push_str(&wrapped(view.style, "  ", &text));
    }
    match whole {
        true => rows,
        false => paint(view.style, Ink::Dim, "  MARKS\n") + &rows,
    }
}

/// A mark's value and all else that it says.
fn words(mark: &Mark) -> String {
    let value = (!mark.value.is_null()).then(|| mark.value.to_string());
    let fields = mark
        .fields
        .iter()
        .map(|(name, field)| format!("{name} {field}"));
    value
        .into_iter()
        .chain(fields)
        .collect::<Vec<_>>()
        .join(", ")
}
