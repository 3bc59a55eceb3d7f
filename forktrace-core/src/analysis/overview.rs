//! The workload at a glance: its roles, their time line, and what was waited for.

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
};

use super::{objects, sum_by_key::total};
use crate::{
    model::{Model, Segment, State, Target, Task},
    report::{self, CriticalPath, Object, Role, RoleRow, RoleTimeline, RoleWait, WaitedFor},
};

/// Roles that are listed.
const ROLES: usize = 200;
/// The role of the first task is one of so many first ones.
const FIRST: usize = 4;
/// Things waited for that are listed.
const WAITED_FOR: usize = 200;
/// Cells of the time line: more than any terminal shows.
pub(crate) const CELLS: usize = 120;
/// Rows of the time line.
const ROWS: usize = 12;

/// The roles, by how much of the critical path was theirs, then by what they did.
pub(crate) fn roles(tasks: &[report::Task], path: &CriticalPath) -> Vec<Role> {
    let mut on_path: HashMap<&str, u64> = HashMap::new();
    for part in &path.parts {
        let ns = on_path.entry(&part.role).or_default();
        *ns = ns.saturating_add(part.ns);
    }
    let mut index: HashMap<&str, usize> = HashMap::new();
    let mut rows: Vec<(Vec<&report::Task>, Role)> = Vec::new();
    for task in tasks {
        let at = *index.entry(&task.role).or_insert(rows.len());
        if at == rows.len() {
            rows.push((Vec::new(), new_role(task, &on_path)));
        }
        rows[at].0.push(task);
        let role = &mut rows[at].1;
        let add = |sum: &mut u64, ns: u64| *sum = sum.saturating_add(ns);
        role.tasks += 1;
        role.helpers += u64::from(task.helper);
        role.start_ns = role.start_ns.min(task.start_ns);
        add(&mut role.running_ns, task.running_ns);
        add(&mut role.runnable_ns, task.runnable_ns);
        add(&mut role.blocked_ns, task.blocked_ns);
        add(&mut role.stopped_ns, task.stopped_ns);
        add(&mut role.unknown_ns, task.unknown_ns);
        role.longest_block_ns = role.longest_block_ns.max(task.longest_block_ns);
    }
    let mut roles: Vec<Role> = rows
        .into_iter()
        .map(|(tasks, role)| {
            let life = |task: &&&report::Task| task.end_ns.saturating_sub(task.start_ns);
            let longest = tasks.iter().rev().max_by_key(life);
            Role {
                longest_lived: longest.map_or(role.longest_lived, |task| task.serial),
                mostly: mostly(&tasks),
                ..role
            }
        })
        .collect();
    roles.sort_by_key(|role| {
        let busy_ns = role.running_ns.saturating_add(role.runnable_ns);
        (Reverse(role.path_ns), Reverse(busy_ns), role.start_ns)
    });
    roles.truncate(ROLES);
    // Who began it all is looked for, also where it did nothing but wait.
    let first = tasks.first().map(|task| task.role.as_str());
    let first = roles
        .iter()
        .position(|role| Some(role.name.as_str()) == first);
    if let Some(at) = first.filter(|at| *at >= FIRST) {
        roles[FIRST - 1..=at].rotate_right(1);
    }
    roles
}

fn new_role(task: &report::Task, on_path: &HashMap<&str, u64>) -> Role {
    Role {
        name: task.role.clone(),
        tasks: 0,
        helpers: 0,
        longest_lived: task.serial,
        start_ns: task.start_ns,
        path_ns: on_path.get(task.role.as_str()).copied().unwrap_or(0),
        running_ns: 0,
        runnable_ns: 0,
        blocked_ns: 0,
        stopped_ns: 0,
        unknown_ns: 0,
        longest_block_ns: 0,
        blocked: None,
        runnable: None,
        mostly: None,
    }
}

/// What these tasks were blocked in longest.
fn mostly(tasks: &[&report::Task]) -> Option<RoleWait> {
    let mut sums: HashMap<&str, (u64, HashMap<&Object, u64>)> = HashMap::new();
    for wait in tasks.iter().flat_map(|task| &task.waits) {
        let (ns, objects) = sums.entry(&wait.reason).or_default();
        *ns = ns.saturating_add(wait.ns);
        // Of children and pages each is another one.
        let lasting = |object: &&report::ObjectWait| {
            !matches!(object.object.kind.as_str(), "child" | "page" | "sleep")
        };
        for object in wait.objects.iter().filter(lasting) {
            let ns = objects.entry(&object.object).or_default();
            *ns = ns.saturating_add(object.ns);
        }
    }
    let most = sums.into_iter().filter(|(_, (ns, _))| *ns > 0);
    let (reason, (ns, objects)) = most.max_by_key(|(reason, (ns, _))| (*ns, Reverse(*reason)))?;
    let object = objects.into_iter().find(|(_, of_it)| *of_it > ns / 2);
    Some(RoleWait {
        reason: reason.to_owned(),
        object: object.map(|(object, _)| object.clone()),
        ns,
    })
}

