//! Which task of a process ran the longest while another one was blocked.
//!
//! Of a few tasks, each is looked at. Of many, an index of all runs finds the longest one:
//! else each wait of n tasks would look at all n.

use std::{collections::BinaryHeap, sync::OnceLock};

use crate::{
    model::{Off, Task},
    report::Witness,
};

/// Up to so many tasks each is looked at.
const FEW_TASKS: usize = 64;

/// Runs that are looked at for one witness among many tasks. More run at once on no machine
/// that there is; a forged trace can have any number.
const MOST_LOOKS: usize = 2048;

/// When the tasks of a process ran.
pub(super) struct Runs<'a> {
    tasks: Vec<&'a Task>,
    index: OnceLock<Index>,
}

impl<'a> Runs<'a> {
    pub(super) fn new(tasks: Vec<&'a Task>) -> Self {
        Self {
            tasks,
            index: OnceLock::new(),
        }
    }

    /// Makes what many questions take.
    pub(super) fn prepare(&self) {
        if self.tasks.len() > FEW_TASKS {
            self.index();
        }
    }

    fn index(&self) -> &Index {
        self.index.get_or_init(|| Index::new(&self.tasks))
    }

    /// The longest run of a task other than `but` within an interval; of two as long, that
    /// of the first task.
    pub(super) fn longest(&self, but: u32, start_ns: u64, end_ns: u64) -> Option<Witness> {
        let (task, run) = if self.tasks.len() <= FEW_TASKS {
            longest_of_few(&self.tasks, but, start_ns, end_ns)?
        } else {
            self.index().longest(&self.tasks, but, start_ns, end_ns)?
        };
        Some(Witness {
            serial: task.serial,
            tid: task.tid,
            name: task.name.clone(),
            cpu: run.cpu,
            start_ns: run.start_ns,
            end_ns: run.end_ns,
        })
    }
}

fn longest_of_few<'a>(
    tasks: &[&'a Task],
    but: u32,
    start_ns: u64,
    end_ns: u64,
) -> Option<(&'a Task, Run)> {
    let mut longest: Option<(&Task, Run)> = None;
    for &task in tasks.iter().filter(|task| task.serial != but) {
        for run in runs_from(task, start_ns) {
            if run.start_ns >= end_ns {
                break;
            }
            let run = run.within(start_ns, end_ns);
            let longer = longest.is_none_or(|(_, before)| run.ns() > before.ns());
            if run.ns() > 0 && longer {
                longest = Some((task, run));
            }
        }
    }
    longest
}

/// All runs of many tasks.
#[derive(Default)]
struct Index {
    /// In the order of when the first of their runs starts.
    parts: Vec<Part>,
    /// Stretches that a part goes over.
    stretches: usize,
    /// What is known of the runs of parts: a tree, the root first, each with its two halves at
    /// 2i + 1 and 2i + 2.
    tree: Vec<Bounds>,
    /// Places at the bottom of the tree: a power of two.
    leaves: usize,
}

/// Some runs of a task that follow each other.
#[derive(Clone, Copy)]
struct Part {
    /// Index of the task.
    task: u32,
    /// Its stretches before the first of them.
    first: u32,
}

/// What holds of some runs.
#[derive(Clone, Copy)]
struct Bounds {
    first_start_ns: u64,
    last_end_ns: u64,
    longest_ns: u64,
}

impl Bounds {
    const NONE: Self = Self {
        first_start_ns: u64::MAX,
        last_end_ns: 0,
        longest_ns: 0,
    };

    fn and(self, other: Self) -> Self {
        Self {
            first_start_ns: self.first_start_ns.min(other.first_start_ns),
            last_end_ns: self.last_end_ns.max(other.last_end_ns),
            longest_ns: self.longest_ns.max(other.longest_ns),
        }
    }

    /// So long at most is what lies in an interval of one of them.
    fn within(&self, start_ns: u64, end_ns: u64) -> u64 {
        let whole = self.last_end_ns.min(end_ns);
        let whole = whole.saturating_sub(self.first_start_ns.max(start_ns));
        whole.min(self.longest_ns)
    }
}

/// Stretches that a part goes over: so many at least, and more where there would be too many
/// parts.
const PART: usize = 16;
const MOST_PARTS: usize = 1 << 18;

