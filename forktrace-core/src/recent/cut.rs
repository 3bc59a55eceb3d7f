//! Events as they are when the recording had begun at a later moment: what went before it is
//! taken off.

use std::collections::{HashMap, HashSet};

use crate::{
    base::{Base, Known, add},
    model::{State, state_of},
    trace::{Attached, Event, OpenStretch, Stretch, TaskRecord, Totals, WaitsIn},
};

/// What there is to be known of a task before its events can be given out.
#[derive(Clone, Copy, Debug, Default)]
struct Across {
    /// The stretch that it is in at that moment: its sums before it.
    before: Totals,
    /// A switch began it: it did not begin with the task.
    switched: bool,
    /// It is asleep, and has been for so long, ns.
    asleep_for_ns: Option<u64>,
}

/// A base, and what is in the middle of something at its moment.
pub(super) struct Cut {
    base: Base,
    at_ns: u64,
    across: HashMap<u32, Across>,
    /// Tasks that are in the events.
    present: HashSet<u32>,
}

impl Cut {
    /// `base` goes up to `at_ns`.
    pub(super) fn new(base: Base, at_ns: u64) -> Self {
        Self {
            present: base.tasks.keys().copied().collect(),
            base,
            at_ns,
            across: HashMap::new(),
        }
    }

    /// Takes notice of an event that is kept: to be called with all of them first, in their
    /// order. Those before the moment are taken in.
    pub(super) fn foresee(&mut self, event: Event) {
        match &event {
            Event::Stretch(s) if s.in_ns > self.at_ns && s.out_ns < self.at_ns => {
                self.is_across(s);
            }
            Event::Stretch(s) if s.in_ns > self.at_ns => {}
            Event::Born(born) if born.at_ns > self.at_ns => {
                self.present.insert(born.serial);
            }
            Event::Born(born) => {
                self.present.insert(born.serial);
                self.base.fold(event);
            }
            Event::Attached(it) if it.at_ns > self.at_ns => {}
            Event::Exec(it) if it.at_ns > self.at_ns => {}
            Event::Task(it) if it.end_ns.is_none_or(|end| end > self.at_ns) => {}
            Event::Argv(it) if it.at_ns > self.at_ns => {}
            Event::Cgroup(it) if it.at_ns > self.at_ns => {}
            Event::Untracked(it) | Event::UntrackedEnd(it) if it.at_ns > self.at_ns => {}
            Event::Stretch(_)
            | Event::Totals(_)
            | Event::Attached(_)
            | Event::Exec(_)
            | Event::Task(_)
            | Event::Argv(_)
            | Event::Cgroup(_)
            | Event::Untracked(_)
            | Event::UntrackedEnd(_) => self.base.fold(event),
            // Given out as they are.
            _ => {}
        }
    }

    /// The same of a task that lives at the end.
    pub(super) fn foresee_living(&mut self, task: &TaskRecord) {
        let Some(open) = task.open.filter(|open| open.out_ns < self.at_ns) else {
            return;
        };
        let as_stretch = Stretch {
            serial: task.born.serial,
            seq: task.totals.seq,
            out_ns: open.out_ns,
            wake_ns: open.wake_ns.unwrap_or(u64::MAX),
            in_ns: u64::MAX,
            why: open.why,
            early_wake: false,
            no_wake: false,
            inferred: false,
            compat: open.compat,
            syscall: open.syscall,
            cpu_out: 0,
            cpu_in: 0,
            arg0: open.arg0,
            arg1: open.arg1,
            waker: open.waker,
            object: open.object,
            timeout: open.timeout,
        };
        self.is_across(&as_stretch);
        // It is not over, so the sums lack it.
        if let Some(across) = self.across.get_mut(&task.born.serial) {
            across.before = Totals::default();
        }
    }

