//! Do two tasks block together more than chance explains?
//!
//! Over the time in which both lived and both are known, W: how long both were
//! blocked, O; how long that would be by chance, E = |A| · |B| / W; O / E is the
//! lift. Whether it differs from 1 by more than chance is found by shifting one
//! time line against the other ([`shifts`]). Association is no cause.

mod choice;
mod shifts;
mod spans;
#[cfg(test)]
mod tests;

use self::{
    shifts::{Bits, Compared, adjusted, compare},
    spans::{Line, Span, overlap, total, within, without},
};
use crate::{
    model::Model,
    report::{Pair, PairTest, PairTests, PairVerdict, WaitsFor},
};

/// Every pair is tested of so many tasks at most.
pub(super) const TASKS: usize = 16;
/// So many pairs are tested at most.
const PAIRS: usize = TASKS * (TASKS - 1) / 2;
/// A trace with more stretches of the tested tasks is looked at in parts.
const STRETCHES: usize = 500_000;
/// The number of these parts, evenly spread.
const WINDOWS: u64 = 256;
/// A task that is blocked for more of the time overlaps with everything.
const NEARLY_ALWAYS: f64 = 0.95;
/// With fewer blocks there is nothing to compare.
const FEW: usize = 5;
/// What is called more than chance is wrong so often, over all pairs.
const FALSE_DISCOVERIES: f64 = 0.05;
/// Words that the shifts of all pairs may cost together: some 100 ms.
const BUDGET: usize = 100_000_000;

/// Tests the pairs that matter: see [`TASKS`].
pub(super) fn pairs(model: &Model, waits_for: &[WaitsFor]) -> (PairTests, Vec<Pair>) {
    let chosen = choice::choose(model, waits_for);
    let (windows, looked_at) = windows(model, &chosen.tasks);
    let lines: Vec<Line> = chosen
        .tasks
        .iter()
        .map(|&task| Line::new(&model.tasks[task], &windows))
        .collect();
    let effort = Effort::new(chosen.pairs.len());
    let mut pairs: Vec<Pair> = Vec::with_capacity(chosen.pairs.len());
    for &(a, b) in &chosen.pairs {
        let serial = |at: usize| model.tasks[chosen.tasks[at]].serial;
        pairs.extend(pair(
            (serial(a), &lines[a]),
            (serial(b), &lines[b]),
            &windows,
            effort,
        ));
    }
    judge(&mut pairs);
    let tests = PairTests {
        possible: chosen.possible,
        tested: pairs.len() as u64,
        all_up_to_tasks: TASKS as u32,
        shifts: effort.shifts,
        looked_at_ns: looked_at,
    };
    (tests, pairs)
}

/// How much work a pair is worth.
#[derive(Clone, Copy)]
struct Effort {
    /// Turns at most.
    shifts: u32,
    /// Words of a sampled time line.
    words: usize,
}

impl Effort {
    fn new(pairs: usize) -> Self {
        // So many that one pair alone can be found among all of them.
        let shifts = (40 * pairs).max(400) - 1;
        let words = BUDGET / (shifts * pairs.max(1));
        Self {
            shifts: shifts as u32,
            words: words.clamp(128, 1024),
        }
    }
}

/// The parts of the trace that are looked at, and how long they are in all: all
/// of it, unless the tasks have very many stretches.
fn windows(model: &Model, tasks: &[usize]) -> (Vec<Span>, u64) {
    let stretches: usize = tasks.iter().map(|&t| model.tasks[t].stretches.len()).sum();
    let start = tasks.iter().map(|&t| model.tasks[t].start_ns).min();
    let end = tasks.iter().map(|&t| model.tasks[t].end_ns).max();
    let (start, end) = (start.unwrap_or(0), end.unwrap_or(0));
    let all = Span { start, end };
    let step = (end - start) / WINDOWS;
    if stretches <= STRETCHES || step == 0 {
        return (vec![all], end - start);
    }
    let length = (u128::from(step) * STRETCHES as u128 / stretches as u128).max(1) as u64;
    let windows: Vec<Span> = (0..WINDOWS)
        .map(|at| Span {
            start: start + at * step,
            end: start + at * step + length,
        })
        .collect();
    let looked_at = total(&windows);
    (windows, looked_at)
}

