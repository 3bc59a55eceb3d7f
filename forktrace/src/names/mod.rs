//! What the tasks of a workload wait for, found out while they live: the only
//! place that reads `/proc/PID` for it.
//!
//! A kernel program says which file a task waits on, by inode and device and the
//! address of the open file description; this says what that file is. It comes a
//! moment later, when the descriptor may be another file: so nothing is believed
//! that does not agree with what the kernel program saw.
//!
//! The work is bounded in CPU time; what does not fit waits, or is counted as not
//! looked up.

mod cgroup;
mod epoll;
mod fds;
mod futex;
mod process;
mod sockets;
mod text;

use std::collections::{HashMap, HashSet, VecDeque};

use forktrace_common::layout::wait;
use nix::{
    sys::{stat::SFlag, time::TimeValLike as _},
    time::{ClockId, clock_gettime},
};

use self::{
    cgroup::Cgroups,
    fds::{Identity, Nameless},
    futex::{Memories, Place},
    process::{Folder, Tasks},
    sockets::Sockets,
};
use crate::{
    kernel::{
        layout::{Arch, waits},
        symbols,
    },
    trace::{
        Event, FileKind, Interest, LookUps, Named, Object, SharedFutex, Stretch, Throttled,
        Waitset, Watched, Why,
    },
};

/// Of each second, this part of one CPU at most goes into looking things up: 1/50.
const SHARE: u64 = 50;
/// So much can be saved up, ns.
const MOST_SAVED_NS: u64 = 40_000_000;
/// Look-ups that can wait for their turn.
const MOST_WAITING: usize = 1 << 14;
/// Futexes and files that are remembered.
const MOST_KNOWN: usize = 1 << 16;
/// An interest list is read again when it is older than this, ns, and waited on.
const INTEREST_AGE_NS: u64 = 1_000_000_000;
/// And when so many times the time has passed that reading it took: the kernel
/// locks it meanwhile.
const INTEREST_COSTS: u64 = 1000;
/// The counters of cgroups are read this often, ns.
const CGROUP_AGE_NS: u64 = 1_000_000_000;

/// Something to look up.
enum Job {
    Object(Object),
    Waitset(Waitset),
    Interest(u64),
    Futex {
        serial: u32,
        address: u64,
        /// That it is private would have been in an argument that is not recorded.
        private_unknown: bool,
    },
    Cgroup(u32),
}

/// An epoll instance.
struct Epoll {
    /// The last number of its [`Object`].
    id: u32,
    serial: u32,
    fd: i32,
    identity: Identity,
    last: Option<Interest>,
    read_ns: u64,
    cost_ns: u64,
    /// It was waited on since.
    waited: bool,
}

/// Finds out what tasks wait for.
pub struct Resolver {
    waits: Box<forktrace_common::layout::Waits>,
    tasks: Tasks,
    jobs: VecDeque<Job>,
    sockets: Sockets,
    memories: Memories,
    cgroups: Cgroups,
    cgroups_read_ns: u64,
    pipe_device: Option<u32>,
    /// What files without an inode of their own are, by the address of their
    /// operations; `None`: that was contradictory.
    by_operations: HashMap<u64, Option<FileKind>>,
    /// Files that were gone before they had a name, and may get one by the above.
    nameless: Vec<Object>,
    /// By open file description.
    epolls: HashMap<u64, Epoll>,
    /// Of each object, the open file description if it is an epoll instance.
    epoll_of: HashMap<u32, u64>,
    known_futexes: HashSet<(u32, u64)>,
    counts: LookUps,
    /// CPU time that may be used, ns; less than 0 after a long look-up.
    allowance_ns: i64,
    last_ns: u64,
    round: u64,
}

