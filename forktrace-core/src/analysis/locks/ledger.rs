//! Who had a lock while others waited for it.
//!
//! **Proved.** A waiter that goes to sleep has seen the lock taken, and the lock names its
//! owner. While that waiter sleeps, the owner can't let the lock go without waking somebody who
//! waits for it: so it has the lock from then until its first wakeup of one of those. Where
//! another one wakes a waiter meanwhile, or the lock names another owner, there was a turn in
//! between that was not seen, and no more is proved than what the owner's words say.
//!
//! **Inferred.** Who is woken, comes back and does not wait again before it wakes the next one
//! had the lock in between. That can be so from the moment when it has a CPU until that
//! wakeup: the most that its turn can be. One that waits again had come in vain.
//!
//! Everything else is unknown: a task that takes the lock in passing, and lets it go when
//! nobody sleeps yet, leaves no trace.

use std::collections::HashMap;

use crate::analysis::intervals::Intervals;

/// What ended a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// This task (index in the model) had it go on.
    Task(u32),
    /// Something else had.
    Other,
    /// Nothing: its time ran out, a signal came, or the record ended.
    Nobody,
}

/// A wait for the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wait {
    /// Index in the model.
    pub(super) task: u32,
    pub(super) start_ns: u64,
    pub(super) end_ns: u64,
    /// When it had a CPU again; `u64::MAX`: never.
    pub(super) in_ns: u64,
    pub(super) by: By,
}

/// A moment at which a task had the lock for certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) at_ns: u64,
    /// Index in the model.
    pub(super) holder: u32,
    /// The wait in which that was seen: index among the lock's.
    pub(super) wait: usize,
}

/// A time in which a task had the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Turn {
    pub(super) start_ns: u64,
    pub(super) end_ns: u64,
    /// Index in the model.
    pub(super) task: u32,
    pub(super) proved: bool,
}

/// All that is known of a lock's holders.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ledger {
    /// In the order of time; they don't overlap.
    pub(super) turns: Vec<Turn>,
    /// From the wakeup of one who then had the lock to when it got a CPU.
    pub(super) hand_offs: Vec<(u64, u64)>,
}

struct Book<'a> {
    /// In the order of their start.
    waits: &'a [Wait],
    seen: &'a [Seen],
    /// When a waiter was woken by whom, in order.
    wakes: Vec<(u64, u32)>,
    /// The same by who woke.
    wakes_by: HashMap<u32, Vec<u64>>,
    /// When anybody waited.
    contended: Vec<(u64, u64)>,
}

/// Of a lock's waits and what was seen in them, both in the order of time.
pub(super) fn ledger(waits: &[Wait], seen: &[Seen]) -> Ledger {
    let mut wakes: Vec<(u64, u32)> = waits
        .iter()
        .filter_map(|wait| match wait.by {
            By::Task(by) => Some((wait.end_ns, by)),
            _ => None,
        })
        .collect();
    wakes.sort_unstable();
    let mut wakes_by: HashMap<u32, Vec<u64>> = HashMap::new();
    for (at_ns, by) in &wakes {
        wakes_by.entry(*by).or_default().push(*at_ns);
    }
    let book = Book {
        waits,
        seen,
        wakes,
        wakes_by,
        contended: union(waits.iter().map(|wait| (wait.start_ns, wait.end_ns))),
    };
    let proved = book.proved();
    let (inferred, hand_offs) = book.inferred();
    let by_words = book.by_words(&proved);
    let inferred = if is_exclusive(&inferred, &hand_offs, book.wakes.len(), !seen.is_empty()) {
        inferred
    } else {
        Vec::new()
    };
    let hand_offs = if inferred.is_empty() && seen.is_empty() {
        Vec::new()
    } else {
        hand_offs
    };
    Ledger {
        turns: without_overlap([proved, by_words, inferred]),
        hand_offs,
    }
}

/// Does the order of wakeups look like that of a lock which one task has at a time? Those who
/// are woken by a notice go on side by side, or go on without waking anybody.
fn is_exclusive(turns: &[Turn], hand_offs: &[(u64, u64)], wakes: usize, has_owner: bool) -> bool {
    let sum: u64 = turns.iter().map(|turn| turn.end_ns - turn.start_ns).sum();
    let all = Intervals::union(turns.iter().map(|it| (it.start_ns, it.end_ns)).collect());
    let alone = sum - all.sum() <= sum / 10;
    alone && (has_owner || hand_offs.len() * 2 >= wakes)
}

