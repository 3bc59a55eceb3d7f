//! The look-ups themselves.

use std::collections::HashMap;

use nix::sys::stat::SFlag;

use super::{
    Epoll, Folders, INTEREST_AGE_NS, INTEREST_COSTS, Job, MOST_KNOWN, MOST_WAITING, Resolver, Set,
    epoll,
    fds::{self, Identity, Nameless},
    folder,
    futex::Place,
    thread_cpu_ns,
};
use crate::{
    kernel::symbols,
    trace::{Event, FileKind, Interest, Named, Object, SharedFutex, Watched},
};

impl Resolver {
    pub(super) fn run(
        &mut self,
        job: Job,
        now_ns: u64,
        folders: &mut Folders,
        sink: &mut impl FnMut(Event),
    ) {
        match job {
            Job::Object(object) => self.object(&object, folders, sink),
            Job::Waitset(waitset) => {
                let set = Set {
                    waitset,
                    files: HashMap::new(),
                    looked_ns: 0,
                    waited: false,
                };
                self.set(set, now_ns, folders, sink);
            }
            Job::WaitsetAgain(id) => {
                if let Some(set) = self.sets.remove(&id) {
                    self.set(set, now_ns, folders, sink);
                }
            }
            Job::Interest(file) => self.interest(file, now_ns, folders, sink),
            Job::Futex { serial, address } => self.futex(serial, address, folders, sink),
            Job::Cgroup(serial) => {
                if let Some(folder) = folder(folders, &self.tasks, serial)
                    && let Ok(cgroup) = folder.read("cgroup")
                {
                    self.cgroups.add(&cgroup);
                }
            }
        }
    }

