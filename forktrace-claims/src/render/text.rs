//! Claims for people.

use std::fmt::Write as _;

use super::{Outcome, picture};
use forktrace_core::render::{
    Style,
    text::{
        figures::{clean, count},
        layout::{Ink, paint, wrapped},
    },
};
use forktrace_core::words::quantity;

use crate::{
    Claim, Mode, Settled, Verdict,
    file::{Arm, Of, Param, Rule},
    picture::Picture,
    verdict::Audit,
    words::in_words,
};

pub(super) fn outcome(outcome: &Outcome<'_>, style: Style) -> String {
    let mut out = String::new();
    for claim in outcome.claims {
        out.push_str(&settled(claim, style));
        out.push('\n');
    }
    out + &summary(outcome, style)
}

pub(super) fn settled(claim: &Settled, style: Style) -> String {
    let verdict = claim.verdict.to_string();
    let head = format!("{}: {}", clean(&claim.id), verdict.to_uppercase());
    let mut out = paint(style, Ink::Bold, &head);
    out.push('\n');
    let mut line = |first: &str, text: &str| out.push_str(&wrapped(style, first, &one_line(text)));
    // A file that can't be read claims nothing.
    if !claim.statement.is_empty() {
        line("  Claim:    ", &claim.statement);
    }
    line("  Verdict:  ", &format!("{verdict}. {}", claim.reason));
    if let Some(control) = &claim.control {
        line("  Control:  ", &control.text);
    }
    if let Some(audit) = &claim.audit {
        line("  Audit:    ", &audit_words(audit));
    }
    if let Some(error) = &claim.error {
        line("  Where:    ", &format!("{}:{}", error.file, error.line));
    }
    if style.verbose {
        for (name, figure) in &claim.figures {
            line(
                "  Figure:   ",
                &format!("{name} = {}", in_words(name, figure)),
            );
        }
        for arm in &claim.arms {
            for point in arm.points.as_array().into_iter().flatten() {
                let row: Vec<String> = point
                    .as_object()
                    .into_iter()
                    .flatten()
                    .map(|(name, value)| format!("{name} {}", in_words(name, value)))
                    .collect();
                line(&format!("  Arm {}: ", arm.name), &row.join("; "));
            }
        }
    }
    if let Some(shown) = claim.picture.as_ref().filter(|_| style.verbose) {
        line("  Picture:  ", &picture_words(shown));
        out.push('\n');
        out.push_str(&picture::lines(shown));
        out.push('\n');
    }
    let mut line = |first: &str, text: &str| out.push_str(&wrapped(style, first, &one_line(text)));
    let traces: usize = claim.arms.iter().map(|arm| arm.traces.len()).sum();
    if let Some(first) = claim.arms.iter().find_map(|arm| arm.traces.first()) {
        line(
            "  Traces:   ",
            &format!("{traces} kept; forktrace report {first}"),
        );
    }
    out
}

