//! What is worth telling, ranked: by how much wall time it would give back, then by how
//! sure it is. One that can never have ended comes first. That nothing is wrong comes after
//! all that took a tenth of the run, and, unless it is most of the run, after all that took
//! a tenth of its own time.

mod alone;
mod aside;
mod asked;
mod busy;
mod code;
mod creation;
mod event_loop;
mod herd;
#[cfg(test)]
mod hidden_tests;
mod interpreter;
#[cfg(test)]
mod kinds_tests;
mod lag;
mod lock;
mod path;
mod polled;
mod pool;
mod readers;
mod stalls;
mod starved;
mod straggler;
mod stuck;
#[cfg(test)]
mod tests;
mod unwoken;
mod weaker;
#[cfg(test)]
mod weighed_tests;

use self::code::Waiter;
use super::{blocks::Blocks, both, locks};
use crate::report::{
    Cause, Confidence, Finding, FindingKind, GroupKind, Link, Object, PathState, Report, TaskName,
    words::{count, duration, first_listed, listed, percent, quantity, spells},
};

/// Less than this part of the run is not worth a finding.
const SHARE: f64 = 0.01;
/// Nor is less time, ns.
const LEAST_NS: u64 = 1_000_000;
/// A run of which nothing took more than that, and nine tenths were work, was held up by nothing.
const SMALL: f64 = 0.05;
/// So many stalls that a sleeper ends are those of a heartbeat.
const BEATS: u64 = 3;
/// Findings that are listed.
const MOST: usize = 50;
/// Tasks of a finding that are listed.
const TASKS: usize = 10;

/// The findings of a report that has all but them.
pub(super) fn findings(report: &Report, blocks: &Blocks<'_>, locks: &[locks::Row]) -> Vec<Finding> {
    let readers = readers::findings(report, blocks);
    let asked = asked::Asked::of(report, blocks);
    let first = || {
        let mut found = stuck::findings(report);
        found.extend(stalls::findings(report, &readers, &asked));
        found.extend(starved::finding_of(report));
        found.extend(quota(report));
        found.extend(stopped(report));
        found.extend(path::findings(report, &asked));
        found.extend(event_loop::findings(report, blocks));
        let interpreter = interpreter::finding_of(report, blocks);
        let lock = lock::findings(report, blocks, locks);
        // Which of the threads ran tells more than that they wait for it.
        found.extend(lock.filter(|f| interpreter.is_none() || !is_of_interpreter(f)));
        found.extend(interpreter);
        found.extend(pool::findings(report, blocks));
        found
    };
    let second = || {
        let mut found = straggler::findings(report, blocks);
        found.extend(polled::findings(report, blocks));
        found.extend(busy::findings(report, blocks));
        found.extend(herd::findings(report, blocks));
        found.extend(creation::finding_of(report));
        found.extend(lag::findings(report));
        found
    };
    // Both go over all that was recorded.
    let (mut found, second) = both(first, second);
    found.extend(second);
    found.extend(readers);
    let alone = alone::findings(report, blocks, &asked);
    aside::put_right(report, blocks, &asked, &mut found);
    let parked = add_those_alone(report, blocks, &alone, &mut found);
    told_once(report, &mut found);
    let lock = lock_of_stall(&found);
    for finding in &mut found {
        finding.share = share(finding.ns, report.workload.duration_ns);
        finding.tasks.truncate(TASKS);
        // What is said of --stacks is for whom has none yet.
        let more = finding.next.take().filter(|_| report.stacks.is_none());
        let view = match alone.iter().any(|f| f.sentence == finding.sentence) {
            true => "path",
            false => view(finding.kind),
        };
        finding.next = Some(match more {
            Some(more) => format!("--show {view}; {more}"),
            None => format!("--show {view}"),
        });
    }
    // A herd costs others than those that wait, and is told by its number.
    let stays = |f: &Finding| {
        f.kind <= FindingKind::Hang
            || f.kind == FindingKind::Herd
            || f.kind == FindingKind::Lag
            || f.share >= SHARE && f.ns >= LEAST_NS
    };
    found.retain(stays);
    let is_worth = |f: &Finding| f.kind != FindingKind::Idle && f.share >= 0.1;
    if !found.iter().any(is_worth)
        && let Some(mut beside) = path::beside(report, total(&alone), &asked)
    {
        beside.share = share(beside.ns, report.workload.duration_ns);
        beside.next = Some("--show path".to_owned());
        found.extend(Some(beside).filter(is_worth));
    }
    let is_small = |f: &Finding| f.kind > FindingKind::Hang && f.share < SMALL;
    let ran = found.iter().all(is_small) && ran_ns(report) / 9 >= report.path.ns / 10;
    if found.is_empty() {
        found.push(nothing(report));
    }
    put_in_order(&mut found, lock.as_ref());
    if ran && found.iter().any(|f| f.ns > 0) {
        found.insert(0, nothing(report));
    }
    found.truncate(MOST);
    let idle = |f: &&mut Finding| f.kind == FindingKind::Idle && f.share > 0.5;
    if let Some(first) = found.first_mut().filter(idle) {
        first.sentence = idle_sentence(report, &first.sentence, parked);
    }
    weaker::weaken(report, &mut found);
    found
}

