//! What was said during the recording of tasks that can't go on. If one of them goes on all
//! the same, that is said as well: a mutex can be unlocked by another thread than its owner.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use crate::{
    report::Deadlock,
    trace::{Arch, Event, TaskRecord},
};

/// It is looked whether somebody went on this often.
const INTERVAL: Duration = Duration::from_millis(250);

/// One of those who were said not to go on did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoesOn {
    /// When it was found that it did not, ns since the recording began.
    pub found_ns: u64,
    /// The task.
    pub tid: u32,
    /// Its name then.
    pub name: String,
    /// When it was seen to go on, ns since the recording began.
    pub at_ns: u64,
}

/// All that was said and still stands.
pub(crate) struct Noticed {
    sets: Vec<Set>,
    due: Option<Instant>,
    start_ns: u64,
    /// The calls by which a task ends by itself.
    exits: [Option<i16>; 2],
    /// Those who ended by themselves.
    ended: Vec<GoesOn>,
}

struct Set {
    found: Deadlock,
    /// One of them goes on, since the last look.
    before: Option<GoesOn>,
}

impl Noticed {
    /// Nothing was said yet. Times count from `start_ns`.
    pub(crate) fn new(arch: Arch, start_ns: u64) -> Self {
        let number = |name| arch.syscall_number(name).map(|number| number as i16);
        Self {
            sets: Vec::new(),
            due: None,
            start_ns,
            exits: ["exit", "exit_group"].map(number),
            ended: Vec::new(),
        }
    }

    /// Takes notice of an event: who ends by itself has gone on.
    pub(crate) fn note(&mut self, event: &Event) {
        let Event::Task(task) = event else { return };
        let Some(end_ns) = task.end_ns.filter(|_| !self.sets.is_empty()) else {
            return;
        };
        let at = self.sets.iter().position(|set| {
            let mut stuck = set.found.tasks.iter();
            stuck.any(|stuck| stuck.serial == task.born.serial)
        });
        let by_itself = task.ended_in.is_some() && self.exits.contains(&task.ended_in);
        let Some(set) = at.filter(|_| by_itself).map(|at| self.sets.swap_remove(at)) else {
            return;
        };
        self.ended.push(set.before.unwrap_or(GoesOn {
            found_ns: set.found.at_ns,
            tid: task.born.tid,
            name: task.born.comm.clone(),
            at_ns: end_ns.saturating_sub(self.start_ns),
        }));
    }

    /// Those who have ended by themselves since this was asked.
    pub(crate) fn ended(&mut self) -> Vec<GoesOn> {
        std::mem::take(&mut self.ended)
    }

    /// Was it said of one of them in this sleep already? Else it is now.
    pub(crate) fn is_new(&mut self, found: &Deadlock) -> bool {
        let known = self.sets.iter().flat_map(|set| &set.found.tasks);
        let same = known.map(|task| (task.serial, task.since_ns));
        let same: Vec<(u32, u64)> = same.collect();
        let mut tasks = found.tasks.iter();
        if tasks.any(|task| same.contains(&(task.serial, task.since_ns))) {
            return false;
        }
        self.sets.push(Set {
            found: found.clone(),
            before: None,
        });
        true
    }

    /// Is there anything to look for at this time?
    pub(crate) fn is_due(&mut self, now: Instant) -> bool {
        let due = !self.sets.is_empty() && self.due.is_none_or(|due| due <= now);
        if due {
            self.due = Some(now + INTERVAL);
        }
        due
    }

