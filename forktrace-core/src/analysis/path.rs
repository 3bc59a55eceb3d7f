//! The critical path: what the run took its time for, from its end back to its start.
//!
//! It goes back along the task that ended last. Where that task's wait was ended by
//! another one, that other one is what it took: the path goes on there, at the moment of
//! the wakeup. Where the wait was ended by something else, such as a timer or a disk, it
//! is itself a part. A task's life begins with its creator, and one that another task killed
//! lasted until then. Who lets go of the lock of Python's interpreter since it was asked to gave
//! no more than the time since: before it, the path is at the one who asked. So each moment of
//! the run is in one part, and the path takes as long to find as there are stretches on it.

use std::collections::{HashMap, HashSet};

use super::{
    blocks::{Block, Blocks, End},
    chains, interpreter,
    providers::{Kin, Providers},
};
use crate::{
    model::{Off, Reader, State, Task, state_of},
    report::{CriticalPath, PathPart, PathState},
};

/// Parts that are listed by themselves.
const PARTS: usize = 200;

/// What of a part makes it one with others: role, state, syscall and target of a block.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    role: u32,
    state: State,
    syscall: i16,
    target: u32,
}

const RECENT: usize = 64;

impl Key {
    fn short(&self) -> usize {
        let short = self
            .role
            .wrapping_mul(5)
            .wrapping_add(self.state as u32)
            .wrapping_add(self.target.wrapping_mul(7));
        short as usize % RECENT
    }
}

/// How long, how many stretches, and the first of them: of whom, and which block.
type Part = (u64, u64, (u32, Option<Block>));

struct Walk<'a> {
    blocks: &'a Blocks<'a>,
    kin: &'a Kin<'a>,
    targets: &'a [u32],
    /// By task: which role.
    roles: Vec<u32>,
    parts: Vec<(Key, Part)>,
    /// By task: for how long it is blocked on the path, ns.
    blocked: Vec<u64>,
    /// Where in `parts` each is.
    by_key: HashMap<Key, usize>,
    /// The last ones that were added to, by [`Key::short`]: mostly it is one of these.
    recent: [usize; RECENT],
    /// The words of Python's interpreter's lock, as targets.
    interpreter: HashSet<u32>,
    /// By task: the moment at which the path last came by, if it did.
    came_by: Vec<Option<u64>>,
    /// Where the path goes on at a time, and no earlier: with the one who ended the task that it
    /// is at, or who asked it for the interpreter's lock.
    until: Option<(u32, u64)>,
    /// By task: how many of its stretches began before the moment that the path is at, or a
    /// little more. The path goes back in time only, so a look is never far.
    before: Vec<Before<'a>>,
}

/// A task's stretches, and how many of them are still of interest.
struct Before<'a> {
    stretches: Reader<'a>,
    near: usize,
    /// The last of these, and the number of the one after it, if it was looked at.
    last: Option<(Off, Option<u32>)>,
}

/// A stretch off the CPU, finished or open.
#[derive(Clone, Copy)]
struct Away {
    out_ns: u64,
    wake_ns: u64,
    in_ns: u64,
    state: State,
    /// It is the one that is open when the recording ends.
    is_open: bool,
    /// What was between it and the one after it was seen whole.
    followed: bool,
}

