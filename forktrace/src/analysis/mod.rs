//! What the time lines tell: plain figures.
//!
//! Pure functions of the model. A new analysis is a file here, a structure in
//! `report`, and a line in [`analyse`].

mod audit;
mod blocks;
mod families;
mod objects;
mod polls;
mod profile;
mod tally;
mod tasks;
#[cfg(test)]
mod tests;
mod wakers;

use std::collections::BTreeMap;

use crate::{
    capture::PollWay,
    kernel::layout::Arch,
    model::{Model, Task},
    report::{Group, GroupKind, Report, SCHEMA_VERSION, Workload},
    trace::Finish,
    trace_file::TraceInfo,
};

use self::wakers::Wakers;
pub use families::family;
pub use profile::{Profile, sweep};

/// Makes a report of a trace.
pub fn analyse(info: &TraceInfo, model: &Model) -> Report {
    let arch = info.header.arch;
    let wakers = Wakers::new(model, &info.header);
    let tasks = model.tasks.iter();
    let tasks: Vec<_> = tasks
        .map(|t| tasks::task(t, arch, model, &wakers))
        .collect();
    Report {
        schema_version: SCHEMA_VERSION,
        workload: workload(info, model, arch),
        groups: groups(model),
        polls: match info.header.polls {
            PollWay::None { .. } => None,
            _ => Some(polls::polls(model)),
        },
        poll_probes: polls::how(&info.header.polls),
        audit: audit::audit(info, model, &tasks),
        tasks,
    }
}

fn workload(info: &TraceInfo, model: &Model, arch: Arch) -> Workload {
    let first = model.tasks.iter().map(|t| t.start_ns).min().unwrap_or(0);
    let last = model.tasks.iter().map(|t| t.end_ns).max().unwrap_or(0);
    let no_end = Finish::default();
    let finish = info.finish.as_ref().unwrap_or(&no_end);
    Workload {
        argv: info.header.argv.clone(),
        exit_code: finish.exit_code,
        signal: finish.signal,
        duration_ns: last - first,
        cpus: info.header.cpus,
        kernel: info.header.kernel.clone(),
        arch: match arch {
            Arch::X86_64 => "x86_64",
            Arch::Aarch64 => "aarch64",
        }
        .to_owned(),
    }
}

fn groups(model: &Model) -> Vec<Group> {
    let all: Vec<&Task> = model.tasks.iter().collect();
    let mut processes: BTreeMap<u32, Vec<&Task>> = BTreeMap::new();
    for task in &all {
        processes.entry(task.process).or_default().push(task);
    }
    let mut groups = Vec::with_capacity(processes.len() + 1);
    let Some(first) = all.first() else {
        return groups;
    };
    // The same tasks give the same profile: one process is swept once.
    let tree = group(GroupKind::Tree, 0, first, &all);
    if processes.len() == 1 {
        let process = Group {
            kind: GroupKind::Process,
            id: first.process,
            ..tree.clone()
        };
        groups.push(tree);
        groups.push(process);
        return groups;
    }
    groups.push(tree);
    for (process, tasks) in &processes {
        // Serials grow with time, but a task that is not followed has one of ours.
        let leader = tasks
            .iter()
            .find(|t| t.serial == *process)
            .unwrap_or(&tasks[0]);
        groups.push(group(GroupKind::Process, *process, leader, tasks));
    }
    groups
}

fn group(kind: GroupKind, id: u32, leader: &Task, tasks: &[&Task]) -> Group {
    let profile = sweep(tasks.iter().map(|task| task.segments()));
    Group {
        kind,
        id,
        pid: leader.pid,
        name: leader.name.clone(),
        tasks: tasks.iter().map(|task| task.serial).collect(),
        lifetime_ns: profile.lifetime_ns,
        most_live: profile.most_live,
        all_blocked: profile.all_blocked,
        starved: profile.starved,
        blocked_at_once: profile.blocked_at_once,
        running_at_once: profile.running_at_once,
        unknown_ns: profile.unknown_ns,
    }
}
