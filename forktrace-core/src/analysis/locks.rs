//! Locks: who waited for which, for how long, and who had it meanwhile.
//!
//! A row for each futex, lock of a file, set of semaphores, and kind of lock of the kernel.
//! Futexes for each of which one thread waits are one row by role: a runtime that parks its
//! threads so has as many of them as threads.

mod holders;
mod ledger;
#[cfg(test)]
mod row_tests;
mod seen;
mod sum;
#[cfg(test)]
mod tests;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap, HashSet},
};

use self::{
    ledger::{By, Wait, ledger},
    seen::Words,
    sum::{Sum, all_of},
};
use super::{
    blocks::{Block, Blocks, End},
    objects,
    syscall_families::wait_reason,
};
use crate::{
    model::{FutexKey, Off, Target, Task},
    report::{CodeWait, Ended, Lock, LockKind},
    trace::ProviderKind,
};

/// Locks that are listed.
const MOST: usize = 200;
/// Of so many the holders are looked for…
const LEDGERS: usize = 20;
/// …over so many waits of each, and of all together: there can be millions.
const MOST_WAITS: u64 = 1 << 18;
const ALL_WAITS: u64 = 1 << 19;

// Commands of `futex` that wait (include/uapi/linux/futex.h), a bit each.
const WAIT_BITSET: u16 = 1 << 9;
const LOCK_PI: u16 = 1 << 6;
const LOCK_PI2: u16 = 1 << 13;

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Key {
    /// Index of a target: one for all that are the same.
    Target(u32),
    /// Threads of this process and role (by number) sleep on a futex each.
    Parkers(u32, u32),
    /// A lock of the kernel, which calls with this number wait for.
    Kernel(i16),
}

/// A lock with what findings ask of it.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) lock: Lock,
    /// How long each task (index in the model) waited, longest first.
    pub(super) waiters: Vec<(u32, u64)>,
    /// It is a futex: the index of a target that is it.
    pub(super) futex: Option<u32>,
    /// It is passed on among those who wait for it.
    pub(super) passed_on: bool,
    /// No symbol names it; its name tells who waits for it.
    pub(super) named_by_code: bool,
}

/// Finds locks. `representatives` gives for each target one that stands for all that are the
/// same.
struct Finder<'a> {
    blocks: &'a Blocks<'a>,
    representatives: &'a [u32],
    roles: &'a [String],
    /// Calls that wait for a lock of a file.
    file_locks: Vec<i16>,
    /// Waits for a lock of the kernel, by serial and stretch.
    of_kernel: HashSet<(u32, u32)>,
    words: Words,
}

/// All locks, most time waited first.
pub(super) fn locks(blocks: &Blocks<'_>, representatives: &[u32], roles: &[String]) -> Vec<Row> {
    let model = blocks.model;
    let of_kernel = model.providers.iter();
    let of_kernel = of_kernel.filter(|found| found.kind == ProviderKind::KernelLock);
    let numbers = ["flock", "fcntl"].map(|name| blocks.arch.syscall_number(name));
    let finder = Finder {
        blocks,
        representatives,
        roles,
        file_locks: numbers.into_iter().flatten().map(|n| n as i16).collect(),
        of_kernel: of_kernel.map(|found| (found.serial, found.seq)).collect(),
        words: Words::new(blocks),
    };
    finder.rows()
}