/// The time line of the first of these roles.
pub(super) fn timeline(model: &Model, roles: &[Role], of_task: &[String]) -> RoleTimeline {
    let tasks = &model.tasks;
    let start_ns = tasks.iter().map(|task| task.start_ns).min().unwrap_or(0);
    let end_ns = tasks.iter().map(|task| task.end_ns).max().unwrap_or(0);
    // A cell is at least a nanosecond.
    let end_ns = end_ns.max(start_ns.saturating_add(CELLS as u64));
    let rows = roles.iter().take(ROWS).enumerate();
    let index: HashMap<&str, usize> = rows.map(|(at, role)| (role.name.as_str(), at)).collect();
    let mut sums = vec![[[0u64; CELLS]; 5]; index.len()];
    let grid = Grid { start_ns, end_ns };
    for (task, role) in tasks.iter().zip(of_task) {
        if let Some(&at) = index.get(role.as_str()) {
            grid.add(task, &mut sums[at]);
        }
    }
    let cells = |sums: &[u64; CELLS]| match sums.iter().all(|ns| *ns == 0) {
        true => Vec::new(),
        false => sums.to_vec(),
    };
    let rows = sums.iter().zip(roles).map(|(sums, role)| {
        let of = |state: State| cells(&sums[state as usize]);
        RoleRow {
            role: role.name.clone(),
            running: of(State::Running),
            runnable: of(State::Runnable),
            blocked: of(State::Blocked),
            stopped: of(State::Stopped),
            unknown: of(State::Unknown),
        }
    });
    RoleTimeline {
        start_ns,
        end_ns,
        cells: CELLS as u64,
        rows: rows.collect(),
    }
}

/// A time cut into cells.
struct Grid {
    start_ns: u64,
    end_ns: u64,
}

impl Grid {
    /// Where a cell begins; the one after the last is where the time ends.
    fn border(&self, cell: usize) -> u64 {
        let length = u128::from(self.end_ns - self.start_ns);
        self.start_ns + (length * cell as u128 / CELLS as u128) as u64
    }

    /// Adds what a task did. Its segments come in order, so a cell is never looked for.
    fn add(&self, task: &Task, sums: &mut [[u64; CELLS]; 5]) {
        let (mut cell, mut until_ns) = (0, self.border(1));
        let each = |segment: Segment| {
            let mut at_ns = segment.start_ns;
            while at_ns < segment.end_ns && cell < CELLS {
                if at_ns >= until_ns {
                    cell += 1;
                    until_ns = self.border(cell + 1);
                    continue;
                }
                let to_ns = segment.end_ns.min(until_ns);
                let sum = &mut sums[segment.state as usize][cell];
                *sum = sum.saturating_add(to_ns - at_ns);
                at_ns = to_ns;
            }
        };
        task.segments().each(|_| {}, each);
    }
}

/// Time and number of blocks.
#[derive(Default)]
struct Sum {
    ns: u64,
    count: u64,
    tasks: HashSet<u32>,
}

/// Collects what tasks waited for.
pub(super) struct Waited<'a> {
    model: &'a Model,
    /// By reason and target; 0: no target of its own.
    sums: HashMap<(String, u32), Sum>,
}

impl<'a> Waited<'a> {
    /// Nothing so far.
    pub(super) fn new(model: &'a Model) -> Self {
        Self {
            model,
            sums: HashMap::new(),
        }
    }

    /// A task's blocks for one reason on one target (0: none that is known).
    pub(super) fn add(&mut self, serial: u32, reason: &str, target: u32, ns: u64, count: u64) {
        // One after the other, children and pages are what the reason says already.
        let target = match self.model.targets.get(target as usize) {
            Some(Target::File { .. } | Target::Fds(_) | Target::Given(_)) => target,
            Some(Target::Futex(_) | Target::AnyFutex { .. } | Target::Thread(_)) => target,
            _ => 0,
        };
        let sum = self.sums.entry((reason.to_owned(), target)).or_default();
        sum.ns = sum.ns.saturating_add(ns);
        sum.count = sum.count.saturating_add(count);
        sum.tasks.insert(serial);
    }

    /// The sums, most time first.
    pub(super) fn finish(self) -> Vec<WaitedFor> {
        let rows = self.sums.into_iter();
        let rows = rows.filter(|(_, sum)| sum.ns > 0 || sum.count > 0);
        let mut rows: Vec<_> = rows.collect();
        rows.sort_unstable_by(|(a, x), (b, y)| (y.ns, y.count, a).cmp(&(x.ns, x.count, b)));
        rows.truncate(WAITED_FOR);
        let row = |((reason, target), sum): ((String, u32), Sum)| WaitedFor {
            reason,
            object: match target {
                0 => None,
                target => objects::describe(self.model, target),
            },
            ns: sum.ns,
            count: sum.count,
            tasks: sum.tasks.len() as u64,
        };
        rows.into_iter().map(row).collect()
    }
}

/// The wall time by which a figure of the whole workload can be off: in which the state of a
/// task is not known, or that is put down to one state where another is possible.
pub(super) fn uncertain_ns(report: &report::Report, inferred_ns: u64) -> u64 {
    let tree = report.groups.first();
    let not_known = tree.map_or(0, |tree| tree.unknown_ns);
    let all = [not_known, report.audit.unwoken_ns, inferred_ns];
    total(all.into_iter()).min(report.workload.duration_ns)
}