impl Book<'_> {
    /// The first wakeup that a task made at this time or later.
    fn next_wake_by(&self, task: u32, from_ns: u64) -> Option<u64> {
        let wakes = self.wakes_by.get(&task)?;
        let at = wakes.partition_point(|ns| *ns < from_ns);
        wakes.get(at).copied()
    }

    /// The first wakeup that another task made after this time.
    fn next_wake_by_another(&self, task: u32, after_ns: u64) -> Option<u64> {
        let from = self.wakes.partition_point(|(ns, _)| *ns <= after_ns);
        let mut after = self.wakes[from..].iter();
        after.find(|(_, by)| *by != task).map(|(ns, _)| *ns)
    }

    /// Until when somebody waited, from this time on without a break.
    fn contended_until(&self, at_ns: u64) -> u64 {
        let next = self.contended.partition_point(|(start, _)| *start <= at_ns);
        let last = next.checked_sub(1).map(|at| self.contended[at].1);
        last.unwrap_or(at_ns).max(at_ns)
    }

    fn proved(&self) -> Vec<Turn> {
        let turns = self.seen.iter().enumerate().filter_map(|(at, seen)| {
            let wait = self.waits.get(seen.wait)?;
            let released = self.next_wake_by(seen.holder, seen.at_ns);
            let released = released.filter(|ns| *ns <= wait.end_ns);
            let end_ns = match (released, wait.by) {
                (Some(ns), _) => ns,
                (None, By::Nobody) => wait.end_ns,
                // It let it go without a wakeup that was seen.
                _ => return None,
            };
            let another = self.next_wake_by_another(seen.holder, seen.at_ns);
            // What is between two words for the same owner is not told by them.
            let other_word = self.seen[at + 1..]
                .iter()
                .take_while(|next| next.at_ns < end_ns)
                .any(|next| next.holder != seen.holder);
            let undisturbed = !other_word && another.is_none_or(|ns| ns >= end_ns);
            (undisturbed && end_ns > seen.at_ns).then_some(Turn {
                start_ns: seen.at_ns,
                end_ns,
                task: seen.holder,
                proved: true,
            })
        });
        let mut merged: Vec<Turn> = Vec::new();
        for turn in turns {
            match merged.last_mut() {
                // It woke nobody in between.
                Some(last) if last.task == turn.task && last.end_ns > turn.start_ns => {
                    last.end_ns = last.end_ns.max(turn.end_ns);
                }
                _ => merged.push(turn),
            }
        }
        merged
    }

    /// Owners that a lock named, for which too much happened meanwhile to prove a time: until
    /// the next word, wakeup, or end of the wait in which it was seen.
    fn by_words(&self, proved: &[Turn]) -> Vec<Turn> {
        let turns = self.seen.iter().enumerate().filter_map(|(at, seen)| {
            let before = proved.partition_point(|turn| turn.start_ns <= seen.at_ns);
            let last = before.checked_sub(1).map(|at| &proved[at]);
            if last.is_some_and(|turn| turn.end_ns > seen.at_ns) {
                return None;
            }
            let wait = self.waits.get(seen.wait)?;
            let wake = self.wakes.partition_point(|(ns, _)| *ns <= seen.at_ns);
            let wake = self.wakes.get(wake).map_or(u64::MAX, |(ns, _)| *ns);
            let word = self.seen.get(at + 1).map_or(u64::MAX, |next| next.at_ns);
            let end_ns = wait.end_ns.min(wake).min(word);
            (end_ns > seen.at_ns).then_some(Turn {
                start_ns: seen.at_ns,
                end_ns,
                task: seen.holder,
                proved: false,
            })
        });
        turns.collect()
    }

    /// Turns of those who waited, and how long each took to come.
    fn inferred(&self) -> (Vec<Turn>, Vec<(u64, u64)>) {
        let mut turns = Vec::new();
        let mut hand_offs = Vec::new();
        let mut next_start: HashMap<u32, u64> = HashMap::new();
        for wait in self.waits.iter().rev() {
            let again = next_start.insert(wait.task, wait.start_ns);
            if !matches!(wait.by, By::Task(_)) || wait.in_ns == u64::MAX {
                continue;
            }
            let from_ns = wait.in_ns;
            let passed_on = self.next_wake_by(wait.task, from_ns).unwrap_or(u64::MAX);
            let another = self.next_wake_by_another(wait.task, from_ns);
            // Without anybody who waits, it can let the lock go unseen.
            let alone = self.contended_until(from_ns);
            let end_ns = passed_on.min(alone);
            let in_vain = again.is_some_and(|ns| ns < end_ns);
            if in_vain || another.is_some_and(|ns| ns < end_ns) {
                continue;
            }
            hand_offs.push((wait.end_ns, from_ns));
            if end_ns > from_ns {
                turns.push(Turn {
                    start_ns: from_ns,
                    end_ns,
                    task: wait.task,
                    proved: false,
                });
            }
        }
        turns.sort_unstable();
        hand_offs.sort_unstable();
        (turns, hand_offs)
    }
}

/// The union of spans in the order of their starts.
fn union(spans: impl Iterator<Item = (u64, u64)>) -> Vec<(u64, u64)> {
    let mut all: Vec<(u64, u64)> = Vec::new();
    for (start, end) in spans {
        match all.last_mut() {
            Some((_, last)) if start <= *last => *last = end.max(*last),
            _ => all.push((start, end)),
        }
    }
    all
}

/// Turns of several sources: those of an earlier one go before. Within one source a later
/// start cuts what went on.
fn without_overlap(sources: [Vec<Turn>; 3]) -> Vec<Turn> {
    let mut taken: Vec<Turn> = Vec::new();
    for source in sources {
        let mut fresh: Vec<Turn> = Vec::new();
        let mut near = 0;
        for turn in source {
            let mut start_ns = match fresh.last() {
                Some(last) => turn.start_ns.max(last.end_ns),
                None => turn.start_ns,
            };
            while taken.get(near).is_some_and(|it| it.end_ns <= start_ns) {
                near += 1;
            }
            let mut at = near;
            while start_ns < turn.end_ns {
                let next = taken.get(at).filter(|it| it.start_ns < turn.end_ns);
                let end_ns = next.map_or(turn.end_ns, |it| it.start_ns);
                if end_ns > start_ns {
                    fresh.push(Turn {
                        start_ns,
                        end_ns,
                        ..turn
                    });
                }
                match next {
                    Some(it) => start_ns = it.end_ns.max(start_ns),
                    None => break,
                }
                at += 1;
            }
        }
        taken.extend(fresh);
        taken.sort_unstable();
    }
    taken
}
