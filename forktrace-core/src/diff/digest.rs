//! What of a report can be compared: figures by names that two runs share.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{Thing, same::thing};
use crate::report::{FindingKind, GroupKind, Object, PathState, Report, Verdict, WeaknessKind};

/// A part of the critical path: role, state by its order, reason, object.
pub(super) type PathKey = (String, u8, Option<String>, Option<Thing>);
/// What stalls are put down to: verdict, name, reason, object.
pub(super) type StallKey = (
    Option<Verdict>,
    Option<String>,
    Option<String>,
    Option<Thing>,
);
/// A wait: role, reason, object.
pub(super) type WaitKey = (String, String, Option<Thing>);
/// A finding: kind, role, object.
pub(super) type FindingKey = (FindingKind, Option<String>, Option<Thing>);

/// The states of the path, in the order of their keys.
pub(super) const STATES: [PathState; 5] = [
    PathState::Running,
    PathState::Runnable,
    PathState::Blocked,
    PathState::Stopped,
    PathState::Unknown,
];

/// Findings that are about the whole workload: it is chance which task is their first.
const OF_ALL: [FindingKind; 7] = [
    FindingKind::Starved,
    FindingKind::Disk,
    FindingKind::Quota,
    FindingKind::PageFault,
    FindingKind::Stopped,
    FindingKind::Creation,
    FindingKind::Idle,
];

/// The sums of a role.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RoleSums {
    pub(super) tasks: u64,
    pub(super) path_ns: u64,
    pub(super) running_ns: u64,
    pub(super) runnable_ns: u64,
    pub(super) blocked_ns: u64,
}

/// The figures of one run.
#[derive(Clone, Debug, Default)]
pub struct Digest {
    pub(super) trace: String,
    pub(super) argv: Vec<String>,
    /// What the workload's first task is called; empty: it was attached to.
    pub(super) program: String,
    pub(super) attached: bool,
    pub(super) failed: bool,
    /// The trace breaks off: how long the run took, and how it ended, is not known.
    pub(super) no_end: bool,
    pub(super) machine: (u32, String),
    pub(super) wall_ns: u64,
    pub(super) stalled_ns: u64,
    /// Wakers were not left out.
    pub(super) has_path: bool,
    pub(super) path: BTreeMap<PathKey, u64>,
    pub(super) stalls: BTreeMap<StallKey, u64>,
    pub(super) waits: BTreeMap<WaitKey, u64>,
    pub(super) roles: BTreeMap<String, RoleSums>,
    pub(super) findings: BTreeMap<FindingKey, (u64, String)>,
    pub(super) complete: bool,
    pub(super) uncertain_ns: u64,
}

impl Digest {
    /// All things that it names.
    fn things(&self) -> impl Iterator<Item = &Thing> {
        let path = self.path.keys().map(|key| &key.3);
        let stalls = self.stalls.keys().map(|key| &key.3);
        let waits = self.waits.keys().map(|key| &key.2);
        let findings = self.findings.keys().map(|key| &key.2);
        path.chain(stalls).chain(waits).chain(findings).flatten()
    }

    /// Calls things by other names.
    fn rename(&mut self, name: impl Fn(&Thing) -> Thing) {
        let other = |thing: &Option<Thing>| thing.as_ref().map(&name);
        let mut path = BTreeMap::new();
        for ((role, state, reason, object), ns) in std::mem::take(&mut self.path) {
            add(&mut path, (role, state, reason, other(&object)), ns);
        }
        let mut stalls = BTreeMap::new();
        for ((verdict, name, reason, object), ns) in std::mem::take(&mut self.stalls) {
            add(&mut stalls, (verdict, name, reason, other(&object)), ns);
        }
        let mut waits = BTreeMap::new();
        for ((role, reason, object), ns) in std::mem::take(&mut self.waits) {
            add(&mut waits, (role, reason, other(&object)), ns);
        }
        let findings = std::mem::take(&mut self.findings).into_iter();
        let findings =
            findings.map(|((kind, role, object), it)| ((kind, role, other(&object)), it));
        (self.path, self.stalls, self.waits) = (path, stalls, waits);
        self.findings = findings.collect();
    }

