//! Pools whose workers were all busy.
//!
//! The trace tells a pool by where its workers wait for work: two tasks or more take turns
//! at one listening socket, or at one futex that others than themselves end their waits on.
//! A worker is busy while it is blocked in anything else but a futex: a worker that waits
//! for a futex waits for another task, and what for is told elsewhere.

use std::collections::{BTreeSet, HashMap};

use super::{
    Blocks, Confidence, Finding, FindingKind, Report, count, did, finding, part_of, spells,
};
use crate::{
    analysis::{
        blocks::{Block, Class, End},
        objects,
        sum_by_key::{SumByKey, total},
        syscall_families::wait_reason,
    },
    model::{Off, State, Target, Task},
    trace::FileKind,
};

/// Pools that are told apart.
const MOST: usize = 1_000;
/// A block is told from this length on, ns.
const LONG_NS: u64 = 5_000_000;

/// Where workers wait for work.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Source {
    /// Index in the model's targets.
    Futex(u32),
    /// Inode and device of a socket that others connect to.
    Socket(u64, u32),
}

/// Waits of a worker for a source that the same task ended.
struct Use {
    source: Source,
    /// Index in the model.
    worker: u32,
    /// Likewise; `None`: no task.
    ended_by: Option<u32>,
    /// How often; but for the last in the worker's life: when a pool is closed its workers
    /// tell each other.
    times: u64,
    /// When the first of them began.
    first_ns: u64,
}

/// Those who take turns at a source.
struct Pool {
    source: Source,
    /// When the first of them began to wait.
    opened_ns: u64,
    /// Indices in the model, in order.
    workers: Vec<usize>,
}

/// How long all were busy.
#[derive(Default)]
struct Busy {
    ns: u64,
    times: u64,
    longest_ns: u64,
    most: u64,
}

pub(super) fn findings(report: &Report, blocks: &Blocks<'_>) -> Vec<Finding> {
    let mut pools = pools(report, blocks);
    // Each is compared with all: of very many the largest.
    pools.sort_by_key(|pool| std::cmp::Reverse(pool.workers.len()));
    pools.truncate(MOST);
    pools.sort_by_key(|pool| pool.source);
    // Some of a pool can share another futex besides.
    let all: Vec<BTreeSet<usize>> = pools
        .iter()
        .map(|pool| pool.workers.iter().copied().collect())
        .collect();
    let part = |(at, workers): (usize, &BTreeSet<usize>)| {
        let others = all.iter().enumerate().filter(|(other, _)| *other != at);
        let larger = |(other, of): (usize, &BTreeSet<usize>)| {
            workers.is_subset(of) && (of.len() > workers.len() || other < at)
        };
        others.into_iter().any(larger)
    };
    let whole = pools
        .iter()
        .zip(all.iter().enumerate())
        .filter(|(_, it)| !part(*it));
    whole
        .filter_map(|(pool, _)| of(report, blocks, pool))
        .collect()
}

fn pools(report: &Report, blocks: &Blocks<'_>) -> Vec<Pool> {
    let mut uses: Vec<Use> = Vec::new();
    for (at, task) in blocks.model.tasks.iter().enumerate() {
        if report.tasks.get(at).is_some_and(|task| task.helper) {
            continue;
        }
        let last = task
            .stretches
            .iter()
            .rposition(|off| Block::of(off).is_some());
        let of = |off: &Off| match off.state() {
            State::Blocked => source(blocks, off.target),
            _ => None,
        };
        let stretches = task.stretches.iter_if(|off| of(&off).is_some());
        let mut of_task: SumByKey<(Source, Option<u32>), (u64, Option<u64>)> = SumByKey::default();
        for (which, off) in stretches.enumerate() {
            let Some((source, block)) = of(&off).zip(Block::of(off)) else {
                continue;
            };
            let by = match blocks.end(at, &block) {
                End::Task(waker) => Some(waker),
                _ => None,
            };
            let (times, first_ns) = of_task.of((source, by));
            first_ns.get_or_insert(block.start_ns);
            *times += u64::from(Some(which) != last);
        }
        if let Some(block) = Block::open(task)
            && let Some(source) = source(blocks, block.target)
        {
            let (_, first_ns) = of_task.of((source, None));
            first_ns.get_or_insert(block.start_ns);
        }
        let of_task = of_task.into_rows().into_iter();
        uses.extend(of_task.map(|((source, ended_by), (times, first_ns))| Use {
            source,
            worker: at as u32,
            ended_by,
            times,
            first_ns: first_ns.unwrap_or(u64::MAX),
        }));
    }
    uses.sort_unstable_by_key(|it| (it.source, it.worker));
    let mut jobs = Jobs::new();
    for job in (0..report.tasks.len()).filter_map(|at| job(report, blocks, at)) {
        *jobs.entry(job).or_default() += 1;
    }
    uses.chunk_by(|a, b| a.source == b.source)
        .filter_map(|uses| pool(report, blocks, &jobs, uses))
        .collect()
}

