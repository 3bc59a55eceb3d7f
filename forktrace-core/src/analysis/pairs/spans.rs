//! Lists of intervals: sorted, apart from each other, none empty.

use crate::model::{State, Task};

/// An interval of time, ns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: u64,
    pub(super) end: u64,
}

/// When a task lived, when it was blocked, and when that is not known.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) life: Span,
    pub(super) blocked: Vec<Span>,
    pub(super) unknown: Vec<Span>,
}

impl Line {
    /// The task's, within the windows.
    pub(super) fn new(task: &Task, windows: &[Span]) -> Self {
        let mut line = Self {
            life: Span {
                start: task.start_ns,
                end: task.end_ns,
            },
            blocked: Vec::new(),
            unknown: Vec::new(),
        };
        for window in windows {
            for segment in task.segments_from(window.start) {
                if segment.start_ns >= window.end {
                    break;
                }
                let list = match segment.state {
                    State::Blocked => &mut line.blocked,
                    State::Unknown => &mut line.unknown,
                    State::Running | State::Runnable | State::Stopped => continue,
                };
                let start = segment.start_ns.max(window.start);
                push(list, start, segment.end_ns.min(window.end));
            }
        }
        line
    }
}

fn push(list: &mut Vec<Span>, start: u64, end: u64) {
    match list.last_mut() {
        _ if start >= end => {}
        Some(last) if last.end == start => last.end = end,
        _ => list.push(Span { start, end }),
    }
}

/// How long all the spans take.
pub(super) fn total(spans: &[Span]) -> u64 {
    spans.iter().map(|span| span.end - span.start).sum()
}

/// How long both hold at once.
pub(super) fn overlap(a: &[Span], b: &[Span]) -> u64 {
    let (mut i, mut j, mut sum) = (0, 0, 0);
    while let (Some(x), Some(y)) = (a.get(i), b.get(j)) {
        let both = x.end.min(y.end).saturating_sub(x.start.max(y.start));
        sum += both;
        // Which of the two ends first is a coin toss: no branch for it.
        let a_ends = usize::from(x.end < y.end);
        i += a_ends;
        j += 1 - a_ends;
    }
    sum
}

/// What of `spans` is in none of `minus`.
pub(super) fn without(spans: &[Span], minus: &[Span]) -> Vec<Span> {
    let mut left = Vec::with_capacity(spans.len());
    let mut next = 0;
    for span in spans {
        let mut start = span.start;
        while let Some(hole) = minus.get(next) {
            if hole.start >= span.end {
                break;
            }
            push(&mut left, start, hole.start);
            start = start.max(hole.end);
            if hole.end > span.end {
                break;
            }
            next += 1;
        }
        push(&mut left, start, span.end);
    }
    left
}

/// What of `spans` is in `kept`, as if nothing but `kept` had ever been: times
/// count from the first of it, without the holes.
pub(super) fn within(spans: &[Span], kept: &[Span]) -> Vec<Span> {
    let mut clipped = Vec::new();
    let first = kept.first().map_or(0, |k| k.start);
    let mut next = spans.partition_point(|span| span.end <= first);
    let mut before = 0;
    for k in kept {
        while let Some(span) = spans.get(next) {
            if span.start >= k.end {
                break;
            }
            let start = span.start.max(k.start) - k.start;
            let end = span.end.min(k.end).saturating_sub(k.start);
            push(&mut clipped, before + start, before + end);
            if span.end > k.end {
                break;
            }
            next += 1;
        }
        before += k.end - k.start;
    }
    clipped
}
