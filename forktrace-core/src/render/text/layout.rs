//! Lines, tables and colour.

use super::{
    Style,
    figures::{char_width, elided, plain, width},
};

/// Units stay with their number when a line is broken.
const UNITS: [&str; 5] = ["ns", "µs", "ms", "s", "%"];

/// Breaks a text into lines that begin with `first` and, from the second on,
/// with as many spaces. Ends in a newline.
pub fn wrapped(style: Style, first: &str, text: &str) -> String {
    let (first, text) = (&*plain(style, first), &*plain(style, text));
    let indent = width(first);
    // A name that long leaves no column for the text.
    if indent > style.columns / 2 && !text.is_empty() {
        return wrapped(style, "  ", &format!("{} {text}", first.trim()));
    }
    let room = style.columns.saturating_sub(indent).max(1);
    let mut lines = vec![String::new()];
    for word in words(text) {
        let mut line = lines.pop().unwrap_or_default();
        if !line.is_empty() && width(&line) + 1 + width(&word) > room {
            lines.push(std::mem::take(&mut line));
        } else if !line.is_empty() {
            line.push(' ');
        }
        // A word wider than a line, such as a path, is cut.
        let mut used = width(&line);
        for c in word.chars() {
            if used + char_width(c) > room {
                lines.push(std::mem::take(&mut line));
                used = 0;
            }
            line.push(c);
            used += char_width(c);
        }
        lines.push(line);
    }
    let mut out = String::new();
    for (at, line) in lines.iter().enumerate() {
        if at == 0 {
            out.push_str(first);
        } else {
            out.push_str(&" ".repeat(indent));
        }
        out.push_str(line);
        out.push('\n');
    }
    out
}

fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let unit = word.trim_end_matches(|c: char| !c.is_alphanumeric() && c != '%');
        match words.last_mut() {
            Some(last) if UNITS.contains(&unit) => {
                last.push(' ');
                last.push_str(word);
            }
            _ => words.push(word.to_owned()),
        }
    }
    words
}

/// How a text stands out; without colour it stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ink {
    /// The answer.
    Bold,
    /// Headings.
    Dim,
    /// All is well.
    Good,
    /// It is not.
    Bad,
    /// A task ran.
    Running,
    /// It wanted a CPU.
    Runnable,
    /// It was blocked.
    Blocked,
    /// It was stopped.
    Stopped,
    /// What it did is not known.
    Unknown,
}

/// Paints each line of a text on its own: a pager shows any part of it right.
pub fn paint(style: Style, ink: Ink, text: &str) -> String {
    if !style.color {
        return text.to_owned();
    }
    let code = match ink {
        Ink::Bold => "1",
        Ink::Dim => "2",
        Ink::Good | Ink::Running => "32",
        Ink::Bad => "1;31",
        Ink::Runnable => "33",
        Ink::Blocked => "34",
        Ink::Stopped => "35",
        Ink::Unknown => "31",
    };
    let mut out = String::new();
    for line in text.split_inclusive('\n') {
        let body = line.strip_suffix('\n').unwrap_or(line);
        out.push_str(&format!("\x1b[{code}m{body}\x1b[0m{}", &line[body.len()..]));
    }
    out
}

/// How a state is drawn. Each has a shape of its own, so that colour is never alone.
pub(super) fn glyph(state: Ink) -> &'static str {
    match state {
        Ink::Running => "█",
        Ink::Runnable => "▒",
        Ink::Blocked => "░",
        Ink::Stopped => "s",
        _ => "?",
    }
}

/// A bar of a state: something is at least one column.
pub(super) fn state_bar(style: Style, state: Ink, part: u64, whole: u64, room: usize) -> String {
    let columns = u128::from(part) * room as u128 * 2 / u128::from(whole.max(1));
    let columns = (columns as usize).div_ceil(2).clamp(1, room);
    let glyph = plain(style, glyph(state)).into_owned();
    let bar = paint(style, state, &glyph.repeat(columns));
    bar + &" ".repeat(room - columns)
}

