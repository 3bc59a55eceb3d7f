//! Tells what is known again, as events, a part at a time: the tasks first, since all else is of
//! tasks. What changes in between is told as it is when its turn comes.

use std::hash::Hash;

use super::{Base, Known};
use crate::{
    lately::Lately,
    trace::{Event, WaitsIn},
};

/// How far a base has been told again.
pub(crate) struct Restating(Next);

/// What is still to be told, of a kind, the next one last.
enum Next {
    Tasks(Vec<u32>),
    Outsiders(Vec<u32>),
    Objects(Vec<u32>),
    Futexes(Vec<(u32, u64)>),
    LockNames(Vec<(u32, u64)>),
    Frames(Vec<u32>),
    Cgroups(Vec<u32>),
    Untracked(Vec<u32>),
    Rest,
    Nothing,
}

impl Restating {
    /// Begins.
    pub(crate) fn new(base: &Base) -> Self {
        Self(Next::Tasks(sorted(base.tasks.keys().copied())))
    }

    /// All at once.
    pub(crate) fn all(base: &Base, mut sink: impl FnMut(Event)) {
        let mut all = Self::new(base);
        while all.next(base, &mut sink) {}
    }

    /// Tells of one more; false: that was all. The last time tells of all that is short-lived.
    pub(crate) fn next(&mut self, base: &Base, sink: &mut dyn FnMut(Event)) -> bool {
        let over = match &mut self.0 {
            Next::Tasks(left) => left.pop().map(|serial| task(base, serial, sink)),
            Next::Outsiders(left) => left.pop().map(|tid| {
                let known = base.outsiders.peek(tid).cloned();
                known.map(Event::Outsider).into_iter().for_each(sink);
            }),
            Next::Objects(left) => left.pop().map(|id| object(base, id, sink)),
            Next::Futexes(left) => left.pop().map(|key| {
                let known = base.futexes.peek(key).cloned();
                known.map(Event::SharedFutex).into_iter().for_each(sink);
            }),
            Next::LockNames(left) => left.pop().map(|key| {
                let known = base.lock_names.peek(key).cloned();
                known.map(Event::LockName).into_iter().for_each(sink);
            }),
            Next::Frames(left) => left.pop().map(|number| frames(base, number, sink)),
            Next::Cgroups(left) => left.pop().map(|process| {
                let known = base.cgroups.get(&process).cloned();
                known.map(Event::Cgroup).into_iter().for_each(sink);
            }),
            Next::Untracked(left) => left.pop().map(|tid| {
                let known = base.untracked.get(&tid).cloned();
                known.into_iter().for_each(sink);
            }),
            Next::Rest => {
                base.last_of_kind.iter().cloned().for_each(&mut *sink);
                let deadlocks = base.deadlocks.iter().cloned();
                deadlocks.map(Event::Deadlock).for_each(sink);
                None
            }
            Next::Nothing => None,
        };
        if over.is_none() {
            self.0 = self.after(base);
        }
        !matches!(self.0, Next::Nothing)
    }

    /// Is all told but what is told at last?
    pub(crate) fn is_at_rest(&self) -> bool {
        matches!(self.0, Next::Rest)
    }

    /// What comes after a kind. It is listed now: what came since is told of whom is known.
    fn after(&self, base: &Base) -> Next {
        match &self.0 {
            Next::Tasks(_) => Next::Outsiders(keys(&base.outsiders)),
            Next::Outsiders(_) => Next::Objects(keys(&base.objects)),
            Next::Objects(_) => Next::Futexes(keys(&base.futexes)),
            Next::Futexes(_) => Next::LockNames(keys(&base.lock_names)),
            Next::LockNames(_) => Next::Frames(keys(&base.frames)),
            Next::Frames(_) => Next::Cgroups(sorted(base.cgroups.keys().copied())),
            Next::Cgroups(_) => Next::Untracked(sorted(base.untracked.keys().copied())),
            Next::Untracked(_) => Next::Rest,
            Next::Rest | Next::Nothing => Next::Nothing,
        }
    }
}

fn sorted<K: Ord>(keys: impl Iterator<Item = K>) -> Vec<K> {
    let mut keys: Vec<K> = keys.collect();
    keys.sort_unstable_by(|a, b| b.cmp(a));
    keys
}

fn keys<K: Copy + Eq + Hash + Ord, V>(table: &Lately<K, V>) -> Vec<K> {
    sorted(table.keys())
}

fn task(base: &Base, serial: u32, sink: &mut dyn FnMut(Event)) {
    let Some(known) = base.tasks.get(&serial) else {
        // It has ended since.
        return;
    };
    // Before its birth: sums that are not confirmed; after it: those that are.
    if let Some(totals) = base.totals.get(&serial) {
        sink(Event::Totals(*totals));
    }
    let Known {
        born,
        argv,
        sums,
        providers,
        given,
        attached,
        signals,
        stacks,
        ..
    } = known;
    attached
        .map(Event::Attached)
        .into_iter()
        .for_each(&mut *sink);
    sink(Event::Born(born.clone()));
    sink(Event::Totals(*sums));
    let argv = argv.clone().map(Event::Argv);
    let providers = providers.clone().map(Event::Providers);
    let given = given.clone().map(Event::Given);
    let about = argv.into_iter().chain(providers).chain(given);
    about.for_each(&mut *sink);
    signals
        .iter()
        .copied()
        .map(Event::Signal)
        .for_each(&mut *sink);
    stacks.iter().copied().map(Event::Stacks).for_each(sink);
}

fn object(base: &Base, id: u32, sink: &mut dyn FnMut(Event)) {
    let Some(known) = base.objects.peek(id) else {
        return;
    };
    sink(known.event.clone());
    known
        .named
        .iter()
        .cloned()
        .map(Event::Named)
        .for_each(&mut *sink);
    let interest = known.interest.clone();
    interest.map(Event::Interest).into_iter().for_each(sink);
}

fn frames(base: &Base, number: u32, sink: &mut dyn FnMut(Event)) {
    let Some(known) = base.frames.peek(number) else {
        return;
    };
    sink(Event::Frames(known.clone()));
    if let Some(frame) = known.waits_in {
        sink(Event::WaitsIn(WaitsIn { number, frame }));
    }
}
