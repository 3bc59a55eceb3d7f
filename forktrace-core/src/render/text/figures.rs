//! Figures and names as text.

use std::{borrow::Cow, fmt::Write as _};

use super::Style;

pub use crate::report::words::{count, duration};
pub(super) use crate::report::words::{
    first_listed, listed, percent, plural, quantity, recased, times,
};

/// What stands for zero in a table.
pub(super) const NONE: &str = "–";

/// The same for a table.
pub(super) fn duration_cell(ns: u64) -> String {
    if ns == 0 {
        NONE.to_owned()
    } else {
        duration(ns)
    }
}

/// The same for a table, where it never takes more than seven columns.
pub(super) fn count_cell(n: u64) -> String {
    match n {
        0 => NONE.to_owned(),
        1..1_000_000 => count(n),
        _ => {
            let mut scaled = (n, " ");
            for prefix in [" k", " M", " G", " T", " P", " E"] {
                if scaled.0 < 10_000 {
                    break;
                }
                scaled = (scaled.0 / 1000, prefix);
            }
            format!("{}{}", count(scaled.0), scaled.1)
        }
    }
}

/// Does a terminal show this character as it is, and as nothing else? Not so:
/// control characters, marks without a width, marks that reverse the text,
/// spaces that are no space.
pub(in crate::render) fn is_plain(c: char) -> bool {
    // The standard library's table of what a debug string need not escape; the
    // quotes and the backslash are in it for another reason.
    matches!(c, '"' | '\'' | '\\') || c.escape_debug().len() == 1
}

/// Text of unknown origin on one line, without a character that acts.
pub fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            _ => push_clean(&mut out, c),
        }
    }
    out
}

/// The same of text of our own that has such names in it: its lines and its backslashes stay.
pub fn clean_lines(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\\' => out.push(c),
            _ => push_clean(&mut out, c),
        }
    }
    out
}

/// The escapes are those of `$'…'` in bash, so that a command can be pasted.
fn push_clean(out: &mut String, c: char) {
    let code = u32::from(c);
    // Writing to a String can't fail.
    let _ = match c {
        _ if is_plain(c) => out.write_char(c),
        '\n' => out.write_str("\\n"),
        '\t' => out.write_str("\\t"),
        _ if c.is_ascii() => write!(out, "\\x{code:02x}"),
        _ if code < 0x1_0000 => write!(out, "\\u{code:04x}"),
        _ => write!(out, "\\U{code:08x}"),
    };
}

/// A command line as one would type it.
pub(in crate::render) fn command_line(argv: &[String]) -> String {
    let words: Vec<String> = argv.iter().map(|word| quoted(word)).collect();
    words.join(" ")
}

fn quoted(word: &str) -> String {
    let needs_none = |c: char| c.is_ascii_alphanumeric() || "-_=+:,./@%".contains(c);
    if !word.is_empty() && word.chars().all(needs_none) {
        word.to_owned()
    } else if word.chars().all(is_plain) {
        format!("'{}'", word.replace('\'', "'\\''"))
    } else {
        format!("$'{}'", clean(word).replace('\'', "\\'"))
    }
}

/// Columns that a text takes on a terminal.
pub fn width(text: &str) -> usize {
    text.chars().map(char_width).sum()
}

/// East Asian wide characters and emoji take two. What has no width is escaped before it is
/// shown, and never counts.
pub(super) fn char_width(c: char) -> usize {
    unicode_width::UnicodeWidthChar::width(c).unwrap_or(0)
}

