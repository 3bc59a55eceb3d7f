//! Looks at blocks of which it shows later that their task had run meanwhile.
//!
//! A switch that the kernel did not announce leaves a task asleep for us until it leaves the
//! CPU again: its block is then told with an inferred end. Whatever was read of it in between
//! can be of a task that runs.

use std::collections::HashMap;

/// What was looked at, and what can't be believed.
#[derive(Default)]
pub(super) struct Doubts {
    /// The last block of each task that was looked at, with its kernel's stack.
    looked: HashMap<u32, (u32, Option<u32>)>,
    /// The last one of each task whose end was inferred.
    inferred: HashMap<u32, u32>,
}

impl Doubts {
    /// A block was looked at, beside which the kernel found this stack of its own. Is that to be
    /// believed, so far?
    pub(super) fn look(&mut self, serial: u32, seq: u32, kernel: Option<u32>) -> bool {
        if self.inferred.get(&serial) == Some(&seq) {
            return false;
        }
        self.looked.insert(serial, (seq, kernel));
        true
    }

    /// Is this the last block of its task that was looked at?
    pub(super) fn was_looked_at(&self, serial: u32, seq: u32) -> bool {
        self.looked.get(&serial).is_some_and(|(of, _)| *of == seq)
    }

    /// The end of a block was inferred. If it was looked at, that is to be taken back: the
    /// kernel's stack is what is left.
    pub(super) fn infer(&mut self, serial: u32, seq: u32) -> Option<Option<u32>> {
        self.inferred.insert(serial, seq);
        let looked = self.looked.get(&serial);
        looked.filter(|(of, _)| *of == seq).map(|(_, it)| *it)
    }

    /// The task is no more.
    pub(super) fn forget(&mut self, serial: u32) {
        self.looked.remove(&serial);
        self.inferred.remove(&serial);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_at_a_block_whose_end_is_inferred_is_not_believed_whichever_comes_first() {
        let mut doubts = Doubts::default();
        assert!(doubts.look(1, 5, Some(7)));
        assert!(doubts.was_looked_at(1, 5) && !doubts.was_looked_at(1, 4));
        // Of another block, and of another task.
        assert_eq!(doubts.infer(1, 4), None);
        assert_eq!(doubts.infer(2, 5), None);
        assert_eq!(doubts.infer(1, 5), Some(Some(7)));
        assert!(!doubts.look(1, 5, None));
        assert!(doubts.look(1, 6, None));
        assert_eq!(doubts.infer(1, 6), Some(None));
        doubts.forget(1);
        assert!(doubts.look(1, 6, None));
    }
}
