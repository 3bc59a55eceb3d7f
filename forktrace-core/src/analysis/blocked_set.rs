//! The members of a group that are blocked now, by who or what holds them up, and who has
//! how many others directly behind it. Kept up to date in the time of one change.

use super::{blocks::Class, held_by::HeldBy};

/// Some of the members, in no order, each of which is found at once.
struct Listed {
    positions: Vec<u32>,
    /// By position: where in the list it is, if it is.
    places: Vec<u32>,
}

impl Listed {
    fn new(count: usize) -> Self {
        Self {
            positions: Vec::new(),
            places: vec![0; count],
        }
    }

    fn add(&mut self, position: u32) {
        self.places[position as usize] = self.positions.len() as u32;
        self.positions.push(position);
    }

    /// It is in the list.
    fn remove(&mut self, position: u32) {
        let place = self.places[position as usize];
        self.positions.swap_remove(place as usize);
        if let Some(moved) = self.positions.get(place as usize) {
            self.places[*moved as usize] = place;
        }
    }
}

/// One member.
#[derive(Clone, Copy, Default)]
struct Member {
    /// `None`: it is not blocked.
    held_by: Option<HeldBy>,
    /// How many edges lead to it.
    edges: u32,
    /// Of these, those of members that wait for this one and not for whatever comes first.
    owed: u32,
}

/// Blocked members, by what holds them up.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) edges: u32,
    pub(super) input: u32,
    pub(super) time: u32,
    pub(super) abroad: u32,
    pub(super) unknown: u32,
}

/// All members.
pub(super) struct BlockedSet {
    members: Vec<Member>,
    counts: Counts,
    busy: Listed,
    owing: Listed,
}

impl BlockedSet {
    pub(super) fn new(count: usize) -> Self {
        Self {
            members: vec![Member::default(); count],
            counts: Counts::default(),
            busy: Listed::new(count),
            owing: Listed::new(count),
        }
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    /// Those who wait neither for input, nor for a time, nor for another member.
    pub(super) fn busy(&self) -> &[u32] {
        &self.busy.positions
    }

    /// Those who wait for a time and hold up another one, which does not wait for whatever comes
    /// first.
    pub(super) fn owing(&self) -> &[u32] {
        &self.owing.positions
    }

    pub(super) fn held_by(&self, position: u32) -> Option<HeldBy> {
        self.members[position as usize].held_by
    }

    /// How many wait directly for this one.
    pub(super) fn edges_to(&self, position: u32) -> u32 {
        self.members[position as usize].edges
    }

    /// It blocks.
    pub(super) fn enter(&mut self, position: u32, held_by: HeldBy) {
        let member = &mut self.members[position as usize];
        member.held_by = Some(held_by);
        match held_by {
            HeldBy::Edge { to, class, .. } => {
                self.counts.edges += 1;
                self.change_edges((to, class), 1);
            }
            HeldBy::Input => self.counts.input += 1,
            HeldBy::Time => {
                self.counts.time += 1;
                if member.owed > 0 {
                    self.owing.add(position);
                }
            }
            HeldBy::Busy | HeldBy::Abroad => {
                self.busy.add(position);
                self.counts.abroad += u32::from(held_by == HeldBy::Abroad);
            }
            HeldBy::EdgeLater | HeldBy::NotWoken => {}
            HeldBy::Unknown => self.counts.unknown += 1,
        }
    }

    /// It goes on, if it was blocked.
    pub(super) fn leave(&mut self, position: u32) {
        let member = &mut self.members[position as usize];
        match member.held_by.take() {
            Some(HeldBy::Edge { to, class, .. }) => {
                self.counts.edges -= 1;
                self.change_edges((to, class), -1);
            }
            Some(HeldBy::Input) => self.counts.input -= 1,
            Some(HeldBy::Time) => {
                self.counts.time -= 1;
                if member.owed > 0 {
                    self.owing.remove(position);
                }
            }
            Some(held_by @ (HeldBy::Busy | HeldBy::Abroad)) => {
                self.counts.abroad -= u32::from(held_by == HeldBy::Abroad);
                self.busy.remove(position);
            }
            Some(HeldBy::EdgeLater | HeldBy::NotWoken) | None => {}
            Some(HeldBy::Unknown) => self.counts.unknown -= 1,
        }
    }

    fn change_edges(&mut self, (to, class): (u32, Class), by: i32) {
        let member = &mut self.members[to as usize];
        member.edges = member.edges.saturating_add_signed(by);
        if class == Class::Anything {
            return;
        }
        let before = member.owed > 0;
        member.owed = member.owed.saturating_add_signed(by);
        if member.held_by == Some(HeldBy::Time) {
            match (before, member.owed > 0) {
                (false, true) => self.owing.add(to),
                (true, false) => self.owing.remove(to),
                _ => {}
            }
        }
    }
}
