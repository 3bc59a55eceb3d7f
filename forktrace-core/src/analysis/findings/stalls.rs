//! Stalls of the whole workload, by what they are put down to.

use super::{
    Confidence, Finding, FindingKind, Report, Waiter, asked::Asked, duration, finding, link_did,
    part_of, quantity, whom,
};
use crate::report::{Cause, Ended, InterruptKind, Link, Verdict, WakerKind};

/// Writers that waited for `readers` of a lock are told as that: that nothing connects what a
/// reader does meanwhile with the other waits says no more.
pub(super) fn findings(report: &Report, readers: &[Finding], asked: &Asked) -> Vec<Finding> {
    let told_ns = readers.iter().map(|f| f.ns).max().unwrap_or(0);
    let is_told = |cause: &Cause| cause.verdict == Verdict::Coincidence && cause.ns <= told_ns;
    let of_tree = report.causes.iter().filter(|cause| cause.group == 0);
    let of_tree = of_tree.filter(|cause| !is_told(cause)).cloned();
    let of_tree: Vec<Cause> = of_tree.map(|cause| asked.held(report, cause)).collect();
    let folded = folded(report, of_tree.iter().cloned());
    let mut found: Vec<Finding> = folded
        .iter()
        .filter_map(|cause| of(report, cause))
        .collect();
    found.extend(idle(report, of_tree.iter()));
    found
}

/// Causes that differ only in which task of a role it was, each in a wait of its own, put
/// together: threads of a runtime that sleep, backends that wait for their own clients.
fn folded(report: &Report, causes: impl Iterator<Item = Cause>) -> Vec<Cause> {
    let role = |cause: &Cause| {
        let serial = cause.root.as_ref()?.task.serial;
        let task = report.tasks.iter().find(|task| task.serial == serial)?;
        Some(task.role.clone())
    };
    let own = |cause: &Cause| {
        let kind = cause.object.as_ref().map(|object| object.kind.as_str());
        matches!(kind, None | Some("futex" | "thread" | "epoll" | "sleep"))
    };
    let mut rows: Vec<(Option<String>, Cause)> = Vec::new();
    for cause in causes {
        let role = role(&cause);
        let key = |cause: &Cause| {
            let root = cause.root.as_ref();
            let how = root.map(|root| (root.reason.clone(), root.ended));
            (cause.verdict, cause.alone, how)
        };
        let same = rows.iter_mut().find(|(other_role, other)| {
            role.is_some()
                && *other_role == role
                && own(&cause)
                && own(other)
                && key(other) == key(&cause)
        });
        let Some((_, row)) = same else {
            rows.push((role, cause));
            continue;
        };
        row.ns = row.ns.saturating_add(cause.ns);
        row.alone_ns = row.alone_ns.saturating_add(cause.alone_ns);
        row.episodes += cause.episodes;
        row.longest_ns = row.longest_ns.max(cause.longest_ns);
        row.object = row
            .object
            .take()
            .filter(|object| Some(object) == cause.object.as_ref());
        let stem = |name: &Option<String>| {
            let name = name.as_deref()?;
            Some(
                name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '-')
                    .to_owned(),
            )
        };
        row.name = stem(&row.name).filter(|name| Some(name) == stem(&cause.name).as_ref());
        for by in cause.by {
            match row
                .by
                .iter_mut()
                .find(|it| it.task.serial == by.task.serial)
            {
                Some(it) => it.ns = it.ns.saturating_add(by.ns),
                None => row.by.push(by),
            }
        }
        row.tasks = row.tasks.max(row.by.len() as u32);
        row.by.sort_by_key(|by| std::cmp::Reverse(by.ns));
    }
    rows.into_iter().map(|(_, cause)| cause).collect()
}

