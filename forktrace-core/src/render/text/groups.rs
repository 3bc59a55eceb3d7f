//! A row a group, where tasks are divided by something else than their processes.

use super::{
    View,
    figures::{NONE, clean, count_cell, duration_cell, percent, quantity},
    layout::{Table, wrapped},
};
use crate::report::{Group, GroupKind};

/// Those that were blocked together for longest first.
pub(super) fn summary(view: &View<'_>, most: usize) -> String {
    let groups = view.report.groups.iter();
    let mut groups: Vec<&Group> = groups.filter(|it| it.kind != GroupKind::Tree).collect();
    let heading = match groups.first().map(|group| group.kind) {
        Some(GroupKind::Name) => "NAME",
        Some(GroupKind::Role) => "ROLE",
        Some(GroupKind::Cgroup) => "CGROUP",
        Some(GroupKind::Process | GroupKind::Tree) | None => return String::new(),
    };
    groups.sort_by_key(|group| std::cmp::Reverse(group.all_blocked.lower_ns));
    let rest = groups.len().saturating_sub(most);
    groups.truncate(most);
    // What is not known to be so may be.
    let at_least = |lower: u64, upper: u64| match lower == upper {
        true => duration_cell(lower),
        false => format!("≥ {}", duration_cell(lower)),
    };
    let together = |group: &Group, cell: &dyn Fn(&Group) -> String| match group.most_live {
        0 | 1 => NONE.to_owned(),
        _ => cell(group),
    };
    let mut table = Table::default();
    let cells = |cell: &dyn Fn(&Group) -> String| groups.iter().map(|group| cell(group)).collect();
    table.text(heading, 32, cells(&|group| clean(&group.name)));
    table.number(
        "TASKS",
        cells(&|group| count_cell(group.tasks.len() as u64)),
    );
    let all = |group: &Group| at_least(group.all_blocked.lower_ns, group.all_blocked.upper_ns);
    table.number("ALL BLOCKED", cells(&|group| together(group, &all)));
    let share = |group: &Group| percent(group.all_blocked.lower_ns, group.lifetime_ns);
    table.number("SHARE", cells(&|group| together(group, &share)));
    let longest = |group: &Group| duration_cell(group.all_blocked.longest_ns);
    table.number("LONGEST", cells(&|group| together(group, &longest)));
    let starved = |group: &Group| at_least(group.starved.lower_ns, group.starved.upper_ns);
    table.number("STARVED", cells(&starved));
    let mut out = table.into_text(view.style);
    if rest > 0 {
        let text = format!(
            "… and {} (--show stalls)",
            quantity(rest as u64, "other group")
        );
        out.push_str(&wrapped(view.style, "  ", &text));
    }
    out
}