    fn object(&mut self, object: &Object, folders: &mut Folders, sink: &mut impl FnMut(Event)) {
        let named = |kind| {
            Event::Named(Named {
                id: object.id,
                fd: object.fd,
                inode: object.inode,
                device: object.device,
                kind,
            })
        };
        // All there is to say of a pipe is already known.
        let file_type = u32::from(object.mode) & SFlag::S_IFMT.bits();
        if file_type == SFlag::S_IFIFO.bits() && Some(object.device) == self.pipe_device {
            sink(named(FileKind::Pipe));
            return;
        }
        self.counts.done += 1;
        let expected = Identity {
            inode: object.inode,
            device: object.device,
        };
        let Some(folder) = folder(folders, &self.tasks, object.serial) else {
            self.counts.gone += 1;
            self.keep_nameless(object);
            return;
        };
        match fds::look_up(folder, object.fd, Some(expected), &mut self.sockets) {
            Ok((_, kind)) if self.agrees(object.operations, &kind) => {
                if kind == FileKind::Epoll {
                    self.add_epoll(object);
                }
                sink(named(kind));
            }
            Err(Nameless::Gone) => {
                self.counts.gone += 1;
                self.keep_nameless(object);
            }
            Ok(_) | Err(Nameless::Changed) => {
                self.counts.changed += 1;
                self.keep_nameless(object);
            }
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

    fn keep_nameless(&mut self, object: &Object) {
        if self.nameless.len() < MOST_WAITING {
            self.nameless.push(*object);
        }
    }

    /// Names the files that were gone by what others with the same operations
    /// turned out to be, or by the kernel's own list of names.
    pub(super) fn name_by_operations(&mut self, sink: &mut impl FnMut(Event)) {
        let unknown = |by: &HashMap<_, _>, o: &Object| {
            u32::from(o.mode) & SFlag::S_IFMT.bits() == 0 && !by.contains_key(&o.operations)
        };
        if self
            .nameless
            .iter()
            .any(|o| unknown(&self.by_operations, o))
        {
            for (address, name) in symbols::addresses(|name| fds::by_symbol(name).is_some()) {
                let kind = fds::by_symbol(&name);
                self.by_operations.entry(address).or_insert(kind);
            }
        }
        for object in &self.nameless {
            if let Some(Some(kind)) = self.by_operations.get(&object.operations) {
                sink(Event::Named(Named {
                    id: object.id,
                    fd: object.fd,
                    inode: object.inode,
                    device: object.device,
                    kind: kind.clone(),
                }));
            }
        }
    }

    /// Names what is new in a set, and keeps it for another look.
    fn set(
        &mut self,
        mut set: Set,
        now_ns: u64,
        folders: &mut Folders,
        sink: &mut impl FnMut(Event),
    ) {
        let first = set.looked_ns == 0;
        let fds = set.waitset.fds.len() as u64;
        let Some(folder) = folder(folders, &self.tasks, set.waitset.serial) else {
            if first {
                self.counts.done += fds;
                self.counts.gone += fds;
            }
            return;
        };
        self.counts.done += if first { fds } else { 0 };
        for wait in &set.waitset.fds {
            match fds::look_up(folder, wait.fd, None, &mut self.sockets) {
                // What was closed at first is another file now, and not what it was.
                Ok(found) => {
                    let before = set.files.get(&wait.fd);
                    if first || before.is_some_and(|before| *before != found) {
                        let (identity, kind) = found.clone();
                        sink(Event::Named(Named {
                            id: set.waitset.id,
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
        (set.looked_ns, set.waited) = (now_ns, false);
        if self.sets.len() >= MOST_KNOWN {
            self.sets.clear();
        }
        self.sets.insert(set.waitset.id, set);
    }

    /// The sets that have grown old and are waited on.
    pub(super) fn add_old_sets(&mut self, now_ns: u64) {
        for (id, set) in &mut self.sets {
            if set.waited && now_ns.saturating_sub(set.looked_ns) > INTEREST_AGE_NS {
                set.waited = false;
                self.jobs.push_back(Job::WaitsetAgain(*id));
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

    fn interest(
        &mut self,
        file: u64,
        now_ns: u64,
        folders: &mut Folders,
        sink: &mut impl FnMut(Event),
    ) {
        let Some(epoll) = self.epolls.get_mut(&file) else {
            return;
        };
        epoll.waited = false;
        epoll.read_ns = now_ns;
        let Some(folder) = folder(folders, &self.tasks, epoll.serial) else {
            return;
        };
        let before_ns = thread_cpu_ns();
        // The descriptor can be another file by now.
        let found = fds::look_up(folder, epoll.fd, Some(epoll.identity), &mut self.sockets);
        if !matches!(found, Ok((_, FileKind::Epoll))) {
            return;
        }
        let Some((fds, count)) = epoll::read(folder, epoll.fd) else {
            return;
        };
        epoll.cost_ns = thread_cpu_ns().saturating_sub(before_ns);
        let watched = fds.into_iter().map(|(fd, identity)| {
            let found = fds::look_up(folder, fd.fd, Some(identity), &mut self.sockets);
            Watched {
                fd,
                inode: identity.inode,
                device: identity.device,
                kind: found.ok().map(|(_, kind)| kind),
            }
        });
        let interest = Interest {
            id: epoll.id,
            at_ns: now_ns,
            fds: watched.collect(),
            cut_off: count > epoll::MOST,
        };
        let same = |last: &Interest| {
            last.id == interest.id && last.fds == interest.fds && last.cut_off == interest.cut_off
        };
        if !epoll.last.as_ref().is_some_and(same) {
            sink(Event::Interest(interest.clone()));
        }
        epoll.last = Some(interest);
    }

    fn futex(
        &mut self,
        serial: u32,
        address: u64,
        folders: &mut Folders,
        sink: &mut impl FnMut(Event),
    ) {
        self.counts.done += 1;
        let task = self.tasks.get(serial);
        let folder = folder(folders, &self.tasks, serial);
        let (Some(task), Some(folder)) = (task, folder) else {
            self.counts.gone += 1;
            return;
        };
        let place = self
            .memories
            .place(task.process, folder, address, self.round);
        let place = match place {
            Some(place) => place,
            None => {
                self.counts.changed += 1;
                return;
            }
        };
        let (device, inode, offset, path) = match place {
            Place::Private => (0, 0, 0, String::new()),
            Place::Shared {
                device,
                inode,
                offset,
                path,
            } => (device, inode, offset, path),
        };
        sink(Event::SharedFutex(SharedFutex {
            serial,
            address,
            device,
            inode,
            offset,
            path,
        }));
    }
}
