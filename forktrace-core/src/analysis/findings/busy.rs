//! Tasks that ask again and again: polls that return at once, and `sched_yield`.

use super::{Blocks, Confidence, Finding, FindingKind, Report, count, duration, finding, who};
use crate::model::{Off, State};

/// Calls that find nothing so often a second of CPU time only look, and so do those…
const EMPTY_A_SECOND: u64 = 100_000;
/// …that find something so often: not even one read fits between two of them. A client that is
/// never out of answers does 200,000 a second.
const CALLS_A_SECOND: u64 = 400_000;
/// Fewer calls are no loop.
const LEAST: u64 = 1_000;
/// But for yields, of which only those are seen that another task took the CPU after: so many,
/// most of the times that it gave up its CPU…
const FEW: u64 = 100;
/// …and so many a second of CPU time: a runtime's thread that has nothing to do yields some
/// times before it sleeps.
const YIELDS_A_SECOND: u64 = 20_000;

/// A loop is told that costs one part in so many of the run: a runtime's thread that looks for
/// work for a moment before it sleeps (Erlang's do) is none.
const PART: u64 = 20;

/// Without the loop it would neither run nor want a CPU.
fn costs(task: &crate::report::Task) -> u64 {
    task.running_ns.saturating_add(task.runnable_ns)
}

pub(super) fn findings(report: &Report, blocks: &Blocks<'_>) -> Vec<Finding> {
    let polls = report.polls.iter().flatten().filter_map(|poll| {
        let task = report.tasks.iter().find(|t| t.serial == poll.serial)?;
        let at_once = poll.ready_at_once + poll.empty_at_once;
        let a_second = |calls: u64| calls.saturating_mul(1_000_000_000) / task.running_ns.max(1);
        let often = at_once >= LEAST
            && (a_second(at_once) >= CALLS_A_SECOND
                || a_second(poll.empty_at_once) >= EMPTY_A_SECOND);
        let sentence = format!(
            "{} spins: its {} returned at once {} times, and it ran for {}.",
            who(&task.name, task.tid),
            poll.syscall,
            count(at_once),
            duration(task.running_ns)
        );
        often.then(|| Finding {
            tasks: vec![task.serial],
            ..finding(
                FindingKind::BusyLoop,
                costs(task),
                Confidence::Likely,
                sentence,
            )
        })
    });
    let number = blocks.arch.syscall_number("sched_yield");
    let yields = blocks
        .model
        .tasks
        .iter()
        .zip(&report.tasks)
        .filter_map(|(of_model, task)| {
            let yields =
                |off: &Off| off.state() == State::Runnable && number == Some(off.syscall.into());
            let yielded = of_model.stretches.iter_if(|off| yields(&off));
            let yielded = yielded.filter(yields).count() as u64;
            let sentence = format!(
                "{} spins: it gave up the CPU in sched_yield {} times, and ran for {}.",
                who(&task.name, task.tid),
                count(yielded),
                duration(task.running_ns)
            );
            let given_up = || {
                let stretches = of_model.stretches.iter();
                let given_up = stretches.filter(|off| off.state() == State::Runnable);
                given_up.count() as u64
            };
            let mostly = yielded >= FEW && yielded * 2 >= given_up();
            let rate = yielded.saturating_mul(1_000_000_000) / task.running_ns.max(1);
            (mostly && rate >= YIELDS_A_SECOND).then(|| Finding {
                tasks: vec![task.serial],
                ..finding(
                    FindingKind::BusyLoop,
                    // It waits for a CPU since it gave its own up.
                    task.running_ns,
                    Confidence::Likely,
                    sentence,
                )
            })
        });
    let least_ns = report.workload.duration_ns / PART;
    polls
        .chain(yields)
        .filter(|loops| loops.ns >= least_ns)
        .collect()
}
