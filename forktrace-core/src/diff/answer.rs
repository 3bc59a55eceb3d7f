//! The answer in sentences. Names in it are as the workload gave them.

use std::fmt::Write as _;

use super::{
    Change, Diff, Digest, FindingChange, Thing, WaitChange,
    phrases::{doing, give_or_take, interval, put_down_to},
};
use crate::{
    report::FindingKind,
    words::{duration, growth, listed, quantity},
};

/// Parts that are named in the first sentence: until they explain so much, in percent, but no
/// more than so many.
const ENOUGH: u64 = 75;
const PARTS: usize = 3;
/// Of single runs, a change by less than one part in so many is told as none.
const LITTLE: u64 = 100;
/// What a change must be of the change of the wall time to be told, in percent.
const WORTH: u64 = 10;

/// The first sentence, and others.
pub(super) fn answer(diff: &Diff) -> (String, Vec<String>) {
    let first = first(diff);
    let cut_off = match (diff.base.without_end, diff.new.without_end) {
        (0, 0) => return (first, more(diff)),
        (_, 0) => "A",
        (0, _) => "B",
        _ => "A and B",
    };
    let sentence = format!(
        "How long {cut_off} took is not known, since a trace of it breaks off. What is there says: \
         {first}"
    );
    (sentence, more(diff))
}

fn first(diff: &Diff) -> String {
    let wall = &diff.wall;
    let mean = match diff.base.wall_ns.len().max(diff.new.wall_ns.len()) {
        1 => "",
        _ => " on average",
    };
    if wall.delta_ns == 0 {
        return format!("B took as long as A{mean}: {}.", duration(wall.new_ns));
    }
    let took = format!("B took {}{mean}", by_how_much(wall));
    let is_little = wall.delta_ns.unsigned_abs() < wall.base_ns / LITTLE;
    if wall.significant == Some(false) {
        return format!(
            "No difference in wall time is proved: {took}, and that can be chance (95 % interval: \
             {}).",
            interval(wall).unwrap_or_default()
        );
    }
    let ns = wall.delta_ns.unsigned_abs();
    if ns <= diff.uncertain_ns {
        return format!(
            "{took}, which is within what the records leave open (± {}).",
            duration(diff.uncertain_ns)
        );
    }
    if is_little && wall.significant.is_none() {
        return format!("B took about as long as A: {}.", by_how_much(wall));
    }
    match explained(diff) {
        Some(why) => format!("{took}: {why}."),
        None => format!("{took}."),
    }
}

/// `1.80 s longer (12.0 %)`.
fn by_how_much(change: &Change) -> String {
    let ns = change.delta_ns.unsigned_abs();
    let direction = if change.delta_ns > 0 {
        "longer"
    } else {
        "less"
    };
    let ns_in_words = match give_or_take(change) {
        None => duration(ns),
        Some(half) => format!("{} {half}", duration(ns)),
    };
    match change.base_ns {
        0 => format!("{ns_in_words} {direction}"),
        base => format!(
            "{ns_in_words} {direction} ({})",
            growth(base, change.new_ns)
        ),
    }
}

/// Which parts of the critical path make it up.
fn explained(diff: &Diff) -> Option<String> {
    let ns = diff.wall.delta_ns.unsigned_abs();
    let is_more = diff.wall.delta_ns > 0;
    let rows = diff.path.iter();
    let same_way =
        rows.filter(|row| (row.change.delta_ns > 0) == is_more && diff.tells(&row.change));
    let (mut named, mut sum) = (Vec::new(), 0);
    for row in same_way.take(PARTS) {
        let part = row.change.delta_ns.unsigned_abs();
        if !named.is_empty() && part < ns / 100 * WORTH {
            break;
        }
        sum += part;
        named.push((part, row));
        if sum >= ns / 100 * ENOUGH {
            break;
        }
    }
    let (part, row) = named.first()?;
    if *part > ns {
        // Something else went the other way.
        let direction = if is_more { "longer" } else { "less" };
        let (rest, other) = (part - ns, if is_more { "less" } else { "longer" });
        return Some(format!(
            "on the critical path {} took {} {direction}, all else {} {other}",
            doing(row),
            duration(*part),
            duration(rest)
        ));
    }
    let mut words = Vec::new();
    for (at, (part, row)) in named.iter().enumerate() {
        let of_it = if at == 0 { " of it" } else { "" };
        words.push(format!("{}{of_it} is {}", duration(*part), doing(row)));
    }
    Some(listed(&words))
}

