//! Threads of a runtime that take turns at one set of descriptors (Go, Erlang, tokio). Who
//! does not wait for events parks on a futex of its own until there is something to do: it
//! waits for whatever comes first, as the one at the set does, also with a time limit.

use super::{Block, Blocks, Class};
use crate::model::{FutexKey, Target};

/// Who waits for a target, as far as it matters.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Waits {
    Nobody,
    /// This task only.
    One(u32),
    /// Several of one process; for a futex, of any.
    Several,
    /// Tasks of several processes.
    Abroad,
}

/// By target: is it a futex that nobody but one thread which takes such turns waits for?
/// Empty where no thread takes turns.
pub(super) fn parks(blocks: &Blocks<'_>) -> Vec<bool> {
    let model = blocks.model;
    let mut sets = vec![Waits::Nobody; model.targets.len()];
    let each = |of: &dyn Fn(&Block) -> bool, note: &mut dyn FnMut(u32, usize)| {
        for (at, task) in model.tasks.iter().enumerate() {
            let open = Block::open(task);
            let such = |off| Block::of(off).is_some_and(|block| block.target != 0 && of(&block));
            let all = task.stretches.iter_if(such);
            let all = all.filter_map(Block::of).chain(open);
            let mut before = 0;
            for block in all.filter(|block| block.target != 0) {
                // Most wait for the same again and again.
                if block.target != before && of(&block) {
                    before = block.target;
                    note(at as u32, block.target as usize);
                }
            }
        }
    };
    let process = |at: u32| model.tasks[at as usize].process;
    let is_set = |block: &Block| blocks.class(block) == Class::Anything;
    let mut several = false;
    each(&is_set, &mut |at, target| {
        let Some(waits) = sets.get_mut(target) else {
            return;
        };
        *waits = match *waits {
            Waits::Nobody => Waits::One(at),
            Waits::One(other) if other == at => Waits::One(at),
            Waits::One(other) if process(other) == process(at) => Waits::Several,
            Waits::Several => Waits::Several,
            _ => Waits::Abroad,
        };
        several |= *waits == Waits::Several;
    });
    if !several {
        return Vec::new();
    }
    let mut turns = vec![false; model.tasks.len()];
    each(&is_set, &mut |at, target| {
        turns[at as usize] |= sets.get(target) == Some(&Waits::Several);
    });
    let mut parks = vec![Waits::Nobody; model.targets.len()];
    let is_park = |block: &Block| {
        let target = model.targets.get(block.target as usize);
        matches!(target, Some(Target::Futex(FutexKey::Private { .. })))
    };
    each(&is_park, &mut |at, target| {
        if let Some(waits) = parks.get_mut(target) {
            *waits = match *waits {
                Waits::Nobody => Waits::One(at),
                Waits::One(other) if other == at => Waits::One(at),
                _ => Waits::Several,
            };
        }
    });
    let parks = parks.into_iter().map(|waits| match waits {
        Waits::One(at) => turns[at as usize],
        _ => false,
    });
    parks.collect()
}