/// The text in characters that the terminal has: where it is to be ASCII, ours as others that
/// are like them, and those of names escaped.
pub(super) fn plain(style: Style, text: &str) -> Cow<'_, str> {
    if !style.ascii || text.is_ascii() {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            _ if c.is_ascii() => out.push(c),
            'µ' => out.push('u'),
            '–' | '─' => out.push('-'),
            '…' => out.push('~'),
            '×' => out.push('x'),
            '±' => out.push_str("+-"),
            '≥' => out.push_str(">="),
            '≤' => out.push_str("<="),
            '⇄' => out.push_str("<>"),
            '←' => out.push_str("<-"),
            '↔' => out.push_str("<->"),
            '█' | '▉' | '▊' | '▋' | '▌' | '▍' | '▎' | '▏' => out.push('#'),
            '▒' => out.push('+'),
            '░' => out.push('.'),
            _ => out.push_str(&format!("\\u{:04x}", u32::from(c))),
        }
    }
    Cow::Owned(out)
}

/// The text, or its beginning and `…` where it is too long.
pub fn shortened(style: Style, text: &str, columns: usize) -> String {
    let text = &*plain(style, text);
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut used = 1;
    for c in text.chars() {
        used += char_width(c);
        if used > columns {
            break;
        }
        out.push(c);
    }
    out.truncate(out.trim_end().len());
    out.push_str(&plain(style, "…"));
    out
}

