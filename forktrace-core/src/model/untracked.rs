//! Tasks that are not followed: when they lived, and in which process.

use std::collections::HashMap;

use super::{Fate, Stretches, Task};
use crate::trace;

/// Serials of tasks that are not followed start here: the kernel programs never
/// get so far.
const FIRST_OWN_SERIAL: u32 = 1 << 31;

/// What was seen of them.
pub(super) struct Untracked {
    /// Creations, in any order.
    pub(super) begun: Vec<trace::Untracked>,
    /// Ends, in any order.
    pub(super) ended: Vec<trace::Untracked>,
}

impl Untracked {
    /// Adds them to the tasks that are followed. `since_start` makes times count from the
    /// start of the trace, as `end_ns` does.
    pub(super) fn add_to(
        &self,
        tasks: &mut Vec<Task>,
        since_start: impl Fn(u64) -> u64,
        end_ns: u64,
    ) {
        let (lives, lost_births) = self.lives();
        let mut followed = Living::of(tasks);
        let mut others = Living::default();
        let mut lost: HashMap<(u32, u64), u32> = HashMap::new();
        // Those whose creation is lost come last, and again in the order of time.
        let first_lost = lives.len();
        for (i, (u, ended)) in lives.into_iter().chain(lost_births).enumerate() {
            let serial = FIRST_OWN_SERIAL + i as u32;
            let start_ns = since_start(u.at_ns);
            let end_ns = ended.map_or(end_ns, &since_start).max(start_ns);
            let birth_lost = i >= first_lost;
            if i == first_lost {
                followed.start_again();
                others.start_again();
            }
            // Its process: that of a task with this tgid which lived then, the
            // youngest one that is followed if there is one.
            let process = followed.youngest(u.tgid, start_ns);
            let process = process
                // All that is known of these is one moment.
                .or_else(|| lost.get(&(u.tgid, start_ns)).copied())
                .or_else(|| others.youngest(u.tgid, start_ns))
                .unwrap_or(serial);
            if birth_lost {
                lost.insert((u.tgid, start_ns), process);
            } else {
                others.lives.push(Life {
                    pid: u.tgid,
                    start_ns,
                    end_ns,
                    process,
                });
            }
            tasks.push(Task {
                serial,
                process,
                tid: u.tid,
                pid: u.tgid,
                ppid: u.ppid,
                parent: 0,
                name: u.comm.clone(),
                argv: Vec::new(),
                clone_flags: 0,
                kernel_worker: false,
                attached: None,
                start_ns,
                end_ns,
                fate: if ended.is_some() {
                    Fate::Ended
                } else {
                    Fate::Unknown
                },
                followed: false,
                stretches: Stretches::default(),
                open: None,
                open_target: 0,
                first_seq: 0,
                stretches_expected: None,
                sums: Vec::new(),
                record: None,
                polls: Vec::new(),
            });
        }
    }

    /// The tasks that are not followed, each with when it ended, if that is
    /// known; then those whose creation is lost. Creation and end come from two CPUs, so in
    /// the file they come in any order.
    fn lives(&self) -> (Vec<Seen>, Vec<Seen>) {
        let mut lives: Vec<_> = self.begun.iter().map(|u| (u.clone(), None)).collect();
        lives.sort_by_key(|(u, _)| u.at_ns);
        let mut ends: Vec<_> = self.ended.iter().collect();
        ends.sort_by_key(|end| end.at_ns);
        let mut lost_births = Vec::new();
        // Those that live, the youngest last, by tid.
        let mut living: HashMap<u32, Vec<usize>> = HashMap::new();
        let mut born = 0;
        for end in ends {
            while let Some((u, _)) = lives.get(born).filter(|(u, _)| u.at_ns <= end.at_ns) {
                living.entry(u.tid).or_default().push(born);
                born += 1;
            }
            match living.get_mut(&end.tid).and_then(Vec::pop) {
                Some(life) => lives[life].1 = Some(end.at_ns),
                // At least that it was there.
                None => lost_births.push((end.clone(), Some(end.at_ns))),
            }
        }
        (lives, lost_births)
    }
}

/// A task that is not followed, and when it ended.
type Seen = (trace::Untracked, Option<u64>);

/// When a task of a process with this pid lived.
#[derive(Clone, Copy)]
struct Life {
    pid: u32,
    start_ns: u64,
    end_ns: u64,
    process: u32,
}

/// Tells which tasks of a pid lived at a time, for one time after the other.
#[derive(Default)]
struct Living {
    /// In the order of their start.
    lives: Vec<Life>,
    next: usize,
    /// By pid those that have begun and not ended, but for those that a younger one
    /// outlives: the youngest last, each with its end and its process.
    begun: HashMap<u32, Vec<(u64, u32)>>,
}