fn more(diff: &Diff) -> Vec<String> {
    let mut out = Vec::new();
    let worth = |change: &Change, of: i64| {
        let ns = change.delta_ns.unsigned_abs();
        diff.tells(change) && ns >= of.unsigned_abs() / 100 * WORTH
    };
    let wall = diff.wall.delta_ns;
    if worth(&diff.stalled, wall) {
        let stalled = &diff.stalled;
        let largest = diff.stalls.iter().find(|row| {
            (row.change.delta_ns > 0) == (stalled.delta_ns > 0)
                && worth(&row.change, stalled.delta_ns)
        });
        let of = largest.map_or_else(String::new, |row| {
            format!(
                "; {} {} is stalls put down to {}",
                duration(row.change.delta_ns.unsigned_abs()),
                if row.change.delta_ns > 0 {
                    "more"
                } else {
                    "less"
                },
                put_down_to(row)
            )
        });
        out.push(format!(
            "All tasks were blocked at once for {}{of}.",
            by_how_much(stalled)
        ));
    }
    let lock = diff
        .waits
        .iter()
        .find(|row| is_lock(row) && worth(&row.change, wall));
    if let Some(row) = lock {
        out.push(format!(
            "`{}` waited {} in all for {}.",
            row.role,
            by_how_much(&row.change),
            match &row.object {
                Some(object) => object.name.clone(),
                None => format!("locks in {}", row.reason),
            }
        ));
    }
    // A number that is not whole differs from run to run.
    let is_fixed = |tasks: f64| tasks > 0.0 && tasks.fract() == 0.0;
    let role = diff.roles.iter().find(|row| {
        row.base_tasks != row.new_tasks && is_fixed(row.base_tasks) && is_fixed(row.new_tasks)
    });
    if let Some(row) = role {
        out.push(format!(
            "There are {} tasks `{}`, and there were {}.",
            row.new_tasks, row.name, row.base_tasks
        ));
    }
    let is_told = |kind| kind != FindingKind::Idle;
    // What a sentence before has told of the same role and thing is not told again as a
    // finding that has come or gone.
    let mut told: Vec<(Option<&str>, Option<&Thing>, i64)> = Vec::new();
    let path = diff.path.iter().take(PARTS);
    told.extend(path.map(|it| (Some(&*it.role), it.object.as_ref(), it.change.delta_ns)));
    told.extend(lock.map(|it| (Some(&*it.role), it.object.as_ref(), it.change.delta_ns)));
    let is_again = |row: &FindingChange| {
        let ns = row.change.delta_ns;
        let same = |&(role, object, delta): &(Option<&str>, Option<&Thing>, i64)| {
            (row.role.is_none() || role.is_none() || row.role.as_deref() == role)
                && (row.object.as_ref() == object)
                && delta.signum() == ns.signum()
                && delta.abs_diff(ns) <= ns.unsigned_abs() / 10
        };
        told.iter().any(same)
    };
    for row in diff
        .findings
        .iter()
        .filter(|row| is_told(row.kind) && !is_again(row))
        .take(2 * PARTS)
    {
        match (&row.base_sentence, &row.new_sentence) {
            (None, Some(sentence)) if worth(&row.change, wall) => {
                out.push(format!("New: {sentence}"))
            }
            (Some(sentence), None) if worth(&row.change, wall) => {
                out.push(format!("Gone: {sentence}"))
            }
            _ => {}
        }
    }
    out
}

fn is_lock(row: &WaitChange) -> bool {
    matches!(row.reason.as_str(), "futex" | "file lock" | "semaphore")
}

/// What makes the comparison weaker.
pub(super) fn notes(
    diff: &Diff,
    base: &[Digest],
    new: &[Digest],
    renamed: Option<&str>,
) -> Vec<String> {
    let mut notes = Vec::new();
    if base.len() == 1 || new.len() == 1 {
        let side = match (base.len(), new.len()) {
            (1, 1) => "There is one run on each side",
            (1, _) => "There is one run of A",
            _ => "There is one run of B",
        };
        notes.push(format!(
            "{side}, so there is no interval: how much of the difference is chance is not known. \
             `forktrace run --repeat 5 --save FILE` makes more."
        ));
    }
    for (name, side) in [("A", &diff.base), ("B", &diff.new)] {
        if side.without_end > 0 {
            notes.push(format!(
                "{} of {name} without an end (forktrace was killed, or the file was cut off): figures \
                 are of the time until then.",
                quantity(side.without_end, "trace")
            ));
        }
        let others = side.incomplete.saturating_sub(side.without_end);
        if others > 0 {
            notes.push(format!(
                "Records are missing in {} of {name}: {}.",
                quantity(others, "trace"),
                match diff.uncertain_ns {
                    0 => "by how much changes are off is not known".to_owned(),
                    ns => format!("changes are ± {}", duration(ns)),
                }
            ));
        }
    }
    let mut all = base.iter().chain(new);
    if let Some(first) = all.next() {
        if all.clone().any(|run| run.argv != first.argv) {
            let mut note = "The traces are of different command lines".to_owned();
            if let Some(renamed) = renamed {
                let _ = write!(
                    note,
                    "; `{renamed}` of B is called `{}` here",
                    first.program
                );
            }
            notes.push(note + ".");
        }
        if all.clone().any(|run| run.machine != first.machine) {
            notes.push("The traces are of different machines or kernels.".to_owned());
        }
        if all.any(|run| run.attached) || first.attached {
            notes.push(
                "A recording was attached to what ran already: its wall time is how long was \
                 recorded."
                    .to_owned(),
            );
        }
    }
    for (name, runs) in [("A", base), ("B", new)] {
        let failed = runs.iter().filter(|run| run.failed).count() as u64;
        if failed > 0 {
            notes.push(format!(
                "{} of {name} did not end with exit status 0.",
                quantity(failed, "run")
            ));
        }
    }
    if diff.path.is_empty() {
        notes.push(
            "A trace has no critical path, since wakers were left out (--plain): what the change \
             is due to is not known."
                .to_owned(),
        );
    }
    notes
}
