//! Why all stood still at the same time: the causes, then the longest episodes.

use super::{
    View,
    causes::{sentence, table},
    figures::{clean, count, duration, plural, quantity},
    layout::{Ink, paint, wrapped},
    phrases::{SHARE, by, wait_in, who},
    workload::members,
};
use crate::report::{Cause, Ended, Episode, Group, Link, Verdict};

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
    out.push_str(&wrapped("  ", &sentence(group, all, noun, &causes, worst)));
    out.push_str(&table(view, &causes, noun, total));
    let episodes = view.report.episodes.iter().filter(|e| e.group == group.id);
    let episodes: Vec<&Episode> = episodes.collect();
    let shown = episodes
        .iter()
        .filter(|e| view.style.verbose || (e.ns).saturating_mul(SHARE) >= total);
    let shown: Vec<&&Episode> = shown.collect();
    for e in &shown {
        out.push('\n');
        out.push_str(&episode(view, e));
    }
    let stalls: u64 = group.verdicts.iter().map(|v| v.episodes).sum();
    let rest = stalls.saturating_sub(shown.len() as u64);
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

fn episode(view: &View<'_>, episode: &Episode) -> String {
    let mut head = format!(
        "{} at {}: {}.",
        duration(episode.ns),
        duration(episode.start_ns),
        match episode.verdict {
            Verdict::Caused => "one was behind another",
            Verdict::CommonCause if alone(episode) => "one waited, the others were idle",
            Verdict::CommonCause => "one cause for all",
            Verdict::Coincidence => "a coincidence",
            Verdict::Idle => "idle",
            Verdict::Stuck => "it could never have ended",
            Verdict::Unknown => "the cause is not known",
        }
    );
    if episode.terminator.is_none() {
        head.push_str(" The recording ended first.");
    }
    if episode.look_ups > 0 {
        head.push_str(&format!(
            " Tasks looked up {} and went on waiting.",
            match episode.look_ups {
                1 => "once".to_owned(),
                n => format!("{} times", count(n)),
            }
        ));
    }
    let mut out = wrapped("  - ", &head);
    if episode.chain.len() > 1 || episode.verdict != Verdict::Caused {
        out.push_str(&wrapped("    ", &chain(view, episode)));
    }
    let others = episode.tasks.saturating_sub(1);
    let mut notes = Vec::new();
    if episode.verdict == Verdict::Caused && others > 1 {
        notes.push(format!(
            "{} of the {} others waited for {}, directly or in turn.",
            count(episode.held.into()),
            count(others.into()),
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
            "{} never got what {} waited for.",
            match episode.not_woken {
                1 => "1 task".to_owned(),
                n => format!("{} tasks", count(n.into())),
            },
            match episode.not_woken {
                1 => "it",
                _ => "they",
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
        .map(|link| format!("{} in {}", who(&link.task), wait_of(link)))
        .collect();
    if shown < links.len() || episode.chain_cut || episode.chain_left_out > 0 {
        // The root is what matters: it is shown in any case.
        parts.push("…".to_owned());
        let root = links
            .get(root_at(episode))
            .filter(|_| root_at(episode) >= shown);
        parts.extend(root.map(|root| format!("{} in {}", who(&root.task), wait_of(root))));
    }
    if let (Some(last), false) = (links.last(), episode.chain_cut) {
        parts.push(match last.ended {
            _ if last.end_ns.is_none() => "still waiting at the end".to_owned(),
            Ended::TimedOut => "timed out".to_owned(),
            Ended::Interrupted => "interrupted by a signal".to_owned(),
            Ended::CutShort => "killed".to_owned(),
            Ended::Fulfilled if last.reason == "sleep" => "timer expired".to_owned(),
            Ended::Fulfilled | Ended::Unknown => by(&last.woken_by),
        });
    }
    parts.join(" ← ")
}

fn wait_of(link: &Link) -> String {
    let (syscall, object) = (link.syscall.as_deref(), link.object.as_ref());
    wait_in(&link.reason, syscall, object, link.timeout_ns)
}
