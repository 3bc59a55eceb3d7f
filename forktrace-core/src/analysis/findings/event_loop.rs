//! Event loops that were blocked elsewhere: a thread that waits for events, in epoll and
//! its kin, serves nobody while it waits for anything else.

use std::collections::{HashMap, HashSet};

use super::{
    Blocks, Confidence, Finding, FindingKind, Report, Waiter, count, did, duration, finding, pool,
    who,
};
use crate::{
    analysis::{
        blocks::{Block, Class},
        code::CodeSum,
        objects,
        syscall_families::{family, wait_reason},
    },
    model::Off,
    report::Object,
};

/// A thread that waited for events so often is a loop…
const WAITS: usize = 5;
/// …and so is one that came back to wait for connections: a busy server finds the next one there
/// already, and needn't wait for it.
const WAITS_OF_SERVER: usize = 2;
/// A block outside is told from this length on, ns: shorter than what a user feels, longer
/// than a lock that is passed on.
const LONG_NS: u64 = 5_000_000;

#[derive(Default)]
struct Outside {
    count: u64,
    ns: u64,
    longest_ns: u64,
    object: Option<u32>,
    code: CodeSum,
}

pub(super) fn findings(report: &Report, blocks: &Blocks<'_>) -> Vec<Finding> {
    let model = blocks.model;
    let shared = shared_sets(blocks);
    let process_of = |at: usize| model.tasks[at].process;
    let candidates = report.tasks.iter().enumerate().filter(|(_, task)| {
        let of_events = task.waits.iter().filter(|w| is_events(&w.reason));
        of_events.map(|w| w.count).sum::<u64>() >= WAITS_OF_SERVER as u64 && !task.helper
    });
    candidates
        .filter_map(|(at, task)| {
            // Both are in the order of creation.
            let offs = &model.tasks.get(at)?.stretches;
            let is_loop = |off: &Off| Block::of(*off).is_some_and(|b| waits_for_events(blocks, &b));
            let loops = || offs.iter_if(|off| is_loop(&off)).filter(is_loop);
            let of_server = |off: &Off| pool::is_listening(blocks, off.target);
            let is_server = || loops().filter(of_server).nth(WAITS_OF_SERVER - 1).is_some();
            if loops().nth(WAITS - 1).is_none() && !is_server() {
                return None;
            }
            let first = offs.iter().position(|off| is_loop(&off))?;
            let last = offs.iter().rposition(|off| is_loop(&off))?;
            // While one of several is blocked, the next looks at the set in its place.
            let in_turn = offs
                .iter()
                .any(|off| shared.contains(&(process_of(at), off.target)));
            if in_turn {
                return None;
            }
            let mut outside: HashMap<i16, Outside> = HashMap::new();
            // Before its first wait for events it can be at its work already, and after the
            // last still: that is known of what it does between others, too.
            let kind = |off: Off| (off.syscall, off.target);
            let between: HashSet<(i16, u32)> = offs.range(first..last + 1).map(kind).collect();
            let counts = |(at, off): (usize, Off)| {
                let block = Block::of(off)?;
                let same = || off.target != 0 || blocks.is_sleep(&block);
                let is = (first..=last).contains(&at) || between.contains(&kind(off)) && same();
                is.then_some(block)
            };
            for block in offs.iter().enumerate().filter_map(counts) {
                let ns = block.wake_ns.unwrap_or(block.start_ns) - block.start_ns;
                if waits_for_events(blocks, &block) || ns < LONG_NS {
                    continue;
                }
                let sum = outside.entry(block.syscall).or_default();
                sum.count += 1;
                sum.ns += ns;
                blocks.code.add(&mut sum.code, task.serial, block.seq, ns);
                if ns > sum.longest_ns {
                    (sum.longest_ns, sum.object) = (ns, Some(block.target));
                }
            }
            let total: u64 = outside.values().map(|sum| sum.ns).sum();
            let times: u64 = outside.values().map(|sum| sum.count).sum();
            let longest = outside.values().map(|sum| sum.longest_ns).max()?;
            let worst = outside
                .into_iter()
                .max_by_key(|(syscall, sum)| (sum.ns, *syscall))?;
            let waiter = Waiter::of(&blocks.code.rows(worst.1.code), worst.1.ns);
            let (reason, syscall) = wait_reason(blocks.arch, worst.0, false, false);
            let object: Option<u32> = worst.1.object.filter(|_| reason != "sleep");
            let object: Option<Object> = object.and_then(|target| objects::describe(model, target));
            let sentence = format!(
                "The event loop of {} was blocked outside of its wait for events for {}, {}, the \
                 longest {}: mostly it {}{}.",
                who(&task.name, task.tid),
                duration(total),
                match times {
                    1 => "once".to_owned(),
                    n => format!("{} times", count(n)),
                },
                duration(longest),
                did(&reason, syscall.as_deref(), object.as_ref(), None),
                waiter.told(),
            );
            Some(Finding {
                tasks: vec![task.serial],
                object,
                code: waiter.name,
                next: Some("--stacks shows which functions block it".to_owned()),
                ..finding(FindingKind::EventLoop, total, Confidence::Likely, sentence)
            })
        })
        .collect()
}

/// Sets of descriptors that several threads of a process wait for. A runtime's threads take
/// turns at it (Go, Erlang, tokio): who does not, sleeps on a futex until it is needed.
fn shared_sets(blocks: &Blocks<'_>) -> HashSet<(u32, u32)> {
    let mut waiters: HashMap<(u32, u32), u32> = HashMap::new();
    let mut shared = HashSet::new();
    for task in &blocks.model.tasks {
        let is_set = |block: &Block| block.target != 0 && waits_for_events(blocks, block);
        let offs = task
            .stretches
            .iter_if(|off| Block::of(off).is_some_and(|block| is_set(&block)));
        let sets = offs.filter_map(Block::of).filter(is_set);
        for set in sets.map(|block| (task.process, block.target)) {
            if *waiters.entry(set).or_insert(task.serial) != task.serial {
                shared.insert(set);
            }
        }
    }
    shared
}

/// Does it wait for whatever comes first of several?
fn waits_for_events(blocks: &Blocks<'_>, block: &Block) -> bool {
    let name = blocks.arch.syscall_name(block.syscall.into());
    blocks.class(block) == Class::Anything && name.is_some_and(|name| is_events(family(name)))
}

fn is_events(reason: &str) -> bool {
    matches!(reason, "epoll" | "poll" | "select")
}
