//! Changes of a window in the order of time. They come task by task, so it is keys of eight bytes
//! that are sorted, by their digits, and each change is moved once.

use std::{mem, ops::RangeInclusive};

use super::Change;

/// Bits of a key that say which change it is; those above are its time.
const WHICH: u32 = 20;

/// Where changes are sorted: memory that is at hand is not asked for again.
#[derive(Default)]
pub(super) struct Room {
    keys: Vec<u64>,
    other_keys: Vec<u64>,
    sorted: Vec<Change>,
}

/// Puts changes from `from_ns` on in order, of so many lines. `by_task`: those of one moment
/// are.
pub(super) fn sort(
    changes: &mut Vec<Change>,
    (from_ns, lines): (u64, usize),
    by_task: bool,
    room: &mut Room,
) {
    /// Changes that make a run worth finding.
    const LONG_RUN: usize = 128;
    let Room {
        keys,
        other_keys,
        sorted,
    } = room;
    let most = changes.iter().map(|change| change.at_ns - from_ns).max();
    let fits = most.is_some_and(|most| most >> (u64::BITS - WHICH) == 0);
    if !by_task || !fits || changes.len() >> WHICH > 0 {
        changes.sort_by_key(|change| (change.at_ns, change.task));
        return;
    }
    keys.clear();
    let key = |(at, change): (usize, &Change)| (change.at_ns - from_ns) << WHICH | at as u64;
    keys.extend(changes.iter().enumerate().map(key));
    // Those of a line are in order: where that makes long runs, these are merged.
    match most.filter(|_| keys.len() / LONG_RUN < lines) {
        None => keys.sort(),
        Some(most_ns) => sort_by_time(keys, most_ns, other_keys),
    }
    sorted.clear();
    let in_order = keys
        .iter()
        .map(|key| changes[*key as usize & ((1 << WHICH) - 1)]);
    sorted.extend(in_order);
    mem::swap(changes, sorted);
}

/// Sorts keys, which are in the order of their changes, by their times: digit by digit, from the
/// lowest one on. No time is later than `most_ns`.
fn sort_by_time(keys: &mut Vec<u64>, most_ns: u64, room: &mut Vec<u64>) {
    /// Bits of a digit.
    const DIGIT: u32 = 11;
    /// Fewer are not worth counting, and more, all of one moment, not the room for others.
    const SOME: RangeInclusive<usize> = 1 << 12..=1 << 17;
    if !SOME.contains(&keys.len()) {
        keys.sort_unstable();
        return;
    }
    let bits = u64::BITS - most_ns.leading_zeros();
    for digit in 0..bits.div_ceil(DIGIT) {
        let digit = |key: u64| (key >> (WHICH + digit * DIGIT)) as usize & ((1 << DIGIT) - 1);
        // How many have it, and then where the next one goes.
        let mut places = [0u32; 1 << DIGIT];
        for key in keys.iter() {
            places[digit(*key)] += 1;
        }
        let mut before = 0;
        for place in &mut places {
            before += mem::replace(place, before);
        }
        room.resize(keys.len(), 0);
        for key in keys.iter() {
            let place = &mut places[digit(*key)];
            room[*place as usize] = *key;
            *place += 1;
        }
        mem::swap(keys, room);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn keys_are_sorted_by_time_and_then_as_they_came(
            mut times in prop::collection::vec(any::<u64>(), 1..200),
            (shift, times_each) in (20u32..64, 1usize..60),
        ) {
            times.iter_mut().for_each(|ns| *ns >>= shift);
            let times = times.iter().cycle().take(times.len() * times_each);
            let keys = (0..).zip(times).map(|(at, ns)| ns << WHICH | at);
            let mut keys: Vec<u64> = keys.collect();
            let mut expected = keys.clone();
            expected.sort_unstable();
            let most_ns = expected.last().map_or(0, |key| key >> WHICH);
            sort_by_time(&mut keys, most_ns, &mut Vec::new());
            prop_assert_eq!(keys, expected);
        }
    }
}