    fn is_across(&mut self, s: &Stretch) {
        let Some(task) = self.base.tasks.get(&s.serial) else {
            return;
        };
        let mut before = Totals::default();
        add(&mut before, s, self.at_ns);
        let asleep = state_of(s.why) == State::Blocked && s.wake_ns > self.at_ns;
        let earlier_ns = task.asleep_for_ns.filter(|_| s.seq == 0).unwrap_or(0);
        let across = Across {
            before,
            switched: s.seq > 0 || s.out_ns > task.born.at_ns,
            asleep_for_ns: asleep.then(|| self.at_ns - s.out_ns + earlier_ns),
        };
        self.across.insert(s.serial, across);
    }

    /// The state at the moment, as events: to be called after that.
    pub(super) fn begin(&mut self, mut sink: impl FnMut(Event)) {
        let base = &self.base;
        let mut tasks: Vec<&Known> = base.tasks.values().collect();
        tasks.sort_by_key(|task| task.born.serial);
        for outsider in base.outsiders.values() {
            sink(Event::Outsider(outsider.clone()));
        }
        for task in tasks {
            let serial = task.born.serial;
            let across = self.across.get(&serial).copied().unwrap_or_default();
            sink(Event::Attached(Attached {
                serial,
                at_ns: self.at_ns,
                asleep_for_ns: across.asleep_for_ns,
            }));
            sink(Event::Born(self.born(task)));
            if let Some(argv) = &task.argv {
                sink(Event::Argv(argv.clone()));
            }
            if let Some(found) = &task.providers {
                let mut found = found.clone();
                found.seq = found.seq.wrapping_sub(task.next_seq);
                found.at_ns = found.at_ns.max(self.at_ns);
                sink(Event::Providers(found));
            }
            if let Some(given) = &task.given {
                let mut given = given.clone();
                given.seq = given.seq.wrapping_sub(task.next_seq);
                given.at_ns = given.at_ns.max(self.at_ns);
                sink(Event::Given(given));
            }
        }
        for cgroup in base.cgroups.values() {
            let mut cgroup = cgroup.clone();
            cgroup.at_ns = self.at_ns;
            sink(Event::Cgroup(cgroup));
        }
        for definition in base.objects.values() {
            sink(definition.event.clone());
            for named in &definition.named {
                sink(Event::Named(named.clone()));
            }
            if let Some(interest) = &definition.interest {
                sink(Event::Interest(interest.clone()));
            }
        }
        for futex in base.futexes.values() {
            sink(Event::SharedFutex(futex.clone()));
        }
        for name in base.lock_names.values() {
            sink(Event::LockName(name.clone()));
        }
        for frames in base.frames.values() {
            sink(Event::Frames(frames.clone()));
            if let Some(frame) = frames.waits_in {
                let number = frames.number;
                sink(Event::WaitsIn(WaitsIn { number, frame }));
            }
        }
        base.untracked.values().cloned().for_each(&mut sink);
        for deadlock in &base.deadlocks {
            let mut deadlock = deadlock.clone();
            deadlock.at_ns = deadlock.at_ns.max(self.at_ns);
            sink(Event::Deadlock(deadlock));
        }
    }

    fn born(&self, task: &Known) -> crate::trace::Born {
        let mut born = task.born.clone();
        born.at_ns = self.at_ns;
        if !self.present.contains(&born.parent) {
            born.parent = 0;
        }
        born
    }

    /// An event that is kept, as it is to be given out; `None`: it went before.
    pub(super) fn after(&self, event: Event) -> Option<Event> {
        Some(match event {
            Event::Stretch(s) => Event::Stretch(self.stretch(s)?),
            Event::Totals(totals) => Event::Totals(self.totals(totals)?),
            Event::Born(mut born) => {
                if born.at_ns <= self.at_ns {
                    return None;
                }
                if !self.present.contains(&born.parent) {
                    born.parent = 0;
                }
                Event::Born(born)
            }
            Event::Task(task) => {
                if task.end_ns.is_some_and(|end| end <= self.at_ns) {
                    return None;
                }
                Event::Task(self.task(task))
            }
            Event::Stacks(mut stacks) => {
                stacks.seq = self.seq(stacks.serial, stacks.seq)?;
                Event::Stacks(stacks)
            }
            Event::Providers(mut found) => {
                found.seq = self.seq(found.serial, found.seq)?;
                Event::Providers(found)
            }
            Event::Given(mut given) => {
                given.seq = self.seq(given.serial, given.seq)?;
                Event::Given(given)
            }
            Event::Attached(it) if it.at_ns <= self.at_ns => return None,
            Event::Exec(it) if it.at_ns <= self.at_ns => return None,
            Event::Argv(it) if it.at_ns <= self.at_ns => return None,
            Event::Cgroup(it) if it.at_ns <= self.at_ns => return None,
            Event::Signal(it) if it.at_ns <= self.at_ns => return None,
            Event::CpuUser(it) if it.at_ns <= self.at_ns => return None,
            Event::Lag(it) if it.looked_ns <= self.at_ns => return None,
            Event::Lag(mut it) => {
                it.ready_ns = it.ready_ns.max(self.at_ns);
                Event::Lag(it)
            }
            Event::Untracked(it) | Event::UntrackedEnd(it) if it.at_ns <= self.at_ns => {
                return None;
            }
            other => other,
        })
    }

