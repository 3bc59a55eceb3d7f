//! What the tasks of a workload wait for, found out while they live: the only
//! place that reads `/proc/PID` for it.
//!
//! A kernel program says which file a task waits on, by inode and device and the
//! address of the open file description; this says what that file is. It comes a
//! moment later, when the descriptor may be another file: so nothing is believed
//! that does not agree with what the kernel program saw.
//!
//! The recorder notes what is to be looked up and keeps what came of it ([`Resolver`],
//! `questions`). The looking itself is done by a helper (`Looker`), which may hang.
//!
//! The work is bounded in CPU time; what does not fit waits, or is counted as not
//! looked up.

mod cgroup;
mod epoll;
mod fds;
mod futex;
mod looker;
mod process;
mod questions;
mod sockets;
mod unix_diag;
mod variables;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    rc::Rc,
    time::Duration,
};

use forktrace_common::layout::wait;

use self::{cgroup::Cgroups, fds::Identity, process::Tasks, questions::Asked};
pub(crate) use self::{
    looker::{Answer, Looker, Question},
    sockets::inet_ends,
    unix_diag::{Unix, ask_for_unix_sockets},
};
use crate::{
    helper::{Channel, Kind, Nursery, Troubles},
    last_wait::{LastWait, Patience},
    trace::{Arch, waits},
    trace::{Event, FileKind, Interest, LookUps, Object, Stretch, Throttled, Waitset, Why},
};

/// Of each second, this part of one CPU at most goes into looking things up: 1/50.
const SHARE: u64 = 50;
/// So much can be saved up, ns.
const MOST_SAVED_NS: u64 = 40_000_000;
/// Look-ups that can wait for their turn.
const MOST_WAITING: usize = 1 << 14;
/// Futexes and files that are remembered.
const MOST_KNOWN: usize = 1 << 16;
/// Private futexes that are remembered to have been noted a moment ago.
const RECENT_LOCKS: usize = 1 << 10;
/// An interest list is read again when it is older than this, ns, and waited on. So is
/// a set of descriptors: a number can be another file's by then, and the kernel
/// programs send a set once.
const INTEREST_AGE_NS: u64 = 1_000_000_000;
/// And when so many times the time has passed that reading it took: the kernel
/// locks it meanwhile.
const INTEREST_COSTS: u64 = 1000;
/// Files that are waited for are looked at again after this, ns: they can have been
/// renamed.
const NAME_AGE_NS: u64 = 500_000_000;
/// The counters of cgroups are read this often, ns.
const CGROUP_AGE_NS: u64 = 1_000_000_000;
/// Questions that the helper has at a time.
const MOST_ASKED: usize = 32;
/// A helper that does not answer for so long is abandoned.
const PATIENCE: Duration = Duration::from_secs(2);
/// And so many more are tried.
const REPLACED: u64 = 8;
/// At the end of a recording the helper may take so long for all that is left, and be
/// silent for so long.
const LAST_WAIT: Patience = Patience {
    longest: Duration::from_secs(5),
    silence: Duration::from_secs(1),
};

