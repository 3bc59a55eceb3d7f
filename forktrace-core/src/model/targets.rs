//! What tasks waited for: objects with an identity, so that two tasks that wait
//! for the same thing are seen to.

use std::{
    collections::{HashMap, HashSet},
    mem::discriminant,
};

use forktrace_common::layout::{futex, wait, waitv};

use crate::trace::{FOLDERS_UNKNOWN, FileKind, Interest, Named, Object, SharedFutex, WaitFd};

/// What a task waited for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Target {
    /// Not known, or a call that waits for none of the below.
    #[default]
    Unknown,
    /// A descriptor of which nothing else is known.
    Fd(i32),
    /// A file.
    File {
        /// The descriptor.
        fd: i32,
        /// Index in [`super::Model::files`].
        file: u32,
    },
    /// Several descriptors: index in [`super::Model::waitsets`].
    Fds(u32),
    /// A futex.
    Futex(FutexKey),
    /// Any of several futexes, as `futex_waitv` has it.
    AnyFutex {
        /// The first one.
        first: FutexKey,
        /// How many there are.
        count: u32,
    },
    /// A child: the first argument of `wait4`, or both of `waitid`, as
    /// `waitpid(2)` has it: a pid, -1 for any, 0 or less for a group. `None`: given
    /// in another way.
    Child(Option<i64>),
    /// The end of this thread of its own process, by serial: a futex that the kernel clears
    /// and wakes then.
    Thread(u32),
    /// A time.
    Sleep,
    /// A page: the address that the task used.
    PageFault(u64),
    /// What the call was given: index in [`super::Model::given`].
    Given(u32),
}

/// A futex's identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FutexKey {
    /// Of one process.
    Private {
        /// Serial of the process's first task.
        process: u32,
        /// Address.
        address: u64,
    },
    /// In shared memory.
    Shared {
        /// Device of the file that is mapped.
        device: u32,
        /// Its inode.
        inode: u64,
        /// Where in it.
        offset: u64,
    },
    /// Perhaps shared, and it was not found out with whom: taken as its process's
    /// own.
    Unresolved {
        /// Serial of the process's first task.
        process: u32,
        /// Address.
        address: u64,
    },
}

/// A file that tasks waited for. Its identity is all but `kind` and `interests`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// The open file description; see [`Object::file`].
    pub file: u64,
    /// Inode number.
    pub inode: u64,
    /// Device of the file system.
    pub device: u32,
    /// Type and permissions.
    pub mode: u16,
    /// What it is, if that was found out.
    pub kind: Option<FileKind>,
    /// What an epoll instance watched, by time, if it is one.
    pub interests: Vec<Interest>,
}

/// One descriptor of several that are waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waited {
    /// The descriptor, and for what.
    pub fd: WaitFd,
    /// Inode and device of the file that it was a moment later, if it was open.
    pub identity: Option<(u64, u32)>,
    /// What it is, if that was found out.
    pub kind: Option<FileKind>,
    /// It was another file later: which it was in which wait is not known.
    pub reopened: bool,
}

/// Descriptors that a call of select or poll waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waitset {
    /// The descriptors.
    pub fds: Vec<Waited>,
    /// There are more than are here.
    pub cut_off: bool,
}

impl Waitset {
    /// Is there none? Who waits for that sleeps.
    pub fn is_empty(&self) -> bool {
        self.fds.is_empty() && !self.cut_off
    }
}

/// See [`Raw::Futex`]: of `futex_wait` and its like.
const OTHER_COMMAND: u8 = 15;

/// A target as a stretch tells it, before objects are known. Of one task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Raw {
    #[default]
    Unknown,
    Fd {
        fd: i32,
        object: u32,
    },
    Fds(u32),
    Futex {
        address: u64,
        private: bool,
        /// How many are waited for, of which this is the first.
        count: u32,
        /// The command of `futex`; of other calls [`OTHER_COMMAND`].
        command: u8,
    },
    Child(Option<i64>),
    Thread(u32),
    Sleep,
    PageFault(u64),
    Given(u32),
}

