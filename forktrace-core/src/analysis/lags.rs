//! How long data waited in TCP sockets until a task looked, and what that task did meanwhile.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap, HashSet},
};

use super::{
    distribution::Distribution,
    objects,
    syscall_families::{NO_SYSCALL, wait_reason},
};
use crate::{
    model::{InSyscall, Model, Part, Segment, State, Task},
    report::{self, Lag, LagDid, LagSide, LagWait, Lags, LongestLag},
    trace::{self, Arch},
    trace_file::TraceInfo,
};

/// Rows that are listed.
const MOST: usize = 50;
/// Waits of a row that are listed.
const WAITS: usize = 5;

/// Whose data: a role, which side it is, and the port of who serves.
type Key<'a> = (&'a str, LagSide, u16);

/// What a task did while data waited, by what it waited for itself.
#[derive(Clone, Debug, Default)]
struct Did {
    running_ns: u64,
    runnable_ns: u64,
    unknown_ns: u64,
    /// By syscall and what it waited for.
    blocked: BTreeMap<(i16, bool, u32), u64>,
}

/// All data of one key.
#[derive(Default)]
struct Sum<'a> {
    waited: Distribution,
    ns: u64,
    did: Did,
    longest: Option<(&'a trace::Lag, usize)>,
}

/// `None`: nobody asked. `rows` are the tasks that are reported on.
pub(super) fn lags(
    info: &TraceInfo,
    model: &Model,
    part: &Part,
    rows: &[report::Task],
) -> Option<Lags> {
    let min_ns = info.header.lag_min_ns?;
    let arch = info.header.arch;
    let roles: HashMap<u32, &str> = rows.iter().map(|t| (t.serial, t.role.as_str())).collect();
    let sides = Sides::new(&model.lags);
    let mut by_task: HashMap<u32, Vec<(&trace::Lag, Key<'_>)>> = HashMap::new();
    for lag in model.lags.iter().filter(|it| part.has_moment(it.looked_ns)) {
        if let Some(role) = roles.get(&lag.serial) {
            let (side, port) = sides.of(lag);
            let of_task = by_task.entry(lag.serial).or_default();
            of_task.push((lag, (role, side, port)));
        }
    }
    let mut sums: BTreeMap<Key<'_>, Sum<'_>> = BTreeMap::new();
    for (at, task) in model.tasks.iter().enumerate() {
        let Some(of_task) = by_task.get(&task.serial) else {
            continue;
        };
        for (lag, key) in of_task {
            let ns = lag.looked_ns - lag.ready_ns;
            let sum = sums.entry(*key).or_default();
            sum.waited.add(ns);
            sum.ns = sum.ns.saturating_add(ns);
            let longer = |it: &(&trace::Lag, usize)| it.0.looked_ns - it.0.ready_ns < ns;
            if sum.longest.as_ref().is_none_or(longer) {
                sum.longest = Some((lag, at));
            }
        }
        let times = of_task
            .iter()
            .map(|(lag, key)| (lag.ready_ns, lag.looked_ns, *key));
        sweep(task, times, |key, count, at, ns| {
            let did = &mut sums.entry(key).or_default().did;
            did.add(at, ns.saturating_mul(count));
        });
    }
    let mut lags: Vec<Lag> = sums
        .into_iter()
        .filter_map(|(key, sum)| row(model, arch, key, sum))
        .collect();
    lags.sort_by(|a, b| (b.ns, &a.role, a.port).cmp(&(a.ns, &b.role, b.port)));
    let others = lags.len().saturating_sub(MOST) as u64;
    lags.truncate(MOST);
    let counts = model.lag_counts;
    Some(Lags {
        min_ns,
        looks: counts.filter(|_| part.is_whole()).map(|it| it.looks),
        not_noted: counts.map(|it| it.not_noted),
        left_out: model.lags_left_out,
        rows: lags,
        other_rows: others,
    })
}

/// Which side of a connection serves. The port that many others are connected to is that of
/// who serves; where neither is, the lower one: clients get high ones.
struct Sides {
    remotes: HashMap<u16, HashSet<u16>>,
    locals: HashMap<u16, HashSet<u16>>,
}

impl Sides {
    fn new(lags: &[trace::Lag]) -> Self {
        let mut sides = Self {
            remotes: HashMap::new(),
            locals: HashMap::new(),
        };
        for lag in lags {
            let remotes = sides.remotes.entry(lag.local_port).or_default();
            remotes.insert(lag.remote_port);
            let locals = sides.locals.entry(lag.remote_port).or_default();
            locals.insert(lag.local_port);
        }
        sides
    }

    fn of(&self, lag: &trace::Lag) -> (LagSide, u16) {
        let number = |of: &HashMap<u16, HashSet<u16>>, port| of.get(&port).map_or(0, HashSet::len);
        let clients = number(&self.remotes, lag.local_port);
        let connections = number(&self.locals, lag.remote_port);
        let serves = match clients.cmp(&connections) {
            std::cmp::Ordering::Greater => true,
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Equal => lag.local_port <= lag.remote_port,
        };
        match serves {
            true => (LagSide::Serves, lag.local_port),
            false => (LagSide::Asks, lag.remote_port),
        }
    }
}

/// Goes over the life of a task once, and tells of each piece of it how many data of each key
/// waited meanwhile.
fn sweep<'a, K: Copy + Ord>(
    task: &'a Task,
    times: impl Iterator<Item = (u64, u64, K)>,
    mut tell: impl FnMut(K, u64, At<'a>, u64),
) {
    let mut edges: Vec<(u64, bool, K)> = Vec::new();
    // None that is over at once: its end would come before its beginning.
    for (from_ns, to_ns, key) in times.filter(|(from_ns, to_ns, _)| from_ns < to_ns) {
        edges.push((from_ns, true, key));
        edges.push((to_ns, false, key));
    }
    // Of one moment those that end first.
    edges.sort_unstable();
    let Some(&(first_ns, ..)) = edges.first() else {
        return;
    };
    let mut edges = edges.into_iter().peekable();
    let mut waiting: BTreeMap<K, u64> = BTreeMap::new();
    let mut segments = task.segments_from(first_ns);
    let mut now_ns = first_ns;
    while let Some(segment) = segments.next() {
        let stretch = segments.stretch();
        loop {
            let next_ns = edges.peek().map_or(u64::MAX, |edge| edge.0);
            let until_ns = next_ns.min(segment.end_ns);
            let from_ns = now_ns.max(segment.start_ns);
            if until_ns > from_ns {
                for (key, count) in waiting.iter().filter(|(_, count)| **count > 0) {
                    tell(
                        *key,
                        *count,
                        At {
                            segment,
                            stretch,
                            task,
                        },
                        until_ns - from_ns,
                    );
                }
                now_ns = until_ns;
            }
            if next_ns > segment.end_ns {
                break;
            }
            let Some((_, begins, key)) = edges.next() else {
                return;
            };
            let count = waiting.entry(key).or_default();
            *count = match begins {
                true => *count + 1,
                false => count.saturating_sub(1),
            };
        }
    }
}

/// A piece of a task's life.
#[derive(Clone, Copy)]
struct At<'a> {
    task: &'a Task,
    segment: Segment,
    /// The stretch that it is of, among the task's.
    stretch: Option<usize>,
}

