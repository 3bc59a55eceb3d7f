//! What was used lately, in bounded memory.

use std::{collections::HashMap, hash::Hash};

/// A table that forgets what was not used for long: at least so many entries are kept, and
/// no more than twice as many, but for those that its owner holds on to.
#[derive(Clone, Debug)]
pub(crate) struct Lately<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    fewest: usize,
}

impl<K: Copy + Eq + Hash, V> Lately<K, V> {
    pub(crate) fn new(fewest: usize) -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
            fewest,
        }
    }

    /// Uses an entry.
    pub(crate) fn get(&mut self, key: K) -> Option<&mut V> {
        if let Some(value) = self.old.remove(&key) {
            self.young.insert(key, value);
        }
        self.young.get_mut(&key)
    }

    /// Looks at an entry, which does not count as use.
    pub(crate) fn peek(&self, key: K) -> Option<&V> {
        self.young.get(&key).or_else(|| self.old.get(&key))
    }

    pub(crate) fn insert(&mut self, key: K, value: V) {
        self.old.remove(&key);
        self.young.insert(key, value);
    }

    /// Is it time to [`Self::forget`]?
    pub(crate) fn is_full(&self) -> bool {
        self.young.len() >= self.fewest
    }

    /// Forgets what was not used since the last time, but for these.
    pub(crate) fn forget(&mut self, but: impl Iterator<Item = K>) {
        let mut old = std::mem::take(&mut self.young);
        for key in but {
            if let Some(value) = self.old.remove(&key) {
                old.insert(key, value);
            }
        }
        self.old = old;
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = K> {
        self.old.keys().chain(self.young.keys()).copied()
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.old.values().chain(self.young.values())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_or_held_on_to_stays() {
        let mut lately = Lately::new(10);
        for key in 0..1000 {
            lately.insert(key, key);
            assert!(lately.get(1).is_some() || key == 0);
            if lately.is_full() {
                lately.forget([2].into_iter());
            }
            assert!(lately.values().count() <= 22, "at {key}");
        }
        assert!(lately.get(2).is_some());
        assert!(lately.get(3).is_none());
        assert!(lately.get(999).is_some());
    }
}
