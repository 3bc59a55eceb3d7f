//! What holds in every report.

use super::{Group, Report, Task};

/// Figures that hold whatever was lost.
#[track_caller]
pub(crate) fn check_figures(report: &Report) {
    assert_eq!(report.schema_version, 1);
    for task in &report.tasks {
        check_task(task);
    }
    assert_eq!(report.groups[0].kind, "tree", "the tree comes first");
    for group in &report.groups {
        check_group(group, report);
    }
    let mut serials: Vec<u32> = report.tasks.iter().map(|task| task.serial).collect();
    serials.sort_unstable();
    serials.dedup();
    assert_eq!(serials.len(), report.tasks.len(), "a serial is used once");
    assert!(
        report.tasks.is_sorted_by_key(|task| task.start_ns),
        "in the order of creation"
    );
    assert_eq!(
        report.tree().tasks.len(),
        report.tasks.len(),
        "all tasks are in the tree"
    );
    let in_processes: usize = report.groups[1..].iter().map(|g| g.tasks.len()).sum();
    assert!(
        in_processes <= report.tasks.len(),
        "a task is in one process"
    );

    let audit = &report.audit;
    let unknown: u64 = report
        .tasks
        .iter()
        .map(|t| t.unknown_ns + t.unplaced_ns)
        .sum();
    assert_eq!(audit.unknown_ns, unknown, "unknown_ns of the audit");
    let not_followed = report.tasks.iter().filter(|task| !task.followed).count();
    assert_eq!(audit.tasks_not_followed, not_followed as u64);
    let ended = || report.tasks.iter().filter(|t| t.switches.kernel.is_some());
    assert_eq!(
        audit.switches_traced,
        ended().map(|t| t.switches.traced).sum::<u64>()
    );
    assert_eq!(
        audit.switches_kernel,
        ended().filter_map(|t| t.switches.kernel).sum::<u64>()
    );
    let first = report.tasks.iter().map(|t| t.start_ns).min().unwrap_or(0);
    let last = report.tasks.iter().map(|t| t.end_ns).max().unwrap_or(0);
    assert_eq!(
        report.workload.duration_ns,
        last - first,
        "duration of the workload"
    );
}

/// Did the kernel announce each switch and wakeup?
pub(crate) fn all_announced(report: &Report) -> bool {
    let mut weaknesses = report.audit.weaknesses.iter();
    report.audit.complete && weaknesses.all(|w| w.kind == "names_missing")
}

fn check_task(task: &Task) {
    let Task {
        running_ns,
        runnable_ns,
        blocked_ns,
        stopped_ns,
        unknown_ns,
        ..
    } = task;
    let sum = running_ns + runnable_ns + blocked_ns + stopped_ns + unknown_ns;
    assert_eq!(sum, task.lifetime_ns(), "the states of {task:?}");
    let waits: u64 = task.waits.iter().map(|wait| wait.ns).sum();
    assert_eq!(waits, *blocked_ns, "the waits of {task:?}");
    let blocks: u64 = task.waits.iter().map(|wait| wait.count).sum();
    assert_eq!(blocks, task.blocks, "the blocks of {task:?}");
    let longest = task
        .waits
        .iter()
        .map(|wait| wait.longest_ns)
        .max()
        .unwrap_or(0);
    assert!(
        longest <= task.longest_block_ns,
        "the longest block of {task:?}"
    );
    assert!(
        task.waits
            .is_sorted_by_key(|wait| std::cmp::Reverse(wait.ns)),
        "{task:?}"
    );
    if let (true, "ended", Some(kernel)) = (task.followed, &*task.fate, task.switches.kernel) {
        assert_eq!(task.switches.traced, kernel, "the switches of {task:?}");
    }
    if !task.followed {
        assert_eq!(
            *unknown_ns, sum,
            "nothing is known of a task that is not followed: {task:?}"
        );
    }
}

