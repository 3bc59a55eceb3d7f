//! What the time lines tell: plain figures.
//!
//! Pure functions of the model. A new analysis is a file here, a structure in
//! `report`, and a line in [`analyse`].

mod audit;
mod blocked_set;
mod blocks;
mod caps;
mod causes;
mod chains;
mod changes;
mod choice;
mod code;
mod cpu_users;
mod deadlocks;
mod distribution;
mod division;
mod episodes;
mod findings;
mod graph;
mod groups;
#[cfg(test)]
mod hang_tests;
mod held_by;
#[cfg(test)]
mod idle_tests;
mod interpreter;
mod intervals;
mod lags;
#[cfg(test)]
mod lags_tests;
mod lanes;
mod locks;
mod longest_run;
mod look_ups;
mod marks;
mod meanwhile;
#[cfg(test)]
mod meanwhile_tests;
mod members;
mod moment;
mod objects;
mod overview;
mod pairs;
mod part;
#[cfg(test)]
mod part_tests;
mod path;
#[cfg(test)]
mod path_tests;
mod polls;
mod primitives;
mod profile;
mod providers;
mod roles;
mod same_reason;
mod spans;
mod stacks;
mod standstill;
mod stops;
mod sum_by_key;
mod syscall_families;
mod tasks;
#[cfg(test)]
mod tests;
mod timeline;
#[cfg(test)]
mod timeline_tests;
mod waits;
mod wakers;
mod weaknesses;
#[cfg(test)]
mod why_tests;
mod woken_by;

use std::{
    collections::BTreeMap,
    panic::resume_unwind,
    sync::{Mutex, PoisonError},
    thread,
};

use crate::{
    model::{Model, Part, Task, WHOLE},
    report::{self, OtherEdges, Report, SCHEMA_VERSION, Throttled, Workload},
    trace::{Arch, Finish},
    trace_file::TraceInfo,
};

use self::{blocks::Blocks, distribution::OfRoles, longest_run::Runs, tasks::Kept, wakers::Wakers};
pub use choice::choose;
pub use deadlocks::named_deadlock;
pub use division::GroupBy;
pub use moment::moment;
pub(crate) use objects::{given, kind_name};
#[cfg(test)]
pub(crate) use overview::{CELLS, roles as roles_of};
pub use part::analyse_part;
pub(crate) use roles::role;
pub use roles::roles;
pub use syscall_families::family;

pub use profile::Profile;
pub use timeline::timeline;
pub use waits::{Names, Wait, Waits};

/// Of so many tasks just the longest block is listed.
const MANY_TASKS: usize = 100;

/// What is asked of a report.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Episodes to list of the tree, and of all processes.
    pub episodes: usize,
    /// The same for who wants more: [`Report::more_episodes`].
    pub more_episodes: Option<usize>,
    /// What tasks are divided into groups by.
    pub group_by: GroupBy,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            episodes: 10,
            more_episodes: None,
            group_by: GroupBy::default(),
        }
    }
}

/// Makes a report of a trace.
pub fn analyse(info: &TraceInfo, model: &Model) -> Report {
    analyse_with(info, model, &Options::default())
}

/// The same, with options.
pub fn analyse_with(info: &TraceInfo, model: &Model, options: &Options) -> Report {
    let whole = Views {
        whole: model,
        cut: model,
        rest: model,
        chosen: model,
    };
    report(info, whole, options, &WHOLE)
}

/// The models that figures are taken from: all the same unless a part is reported on.
#[derive(Clone, Copy)]
struct Views<'a> {
    /// Everything: what reasons are found in.
    whole: &'a Model,
    /// The time of the part, of all tasks. Indices are those of the whole.
    cut: &'a Model,
    /// The same, with nothing of the tasks that were not chosen but that they lived.
    chosen: &'a Model,
    /// Only tasks that were chosen and lived. Indices are its own.
    rest: &'a Model,
}