impl Raw {
    /// From what a stretch holds. `wait` is the syscall's kind, `None` outside a
    /// syscall.
    pub(super) fn new(wait: Option<u8>, arg0: u64, arg1: u32, object: u32) -> Self {
        /// include/uapi/linux/futex.h, where it is also `FUTEX2_PRIVATE`.
        const FUTEX_PRIVATE_FLAG: u32 = 128;
        const FUTEX_CMD_MASK: u32 = 0x7f;
        let Some(wait) = wait else {
            return match arg0 {
                0 => Self::Unknown,
                address => Self::PageFault(address),
            };
        };
        match wait {
            wait::FD | wait::EPOLL_MS | wait::EPOLL_TIMESPEC => Self::Fd {
                fd: arg0 as i32,
                object,
            },
            wait::POLL | wait::PPOLL | wait::SELECT | wait::PSELECT6 => match object {
                0 => Self::Unknown,
                id => Self::Fds(id),
            },
            wait::FUTEX => Self::Futex {
                address: arg0,
                private: arg1 & FUTEX_PRIVATE_FLAG != 0,
                count: 1,
                command: (futex::op(arg1) & FUTEX_CMD_MASK) as u8,
            },
            wait::FUTEX_WAIT => Self::Futex {
                address: arg0,
                private: arg1 & FUTEX_PRIVATE_FLAG != 0,
                count: 1,
                command: OTHER_COMMAND,
            },
            wait::FUTEX_WAITV if arg0 == 0 => Self::Unknown,
            wait::FUTEX_WAITV => Self::Futex {
                address: arg0,
                private: arg1 & FUTEX_PRIVATE_FLAG != 0,
                count: waitv::futexes(arg1),
                command: OTHER_COMMAND,
            },
            wait::NANOSLEEP | wait::CLOCK_NANOSLEEP => Self::Sleep,
            wait::CHILD => Self::Child(Some(i64::from(arg0 as i32))),
            _ => Self::Unknown,
        }
    }

    /// `waitid` names a child in another way than `wait4`.
    pub(super) fn waitid(arg0: u64, arg1: u32) -> Self {
        match arg0 as u32 {
            0 => Self::Child(Some(-1)),
            1 => Self::Child(Some(i64::from(arg1))),
            2 => Self::Child(Some(-i64::from(arg1))),
            _ => Self::Child(None),
        }
    }
}

/// Collects what is known of targets, in whatever order it comes.
#[derive(Default)]
pub(super) struct Known {
    pub(super) objects: HashMap<u32, Object>,
    pub(super) waitsets: HashMap<u32, crate::trace::Waitset>,
    pub(super) names: HashMap<(u32, i32), Named>,
    /// How manieth name each of them is, from 1.
    order: HashMap<(u32, i32), u64>,
    named: u64,
    /// Descriptors of sets that were several files, one after the other.
    pub(super) reopened: HashSet<(u32, i32)>,
    pub(super) interests: HashMap<u32, Vec<Interest>>,
    /// By process and address.
    pub(super) futexes: Vec<SharedFutex>,
}

impl Known {
    /// Takes notice of a name.
    pub(super) fn name(&mut self, named: Named) {
        let key = (named.id, named.fd);
        let before = self.names.get(&key);
        let another = |before: &Named| {
            let same = (before.inode, before.device) == (named.inode, named.device);
            // Eventfds and the like have one inode.
            !same || discriminant(&before.kind) != discriminant(&named.kind)
        };
        if before.is_some_and(another) {
            self.reopened.insert(key);
        }
        self.named += 1;
        self.order.insert(key, self.named);
        self.names.insert(key, named);
    }
}

/// Makes targets of raw ones, each once.
pub(super) struct Targets {
    known: Known,
    futexes: HashMap<(u32, u64), FutexKey>,
    by_target: HashMap<Target, u32>,
    targets: Vec<Target>,
    /// See [`super::Model::futex_commands`].
    commands: Vec<u16>,
    by_file: HashMap<(u64, u64, u64, u32), u32>,
    files: Vec<File>,
    /// Of each file, how manieth name it has.
    named: HashMap<u32, u64>,
    by_waitset: HashMap<u32, u32>,
    waitsets: Vec<Waitset>,
}

