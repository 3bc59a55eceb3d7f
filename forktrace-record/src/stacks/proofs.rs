//! Whether what was read of a task that slept was all of the block that was meant.
//!
//! It was if the task is in that block still when the answer comes; or if it came back to a
//! CPU later than all had been read, which the record of the block says. An answer takes its time
//! to come, so without the second many blocks that lasted long enough would have no stack.

use std::collections::HashMap;

/// Blocks that are kept at a time: those of which the record is lost would stay for ever.
const MOST: usize = 4096;

/// A block: its task's serial, and the number of its stretch.
pub(super) type Of = (u32, u32);

/// Blocks that were asked about, and what was read of them.
pub(super) struct Proofs<T>(HashMap<Of, State<T>>);

enum State<T> {
    /// The helper is at it.
    Asked,
    /// It ended meanwhile: when the task came back to a CPU, ns; `None`: that is not known.
    Over(Option<u64>),
    /// All had been read before this time, ns. How the block ended is still to come.
    Read(u64, T),
}

impl<T> Default for Proofs<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T> Proofs<T> {
    /// The helper is asked about this block.
    pub(super) fn asked(&mut self, of: Of) {
        if self.0.len() >= MOST {
            self.0.clear();
        }
        self.0.insert(of, State::Asked);
    }

    /// It has not told anything.
    pub(super) fn forget(&mut self, of: Of) {
        self.0.remove(&of);
    }

    /// Is it to be told yet of this block whether it is believed?
    pub(super) fn is_open(&self, of: Of) -> bool {
        self.0.contains_key(&of)
    }

    /// What was read of a block until this time, ns; `sleeps`: the task is in that block still.
    /// Gives it back if that proves it.
    pub(super) fn read(&mut self, of: Of, until_ns: u64, sleeps: bool, what: T) -> Option<T> {
        match self.0.remove(&of) {
            _ if sleeps => Some(what),
            Some(State::Asked) => {
                self.0.insert(of, State::Read(until_ns, what));
                None
            }
            Some(State::Over(Some(in_ns))) if until_ns < in_ns => Some(what),
            _ => None,
        }
    }

    /// A block has ended: when the task came back to a CPU, ns; `None`: that is not known.
    /// Gives what was read of it, if that is proved by it.
    pub(super) fn ended(&mut self, of: Of, in_ns: Option<u64>) -> Option<T> {
        let state = self.0.get_mut(&of)?;
        if matches!(state, State::Asked) {
            *state = State::Over(in_ns);
            return None;
        }
        match self.0.remove(&of) {
            Some(State::Read(until_ns, what)) => {
                in_ns.filter(|in_ns| until_ns < *in_ns).map(|_| what)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: Of = (7, 3);

    fn asked() -> Proofs<&'static str> {
        let mut proofs = Proofs::default();
        proofs.asked(BLOCK);
        proofs
    }

    #[test]
    fn what_was_read_while_the_task_slept_on_is_believed() {
        let mut proofs = asked();
        assert_eq!(proofs.read(BLOCK, 100, true, "it"), Some("it"));
        assert!(!proofs.is_open(BLOCK));
    }

    #[test]
    fn what_was_read_before_the_task_came_back_is_believed_whichever_is_told_first() {
        let mut proofs = asked();
        assert_eq!(proofs.read(BLOCK, 100, false, "it"), None);
        // Of another block of this task, and of another task.
        assert_eq!(proofs.ended((7, 4), Some(101)), None);
        assert_eq!(proofs.ended((8, 3), Some(101)), None);
        assert_eq!(proofs.ended(BLOCK, Some(101)), Some("it"));
        assert!(!proofs.is_open(BLOCK));

        let mut proofs = asked();
        assert_eq!(proofs.ended(BLOCK, Some(101)), None);
        assert_eq!(proofs.read(BLOCK, 100, false, "it"), Some("it"));
        assert!(!proofs.is_open(BLOCK));
    }

    #[test]
    fn what_may_have_been_read_while_the_task_ran_is_not_believed() {
        for in_ns in [Some(100), Some(99), None] {
            let mut proofs = asked();
            assert_eq!(proofs.read(BLOCK, 100, false, "it"), None);
            assert_eq!(proofs.ended(BLOCK, in_ns), None);
            assert!(!proofs.is_open(BLOCK));

            let mut proofs = asked();
            assert_eq!(proofs.ended(BLOCK, in_ns), None);
            assert_eq!(proofs.read(BLOCK, 100, false, "it"), None);
            assert!(!proofs.is_open(BLOCK));
        }
        // Nobody asked.
        let mut proofs = asked();
        proofs.forget(BLOCK);
        assert_eq!(proofs.read(BLOCK, 100, false, "it"), None);
        assert_eq!(proofs.ended(BLOCK, Some(101)), None);
    }

    #[test]
    fn blocks_that_never_end_are_forgotten_at_last() {
        let mut proofs = Proofs::<()>::default();
        for seq in 0..=MOST as u32 {
            proofs.asked((1, seq));
        }
        assert!(!proofs.is_open((1, 0)));
        assert!(proofs.is_open((1, MOST as u32)));
    }
}
