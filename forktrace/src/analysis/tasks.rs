//! One task's figures.

use super::{
    blocks::Block,
    families::{NO_SYSCALL, wait_reason},
    objects,
    tally::{Tally, total},
    wakers::{Sum, Wakers},
};
use crate::{
    kernel::layout::Arch,
    model::{self, Model, State, Target, state_of},
    report::{Fate, ObjectWait, Switches, Task, Wait},
    trace::Why,
};

/// Time by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sums {
    blocked_ns: u64,
    runnable_ns: u64,
    stopped_ns: u64,
}

/// What a wait is counted under.
#[derive(Clone, Copy, PartialEq, Eq)]
struct WaitKey {
    syscall: i16,
    compat: bool,
    interruptible: bool,
}

/// Objects of a wait that are listed.
const OBJECTS: usize = 5;

pub(super) fn task(
    task: &model::Task,
    arch: Arch,
    model: &Model,
    wakers: &Wakers<'_>,
    targets: &[u32],
) -> Task {
    let lifetime_ns = task.lifetime_ns();
    let mut placed = [0; 5];
    for segment in task.segments() {
        placed[segment.state as usize] += segment.end_ns - segment.start_ns;
    }
    let of = |state: State| placed[state as usize];
    let gaps_ns = of(State::Unknown);
    let placed = Sums {
        blocked_ns: of(State::Blocked),
        runnable_ns: of(State::Runnable),
        stopped_ns: of(State::Stopped),
    };
    let (sums, unknown_ns) = with_gaps(task, placed, gaps_ns);
    let known = total(
        [
            sums.blocked_ns,
            sums.runnable_ns,
            sums.stopped_ns,
            unknown_ns,
        ]
        .into_iter(),
    );
    let (blocks, mut waits, longest) = waits(task, arch, model, targets);
    let waited = total(waits.iter().map(|w| w.ns));
    if sums.blocked_ns > waited {
        waits.push(Wait {
            reason: "unknown".to_owned(),
            syscall: None,
            // Not known; so it is not said to be uninterruptible.
            interruptible: true,
            ns: sums.blocked_ns - waited,
            ..Wait::default()
        });
    }
    waits.sort_by_key(|w| std::cmp::Reverse(w.ns));
    Task {
        serial: task.serial,
        tid: task.tid,
        pid: task.pid,
        ppid: task.ppid,
        name: task.name.clone(),
        start_ns: task.start_ns,
        end_ns: task.end_ns,
        fate: match task.fate {
            model::Fate::Ended => Fate::Ended,
            model::Fate::Alive => Fate::Alive,
            model::Fate::Unknown => Fate::Unknown,
        },
        running_ns: lifetime_ns.saturating_sub(known),
        runnable_ns: sums.runnable_ns,
        blocked_ns: sums.blocked_ns,
        stopped_ns: sums.stopped_ns,
        unknown_ns,
        unplaced_ns: gaps_ns.saturating_sub(unknown_ns),
        blocks,
        longest_block_ns: longest.blocked_ns,
        longest_runnable_ns: longest.runnable_ns,
        waits,
        wakers: wakers.of_task(task),
        longest_blocks: Vec::new(),
        switches: Switches {
            traced: task.record.as_ref().map_or(0, |r| r.switches),
            kernel: task.record.as_ref().and_then(|r| r.kernel_switches),
        },
        kernel_cpu_ns: task.record.as_ref().and_then(|r| r.kernel_cpu_ns),
        followed: task.followed,
    }
}

/// The sums over a task's whole life, and the time that not even they tell of.
///
/// Where records are lost, the kernel program's running sums make up for them:
/// at the task's end they cover everything; in a trace that was cut off they
/// cover the gaps before the last record that carries them.
fn with_gaps(task: &model::Task, placed: Sums, gaps_ns: u64) -> (Sums, u64) {
    if gaps_ns == 0 {
        return (placed, 0);
    }
    if let Some(record) = &task.record
        && record.missed == 0
    {
        let mut sums = Sums {
            blocked_ns: record.totals.blocked_ns,
            runnable_ns: record.totals.runnable_ns,
            stopped_ns: record.totals.stopped_ns,
        };
        add_open(task, &mut sums);
        return (sums, 0);
    }
    // The record is missing, or does not cover everything. Each gap that ends where sums were sent is known
    // in sum, if all before it is.
    let mut sums = placed;
    let mut unknown_ns = gaps_ns;
    let mut before = Some(Sums::default());
    let (mut expected, mut cursor) = (0, task.start_ns);
    for off in &task.stretches {
        if off.seq != expected {
            let sent = task.sums.iter().find(|t| t.seq == off.seq).map(|t| Sums {
                blocked_ns: t.blocked_ns,
                runnable_ns: t.runnable_ns,
                stopped_ns: t.stopped_ns,
            });
            if let (Some(before), Some(sent)) = (before, sent) {
                let gap_ns = off.out_ns.saturating_sub(cursor);
                sums.blocked_ns = sums
                    .blocked_ns
                    .saturating_add(sent.blocked_ns.saturating_sub(before.blocked_ns));
                sums.runnable_ns = sums
                    .runnable_ns
                    .saturating_add(sent.runnable_ns.saturating_sub(before.runnable_ns));
                sums.stopped_ns = sums
                    .stopped_ns
                    .saturating_add(sent.stopped_ns.saturating_sub(before.stopped_ns));
                unknown_ns = unknown_ns.saturating_sub(gap_ns);
            }
            before = sent;
        }
        if let Some(before) = &mut before {
            add(
                before,
                off.why,
                off.wake_ns - off.out_ns,
                off.in_ns - off.wake_ns,
            );
        }
        expected = off.seq.wrapping_add(1);
        cursor = off.in_ns;
    }
    (sums, unknown_ns)
}

