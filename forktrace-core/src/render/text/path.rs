//! The critical path: what the run took its time for.

use super::{
    View,
    figures::{clean, count_cell, duration_cell, percent},
    layout::{Ink, Table, paint},
};
use crate::report::{PathPart, PathState};

/// Parts that are shown without `-v`, and the least that one of them has of the whole.
const PARTS: usize = 6;
const LEAST: u64 = 100;

pub(super) fn section(view: &View<'_>) -> String {
    let path = &view.report.path;
    let worth = path.parts.iter().filter(|part| part.ns >= path.ns / LEAST);
    let shown: Vec<&PathPart> = match view.style.verbose {
        true => path.parts.iter().collect(),
        false => worth.take(PARTS).collect(),
    };
    if shown.is_empty() {
        return String::new();
    }
    let mut table = Table::default();
    let mut column = |head, figure: &dyn Fn(&PathPart) -> String| {
        table.number(head, shown.iter().map(|part| figure(part)).collect());
    };
    column("TIME", &|part| duration_cell(part.ns));
    column("SHARE", &|part| percent(part.ns, path.ns));
    column("TIMES", &|part| count_cell(part.count));
    table.prose(
        "WHAT IT TOOK",
        shown.iter().map(|part| what(part)).collect(),
    );
    let mut out = paint(
        view.style,
        Ink::Dim,
        "  THE CRITICAL PATH: WHAT THE RUN TOOK ITS TIME FOR\n",
    );
    out.push_str(&table.to_text(view.style));
    let rest = path.parts.len() - shown.len();
    if rest > 0 {
        out.push_str(&format!(
            "  … and {rest} more (-v shows all; --format json has them)\n"
        ));
    }
    out
}

fn what(part: &PathPart) -> String {
    let did = match (part.state, part.reason.as_deref()) {
        (PathState::Running, _) => "ran".to_owned(),
        (PathState::Runnable, _) => "was ready, and no CPU was free".to_owned(),
        (PathState::Stopped, _) => "was stopped".to_owned(),
        (PathState::Blocked, Some("sleep")) => "slept".to_owned(),
        (PathState::Blocked, Some(reason)) => match &part.object {
            Some(object) => format!("waited in {} on {}", clean(reason), clean(&object.name)),
            None => format!("waited in {}", clean(reason)),
        },
        _ => "is not known".to_owned(),
    };
    format!("{} {did}", clean(&part.role))
}
