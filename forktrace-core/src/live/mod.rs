//! The state of a recording while it goes on: one fold over its events.
//!
//! A stretch is told when it is over, and CPUs tell one after the other. So time goes on in
//! steps: first the task table says what each task is in that has not ended, then the rings
//! are emptied, and then all is known up to the moment before that look ([`Live::advance`]).
//! Up to there the sums are those of a report. Memory is bounded by the number of tasks.

mod detail;
mod kinds;
mod moment;
mod snapshot;
#[cfg(test)]
mod snapshot_tests;
mod sweep;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};

use self::{
    detail::Detail,
    kinds::{Call, Kinds},
    sweep::Sweep,
};
pub use self::{
    kinds::{Kind, ObjectClass, WaitKind},
    moment::{Lasting, Moment, OfTask, Set},
    snapshot::{By, Cause, Group, GroupBy, Line, Node, Row, Snapshot, Waiting},
    sweep::{Counts, Spells},
};
use crate::{
    model::{State, state_of},
    trace::{Arch, Event, OpenStretch, ProviderKind, Stretch, Why},
};

/// Upper ends of the classes in which waits for a CPU are counted, ns.
pub const RUNNABLE_CLASSES: [u64; 8] = [
    10_000,
    100_000,
    1_000_000,
    5_000_000,
    20_000_000,
    100_000_000,
    500_000_000,
    2_000_000_000,
];

/// A wait is not where a task rests if it was in another kind of wait for so many times as
/// long: little is known of who has just been met.
const AWAY: u64 = 4;
/// Who was awake for so many times as long as it slept before does not rest in a sleep.
const SELDOM: u64 = 20;

/// What a task is in at the moment up to which all is known.
#[derive(Clone, Copy, Debug)]
pub struct Wait {
    /// Since when it has been blocked.
    pub since_ns: u64,
    /// In what, as in a report.
    pub reason: &'static str,
    /// In few words.
    pub kind: Kind,
    /// It is in what it is in for most of the time that it is blocked: its place of rest.
    pub at_home: bool,
    call: Call,
}

/// A living task.
#[derive(Clone, Debug)]
pub struct Task {
    /// Its tid.
    pub tid: u32,
    /// Its process.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// What it does.
    pub state: State,
    /// What it waits for, if it is blocked.
    pub wait: Option<Wait>,
    /// Time that it was blocked, by kind of wait.
    blocked_ns: [u64; WaitKind::COUNT],
    /// From here to there its blocks are in the sums.
    met_ns: u64,
    counted_ns: u64,
    /// When the last of them began, and how much of the time blocked is of it.
    last: (u64, u64),
    /// Who holds the lock that it waits for, while it sleeps the sleep that began then.
    owner: Option<u32>,
    seq: u32,
}

impl Task {
    /// Is this kind of wait, which it is in, the one in which it rests? It is not if it was
    /// in another one for longer, and for many times as long as it has been in this one now.
    fn rests_in(&self, kind: WaitKind) -> bool {
        let present_ns = self.last.1;
        let own_ns = self.blocked_ns[kind as usize].saturating_sub(present_ns);
        let others = self.blocked_ns.iter().enumerate();
        let others = others.filter(|(other, _)| *other != kind as usize);
        let longest_ns = others.map(|(_, ns)| *ns).max().unwrap_or(0);
        let away_ns = present_ns.saturating_mul(AWAY);
        // A server under load hardly waits for its clients, and rests nowhere.
        let is_busy = || {
            let blocked_ns = self
                .blocked_ns
                .iter()
                .fold(0, |sum: u64, ns| sum.saturating_add(*ns));
            let known_ns = self.counted_ns.saturating_sub(self.met_ns);
            let awake_ns = known_ns.saturating_sub(blocked_ns);
            awake_ns >= away_ns && own_ns < awake_ns / SELDOM
        };
        let rests = longest_ns <= own_ns || longest_ns < away_ns;
        // Only of a sleep: whoever has computed parks on a futex or reads for its next work.
        rests && !(kind == WaitKind::Sleep && is_busy())
    }
}

