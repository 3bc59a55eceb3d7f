//! The report for programs: its structure as serde writes it.

use std::fmt::Write as _;

use super::text::figures::is_plain;
use crate::report::Report;

pub(super) fn render(report: &Report) -> String {
    let json = serde_json::to_string_pretty(report).expect(
        "a report holds no map with other keys than text, so serde_json has none to refuse",
    );
    escaped(&json)
}

/// Ready to be printed, ending in a newline.
pub fn escaped(json: &str) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        render::samples,
        report::{schema, schema_check::check},
    };

    fn errors_of(json: &str) -> Vec<String> {
        check(schema().as_value(), &serde_json::from_str(json).unwrap())
    }

    #[test]
    fn reports_are_as_their_schema_says() {
        for report in samples::all() {
            let json = render(&report);
            assert_eq!(errors_of(&json), Vec::<String>::new());
            assert!(json.ends_with("}\n"));
        }
    }

    #[test]
    fn the_check_finds_what_is_wrong() {
        let json = render(&samples::sleeper());
        for (from, to, error) in [
            ("\"complete\": true", "\"complete\": 1", "/audit/complete: "),
            ("\"tree\"", "\"forest\"", "/groups/0/kind: "),
            ("\"tid\": 4121", "\"tid\": -1", "/tasks/0/tid: "),
            ("\"ppid\"", "\"parent\"", "/tasks/0: \"ppid\" is a required"),
            ("\"ppid\"", "\"parent\"", "/tasks/0: Additional properties"),
            (
                "\"schema_version\": 1",
                "\"schema_version\": 2",
                "/schema_version: ",
            ),
        ] {
            assert!(json.contains(from));
            let errors = errors_of(&json.replace(from, to));
            assert!(
                errors.iter().any(|found| found.starts_with(error)),
                "{error}: {errors:?}"
            );
        }
    }
}
