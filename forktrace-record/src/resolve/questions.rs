//! What the recorder asks the helper for, and what it makes of the answers.

use nix::sys::stat::SFlag;

use super::{
    Epoll, INTEREST_AGE_NS, INTEREST_COSTS, Job, MOST_KNOWN, MOST_WAITING, NAME_AGE_NS, NamedFile,
    Resolver, epoll,
    fds::{self, Identity, Nameless},
    futex::Place,
    looker::{Answer, Question, What},
};
use crate::trace::{
    Argv, Cgroup, Event, FileKind, Interest, LockName, Named, Object, SharedFutex, Watched,
};

/// What a question was about.
pub(super) struct Asked {
    about: About,
    /// Whose memory and files, if it was about a process.
    memory: Option<(u32, u32)>,
}

enum About {
    Object(Object),
    /// By its number.
    Again(u32),
    /// By its number.
    Waitset(u32),
    /// By the open file description, and when it was asked.
    Interest(u64, u64),
    Futex {
        serial: u32,
        address: u64,
    },
    /// The task, and where the lock is.
    LockName(u32, u64),
    Cgroups,
    /// Of the process with this first task, and when it was asked.
    CgroupOf(u32, u64),
    Operations,
    Argv(u32, u64),
}

impl Resolver {
    pub(super) fn ask(&mut self, job: Job, now_ns: u64, sink: &mut impl FnMut(Event)) {
        match job {
            Job::Object(object) => self.ask_for_object(object, sink),
            Job::Again(id) => self.ask_again(id),
            Job::Waitset(id) => self.ask_for_set(id),
            Job::Interest(file) => self.ask_for_interest(file, now_ns),
            Job::Futex { serial, address } => {
                self.counts.done += 1;
                let Some(who) = self.tasks.who(serial) else {
                    self.counts.gone += 1;
                    return;
                };
                let about = About::Futex { serial, address };
                let memory = who.memory;
                self.send(about, Some(memory), What::Futex(who, address));
            }
            Job::LockName(serial, address) => self.ask_for_lock_name(serial, address),
            Job::Cgroup(serial) => {
                if let Some(who) = self.tasks.who(serial) {
                    let memory = who.memory;
                    let about = About::CgroupOf(memory.0, now_ns);
                    self.send(about, Some(memory), What::CgroupOf(who));
                }
            }
            Job::Argv(serial, at_ns) => {
                if let Some(who) = self.tasks.who(serial) {
                    let memory = who.memory;
                    self.send(About::Argv(serial, at_ns), Some(memory), What::Argv(who));
                }
            }
            Job::OwnCgroups => self.send(About::Cgroups, None, What::OwnCgroups),
            Job::Cgroups => {
                let names = self.cgroups.names();
                self.send(About::Cgroups, None, What::CgroupsAgain(names));
            }
            Job::Operations => self.send(About::Operations, None, What::Operations),
        }
    }

    fn send(&mut self, about: About, memory: Option<(u32, u32)>, what: What) {
        let asked = Asked { about, memory };
        let is_avoided = memory.is_some_and(|memory| self.avoided.contains(&memory));
        if is_avoided || !self.helper.is_open() {
            self.not_looked_up(asked);
            return;
        }
        let round = self.round;
        self.helper.ask(asked, &Question { round, what });
    }

    /// The helper hung over this, or died of it.
    pub(super) fn lost(&mut self, asked: Asked) {
        self.avoided.extend(asked.memory);
        self.not_looked_up(asked);
    }

    fn not_looked_up(&mut self, asked: Asked) {
        match asked.about {
            About::Object(object) => {
                self.counts.done -= 1;
                self.keep_nameless(&object);
            }
            About::Waitset(id) => {
                // Nothing is known of it, so nothing can be said of it later.
                self.sets.remove(&id);
            }
            About::Futex { .. } => self.counts.done -= 1,
            About::Interest(..) => {}
            About::Again(id) => {
                self.named_files.remove(&id);
                return;
            }
            // What has no name is shown by its address.
            About::LockName(..)
            | About::Cgroups
            | About::CgroupOf(..)
            | About::Operations
            | About::Argv(..) => return,
        }
        self.counts.not_looked_up += 1;
    }