impl Targets {
    /// `process` gives the process of a task.
    pub(super) fn new(mut known: Known, process: impl Fn(u32) -> u32) -> Self {
        let mut futexes = HashMap::new();
        for f in std::mem::take(&mut known.futexes) {
            let process = process(f.serial);
            // Memory that no file backs has its process's own inode: 0.
            let key = if f.inode == 0 {
                FutexKey::Private {
                    process,
                    address: f.address,
                }
            } else {
                FutexKey::Shared {
                    device: f.device,
                    inode: f.inode,
                    offset: f.offset,
                }
            };
            let address = f.address;
            // Another program, or another mapping: which it was when is not known.
            let contradiction = FutexKey::Unresolved { process, address };
            futexes
                .entry((process, address))
                .and_modify(|known| {
                    if *known != key {
                        *known = contradiction;
                    }
                })
                .or_insert(key);
        }
        Self {
            futexes,
            known,
            by_target: HashMap::from([(Target::Unknown, 0)]),
            targets: vec![Target::Unknown],
            commands: vec![0],
            by_file: HashMap::new(),
            files: Vec::new(),
            named: HashMap::new(),
            by_waitset: HashMap::new(),
            waitsets: Vec::new(),
        }
    }

    /// The index of the target that a task of this process waited for.
    pub(super) fn index(&mut self, raw: Raw, process: u32) -> u32 {
        let index = self.index_of(raw, process);
        if let Raw::Futex { command, .. } = raw {
            self.commands[index as usize] |= 1 << (command & 15);
        }
        index
    }

    fn index_of(&mut self, raw: Raw, process: u32) -> u32 {
        let target = match raw {
            Raw::Unknown => return 0,
            Raw::Fd { fd, object } => match self.file(object) {
                Some(file) => Target::File { fd, file },
                None => Target::Fd(fd),
            },
            Raw::Fds(id) => match self.waitset(id) {
                Some(set) => Target::Fds(set),
                None => return 0,
            },
            Raw::Futex {
                address,
                private,
                count,
                ..
            } => {
                let first = if private {
                    FutexKey::Private { process, address }
                } else {
                    let unresolved = FutexKey::Unresolved { process, address };
                    *self.futexes.get(&(process, address)).unwrap_or(&unresolved)
                };
                match count {
                    1 => Target::Futex(first),
                    count => Target::AnyFutex { first, count },
                }
            }
            Raw::Child(pid) => Target::Child(pid),
            Raw::Thread(serial) => Target::Thread(serial),
            Raw::Sleep => Target::Sleep,
            Raw::PageFault(address) => Target::PageFault(address),
            Raw::Given(at) => Target::Given(at),
        };
        if let Some(index) = self.by_target.get(&target) {
            return *index;
        }
        let index = self.targets.len() as u32;
        self.targets.push(target.clone());
        self.commands.push(0);
        self.by_target.insert(target, index);
        index
    }

    /// Is it a futex that the call did not say to be its process's own, and that no other
    /// process was seen to share?
    pub(super) fn is_perhaps_shared(&self, target: u32) -> bool {
        match self.targets.get(target as usize) {
            Some(Target::Futex(FutexKey::Unresolved { .. })) => true,
            Some(Target::Futex(FutexKey::Private { process, address })) => {
                self.futexes.contains_key(&(*process, *address))
            }
            _ => false,
        }
    }

    fn file(&mut self, id: u32) -> Option<u32> {
        let object = self.known.objects.get(&id)?;
        // An address is used again, and all eventfds, timerfds and the like have one
        // inode.
        let key = (object.file, object.operations, object.inode, object.device);
        let index = *self.by_file.entry(key).or_insert_with(|| {
            self.files.push(File {
                file: object.file,
                inode: object.inode,
                device: object.device,
                mode: object.mode,
                kind: None,
                interests: Vec::new(),
            });
            self.files.len() as u32 - 1
        });
        let file = &mut self.files[index as usize];
        // The last name that it had.
        let key = (id, object.fd);
        let order = self.known.order.get(&key).copied().unwrap_or(0);
        let last = self.named.entry(index).or_default();
        if order > *last {
            *last = order;
            let named = self.known.names.get(&key);
            let kind = named.map(|n| n.kind.clone());
            if !is_end_of(kind.as_ref(), file.kind.as_ref()) {
                file.kind = kind;
            }
        }
        // Several objects can be one file: it is read under the number of one.
        if let Some(interests) = self.known.interests.remove(&id) {
            file.interests.extend(interests);
            file.interests.sort_by_key(|i| i.at_ns);
        }
        Some(index)
    }

