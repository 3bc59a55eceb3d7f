//! Waits that nobody ended until a signal ended the workload, where nobody waited for input:
//! nothing from outside could have made them go on. That can be a deadlock of locks that don't tell
//! who has them, as those of Java and of Python, or in a place that nobody looks at.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::{
    Blocks, Confidence, Finding, FindingKind, Report, did, finding, first_listed, part_of, who,
};
use crate::{
    analysis::{
        blocks::{Block, Class, End},
        chains, roles,
        syscall_families::wait_reason,
    },
    model::{FutexKey, Target, Task},
    report::Link,
    trace::Timeout,
};

/// Who waited for less than this part of the run was perhaps about to be woken: half.
const PART: u64 = 2;
/// No more are named.
const NAMED: usize = 3;
/// A signal that a task survived is no further from its end, in blocks.
const BLOCKS: usize = 8;

/// What is known of a process, or of all.
#[derive(Default)]
struct Place {
    /// A task of it waited for input in the end.
    input: bool,
    /// Its first thread waits, too: it has nothing to do for those that are parked.
    stands: bool,
    /// Those that nobody woke, each with that block.
    unwoken: Vec<(usize, Block)>,
}

/// Them, and how many threads are parked in processes that go on: they had no work, or are stuck.
pub(super) fn findings(report: &Report, blocks: &Blocks<'_>) -> (Vec<Finding>, u64) {
    let tasks = &blocks.model.tasks;
    // A futex of a process is its own; all else anybody could have ended.
    let mut processes: BTreeMap<u32, Place> = BTreeMap::new();
    let mut all = Place::default();
    let mut here: Vec<(usize, Block)> = Vec::new();
    let of_go = of_go(blocks);
    // Whoever could have brought what these waited for is known, and is of the workload.
    let known = blocks.model.providers.iter();
    let inside = known.filter(|known| !known.outside && !known.tasks.is_empty());
    let inside: HashSet<(u32, u32)> = inside.map(|told| (told.serial, told.seq)).collect();
    for (at, task) in tasks.iter().enumerate() {
        let last = || task.stretches.iter().rev().find_map(Block::of);
        let Some(last) = Block::open(task).or_else(last) else {
            continue;
        };
        let process = processes.entry(task.process).or_default();
        let from_inside =
            inside.contains(&(task.serial, last.seq)) || came_from_inside(blocks, at, &last);
        let input = blocks.class(&last).is_input() && !from_inside;
        process.input |= input;
        // A signal comes from whom it concerns.
        all.input |= input && !blocks.is_signal_wait(&last);
        let long = long_wait(report, blocks, at);
        process.stands |= task.serial == task.process && long.is_some();
        let known = |block: &Block| inside.contains(&(task.serial, block.seq));
        let Some(block) = long.filter(|block| is_owed(blocks, &of_go, block)) else {
            continue;
        };
        if roles::is_helper_name(&task.name) {
            continue;
        }
        let leader = blocks.wakers.index(task.process).map(|at| &tasks[at]);
        let ended = leader.is_some_and(|it| by_signal(report, it)) || by_signal(report, &tasks[0]);
        match blocks.model.targets.get(block.target as usize) {
            Some(Target::Futex(FutexKey::Private { .. }) | Target::AnyFutex { .. }) => {
                process.unwoken.push((at, block));
            }
            // Who could have ended it is known: what that one did is told.
            target if known(&block) && !matches!(target, Some(Target::Futex(_))) => {}
            _ if report.workload.attached.is_some() => here.push((at, block)),
            _ if ended => all.unwoken.push((at, block)),
            _ => {}
        }
    }
    for process in processes.values_mut() {
        let mut those = process.unwoken.iter();
        process.stands &= !those.all(|(at, _)| is_of_executor(&tasks[*at].name));
    }
    let parked = processes
        .values()
        .filter(|process| !process.stands && !process.input);
    let parked = parked.map(|process| process.unwoken.len() as u64).sum();
    if report.workload.attached.is_some() {
        return (attached(report, blocks, here).into_iter().collect(), parked);
    }
    processes.retain(|serial, process| {
        let leader = blocks.wakers.index(*serial).map(|at| &tasks[at]);
        let is_still = !process.input && process.stands;
        is_still && !process.unwoken.is_empty() && leader.is_some_and(|it| by_signal(report, it))
    });
    // Who waits for a futex there can be behind what is told of another thread.
    let behind: HashSet<u32> = all
        .unwoken
        .iter()
        .map(|(at, _)| tasks[*at].process)
        .collect();
    processes.retain(|serial, _| !behind.contains(serial));
    let most = processes
        .into_values()
        .max_by_key(|process| process.unwoken.len());
    let all = Some(all).filter(|all| !all.input && !all.unwoken.is_empty());
    let of_process = most.and_then(|most| told(report, blocks, &most, "their process"));
    let of_all = all.and_then(|all| told(report, blocks, &all, "the workload"));
    (of_process.into_iter().chain(of_all).collect(), parked)
}

