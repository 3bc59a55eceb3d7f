//! Tasks that are woken together for one event, which one of them takes.
//!
//! All that wait for connections to one socket, each with an epoll instance or a set of its
//! own, are woken by each connection. The kernel does that in one go. Who was woken for
//! nothing goes back to where it waited, without having woken anybody or waited elsewhere.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{
    Blocks, Confidence, Finding, FindingKind, Report, TASKS, count, duration, finding, quantity,
    who,
};
use crate::{
    analysis::{
        blocks::{Block, Class, End},
        objects,
    },
    model::{File, Target, Task},
    report::{Ended, Object},
    trace::{FileKind, Waker},
};

/// Wakeups of one go are no further apart, ns.
const APART_NS: u64 = 30_000;
/// Who runs for longer before it waits again may have done something, ns.
const SHORT_NS: u64 = 1_000_000;
/// Fewer that were woken for nothing are not told of.
const FEW: u64 = 50;

/// Inode and device of a socket that others connect to.
type Socket = (u64, u32);

/// A wakeup of somebody who waited for a socket.
struct Woken {
    at_ns: u64,
    waker: Waker,
    task: u32,
    /// It went back to wait for the same after so long, and did nothing in between that is
    /// known of.
    back_ns: Option<u64>,
}

/// What became of the wakeups for one socket.
#[derive(Default)]
struct Herd {
    wakeups: u64,
    events: u64,
    in_vain: u64,
    vain_ns: u64,
}

pub(super) fn findings(report: &Report, blocks: &Blocks<'_>) -> Vec<Finding> {
    let mut waits: BTreeMap<Socket, (Object, Vec<Woken>)> = BTreeMap::new();
    let tasks = &blocks.model.tasks;
    let mut listeners: HashSet<u32> = HashSet::new();
    for (at, task) in tasks.iter().enumerate() {
        let anything = |off| Block::of(off).filter(|block| blocks.class(block) == Class::Anything);
        let stretches = task.stretches.iter_if(|off| anything(off).is_some());
        for (which, off) in stretches.enumerate() {
            let block = anything(off);
            let Some((block, (socket, object))) =
                block.and_then(|block| Some((block, socket(blocks, &block)?)))
            else {
                continue;
            };
            let came = matches!(
                blocks.end(at, &block),
                End::Task(_) | End::Outside | End::Interrupt
            ) && blocks.how(at, &block) == Ended::Fulfilled;
            if let (true, Some(at_ns)) = (came, block.wake_ns) {
                listeners.insert(at as u32);
                waits
                    .entry(socket)
                    .or_insert_with(|| (object, Vec::new()))
                    .1
                    .push(Woken {
                        at_ns,
                        waker: block.waker,
                        task: at as u32,
                        back_ns: back(task, which),
                    });
            }
        }
    }
    waits.retain(|_, (_, woken)| woken.iter().any(|w| w.task != woken[0].task));
    if waits.is_empty() {
        return Vec::new();
    }
    let wakes = wakes_by(blocks, &listeners);
    let told = waits.into_iter().filter_map(|(_, (object, mut woken))| {
        woken.sort_by_key(|w| w.at_ns);
        let herd = herd(&woken, &wakes);
        of(report, tasks, object, &woken, &herd)
    });
    told.collect()
}

/// The socket that others connect to among what a task waits for.
fn socket(blocks: &Blocks<'_>, block: &Block) -> Option<(Socket, Object)> {
    let model = blocks.model;
    let listens = |kind: &Option<FileKind>| kind.as_ref().is_some_and(FileKind::is_listening);
    let of_epoll = |file: &File| {
        let interest = file.interests.last()?;
        let fd = interest.fds.iter().find(|fd| listens(&fd.kind))?;
        Some((fd.inode, fd.device))
    };
    let socket = match model.targets.get(block.target as usize)? {
        Target::File { file, .. } => {
            let file = model.files.get(*file as usize)?;
            match listens(&file.kind) {
                true => (file.inode, file.device),
                false => of_epoll(file)?,
            }
        }
        Target::Fds(set) => {
            let set = model.waitsets.get(*set as usize)?;
            set.fds.iter().find(|fd| listens(&fd.kind))?.identity?
        }
        _ => return None,
    };
    let shared = objects::shareable(model, block.target, block.start_ns);
    let listening = shared.into_iter().map(|(_, object)| object);
    let mut listening = listening.filter(|object| object.name.ends_with(", listening"));
    Some((socket, listening.next()?))
}