/// Time that tasks waited for a CPU, by how long each wait was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Runnable {
    /// By class of [`RUNNABLE_CLASSES`]; the last one has no upper end.
    pub counts: [u64; RUNNABLE_CLASSES.len() + 1],
    /// In all.
    pub ns: u64,
}

/// A task changes its state.
#[derive(Clone, Copy, Debug)]
struct Change {
    at_ns: u64,
    serial: u32,
    /// `None`: it ends.
    to: Option<State>,
    /// What it was blocked in, if it was.
    kind: Kind,
}

/// The state of a recording.
pub struct Live {
    start_ns: u64,
    kinds: Kinds,
    tasks: HashMap<u32, Task>,
    /// Was there before the recording.
    attached: Option<u32>,
    changes: Vec<Change>,
    sweep: Sweep,
    blocked_ns: BTreeMap<&'static str, u64>,
    runnable: Runnable,
    seen: u64,
    deadlocks: Vec<Stuck>,
    found: u64,
    /// What only a view wants to know.
    detail: Option<Detail>,
}

/// Tasks that can't go on: each with the time since which it sleeps.
struct Stuck {
    tasks: Vec<u32>,
    at_ns: u64,
}

impl Live {
    /// Of a recording that began then.
    pub fn new(arch: Arch, start_ns: u64) -> Self {
        Self {
            start_ns,
            kinds: Kinds::new(arch),
            tasks: HashMap::new(),
            attached: None,
            changes: Vec::new(),
            sweep: Sweep::new(start_ns),
            blocked_ns: BTreeMap::new(),
            runnable: Runnable::default(),
            seen: 0,
            deadlocks: Vec::new(),
            found: 0,
            detail: None,
        }
    }

    /// The same, with what a [`Snapshot`] shows besides.
    pub fn in_detail(arch: Arch, start_ns: u64) -> Self {
        Self {
            detail: Some(Detail::new()),
            ..Self::new(arch, start_ns)
        }
    }

    /// Takes notice of an event.
    pub fn note(&mut self, event: &Event) {
        if let Some(detail) = &mut self.detail {
            detail.note(event);
        }
        match event {
            Event::Stretch(stretch) => self.stretch(stretch),
            Event::Attached(attached) => self.attached = Some(attached.serial),
            Event::Born(born) => {
                let was_there = self.attached.take() == Some(born.serial);
                let state = if was_there {
                    State::Running
                } else {
                    State::Runnable
                };
                self.seen += 1;
                self.change(born.at_ns, born.serial, Some(state), Kind::default());
                let known = self.tasks.entry(born.serial).or_insert_with(Task::unknown);
                (known.tid, known.pid) = (born.tid, born.tgid);
                known.name.clone_from(&born.comm);
            }
            Event::Exec(exec) => {
                if let Some(task) = self.tasks.get_mut(&exec.serial) {
                    task.tid = exec.tid;
                    task.name.clone_from(&exec.comm);
                }
            }
            Event::Task(task) => {
                if let Some(end_ns) = task.end_ns {
                    self.goes_on(task.born.serial, end_ns);
                    self.change(end_ns, task.born.serial, None, Kind::default());
                }
            }
            Event::Object(_) | Event::Named(_) => self.kinds.note(event),
            Event::Providers(p) if p.kind == ProviderKind::Owner => {
                if let (Some(task), [owner]) = (self.tasks.get_mut(&p.serial), &p.tasks[..]) {
                    (task.owner, task.seq) = (Some(*owner), p.seq);
                }
            }
            Event::Deadlock(deadlock) => {
                self.found += 1;
                self.deadlocks.push(Stuck {
                    tasks: deadlock.tasks.iter().map(|it| it.serial).collect(),
                    at_ns: deadlock.at_ns,
                });
            }
            _ => {}
        }
    }

    fn change(&mut self, at_ns: u64, serial: u32, to: Option<State>, kind: Kind) {
        // What comes late counts from where the sums are.
        let at_ns = at_ns.max(self.sweep.at_ns);
        self.changes.push(Change {
            at_ns,
            serial,
            to,
            kind,
        });
    }