impl Finder<'_> {
    fn rows(&self) -> Vec<Row> {
        let mut sums = self.with_parkers(self.sums());
        sums.sort_by_key(|(key, sum)| (Reverse(sum.ns), *key));
        sums.truncate(MOST);
        let mut waits = self.waits(&sums);
        let rows = sums.into_iter().enumerate();
        rows.map(|(at, (key, sum))| self.row(key, sum, at, &mut waits))
            .collect()
    }

    /// What was waited for by those who were chosen.
    fn sums(&self) -> Vec<(Key, Sum)> {
        let mut sums: Vec<(Key, Sum)> = Vec::new();
        let mut index: HashMap<Key, usize> = HashMap::new();
        let part = self.blocks.part;
        for (at, task) in self.blocks.model.tasks.iter().enumerate() {
            if !part.has(at) {
                continue;
            }
            // Mostly it is the same as before.
            let mut last: Option<(Key, usize)> = None;
            self.each_block(task, |block, _| {
                let ns = part.ns(block.start_ns, block.end_ns(task));
                let Some(key) = self.key(task, block).filter(|_| ns > 0) else {
                    return true;
                };
                let row = match last {
                    Some((before, row)) if before == key => row,
                    _ => *index.entry(key).or_insert_with(|| {
                        sums.push((key, Sum::default()));
                        sums.len() - 1
                    }),
                };
                last = Some((key, row));
                let waker = match self.blocks.end(at, block) {
                    End::Task(waker) => Some(waker),
                    _ => None,
                };
                let sum = &mut sums[row].1;
                sum.target = block.target;
                sum.is_file = self.file_locks.contains(&block.syscall);
                sum.add(at as u32, ns, waker);
                let code = &self.blocks.code;
                code.add(&mut sum.code, task.serial, block.seq, ns);
                true
            });
        }
        for (_, sum) in &mut sums {
            sum.count_wakers();
        }
        sums
    }

    /// What a task waits for in this block, if it is a lock or can be one.
    fn key(&self, task: &Task, block: &Block) -> Option<Key> {
        if !self.of_kernel.is_empty() && self.of_kernel.contains(&(task.serial, block.seq)) {
            return Some(Key::Kernel(block.syscall));
        }
        let target = block.target as usize;
        let same = *self.representatives.get(target)?;
        match self.blocks.model.targets.get(target)? {
            Target::Futex(_) | Target::AnyFutex { .. } | Target::Thread(_) => {
                Some(Key::Target(same))
            }
            Target::File { .. } if self.file_locks.contains(&block.syscall) => {
                Some(Key::Target(same))
            }
            Target::Given(given) => {
                let given = self.blocks.model.given.get(*given as usize)?;
                let is_set = matches!(given, crate::trace::GivenWhat::Semaphores { .. });
                is_set.then_some(Key::Target(same))
            }
            _ => None,
        }
    }

    /// Puts the futexes together for which one thread each waits, of tasks of one role.
    fn with_parkers(&self, sums: Vec<(Key, Sum)>) -> Vec<(Key, Sum)> {
        let tasks = &self.blocks.model.tasks;
        let mut roles: HashMap<&str, u32> = HashMap::new();
        let mut parked: BTreeMap<Key, Vec<(Key, Sum)>> = BTreeMap::new();
        let mut rows: Vec<(Key, Sum)> = Vec::new();
        for (key, sum) in sums {
            let only = match (key, &sum.waiters[..]) {
                (Key::Target(target), [(only, _)]) if self.is_nameless(target) => *only as usize,
                _ => {
                    rows.push((key, sum));
                    continue;
                }
            };
            let next = roles.len() as u32;
            let role = *roles.entry(&self.roles[only]).or_insert(next);
            let parkers = Key::Parkers(tasks[only].process, role);
            parked.entry(parkers).or_default().push((key, sum));
        }
        for (key, of_role) in parked {
            let tasks = of_role.iter().flat_map(|(_, sum)| &sum.waiters);
            let tasks: HashSet<u32> = tasks.map(|(task, _)| *task).collect();
            if tasks.len() < 2 {
                rows.extend(of_role);
            } else {
                rows.push((key, all_of(of_role.into_iter().map(|(_, sum)| sum))));
            }
        }
        rows
    }

    /// Is it a futex of one process that is no variable, and has no owner?
    fn is_nameless(&self, target: u32) -> bool {
        let model = self.blocks.model;
        match model.targets.get(target as usize) {
            Some(Target::Futex(FutexKey::Private { process, address })) => {
                model.lock_names.of(*process, *address).is_none() && !self.words.has(target)
            }
            _ => false,
        }
    }

    /// The waits for those of the first locks whose holders are looked for, each with its
    /// serial and stretch, in the order of time, and until when they were collected.
    fn waits(&self, sums: &[(Key, Sum)]) -> Vec<Waits> {
        let mut wanted: HashMap<Key, usize> = HashMap::new();
        let mut all: Vec<Waits> = Vec::new();
        let mut room = ALL_WAITS;
        let end_ns = self.blocks.model.end_ns;
        for (at, (key, sum)) in sums.iter().take(LEDGERS).enumerate() {
            let most = room.min(MOST_WAITS);
            // As if they came evenly.
            let until_ns = u128::from(end_ns) * u128::from(most) / u128::from(sum.waits.max(1));
            all.push(Waits {
                waits: Vec::new(),
                until_ns: (sum.waits > most).then_some(until_ns as u64),
            });
            if !matches!(key, Key::Parkers(..)) {
                wanted.insert(*key, at);
                room -= most.min(sum.waits);
            }
        }
        let untils = wanted.values().map(|at| all[*at].until_ns);
        let until_ns = untils.map(|ns| ns.unwrap_or(u64::MAX)).max().unwrap_or(0);
        for (at, task) in self.blocks.model.tasks.iter().enumerate() {
            // Mostly it is the same as before.
            let mut last: Option<(Key, Option<usize>)> = None;
            self.each_block(task, |block, in_ns| {
                // They are in order.
                if block.start_ns >= until_ns {
                    return false;
                }
                let Some(key) = self.key(task, block) else {
                    return true;
                };
                let lock = match last {
                    Some((before, lock)) if before == key => lock,
                    _ => wanted.get(&key).copied(),
                };
                last = Some((key, lock));
                let Some(lock) = lock else {
                    return true;
                };
                let lock = &mut all[lock];
                if lock.until_ns.is_some_and(|ns| ns <= block.start_ns) {
                    return true;
                }
                let wait = Wait {
                    task: at as u32,
                    start_ns: block.start_ns,
                    end_ns: block.end_ns(task),
                    in_ns,
                    by: self.by(at, block),
                };
                lock.waits.push((wait, task.serial, block.seq));
                true
            });
        }
        for lock in &mut all {
            lock.waits
                .sort_unstable_by_key(|(wait, serial, seq)| (wait.start_ns, *serial, *seq));
            // They came in bursts.
            if let Some((next, ..)) = lock.waits.get(2 * MOST_WAITS as usize) {
                lock.until_ns = Some(next.start_ns);
                lock.waits.truncate(2 * MOST_WAITS as usize);
            }
        }
        all
    }

    /// What ended a block.
    fn by(&self, at: usize, block: &Block) -> By {
        match self.blocks.end(at, block) {
            End::Task(by) => By::Task(by),
            End::Unknown => By::Other,
            _ if self.blocks.how(at, block) == Ended::Fulfilled => By::Other,
            _ => By::Nobody,
        }
    }

    /// Tells of the blocks of a task, the open one included, and when it had a CPU again, until
    /// `each` is false: of none of those that are over where none of them can be for a lock.
    fn each_block(&self, task: &Task, mut each: impl FnMut(&Block, u64) -> bool) {
        // Who waited for a lock of the kernel is known of single stretches.
        let can_be = |off: Off| {
            !self.of_kernel.is_empty()
                || Block::of(off).is_some_and(|block| self.key(task, &block).is_some())
        };
        for off in task.stretches.iter_if(can_be) {
            if Block::of(off).is_some_and(|block| !each(&block, off.in_ns)) {
                return;
            }
        }
        if let Some(block) = Block::open(task) {
            each(&block, u64::MAX);
        }
    }

    fn row(&self, key: Key, sum: Sum, at: usize, waits: &mut [Waits]) -> Row {
        let passed_on = sum.is_passed_on();
        let waits = waits.get_mut(at).map(std::mem::take).unwrap_or_default();
        let (until_ns, waits) = (waits.until_ns, waits.waits);
        let seen = self.words.seen(&waits);
        let waits: Vec<Wait> = waits.into_iter().map(|(wait, ..)| wait).collect();
        let ledger = match passed_on || !seen.is_empty() {
            true => ledger(&waits, &seen),
            false => ledger::Ledger::default(),
        };
        let mut kind = self.kind(key, &sum);
        if kind == LockKind::Futex && self.words.has(sum.target) {
            kind = LockKind::Mutex;
        } else if kind == LockKind::Futex && !ledger.turns.is_empty() {
            kind = LockKind::Lock;
        }
        let held = holders::holders(self.blocks, &waits, &ledger);
        let spread = sum.times.spread().unwrap_or_default();
        let (name, id) = self.name(key, &sum);
        if matches!(kind, LockKind::Futex | LockKind::Lock) {
            kind = self.kind_by_code(&sum).unwrap_or(kind);
        }
        let code = self.blocks.code.rows(sum.code);
        let by_code = self.name_by_code(key, &code, sum.ns);
        let named_by_code = by_code.is_some();
        let name = by_code.unwrap_or(name);
        let lock = Lock {
            name,
            kind,
            id,
            ns: sum.ns,
            waits: sum.waits,
            waiters: sum.waiters.len() as u64,
            longest_ns: sum.longest_ns,
            p50_ns: spread.p50_ns,
            p99_ns: spread.p99_ns,
            holders_until_ns: until_ns,
            code,
            ..held
        };
        let mut waiters = sum.waiters;
        waiters.sort_unstable_by_key(|(task, ns)| (Reverse(*ns), *task));
        let target = self.blocks.model.targets.get(sum.target as usize);
        let is_futex = matches!((key, target), (Key::Target(_), Some(Target::Futex(_))));
        Row {
            lock,
            waiters,
            futex: is_futex.then_some(sum.target),
            passed_on,
            named_by_code,
        }
    }

    /// What a futex without a symbol is called by those who wait for it, most of the time.
    fn name_by_code(&self, key: Key, code: &[CodeWait], ns: u64) -> Option<String> {
        let Key::Target(target) = key else {
            return None;
        };
        let model = self.blocks.model;
        let address = match model.targets.get(target as usize)? {
            Target::Futex(FutexKey::Private { process, address })
                if model.lock_names.of(*process, *address).is_none()
                    && self.words.joined(target).is_none() =>
            {
                *address
            }
            _ => return None,
        };
        let first = code.first().filter(|first| first.ns >= ns / 2)?;
        Some(format!("futex of {} ({address:#x})", first.name))
    }

    fn kind(&self, key: Key, sum: &Sum) -> LockKind {
        let model = self.blocks.model;
        let target = match key {
            Key::Parkers(..) => return LockKind::Parkers,
            Key::Kernel(_) => return LockKind::Kernel,
            Key::Target(target) => target,
        };
        match model.targets.get(target as usize) {
            Some(Target::File { .. }) if sum.is_file => LockKind::FileLock,
            Some(Target::Given(_)) => LockKind::Semaphores,
            Some(Target::Thread(_)) => LockKind::Join,
            _ if model.futexes.commands(target) & (LOCK_PI | LOCK_PI2) != 0 => LockKind::PiMutex,
            _ if self.words.joined(target).is_some() => LockKind::Join,
            _ => LockKind::Futex,
        }
    }

    /// What the functions say that wait for it.
    fn kind_by_code(&self, sum: &Sum) -> Option<LockKind> {
        let kind = self.blocks.code.kind(&sum.code)?;
        // Whoever waits for a notice waits for its mutex then, in the same function: in the C library
        // of GNU by a command without a bit set.
        let commands = self.blocks.model.futexes.commands(sum.target);
        (kind != LockKind::Condition || commands == WAIT_BITSET).then_some(kind)
    }

    /// The name, and what tells it from others.
    fn name(&self, key: Key, sum: &Sum) -> (String, String) {
        let model = self.blocks.model;
        match key {
            Key::Target(_) => match objects::describe(model, sum.target) {
                Some(object) => match self.words.joined(sum.target) {
                    Some(thread) => {
                        let thread = &model.tasks[thread as usize];
                        let name = format!("end of thread {} ({})", thread.name, thread.tid);
                        (name, object.id)
                    }
                    None => (object.name, object.id),
                },
                None => ("unknown".to_owned(), "unknown".to_owned()),
            },
            Key::Parkers(process, _) => {
                let role = sum.waiters.first().map(|(at, _)| &self.roles[*at as usize]);
                let role = role.map_or("?", String::as_str);
                let name = format!("a futex for each `{role}`");
                let id = format!("{name} of process {process}");
                (name, id)
            }
            Key::Kernel(syscall) => {
                let (reason, _) = wait_reason(self.blocks.arch, syscall, false, false);
                let name = format!("a lock of the kernel ({reason})");
                (name.clone(), name)
            }
        }
    }
}

/// See [`Finder::waits`].
#[derive(Default)]
struct Waits {
    waits: Vec<(Wait, u32, u32)>,
    until_ns: Option<u64>,
}
