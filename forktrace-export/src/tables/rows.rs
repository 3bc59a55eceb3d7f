//! The tables whose rows the report has.

use std::collections::HashMap;

use forktrace_core::{
    report::{Episode, Report, Spread},
    trace::cgroups,
};
use serde::Serialize;

use super::{
    Table, Time, VERSION,
    column::{Column, Value},
    time,
};
use crate::Source;

/// Takes a row, and the time that it belongs to, ns since the trace began.
type Sink<'a> = &'a mut dyn FnMut(u64, &[Value<'_>]);

/// The columns of a table that the report has.
pub(super) fn columns(table: Table) -> Vec<Column> {
    let own: &[Column] = match table {
        Table::Tasks => &TASKS,
        Table::Stretches | Table::Minutes => &[],
        Table::Stalls => &STALLS,
        Table::Causes => &CAUSES,
        Table::Groups => &GROUPS,
        Table::Findings => &FINDINGS,
        Table::Objects => &OBJECTS,
        Table::Locks => &LOCKS,
        Table::Polls => &POLLS,
        Table::Marks => &MARKS,
        Table::Audit => &AUDIT,
    };
    let trace = [Column::text("trace")];
    [&trace[..], &time("start_ns", "start"), own].concat()
}

/// Gives all rows of such a table.
pub(super) fn each(source: &Source<'_>, trace: &str, table: Table, sink: Sink<'_>) {
    let mut with_key = |at_ns: u64, row: &[Value<'_>]| {
        let (ns, timestamp) = Time::of(source.recording(), at_ns).values();
        let key = [
            Value::Text(trace),
            Value::Number(ns),
            Value::Number(timestamp),
        ];
        sink(at_ns, &[&key[..], row].concat());
    };
    let sink = &mut with_key;
    match table {
        Table::Stretches | Table::Minutes => {}
        Table::Tasks => tasks(source, sink),
        Table::Stalls => stalls(source.report, sink),
        Table::Causes => causes(source.report, sink),
        Table::Groups => groups(source.report, sink),
        Table::Findings => findings(source.report, sink),
        Table::Objects => objects(source.report, sink),
        Table::Locks => locks(source.report, sink),
        Table::Polls => polls(source.report, sink),
        Table::Marks => marks(source.report, sink),
        Table::Audit => audit(source, sink),
    }
}

/// A list, or anything else that has no type of its own in all engines, as JSON.
fn json(value: &impl Serialize) -> String {
    serde_json::json!(value).to_string()
}

/// The word of an enumeration, as the JSON report has it.
fn word(value: &impl Serialize) -> String {
    match serde_json::json!(value) {
        serde_json::Value::String(word) => word,
        other => other.to_string(),
    }
}

const TASKS: [Column; 32] = [
    Column::number("task"),
    Column::number("tid"),
    Column::number("pid"),
    Column::number("ppid"),
    Column::text("name"),
    Column::text("role"),
    Column::text("argv"),
    Column::truth("helper"),
    Column::truth("attached"),
    Column::number("life_ns"),
    Column::text("fate"),
    Column::number("running_ns"),
    Column::number("runnable_ns"),
    Column::number("blocked_ns"),
    Column::number("stopped_ns"),
    Column::number("unknown_ns"),
    Column::number("unplaced_ns"),
    Column::number("blocks"),
    Column::number("longest_block_ns"),
    Column::number("longest_runnable_ns"),
    Column::number("blocked_p50_ns").or_none(),
    Column::number("blocked_p99_ns").or_none(),
    Column::number("runnable_p50_ns").or_none(),
    Column::number("runnable_p99_ns").or_none(),
    Column::number("switches"),
    Column::number("kernel_switches").or_none(),
    Column::number("kernel_cpu_ns").or_none(),
    Column::text("machine_id"),
    Column::text("boot_id"),
    Column::text("cgroup").or_none(),
    Column::text("unit").or_none(),
    Column::text("container").or_none(),
];

// Long: a table, with a line for each column.
fn tasks(source: &Source<'_>, sink: Sink<'_>) {
    let (report, header) = (source.report, &source.info.header);
    let machine = header.machine.clone().unwrap_or_default();
    let of_model = source.model.tasks.iter().map(|task| task.serial);
    let cgroups = source.model.cgroups_of_tasks(header);
    let cgroups: HashMap<u32, Option<&str>> = of_model.zip(cgroups).collect();
    let p50 = |spread: &Option<Spread>| Value::from(spread.as_ref().map(|it| it.p50_ns));
    let p99 = |spread: &Option<Spread>| Value::from(spread.as_ref().map(|it| it.p99_ns));
    for task in &report.tasks {
        let (argv, fate) = (json(&task.argv), word(&task.fate));
        let lived = task.end_ns.saturating_sub(task.start_ns);
        let cgroup = cgroups.get(&task.serial).copied().flatten();
        sink(
            task.start_ns,
            &[
                task.serial.into(),
                task.tid.into(),
                task.pid.into(),
                task.ppid.into(),
                (&task.name).into(),
                (&task.role).into(),
                (&argv).into(),
                task.helper.into(),
                task.attached.into(),
                lived.into(),
                (&fate).into(),
                task.running_ns.into(),
                task.runnable_ns.into(),
                task.blocked_ns.into(),
                task.stopped_ns.into(),
                task.unknown_ns.into(),
                task.unplaced_ns.into(),
                task.blocks.into(),
                task.longest_block_ns.into(),
                task.longest_runnable_ns.into(),
                p50(&task.blocked),
                p99(&task.blocked),
                p50(&task.runnable),
                p99(&task.runnable),
                task.switches.traced.into(),
                task.switches.kernel.into(),
                task.kernel_cpu_ns.into(),
                (&machine.id).into(),
                (&machine.boot_id).into(),
                cgroup.into(),
                cgroup.and_then(cgroups::unit).into(),
                cgroup.and_then(cgroups::container).into(),
            ],
        );
    }
}

const STALLS: [Column; 17] = [
    Column::number("group_id"),
    Column::number("length_ns"),
    Column::number("ns"),
    Column::number("look_ups"),
    Column::text("verdict"),
    Column::number("tasks"),
    Column::number("held"),
    Column::number("idle"),
    Column::number("by_task").or_none(),
    Column::text("by_name").or_none(),
    Column::text("by_reason").or_none(),
    Column::text("by_syscall").or_none(),
    Column::text("by_object").or_none(),
    Column::text("by_how").or_none(),
    Column::text("first_woken").or_none(),
    Column::text("chain"),
    Column::text("last_to_block").or_none(),
];

fn stalls(report: &Report, sink: Sink<'_>) {
    for stall in listed(report) {
        let by = stall.ended_by.as_ref();
        let object = by.and_then(|by| by.object.as_ref());
        let how = by.map(|by| super::stretches::word_of_end(by.how));
        let (verdict, chain) = (word(&stall.verdict), json(&stall.chain));
        sink(
            stall.start_ns,
            &[
                stall.group.into(),
                stall.end_ns.saturating_sub(stall.start_ns).into(),
                stall.ns.into(),
                stall.look_ups.into(),
                (&verdict).into(),
                stall.tasks.into(),
                stall.held.into(),
                stall.idle.into(),
                by.map(|by| by.task.serial).into(),
                by.map(|by| &by.task.name).into(),
                by.map(|by| &by.reason).into(),
                by.and_then(|by| by.syscall.as_ref()).into(),
                object.map(|object| &object.name).into(),
                how.into(),
                stall.terminator.as_ref().map(|it| &it.task.name).into(),
                (&chain).into(),
                stall.trigger.as_ref().map(|it| &it.task.name).into(),
            ],
        );
    }
}

const CAUSES: [Column; 14] = [
    Column::number("group_id"),
    Column::text("verdict"),
    Column::number("ns"),
    Column::number("episodes"),
    Column::number("longest_ns"),
    Column::number("tasks"),
    Column::truth("alone"),
    Column::number("alone_ns"),
    Column::text("name").or_none(),
    Column::text("reason").or_none(),
    Column::text("syscall").or_none(),
    Column::text("object_kind").or_none(),
    Column::text("object").or_none(),
    Column::text("woken_by").or_none(),
];

fn causes(report: &Report, sink: Sink<'_>) {
    for cause in &report.causes {
        let verdict = word(&cause.verdict);
        let root = cause.root.as_ref();
        let by = cause.woken_by.as_ref();
        let kind = by.map(|by| word(&by.kind));
        let by = by.and_then(|by| by.name.as_ref().or(by.device.as_ref()));
        let one = root.map(|root| &root.task.name);
        sink(
            0,
            &[
                cause.group.into(),
                (&verdict).into(),
                cause.ns.into(),
                cause.episodes.into(),
                cause.longest_ns.into(),
                cause.tasks.into(),
                cause.alone.into(),
                cause.alone_ns.into(),
                cause.name.as_ref().or(one).into(),
                root.map(|root| &root.reason).into(),
                cause.syscall.as_ref().into(),
                cause.object.as_ref().map(|it| &it.kind).into(),
                cause.object.as_ref().map(|it| &it.name).into(),
                by.or(kind.as_ref()).into(),
            ],
        );
    }
}

const GROUPS: [Column; 22] = [
    Column::number("group_id"),
    Column::text("kind"),
    Column::number("pid"),
    Column::text("name"),
    Column::number("tasks"),
    Column::number("most_live"),
    Column::number("lifetime_ns"),
    Column::number("all_blocked_lower_ns"),
    Column::number("all_blocked_upper_ns"),
    Column::number("all_blocked_episodes"),
    Column::number("all_blocked_longest_ns"),
    Column::number("starved_lower_ns"),
    Column::number("starved_upper_ns"),
    Column::number("starved_episodes"),
    Column::number("starved_longest_ns"),
    Column::number("wall_running_ns"),
    Column::number("wall_starved_ns"),
    Column::number("wall_blocked_ns"),
    Column::number("wall_stopped_ns"),
    Column::number("wall_unknown_ns"),
    Column::number("cpu_ns"),
    Column::number("unknown_ns"),
];

fn groups(report: &Report, sink: Sink<'_>) {
    for group in &report.groups {
        let kind = word(&group.kind);
        let first = |serial: &u32| {
            let at = report.tasks.partition_point(|task| task.serial < *serial);
            report.tasks.get(at).map(|task| task.start_ns)
        };
        // Tasks are in the order of creation, but for those that were not followed.
        let start_ns = group.tasks.iter().filter_map(first).min().unwrap_or(0);
        sink(
            start_ns,
            &[
                group.id.into(),
                (&kind).into(),
                group.pid.into(),
                (&group.name).into(),
                (group.tasks.len() as u64).into(),
                group.most_live.into(),
                group.lifetime_ns.into(),
                group.all_blocked.lower_ns.into(),
                group.all_blocked.upper_ns.into(),
                group.all_blocked.episodes.into(),
                group.all_blocked.longest_ns.into(),
                group.starved.lower_ns.into(),
                group.starved.upper_ns.into(),
                group.starved.episodes.into(),
                group.starved.longest_ns.into(),
                group.wall.running_ns.into(),
                group.wall.starved_ns.into(),
                group.wall.blocked_ns.into(),
                group.wall.stopped_ns.into(),
                group.wall.unknown_ns.into(),
                group.wall.cpu_ns.into(),
                group.unknown_ns.into(),
            ],
        );
    }
}

const FINDINGS: [Column; 11] = [
    Column::number("rank"),
    Column::text("kind"),
    Column::text("sentence"),
    Column::number("ns"),
    Column::real("share"),
    Column::text("confidence"),
    Column::number("task").or_none(),
    Column::text("tasks"),
    Column::text("object_kind").or_none(),
    Column::text("object").or_none(),
    Column::text("evidence"),
];

fn findings(report: &Report, sink: Sink<'_>) {
    for (rank, finding) in report.findings.iter().enumerate() {
        let (kind, confidence) = (word(&finding.kind), word(&finding.confidence));
        let (tasks, evidence) = (json(&finding.tasks), json(&finding.evidence));
        sink(
            0,
            &[
                (rank as u64 + 1).into(),
                (&kind).into(),
                (&finding.sentence).into(),
                finding.ns.into(),
                finding.share.into(),
                (&confidence).into(),
                finding.tasks.first().copied().into(),
                (&tasks).into(),
                finding.object.as_ref().map(|it| &it.kind).into(),
                finding.object.as_ref().map(|it| &it.name).into(),
                (&evidence).into(),
            ],
        );
    }
}

const OBJECTS: [Column; 6] = [
    Column::text("reason"),
    Column::text("object_kind").or_none(),
    Column::text("object").or_none(),
    Column::number("ns"),
    Column::number("count"),
    Column::number("tasks"),
];

fn objects(report: &Report, sink: Sink<'_>) {
    for waited in &report.waited_for {
        sink(
            0,
            &[
                (&waited.reason).into(),
                waited.object.as_ref().map(|it| &it.kind).into(),
                waited.object.as_ref().map(|it| &it.name).into(),
                waited.ns.into(),
                waited.count.into(),
                waited.tasks.into(),
            ],
        );
    }
}

const LOCKS: [Column; 24] = [
    Column::text("kind"),
    Column::text("object"),
    Column::text("object_id"),
    Column::number("ns"),
    Column::number("waits"),
    Column::number("waiters"),
    Column::number("longest_ns"),
    Column::number("p50_ns"),
    Column::number("p99_ns"),
    Column::number("holders_until_ns").or_none(),
    Column::number("contended_ns"),
    Column::number("hand_offs"),
    Column::number("hand_off_ns"),
    Column::number("proved_ns"),
    Column::number("inferred_ns"),
    Column::number("unknown_ns"),
    Column::number("held_running_ns"),
    Column::number("held_runnable_ns"),
    Column::number("held_blocked_ns"),
    Column::text("held_blocked_in").or_none(),
    Column::number("had_it"),
    Column::text("holders"),
    Column::number("other_holders"),
    Column::text("code"),
];

fn locks(report: &Report, sink: Sink<'_>) {
    for lock in &report.locks {
        let kind = word(&lock.kind);
        let (holders, code) = (json(&lock.holders), json(&lock.code));
        sink(
            0,
            &[
                (&kind).into(),
                (&lock.name).into(),
                (&lock.id).into(),
                lock.ns.into(),
                lock.waits.into(),
                lock.waiters.into(),
                lock.longest_ns.into(),
                lock.p50_ns.into(),
                lock.p99_ns.into(),
                lock.holders_until_ns.into(),
                lock.contended_ns.into(),
                lock.hand_offs.into(),
                lock.hand_off_ns.into(),
                lock.proved_ns.into(),
                lock.inferred_ns.into(),
                lock.unknown_ns.into(),
                lock.held_running_ns.into(),
                lock.held_runnable_ns.into(),
                lock.held_blocked_ns.into(),
                lock.held_blocked_in.as_ref().into(),
                lock.had_it.into(),
                (&holders).into(),
                lock.other_holders.into(),
                (&code).into(),
            ],
        );
    }
}

const POLLS: [Column; 10] = [
    Column::number("task"),
    Column::text("syscall"),
    Column::number("calls"),
    Column::number("ready_at_once"),
    Column::number("blocked"),
    Column::number("timed_out"),
    Column::number("empty_at_once"),
    Column::number("failed"),
    Column::number("unfinished"),
    Column::number("max_fds").or_none(),
];

fn polls(report: &Report, sink: Sink<'_>) {
    for poll in report.polls.iter().flatten() {
        sink(
            0,
            &[
                poll.serial.into(),
                (&poll.syscall).into(),
                poll.calls.into(),
                poll.ready_at_once.into(),
                poll.blocked.into(),
                poll.timed_out.into(),
                poll.empty_at_once.into(),
                poll.failed.into(),
                poll.unfinished.into(),
                poll.max_fds.into(),
            ],
        );
    }
}

const MARKS: [Column; 5] = [
    Column::text("name"),
    Column::truth("has_time"),
    Column::number("length_ns").or_none(),
    Column::text("value"),
    Column::text("fields"),
];

fn marks(report: &Report, sink: Sink<'_>) {
    for mark in &report.marks {
        let (value, fields) = (json(&mark.value), json(&mark.fields));
        let length = match (mark.since_ns, mark.time_ns) {
            (Some(since), Some(until)) => until.checked_sub(since),
            _ => None,
        };
        // A mark may speak of a time at which there was no machine yet: it says what it likes.
        let at_ns = mark.since_ns.or(mark.time_ns);
        let end_ns = report.tasks.iter().map(|task| task.end_ns).max();
        let within = at_ns.filter(|at| Some(*at) <= end_ns);
        sink(
            within.unwrap_or(0),
            &[
                (&mark.name).into(),
                within.is_some().into(),
                length.into(),
                (&value).into(),
                (&fields).into(),
            ],
        );
    }
}

const AUDIT: [Column; 33] = [
    Column::number("tables_version"),
    Column::text("forktrace"),
    Column::text("machine_id"),
    Column::text("boot_id"),
    Column::text("cgroup"),
    Column::text("unit").or_none(),
    Column::text("container").or_none(),
    Column::text("kernel"),
    Column::text("arch"),
    Column::number("cpus"),
    Column::text("argv"),
    Column::text("attached").or_none(),
    Column::number("exit_code").or_none(),
    Column::number("signal").or_none(),
    Column::number("duration_ns"),
    Column::truth("complete"),
    Column::truth("has_end"),
    Column::number("lost_records"),
    Column::number("tasks_not_followed"),
    Column::number("switches_traced"),
    Column::number("switches_kernel"),
    Column::number("unknown_ns"),
    Column::number("uncertain_ns"),
    Column::number("unwoken_ns"),
    Column::number("running_ns"),
    Column::number("kernel_cpu_ns"),
    Column::number("tracer_cpu_ns").or_none(),
    Column::number("tasks"),
    Column::number("stalls"),
    Column::number("stalls_listed"),
    Column::truth("wakers_recorded"),
    Column::text("poll_probes"),
    Column::text("weaknesses"),
];

fn audit(source: &Source<'_>, sink: Sink<'_>) {
    let (report, info) = (source.report, source.info);
    let (audit, workload, header) = (&report.audit, &report.workload, &info.header);
    let machine = header.machine.clone().unwrap_or_default();
    let argv = json(&workload.argv);
    let attached = workload.attached.as_ref().map(json);
    let weaknesses = json(&audit.weaknesses);
    let stalls: u64 = report.causes.iter().map(|cause| cause.episodes).sum();
    sink(
        0,
        &[
            Value::Number(VERSION),
            (&header.forktrace).into(),
            (&machine.id).into(),
            (&machine.boot_id).into(),
            (&header.cgroup).into(),
            cgroups::unit(&header.cgroup).into(),
            cgroups::container(&header.cgroup).into(),
            (&workload.kernel).into(),
            (&workload.arch).into(),
            workload.cpus.into(),
            (&argv).into(),
            attached.as_ref().into(),
            signed(workload.exit_code),
            signed(workload.signal),
            workload.duration_ns.into(),
            audit.complete.into(),
            info.finish.is_some().into(),
            audit.lost_records.into(),
            audit.tasks_not_followed.into(),
            audit.switches_traced.into(),
            audit.switches_kernel.into(),
            audit.unknown_ns.into(),
            audit.uncertain_ns.into(),
            audit.unwoken_ns.into(),
            audit.running_ns.into(),
            audit.kernel_cpu_ns.into(),
            audit.tracer_cpu_ns.into(),
            (report.tasks.len() as u64).into(),
            stalls.into(),
            (listed(report).len() as u64).into(),
            (!header.plain).into(),
            (&report.poll_probes).into(),
            (&weaknesses).into(),
        ],
    );
}

fn signed(value: Option<i32>) -> Value<'static> {
    value.map_or(Value::None, |value| Value::Number(i64::from(value)))
}

/// Those that tables list.
fn listed(report: &Report) -> &[Episode] {
    report.more_episodes.as_ref().unwrap_or(&report.episodes)
}