/// After which time a task waits for the same again, when it waited for nothing else in
/// between and ran for a short time only.
fn back(task: &Task, which: usize) -> Option<u64> {
    let woken = task.stretches.get(which)?;
    let mut ran_ns = 0;
    let mut before = woken;
    for next in task.stretches.from(which + 1) {
        if next.seq != before.seq.checked_add(1)? {
            return None;
        }
        ran_ns += next.out_ns.saturating_sub(before.in_ns);
        if ran_ns > SHORT_NS {
            return None;
        }
        if Block::of(next).is_some() {
            return (next.target == woken.target).then_some(next.out_ns - woken.wake_ns);
        }
        before = next;
    }
    None
}

/// When each of these tasks woke another, by time.
fn wakes_by(blocks: &Blocks<'_>, tasks: &HashSet<u32>) -> HashMap<u32, Vec<u64>> {
    let mut wakes: HashMap<u32, Vec<u64>> = HashMap::new();
    if tasks.is_empty() {
        return wakes;
    }
    for task in &blocks.model.tasks {
        for off in &task.stretches {
            if let Waker::Task { serial, .. } = off.waker
                && let Some(waker) = blocks.wakers.index(serial).map(|at| at as u32)
                && tasks.contains(&waker)
            {
                wakes.entry(waker).or_default().push(off.wake_ns);
            }
        }
    }
    for times in wakes.values_mut() {
        times.sort_unstable();
    }
    wakes
}

fn herd(woken: &[Woken], wakes: &HashMap<u32, Vec<u64>>) -> Herd {
    let mut herd = Herd::default();
    let mut rest = woken;
    while let Some((first, _)) = rest.split_first() {
        let mut seen = HashSet::new();
        let mut last_ns = first.at_ns;
        // Who is woken again was woken for something else.
        let together = rest.iter().take_while(|w| {
            let one = w.waker == first.waker && w.at_ns - last_ns <= APART_NS;
            last_ns = w.at_ns;
            one && seen.insert(w.task)
        });
        let size = together.count();
        let (these, others) = rest.split_at(size.max(1));
        rest = others;
        let for_nothing = these.iter().filter_map(|w| {
            let back_ns = w.back_ns?;
            let times = wakes.get(&w.task).map_or(&[][..], Vec::as_slice);
            let next = times.partition_point(|ns| *ns < w.at_ns);
            let woke = times.get(next).is_some_and(|ns| *ns <= w.at_ns + back_ns);
            (!woke).then_some(back_ns)
        });
        let mut for_nothing: Vec<u64> = for_nothing.collect();
        // One of them has it, whatever it did with it.
        for_nothing.sort_unstable();
        for_nothing.truncate(these.len() - 1);
        herd.wakeups += these.len() as u64;
        herd.events += 1;
        herd.in_vain += for_nothing.len() as u64;
        herd.vain_ns += for_nothing.iter().sum::<u64>();
    }
    herd
}

fn of(
    report: &Report,
    tasks: &[Task],
    object: Object,
    woken: &[Woken],
    herd: &Herd,
) -> Option<Finding> {
    if herd.in_vain < FEW || herd.in_vain < herd.events / 2 {
        return None;
    }
    let mut by_task: BTreeMap<u32, u64> = BTreeMap::new();
    for w in woken {
        *by_task.entry(w.task).or_default() += 1;
    }
    let mut these: Vec<(u32, u64)> = by_task.into_iter().collect();
    these.sort_by_key(|(_, times)| std::cmp::Reverse(*times));
    let (first, _) = these.first()?;
    let first = &tasks[*first as usize];
    let others = these.len() as u64 - 1;
    let sentence = format!(
        "{} and {} are woken together for one event of {}: {} for {}, {} of them in vain.",
        who(&first.name, first.tid),
        quantity(others, "other"),
        object.name,
        quantity(herd.wakeups, "wakeup"),
        quantity(herd.events, "event"),
        count(herd.in_vain),
    );
    // They are at it at the same time.
    let ns = (herd.vain_ns / others.max(1)).min(report.workload.duration_ns);
    let serials = these.iter().take(TASKS);
    Some(Finding {
        tasks: serials.map(|(at, _)| tasks[*at as usize].serial).collect(),
        object: Some(object),
        evidence: vec![format!(
            "{} from such a wakeup to the next wait, in all",
            duration(herd.vain_ns)
        )],
        ..finding(FindingKind::Herd, ns, Confidence::Likely, sentence)
    })
}
