//! What programs call the memory of their locks.

use std::collections::{HashMap, HashSet, hash_map::Entry};

use crate::trace::LockName;

/// Names of private futexes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LockNames(HashMap<(u32, u64), Option<LockName>>);

impl LockNames {
    /// `process` gives the process of a task.
    pub(crate) fn new(names: Vec<LockName>, process: impl Fn(u32) -> u32) -> Self {
        let mut known = HashMap::new();
        for name in names {
            match known.entry((process(name.serial), name.address)) {
                Entry::Vacant(entry) => {
                    entry.insert(Some(name));
                }
                // Another program of the process: which it was when is not known.
                Entry::Occupied(mut entry) => {
                    let same = |known: &LockName| {
                        (&known.name, &known.module) == (&name.name, &name.module)
                    };
                    if !entry.get().as_ref().is_some_and(same) {
                        entry.insert(None);
                    }
                }
            }
        }
        Self(known)
    }

    /// Of the futex at this address of a process, by the serial of its first task.
    pub fn of(&self, process: u32, address: u64) -> Option<&LockName> {
        self.0.get(&(process, address))?.as_ref()
    }

    /// The processes of which one is called so, by the serials of their first tasks.
    pub fn processes(&self, is: impl Fn(&str) -> bool) -> HashSet<u32> {
        let named = self.0.iter();
        let named = named.filter(|(_, name)| name.as_ref().is_some_and(|name| is(&name.name)));
        named.map(|((process, _), _)| *process).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_was_two_variables_has_no_name() {
        let name = |serial, address, name: &str| LockName {
            serial,
            address,
            name: name.to_owned(),
            module: "program".to_owned(),
        };
        let names = vec![
            name(11, 64, "locks+0x40"),
            name(12, 64, "locks+0x40"),
            name(12, 128, "locks+0x80"),
            name(11, 128, "table"),
            name(12, 128, "table"),
            name(21, 128, "table"),
        ];
        let names = LockNames::new(names, |serial| serial / 10);
        let of = |process, address| names.of(process, address).map(|it| it.name.as_str());
        assert_eq!(of(1, 64), Some("locks+0x40"));
        assert_eq!(of(1, 128), None);
        assert_eq!(of(2, 128), Some("table"));
        assert_eq!(of(2, 64), None);
    }
}
