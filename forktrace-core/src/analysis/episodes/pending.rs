//! Edges to a member that do not count yet.

use std::{cmp::Reverse, collections::BinaryHeap};

/// Fewer are not gone through to forget those that are over.
const FEW: usize = 64;

/// A member waits for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Edge {
    /// It counts in blocks of the other that begin at this time or later.
    pub(super) from_ns: u64,
    /// Who waits.
    pub(super) position: u32,
    /// When that one's block began.
    pub(super) start_ns: u64,
    /// It waits for whatever comes first: not for one that waits for input itself.
    pub(super) anything: bool,
}

/// Those to one member. Each is looked at when its time has come, and once more when it
/// counts, however often that member blocks.
#[derive(Clone, Debug, Default)]
pub(super) struct Pending {
    /// Until their time comes.
    later: BinaryHeap<Reverse<Edge>>,
    /// Until the member waits for anything but input.
    until_it_works: Vec<Edge>,
    /// So many are gone through to forget those that are over.
    full: usize,
    /// How many were looked at in all.
    #[cfg(test)]
    looked_at: u64,
}

impl Pending {
    /// Is there none?
    pub(super) fn is_empty(&self) -> bool {
        self.later.is_empty() && self.until_it_works.is_empty()
    }

    pub(super) fn add(&mut self, edge: Edge) {
        self.later.push(Reverse(edge));
    }

    /// Those that count from now on, in a block of the member that began at this time.
    /// `input`: in it the member waits for input. `lasts`: is this edge's wait still the same?
    pub(super) fn due(
        &mut self,
        start_ns: u64,
        input: bool,
        lasts: impl Fn(&Edge) -> bool,
    ) -> Vec<Edge> {
        let mut due = Vec::new();
        while let Some(Reverse(edge)) = self.later.peek().copied()
            && edge.from_ns <= start_ns
        {
            self.later.pop();
            self.count(1);
            match edge.anything && input {
                true => self.until_it_works.push(edge),
                false => due.push(edge),
            }
        }
        if !input {
            due.append(&mut self.until_it_works);
            self.count(due.len());
        } else if self.until_it_works.len() > self.full.max(FEW) {
            self.count(self.until_it_works.len());
            self.until_it_works.retain(&lasts);
            self.full = 2 * self.until_it_works.len();
        }
        due.retain(lasts);
        due
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "tests count the work")]
    fn count(&mut self, _: usize) {}

    #[cfg(test)]
    fn count(&mut self, edges: usize) {
        self.looked_at += edges as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edge(position: u32, from_ns: u64, anything: bool) -> Edge {
        Edge {
            from_ns,
            position,
            start_ns: 0,
            anything,
        }
    }

    #[test]
    fn an_edge_counts_from_its_time_on_and_where_the_other_works() {
        let mut pending = Pending::default();
        pending.add(edge(1, 5, false));
        pending.add(edge(2, 5, true));
        pending.add(edge(3, 9, false));
        assert_eq!(pending.due(4, false, |_| true), []);
        assert_eq!(pending.due(5, true, |_| true), [edge(1, 5, false)]);
        assert_eq!(pending.due(6, false, |_| true), [edge(2, 5, true)]);
        assert_eq!(pending.due(9, true, |edge| edge.position != 3), []);
        assert_eq!(pending.due(9, false, |_| true), [], "it was over");
    }

    /// A thousand wait for whatever comes first from one that waits for input a thousand times.
    #[test]
    fn many_that_wait_for_an_idle_one_are_not_looked_at_each_time() {
        let mut pending = Pending::default();
        for position in 0..1000 {
            pending.add(edge(position, 1, true));
        }
        for now in 1..1000 {
            assert_eq!(pending.due(now, true, |_| true), []);
        }
        assert_eq!(pending.due(1000, false, |_| true).len(), 1000);
        assert!(pending.looked_at <= 4000, "{}", pending.looked_at);
    }

    /// Each of a few waits anew a thousand times, and the one that they wait for is idle.
    #[test]
    fn waits_that_are_over_take_no_room() {
        let mut pending = Pending::default();
        for now in 1..1000 {
            for position in 0..10 {
                pending.add(Edge {
                    start_ns: now,
                    ..edge(position, now, true)
                });
            }
            assert_eq!(pending.due(now, true, |edge| edge.start_ns == now), []);
            assert!(pending.until_it_works.len() <= 2 * FEW);
        }
        assert!(pending.looked_at <= 4 * 10 * 1000, "{}", pending.looked_at);
    }
}
