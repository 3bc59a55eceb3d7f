//! One question, answered in ten lines: what happened at a moment, what a task did, how a
//! stall came about.

use super::{
    View,
    episodes::{chain_of, episode_lines},
    figures::{clean, count, duration, percent, quantity, times},
    layout::{Ink, paint, wrapped},
    tasks::command,
    waited::what,
};
use crate::{
    render::Style,
    report::{Episode, Fate, Moment, MomentTask, Report, Slice, Task},
};

/// Rows of an answer after its first sentence.
const ROWS: usize = 8;

/// What the tasks did at a moment.
///
/// # Errors
/// When no task lived then, with what there is instead.
pub fn at(report: &Report, moment: &Moment, style: &Style) -> Result<String, String> {
    let view = View::new(report, *style);
    if moment.tasks.is_empty() {
        let timeline = &report.timeline;
        return Err(format!(
            "no task lived at {}: the recording goes from {} to {}",
            duration(moment.at_ns),
            duration(timeline.start_ns),
            duration(timeline.end_ns)
        ));
    }
    let number = |state: Slice| moment.tasks.iter().filter(|t| t.state == state).count();
    let states = STATES.map(|(state, word)| (number(state), word));
    let states = states.iter().filter(|(n, _)| *n > 0);
    let states: Vec<String> = states.map(|(n, word)| format!("{n} {word}")).collect();
    let first = format!(
        "At {}, of {} that lived: {}.",
        duration(moment.at_ns),
        quantity(moment.tasks.len() as u64, "task"),
        states.join(", ")
    );
    let mut out = paint(view.style, Ink::Bold, &wrapped(view.style, "", &first));
    let of_tree = |e: &&Episode| e.group == 0 && (e.start_ns..e.end_ns).contains(&moment.at_ns);
    let episodes = report.episodes.iter().filter(|e| e.group == 0);
    if let Some(n) = episodes.clone().position(|e| of_tree(&e)) {
        let stall = episodes.clone().nth(n).map_or(0, |e| e.ns);
        let text = format!(
            "All were blocked at once: this is stall {} (--stall {}), of {}.",
            n + 1,
            n + 1,
            duration(stall)
        );
        out.push_str(&wrapped(view.style, "  ", &text));
    }
    // Those that did the same are told together, what ran first.
    let mut rows: Vec<(String, Vec<&MomentTask>)> = Vec::new();
    for (state, word) in STATES {
        for task in moment.tasks.iter().filter(|task| task.state == state) {
            let role = view.by_serial.get(&task.task.serial);
            let role = role.map_or("", |task| task.role.as_str());
            let wait = task.chain.first();
            let wait = wait.map(|link| what(&link.reason, link.object.as_ref()));
            let key = [word, role, wait.as_deref().unwrap_or_default()].join("\n");
            match rows.iter_mut().find(|(other, _)| *other == key) {
                Some((_, tasks)) => tasks.push(task),
                None => rows.push((key, vec![task])),
            }
        }
    }
    for (_, tasks) in rows.iter().take(ROWS - 2) {
        out.push_str(&wrapped(view.style, "  - ", &moment_row(&view, tasks)));
    }
    let rest: usize = rows.iter().skip(ROWS - 2).map(|(_, t)| t.len()).sum();
    if rest > 0 {
        let text = format!("… and {}", quantity(rest as u64, "other task"));
        out.push_str(&wrapped(view.style, "  ", &text));
    }
    Ok(out + &weaker(&view))
}

/// What an answer leaves open because records are missing: the worst of it.
fn weaker(view: &View<'_>) -> String {
    let mut weaknesses = view.report.audit.weaknesses.iter();
    let Some(worst) = weaknesses.find(|it| !it.is_note()) else {
        return String::new();
    };
    let text = format!(
        "The record has gaps: {}.",
        clean(worst.text.trim_end_matches('.'))
    );
    wrapped(view.style, "  - ", &text)
}

const STATES: [(Slice, &str); 5] = [
    (Slice::Running, "running"),
    (Slice::Runnable, "ready, without a CPU"),
    (Slice::Blocked, "blocked"),
    (Slice::Stopped, "stopped"),
    (Slice::Unknown, "not known"),
];

/// Tasks that did the same: the first of them, and how many others.
fn moment_row(view: &View<'_>, tasks: &[&MomentTask]) -> String {
    let Some(first) = tasks.first() else {
        return String::new();
    };
    let word = STATES.iter().find(|(state, _)| *state == first.state);
    let more = match tasks.len() {
        1 => String::new(),
        n => format!(" and {} of its role", count(n as u64 - 1)),
    };
    let mut text = format!(
        "{} {}{more}: {} from {} to {}",
        first.task.tid,
        match view.by_serial.get(&first.task.serial) {
            Some(task) => command(task),
            None => clean(&first.task.name),
        },
        word.map_or("", |(_, word)| word),
        duration(first.start_ns),
        duration(first.end_ns)
    );
    if let [link, others @ ..] = first.chain.as_slice() {
        text.push_str(&format!(
            ", for {}",
            what(&link.reason, link.object.as_ref())
        ));
        let ended_by = match others {
            [] => chain_of(&first.chain, first.chain_cut)
                .rsplit_once(" <- ")
                .map(|(_, end)| end.to_owned()),
            others => Some(chain_of(others, first.chain_cut)),
        };
        text.push_str(&ended_by.map_or_else(String::new, |by| format!(" <- {by}")));
    }
    text
}

