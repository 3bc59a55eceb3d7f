//! What events have led to: the tasks that live, their sums and the numbers of their next
//! stretches, and what is known of all that they can wait for. Of use where the events themselves
//! are gone, or are not to be read: it can be told again, as events ([`Restating`]), and made of
//! these again ([`Base::restore`]).
//!
//! A stretch costs little here, since each one that is written to a file goes through it.

mod restating;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, HashSet},
    mem,
};

use crate::{
    lately::Lately,
    model::{State, state_of},
    quick::Quick,
    trace::{
        Argv, Attached, Born, Cgroup, Deadlock, Event, Frames, Given, GivenWhat, Interest,
        LockName, Named, Outsider, Providers, SharedFutex, Signal, Stacks, Stretch, Totals,
    },
};

pub(crate) use self::restating::Restating;

/// So many files and sets of descriptors are remembered at least: the kernel programs know a
/// few hundred a CPU, and send one that they have forgotten again.
const OBJECTS: usize = 1 << 14;
/// The same of tasks outside, and of shared futexes.
const OTHERS: usize = 1 << 12;
/// The same of stacks with names.
const FRAMES: usize = 1 << 14;
/// Stretches that come before their task, so many as are remembered. Those of tasks that have
/// ended are among them.
const EARLY: usize = 1 << 10;
/// Tasks that are not followed, so many as are remembered.
const UNTRACKED: usize = 1 << 14;
/// Of a task: so many of its last signals, and of the stacks of the stretch that it is in.
const LAST: usize = 4;

/// A task that lives at that moment.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) born: Born,
    pub(crate) argv: Option<Argv>,
    /// Number of the next stretch.
    pub(crate) next_seq: u32,
    /// Sums over the stretches before that one.
    pub(crate) sums: Totals,
    /// All stretches before this one are in the sums, also those that were lost.
    confirmed_seq: u32,
    /// The first stretch began with the task, so no switch did.
    pub(crate) began_off: bool,
    /// It was asleep before it was attached to, ns.
    pub(crate) asleep_for_ns: Option<u64>,
    /// What it waited for last.
    object: u32,
    pub(crate) providers: Option<Providers>,
    pub(crate) given: Option<Given>,
    attached: Option<Attached>,
    signals: Vec<Signal>,
    stacks: Vec<Stacks>,
}

/// A file or a set of descriptors.
#[derive(Clone, Debug)]
pub(crate) struct Definition {
    pub(crate) event: Event,
    pub(crate) named: Vec<Named>,
    pub(crate) interest: Option<Interest>,
}

/// All that is known up to a moment.
#[derive(Clone, Debug)]
pub(crate) struct Base {
    /// Up to here it goes; `None`: nothing is too old yet.
    pub(crate) cut_ns: Option<u64>,
    pub(crate) tasks: HashMap<u32, Known, Quick>,
    pub(crate) objects: Lately<u32, Definition>,
    pub(crate) outsiders: Lately<u32, Outsider>,
    pub(crate) futexes: Lately<(u32, u64), SharedFutex>,
    pub(crate) lock_names: Lately<(u32, u64), LockName>,
    pub(crate) frames: Lately<u32, Frames>,
    /// By process.
    pub(crate) cgroups: HashMap<u32, Cgroup>,
    pub(crate) untracked: HashMap<u32, Event>,
    pub(crate) deadlocks: Vec<Deadlock>,
    attached: Option<Attached>,
    /// Sums that the next stretch confirms.
    totals: HashMap<u32, Totals>,
    /// Of each kind of event that the next one of it replaces, the last.
    last_of_kind: Vec<Event>,
    /// Tasks that have ended.
    pub(crate) ended: u64,
    /// The latest moment that any event told of.
    pub(crate) last_ns: u64,
    /// What tasks there are is being told again.
    entering: bool,
    /// Deadlocks that were told of.
    told: Vec<Deadlock>,
    /// The task that is told of next was attached to.
    told_attached: Option<Attached>,
    /// Stretches of tasks whose creation is yet to come, since it was on another CPU: those of
    /// the chunk before, and of this one.
    early: Option<[Vec<Stretch>; 2]>,
}

impl Base {
    pub(crate) fn new() -> Self {
        Self {
            cut_ns: None,
            tasks: HashMap::default(),
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
            last_of_kind: Vec::new(),
            ended: 0,
            last_ns: 0,
            entering: false,
            told: Vec::new(),
            told_attached: None,
            early: None,
        }
    }

