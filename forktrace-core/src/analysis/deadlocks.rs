//! Deadlocks and hangs, with names: those that were found while the workload ran, but for
//! those that what came later took back, and those that the whole record shows.

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
};

use super::{
    blocks::{Block, Blocks},
    chains,
    providers::{first_end, taken_back},
    standstill::Hang,
};
use crate::{
    model::{Fate, Task},
    report::{Deadlock, DeadlockKind, DeadlockedTask},
    trace::{self, ProviderKind, StuckOn},
};

pub(super) fn deadlocks(blocks: &Blocks<'_>, hangs: &[Hang]) -> Vec<Deadlock> {
    let name = |serial| {
        let task = &blocks.model.tasks[blocks.wakers.index(serial)?];
        Some((task.tid, task.name.clone()))
    };
    let stay = |d: &&trace::Deadlock| !taken_back(blocks, d);
    // Of those who could end waits, the whole record tells as much, and what is in a circle.
    let is_shown = |d: &&trace::Deadlock| {
        let told = d.tasks.iter().all(|stuck| stuck.on == StuckOn::Told);
        let mut those = hangs
            .iter()
            .filter(|hang| hang.from_ns <= d.at_ns && d.at_ns <= hang.to_ns)
            .flat_map(|hang| &hang.tasks);
        let is_in = |at: &u32| {
            let serial = blocks.model.tasks[*at as usize].serial;
            d.tasks.iter().any(|stuck| stuck.serial == serial)
        };
        told && those.any(is_in)
    };
    let told = |serial: u32, at_ns: u64| {
        let all = blocks.model.providers.iter().rev();
        let mut of_it = all.filter(|p| p.serial == serial && p.at_ns <= at_ns);
        of_it.next()
    };
    let found = blocks.model.deadlocks.iter().filter(stay);
    let mut deadlocks: Vec<Deadlock> = found
        .filter(|d| !is_shown(d))
        .map(|d| {
            let past = |told: &trace::Providers| past_owner(blocks, told);
            let told = |serial| told(serial, d.at_ns);
            let mut named = named_deadlock(d, |ns| ns, name, told, past);
            for (task, stuck) in named.tasks.iter_mut().zip(&d.tasks) {
                if let Some(name) = variable(blocks, stuck).filter(|_| is_plain(task, stuck)) {
                    task.waits_for = name;
                }
                task.code = code(blocks, stuck);
            }
            named.end_ns = first_end(blocks, d).map(|(end_ns, ..)| end_ns);
            named
        })
        .collect();
    // What was found during the recording says more of the same tasks.
    let tasks = deadlocks.iter().flat_map(|d| &d.tasks);
    let found: HashSet<u32> = tasks.map(|task| task.serial).collect();
    let new: Vec<Deadlock> = hangs
        .iter()
        .filter(|hang| {
            let mut tasks = hang.tasks.iter();
            !tasks.any(|at| found.contains(&blocks.model.tasks[*at as usize].serial))
        })
        .map(|hang| of_hang(blocks, hang, &name, &told))
        .collect();
    deadlocks.extend(new);
    for deadlock in &mut deadlocks {
        if deadlock.kind == DeadlockKind::AllAsleep {
            awaited_first(&mut deadlock.tasks, told);
        }
        for task in &mut deadlock.tasks {
            task.waited_before_ns = before(blocks, task);
        }
    }
    deadlocks.sort_by_key(|d| d.at_ns);
    deadlocks
}

/// How long before the recording a task's wait began, if it did.
fn before(blocks: &Blocks<'_>, task: &DeadlockedTask) -> Option<u64> {
    let attached = blocks.model.tasks[blocks.wakers.index(task.serial)?].attached?;
    attached
        .asleep_for_ns
        .filter(|_| task.since_ns <= attached.at_ns)
}

