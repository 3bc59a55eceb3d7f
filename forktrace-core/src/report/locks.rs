//! Locks, and who had them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::{
    CodeWait,
    words::{percent, quantity},
};

/// What a lock is, as far as the record tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LockKind {
    /// A mutex: it has its owner's tid in it, where it was read, or the function that waits
    /// says so.
    Mutex,
    /// The same, with priority inheritance: the kernel passes it on.
    PiMutex,
    /// A futex that is passed on among those who wait for it, as a lock is. Its owner can't be
    /// read.
    Lock,
    /// A lock for readers and writers, as the function says that waits for it.
    RwLock,
    /// A condition variable, as the function says that waits for it.
    Condition,
    /// A barrier, as the function says that waits at it.
    Barrier,
    /// A semaphore of the program's memory, as the function says that waits for it.
    Semaphore,
    /// What one task does once and for all, as the function says that waits for it.
    Once,
    /// The end of a thread is waited for.
    Join,
    /// A futex of which nothing more is known: one of those above of which too little was seen.
    Futex,
    /// Futexes for which one thread each waits: tasks of one role that are woken one by one.
    Parkers,
    /// A lock of a file: `flock` or `fcntl`.
    FileLock,
    /// System V semaphores.
    Semaphores,
    /// A lock in the kernel.
    Kernel,
}

/// How it is known who had a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Proof {
    /// The lock itself named the owner when a waiter went to sleep, and it did not wake
    /// anybody who waited for the lock until then.
    Proved,
    /// From the order in which those who waited were woken: it had the lock no longer than so.
    Inferred,
    /// It is not known who had it, if anybody had it.
    Unknown,
}

/// Who had a lock while others waited for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LockHolder {
    /// Serial of the task; `None` where it is not known.
    pub task: Option<u32>,
    /// Its tid.
    pub tid: Option<u32>,
    /// Its name.
    pub name: Option<String>,
    /// How that is known.
    pub proof: Proof,
    /// For how long, while at least one task waited. Where it is proved, exact but for the
    /// moment between letting the lock go and waking the next one; where it is inferred, the
    /// most that it can be.
    pub ns: u64,
    /// How many times.
    pub turns: u64,
    /// Of `ns`, it was on a CPU.
    pub ran_ns: u64,
    /// Of `ns`, it wanted a CPU.
    pub runnable_ns: u64,
    /// Of `ns`, it was blocked.
    pub blocked_ns: u64,
    /// What it was blocked in longest of that, as in [`super::Wait::reason`].
    pub blocked_in: Option<String>,
}

/// A lock, or what else tasks of one memory wait for, over all who waited for it.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Lock {
    /// For people: `futex locks+0xc8 (in a.out)`, a path.
    pub name: String,
    /// What it is.
    pub kind: LockKind,
    /// As [`super::Object::id`]; of parkers and of locks of the kernel the name.
    pub id: String,
    /// Total time that tasks waited for it, over all tasks.
    pub ns: u64,
    /// How many times one did.
    pub waits: u64,
    /// How many did.
    pub waiters: u64,
    /// The longest of these times.
    pub longest_ns: u64,
    /// Half of them were no longer.
    pub p50_ns: u64,
    /// 99 % of them were no longer.
    pub p99_ns: u64,
    /// Of a lock that was waited for very often, all that follows is of the time before this;
    /// `None`: of all the time.
    pub holders_until_ns: Option<u64>,
    /// Time in which at least one task waited. What is said of holders and of hand-offs is a
    /// part of this.
    pub contended_ns: u64,
    /// How many times one who waited was woken and then had it.
    pub hand_offs: u64,
    /// Time in which nobody is known to have had it, and one who was woken to have it was
    /// still without a CPU.
    pub hand_off_ns: u64,
    /// Of `contended_ns`, the time of which it is proved who had it.
    pub proved_ns: u64,
    /// The time of which it is inferred who had it: the most that it can be.
    pub inferred_ns: u64,
    /// The rest: it is not known who had it, if anybody had it.
    pub unknown_ns: u64,
    /// Of the proved and the inferred time, whoever had it was on a CPU.
    pub held_running_ns: u64,
    /// It wanted a CPU.
    pub held_runnable_ns: u64,
    /// It was blocked.
    pub held_blocked_ns: u64,
    /// What holders were blocked in longest, as in [`super::Wait::reason`].
    pub held_blocked_in: Option<String>,
    /// How many tasks had it.
    pub had_it: u64,
    /// Who had it, most time first; only the first few.
    pub holders: Vec<LockHolder>,
    /// How many more rows there are.
    pub other_holders: u64,
    /// The functions of the program that waited for it, most time first, as far as stacks tell;
    /// only the first few.
    pub code: Vec<CodeWait>,
}

