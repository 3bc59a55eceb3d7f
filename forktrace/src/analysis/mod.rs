//! What the time lines tell: plain figures.
//!
//! Pure functions of the model. A new analysis is a file here, a structure in
//! `report`, and a line in [`analyse`].

mod audit;
mod deadlocks;
mod families;
mod graph;
mod marks;
mod others;
#[cfg(test)]
mod others_tests;
mod pairs;
mod polls;
mod profile;
mod spans;
mod stacks;
mod tasks;
#[cfg(test)]
mod tests;
mod waiting;

use std::collections::BTreeMap;

use crate::{
    capture::PollWay,
    kernel::layout::Arch,
    model::{Model, Task},
    report::{Group, GroupKind, Report, SCHEMA_VERSION, Throttled, Workload},
    trace::Finish,
    trace_file::TraceInfo,
};

pub use deadlocks::named_deadlock;
pub use families::family;
use waiting::Waiting;

pub use profile::Profile;
use profile::sweep;

/// Makes a report of a trace.
pub fn analyse(info: &TraceInfo, model: &Model) -> Report {
    let arch = info.header.arch;
    let processes = processes(model);
    let tasks: Vec<_> = model
        .tasks
        .iter()
        .map(|t| tasks::task(t, &processes[&t.process], arch))
        .collect();
    let waits_for = graph::waits_for(model, &info.header.interrupts);
    let (pair_tests, pairs) = pairs::pairs(model, &waits_for);
    Report {
        schema_version: SCHEMA_VERSION,
        workload: workload(info, model, arch),
        groups: groups(model, arch),
        polls: match info.header.polls {
            PollWay::None { .. } => None,
            _ => Some(polls::polls(model)),
        },
        poll_probes: polls::how(&info.header.polls),
        stacks: stacks::stacks(info, model),
        marks: marks::marks(model),
        throttled: throttled(info),
        pairs,
        pair_tests,
        waits_for,
        deadlocks: deadlocks::deadlocks(model),
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

fn throttled(info: &TraceInfo) -> Vec<Throttled> {
    let all = info.finish.iter().flat_map(|finish| &finish.throttled);
    let of = |t: &crate::trace::Throttled| Throttled {
        cgroup: t.cgroup.clone(),
        periods: t.periods,
        ns: t.ns,
        quota_us: t.quota_us,
        period_us: t.period_us,
    };
    all.map(of).collect()
}

/// What the tasks of each process did together, by the process's serial.
fn processes(model: &Model) -> BTreeMap<u32, tasks::Process<'_>> {
    let mut processes: BTreeMap<u32, Vec<&Task>> = BTreeMap::new();
    for task in &model.tasks {
        processes.entry(task.process).or_default().push(task);
    }
    processes
        .into_iter()
        .map(|(serial, tasks)| {
            // A task without company has no witness.
            let together = match tasks.as_slice() {
                [_] => others::Together::default(),
                tasks => others::together(tasks.iter().map(|task| task.segments())),
            };
            (serial, tasks::Process { tasks, together })
        })
        .collect()
}

fn groups(model: &Model, arch: Arch) -> Vec<Group> {
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
    let spans = spans::spans(model);
    let tree = group(GroupKind::Tree, 0, first, &all, &spans, arch);
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
        groups.push(group(
            GroupKind::Process,
            *process,
            leader,
            tasks,
            &spans,
            arch,
        ));
    }
    groups
}

fn group(
    kind: GroupKind,
    id: u32,
    leader: &Task,
    tasks: &[&Task],
    spans: &spans::Spans<'_>,
    arch: Arch,
) -> Group {
    let mut waiting = Waiting::new(arch, tasks.iter().map(|task| task.kernel_worker).collect());
    let profile = sweep(tasks.iter().map(|task| task.segments()), &mut waiting);
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
        waiting_at_once: waiting.finish(),
        unknown_ns: profile.unknown_ns,
        stops: profile.stops,
        spans: spans::of_group(spans, tasks),
    }
}
