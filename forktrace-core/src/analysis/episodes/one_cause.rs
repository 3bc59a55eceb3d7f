//! What the members have in common that wait neither for input, nor for a time, nor for
//! another member. Kept up to date in the time of one change, however many there are.

use std::collections::HashMap;

/// What one of them waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct WaitsFor {
    /// The target that stands for all that are the same; 0: there is none.
    pub(super) target: u32,
    /// The process outside the group that ends it, which is a task of the workload or not.
    pub(super) process: Option<(bool, u32)>,
    /// The device of a file system; 0: not known which.
    pub(super) disk: Option<u32>,
}

/// Them all.
pub(super) struct OneCause {
    by_member: Vec<Option<WaitsFor>>,
    members: u32,
    /// How many by target, and so on.
    targets: HashMap<u32, u32>,
    processes: HashMap<(bool, u32), u32>,
    disks: HashMap<u32, u32>,
    /// How many wait for a disk.
    for_disk: u32,
}

impl OneCause {
    pub(super) fn new(members: usize) -> Self {
        Self {
            by_member: vec![None; members],
            members: 0,
            targets: HashMap::new(),
            processes: HashMap::new(),
            disks: HashMap::new(),
            for_disk: 0,
        }
    }

    /// A member blocks.
    pub(super) fn enter(&mut self, position: u32, what: WaitsFor) {
        self.leave(position);
        self.by_member[position as usize] = Some(what);
        self.members += 1;
        if what.target != 0 {
            *self.targets.entry(what.target).or_default() += 1;
        }
        if let Some(process) = what.process {
            *self.processes.entry(process).or_default() += 1;
        }
        if let Some(disk) = what.disk {
            self.for_disk += 1;
            *self.disks.entry(disk).or_default() += 1;
        }
    }

    /// It goes on, if it is one of them.
    pub(super) fn leave(&mut self, position: u32) {
        let Some(what) = self.by_member[position as usize].take() else {
            return;
        };
        self.members -= 1;
        less(&mut self.targets, what.target);
        if let Some(process) = what.process {
            less(&mut self.processes, process);
        }
        if let Some(disk) = what.disk {
            self.for_disk -= 1;
            less(&mut self.disks, disk);
        }
    }

    /// Do they all wait for the same thing, for the same disk, or for the same process outside
    /// the group, of which this member is one?
    pub(super) fn is_one(&self, position: u32) -> bool {
        let Some(what) = self.by_member[position as usize] else {
            return false;
        };
        let all = |count: Option<&u32>| count == Some(&self.members);
        // A page fault does not tell which disk it waits for.
        let known = self.disks.len() - usize::from(self.disks.contains_key(&0));
        all(self.targets.get(&what.target))
            || what.process.is_some_and(|it| all(self.processes.get(&it)))
            || self.for_disk == self.members && known <= 1
    }
}

fn less<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, u32>, key: K) {
    if let Some(count) = counts.get_mut(&key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As a person would look: at each of them.
    fn search(all: &[Option<WaitsFor>]) -> bool {
        let all: Vec<&WaitsFor> = all.iter().flatten().collect();
        let same_target = all[0].target != 0 && all.iter().all(|it| it.target == all[0].target);
        let same_process =
            all[0].process.is_some() && all.iter().all(|it| it.process == all[0].process);
        let known = all.iter().filter_map(|it| it.disk.filter(|d| *d != 0));
        let mut known = known.collect::<Vec<_>>();
        known.sort_unstable();
        known.dedup();
        let same_disk = all.iter().all(|it| it.disk.is_some()) && known.len() <= 1;
        same_target || same_process || same_disk
    }

    fn any_wait() -> impl Strategy<Value = WaitsFor> {
        let process = prop::option::of((any::<bool>(), 0..2u32));
        (0..3u32, process, prop::option::of(0..3u32)).prop_map(|(target, process, disk)| WaitsFor {
            target,
            process,
            disk,
        })
    }

    proptest! {
        #[test]
        fn counts_say_what_a_look_at_each_says(
            steps in prop::collection::vec((0..4u32, prop::option::of(any_wait())), 1..40),
        ) {
            let mut one = OneCause::new(4);
            let mut all = [None; 4];
            for (position, what) in steps {
                match what {
                    Some(what) => one.enter(position, what),
                    None => one.leave(position),
                }
                all[position as usize] = what;
                for position in 0..4u32 {
                    let expected = all[position as usize].is_some() && search(&all);
                    prop_assert_eq!(one.is_one(position), expected);
                }
            }
        }
    }
}
