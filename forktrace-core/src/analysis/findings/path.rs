//! What the end of the run waited for.

use std::collections::BTreeSet;

use super::{
    Confidence, Finding, FindingKind, Report, Waiter,
    asked::{self, Asked},
    count, did, finding, part_of, quantity,
};
use crate::{
    report::{GroupKind, PathPart, PathState},
    words::times,
};

/// Who looks so often polls.
const POLLS: u64 = 5;

/// What the end of the run waited for, where no stall tells: page faults, and all that a
/// workload of one task waits for.
pub(super) fn findings(report: &Report, asked: &Asked) -> Vec<Finding> {
    let alone = report.tasks.len() == 1;
    let blocked = report
        .path
        .parts
        .iter()
        .filter(|p| p.state == PathState::Blocked);
    let parts = blocked.filter(|p| alone || p.reason.as_deref() == Some("page fault"));
    let parts = together(parts.cloned().collect(), |a, b| {
        a.role == b.role && (is_sync(a) && is_sync(b) || same_name(a, b))
    });
    let told = parts.iter().map(|p| {
        let reason = p.reason.as_deref().unwrap_or("unknown");
        let object = p.object.as_ref();
        let kind = asked.kind(reason, object);
        let did = did(reason, None, object, None);
        let serials = report.tasks.iter().map(|task| task.serial);
        let waiter = match alone {
            true => Waiter::of_tasks(report, serials, (reason, None)),
            false => Waiter::default(),
        };
        let times = so_often(p.count);
        let sentence = format!(
            "`{}` {did} for {}{times}{}.",
            p.role,
            part_of(p.ns, report),
            waiter.told()
        );
        Finding {
            tasks: match &report.tasks[..] {
                [only] => vec![only.serial],
                _ => Vec::new(),
            },
            object: p.object.clone(),
            code: waiter.name,
            ..finding(kind, p.ns, Confidence::Proved, sentence)
        }
    });
    told.collect()
}

/// `, 3 times`.
pub(super) fn so_often(waits: u64) -> String {
    match waits {
        1 => String::new(),
        n => format!(", {} times", count(n)),
    }
}

/// What a run that ended by itself waited for while other tasks went on: without it the run
/// would have been shorter, though all were never blocked at once. Not of a futex: who passes
/// one on need not have held anything. `alone_ns`: so much of it a task waited that was the only one.
pub(super) fn beside(report: &Report, alone_ns: u64, asked: &Asked) -> Option<Finding> {
    let tree = report.groups.iter().find(|g| g.kind == GroupKind::Tree)?;
    if !asked::ended_by_itself(report) || report.tasks.len() < 2 {
        return None;
    }
    let is_wait = |p: &&PathPart| {
        let reason = p.reason.as_deref().unwrap_or("futex");
        let kind = asked.kind(reason, p.object.as_ref());
        p.state == PathState::Blocked
            && reason != "futex"
            && matches!(kind, FindingKind::Stall | FindingKind::Peer)
    };
    let waits = report.path.parts.iter().filter(is_wait);
    let waits = together(waits.cloned().collect(), |a, b| {
        a.role == b.role && a.reason == b.reason
    });
    let all = waits.iter().map(|p| p.ns).fold(0, u64::saturating_add);
    // While all are blocked, the stalls say what for.
    let ns = all.saturating_sub(tree.all_blocked.upper_ns);
    let ns = ns.saturating_sub(alone_ns);
    let most = waits.into_iter().max_by_key(|p| p.ns)?;
    // Who looked again and again while another one worked waited for that one.
    let works = |task: &crate::report::Task| task.running_ns + task.runnable_ns >= ns / 10 * 8;
    if most.count >= POLLS && report.tasks.iter().any(works) {
        return None;
    }
    let reason = most.reason.as_deref().unwrap_or_default();
    let object = most.object.as_ref();
    let mostly = match most.ns < all / 10 * 9 {
        true => ", mostly ",
        false => " ",
    };
    let sentence = format!(
        "The run waited {}{mostly}for `{}`, which {}{}, while other tasks went on.",
        part_of(ns, report),
        most.role,
        did(reason, None, object, None),
        match most.count {
            1 => String::new(),
            n => format!(" {} times", count(n)),
        }
    );
    let who = report.tasks.iter().filter(|task| {
        task.role == most.role && task.waits.iter().any(|wait| wait.reason == reason)
    });
    let tasks: Vec<u32> = who.map(|task| task.serial).collect();
    let waiter = Waiter::of_tasks(report, tasks.iter().copied(), (reason, None));
    Some(Finding {
        object: most.object.clone(),
        code: waiter.name,
        tasks,
        ..finding(asked.kind(reason, object), ns, Confidence::Likely, sentence)
    })
}