// Long: what is done at once, and who needs what of whom, is seen in one place only.
fn report(info: &TraceInfo, views: Views<'_>, options: &Options, part: &Part) -> Report {
    let arch = info.header.arch;
    let model = views.whole;
    let wakers = Wakers::new(model, &info.header);
    let targets = objects::representatives(model);
    let mut blocks = Blocks::new(model, &wakers, arch);
    blocks.part = part;
    let cut_blocks = (!part.is_whole()).then(|| Blocks::of_cut(&blocks, views.chosen, &wakers));
    let cut_blocks = cut_blocks.as_ref().unwrap_or(&blocks);
    let kin = providers::Kin::new(&blocks);
    let hangs = standstill::hangs(&kin);
    let roles = roles::roles(model);
    let lived = model.tasks.iter().enumerate();
    let lived = lived.filter(|(at, task)| part.has_life(*at, task));
    let lived: Vec<usize> = lived.map(|(at, _)| at).collect();
    let context = tasks::Context {
        arch,
        model: views.cut,
        wakers: &wakers,
        targets: &targets,
        code: &blocks.code,
    };
    let companies = processes(views.cut);
    let of_tasks = |path: &report::CriticalPath| {
        let mut waited = overview::Waited::new(model);
        let mut spreads = OfRoles::default();
        let sums = (&mut waited, &mut spreads);
        let (tasks, kept) = rows(&blocks, &context, &roles, &lived, sums);
        let of_lived = lived.iter().map(|at| &views.cut.tasks[*at]);
        let waits_for = graph::waits_for(of_lived, &tasks);
        let pairs = pairs::pairs(views.rest, &waits_for);
        let audit = part::audit_of_whole(info, &blocks, &context, &tasks);
        let mut of_roles = overview::roles(&tasks, path);
        for role in &mut of_roles {
            (role.blocked, role.runnable) = spreads.of(&role.name);
        }
        let of_rest: Vec<String> = lived.iter().map(|at| roles[*at].clone()).collect();
        let timeline = overview::timeline(views.rest, &of_roles, &of_rest);
        let overview = (of_roles, timeline, waited.finish());
        ((tasks, kept), waits_for, pairs, audit, overview)
    };
    // Each goes over all that was recorded, and none needs another.
    let labels = options.group_by.labels(model, &info.header, &roles);
    let by = (options.group_by, &labels[..]);
    let of_groups = || groups::groups(&kin, &targets, &hangs, by, options);
    let of_locks = || {
        let cpu_users = cpu_users::cpu_users(views.cut, &roles, part);
        (locks::locks(&blocks, &targets, &roles), cpu_users)
    };
    let of_path = || {
        let path = path::path(&kin, &targets, &roles);
        companies.values().for_each(Runs::prepare);
        (path, stops::stops(cut_blocks))
    };
    let of_path_and_tasks = || {
        let of_path = of_path();
        let of_tasks = of_tasks(&of_path.0);
        (of_path, of_tasks)
    };
    let (found, ((locks, cpu_users), (of_path, of_tasks))) =
        both(of_groups, || both(of_locks, of_path_and_tasks));
    let (path, (stops, other_stops)) = of_path;
    let ((mut tasks, kept), waits_for, (pair_tests, pairs), audit, overview) = of_tasks;
    let (of_roles, timeline, waited_for) = overview;
    let meantime = found.meantime;
    let meantime = meantime.unwrap_or_else(|| meanwhile::of_waits(views.cut));
    let rows = Mutex::new(tasks.iter_mut().zip(&kept).zip(&lived));
    // Who takes the next one holds it for a moment only.
    let next = || rows.lock().unwrap_or_else(PoisonError::into_inner).next();
    let add_company = || {
        while let Some(((row, kept), at)) = next() {
            let runs = &companies[&views.cut.tasks[*at].process];
            tasks::with_company(row, kept, &meantime[*at], runs);
        }
    };
    both(add_company, add_company);
    let all_time = part.is_all_time();
    let mut report = Report {
        schema_version: SCHEMA_VERSION,
        workload: workload(info, views.rest, arch),
        part: None,
        findings: Vec::new(),
        path,
        timeline,
        roles: of_roles,
        waited_for,
        locks: locks.iter().map(|row| row.lock.clone()).collect(),
        groups: found.groups,
        episodes: found.episodes,
        more_episodes: found.more_episodes,
        causes: found.causes,
        stops,
        other_stops,
        polls: (all_time && polls::counted(&info.header.polls, model))
            .then(|| polls::polls(views.rest)),
        poll_probes: polls::how(&info.header.polls, model),
        stack_coverage: stacks::coverage(info, views.rest),
        stacks: stacks::stacks(info, views.rest),
        marks: marks::marks(views.rest),
        throttled: throttled(info, all_time),
        cpu_users: cpu_users.users,
        lags: lags::lags(info, views.whole, part, &tasks),
        cpu_wanted_ns: cpu_users.wanted_ns,
        cpu_users_unknown_ns: cpu_users.unknown_ns,
        pairs,
        pair_tests,
        waits_for,
        other_edges: OtherEdges::default(),
        deadlocks: deadlocks::deadlocks(&blocks, &hangs),
        audit,
        tasks,
    };
    if info.header.plain {
        report = without_wakers(report);
    }
    let (_, inferred_ns) = weaknesses::inferred(views.rest);
    report.audit.uncertain_ns = overview::uncertain_ns(&report, inferred_ns);
    report.findings = findings::findings(&report, cut_blocks, &locks);
    caps::cap(&mut report);
    report
}

