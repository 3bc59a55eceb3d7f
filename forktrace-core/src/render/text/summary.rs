//! The report that fits a terminal: what held the workload up, where the time went, who did
//! what when, what was waited for, and what all that is worth.

use super::{View, audit, findings, groups, locks, marks, roles, timeline, waited, wall, workload};

/// Lines of a summary. Two more say where to look next.
const LINES: usize = 38;

/// How much room each section may take.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// Findings after the first.
    pub(super) findings: usize,
    /// Rows of the time line.
    pub(super) timeline: usize,
    /// Things waited for.
    pub(super) waited: usize,
    /// Locks, and holders of the first, where a lock is a finding.
    pub(super) locks: usize,
    /// Roles.
    pub(super) roles: usize,
    /// Names of marks.
    pub(super) marks: usize,
    /// What makes the record weaker.
    pub(super) weaknesses: usize,
}

/// From what one likes to see to what always fits.
const LIMITS: [Limits; 6] = [
    limits([4, 8, 6, 3, 8, 3, 2]),
    limits([4, 6, 5, 3, 6, 2, 2]),
    limits([3, 5, 4, 2, 5, 2, 1]),
    limits([2, 4, 3, 2, 4, 1, 1]),
    limits([1, 3, 3, 1, 3, 1, 1]),
    limits([1, 2, 2, 0, 2, 0, 1]),
];

const fn limits(
    [findings, timeline, waited, locks, roles, marks, weaknesses]: [usize; 7],
) -> Limits {
    Limits {
        findings,
        timeline,
        waited,
        locks,
        roles,
        marks,
        weaknesses,
    }
}

/// The summary, at most 38 lines.
pub(super) fn render(view: &View<'_>) -> String {
    let mut text = String::new();
    for limits in LIMITS {
        text = with(view, limits);
        if text.lines().count() <= LINES {
            break;
        }
    }
    text
}

fn with(view: &View<'_>, limits: Limits) -> String {
    let mut sections = vec![
        workload::section(view),
        findings::summary(view, limits.findings),
        wall::section(view),
        groups::summary(view, limits.roles),
        timeline::section(view, limits.timeline),
        waited::summary(view, limits.waited),
        locks::summary(view, limits.locks),
        roles::summary(view, limits.roles),
        marks::summary(view, limits.marks),
        audit::summary(view, limits.weaknesses),
    ];
    sections.retain(|section| !section.is_empty());
    sections.join("\n")
}