/// Something to look up.
enum Job {
    Object(Object),
    /// A file that has a name, by its number.
    Again(u32),
    /// By its number: what it is made of is kept.
    Waitset(u32),
    Interest(u64),
    Futex {
        serial: u32,
        address: u64,
    },
    /// What a program calls the memory of a private futex: a task that waited, and where.
    LockName(u32, u64),
    Cgroup(u32),
    /// Of a task that executed a program, and when.
    Argv(u32, u64),
    OwnCgroups,
    Cgroups,
    Operations,
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

/// A file with a path, as it was last.
struct NamedFile {
    object: Object,
    kind: FileKind,
    /// It was waited for since.
    waited: bool,
}

/// Descriptors that a call of select or poll waits for, as they were last.
struct Set {
    waitset: Waitset,
    files: HashMap<i32, (Identity, FileKind)>,
    /// 0: not yet.
    looked_ns: u64,
    /// It was waited on since.
    waited: bool,
}

/// Finds out what tasks wait for.
pub struct Resolver {
    helper: Channel<Asked, Answer>,
    waits: Box<forktrace_common::layout::Waits>,
    tasks: Tasks,
    jobs: VecDeque<Job>,
    cgroups: Cgroups,
    cgroups_read_ns: u64,
    /// Where processes are of which nothing is told.
    cgroup_of_all: String,
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
    /// By number.
    sets: HashMap<u32, Set>,
    /// By number.
    named_files: HashMap<u32, NamedFile>,
    names_read_ns: u64,
    known_futexes: HashSet<(u32, u64)>,
    /// Private futexes that were noted a moment ago, by some bits of both numbers: waits on
    /// them come by the million.
    recent_locks: Box<[(u32, u64)]>,
    /// Private futexes whose names were asked for, by process and program, and address.
    named_locks: HashSet<((u32, u32), u64)>,
    /// Programs of processes that a helper was lost over.
    avoided: HashSet<(u32, u32)>,
    counts: LookUps,
    /// CPU time that may be used, ns; less than 0 after a long look-up.
    allowance_ns: i64,
    last_ns: u64,
    round: u64,
}

impl Resolver {
    /// For a recording that begins now. Nothing is told of processes that are in the cgroup
    /// with this path.
    pub(crate) fn new(nursery: &Rc<Nursery>, arch: Arch, now_ns: u64, cgroup_of_all: &str) -> Self {
        let mut resolver = Self {
            helper: Channel::new(nursery.clone(), Kind::Names, PATIENCE, REPLACED),
            waits: Box::new(waits(arch)),
            tasks: Tasks::default(),
            jobs: VecDeque::new(),
            cgroups: Cgroups::default(),
            cgroups_read_ns: now_ns,
            cgroup_of_all: cgroup_of_all.to_owned(),
            pipe_device: fds::pipe_device(),
            by_operations: HashMap::new(),
            nameless: Vec::new(),
            epolls: HashMap::new(),
            epoll_of: HashMap::new(),
            sets: HashMap::new(),
            named_files: HashMap::new(),
            names_read_ns: now_ns,
            known_futexes: HashSet::new(),
            recent_locks: vec![(0, 0); RECENT_LOCKS].into(),
            named_locks: HashSet::new(),
            avoided: HashSet::new(),
            counts: LookUps::default(),
            allowance_ns: MOST_SAVED_NS as i64,
            last_ns: now_ns,
            round: 0,
        };
        // What they count before the workload begins is not its.
        resolver.add(Job::OwnCgroups);
        resolver.answers(now_ns, drop);
        resolver
    }