impl Index {
    fn new(tasks: &[&Task]) -> Self {
        let all: usize = tasks.iter().map(|task| task.stretches.len()).sum();
        Self::in_parts_of(PART.max(all.div_ceil(MOST_PARTS)), tasks)
    }

    fn in_parts_of(stretches: usize, tasks: &[&Task]) -> Self {
        let mut parts: Vec<(Part, Bounds)> = Vec::new();
        for (task, of) in tasks.iter().enumerate() {
            let begun = parts.len();
            each_run(of, |at, run| {
                if run.ns() == 0 {
                    return;
                }
                let part = Part {
                    task: task as u32,
                    first: (at - at % stretches) as u32,
                };
                let bounds = Bounds {
                    first_start_ns: run.start_ns,
                    last_end_ns: run.end_ns,
                    longest_ns: run.ns(),
                };
                match parts[begun..].last_mut() {
                    Some((last, so_far)) if last.first == part.first => {
                        *so_far = so_far.and(bounds);
                    }
                    _ => parts.push((part, bounds)),
                }
            });
        }
        parts.sort_by_key(|(_, bounds)| bounds.first_start_ns);
        let leaves = parts.len().next_power_of_two();
        let mut tree = vec![Bounds::NONE; 2 * leaves - 1];
        for (leaf, (_, bounds)) in tree[leaves - 1..].iter_mut().zip(&parts) {
            *leaf = *bounds;
        }
        for node in (0..leaves - 1).rev() {
            tree[node] = tree[2 * node + 1].and(tree[2 * node + 2]);
        }
        Self {
            parts: parts.into_iter().map(|(part, _)| part).collect(),
            stretches,
            tree,
            leaves,
        }
    }

    /// Looks first where the longest can be.
    fn longest<'a>(
        &self,
        tasks: &[&'a Task],
        but: u32,
        start_ns: u64,
        end_ns: u64,
    ) -> Option<(&'a Task, Run)> {
        let mut longest: Option<(u32, Run)> = None;
        let mut looks = 0;
        let mut nodes = BinaryHeap::from([(self.tree[0].within(start_ns, end_ns), 0)]);
        while let Some((most_ns, node)) = nodes.pop() {
            let found_ns = longest.map_or(1, |(_, run)| run.ns());
            if most_ns < found_ns || looks > MOST_LOOKS {
                break;
            }
            if node < self.leaves - 1 {
                for half in [2 * node + 1, 2 * node + 2] {
                    nodes.push((self.tree[half].within(start_ns, end_ns), half));
                }
                continue;
            }
            let Some(part) = self.parts.get(node - (self.leaves - 1)) else {
                continue;
            };
            let task = tasks[part.task as usize];
            if task.serial == but {
                continue;
            }
            let first = part.first as usize;
            let runs = runs_after(task, first).take_while(|(at, _)| *at < first + self.stretches);
            let here = runs.map(|(_, run)| run);
            for found in here.take_while(|run| run.start_ns < end_ns) {
                let found = found.within(start_ns, end_ns);
                if found.ns() == 0 {
                    continue;
                }
                looks += 1;
                let better = longest.is_none_or(|(index, before)| {
                    let rank = |task: u32, run: &Run| (run.ns(), !task, !run.start_ns);
                    rank(part.task, &found) > rank(index, &before)
                });
                if better {
                    longest = Some((part.task, found));
                }
            }
        }
        longest.map(|(task, run)| (tasks[task as usize], run))
    }
}

/// A task's time on a CPU.
#[derive(Clone, Copy)]
struct Run {
    start_ns: u64,
    end_ns: u64,
    cpu: Option<u32>,
}

impl Run {
    fn ns(&self) -> u64 {
        self.end_ns.saturating_sub(self.start_ns)
    }

    /// What of it lies in an interval.
    fn within(self, start_ns: u64, end_ns: u64) -> Self {
        Self {
            start_ns: self.start_ns.max(start_ns),
            end_ns: self.end_ns.min(end_ns),
            ..self
        }
    }
}

/// The task's times on a CPU, from the one that a time falls in.
fn runs_from(task: &Task, from_ns: u64) -> impl Iterator<Item = Run> {
    let first = task.stretches.partition_point(|s| s.out_ns <= from_ns);
    runs_after(task, first.saturating_sub(1)).map(|(_, run)| run)
}