    pub(super) fn answered(
        &mut self,
        asked: Asked,
        answer: Answer,
        cpu_ns: u64,
        sink: &mut impl FnMut(Event),
    ) {
        match (asked.about, answer) {
            (About::Object(object), Answer::Files(mut found)) if found.len() == 1 => {
                let found = found.remove(0);
                self.object(&object, found, sink);
            }
            (About::Again(id), Answer::Files(mut found)) if found.len() == 1 => {
                self.named_again(id, found.remove(0), sink);
            }
            (About::Again(id), _) => drop(self.named_files.remove(&id)),
            (About::Object(object), _) => self.object(&object, Err(Nameless::Gone), sink),
            (About::Waitset(id), Answer::Files(found)) => self.set(id, found, sink),
            (About::Waitset(id), _) => self.set_gone(id),
            (About::Interest(file, at_ns), Answer::Interest(fds, count)) => {
                self.interest(file, at_ns, (fds, count), cpu_ns, sink);
            }
            (About::Interest(..), _) => {}
            (About::Futex { serial, address }, Answer::Futex(Some(place))) => {
                sink(shared_futex(serial, address, place));
            }
            (About::Futex { .. }, Answer::Futex(None)) => self.counts.changed += 1,
            (About::Futex { .. }, _) => self.counts.gone += 1,
            (About::LockName(serial, address), Answer::Variable(Some((name, module)))) => {
                sink(Event::LockName(LockName {
                    serial,
                    address,
                    name,
                    module,
                }));
            }
            (About::Cgroups, Answer::Cgroups(states)) => self.cgroups.see(states),
            (About::CgroupOf(process, at_ns), Answer::InCgroup(path, states)) => {
                self.cgroups.see(states);
                if self.tasks.comes_to(process, &path, &self.cgroup_of_all) {
                    let serial = process;
                    sink(Event::Cgroup(Cgroup {
                        serial,
                        at_ns,
                        path,
                    }));
                }
            }
            (About::Operations, Answer::Operations(found)) => {
                for (address, kind) in found {
                    self.by_operations.entry(address).or_insert(Some(kind));
                }
            }
            (About::Argv(serial, at_ns), Answer::Argv(argv)) if !argv.is_empty() => {
                sink(Event::Argv(Argv {
                    serial,
                    at_ns,
                    argv,
                }));
            }
            (
                About::LockName(..)
                | About::Cgroups
                | About::CgroupOf(..)
                | About::Operations
                | About::Argv(..),
                _,
            ) => {}
        }
    }

    /// Of each lock of a program once, whichever of its tasks waited.
    fn ask_for_lock_name(&mut self, serial: u32, address: u64) {
        let Some(who) = self.tasks.who(serial) else {
            return;
        };
        let memory = who.memory;
        if self.named_locks.len() >= MOST_KNOWN {
            self.named_locks.clear();
        }
        if self.named_locks.insert((memory, address)) {
            let about = About::LockName(serial, address);
            self.send(about, Some(memory), What::Variable(who, address));
        }
    }

    fn ask_for_object(&mut self, object: Object, sink: &mut impl FnMut(Event)) {
        // All there is to say of a pipe is already known.
        let file_type = u32::from(object.mode) & SFlag::S_IFMT.bits();
        if file_type == SFlag::S_IFIFO.bits() && Some(object.device) == self.pipe_device {
            sink(named(&object, FileKind::Pipe));
            return;
        }
        self.counts.done += 1;
        let Some(who) = self.tasks.who(object.serial) else {
            self.counts.gone += 1;
            self.nameless(&object, sink);
            return;
        };
        let expected = Identity {
            inode: object.inode,
            device: object.device,
        };
        let memory = who.memory;
        let what = What::File(who, object.fd, expected);
        self.send(About::Object(object), Some(memory), what);
    }