/// Compares two tasks; `None` when they had no time in common. The verdict is as
/// if there were no other pair.
fn pair(a: (u32, &Line), b: (u32, &Line), windows: &[Span], effort: Effort) -> Option<Pair> {
    let start = a.1.life.start.max(b.1.life.start);
    let end = a.1.life.end.min(b.1.life.end);
    if start >= end {
        return None;
    }
    let common = clipped(windows, start, end);
    let known = without(&without(&common, &a.1.unknown), &b.1.unknown);
    let w = total(&known);
    if w == 0 {
        return None;
    }
    let lines = [within(&a.1.blocked, &known), within(&b.1.blocked, &known)];
    let both = overlap(&lines[0], &lines[1]);
    let [blocked_a, blocked_b] = [total(&lines[0]), total(&lines[1])];
    let expected = blocked_a as f64 * blocked_b as f64 / w as f64;
    let (test, p, verdict) = test(&lines, w, effort, seed(a.0, b.0));
    Some(Pair {
        a: a.0,
        b: b.0,
        common_ns: w,
        unknown_ns: total(&common) - w,
        overlap_ns: both,
        expected_ns: expected.round() as u64,
        lift: (expected > 0.0).then_some(both as f64 / expected),
        test,
        p,
        q: p,
        verdict,
    })
}

fn clipped(windows: &[Span], start: u64, end: u64) -> Vec<Span> {
    let clip = |window: &Span| {
        let (start, end) = (window.start.max(start), window.end.min(end));
        (start < end).then_some(Span { start, end })
    };
    windows.iter().filter_map(clip).collect()
}

/// The shifts are the same each time.
fn seed(a: u32, b: u32) -> u64 {
    u64::from(a) << 32 | u64::from(b)
}

/// Tests the overlap, or where that can't tell anything, the beginnings.
fn test(
    blocked: &[Vec<Span>; 2],
    w: u64,
    effort: Effort,
    seed: u64,
) -> (Option<PairTest>, Option<f64>, PairVerdict) {
    let informs = |blocked: &Vec<Span>| {
        let share = total(blocked) as f64 / w as f64;
        // A task that blocks for less than a sample is not seen in the samples.
        (1.0 / (effort.words * 8) as f64..=NEARLY_ALWAYS).contains(&share)
    };
    let fewest = blocked[0].len().min(blocked[1].len());
    if blocked.iter().all(informs) {
        if fewest < FEW {
            return (None, None, PairVerdict::TooFew);
        }
        let [a, b] = blocked
            .each_ref()
            .map(|x| Bits::of_spans(x, w, effort.words));
        let Compared { p_more, p_less } = compare(&a, &b, effort.shifts, seed);
        let verdict = if p_more < p_less {
            PairVerdict::Together
        } else {
            PairVerdict::Apart
        };
        let p = (2.0 * p_more.min(p_less)).min(1.0);
        return (Some(PairTest::Overlap), Some(p), verdict);
    }
    // As near as a fortieth of the distance between the blocks of the busier.
    let most = blocked[0].len().max(blocked[1].len());
    let reach = effort.words * 64 / (40 * most.max(1));
    if fewest < FEW || reach == 0 {
        return (None, None, PairVerdict::Uninformative);
    }
    let a = Bits::of_starts(&blocked[0], w, effort.words, reach);
    let b = Bits::of_starts(&blocked[1], w, effort.words, 0);
    let p = compare(&a, &b, effort.shifts, seed).p_more;
    (Some(PairTest::Onset), Some(p), PairVerdict::StartTogether)
}

/// The verdicts, once all pairs are known: a p-value that is small for one pair
/// is nothing special among a hundred.
fn judge(pairs: &mut [Pair]) {
    let tested: Vec<f64> = pairs.iter().filter_map(|pair| pair.p).collect();
    let mut adjusted = adjusted(&tested).into_iter();
    for pair in pairs {
        if pair.p.is_none() {
            continue;
        }
        pair.q = adjusted.next();
        if pair.q.is_some_and(|q| q > FALSE_DISCOVERIES) {
            pair.verdict = match pair.test {
                Some(PairTest::Onset) => PairVerdict::Uninformative,
                _ => PairVerdict::Chance,
            };
        }
    }
}
