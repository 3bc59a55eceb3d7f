//! Tasks that sleep, each until another one of them ends that, or nobody does: found among
//! those of whom it is known who could end their waits.

use std::collections::HashMap;

use crate::trace::Providers;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::ProviderKind;

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
}