    /// Those that do not stand any more: two looks in a row a task of it lived and was in
    /// another sleep, or in none. Sets of which one has ended are forgotten, since it was
    /// killed then.
    pub(crate) fn gone_on(&mut self, living: &[TaskRecord], now_ns: u64) -> Vec<GoesOn> {
        let start_ns = self.start_ns;
        let tasks: HashMap<u32, &TaskRecord> =
            living.iter().map(|task| (task.born.serial, task)).collect();
        let mut gone_on = Vec::new();
        self.sets.retain_mut(|set| {
            let mut stuck = set.found.tasks.iter();
            if stuck.any(|task| !tasks.contains_key(&task.serial)) {
                return false;
            }
            let goes_on = set.found.tasks.iter().find(|stuck| {
                let open = tasks.get(&stuck.serial).and_then(|task| task.open);
                let sleeps = open.is_some_and(|open| {
                    let since_ns = open.out_ns.saturating_sub(start_ns);
                    open.wake_ns.is_none() && since_ns == stuck.since_ns
                });
                !sleeps
            });
            let Some(task) = goes_on else { return true };
            match set.before.take() {
                Some(before) => {
                    gone_on.push(before);
                    false
                }
                None => {
                    set.before = Some(GoesOn {
                        found_ns: set.found.at_ns,
                        tid: task.tid,
                        name: task.name.clone(),
                        at_ns: now_ns.saturating_sub(start_ns),
                    });
                    true
                }
            }
        });
        gone_on
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        report::{DeadlockKind, DeadlockedTask},
        trace::{Born, OpenStretch, Timeout, Totals, Waker, Why},
    };

    fn found(serials: &[u32]) -> Deadlock {
        let task = |serial: &u32| DeadlockedTask {
            serial: *serial,
            tid: 100 + serial,
            name: "x".to_owned(),
            waits_for: "mutex".to_owned(),
            owner: None,
            since_ns: 50,
            waited_before_ns: None,
            code: None,
        };
        Deadlock {
            at_ns: 900,
            end_ns: None,
            kind: DeadlockKind::AllAsleep,
            tasks: serials.iter().map(task).collect(),
        }
    }

    /// Sleeps since then; `None`: it is awake.
    fn living(serial: u32, since_ns: Option<u64>) -> TaskRecord {
        let born = Born {
            serial,
            parent: 0,
            process: 1,
            tid: 100 + serial,
            tgid: 101,
            ppid: 1,
            clone_flags: 0,
            kernel_worker: false,
            at_ns: 0,
            comm: "x".to_owned(),
        };
        let open = since_ns.map(|out_ns| OpenStretch {
            out_ns,
            wake_ns: None,
            why: Why::Interruptible,
            compat: false,
            syscall: 0,
            arg0: 0,
            arg1: 0,
            waker: Waker::None,
            object: 0,
            timeout: Timeout::None,
        });
        TaskRecord {
            born,
            end_ns: None,
            totals: Totals::default(),
            missed: 0,
            switches: 0,
            kernel_switches: None,
            kernel_cpu_ns: None,
            exit_code: None,
            ended_in: None,
            open,
        }
    }

    #[test]
    fn who_goes_on_is_told_once_and_who_ended_is_not() {
        let mut noticed = Noticed::new(Arch::X86_64, 1000);
        assert!(noticed.is_new(&found(&[1, 2])));
        assert!(!noticed.is_new(&found(&[2, 3])), "it was said already");
        let still = [living(1, Some(1050)), living(2, Some(1050))];
        let at = 2000;
        assert!(noticed.gone_on(&still, at).is_empty());
        // Awake, or in another sleep: at the second look.
        let on = [living(1, Some(1050)), living(2, Some(1999))];
        assert!(noticed.gone_on(&on, at).is_empty());
        let told = noticed.gone_on(&on, 9000);
        let expected = GoesOn {
            found_ns: 900,
            tid: 102,
            name: "x".to_owned(),
            at_ns: 1000,
        };
        assert_eq!(told, [expected]);
        assert!(noticed.gone_on(&on, at).is_empty());
        // One was killed.
        assert!(noticed.is_new(&found(&[1, 2])));
        let on = [living(1, None), living(2, Some(1050))];
        assert!(noticed.gone_on(&on, at).is_empty());
        assert!(noticed.gone_on(&on[..1], at).is_empty());
        assert!(noticed.gone_on(&on, at).is_empty());
    }

    #[test]
    fn who_ends_by_itself_has_gone_on_and_who_is_killed_has_not() {
        let ends_in = |call: i16| {
            let mut noticed = Noticed::new(Arch::X86_64, 1000);
            noticed.is_new(&found(&[1, 2]));
            let mut task = living(1, None);
            (task.end_ns, task.ended_in) = (Some(3000), Some(call));
            noticed.note(&Event::Task(task));
            noticed.ended()
        };
        let [of_exit, of_futex] = [231, 202].map(ends_in);
        assert_eq!((of_exit[0].at_ns, of_exit[0].tid), (2000, 101));
        assert!(of_futex.is_empty());
    }
}