    fn waitset(&mut self, id: u32) -> Option<u32> {
        if let Some(index) = self.by_waitset.get(&id) {
            return Some(*index);
        }
        let set = self.known.waitsets.get(&id)?;
        let fds = set.fds.iter().map(|fd| {
            let reopened = self.known.reopened.contains(&(id, fd.fd));
            let named = self.known.names.get(&(id, fd.fd)).filter(|_| !reopened);
            Waited {
                fd: *fd,
                reopened,
                identity: named.map(|n| (n.inode, n.device)),
                kind: named.map(|n| n.kind.clone()),
            }
        });
        self.waitsets.push(Waitset {
            fds: fds.collect(),
            cut_off: set.cut_off,
        });
        let index = self.waitsets.len() as u32 - 1;
        self.by_waitset.insert(id, index);
        Some(index)
    }

    /// The one with this index.
    pub(super) fn get(&self, target: u32) -> Option<&Target> {
        self.targets.get(target as usize)
    }

    /// See [`super::Futexes::commands`].
    pub(super) fn take_commands(&mut self) -> Vec<u16> {
        std::mem::take(&mut self.commands)
    }

    /// Targets, files and waitsets.
    pub(super) fn finish(self) -> (Vec<Target>, Vec<File>, Vec<Waitset>) {
        (self.targets, self.files, self.waitsets)
    }
}

