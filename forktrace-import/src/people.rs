//! Who there is, as far as a file says: collected while it is read, for when its events are
//! told.

use std::collections::{HashMap, HashSet};

use crate::record::{Record, kind};

/// So many names are kept. More are only in a file that was made for it.
const MOST_NAMES: usize = 1 << 20;

/// `kthreadd`, whose children are the kernel's threads.
const KERNEL: u32 = 2;

/// What a file says of a tid besides its events. Of one that was used twice, the last.
#[derive(Clone, Default)]
pub(crate) struct Person {
    /// The process that it is of.
    pub(crate) tgid: u32,
    /// That one's parent.
    pub(crate) ppid: u32,
    /// By number.
    pub(crate) name: u32,
    /// A thread of the kernel.
    pub(crate) kernel: bool,
    /// Of a process.
    pub(crate) argv: Vec<String>,
}

/// See the module.
#[derive(Default)]
pub(crate) struct People {
    names: Vec<Box<str>>,
    numbers: HashMap<Box<str>, u32>,
    persons: HashMap<u32, Person>,
    /// Tids that came to a CPU or left one.
    switched: HashSet<u32>,
    /// Tids that were created meanwhile.
    created: HashSet<u32>,
}

impl People {
    /// The number of a name; 0: it has none.
    pub(crate) fn number(&mut self, name: &str) -> u32 {
        if name.is_empty() {
            return 0;
        }
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        if self.names.len() >= MOST_NAMES {
            return 0;
        }
        self.names.push(name.into());
        let number = self.names.len() as u32;
        self.numbers.insert(name.into(), number);
        number
    }

    /// The name with this number.
    pub(crate) fn name(&self, number: u32) -> &str {
        let at = (number as usize).checked_sub(1);
        at.and_then(|at| self.names.get(at)).map_or("", |it| it)
    }

    /// What is known of a tid, to be added to.
    pub(crate) fn of(&mut self, tid: u32) -> &mut Person {
        self.persons.entry(tid).or_default()
    }

    /// What is known of a tid.
    pub(crate) fn get(&self, tid: u32) -> Option<&Person> {
        self.persons.get(&tid)
    }

    /// Takes note of who something happened to.
    pub(crate) fn see(&mut self, record: &Record) {
        match record.kind {
            kind::OUT | kind::IN => drop(self.switched.insert(record.tid)),
            kind::NEW => drop(self.created.insert(record.tid)),
            _ => {}
        }
    }

    /// Is it a thread of the kernel?
    pub(crate) fn is_kernel(&self, tid: u32) -> bool {
        let child = |person: &Person| person.kernel || person.ppid == KERNEL;
        tid == KERNEL || self.persons.get(&tid).is_some_and(child)
    }

    /// Is it one of those whose time is told? The kernel's threads and those who only woke
    /// somebody are not.
    pub(crate) fn is_member(&self, tid: u32) -> bool {
        let seen = self.switched.contains(&tid) || self.created.contains(&tid);
        seen && !self.is_kernel(tid)
    }
}
