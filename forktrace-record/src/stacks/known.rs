//! What was found out about files, until they change.

use std::{cell::RefCell, collections::HashMap, fs::File, os::unix::fs::MetadataExt as _, rc::Rc};

/// Files of which something is known at a time.
const MOST_FILES: usize = 32;

/// By device, inode, and when they were changed.
type Key = (u64, u64, i64, i64);

/// Nothing of a file is known as well.
pub(super) struct Known<T>(RefCell<HashMap<Key, Option<Rc<T>>>>);

impl<T> Default for Known<T> {
    fn default() -> Self {
        Self(RefCell::default())
    }
}

impl<T> Known<T> {
    /// What is known of this file, or found now.
    pub(super) fn of(&self, file: &File, find: impl FnOnce() -> Option<T>) -> Option<Rc<T>> {
        let data = file.metadata().ok()?;
        let key = (data.dev(), data.ino(), data.mtime(), data.mtime_nsec());
        let mut known = self.0.borrow_mut();
        if known.len() >= MOST_FILES && !known.contains_key(&key) {
            known.clear();
        }
        known
            .entry(key)
            .or_insert_with(|| find().map(Rc::new))
            .clone()
    }
}
