//! One task's figures.

use std::collections::HashMap;

use super::{
    blocks::Block,
    code::{Code, CodeSum},
    distribution::OfTask,
    longest_run::Runs,
    meanwhile::{Others, WaitKey},
    objects,
    overview::Waited,
    sum_by_key::{SumByKey, total},
    syscall_families::wait_reason,
    wakers::{Sum, Wakers},
    woken_by::EndedBy,
};
use crate::{
    model::{self, Model, Off, Segment, State, StretchSums, Target, state_of},
    report::{Fate, ObjectWait, Switches, Task, Wait},
    trace::{Arch, Why},
};

/// Time by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sums {
    blocked_ns: u64,
    runnable_ns: u64,
    stopped_ns: u64,
}

/// As what a wait counts, and when its longest block began; `None`: it is made up.
pub(super) type Kept = Option<(WaitKey, u64)>;

/// What a task shares with its creator, by the flags of its clone
/// (include/uapi/linux/sched.h).
fn shares(clone_flags: u64) -> Vec<String> {
    [
        (0x100, "memory"),
        (0x200, "file system"),
        (0x400, "files"),
        (0x800, "signal handlers"),
        (0x1_0000, "thread group"),
    ]
    .into_iter()
    .filter(|(flag, _)| clone_flags & flag != 0)
    .map(|(_, name)| name.to_owned())
    .collect()
}

/// What helper threads are said to wait in.
const PARKED: &str = "parked";

/// Objects of a wait that are listed.
const OBJECTS: usize = 5;

/// What is the same for all tasks.
pub(super) struct Context<'a> {
    pub(super) arch: Arch,
    pub(super) model: &'a Model,
    pub(super) wakers: &'a Wakers<'a>,
    /// What stands for each target: see [`objects::representatives`].
    pub(super) targets: &'a [u32],
    /// Which functions waited.
    pub(super) code: &'a Code,
}

/// What a task did, how long each of its waits was, and what [`with_company`] has to know of
/// these. What it waited for is added to `waited`; of a helper, that it was parked.
pub(super) fn task(
    task: &model::Task,
    helper: bool,
    context: &Context<'_>,
    waited: &mut Waited<'_>,
) -> (Task, OfTask, Vec<Kept>) {
    let lifetime_ns = task.lifetime_ns();
    let mut each = OfTask::default();
    let mut ended_by = EndedBy::new(context.wakers);
    let mut placed = [0; 5];
    let sums = (&mut placed, &mut each, &mut ended_by);
    let (mut waits, objects, mut kept) = waits(task, context, sums);
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
    add_waited(waited, task.serial, helper, &waits, &objects);
    name_objects(context.model, &mut waits, objects);
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
        kept.push(None);
    }
    let mut both: Vec<(Wait, Kept)> = waits.into_iter().zip(kept).collect();
    both.sort_by_key(|(wait, _)| std::cmp::Reverse(wait.ns));
    let (waits, kept) = both.into_iter().unzip();
    let (blocked, runnable) = (each.blocked.spread(), each.runnable.spread());
    let row = Task {
        serial: task.serial,
        tid: task.tid,
        pid: task.pid,
        ppid: task.ppid,
        name: task.name.clone(),
        role: String::new(),
        helper,
        shares: shares(task.clone_flags),
        attached: task.attached.is_some(),
        asleep_before_ns: task.attached.and_then(|a| a.asleep_for_ns),
        start_ns: task.start_ns,
        first_run_ns: first_run_ns(task),
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
        blocks: blocked.map_or(0, |all| all.count),
        longest_block_ns: blocked.map_or(0, |all| all.longest_ns),
        longest_runnable_ns: runnable.map_or(0, |all| all.longest_ns),
        blocked,
        runnable,
        waits,
        wakers: ended_by.finish(task),
        other_wakers: 0,
        longest_blocks: Vec::new(),
        argv: task.argv.clone(),
        switches: Switches {
            traced: task.record.as_ref().map_or(0, |r| r.switches),
            kernel: task.record.as_ref().and_then(|r| r.kernel_switches),
        },
        kernel_cpu_ns: task.record.as_ref().and_then(|r| r.kernel_cpu_ns),
        began_before: false,
        goes_on: false,
        waiting_since_ns: None,
        followed: task.followed,
    };
    (row, each, kept)
}

/// Adds what the other tasks of its process did in each of a task's waits: `others`, and when
/// they ran.
pub(super) fn with_company(
    row: &mut Task,
    kept: &[Kept],
    others: &SumByKey<WaitKey, Others>,
    runs: &Runs<'_>,
) {
    let others: HashMap<WaitKey, Others> = others.rows().iter().copied().collect();
    for (wait, kept) in row.waits.iter_mut().zip(kept) {
        let Some((key, start_ns)) = kept else {
            continue;
        };
        let Some(others) = others.get(key) else {
            continue;
        };
        (wait.others_ran_ns, wait.others_blocked_ns) = (others.ran_ns, others.blocked_ns);
        if others.ran_ns > 0 {
            let end_ns = start_ns.saturating_add(wait.longest_ns);
            wait.witness = runs.longest(row.serial, *start_ns, end_ns);
        }
    }
}