/// Did tasks of the workload bring what this one waits for, as often as it came before?
fn came_from_inside(blocks: &Blocks<'_>, at: usize, last: &Block) -> bool {
    let before = blocks.model.tasks[at].stretches.iter().rev();
    let before = before.filter_map(Block::of).take(BLOCKS);
    let same = before.filter(|block| block.target == last.target && block.seq != last.seq);
    let mut ends = same.map(|block| blocks.end(at, &block)).peekable();
    ends.peek().is_some() && ends.all(|end| matches!(end, End::Task(_)))
}

/// Waits of a recording of what ran already that nobody ended in all of it. Locks are left out of
/// which another task of the role, which waits for input, may be the holder.
fn attached(
    report: &Report,
    blocks: &Blocks<'_>,
    mut waits: Vec<(usize, Block)>,
) -> Option<Finding> {
    let tasks = &blocks.model.tasks;
    let role = |at: usize| report.tasks.get(at).map(|task| task.role.as_str());
    let open = tasks.iter().enumerate();
    let open = open.filter_map(|(at, task)| Some((at, Block::open(task)?)));
    let input = open.filter(|(_, block)| blocks.class(block).is_input());
    let input: BTreeSet<_> = input.map(|(at, _)| role(at)).collect();
    waits.retain(|(at, block)| {
        let (reason, _) = wait_reason(blocks.arch, block.syscall, false, false);
        let is_lock = matches!(reason.as_str(), "file lock" | "semaphore");
        let ns = block.end_ns(&tasks[*at]) - block.start_ns;
        let whole = ns >= report.workload.duration_ns / 10 * 9;
        whole && reason != "futex" && !(is_lock && input.contains(&role(*at)))
    });
    let links = waits.iter();
    let links = links.map(|(at, block)| chains::link(blocks, (*at as u32, *block)));
    let links: Vec<Link> = links.collect();
    let starts = waits.iter().map(|(_, block)| block.start_ns);
    let ends = waits.iter().map(|(at, block)| block.end_ns(&tasks[*at]));
    let ns = ends.min()?.saturating_sub(starts.max()?);
    let sentence = format!(
        "{} for {}, and nobody ended that.",
        named(&links, &|link| format!(
            "{} {}",
            who(&link.task.name, link.task.tid),
            waited(link)
        )),
        part_of(ns, report)
    );
    Some(Finding {
        tasks: links.iter().map(|link| link.task.serial).collect(),
        ..finding(FindingKind::Stall, ns, Confidence::Likely, sentence)
    })
}

/// Threads of Java's executors wait for work; so does, in another way, the thread that called
/// `main`, also when that has returned.
fn is_of_executor(name: &str) -> bool {
    name == "java"
        || name.starts_with("pool-") && name.contains("-thread-")
        || name.starts_with("ForkJoinPool")
}

/// A wait of a task that nobody ended, of no limit, and that was a large part of the run.
fn long_wait(report: &Report, blocks: &Blocks<'_>, at: usize) -> Option<Block> {
    let task = &blocks.model.tasks[at];
    let ends = task.stretches.iter().rev().filter_map(Block::of);
    let mut last = Block::open(task).into_iter().chain(ends.take(BLOCKS));
    let is_it = |block: &Block| {
        let ns = block.end_ns(task) - block.start_ns;
        let ended = blocks.end(at, block);
        ns >= report.workload.duration_ns / PART
            && matches!(ended, End::CutShort | End::Interrupted | End::Nobody)
            && block.timeout == Timeout::None
            && blocks.class(block) == Class::Busy
            && blocks.is_disk(block).is_none()
    };
    last.find(is_it)
}