fn check_group(group: &Group, report: &Report) {
    let sum = |profile: &[super::report::AtOnce]| profile.iter().map(|at| at.ns).sum::<u64>();
    assert_eq!(
        sum(&group.blocked_at_once),
        group.lifetime_ns,
        "blocked at once: {group:?}"
    );
    assert_eq!(
        sum(&group.running_at_once),
        group.lifetime_ns,
        "running at once: {group:?}"
    );
    let area = |profile: &[super::report::AtOnce]| {
        profile
            .iter()
            .map(|at| u64::from(at.count) * at.ns)
            .sum::<u64>()
    };
    let members: Vec<&Task> = report
        .tasks
        .iter()
        .filter(|task| group.tasks.contains(&task.serial))
        .collect();
    assert_eq!(members.len(), group.tasks.len(), "the tasks of {group:?}");
    let total = |of: fn(&Task) -> u64| members.iter().map(|task| of(task)).sum::<u64>();
    if group.unknown_ns == 0 {
        assert_eq!(
            area(&group.blocked_at_once),
            total(|t| t.blocked_ns),
            "{group:?}"
        );
        assert_eq!(
            area(&group.running_at_once),
            total(|t| t.running_ns),
            "{group:?}"
        );
        assert_eq!(
            group.all_blocked.lower_ns, group.all_blocked.upper_ns,
            "{group:?}"
        );
        assert_eq!(group.starved.lower_ns, group.starved.upper_ns, "{group:?}");
    } else {
        assert!(
            total(|t| t.unknown_ns + t.unplaced_ns) >= group.unknown_ns,
            "{group:?}"
        );
    }
    assert!(group.most_live as usize <= members.len(), "{group:?}");
    for episodes in [group.all_blocked, group.starved] {
        assert!(episodes.lower_ns <= episodes.upper_ns, "{group:?}");
        assert!(episodes.upper_ns <= group.lifetime_ns, "{group:?}");
        assert!(episodes.longest_ns <= episodes.lower_ns, "{group:?}");
        assert_eq!(episodes.episodes == 0, episodes.lower_ns == 0, "{group:?}");
        assert_eq!(
            episodes.episodes == 0,
            episodes.longest_start_ns.is_none(),
            "{group:?}"
        );
    }
}

/// Nothing was lost, and all tasks were seen to their end.
///
/// Some kernels do not announce each switch and wakeup: the audit must say so, and it
/// must be few. A bound that such an event breaks needs [`all_announced`] too.
#[track_caller]
pub(crate) fn check_complete(report: &Report) {
    check_recorded(report, &[]);
    for task in &report.tasks {
        assert_eq!(task.fate, "ended", "{task:?}");
        assert!(task.followed, "{task:?}");
        assert_eq!(task.switches.kernel, Some(task.switches.traced), "{task:?}");
        assert!(task.waits.iter().all(|wait| wait.cut_off == 0), "{task:?}");
    }
}

/// Nothing was lost. `also` are weaknesses that are meant.
#[track_caller]
pub(crate) fn check_recorded(report: &Report, also: &[&str]) {
    check_figures(report);
    let audit = &report.audit;
    assert_eq!(audit.lost_records, 0, "{audit:?}");
    let (mut unannounced, mut gaps) = (0, 0);
    for weakness in &audit.weaknesses {
        match &*weakness.kind {
            "switch_in_inferred" | "wakeup_missing" => unannounced += weakness.count,
            // Of things that were gone too soon, and of calls that did not block; no time
            // depends on it.
            "names_missing" | "polls_left_out" | "slots_lost" | "tables_refused" => {}
            kind if also.contains(&kind) => {}
            "switches_missed" => gaps += weakness.count,
            _ => panic!("{audit:?}"),
        }
    }
    assert!(
        unannounced + gaps <= 8 + audit.switches_kernel / 100,
        "{audit:?}"
    );
    if unannounced + gaps == 0 {
        assert!(audit.complete, "{audit:?}");
    }
    if gaps == 0 {
        assert_eq!(audit.unknown_ns, 0, "{audit:?}");
    }
}
