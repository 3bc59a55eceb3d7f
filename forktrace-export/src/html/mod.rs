//! A page for a browser: one file that asks for nothing from anywhere.
//!
//! The page is fixed (`page.html`, `page.css`, `rows.js`, `page.js`); what was found goes into it as JSON,
//! which the script shows as text and never as markup. Time lines are reduced to what finds
//! room ([`lines`]).

mod lines;

use std::{
    collections::HashMap,
    io::{self, Write},
};

use forktrace_core::{
    analysis::Names,
    report::{
        Episode, GroupKind, Link, PathState, Peer, PeerKind, Report, Verdict,
        words::{duration, quantity},
    },
};
use serde_json::{Value, json};

use self::lines::Lines;
use crate::{
    Export, Source,
    text::{self, clean},
};

/// See the module.
pub(crate) struct Html;

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = concat!(include_str!("rows.js"), include_str!("page.js"));

/// Rows of the tables that can grow with the square of the tasks.
const MOST_ROWS: usize = 500;

impl Export for Html {
    fn write(&self, source: &Source<'_>, out: &mut dyn Write) -> io::Result<()> {
        for piece in PAGE.split("{{") {
            let (mark, rest) = piece.split_once("}}").unwrap_or(("", piece));
            match mark {
                "title" => out.write_all(escaped(&command(source.report)).as_bytes())?,
                "style" => out.write_all(STYLE.as_bytes())?,
                "script" => out.write_all(SCRIPT.as_bytes())?,
                "data" => {
                    // Nothing in it ends the element that it is in.
                    let data = data(source).to_string().replace('<', "\\u003c");
                    out.write_all(data.as_bytes())?;
                }
                "plain" => out.write_all(plain(source.report).as_bytes())?,
                _ => {}
            }
            out.write_all(rest.as_bytes())?;
        }
        Ok(())
    }
}

fn command(report: &Report) -> String {
    let words = match &report.workload.attached {
        Some(targets) => targets,
        None => &report.workload.argv,
    };
    let words: Vec<String> = words.iter().map(|word| clean(word)).collect();
    let command = match (&report.workload.attached, &report.workload.imported) {
        (Some(_), Some(by)) => format!("imported from {} ({})", words.join(", "), clean(by)),
        (Some(_), None) => format!("attached to {}", words.join(", ")),
        (None, _) => words.join(" "),
    };
    match &report.part {
        Some(part) => format!(
            "{command} ({})",
            forktrace_core::render::text::part_words(part)
        ),
        None => command,
    }
}

pub(crate) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}

/// The findings as markup, for whoever has no script.
fn plain(report: &Report) -> String {
    let items = report.findings.iter();
    let items = items.map(|finding| format!("<li>{}</li>", marked_up(&clean(&finding.sentence))));
    items.collect()
}

/// A sentence of ours as markup: what stands between backticks is a name.
pub(crate) fn marked_up(text: &str) -> String {
    let parts: Vec<&str> = text.split('`').collect();
    // One that is alone is of a name.
    if parts.len().is_multiple_of(2) {
        return escaped(text);
    }
    let mut out = String::new();
    for (at, part) in parts.into_iter().enumerate() {
        let part = escaped(part);
        match at % 2 {
            0 => out += &part,
            _ => out += &format!("<code>{part}</code>"),
        }
    }
    out
}

fn data(source: &Source<'_>) -> Value {
    let report = source.report;
    let names = Names::new(source.info, source.model);
    let lines = Lines::new(source.model, &names);
    let at: HashMap<u32, usize> = report
        .tasks
        .iter()
        .enumerate()
        .map(|(at, task)| (task.serial, at))
        .collect();
    let wakers = lines.wakers.iter();
    let wakers: Vec<Value> = wakers.map(|(text, task)| json!([text, task])).collect();
    json!({
        "command": command(report),
        "saved": forktrace_core::render::text::saved_words(report),
        "kernel": clean(&report.workload.kernel),
        "cpus": report.workload.cpus,
        "duration_ns": report.workload.duration_ns,
        "end_ns": source.model.end_ns,
        "findings": findings(report, &at),
        "tasks": tasks(report),
        "exact_ns": lines.exact_ns,
        "names": lines.names,
        "wakers": wakers,
        "lines": base64(&lines.bytes),
        "stalls": report.episodes.iter().map(|it| stall(it, report, &at)).collect::<Vec<_>>(),
        "all_stalls": report.groups.first().map_or(0, |group| group.all_blocked.episodes),
        "path": path(report),
        "waits": waits(report),
        "edges": edges(report, &at),
        "audit": audit(report),
    })
}