/// That nothing is wrong is not known of a command that took its time, nor of threads that nobody
/// woke.
fn idle_sentence(report: &Report, sentence: &str, parked: u64) -> String {
    let futexes = match parked {
        0 if asked::ended_by_itself(report) => return sentence.to_owned(),
        0 => {
            return match sentence.strip_prefix("For ") {
                Some(rest) => format!("Nothing is wrong: for {rest}"),
                None => format!("Nothing is wrong: {sentence}"),
            };
        }
        1 => "a futex that nobody woke: it had nothing to do, or is stuck",
        _ => "futexes that nobody woke: they had nothing to do, or are stuck",
    };
    format!(
        "{sentence} Of them {} waited for {futexes}.",
        quantity(parked, "thread")
    )
}

fn total(found: &[Finding]) -> u64 {
    found.iter().map(|f| f.ns).fold(0, u64::saturating_add)
}

/// Adds what one task waited for that was the only one, and those whom nobody woke. Gives how many
/// threads are parked, and nobody knows why.
fn add_those_alone(
    report: &Report,
    blocks: &Blocks<'_>,
    alone: &[Finding],
    found: &mut Vec<Finding>,
) -> u64 {
    if found.iter().any(|f| f.kind <= FindingKind::Hang) {
        return 0;
    }
    let (unwoken, parked) = unwoken::findings(report, blocks);
    for unwoken in unwoken {
        // Who may hang is not idle, and what nobody had in the end is no lock to queue for.
        found.retain(|f| f.kind != FindingKind::Idle || f.ns / 2 > unwoken.ns);
        add_unwoken(report, unwoken, found);
    }
    // That the last one had nothing to do is told only where nothing else is.
    let duration_ns = report.workload.duration_ns;
    let is_told = |f: &Finding| f.kind != FindingKind::Idle && share(f.ns, duration_ns) >= 0.1;
    let is_told = found.iter().any(is_told);
    let worth = |f: &&Finding| f.kind != FindingKind::Idle || !is_told;
    found.extend(alone.iter().filter(worth).cloned());
    parked
}

/// Adds waits that nobody ended, once: a stall behind one of them is told with it, or tells of it.
fn add_unwoken(report: &Report, unwoken: Finding, found: &mut Vec<Finding>) {
    let is_of = |f: &Finding, of: &Finding| f.tasks.iter().all(|task| of.tasks.contains(task));
    let any = |f: &Finding| f.tasks.iter().any(|task| unwoken.tasks.contains(task));
    let as_long = |f: &Finding| f.ns / 2 <= unwoken.ns;
    // Nobody ended that one, either.
    let is_stall = |f: &Finding| f.kind == FindingKind::Stall && f.confidence != Confidence::Proved;
    let is_told = |f: &Finding| {
        let of_readers = f.kind == FindingKind::Lock && f.confidence == Confidence::Possible;
        (of_readers && any(f) || is_stall(f) && is_of(&unwoken, f)) && as_long(f)
    };
    if found.iter().any(is_told) {
        return;
    }
    let of_them = |f: &Finding| {
        let is_one = is_stall(f) || f.kind == FindingKind::Lock;
        is_one && any(f) && is_of(f, &unwoken) && as_long(f)
    };
    // Whoever comes back now and then, as a heartbeat does, ends stalls, and helps none of them.
    let of_tree = report.causes.iter().filter(|cause| cause.group == 0);
    let beats = of_tree.filter(|cause| {
        let root = cause.root.as_ref();
        cause.episodes >= BEATS && root.is_some_and(|root| root.reason == "sleep")
    });
    let beats: Vec<&Cause> = beats.collect();
    let is_beat = |f: &Finding| {
        let same = |cause: &&&Cause| {
            let mut by = cause.by.iter().map(|by| by.task.serial);
            cause.ns == f.ns && by.all(|serial| f.tasks.contains(&serial))
        };
        f.kind == FindingKind::Stall && !any(f) && beats.iter().any(|cause| same(&cause))
    };
    found.retain(|f| !of_them(f) && !is_beat(f));
    found.push(unwoken);
}