impl Living {
    fn of(tasks: &[Task]) -> Self {
        let mut lives: Vec<Life> = tasks
            .iter()
            .map(|t| Life {
                pid: t.pid,
                start_ns: t.start_ns,
                end_ns: t.end_ns,
                process: t.process,
            })
            .collect();
        lives.sort_by_key(|life| life.start_ns);
        Self {
            lives,
            ..Self::default()
        }
    }

    /// The times that are asked for begin anew.
    fn start_again(&mut self) {
        self.next = 0;
        self.begun.clear();
    }

    /// The process of the youngest that lived at this time, which is not before the one
    /// asked for last.
    fn youngest(&mut self, pid: u32, at_ns: u64) -> Option<u32> {
        while let Some(life) = self.lives.get(self.next).filter(|l| l.start_ns <= at_ns) {
            let begun = self.begun.entry(life.pid).or_default();
            while begun.pop_if(|(end_ns, _)| *end_ns <= life.end_ns).is_some() {}
            begun.push((life.end_ns, life.process));
            self.next += 1;
        }
        let begun = self.begun.get_mut(&pid)?;
        while begun.pop_if(|(end_ns, _)| *end_ns < at_ns).is_some() {}
        begun.last().map(|(_, process)| *process)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The lives and processes by a look at all for each.
    fn by_looking(seen: &Untracked, followed: &[Task], end_ns: u64) -> Vec<(u32, u32, u64, u64)> {
        let mut lives: Vec<_> = seen.begun.iter().map(|u| (u.clone(), None)).collect();
        lives.sort_by_key(|(u, _)| u.at_ns);
        let mut ends: Vec<_> = seen.ended.iter().collect();
        ends.sort_by_key(|end| end.at_ns);
        for end in ends {
            let life = lives
                .iter_mut()
                .rfind(|(u, ended)| u.tid == end.tid && u.at_ns <= end.at_ns && ended.is_none());
            match life {
                Some((_, ended)) => *ended = Some(end.at_ns),
                None => lives.push((end.clone(), Some(end.at_ns))),
            }
        }
        // Pid, process, whether it is followed, start and end.
        let of = |t: &Task| (t.pid, t.process, t.followed, t.start_ns, t.end_ns);
        let mut tasks: Vec<_> = followed.iter().map(of).collect();
        for (i, (u, ended)) in lives.into_iter().enumerate() {
            let end_ns = ended.unwrap_or(end_ns).max(u.at_ns);
            let process = tasks
                .iter()
                .filter(|t| t.0 == u.tgid && t.3 <= u.at_ns && u.at_ns <= t.4)
                .max_by_key(|t| (t.2, t.3))
                .map_or(FIRST_OWN_SERIAL + i as u32, |t| t.1);
            tasks.push((u.tgid, process, false, u.at_ns, end_ns));
        }
        let others = tasks.iter().skip(followed.len());
        others.map(|t| (t.0, t.1, t.3, t.4)).collect()
    }

    fn untracked((tid, tgid, at_ns): (u32, u32, u64)) -> trace::Untracked {
        trace::Untracked {
            tid,
            tgid,
            ppid: 1,
            at_ns,
            comm: String::new(),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn lives_and_processes_are_what_a_look_at_all_finds(
            begun in prop::collection::vec((0u32..4, 0u32..3, 0u64..20), 0..20),
            ended in prop::collection::vec((0u32..4, 0u32..3, 0u64..20), 0..20),
            followed in prop::collection::vec((0u32..3, 0u64..20, 0u64..10), 0..8),
            end_ns in 10u64..25,
        ) {
            let seen = Untracked {
                begun: begun.into_iter().map(untracked).collect(),
                ended: ended.into_iter().map(untracked).collect(),
            };
            // Any tasks, given other pids and times, and said to be followed.
            let none = Untracked {
                begun: followed.iter().map(|(pid, start, _)| untracked((0, *pid, *start))).collect(),
                ended: Vec::new(),
            };
            let mut tasks = Vec::new();
            none.add_to(&mut tasks, |ns| ns, 0);
            for (i, (task, (_, _, length))) in (1..).zip(tasks.iter_mut().zip(&followed)) {
                task.process = i;
                task.followed = true;
                task.end_ns = task.start_ns + length;
            }
            let expected = by_looking(&seen, &tasks, end_ns);
            let count = tasks.len();
            seen.add_to(&mut tasks, |ns| ns, end_ns);
            let of = |t: &Task| (t.pid, t.process, t.start_ns, t.end_ns);
            let found: Vec<_> = tasks.iter().skip(count).map(of).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