impl Resolver {
    /// For a recording that begins now.
    pub fn new(arch: Arch, now_ns: u64) -> Self {
        Self {
            waits: Box::new(waits(arch)),
            tasks: Tasks::default(),
            jobs: VecDeque::new(),
            sockets: Sockets::new(),
            memories: Memories::default(),
            cgroups: Cgroups::new(),
            cgroups_read_ns: now_ns,
            pipe_device: fds::pipe_device(),
            by_operations: HashMap::new(),
            nameless: Vec::new(),
            epolls: HashMap::new(),
            epoll_of: HashMap::new(),
            known_futexes: HashSet::new(),
            counts: LookUps::default(),
            allowance_ns: MOST_SAVED_NS as i64,
            last_ns: now_ns,
            round: 0,
        }
    }

    /// Takes notice of an event. Nothing is looked up yet.
    pub fn note(&mut self, event: &Event) {
        match event {
            Event::Stretch(s) => self.note_stretch(s),
            Event::Born(born) => {
                self.tasks.born(born);
                if born.process == born.serial && self.cgroups.are_there() {
                    self.add(Job::Cgroup(born.serial));
                }
            }
            Event::Exec(exec) => {
                self.tasks.exec(exec);
                if let Some(task) = self.tasks.get(exec.serial) {
                    self.memories.forget(task.process);
                }
                self.known_futexes.clear();
                if self.cgroups.are_there() {
                    self.add(Job::Cgroup(exec.serial));
                }
            }
            Event::Task(task) if task.end_ns.is_some() => self.tasks.ended(&task.born),
            Event::Task(task) => {
                self.tasks.born(&task.born);
                if let Some(open) = &task.open
                    && !open.compat
                {
                    let serial = task.born.serial;
                    self.note_futex(serial, open.syscall, open.arg0, open.arg1, open.why);
                }
            }
            Event::Object(object) => self.note_object(object),
            Event::Waitset(waitset) => self.add(Job::Waitset(waitset.clone())),
            _ => {}
        }
    }

    fn note_stretch(&mut self, s: &Stretch) {
        if s.object != 0
            && !self.epoll_of.is_empty()
            && let Some(file) = self.epoll_of.get(&s.object)
            && let Some(epoll) = self.epolls.get_mut(file)
        {
            epoll.waited = true;
        }
        if !s.compat {
            self.note_futex(s.serial, s.syscall, s.arg0, s.arg1, s.why);
        }
    }

    fn note_futex(&mut self, serial: u32, syscall: i16, address: u64, op: u32, why: Why) {
        /// include/uapi/linux/futex.h
        const FUTEX_PRIVATE_FLAG: u32 = 128;
        let number = usize::try_from(syscall).ok();
        let private_unknown = match number.and_then(|n| self.waits.get(n)) {
            Some(&wait::FUTEX) if op & FUTEX_PRIVATE_FLAG == 0 => false,
            Some(&wait::FUTEX_WAIT) => true,
            _ => return,
        };
        if matches!(why, Why::New | Why::Preempted) {
            return;
        }
        if self.known_futexes.len() >= MOST_KNOWN {
            self.known_futexes.clear();
        }
        if self.known_futexes.insert((serial, address)) {
            self.add(Job::Futex {
                serial,
                address,
                private_unknown,
            });
        }
    }

    fn note_object(&mut self, object: &Object) {
        if self.epoll_of.len() >= MOST_KNOWN {
            self.epoll_of.clear();
            self.epolls.clear();
        }
        self.add(Job::Object(*object));
    }

    fn add(&mut self, job: Job) {
        if self.jobs.len() >= MOST_WAITING {
            self.counts.not_looked_up += 1;
            return;
        }
        self.jobs.push_back(job);
    }

