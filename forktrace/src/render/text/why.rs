//! Why all stood still at the same time: causes, and the longest episodes.

use super::{
    View,
    figures::{clean, count, count_cell, duration, duration_cell, percent, plural, quantity},
    layout::{Ink, Table, paint, wrapped},
    waits::place,
    workload::members,
};
use crate::report::{
    Cause, Ended, Episode, Group, InterruptKind, Link, Object, TaskName, Verdict, WakerKind,
    WokenBy,
};

/// Rows of causes without `-v`.
const CAUSES: usize = 8;
/// Without `-v` an episode is shown when it is at least such a part of all.
const SHARE: u64 = 20;
/// Links of a chain that are shown without `-v`.
const LINKS: usize = 8;

/// Causes and episodes of the tree; of each process with `-v`.
pub(super) fn section(view: &View<'_>) -> String {
    let Some(tree) = view.tree else {
        return String::new();
    };
    let mut out = group(
        view,
        tree,
        &members(view).replace(" in ", " of "),
        view.noun(),
    );
    if view.style.verbose && view.processes > 1 {
        for process in &view.threaded {
            let of = format!(
                "{} of pid {} ({})",
                quantity(process.tasks.len() as u64, "thread"),
                process.pid,
                clean(&process.name)
            );
            let text = group(view, process, &of, "thread");
            if !text.is_empty() {
                out.push('\n');
                out.push_str(&text);
            }
        }
    }
    out
}

fn group(view: &View<'_>, group: &Group, all: &str, noun: &str) -> String {
    let causes = view.report.causes.iter().filter(|c| c.group == group.id);
    let causes: Vec<&Cause> = causes.collect();
    let Some(worst) = causes.first() else {
        return String::new();
    };
    let total = group.all_blocked.lower_ns;
    let head = format!("why all {} were blocked at once", plural(noun)).to_uppercase();
    let mut out = paint(view.style, Ink::Dim, &format!("  {head}\n"));
    out.push_str(&wrapped("  ", &sentence(group, all, noun, worst)));
    out.push_str(&table(view, &causes, total));
    let episodes = view.report.episodes.iter().filter(|e| e.group == group.id);
    let episodes: Vec<&Episode> = episodes.collect();
    let shown = episodes
        .iter()
        .filter(|e| view.style.verbose || (e.end_ns - e.start_ns).saturating_mul(SHARE) >= total);
    let shown: Vec<&&Episode> = shown.collect();
    for e in &shown {
        out.push('\n');
        out.push_str(&episode(view, e));
    }
    let rest = group
        .all_blocked
        .episodes
        .saturating_sub(shown.len() as u64);
    if rest > 0 && !shown.is_empty() {
        let listed = episodes.len() - shown.len();
        let how = match listed {
            0 => "--episodes N lists more".to_owned(),
            _ => format!("-v shows {listed} of them, --episodes N lists more"),
        };
        out.push_str(&format!(
            "\n  … and {} ({how})\n",
            quantity(rest, "shorter episode"),
        ));
    }
    out
}

/// The answer in a sentence.
fn sentence(group: &Group, all: &str, noun: &str, worst: &Cause) -> String {
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
    let why = match (worst.verdict, &worst.root) {
        // Mostly one cause, or many of one kind.
        (Verdict::Caused, Some(root)) => {
            let behind = format!("behind {} by {}", wait(root), who(&root.task));
            if worst.ns >= of_verdict / 2 {
                format!("{} {behind}", part(worst.ns))
            } else {
                format!(
                    "{} behind one of their own; the largest part of that, {}, {behind}",
                    part(of_verdict),
                    duration(worst.ns)
                )
            }
        }
        (Verdict::CommonCause, Some(root)) if worst.alone => format!(
            "{} behind {} by {}, the only one with anything to do",
            part(worst.ns),
            wait(root),
            who(&root.task)
        ),
        (Verdict::CommonCause, Some(root)) => {
            format!("{} for one cause: {}", part(worst.ns), wait(root))
        }
        (Verdict::Idle, _) => {
            format!("{} idle, waiting for input or for a time", part(of_verdict))
        }
        (Verdict::Coincidence, _) => format!(
            "{} by coincidence: nothing connects what they waited for",
            part(of_verdict)
        ),
        _ => format!("{} for a cause that is not known", part(of_verdict)),
    };
    format!(
        "All {all} stood still for {} in {}, {why}.",
        duration(total),
        quantity(group.all_blocked.episodes, "episode"),
    )
}

