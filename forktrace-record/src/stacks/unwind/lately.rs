//! What of the memory told the last stacks: what will be wanted of it for the next ones, so that it can be read in
//! one call.

use std::collections::HashMap;

use super::{
    Sleeper,
    memory::{Memory, PAGE, UNIT, unit_of},
};

/// Places that threads wait at, of which it is noted.
const MOST_PLACES: usize = 256;
/// What is noted of a stack is no further from its inner end, units.
const MOST_NOTED: u64 = 64;

/// By the instruction that a stack begins with, and by where in a page it begins: the stacks of threads begin at the
/// end of one, so the next stack that is like it is mostly of the same functions.
#[derive(Default)]
pub(super) struct Lately {
    places: HashMap<(u64, u64), WasRead>,
}

/// What told a stack, units.
struct WasRead {
    /// How many from its inner end on.
    stack: u64,
    /// What an interpreter executes.
    executed: Vec<u64>,
}

impl Lately {
    /// Reads what will be wanted, as far as that is known.
    pub(super) fn fetch(
        &self,
        sleeper: &Sleeper,
        stack: &mut Memory<'_>,
        executed: &mut Memory<'_>,
    ) {
        let [_, sp, ..] = sleeper.registers;
        if let Some(last) = self.places.get(&place(sleeper)) {
            let units = (0..last.stack).map(|unit| unit_of(sp).saturating_add(unit * UNIT));
            stack.fetch(sleeper.tid, &units.collect::<Vec<_>>());
            executed.fetch(sleeper.tid, &last.executed);
        }
    }

    /// Notes what told a stack.
    pub(super) fn note(&mut self, sleeper: &Sleeper, stack: &Memory<'_>, executed: &Memory<'_>) {
        let [_, sp, ..] = sleeper.registers;
        let inner = unit_of(sp);
        let units = stack.asked_for().into_iter();
        let units = units.filter_map(|unit| Some(unit.checked_sub(inner)? / UNIT + 1));
        let units = units.filter(|units| *units <= MOST_NOTED).max();
        if self.places.len() >= MOST_PLACES {
            self.places.clear();
        }
        let read = WasRead {
            stack: units.unwrap_or(0),
            executed: executed.asked_for(),
        };
        self.places.insert(place(sleeper), read);
    }
}

fn place(sleeper: &Sleeper) -> (u64, u64) {
    let [pc, sp, ..] = sleeper.registers;
    (pc, sp % PAGE)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn what_told_a_stack_is_fetched_for_the_next_one_that_is_like_it() {
        let file = File::open("/proc/self/mem").expect("our memory");
        let words = vec![7u64; 4096];
        // Two stacks that begin at the same place in a page.
        let page = (words.as_ptr() as u64).next_multiple_of(PAGE);
        let sleeper = |sp| Sleeper {
            process: (1, 0),
            tid: std::process::id(),
            registers: [1, sp, 0, 0],
        };
        let both = || [Memory::new(&file, 64), Memory::new(&file, 64)];
        let mut lately = Lately::default();
        let [mut stack, mut executed] = both();
        stack.word(page + 100);
        stack.word(page + 100 + 2 * UNIT);
        executed.word(page + 5 * UNIT);
        lately.note(&sleeper(page + 96), &stack, &executed);
        let fetched = |sp| {
            let [mut stack, mut executed] = both();
            lately.fetch(&sleeper(sp), &mut stack, &mut executed);
            (stack.units(), executed.units())
        };
        let next = page + PAGE;
        let units = [next, next + UNIT, next + 2 * UNIT].to_vec();
        assert_eq!(fetched(next + 96), (units, vec![page + 5 * UNIT]));
        assert_eq!(fetched(next + 88), (Vec::new(), Vec::new()));
    }
}