impl Did {
    fn add(&mut self, at: At<'_>, ns: u64) {
        let sum = match at.segment.state {
            State::Running => &mut self.running_ns,
            State::Runnable => &mut self.runnable_ns,
            State::Blocked | State::Stopped => {
                let target = match at.stretch {
                    Some(stretch) if stretch < at.task.stretches.len() => {
                        at.task.stretches.at(stretch).target
                    }
                    _ => at.task.open_target,
                };
                // What is stopped is in no call that it waits in.
                let syscall = at.segment.syscall.unwrap_or(InSyscall {
                    number: NO_SYSCALL,
                    compat: false,
                });
                self.blocked
                    .entry((syscall.number, syscall.compat, target))
                    .or_default()
            }
            State::Unknown => &mut self.unknown_ns,
        };
        *sum = sum.saturating_add(ns);
    }

    fn finish(&self, model: &Model, arch: Arch, worker: bool) -> LagDid {
        let blocked_ns = self
            .blocked
            .values()
            .fold(0u64, |sum, ns| sum.saturating_add(*ns));
        let mut waits: Vec<LagWait> = self
            .blocked
            .iter()
            .map(|((syscall, compat, target), ns)| {
                let (reason, syscall) = wait_reason(arch, *syscall, *compat, worker);
                LagWait {
                    reason,
                    syscall,
                    object: objects::describe(model, *target),
                    ns: *ns,
                }
            })
            .collect();
        waits.sort_by_key(|wait| Reverse(wait.ns));
        waits.truncate(WAITS);
        LagDid {
            running_ns: self.running_ns,
            runnable_ns: self.runnable_ns,
            blocked_ns,
            unknown_ns: self.unknown_ns,
            waits,
        }
    }
}

fn row(model: &Model, arch: Arch, (role, side, port): Key<'_>, sum: Sum<'_>) -> Option<Lag> {
    let (lag, at) = sum.longest?;
    let task = &model.tasks[at];
    let mut did = Did::default();
    let times = std::iter::once((lag.ready_ns, lag.looked_ns, ()));
    sweep(task, times, |(), _, at, ns| did.add(at, ns));
    Some(Lag {
        role: role.to_owned(),
        side,
        port,
        waited: sum.waited.spread()?,
        ns: sum.ns,
        did: sum.did.finish(model, arch, task.kernel_worker),
        longest: LongestLag {
            serial: task.serial,
            tid: task.tid,
            name: task.name.clone(),
            start_ns: lag.ready_ns,
            ns: lag.looked_ns - lag.ready_ns,
            did: did.finish(model, arch, task.kernel_worker),
        },
    })
}
