//! Tasks that were ready to run, and who had the CPUs meanwhile.

use super::{
    Confidence, Finding, FindingKind, GroupKind, Report, TASKS, duration, finding, listed, part_of,
    quantity,
};
use crate::report::{CpuUser, PathPart, PathState};

/// Who had less than this part of the time that is known of is not named: a tenth.
const LEAST: u64 = 10;
/// Nobody is named where it is not known of this part of the time: a quarter.
const KNOWN: u64 = 4;
/// No more are.
const NAMED: usize = 3;

/// Ready, and without a CPU: none of the workload's tasks ran, or those that did had all
/// of them. What the end waited for tells how much of it mattered.
pub(super) fn finding_of(report: &Report) -> Option<Finding> {
    let tree = report.groups.iter().find(|g| g.kind == GroupKind::Tree)?;
    let parts = report.path.parts.iter();
    let runnable: Vec<&PathPart> = parts.filter(|p| p.state == PathState::Runnable).collect();
    let on_path_ns = runnable.iter().map(|p| p.ns).fold(0, u64::saturating_add);
    let others_ns = tree.starved.lower_ns;
    // One of many is nearly always ready: that costs the run what the path says, but where
    // the path itself only waits for something to do, as a server's first process.
    let possible_ns = on_path_ns.saturating_add(nothing_to_do_ns(report));
    let ns = on_path_ns.max(others_ns.min(possible_ns));
    // That nobody got one is true of this time only.
    let nobody = others_ns >= ns / 2 && others_ns <= possible_ns;
    let ns = if nobody { others_ns } else { ns };
    let waited = part_of(ns, report);
    // Who had the CPUs while nobody of the workload ran is one from outside.
    let users = users(report, nobody.then_some(ns));
    let cpus = match report.workload.cpus {
        1 => "CPU".to_owned(),
        cpus => quantity(cpus.into(), "CPU"),
    };
    let sentence = match (nobody, users.is_empty()) {
        (true, false) => format!(
            "For {waited} tasks wanted a CPU and got none: the {cpus} ran {users}, from outside the \
             workload."
        ),
        (true, true) => format!(
            "For {waited} tasks wanted a CPU and had none yet; who had the {cpus} then, if \
             anybody, is not known."
        ),
        (false, true) => format!(
            "For {waited} {} was ready to run, and got no CPU.",
            on_path(&runnable, ns)
        ),
        (false, false) => format!(
            "For {waited} {} was ready to run, while {} had the CPUs. Whenever tasks waited for a \
             CPU, it ran {users}{}.",
            on_path(&runnable, ns),
            match inside_ns(report) >= known_ns(report) / 2 {
                // It may be allowed to run on some of them only.
                true => "other tasks of the workload",
                false => "others",
            },
            unknown(report)
        ),
    };
    let mut found = finding(FindingKind::Starved, ns, Confidence::Proved, sentence);
    found.evidence = runnable
        .iter()
        .take(NAMED)
        .map(|p| {
            format!(
                "{}: ready for {} of what the run took",
                p.role,
                duration(p.ns)
            )
        })
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

/// What the run waited for, by the role that it mostly was.
fn on_path(runnable: &[&PathPart], ns: u64) -> String {
    let mostly = runnable.iter().max_by_key(|p| p.ns);
    match mostly.filter(|p| p.ns >= ns / 2) {
        Some(part) => format!("what the run waited for (mostly `{}`)", part.role),
        None => "what the run waited for".to_owned(),
    }
}

/// `` `burner` from outside the workload for 1.2 s, `python3` for 0.3 s ``; for the time in which no
/// task of the workload ran, `` `burner` and `cc1` ``, who are from outside and had the CPUs at
/// other times, too. Empty where little is known.
fn users(report: &Report, starved_ns: Option<u64>) -> String {
    let outside = starved_ns.is_some();
    let users = report.cpu_users.iter();
    let users: Vec<&CpuUser> = users.filter(|user| !outside || !user.traced).collect();
    let known_ns = users
        .iter()
        .map(|user| user.ns)
        .fold(0, u64::saturating_add);
    let wanted_ns = starved_ns.unwrap_or(report.cpu_wanted_ns);
    if known_ns < wanted_ns / KNOWN {
        return String::new();
    }
    let of_weight = users.iter().filter(|user| user.ns >= known_ns / LEAST);
    let named = of_weight
        .take(NAMED)
        .map(|user| match (outside, user.traced) {
            (true, _) => format!("`{}`", user.name),
            (false, true) => format!("`{}` for {}", user.name, duration(user.ns)),
            (false, false) => format!(
                "`{}` from outside the workload for {}",
                user.name,
                duration(user.ns)
            ),
        });
    let named: Vec<String> = named.collect();
    match outside {
        true => listed(&named),
        false => named.join(", "),
    }
}

/// For how long nobody was seen to have them, if that is much; they may have been idle.
fn unknown(report: &Report) -> String {
    let unknown_ns = report.cpu_users_unknown_ns;
    if unknown_ns <= report.cpu_wanted_ns / LEAST {
        return String::new();
    }
    format!("; for {} it is not known", duration(unknown_ns))
}