/// The pool that uses one source, if that is one: a lock is passed on from one that waits for
/// it to the next; work comes from others.
fn pool(report: &Report, blocks: &Blocks<'_>, jobs: &Jobs<'_>, uses: &[Use]) -> Option<Pool> {
    let source = uses.first()?.source;
    let mut workers: Vec<usize> = uses.iter().map(|it| it.worker as usize).collect();
    workers.dedup();
    let is_socket = matches!(source, Source::Socket(..));
    if is_socket {
        add_siblings(report, blocks, &mut workers);
    }
    let is_one = |by: u32| workers.binary_search(&(by as usize)).is_ok();
    let passed_on = uses.iter().filter(|it| it.ended_by.is_some_and(is_one));
    let passed_on = total(passed_on.map(|it| it.times));
    let all = total(uses.iter().map(|it| it.times));
    let is_pool = workers.len() > 1
        && (is_socket || passed_on.saturating_mul(2) <= all)
        && (is_socket
            || took_turns(uses)
            || one_called_each(uses)
            || are_all(jobs, report, blocks, &workers));
    is_pool.then_some(Pool {
        source,
        opened_ns: uses.iter().map(|it| it.first_ns).min()?,
        workers,
    })
}

/// Did two or more come back for more? A futex that each waits for once can be anything: two
/// threads that begin at the same time meet at a lock of the C library.
fn took_turns(uses: &[Use]) -> bool {
    let by_worker = uses.chunk_by(|a, b| a.worker == b.worker);
    let back = by_worker.filter(|uses| total(uses.iter().map(|it| it.times)) > 1);
    back.count() > 1
}

/// Or did one that is none of them call three or more? Of those who meet at a lock its holder
/// calls the first only, and that one the next.
fn one_called_each(uses: &[Use]) -> bool {
    let callers: BTreeSet<u32> = uses.iter().filter_map(|it| it.ended_by).collect();
    let called: BTreeSet<u32> = uses
        .iter()
        .filter(|it| it.ended_by.is_some() && it.times > 0)
        .map(|it| it.worker)
        .collect();
    let is_one = |caller: &u32| uses.iter().any(|it| it.worker == *caller);
    callers.len() == 1 && called.len() > 2 && !callers.iter().any(is_one)
}

/// Or are they all that do this job in their processes?
fn are_all(jobs: &Jobs<'_>, report: &Report, blocks: &Blocks<'_>, workers: &[usize]) -> bool {
    let of: BTreeSet<_> = workers
        .iter()
        .filter_map(|at| job(report, blocks, *at))
        .collect();
    let doing = of.iter().map(|job| jobs.get(job).copied().unwrap_or(0));
    doing.sum::<usize>() == workers.len()
}

/// How many do each job, by process and role.
type Jobs<'a> = HashMap<(u32, &'a str), usize>;

fn job<'a>(report: &'a Report, blocks: &Blocks<'_>, at: usize) -> Option<(u32, &'a str)> {
    let row = report.tasks.get(at).filter(|row| !row.helper)?;
    Some((blocks.model.tasks[at].process, row.role.as_str()))
}

/// A worker that always found a connection never waited for one: it is told by another worker
/// of the same parent, of which it is a copy.
fn add_siblings(report: &Report, blocks: &Blocks<'_>, workers: &mut Vec<usize>) {
    let tasks = &blocks.model.tasks;
    let family = |at: usize| {
        let (task, of) = (&tasks[at], report.tasks.get(at)?);
        let copied = task.serial == task.process && task.parent != 0 && !of.helper;
        copied.then_some((task.parent, of.role.as_str()))
    };
    let families: BTreeSet<(u32, &str)> = workers.iter().filter_map(|at| family(*at)).collect();
    let of_them = |at: &usize| family(*at).is_some_and(|it| families.contains(&it));
    workers.extend((0..tasks.len()).filter(of_them));
    workers.sort_unstable();
    workers.dedup();
}

/// Is this a socket that others connect to, or a set with one?
pub(super) fn is_listening(blocks: &Blocks<'_>, target: u32) -> bool {
    listening(blocks, target).is_some()
}

fn source(blocks: &Blocks<'_>, target: u32) -> Option<Source> {
    match blocks.model.targets.get(target as usize)? {
        Target::Futex(_) => Some(Source::Futex(target)),
        _ => listening(blocks, target),
    }
}

fn listening(blocks: &Blocks<'_>, target: u32) -> Option<Source> {
    let model = blocks.model;
    let listens = |kind: &Option<FileKind>| kind.as_ref().is_some_and(FileKind::is_listening);
    match model.targets.get(target as usize)? {
        Target::File { file, .. } => {
            let file = model.files.get(*file as usize)?;
            listens(&file.kind).then_some(Source::Socket(file.inode, file.device))
        }
        Target::Fds(set) => {
            let set = model.waitsets.get(*set as usize)?;
            let (inode, device) = set.fds.iter().find(|fd| listens(&fd.kind))?.identity?;
            Some(Source::Socket(inode, device))
        }
        _ => None,
    }
}