fn of(report: &Report, cause: &Cause) -> Option<Finding> {
    let root = cause.root.as_ref()?;
    let behind = cause.verdict == Verdict::Caused || cause.alone;
    if matches!(cause.verdict, Verdict::Idle | Verdict::Stuck) {
        return None;
    }
    let kind = kind(cause, root);
    let time = match cause.episodes {
        1 => part_of(cause.ns, report),
        n => format!(
            "{}, in {},",
            part_of(cause.ns, report),
            quantity(n, "stall")
        ),
    };
    let link = Link {
        syscall: cause.syscall.clone(),
        object: cause.object.clone(),
        timeout_ns: root.timeout_ns.filter(|_| cause.tasks == 1),
        ..root.clone()
    };
    let who = whose(cause, behind);
    // It came back from many of them, and went on.
    let short = link.timeout_ns.filter(|limit| *limit < cause.ns / 2);
    let sleeps = link.reason == "sleep";
    // The longest tells its own limit only.
    let mean_ns = cause.ns / cause.episodes.max(1);
    let limit = link.timeout_ns.filter(|_| sleeps);
    let longest = limit.filter(|limit| cause.episodes > 1 && mean_ns < limit / 2);
    let again = match (longest, short) {
        (Some(limit), _) => format!(", for up to {} at a time", duration(limit)),
        (None, Some(_)) if sleeps => " at a time".to_owned(),
        _ => String::new(),
    };
    let link = Link {
        timeout_ns: link.timeout_ns.filter(|_| longest.is_none()),
        ..link
    };
    let waiter = Waiter::of_cause(report, cause, root);
    let what = link_did(&link);
    let what = match what.strip_prefix("waited in ") {
        Some(call) if kind == FindingKind::Disk => format!("waited for the disk in {call}"),
        _ => what,
    };
    let did = what.clone() + &waiter.told();
    // Where no "for" follows.
    let alone = time.trim_end_matches(',');
    let sentence = if behind {
        let ended = match root.ended {
            Ended::CutShort | Ended::Interrupted => ", until a signal ended it",
            Ended::TimedOut if cause.tasks > 1 => ", until their timeouts",
            Ended::TimedOut => ", until its timeout",
            _ => "",
        };
        let code = waiter.told();
        let did = match root.ended == Ended::CutShort && root.end_ns.is_none() {
            true if link.reason == "sleep" => {
                format!("was still sleeping{code} when the recording ended")
            }
            true => {
                format!("{what}{code} and was still waiting when the recording ended")
            }
            false => format!("{what}{again}{code}{ended}"),
        };
        format!("Everything waited {time} for {who}, which {did}.")
    } else if kind == FindingKind::Disk {
        let disk = cause
            .object
            .as_ref()
            .map_or("the disk", |o| o.name.as_str());
        format!("Everything waited {time} for {disk}: {who} and others, in files of their own.")
    } else if cause.verdict == Verdict::Unknown {
        let gap = match root.ended {
            Ended::Unknown => "who ended that was not seen",
            _ => "the record does not tell who could have ended that",
        };
        format!("Everything waited {alone}: {who} {did}, and {gap}.")
    } else if cause.verdict == Verdict::Coincidence {
        format!(
            "Everything was blocked for {alone}, each in a wait of its own: {who} {did}, and others."
        )
    } else {
        format!("Everything waited {time} for the same thing: {who} and others {did}.")
    };
    let confidence = match root.ended {
        _ if !behind && cause.verdict != Verdict::CommonCause => Confidence::Possible,
        Ended::CutShort | Ended::Interrupted => Confidence::Likely,
        _ => Confidence::Proved,
    };
    Some(Finding {
        tasks: cause.by.iter().map(|by| by.task.serial).collect(),
        object: cause.object.clone(),
        code: waiter.name,
        ..finding(kind, cause.ns, confidence, sentence)
    })
}

/// Who was the root, each for a part of the time if all that is waited for are several.
fn whose(cause: &Cause, behind: bool) -> String {
    let turns = if behind { " in turn" } else { "" };
    // One of them for most of the time is the one to look at.
    let mostly = cause
        .by
        .first()
        .filter(|by| by.ns.saturating_mul(4) >= cause.ns.saturating_mul(3));
    match (cause.by.as_slice(), &cause.name) {
        ([only], _) if cause.tasks == 1 => whom(&only.task),
        _ if let Some(most) = mostly => format!(
            "{}{turns}, mostly {}",
            quantity(cause.tasks.into(), "task"),
            whom(&most.task)
        ),
        (_, Some(name)) => format!("{} (`{name}`){turns}", quantity(cause.tasks.into(), "task")),
        (_, None) => format!("{}{turns}", quantity(cause.tasks.into(), "task")),
    }
}

fn kind(cause: &Cause, root: &Link) -> FindingKind {
    let by_disk = cause
        .woken_by
        .as_ref()
        .is_some_and(|by| by.kernel_thread || by.interrupt == Some(InterruptKind::Block));
    let object = root.object.as_ref().map(|object| object.kind.as_str());
    match (root.reason.as_str(), object) {
        (_, Some("disk")) | ("fsync", _) => FindingKind::Disk,
        ("aio" | "io_uring", _) if by_disk => FindingKind::Disk,
        (
            "read" | "write" | "open" | "file system" | "copy",
            Some("file" | "directory" | "path"),
        ) if by_disk => FindingKind::Disk,
        ("page fault", _) => FindingKind::PageFault,
        ("read" | "recv" | "connect" | "poll" | "epoll" | "select", _)
            if root.ended == Ended::Fulfilled && from_outside(cause) =>
        {
            FindingKind::Peer
        }
        _ => FindingKind::Stall,
    }
}

/// Did somebody outside the workload end it?
fn from_outside(cause: &Cause) -> bool {
    cause.woken_by.as_ref().is_some_and(|by| {
        let task = matches!(by.kind, WakerKind::Task | WakerKind::TaskSoftirq);
        task && by.outside && !by.kernel_thread || by.interrupt == Some(InterruptKind::Network)
    })
}

/// Nobody was behind another, and all had nothing to do.
fn idle<'a>(report: &Report, causes: impl Iterator<Item = &'a Cause>) -> Option<Finding> {
    let idle: Vec<&Cause> = causes.filter(|c| c.verdict == Verdict::Idle).collect();
    let worst = idle.first()?;
    let ns = idle.iter().map(|c| c.ns).fold(0, u64::saturating_add);
    let mostly = match &worst.root {
        Some(root) if worst.ns > ns / 2 && worst.tasks == 1 => format!(
            "; mostly until {} came back, which {}",
            whom(&root.task),
            link_did(root)
        ),
        _ => String::new(),
    };
    let sentence = format!(
        "For {} all were idle, waiting for input or for a time{mostly}.",
        part_of(ns, report)
    );
    Some(Finding {
        tasks: worst.by.iter().map(|by| by.task.serial).collect(),
        object: worst.object.clone(),
        ..finding(FindingKind::Idle, ns, Confidence::Likely, sentence)
    })
}
