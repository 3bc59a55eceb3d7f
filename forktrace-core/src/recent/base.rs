//! What is left of the events that are too old to keep: the state at the moment up to which
//! they go.

use std::collections::{HashMap, HashSet};

use crate::{
    lately::Lately,
    model::{State, state_of},
    trace::{
        Argv, Born, Cgroup, Deadlock, Event, Frames, Given, GivenWhat, Interest, LockName, Named,
        Outsider, Providers, SharedFutex, Stretch, Totals,
    },
};

/// So many files and sets of descriptors are remembered at least: the kernel programs know a
/// few hundred a CPU, and send one that they have forgotten again.
const OBJECTS: usize = 1 << 14;
/// The same of tasks outside, and of shared futexes.
const OTHERS: usize = 1 << 12;
/// The same of stacks with names.
const FRAMES: usize = 1 << 14;
/// Tasks that are not followed, so many as are remembered.
const UNTRACKED: usize = 1 << 14;

/// A task that lives at that moment.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) born: Born,
    pub(super) argv: Option<Argv>,
    /// Number of the next stretch.
    pub(super) next_seq: u32,
    /// Sums over the stretches before that one.
    pub(super) sums: Totals,
    /// The first stretch began with the task, so no switch did.
    pub(super) began_off: bool,
    /// It was asleep before it was attached to, ns.
    pub(super) asleep_for_ns: Option<u64>,
    /// What it waited for last.
    object: u32,
    pub(super) providers: Option<Providers>,
    pub(super) given: Option<Given>,
}

/// A file or a set of descriptors.
#[derive(Clone, Debug)]
pub(super) struct Definition {
    pub(super) event: Event,
    pub(super) named: Vec<Named>,
    pub(super) interest: Option<Interest>,
}

/// All that is known up to a moment.
#[derive(Clone, Debug)]
pub(super) struct Base {
    /// Up to here it goes; `None`: nothing is too old yet.
    pub(super) cut_ns: Option<u64>,
    pub(super) tasks: HashMap<u32, Known>,
    pub(super) objects: Lately<u32, Definition>,
    pub(super) outsiders: Lately<u32, Outsider>,
    pub(super) futexes: Lately<(u32, u64), SharedFutex>,
    pub(super) lock_names: Lately<(u32, u64), LockName>,
    pub(super) frames: Lately<u32, Frames>,
    /// By process.
    pub(super) cgroups: HashMap<u32, Cgroup>,
    pub(super) untracked: HashMap<u32, Event>,
    pub(super) deadlocks: Vec<Deadlock>,
    attached: Option<(u32, Option<u64>)>,
    /// Sums that the next stretch confirms.
    totals: HashMap<u32, Totals>,
}

impl Base {
    pub(super) fn new() -> Self {
        Self {
            cut_ns: None,
            tasks: HashMap::new(),
            objects: Lately::new(OBJECTS),
            outsiders: Lately::new(OTHERS),
            futexes: Lately::new(OTHERS),
            lock_names: Lately::new(OTHERS),
            frames: Lately::new(FRAMES),
            cgroups: HashMap::new(),
            untracked: HashMap::new(),
            deadlocks: Vec::new(),
            attached: None,
            totals: HashMap::new(),
        }
    }

    /// Takes an event in that is too old to keep.
    pub(super) fn fold(&mut self, event: Event) {
        match event {
            Event::Stretch(stretch) => self.stretch(&stretch),
            Event::Totals(totals) => drop(self.totals.insert(totals.serial, totals)),
            Event::Attached(it) => self.attached = Some((it.serial, it.asleep_for_ns)),
            Event::Born(born) => self.born(born),
            Event::Exec(exec) => {
                if let Some(task) = self.tasks.get_mut(&exec.serial) {
                    (task.born.tid, task.born.comm) = (exec.tid, exec.comm);
                }
            }
            Event::Task(task) => {
                if let Some(end_ns) = task.end_ns {
                    let serial = task.born.serial;
                    self.tasks.remove(&serial);
                    self.totals.remove(&serial);
                    self.forget_cgroups();
                    self.goes_on(serial, end_ns);
                }
            }
            Event::Argv(argv) => {
                if let Some(task) = self.tasks.get_mut(&argv.serial) {
                    task.argv = Some(argv);
                }
            }
            Event::Cgroup(mut cgroup) => {
                cgroup.serial = self.process(cgroup.serial);
                self.cgroups.insert(cgroup.serial, cgroup);
            }
            Event::Providers(found) => {
                if let Some(task) = self.tasks.get_mut(&found.serial) {
                    task.providers = Some(found);
                }
            }
            Event::Given(given) => {
                // It is in use as long as the wait is.
                if let GivenWhat::Set(id) = given.what {
                    self.objects.get(id);
                }
                if let Some(task) = self.tasks.get_mut(&given.serial) {
                    task.given = Some(given);
                }
            }
            Event::Deadlock(deadlock) => self.deadlocks.push(deadlock),
            Event::Frames(frames) => {
                self.frames.insert(frames.number, frames);
                if self.frames.is_full() {
                    self.frames.forget(std::iter::empty());
                }
            }
            Event::WaitsIn(it) => {
                if let Some(frames) = self.frames.get(it.number) {
                    frames.waits_in = Some(it.frame);
                }
            }
            Event::Stacks(stacks) => {
                for number in stacks.kernel.into_iter().chain(stacks.user) {
                    self.frames.get(number);
                }
            }
            Event::Untracked(it) => {
                if self.untracked.len() < UNTRACKED {
                    self.untracked.insert(it.tid, Event::Untracked(it));
                }
            }
            Event::UntrackedEnd(it) => drop(self.untracked.remove(&it.tid)),
            other => self.define(other),
        }
    }