    /// Takes an event in that tells again what went before.
    pub(crate) fn restore(&mut self, event: Event) {
        let entering = mem::replace(&mut self.entering, false);
        match event {
            Event::Totals(totals) => match self.tasks.get_mut(&totals.serial) {
                // What comes later, of however early a stretch, is not in the sums.
                Some(task) => (task.sums, task.next_seq) = (totals, totals.seq),
                None => drop(self.totals.insert(totals.serial, totals)),
            },
            // Of its own: another one can be on its way.
            Event::Attached(it) => self.told_attached = Some(it),
            Event::Born(born) => {
                // All of it is told now.
                self.tasks.remove(&born.serial);
                let attached = self.told_attached.take();
                self.born(born, attached);
            }
            Event::Deadlock(deadlock) => self.told.push(deadlock),
            event => self.fold(event),
        }
        self.entering = entering;
    }

    /// What went before is told again from here on, all of it. What else comes meanwhile is folded.
    pub(crate) fn begin_to_restore(&mut self) {
        *self = Self {
            entering: true,
            ended: self.ended,
            last_ns: self.last_ns,
            ..Self::new()
        };
    }

    /// All that went before has been told again; so many tasks had ended by then.
    pub(crate) fn restored(&mut self, ended: u64) {
        self.entering = false;
        self.ended = ended;
        // Told at last, so these are all.
        self.deadlocks = mem::take(&mut self.told);
    }

    /// Is it not known yet of whom the last event was?
    pub(crate) fn is_in_between(&self) -> bool {
        let attached = self.attached.as_ref();
        attached.is_some_and(|it| !self.tasks.contains_key(&it.serial))
    }

