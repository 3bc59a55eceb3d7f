//! Tasks of a trace that is read from a later moment on: what went before it is taken off, as if
//! they had been attached to then.

use super::{Off, State, Task, state_of};
use crate::trace::{OpenStretch, Totals};

/// What a task had behind it at a moment.
#[derive(Clone, Copy, Debug, Default)]
struct Before {
    blocked_ns: u64,
    runnable_ns: u64,
    stopped_ns: u64,
}

impl Before {
    /// What of a stretch lies before then.
    fn of(off: &Off, at_ns: u64) -> Self {
        let until_ns = at_ns.clamp(off.out_ns, off.in_ns.max(off.out_ns));
        let state = off.state();
        let wake_ns = match state {
            State::Runnable => off.out_ns,
            _ => off.wake_ns.clamp(off.out_ns, until_ns),
        };
        let away_ns = wake_ns - off.out_ns;
        let is = |other| if state == other { away_ns } else { 0 };
        Self {
            blocked_ns: is(State::Blocked),
            runnable_ns: until_ns - wake_ns,
            stopped_ns: is(State::Stopped),
        }
    }

    fn of_totals(totals: &Totals) -> Self {
        Self {
            blocked_ns: totals.blocked_ns,
            runnable_ns: totals.runnable_ns,
            stopped_ns: totals.stopped_ns,
        }
    }

    fn ns(&self) -> u64 {
        let both = self.blocked_ns.saturating_add(self.runnable_ns);
        both.saturating_add(self.stopped_ns)
    }

    fn take_off(&self, totals: &mut Totals) {
        let less = |sum: &mut u64, ns: u64| *sum = sum.saturating_sub(ns);
        less(&mut totals.blocked_ns, self.blocked_ns);
        less(&mut totals.runnable_ns, self.runnable_ns);
        less(&mut totals.stopped_ns, self.stopped_ns);
    }
}

/// Lets a task begin at this moment, at which it had these sums behind it.
pub(super) fn begin_at(task: &mut Task, totals: &Totals, at_ns: u64) {
    let born_ns = task.start_ns;
    // Some come late, from another CPU's ring: one after them was over at the moment, so they were.
    let late = task.stretches.partition_point(|off| off.seq < totals.seq);
    if late > 0 {
        let rest = task.stretches.range(late..task.stretches.len());
        task.stretches = task.stretches.of_these(rest.with_cpus());
    }
    let first = task.stretches.first().filter(|off| off.seq == totals.seq);
    let across = first.filter(|off| off.out_ns < at_ns);
    let open = |open: &OpenStretch| state_of(open.why) != State::Runnable || open.out_ns > born_ns;
    let is_open = || {
        task.open
            .filter(|it| it.out_ns < at_ns && open(it))
            .is_some()
    };
    let switched = match &across {
        Some(off) => off.seq > 0 || off.out_ns > born_ns,
        None => first.is_none() && is_open(),
    };
    let across = across.map(|off| Before::of(&off, at_ns));
    let sums = Before::of_totals(totals);
    for sent in &mut task.sums {
        sums.take_off(sent);
        sent.lost = sent.lost.saturating_sub(totals.lost);
        if let Some(across) = across.filter(|_| sent.seq > totals.seq) {
            across.take_off(sent);
        }
    }
    // One that was created then was off the CPU, and no switch led there.
    let began_off = task.attached.is_none_or(|it| it.asleep_for_ns.is_some());
    let switches = u64::from(totals.seq) + u64::from(switched);
    let switches = switches.saturating_sub(u64::from(began_off && totals.seq > 0));
    let off_ns = sums.ns().saturating_add(across.unwrap_or_default().ns());
    let ran_ns = at_ns.saturating_sub(born_ns).saturating_sub(off_ns);
    if let Some(record) = &mut task.record {
        sums.take_off(&mut record.totals);
        across.unwrap_or_default().take_off(&mut record.totals);
        record.totals.lost = record.totals.lost.saturating_sub(totals.lost);
        record.switches = record.switches.saturating_sub(switches);
        let less = |count: u64, by: u64| count.saturating_sub(by);
        record.kernel_switches = record.kernel_switches.map(|it| less(it, switches));
        record.kernel_cpu_ns = record.kernel_cpu_ns.map(|it| less(it, ran_ns));
    }
    task.first_seq = totals.seq;
    task.start_ns = born_ns.max(at_ns).min(task.end_ns);
}
