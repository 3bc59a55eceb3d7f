//! The page that a report for people is written on: how wide it is, and what it can show.

use std::{
    io::{self, IsTerminal as _},
    os::fd::BorrowedFd,
};

use forktrace_core::render::Style;
use rustix::termios::tcgetwinsize;

use crate::cli::{Color, OutputArgs};

/// Columns of a page that is no terminal.
const COLUMNS: usize = 100;
/// Columns of a terminal that are used: no table fits less, and no eye follows more.
const NARROWEST: usize = 72;
const WIDEST: usize = 160;

/// How a report looks on this page; `terminal`: the one that it is shown on.
pub(super) fn style(args: &OutputArgs, terminal: Option<BorrowedFd<'_>>) -> Style {
    Style {
        verbose: args.verbose,
        views: args.show.iter().copied().collect(),
        ..style_of(args.color, terminal)
    }
}

/// The same of what has no views.
pub(super) fn style_of(color: Color, terminal: Option<BorrowedFd<'_>>) -> Style {
    let env = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    Style {
        color: wants_color(color, terminal.is_some()),
        ascii: !is_utf8(["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(env)),
        columns: columns(
            terminal.and_then(|fd| Some(usize::from(tcgetwinsize(fd).ok()?.ws_col))),
            env("COLUMNS"),
        ),
        ..Style::PLAIN
    }
}

/// Whether to use colour.
pub(super) fn wants_color(color: Color, terminal: bool) -> bool {
    match color {
        Color::Always => true,
        Color::Never => false,
        // https://no-color.org: set and not empty.
        Color::Auto => terminal && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()),
    }
}

/// The columns of the terminal, else what the environment asks for.
fn columns(terminal: Option<usize>, env: Option<String>) -> usize {
    let asked = env.and_then(|columns| columns.parse().ok());
    match terminal.filter(|columns| *columns > 0).or(asked) {
        Some(columns) => columns.clamp(NARROWEST, WIDEST),
        None => COLUMNS,
    }
}

/// Does the locale have other characters than those of ASCII? Where none is set, as in
/// services and under some `sudo`s, what reads the report decides, and that is UTF-8.
fn is_utf8(locale: Option<String>) -> bool {
    locale.is_none_or(|locale| {
        let locale = locale.to_ascii_lowercase();
        locale.ends_with("utf-8") || locale.ends_with("utf8") || locale.contains("utf-8@")
    })
}

/// A line between what the command has printed and the report, where both go to a terminal.
pub(super) fn rule(style: &Style) -> String {
    let both = io::stdout().is_terminal() && io::stderr().is_terminal();
    let line = if style.ascii { "-" } else { "─" };
    match both {
        true => line.repeat(style.columns) + "\n",
        false => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_terminal_says_how_wide_the_page_is_then_the_environment() {
        let env = |columns: &str| Some(columns.to_owned());
        assert_eq!(columns(Some(120), env("80")), 120);
        assert_eq!(columns(Some(0), env("80")), 80);
        assert_eq!(columns(None, env("80")), 80);
        assert_eq!(columns(None, env("wide")), 100);
        assert_eq!(columns(None, None), 100);
        assert_eq!(columns(Some(20), None), 72);
        assert_eq!(columns(Some(1_000), None), 160);
    }

    #[test]
    fn a_locale_without_utf_8_gets_ascii() {
        for (locale, utf8) in [
            ("C", false),
            ("POSIX", false),
            ("de_DE.ISO-8859-1", false),
            ("C.UTF-8", true),
            ("en_GB.utf8", true),
            ("ca_ES.UTF-8@valencia", true),
        ] {
            assert_eq!(is_utf8(Some(locale.to_owned())), utf8, "{locale}");
        }
        assert!(is_utf8(None));
    }
}
