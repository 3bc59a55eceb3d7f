//! What the workload said about itself.

use std::collections::BTreeMap;

use super::{
    View,
    figures::{clean, quantity, shortened},
    layout::wrapped,
};
use crate::report::Mark;

/// Marks of one name that are shown one by one.
const MOST: usize = 3;
/// Names that are shown without `-v`: a workload can have as many as marks.
const NAMES: usize = 20;
/// Columns of a name.
const NAME: usize = 40;
/// Columns of a name's marks, without `-v`.
const TEXT: usize = 400;

/// A line for each name of marks.
pub(super) fn section(view: &View<'_>) -> String {
    let mut by_name: BTreeMap<&str, Vec<&Mark>> = BTreeMap::new();
    for mark in &view.report.marks {
        by_name.entry(&mark.name).or_default().push(mark);
    }
    if by_name.is_empty() {
        return String::new();
    }
    let names = if view.style.verbose {
        by_name.len()
    } else {
        NAMES
    };
    let mut rows: String = by_name
        .iter()
        .take(names)
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
            let (mut name, mut rest) = (clean(name), clean(&rest));
            if !view.style.verbose {
                (name, rest) = (shortened(&name, NAME), shortened(&rest, TEXT));
            }
            wrapped(&format!("  {name}  "), &rest)
        })
        .collect();
    if by_name.len() > names {
        let more = &by_name.iter().skip(names);
        let marks = more.clone().map(|(_, marks)| marks.len() as u64).sum();
        rows.push_str(&format!(
            "  … and {} of {} more (-v shows all)\n",
            quantity(marks, "mark"),
            quantity(more.len() as u64, "name")
        ));
    }
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
