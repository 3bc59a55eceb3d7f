//! The answer to the question, and what puts it in proportion.

use super::{
    View,
    claim::{Words, alone, together},
    figures::{duration, percent, recased},
    layout::wrapped,
    workload::title,
};
use crate::report::{Episodes, Group};

/// Were the tasks blocked at the same time?
pub(super) fn answer(view: &View<'_>) -> String {
    let Some(tree) = view.tree else {
        return String::new();
    };
    let audit = &view.report.audit;
    let together = match view.report.tasks.as_slice() {
        [task] => alone(task, audit),
        _ => together(tree, &Words::of_tree(view), audit),
    };
    let mut out = wrapped(view.style, "  ", &together);
    if let Some(sentence) = starved(tree, view) {
        out.push_str(&wrapped(view.style, "  ", &sentence));
    }
    out.push_str(&groups(view));
    out
}

/// A line for each group with several tasks.
fn groups(view: &View<'_>) -> String {
    let mut groups = view.divided.clone();
    // Stable: those that were never all blocked stay in the order of creation.
    groups.sort_by_key(|group| {
        let all = group.all_blocked;
        std::cmp::Reverse((all.lower_ns, all.upper_ns))
    });
    let mut out = String::new();
    for group in &groups {
        let words = Words::of_group(group);
        let sentence = together(group, &words, &view.report.audit);
        let sentence = recased(&sentence, char::to_ascii_lowercase);
        out.push_str(&wrapped(
            view.style,
            "  - ",
            &format!("{}: {sentence}", title(group)),
        ));
    }
    out
}

/// Only where it takes more than 1 % of the time: between a wakeup and its
/// switch there is always a little of it.
fn starved(tree: &Group, view: &View<'_>) -> Option<String> {
    let Episodes {
        lower_ns: lower,
        upper_ns: upper,
        ..
    } = tree.starved;
    if lower <= tree.lifetime_ns / 100 {
        return None;
    }
    let time = if lower == upper && view.report.audit.complete {
        format!("{} ({})", duration(lower), percent(lower, tree.lifetime_ns))
    } else {
        format!(
            "at least {} ({})",
            duration(lower),
            percent(lower, tree.lifetime_ns)
        )
    };
    Some(match view.report.tasks.len() {
        1 => format!("For {time} it was ready to run, but had no CPU."),
        _ => format!("For {time} they were ready to run, but had no CPU."),
    })
}
