//! What was found out about files, until they change.

use std::{
    cell::RefCell, collections::HashMap, fs::File, os::unix::fs::MetadataExt as _, path::Path,
    rc::Rc,
};

/// Files of which something is known at a time.
const MOST_FILES: usize = 32;

/// By device, inode, and when they were changed; and by the folder that was looked in for more.
type Key = ((u64, u64, i64, i64), Option<(u64, u64)>);

/// Nothing of a file is known as well.
pub(super) struct Known<T>(RefCell<HashMap<Key, Option<Rc<T>>>>);

impl<T> Default for Known<T> {
    fn default() -> Self {
        Self(RefCell::default())
    }
}

impl<T> Known<T> {
    /// What is known of this file, or found now. `beside`: the folder that more of it is in, which
    /// is another one in each container, while the file can be the same in all of them.
    pub(super) fn of(
        &self,
        file: &File,
        beside: Option<&Path>,
        find: impl FnOnce() -> Option<T>,
    ) -> Option<Rc<T>> {
        let data = file.metadata().ok()?;
        let own = (data.dev(), data.ino(), data.mtime(), data.mtime_nsec());
        let beside = beside.and_then(|folder| folder.metadata().ok());
        let key = (own, beside.map(|data| (data.dev(), data.ino())));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_of_a_file_is_known_in_the_place_that_was_looked_in() {
        let folder = tempfile::tempdir().expect("a folder");
        let [one, other] = ["one", "other"].map(|name| folder.path().join(name));
        std::fs::create_dir(&one).expect("a folder");
        std::fs::create_dir(&other).expect("a folder");
        let path = folder.path().join("program");
        std::fs::write(&path, "").expect("a file");
        let file = File::open(&path).expect("it is there");
        let known = Known::default();
        let of = |beside, found: Option<u32>| known.of(&file, beside, || found).as_deref().copied();
        assert_eq!(of(Some(&*one), None), None);
        assert_eq!(of(Some(&*other), Some(1)), Some(1));
        assert_eq!(of(Some(&*one), Some(2)), None, "it was looked for there");
        assert_eq!(of(Some(&*other), Some(2)), Some(1));
        let nowhere = folder.path().join("nowhere");
        assert_eq!(of(Some(&*nowhere), Some(3)), Some(3));
        assert_eq!(of(None, Some(4)), Some(3));
    }
}