/// On which side of its column a cell stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

struct Column {
    head: &'static str,
    side: Side,
    /// A column that gives way when the table is too wide, and how far.
    least: Option<usize>,
    /// Where there is no room, the highest of these is left out first; 0: it never is.
    spare: usize,
    cells: Vec<String>,
}

/// What a column of prose needs at least.
const PROSE: usize = 24;

/// What a column of text has left where the page has no room for more.
const TEXT: usize = 5;

/// A table that fits the page.
#[derive(Default)]
pub(super) struct Table {
    columns: Vec<Column>,
    /// The last column, whose cells are broken into lines.
    prose: Option<(&'static str, Vec<String>)>,
}

impl Table {
    /// Adds a column of numbers.
    pub(super) fn number(&mut self, head: &'static str, cells: Vec<String>) {
        self.columns.push(Column {
            head,
            side: Side::Right,
            least: None,
            spare: 0,
            cells,
        });
    }

    /// Lets the column that was added last go where the page has no room for it, after those
    /// of a higher rank.
    pub(super) fn spare(&mut self, rank: usize) {
        if let Some(column) = self.columns.last_mut() {
            column.spare = rank;
        }
    }

    /// Adds a column of text that may be shortened to `least` columns.
    pub(super) fn text(&mut self, head: &'static str, least: usize, cells: Vec<String>) {
        self.columns.push(Column {
            head,
            side: Side::Left,
            least: Some(least),
            spare: 0,
            cells,
        });
    }

    /// Adds a column at the end whose cells take as many lines as they need.
    pub(super) fn prose(&mut self, head: &'static str, cells: Vec<String>) {
        self.prose = Some((head, cells));
    }

    /// The table, indented by two, with its heads.
    pub(super) fn into_text(mut self, style: Style) -> String {
        for column in &mut self.columns {
            for cell in &mut column.cells {
                *cell = plain(style, cell).into_owned();
            }
        }
        // Beyond the middle of the page `wrapped` would leave the column of prose.
        let room = match self.prose {
            Some(_) => (style.columns - PROSE - 2).min(style.columns / 2 - 2),
            None => style.columns,
        };
        let widths = loop {
            let mut widths = self.widths(room);
            let spare = (0..self.columns.len())
                .filter(|&at| self.columns[at].spare > 0)
                .max_by_key(|&at| self.columns[at].spare);
            match spare {
                Some(at) if widths.iter().map(|width| width + 2).sum::<usize>() > room => {
                    self.columns.remove(at);
                }
                _ => {
                    self.shorten(&mut widths, room, |_| TEXT);
                    break widths;
                }
            }
        };
        let heads = self.columns.iter().map(|column| column.head);
        let head = self.prose.as_ref().map(|(head, _)| *head);
        let mut out = paint(
            style,
            Ink::Dim,
            &Self::with(style, self.line(style, &widths, heads), head),
        );
        let rows = self.columns.first().map_or(0, |column| column.cells.len());
        for row in 0..rows {
            let cells = self
                .columns
                .iter()
                .map(|column| column.cells.get(row).map_or("", String::as_str));
            let cell = self.prose.as_ref().and_then(|(_, cells)| cells.get(row));
            let line = self.line(style, &widths, cells);
            out.push_str(&Self::with(style, line, cell.map(String::as_str)));
        }
        out
    }

    /// A line, and beside it a cell that may need more lines.
    fn with(style: Style, line: String, prose: Option<&str>) -> String {
        match prose {
            Some(prose) => wrapped(style, &format!("{}  ", line.trim_end()), prose),
            None => line,
        }
    }

    fn widths(&self, room: usize) -> Vec<usize> {
        let mut widths: Vec<usize> = self
            .columns
            .iter()
            .map(|column| {
                let cells = column.cells.iter().map(|cell| width(cell));
                cells.chain([width(column.head)]).max().unwrap_or(0)
            })
            .collect();
        self.shorten(&mut widths, room, |least| least);
        widths
    }