    /// Looks up what is to be looked up, as far as the allowance goes.
    pub fn resolve(&mut self, now_ns: u64, mut sink: impl FnMut(Event)) {
        let earned_ns = now_ns.saturating_sub(self.last_ns) / SHARE;
        self.last_ns = now_ns;
        self.allowance_ns = (self.allowance_ns + earned_ns as i64).min(MOST_SAVED_NS as i64);
        self.round += 1;
        let begun_ns = thread_cpu_ns();
        self.sockets.next_round();
        self.add_old_interests(now_ns);
        let mut used_ns = 0;
        let mut folders = HashMap::new();
        while (used_ns as i64) < self.allowance_ns
            && let Some(job) = self.jobs.pop_front()
        {
            self.run(job, now_ns, &mut folders, &mut sink);
            used_ns = thread_cpu_ns().saturating_sub(begun_ns);
        }
        if now_ns.saturating_sub(self.cgroups_read_ns) > CGROUP_AGE_NS {
            self.cgroups_read_ns = now_ns;
            self.cgroups.look();
        }
        // What waits still needs to know whose it is.
        if self.jobs.is_empty() {
            self.tasks.bury();
            let tasks = &self.tasks;
            self.memories.keep_only(|process| tasks.lives(process));
        }
        used_ns = thread_cpu_ns().saturating_sub(begun_ns);
        self.counts.cpu_ns += used_ns;
        self.allowance_ns -= used_ns as i64;
    }

    /// True: there was something new, so there may soon be more.
    pub fn is_busy(&self) -> bool {
        !self.jobs.is_empty()
    }

    /// The last look-ups, and what came of all of them.
    pub fn finish(mut self, now_ns: u64, mut sink: impl FnMut(Event)) -> (LookUps, Vec<Throttled>) {
        // Nobody is traced any more: what is left may take its time, once.
        self.allowance_ns += 5 * MOST_SAVED_NS as i64;
        if self.cgroups.are_there() {
            for serial in self.tasks.processes() {
                self.jobs.push_back(Job::Cgroup(serial));
            }
        }
        self.resolve(now_ns, &mut sink);
        self.cgroups.look();
        let waiting = |job: &&Job| !matches!(job, Job::Cgroup(_));
        self.counts.not_looked_up += self.jobs.iter().filter(waiting).count() as u64;
        self.name_by_operations(&mut sink);
        (self.counts, self.cgroups.throttled())
    }

    fn run(&mut self, job: Job, now_ns: u64, folders: &mut Folders, sink: &mut impl FnMut(Event)) {
        match job {
            Job::Object(object) => self.object(&object, folders, sink),
            Job::Waitset(waitset) => self.waitset(&waitset, folders, sink),
            Job::Interest(file) => self.interest(file, now_ns, folders, sink),
            Job::Futex {
                serial,
                address,
                private_unknown,
            } => self.futex(serial, address, private_unknown, folders, sink),
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
    fn name_by_operations(&mut self, sink: &mut impl FnMut(Event)) {
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

    fn waitset(&mut self, waitset: &Waitset, folders: &mut Folders, sink: &mut impl FnMut(Event)) {
        self.counts.done += waitset.fds.len() as u64;
        let Some(folder) = folder(folders, &self.tasks, waitset.serial) else {
            self.counts.gone += waitset.fds.len() as u64;
            return;
        };
        for wait in &waitset.fds {
            match fds::look_up(folder, wait.fd, None, &mut self.sockets) {
                Ok((identity, kind)) => sink(Event::Named(Named {
                    id: waitset.id,
                    fd: wait.fd,
                    inode: identity.inode,
                    device: identity.device,
                    kind,
                })),
                Err(Nameless::Gone) => self.counts.gone += 1,
                Err(Nameless::Changed) => self.counts.changed += 1,
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
    fn add_old_interests(&mut self, now_ns: u64) {
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
        private_unknown: bool,
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
            // Perhaps it is private all the same.
            Some(Place::Shared { .. }) if private_unknown => return,
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

/// The folders of tasks that were opened in this round, `None` for those that are
/// gone.
type Folders = HashMap<u32, Option<Folder>>;

/// Most folders that are open at once.
const MOST_FOLDERS: usize = 64;

fn folder<'a>(folders: &'a mut Folders, tasks: &Tasks, serial: u32) -> Option<&'a Folder> {
    if folders.len() >= MOST_FOLDERS && !folders.contains_key(&serial) {
        folders.clear();
    }
    let folder = folders.entry(serial);
    folder.or_insert_with(|| tasks.folder(serial)).as_ref()
}

/// CPU time of this thread.
fn thread_cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID);
    time.map_or(0, |time| time.num_nanoseconds() as u64)
}