    fn stretch(&mut self, s: &Stretch) {
        let state = state_of(s.why);
        let call = Call {
            syscall: s.syscall,
            compat: s.compat,
            arg0: s.arg0,
            object: s.object,
            uninterruptible: s.why == Why::Uninterruptible,
            timeout: s.timeout,
        };
        let wake_ns = s.wake_ns.clamp(s.out_ns, s.in_ns.max(s.out_ns));
        let mut kind = Kind::default();
        let wanted_ns = if state == State::Runnable {
            s.in_ns.saturating_sub(s.out_ns)
        } else {
            s.in_ns.saturating_sub(wake_ns)
        };
        if state == State::Blocked {
            kind = self.kinds.ended(&call, s.waker);
            self.blocked(s.serial, &call, (s.out_ns, wake_ns));
        }
        let class = RUNNABLE_CLASSES.partition_point(|upper| *upper < wanted_ns);
        self.runnable.counts[class] += 1;
        self.runnable.ns += wanted_ns;
        if let Some(task) = self.tasks.get_mut(&s.serial)
            && s.seq >= task.seq
        {
            task.owner = None;
        }
        self.goes_on(s.serial, s.in_ns);
        self.change(s.out_ns, s.serial, Some(state), Kind::default());
        if state != State::Runnable {
            self.change(wake_ns, s.serial, Some(State::Runnable), kind);
        }
        self.change(s.in_ns, s.serial, Some(State::Running), kind);
    }

    /// A task goes on or ends: the deadlocks that it was in are over.
    fn goes_on(&mut self, serial: u32, at_ns: u64) {
        let deadlocks = &mut self.deadlocks;
        deadlocks.retain(|it| it.at_ns >= at_ns || !it.tasks.contains(&serial));
    }

    /// Adds a part of a block to the sums, if it is not in them.
    fn blocked(&mut self, serial: u32, call: &Call, (from_ns, until_ns): (u64, u64)) {
        let task = self.tasks.entry(serial).or_insert_with(Task::unknown);
        if task.counted_ns == 0 {
            task.met_ns = from_ns;
        }
        let ns = until_ns.saturating_sub(from_ns.max(task.counted_ns));
        task.counted_ns = task.counted_ns.max(until_ns);
        if task.last.0 != from_ns {
            task.last = (from_ns, 0);
        }
        task.last.1 += ns;
        task.blocked_ns[self.kinds.kind(call).wait as usize] += ns;
        *self.blocked_ns.entry(self.kinds.reason(call)).or_default() += ns;
    }

    /// All is known up to `cut_ns`: the tasks that `living` tells of were in that then, or in
    /// something that an event has told of since.
    pub fn advance(
        &mut self,
        cut_ns: u64,
        living: impl Iterator<Item = (u32, Option<OpenStretch>)>,
    ) {
        for (serial, open) in living {
            if let Some(task) = self.tasks.get_mut(&serial) {
                task.wait = None;
            }
            if let Some(open) = open {
                self.open(serial, &open, cut_ns);
            }
        }
        let mut changes = std::mem::take(&mut self.changes);
        changes.sort_by_key(|change| change.at_ns);
        let later = changes.partition_point(|change| change.at_ns <= cut_ns);
        for change in changes.drain(..later) {
            self.apply(&change);
        }
        self.changes = changes;
        self.sweep.pass(cut_ns);
        self.sweep.settle();
        if let Some(detail) = &mut self.detail {
            let waits = self.tasks.values().filter_map(|task| task.wait);
            detail.make_room(waits.map(|wait| wait.call.object));
        }
    }

