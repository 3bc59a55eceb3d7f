//! Where tasks are, by serial. Serials of a real trace count from 1; those of a forged one need
//! not, and take no more room for it.

use std::collections::HashMap;

/// Serials below this are looked up in a list.
const LISTED: usize = 1 << 20;

#[derive(Default)]
pub(super) struct Index {
    listed: Vec<u32>,
    others: HashMap<u32, u32>,
}

impl Index {
    /// Where this one is: at `next`, if it is not known yet.
    #[inline]
    pub(super) fn of(&mut self, serial: u32, next: u32) -> u32 {
        match self.listed.get(serial as usize) {
            Some(at) if *at != u32::MAX => *at,
            _ => self.add(serial, next),
        }
    }

    #[cold]
    fn add(&mut self, serial: u32, next: u32) -> u32 {
        let place = serial as usize;
        if place >= LISTED {
            return *self.others.entry(serial).or_insert(next);
        }
        if place >= self.listed.len() {
            self.listed.resize(place + 1, u32::MAX);
        }
        self.listed[place] = next;
        next
    }
}
