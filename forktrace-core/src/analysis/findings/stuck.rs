//! Deadlocks and hangs.

use super::{
    Confidence, Finding, FindingKind, Report, duration, finding, first_listed, part_of, quantity,
    who,
};
use crate::{
    report::{Deadlock, DeadlockKind, DeadlockedTask},
    words::long_duration,
};

/// Tasks that are named.
const NAMED: usize = 4;

pub(super) fn findings(report: &Report) -> Vec<Finding> {
    report.deadlocks.iter().map(|d| of(report, d)).collect()
}

fn of(report: &Report, deadlock: &Deadlock) -> Finding {
    let from_ns = deadlock.tasks.iter().map(|t| t.since_ns).max();
    let from_ns = from_ns.unwrap_or(deadlock.at_ns).min(deadlock.at_ns);
    let ends = report.tasks.iter().filter(|t| {
        let mut those = deadlock.tasks.iter();
        those.any(|stuck| stuck.serial == t.serial)
    });
    let to_ns = ends.map(|t| t.end_ns).min().unwrap_or(from_ns);
    let to_ns = deadlock.end_ns.unwrap_or(to_ns).max(from_ns);
    let ns = to_ns - from_ns;
    let tasks = &deadlock.tasks;
    let (kind, confidence, story) = match (deadlock.kind, &tasks[..]) {
        (DeadlockKind::Cycle, [only]) => (
            FindingKind::Deadlock,
            Confidence::Proved,
            format!(
                "{} waits{} for {}, which it holds itself",
                name(only),
                code(only),
                only.waits_for
            ),
        ),
        (DeadlockKind::Cycle, [a, b]) => (
            FindingKind::Deadlock,
            Confidence::Proved,
            format!(
                "{} and {} each wait for a lock that the other holds{}",
                name(a),
                name(b),
                codes(a, b)
            ),
        ),
        (DeadlockKind::Cycle, all) => (
            FindingKind::Deadlock,
            Confidence::Proved,
            format!(
                "{} wait in a circle, each for a lock that the next one holds: {}",
                quantity(all.len() as u64, "task"),
                names(all)
            ),
        ),
        (DeadlockKind::Circle, all) => (
            FindingKind::Hang,
            Confidence::Likely,
            format!("in a circle, {}", chain(all)),
        ),
        (DeadlockKind::AllAsleep, [only]) => (
            FindingKind::Hang,
            Confidence::Likely,
            format!(
                "{} waits{} for {}, and nobody is left to end that",
                name(only),
                code(only),
                what(only)
            ),
        ),
        (DeadlockKind::AllAsleep, all) => (
            FindingKind::Hang,
            Confidence::Likely,
            format!("{}; nobody is left to end any of these waits", each(all)),
        ),
    };
    let word = match kind {
        FindingKind::Deadlock => "Deadlock",
        _ => "Hang",
    };
    // Of whom the sentence says what it waits for, there is only to say that it began earlier.
    let is_told = match deadlock.kind {
        DeadlockKind::Cycle => tasks.len() == 1,
        DeadlockKind::Circle => false,
        DeadlockKind::AllAsleep => true,
    };
    let earlier = |task: &DeadlockedTask| {
        task.waited_before_ns.is_some() || duration(task.since_ns) != duration(from_ns)
    };
    let evidence = tasks.iter().take(NAMED);
    let evidence = evidence.filter(|task| !is_told || earlier(task) && tasks.len() > 1);
    let has_code = tasks.iter().any(|task| task.code.is_some());
    let sentence = format!(
        "{word} for {}, {}: {story}.",
        part_of(ns, report),
        beginning(tasks, from_ns)
    );
    Finding {
        tasks: tasks.iter().map(|t| t.serial).collect(),
        evidence: evidence.map(since).collect(),
        next: (!has_code).then(|| "--stacks shows where each of them waits".to_owned()),
        ..finding(kind, ns, confidence, sentence)
    }
}

fn name(task: &DeadlockedTask) -> String {
    who(&task.name, task.tid)
}

/// What it waits for: a child to end, or what it is called.
fn what(task: &DeadlockedTask) -> String {
    match task.waits_for.as_str() {
        "child" => "a child to end".to_owned(),
        "any child" => "any child to end".to_owned(),
        child if child.starts_with("child ") => format!("{child} to end"),
        other => other.to_owned(),
    }
}

/// The function that it waits in, if that is known.
fn code(task: &DeadlockedTask) -> String {
    let code = task.code.as_ref();
    code.map_or(String::new(), |code| format!(" in `{code}`"))
}

/// The functions that two tasks wait in, if both are known.
fn codes(a: &DeadlockedTask, b: &DeadlockedTask) -> String {
    match (&a.code, &b.code) {
        (Some(one), Some(other)) if one == other => format!(", both in `{one}`"),
        (Some(one), Some(other)) => format!(", in `{one}` and in `{other}`"),
        _ => String::new(),
    }
}

fn names(tasks: &[DeadlockedTask]) -> String {
    let more = if tasks.len() > NAMED { ", …" } else { "" };
    let names = tasks.iter().take(NAMED).map(|it| name(it) + &code(it));
    names.collect::<Vec<_>>().join(", ") + more
}

/// `a` waits for `b`, which waits for `c`… and that for `a`.
fn chain(tasks: &[DeadlockedTask]) -> String {
    let first = tasks.first().map_or(String::new(), name);
    let others = tasks.iter().skip(1).chain(tasks.first());
    let links = tasks.iter().zip(others);
    let links = links.map(|(task, next)| format!(" waits{} for {}", code(task), name(next)));
    first + &links.collect::<Vec<_>>().join(", which")
}

/// What each waits for, told once of those that wait for the same.
fn each(tasks: &[DeadlockedTask]) -> String {
    let mut groups: Vec<(String, Vec<&DeadlockedTask>)> = Vec::new();
    for task in tasks {
        let waits = format!("{} for {}", code(task), what(task));
        match groups.iter_mut().find(|(other, _)| *other == waits) {
            Some((_, those)) => those.push(task),
            None => groups.push((waits, vec![task])),
        }
    }
    let more = if groups.len() > NAMED { ", …" } else { "" };
    let told = groups.iter().take(NAMED).map(|(waits, those)| {
        let named = first_listed(those.iter().map(|task| name(task)), NAMED);
        let verb = if those.len() == 1 { "waits" } else { "wait" };
        format!("{named} {verb}{waits}")
    });
    told.collect::<Vec<_>>().join(", ") + more
}

/// From when on; before the recording, if the last of them waited by then.
fn beginning(tasks: &[DeadlockedTask], from_ns: u64) -> String {
    let before = tasks.iter().map(|task| task.waited_before_ns);
    match before.min().flatten() {
        Some(before_ns) => format!("and for {} before the recording", long_duration(before_ns)),
        None => format!("from {} on", duration(from_ns)),
    }
}

fn since(task: &DeadlockedTask) -> String {
    let since = match task.waited_before_ns {
        Some(before_ns) => format!("{} before the recording", long_duration(before_ns)),
        None => duration(task.since_ns),
    };
    format!("{} has waited for {} since {since}", name(task), what(task))
}