    /// Calls roles, tasks and what lies in a program by another program's name.
    fn call(&mut self, program: &str) {
        let old = std::mem::replace(&mut self.program, program.to_owned());
        let role = |name: &String| called(name, &old, program);
        let thing = |thing: &Option<Thing>| {
            thing.as_ref().map(|it| Thing {
                kind: it.kind.clone(),
                name: it
                    .name
                    .replace(&format!("(in {old})"), &format!("(in {program})"))
                    .replace(&format!("{old}+0x"), &format!("{program}+0x")),
            })
        };
        let mut path = BTreeMap::new();
        for ((of, state, reason, object), ns) in std::mem::take(&mut self.path) {
            add(&mut path, (role(&of), state, reason, thing(&object)), ns);
        }
        let mut stalls = BTreeMap::new();
        for ((verdict, name, reason, object), ns) in std::mem::take(&mut self.stalls) {
            let name = name.as_ref().map(role);
            add(&mut stalls, (verdict, name, reason, thing(&object)), ns);
        }
        let mut waits = BTreeMap::new();
        for ((of, reason, object), ns) in std::mem::take(&mut self.waits) {
            add(&mut waits, (role(&of), reason, thing(&object)), ns);
        }
        (self.path, self.stalls, self.waits) = (path, stalls, waits);
        let roles = std::mem::take(&mut self.roles).into_iter();
        self.roles = roles.map(|(name, sums)| (role(&name), sums)).collect();
        let findings = std::mem::take(&mut self.findings).into_iter();
        let findings = findings
            .map(|((kind, of, object), it)| ((kind, of.as_ref().map(role), thing(&object)), it));
        self.findings = findings.collect();
    }

    /// Of the report on the trace of this name.
    pub fn of(trace: &str, report: &Report) -> Self {
        let workload = &report.workload;
        let mut groups = report.groups.iter();
        let tree = groups.find(|group| group.kind == GroupKind::Tree);
        let stalled_ns = tree.map_or(0, |tree| tree.all_blocked.lower_ns);
        let mut weaknesses = report.audit.weaknesses.iter();
        let no_end = weaknesses.any(|it| it.kind == WeaknessKind::EndMissing);
        let failed = !no_end && workload.attached.is_none() && workload.exit_code != Some(0);
        let has_path = !report.path.parts.is_empty() || report.tasks.is_empty();
        Self {
            trace: trace.to_owned(),
            argv: workload.argv.clone(),
            program: program(report).unwrap_or_default(),
            attached: workload.attached.is_some(),
            failed,
            no_end,
            machine: (workload.cpus, workload.kernel.clone()),
            wall_ns: workload.duration_ns,
            stalled_ns,
            has_path,
            path: path(report),
            stalls: stalls(report, stalled_ns),
            waits: waits(report),
            roles: roles(report),
            findings: findings(report),
            complete: report.audit.complete,
            uncertain_ns: report.audit.uncertain_ns,
        }
    }

    /// The wall time of the run.
    pub fn wall_ns(&self) -> u64 {
        self.wall_ns
    }

    /// The time in which all its tasks were blocked.
    pub fn stalled_ns(&self) -> u64 {
        self.stalled_ns
    }
}

/// A program that has another name after the change, as `server-2` may, is the same all the same:
/// its tasks are called what they were before. Not so where one side has a program of either name
/// beside it.
pub(super) fn with_common_programs(base: &[Digest], new: &mut [Digest]) {
    let of_all = |runs: &[Digest]| {
        let first = runs.first().map(|run| run.program.clone());
        first.filter(|it| !it.is_empty() && runs.iter().all(|run| run.program == *it))
    };
    let (Some(before), Some(after)) = (of_all(base), of_all(new)) else {
        return;
    };
    let has = |runs: &[Digest], program: &str| {
        let mut roles = runs.iter().flat_map(|run| run.roles.keys());
        roles.any(|role| called(role, program, "") != *role)
    };
    if before != after && !has(base, &after) && !has(new, &before) {
        new.iter_mut().for_each(|run| run.call(&before));
    }
}

/// A role or a task with the name of one program in place of another.
fn called(name: &str, old: &str, new: &str) -> String {
    let ends = |rest: &str| rest.is_empty() || rest.starts_with([':', '/', ' ']);
    match name.strip_prefix(old) {
        Some(rest) if ends(rest) => format!("{new}{rest}"),
        _ => name.to_owned(),
    }
}

/// What the program is called that a command is of.
fn program(report: &Report) -> Option<String> {
    let first = report.tasks.first()?;
    let begun = report.workload.attached.is_none();
    begun.then(|| {
        first
            .role
            .split([':', '/'])
            .next()
            .unwrap_or_default()
            .to_owned()
    })
}