    /// Takes notice of an event. Nothing is looked up yet.
    pub fn note(&mut self, event: &Event) {
        match event {
            Event::Stretch(s) => self.note_stretch(s),
            Event::Born(born) => {
                self.tasks.born(born);
                if born.process == born.serial {
                    self.add(Job::Cgroup(born.serial));
                }
            }
            Event::Exec(exec) => {
                self.tasks.exec(exec);
                self.known_futexes.clear();
                self.recent_locks.fill((0, 0));
                // What tasks wait for comes first.
                if self.jobs.len() < MOST_WAITING / 2 {
                    self.jobs.push_back(Job::Argv(exec.serial, exec.at_ns));
                }
                self.add(Job::Cgroup(exec.serial));
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
            Event::Waitset(waitset) => self.note_waitset(waitset),
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
        if s.object != 0
            && !self.sets.is_empty()
            && let Some(set) = self.sets.get_mut(&s.object)
        {
            set.waited = true;
        }
        if s.object != 0
            && !self.named_files.is_empty()
            && let Some(file) = self.named_files.get_mut(&s.object)
        {
            file.waited = true;
        }
        if !s.compat {
            self.note_futex(s.serial, s.syscall, s.arg0, s.arg1, s.why);
        }
    }

    fn note_futex(&mut self, serial: u32, syscall: i16, address: u64, op: u32, why: Why) {
        /// include/uapi/linux/futex.h, where it is also `FUTEX2_PRIVATE`.
        const FUTEX_PRIVATE_FLAG: u32 = 128;
        let number = usize::try_from(syscall).ok();
        let wait = number.and_then(|n| self.waits.get(n));
        if !matches!(
            wait,
            Some(&(wait::FUTEX | wait::FUTEX_WAIT | wait::FUTEX_WAITV))
        ) || matches!(why, Why::New | Why::Preempted)
        {
            return;
        }
        if op & FUTEX_PRIVATE_FLAG != 0 {
            return self.note_lock(serial, address);
        }
        if self.known_futexes.len() >= MOST_KNOWN {
            self.known_futexes.clear();
        }
        if self.known_futexes.insert((serial, address)) {
            self.add(Job::Futex { serial, address });
        }
    }

    fn note_lock(&mut self, serial: u32, address: u64) {
        let mixed = (address >> 2) ^ (address >> 14) ^ u64::from(serial).wrapping_mul(37);
        let recent = &mut self.recent_locks[mixed as usize % RECENT_LOCKS];
        if *recent != (serial, address) {
            *recent = (serial, address);
            // What tasks wait for comes first.
            if self.jobs.len() < MOST_WAITING / 2 {
                self.jobs.push_back(Job::LockName(serial, address));
            }
        }
    }

    fn note_object(&mut self, object: &Object) {
        if self.epoll_of.len() >= MOST_KNOWN {
            self.epoll_of.clear();
            self.epolls.clear();
        }
        self.add(Job::Object(*object));
    }

    fn note_waitset(&mut self, waitset: &Waitset) {
        if self.sets.len() >= MOST_KNOWN {
            self.sets.clear();
        }
        let set = Set {
            waitset: waitset.clone(),
            files: HashMap::new(),
            looked_ns: 0,
            waited: false,
        };
        self.sets.insert(waitset.id, set);
        self.add(Job::Waitset(waitset.id));
    }

    fn add(&mut self, job: Job) {
        if self.jobs.len() >= MOST_WAITING {
            self.counts.not_looked_up += 1;
            if let Job::Object(object) = job {
                self.keep_nameless(&object);
            }
            return;
        }
        self.jobs.push_back(job);
    }

    /// Asks for what is to be looked up, as far as the allowance goes.
    pub fn resolve(&mut self, now_ns: u64, mut sink: impl FnMut(Event)) {
        let earned_ns = now_ns.saturating_sub(self.last_ns) / SHARE;
        self.last_ns = now_ns;
        self.allowance_ns = (self.allowance_ns + earned_ns as i64).min(MOST_SAVED_NS as i64);
        self.round += 1;
        self.add_old_interests(now_ns);
        self.add_old_sets(now_ns);
        self.add_old_names(now_ns);
        if now_ns.saturating_sub(self.cgroups_read_ns) > CGROUP_AGE_NS {
            self.cgroups_read_ns = now_ns;
            self.jobs.push_back(Job::Cgroups);
        }
        self.answers(now_ns, &mut sink);
    }

    /// Takes what the helper has answered, and asks for more.
    pub fn answers(&mut self, now_ns: u64, mut sink: impl FnMut(Event)) {
        let received = self.helper.receive();
        for (asked, answer, cpu_ns) in received.answers {
            self.counts.cpu_ns += cpu_ns;
            self.allowance_ns -= cpu_ns as i64;
            self.answered(asked, answer, cpu_ns, &mut sink);
        }
        for asked in received.lost {
            self.lost(asked);
        }
        if received.anew {
            self.helper.go_on::<Question>([]);
        }
        while self.allowance_ns > 0
            && self.helper.waiting() < MOST_ASKED
            && let Some(job) = self.jobs.pop_front()
        {
            self.ask(job, now_ns, &mut sink);
        }
        // What waits still needs to know whose it is.
        if self.jobs.is_empty() {
            self.tasks.bury();
        }
    }

    /// True: there was something new, so there may soon be more.
    pub fn is_busy(&self) -> bool {
        !self.jobs.is_empty()
    }

    /// The last look-ups, and what came of all of them.
    pub(crate) fn finish(
        mut self,
        last_wait: &mut LastWait<'_>,
        now_ns: u64,
        mut sink: impl FnMut(Event),
    ) -> (LookUps, Vec<Throttled>, Troubles) {
        // Nobody is traced any more: what is left may take its time, once.
        self.allowance_ns += 5 * MOST_SAVED_NS as i64;
        for serial in self.tasks.processes() {
            self.jobs.push_back(Job::Cgroup(serial));
        }
        self.resolve(now_ns, &mut sink);
        self.wait(last_wait, now_ns, &mut sink);
        let waiting = |job: &&Job| {
            matches!(
                job,
                Job::Object(_) | Job::Waitset(_) | Job::Interest(_) | Job::Futex { .. }
            )
        };
        self.counts.not_looked_up += self.jobs.iter().filter(waiting).count() as u64;
        for job in std::mem::take(&mut self.jobs) {
            if let Job::Object(object) = job {
                self.keep_nameless(&object);
            }
        }
        self.allowance_ns = MOST_SAVED_NS as i64;
        self.jobs.push_back(Job::Cgroups);
        if self.misses_operations() {
            self.jobs.push_back(Job::Operations);
        }
        self.answers(now_ns, &mut sink);
        self.wait(last_wait, now_ns, &mut sink);
        for asked in self.helper.give_up() {
            self.lost(asked);
        }
        self.name_by_end(&mut sink);
        self.name_by_operations(&mut sink);
        let throttled = self.cgroups.throttled();
        (self.counts, throttled, self.helper.troubles())
    }

    /// Until all is answered, or nothing comes.
    fn wait(&mut self, last_wait: &mut LastWait<'_>, now_ns: u64, sink: &mut impl FnMut(Event)) {
        last_wait.until_done(LAST_WAIT, || {
            self.answers(now_ns, &mut *sink);
            (self.helper.waiting() > 0).then_some(self.counts)
        });
    }
}
