//! What the other tasks of a process did meanwhile, while one of them was blocked.
//!
//! A blocked task does not run itself, so the time in which *any* task of the
//! process ran is, within its blocks, time in which *another* one ran. One merge
//! over the process gives the intervals in which any ran, and those in which all
//! of two or more were blocked; each block then asks for its part of them.

use std::{cmp::Reverse, collections::BinaryHeap};

use super::intervals::Intervals;
use crate::model::{Segment, State};

/// When the tasks of a group ran, and when all of them were blocked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Meanwhile {
    /// At least one ran.
    pub(super) any_ran: Intervals,
    /// Two or more lived and all were blocked.
    pub(super) all_blocked: Intervals,
}

/// Merges the segments of tasks, each given in order.
pub(super) fn of_tasks(tasks: impl Iterator<Item = impl Iterator<Item = Segment>>) -> Meanwhile {
    let mut tasks: Vec<_> = tasks.map(|segments| segments.peekable()).collect();
    let mut current: Vec<Option<State>> = vec![None; tasks.len()];
    let mut heap: BinaryHeap<Reverse<(u64, usize)>> = tasks
        .iter_mut()
        .enumerate()
        .filter_map(|(task, segments)| Some(Reverse((segments.peek()?.start_ns, task))))
        .collect();
    let mut found = Meanwhile::default();
    let (mut live, mut running, mut blocked) = (0u32, 0u32, 0u32);
    let mut now_ns = 0;
    while let Some(mut first) = heap.peek_mut() {
        let (at_ns, task) = first.0;
        if at_ns > now_ns {
            if running > 0 {
                found.any_ran.push(now_ns, at_ns);
            }
            if live >= 2 && blocked == live {
                found.all_blocked.push(now_ns, at_ns);
            }
            now_ns = at_ns;
        }
        if let Some(before) = current[task].take() {
            live -= 1;
            running -= u32::from(before == State::Running);
            blocked -= u32::from(before == State::Blocked);
        }
        match tasks[task].next() {
            Some(segment) => {
                current[task] = Some(segment.state);
                live += 1;
                running += u32::from(segment.state == State::Running);
                blocked += u32::from(segment.state == State::Blocked);
                first.0.0 = segment.end_ns;
            }
            None => {
                std::collections::binary_heap::PeekMut::pop(first);
            }
        }
    }
    found
}
