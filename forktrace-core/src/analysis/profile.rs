//! How many tasks of a group were in each state at once.
//!
//! One sweep over the segments of all tasks, merged by time. Between two
//! changes the numbers of running, runnable, blocked, stopped and unknown tasks
//! stand still; the time is added to whatever holds there. All changes of one
//! instant count together, so an episode is not cut in two by a task that is
//! woken in the nanosecond in which another blocks.

use std::{cmp::Reverse, collections::BinaryHeap};

use super::same_reason::SameReason;
use crate::{
    model::{Part, Segment, State},
    report::{AtOnce, Episodes, GroupStop, Wall},
};

/// The result of a sweep. See [`crate::report::Group`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// Time during which at least one task lived.
    pub lifetime_ns: u64,
    /// Most tasks that lived at once.
    pub most_live: u32,
    /// Two or more tasks lived and all were blocked.
    pub all_blocked: Episodes,
    /// No task ran and at least one wanted to.
    pub starved: Episodes,
    /// Each moment in one state.
    pub wall: Wall,
    /// Time by number of blocked tasks, unknown ones taken as running.
    pub blocked_at_once: Vec<AtOnce>,
    /// Time by number of running tasks, unknown ones taken as blocked.
    pub running_at_once: Vec<AtOnce>,
    /// Time during which the state of a live task is unknown.
    pub unknown_ns: u64,
    /// When tasks were stopped.
    pub stops: Vec<GroupStop>,
}

/// Collects times during which tasks were stopped.
#[derive(Default)]
struct Stops {
    listed: Vec<GroupStop>,
    open: Option<GroupStop>,
}

impl Stops {
    /// A tracer can stop its tracee a million times.
    const MOST: usize = 1000;

    /// From `now_ns` on so many of the live tasks are stopped.
    fn at(&mut self, now_ns: u64, tasks: u32, of: u32) {
        match &mut self.open {
            None if tasks > 0 => {
                self.open = Some(GroupStop {
                    start_ns: now_ns,
                    end_ns: now_ns,
                    tasks,
                    of,
                    spread_ns: 0,
                });
            }
            Some(_) if tasks == 0 => self.close(now_ns),
            Some(open) if tasks > open.tasks => {
                *open = GroupStop {
                    tasks,
                    of,
                    spread_ns: now_ns - open.start_ns,
                    ..*open
                };
            }
            _ => {}
        }
    }

    fn close(&mut self, now_ns: u64) {
        if let Some(open) = self.open.take()
            && self.listed.len() < Self::MOST
        {
            self.listed.push(GroupStop {
                end_ns: now_ns,
                ..open
            });
        }
    }
}

/// A time in which so many tasks were in each state. What ran is known to have run, whatever
/// the others did.
fn add_to_wall(wall: &mut Wall, counts: Counts, ns: u64) {
    let running = u64::from(counts.of(State::Running));
    let any = |state: State| counts.of(state) > 0;
    let sum = if running > 0 {
        wall.cpu_ns = wall.cpu_ns.saturating_add(ns.saturating_mul(running));
        &mut wall.running_ns
    } else if any(State::Unknown) {
        &mut wall.unknown_ns
    } else if any(State::Runnable) {
        &mut wall.starved_ns
    } else if any(State::Blocked) {
        &mut wall.blocked_ns
    } else {
        &mut wall.stopped_ns
    };
    *sum += ns;
}

/// Numbers of tasks by state.
#[derive(Clone, Copy, Default)]
struct Counts([u32; 5]);

impl Counts {
    fn slot(&mut self, state: State) -> &mut u32 {
        &mut self.0[state as usize]
    }

    fn of(self, state: State) -> u32 {
        self.0[state as usize]
    }

    fn live(self) -> u32 {
        self.0.iter().sum()
    }
}

/// Collects maximal intervals of a condition.
#[derive(Default)]
struct Collector {
    total_ns: u64,
    episodes: u64,
    longest: (u64, u64),
    /// Start and end of the episode under way.
    open: Option<(u64, u64)>,
}

impl Collector {
    fn add(&mut self, start_ns: u64, end_ns: u64) {
        self.total_ns = self.total_ns.saturating_add(end_ns - start_ns);
        match &mut self.open {
            Some((_, end)) if *end == start_ns => *end = end_ns,
            _ => {
                self.close();
                self.open = Some((start_ns, end_ns));
            }
        }
    }

    fn close(&mut self) {
        if let Some((start, end)) = self.open.take() {
            self.episodes += 1;
            if end - start > self.longest.1 {
                self.longest = (start, end - start);
            }
        }
    }

    fn finish(mut self, upper_ns: u64) -> Episodes {
        self.close();
        Episodes {
            lower_ns: self.total_ns,
            upper_ns,
            episodes: self.episodes,
            longest_ns: self.longest.1,
            longest_start_ns: (self.episodes > 0).then_some(self.longest.0),
        }
    }
}

/// Time by a number, grown as needed.
#[derive(Default)]
struct Histogram(Vec<u64>);

impl Histogram {
    fn add(&mut self, count: u32, ns: u64) {
        let count = count as usize;
        if count >= self.0.len() {
            self.0.resize(count + 1, 0);
        }
        self.0[count] += ns;
    }