/// The text without its middle where it is too long: of a command line and of a path the end
/// tells as much as the begin.
pub fn elided(style: Style, text: &str, columns: usize) -> String {
    let text = &*plain(style, text);
    if width(text) <= columns {
        return text.to_owned();
    }
    let dots = plain(style, "…");
    let room = columns.saturating_sub(width(&dots));
    let (mut begin, mut used) = (String::new(), 0);
    for c in text.chars() {
        used += char_width(c);
        if used > room * 3 / 5 {
            break;
        }
        begin.push(c);
    }
    let room = room.saturating_sub(width(&begin));
    let (mut end, mut used) = (Vec::new(), 0);
    for c in text.chars().rev() {
        used += char_width(c);
        if used > room {
            break;
        }
        end.push(c);
    }
    let end: String = end.iter().rev().collect();
    format!("{}{dots}{}", begin.trim_end(), end.trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_a_long_text_goes() {
        let command = "sh -c 'sleep 1.2; echo \"#define GEN 1\" > gen.h'";
        assert_eq!(
            elided(Style::PLAIN, command, 24),
            "sh -c 'sleep…\" > gen.h'"
        );
        assert_eq!(elided(Style::PLAIN, "/short", 24), "/short");
        for columns in 1..60 {
            for style in [
                Style::PLAIN,
                Style {
                    ascii: true,
                    ..Style::PLAIN
                },
            ] {
                assert!(
                    width(&elided(style, command, columns)) <= columns,
                    "{columns}"
                );
                assert!(width(&elided(style, &"日本".repeat(20), columns)) <= columns);
            }
        }
    }

    #[test]
    fn names_in_our_own_text_do_not_act_and_its_lines_stay() {
        let text = "1 (a\x1b]0;b\x07\u{202e}) has ended:\n  C:\\d";
        let shown = "1 (a\\x1b]0;b\\x07\\u202e) has ended:\n  C:\\d";
        assert_eq!(clean_lines(text), shown);
    }

    #[test]
    fn durations_have_three_digits_and_round_into_the_next_unit() {
        for (ns, text) in [
            (0, "0 s"),
            (1, "1 ns"),
            (999, "999 ns"),
            (1_000, "1.00 µs"),
            (1_004, "1.00 µs"),
            (1_005, "1.01 µs"),
            (9_994, "9.99 µs"),
            (9_995, "10.0 µs"),
            (99_950, "100 µs"),
            (999_499, "999 µs"),
            (999_500, "1.00 ms"),
            (12_345_678, "12.3 ms"),
            (999_600_000, "1.00 s"),
            (4_020_000_000, "4.02 s"),
            (59_960_000_000, "60.0 s"),
            (999_499_999_999, "999 s"),
            (999_500_000_000, "1,000 s"),
            (86_400_000_000_000, "86,400 s"),
            (u64::MAX, "18,446,744,074 s"),
        ] {
            assert_eq!(duration(ns), text, "{ns} ns");
        }
        assert_eq!(duration_cell(0), "–");
        assert_eq!(duration_cell(5), "5 ns");
    }

    #[test]
    fn only_nothing_is_0_percent_and_only_the_whole_is_100() {
        for (part, whole, text) in [
            (0, 10, "0 %"),
            (0, 0, "0 %"),
            (1, 1_000_000, "<0.1 %"),
            (1, 2_000, "0.1 %"),
            (1, 3, "33.3 %"),
            (62, 100, "62.0 %"),
            (9_994, 10_000, "99.9 %"),
            (9_995, 10_000, ">99.9 %"),
            (u64::MAX - 1, u64::MAX, ">99.9 %"),
            (10, 10, "100 %"),
            (15, 10, "150.0 %"),
            (10_001, 10_000, "100.0 %"),
        ] {
            assert_eq!(percent(part, whole), text, "{part} of {whole}");
        }
    }

    #[test]
    fn counts_have_their_thousands_apart_and_stay_narrow_in_tables() {
        for (n, sentence, cell) in [
            (0, "0", "–"),
            (999, "999", "999"),
            (1_000, "1,000", "1,000"),
            (999_999, "999,999", "999,999"),
            (1_234_567, "1,234,567", "1,234 k"),
            (18_000_000, "18,000,000", "18 M"),
            (u64::MAX, "18,446,744,073,709,551,615", "18 E"),
        ] {
            assert_eq!(count(n), sentence);
            assert_eq!(count_cell(n), cell);
        }
        assert_eq!(quantity(1, "process"), "1 process");
        assert_eq!(quantity(0, "process"), "0 processes");
        assert_eq!(quantity(1_200, "thread"), "1,200 threads");
    }

    #[test]
    fn names_cannot_act_on_the_terminal() {
        for (name, shown) in [
            ("python3", "python3"),
            ("it's \"it\"", "it's \"it\""),
            ("back\\slash", "back\\\\slash"),
            ("\u{1b}[2J", "\\x1b[2J"),
            ("a\r\nb\tc\u{7f}", "a\\x0d\\nb\\tc\\x7f"),
            ("\u{9b}2J", "\\u009b2J"),
            ("\u{202e}txt", "\\u202etxt"),
            ("a\u{300}\u{200b}", "a\\u0300\\u200b"),
            ("\u{e0001}", "\\U000e0001"),
            ("日本", "日本"),
        ] {
            assert_eq!(clean(name), shown);
        }
    }

    #[test]
    fn a_command_line_can_be_pasted() {
        let line = |words: &[&str]| {
            command_line(
                &words
                    .iter()
                    .map(|&word| word.to_owned())
                    .collect::<Vec<_>>(),
            )
        };
        assert_eq!(
            line(&["python3", "service.py", "-p=80"]),
            "python3 service.py -p=80"
        );
        assert_eq!(
            line(&["sh", "-c", "sleep 1 & wait"]),
            "sh -c 'sleep 1 & wait'"
        );
        assert_eq!(
            line(&["echo", "", "it's", "a\\b"]),
            "echo '' 'it'\\''s' 'a\\b'"
        );
        assert_eq!(line(&["echo", "\u{1b}'\n"]), "echo $'\\x1b\\'\\n'");
    }

    #[test]
    fn shortening_counts_columns() {
        assert_eq!(shortened(Style::default(), "selector", 8), "selector");
        assert_eq!(shortened(Style::default(), "selectors", 8), "selecto…");
        assert_eq!(shortened(Style::default(), "日本語日本語", 6), "日本…");
        assert_eq!(shortened(Style::default(), "select (x)", 8), "select…");
        assert_eq!(shortened(Style::default(), "abc", 1), "…");
        assert_eq!(width("日本…"), 5);
        // Emoji outside of the blocks that hold nothing else.
        assert_eq!(width("⌚⏰☔⚡✅⭐"), 12);
        assert_eq!(width("µ×⇄–"), 4);
    }
}
