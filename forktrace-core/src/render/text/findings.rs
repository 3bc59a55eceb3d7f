//! What is worth telling: the first sentence of a report, and the others below it.

use super::{
    View,
    figures::clean,
    layout::{Ink, paint, wrapped},
};

/// Findings that are shown without `-v`, the first one included.
const FINDINGS: usize = 5;

pub(super) fn section(view: &View<'_>) -> String {
    let findings = &view.report.findings;
    let Some((first, others)) = findings.split_first() else {
        return String::new();
    };
    let mut out = paint(
        view.style,
        Ink::Bold,
        &wrapped("  ", &clean(&first.sentence)),
    );
    let shown = match view.style.verbose {
        true => others.len(),
        false => others.len().min(FINDINGS - 1),
    };
    for finding in &others[..shown] {
        out.push_str(&wrapped("  - ", &clean(&finding.sentence)));
    }
    if shown < others.len() {
        let rest = others.len() - shown;
        out.push_str(&format!(
            "    … and {rest} more (-v shows all; --format json has them)\n"
        ));
    }
    out
}
