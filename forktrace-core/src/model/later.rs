//! What is known of waits once all tasks are.

use std::collections::HashMap;

use super::{
    Fate, Off, State, Target, Task,
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
    // By serial and number of the stretch.
    let mut named: HashMap<u32, HashMap<u32, u32>> = HashMap::new();
    for Given {
        serial, seq, what, ..
    } in found
    {
        let Some(task) = by_serial.get(&serial).map(|at| &mut tasks[*at]) else {
            continue;
        };
        let others = named.entry(serial).or_default();
        let there = task.stretches.position(seq);
        let target = match there {
            Some(at) => match others.get(&seq) {
                Some(other) => *other,
                None => task.stretches.at(at).target,
            },
            // It is still in it.
            None if task.open.is_some() && task.stretches_expected == Some(seq) => task.open_target,
            None => continue,
        };
        let page = matches!(targets.get(target), Some(Target::PageFault(_)));
        if target != 0 && !(page && matches!(what, GivenWhat::Page(_))) {
            continue;
        }
        let raw = match what {
            GivenWhat::Set(id) => Raw::Fds(id),
            what => Raw::Given(*known.entry(what).or_insert_with_key(|what| {
                all.push(what.clone());
                all.len() as u32 - 1
            })),
        };
        let target = targets.index(raw, task.process);
        match there {
            Some(_) => drop(others.insert(seq, target)),
            None => task.open_target = target,
        }
    }
    for (serial, others) in named {
        if let Some(at) = by_serial.get(&serial) {
            tasks[*at]
                .stretches
                .name_others(others.into_iter().collect());
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
        let is_child = |target| matches!(targets.get(target), Some(Target::Child(Some(1..))));
        if task.stretches.has_target(is_child) {
            let mut others = Vec::new();
            for off in &task.stretches {
                let by = match off.waker {
                    Waker::Task { serial, .. } => Some(serial),
                    _ => None,
                };
                let by = by.or_else(|| looked_up.get(&(task.serial, off.seq)).copied());
                if let Some(pid) = own(targets, off.target, by) {
                    others.push((off.seq, targets.index(raw(pid), task.process)));
                }
            }
            task.stretches.name_others(others);
        }
        let seq = task.stretches_expected.unwrap_or(u32::MAX);
        let by = looked_up.get(&(task.serial, seq)).copied();
        if let Some(pid) = own(targets, task.open_target, by) {
            task.open_target = targets.index(raw(pid), task.process);
        }
    }
}

/// A thread waits for the end of another one of its process on a futex that the kernel clears
/// when that one ends, and which nobody else ever wakes: where it was seen that this is what
/// it waits for, or where a thread woke it as the last that it did.
pub(super) fn joins(tasks: &mut [Task], targets: &mut Targets, providers: &[Providers]) {
    let looked_up = providers.iter().filter_map(|found| match &found.tasks[..] {
        [only] if found.kind == ProviderKind::Joined => Some(((found.serial, found.seq), *only)),
        _ => None,
    });
    let looked_up: HashMap<(u32, u32), u32> = looked_up.collect();
    // Threads that have ended, and since when they did not wait for anything more.
    let last: HashMap<u32, (u32, u64)> = tasks
        .iter()
        .filter(|task| task.fate == Fate::Ended && task.serial != task.process)
        .map(|task| {
            let blocks = task.stretches.iter().rev();
            let mut blocks = blocks.filter(|off| off.state() == State::Blocked);
            let from_ns = blocks.next().map_or(task.start_ns, |off| off.wake_ns);
            (task.serial, (task.process, from_ns))
        })
        .collect();
    for task in tasks {
        // Mostly one is woken by the same one again.
        let mut before: Option<(u32, Option<(u32, u64)>)> = None;
        let mut by_its_end = |by: Waker, wake_ns: u64| match by {
            Waker::Task { serial, .. } => {
                let known = before.filter(|(of, _)| *of == serial);
                let (_, ended) = known.unwrap_or_else(|| (serial, last.get(&serial).copied()));
                before = Some((serial, ended));
                let (process, from_ns) = ended?;
                (process == task.process && wake_ns >= from_ns).then_some(serial)
            }
            _ => None,
        };
        let mut others = Vec::new();
        let can_be =
            |targets: &Targets, off: Off| off.target != 0 && targets.is_perhaps_shared(off.target);
        for off in task.stretches.iter_if(|off| can_be(targets, off)) {
            if !can_be(targets, off) {
                continue;
            }
            let known = looked_up.get(&(task.serial, off.seq)).copied();
            if let Some(joined) = known.or_else(|| by_its_end(off.waker, off.wake_ns)) {
                others.push((off.seq, targets.index(Raw::Thread(joined), task.process)));
            }
        }
        task.stretches.name_others(others);
        let seq = task.stretches_expected.unwrap_or(u32::MAX);
        if let Some(joined) = looked_up.get(&(task.serial, seq)) {
            task.open_target = targets.index(Raw::Thread(*joined), task.process);
        }
    }
}

fn by_serial(tasks: &[Task]) -> HashMap<u32, usize> {
    let tasks = tasks.iter().enumerate();
    tasks.map(|(at, task)| (task.serial, at)).collect()
}