    /// What others refer to.
    fn define(&mut self, event: Event) {
        let event = match event {
            Event::SharedFutex(futex) => return self.shared_futex(futex),
            Event::LockName(name) => return self.lock_name(name),
            other => other,
        };
        let (id, serial) = match &event {
            Event::Object(object) => (object.id, object.serial),
            Event::Waitset(set) => (set.id, set.serial),
            Event::Named(named) => {
                if let Some(found) = self.objects.get(named.id) {
                    found.named.retain(|it| it.fd != named.fd);
                    found.named.push(named.clone());
                }
                return;
            }
            Event::Interest(interest) => {
                if let Some(found) = self.objects.get(interest.id) {
                    found.interest = Some(interest.clone());
                }
                return;
            }
            Event::Outsider(outsider) => {
                self.outsiders.insert(outsider.tid, outsider.clone());
                if self.outsiders.is_full() {
                    self.outsiders.forget(std::iter::empty());
                }
                return;
            }
            // Signals, marks and CPU users are of their moment.
            _ => return,
        };
        if let Some(task) = self.tasks.get_mut(&serial) {
            task.object = id;
        }
        let definition = Definition {
            event,
            named: Vec::new(),
            interest: None,
        };
        self.objects.insert(id, definition);
        if self.objects.is_full() {
            let last = self.tasks.values().map(|task| task.object);
            self.objects.forget(last);
        }
    }

    fn shared_futex(&mut self, mut futex: SharedFutex) {
        futex.serial = self.process(futex.serial);
        self.futexes.insert((futex.serial, futex.address), futex);
        if self.futexes.is_full() {
            self.futexes.forget(std::iter::empty());
        }
    }

    fn lock_name(&mut self, mut name: LockName) {
        name.serial = self.process(name.serial);
        self.lock_names.insert((name.serial, name.address), name);
        if self.lock_names.is_full() {
            self.lock_names.forget(std::iter::empty());
        }
    }

    /// Those of processes that have ended, if they are many.
    fn forget_cgroups(&mut self) {
        if self.cgroups.len() > OTHERS + 2 * self.tasks.len() {
            let living = self.tasks.values().map(|task| task.born.process);
            let living: HashSet<u32> = living.collect();
            self.cgroups.retain(|process, _| living.contains(process));
        }
    }

    /// What stands for all tasks of a task's process, also when it has ended.
    fn process(&self, serial: u32) -> u32 {
        self.tasks
            .get(&serial)
            .map_or(serial, |task| task.born.process)
    }

    fn born(&mut self, born: Born) {
        let attached = self.attached.take();
        let asleep = attached.filter(|(serial, _)| *serial == born.serial);
        let task = Known {
            argv: None,
            next_seq: 0,
            sums: Totals {
                serial: born.serial,
                ..Totals::default()
            },
            began_off: false,
            asleep_for_ns: asleep.and_then(|(_, ns)| ns),
            object: 0,
            providers: None,
            given: None,
            born,
        };
        self.tasks.insert(task.born.serial, task);
    }

    fn stretch(&mut self, s: &Stretch) {
        let totals = self.totals.remove(&s.serial);
        let Some(task) = self.tasks.get_mut(&s.serial) else {
            return;
        };
        if s.seq < task.next_seq {
            return;
        }
        if let Some(totals) = totals.filter(|totals| totals.seq == s.seq) {
            task.sums = totals;
        }
        if s.seq == 0 {
            task.began_off = s.out_ns <= task.born.at_ns;
        }
        add(&mut task.sums, s, s.in_ns);
        task.next_seq = s.seq.wrapping_add(1);
        if task.providers.as_ref().is_some_and(|it| it.seq <= s.seq) {
            task.providers = None;
        }
        if task.given.as_ref().is_some_and(|it| it.seq <= s.seq) {
            task.given = None;
        }
        if s.object != 0 {
            task.object = s.object;
            self.objects.get(s.object);
        }
        self.goes_on(s.serial, s.in_ns);
    }

    /// A task goes on or ends: the deadlocks that it was in are over.
    fn goes_on(&mut self, serial: u32, at_ns: u64) {
        let of_it = |it: &Deadlock| it.tasks.iter().any(|stuck| stuck.serial == serial);
        self.deadlocks.retain(|it| it.at_ns >= at_ns || !of_it(it));
    }
}

/// Adds what of a stretch lies before then.
pub(super) fn add(sums: &mut Totals, s: &Stretch, until_ns: u64) {
    let state = state_of(s.why);
    let until_ns = until_ns.clamp(s.out_ns, s.in_ns.max(s.out_ns));
    let wake_ns = match state {
        State::Runnable => s.out_ns,
        _ => s.wake_ns.clamp(s.out_ns, until_ns),
    };
    match state {
        State::Blocked => sums.blocked_ns += wake_ns - s.out_ns,
        State::Stopped => sums.stopped_ns += wake_ns - s.out_ns,
        _ => {}
    }
    sums.runnable_ns += until_ns - wake_ns;
}
