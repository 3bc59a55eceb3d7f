//! A comparison for a pull request: GitHub's Markdown.

use forktrace_core::{
    diff::Diff,
    render::text::sheets::{
        HEADS, SHORT, Sheet, left_out, notes, rest, sentences, share, sheets, side,
    },
};

/// Tables that are shown at once; the others can be unfolded.
const AT_ONCE: usize = 2;

pub(super) fn render(diff: &Diff) -> String {
    let (first, more) = sentences(diff);
    let mut out = format!("**{}**\n\n", escaped(&first));
    for sentence in more {
        out += &format!("- {}\n", escaped(&sentence));
    }
    out.push('\n');
    for (name, of) in [("A", &diff.base), ("B", &diff.new)] {
        out += &format!("- **{name}** is {}\n", escaped(&side(of)));
    }
    let with_interval = diff.wall.low_ns.is_some();
    for (at, sheet) in sheets(diff, Some(SHORT)).iter().enumerate() {
        let table = table(sheet, with_interval);
        out += &match at < AT_ONCE {
            true => format!("\n### {}\n\n{table}", sheet.title),
            false => format!(
                "\n<details><summary>{}</summary>\n\n{table}\n</details>\n",
                sheet.title
            ),
        };
    }
    let left_out = left_out(diff, SHORT).map(|what| format!("{what}."));
    for note in notes(diff).into_iter().chain(left_out) {
        out += &format!("\n> {}\n", escaped(&note));
    }
    out
}

fn table(sheet: &Sheet, with_interval: bool) -> String {
    let mut out = "| | A | B | change | % |".to_owned();
    if with_interval {
        out += &format!(" {} |", HEADS[3]);
    }
    out += "\n|---|--:|--:|--:|--:|";
    out += if with_interval { "--:|\n" } else { "\n" };
    for row in &sheet.rows {
        let [a, b, change, interval] = row.cells();
        let what = escaped(&row.what);
        out += &format!("| {what} | {a} | {b} | {change} | {} |", share(&row.change));
        if with_interval {
            out += &format!(" {interval} |");
        }
        out.push('\n');
    }
    if let Some(rest) = rest(sheet) {
        out += &format!("\n{rest}\n");
    }
    if !sheet.about.is_empty() {
        out += &format!("\n{}\n", sheet.about);
    }
    out
}

/// Nothing of a name is markup, a mention or a link. Back quotes are ours, around names.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            // As entities they stay what they are, in a table too.
            '|' => out.push_str("&#124;"),
            '`' => out.push_str("&#96;"),
            '@' => out.push_str("&#64;"),
            '#' => out.push_str("&#35;"),
            // An address would become a link.
            '/' if out.ends_with(':') => out.push_str("&#47;"),
            '\\' | '*' | '_' | '[' | ']' | '!' | '~' | '$' => {
                out.push('\\');
                out.push(c);
            }
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn a_name_is_no_markup() {
        assert_eq!(
            escaped("`a|b` <script> [x](y) @all #1 *b*"),
            "&#96;a&#124;b&#96; &lt;script&gt; \\[x\\](y) &#64;all &#35;1 \\*b\\*"
        );
    }
}