impl LockKind {
    /// In a word or two.
    pub fn words(self) -> &'static str {
        match self {
            Self::Mutex => "mutex",
            Self::PiMutex => "PI mutex",
            Self::Lock => "lock",
            Self::RwLock => "rwlock",
            Self::Condition => "condition",
            Self::Barrier => "barrier",
            Self::Semaphore => "semaphore",
            Self::Once => "once",
            Self::Join => "thread's end",
            Self::Futex => "futex",
            Self::Parkers => "parkers",
            Self::FileLock => "file lock",
            Self::Semaphores => "semaphores",
            Self::Kernel => "kernel lock",
        }
    }
}

impl Lock {
    /// What is to be said of who had it, in sentences; none where nothing is known.
    pub fn told(&self) -> Vec<String> {
        let known = self.proved_ns.saturating_add(self.inferred_ns);
        let of = |ns| percent(ns, self.contended_ns);
        let much = |ns: u64| ns > 0 && ns >= self.contended_ns / 10;
        let mut told = Vec::new();
        if much(known) {
            told.extend(self.who());
        }
        if much(self.hand_off_ns) {
            told.push(format!(
                "{} of the time that somebody waited went to {} to tasks without a CPU.",
                of(self.hand_off_ns),
                quantity(self.hand_offs, "hand-off")
            ));
        }
        if much(known) {
            let mostly = match &self.held_blocked_in {
                Some(reason) => format!(", mostly in {reason}"),
                None => String::new(),
            };
            told.push(format!(
                "Whoever had it ran for {} of its turns, waited for a CPU for {} and was blocked \
                 for {}{mostly}.",
                percent(self.held_running_ns, known),
                percent(self.held_runnable_ns, known),
                percent(self.held_blocked_ns, known),
            ));
            told.push(format!(
                "Who had it is proved for {} of that time, inferred for {}.",
                of(self.proved_ns),
                of(self.inferred_ns)
            ));
        }
        told
    }

    /// Who had it most, where one had it half of the time.
    fn who(&self) -> Option<String> {
        let mut sums: BTreeMap<u32, (u64, &LockHolder)> = BTreeMap::new();
        for holder in &self.holders {
            if let Some(task) = holder.task {
                let sum = sums.entry(task).or_insert((0, holder));
                sum.0 = sum.0.saturating_add(holder.ns);
            }
        }
        let (ns, holder) = sums.into_values().max_by_key(|(ns, _)| *ns)?;
        let most = || {
            let (name, tid) = (holder.name.as_deref()?, holder.tid?);
            let share = percent(ns, self.contended_ns);
            Some(format!(
                "`{name}` ({tid}) had it for {share} of the time that somebody waited"
            ))
        };
        let known = self.proved_ns.saturating_add(self.inferred_ns);
        Some(match (self.had_it, ns.saturating_mul(2) >= known) {
            (1, _) => format!("{}.", most()?),
            (n, true) => format!("{} had it in turn; {}.", quantity(n, "task"), most()?),
            (n, false) => format!("{} had it in turn.", quantity(n, "task")),
        })
    }
}