fn add(sums: &mut Sums, why: Why, waited_ns: u64, runnable_ns: u64) {
    match state_of(why) {
        State::Blocked => sums.blocked_ns = sums.blocked_ns.saturating_add(waited_ns),
        State::Stopped => sums.stopped_ns = sums.stopped_ns.saturating_add(waited_ns),
        _ => sums.runnable_ns = sums.runnable_ns.saturating_add(waited_ns),
    }
    sums.runnable_ns = sums.runnable_ns.saturating_add(runnable_ns);
}

/// Adds the stretch that is open at the end of the trace.
fn add_open(task: &model::Task, sums: &mut Sums) {
    if let Some(open) = task.open {
        let wake_ns = open.wake_ns.unwrap_or(task.end_ns).min(task.end_ns);
        let out_ns = open.out_ns.min(wake_ns);
        add(sums, open.why, wake_ns - out_ns, task.end_ns - wake_ns);
    }
}

/// Number of blocks, the waits by reason, and the longest block and wait for a
/// CPU.
fn waits(task: &model::Task, arch: Arch, model: &Model, targets: &[u32]) -> (u64, Vec<Wait>, Sums) {
    // A task waits for a handful of reasons: a list is quicker than a map.
    let mut waits: Vec<(WaitKey, Wait)> = Vec::new();
    let mut blocks = 0;
    let mut longest = Sums::default();
    // By index in `waits` and target.
    let mut objects: Tally<(u32, u32), Sum> = Tally::default();
    let mut add_block = |block: &Block, end_ns: u64, cut_off: bool| {
        let ns = end_ns - block.start_ns;
        longest.blocked_ns = longest.blocked_ns.max(ns);
        blocks += 1;
        let key = WaitKey {
            syscall: if task.kernel_worker {
                NO_SYSCALL
            } else {
                block.syscall
            },
            compat: block.compat,
            interruptible: block.why == Why::Interruptible,
        };
        let index = waits.iter().position(|(seen, _)| *seen == key);
        let index = index.unwrap_or_else(|| {
            let (reason, syscall) = wait_reason(arch, key.syscall, key.compat, task.kernel_worker);
            let wait = Wait {
                reason,
                syscall,
                interruptible: key.interruptible,
                ..Wait::default()
            };
            waits.push((key, wait));
            waits.len() - 1
        });
        let wait = &mut waits[index].1;
        wait.ns = wait.ns.saturating_add(ns);
        wait.count += 1;
        wait.longest_ns = wait.longest_ns.max(ns);
        wait.cut_off += u64::from(cut_off);
        wait.timeouts += u64::from(block.timed_out());
        if block.target != 0 {
            let target = match targets.get(block.target as usize) {
                None | Some(0) => block.target,
                Some(target) => *target,
            };
            objects.of((index as u32, target)).add(ns);
        }
    };
    let mut longest_runnable_ns = 0;
    for off in &task.stretches {
        longest_runnable_ns = longest_runnable_ns.max(off.in_ns - off.wake_ns);
        match Block::of(off) {
            Some(block) => add_block(&block, off.wake_ns, false),
            None if off.state() == State::Runnable => {
                longest_runnable_ns = longest_runnable_ns.max(off.in_ns - off.out_ns);
            }
            None => {}
        }
    }
    if let Some(block) = Block::open(task) {
        add_block(&block, block.end_ns(task), true);
    }
    longest.runnable_ns = longest_runnable_ns;
    let mut waits: Vec<Wait> = waits.into_iter().map(|(_, wait)| wait).collect();
    name_objects(model, &mut waits, objects.into_rows());
    (blocks, waits, longest)
}

/// Gives each wait the objects that took the most time. A sleep has none but time.
fn name_objects(model: &Model, waits: &mut [Wait], mut rows: Vec<((u32, u32), Sum)>) {
    rows.retain(|((_, target), _)| {
        let target = model.targets.get(*target as usize);
        target.is_some_and(|t| !matches!(t, Target::Unknown | Target::Sleep))
    });
    rows.sort_by_key(|(_, sum)| std::cmp::Reverse((sum.ns, sum.count)));
    for ((wait, target), sum) in rows {
        let wait = &mut waits[wait as usize];
        if wait.objects.len() == OBJECTS {
            wait.other_objects += 1;
        } else if let Some(object) = objects::describe(model, target) {
            wait.objects.push(ObjectWait {
                object,
                ns: sum.ns,
                count: sum.count,
            });
        }
    }
}