/// Those first whom most of the others wait for: there it hangs.
fn awaited_first<'a>(
    tasks: &mut [DeadlockedTask],
    told: impl Fn(u32, u64) -> Option<&'a trace::Providers>,
) {
    let mut awaited: HashMap<u32, u32> = HashMap::new();
    for task in &*tasks {
        let told = told(task.serial, u64::MAX).filter(|told| told.at_ns >= task.since_ns);
        // Whoever shares a futex may be the one, or not.
        let told = told.filter(|told| told.kind != ProviderKind::Shares);
        let of_lock = task.owner.into_iter();
        let all = of_lock.chain(told.into_iter().flat_map(|told| told.tasks.iter().copied()));
        let others: HashSet<u32> = all.filter(|other| *other != task.serial).collect();
        // One of many is nobody in particular.
        if let [only] = others.into_iter().collect::<Vec<_>>()[..] {
            *awaited.entry(only).or_default() += 1;
        }
    }
    tasks.sort_by_key(|task| Reverse(awaited.get(&task.serial).copied().unwrap_or(0)));
}

/// What a task waits for, as the address tells it.
fn plain(on: StuckOn) -> Option<String> {
    match on {
        StuckOn::Lock { address, .. } => Some(format!("mutex {address:#x}")),
        StuckOn::Futex { address } => Some(format!("futex {address:#x}")),
        StuckOn::Child | StuckOn::Told => None,
    }
}

fn is_plain(task: &DeadlockedTask, stuck: &trace::Stuck) -> bool {
    plain(stuck.on).as_ref() == Some(&task.waits_for)
}

/// The same by the name of the variable, if that is known.
fn variable(blocks: &Blocks<'_>, stuck: &trace::Stuck) -> Option<String> {
    let (kind, address) = match stuck.on {
        StuckOn::Lock { address, .. } => ("mutex", address),
        StuckOn::Futex { address } => ("futex", address),
        StuckOn::Child | StuckOn::Told => return None,
    };
    let task = &blocks.model.tasks[blocks.wakers.index(stuck.serial)?];
    let name = blocks.model.lock_names.of(task.process, address)?;
    Some(format!("{kind} {} (in {})", name.name, name.module))
}

/// The function that a task waits in, if that is known.
fn code(blocks: &Blocks<'_>, stuck: &trace::Stuck) -> Option<String> {
    let task = &blocks.model.tasks[blocks.wakers.index(stuck.serial)?];
    let block = Block::before(task, stuck.since_ns.saturating_add(1))?;
    let is_it = block.start_ns == stuck.since_ns;
    let name = blocks.code.of(task.serial, block.seq).filter(|_| is_it);
    name.map(str::to_owned)
}

/// A hang that the whole record shows.
fn of_hang<'a>(
    blocks: &Blocks<'_>,
    hang: &Hang,
    name: &impl Fn(u32) -> Option<(u32, String)>,
    told: &impl Fn(u32, u64) -> Option<&'a trace::Providers>,
) -> Deadlock {
    let tasks = hang.tasks.iter().filter_map(|at| {
        let task = &blocks.model.tasks[*at as usize];
        let block = Block::before(task, hang.from_ns.saturating_add(1))?;
        let link = chains::link(blocks, (*at, block));
        Some(DeadlockedTask {
            serial: task.serial,
            tid: task.tid,
            name: task.name.clone(),
            waits_for: match (link.object, link.syscall) {
                (Some(object), _) if object.kind == "thread" => format!("{} to end", object.name),
                (Some(object), _) if object.kind == "child" => object.name,
                (Some(object), _) if object.kind == "futex" => {
                    let told = told(task.serial, hang.to_ns).filter(|p| p.seq == block.seq);
                    let past = |told: &trace::Providers| past_owner(blocks, told);
                    told.map_or(object.name, |told| of_providers(told, name, past))
                }
                (Some(object), _) => {
                    let answer = told(task.serial, hang.to_ns)
                        .filter(|p| p.seq == block.seq && p.kind == ProviderKind::Server);
                    let answer = answer.map_or(String::new(), |told| {
                        format!(", for {}", of_providers(told, name, |_| None))
                    });
                    format!("{} ({}){answer}", object.name, link.reason)
                }
                (None, Some(syscall)) => format!("{syscall} to come back"),
                (None, None) => link.reason,
            },
            owner: None,
            since_ns: block.start_ns,
            waited_before_ns: None,
            code: link.code,
        })
    });
    let ended = hang.tasks.iter().any(|at| {
        let task = &blocks.model.tasks[*at as usize];
        Block::before(task, hang.to_ns).is_some_and(|block| block.wake_ns.is_some())
    });
    Deadlock {
        at_ns: hang.from_ns,
        end_ns: ended.then_some(hang.to_ns),
        kind: match hang.cycle {
            true => DeadlockKind::Circle,
            false => DeadlockKind::AllAsleep,
        },
        tasks: tasks.collect(),
    }
}

