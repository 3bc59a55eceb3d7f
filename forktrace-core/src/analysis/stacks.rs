//! Blocks by the stack that they began with, and by the stack that ended them.

use std::collections::HashMap;

use super::blocks::Block;
use crate::{
    model::{Model, Off, State, Task},
    report::{StackCoverage, StackKind, StackLack, StackShare, StackUse},
    trace::{Frames, Stacks, Waker},
    trace_file::TraceInfo,
};

/// What blocks are put together by.
#[derive(PartialEq, Eq, Hash)]
struct Key<'a> {
    kind: StackKind,
    name: &'a str,
    wakee: Option<&'a str>,
    by_interrupt: bool,
    user: Option<u32>,
    kernel: Option<u32>,
}

/// Where the kernel begins to handle an interrupt, by how the function's name begins: on
/// x86-64 and on arm64.
const INTERRUPT: [&str; 4] = [
    "asm_sysvec_",
    "asm_common_interrupt",
    "el0t_64_irq",
    "el1h_64_irq",
];

/// A block that lasts for so long is a long one, ns.
const LONG_NS: u64 = 1_000_000;
/// In place of the functions of blocks that have no stack.
const NONE: &str = "[no stack]";
/// Why one has none, and why one is cut off that does not say so.
const NOT_LOOKED: &str = "it was over before its stack was read";
const NOT_SAID: &str = "it is cut off";
const INFERRED: &str = "the kernel did not announce when it was over";
/// Reasons that are listed.
const MOST_LACKS: usize = 5;

fn were_taken(info: &TraceInfo, model: &Model) -> bool {
    let finish = info.finish.as_ref();
    finish.is_some_and(|f| f.lost_stacks.is_some()) || !model.stacks.is_empty()
}

/// `None` when no stacks were taken.
pub(super) fn coverage(info: &TraceInfo, model: &Model) -> Option<StackCoverage> {
    if !were_taken(info, model) {
        return None;
    }
    let mut coverage = StackCoverage::default();
    let add = |share: &mut StackShare, ns: u64, user: Option<&Frames>| {
        share.blocked_ns = share.blocked_ns.saturating_add(ns);
        if let Some(frames) = user {
            share.with_stack_ns = share.with_stack_ns.saturating_add(ns);
            if !frames.cut_off {
                share.whole_ns = share.whole_ns.saturating_add(ns);
            }
        }
    };
    let own = of_blocks(model);
    let mut lacks: HashMap<&str, (u64, u64)> = HashMap::new();
    for task in &model.tasks {
        for (seq, ns, inferred) in blocked(task) {
            let user = own.get(&(task.serial, seq)).and_then(|stacks| stacks.user);
            let user = user.and_then(|number| model.frames.get(&number));
            add(&mut coverage.all, ns, user);
            if ns >= LONG_NS {
                add(&mut coverage.long, ns, user);
                if let Some(why) = lack(user, inferred) {
                    let (sum, count) = lacks.entry(why).or_default();
                    *sum = sum.saturating_add(ns);
                    *count += 1;
                }
            }
        }
    }
    let lacks = lacks.into_iter().map(|(why, (ns, count))| StackLack {
        why: why.to_owned(),
        ns,
        count,
    });
    coverage.lacks = lacks.collect();
    let order = |a: &StackLack, b: &StackLack| b.ns.cmp(&a.ns).then_with(|| a.why.cmp(&b.why));
    coverage.lacks.sort_by(order);
    coverage.lacks.truncate(MOST_LACKS);
    Some(coverage)
}

/// Why a block has no stack that goes back to where its thread began; `None`: it has one.
/// `inferred`: its end was, and what was read of it is not believed.
fn lack(user: Option<&Frames>, inferred: bool) -> Option<&str> {
    let Some(frames) = user else {
        return Some(if inferred { INFERRED } else { NOT_LOOKED });
    };
    // Behind the outermost function there can be a reason in brackets: no place in a file, and
    // no address.
    let last = frames.frames.last().and_then(|last| {
        let why = last.strip_prefix('[')?.strip_suffix(']')?;
        let is_place = why.contains("+0x") || why.starts_with("0x");
        (!is_place).then_some(why)
    });
    frames.cut_off.then(|| last.unwrap_or(NOT_SAID))
}

/// The stack that each block began with, by task and stretch: the last one of each, for one
/// that was followed while the block lasted comes after what the kernel saw at its beginning,
/// and what is taken back comes after both.
fn of_blocks(model: &Model) -> HashMap<(u32, u32), &Stacks> {
    let own = model.stacks.iter().filter(|it| it.waker == Waker::None);
    let last: HashMap<_, _> = own.map(|it| ((it.serial, it.seq), it)).collect();
    last.into_iter().filter(|(_, it)| is_one(it)).collect()
}

fn is_one(stacks: &Stacks) -> bool {
    stacks.user.is_some() || stacks.kernel.is_some()
}

/// Stretch and length of each block, ns, and whether its end was inferred; the one that is open
/// at the end included.
fn blocked(task: &Task) -> impl Iterator<Item = (u32, u64, bool)> + '_ {
    let all = task.stretches.iter().enumerate();
    let blocks = all.filter(|(_, off)| off.state() == State::Blocked);
    let blocks = blocks.map(|(at, off)| {
        let inferred = off.flags & Off::INFERRED != 0;
        (task.stretches.seq(at), off.wake_ns - off.out_ns, inferred)
    });
    let open = Block::open(task);
    blocks.chain(open.map(|open| (open.seq, open.end_ns(task) - open.start_ns, false)))
}

