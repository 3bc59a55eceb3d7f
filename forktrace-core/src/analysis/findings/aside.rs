//! Stalls that were ended again and again by somebody whom the run did not wait for, as by a
//! heartbeat and those that it wakes. The critical path tells what it waited for meanwhile.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{
    BEATS, Blocks, Confidence, Finding, FindingKind, Report, TASKS, Waiter,
    asked::{self, Asked},
    finding, link_did, part_of, quantity, unwoken, who,
};
use crate::{
    analysis::{blocks::Block, chains},
    report::Ended,
};

/// Who sleeps for less than this part of what the run waited is another one who looks again and
/// again.
const MOST_LOOKS: u64 = 10;

/// Puts what the run waited for in the place of what ended the stalls meanwhile.
pub(super) fn put_right(
    report: &Report,
    blocks: &Blocks<'_>,
    asked: &Asked,
    found: &mut Vec<Finding>,
) {
    if report.workload.attached.is_some() || report.part.is_some() || report.path.blocked.is_empty()
    {
        return;
    }
    let of_stalls = |f: &Finding| match f.kind {
        FindingKind::Stall => true,
        FindingKind::Lock => f.object.is_none(),
        _ => false,
    };
    let largest = found.iter().filter(|f| of_stalls(f)).max_by_key(|f| f.ns);
    let Some(largest) = largest.filter(|f| f.kind == FindingKind::Lock || is_repeated(report, f))
    else {
        return;
    };
    let path: HashMap<u32, u64> = report.path.blocked.iter().copied().collect();
    let (beats, on_path_ns) = beside(report, &path, largest);
    let ns = largest.ns;
    if on_path_ns >= ns / 2 {
        return;
    }
    let run_ns = report.workload.duration_ns;
    let is_worth = |f: &Finding| f.ns >= ns / 2 && (ns >= run_ns / 10 || f.ns >= run_ns / 2);
    let Some(instead) = waited_for(report, blocks, asked, &beats).filter(is_worth) else {
        return;
    };
    found.retain(|f| !of_stalls(f) || beside(report, &path, f).1 >= f.ns / 2);
    found.push(instead);
}

/// Did those of a finding end stalls again and again?
fn is_repeated(report: &Report, finding: &Finding) -> bool {
    let of_tree = report.causes.iter().filter(|cause| cause.group == 0);
    let by = of_tree.flat_map(|cause| &cause.by);
    let by = by.filter(|by| finding.tasks.contains(&by.task.serial));
    by.map(|by| by.episodes).fold(0, u64::saturating_add) >= BEATS
}

/// Of the tasks of a finding those whose waits are mostly not on the path, and for how long the
/// others are on it, ns. Of one that tells of the first few only, all of their roles count.
fn beside(report: &Report, path: &HashMap<u32, u64>, finding: &Finding) -> (BTreeSet<u32>, u64) {
    let on_path = |serial: u32| path.get(&serial).copied().unwrap_or(0);
    if finding.tasks.len() >= TASKS {
        let named = |serial: &u32| finding.tasks.contains(serial);
        let of_them = report.tasks.iter().filter(|t| named(&t.serial));
        let roles: BTreeSet<&str> = of_them.map(|task| &*task.role).collect();
        let all = report.tasks.iter();
        let all = all.filter(|task| roles.contains(&*task.role));
        let ns = all.clone().map(|task| on_path(task.serial));
        let ns = ns.fold(0, u64::saturating_add);
        return (all.map(|task| task.serial).collect(), ns);
    }
    let (mut beats, mut ns) = (BTreeSet::new(), 0u64);
    for serial in &finding.tasks {
        let causes = report.causes.iter().filter(|cause| cause.group == 0);
        let by = causes.flat_map(|cause| &cause.by);
        let by = by.filter(|by| by.task.serial == *serial).map(|by| by.ns);
        let of_it_ns = by.fold(0, u64::saturating_add);
        // Of a finding about other things than stalls, all counts.
        let on_it_ns = match of_it_ns {
            0 => on_path(*serial),
            of_it_ns => on_path(*serial).min(of_it_ns),
        };
        ns = ns.saturating_add(on_it_ns);
        if on_it_ns < of_it_ns / 2 || on_it_ns == 0 {
            beats.insert(*serial);
        }
    }
    (beats, ns)
}

