//! The report for programs: its structure as serde writes it.

use std::io::{self, Write};

use super::text::figures::is_plain;
use crate::report::Report;

/// Writes it piece by piece: a report of many tasks is long.
pub(super) fn write(report: &Report, to: impl Write) -> io::Result<()> {
    let mut to = Escaping(to);
    serde_json::to_writer_pretty(&mut to, report)?;
    to.write_all(b"\n")
}

/// Ready to be printed, ending in a newline.
pub fn escaped(json: &str) -> String {
    let mut out = Vec::with_capacity(json.len() + 1);
    let mut to = Escaping(&mut out);
    let written = to.write_all(json.as_bytes());
    written
        .and_then(|()| to.write_all(b"\n"))
        .expect("memory takes all that is UTF-8");
    String::from_utf8(out).expect("what is written is UTF-8")
}

/// Escapes what serde_json does not: it escapes the ASCII control characters only. The
/// others, and the marks that reverse the direction of text, would reach a terminal. Outside
/// strings JSON is ASCII, so each of these is inside one.
struct Escaping<W>(W);

impl<W: Write> Write for Escaping<W> {
    /// Takes whole characters only, as serde_json writes them.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = std::str::from_utf8(bytes).map_err(io::Error::other)?;
        let is_plain = |c: char| is_plain(c) || c == '\n';
        let mut rest = text;
        while let Some(at) = rest.find(|c| !is_plain(c)) {
            let (plain, from) = rest.split_at(at);
            self.0.write_all(plain.as_bytes())?;
            let mut chars = from.chars();
            if let Some(c) = chars.next() {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(self.0, "\\u{unit:04x}")?;
                }
            }
            rest = chars.as_str();
        }
        self.0.write_all(rest.as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::{
        render::samples,
        report::{schema, schema_check::check},
    };

    fn render(report: &Report) -> String {
        let mut out = Vec::new();
        write(report, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_would_reach_a_terminal_is_escaped_and_nothing_else() {
        let json = "{\n  \"a\u{9b}\": \"\u{202e}x\u{10ffff}\u{fc}\"\n}";
        let shown = escaped(json);
        assert_eq!(
            shown,
            "{\n  \"a\\u009b\": \"\\u202ex\\udbff\\udfff\u{fc}\"\n}\n"
        );
        let value: Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(value, serde_json::from_str::<Value>(json).unwrap());
    }

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
