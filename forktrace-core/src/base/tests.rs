//! What is told again is what was known.

use super::*;
use crate::{drawn, random::SplitMix};

/// All that is known, in an order that does not depend on how it came to be.
fn told(base: &Base) -> Vec<Event> {
    let mut told = Vec::new();
    Restating::all(base, |event| told.push(event));
    told
}

#[track_caller]
fn same(one: &Base, other: &Base, what: &str) {
    let (one, other) = (told(one), told(other));
    for (one, other) in one.iter().zip(&other) {
        assert_eq!(one, other, "{what}");
    }
    assert_eq!(one.len(), other.len(), "{what}");
}

/// Restored while other events come, a few entries at a time, as a window is.
#[test]
fn what_is_told_again_in_slices_is_what_was_known() {
    for seed in 0..100 {
        let random = &mut SplitMix(seed);
        let events = drawn::events(random, 400, 1_000_000_000);
        let from = random.below(events.len() as u64) as usize;
        let mut whole = Base::new();
        let mut entered = Base::new();
        if random.below(2) == 0 {
            // It has read what came before, but for some of it.
            let lost = random.below(from as u64 + 1) as usize;
            events[..lost]
                .iter()
                .cloned()
                .for_each(|it| entered.fold(it));
        }
        let mut restating = None;
        let mut complete = false;
        for (at, event) in events.into_iter().enumerate() {
            if at >= from && !complete && !(restating.is_none() && whole.is_in_between()) {
                if restating.is_none() {
                    entered.begin_to_restore();
                }
                let restating = restating.get_or_insert_with(|| Restating::new(&whole));
                let mut left = random.below(5);
                let mut more = true;
                while more && (left > 0 || restating.is_at_rest()) {
                    more = restating.next(&whole, &mut |event| entered.restore(event));
                    left = left.saturating_sub(1);
                }
                if !more {
                    entered.restored(whole.ended);
                    complete = true;
                }
            }
            if complete && at % 16 == 0 {
                same(&entered, &whole, &format!("seed {seed}, at {at}"));
            }
            whole.fold(event.clone());
            if restating.is_some() {
                entered.fold(event);
            }
        }
        if complete {
            same(&entered, &whole, &format!("seed {seed}"));
            assert_eq!(entered.ended, whole.ended);
        }
    }
}