/// All of the task's times on a CPU, each with the stretch that it comes after, and without the CPU.
fn each_run(task: &Task, mut each: impl FnMut(usize, Run)) {
    let run = |off: Off, end_ns| Run {
        start_ns: off.in_ns,
        end_ns,
        cpu: None,
    };
    let mut before: Option<Off> = None;
    for (at, next) in task.stretches.iter().enumerate() {
        if let Some(off) = before.filter(|off| next.seq == off.seq.wrapping_add(1)) {
            each(at - 1, run(off, next.out_ns));
        }
        before = Some(next);
    }
    let last = task.stretches.len().saturating_sub(1);
    runs_after(task, last).for_each(|(at, run)| each(at, run));
}

/// The task's times on a CPU after this stretch or a later one, each with the stretch that it
/// comes after.
fn runs_after(task: &Task, first: usize) -> impl Iterator<Item = (usize, Run)> {
    // Between two stretches off the CPU it ran, if none is missing between them.
    let run = |off: Off, cpu: Option<u16>, end_ns| Run {
        start_ns: off.in_ns,
        end_ns,
        // It stays on the CPU that it came back to until it is switched out.
        cpu: cpu.map(u32::from),
    };
    let mut stretches = task.stretches.from(first).with_cpus();
    let mut before = stretches.next();
    let mut ats = first..;
    let next = move || {
        loop {
            let (off, cpu) = before?;
            let at = ats.next()?;
            before = stretches.next();
            match before {
                Some((next, _)) if next.seq == off.seq.wrapping_add(1) => {
                    return Some((at, run(off, cpu, next.out_ns)));
                }
                Some(_) => {}
                None => {
                    let end_ns = task.open.map_or(task.end_ns, |open| open.out_ns);
                    let follows = task.stretches_expected == Some(off.seq.wrapping_add(1));
                    return follows.then(|| (at, run(off, cpu, end_ns)));
                }
            }
        }
    };
    std::iter::from_fn(next)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        drawn,
        model::{Builder, Model},
        trace::{Arch, Event, Stretch, Timeout, Waker, Why},
    };

    /// Tasks of one process, each with stretches off the CPU: how long it ran before, how
    /// long it was away, and whether the record is there.
    fn model(tasks: &[Vec<(u64, u64, bool)>]) -> Model {
        let mut builder = Builder::new(0, Arch::X86_64);
        for (task, stretches) in (1..).zip(tasks) {
            builder.push(Event::Born(drawn::born(task, 0)));
            let mut now_ns = 0;
            for (seq, (ran, away, is_there)) in (0..).zip(stretches) {
                let out_ns = now_ns + ran;
                now_ns = out_ns + away;
                if !is_there {
                    continue;
                }
                builder.push(Event::Stretch(Stretch {
                    serial: task,
                    seq,
                    out_ns,
                    wake_ns: now_ns,
                    in_ns: now_ns,
                    why: Why::Interruptible,
                    early_wake: false,
                    no_wake: false,
                    inferred: false,
                    compat: false,
                    syscall: 0,
                    cpu_out: 0,
                    cpu_in: task as u16 % 4,
                    arg0: 0,
                    arg1: 0,
                    waker: Waker::None,
                    object: 0,
                    timeout: Timeout::None,
                }));
            }
        }
        builder.build(200)
    }

    proptest! {
        #[test]
        fn an_index_finds_what_a_look_at_each_task_finds(
            tasks in prop::collection::vec(
                prop::collection::vec((0u64..6, 0u64..6, prop::bool::weighted(0.9)), 0..30),
                0..20,
            ),
            but in 1u32..20,
            start_ns in 0u64..120,
            length_ns in 0u64..60,
            part in 1usize..40,
        ) {
            let model = model(&tasks);
            let tasks: Vec<&Task> = model.tasks.iter().collect();
            let end_ns = start_ns + length_ns;
            let shown = |found: Option<(&Task, Run)>| {
                found.map(|(task, run)| (task.serial, run.start_ns, run.end_ns, run.cpu))
            };
            prop_assert_eq!(
                shown(Index::in_parts_of(part, &tasks).longest(&tasks, but, start_ns, end_ns)),
                shown(longest_of_few(&tasks, but, start_ns, end_ns)),
            );
        }
    }
}