/// Expressions and paragraphs of a file can have several lines.
fn one_line(text: &str) -> String {
    clean(&text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// What a picture shows, or why there is none.
pub(super) fn picture_words(picture: &Picture) -> String {
    match (&picture.missing, &picture.run) {
        (Some(why), _) => format!("none: {why}."),
        (None, Some(run)) => format!("{} This is {run}.", picture.shows),
        (None, None) => picture.shows.clone(),
    }
}

/// Reasons for which runs were repeated that are told.
const REASONS: usize = 3;

pub(super) fn audit_words(audit: &Audit) -> String {
    let runs = quantity(audit.runs as u64, "run");
    let mut text = format!(
        "{runs}, {} with a complete trace: {} of {} context switches accounted for, {} records lost",
        if audit.runs == audit.runs_complete {
            "each".to_owned()
        } else {
            audit.runs_complete.to_string()
        },
        count(audit.switches_traced),
        count(audit.switches_kernel),
        count(audit.lost_records)
    );
    if audit.runs_repeated > 0 {
        let told = audit.repeated_because.len().min(REASONS);
        let _ = write!(
            text,
            "; {} more don't count and were done again ({}{})",
            audit.runs_repeated,
            audit.repeated_because[..told].join("; "),
            if told < audit.repeated_because.len() {
                "; …"
            } else {
                ""
            }
        );
    }
    text.push('.');
    for weakness in &audit.weaknesses {
        let _ = write!(text, " {weakness}");
    }
    text
}

pub(super) fn summary(outcome: &Outcome<'_>, style: Style) -> String {
    let of = |verdict| {
        let claims = outcome.claims.iter();
        claims.filter(|c| c.verdict == verdict).count()
    };
    let mut parts = Vec::new();
    for (number, word) in [
        (of(Verdict::Supported), "supported"),
        (of(Verdict::Refuted), "refuted"),
        (of(Verdict::NotTestable), "not testable here"),
        (of(Verdict::Inconclusive), "inconclusive"),
        (of(Verdict::Error), "could not be run"),
    ] {
        if number > 0 {
            parts.push(format!("{number} {word}"));
        }
    }
    let claims = quantity(outcome.claims.len() as u64, "claim");
    let machine = outcome.machine;
    let python = machine.python.as_ref().map_or(String::new(), |python| {
        format!(", {} {}", python.implementation, python.version)
    });
    let mode = match outcome.mode {
        Mode::Quick => "a quick run: few repetitions",
        Mode::Full => "a full run",
    };
    wrapped(
        style,
        "",
        &clean(&format!(
            "{claims}: {}. On Linux {}, {}, {} CPUs{python}; {mode}.",
            parts.join(", "),
            machine.kernel,
            machine.cpu_model.as_deref().unwrap_or(&machine.arch),
            machine.cpus
        )),
    )
}

pub(super) fn list(claims: &[Claim]) -> String {
    let longest = claims.iter().map(|claim| claim.id.len()).max().unwrap_or(0);
    claims
        .iter()
        .map(|claim| {
            wrapped(
                Style::PLAIN,
                &format!("{:longest$}  ", claim.id),
                &clean(&claim.statement),
            )
        })
        .collect()
}

pub(super) fn show(claim: &Claim, style: Style) -> String {
    let mut out = paint(style, Ink::Bold, &claim.id);
    out.push('\n');
    let mut line = |first: &str, text: &str| out.push_str(&wrapped(style, first, &one_line(text)));
    line("  Claim:      ", &claim.statement);
    if !claim.said_by.is_empty() {
        line("  Said by:    ", &claim.said_by.join("; "));
    }
    if !claim.denied_by.is_empty() {
        line("  Denied by:  ", &claim.denied_by.join("; "));
    }
    line("  Method:     ", &claim.method);
    for need in &claim.needs {
        line("  Needs:      ", need.that.expression.source());
    }
    for arm in &claim.arms {
        line(&format!("  Arm {}: ", arm.name), &arm_words(arm));
        for (name, placed) in &arm.measures {
            line(
                "    measures  ",
                &format!("{name} = {}", placed.expression.source()),
            );
        }
    }
    for (name, placed) in &claim.figures {
        line(
            "  Figure:     ",
            &format!("{name} = {}", placed.expression.source()),
        );
    }
    let mut rule = |name: &str, rule: &Rule| {
        line(name, rule.when.expression.source());
    };
    rule("  Control:    ", &claim.control);
    rule("  Supported:  ", &claim.supported);
    rule("  Refuted:    ", &claim.refuted);
    if let Some(not_testable) = &claim.not_testable {
        rule("  Not testable: ", not_testable);
    }
    match claim.picture.as_ref().map(|plan| &plan.of) {
        Some(Of::Moment(of)) => line(
            "  Picture:    ",
            &format!(
                "arm {}; moment = {}; tasks = {}",
                of.arm,
                of.moment.expression.source().trim(),
                of.tasks.expression.source().trim()
            ),
        ),
        Some(Of::Bars(bars)) => {
            for (label, placed) in bars {
                let bar = placed.expression.source().trim();
                line("  Picture:    ", &format!("a bar, {label} = {bar}"));
            }
        }
        None => {}
    }
    line("  File:       ", &claim.origin.name);
    out
}

fn arm_words(arm: &Arm) -> String {
    let params = |params: &[Param]| -> String {
        params
            .iter()
            .map(|param| {
                let values: Vec<_> = param.values.iter().map(ToString::to_string).collect();
                format!("{} = {}", param.name, values.join(" | "))
            })
            .collect::<Vec<_>>()
            .join(", ")
    };
    let mut text = arm.command.join(" ");
    if arm.params[0] == arm.params[1] {
        if !arm.params[0].is_empty() {
            let _ = write!(text, "; {}", params(&arm.params[0]));
        }
    } else {
        let _ = write!(
            text,
            "; quick: {}; full: {}",
            params(&arm.params[0]),
            params(&arm.params[1])
        );
    }
    if arm.optional {
        text.push_str("; left out where there is no python3");
    }
    let _ = write!(text, "; runs: {} or, in full, {}", arm.runs[0], arm.runs[1]);
    text
}