/// What the path goes along for longest, of all but these tasks: one role in waits of one kind.
fn waited_for(
    report: &Report,
    blocks: &Blocks<'_>,
    asked: &Asked,
    but: &BTreeSet<u32>,
) -> Option<Finding> {
    let by_serial: HashMap<u32, &crate::report::Task> = report
        .tasks
        .iter()
        .map(|task| (task.serial, task))
        .collect();
    let mut sums: BTreeMap<(&str, &str), Vec<(u64, u32)>> = BTreeMap::new();
    for (serial, ns) in &report.path.blocked {
        let Some(task) = by_serial.get(serial).filter(|_| !but.contains(serial)) else {
            continue;
        };
        if let Some(wait) = task.waits.first() {
            let key = (&*task.role, &*wait.reason);
            sums.entry(key).or_default().push((*ns, *serial));
        }
    }
    let total = |those: &[(u64, u32)]| those.iter().map(|it| it.0).fold(0, u64::saturating_add);
    let ((role, reason), mut those) = sums.into_iter().max_by_key(|(_, those)| total(those))?;
    those.sort_unstable_by_key(|(ns, serial)| (std::cmp::Reverse(*ns), *serial));
    let all_ns = total(&those);
    let (worst_ns, worst) = *those.first()?;
    // One of them for nearly all of the time is the one to look at.
    if worst_ns >= all_ns / 10 * 9 {
        those.truncate(1);
    }
    let at = blocks.wakers.index(worst)?;
    let task = &blocks.model.tasks[at];
    let all = task.stretches.iter().filter_map(Block::of);
    let all = all.chain(Block::open(task));
    let longest = all.max_by_key(|block| block.end_ns(task) - block.start_ns)?;
    let mut link = chains::link(blocks, (at as u32, longest));
    link.timeout_ns = link.timeout_ns.filter(|_| those.len() == 1);
    link.object = link.object.filter(|_| those.len() == 1);
    let kind = asked.kind(&link.reason, link.object.as_ref());
    // The end of a run that a signal ended waited for that alone, and tells nothing of it.
    let ended = matches!(link.ended, Ended::Fulfilled | Ended::TimedOut);
    if !ended && !asked::ended_by_itself(report) {
        return None;
    }
    let ns = total(&those);
    // Nor is another one that comes back now and then what the run waited for, or a runtime's
    // thread that is parked.
    let looks = link.reason == "sleep" && longest.end_ns(task) - longest.start_ns < ns / MOST_LOOKS;
    let parked = link.reason == "futex"
        && (link.ended != Ended::TimedOut
            || unwoken::is_of_go(blocks, &unwoken::of_go(blocks), &longest));
    if looks || parked {
        return None;
    }
    if !matches!(
        kind,
        FindingKind::Stall | FindingKind::Peer | FindingKind::Disk
    ) {
        return None;
    }
    let whom = match &those[..] {
        [_] => who(&task.name, task.tid),
        many => format!("{} (`{role}`) in turn", quantity(many.len() as u64, "task")),
    };
    let serials: Vec<u32> = those.iter().map(|(_, serial)| *serial).collect();
    let waiter = Waiter::of_tasks(report, serials.iter().copied(), (reason, None));
    let again = match link.timeout_ns {
        Some(limit) if link.reason == "sleep" && limit < ns / 2 => " at a time",
        _ => "",
    };
    let sentence = format!(
        "The run waited {} for {whom}, which {}{again}{}, while others came back now and then.",
        part_of(ns, report),
        link_did(&link),
        waiter.told()
    );
    Some(Finding {
        tasks: serials,
        object: link.object,
        code: waiter.name,
        ..finding(kind, ns, Confidence::Likely, sentence)
    })
}
