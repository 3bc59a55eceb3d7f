//! Sums by key, for keys that mostly repeat the one before.

use std::{collections::HashMap, hash::Hash};

/// From here on a search through a list costs more than hashing.
const FEW: usize = 16;

/// Sums by key, in the order in which the keys came.
#[derive(Clone, Debug)]
pub(super) struct SumByKey<K, V> {
    rows: Vec<(K, V)>,
    last: usize,
    index: HashMap<K, usize>,
}

impl<K, V> Default for SumByKey<K, V> {
    fn default() -> Self {
        Self {
            rows: Vec::new(),
            last: 0,
            index: HashMap::new(),
        }
    }
}

impl<K: Copy + Eq + Hash, V: Default> SumByKey<K, V> {
    /// The sum of a key.
    #[inline]
    pub(super) fn of(&mut self, key: K) -> &mut V {
        if self.rows.get(self.last).is_none_or(|(k, _)| *k != key) {
            self.last = self.find(key);
        }
        &mut self.rows[self.last].1
    }

    fn find(&mut self, key: K) -> usize {
        let next = self.rows.len();
        if next <= FEW {
            if let Some(at) = self.rows.iter().position(|(k, _)| *k == key) {
                return at;
            }
            self.rows.push((key, V::default()));
            return next;
        }
        if self.index.is_empty() {
            let rows = self.rows.iter().enumerate();
            self.index = rows.map(|(at, (k, _))| (*k, at)).collect();
        }
        let at = *self.index.entry(key).or_insert(next);
        if at == next {
            self.rows.push((key, V::default()));
        }
        at
    }

    /// The keys and their sums, in their order.
    pub(super) fn rows(&self) -> &[(K, V)] {
        &self.rows
    }

    /// The same, given away.
    pub(super) fn into_rows(self) -> Vec<(K, V)> {
        self.rows
    }
}

/// A sum. Of a forged trace it can be more than there is room for.
pub(super) fn total(parts: impl Iterator<Item = u64>) -> u64 {
    parts.fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::SumByKey;

    proptest! {
        #[test]
        fn sums_by_key_are_a_map(keys in prop::collection::vec(0u32..40, 0..300)) {
            let (mut sums, mut map) = (SumByKey::<u32, u64>::default(), BTreeMap::new());
            for key in keys {
                *sums.of(key) += 1;
                *map.entry(key).or_insert(0u64) += 1;
            }
            let rows = sums.into_rows();
            prop_assert_eq!(rows.len(), map.len());
            prop_assert_eq!(rows.into_iter().collect::<BTreeMap<_, _>>(), map);
        }
    }
}
