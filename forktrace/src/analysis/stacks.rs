//! Blocks by the stack that they began with, and by the stack that ended them.

use std::collections::HashMap;

use crate::{
    model::{Model, Off, State, Task},
    report::{StackKind, StackUse},
    trace::Waker,
    trace_file::TraceInfo,
};

/// What blocks are put together by.
#[derive(PartialEq, Eq, Hash)]
struct Key<'a> {
    kind: StackKind,
    name: &'a str,
    wakee: Option<&'a str>,
    user: Option<u32>,
    kernel: Option<u32>,
}

/// `None` when no stacks were taken.
pub(super) fn stacks(info: &TraceInfo, model: &Model) -> Option<Vec<StackUse>> {
    let wanted = info
        .finish
        .as_ref()
        .is_some_and(|f| f.lost_stacks.is_some());
    if !wanted && model.stacks.is_empty() {
        return None;
    }
    let tasks: HashMap<u32, &Task> = model.tasks.iter().map(|t| (t.serial, t)).collect();
    let mut uses: HashMap<Key, (u64, u64)> = HashMap::new();
    for stacks in &model.stacks {
        let Some(task) = tasks.get(&stacks.serial) else {
            continue;
        };
        let Ok(at) = task.stretches.binary_search_by_key(&stacks.seq, |s| s.seq) else {
            continue;
        };
        let off = &task.stretches[at];
        if off.state() != State::Blocked {
            continue;
        }
        let ns = off.wake_ns - off.out_ns;
        let (kind, name, wakee) = match stacks.waker {
            Waker::None => (StackKind::OffCpu, task.name.as_str(), None),
            waker if waker == off.waker => {
                let name = waker_name(model, &tasks, waker, off);
                (StackKind::Wakeup, name, Some(task.name.as_str()))
            }
            // An early wakeup that another one replaced.
            _ => continue,
        };
        let key = Key {
            kind,
            name,
            wakee,
            user: stacks.user,
            kernel: stacks.kernel,
        };
        let (sum, count) = uses.entry(key).or_default();
        *sum = sum.saturating_add(ns);
        *count += 1;
    }
    // The same functions, called from different places in them.
    let mut merged: HashMap<_, StackUse> = HashMap::new();
    for (key, (ns, count)) in uses {
        let it = stack_use(model, &key, ns, count);
        let same = (
            it.kind,
            it.name.clone(),
            it.wakee.clone(),
            it.frames.clone(),
            it.cut_off,
        );
        merged
            .entry(same)
            .and_modify(|sum| {
                sum.ns = sum.ns.saturating_add(ns);
                sum.count += count;
            })
            .or_insert(it);
    }
    let mut uses: Vec<StackUse> = merged.into_values().collect();
    uses.sort_by(|a, b| {
        let order = |u: &StackUse| (u.kind, std::cmp::Reverse(u.ns));
        order(a)
            .cmp(&order(b))
            .then_with(|| a.frames.cmp(&b.frames))
            .then_with(|| a.name.cmp(&b.name))
            .then_with(|| a.wakee.cmp(&b.wakee))
    });
    Some(uses)
}

fn waker_name<'a>(
    model: &'a Model,
    tasks: &HashMap<u32, &'a Task>,
    waker: Waker,
    off: &Off,
) -> &'a str {
    match waker {
        Waker::Task { serial, .. } => tasks.get(&serial).map_or("?", |t| &t.name),
        Waker::Outsider { tid, .. } => model.outsider(tid, off.wake_ns).map_or("?", |o| &o.comm),
        Waker::Interrupt(_) => "[interrupt]",
        Waker::None | Waker::Unknown => "[unknown]",
    }
}

fn stack_use(model: &Model, key: &Key, ns: u64, count: u64) -> StackUse {
    let of = |number: Option<u32>| number.and_then(|n| model.frames.get(&n));
    let (user, kernel) = (of(key.user), of(key.kernel));
    let names = |frames: Option<&crate::trace::Frames>| {
        frames
            .map(|f| f.frames.iter().rev().cloned().collect::<Vec<_>>())
            .unwrap_or_default()
    };
    let mut frames = names(user);
    frames.extend(names(kernel).into_iter().map(|name| name + "_[k]"));
    StackUse {
        kind: key.kind,
        name: key.name.to_owned(),
        wakee: key.wakee.map(str::to_owned),
        frames,
        cut_off: user.is_some_and(|f| f.cut_off),
        ns,
        count,
    }
}