/// Does two things at once, the first on a thread of its own.
fn both<A: Send, B>(away: impl Fn() -> A + Copy + Send, here: impl FnOnce() -> B) -> (A, B) {
    thread::scope(|scope| {
        let thread = thread::Builder::new().spawn_scoped(scope, away);
        let here = here();
        let away = match thread {
            Ok(thread) => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
            // A limit of memory or of processes leaves no room for a thread.
            Err(_) => away(),
        };
        (away, here)
    })
}

/// The figures of those tasks, given by their indices, but for what others did meanwhile.
fn rows(
    blocks: &Blocks<'_>,
    context: &tasks::Context<'_>,
    roles: &[String],
    lived: &[usize],
    (waited, of_roles): (&mut overview::Waited<'_>, &mut OfRoles),
) -> (Vec<report::Task>, Vec<Vec<Kept>>) {
    let long_blocks = if lived.len() > MANY_TASKS { 1 } else { 3 };
    let row = |at: usize| {
        let helper = roles::is_helper(blocks, at);
        let task = &context.model.tasks[at];
        let (row, each, kept) = tasks::task(task, helper, context, waited);
        of_roles.add(&roles[at], &each);
        let row = report::Task {
            role: roles[at].clone(),
            ..row
        };
        (part::with_edges(row, blocks, at), kept)
    };
    let (mut tasks, kept): (Vec<_>, _) = lived.iter().copied().map(row).unzip();
    for row in caps::longest_blocked(&tasks) {
        let at = lived[row] as u32;
        tasks[row].longest_blocks = chains::longest_blocks(blocks, at, long_blocks);
    }
    (tasks, kept)
}

/// Wakers were left out on purpose: what they would tell is absent, not unknown.
fn without_wakers(mut report: Report) -> Report {
    report.path = report::CriticalPath::default();
    report.episodes.clear();
    report.more_episodes.iter_mut().for_each(Vec::clear);
    report.causes.clear();
    report.waits_for.clear();
    for group in &mut report.groups {
        group.verdicts.clear();
    }
    for task in &mut report.tasks {
        task.wakers.clear();
        task.longest_blocks.clear();
    }
    report
}

fn workload(info: &TraceInfo, model: &Model, arch: Arch) -> Workload {
    let first = model.tasks.iter().map(|t| t.start_ns).min().unwrap_or(0);
    let last = model.tasks.iter().map(|t| t.end_ns).max().unwrap_or(0);
    let no_end = Finish::default();
    let finish = info.finish.as_ref().unwrap_or(&no_end);
    Workload {
        argv: info.header.argv.clone(),
        attached: info.header.attached.as_ref().map(|a| a.targets.clone()),
        imported: info.header.imported.as_ref().map(|it| it.from.clone()),
        saved: finish.saved.as_ref().map(|saved| report::Saved {
            condition: saved.condition.clone(),
            at_ns: saved.at_ns.saturating_sub(info.header.start_ns),
        }),
        exit_code: finish.exit_code,
        signal: finish.signal,
        duration_ns: last - first,
        cpus: info.header.cpus,
        kernel: info.header.kernel.clone(),
        arch: match arch {
            Arch::X86_64 => "x86_64",
            Arch::Aarch64 => "aarch64",
        }
        .to_owned(),
    }
}

/// When cgroups were held off the CPUs is not known, so a part of the time has none.
fn throttled(info: &TraceInfo, all_time: bool) -> Vec<Throttled> {
    let finish = info.finish.iter().filter(|_| all_time);
    let all = finish.flat_map(|finish| &finish.throttled);
    let of = |t: &crate::trace::Throttled| Throttled {
        cgroup: t.cgroup.clone(),
        periods: t.periods,
        ns: t.ns,
        quota_us: t.quota_us,
        period_us: t.period_us,
    };
    all.map(of).collect()
}

/// When the tasks of each process ran, by the process's serial.
fn processes(model: &Model) -> BTreeMap<u32, Runs<'_>> {
    let mut processes: BTreeMap<u32, Vec<&Task>> = BTreeMap::new();
    for task in &model.tasks {
        processes.entry(task.process).or_default().push(task);
    }
    let runs = processes.into_iter();
    let runs = runs.map(|(serial, tasks)| (serial, Runs::new(tasks)));
    runs.collect()
}
