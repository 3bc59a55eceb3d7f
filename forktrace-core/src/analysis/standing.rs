//! The members of a group that are blocked now, by their parts: who has how many
//! behind it, and where chains end. Kept up to date in the time of one change.

use super::parts::Part;

/// No chain is followed further.
pub(super) const DEPTH: usize = 64;

/// One member.
#[derive(Clone, Copy, Default)]
struct Place {
    /// `None`: it is not blocked.
    part: Option<Part>,
    /// Where it is in `busy`.
    busy_at: u32,
    /// How many edges lead to it, and its place among those with as many.
    edges: u32,
    edges_at: u32,
}

/// Blocked members by part.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) edges: u32,
    pub(super) input: u32,
    pub(super) time: u32,
    pub(super) abroad: u32,
    pub(super) unknown: u32,
}

/// All members.
pub(super) struct Standing {
    places: Vec<Place>,
    counts: Counts,
    busy: Vec<u32>,
    /// Members by how many edges lead to them, from 1.
    by_edges: Vec<Vec<u32>>,
    most_edges: usize,
}

impl Standing {
    pub(super) fn new(members: usize) -> Self {
        Self {
            places: vec![Place::default(); members],
            counts: Counts::default(),
            busy: Vec::new(),
            by_edges: vec![Vec::new()],
            most_edges: 0,
        }
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    /// Those who wait neither for input, nor for a time, nor for another member.
    pub(super) fn busy(&self) -> &[u32] {
        &self.busy
    }

    pub(super) fn part(&self, position: u32) -> Option<Part> {
        self.places[position as usize].part
    }

    /// A member with the most edges to it: this one, if it is one of them.
    pub(super) fn most_waited_for(&self, preferred: u32) -> Option<u32> {
        if self.places[preferred as usize].edges as usize == self.most_edges {
            Some(preferred)
        } else {
            self.by_edges[self.most_edges].last().copied()
        }
    }

    /// The end of the chain that begins here.
    pub(super) fn root(&self, from: u32) -> Option<u32> {
        let mut at = from;
        for _ in 0..DEPTH {
            match self.part(at)? {
                Part::Edge { to, .. } => at = to,
                _ => return Some(at),
            }
        }
        None
    }

    /// It blocks.
    pub(super) fn enter(&mut self, position: u32, part: Part) {
        let place = &mut self.places[position as usize];
        place.part = Some(part);
        match part {
            Part::Edge { to, .. } => {
                self.counts.edges += 1;
                self.add_edge(to);
            }
            Part::Input => self.counts.input += 1,
            Part::Time => self.counts.time += 1,
            Part::Busy | Part::Abroad => {
                place.busy_at = self.busy.len() as u32;
                self.busy.push(position);
                self.counts.abroad += u32::from(part == Part::Abroad);
            }
            Part::Later | Part::NotWoken => {}
            Part::Unknown => self.counts.unknown += 1,
        }
    }

    /// It goes on, if it was blocked.
    pub(super) fn leave(&mut self, position: u32) {
        let place = &mut self.places[position as usize];
        match place.part.take() {
            Some(Part::Edge { to, .. }) => {
                self.counts.edges -= 1;
                self.remove_edge(to);
            }
            Some(Part::Input) => self.counts.input -= 1,
            Some(Part::Time) => self.counts.time -= 1,
            Some(part @ (Part::Busy | Part::Abroad)) => {
                let at = place.busy_at;
                self.counts.abroad -= u32::from(part == Part::Abroad);
                self.busy.swap_remove(at as usize);
                if let Some(moved) = self.busy.get(at as usize) {
                    self.places[*moved as usize].busy_at = at;
                }
            }
            Some(Part::Later | Part::NotWoken) | None => {}
            Some(Part::Unknown) => self.counts.unknown -= 1,
        }
    }

    fn add_edge(&mut self, to: u32) {
        self.take_from_its_bucket(to);
        self.places[to as usize].edges += 1;
        self.put_into_its_bucket(to);
        self.most_edges = self.most_edges.max(self.places[to as usize].edges as usize);
    }

    fn remove_edge(&mut self, to: u32) {
        self.take_from_its_bucket(to);
        self.places[to as usize].edges -= 1;
        self.put_into_its_bucket(to);
        // It went down by one, so the bucket below is not empty.
        if self.by_edges[self.most_edges].is_empty() && self.most_edges > 0 {
            self.most_edges -= 1;
        }
    }

    fn take_from_its_bucket(&mut self, position: u32) {
        let Place {
            edges, edges_at, ..
        } = self.places[position as usize];
        if edges > 0 {
            let bucket = &mut self.by_edges[edges as usize];
            bucket.swap_remove(edges_at as usize);
            if let Some(moved) = bucket.get(edges_at as usize) {
                self.places[*moved as usize].edges_at = edges_at;
            }
        }
    }

    fn put_into_its_bucket(&mut self, position: u32) {
        let place = &mut self.places[position as usize];
        if place.edges > 0 {
            let edges = place.edges as usize;
            if self.by_edges.len() <= edges {
                self.by_edges.resize(edges + 1, Vec::new());
            }
            place.edges_at = self.by_edges[edges].len() as u32;
            self.by_edges[edges].push(position);
        }
    }
}