    /// Takes an event in.
    // Long: a table, with an arm for each kind.
    pub(crate) fn fold(&mut self, event: Event) {
        self.last_ns = self.last_ns.max(event.at_ns().unwrap_or(0));
        match event {
            Event::Stretch(stretch) => self.stretch(&stretch),
            Event::Totals(totals) => drop(self.totals.insert(totals.serial, totals)),
            Event::Attached(it) => match self.tasks.get_mut(&it.serial) {
                // It is told again when the task ends, by who knows less.
                Some(_) => {}
                None => self.attached = Some(it),
            },
            Event::Born(born) => {
                let attached = self.attached.take();
                self.born(born, attached);
            }
            Event::Exec(exec) => {
                if let Some(task) = self.tasks.get_mut(&exec.serial) {
                    (task.born.tid, task.born.comm) = (exec.tid, exec.comm);
                }
            }
            Event::Task(task) => {
                if let Some(end_ns) = task.end_ns {
                    let serial = task.born.serial;
                    if self.tasks.remove(&serial).is_some() {
                        self.ended += 1;
                    }
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
            Event::Cgroup(cgroup) if self.is_of_nobody(cgroup.serial) => {}
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
                if let Some(task) = self.tasks.get_mut(&stacks.serial)
                    && stacks.seq >= task.next_seq
                {
                    push_last(&mut task.stacks, stacks);
                }
            }
            Event::Signal(signal) => {
                if let Some(task) = self.tasks.get_mut(&signal.serial) {
                    push_last(&mut task.signals, signal);
                }
            }
            Event::PollsCounted(_)
            | Event::PollsLeftOut(_)
            | Event::TablesRefused(_)
            | Event::MarksRefused(_)
            | Event::MarksUnread(_)
            | Event::HelperLost(_)
            | Event::LagCounts(_) => {
                let same = |it: &Event| mem::discriminant(it) == mem::discriminant(&event);
                self.last_of_kind.retain(|it| !same(it));
                self.last_of_kind.push(event);
            }
            Event::Untracked(it) => {
                if self.untracked.len() < UNTRACKED {
                    self.untracked.insert(it.tid, Event::Untracked(it));
                }
            }
            Event::UntrackedEnd(it) => {
                self.ended += 1;
                self.untracked.remove(&it.tid);
            }
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
            // Marks and CPU users are of their moment.
            _ => return,
        };
        if let Some(task) = self.tasks.get_mut(&serial) {
            task.object = id;
        }
        if let Some(known) = self.objects.get(id) {
            known.event = event;
            return;
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

    /// Whose it is, is not known yet; it is told again.
    fn is_of_nobody(&self, serial: u32) -> bool {
        self.entering && !self.tasks.contains_key(&serial)
    }

    fn shared_futex(&mut self, mut futex: SharedFutex) {
        if self.is_of_nobody(futex.serial) {
            return;
        }
        futex.serial = self.process(futex.serial);
        self.futexes.insert((futex.serial, futex.address), futex);
        if self.futexes.is_full() {
            self.futexes.forget(std::iter::empty());
        }
    }

    fn lock_name(&mut self, mut name: LockName) {
        if self.is_of_nobody(name.serial) {
            return;
        }
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

    fn born(&mut self, born: Born, attached: Option<Attached>) {
        let attached = attached.filter(|it| it.serial == born.serial);
        let task = Known {
            argv: None,
            next_seq: 0,
            sums: Totals {
                serial: born.serial,
                ..Totals::default()
            },
            confirmed_seq: 0,
            began_off: false,
            asleep_for_ns: attached.and_then(|it| it.asleep_for_ns),
            object: 0,
            providers: None,
            given: None,
            attached,
            signals: Vec::new(),
            stacks: Vec::new(),
            born,
        };
        let serial = task.born.serial;
        self.tasks.insert(serial, task);
        let is_its = |s: &mut Stretch| s.serial == serial;
        let early = self.early.iter_mut().flatten();
        let its: Vec<Stretch> = early.flat_map(|it| it.extract_if(.., is_its)).collect();
        its.iter().for_each(|s| self.stretch(s));
    }

    /// One that keeps stretches that come before their task, too, of the chunk that it is in and
    /// of the one before. Keyframes do not tell of those, and who reads them does without.
    pub(crate) fn of_chunks() -> Self {
        Self {
            early: Some(Default::default()),
            ..Self::new()
        }
    }

    /// All of a chunk was taken in.
    pub(crate) fn end_chunk(&mut self) {
        if let Some([before, now]) = &mut self.early {
            *before = mem::take(now);
        }
    }

    /// Takes a stretch in.
    pub(crate) fn stretch(&mut self, s: &Stretch) {
        self.last_ns = self.last_ns.max(s.in_ns);
        let totals = match self.totals.is_empty() {
            true => None,
            false => self.totals.remove(&s.serial),
        };
        let Some(task) = self.tasks.get_mut(&s.serial) else {
            if let Some([_, early]) = &mut self.early
                && early.len() < EARLY
            {
                early.push(*s);
            }
            return;
        };
        if s.seq == 0 {
            task.began_off = s.out_ns <= task.born.at_ns;
        }
        // A task moves between CPUs, whose records come one CPU after the other.
        if s.seq < task.next_seq {
            if s.seq >= task.confirmed_seq {
                add(&mut task.sums, s, s.in_ns);
            }
            return;
        }
        if let Some(totals) = totals.filter(|totals| totals.seq == s.seq) {
            task.sums = totals;
            task.confirmed_seq = s.seq;
        }
        add(&mut task.sums, s, s.in_ns);
        task.next_seq = s.seq.wrapping_add(1);
        task.sums.seq = task.next_seq;
        if !task.stacks.is_empty() {
            task.stacks.retain(|it| it.seq > s.seq);
        }
        if task.providers.as_ref().is_some_and(|it| it.seq <= s.seq) {
            task.providers = None;
        }
        if task.given.as_ref().is_some_and(|it| it.seq <= s.seq) {
            task.given = None;
        }
        // What tasks waited for last is not forgotten; so it counts as used when that changes.
        if s.object != 0 && s.object != task.object {
            let before = mem::replace(&mut task.object, s.object);
            self.objects.get(before);
            self.objects.get(s.object);
        }
        if !self.deadlocks.is_empty() {
            self.goes_on(s.serial, s.in_ns);
        }
    }

    /// A task goes on or ends: the deadlocks that it was in are over.
    fn goes_on(&mut self, serial: u32, at_ns: u64) {
        let of_it = |it: &Deadlock| it.tasks.iter().any(|stuck| stuck.serial == serial);
        self.deadlocks.retain(|it| it.at_ns >= at_ns || !of_it(it));
    }
}

/// Adds what of a stretch lies before then. A forged one can be as long as it likes.
pub(crate) fn add(sums: &mut Totals, s: &Stretch, until_ns: u64) {
    let more = |sum: &mut u64, ns: u64| *sum = sum.saturating_add(ns);
    let state = state_of(s.why);
    let until_ns = until_ns.clamp(s.out_ns, s.in_ns.max(s.out_ns));
    let wake_ns = match state {
        State::Runnable => s.out_ns,
        _ => s.wake_ns.clamp(s.out_ns, until_ns),
    };
    match state {
        State::Blocked => more(&mut sums.blocked_ns, wake_ns - s.out_ns),
        State::Stopped => more(&mut sums.stopped_ns, wake_ns - s.out_ns),
        _ => {}
    }
    more(&mut sums.runnable_ns, until_ns - wake_ns);
}

/// Adds one, and keeps the last few.
fn push_last<T>(last: &mut Vec<T>, one: T) {
    if last.len() == LAST {
        last.remove(0);
    }
    last.push(one);
}
