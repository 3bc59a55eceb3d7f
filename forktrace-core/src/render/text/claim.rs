//! The sentence about being blocked at the same time: what may be said, and when.

use super::{
    View,
    figures::{count, duration, percent, plural, quantity, recased},
    workload::{member, members},
};
use crate::report::{Audit, Episodes, Group, Task};

/// How a sentence calls the members of a group.
pub(super) struct Words {
    /// `5 threads`, `7 tasks of 3 processes`.
    all: String,
    /// `threads`.
    plural: String,
}

impl Words {
    pub(super) fn of_tree(view: &View<'_>) -> Self {
        Words {
            all: members(view).replace(" in ", " of "),
            plural: plural(view.noun()),
        }
    }

    pub(super) fn of_group(group: &Group) -> Self {
        let noun = member(group);
        Words {
            all: quantity(group.tasks.len() as u64, noun),
            plural: plural(noun),
        }
    }
}

/// What can be said of a group of one task.
pub(super) fn alone(task: &Task, audit: &Audit) -> String {
    let life = task.end_ns.saturating_sub(task.start_ns);
    let lower = task.blocked_ns;
    let upper = lower.saturating_add(task.unknown_ns);
    let seen = if audit.complete {
        ""
    } else {
        "as far as seen (the record is incomplete), "
    };
    let blocked = if upper == 0 {
        "was never blocked".to_owned()
    } else {
        format!("was blocked for {}", amount(lower, upper, life, audit))
    };
    format!("It has one task, so nothing could be blocked at the same time; {seen}it {blocked}.")
}

/// The claim for a group of two tasks or more. Each branch says no more than its
/// figures: “never” needs a complete record, “all 5” that all five lived.
pub(super) fn together(group: &Group, words: &Words, audit: &Audit) -> String {
    let Words { all, plural } = words;
    let n = group.tasks.len() as u64;
    let live = u64::from(group.most_live);
    let Episodes {
        lower_ns: lower,
        upper_ns: upper,
        ..
    } = group.all_blocked;
    if live < 2 {
        return if audit.complete {
            format!(
                "No two of the {all} lived at the same time, so none could be blocked at the same \
                 time."
            )
        } else {
            format!(
                "As far as seen (the record is incomplete), no two of the {all} lived at the same \
                 time."
            )
        };
    }
    let at_most = if live < n {
        format!(" (at most {} alive at a time)", count(live))
    } else {
        String::new()
    };
    if upper == 0 {
        return if audit.complete {
            let most = most_blocked(group);
            format!("The {all}{at_most} were never all blocked at the same time; {most}.")
        } else {
            format!(
                "The {all}{at_most} were not seen to be all blocked at the same time, but the \
                 record is incomplete: see the audit."
            )
        };
    }
    if lower == 0 {
        let why = why_unknown(audit);
        return format!(
            "The {all}{at_most} were not seen to be all blocked at the same time, but may have \
             been for up to {} of {} ({}): {why}.",
            duration(upper),
            duration(group.lifetime_ns),
            percent(upper, group.lifetime_ns),
        );
    }
    // Tasks come and go: “all” can mean fewer than there were in the whole run.
    let of_all = u32::try_from(n).map_or(0, |n| blocked_for(group, n));
    let naming = if live < n {
        Naming::Live
    } else if of_all == lower {
        Naming::All
    } else if reads_the_same(group, of_all) {
        Naming::AllButMoments
    } else {
        Naming::LiveAndAll
    };
    let subject = match naming {
        Naming::All | Naming::AllButMoments => format!("all {all} were"),
        Naming::LiveAndAll => format!("all live {plural} were"),
        Naming::Live => {
            format!(
                "all live {plural} (at most {} of the {all}) were",
                count(live)
            )
        }
    };
    let mut sentence = if audit.complete {
        recased(&subject, char::to_ascii_uppercase)
    } else {
        format!("As far as seen (the record is incomplete), {subject}")
    };
    sentence.push_str(" blocked at the same time for ");
    sentence.push_str(&amount(lower, upper, group.lifetime_ns, audit));
    sentence.push_str(&episodes(&group.all_blocked, naming));
    if naming == Naming::LiveAndAll {
        let at_least = if lower == upper { "" } else { "at least " };
        sentence.push_str(&match of_all {
            0 if audit.complete => format!(" At no time was that all {all}."),
            0 => String::new(),
            _ => format!(
                " For {at_least}{} of it that was all {all}.",
                duration(of_all)
            ),
        });
    }
    sentence
}

/// Whom a sentence about “all” names.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Naming {
    /// All of the group: none was yet to come or gone.
    All,
    /// The same, but for moments that don't show in the figures. They may be
    /// episodes of their own, so the sentence gives no number of episodes.
    AllButMoments,
    /// Those that lived, and for how long that was all.
    LiveAndAll,
    /// Those that lived: there never was a time when all did.
    Live,
}

/// Is the time in which all of the group were blocked, rounded, that in which all
/// live ones were, and the longest episode one of all? (Within an episode no task
/// runs, so none comes or goes.)
fn reads_the_same(group: &Group, of_all: u64) -> bool {
    let all = &group.all_blocked;
    let life = group.lifetime_ns;
    duration(of_all) == duration(all.lower_ns)
        && percent(of_all, life) == percent(all.lower_ns, life)
        && all.longest_ns > all.lower_ns.saturating_sub(of_all)
}

/// Ends the sentence.
fn episodes(all: &Episodes, naming: Naming) -> String {
    let from = all
        .longest_start_ns
        .map(|start| format!(", from {} on", duration(start)))
        .unwrap_or_default();
    let exact = all.lower_ns == all.upper_ns;
    let at_least = if exact { "" } else { "at least " };
    let longest = format!("{at_least}{}{from}.", duration(all.longest_ns));
    match all.episodes {
        0 => ".".to_owned(),
        _ if naming == Naming::AllButMoments => format!("; the longest episode lasted {longest}"),
        1 if exact => format!(", in one episode{from}."),
        n if exact => format!(", in {} episodes; the longest lasted {longest}", count(n)),
        n => format!(
            ". Seen in {}; the longest lasted {longest}",
            quantity(n, "episode")
        ),
    }
}

/// `1.20 s of 4.00 s (30.0 %)`, or both bounds and why there are two.
fn amount(lower: u64, upper: u64, whole: u64, audit: &Audit) -> String {
    if lower == upper {
        return format!(
            "{} of {} ({})",
            duration(lower),
            duration(whole),
            percent(lower, whole)
        );
    }
    format!(
        "between {} and {} of {} ({} to {}; {})",
        duration(lower),
        duration(upper),
        duration(whole),
        percent(lower, whole),
        percent(upper, whole),
        why_unknown(audit),
    )
}

fn why_unknown(audit: &Audit) -> &'static str {
    if audit.lost_records > 0 {
        "records were lost"
    } else if audit.tasks_not_followed > 0 {
        "not every task was followed"
    } else {
        "the record has gaps"
    }
}

fn most_blocked(group: &Group) -> String {
    let most = group
        .blocked_at_once
        .iter()
        .filter(|at| at.ns > 0)
        .map(|at| at.count)
        .max();
    match most {
        None | Some(0) => "none was ever blocked".to_owned(),
        Some(1) => "at most one of them was".to_owned(),
        Some(most) => format!("at most {} of them were", count(most.into())),
    }
}

/// Time in which exactly so many were blocked.
fn blocked_for(group: &Group, tasks: u32) -> u64 {
    group
        .blocked_at_once
        .iter()
        .find(|at| at.count == tasks)
        .map_or(0, |at| at.ns)
}