    fn finish(self) -> Vec<AtOnce> {
        self.0
            .into_iter()
            .enumerate()
            .filter(|(_, ns)| *ns > 0)
            .map(|(count, ns)| AtOnce {
                count: count as u32,
                ns,
            })
            .collect()
    }
}

/// A change to come: a segment begins, or a task ends.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Change {
    at_ns: u64,
    task: usize,
}

/// Is told what a sweep comes by, in the order of time.
pub(super) trait Watcher {
    /// All of two or more live tasks are blocked from `start_ns` to `end_ns`, when
    /// the state of `next` changes. Two such intervals can follow each other
    /// without a gap. Comes before the changes at `end_ns`.
    fn all_blocked(&mut self, start_ns: u64, end_ns: u64, next: usize);
    /// The state of a task changes to that of the segment; `None`: its life ends.
    fn change(&mut self, task: usize, segment: Option<&Segment>);
    /// What of this time is wanted: the figures are of that.
    fn wanted(&self, start_ns: u64, end_ns: u64) -> (u64, u64);
}

/// Is told nothing.
impl Watcher for &Part {
    fn all_blocked(&mut self, _: u64, _: u64, _: usize) {}
    fn change(&mut self, _: usize, _: Option<&Segment>) {}
    #[inline]
    fn wanted(&self, start_ns: u64, end_ns: u64) -> (u64, u64) {
        self.of(start_ns, end_ns)
    }
}

/// Sweeps over tasks, each given by its segments in order, without gaps.
/// On the way it shows `waiting` who is blocked when, and tells the watcher, which
/// knows tasks by their position.
pub(super) fn sweep(
    tasks: impl Iterator<Item = impl Iterator<Item = Segment>>,
    same_reason: &mut SameReason,
    watcher: &mut impl Watcher,
) -> Profile {
    let mut tasks: Vec<_> = tasks.map(|segments| segments.peekable()).collect();
    let mut current: Vec<Option<Segment>> = vec![None; tasks.len()];
    let mut heap: BinaryHeap<Reverse<Change>> = tasks
        .iter_mut()
        .enumerate()
        .filter_map(|(task, segments)| {
            let at_ns = segments.peek()?.start_ns;
            Some(Reverse(Change { at_ns, task }))
        })
        .collect();

    let mut profile = Profile::default();
    let mut counts = Counts::default();
    let (mut all_blocked, mut starved) = (Collector::default(), Collector::default());
    let (mut all_blocked_upper, mut starved_upper) = (0, 0);
    let (mut blocked_at_once, mut running_at_once) = (Histogram::default(), Histogram::default());
    let (mut now_ns, mut wanted_until_ns) = (0, 0);
    let mut stops = Stops::default();

    while let Some(mut first) = heap.peek_mut() {
        let Change { at_ns, task } = first.0;
        if at_ns > now_ns {
            let live = counts.live();
            let (from_ns, to_ns) = watcher.wanted(now_ns, at_ns);
            let ns = to_ns.saturating_sub(from_ns);
            if ns > 0 {
                stops.at(from_ns, counts.of(State::Stopped), live);
                wanted_until_ns = to_ns;
            } else {
                stops.close(wanted_until_ns);
            }
            let blocked = counts.of(State::Blocked);
            let unknown = counts.of(State::Unknown);
            let all_are_blocked = live >= 2 && blocked == live;
            if live > 0 && ns > 0 {
                let running = counts.of(State::Running);
                profile.lifetime_ns += ns;
                profile.most_live = profile.most_live.max(live);
                blocked_at_once.add(blocked, ns);
                running_at_once.add(running, ns);
                add_to_wall(&mut profile.wall, counts, ns);
                same_reason.pass(ns, running);
                if unknown > 0 {
                    profile.unknown_ns += ns;
                }
                if live >= 2 && blocked + unknown == live {
                    all_blocked_upper += ns;
                }
                if all_are_blocked {
                    all_blocked.add(from_ns, to_ns);
                }
                let runnable = counts.of(State::Runnable);
                // An unknown task could have been the one that wanted to run.
                if running == 0 && runnable + unknown > 0 {
                    starved_upper += ns;
                    if unknown == 0 {
                        starved.add(from_ns, to_ns);
                    }
                }
            }
            if all_are_blocked {
                watcher.all_blocked(now_ns, at_ns, task);
            }
            now_ns = at_ns;
        }
        if let Some(before) = current[task].take() {
            *counts.slot(before.state) -= 1;
            same_reason.leave(task, &before);
        }
        let next = tasks[task].next();
        watcher.change(task, next.as_ref());
        match next {
            Some(segment) => {
                current[task] = Some(segment);
                same_reason.enter(task, &segment);
                *counts.slot(segment.state) += 1;
                first.0.at_ns = segment.end_ns;
            }
            None => {
                std::collections::binary_heap::PeekMut::pop(first);
            }
        }
    }
    stops.close(wanted_until_ns);
    profile.stops = stops.listed;
    profile.all_blocked = all_blocked.finish(all_blocked_upper);
    profile.starved = starved.finish(starved_upper);
    profile.blocked_at_once = blocked_at_once.finish();
    profile.running_at_once = running_at_once.finish();
    profile
}
