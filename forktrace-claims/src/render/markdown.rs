//! Claims for a page.

use std::fmt::Write as _;

use super::{Outcome, picture, text};
use crate::{Claim, Mode, Settled};
use forktrace_core::render::text::figures::clean;

pub(super) fn outcome(outcome: &Outcome<'_>) -> String {
    let machine = outcome.machine;
    let mut out = String::new();
    // Writing to a string can't fail.
    let _ = writeln!(
        out,
        "Linux {}, {}, {} CPUs; forktrace {}{}; {}.\n",
        machine.kernel,
        machine.cpu_model.as_deref().unwrap_or(&machine.arch),
        machine.cpus,
        machine.forktrace,
        machine.python.as_ref().map_or(String::new(), |python| {
            format!("; {} {}", python.implementation, python.version)
        }),
        match outcome.mode {
            Mode::Quick => "quick run",
            Mode::Full => "full run",
        }
    );
    out.push_str("| claim | verdict | why |\n|---|---|---|\n");
    for claim in outcome.claims {
        let _ = writeln!(
            out,
            "| {} | {} | {} |",
            link(&claim.id),
            claim.verdict,
            cell(&claim.reason),
        );
    }
    for claim in outcome.claims {
        out.push_str(&settled(claim));
    }
    out
}

fn settled(claim: &Settled) -> String {
    let mut out = format!("\n## {}\n\n", claim.id);
    let mut paragraph = |name: &str, text: &str| {
        let _ = writeln!(out, "**{name}** {}\n", escaped(text));
    };
    paragraph("Claim:", &claim.statement);
    paragraph("Said by:", &claim.said_by.join("; "));
    if !claim.denied_by.is_empty() {
        paragraph("Denied by:", &claim.denied_by.join("; "));
    }
    paragraph("How it was tested:", &claim.method);
    paragraph(&format!("Verdict: {}.", claim.verdict), &claim.reason);
    if let Some(control) = &claim.control {
        paragraph("Control:", &control.text);
    }
    if let Some(audit) = &claim.audit {
        paragraph("Audit:", &text::audit_words(audit));
    }
    if let Some(error) = &claim.error {
        paragraph(
            "Error:",
            &format!("{}:{}: {}", error.file, error.line, error.message),
        );
    }
    if let Some(shown) = &claim.picture {
        paragraph("Picture:", &text::picture_words(shown));
        if shown.missing.is_none() {
            let _ = writeln!(out, "```text\n{}```\n", picture::lines(shown));
        }
    }
    out
}

pub(super) fn list(claims: &[Claim]) -> String {
    let mut out = String::from("| claim | |\n|---|---|\n");
    for claim in claims {
        let _ = writeln!(out, "| {} | {} |", claim.id, cell(&claim.statement));
    }
    out
}

pub(super) fn show(claim: &Claim) -> String {
    let shown = text::show(claim, forktrace_core::render::Style::default());
    format!("## {}\n\n```\n{shown}```\n", claim.id)
}

/// To the heading of a claim. A file that can't be used has a path in place of an id, and its
/// heading another name in each renderer.
fn link(id: &str) -> String {
    let is_id = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    match id.chars().all(is_id) {
        true => format!("[{id}](#{id})"),
        false => cell(id),
    }
}

/// Characters that mean something in Markdown.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in clean(text).chars() {
        if matches!(c, '*' | '_' | '`' | '<' | '>' | '[' | ']' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

fn cell(text: &str) -> String {
    escaped(text).replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::link;

    #[test]
    fn links_lead_to_headings() {
        assert_eq!(link("gil-serialises"), "[gil-serialises](#gil-serialises)");
        assert_eq!(link("./my_mine.toml"), "./my\\_mine.toml");
    }
}