    fn object(
        &mut self,
        object: &Object,
        found: Result<(Identity, FileKind), Nameless>,
        sink: &mut impl FnMut(Event),
    ) {
        match found {
            Ok((_, kind)) if self.agrees(object.operations, &kind) => {
                if kind == FileKind::Epoll {
                    self.add_epoll(object);
                }
                if let FileKind::File(_) = &kind {
                    self.add_named(object, kind.clone());
                }
                sink(named(object, kind));
            }
            Err(Nameless::Gone) => {
                self.counts.gone += 1;
                self.nameless(object, sink);
            }
            Ok(_) | Err(Nameless::Changed) => {
                self.counts.changed += 1;
                self.nameless(object, sink);
            }
        }
    }

    fn add_named(&mut self, object: &Object, kind: FileKind) {
        if self.named_files.len() >= MOST_KNOWN {
            self.named_files.clear();
        }
        let file = NamedFile {
            object: *object,
            kind,
            waited: false,
        };
        self.named_files.insert(object.id, file);
    }

    /// The files whose names have grown old and that are waited for.
    pub(super) fn add_old_names(&mut self, now_ns: u64) {
        if now_ns.saturating_sub(self.names_read_ns) < NAME_AGE_NS {
            return;
        }
        self.names_read_ns = now_ns;
        for (id, file) in &mut self.named_files {
            if std::mem::take(&mut file.waited) && self.jobs.len() < MOST_WAITING / 2 {
                self.jobs.push_back(Job::Again(*id));
            }
        }
    }

    fn ask_again(&mut self, id: u32) {
        let Some(file) = self.named_files.get(&id) else {
            return;
        };
        let fd = file.object.fd;
        let expected = Identity {
            inode: file.object.inode,
            device: file.object.device,
        };
        match self.tasks.who(file.object.serial) {
            Some(who) => {
                let memory = who.memory;
                self.send(
                    About::Again(id),
                    Some(memory),
                    What::File(who, fd, expected),
                );
            }
            None => drop(self.named_files.remove(&id)),
        }
    }

    /// It may have another name by now; one that is closed keeps what it had.
    fn named_again(
        &mut self,
        id: u32,
        found: Result<(Identity, FileKind), Nameless>,
        sink: &mut impl FnMut(Event),
    ) {
        match (self.named_files.get_mut(&id), found) {
            (Some(file), Ok((_, kind))) => {
                if file.kind != kind {
                    file.kind = kind.clone();
                    sink(named(&file.object, kind));
                }
            }
            (_, Err(_)) => drop(self.named_files.remove(&id)),
            (None, _) => {}
        }
    }

    /// Many kinds of files share one inode: those are told apart by the address
    /// of their operations, which must not mean two things.
    fn agrees(&mut self, operations: u64, kind: &FileKind) -> bool {
        let known = self.by_operations.get(&operations);
        if !fds::is_told_by_operations(kind) {
            return !matches!(known, Some(Some(_)));
        }
        match known {
            None => {
                self.by_operations.insert(operations, Some(kind.clone()));
                true
            }
            Some(Some(known)) if known == kind => true,
            Some(_) => {
                self.by_operations.insert(operations, None);
                false
            }
        }
    }

    pub(super) fn keep_nameless(&mut self, object: &Object) {
        if self.nameless.len() < MOST_WAITING {
            self.nameless.push(*object);
        }
    }

    /// It was gone: the end of its path, which the kernel program saw, or what comes up later.
    fn nameless(&mut self, object: &Object, sink: &mut impl FnMut(Event)) {
        match by_end(object) {
            Some(kind) => sink(named(object, kind)),
            None => self.keep_nameless(object),
        }
    }

    /// Names the files by that which nobody came to look at.
    pub(super) fn name_by_end(&mut self, sink: &mut impl FnMut(Event)) {
        self.nameless.retain(|object| {
            let Some(kind) = by_end(object) else {
                return true;
            };
            sink(named(object, kind));
            false
        });
    }

