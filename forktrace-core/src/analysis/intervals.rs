//! Intervals of time, and how much of them lies in others.

/// Disjoint intervals in order, with sums.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Intervals {
    /// Start, end, and the length of all before.
    parts: Vec<(u64, u64, u64)>,
}

impl Intervals {
    /// Adds one that does not begin before the last one ends.
    pub(super) fn push(&mut self, start_ns: u64, end_ns: u64) {
        match self.parts.last_mut() {
            Some((_, end, _)) if *end == start_ns => *end = end_ns,
            Some(&mut (start, end, before)) => {
                self.parts.push((start_ns, end_ns, before + (end - start)));
            }
            None => self.parts.push((start_ns, end_ns, 0)),
        }
    }

    /// Of any intervals, in any order, their union.
    pub(super) fn union(mut spans: Vec<(u64, u64)>) -> Self {
        spans.sort_unstable();
        let mut union = Self::default();
        let mut under_way: Option<(u64, u64)> = None;
        for (start, end) in spans {
            match &mut under_way {
                Some((_, last)) if start <= *last => *last = end.max(*last),
                _ => {
                    if let Some((start, end)) = under_way.replace((start, end)) {
                        union.push(start, end);
                    }
                }
            }
        }
        if let Some((start, end)) = under_way {
            union.push(start, end);
        }
        union
    }

    /// Their length.
    pub(super) fn sum(&self) -> u64 {
        self.parts
            .last()
            .map_or(0, |(start, end, before)| before + (end - start))
    }

    /// The length of what they share with others.
    pub(super) fn overlap(&self, others: &Self) -> u64 {
        self.parts
            .iter()
            .map(|(start, end, _)| others.within(*start, *end))
            .sum()
    }

    /// What of them lies in an interval.
    pub(super) fn parts_within(
        &self,
        start_ns: u64,
        end_ns: u64,
    ) -> impl Iterator<Item = (u64, u64)> + '_ {
        let from = self.parts.partition_point(|(_, end, _)| *end <= start_ns);
        let within = self.parts[from..].iter();
        let within = within.take_while(move |(start, ..)| *start < end_ns);
        within.map(move |(start, end, _)| (start.max(&start_ns).to_owned(), *end.min(&end_ns)))
    }

    /// How many of them begin before a time: looked for from `near` on, where it
    /// mostly is.
    fn begun(&self, near: usize, at_ns: u64) -> usize {
        let begins = |(start, _, _): &(u64, u64, u64)| *start < at_ns;
        let mut low = match self.parts.get(near.wrapping_sub(1)) {
            Some(part) if begins(part) => near,
            _ => 0,
        };
        let (mut high, mut step) = (low, 1);
        while self.parts.get(high).is_some_and(begins) {
            low = high + 1;
            high += step;
            step *= 2;
        }
        let high = high.min(self.parts.len());
        low + self.parts[low..high].partition_point(begins)
    }

    /// How much of them lies before a time, and how many begin before it.
    fn before(&self, near: usize, at_ns: u64) -> (u64, usize) {
        let index = self.begun(near, at_ns);
        let before = match index.checked_sub(1).and_then(|i| self.parts.get(i)) {
            Some((start, end, before)) => before + (at_ns.min(*end) - start),
            None => 0,
        };
        (before, index)
    }

    /// How much of them lies in an interval.
    pub(super) fn within(&self, start_ns: u64, end_ns: u64) -> u64 {
        self.within_near(&mut 0, start_ns, end_ns)
    }

    /// The same, quickly for one interval after the other: `near` is where the last
    /// one was.
    pub(super) fn within_near(&self, near: &mut usize, start_ns: u64, end_ns: u64) -> u64 {
        let (first, index) = self.before(*near, start_ns);
        *near = index;
        self.before(index, end_ns.max(start_ns)).0 - first
    }
}
