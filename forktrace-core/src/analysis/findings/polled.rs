//! One of a team slept or computed while all others only polled, as ranks of MPI do at a
//! barrier: they never sleep for long, so nobody stands still.
//!
//! A task polls while it yields its CPU or sleeps for a moment, again and again, and runs
//! for no more than a moment in between. Where nobody else wants the CPU, a yield is no switch:
//! then who left the CPU in a yield nearly whenever it had to leave it yields all the time.
//! What it asks for, the trace does not tell: that the others waited for the one is possible,
//! and no more is said.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Blocks, Confidence, Finding, FindingKind, Report, did, duration, finding, part_of, quantity,
    spells, who,
};
use crate::{
    analysis::{
        blocks::{Block, Class, LOOK_UP_NS},
        syscall_families::wait_reason,
    },
    model::{Off, State, Task},
    trace::Timeout,
};

/// A sleep of no more than this is one between two looks, ns.
const SLEEP_NS: u64 = 2_000_000;
/// Who asked less often did not poll.
const ASKED: u32 = 20;
/// So long nobody else can have wanted the CPU of one that yields all the time, ns.
const UNWANTED_NS: u64 = 60_000_000;
/// Who yields all the time is preempted once in so many switches at most.
const PREEMPTED: u32 = 8;
/// Shorter is how a round ends, ns.
const ALONE_NS: u64 = 5_000_000;

/// A task polled from then to then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Phase {
    from_ns: u64,
    to_ns: u64,
    asked: u32,
    /// How often it was preempted where it ran for more than a moment.
    preempted: u32,
}

/// All but one of a team polled.
#[derive(Default)]
struct Sum {
    ns: u64,
    times: u64,
    longest_ns: u64,
    /// By who did not, for how long.
    by: BTreeMap<usize, u64>,
    /// What those were blocked in meanwhile, for how long.
    blocked: BTreeMap<(i16, u32), u64>,
    pollers: BTreeSet<usize>,
}

pub(super) fn findings(report: &Report, blocks: &Blocks<'_>) -> Vec<Finding> {
    // Threads of a process, or processes of one parent, that do the same.
    let mut teams: BTreeMap<(bool, u32, &str), Vec<usize>> = BTreeMap::new();
    for (at, (task, named)) in blocks.model.tasks.iter().zip(&report.tasks).enumerate() {
        let process = task.serial == task.process;
        let of = if process { task.ppid } else { task.process };
        let team = teams.entry((process, of, &named.role)).or_default();
        team.push(at);
    }
    let teams = teams.into_values().filter(|team| team.len() > 1);
    teams.filter_map(|team| of(report, blocks, &team)).collect()
}

fn of(report: &Report, blocks: &Blocks<'_>, team: &[usize]) -> Option<Finding> {
    let tasks = &blocks.model.tasks;
    let mut edges: Vec<(u64, usize, Edge)> = Vec::new();
    let mut polls = false;
    for &at in team {
        edges.extend([
            (tasks[at].start_ns, at, Edge::Begins),
            (tasks[at].end_ns, at, Edge::Ends),
        ]);
        for phase in phases(blocks, &tasks[at]) {
            polls = true;
            edges.extend([
                (phase.from_ns, at, Edge::Polls),
                (phase.to_ns, at, Edge::Works),
            ]);
        }
    }
    if !polls {
        return None;
    }
    edges.sort_unstable();
    let sum = sum(blocks, &edges);
    let (worst, _) = sum.by.iter().max_by_key(|(at, ns)| (**ns, **at))?;
    let blocked_ns = sum.blocked.values().copied().fold(0, u64::saturating_add);
    let did = match sum.blocked.iter().max_by_key(|(key, ns)| (**ns, **key)) {
        Some(((syscall, _), _)) if blocked_ns > sum.ns / 2 => {
            let (reason, call) = wait_reason(blocks.arch, *syscall, false, false);
            format!("mostly {}", did(&reason, call.as_deref(), None, None))
        }
        _ => "was at work".to_owned(),
    };
    let subject = match sum.by.len() {
        1 => who(&tasks[*worst].name, tasks[*worst].tid),
        n => format!("One of {}", quantity(n as u64, "task")),
    };
    let ran_ns = sum.pollers.iter().filter_map(|at| report.tasks.get(*at));
    let ran_ns = ran_ns
        .map(|task| task.running_ns)
        .fold(0, u64::saturating_add);
    let time = part_of(sum.ns, report);
    // Who polls from one barrier to the next makes one time of all of them.
    let time = match sum.times {
        1 => format!("for {time}"),
        n => spells(n, &time, sum.longest_ns),
    };
    let sentence = format!(
        "{subject} {did} {time}, while {} like it only polled.",
        quantity(sum.pollers.len() as u64, "task"),
    );
    let mut by: Vec<(u64, usize)> = sum.by.iter().map(|(at, ns)| (*ns, *at)).collect();
    by.sort_unstable_by_key(|(ns, at)| (std::cmp::Reverse(*ns), *at));
    let others = sum.pollers.iter().filter(|at| !sum.by.contains_key(at));
    let named = by.iter().map(|(_, at)| at).chain(others);
    Some(Finding {
        tasks: named.map(|at| tasks[*at].serial).collect(),
        evidence: vec![format!("those that polled ran for {}", duration(ran_ns))],
        ..finding(
            FindingKind::Straggler,
            sum.ns,
            Confidence::Possible,
            sentence,
        )
    })
}