/// `None` when no stacks were taken.
pub(super) fn stacks(info: &TraceInfo, model: &Model) -> Option<Vec<StackUse>> {
    if !were_taken(info, model) {
        return None;
    }
    let tasks: HashMap<u32, &Task> = model.tasks.iter().map(|t| (t.serial, t)).collect();
    let mut uses: HashMap<Key, (u64, u64)> = HashMap::new();
    for Blocked {
        stacks,
        task,
        ns,
        wake_ns,
    } in blocks(model, &tasks)
    {
        let (kind, name, wakee) = match stacks.waker {
            Waker::None => (StackKind::OffCpu, task.name.as_str(), None),
            waker => {
                let name = waker_name(model, &tasks, waker, wake_ns);
                (StackKind::Wakeup, name, Some(task.name.as_str()))
            }
        };
        let key = Key {
            kind,
            name,
            wakee,
            by_interrupt: matches!(stacks.waker, Waker::Interrupt(_)),
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
    uses.extend(without(model));
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

/// Blocks that have no stack, by name of the task.
fn without(model: &Model) -> Vec<StackUse> {
    let own = of_blocks(model);
    let mut sums: HashMap<&str, (u64, u64)> = HashMap::new();
    for task in &model.tasks {
        for (seq, ns, _) in blocked(task) {
            if ns > 0 && !own.contains_key(&(task.serial, seq)) {
                let (sum, count) = sums.entry(&task.name).or_default();
                *sum = sum.saturating_add(ns);
                *count += 1;
            }
        }
    }
    let of_name = |(name, (ns, count)): (&str, (u64, u64))| StackUse {
        kind: StackKind::OffCpu,
        name: name.to_owned(),
        wakee: None,
        frames: vec![NONE.to_owned()],
        cut_off: false,
        ns,
        count,
    };
    sums.into_iter().map(of_name).collect()
}

/// A block with the stack that it began with, or the one that ended it.
struct Blocked<'a> {
    stacks: &'a Stacks,
    task: &'a Task,
    /// How long it was.
    ns: u64,
    /// When it ended, or the recording did.
    wake_ns: u64,
}

/// Each block twice at most: a wakeup is the last one of those that the block's waker made,
/// for it can have made another while the task was not yet asleep. One that is open at the end
/// has no wakeup.
fn blocks<'a>(model: &'a Model, tasks: &HashMap<u32, &'a Task>) -> Vec<Blocked<'a>> {
    let mut found: HashMap<(u32, u32, bool), Blocked> = HashMap::new();
    for stacks in &model.stacks {
        let Some(task) = tasks.get(&stacks.serial) else {
            continue;
        };
        let is_wakeup = stacks.waker != Waker::None;
        let at = task.stretches.position(stacks.seq);
        let block = match at.map(|at| task.stretches.at(at)) {
            Some(off) if is_wakeup && stacks.waker != off.waker => None,
            Some(off) => Block::of(off),
            None => Block::open(task).filter(|open| open.seq == stacks.seq && !is_wakeup),
        };
        let Some(block) = block else {
            continue;
        };
        let wake_ns = block.end_ns(task);
        let key = (stacks.serial, stacks.seq, is_wakeup);
        found.insert(
            key,
            Blocked {
                stacks,
                task,
                ns: wake_ns - block.start_ns,
                wake_ns,
            },
        );
    }
    let found = found.into_values();
    found
        .filter(|it| it.stacks.waker != Waker::None || is_one(it.stacks))
        .collect()
}

fn waker_name<'a>(
    model: &'a Model,
    tasks: &HashMap<u32, &'a Task>,
    waker: Waker,
    wake_ns: u64,
) -> &'a str {
    match waker {
        Waker::Task { serial, .. } => tasks.get(&serial).map_or("?", |t| &t.name),
        Waker::Outsider { tid, .. } => model.outsider(tid, wake_ns).map_or("?", |o| &o.comm),
        Waker::Interrupt(_) => "[interrupt]",
        Waker::None | Waker::Unknown => "[unknown]",
    }
}

fn stack_use(model: &Model, key: &Key, ns: u64, count: u64) -> StackUse {
    let of = |number: Option<u32>| number.and_then(|n| model.frames.get(&n));
    let (user, kernel) = (of(key.user), of(key.kernel));
    let names = |frames: Option<&Frames>| {
        frames
            .map(|f| f.frames.iter().rev().cloned().collect::<Vec<_>>())
            .unwrap_or_default()
    };
    let mut frames = names(user);
    let mut kernel = names(kernel);
    if key.by_interrupt {
        kernel.drain(..interrupted(&kernel));
    }
    frames.extend(kernel.into_iter().map(|name| name + "_[k]"));
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

/// How many functions, outermost first, an interrupt interrupted: these have nothing to do
/// with what it did.
fn interrupted(kernel: &[String]) -> usize {
    let is_entry = |name: &String| INTERRUPT.iter().any(|it| name.starts_with(it));
    kernel.iter().rposition(is_entry).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::interrupted;

    #[track_caller]
    fn check(stack: &str, expected: usize) {
        let stack: Vec<String> = stack.split(' ').map(str::to_owned).collect();
        assert_eq!(interrupted(&stack), expected);
    }

    #[test]
    fn what_an_interrupt_interrupted_is_told_from_what_it_did() {
        check(
            "do_syscall_64 vfs_read asm_sysvec_apic_timer_interrupt hrtimer_wakeup",
            2,
        );
        check("asm_common_interrupt handle_softirqs try_to_wake_up", 0);
        // One in another.
        check(
            "asm_common_interrupt handle_softirqs asm_sysvec_apic_timer_interrupt wake",
            2,
        );
        check("el0t_64_sync invoke_syscall el1h_64_irq gic_handle_irq", 2);
        // An entry of another kind, and nothing known.
        check("asm_exc_page_fault asm_sysvec_call_function_single wake", 1);
        check("ret_from_fork kthread wake", 0);
    }
}