/// What the run waited for on a disk, where it has several tasks: their stalls lack what a
/// task waited for while another one was awake.
pub(super) fn disk(report: &Report) -> Option<Finding> {
    if report.tasks.len() < 2 {
        return None;
    }
    let syncs = report.path.parts.iter().filter(|p| is_sync(p));
    let roles: BTreeSet<&str> = syncs.clone().map(|p| p.role.as_str()).collect();
    let syncs = together(syncs.cloned().collect(), |a, b| is_sync(a) && is_sync(b));
    let part = syncs.first()?;
    let did = did("fsync", None, part.object.as_ref(), None).replace("the disk", "it");
    let times = times(part.count);
    let names: Vec<String> = roles.iter().map(|role| format!("`{role}`")).collect();
    let who = match &names[..] {
        [one] => one.clone(),
        [one, other] => format!("{one} and {other}"),
        many => format!("tasks of {}", quantity(many.len() as u64, "role")),
    };
    let sentence = format!(
        "The disk held the run up for {}: {who} {did}, {times}.",
        part_of(part.ns, report)
    );
    Some(Finding {
        tasks: who_synced(report, &roles),
        object: part.object.clone(),
        ..finding(FindingKind::Disk, part.ns, Confidence::Proved, sentence)
    })
}

/// The tasks of these roles that waited for the disk, those first that did for longest.
fn who_synced(report: &Report, roles: &BTreeSet<&str>) -> Vec<u32> {
    let of_roles = report
        .tasks
        .iter()
        .filter(|task| roles.contains(task.role.as_str()));
    let synced = of_roles.filter_map(|task| {
        let waits = task.waits.iter().filter(|wait| wait.reason == "fsync");
        let ns = waits.map(|wait| wait.ns).fold(0, u64::saturating_add);
        (ns > 0).then_some((ns, task.serial))
    });
    let mut synced: Vec<(u64, u32)> = synced.collect();
    synced.sort_unstable_by_key(|(ns, serial)| (std::cmp::Reverse(*ns), *serial));
    synced.into_iter().map(|(_, serial)| serial).collect()
}

fn is_sync(part: &PathPart) -> bool {
    part.state == PathState::Blocked && part.reason.as_deref() == Some("fsync")
}

/// Are they told in the same words? Instances that a program makes anew each time are.
fn same_name(a: &PathPart, b: &PathPart) -> bool {
    let name = |part: &PathPart| part.object.as_ref().map(|object| object.name.clone());
    a.reason == b.reason && name(a) == name(b)
}

/// Parts that are the same are one. It has no object where they differ in that: syncs of
/// several files all wait for one thing, the disk.
fn together(parts: Vec<PathPart>, same: impl Fn(&PathPart, &PathPart) -> bool) -> Vec<PathPart> {
    let mut rows: Vec<PathPart> = Vec::new();
    for part in parts {
        match rows.iter_mut().find(|row| same(row, &part)) {
            Some(row) => {
                let same = same_name(row, &part);
                row.ns = row.ns.saturating_add(part.ns);
                row.count += part.count;
                row.object = row.object.take().filter(|_| same);
            }
            None => rows.push(part),
        }
    }
    rows
}