fn findings(report: &Report, at: &HashMap<u32, usize>) -> Vec<Value> {
    let findings = report.findings.iter().map(|finding| {
        let tasks = finding.tasks.iter().filter_map(|serial| at.get(serial));
        json!({
            "kind": finding.kind,
            "sentence": clean(&finding.sentence),
            "ns": finding.ns,
            "share": finding.share,
            "confidence": finding.confidence,
            "evidence": finding.evidence.iter().map(|it| clean(it)).collect::<Vec<_>>(),
            "tasks": tasks.collect::<Vec<_>>(),
        })
    });
    findings.collect()
}

fn tasks(report: &Report) -> Vec<Value> {
    let tasks = report.tasks.iter().map(|task| {
        json!([
            clean(&task.name),
            task.tid,
            task.pid,
            clean(&task.role),
            task.start_ns,
            task.end_ns,
            task.running_ns,
            task.runnable_ns,
            task.blocked_ns,
            task.stopped_ns,
            task.unknown_ns + task.unplaced_ns,
            task.longest_block_ns,
            task.argv
                .iter()
                .map(|word| clean(word))
                .collect::<Vec<_>>()
                .join(" "),
        ])
    });
    tasks.collect()
}

fn stall(episode: &Episode, report: &Report, at: &HashMap<u32, usize>) -> Value {
    let group = report.groups.iter().find(|group| group.id == episode.group);
    let of = match group {
        Some(group) if group.kind == GroupKind::Process => {
            format!("{} (pid {})", clean(&group.name), group.pid)
        }
        Some(group) if group.kind != GroupKind::Tree => clean(&group.name),
        _ => "all tasks".to_owned(),
    };
    let cause = episode.ended_by.as_ref().map(|by| {
        let what = text::wait(&by.reason, by.object.as_ref());
        let who = format!("{} (tid {})", clean(&by.task.name), by.task.tid);
        json!({"who": who, "task": at.get(&by.task.serial), "what": what, "ended": by.how})
    });
    json!({
        "of": of,
        "tree": episode.group == 0,
        "start_ns": episode.start_ns,
        "end_ns": episode.end_ns,
        "ns": episode.ns,
        "tasks": episode.tasks,
        "look_ups": episode.look_ups,
        "verdict": episode.verdict,
        "says": says(episode),
        "cause": cause,
        "chain": episode.chain.iter().map(|it| link(it, at)).collect::<Vec<_>>(),
        "chain_left_out": episode.chain_left_out,
    })
}

fn says(episode: &Episode) -> String {
    match episode.verdict {
        Verdict::Caused => format!(
            "{} waited behind it",
            quantity(u64::from(episode.held), "task")
        ),
        Verdict::CommonCause => "all that had work waited for the same".to_owned(),
        Verdict::Coincidence => "the others waited for something of their own".to_owned(),
        Verdict::Idle => "nobody had anything to do".to_owned(),
        Verdict::Stuck => "they could never have gone on".to_owned(),
        Verdict::Unknown => "the record does not tell why".to_owned(),
    }
}

fn link(link: &Link, at: &HashMap<u32, usize>) -> Value {
    let waker = link.woken_by.serial.and_then(|serial| at.get(&serial));
    json!({
        "who": format!("{} (tid {})", clean(&link.task.name), link.task.tid),
        "task": at.get(&link.task.serial),
        "what": text::wait(&link.reason, link.object.as_ref()),
        "start_ns": link.start_ns,
        "end_ns": link.end_ns,
        "ended": link.ended,
        "by": text::waker(&link.woken_by),
        "waker": waker,
    })
}

fn path(report: &Report) -> Vec<Value> {
    let parts = report.path.parts.iter().take(MOST_ROWS).map(|part| {
        let what = part
            .reason
            .as_deref()
            .map(|it| text::wait(it, part.object.as_ref()));
        let state = match part.state {
            PathState::Running => "running",
            PathState::Runnable => "wants a CPU",
            PathState::Blocked => "blocked",
            PathState::Stopped => "stopped",
            PathState::Unknown => "unknown",
        };
        json!([
            clean(&part.role),
            state,
            what.unwrap_or_default(),
            part.ns,
            part.count
        ])
    });
    parts.collect()
}

