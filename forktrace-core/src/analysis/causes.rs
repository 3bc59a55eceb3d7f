//! What the episodes of a group are put down to: one row a root cause, whichever
//! tasks waited for it.

use std::{
    cmp::Reverse,
    collections::{HashMap, hash_map::Entry},
};

use super::{
    blocks::{Block, Blocks},
    chains,
    episodes::{CauseKey, CauseSum, Stall},
    members::Members,
    objects,
    standstill::wait_at,
    sum_by_key::SumByKey,
};
use crate::{
    model::Target,
    report::{Cause, CauseTask, Ended, InterruptKind, Link, Verdict, WakerKind, WokenBy},
};

/// Causes of a group that are listed by themselves.
const CAUSES: usize = 50;
/// Tasks of a cause that are listed.
const TASKS: usize = 10;

/// What makes two episodes have one root cause.
#[derive(PartialEq, Eq, Hash)]
enum RootCause {
    /// A task held up others, or was the only one with anything to do: what it
    /// waited in.
    Behind {
        reason: String,
        /// Where that is all that is known.
        syscall: Option<String>,
        what: What,
        ended: Ended,
    },
    /// Nobody held up another: whose wait ended first, and who ended it.
    Nobody {
        verdict: Verdict,
        reason: String,
        /// `None` where all were idle: then it does not matter.
        what: Option<What>,
        name: String,
        ended: Ended,
        by: Kind,
    },
    /// The block is not known.
    Unknown(Verdict),
}

/// What was waited for.
#[derive(PartialEq, Eq, Hash)]
enum What {
    /// The same for all tasks.
    Same(u32),
    /// For one task: of another one it may be something else.
    Of(u32, u32),
    /// For a disk, each for files of its own: the device of the file system.
    Disk(u32),
    /// Nothing that has an identity, or nothing that is known.
    Nothing,
}

/// A waker, but for its tid.
#[derive(PartialEq, Eq, Hash)]
enum Kind {
    Task { outside: bool, name: Option<String> },
    Kernel,
    Interrupt(Option<InterruptKind>, Option<String>),
    Unknown,
    Nobody,
}

impl Kind {
    fn of(by: &WokenBy) -> Self {
        match by.kind {
            WakerKind::Task | WakerKind::TaskSoftirq if by.kernel_thread => Self::Kernel,
            WakerKind::Task | WakerKind::TaskSoftirq => Self::Task {
                outside: by.outside,
                name: by.name.clone(),
            },
            // A disk's interrupt or a kernel thread: either can end the same wait.
            WakerKind::Interrupt if by.interrupt == Some(InterruptKind::Block) => Self::Kernel,
            WakerKind::Interrupt => Self::Interrupt(by.interrupt, by.device.clone()),
            WakerKind::Unknown => Self::Unknown,
            WakerKind::Nobody => Self::Nobody,
        }
    }
}

/// The causes of a group, worst first, and all beyond the first few in one a verdict.
pub(super) fn causes(
    blocks: &Blocks<'_>,
    members: &Members<'_>,
    targets: &[u32],
    sums: SumByKey<CauseKey, CauseSum>,
) -> Vec<Cause> {
    let mut rows = sums.into_rows();
    rows.sort_by_key(|(_, sum)| Reverse(sum.total.longest_ns));
    let mut found: Vec<Cause> = Vec::new();
    let mut of_tasks: Vec<SumByKey<u32, (u64, u64)>> = Vec::new();
    let mut index = HashMap::new();
    for (key, sum) in rows {
        let root = root(blocks, members, &sum.longest);
        let what = root
            .as_ref()
            .map(|(block, _)| what(blocks, targets, &key, block));
        let shared = matches!(what, Some(What::Same(_) | What::Disk(_)));
        let root = root.map(|(_, link)| match what {
            Some(What::Disk(device)) => Link {
                object: Some(objects::disk(device)),
                ..link
            },
            _ => link,
        });
        let position = sum.longest.root;
        let at = match index.entry(root_cause(&key, root.as_ref(), what)) {
            Entry::Occupied(entry) => *entry.get(),
            Entry::Vacant(entry) => {
                let at = *entry.insert(found.len());
                found.push(first(members, &key, root.clone()));
                of_tasks.push(SumByKey::default());
                at
            }
        };
        add(&mut found[at], &key, &sum, root.as_ref(), shared);
        let (ns, episodes) = of_tasks[at].of(position);
        *ns = ns.saturating_add(sum.total.ns);
        *episodes += sum.total.episodes;
    }
    for (cause, tasks) in found.iter_mut().zip(of_tasks) {
        by_tasks(blocks, members, cause, tasks);
    }
    found.sort_by_key(|cause| Reverse((cause.ns, cause.episodes)));
    cut(found)
}

/// The root's block in the longest of these episodes.
fn root(blocks: &Blocks<'_>, members: &Members<'_>, stall: &Stall) -> Option<(Block, Link)> {
    let at = *members.tasks.get(stall.root as usize)?;
    let task = &blocks.model.tasks[at as usize];
    let lives = task.start_ns < stall.end_ns && task.end_ns >= stall.end_ns;
    let block = match stall.unfulfilled {
        true => wait_at(blocks, task, stall.end_ns),
        false => Block::before(task, stall.end_ns),
    };
    let block = block.filter(|_| lives)?;
    Some((block, chains::link(blocks, (at, block))))
}