/// A deadlock as it is shown. `since` makes times count from the beginning of the
/// trace, `name` gives tid and name of a task, `told` who could end what it waits for, `past`
/// what is known of an owner that is not there, as words.
pub fn named_deadlock<'a>(
    d: &trace::Deadlock,
    since: impl Fn(u64) -> u64,
    name: impl Fn(u32) -> Option<(u32, String)>,
    told: impl Fn(u32) -> Option<&'a trace::Providers>,
    past: impl Fn(&trace::Providers) -> Option<String>,
) -> Deadlock {
    let tasks = d.tasks.iter().map(|stuck| {
        let (waits_for, owner) = match stuck.on {
            StuckOn::Lock { owner, .. } => (plain(stuck.on).unwrap_or_default(), Some(owner)),
            // Who has it was looked up meanwhile: its word may name somebody who can't give it back.
            StuckOn::Futex { .. } => {
                let tells = |p: &&trace::Providers| {
                    let by_kind = matches!(p.kind, ProviderKind::Owner | ProviderKind::Joined);
                    by_kind && p.at_ns >= stuck.since_ns
                };
                match told(stuck.serial).filter(tells) {
                    Some(providers) => (of_providers(providers, &name, &past), None),
                    None => (plain(stuck.on).unwrap_or_default(), None),
                }
            }
            StuckOn::Child => ("child".to_owned(), None),
            StuckOn::Told => match told(stuck.serial) {
                Some(providers) => (of_providers(providers, &name, &past), None),
                None => ("what nobody is left to bring".to_owned(), None),
            },
        };
        let (tid, name) = name(stuck.serial).unwrap_or((0, "?".to_owned()));
        DeadlockedTask {
            serial: stuck.serial,
            tid,
            name,
            waits_for,
            owner,
            since_ns: since(stuck.since_ns),
            waited_before_ns: None,
            code: None,
        }
    });
    Deadlock {
        at_ns: since(d.at_ns),
        end_ns: None,
        kind: if d.cycle {
            DeadlockKind::Cycle
        } else {
            DeadlockKind::AllAsleep
        },
        tasks: tasks.collect(),
    }
}

/// What a task waits for, by who could end that.
fn of_providers(
    providers: &trace::Providers,
    name: &impl Fn(u32) -> Option<(u32, String)>,
    past: impl Fn(&trace::Providers) -> Option<String>,
) -> String {
    if providers.kind == ProviderKind::Owner && providers.tasks == [providers.serial] {
        return "a lock that it holds itself".to_owned();
    }
    let who = |serial: &u32| {
        let (tid, name) = name(*serial)?;
        Some(format!("tid {tid} ({name})"))
    };
    let whom: Vec<String> = providers.tasks.iter().filter_map(who).collect();
    let foreign = || past(providers).or_else(|| Some(unknown_owner(providers.foreign?)));
    let foreign = if whom.is_empty() { foreign() } else { None };
    waits_for(providers.kind, &whom, foreign)
}

/// The owner of a lock that is no thread of the process which waits, by what the trace has of it.
fn past_owner(blocks: &Blocks<'_>, told: &trace::Providers) -> Option<String> {
    let tasks = &blocks.model.tasks;
    let waiter = &tasks[blocks.wakers.index(told.serial)?];
    let process = &tasks[blocks.wakers.index(waiter.process)?];
    let of_tid = tasks.iter().filter(|task| Some(task.tid) == told.foreign);
    let before = |task: &&Task| task.start_ns < told.at_ns;
    let owner = of_tid.filter(before).max_by_key(|task| task.start_ns)?;
    let who = format!("tid {} ({})", owner.tid, owner.name);
    if owner.process == waiter.process {
        let ended = owner.fate == Fate::Ended && owner.end_ns <= told.at_ns;
        return ended.then(|| format!("a lock that {who} held when it ended"));
    }
    let at_fork = owner.pid == process.ppid && owner.end_ns >= process.start_ns;
    at_fork.then(|| format!("a lock that {who} held when this process was forked"))
}

