//! Builds a model where some of a trace was not read, and what that led to is told again.

use std::collections::HashSet;

use super::Builder;
use crate::{
    model::{Off, Stretches},
    trace::{Born, Event, Exec, Waker, Why},
};

/// What was known when it began to be told again.
pub(super) struct Anew {
    /// So many tasks.
    known: usize,
    /// Those that are there.
    alive: HashSet<u32>,
    /// Waits of which it is known who could end them, and what they were given.
    providers: HashSet<(u32, u32)>,
    given: HashSet<(u32, u32)>,
    /// Tasks that are not followed.
    untracked: HashSet<(u32, u64)>,
    /// Tasks with the numbers of their next stretches.
    next: Vec<(u32, u32)>,
}

/// A stretch with this number has not begun, or is not over, at this moment since the start: the
/// one before is over.
pub(super) type Resumed = (u32, u64);

impl Builder {
    /// The trace is read from this moment on, ns as events have it, before which so many tasks had
    /// ended; `before`: what all before led to. To be called first.
    pub fn begin_at(&mut self, at_ns: u64, ended: u64, before: impl IntoIterator<Item = Event>) {
        self.since_ns = self.since_start(at_ns);
        self.ended_before = ended;
        for event in before {
            match event {
                Event::Totals(totals) => {
                    let task = self.of(totals.serial);
                    match task.born {
                        Some(_) => task.earlier = Some(totals),
                        // The next stretch confirms them.
                        None => task.sums.push(totals),
                    }
                }
                other => self.push(other),
            }
        }
    }

    /// Some of what happened is lost. From here on it is told what it led to, among what happens.
    pub fn begin_anew(&mut self) {
        let untracked = self.untracked.iter();
        self.anew = Some(Box::new(Anew {
            known: self.tasks.len(),
            alive: HashSet::new(),
            providers: self
                .providers
                .iter()
                .map(|it| (it.serial, it.seq))
                .collect(),
            given: self.given.iter().map(|it| (it.serial, it.seq)).collect(),
            untracked: untracked.map(|it| (it.tid, it.at_ns)).collect(),
            next: Vec::new(),
        }));
    }

    /// Adds what happened before and may be known, or be lost.
    pub fn again(&mut self, event: Event) {
        if let Some(mut anew) = self.anew.take() {
            self.add_again(event, &mut anew);
            self.anew = Some(anew);
        }
    }

    fn add_again(&mut self, event: Event, anew: &mut Anew) {
        match event {
            Event::Born(born) => {
                anew.alive.insert(born.serial);
                self.born_again(born);
            }
            Event::Frames(frames) => {
                self.frames.entry(frames.number).or_insert(frames);
            }
            Event::Providers(found) if !anew.providers.insert((found.serial, found.seq)) => {}
            Event::Given(given) if !anew.given.insert((given.serial, given.seq)) => {}
            Event::Untracked(it) if !anew.untracked.insert((it.tid, it.at_ns)) => {}
            Event::Deadlock(deadlock) => {
                let at_ns = self.since_start(deadlock.at_ns);
                let is_it = |it: &crate::trace::Deadlock| {
                    let tasks = it.tasks.iter().zip(&deadlock.tasks);
                    it.at_ns == at_ns && tasks.clone().all(|(a, b)| a.serial == b.serial)
                };
                if !self.deadlocks.iter().any(is_it) {
                    self.push(Event::Deadlock(deadlock));
                }
            }
            Event::Totals(totals) => anew.next.push((totals.serial, totals.seq)),
            // What happened to stretches that are lost is lost.
            Event::Signal(_) | Event::Stacks(_) => {}
            other => self.push(other),
        }
    }

    /// Its number and its name are those of now: it may have executed a program since it was born.
    fn born_again(&mut self, born: Born) {
        let task = self.of(born.serial);
        let Some(first) = &task.born else {
            task.born = Some(born);
            return;
        };
        let last = task.execs.iter().max_by_key(|exec| exec.at_ns);
        let (tid, comm) = last.map_or((first.tid, &first.comm), |it| (it.tid, &it.comm));
        if (tid, comm) != (born.tid, &born.comm) {
            let exec = Exec {
                serial: born.serial,
                old_tid: tid,
                tid: born.tid,
                at_ns: last.map_or(first.at_ns, |it| it.at_ns),
                comm: born.comm,
            };
            task.execs.push(exec);
        }
    }

    /// That was all of what was known at this moment, ns as events have it: who was not told of
    /// had ended.
    pub fn end_anew(&mut self, at_ns: u64) {
        let Some(anew) = self.anew.take() else {
            return;
        };
        let at_ns = self.since_start(at_ns);
        for (serial, seq) in anew.next {
            self.of(serial).resumed.push((seq, at_ns));
        }
        for (serial, task) in self.tasks.iter_mut().take(anew.known) {
            if task.born.is_some() && task.record.is_none() && !anew.alive.contains(serial) {
                task.gone_ns.get_or_insert(at_ns);
            }
        }
    }
}

/// Where stretches are lost, and it is known of one of them that it was over at a moment, puts it
/// there, with no length: what is not known ends with it.
pub(super) fn with_resumed(stretches: &Stretches, resumed: &[Resumed]) -> Stretches {
    let mut resumed = resumed.iter().filter(|it| it.0 > 0).peekable();
    let (mut rows, mut expected) = (stretches.with_cpus().peekable(), 0u32);
    let row = |seq: u32, at_ns: u64| Off {
        out_ns: at_ns,
        wake_ns: at_ns,
        in_ns: at_ns,
        seq,
        syscall: -1,
        why: Why::Preempted,
        flags: 0,
        waker: Waker::None,
        target: 0,
        timeout_us: 0,
    };
    let all = std::iter::from_fn(|| {
        let next = rows.peek().map(|(off, _)| (off.seq, off.out_ns));
        while let Some((seq, at_ns)) = resumed.next_if(|it| next.is_none_or(|next| it.0 <= next.0))
        {
            let is_lost = *seq > expected;
            let at_ns = next.map_or(*at_ns, |(_, out_ns)| out_ns.min(*at_ns));
            expected = expected.max(*seq);
            if is_lost {
                return Some((row(seq - 1, at_ns), None));
            }
        }
        let next = rows.next();
        if let Some((off, _)) = &next {
            expected = off.seq.wrapping_add(1);
        }
        next
    });
    stretches.of_these(all)
}
