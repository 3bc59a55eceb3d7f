//! Owners that locks named while somebody waited.

use std::collections::{HashMap, HashSet};

use super::{
    Blocks,
    ledger::{Seen, Wait},
};
use crate::{
    model::{FutexKey, Model, Target},
    trace::{ProviderKind, Waker},
};

/// Of the owners that locks of a process name, so many in a hundred must be threads of it that
/// live. Where fewer are, the words are not what they are taken for.
const BELIEVED: u64 = 99;

/// The only command of `futex` that waits for a thread's end, as [`Futexes::commands`] has it
/// (include/uapi/linux/futex.h).
///
/// [`Futexes::commands`]: crate::model::Futexes::commands
const WAIT_BITSET: u16 = 1 << 9;

/// What locks said of their owners.
pub(super) struct Words {
    /// By serial and stretch of who waited: when, and the owner (index in the model).
    owners: HashMap<(u32, u32), (Option<u64>, u32)>,
    /// Targets with an owner.
    targets: HashSet<u32>,
    /// Targets that are the ends of threads, and which thread's, the last time.
    joined: HashMap<u32, u32>,
}

impl Words {
    pub(super) fn new(blocks: &Blocks<'_>) -> Self {
        let model = blocks.model;
        let mut words = Self {
            owners: HashMap::new(),
            targets: HashSet::new(),
            joined: HashMap::new(),
        };
        for (at, target) in model.targets.iter().enumerate() {
            if let Target::Thread(serial) = target
                && let Some(thread) = blocks.wakers.index(*serial)
            {
                words.joined.insert(at as u32, thread as u32);
            }
        }
        words.of_blocks(model);
        for found in &model.providers {
            let (Some(waits), [only]) = (blocks.wakers.index(found.serial), &found.tasks[..])
            else {
                continue;
            };
            let target = target_of(model, waits, found.seq);
            let holds = matches!(
                found.kind,
                ProviderKind::Owner | ProviderKind::FileLock | ProviderKind::KernelLock
            );
            match blocks.wakers.index(*only) {
                Some(owner) if holds && !found.outside => {
                    let known = words.owners.entry((found.serial, found.seq));
                    known.or_insert((Some(found.at_ns), owner as u32));
                    words.targets.extend(target);
                }
                Some(thread) if found.kind == ProviderKind::Joined => {
                    words
                        .joined
                        .extend(target.map(|target| (target, thread as u32)));
                }
                _ => {}
            }
        }
        words
    }

    /// The owners that were read when tasks went to sleep.
    fn of_blocks(&mut self, model: &Model) {
        if model.futexes.has_no_owners() {
            return;
        }
        let mut by_tid: HashMap<u32, Vec<u32>> = HashMap::new();
        for (at, task) in model.tasks.iter().enumerate() {
            by_tid.entry(task.tid).or_default().push(at as u32);
        }
        let mut by_process: HashMap<u32, Vec<Found>> = HashMap::new();
        // A join is told by that the thread's end is what ends it.
        let mut joins: Vec<Found> = Vec::new();
        for task in &model.tasks {
            let mut owners = model.futexes.owners_of(task.serial).iter().peekable();
            if owners.peek().is_none() {
                continue;
            }
            let found = by_process.entry(task.process).or_default();
            let offs = task.stretches.iter();
            let offs = offs.map(|off| (off.seq, off.out_ns, off.target, off.waker));
            let open = task.open.map(|open| {
                let seq = task.stretches_expected.unwrap_or(u32::MAX);
                (seq, open.out_ns, task.open_target, Waker::None)
            });
            for (seq, out_ns, target, waker) in offs.chain(open) {
                while owners.next_if(|it| it.seq < seq).is_some() {}
                let Some(owner) = owners.next_if(|it| it.seq == seq) else {
                    continue;
                };
                let is_private = matches!(
                    model.targets.get(target as usize),
                    Some(Target::Futex(FutexKey::Private { .. }))
                );
                let is_it = |at: &&u32| {
                    let it = &model.tasks[**at as usize];
                    (it.start_ns..=it.end_ns).contains(&out_ns)
                        && (it.process == task.process || !is_private)
                };
                let with_tid = by_tid.get(&owner.tid).into_iter().flatten();
                let it = Found {
                    wait: (task.serial, seq),
                    target,
                    owner: with_tid.clone().find(is_it).copied(),
                };
                if let Some(thread) = self.joined.get(&target) {
                    joins.push(Found {
                        owner: Some(*thread),
                        ..it
                    });
                } else if model.futexes.commands(target) != WAIT_BITSET {
                    found.push(it);
                } else if it.owner.is_some_and(|at| {
                    let it = &model.tasks[at as usize];
                    let by_its_end =
                        matches!(waker, Waker::Task { serial, .. } if serial == it.serial);
                    it.process == task.process && (by_its_end || waker == Waker::None)
                }) {
                    joins.push(it);
                }
            }
        }
        for it in joins {
            if let Some(owner) = it.owner {
                self.owners.insert(it.wait, (None, owner));
                self.joined.insert(it.target, owner);
            }
        }
        for found in by_process.into_values() {
            let known = found.iter().filter(|it| it.owner.is_some()).count() as u64;
            if known * 100 < found.len() as u64 * BELIEVED {
                continue;
            }
            for it in found {
                if let Some(owner) = it.owner {
                    self.owners.insert(it.wait, (None, owner));
                    self.targets.insert(it.target);
                }
            }
        }
    }

    /// Is it a lock that named its owner?
    pub(super) fn has(&self, target: u32) -> bool {
        self.targets.contains(&target)
    }

    /// The thread (index in the model) whose end it is.
    pub(super) fn joined(&self, target: u32) -> Option<u32> {
        self.joined.get(&target).copied()
    }

    /// Of these waits, each with its serial and stretch, those in which an owner was seen.
    pub(super) fn seen(&self, waits: &[(Wait, u32, u32)]) -> Vec<Seen> {
        let seen = waits.iter().enumerate().filter_map(|(at, it)| {
            let (wait, serial, seq) = it;
            let (at_ns, holder) = *self.owners.get(&(*serial, *seq))?;
            let at_ns = at_ns.unwrap_or(wait.start_ns);
            let lasts = (wait.start_ns..=wait.end_ns).contains(&at_ns);
            // A wait for oneself is a deadlock, and told as that.
            (lasts && holder != wait.task).then_some(Seen {
                at_ns,
                holder,
                wait: at,
            })
        });
        let mut seen: Vec<Seen> = seen.collect();
        seen.sort_by_key(|it| it.at_ns);
        seen
    }
}

struct Found {
    wait: (u32, u32),
    target: u32,
    owner: Option<u32>,
}

fn target_of(model: &Model, task: usize, seq: u32) -> Option<u32> {
    let task = &model.tasks[task];
    match task.stretches.position(seq) {
        Some(at) => Some(task.stretches.at(at).target),
        None => (task.stretches_expected == Some(seq)).then_some(task.open_target),
    }
}