    fn seq(&self, serial: u32, seq: u32) -> Option<u32> {
        match self.base.tasks.get(&serial) {
            Some(task) => seq.checked_sub(task.next_seq),
            None => self.present.contains(&serial).then_some(seq),
        }
    }

    fn stretch(&self, mut s: Stretch) -> Option<Stretch> {
        if s.in_ns <= self.at_ns {
            return None;
        }
        s.seq = self.seq(s.serial, s.seq)?;
        s.out_ns = s.out_ns.max(self.at_ns);
        s.wake_ns = s.wake_ns.max(s.out_ns);
        Some(s)
    }

    fn totals(&self, mut totals: Totals) -> Option<Totals> {
        totals.seq = self.seq(totals.serial, totals.seq)?;
        let Some(task) = self.base.tasks.get(&totals.serial) else {
            return Some(totals);
        };
        let before = self
            .across
            .get(&totals.serial)
            .copied()
            .unwrap_or_default()
            .before;
        let less = |sum: &mut u64, a: u64, b: u64| *sum = sum.saturating_sub(a + b);
        less(
            &mut totals.blocked_ns,
            task.sums.blocked_ns,
            before.blocked_ns,
        );
        less(
            &mut totals.runnable_ns,
            task.sums.runnable_ns,
            before.runnable_ns,
        );
        less(
            &mut totals.stopped_ns,
            task.sums.stopped_ns,
            before.stopped_ns,
        );
        totals.lost = totals.lost.saturating_sub(task.sums.lost);
        Some(totals)
    }

    /// A task's last record.
    pub(super) fn task(&self, mut task: TaskRecord) -> TaskRecord {
        let serial = task.born.serial;
        let Some(known) = self.base.tasks.get(&serial) else {
            if !self.present.contains(&task.born.parent) {
                task.born.parent = 0;
            }
            return task;
        };
        let across = self.across.get(&serial).copied().unwrap_or_default();
        // Each stretch began with a switch, but the one that the task began in.
        let switches = u64::from(known.next_seq) + u64::from(across.switched)
            - u64::from(known.began_off && known.next_seq > 0);
        let off_ns = [&known.sums, &across.before]
            .map(|sums| sums.blocked_ns + sums.runnable_ns + sums.stopped_ns);
        let ran_ns = self.at_ns.saturating_sub(known.born.at_ns);
        let ran_ns = ran_ns.saturating_sub(off_ns.iter().sum());
        task.totals = self.totals(task.totals).unwrap_or(Totals {
            serial,
            ..Totals::default()
        });
        task.switches = task.switches.saturating_sub(switches);
        task.kernel_switches = task.kernel_switches.map(|it| it.saturating_sub(switches));
        task.kernel_cpu_ns = task.kernel_cpu_ns.map(|it| it.saturating_sub(ran_ns));
        task.open = task.open.map(|open| OpenStretch {
            out_ns: open.out_ns.max(self.at_ns),
            wake_ns: open.wake_ns.map(|wake| wake.max(self.at_ns)),
            ..open
        });
        task.born.at_ns = self.at_ns;
        if !self.present.contains(&task.born.parent) {
            task.born.parent = 0;
        }
        task
    }
}