/// Does such a wait end when another task goes on? What ends one for a child or a thread to end is
/// known.
fn is_owed(blocks: &Blocks<'_>, of_go: &HashSet<u32>, block: &Block) -> bool {
    let (reason, _) = wait_reason(blocks.arch, block.syscall, false, false);
    let target = blocks.model.targets.get(block.target as usize);
    match reason.as_str() {
        _ if matches!(target, Some(Target::Thread(_))) => false,
        "futex" => !is_of_go(blocks, of_go, block),
        "file lock" | "semaphore" | "message queue" | "open" | "write" | "send" => true,
        _ => false,
    }
}

/// The processes whose futexes are those of Go's runtime, as far as these have names.
pub(super) fn of_go(blocks: &Blocks<'_>) -> HashSet<u32> {
    blocks
        .model
        .lock_names
        .processes(|name| name.starts_with("runtime."))
}

/// Go's threads park when there is nothing to do for them; its locks make no thread wait.
pub(super) fn is_of_go(blocks: &Blocks<'_>, of_go: &HashSet<u32>, block: &Block) -> bool {
    let (process, address) = match blocks.model.targets.get(block.target as usize) {
        Some(Target::Futex(FutexKey::Private { process, address })) => (*process, *address),
        _ => return false,
    };
    // Its heap begins there (`mallocinit` in runtime/malloc.go), and nothing else is there.
    let in_heap = address >> 32 == 0xc0;
    in_heap || of_go.contains(&process)
}

fn told(report: &Report, blocks: &Blocks<'_>, place: &Place, whole: &str) -> Option<Finding> {
    let tasks = &blocks.model.tasks;
    let starts = place.unwoken.iter().map(|(_, block)| block.start_ns);
    let ends = place
        .unwoken
        .iter()
        .map(|(at, block)| block.end_ns(&tasks[*at]));
    let ns = ends.min()?.saturating_sub(starts.max()?);
    let link = |(at, block): &(usize, Block)| chains::link(blocks, (*at as u32, *block));
    let links: Vec<Link> = place.unwoken.iter().map(link).collect();
    let futexes = links.iter().all(|link| link.reason == "futex");
    let waits: BTreeSet<String> = links.iter().map(waited).collect();
    let name = |link: &Link| who(&link.task.name, link.task.tid);
    let (them, whole) = match (&links[..], whole) {
        ([_], "their process") => ("it", "its process"),
        ([_], whole) => ("it", whole),
        (_, whole) => ("them", whole),
    };
    let begin = match (futexes, waits.len(), links.len()) {
        (true, _, 1) => format!("{} waited for a futex", named(&links, &name)),
        (true, ..) => format!("{} waited for futexes", named(&links, &name)),
        (_, 1, _) => format!("{} {}", named(&links, &name), waited(&links[0])),
        _ => named(&links, &|link| format!("{} {}", name(link), waited(link))),
    };
    let begin = format!("{begin} for {}", part_of(ns, report));
    let why = match futexes {
        true => ": such locks don't tell who has them",
        false => "",
    };
    let sentence = format!(
        "{begin}, until a signal ended {them}: nobody woke {them}, and {whole} waited for no input. \
         It may be a deadlock{why}."
    );
    Some(Finding {
        tasks: links.iter().map(|link| link.task.serial).collect(),
        ..finding(FindingKind::Stall, ns, Confidence::Possible, sentence)
    })
}

/// The first of them, and how many more there are.
fn named(links: &[Link], told: &dyn Fn(&Link) -> String) -> String {
    first_listed(links.iter().map(told), NAMED)
}

fn waited(link: &Link) -> String {
    did(
        &link.reason,
        link.syscall.as_deref(),
        link.object.as_ref(),
        None,
    )
}

/// Did a signal end this process, whether it handled that or not?
fn by_signal(report: &Report, leader: &Task) -> bool {
    // As `wait` gives it. Who handles a signal and ends says so as a shell would.
    let code = leader.record.as_ref().and_then(|record| record.exit_code);
    match code {
        Some(code) => code & 0x7f != 0 || code >> 8 & 0xff >= 128,
        // The recording ended before it.
        None => report.workload.signal.is_some(),
    }
}