fn table(view: &View<'_>, causes: &[&Cause], total: u64) -> String {
    let shown = match view.style.verbose {
        true => causes.len(),
        false => causes.len().min(CAUSES),
    };
    let rows = &causes[..shown];
    let mut table = Table::default();
    let mut column = |head, figure: &dyn Fn(&Cause) -> String| {
        table.number(head, rows.iter().map(|c| figure(c)).collect());
    };
    column("TIME", &|c| duration_cell(c.ns));
    column("SHARE", &|c| percent(c.ns, total));
    column("EPISODES", &|c| count_cell(c.episodes));
    column("LONGEST", &|c| duration_cell(c.longest_ns));
    table.text("WHY", 20, rows.iter().map(|c| why(c)).collect());
    let mut out = table.to_text(view.style);
    if shown < causes.len() {
        out.push_str(&format!(
            "  … and {} more (-v shows all; --format json has them)\n",
            count((causes.len() - shown) as u64)
        ));
    }
    out
}

/// A cause in a cell.
fn why(cause: &Cause) -> String {
    let verdict = word(cause.verdict);
    match (&cause.root, cause.verdict) {
        (None, _) => format!("{verdict}, other"),
        (Some(root), Verdict::Caused) => {
            format!(
                "behind {} by {}{}",
                short(root),
                who(&root.task),
                ended(root)
            )
        }
        (Some(root), _) if cause.alone => format!(
            "behind {} by {}, all others idle",
            short(root),
            who(&root.task)
        ),
        // Who ended it comes first: that is where such causes differ.
        (Some(root), _) if root.ended == Ended::Woken => format!(
            "{verdict}, until {} woke {} in {}",
            match (&root.woken_by.name, root.woken_by.tid) {
                (Some(name), Some(tid)) => format!("tid {tid} ({})", clean(name)),
                _ => by(&root.woken_by),
            },
            who(&root.task),
            short(root)
        ),
        (Some(root), _) => format!(
            "{verdict}, until {} came out of {}{}",
            who(&root.task),
            short(root),
            ended(root)
        ),
    }
}

/// [`wait`] for a cell: `fsync(journal)`.
fn short(link: &Link) -> String {
    let object = link.object.as_ref();
    match object.and_then(|object| object.name.rsplit_once('/')) {
        Some((folders, name)) if folders.is_empty() || folders.starts_with('/') => {
            let call = link.syscall.as_ref().unwrap_or(&link.reason);
            format!("{}({})", clean(call), clean(name))
        }
        _ => wait(link),
    }
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Caused => "one behind another",
        Verdict::CommonCause => "one cause",
        Verdict::Coincidence => "coincidence",
        Verdict::Idle => "idle",
        Verdict::Unknown => "not known",
    }
}

fn episode(view: &View<'_>, episode: &Episode) -> String {
    let mut head = format!(
        "{} from {} on: {}.",
        duration(episode.end_ns - episode.start_ns),
        duration(episode.start_ns),
        match episode.verdict {
            Verdict::Caused => "one was behind another",
            Verdict::CommonCause if alone(episode) => "one waited, the others were idle",
            Verdict::CommonCause => "one cause for all",
            Verdict::Coincidence => "a coincidence",
            Verdict::Idle => "idle",
            Verdict::Unknown => "the cause is not known",
        }
    );
    if let Some(trigger) = &episode.trigger {
        head.push_str(&format!(" Last to block: {}.", who(&trigger.task)));
    }
    head.push_str(&match &episode.terminator {
        Some(first) => format!(
            " First to be woken: {}, by {}.",
            who(&first.task),
            by(&first.woken_by)
        ),
        None => " The trace ended first.".to_owned(),
    });
    let mut out = wrapped("  - ", &head);
    if episode.chain.len() > 1 || episode.verdict != Verdict::Caused {
        out.push_str(&wrapped("    ", &chain(view, episode)));
    }
    let others = episode.tasks.saturating_sub(1);
    let mut notes = Vec::new();
    if episode.verdict == Verdict::Caused && others > 1 {
        notes.push(format!(
            "Of the {} others {} woken by {} after that, directly or in turn.",
            count(others.into()),
            match episode.held {
                1 => "1 was".to_owned(),
                held => format!("{} were", count(held.into())),
            },
            match episode.chain.get(root_at(episode)) {
                Some(root) => who(&root.task),
                None => "it".to_owned(),
            }
        ));
    }
    if alone(episode) {
        notes.push(match episode.idle {
            1 => "The other one had nothing to do.".to_owned(),
            idle => format!("The {} others had nothing to do.", count(idle.into())),
        });
    } else if episode.not_woken > 0 {
        notes.push(format!(
            "{} not woken before the end of the trace or of their process.",
            match episode.not_woken {
                1 => "1 was".to_owned(),
                n => format!("{} were", count(n.into())),
            }
        ));
    }
    if let Some(shared) = episode.shared.first() {
        notes.push(format!(
            "{} of them waited for {}.",
            count(shared.tasks.len() as u64),
            clean(&shared.object.name)
        ));
    }
    if !notes.is_empty() {
        out.push_str(&wrapped("    ", &notes.join(" ")));
    }
    out
}

