//! Who or what holds up a member that is blocked, as its block tells.
//!
//! In an episode each task is in one block, and that block tells who will end it:
//! either another task of the group, which is blocked as well (an edge), or something
//! else. So the edges of an episode are there at once, though most of its blocks end
//! long after it.
//!
//! A waker that waits for input again and again, and wakes another after the
//! hundredth time, held that one up the last time only. So an edge counts from the
//! waker's last wait for input on; where a task waits for the other's end, it counts
//! all the time.
//!
//! Nor does a task hold up another while both wait for input and nobody owes that
//! other one anything: a server's helper that looks at several descriptors is as idle
//! as the server itself until a client comes. What the server waits for after that
//! does hold it up.

use super::{
    blocks::{Block, Blocks, Class, End, HeldFrom},
    members::Members,
};
use crate::model::{Target, Task};

/// Who or what holds up a member that is blocked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeldBy {
    /// A member woke it.
    Edge {
        /// Its position.
        to: u32,
        /// It counts in blocks of that member which began at this time or later.
        from: HeldFrom,
        /// What it waited for.
        class: Class,
    },
    /// A member woke it, after it had waited for other input first.
    EdgeLater,
    /// It waited for input from outside the group.
    Input,
    /// It waited for a time.
    Time,
    /// It waited for something else, which came from outside the group.
    Busy,
    /// The same, and a task of another process of the workload brought it: what
    /// that one waited for is not looked at.
    Abroad,
    /// What it waited for did not come.
    NotWoken,
    /// The record does not tell who woke it.
    Unknown,
}

impl HeldBy {
    /// The same while the member that it may lead to is in a block that began at
    /// this time, and is held up by this itself.
    #[inline]
    pub(super) fn during(self, waker: Option<(u64, Self)>) -> Self {
        let Self::Edge { from, class, .. } = self else {
            return self;
        };
        match waker {
            Some((start_ns, held_by)) if start_ns >= from.ns => {
                match class == Class::Anything && held_by == Self::Input {
                    true => Self::Input,
                    false => self,
                }
            }
            _ => match (from.known_before, class.is_input()) {
                (false, _) => Self::Unknown,
                (true, true) => Self::Input,
                (true, false) => Self::EdgeLater,
            },
        }
    }
}

/// What counts of what holds up members (by position) whose blocks began at these times.
/// Takes as long as there are members, however long the chains.
pub(super) fn counted(held: &[Option<HeldBy>], starts: &[Option<u64>]) -> Vec<Option<HeldBy>> {
    let mut counted: Vec<Option<HeldBy>> = vec![None; held.len()];
    let mut known = vec![false; held.len()];
    let mut on_the_way = vec![false; held.len()];
    for first in 0..held.len() {
        let mut path = Vec::new();
        let mut at = first;
        // Up to one that is known, or does not depend on another, or comes again.
        while !known[at] && !on_the_way[at] {
            on_the_way[at] = true;
            path.push(at);
            match held[at] {
                Some(HeldBy::Edge {
                    to,
                    class: Class::Anything,
                    ..
                }) => at = to as usize,
                _ => break,
            }
        }
        for at in path.into_iter().rev() {
            counted[at] = held[at].map(|held_by| match held_by {
                HeldBy::Edge { to, class, .. } => {
                    let to = to as usize;
                    // Whether it waits for input matters for who is owed nothing only,
                    // and those in a ring are all owed nothing.
                    let of_waker = match (class, known[to]) {
                        (Class::Anything, true) => counted[to],
                        (Class::Anything, false) => held[to].map(|_| HeldBy::Input),
                        _ => held[to],
                    };
                    held_by.during(starts[to].zip(of_waker))
                }
                held_by => held_by,
            });
            known[at] = true;
        }
    }
    counted
}

/// Who or what holds up a member in this block.
#[cfg(test)]
pub(super) fn held_by(
    blocks: &Blocks<'_>,
    members: &Members<'_>,
    task: u32,
    block: &Block,
) -> HeldBy {
    let what = (blocks.class(block), blocks.end(task as usize, block));
    let from = |waker: u32| blocks.held_from((task, block), waker as usize, &mut 0);
    held_by_what(blocks, members, task, what, from)
}

/// Who or what holds up a member in a block, of which it is given what it waited for and what ended
/// that. `from`: from when on the task that ended it held it up.
pub(super) fn held_by_what(
    blocks: &Blocks<'_>,
    members: &Members<'_>,
    task: u32,
    (class, end): (Class, End),
    from: impl FnOnce(u32) -> HeldFrom,
) -> HeldBy {
    let without_end = match class {
        Class::Input | Class::Anything => HeldBy::Input,
        Class::Time => HeldBy::Time,
        Class::Busy => HeldBy::NotWoken,
    };
    match end {
        End::Unknown => HeldBy::Unknown,
        End::CutShort | End::Interrupted | End::Nobody => without_end,
        // A task that wakes a sleeper cuts its sleep short.
        _ if class == Class::Time => HeldBy::Time,
        End::Task(waker) => match (members.position(waker), class) {
            (Some(to), Class::Anything) if siblings(blocks, task, waker) => HeldBy::Edge {
                to,
                from: from(waker),
                class: Class::Busy,
            },
            (Some(to), class) => HeldBy::Edge {
                to,
                from: from(waker),
                class,
            },
            (None, class) if class.is_input() => HeldBy::Input,
            (None, _) => HeldBy::Abroad,
        },
        End::Outside | End::Interrupt => match class.is_input() {
            true => HeldBy::Input,
            false => HeldBy::Busy,
        },
    }
}

/// The position of the member that made this one, if it waits for nothing more before it
/// ends. Whoever waits for any child goes on when the first of them ends, and is behind each
/// of those.
pub(super) fn awaited_by(
    blocks: &Blocks<'_>,
    members: &Members<'_>,
    position: u32,
    block: &Block,
) -> Option<u32> {
    let at = members.tasks[position as usize] as usize;
    let task = &blocks.model.tasks[at];
    let is_last = task.serial == task.process && blocks.is_last(at, block);
    let parent = is_last.then(|| blocks.wakers.index(task.parent))??;
    members.position(parent as u32)
}

/// Does a task wait in this block for the end of this child, or of any?
pub(super) fn waits_for_child(blocks: &Blocks<'_>, block: &Block, child: &Task) -> bool {
    match blocks.model.targets.get(block.target as usize) {
        Some(Target::Child(pid)) => pid.is_none_or(|pid| pid <= 0 || pid == i64::from(child.pid)),
        _ => false,
    }
}

/// Processes of one server: a message from one to another is what that one waited for, even
/// where it looks at several descriptors, as a backend of PostgreSQL does that waits for a
/// row. Threads of a process wake each other for reasons of its runtime.
fn siblings(blocks: &Blocks<'_>, one: u32, other: u32) -> bool {
    let (one, other) = (
        &blocks.model.tasks[one as usize],
        &blocks.model.tasks[other as usize],
    );
    one.process != other.process && one.ppid == other.ppid && one.name == other.name
}
