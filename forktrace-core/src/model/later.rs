//! What is known of waits once all tasks are.

use std::collections::HashMap;

use super::{
    Target, Task,
    targets::{Raw, Targets},
};
use crate::trace::{Given, GivenWhat, ProviderKind, Providers, Waker};

/// Tells waits that have no object what their calls were given, and gives each of that once.
pub(super) fn given(
    tasks: &mut [Task],
    targets: &mut Targets,
    found: Vec<Given>,
) -> Vec<GivenWhat> {
    let by_serial = by_serial(tasks);
    let mut all: Vec<GivenWhat> = Vec::new();
    let mut known: HashMap<GivenWhat, u32> = HashMap::new();
    for Given {
        serial, seq, what, ..
    } in found
    {
        let Some(task) = by_serial.get(&serial).map(|at| &mut tasks[*at]) else {
            continue;
        };
        let off = task.stretches.binary_search_by_key(&seq, |off| off.seq);
        let target = match off {
            Ok(at) => &mut task.stretches[at].target,
            // It is still in it.
            Err(_) if task.open.is_some() && task.stretches_expected == Some(seq) => {
                &mut task.open_target
            }
            Err(_) => continue,
        };
        if *target == 0 {
            let at = *known.entry(what).or_insert_with_key(|what| {
                all.push(what.clone());
                all.len() as u32 - 1
            });
            *target = targets.index(Raw::Given(at), task.process);
        }
    }
    all
}

/// A task in a pid namespace of its own waits for a child by the number that it has there: it
/// is called by its own number on this machine, where the child itself ended the wait, or it
/// was seen who could.
pub(super) fn children(tasks: &mut [Task], targets: &mut Targets, providers: &[Providers]) {
    let numbers: HashMap<u32, (u32, u32)> = tasks
        .iter()
        .map(|task| (task.serial, (task.pid, task.ppid)))
        .collect();
    let looked_up = providers.iter().filter_map(|found| match &found.tasks[..] {
        [only] if found.kind == ProviderKind::Child => Some(((found.serial, found.seq), *only)),
        _ => None,
    });
    let looked_up: HashMap<(u32, u32), u32> = looked_up.collect();
    for task in tasks {
        let own = |targets: &Targets, target: u32, by: Option<u32>| {
            let Some(Target::Child(Some(number @ 1..))) = targets.get(target) else {
                return None;
            };
            let (pid, ppid) = *numbers.get(&by?)?;
            (ppid == task.pid && i64::from(pid) != *number).then_some(i64::from(pid))
        };
        let raw = |pid| Raw::Child(Some(pid));
        for off in &mut task.stretches {
            let by = match off.waker {
                Waker::Task { serial, .. } => Some(serial),
                _ => None,
            };
            let by = by.or_else(|| looked_up.get(&(task.serial, off.seq)).copied());
            if let Some(pid) = own(targets, off.target, by) {
                off.target = targets.index(raw(pid), task.process);
            }
        }
        let seq = task.stretches_expected.unwrap_or(u32::MAX);
        let by = looked_up.get(&(task.serial, seq)).copied();
        if let Some(pid) = own(targets, task.open_target, by) {
            task.open_target = targets.index(raw(pid), task.process);
        }
    }
}

fn by_serial(tasks: &[Task]) -> HashMap<u32, usize> {
    let tasks = tasks.iter().enumerate();
    tasks.map(|(at, task)| (task.serial, at)).collect()
}