/// Those first that tell most; `lock`: see [`lock_of_stall`].
fn put_in_order(found: &mut [Finding], lock: Option<&Object>) {
    let idle = found.iter().filter(|f| f.kind == FindingKind::Idle);
    let idle_ns = match idle.map(|f| (f.share, f.ns)).max_by_key(|(_, ns)| *ns) {
        Some((share, ns)) if share <= 0.5 => ns,
        _ => u64::MAX,
    };
    found.sort_by_key(|finding| rank(finding, idle_ns));
    if let Some(lock) = lock
        && found.first().is_some_and(|f| f.kind == FindingKind::Stall)
        && let Some(at) = found
            .iter()
            .position(|f| f.kind == FindingKind::Lock && f.object.as_ref() == Some(lock))
    {
        found[..=at].rotate_right(1);
    }
}

/// The lock that those queue for who make everything wait in turn, by what they do while they have
/// it: it is told before that.
fn lock_of_stall(found: &[Finding]) -> Option<Object> {
    let stalls = found.iter().filter(|f| f.kind == FindingKind::Stall);
    let stall = stalls.max_by_key(|f| f.ns)?;
    let holds = |f: &&Finding| {
        let named = f.kind == FindingKind::Lock && f.object.is_some() && stall.tasks.len() > 1;
        named && f.ns >= stall.ns / 2 && stall.tasks.iter().all(|it| f.tasks.contains(it))
    };
    found.iter().find(holds)?.object.clone()
}

/// Leaves out what another finding tells better.
fn told_once(report: &Report, found: &mut Vec<Finding>) {
    // One wait is told once: that of a loop, as what it is for the loop.
    let loops: Vec<(Vec<u32>, u64)> = found
        .iter()
        .filter(|f| f.kind == FindingKind::EventLoop)
        .map(|f| (f.tasks.clone(), f.ns))
        .collect();
    found.retain(|f| {
        let same = |(tasks, ns): &(Vec<u32>, u64)| *tasks == f.tasks && f.ns <= ns + ns / 20;
        f.kind != FindingKind::Stall || !loops.iter().any(same)
    });
    // Nor what keeps each worker of a pool from its work, where that keeps all of them.
    let exhausts = |f: &Finding| f.kind == FindingKind::PoolExhausted;
    leave_out(found, FindingKind::EventLoop, exhausts);
    // Who has work and waits for something in it is not idle, though input ends that wait.
    let at_work = |f: &Finding| f.kind == FindingKind::EventLoop || exhausts(f);
    leave_out(found, FindingKind::Idle, at_work);
    // Nor is a lock whose holder sleeps told again as a stall behind each of its holders in
    // turn, where threads sleep and wait on futexes of their own.
    let parked = |f: &Finding| f.kind == FindingKind::Lock && f.object.is_none();
    leave_out(found, FindingKind::Stall, parked);
    // Pages of memory that all waited for are not told again as what the run waited for.
    let is_page = |f: &&Finding| f.kind == FindingKind::PageFault && !f.tasks.is_empty();
    let of_all_ns = found.iter().filter(is_page).map(|f| f.ns).max();
    found.retain(|f| {
        let of_path = f.kind == FindingKind::PageFault && f.tasks.is_empty();
        !of_path || of_all_ns.is_none_or(|of_all_ns| f.ns > of_all_ns)
    });
    // The disk is told once: as what all waited for at once, or as what the run waited for,
    // whichever is more.
    if let Some(disk) = path::disk(report) {
        let of_disk = |f: &Finding| f.kind == FindingKind::Disk;
        if !found.iter().any(|f| of_disk(f) && f.ns >= disk.ns) {
            found.retain(|f| !of_disk(f));
            found.push(disk);
        }
    }
}

/// Leaves out findings of a kind whose tasks are all among those of a better one, unless they are of
/// more than twice its time.
fn leave_out(found: &mut Vec<Finding>, kind: FindingKind, is_better: impl Fn(&Finding) -> bool) {
    let better = found.iter().filter(|f| is_better(f));
    let better: Vec<(Vec<u32>, u64)> = better.map(|f| (f.tasks.clone(), f.ns)).collect();
    found.retain(|f| {
        let tells = |(tasks, ns): &(Vec<u32>, u64)| {
            let all = !f.tasks.is_empty() && f.tasks.iter().all(|task| tasks.contains(task));
            all && f.ns / 2 <= *ns
        };
        f.kind != kind || !better.iter().any(tells)
    });
}