/// The path of a whole run.
pub(super) fn path(kin: &Kin<'_>, targets: &[u32], names: &[String]) -> CriticalPath {
    let tasks = &kin.blocks.model.tasks;
    let part = kin.blocks.part;
    let chosen = || tasks.iter().enumerate().filter(|(at, _)| part.has(*at));
    let first_ns = chosen().map(|(_, t)| t.start_ns).min().unwrap_or(0);
    let last = chosen();
    let Some((at, task)) = last.max_by_key(|(at, t)| (t.end_ns, std::cmp::Reverse(*at))) else {
        return CriticalPath::default();
    };
    let mut of_name: HashMap<&str, u32> = HashMap::new();
    let roles = names.iter().map(|name| {
        let next = of_name.len() as u32;
        *of_name.entry(name).or_insert(next)
    });
    let roles: Vec<u32> = roles.collect();
    let ns = part.ns(first_ns, task.end_ns);
    let mut walk = Walk {
        blocks: kin.blocks,
        kin,
        targets,
        roles,
        parts: Vec::new(),
        blocked: vec![0; tasks.len()],
        by_key: HashMap::new(),
        recent: [usize::MAX; RECENT],
        interpreter: interpreter::words(kin.blocks.model),
        came_by: vec![None; tasks.len()],
        until: None,
        before: tasks.iter().map(Before::all).collect(),
    };
    walk.back(at as u32, task.end_ns, first_ns);
    let mut by_role: Vec<&str> = vec![""; of_name.len()];
    for (name, at) in of_name {
        by_role[at as usize] = name;
    }
    let blocked = tasks.iter().zip(&walk.blocked);
    let blocked = blocked.filter(|(_, ns)| **ns > 0);
    CriticalPath {
        ns,
        blocked: blocked.map(|(task, ns)| (task.serial, *ns)).collect(),
        parts: walk.parts(&by_role),
    }
}

