//! What the times in which all tasks were blocked are put down to: a sentence and a table.

use super::{
    View,
    figures::{clean, count, count_cell, duration, duration_cell, percent, plural, quantity},
    layout::{Ink, Table, paint, wrapped},
    phrases::{by, wait_in, who},
    workload::{member, members, title},
};
use crate::report::{Cause, CauseTask, Ended, Group, InterruptKind, Link, Verdict, WakerKind};

/// A second cause is named in the sentence when it is at least such a part of all.
const SHARE: u64 = 20;

/// The causes of the tree, then those of each process.
pub(super) fn section(view: &View<'_>) -> String {
    let Some(tree) = view.tree else {
        return String::new();
    };
    let all = members(view).replace(" in ", " of ");
    let mut out = of_group(view, tree, &all, view.noun());
    for group in &view.divided {
        let noun = member(group);
        let tasks = quantity(group.tasks.len() as u64, noun);
        let of = format!("{tasks} of {}", title(group));
        let text = of_group(view, group, &of, noun);
        if !text.is_empty() {
            out.push('\n');
            out.push_str(&text);
        }
    }
    out
}

fn of_group(view: &View<'_>, group: &Group, all: &str, noun: &str) -> String {
    let causes = view.report.causes.iter().filter(|c| c.group == group.id);
    let causes: Vec<&Cause> = causes.collect();
    let Some(worst) = causes.first() else {
        return String::new();
    };
    let head = format!("  why all {} were blocked at once\n", plural(noun)).to_uppercase();
    let mut out = paint(view.style, Ink::Dim, &head);
    let sentence = sentence(group, all, noun, &causes, worst);
    out.push_str(&wrapped(view.style, "  ", &sentence));
    // One cause is told by the sentence.
    if causes.len() > 1 {
        out.push_str(&table(view, &causes, noun, group.all_blocked.lower_ns));
    }
    out
}

/// The answer in a sentence.
fn sentence(group: &Group, all: &str, noun: &str, causes: &[&Cause], worst: &Cause) -> String {
    let total = group.all_blocked.lower_ns;
    let all = match (group.most_live as usize) < group.tasks.len() {
        true => format!("live {}", plural(noun)),
        false => all.to_owned(),
    };
    let sum = group.verdicts.iter().find(|v| v.verdict == worst.verdict);
    let of_verdict = sum.map_or(worst.ns, |v| v.ns);
    let part = |ns| {
        if ns == total {
            "all of it".to_owned()
        } else {
            format!("{} of it", duration(ns))
        }
    };
    let behind = |cause: &&&Cause| is_behind(cause);
    let all_behind = causes.iter().filter(behind).map(|cause| cause.ns);
    let all_behind = all_behind.fold(0, u64::saturating_add);
    let why = match (worst.verdict, &worst.root) {
        // Mostly one cause, or many of one kind.
        (_, Some(_)) if is_behind(worst) => {
            let why = format!("behind {} by {}", wait(worst), whom(worst, noun));
            if worst.ns < all_behind / 2 {
                format!(
                    "{} behind one of their own; the largest part of that, {}, {why}",
                    part(all_behind),
                    duration(worst.ns)
                )
            } else if worst.alone {
                let time = if worst.tasks == 1 { "" } else { "each time " };
                let ns = part(worst.ns);
                format!("{ns} {why}, {time}the only one with anything to do")
            } else {
                format!("{} {why}", part(worst.ns))
            }
        }
        (Verdict::CommonCause, Some(_)) => {
            format!("{} for one cause: {}", part(worst.ns), wait(worst))
        }
        (Verdict::Idle, _) => {
            let idle = format!("{} idle, waiting for input or for a time", part(of_verdict));
            let next = causes.iter().find(behind).filter(|c| c.root.is_some());
            match next.filter(|next| next.ns.saturating_mul(SHARE) >= total) {
                Some(next) => format!(
                    "{idle}, and {} behind {} by {}",
                    duration(next.ns),
                    wait(next),
                    whom(next, noun)
                ),
                None => idle,
            }
        }
        (Verdict::Stuck, _) => format!("{} in waits that nobody was left to end", part(of_verdict)),
        (Verdict::Coincidence, _) => format!(
            "{} by coincidence: nothing connects what they waited for",
            part(of_verdict)
        ),
        _ => format!("{} for a cause that is not known", part(of_verdict)),
    };
    format!(
        "All {all} were blocked for {} in {}, {why}.",
        duration(total),
        quantity(group.verdicts.iter().map(|v| v.episodes).sum(), "stall"),
    )
}

/// The causes, worst first.
fn table(view: &View<'_>, causes: &[&Cause], noun: &str, total: u64) -> String {
    let rows = causes;
    let mut table = Table::default();
    let mut column = |head, figure: &dyn Fn(&Cause) -> String| {
        table.number(head, rows.iter().map(|c| figure(c)).collect());
    };
    column("TIME", &|c| duration_cell(c.ns));
    column("SHARE", &|c| percent(c.ns, total));
    column("EPISODES", &|c| count_cell(c.episodes));
    column("LONGEST", &|c| duration_cell(c.longest_ns));
    table.spare(1);
    table.prose("WHY", rows.iter().map(|c| why(c, noun)).collect());
    table.into_text(view.style)
}