/// Is it the lock of an interpreter that threads wait for?
fn is_of_interpreter(finding: &Finding) -> bool {
    let object = finding.object.as_ref();
    object.is_some_and(|object| super::interpreter::is_it(&object.name))
}

/// The view that shows more of what a finding is about.
fn view(kind: FindingKind) -> &'static str {
    match kind {
        FindingKind::Deadlock | FindingKind::Hang | FindingKind::Stall => "episodes",
        FindingKind::Disk | FindingKind::Peer | FindingKind::EventLoop => "episodes",
        FindingKind::Lock | FindingKind::Herd => "locks",
        FindingKind::BusyLoop => "polls",
        FindingKind::Lag => "lag",
        FindingKind::Starved | FindingKind::Straggler | FindingKind::PoolExhausted => "tasks",
        FindingKind::Creation => "tasks",
        FindingKind::PageFault | FindingKind::Idle => "waits",
        FindingKind::Quota | FindingKind::Stopped => "stops",
    }
}

fn rank(finding: &Finding, idle_ns: u64) -> (u8, std::cmp::Reverse<u64>, Confidence, FindingKind) {
    // What took less than a tenth is no reason to doubt that it had nothing to do.
    let class = match finding.kind {
        FindingKind::Deadlock | FindingKind::Hang => 0,
        FindingKind::Idle => 2,
        // It was asked for.
        FindingKind::Lag => 1,
        _ if finding.share >= 0.1 || finding.ns >= idle_ns / 10 => 1,
        _ => 3,
    };
    let ns = std::cmp::Reverse(finding.ns);
    (class, ns, finding.confidence, finding.kind)
}

fn share(part: u64, whole: u64) -> f64 {
    match whole {
        0 => 0.0,
        whole => (part as f64 / whole as f64).min(1.0),
    }
}

/// A finding without its details.
fn finding(kind: FindingKind, ns: u64, confidence: Confidence, sentence: String) -> Finding {
    Finding {
        kind,
        sentence,
        ns,
        share: 0.0,
        confidence,
        tasks: Vec::new(),
        object: None,
        code: None,
        evidence: Vec::new(),
        next: None,
    }
}

/// `sleep` (31294).
fn who(name: &str, tid: u32) -> String {
    format!("`{name}` ({tid})")
}

fn whom(task: &TaskName) -> String {
    who(&task.name, task.tid)
}

/// `1.2 s (58 %)`.
fn part_of(ns: u64, report: &Report) -> String {
    format!(
        "{} ({})",
        duration(ns),
        percent(ns, report.workload.duration_ns)
    )
}

/// What a task did in its wait: `slept 1.2 s`, `waited for the disk in fsync of /x`.
fn did(reason: &str, syscall: Option<&str>, object: Option<&Object>, limit: Option<u64>) -> String {
    let call = syscall.unwrap_or(reason);
    let on = object.map(|object| object.name.as_str());
    match (reason, on) {
        ("sleep", _) => match limit {
            Some(limit) => format!("slept {}", duration(limit)),
            None => "slept".to_owned(),
        },
        ("fsync", Some(on)) => format!("waited for the disk in {call} of {on}"),
        ("fsync", None) => format!("waited for the disk in {call}"),
        ("page fault", Some(on)) if object.is_some_and(|o| o.kind == "mapping") => {
            format!("waited for a {on}")
        }
        ("page fault", _) => "waited for a page of memory".to_owned(),
        ("wait", Some(on)) => format!("waited for {on} to end"),
        ("wait", None) => "waited for a child to end".to_owned(),
        ("accept", Some(on)) => format!("waited for connections on {on}"),
        ("read", Some(on)) if is_file(object) => format!("waited in {call} of {on}"),
        ("write", Some(on)) if is_file(object) => format!("waited in {call} to {on}"),
        ("read" | "recv", Some(on)) => format!("waited for input from {on}"),
        ("write" | "send", Some(on)) => format!("waited for room to write to {on}"),
        ("connect", Some(on)) => format!("waited for the connection {on}"),
        ("select" | "poll", Some(_)) if object.is_some_and(|o| o.kind == "sleep") => match limit {
            Some(limit) => format!("slept {} in {call}", duration(limit)),
            None => format!("slept in {call}"),
        },
        ("select" | "poll" | "epoll", Some(on)) => format!("waited for events of {on} in {call}"),
        ("futex", Some(on)) if object.is_some_and(|o| o.kind == "thread") => {
            format!("waited for {on} to end")
        }
        ("futex", Some(on)) => format!("waited for {on}"),
        ("open", Some(on)) => format!("waited in {call} of {on}"),
        // Of several calls it has no name but that of their kind.
        ("file system", Some(on)) if syscall.is_none() => {
            format!("waited for the file system at {on}")
        }
        ("file system", None) if syscall.is_none() => "waited for the file system".to_owned(),
        (_, Some(on)) => format!("waited in {call} on {on}"),
        (_, None) => format!("waited in {call}"),
    }
}