fn what(blocks: &Blocks<'_>, targets: &[u32], key: &CauseKey, block: &Block) -> What {
    if key.verdict == Verdict::CommonCause
        && !key.alone
        && let Some(device) = blocks.is_disk(block)
    {
        return What::Disk(device);
    }
    if let Some(same @ 1..) = targets.get(block.target as usize) {
        return What::Same(*same);
    }
    match blocks.model.targets.get(block.target as usize) {
        None | Some(Target::Unknown | Target::Sleep | Target::PageFault(_)) => What::Nothing,
        Some(_) => What::Of(key.root, block.target),
    }
}

/// Did one hold up others, or was it the only one with anything to do?
fn is_behind(key: &CauseKey) -> bool {
    key.verdict == Verdict::Caused || key.alone
}

fn root_cause(key: &CauseKey, root: Option<&Link>, what: Option<What>) -> RootCause {
    let (Some(root), Some(what)) = (root, what) else {
        return RootCause::Unknown(key.verdict);
    };
    if is_behind(key) {
        return RootCause::Behind {
            reason: root.reason.clone(),
            syscall: root.syscall.clone().filter(|_| what == What::Nothing),
            what,
            ended: root.ended,
        };
    }
    RootCause::Nobody {
        verdict: key.verdict,
        reason: root.reason.clone(),
        what: (key.verdict != Verdict::Idle).then_some(what),
        name: root.task.name.clone(),
        ended: root.ended,
        by: Kind::of(&root.woken_by),
    }
}

/// A row to which nothing was added yet.
fn first(members: &Members<'_>, key: &CauseKey, root: Option<Link>) -> Cause {
    // Each page is another one.
    let object = root.as_ref().and_then(|root| root.object.clone());
    Cause {
        group: members.group,
        verdict: key.verdict,
        alone: key.alone,
        alone_ns: 0,
        object: object.filter(|object| object.kind != "page"),
        syscall: root.as_ref().and_then(|root| root.syscall.clone()),
        woken_by: root.as_ref().map(|root| root.woken_by.clone()),
        root,
        tasks: 0,
        name: None,
        by: Vec::new(),
        ns: 0,
        episodes: 0,
        longest_ns: 0,
    }
}

/// `shared`: what its root waited for is the same thing for all.
fn add(cause: &mut Cause, key: &CauseKey, sum: &CauseSum, root: Option<&Link>, shared: bool) {
    if key.verdict == Verdict::Caused {
        (cause.verdict, cause.alone) = (Verdict::Caused, false);
    }
    if key.alone {
        cause.alone_ns = cause.alone_ns.saturating_add(sum.total.ns);
    }
    cause.ns = cause.ns.saturating_add(sum.total.ns);
    cause.episodes += sum.total.episodes;
    cause.longest_ns = cause.longest_ns.max(sum.total.longest_ns);
    let same_task = root.map(|r| r.task.serial) == cause.root.as_ref().map(|r| r.task.serial);
    let object = root.and_then(|root| root.object.as_ref());
    cause.object = cause.object.take().filter(|known| {
        (shared || same_task)
            && object.is_some_and(|o| (&o.kind, &o.id) == (&known.kind, &known.id))
    });
    let same_call = root.map(|r| &r.syscall) == Some(&cause.syscall);
    cause.syscall = cause.syscall.take().filter(|_| same_call);
    cause.woken_by = match (cause.woken_by.take(), root) {
        (Some(by), Some(root)) => common(by, &root.woken_by),
        _ => None,
    };
}

/// What two wakers have in common.
fn common(by: WokenBy, other: &WokenBy) -> Option<WokenBy> {
    if by == *other {
        return Some(by);
    }
    (by.name == other.name && Kind::of(&by) == Kind::of(other)).then(|| WokenBy {
        kind: match by.kind == other.kind {
            true => by.kind,
            false => WakerKind::Task,
        },
        // A number says who it was.
        serial: by.serial.filter(|serial| other.serial == Some(*serial)),
        tid: by.tid.filter(|tid| other.tid == Some(*tid)),
        ..by
    })
}

/// Who the roots were.
fn by_tasks(
    blocks: &Blocks<'_>,
    members: &Members<'_>,
    cause: &mut Cause,
    tasks: SumByKey<u32, (u64, u64)>,
) {
    if cause.root.is_none() {
        return;
    }
    let mut rows = tasks.into_rows();
    rows.sort_by_key(|(_, sum)| Reverse(*sum));
    let task = |position: u32| chains::name(blocks, members.tasks[position as usize]);
    let name = |position: u32| {
        let at = members.tasks[position as usize];
        &blocks.model.tasks[at as usize].name
    };
    let mut names = rows.iter().map(|(position, _)| name(*position));
    let same = names
        .next()
        .filter(|first| names.all(|name| name == *first));
    cause.name = same.cloned();
    cause.tasks = rows.len() as u32;
    let listed = rows.into_iter().take(TASKS);
    cause.by = listed
        .map(|(position, (ns, episodes))| CauseTask {
            task: task(position),
            ns,
            episodes,
        })
        .collect();
}

/// All beyond the first few in one a verdict.
fn cut(mut causes: Vec<Cause>) -> Vec<Cause> {
    let rest = causes.split_off(causes.len().min(CAUSES));
    for cause in rest {
        let same = |other: &&mut Cause| other.verdict == cause.verdict && other.root.is_none();
        match causes.iter_mut().find(same) {
            Some(rest) => {
                rest.ns = rest.ns.saturating_add(cause.ns);
                rest.alone_ns = rest.alone_ns.saturating_add(cause.alone_ns);
                rest.episodes += cause.episodes;
                rest.longest_ns = rest.longest_ns.max(cause.longest_ns);
            }
            None => causes.push(Cause {
                alone: false,
                root: None,
                object: None,
                syscall: None,
                woken_by: None,
                tasks: 0,
                name: None,
                by: Vec::new(),
                ..cause
            }),
        }
    }
    causes
}