/// When it ran for the first time, if that is known.
pub(super) fn first_run_ns(task: &model::Task) -> Option<u64> {
    let mut segments = task.segments();
    let ran = segments.find(|s| s.state != State::Runnable)?;
    (ran.state == State::Running).then_some(ran.start_ns)
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
    // Of a part of a life it is not known what was before.
    let mut before = (task.first_seq == 0).then(Sums::default);
    let (mut expected, mut cursor) = (task.first_seq, task.start_ns);
    for off in &task.stretches {
        if off.seq != expected {
            let sent = task.sums.partition_point(|t| t.seq < off.seq);
            let sent = task.sums.get(sent).filter(|t| t.seq == off.seq);
            let sent = sent.map(|t| Sums {
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

/// The waits by reason, and what for. Its stretches are gone through once: so the time in each state
/// is added up on the way, how long each wait was, and who ended it.
fn waits(
    task: &model::Task,
    context: &Context<'_>,
    (placed, each, ended_by): (&mut [u64; 5], &mut OfTask, &mut EndedBy<'_>),
) -> (Vec<Wait>, Vec<WaitObject>, Vec<Kept>) {
    // With each which functions waited.
    let mut waits: Vec<(Wait, (WaitKey, u64), CodeSum)> = Vec::new();
    let mut index_of: SumByKey<WaitKey, Option<usize>> = SumByKey::default();
    let OfTask { blocked, runnable } = each;
    // By index in `waits` and target.
    let mut objects: SumByKey<(u32, u32), Sum> = SumByKey::default();
    let mut add_block = |block: &Block, end_ns: u64, cut_off: bool| {
        let ns = end_ns - block.start_ns;
        blocked.add(ns);
        let key = WaitKey::of(task, block.syscall, block.compat, block.why);
        let index = *index_of.of(key).get_or_insert_with(|| {
            let (reason, syscall) =
                wait_reason(context.arch, key.syscall, key.compat, task.kernel_worker);
            let wait = Wait {
                reason,
                syscall,
                interruptible: key.interruptible,
                ..Wait::default()
            };
            waits.push((wait, (key, block.start_ns), CodeSum::default()));
            waits.len() - 1
        });
        let (wait, (_, longest_start_ns), code) = &mut waits[index];
        context.code.add(code, task.serial, block.seq, ns);
        if ns > wait.longest_ns {
            *longest_start_ns = block.start_ns;
        }
        wait.ns = wait.ns.saturating_add(ns);
        wait.count += 1;
        wait.longest_ns = wait.longest_ns.max(ns);
        wait.cut_off += u64::from(cut_off);
        wait.timeouts += u64::from(block.timed_out());
        if block.target != 0 {
            let target = match context.targets.get(block.target as usize) {
                None | Some(0) => block.target,
                Some(target) => *target,
            };
            objects.of((index as u32, target)).add(ns);
        }
    };
    let mut stretch = |off: &Off| {
        let wanted_from_ns = match off.state() {
            State::Runnable => off.out_ns,
            _ => off.wake_ns,
        };
        if off.in_ns > wanted_from_ns {
            runnable.add(off.in_ns - wanted_from_ns);
        }
        if let Some(block) = Block::of(*off) {
            ended_by.add(off);
            add_block(&block, off.wake_ns, false);
        }
    };
    let segment = |it: Segment| placed[it.state.index()] += it.end_ns - it.start_ns;
    match task.all_sums() {
        Some(sums) => {
            task.stretches.iter().for_each(|off| stretch(&off));
            *placed = with_end(task, sums);
        }
        None => task.segments().each(stretch, segment),
    }
    if let Some(block) = Block::open(task) {
        add_block(&block, block.end_ns(task), true);
    }
    let waits = waits.into_iter().map(|(mut wait, kept, code)| {
        wait.code = context.code.rows(code);
        (wait, Some(kept))
    });
    let (waits, kept) = waits.unzip();
    (waits, objects.into_rows(), kept)
}

/// Time by state, of a task whose stretches come to this, and of what comes after the last one:
/// without what it ran between them.
fn with_end(task: &model::Task, sums: StretchSums) -> [u64; 5] {
    let mut placed = [0; 5];
    placed[State::Blocked.index()] = sums.blocked_ns;
    placed[State::Runnable.index()] = sums.runnable_ns;
    placed[State::Stopped.index()] = sums.stopped_ns;
    for segment in task.segments_from(u64::MAX) {
        placed[segment.state.index()] += segment.end_ns - segment.start_ns;
    }
    placed
}

/// Blocks on one target, and which of a task's waits they belong to.
type WaitObject = ((u32, u32), Sum);

/// What a task waited for, target by target; what has no target of its own by its reason.
fn add_waited(
    waited: &mut Waited<'_>,
    serial: u32,
    helper: bool,
    waits: &[Wait],
    objects: &[WaitObject],
) {
    let mut rest: Vec<(u64, u64)> = waits.iter().map(|wait| (wait.ns, wait.count)).collect();
    if helper {
        for (ns, count) in rest {
            waited.add(serial, PARKED, 0, ns, count);
        }
        return;
    }
    for ((wait, target), sum) in objects {
        let (at, target) = (*wait as usize, *target);
        let (ns, count) = &mut rest[at];
        *ns = ns.saturating_sub(sum.ns);
        *count = count.saturating_sub(sum.count);
        waited.add(serial, &waits[at].reason, target, sum.ns, sum.count);
    }
    for (wait, (ns, count)) in waits.iter().zip(rest) {
        waited.add(serial, &wait.reason, 0, ns, count);
    }
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::analysis::changes::tests::{model, some_tasks};

    proptest! {
        #[test]
        fn sums_and_the_end_say_what_segments_say(tasks in some_tasks(), is_open in prop::bool::ANY) {
            for mut task in model(&tasks).tasks {
                if !is_open {
                    task.open = None;
                }
                let Some(sums) = task.all_sums() else {
                    continue;
                };
                let mut expected = [0; 5];
                for segment in task.segments() {
                    expected[segment.state.index()] += segment.end_ns - segment.start_ns;
                }
                let ran = State::Running.index();
                let mut found = with_end(&task, sums);
                prop_assert!(found[ran] <= expected[ran]);
                found[ran] = expected[ran];
                prop_assert_eq!(found, expected);
            }
        }
    }
}