/// A futex on a stack or a heap can have an address in each run of which nothing stays. Those
/// that no run of the other side has are put together, by role and call, since it can't be told
/// which of them became which.
pub(super) fn with_common_names(base: &mut [Digest], new: &mut [Digest]) {
    let names = |runs: &[Digest]| -> BTreeSet<Thing> {
        let things = runs.iter().flat_map(Digest::things);
        things.filter(|it| it.kind == "futex").cloned().collect()
    };
    let (before, after) = (names(base), names(new));
    for run in base.iter_mut().chain(new) {
        run.rename(|thing| match thing.kind.as_str() {
            "futex" if !(before.contains(thing) && after.contains(thing)) => Thing {
                kind: thing.kind.clone(),
                name: "futexes without a lasting address".to_owned(),
            },
            _ => thing.clone(),
        });
    }
}

fn path(report: &Report) -> BTreeMap<PathKey, u64> {
    let mut parts = BTreeMap::new();
    for part in &report.path.parts {
        let object = kept(part.reason.as_deref(), part.object.as_ref());
        let state = STATES.iter().position(|state| *state == part.state);
        let key = (
            part.role.clone(),
            state.unwrap_or(STATES.len() - 1) as u8,
            part.reason.clone(),
            object.map(thing),
        );
        add(&mut parts, key, part.ns);
    }
    parts
}

/// They add up to the time in which all were blocked: what the report does not list by cause
/// is a part of its own.
fn stalls(report: &Report, stalled_ns: u64) -> BTreeMap<StallKey, u64> {
    let mut sums = BTreeMap::new();
    let mut left_ns = stalled_ns;
    let tree = report.causes.iter().filter(|cause| cause.group == 0);
    for cause in tree {
        let ns = cause.ns.min(left_ns);
        left_ns -= ns;
        let Some(root) = &cause.root else {
            add(&mut sums, (None, None, None, None), ns);
            continue;
        };
        let object = kept(Some(&root.reason), cause.object.as_ref());
        let key = (
            Some(cause.verdict),
            cause.name.clone(),
            Some(root.reason.clone()),
            object.map(thing),
        );
        add(&mut sums, key, ns);
    }
    if left_ns > 0 {
        add(&mut sums, (None, None, None, None), left_ns);
    }
    sums
}

fn waits(report: &Report) -> BTreeMap<WaitKey, u64> {
    let mut sums = BTreeMap::new();
    for task in report.tasks.iter().filter(|task| !task.helper) {
        for wait in &task.waits {
            let mut left_ns = wait.ns;
            let named = wait.objects.iter();
            let named = named.filter(|it| kept(Some(&wait.reason), Some(&it.object)).is_some());
            for of in named {
                let ns = of.ns.min(left_ns);
                left_ns -= ns;
                let object = Some(thing(&of.object));
                add(
                    &mut sums,
                    (task.role.clone(), wait.reason.clone(), object),
                    ns,
                );
            }
            add(
                &mut sums,
                (task.role.clone(), wait.reason.clone(), None),
                left_ns,
            );
        }
    }
    sums
}

fn roles(report: &Report) -> BTreeMap<String, RoleSums> {
    let of = report.roles.iter().map(|role| {
        let sums = RoleSums {
            tasks: role.tasks,
            path_ns: role.path_ns,
            running_ns: role.running_ns,
            runnable_ns: role.runnable_ns,
            blocked_ns: role.blocked_ns,
        };
        (role.name.clone(), sums)
    });
    of.collect()
}

fn findings(report: &Report) -> BTreeMap<FindingKey, (u64, String)> {
    let roles: HashMap<u32, &str> = report
        .tasks
        .iter()
        .map(|task| (task.serial, task.role.as_str()))
        .collect();
    let mut found: BTreeMap<FindingKey, (u64, String)> = BTreeMap::new();
    for finding in &report.findings {
        let of_one = !OF_ALL.contains(&finding.kind);
        let first = finding.tasks.first().filter(|_| of_one);
        let role = first.and_then(|serial| roles.get(serial));
        let key = (
            finding.kind,
            role.map(|role| (*role).to_owned()),
            finding.object.as_ref().map(thing),
        );
        let entry = found
            .entry(key)
            .or_insert_with(|| (0, finding.sentence.clone()));
        entry.0 = entry.0.saturating_add(finding.ns);
    }
    found
}

/// What is told of a thing that was waited for: for how long somebody sleeps, and of which file a
/// page is, makes no row of its own.
fn kept<'a>(reason: Option<&str>, object: Option<&'a Object>) -> Option<&'a Object> {
    object.filter(|it| it.kind != "sleep" && !matches!(reason, Some("sleep" | "page fault")))
}

fn add<K: Ord>(sums: &mut BTreeMap<K, u64>, key: K, ns: u64) {
    let sum = sums.entry(key).or_default();
    *sum = sum.saturating_add(ns);
}