/// Is it a file with contents on a file system?
fn is_file(object: Option<&Object>) -> bool {
    object.is_some_and(|object| object.kind == "file")
}

fn link_did(link: &Link) -> String {
    did(
        &link.reason,
        link.syscall.as_deref(),
        link.object.as_ref(),
        link.timeout_ns,
    )
}

fn quota(report: &Report) -> Vec<Finding> {
    let held = report.throttled.iter().map(|t| {
        let sentence = format!(
            "The limit of the cgroup {} held tasks off the CPUs for {} in {}.",
            t.cgroup,
            duration(t.ns),
            quantity(t.periods, "period"),
        );
        // The sum over the CPUs.
        let ns = t.ns / u64::from(report.workload.cpus.max(1));
        finding(FindingKind::Quota, ns, Confidence::Proved, sentence)
    });
    held.collect()
}

/// Stopped by a signal, a tracer or the freezer.
fn stopped(report: &Report) -> Vec<Finding> {
    use crate::report::StopKind;
    let stops = report.stops.iter().filter(|s| {
        matches!(
            s.kind,
            StopKind::Signal | StopKind::Tracer | StopKind::Freezer
        )
    });
    stops
        .map(|stop| {
            let ns = stop.end_ns - stop.start_ns;
            let how = match stop.kind {
                StopKind::Tracer => "a debugger held",
                StopKind::Freezer => "the freezer of its cgroup held",
                _ => "a signal stopped",
            };
            let sentence = format!(
                "For {} {how} {}.",
                part_of(ns, report),
                who(&stop.name, stop.pid)
            );
            Finding {
                tasks: stop.tasks.clone(),
                ..finding(FindingKind::Stopped, ns, Confidence::Proved, sentence)
            }
        })
        .collect()
}

/// How long the critical path was in a state.
fn on_path(report: &Report, state: PathState) -> u64 {
    let parts = report.path.parts.iter().filter(|p| p.state == state);
    parts.map(|p| p.ns).fold(0, u64::saturating_add)
}

/// How long the critical path was work.
fn ran_ns(report: &Report) -> u64 {
    on_path(report, PathState::Running)
}

/// Whose work that mostly was, if there is a choice.
fn mostly(report: &Report, ran_ns: u64) -> String {
    let ran = report.path.parts.iter();
    let ran = ran.filter(|p| p.state == PathState::Running);
    let most = ran.clone().max_by_key(|p| p.ns);
    match most.filter(|p| p.ns >= ran_ns / 4 * 3 && ran.count() > 1) {
        Some(part) => format!(", mostly `{}`", part.role),
        None => String::new(),
    }
}

/// Nothing else was found.
fn nothing(report: &Report) -> Finding {
    let tree = report.groups.iter().find(|g| g.kind == GroupKind::Tree);
    let ran_ns = ran_ns(report);
    let blocked_ns = on_path(report, PathState::Blocked);
    let lived_ns = tree.map_or(0, |tree| tree.lifetime_ns);
    let sentence = match lived_ns {
        0 => "The record holds no task.".to_owned(),
        // Whether these were wanted, nobody but the program knows.
        lived_ns if blocked_ns / 2 > ran_ns => {
            let waits = format!(
                "{} of {} were waits",
                duration(blocked_ns),
                duration(report.path.ns)
            );
            let all_blocked_ns = tree.map_or(0, |tree| tree.all_blocked.upper_ns);
            match all_blocked_ns > lived_ns / 50 {
                true => format!(
                    "Of the critical path, {waits}; whether other tasks ran meanwhile is not known."
                ),
                false => format!(
                    "No stall: a task ran at nearly all times. Of the critical path, {waits}."
                ),
            }
        }
        _ => format!(
            "Nothing held it up: what the run waited for ran for {} of {}{}.",
            duration(ran_ns),
            duration(report.path.ns),
            mostly(report, ran_ns)
        ),
    };
    Finding {
        next: (blocked_ns / 2 > ran_ns).then(|| "--show path".to_owned()),
        ..finding(FindingKind::Idle, 0, Confidence::Proved, sentence)
    }
}
