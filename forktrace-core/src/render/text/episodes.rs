//! The longest stalls, one by one: when, how long, and the chain of wakers of each.

use super::{
    View,
    figures::{clean, count, duration, quantity, times},
    layout::{Ink, paint, wrapped},
    phrases::{by, wait_in, who},
    workload::title,
};
use crate::report::{Ended, Episode, GroupKind, Link, Verdict, WakerKind};

/// Moments of episodes that are alike that are named.
const MOMENTS: usize = 8;

/// The episodes of the tree, then those of processes. Those that are alike are told once.
pub(super) fn section(view: &View<'_>) -> String {
    let mut out = String::new();
    for group in &view.report.groups {
        // A workload of one process has the tree's only.
        let episodes = view.report.episodes.iter().filter(|e| e.group == group.id);
        let episodes: Vec<&Episode> = episodes.collect();
        if episodes.is_empty() {
            continue;
        }
        if group.kind != GroupKind::Tree {
            let of = format!("  {}\n", title(group));
            out.push_str(&paint(view.style, Ink::Dim, &of));
        }
        let mut told: Vec<Vec<&Episode>> = Vec::new();
        for episode in &episodes {
            match told.iter_mut().find(|alike| are_alike(alike[0], episode)) {
                Some(alike) => alike.push(episode),
                None => told.push(vec![episode]),
            }
        }
        for alike in &told {
            out.push_str(&self::episode(view, alike));
        }
        let all: u64 = group.verdicts.iter().map(|v| v.episodes).sum();
        let rest = all.saturating_sub(episodes.len() as u64);
        if rest > 0 {
            let text = format!(
                "… and {} (--episodes N lists more)",
                quantity(rest, "shorter episode")
            );
            out.push_str(&wrapped(view.style, "  ", &text));
        }
    }
    out
}

/// Would one read the same of both, but for times, tids and addresses?
fn are_alike(a: &Episode, b: &Episode) -> bool {
    type Part<'a> = (&'a str, &'a str, Option<&'a str>, Ended, WakerKind);
    fn part(link: &Link) -> Part<'_> {
        let object = link.object.as_ref().map(|object| object.kind.as_str());
        (
            &link.task.name,
            &link.reason,
            object,
            link.ended,
            link.woken_by.kind,
        )
    }
    let facts = |e: &Episode| (e.verdict, e.tasks, e.held, e.idle, e.terminator.is_none());
    facts(a) == facts(b)
        && a.chain.len() == b.chain.len()
        && a.chain.iter().map(part).eq(b.chain.iter().map(part))
}

/// One episode by itself.
pub(super) fn episode_lines(view: &View<'_>, episode: &Episode) -> String {
    self::episode(view, &[episode])
}

fn episode(view: &View<'_>, alike: &[&Episode]) -> String {
    let episode = alike[0];
    let how = match episode.verdict {
        Verdict::Caused => "one waited for another",
        Verdict::CommonCause if alone(episode) => "one waited, the others were idle",
        Verdict::CommonCause => "one cause for all",
        Verdict::Coincidence => "each in a wait of its own",
        Verdict::Idle => "idle",
        Verdict::Stuck => "it could never have ended",
        Verdict::Unknown => "the cause is not known",
    };
    let mut head = match alike {
        [only] => format!(
            "{} at {}: {how}.",
            duration(only.ns),
            duration(only.start_ns)
        ),
        [longest, .., shortest] => {
            let mut moments: Vec<u64> = alike.iter().map(|e| e.start_ns).collect();
            moments.sort_unstable();
            let shown = moments.iter().take(MOMENTS).map(|ns| duration(*ns));
            let more = if moments.len() > MOMENTS { ", …" } else { "" };
            format!(
                "{} times {} to {}, at {}{more}: {how}.",
                count(alike.len() as u64),
                duration(shortest.ns),
                duration(longest.ns),
                shown.collect::<Vec<_>>().join(", ")
            )
        }
        [] => return String::new(),
    };
    if episode.terminator.is_none() {
        head.push_str(" The recording ended first.");
    }
    if episode.look_ups > 0 {
        head.push_str(&format!(
            " Tasks woke {} and waited again.",
            times(episode.look_ups)
        ));
    }
    let mut out = wrapped(view.style, "  - ", &head);
    if episode.chain.len() > 1 || episode.verdict != Verdict::Caused {
        out.push_str(&wrapped(view.style, "    ", &chain(episode)));
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
        out.push_str(&wrapped(view.style, "    ", &notes.join(" ")));
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

/// Links of a chain that are shown: of a queue, the rest is alike.
const LINKS: usize = 8;

/// `tid 7 (a) in futex … <- tid 8 (b) in fsync … <- the disk`.
fn chain(episode: &Episode) -> String {
    let links = &episode.chain;
    let cut_short = episode.chain_cut || episode.chain_left_out > 0;
    // The root is what matters: it is shown in any case.
    joined(links, cut_short, episode.chain_cut, Some(root_at(episode)))
}

/// The same of another chain, which goes on or not.
pub(super) fn chain_of(links: &[Link], cut: bool) -> String {
    joined(links, cut, cut, None)
}

fn joined(links: &[Link], left_out: bool, cut: bool, root_at: Option<usize>) -> String {
    let shown = links.len().min(LINKS);
    let mut parts: Vec<String> = links[..shown]
        .iter()
        .map(|link| format!("{} in {}", who(&link.task), wait_of(link)))
        .collect();
    if shown < links.len() || left_out {
        parts.push("…".to_owned());
        let root = root_at
            .filter(|at| *at >= shown)
            .and_then(|at| links.get(at));
        parts.extend(root.map(|root| format!("{} in {}", who(&root.task), wait_of(root))));
    }
    if let (Some(last), false) = (links.last(), cut) {
        parts.push(match last.ended {
            _ if last.end_ns.is_none() => "still waiting at the end".to_owned(),
            Ended::TimedOut => "timed out".to_owned(),
            Ended::Interrupted => "interrupted by a signal".to_owned(),
            Ended::CutShort => "killed".to_owned(),
            Ended::Fulfilled if last.reason == "sleep" => "timer expired".to_owned(),
            Ended::Fulfilled | Ended::Unknown => by(&last.woken_by),
        });
    }
    parts.join(" <- ")
}

fn wait_of(link: &Link) -> String {
    let (syscall, object) = (link.syscall.as_deref(), link.object.as_ref());
    wait_in(&link.reason, syscall, object, link.timeout_ns)
}