/// A cause in a cell.
fn why(cause: &Cause, noun: &str) -> String {
    let verdict = word(cause.verdict);
    let Some(root) = &cause.root else {
        return format!("{verdict}, other");
    };
    let what = short(cause);
    if is_behind(cause) {
        let idle = match (cause.alone, cause.alone_ns >= cause.ns / 2) {
            (true, _) => ", all others idle",
            (false, true) => ", mostly with all others idle",
            (false, false) => "",
        };
        return format!(
            "behind {what} by {}{}{idle}",
            whom(cause, noun),
            ended(cause, root)
        );
    }
    let one = match (&cause.by[..], cause.tasks) {
        ([worst, ..], 2..) => format!(
            "one of {}, mostly {},",
            all_of(cause, noun),
            most(cause, worst)
        ),
        _ => whom(cause, noun),
    };
    // Several had something to do, and this is one of them.
    match cause.verdict {
        Verdict::CommonCause => {
            let ended = ended(cause, root);
            return format!("{verdict}: {one} in {what}, and others{ended}");
        }
        Verdict::Coincidence => {
            return format!("{verdict}: {one} in {what}, others in waits of their own");
        }
        Verdict::Stuck => return format!("{verdict}: {one} in {what}"),
        _ => {}
    }
    match &cause.woken_by {
        // Who ended it comes first: that is where such causes differ.
        Some(waker) if root.ended == Ended::Fulfilled && waker.kind != WakerKind::Unknown => {
            format!(
                "{verdict}, until {} woke {one} in {what}",
                match (&waker.name, waker.tid, waker.kernel_thread) {
                    (Some(name), Some(tid), false) => format!("tid {tid} ({})", clean(name)),
                    (Some(name), None, false) => clean(name),
                    _ => by(waker),
                },
            )
        }
        Some(waker) if waker.kind == WakerKind::Unknown => {
            format!("{verdict}: who woke {one} in {what} was not seen")
        }
        _ => format!(
            "{verdict}, until {one} came out of {what}{}",
            ended(cause, root)
        ),
    }
}

/// Did one hold up others, or was it the only one with anything to do?
fn is_behind(cause: &Cause) -> bool {
    cause.verdict == Verdict::Caused || cause.alone
}

/// The roots' tasks: `tid 7 (a)`, `6 processes (a), most by tid 7`.
fn whom(cause: &Cause, noun: &str) -> String {
    match &cause.by[..] {
        [] => "one that is not known".to_owned(),
        [only] if cause.tasks == 1 => who(&only.task),
        [worst, ..] => format!("{}, most by {}", all_of(cause, noun), most(cause, worst)),
    }
}

/// `6 processes (a)`.
fn all_of(cause: &Cause, noun: &str) -> String {
    let all = format!("{} {}", count(cause.tasks.into()), plural(noun));
    match &cause.name {
        Some(name) => format!("{all} ({})", clean(name)),
        None => all,
    }
}

fn most(cause: &Cause, worst: &CauseTask) -> String {
    match cause.name {
        Some(_) => format!("tid {}", worst.task.tid),
        None => who(&worst.task),
    }
}

/// [`wait`] for a cell: `fsync(journal)`.
fn short(cause: &Cause) -> String {
    let name = cause.object.as_ref().map(|object| object.name.as_str());
    match (name.and_then(|name| name.rsplit_once('/')), &cause.root) {
        (Some((folders, name)), Some(root)) if folders.is_empty() || folders.starts_with('/') => {
            let call = cause.syscall.as_ref().unwrap_or(&root.reason);
            format!("{}({})", clean(call), clean(name))
        }
        _ => wait(cause),
    }
}

/// What all roots waited in.
fn wait(cause: &Cause) -> String {
    let Some(root) = &cause.root else {
        return "what is not known".to_owned();
    };
    let limit = root.timeout_ns.filter(|_| cause.tasks == 1);
    wait_in(
        &root.reason,
        cause.syscall.as_deref(),
        cause.object.as_ref(),
        limit,
    )
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Caused => "one behind another",
        Verdict::CommonCause => "one cause",
        Verdict::Coincidence => "coincidence",
        Verdict::Idle => "idle",
        Verdict::Stuck => "stuck for good",
        Verdict::Unknown => "not known",
    }
}

fn ended(cause: &Cause, root: &Link) -> String {
    let waker = cause.woken_by.as_ref();
    // It goes without saying, and either can end the same wait.
    let waker = waker.filter(|by| !by.kernel_thread && by.interrupt != Some(InterruptKind::Block));
    let by = |what| waker.map_or_else(String::new, |waker| format!(", {what} by {}", by(waker)));
    match root.ended {
        _ if root.end_ns.is_none() => ", still waiting at the end".to_owned(),
        Ended::Fulfilled if root.reason == "sleep" => String::new(),
        Ended::TimedOut => ", timed out".to_owned(),
        Ended::CutShort if waker.is_none() => ", killed".to_owned(),
        Ended::CutShort => by("killed"),
        Ended::Interrupted => ", interrupted by a signal".to_owned(),
        Ended::Fulfilled | Ended::Unknown => by("ended"),
    }
}
