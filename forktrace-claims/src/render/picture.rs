//! The picture of a claim, in characters.

use std::fmt::Write as _;

use forktrace_core::{
    render::{
        Style,
        text::figures::{clean, duration, shortened, width},
    },
    report::{Slice, Timeline},
};

use crate::picture::{Bar, Picture};

/// Columns of a page.
const COLUMNS: usize = 100;
/// Columns of a task's name, and of its tid.
const NAME: usize = 14;
const TID: usize = 8;
/// Slices between two times on the axis.
const TICK: usize = 18;
/// The longest bar, and the shortest room for it.
const BAR: usize = 40;
const LEAST_BAR: usize = 10;

const LEGEND: &str = "█ running  ░ runnable  · blocked  s stopped  ? not known  (blank) not alive";

/// Lines of at most 100 columns, each with a line break; nothing if there is none.
pub(super) fn lines(picture: &Picture) -> String {
    match &picture.timeline {
        Some(timeline) => time_lines(timeline),
        None => bars(&picture.bars),
    }
}

fn symbol(slice: Slice) -> char {
    match slice {
        Slice::Running => '█',
        Slice::Runnable => '░',
        Slice::Blocked => '·',
        Slice::Stopped => 's',
        Slice::Unknown => '?',
        Slice::NotAlive => ' ',
    }
}

fn time_lines(timeline: &Timeline) -> String {
    let slices = timeline
        .rows
        .first()
        .map_or(1, |row| row.slices.len().max(1));
    let ns = timeline.window.ns();
    let room = " ".repeat(NAME + TID + 4);
    let mut out = String::new();
    let mut line = |text: String| {
        out.push_str(text.trim_end());
        out.push('\n');
    };
    // Times since the start of the picture: at the trace's end they would differ in
    // the last digits only.
    let mut axis = room.clone();
    for at in (0..slices).step_by(TICK) {
        let time = duration(ns * at as u64 / slices as u64);
        let _ = write!(
            axis,
            "{:TICK$}",
            format!("|{}", if at == 0 { "0" } else { &time })
        );
    }
    line(axis);
    for row in &timeline.rows {
        let name = shortened(Style::PLAIN, &clean(&row.name), NAME);
        let gap = " ".repeat(NAME - width(&name));
        let states: String = row.slices.iter().map(|slice| symbol(*slice)).collect();
        line(format!("{name}{gap}  {:>TID$}  {states}", row.tid));
    }
    let marked = timeline.moment != timeline.window;
    if marked {
        let [first, last] = timeline.moment_slices.map(|slice| slice as usize);
        let before = " ".repeat(first);
        line(format!("{room}{before}{}", "^".repeat(last + 1 - first)));
    }
    line(LEGEND.to_owned());
    let mut words = format!(
        "The picture begins {}.{:06} s after the trace; a character is {} and shows the state that",
        timeline.window.start_ns / 1_000_000_000,
        timeline.window.start_ns % 1_000_000_000 / 1000,
        duration(ns / slices as u64),
    );
    line(std::mem::take(&mut words));
    words.push_str("the task was in for most of it");
    words.push_str(if marked { "; ^ marks the moment." } else { "." });
    match timeline.more_tasks {
        0 => {}
        1 => words.push_str(" One more task is not shown."),
        n => {
            let _ = write!(words, " {n} more tasks are not shown.");
        }
    }
    line(words);
    out
}

fn bars(bars: &[Bar]) -> String {
    let widest = |of: fn(&Bar) -> &str| bars.iter().map(|bar| width(of(bar))).max().unwrap_or(0);
    let (labels, texts) = (widest(|bar| &bar.label), widest(|bar| &bar.text));
    let room = COLUMNS
        .saturating_sub(labels + texts + 4)
        .clamp(LEAST_BAR, BAR);
    let most = bars.iter().map(|bar| bar.high).fold(0.0, f64::max);
    let long = |value: f64| match most > 0.0 {
        true => (value.max(0.0) / most * room as f64).round() as usize,
        false => 0,
    };
    let mut out = String::new();
    for bar in bars {
        let sure = "█".repeat(long(bar.low));
        let spread = "▒".repeat(long(bar.high).saturating_sub(long(bar.low)));
        let label = &bar.label;
        let gap = " ".repeat(labels - width(label));
        let rest = " ".repeat(room.saturating_sub(long(bar.high)));
        // Writing to a string can't fail.
        let _ = writeln!(out, "{label}{gap}  {sure}{spread}{rest}  {}", bar.text);
    }
    if bars.iter().any(|bar| bar.low < bar.high) {
        out.push_str("█ to the lower end of the interval, ▒ to its upper end\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use forktrace_core::report::{Interval, TimelineRow};

    fn row(name: &str, parts: &[(Slice, usize)]) -> TimelineRow {
        let slices = parts
            .iter()
            .flat_map(|&(slice, n)| vec![slice; n])
            .collect();
        TimelineRow {
            serial: 1,
            tid: 4_194_304,
            name: name.to_owned(),
            slices,
        }
    }

    #[test]
    fn a_time_line_has_an_axis_and_marks_the_moment() {
        let picture = Picture {
            timeline: Some(Timeline {
                window: Interval {
                    start_ns: 1_312_345_678,
                    end_ns: 1_312_417_678,
                },
                moment: Interval {
                    start_ns: 1_312_348_678,
                    end_ns: 1_312_355_678,
                },
                moment_slices: [3, 9],
                rows: vec![
                    row("waiter", &[(Slice::NotAlive, 2), (Slice::Blocked, 70)]),
                    row(
                        "a name that is too long",
                        &[
                            (Slice::Runnable, 3),
                            (Slice::Running, 7),
                            (Slice::Stopped, 2),
                            (Slice::Unknown, 60),
                        ],
                    ),
                ],
                more_tasks: 3,
            }),
            ..Picture::default()
        };
        let dots = "·".repeat(70);
        let unknown = "?".repeat(60);
        let expected = format!(
            "                          |0                |18.0 µs          |36.0 µs          |54.0 µs
waiter           4194304    {dots}
a name that i…   4194304  ░░░███████ss{unknown}
                             ^^^^^^^
{LEGEND}
The picture begins 1.312345 s after the trace; a character is 1.00 µs and shows the state that
the task was in for most of it; ^ marks the moment. 3 more tasks are not shown.
"
        );
        let text = lines(&picture);
        assert_eq!(text, expected);
        assert!(text.lines().all(|line| width(line) <= COLUMNS));
    }

    #[test]
    fn bars_show_the_spread() {
        let bar = |label: &str, value: f64, low: f64, high: f64, text: &str| Bar {
            label: label.to_owned(),
            value,
            low,
            high,
            text: text.to_owned(),
        };
        let picture = Picture {
            bars: vec![
                bar("threads", 1.0, 1.0, 1.0, "1 ms"),
                bar("processes", 3.0, 2.0, 4.0, "3 ms (2 ms to 4 ms)"),
                bar("nothing", 0.0, 0.0, 0.0, "0 ns"),
            ],
            ..Picture::default()
        };
        let expected = "\
threads    ██████████                                1 ms
processes  ████████████████████▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒  3 ms (2 ms to 4 ms)
nothing                                              0 ns
█ to the lower end of the interval, ▒ to its upper end
";
        assert_eq!(lines(&picture), expected);
        assert_eq!(lines(&Picture::default()), "");
    }
}
