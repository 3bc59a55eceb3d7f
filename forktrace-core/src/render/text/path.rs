//! The critical path: what the run took its time for.

use super::{
    View,
    figures::{clean, count_cell, duration_cell, percent},
    layout::Table,
};
use crate::report::{PathPart, PathState};

pub(super) fn section(view: &View<'_>) -> String {
    let path = &view.report.path;
    let shown = &path.parts;
    if shown.is_empty() {
        return String::new();
    }
    let mut table = Table::default();
    let mut column = |head, figure: &dyn Fn(&PathPart) -> String| {
        table.number(head, shown.iter().map(figure).collect());
    };
    column("TIME", &|part| duration_cell(part.ns));
    column("SHARE", &|part| percent(part.ns, path.ns));
    column("TIMES", &|part| count_cell(part.count));
    table.prose("WHAT IT TOOK", shown.iter().map(what).collect());
    table.into_text(view.style)
}

fn what(part: &PathPart) -> String {
    let did = match (part.state, part.reason.as_deref()) {
        (PathState::Running, _) => "ran".to_owned(),
        (PathState::Runnable, _) => "was ready, and had no CPU".to_owned(),
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
