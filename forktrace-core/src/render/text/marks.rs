//! What the workload said about itself.

use std::collections::BTreeMap;

use super::{
    View,
    figures::{clean, quantity},
    layout::wrapped,
};
use crate::report::Mark;

/// Marks of one name that are shown one by one.
const MOST: usize = 3;

/// A line for each name of marks.
pub(super) fn section(view: &View<'_>) -> String {
    let mut by_name: BTreeMap<&str, Vec<&Mark>> = BTreeMap::new();
    for mark in &view.report.marks {
        by_name.entry(&mark.name).or_default().push(mark);
    }
    if by_name.is_empty() {
        return String::new();
    }
    let rows: String = by_name
        .iter()
        .map(|(name, marks)| {
            let shown = if view.style.verbose {
                marks.len()
            } else {
                MOST
            };
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
            wrapped(&format!("  {}  ", clean(name)), &clean(&rest))
        })
        .collect();
    format!("  MARKS\n{rows}")
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