/// What was waited for, over all tasks.
fn waits(report: &Report) -> Vec<Value> {
    #[derive(Default)]
    struct Sum {
        ns: u64,
        count: u64,
        tasks: u64,
    }
    let mut sums: HashMap<(&str, &str), Sum> = HashMap::new();
    for task in &report.tasks {
        let mut add = |key, ns, count| {
            let sum = sums.entry(key).or_default();
            sum.ns += ns;
            sum.count += count;
            sum.tasks += 1;
        };
        for wait in &task.waits {
            let reason = wait.reason.as_str();
            let (mut ns, mut count) = (wait.ns, wait.count);
            for it in &wait.objects {
                add((reason, it.object.name.as_str()), it.ns, it.count);
                ns = ns.saturating_sub(it.ns);
                count = count.saturating_sub(it.count);
            }
            if ns > 0 {
                add((reason, ""), ns, count);
            }
        }
    }
    let mut rows: Vec<_> = sums.into_iter().collect();
    rows.sort_by(|(a, a_sum), (b, b_sum)| b_sum.ns.cmp(&a_sum.ns).then_with(|| a.cmp(b)));
    let rows = rows
        .into_iter()
        .take(MOST_ROWS)
        .map(|((reason, object), sum)| {
            json!([reason, clean(object), sum.ns, sum.count, sum.tasks])
        });
    rows.collect()
}

/// Who woke whom.
fn edges(report: &Report, at: &HashMap<u32, usize>) -> Vec<Value> {
    let name = |serial: u32| {
        let task = at.get(&serial).map(|at| &report.tasks[*at]);
        task.map_or_else(String::new, |t| {
            format!("{} (tid {})", clean(&t.name), t.tid)
        })
    };
    let edges = report.waits_for.iter().take(MOST_ROWS).map(|edge| {
        let to = match edge.to.serial {
            Some(serial) => name(serial),
            None => peer(&edge.to),
        };
        json!([name(edge.from), to, edge.ns, edge.count])
    });
    edges.collect()
}

fn peer(peer: &Peer) -> String {
    let name = peer.name.as_deref().map(clean).unwrap_or_default();
    match peer.kind {
        PeerKind::Task => name,
        PeerKind::Outside => format!("{name} (outside)"),
        PeerKind::KernelThread => format!("{name} (kernel)"),
        PeerKind::Interrupt => match peer.interrupt {
            Some(kind) => format!("interrupt: {kind:?}").to_lowercase(),
            None => "an interrupt".to_owned(),
        },
        PeerKind::Unknown => "unknown".to_owned(),
        PeerKind::Nobody => "nobody".to_owned(),
    }
}

fn audit(report: &Report) -> Value {
    let audit = &report.audit;
    // The words of the report for people.
    let verdict = forktrace_core::render::text::audit_verdict(report);
    let mut says = vec![format!(
        "{} of {} context switches accounted for; {} lost.",
        audit.switches_traced,
        audit.switches_kernel,
        quantity(audit.lost_records, "record"),
    )];
    if audit.unknown_ns > 0 {
        says.push(format!(
            "Unknown in all: {} of the tasks' time.",
            duration(audit.unknown_ns)
        ));
    }
    let weaknesses = audit.weaknesses.iter();
    says.extend(weaknesses.map(|it| clean(&it.text)));
    json!({"verdict": verdict, "complete": audit.complete, "says": says})
}

/// See RFC 4648.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let at = |n: usize| u32::from(three.get(n).copied().unwrap_or(0));
        let all = at(0) << 16 | at(1) << 8 | at(2);
        for digit in 0..4 {
            if digit <= three.len() {
                out.push(DIGITS[(all >> (18 - 6 * digit) & 63) as usize].into());
            } else {
                out.push('=');
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{base64, marked_up};

    #[test]
    fn names_in_sentences_are_code() {
        assert_eq!(
            marked_up("`a<b` waited for `c`, not \"d\"."),
            "<code>a&lt;b</code> waited for <code>c</code>, not &quot;d&quot;."
        );
        assert_eq!(marked_up("a ` b"), "a ` b");
    }

    #[test]
    fn base64_is_as_the_standard_has_it() {
        for (plain, coded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }
}
