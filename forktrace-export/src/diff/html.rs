//! A comparison as a page: before and after side by side, in one file that asks for nothing.

use forktrace_core::{
    diff::Diff,
    render::text::sheets::{Row, Sheet, notes, others, rest, sentences, share, sheets, side},
};

use crate::html::{escaped, marked_up};

const HEAD: &str = r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>forktrace diff</title>
<style>
:root { color-scheme: light dark; --a: #0072b2; --b: #d55e00; --line: #8884; }
@media (prefers-color-scheme: dark) { :root { --a: #56b4e9; --b: #e69f00; } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.3rem; }
h2 { font-size: 1rem; margin: 2rem 0 .5rem; }
table { border-collapse: collapse; width: 100%; }
th, td { padding: .2rem .6rem; border-bottom: 1px solid var(--line); text-align: right;
  white-space: nowrap; font-variant-numeric: tabular-nums; }
td.bar { width: 16%; }
th:last-child, td:last-child { text-align: left; white-space: normal; overflow-wrap: anywhere; }
.bar div { height: .7rem; }
.a div { background: var(--a); margin-left: auto; }
.b div { background: var(--b); }
.chance, .about { opacity: .7; }
</style>
</head>
<body>
<main>
"#;

pub(super) fn render(diff: &Diff) -> String {
    let (first, more) = sentences(diff);
    let mut out = HEAD.to_owned();
    out += &format!("<h1>{}</h1>\n<ul>\n", marked_up(&first));
    for sentence in more {
        out += &format!("<li>{}</li>\n", marked_up(&sentence));
    }
    out += "</ul>\n<dl>\n";
    for (name, of) in [("A", &diff.base), ("B", &diff.new)] {
        out += &format!("<dt>{name}</dt><dd>{}</dd>\n", escaped(&side(of)));
    }
    out += "</dl>\n";
    let with_interval = diff.wall.low_ns.is_some();
    for sheet in sheets(diff, None) {
        out += &table(&sheet, with_interval, others(diff));
    }
    for note in notes(diff) {
        out += &format!("<p>{}</p>\n", marked_up(&note));
    }
    out + "</main>\n</body>\n</html>\n"
}

fn table(sheet: &Sheet, with_interval: bool, others: &str) -> String {
    let interval = if with_interval {
        "<th scope=\"col\">95 %</th>"
    } else {
        ""
    };
    let mut out = format!(
        "<h2>{}</h2>\n<table>\n<thead><tr><th scope=\"col\">A</th><th aria-hidden=\"true\"></th>\
         <th aria-hidden=\"true\"></th><th scope=\"col\">B</th><th scope=\"col\">change</th>\
         <th scope=\"col\">%</th>{interval}<th scope=\"col\">what</th></tr></thead>\n<tbody>\n",
        sheet.title
    );
    let figures = sheet.rows.iter().chain(&sheet.others).map(|row| row.change);
    let most = figures.map(|it| it.base_ns.max(it.new_ns)).max();
    let most = most.unwrap_or(0).max(1);
    for row in &sheet.rows {
        out += &line(row, most, with_interval);
    }
    if !sheet.others.is_empty() {
        let columns = if with_interval { 8 } else { 7 };
        out += &format!(
            "</tbody>\n<tbody class=\"chance\">\n<tr><th colspan=\"{columns}\" scope=\"rowgroup\">{others}</th></tr>\n"
        );
    }
    for row in &sheet.others {
        out += &line(row, most, with_interval);
    }
    out += "</tbody>\n</table>\n";
    let below = [rest(sheet).unwrap_or_default(), sheet.about.to_owned()];
    for text in below.iter().filter(|text| !text.is_empty()) {
        out += &format!("<p class=\"about\">{}</p>\n", escaped(text));
    }
    out
}

fn line(row: &Row, most: u64, with_interval: bool) -> String {
    let [a, b, change, interval] = row.cells();
    let bar = |side: &str, ns: u64| {
        let percent = ns as f64 * 100.0 / most as f64;
        format!(
            "<td class=\"bar {side}\" aria-hidden=\"true\"><div style=\"width:{percent:.1}%\"></div></td>"
        )
    };
    let interval = match with_interval {
        true => format!("<td>{interval}</td>"),
        false => String::new(),
    };
    format!(
        "<tr><td>{a}</td>{}{}<td>{b}</td><td>{change}</td><td>{}</td>{interval}\
         <td>{}</td></tr>\n",
        bar("a", row.change.base_ns),
        bar("b", row.change.new_ns),
        share(&row.change),
        marked_up(&row.what),
    )
}