impl Walk<'_> {
    fn back(&mut self, mut at: u32, mut now_ns: u64, first_ns: u64) {
        self.goes_to(at, now_ns);
        // What the path is at, and whose: it mostly is there again for the time before.
        let mut last: Option<(u32, Away)> = None;
        while now_ns > first_ns {
            let task = &self.blocks.model.tasks[at as usize];
            if let Some((next, _)) = self.until.take_if(|(_, at_ns)| now_ns <= *at_ns)
                && self.goes_to(next, now_ns)
            {
                at = next;
                continue;
            }
            let until_ns = self.until.map_or(0, |(_, at_ns)| at_ns);
            let no_earlier_ns = first_ns.max(task.start_ns).max(until_ns);
            if now_ns <= task.start_ns {
                let creator = self.creator(task);
                let Some(creator) = creator.filter(|creator| self.goes_to(*creator, now_ns)) else {
                    self.add(at, State::Unknown, None, (first_ns, now_ns));
                    return;
                };
                at = creator;
                continue;
            }
            let same = last.take_if(|(of, away)| *of == at && away.out_ns < now_ns);
            let away = match same {
                Some((_, away)) => Some(away),
                None => self.before(at, now_ns),
            };
            let Some(away) = away else {
                self.add(at, State::Unknown, None, (no_earlier_ns, now_ns));
                now_ns = no_earlier_ns;
                continue;
            };
            let lasts = || {
                let open = self.block(at, &away).filter(|_| away.is_open);
                open.is_some_and(|block| block.wake_ns.is_none())
            };
            if now_ns == away.wake_ns || now_ns == task.end_ns && lasts() {
                let block = self.block(at, &away);
                let next = block.and_then(|block| self.leads_to(at, &block, now_ns));
                let back = block.and_then(|block| self.comes_back(at, &block));
                if let Some(next) = next.filter(|next| self.goes_to(*next, now_ns)) {
                    self.until = back.or(self.until);
                    at = next;
                    continue;
                }
            }
            let (state, from_ns, block) = if away.in_ns < now_ns {
                let state = match away.followed {
                    true => State::Running,
                    false => State::Unknown,
                };
                (state, away.in_ns, None)
            } else if away.wake_ns < now_ns {
                (State::Runnable, away.wake_ns, None)
            } else {
                (away.state, away.out_ns, self.block(at, &away))
            };
            let from_ns = from_ns.max(no_earlier_ns).min(now_ns - 1);
            self.add(at, state, block, (from_ns, now_ns));
            now_ns = from_ns;
            self.came_by[at as usize] = Some(now_ns);
            last = Some((at, away));
        }
    }

    /// Goes on with another task. Not if it has been there at this moment: it would go round for
    /// ever.
    fn goes_to(&mut self, at: u32, now_ns: u64) -> bool {
        let came_by = self.came_by[at as usize].replace(now_ns);
        if came_by == Some(now_ns) {
            return false;
        }
        // It is there at the task's end once at most, and that is the first time.
        self.until = match came_by {
            None => self.blocks.ended_by(at as usize),
            Some(_) => None,
        };
        self.until.take_if(|(_, at_ns)| now_ns < *at_ns);
        true
    }

    /// Of a wait for the interpreter's lock: who asked for it first, and when.
    fn comes_back(&self, at: u32, block: &Block) -> Option<(u32, u64)> {
        if !self.interpreter.contains(&block.target) {
            return None;
        }
        let others = self.until.filter(|(_, at_ns)| *at_ns >= block.start_ns);
        others.or(Some((at, block.start_ns)))
    }

    /// The task that is what this wait took, at its end.
    fn leads_to(&mut self, at: u32, block: &Block, now_ns: u64) -> Option<u32> {
        let lives = |other: &u32| {
            let other = &self.blocks.model.tasks[*other as usize];
            other.start_ns < now_ns && other.end_ns >= now_ns
        };
        let other = match self.blocks.end(at as usize, block) {
            End::Task(waker) => {
                // A message can be on its way while its sender already sleeps.
                let awake = self
                    .before(waker, now_ns)
                    .is_none_or(|away| away.in_ns < now_ns);
                Some(waker).filter(|_| awake)
            }
            // What it did from then on waited for the signal.
            End::Interrupted
                if let Some(sender) = self.blocks.wakers.task(block.waker)
                    && !self.goes_on(at, block) =>
            {
                Some(sender as u32)
            }
            End::Nobody | End::CutShort | End::Interrupted => match self.kin.of(at, block) {
                Providers::Tasks(tasks) => tasks.into_iter().find(lives),
                _ => None,
            },
            End::Outside | End::Interrupt | End::Unknown => None,
        };
        other.filter(|other| *other != at && lives(other))
    }

    /// Is this wait, which the path is at, taken up again as the next thing that its task waits
    /// for? Then the signal that interrupted it gave nothing.
    fn goes_on(&mut self, at: u32, block: &Block) -> bool {
        let before = &mut self.before[at as usize];
        let next = before.stretches.get(before.near).and_then(Block::of);
        next.is_some_and(|next| {
            (next.syscall, next.target) == (block.syscall, block.target)
                && next.seq == block.seq.wrapping_add(1)
        })
    }

    /// See [`Before::before`].
    #[inline]
    fn before(&mut self, at: u32, at_ns: u64) -> Option<Away> {
        let task = &self.blocks.model.tasks[at as usize];
        self.before[at as usize].before(task, at_ns)
    }

    /// The block that a task was in in the stretch that was found last of it.
    fn block(&self, at: u32, away: &Away) -> Option<Block> {
        match away.is_open {
            true => Block::open(&self.blocks.model.tasks[at as usize]),
            false => Block::of(self.before[at as usize].last.as_ref()?.0),
        }
    }

    fn creator(&self, task: &Task) -> Option<u32> {
        let creator = self.blocks.wakers.index(task.parent)?;
        let lived = self.blocks.model.tasks[creator].start_ns < task.start_ns;
        lived.then_some(creator as u32)
    }

    fn add(&mut self, at: u32, state: State, block: Option<Block>, (from_ns, to_ns): (u64, u64)) {
        let ns = self.blocks.part.ns(from_ns, to_ns);
        if ns == 0 {
            return;
        }
        if state == State::Blocked {
            self.blocked[at as usize] = self.blocked[at as usize].saturating_add(ns);
        }
        let key = Key {
            role: self.roles[at as usize],
            state,
            syscall: block.map_or(-1, |b| b.syscall),
            target: block.map_or(0, |b| match self.targets.get(b.target as usize) {
                None | Some(0) => 0,
                Some(same) => *same,
            }),
        };
        let recent = &mut self.recent[key.short()];
        if self.parts.get(*recent).is_none_or(|(same, _)| *same != key) {
            let parts = &mut self.parts;
            *recent = *self.by_key.entry(key).or_insert_with(|| {
                parts.push((key, (0, 0, (at, block))));
                parts.len() - 1
            });
        }
        let (_, part) = &mut self.parts[*recent];
        part.0 = part.0.saturating_add(ns);
        part.1 += 1;
    }

    fn parts(self, roles: &[&str]) -> Vec<PathPart> {
        let mut rows = self.parts;
        rows.sort_by_key(|(key, (ns, _, (at, block)))| {
            let start_ns = block.map_or(0, |b| b.start_ns);
            (
                std::cmp::Reverse(*ns),
                key.role,
                key.state as u8,
                *at,
                start_ns,
            )
        });
        let mut parts: Vec<PathPart> = Vec::new();
        for (at, (key, (ns, count, (task, block)))) in rows.into_iter().enumerate() {
            let link = block.map(|block| chains::link(self.blocks, (task, block)));
            let object = link.as_ref().and_then(|link| link.object.clone());
            let part = PathPart {
                role: roles[key.role as usize].to_owned(),
                state: match key.state {
                    State::Running => PathState::Running,
                    State::Runnable => PathState::Runnable,
                    State::Blocked => PathState::Blocked,
                    State::Stopped => PathState::Stopped,
                    State::Unknown => PathState::Unknown,
                },
                reason: link.map(|link| link.reason),
                object: object.filter(|_| key.target != 0 && at < PARTS),
                ns,
                count,
            };
            // Beyond the first, those that differ in what they wait for only.
            let same = |other: &&mut PathPart| {
                (&other.role, other.state, &other.reason, &other.object)
                    == (&part.role, part.state, &part.reason, &part.object)
            };
            match parts.iter_mut().find(same) {
                Some(other) => {
                    other.ns = other.ns.saturating_add(part.ns);
                    other.count += part.count;
                }
                None => parts.push(part),
            }
        }
        parts.sort_by_key(|part| std::cmp::Reverse(part.ns));
        parts
    }
}

