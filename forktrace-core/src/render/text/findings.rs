//! What is worth telling: the first sentence of a report, and the others below it.

use super::{
    View,
    figures::{clean, duration, percent, plain, shortened},
    layout::{Ink, paint, wrapped},
    tasks::command,
};
use crate::report::{Confidence, Episode, Finding, FindingKind, Link, Report};

/// Lines of the first sentence of a summary, and of another one.
const FIRST: usize = 4;
const OTHER: usize = 3;
/// Links of a chain that are shown.
const CHAIN: usize = 4;
/// Statements that are shown of a deadlock.
const EVIDENCE: usize = 3;

/// The first finding, and some of the others.
pub(super) fn summary(view: &View<'_>, most: usize) -> String {
    let Some((first, others)) = view.report.findings.split_first() else {
        return String::new();
    };
    let room = view.style.columns - 4;
    let sentence = |finding: &Finding, lines: usize| {
        // A line that is broken between words is not full.
        shortened(view.style, &clean(&finding.sentence), lines * (room - 8))
    };
    let text = wrapped(view.style, "  ", &sentence(first, FIRST));
    let mut out = paint(view.style, Ink::Bold, &text);
    // What one task waits for, the sentence says.
    if first.kind <= FindingKind::Hang && first.evidence.len() > 1 {
        for line in first.evidence.iter().take(EVIDENCE) {
            let line = shortened(view.style, &clean(line), OTHER * (room - 8));
            out.push_str(&wrapped(view.style, "    ", &format!("{line}.")));
        }
    }
    if let Some(chain) = chain(view, first) {
        let line = format!("    {}", shortened(view.style, &chain, room));
        out.push_str(&plain(view.style, &format!("{}\n", line.trim_end())));
    }
    let shown = others.len().min(most);
    for finding in &others[..shown] {
        out.push_str(&wrapped(view.style, "  - ", &sentence(finding, OTHER)));
    }
    if shown < others.len() {
        let rest = others.len() - shown;
        let text = format!("… and {rest} more (--show findings)");
        out.push_str(&wrapped(view.style, "    ", &text));
    }
    out
}

/// The roles that the findings are about, those of the first one first: of its chain as well.
pub(super) fn roles<'a>(view: &View<'a>) -> Vec<&'a str> {
    let report = view.report;
    let mut serials: Vec<u32> = Vec::new();
    for (at, finding) in report.findings.iter().enumerate() {
        serials.extend(&finding.tasks);
        let episode = episode_of(report, finding).filter(|_| at == 0);
        let chain = episode.into_iter().flat_map(|episode| &episode.chain);
        serials.extend(chain.map(|link| link.task.serial));
    }
    let of = |serial: &u32| view.by_serial.get(serial).map(|task| &*task.role);
    let mut names: Vec<&str> = Vec::new();
    for name in serials.iter().filter_map(of) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// The longest stall that a finding is about.
fn episode_of<'a>(report: &'a Report, finding: &Finding) -> Option<&'a Episode> {
    // For a CPU nobody waits behind anybody; nor does a stall tell of what happens while tasks run.
    if !is_of_stalls(finding.kind) {
        return None;
    }
    let of_it = |episode: &&Episode| {
        let ended_by = episode.ended_by.as_ref();
        episode.group == 0 && ended_by.is_some_and(|by| finding.tasks.contains(&by.task.serial))
    };
    report.episodes.iter().find(of_it)
}

/// Is it about times at which all were blocked?
fn is_of_stalls(kind: FindingKind) -> bool {
    match kind {
        FindingKind::Deadlock | FindingKind::Hang | FindingKind::Stall | FindingKind::Disk => true,
        FindingKind::Peer | FindingKind::PageFault | FindingKind::EventLoop => true,
        FindingKind::Lock | FindingKind::PoolExhausted | FindingKind::Idle => true,
        FindingKind::Starved | FindingKind::Quota | FindingKind::Stopped => false,
        FindingKind::Straggler | FindingKind::BusyLoop | FindingKind::Herd => false,
        FindingKind::Creation | FindingKind::Lag => false,
    }
}

/// Who waited for whom in it.
fn chain(view: &View<'_>, finding: &Finding) -> Option<String> {
    let first = episode_of(view.report, finding)?;
    let links = &first.chain;
    let name = |link: &Link| match view.by_serial.get(&link.task.serial) {
        Some(task) => command(task),
        None => clean(&link.task.name),
    };
    // The end of a long chain says more than its middle.
    let (begin, end) = match links.len() {
        0 | 1 => return None,
        n if n <= CHAIN => (n, n),
        n => (CHAIN - 1, n - 1),
    };
    let shown = || links[..begin].iter().chain(&links[end..]);
    let named: Vec<String> = shown().map(name).collect();
    // What several are called tells them apart with the tid only.
    let is_one = |name: &String| named.iter().filter(|it| *it == name).count() == 1;
    let mut names: Vec<String> = named
        .iter()
        .zip(shown())
        .map(|(name, link)| match is_one(name) {
            true => name.clone(),
            false => format!("{name} ({})", link.task.tid),
        })
        .collect();
    if end > begin {
        names.insert(begin, "…".to_owned());
    }
    Some(names.join(" <- "))
}

/// All of them, with what each rests on and what shows more.
pub(super) fn section(view: &View<'_>) -> String {
    let mut out = String::new();
    for (at, finding) in view.report.findings.iter().enumerate() {
        let first = format!("  {}. ", at + 1);
        let text = wrapped(view.style, &first, &clean(&finding.sentence));
        out.push_str(&match at {
            0 => paint(view.style, Ink::Bold, &text),
            _ => text,
        });
        let sure = match finding.confidence {
            Confidence::Proved => "the record proves it",
            Confidence::Likely => "it follows from the record, but for what that can't show",
            Confidence::Possible => "it is one way to read the record",
        };
        let whole = view.report.workload.duration_ns;
        let mut notes = vec![match finding.ns {
            0 => sure.to_owned(),
            ns => format!(
                "{} of the run, {}: {sure}",
                duration(ns),
                percent(ns, whole)
            ),
        }];
        notes.extend(finding.evidence.iter().map(|text| clean(text)));
        notes.extend(
            finding
                .next
                .iter()
                .map(|next| format!("more: {}", clean(next))),
        );
        for note in notes {
            out.push_str(&wrapped(view.style, "     - ", &note));
        }
    }
    out
}
