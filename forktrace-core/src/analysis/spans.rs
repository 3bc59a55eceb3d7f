//! What the tasks of a group did during the spans that the workload marked.

use std::collections::BTreeMap;

use super::{
    intervals::Intervals,
    meanwhile::{self, Meanwhile},
};
use crate::{
    model::{Model, Part, Task},
    report::Span,
};

/// The marked spans, by name.
pub(super) type Spans<'a> = BTreeMap<&'a str, Vec<(u64, u64)>>;

/// All marks that say since when, as far as they are in this part.
pub(super) fn spans<'a>(model: &'a Model, part: &Part) -> Spans<'a> {
    let mut spans = Spans::new();
    for mark in &model.marks {
        if let (Some(from), Some(until)) = (mark.since_ns, mark.at_ns)
            && from <= until
            && let (from, until) = part.of(from, until)
            && from <= until
        {
            spans.entry(&mark.name).or_default().push((from, until));
        }
    }
    spans
}

/// What a group did during them.
pub(super) fn of_group(spans: &Spans<'_>, tasks: &[&Task]) -> Vec<Span> {
    if spans.is_empty() {
        return Vec::new();
    }
    let Meanwhile {
        any_ran,
        all_blocked,
    } = meanwhile::of_tasks(tasks.iter().map(|task| task.segments()));
    spans
        .iter()
        .map(|(name, spans)| {
            let union = Intervals::union(spans.clone());
            let mut each: Vec<u64> = spans
                .iter()
                .map(|(from, until)| all_blocked.within(*from, *until))
                .collect();
            each.sort_unstable();
            // The smallest value that is not below 99 % of them.
            let p99 = (each.len() * 99).div_ceil(100).saturating_sub(1);
            Span {
                name: (*name).to_owned(),
                count: spans.len() as u64,
                ns: union.sum(),
                ran_ns: union.overlap(&any_ran),
                all_blocked_ns: union.overlap(&all_blocked),
                all_blocked_p99_ns: each.get(p99).copied().unwrap_or(0),
                all_blocked_longest_ns: each.last().copied().unwrap_or(0),
            }
        })
        .collect()
}