impl<'a> Before<'a> {
    fn all(task: &'a Task) -> Self {
        Self {
            stretches: task.stretches.reader(),
            near: task.stretches.len(),
            last: None,
        }
    }

    /// The last stretch off the CPU that began before this time, which is no later than the
    /// last one that was asked for.
    #[inline]
    fn before(&mut self, task: &Task, at_ns: u64) -> Option<Away> {
        if let Some(open) = task.open.filter(|open| open.out_ns < at_ns) {
            let wake_ns = open.wake_ns.unwrap_or(u64::MAX).max(open.out_ns);
            return Some(Away {
                out_ns: open.out_ns,
                wake_ns,
                in_ns: u64::MAX,
                state: state_of(open.why),
                is_open: true,
                followed: true,
            });
        }
        if self.last.is_none_or(|(off, _)| off.out_ns >= at_ns) {
            self.go_back(at_ns);
        }
        let (off, after) = self.last?;
        let expected = off.seq.wrapping_add(1);
        Some(Away {
            out_ns: off.out_ns,
            wake_ns: off.wake_ns,
            in_ns: off.in_ns,
            state: off.state(),
            is_open: false,
            followed: after.or(task.stretches_expected) == Some(expected),
        })
    }

    /// Forgets those of the first `near` that left at this time or later: one by one, and where
    /// there are many by a search.
    fn go_back(&mut self, at_ns: u64) {
        /// Mostly it is one of so many.
        const STEPS: usize = 4;
        let left_before = |last: &Option<(Off, Option<u32>)>| {
            last.as_ref().is_some_and(|(off, _)| off.out_ns < at_ns)
        };
        for _ in 0..=STEPS {
            if left_before(&self.last) || self.near == 0 {
                return;
            }
            let after = match self.last {
                Some((off, _)) => {
                    self.near -= 1;
                    Some(off.seq)
                }
                None => self.stretches.seq(self.near),
            };
            self.look(after);
        }
        if !left_before(&self.last) {
            self.near = self.stretches.left_before_near(self.near, at_ns);
            let after = self.stretches.seq(self.near);
            self.look(after);
        }
    }

    /// Looks at the last of the first `near`, which this one comes after.
    fn look(&mut self, after: Option<u32>) {
        let last = self.near.checked_sub(1);
        let last = last.and_then(|last| self.stretches.get(last));
        self.last = last.map(|off| (off, after));
    }
}