fn unknown_owner(tid: u32) -> String {
    format!(
        "a lock of tid {tid}, which is no thread of this process: it ended while it held it, or held it when \
         the process was forked"
    )
}

/// What a task waits for, of these.
fn waits_for(kind: ProviderKind, whom: &[String], foreign: Option<String>) -> String {
    if let Some(lock) = foreign.filter(|_| whom.is_empty()) {
        return lock;
    }
    let them = match whom {
        [] => String::new(),
        [only] => only.clone(),
        [first, second] => format!("{first} or {second}"),
        [first, more @ ..] => format!("{first} or {} more", more.len()),
    };
    match (kind, whom.is_empty()) {
        (ProviderKind::Server, true) => "an answer that only it could give itself".to_owned(),
        (ProviderKind::OtherEnd, true) => {
            "the other end of a pipe or socket, which no other task has".to_owned()
        }
        (ProviderKind::Shares, true) => "a wake-up that no task is left to give".to_owned(),
        (_, true) => "something that nobody is left to bring".to_owned(),
        (ProviderKind::Owner | ProviderKind::KernelLock, _) => format!("a lock of {them}"),
        (ProviderKind::Readers, _) => format!("a lock that {them} may have for reading"),
        (ProviderKind::Joined | ProviderKind::Child, _) => format!("{them} to end"),
        (ProviderKind::OtherEnd, _) => format!("{them} at the other end"),
        (ProviderKind::Shares, _) => format!("{them} to wake it"),
        (ProviderKind::FileLock, _) => format!("a file lock of {them}"),
        (ProviderKind::Tracer, _) => format!("its tracer, {them}"),
        (ProviderKind::Server, _) => format!("an answer of {them}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_each_waits_for_is_told_with_names() {
        let cat = ["tid 7 (cat)".to_owned()];
        let of = |kind| waits_for(kind, &cat, None);
        assert_eq!(of(ProviderKind::Child), "tid 7 (cat) to end");
        assert_eq!(of(ProviderKind::OtherEnd), "tid 7 (cat) at the other end");
        assert_eq!(
            waits_for(ProviderKind::Server, &[], None),
            "an answer that only it could give itself"
        );
        assert_eq!(
            waits_for(ProviderKind::OtherEnd, &[], None),
            "the other end of a pipe or socket, which no other task has"
        );
        assert_eq!(
            waits_for(ProviderKind::Owner, &[], Some(unknown_owner(9))),
            "a lock of tid 9, which is no thread of this process: it ended while it held it, or \
             held it when the process was forked"
        );
    }

    #[test]
    fn the_owner_of_a_futex_is_told_as_it_was_looked_up_in_this_wait() {
        let waits_for = |at_ns| {
            let deadlock = trace::Deadlock {
                at_ns: 20,
                cycle: false,
                tasks: vec![trace::Stuck {
                    serial: 3,
                    since_ns: 10,
                    on: StuckOn::Futex { address: 64 },
                }],
            };
            let providers = trace::Providers {
                serial: 3,
                seq: 1,
                at_ns,
                kind: ProviderKind::Owner,
                tasks: Vec::new(),
                outside: false,
                foreign: Some(9),
            };
            let name = |_| Some((7, "child".to_owned()));
            let told = |_| Some(&providers);
            let mut named = named_deadlock(&deadlock, |ns| ns, name, told, |_| None);
            named.tasks.remove(0).waits_for
        };
        assert!(waits_for(15).starts_with("a lock of tid 9, which is no thread"));
        assert_eq!(waits_for(5), "futex 0x40");
    }
}
