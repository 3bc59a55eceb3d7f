//! Stops that the kernel puts on tasks: by signals, tracers, freezers, core dumps;
//! a parent's until its vfork child has its own program, and a thread's that waits
//! for the others of its process to end before it executes another program.

use std::collections::HashMap;

use super::{blocks::Blocks, chains, sum_by_key::total};
use crate::{
    model::{Off, State, state_of},
    report::{Stop, StopKind, WakerKind, WokenBy},
    trace::{Waker, Why},
};

/// Stops that are listed.
const STOPS: usize = 100;
/// include/uapi/linux/sched.h
const CLONE_VFORK: u64 = 0x4000;
/// SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU
const STOP_SIGNALS: [u8; 4] = [19, 20, 21, 22];
const SIGCONT: u8 = 18;

/// One task's part in a stop.
struct Part {
    process: u32,
    kind: StopKind,
    start_ns: u64,
    end_ns: u64,
    task: u32,
    /// Who let it go on.
    waker: Waker,
}

/// The stops, longest first, and how many more there are.
pub(super) fn stops(blocks: &Blocks<'_>) -> (Vec<Stop>, u64) {
    let mut parts = parts(blocks);
    parts.sort_by_key(|p| (p.process, p.kind, p.start_ns, p.task));
    let mut stops: Vec<Vec<Part>> = Vec::new();
    let mut end_ns = 0;
    for part in parts {
        let goes_on = stops
            .last()
            .and_then(|stop| stop.first())
            .is_some_and(|first| {
                (first.process, first.kind) == (part.process, part.kind) && part.start_ns <= end_ns
            });
        end_ns = match goes_on {
            true => part.end_ns.max(end_ns),
            false => part.end_ns,
        };
        match stops.last_mut().filter(|_| goes_on) {
            Some(stop) => stop.push(part),
            None => stops.push(vec![part]),
        }
    }
    let length = |stop: &Vec<Part>| {
        let start = stop.iter().map(|p| p.start_ns).min().unwrap_or(0);
        let end = stop.iter().map(|p| p.end_ns).max().unwrap_or(0);
        end - start
    };
    stops.sort_by_key(|stop| std::cmp::Reverse(length(stop)));
    let others = stops.len().saturating_sub(STOPS) as u64;
    stops.truncate(STOPS);
    let children = vfork_children(blocks);
    let stops = stops.iter().filter_map(|s| stop(blocks, &children, s));
    (stops.collect(), others)
}

fn parts(blocks: &Blocks<'_>) -> Vec<Part> {
    let number = |name| blocks.arch.syscall_number(name).map(|n| n as i16);
    let forks = ["vfork", "clone", "clone3"].map(number);
    let execs = ["execve", "execveat"].map(number);
    let model = blocks.model;
    let children = vfork_children(blocks);
    let mut parts = Vec::new();
    for (at, task) in model.tasks.iter().enumerate() {
        let mut add = |kind, start_ns: u64, end_ns: u64, waker| {
            parts.push(Part {
                process: task.process,
                kind,
                start_ns: start_ns.min(end_ns),
                end_ns,
                task: at as u32,
                waker,
            });
        };
        // Reading the program can look the same. But who waits for the others is woken
        // by one of them.
        let by_sibling = |waker| match waker {
            Waker::Task { serial, .. } if serial != task.serial => {
                let waker = blocks.wakers.index(serial).map(|at| &model.tasks[at]);
                waker.is_some_and(|waker| waker.process == task.process)
            }
            _ => false,
        };
        let kind = |why, syscall: i16, compat: bool, start_ns, waker| match why {
            Why::Stopped => Some(StopKind::Signal),
            Why::Traced => Some(StopKind::Tracer),
            Why::Frozen => Some(StopKind::Freezer),
            Why::CoreDump => Some(StopKind::CoreDump),
            Why::Killable | Why::Uninterruptible if !compat => {
                if forks.contains(&Some(syscall)) {
                    child_of(&children, task.serial, start_ns).map(|_| StopKind::Vfork)
                } else {
                    let waits = why == Why::Killable && execs.contains(&Some(syscall));
                    (waits && by_sibling(waker)).then_some(StopKind::Exec)
                }
            }
            _ => None,
        };
        let can_be = |off: Off| {
            matches!(off.why, Why::Killable | Why::Uninterruptible) || off.state() == State::Stopped
        };
        for off in task.stretches.iter_if(can_be) {
            let compat = off.flags & Off::COMPAT != 0;
            if off.wake_ns > off.out_ns
                && let Some(kind) = kind(off.why, off.syscall, compat, off.out_ns, off.waker)
            {
                add(kind, off.out_ns, off.wake_ns, off.waker);
            }
        }
        if let Some(open) = task.open
            && state_of(open.why) != State::Runnable
            && let Some(kind) = kind(open.why, open.syscall, open.compat, open.out_ns, open.waker)
        {
            add(
                kind,
                open.out_ns,
                open.wake_ns.unwrap_or(task.end_ns),
                open.waker,
            );
        }
    }
    parts
}