/// What a member does from now on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Edge {
    Begins,
    Polls,
    Works,
    Ends,
}

fn sum(blocks: &Blocks<'_>, edges: &[(u64, usize, Edge)]) -> Sum {
    let mut sum = Sum::default();
    let mut working: BTreeSet<usize> = BTreeSet::new();
    let mut polling: BTreeSet<usize> = BTreeSet::new();
    let mut since: Option<(u64, usize)> = None;
    for &(at_ns, task, edge) in edges {
        match edge {
            Edge::Begins => working.insert(task),
            Edge::Polls => working.remove(&task) && polling.insert(task),
            Edge::Works => polling.remove(&task) && working.insert(task),
            Edge::Ends => working.remove(&task) | polling.remove(&task),
        };
        let alone = match (working.first(), working.len()) {
            (Some(only), 1) if !polling.is_empty() => Some(*only),
            _ => None,
        };
        // A poller more or less makes no difference.
        if alone == since.map(|(_, only)| only) {
            if alone.is_some() && edge != Edge::Ends {
                sum.pollers.extend(&polling);
            }
            continue;
        }
        if let Some((from_ns, only)) = since.take()
            && at_ns - from_ns >= ALONE_NS
        {
            let ns = at_ns - from_ns;
            sum.ns = sum.ns.saturating_add(ns);
            sum.times += 1;
            sum.longest_ns = sum.longest_ns.max(ns);
            *sum.by.entry(only).or_default() += ns;
            add_blocked(&mut sum, &blocks.model.tasks[only], from_ns, at_ns);
            let before = polling.iter().copied().chain([task]);
            sum.pollers.extend(before.filter(|poller| *poller != only));
        }
        since = alone.map(|only| (at_ns, only));
    }
    sum
}

/// What a task was blocked in meanwhile.
fn add_blocked(sum: &mut Sum, task: &Task, from_ns: u64, to_ns: u64) {
    let first = task.stretches.partition_point(|off| off.in_ns <= from_ns);
    let offs = task.stretches.from(first);
    let offs = offs.take_while(|off| off.out_ns < to_ns);
    for block in offs.filter_map(Block::of).chain(Block::open(task)) {
        let end_ns = block.end_ns(task).min(to_ns);
        let ns = end_ns.saturating_sub(block.start_ns.max(from_ns));
        let key = (block.syscall, block.target);
        let all = sum.blocked.entry(key).or_default();
        *all = all.saturating_add(ns);
    }
}

/// When a task polled.
fn phases(blocks: &Blocks<'_>, task: &Task) -> Vec<Phase> {
    let yields = blocks.arch.syscall_number("sched_yield");
    let is_yield = |off: &Off| yields == Some(off.syscall.into());
    let asks = |off: &Off| match Block::of(*off) {
        None => off.state() == State::Runnable && is_yield(off),
        Some(block) => {
            let ns = block.end_ns(task) - block.start_ns;
            ns <= SLEEP_NS && (blocks.is_sleep(&block) || blocks.timed_out(&block))
        }
    };
    let can_ask = |off: Off| match Block::of(off) {
        None => off.state() == State::Runnable,
        Some(block) => block.timeout != Timeout::None || blocks.class(&block) == Class::Time,
    };
    let mut found = Vec::new();
    let mut now: Option<Phase> = None;
    let (mut ran_ns, mut in_ns) = (0, task.start_ns);
    let mut end = |phase: Option<Phase>| {
        let long = |p: &Phase| p.asked >= ASKED && p.to_ns - p.from_ns >= ALONE_NS;
        found.extend(phase.filter(|p| long(p) && p.preempted <= p.asked / PREEMPTED));
    };
    for off in task.stretches.iter_if(can_ask) {
        ran_ns += off.out_ns.saturating_sub(in_ns);
        in_ns = off.in_ns;
        let most_ns = match Block::of(off) {
            None => UNWANTED_NS,
            Some(_) => LOOK_UP_NS,
        };
        if ran_ns > most_ns {
            end(now.take());
        }
        if asks(&off) {
            let phase = now.get_or_insert(Phase {
                from_ns: off.out_ns,
                to_ns: off.in_ns,
                asked: 0,
                preempted: 0,
            });
            phase.asked += 1;
            phase.to_ns = off.in_ns;
            ran_ns = 0;
        } else if off.state() != State::Runnable {
            end(now.take());
            ran_ns = 0;
        } else if ran_ns > LOOK_UP_NS
            && let Some(phase) = &mut now
        {
            phase.preempted += 1;
        }
    }
    end(now);
    found
}
