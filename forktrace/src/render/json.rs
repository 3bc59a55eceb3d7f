//! The report for programs: its structure as serde writes it.

use std::fmt::Write as _;

use super::text::figures::is_plain;
use crate::report::Report;

pub(super) fn render(report: &Report) -> String {
    let json = serde_json::to_string_pretty(report)
        .expect("a report holds no map, so serde_json has no key to refuse");
    let mut out = String::with_capacity(json.len() + 1);
    for c in json.chars() {
        // serde_json escapes the ASCII control characters only. The others, and
        // the marks that reverse the direction of text, would reach a terminal.
        // Outside strings JSON is ASCII, so each of these is inside one.
        if is_plain(c) || c == '\n' {
            out.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a String can't fail.
                let _ = write!(out, "\\u{unit:04x}");
            }
        }
    }
    out.push('\n');
    out
}