/// Is the one a path without its folders, and the other all of it?
fn is_end_of(end: Option<&FileKind>, path: Option<&FileKind>) -> bool {
    let (Some(FileKind::File(end)), Some(FileKind::File(path))) = (end, path) else {
        return false;
    };
    let Some(end) = end.strip_prefix(FOLDERS_UNKNOWN) else {
        return false;
    };
    let name = path.rsplit('/').next().unwrap_or_default();
    match end.strip_suffix('…') {
        Some(cut_off) => name.starts_with(cut_off),
        None => name == end || name.strip_suffix(" (deleted)") == Some(end),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::LastName;

    #[test]
    fn folders_that_are_known_are_kept() {
        let file = |path: &str| Some(FileKind::File(path.to_owned()));
        let is_end = |end: &str, path: &str| is_end_of(file(end).as_ref(), file(path).as_ref());
        assert!(is_end("…/a.db", "/srv/a.db"));
        assert!(is_end("…/a.db", "/srv/a.db (deleted)"));
        assert!(is_end("…/a-very-long…", "/srv/a-very-long-name"));
        // Renamed since.
        assert!(!is_end("…/b.db", "/srv/a.db"));
        assert!(!is_end("/srv/a.db", "…/a.db"));
    }

    fn object(id: u32, operations: u64) -> Object {
        Object {
            id,
            serial: 1,
            fd: 3,
            at_ns: 0,
            file: 0xabc0,
            operations,
            inode: 18,
            device: 16,
            mode: 0o600,
            last_name: LastName::default(),
        }
    }

    fn of_fd(object: u32) -> Raw {
        Raw::Fd { fd: 3, object }
    }

    #[test]
    fn an_address_that_is_used_again_for_another_kind_is_another_file() {
        let mut known = Known::default();
        for (id, operations) in [(1, 0x10), (2, 0x20), (3, 0x10)] {
            known.objects.insert(id, object(id, operations));
        }
        let mut targets = Targets::new(known, |serial| serial);
        let [one, two, again] = [1, 2, 3].map(|id| targets.index(of_fd(id), 1));
        assert_ne!(one, two);
        assert_eq!(one, again);
        assert_eq!(targets.finish().1.len(), 2);
    }

    #[test]
    fn a_file_that_was_renamed_has_its_last_name() {
        let named = |id, path: &str| Named {
            id,
            fd: 3,
            inode: 18,
            device: 16,
            kind: FileKind::File(path.to_owned()),
        };
        for order in [[1, 2], [2, 1]] {
            let mut known = Known::default();
            for id in [1, 2] {
                known.objects.insert(id, object(id, 0x10));
            }
            known.name(named(1, "/old"));
            known.name(named(2, "/new"));
            let mut targets = Targets::new(known, |serial| serial);
            for id in order {
                targets.index(of_fd(id), 1);
            }
            let kind = targets.finish().1.remove(0).kind;
            assert_eq!(kind, Some(FileKind::File("/new".to_owned())), "{order:?}");
        }
    }

    #[test]
    fn an_epoll_instance_has_all_readings_of_its_interest_list_in_order() {
        let mut known = Known::default();
        for id in [1, 2] {
            known.objects.insert(id, object(id, 0x10));
        }
        let reading = |id, at_ns| Interest {
            id,
            at_ns,
            fds: Vec::new(),
            cut_off: false,
        };
        known
            .interests
            .insert(1, vec![reading(1, 10), reading(1, 30)]);
        known.interests.insert(2, vec![reading(2, 20)]);
        let mut targets = Targets::new(known, |serial| serial);
        for id in [1, 2, 1] {
            targets.index(of_fd(id), 1);
        }
        let (_, files, _) = targets.finish();
        let times: Vec<u64> = files[0].interests.iter().map(|i| i.at_ns).collect();
        assert_eq!((files.len(), times), (1, vec![10, 20, 30]));
    }

    #[test]
    fn a_number_of_a_set_that_was_two_files_is_neither() {
        let named = |fd, inode, kind| Named {
            id: 1,
            fd,
            inode,
            device: 13,
            kind,
        };
        let socket = |peer| FileKind::UnixSocket {
            path: None,
            peer,
            listening: false,
        };
        let mut known = Known::default();
        let wait = |fd| WaitFd { fd, events: 1 };
        let waitset = crate::trace::Waitset {
            id: 1,
            serial: 1,
            at_ns: 0,
            fds: vec![wait(3), wait(4), wait(5)],
            cut_off: false,
        };
        known.waitsets.insert(1, waitset);
        for name in [
            named(3, 70, FileKind::Pipe),
            named(4, 80, socket(None)),
            named(5, 18, FileKind::EventFd),
            named(3, 71, FileKind::Pipe),
            // It was connected.
            named(4, 80, socket(Some(81))),
            named(5, 18, FileKind::TimerFd),
        ] {
            known.name(name);
        }
        let mut targets = Targets::new(known, |serial| serial);
        targets.index(Raw::Fds(1), 1);
        let (_, _, sets) = targets.finish();
        let fds = sets[0].fds.iter();
        let found: Vec<_> = fds
            .map(|w| (w.reopened, w.identity, w.kind.clone()))
            .collect();
        let expected = [
            (true, None, None),
            (false, Some((80, 13)), Some(socket(Some(81)))),
            (true, None, None),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_futex_that_was_found_in_two_places_is_in_neither() {
        let place = |serial, address, inode, offset| SharedFutex {
            serial,
            address,
            device: 1,
            inode,
            offset,
            path: String::new(),
        };
        let known = Known {
            futexes: vec![
                // Two threads of a process, and another that has it elsewhere.
                place(1, 0x1000, 5, 8),
                place(2, 0x1000, 5, 8),
                place(9, 0x7000, 5, 8),
                // Before and after an exec.
                place(1, 0x2000, 5, 16),
                place(1, 0x2000, 6, 16),
                // In no file.
                place(1, 0x3000, 0, 0),
            ],
            ..Known::default()
        };
        let mut targets = Targets::new(known, |serial| if serial == 2 { 1 } else { serial });
        let mut key = |process, address| {
            let raw = Raw::Futex {
                address,
                private: false,
                count: 1,
                command: 0,
            };
            let index = targets.index(raw, process);
            targets.targets[index as usize].clone()
        };
        let shared = Target::Futex(FutexKey::Shared {
            device: 1,
            inode: 5,
            offset: 8,
        });
        assert_eq!(key(1, 0x1000), shared);
        assert_eq!(key(9, 0x7000), shared);
        let (process, address) = (1, 0x2000);
        assert_eq!(
            key(1, 0x2000),
            Target::Futex(FutexKey::Unresolved { process, address })
        );
        let address = 0x3000;
        assert_eq!(
            key(1, 0x3000),
            Target::Futex(FutexKey::Private { process, address })
        );
    }
}