    fn open(&mut self, serial: u32, open: &OpenStretch, cut_ns: u64) {
        let state = state_of(open.why);
        self.change(open.out_ns, serial, Some(state), Kind::default());
        let call = Call {
            syscall: open.syscall,
            compat: open.compat,
            arg0: open.arg0,
            object: open.object,
            uninterruptible: open.why == Why::Uninterruptible,
            timeout: open.timeout,
        };
        let kind = self.kinds.ended(&call, open.waker);
        if let Some(wake_ns) = open.wake_ns
            && state != State::Runnable
        {
            self.change(wake_ns, serial, Some(State::Runnable), kind);
        }
        let until_ns = open.wake_ns.unwrap_or(cut_ns).min(cut_ns);
        if state != State::Blocked || open.out_ns > until_ns {
            return;
        }
        self.blocked(serial, &call, (open.out_ns, until_ns));
        if open.wake_ns.is_none_or(|wake_ns| wake_ns > cut_ns)
            && let Some(task) = self.tasks.get_mut(&serial)
        {
            let kind = self.kinds.kind(&call);
            let at_home = task.rests_in(kind.wait);
            task.wait = Some(Wait {
                since_ns: open.out_ns,
                reason: self.kinds.reason(&call),
                kind,
                at_home,
                call,
            });
        }
    }

    fn apply(&mut self, change: &Change) {
        self.sweep.pass(change.at_ns);
        let before = self.tasks.get(&change.serial);
        let from = before
            .filter(|task| task.is_counted())
            .map(|task| task.state);
        if from == change.to {
            return;
        }
        match change.to {
            Some(to) => {
                let task = self
                    .tasks
                    .entry(change.serial)
                    .or_insert_with(Task::unknown);
                task.state = to;
            }
            None => drop(self.tasks.remove(&change.serial)),
        }
        self.sweep.change(from, change.to, change.kind);
    }

    /// Up to when all is known.
    pub fn at_ns(&self) -> u64 {
        self.sweep.at_ns
    }

    /// For how long there has been a recording, ns.
    pub fn elapsed_ns(&self) -> u64 {
        self.sweep.at_ns.saturating_sub(self.start_ns)
    }

    /// How many tasks are in each state.
    pub fn counts(&self) -> Counts {
        self.sweep.counts
    }

    /// Two or more tasks live, and each is blocked.
    pub fn all_blocked(&self) -> Spells {
        self.sweep.all_blocked
    }

    /// None runs, and one wants to.
    pub fn starved(&self) -> Spells {
        self.sweep.starved
    }

    /// How long all were blocked, by the wait whose end ended that: episodes that are over.
    pub fn ended_by(&self) -> &BTreeMap<Kind, u64> {
        &self.sweep.ended_by
    }

    /// CPU time of all tasks, ns.
    pub fn running_ns(&self) -> u64 {
        self.sweep.running_ns
    }

    /// How long tasks were blocked, by reason.
    pub fn blocked_ns(&self) -> &BTreeMap<&'static str, u64> {
        &self.blocked_ns
    }

    /// How long tasks waited for a CPU.
    pub fn runnable(&self) -> &Runnable {
        &self.runnable
    }

    /// Tasks that were followed, in all.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Deadlocks and hangs that were found, in all.
    pub fn deadlocks_found(&self) -> u64 {
        self.found
    }

    /// Those of which no task has gone on: the serials.
    pub fn deadlocks(&self) -> impl Iterator<Item = &[u32]> {
        self.deadlocks.iter().map(|it| &it.tasks[..])
    }

    /// The tasks that live, by serial.
    pub fn tasks(&self) -> impl Iterator<Item = (u32, &Task)> {
        let living = self.tasks.iter().filter(|(_, task)| task.is_counted());
        living.map(|(serial, task)| (*serial, task))
    }
}

impl Task {
    /// One of which no more than its serial was told.
    fn unknown() -> Self {
        Self {
            tid: 0,
            pid: 0,
            name: String::new(),
            state: State::Unknown,
            wait: None,
            blocked_ns: [0; WaitKind::COUNT],
            met_ns: 0,
            counted_ns: 0,
            last: (0, 0),
            owner: None,
            seq: 0,
        }
    }

    fn is_counted(&self) -> bool {
        self.state != State::Unknown
    }
}
