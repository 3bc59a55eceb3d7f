//! Tasks that sleep, each until another one of them ends that, or nobody does: found among
//! those of whom it is known who could end their waits.

use std::collections::HashMap;

use crate::{
    procfs,
    report::{Deadlock, DeadlockKind, DeadlockedTask},
    trace::{ProviderKind, Providers, TaskRecord},
};

/// The largest set of sleepers that only they could wake, ascending. Whoever is not among
/// the sleepers can go on, and so can all whom somebody could wake who can.
pub(super) fn closed(sleepers: &HashMap<u32, &Providers>) -> Vec<u32> {
    let mut left: HashMap<u32, &Providers> = sleepers.clone();
    left.retain(|_, providers| !providers.outside);
    // Who can be woken by whom, so that each is looked at once.
    let mut wakes: HashMap<u32, Vec<u32>> = HashMap::new();
    for (serial, providers) in &left {
        for other in &providers.tasks {
            wakes.entry(*other).or_default().push(*serial);
        }
    }
    let can = wakes.keys().filter(|serial| !left.contains_key(serial));
    let mut can: Vec<u32> = can.copied().collect();
    while let Some(serial) = can.pop() {
        for woken in wakes.remove(&serial).into_iter().flatten() {
            if left.remove(&woken).is_some() {
                can.push(woken);
            }
        }
    }
    let mut set: Vec<u32> = left.into_keys().collect();
    set.sort_unstable();
    set
}

/// What is said of such a set; `since` makes times count from the beginning.
pub(super) fn told(
    set: &[u32],
    sleepers: &HashMap<u32, &Providers>,
    tasks: &HashMap<u32, &TaskRecord>,
    (now_ns, since): (u64, impl Fn(u64) -> u64),
) -> Deadlock {
    let name = |task: &TaskRecord| procfs::name_of_living(task.born.tgid, task.born.tid);
    let who = |serial: &u32| {
        let task = tasks.get(serial)?;
        Some(format!("tid {} ({})", task.born.tid, name(task)))
    };
    let stuck = set.iter().filter_map(|serial| {
        let (task, providers) = (tasks.get(serial)?, sleepers.get(serial)?);
        let whom: Vec<String> = providers.tasks.iter().filter_map(who).collect();
        Some(DeadlockedTask {
            serial: *serial,
            tid: task.born.tid,
            name: name(task),
            waits_for: match providers.kind {
                ProviderKind::Owner if providers.tasks == [*serial] => {
                    "a lock that it holds itself".to_owned()
                }
                kind => waits_for(kind, &whom, providers.foreign),
            },
            owner: None,
            since_ns: since(task.open.as_ref().map_or(now_ns, |open| open.out_ns)),
        })
    });
    Deadlock {
        at_ns: since(now_ns),
        kind: DeadlockKind::AllAsleep,
        tasks: stuck.collect(),
    }
}

/// What a task waits for, of these.
fn waits_for(kind: ProviderKind, whom: &[String], foreign: Option<u32>) -> String {
    let them = match (whom, foreign) {
        ([], Some(tid)) => format!("tid {tid}, which can't do it"),
        ([], None) => "nobody".to_owned(),
        ([only], _) => only.clone(),
        ([first, second], _) => format!("{first} or {second}"),
        ([first, more @ ..], _) => format!("{first} or {} more", more.len()),
    };
    match (kind, whom.is_empty() && foreign.is_none()) {
        (ProviderKind::Server, true) => "an answer that only it could give itself".to_owned(),
        (_, true) => "something that nobody is left to bring".to_owned(),
        (ProviderKind::Owner | ProviderKind::KernelLock, _) => format!("a lock of {them}"),
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

    fn providers(serial: u32, tasks: &[u32], outside: bool) -> Providers {
        Providers {
            serial,
            seq: 1,
            at_ns: 0,
            kind: ProviderKind::OtherEnd,
            tasks: tasks.to_vec(),
            outside,
            foreign: None,
        }
    }

    fn closed_of(all: &[Providers]) -> Vec<u32> {
        closed(&all.iter().map(|p| (p.serial, p)).collect())
    }

    #[test]
    fn only_those_whom_nobody_can_wake_who_can_go_on_are_in_it() {
        // A parent waits for its child, which waits for room in a pipe that the parent reads.
        let two = [providers(1, &[2], false), providers(2, &[1], false)];
        assert_eq!(closed_of(&two), [1, 2]);
        // 3 does not sleep, and could wake 2.
        let two = [providers(1, &[2], false), providers(2, &[1, 3], false)];
        assert!(closed_of(&two).is_empty());
        // Nor is anybody who waits for the world.
        let two = [providers(1, &[2], false), providers(2, &[1], true)];
        assert!(closed_of(&two).is_empty());
        // 4 waits for those who hang; 5 for nobody.
        let more = [
            providers(1, &[2], false),
            providers(2, &[1], false),
            providers(4, &[1, 2], false),
            providers(5, &[], false),
            providers(6, &[7], false),
        ];
        assert_eq!(closed_of(&more), [1, 2, 4, 5]);
    }

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
            waits_for(ProviderKind::Owner, &[], Some(9)),
            "a lock of tid 9, which can't do it"
        );
    }
}