/// All but the root were idle.
fn alone(episode: &Episode) -> bool {
    let others = episode.tasks.saturating_sub(1);
    episode.verdict == Verdict::CommonCause && others > 0 && episode.idle == others
}

/// Where in the chain the last one of the group's own tasks is.
fn root_at(episode: &Episode) -> usize {
    episode.chain_in_group.saturating_sub(1) as usize
}

/// `tid 7 (a) in futex … ← tid 8 (b) in fsync … ← the disk`.
fn chain(view: &View<'_>, episode: &Episode) -> String {
    let links = &episode.chain;
    let shown = match view.style.verbose {
        true => links.len(),
        false => links.len().min(LINKS),
    };
    let mut parts: Vec<String> = links[..shown]
        .iter()
        .map(|link| format!("{} in {}", who(&link.task), wait(link)))
        .collect();
    if shown < links.len() || episode.chain_cut {
        parts.push("…".to_owned());
    }
    if let (Some(last), false) = (links.last(), episode.chain_cut) {
        parts.push(match last.ended {
            Ended::NotEnded => "not woken before the end".to_owned(),
            Ended::TimedOut => "its time was over".to_owned(),
            Ended::CutShort => format!("cut short by {}", by(&last.woken_by)),
            Ended::Woken => by(&last.woken_by),
        });
    }
    parts.join(" ← ")
}

pub(super) fn who(task: &TaskName) -> String {
    format!("tid {} ({})", task.tid, clean(&task.name))
}

/// `futex 0x7f…`, `fsync /var/lib/x`, `sleep of 50 ms`.
fn wait(link: &Link) -> String {
    let reason = place(&link.reason, link.syscall.as_deref().as_slice());
    match (&link.object, link.timeout_ns) {
        (Some(object), _) => on(&link.reason, &reason, object),
        (None, Some(limit)) if link.reason == "sleep" => {
            format!("sleep of {}", duration(limit))
        }
        _ => reason,
    }
}

/// No word twice: `futex 0x7f…`, not `futex (futex) futex 0x7f…`.
fn on(reason: &str, place: &str, object: &Object) -> String {
    let name = clean(&object.name);
    if name.starts_with(reason) {
        name
    } else {
        format!("{place} on {name}")
    }
}

fn ended(link: &Link) -> String {
    let by_kernel =
        link.woken_by.kernel_thread || link.woken_by.interrupt == Some(InterruptKind::Block);
    match link.ended {
        // It goes without saying, and either can end the same wait.
        Ended::Woken if by_kernel => String::new(),
        Ended::NotEnded => ", not woken before the end".to_owned(),
        Ended::TimedOut if link.reason == "sleep" => String::new(),
        Ended::TimedOut => ", timed out".to_owned(),
        Ended::CutShort => format!(", cut short by {}", by(&link.woken_by)),
        Ended::Woken => format!(", ended by {}", by(&link.woken_by)),
    }
}

/// Who woke a task.
pub(super) fn by(by: &WokenBy) -> String {
    let task = || {
        let name = match &by.name {
            Some(name) => clean(name),
            None => "?".to_owned(),
        };
        let tid = by.tid.map_or_else(|| "?".to_owned(), |tid| tid.to_string());
        match (by.kernel_thread, by.outside) {
            (true, _) => format!("kernel thread {name}"),
            (false, true) => format!("tid {tid} ({name}), outside the workload"),
            (false, false) => format!("tid {tid} ({name})"),
        }
    };
    match (by.kind, by.interrupt) {
        (WakerKind::Task, _) => task(),
        (WakerKind::TaskSoftirq, _) => format!("{} over loopback", task()),
        (WakerKind::Nobody, _) => "nobody".to_owned(),
        (WakerKind::Interrupt, Some(InterruptKind::Timer)) => "a timer".to_owned(),
        (WakerKind::Interrupt, Some(InterruptKind::Network)) => "the network".to_owned(),
        (WakerKind::Interrupt, Some(InterruptKind::Block)) => "the disk".to_owned(),
        (WakerKind::Interrupt, _) => match &by.device {
            Some(device) => format!("an interrupt of {}", clean(device)),
            None => "an interrupt".to_owned(),
        },
        (WakerKind::Unknown, _) => "somebody who is not known".to_owned(),
    }
}
