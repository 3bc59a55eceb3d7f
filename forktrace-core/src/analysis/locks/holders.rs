//! What the holders of a lock did while others waited for it.

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
};

use super::{
    Blocks,
    ledger::{Ledger, Turn, Wait},
};
use crate::{
    analysis::{intervals::Intervals, syscall_families::wait_reason},
    model::{InSyscall, State},
    report::{Lock, LockHolder, LockKind, Proof},
};

/// Holders of a lock that are told.
const HOLDERS: usize = 20;

#[derive(Default)]
struct Sum {
    ns: u64,
    turns: u64,
    ran_ns: u64,
    runnable_ns: u64,
    blocked_ns: u64,
    blocked_in: HashMap<InSyscall, u64>,
}

/// Who had a lock for which those waits are, in the part that is reported on; what is said of
/// the waits themselves is left out.
pub(super) fn holders(blocks: &Blocks<'_>, waits: &[Wait], ledger: &Ledger) -> Lock {
    let part = blocks.part;
    let spans = waits.iter().filter(|wait| part.has(wait.task as usize));
    let spans = spans.map(|wait| part.of(wait.start_ns, wait.end_ns));
    let contended = Intervals::union(spans.filter(|(start, end)| start < end).collect());
    let pieces: Vec<Turn> = ledger
        .turns
        .iter()
        .flat_map(|turn| clipped(turn, &contended))
        .collect();
    let held = pieces.iter().map(|piece| (piece.start_ns, piece.end_ns));
    let held = Intervals::union(held.collect());
    let on_the_way = ledger.hand_offs.iter();
    let on_the_way = on_the_way.filter(|(start, end)| start < end);
    let on_the_way = Intervals::union(on_the_way.copied().collect());
    let hand_off_ns = contended.overlap(&on_the_way) - on_the_way.overlap(&held);
    let handed = |(_, to_ns): &&(u64, u64)| part.has_moment(*to_ns);
    let unknown_ns = contended.sum() - held.sum() - hand_off_ns;
    let mut holders = of_tasks(blocks, pieces);
    if unknown_ns > 0 {
        holders.push(LockHolder {
            task: None,
            tid: None,
            name: None,
            proof: Proof::Unknown,
            ns: unknown_ns,
            turns: 0,
            ran_ns: 0,
            runnable_ns: 0,
            blocked_ns: 0,
            blocked_in: None,
        });
    }
    holders.sort_by_key(|it| (Reverse(it.ns), it.task, it.proof));
    let sum = |of: &dyn Fn(&LockHolder) -> u64| -> u64 {
        holders.iter().map(of).fold(0, u64::saturating_add)
    };
    let of_proof = |proof| sum(&|it| if it.proof == proof { it.ns } else { 0 });
    let tasks: HashSet<u32> = holders.iter().filter_map(|it| it.task).collect();
    Lock {
        name: String::new(),
        kind: LockKind::Futex,
        id: String::new(),
        ns: 0,
        waits: 0,
        waiters: 0,
        longest_ns: 0,
        p50_ns: 0,
        p99_ns: 0,
        holders_until_ns: None,
        contended_ns: contended.sum(),
        hand_offs: ledger.hand_offs.iter().filter(handed).count() as u64,
        hand_off_ns,
        proved_ns: of_proof(Proof::Proved),
        inferred_ns: of_proof(Proof::Inferred),
        unknown_ns,
        held_running_ns: sum(&|it| it.ran_ns),
        held_runnable_ns: sum(&|it| it.runnable_ns),
        held_blocked_ns: sum(&|it| it.blocked_ns),
        held_blocked_in: mostly_in(&holders),
        had_it: tasks.len() as u64,
        other_holders: holders.len().saturating_sub(HOLDERS) as u64,
        code: Vec::new(),
        holders: holders.into_iter().take(HOLDERS).collect(),
    }
}

/// What holders were blocked in for more than half of the time that they were.
fn mostly_in(holders: &[LockHolder]) -> Option<String> {
    let mut sums: HashMap<&str, u64> = HashMap::new();
    let mut all: u64 = 0;
    for holder in holders {
        all = all.saturating_add(holder.blocked_ns);
        if let Some(reason) = &holder.blocked_in {
            *sums.entry(reason).or_default() += holder.blocked_ns;
        }
    }
    let most = sums
        .into_iter()
        .max_by_key(|(reason, ns)| (*ns, Reverse(*reason)));
    most.filter(|(_, ns)| *ns > all / 2)
        .map(|(reason, _)| reason.to_owned())
}

/// The parts of a turn in which somebody waited.
fn clipped(turn: &Turn, contended: &Intervals) -> Vec<Turn> {
    let parts = contended.parts_within(turn.start_ns, turn.end_ns);
    parts
        .map(|(start_ns, end_ns)| Turn {
            start_ns,
            end_ns,
            ..*turn
        })
        .collect()
}

fn of_tasks(blocks: &Blocks<'_>, mut pieces: Vec<Turn>) -> Vec<LockHolder> {
    pieces.sort_unstable_by_key(|piece| (piece.task, piece.start_ns));
    let mut holders = Vec::new();
    for of_task in pieces.chunk_by(|one, other| one.task == other.task) {
        let task = &blocks.model.tasks[of_task[0].task as usize];
        let mut sums: [Sum; 2] = Default::default();
        let mut segments = task.segments_from(of_task[0].start_ns).peekable();
        for piece in of_task {
            let sum = &mut sums[usize::from(piece.proved)];
            sum.turns += 1;
            sum.ns += piece.end_ns - piece.start_ns;
            while let Some(segment) = segments.peek() {
                let ns = segment.end_ns.min(piece.end_ns);
                let ns = ns.saturating_sub(segment.start_ns.max(piece.start_ns));
                match segment.state {
                    State::Running => sum.ran_ns += ns,
                    State::Runnable => sum.runnable_ns += ns,
                    State::Blocked => {
                        sum.blocked_ns += ns;
                        if let Some(syscall) = segment.syscall.filter(|_| ns > 0) {
                            *sum.blocked_in.entry(syscall).or_default() += ns;
                        }
                    }
                    State::Stopped | State::Unknown => {}
                }
                // The next piece can be in the same one.
                if segment.end_ns > piece.end_ns {
                    break;
                }
                segments.next();
            }
        }
        for (sum, proof) in sums.into_iter().zip([Proof::Inferred, Proof::Proved]) {
            if sum.turns == 0 {
                continue;
            }
            let most = sum.blocked_in.into_iter();
            let most = most.max_by_key(|(syscall, ns)| (*ns, Reverse(syscall.number)));
            holders.push(LockHolder {
                task: Some(task.serial),
                tid: Some(task.tid),
                name: Some(task.name.clone()),
                proof,
                ns: sum.ns,
                turns: sum.turns,
                ran_ns: sum.ran_ns,
                runnable_ns: sum.runnable_ns,
                blocked_ns: sum.blocked_ns,
                blocked_in: most.map(|(call, _)| {
                    wait_reason(blocks.arch, call.number, call.compat, task.kernel_worker).0
                }),
            });
        }
    }
    holders
}