fn of(report: &Report, blocks: &Blocks<'_>, pool: &Pool) -> Option<Finding> {
    let mut edges: Vec<(u64, i64, i64)> = Vec::new();
    let mut kinds: HashMap<(i16, u32), u64> = HashMap::new();
    let mut by_task: Vec<(u64, u32)> = Vec::new();
    let mut each_other_ns = 0;
    let ended_by_one = |at: usize, block: &Block| match blocks.end(at, block) {
        End::Task(waker) => pool.workers.binary_search(&(waker as usize)).is_ok(),
        _ => false,
    };
    for at in &pool.workers {
        let task = &blocks.model.tasks[*at];
        // A process starts long before it serves; a thread of a pool does nothing else.
        let from_ns = match task.serial == task.process {
            true => pool.opened_ns.max(task.start_ns),
            false => task.start_ns,
        };
        edges.extend([(from_ns, 1, 0), (task.end_ns, -1, 0)]);
        let mut sum_ns = 0;
        let busy = |block: &Block| {
            source(blocks, block.target) != Some(pool.source) && works(blocks, block)
        };
        for block in blocks_of(task)
            .filter(busy)
            .filter(|b| b.start_ns >= from_ns)
        {
            let (start_ns, end_ns) = (block.start_ns, block.end_ns(task));
            if end_ns - start_ns >= LONG_NS {
                edges.extend([(start_ns, 0, 1), (end_ns, 0, -1)]);
                let kind = kinds.entry((block.syscall, block.target)).or_default();
                *kind = kind.saturating_add(end_ns - start_ns);
                sum_ns = u64::saturating_add(sum_ns, end_ns - start_ns);
                if ended_by_one(*at, &block) {
                    each_other_ns = u64::saturating_add(each_other_ns, end_ns - start_ns);
                }
            }
        }
        by_task.push((sum_ns, task.serial));
    }
    let busy = all_busy(edges);
    // Who asks the other one, as a client or in a chain of servers, does no work of the same kind.
    let all_ns = total(by_task.iter().map(|(ns, _)| *ns));
    let apart = each_other_ns >= all_ns / pool.workers.len() as u64 / 2;
    if busy.ns == 0 || apart {
        return None;
    }
    let ((syscall, target), most_ns) = kinds.iter().max_by_key(|(kind, ns)| (**ns, **kind))?;
    let (reason, call) = wait_reason(blocks.arch, *syscall, false, false);
    let same = most_ns.saturating_mul(2) > kinds.values().copied().fold(0, u64::saturating_add);
    let object = objects::describe(blocks.model, *target).filter(|_| same && reason != "sleep");
    by_task.sort_unstable_by_key(|(ns, serial)| (std::cmp::Reverse(*ns), *serial));
    let name = &report.tasks.get(*pool.workers.first()?)?.role;
    let sentence = format!(
        "{} workers of `{name}` were busy at the same time, {}: mostly each {}.",
        match busy.most {
            2 => "Both".to_owned(),
            most => format!("All {}", count(most)),
        },
        spells(busy.times, &part_of(busy.ns, report), busy.longest_ns),
        did(&reason, call.as_deref(), object.as_ref(), None),
    );
    Some(Finding {
        tasks: by_task.iter().map(|(_, serial)| *serial).collect(),
        object,
        ..finding(
            FindingKind::PoolExhausted,
            busy.ns,
            Confidence::Likely,
            sentence,
        )
    })
}

/// Is it a wait for what a job needs?
fn works(blocks: &Blocks<'_>, block: &Block) -> bool {
    let futex = matches!(
        blocks.model.targets.get(block.target as usize),
        Some(Target::Futex(_) | Target::AnyFutex { .. })
    );
    !futex && blocks.class(block) != Class::Anything
}

fn blocks_of(task: &Task) -> impl Iterator<Item = Block> {
    task.stretches
        .iter()
        .filter_map(Block::of)
        .chain(Block::open(task))
}

/// From when workers come and go, and when their jobs block and go on.
fn all_busy(mut edges: Vec<(u64, i64, i64)>) -> Busy {
    edges.sort_unstable();
    let (mut live, mut blocked, mut sum) = (0, 0, Busy::default());
    let mut since: Option<u64> = None;
    // Between two jobs a worker runs for a moment.
    let (mut ended_ns, mut run_ns) = (None, 0);
    let mut at = 0;
    while at < edges.len() {
        let now_ns = edges[at].0;
        while let Some((_, lives, blocks)) = edges.get(at).filter(|edge| edge.0 == now_ns) {
            live += lives;
            blocked += blocks;
            at += 1;
        }
        let all = live > 1 && blocked == live;
        match (since, all) {
            (None, true) => {
                since = Some(now_ns);
                sum.most = sum.most.max(live as u64);
                if ended_ns.is_none_or(|ended_ns| now_ns - ended_ns >= LONG_NS) {
                    sum.times += 1;
                    run_ns = 0;
                }
            }
            (Some(start_ns), false) => {
                sum.ns = sum.ns.saturating_add(now_ns - start_ns);
                run_ns = u64::saturating_add(run_ns, now_ns - start_ns);
                sum.longest_ns = sum.longest_ns.max(run_ns);
                (since, ended_ns) = (None, Some(now_ns));
            }
            _ => {}
        }
    }
    sum
}