/// What a task did.
///
/// # Errors
/// When there is no such task, with those that there are.
pub fn task(report: &Report, tid: u32, style: &Style) -> Result<String, String> {
    let view = View::new(report, *style);
    // A tid can be used again: each task that had it is told of.
    let tasks: Vec<&Task> = report.tasks.iter().filter(|task| task.tid == tid).collect();
    if tasks.is_empty() {
        let some = report.tasks.iter().take(5);
        let some = some.map(|task| format!("{} ({})", task.tid, clean(&task.name)));
        let more = if report.tasks.len() > 5 { ", …" } else { "" };
        return Err(format!(
            "there is no task {tid} in this trace; its {}: {}{more} (--show tasks lists all)",
            quantity(report.tasks.len() as u64, "task"),
            some.collect::<Vec<_>>().join(", ")
        ));
    }
    let told = tasks.iter().map(|task| of_task(&view, task));
    Ok(told.collect::<Vec<_>>().join("\n") + &weaker(&view))
}

fn of_task(view: &View<'_>, task: &Task) -> String {
    let life = task.end_ns.saturating_sub(task.start_ns);
    let first = format!(
        "{} {}: a task of process {}, role {}.",
        task.tid,
        command(task),
        task.pid,
        clean(&task.role)
    );
    let mut out = paint(view.style, Ink::Bold, &wrapped(view.style, "", &first));
    let mut line = |text: String| out.push_str(&wrapped(view.style, "  - ", &text));
    line(format!(
        "It lived for {}, from {} to {}{}.",
        duration(life),
        duration(task.start_ns),
        duration(task.end_ns),
        match task.fate {
            Fate::Ended => "",
            Fate::Alive => ", when the recording ended",
            Fate::Unknown => "; its end was not seen",
        }
    ));
    let states = [
        ("ran", task.running_ns),
        ("was ready without a CPU", task.runnable_ns),
        ("was blocked", task.blocked_ns),
        ("was stopped", task.stopped_ns),
        ("is not known", task.unknown_ns),
    ];
    let states = states.iter().filter(|(_, ns)| *ns > 0);
    let states =
        states.map(|(did, ns)| format!("{did} for {} ({})", duration(*ns), percent(*ns, life)));
    line(format!("It {}.", states.collect::<Vec<_>>().join(", ")));
    let waits = task
        .waits
        .iter()
        .filter(|wait| wait.ns > 0)
        .take(3)
        .map(|wait| {
            let object = wait.objects.first().map(|it| &it.object);
            let what = what(&wait.reason, object.filter(|_| wait.objects.len() == 1));
            let often = times(wait.count);
            format!(
                "{what} {} ({often}, longest {})",
                duration(wait.ns),
                duration(wait.longest_ns)
            )
        });
    let waits: Vec<String> = waits.collect();
    if !waits.is_empty() {
        line(format!("It waited for {}.", waits.join("; ")));
    }
    if let Some(longest) = task.longest_blocks.first() {
        let chain = chain_of(&longest.chain, longest.chain_cut);
        line(format!("Its longest wait: {chain}."));
    }
    let held = view.report.waits_for.iter();
    let held = held
        .filter(|edge| edge.to.serial == Some(task.serial))
        .take(3);
    let held = held.map(|edge| {
        let waiter = view.task(edge.from);
        format!("{waiter} {} ({})", duration(edge.ns), times(edge.count))
    });
    let held: Vec<String> = held.collect();
    if !held.is_empty() {
        line(format!("It ended waits of {}.", held.join(", ")));
    }
    out
}

/// How a stall came about, by its number: the longest is the first.
///
/// # Errors
/// When there is no such stall, with how many there are.
pub fn stall(report: &Report, number: usize, style: &Style) -> Result<String, String> {
    let view = View::new(report, *style);
    let of_tree = report.episodes.iter().filter(|e| e.group == 0);
    let all: u64 = view
        .tree
        .map_or(0, |tree| tree.verdicts.iter().map(|v| v.episodes).sum());
    let found = number.checked_sub(1).and_then(|at| of_tree.clone().nth(at));
    let Some(episode) = found else {
        return Err(match all {
            0 if !report.audit.complete => {
                "there is no stall in what is known of this trace, whose record has gaps \
                 (`forktrace report --show audit`)"
                    .to_owned()
            }
            0 => "there is no stall in this trace: its tasks were never all blocked at once"
                .to_owned(),
            1 => format!("there is no stall {number}: this trace has one, --stall 1"),
            all => format!(
                "there is no stall {number}: this trace has {}, from --stall 1, the longest, to --stall {all}",
                count(all)
            ),
        });
    };
    let first = format!("Stall {number} of {}.", count(all));
    let mut out = paint(view.style, Ink::Bold, &wrapped(view.style, "", &first));
    out.push_str(&episode_lines(&view, episode));
    let blocked = episode.blocked.iter().take(4).map(|link| {
        let what = what(&link.reason, link.object.as_ref());
        format!("{} {} for {what}", link.task.tid, clean(&link.task.name))
    });
    let blocked: Vec<String> = blocked.collect();
    let more = match (episode.tasks as usize).saturating_sub(blocked.len()) {
        0 => String::new(),
        more => format!(", and {}", quantity(more as u64, "other task")),
    };
    if !blocked.is_empty() {
        let text = format!("All that lived were blocked: {}{more}.", blocked.join(", "));
        out.push_str(&wrapped(view.style, "    ", &text));
    }
    if let Some(trigger) = &episode.trigger {
        let text = format!(
            "The last to block was {} {}, at {}.",
            trigger.task.tid,
            clean(&trigger.task.name),
            duration(trigger.at_ns)
        );
        out.push_str(&wrapped(view.style, "    ", &text));
    }
    Ok(out + &weaker(&view))
}