    /// Is there a file without a name that the kernel's names of operations could tell?
    pub(super) fn misses_operations(&self) -> bool {
        let unknown = |o: &Object| {
            u32::from(o.mode) & SFlag::S_IFMT.bits() == 0
                && !self.by_operations.contains_key(&o.operations)
        };
        self.nameless.iter().any(unknown)
    }

    /// Names the files that were gone by what others with the same operations
    /// turned out to be, or by the kernel's own list of names.
    pub(super) fn name_by_operations(&mut self, sink: &mut impl FnMut(Event)) {
        for object in &self.nameless {
            if let Some(Some(kind)) = self.by_operations.get(&object.operations) {
                sink(named(object, kind.clone()));
            }
        }
    }

    fn ask_for_set(&mut self, id: u32) {
        let Some(set) = self.sets.get(&id) else {
            return;
        };
        let fds = set.waitset.fds.iter().map(|wait| wait.fd).collect();
        let Some(who) = self.tasks.who(set.waitset.serial) else {
            self.set_gone(id);
            return;
        };
        let memory = who.memory;
        self.send(About::Waitset(id), Some(memory), What::Files(who, fds));
    }

    fn set_gone(&mut self, id: u32) {
        if let Some(set) = self.sets.remove(&id)
            && set.looked_ns == 0
        {
            let fds = set.waitset.fds.len() as u64;
            self.counts.done += fds;
            self.counts.gone += fds;
        }
    }

    /// Names what is new in a set.
    fn set(
        &mut self,
        id: u32,
        found: Vec<Result<(Identity, FileKind), Nameless>>,
        sink: &mut impl FnMut(Event),
    ) {
        let Some(set) = self.sets.get_mut(&id) else {
            return;
        };
        let first = set.looked_ns == 0;
        self.counts.done += if first {
            set.waitset.fds.len() as u64
        } else {
            0
        };
        for (wait, found) in set.waitset.fds.iter().zip(found) {
            match found {
                // What was closed at first is another file now, and not what it was.
                Ok(found) => {
                    let before = set.files.get(&wait.fd);
                    if first || before.is_some_and(|before| *before != found) {
                        let (identity, kind) = found.clone();
                        sink(Event::Named(Named {
                            id,
                            fd: wait.fd,
                            inode: identity.inode,
                            device: identity.device,
                            kind,
                        }));
                        set.files.insert(wait.fd, found);
                    }
                }
                // It had a name.
                Err(_) if !first => {}
                Err(Nameless::Gone) => self.counts.gone += 1,
                Err(Nameless::Changed) => self.counts.changed += 1,
            }
        }
        (set.looked_ns, set.waited) = (self.last_ns.max(1), false);
    }

    /// The sets that have grown old and are waited on.
    pub(super) fn add_old_sets(&mut self, now_ns: u64) {
        for (id, set) in &mut self.sets {
            let is_old = now_ns.saturating_sub(set.looked_ns) > INTEREST_AGE_NS;
            if set.waited && set.looked_ns > 0 && is_old {
                set.waited = false;
                self.jobs.push_back(Job::Waitset(*id));
            }
        }
    }

    fn add_epoll(&mut self, object: &Object) {
        let epoll = self.epolls.entry(object.file).or_insert(Epoll {
            id: 0,
            serial: 0,
            fd: 0,
            identity: Identity {
                inode: object.inode,
                device: object.device,
            },
            last: None,
            read_ns: 0,
            cost_ns: 0,
            waited: true,
        });
        epoll.id = object.id;
        epoll.serial = object.serial;
        epoll.fd = object.fd;
        self.epoll_of.insert(object.id, object.file);
        if epoll.last.is_none() {
            self.jobs.push_front(Job::Interest(object.file));
        }
    }