    /// Makes the widest columns of text smaller until all fit, each down to what `floor` says
    /// of its least.
    fn shorten(&self, widths: &mut [usize], room: usize, floor: fn(usize) -> usize) {
        // Two columns of space before each.
        while widths.iter().map(|width| width + 2).sum::<usize>() > room {
            let widest = (0..widths.len())
                .filter(|&at| {
                    self.columns[at]
                        .least
                        .is_some_and(|least| widths[at] > floor(least))
                })
                .max_by_key(|&at| widths[at]);
            match widest {
                Some(at) => widths[at] -= 1,
                None => break,
            }
        }
    }

    fn line<'a>(
        &self,
        style: Style,
        widths: &[usize],
        cells: impl Iterator<Item = &'a str>,
    ) -> String {
        let mut line = String::new();
        for ((cell, column), &room) in cells.zip(&self.columns).zip(widths) {
            // The end of a name or of a command tells as much as its begin.
            let cell = elided(style, cell, room);
            let space = " ".repeat(room - width(&cell));
            line.push_str("  ");
            match column.side {
                Side::Left => line.push_str(&(cell + &space)),
                Side::Right => line.push_str(&(space + &cell)),
            }
        }
        line.truncate(line.trim_end().len());
        line.push('\n');
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_between_words_but_not_before_a_unit() {
        let text = format!("{} 4.02 s, and more", "x".repeat(92));
        let expected = format!("  {}\n  4.02 s, and more\n", "x".repeat(92));
        assert_eq!(wrapped(Style::default(), "  ", &text), expected);
    }

    #[test]
    fn a_word_that_is_too_long_is_cut() {
        let text = format!("see {}", "y".repeat(150));
        let expected = format!("- see\n  {}\n  {}\n", "y".repeat(98), "y".repeat(52));
        assert_eq!(wrapped(Style::default(), "- ", &text), expected);
    }

    #[test]
    fn a_table_fits_though_its_text_is_no_longer_than_what_it_should_have() {
        let mut table = Table::default();
        table.text("NAME", 30, vec!["x".repeat(28)]);
        for head in ["WAITED", "WAITS", "TASKS", "LONGEST", "ALL"] {
            table.number(head, vec!["12.3 ms".to_owned()]);
        }
        let style = Style {
            columns: 72,
            ..Style::default()
        };
        let text = table.into_text(style);
        assert!(text.lines().all(|line| width(line) <= 72), "{text}");
    }

    #[test]
    fn a_wide_table_shortens_its_text() {
        let mut table = Table::default();
        table.number("N", vec!["1".to_owned()]);
        table.text("NAME", 4, vec!["z".repeat(120)]);
        let text = table.into_text(Style::default());
        let (begin, end) = ("z".repeat(56), "z".repeat(38));
        assert_eq!(text, format!("  N  NAME\n  1  {begin}…{end}\n"));
    }

    #[test]
    fn prose_takes_as_many_lines_as_it_needs() {
        let mut table = Table::default();
        table.number("N", vec!["1".to_owned(), "23".to_owned()]);
        table.prose("WHY", vec!["why ".repeat(30), "so".to_owned()]);
        let why = |times| vec!["why"; times].join(" ");
        let lines = format!("   N  WHY\n   1  {}\n      {}\n  23  so\n", why(23), why(7));
        assert_eq!(table.into_text(Style::default()), lines);
    }

    #[test]
    fn each_line_is_painted_on_its_own() {
        let style = Style {
            color: true,
            ..Style::default()
        };
        assert_eq!(
            paint(style, Ink::Bold, "a\nb\n"),
            "\x1b[1ma\x1b[0m\n\x1b[1mb\x1b[0m\n"
        );
        assert_eq!(paint(Style::default(), Ink::Bold, "a\n"), "a\n");
    }
}
