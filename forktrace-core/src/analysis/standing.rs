//! The members of a group that are blocked now, by their parts, and who has how many
//! others directly behind it. Kept up to date in the time of one change.

use super::parts::Part;

/// One member.
#[derive(Clone, Copy, Default)]
struct Place {
    /// `None`: it is not blocked.
    part: Option<Part>,
    /// Where it is in `busy`.
    busy_at: u32,
    /// How many edges lead to it.
    edges: u32,
}

/// Blocked members by part.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) edges: u32,
    pub(super) input: u32,
    pub(super) time: u32,
    /// Of these, those that an edge leads to.
    pub(super) time_with_edges: u32,
    pub(super) abroad: u32,
    pub(super) unknown: u32,
}

/// All members.
pub(super) struct Standing {
    places: Vec<Place>,
    counts: Counts,
    busy: Vec<u32>,
}

impl Standing {
    pub(super) fn new(members: usize) -> Self {
        Self {
            places: vec![Place::default(); members],
            counts: Counts::default(),
            busy: Vec::new(),
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

    /// How many wait directly for this one.
    pub(super) fn edges_to(&self, position: u32) -> u32 {
        self.places[position as usize].edges
    }

    /// It blocks.
    pub(super) fn enter(&mut self, position: u32, part: Part) {
        let place = &mut self.places[position as usize];
        place.part = Some(part);
        match part {
            Part::Edge { to, .. } => {
                self.counts.edges += 1;
                self.change_edges(to, 1);
            }
            Part::Input => self.counts.input += 1,
            Part::Time => {
                self.counts.time += 1;
                self.counts.time_with_edges += u32::from(place.edges > 0);
            }
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
                self.change_edges(to, -1);
            }
            Some(Part::Input) => self.counts.input -= 1,
            Some(Part::Time) => {
                self.counts.time -= 1;
                self.counts.time_with_edges -= u32::from(place.edges > 0);
            }
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

    fn change_edges(&mut self, to: u32, by: i32) {
        let place = &mut self.places[to as usize];
        let before = place.edges > 0;
        place.edges = place.edges.saturating_add_signed(by);
        if place.part == Some(Part::Time) && before != (place.edges > 0) {
            let with = &mut self.counts.time_with_edges;
            *with = with.saturating_add_signed(by);
        }
    }
}