    /// The interest lists that have grown old and are waited on.
    pub(super) fn add_old_interests(&mut self, now_ns: u64) {
        let is_old = |epoll: &Epoll| {
            let age_ns = INTEREST_AGE_NS.max(epoll.cost_ns.saturating_mul(INTEREST_COSTS));
            epoll.waited && now_ns.saturating_sub(epoll.read_ns) > age_ns
        };
        let old = self.epolls.iter().filter(|(_, epoll)| is_old(epoll));
        let old = old.map(|(file, _)| Job::Interest(*file));
        self.jobs.extend(old);
    }

    fn ask_for_interest(&mut self, file: u64, now_ns: u64) {
        let Some(epoll) = self.epolls.get_mut(&file) else {
            return;
        };
        epoll.waited = false;
        epoll.read_ns = now_ns;
        let (fd, identity) = (epoll.fd, epoll.identity);
        let Some(who) = self.tasks.who(epoll.serial) else {
            return;
        };
        let memory = who.memory;
        let about = About::Interest(file, now_ns);
        self.send(about, Some(memory), What::Interest(who, fd, identity));
    }

    fn interest(
        &mut self,
        file: u64,
        at_ns: u64,
        (fds, count): (Vec<Watched>, u64),
        cpu_ns: u64,
        sink: &mut impl FnMut(Event),
    ) {
        let Some(epoll) = self.epolls.get_mut(&file) else {
            return;
        };
        epoll.cost_ns = cpu_ns;
        let interest = Interest {
            id: epoll.id,
            at_ns,
            fds,
            cut_off: count > epoll::MOST as u64,
        };
        let same = |last: &Interest| {
            last.id == interest.id && last.fds == interest.fds && last.cut_off == interest.cut_off
        };
        if !epoll.last.as_ref().is_some_and(same) {
            sink(Event::Interest(interest.clone()));
        }
        epoll.last = Some(interest);
    }
}

/// What a file is by the end of its path, if it has one.
fn by_end(object: &Object) -> Option<FileKind> {
    let path = object.last_name.path()?;
    match u32::from(object.mode) & SFlag::S_IFMT.bits() {
        // `[eventfd]` and the like can be files here, too.
        file if file == SFlag::S_IFREG.bits() && !path.ends_with(']') => Some(FileKind::File(path)),
        folder if folder == SFlag::S_IFDIR.bits() => Some(FileKind::Directory(path)),
        fifo if fifo == SFlag::S_IFIFO.bits() => Some(FileKind::Fifo(path)),
        _ => None,
    }
}

fn named(object: &Object, kind: FileKind) -> Event {
    Event::Named(Named {
        id: object.id,
        fd: object.fd,
        inode: object.inode,
        device: object.device,
        kind,
    })
}

fn shared_futex(serial: u32, address: u64, place: Place) -> Event {
    let (device, inode, offset, path) = match place {
        Place::Private => (0, 0, 0, String::new()),
        Place::Shared {
            device,
            inode,
            offset,
            path,
        } => (device, inode, offset, path),
    };
    Event::SharedFutex(SharedFutex {
        serial,
        address,
        device,
        inode,
        offset,
        path,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::LastName;

    #[test]
    fn what_is_gone_is_named_by_the_end_of_its_path() {
        let kind = |mode: u16, name: &str| {
            let mut last_name = LastName::default();
            last_name.0[..name.len()].copy_from_slice(name.as_bytes());
            by_end(&Object {
                id: 1,
                serial: 1,
                fd: 3,
                at_ns: 1,
                file: 1,
                operations: 1,
                inode: 1,
                device: 1,
                mode,
                last_name,
            })
        };
        let path = || "…/a".to_owned();
        assert_eq!(kind(0o100_644, "a"), Some(FileKind::File(path())));
        assert_eq!(kind(0o040_755, "a"), Some(FileKind::Directory(path())));
        assert_eq!(kind(0o010_600, "a"), Some(FileKind::Fifo(path())));
        assert_eq!(kind(0o100_644, "[eventfd]"), None);
        assert_eq!(kind(0o140_777, "a"), None, "a socket");
        assert_eq!(kind(0o100_644, ""), None);
    }
}
