//! How many tasks of a group were in each state at once.
//!
//! One sweep over the segments of all tasks, merged by time. Between two
//! changes the numbers of running, runnable, blocked, stopped and unknown tasks
//! stand still; the time is added to whatever holds there. All changes of one
//! instant count together, so an episode is not cut in two by a task that is
//! woken in the nanosecond in which another blocks.

mod of_one;

pub(super) use of_one::of_one;

use super::{
    changes::{Change, Wait},
    same_reason::SameReason,
};
use crate::{
    model::{InSyscall, Part, State},
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

/// Is told what a sweep comes by, in the order of time.
pub(super) trait Watcher {
    /// All of two or more live tasks are blocked from `start_ns` to `end_ns`, when
    /// the state of `next` changes. Two such intervals can follow each other
    /// without a gap. Comes before the changes at `end_ns`.
    fn all_blocked(&mut self, start_ns: u64, end_ns: u64, next: usize);
    /// The state of a task changes.
    fn change(&mut self, task: usize, to: &Change, wait: Option<&Wait>);
    /// What is wanted: the figures are of that.
    fn part(&self) -> &Part;
}

/// Is told nothing.
impl Watcher for &Part {
    fn all_blocked(&mut self, _: u64, _: u64, _: usize) {}
    fn change(&mut self, _: usize, _: &Change, _: Option<&Wait>) {}
    fn part(&self) -> &Part {
        self
    }
}

/// A task as of now.
#[derive(Clone, Copy)]
struct Now {
    state: Option<State>,
    /// It is blocked, for the reason below.
    has_reason: bool,
    /// What it was blocked in last, and which reason that is: mostly it is the next one as well.
    last_call: Option<InSyscall>,
    reason: usize,
}

/// A sweep over the tasks of a group, which are known by their position in it.
/// On the way it shows `same_reason` who is blocked when, and tells the watcher.
pub(super) struct Sweep<W> {
    now: Vec<Now>,
    counts: Counts,
    /// How many live.
    live: u32,
    now_ns: u64,
    /// What of the time is wanted.
    wanted_ns: (u64, u64),
    wanted_until_ns: u64,
    profile: Profile,
    all_blocked: Collector,
    all_blocked_upper: u64,
    starved: Collector,
    starved_upper: u64,
    blocked_at_once: Histogram,
    running_at_once: Histogram,
    stops: Stops,
    same_reason: SameReason,
    watcher: W,
}

impl<W: Watcher> Sweep<W> {
    pub(super) fn new(tasks: usize, same_reason: SameReason, watcher: W) -> Self {
        let now = Now {
            state: None,
            has_reason: false,
            last_call: None,
            reason: 0,
        };
        let part = watcher.part();
        Self {
            wanted_ns: (part.from_ns, part.to_ns),
            now: vec![now; tasks],
            counts: Counts::default(),
            live: 0,
            now_ns: 0,
            wanted_until_ns: 0,
            profile: Profile::default(),
            all_blocked: Collector::default(),
            all_blocked_upper: 0,
            starved: Collector::default(),
            starved_upper: 0,
            blocked_at_once: Histogram::default(),
            running_at_once: Histogram::default(),
            stops: Stops::default(),
            same_reason,
            watcher,
        }
    }

    /// The state of a task changes. Changes come in the order of time, of one moment in that
    /// of the tasks.
    pub(super) fn change(&mut self, task: usize, to: &Change, wait: Option<&Wait>) {
        if to.at_ns > self.now_ns {
            self.pass(to.at_ns, task);
        }
        self.watcher.change(task, to, wait);
        let now = &mut self.now[task];
        if let Some(before) = std::mem::replace(&mut now.state, to.state) {
            *self.counts.slot(before) -= 1;
            self.live -= 1;
        }
        if std::mem::take(&mut now.has_reason) {
            self.same_reason.leave(now.reason);
        }
        if let Some(state) = to.state {
            *self.counts.slot(state) += 1;
            self.live += 1;
            if to.syscall.is_some() {
                now.has_reason = true;
                if now.last_call != to.syscall
                    && let Some(call) = to.syscall
                {
                    now.reason = self.same_reason.reason(task, call);
                    now.last_call = to.syscall;
                }
                self.same_reason.enter(now.reason);
            }
        }
    }

    /// Nothing changes until this time, when the state of `next` does.
    fn pass(&mut self, at_ns: u64, next: usize) {
        let (counts, live) = (self.counts, self.live);
        let from_ns = self.now_ns.max(self.wanted_ns.0);
        let to_ns = at_ns.min(self.wanted_ns.1);
        let ns = to_ns.saturating_sub(from_ns);
        if ns > 0 {
            self.stops.at(from_ns, counts.of(State::Stopped), live);
            self.wanted_until_ns = to_ns;
        } else {
            self.stops.close(self.wanted_until_ns);
        }
        let all_are_blocked = live >= 2 && counts.of(State::Blocked) == live;
        if live > 0 && ns > 0 {
            self.add(live, (from_ns, to_ns));
            if all_are_blocked {
                self.all_blocked.add(from_ns, to_ns);
            }
        }
        if all_are_blocked {
            self.watcher.all_blocked(self.now_ns, at_ns, next);
        }
        self.now_ns = at_ns;
    }

    /// A time that is wanted, in which so many tasks live.
    fn add(&mut self, live: u32, (from_ns, to_ns): (u64, u64)) {
        let (counts, ns) = (self.counts, to_ns - from_ns);
        let blocked = counts.of(State::Blocked);
        let unknown = counts.of(State::Unknown);
        let running = counts.of(State::Running);
        let profile = &mut self.profile;
        profile.lifetime_ns += ns;
        profile.most_live = profile.most_live.max(live);
        self.blocked_at_once.add(blocked, ns);
        self.running_at_once.add(running, ns);
        add_to_wall(&mut profile.wall, counts, ns);
        self.same_reason.pass(ns, running);
        if unknown > 0 {
            profile.unknown_ns += ns;
        }
        if live >= 2 && blocked + unknown == live {
            self.all_blocked_upper += ns;
        }
        let runnable = counts.of(State::Runnable);
        // An unknown task could have been the one that wanted to run.
        if running == 0 && runnable + unknown > 0 {
            self.starved_upper += ns;
            if unknown == 0 {
                self.starved.add(from_ns, to_ns);
            }
        }
    }

    /// What came of it.
    pub(super) fn finish(mut self) -> (Profile, SameReason, W) {
        self.stops.close(self.wanted_until_ns);
        let profile = Profile {
            stops: self.stops.listed,
            all_blocked: self.all_blocked.finish(self.all_blocked_upper),
            starved: self.starved.finish(self.starved_upper),
            blocked_at_once: self.blocked_at_once.finish(),
            running_at_once: self.running_at_once.finish(),
            ..self.profile
        };
        (profile, self.same_reason, self.watcher)
    }
}