/// By creator: children that it waits for, by when they were created.
type Children = HashMap<u32, Vec<(u64, u32)>>;

fn vfork_children(blocks: &Blocks<'_>) -> Children {
    let mut children = Children::new();
    for (at, task) in blocks.model.tasks.iter().enumerate() {
        let born = task.record.as_ref().map(|r| &r.born);
        if let Some(born) = born.filter(|b| b.clone_flags & CLONE_VFORK != 0) {
            let of = children.entry(born.parent).or_default();
            of.push((task.start_ns, at as u32));
        }
    }
    children
}

/// The last child that a task created before this time.
fn child_of(children: &Children, parent: u32, at_ns: u64) -> Option<u32> {
    let of = children.get(&parent)?;
    let until = of.partition_point(|(start_ns, _)| *start_ns <= at_ns);
    Some(of[until.checked_sub(1)?].1)
}

fn stop(blocks: &Blocks<'_>, children: &Children, parts: &[Part]) -> Option<Stop> {
    let first = parts.first()?;
    let tasks = &blocks.model.tasks;
    let task = &tasks[first.task as usize];
    let mut serials: Vec<u32> = parts
        .iter()
        .map(|p| tasks[p.task as usize].serial)
        .collect();
    serials.sort_unstable();
    serials.dedup();
    let by = match first.kind {
        StopKind::Signal => signal(blocks, first.process, first.start_ns),
        StopKind::Vfork => child_of(children, task.serial, first.start_ns).map(|child| {
            let child = chains::name(blocks, child);
            WokenBy {
                kind: WakerKind::Task,
                serial: Some(child.serial),
                tid: Some(child.tid),
                name: Some(child.name),
                ..WokenBy::default()
            }
        }),
        // The tracer itself, who thawed it, the task that dumped core, the last thread
        // to end.
        StopKind::Tracer | StopKind::Freezer | StopKind::CoreDump | StopKind::Exec => {
            let by_task =
                |part: &&Part| matches!(part.waker, Waker::Task { .. } | Waker::Outsider { .. });
            let last = parts.iter().filter(by_task).max_by_key(|part| part.end_ns);
            last.map(|part| blocks.wakers.describe(part.waker, part.end_ns))
        }
    };
    Some(Stop {
        kind: first.kind,
        process: first.process,
        pid: task.pid,
        name: task.name.clone(),
        start_ns: first.start_ns,
        end_ns: parts.iter().map(|p| p.end_ns).max()?,
        tasks: serials,
        task_ns: total(parts.iter().map(|p| p.end_ns - p.start_ns)),
        by,
    })
}

/// Who sent the signal that stopped a process at this time: the last one, however long
/// it was before, since a task that has no CPU does not stop. One to go on takes back
/// those before it.
fn signal(blocks: &Blocks<'_>, process: u32, at_ns: u64) -> Option<WokenBy> {
    let signals = &blocks.model.signals;
    let until = signals.partition_point(|s| s.at_ns <= at_ns);
    let last = signals[..until].iter().rev().find(|s| {
        let to = blocks.wakers.index(s.serial);
        (s.signal == SIGCONT || STOP_SIGNALS.contains(&s.signal))
            && to.is_some_and(|to| blocks.model.tasks[to].process == process)
    })?;
    let stops = last.signal != SIGCONT;
    stops.then(|| blocks.wakers.describe(last.sender, last.at_ns))
}
