//! Tasks that were ready to run, and who had the CPUs meanwhile.

use super::{
    Confidence, Finding, FindingKind, GroupKind, Report, TASKS, duration, finding, part_of,
    quantity,
};
use crate::report::{CpuUser, PathState};

/// Who had less than this part of the time that is known of is not named: a tenth.
const LEAST: u64 = 10;
/// Nobody is named where it is not known of this part of the time: a quarter.
const KNOWN: u64 = 4;
/// No more are.
const NAMED: usize = 3;

/// Ready, and no CPU was free: none of the workload's tasks ran, or those that did had all
/// of them. What the end waited for tells how much of it mattered.
pub(super) fn finding_of(report: &Report) -> Option<Finding> {
    let tree = report.groups.iter().find(|g| g.kind == GroupKind::Tree)?;
    let runnable = report
        .path
        .parts
        .iter()
        .filter(|p| p.state == PathState::Runnable);
    let on_path_ns = runnable.clone().map(|p| p.ns).fold(0, u64::saturating_add);
    let others_ns = tree.starved.lower_ns;
    // One of many is nearly always ready: that costs the run what the path says, but where
    // the path itself only waits for something to do, as a server's first process.
    let possible_ns = on_path_ns.saturating_add(nothing_to_do_ns(report));
    let ns = on_path_ns.max(others_ns.min(possible_ns));
    // That nobody got one is true of this time only.
    let nobody = others_ns >= ns / 2 && others_ns <= possible_ns;
    let waited = part_of(if nobody { others_ns } else { ns }, report);
    let users = users(report);
    let sentence = if nobody {
        let cpus = quantity(report.workload.cpus.into(), "CPU");
        format!("For {waited} tasks were ready to run, and none of them got one of the {cpus}")
    } else {
        let mostly = runnable
            .clone()
            .max_by_key(|p| p.ns)
            .filter(|p| p.ns >= ns / 2);
        let what = match mostly {
            Some(part) => format!("what the run waited for (mostly `{}`)", part.role),
            None => "what the run waited for".to_owned(),
        };
        // It may be allowed to run on some of them only.
        let why = match inside_ns(report) >= known_ns(report) / 2 {
            _ if users.is_empty() => "and got no CPU",
            true => "while other tasks of the workload had the CPUs",
            false => "while others had the CPUs",
        };
        format!("For {waited} {what} was ready to run, {why}")
    };
    let sentence = match users.is_empty() {
        true => format!("{sentence}."),
        false => format!(
            "{sentence}. Meanwhile the CPUs ran {users}{}.",
            unknown(report)
        ),
    };
    let mut found = finding(FindingKind::Starved, ns, Confidence::Proved, sentence);
    found.evidence = runnable
        .take(NAMED)
        .map(|p| format!("{}: ready for {}", p.role, duration(p.ns)))
        .collect();
    let mut tasks: Vec<_> = report.tasks.iter().filter(|t| t.runnable_ns > 0).collect();
    tasks.sort_by_key(|t| std::cmp::Reverse(t.runnable_ns));
    found.tasks = tasks.iter().take(TASKS).map(|t| t.serial).collect();
    Some(found)
}

/// For how long the end waited for input, for a signal, or for what is not known.
fn nothing_to_do_ns(report: &Report) -> u64 {
    let idle = report.path.parts.iter().filter(|part| match part.state {
        PathState::Blocked => matches!(
            part.reason.as_deref(),
            Some("read" | "recv" | "accept" | "select" | "poll" | "epoll" | "signal wait" | "wait")
                | None
        ),
        PathState::Unknown => true,
        _ => false,
    });
    idle.map(|part| part.ns).fold(0, u64::saturating_add)
}

fn known_ns(report: &Report) -> u64 {
    let users = report.cpu_users.iter();
    users.map(|user| user.ns).fold(0, u64::saturating_add)
}

fn inside_ns(report: &Report) -> u64 {
    let users = report.cpu_users.iter().filter(|user| user.traced);
    users.map(|user| user.ns).fold(0, u64::saturating_add)
}

/// `` `burner` from outside the workload for 1.2 s, `python3` for 0.3 s ``; empty where little
/// is known.
fn users(report: &Report) -> String {
    let known_ns = known_ns(report);
    if known_ns < report.cpu_wanted_ns / KNOWN {
        return String::new();
    }
    let users = report.cpu_users.iter();
    let of_weight = users.filter(|user| user.ns >= known_ns / LEAST).take(NAMED);
    let named = of_weight.map(|user: &CpuUser| {
        let outside = match user.traced {
            true => "",
            false => " from outside the workload",
        };
        format!("`{}`{outside} for {}", user.name, duration(user.ns))
    });
    let named: Vec<String> = named.collect();
    named.join(", ")
}

/// For how long nobody was seen to have them, if that is much; they may have been idle.
fn unknown(report: &Report) -> String {
    let unknown_ns = report.cpu_users_unknown_ns;
    if unknown_ns <= report.cpu_wanted_ns / LEAST {
        return String::new();
    }
    format!("; for {} it is not known", duration(unknown_ns))
}
