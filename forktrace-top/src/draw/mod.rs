//! Draws a snapshot. The same input gives the same screen; nothing here reads a clock or the
//! terminal.

mod lists;
mod pages;
#[cfg(test)]
mod tests;

use forktrace_core::{
    live::{Counts, Snapshot},
    model::State,
    render::text::figures::clean,
    words::{duration, percent, quantity},
};
use ratatui::{
    Frame,
    buffer::Buffer,
    layout::Rect,
    style::{Color, Modifier, Style},
};

use crate::{
    ui::{Page, Ui},
    words,
};

/// Lines of the head.
const HEAD: u16 = 4;
/// A terminal that is smaller shows nothing of use.
const SMALLEST: (u16, u16) = (40, 10);

/// Draws the screen, and brings what was chosen into what there is.
pub fn draw(frame: &mut Frame<'_>, snapshot: &Snapshot, ui: &mut Ui) {
    let area = frame.area();
    let mut page = Pen {
        ascii: ui.ascii,
        color: ui.color,
        buffer: frame.buffer_mut(),
    };
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        page.write(area, 0, "the terminal is too small", Style::new());
        return;
    }
    let head = Rect {
        height: HEAD,
        ..area
    };
    let foot = Rect {
        y: area.bottom() - 1,
        height: 1,
        ..area
    };
    let body = Rect {
        y: area.y + HEAD,
        height: area.height - HEAD - 1,
        ..area
    };
    draw_head(&mut page, head, snapshot, ui);
    match ui.page {
        Page::Tasks => lists::draw_tasks(&mut page, body, snapshot, ui),
        Page::Graph => lists::draw_graph(&mut page, body, snapshot, ui),
        Page::Task(serial) => pages::draw_task(&mut page, body, snapshot, ui, serial),
        Page::Help => pages::draw_help(&mut page, body, ui),
    }
    draw_foot(&mut page, foot, ui);
}

/// Writes on the screen, and nowhere else: what has no room is cut off, visibly.
struct Pen<'a> {
    ascii: bool,
    color: bool,
    buffer: &'a mut Buffer,
}

impl Pen<'_> {
    /// Writes a line of an area.
    fn write(&mut self, area: Rect, line: u16, text: &str, style: Style) {
        if line >= area.height {
            return;
        }
        let columns = usize::from(area.width);
        let text = words::fit(text, columns, self.ascii);
        self.buffer
            .set_stringn(area.x, area.y + line, text, columns, style);
    }

    /// Writes at the right end of a line.
    fn write_right(&mut self, area: Rect, line: u16, text: &str, style: Style) {
        let text = words::shown(text, self.ascii);
        let columns = unicode_width::UnicodeWidthStr::width(text.as_str()).min(area.width.into());
        let columns = columns as u16;
        let part = Rect {
            x: area.right() - columns,
            width: columns,
            ..area
        };
        self.write(part, line, &text, style);
    }

    /// Fills a line with a style.
    fn fill(&mut self, area: Rect, line: u16, style: Style) {
        if line < area.height {
            let line = Rect {
                y: area.y + line,
                height: 1,
                ..area
            };
            self.buffer.set_style(line, style);
        }
    }

    fn colored(&self, color: Color) -> Style {
        match self.color {
            true => Style::new().fg(color),
            false => Style::new(),
        }
    }

    fn of_state(&self, state: State) -> Style {
        self.colored(match state {
            State::Running => Color::Green,
            State::Runnable => Color::Yellow,
            State::Stopped => Color::Magenta,
            State::Blocked | State::Unknown => Color::Reset,
        })
    }
}

const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
const DIM: Style = Style::new().add_modifier(Modifier::DIM);
const REVERSED: Style = Style::new().add_modifier(Modifier::REVERSED);

fn draw_head(page: &mut Pen<'_>, area: Rect, snapshot: &Snapshot, ui: &Ui) {
    let seconds = snapshot.elapsed_ns / 1_000_000_000;
    let paused = if ui.paused { "PAUSED  " } else { "" };
    let right = format!("{paused}{seconds} s");
    let room = area.width.saturating_sub(right.len() as u16 + 2);
    let title = format!("forktrace top  {}", clean(&ui.title));
    page.write(
        Rect {
            width: room,
            ..area
        },
        0,
        &title,
        BOLD,
    );
    page.write_right(area, 0, &right, BOLD);
    let counts = snapshot.counts;
    let tasks = quantity(counts.live(), "task");
    let mut states = format!("{tasks}: {}", in_states(&counts));
    if snapshot.lost > 0 {
        let lost = quantity(snapshot.lost, "record");
        states.push_str(&format!("; {lost} lost"));
    }
    page.write(area, 1, &states, Style::new());
    let alarm = page.colored(Color::Red).add_modifier(Modifier::BOLD);
    if let Some(all) = all_blocked(snapshot) {
        page.write(area, 2, &all, alarm);
    } else {
        page.write(area, 2, &so_far(snapshot), Style::new());
    }
    let (text, style) = note(snapshot);
    page.write(area, 3, &text, if style { alarm } else { DIM });
}

/// `1 running, 0 want a CPU, 2 blocked`.
fn in_states(counts: &Counts) -> String {
    let mut text = format!(
        "{} running, {} want a CPU, {} blocked",
        counts.running, counts.runnable, counts.blocked
    );
    if counts.stopped > 0 {
        text.push_str(&format!(", {} stopped", counts.stopped));
    }
    text
}

/// That all are blocked, for how long, and on what.
fn all_blocked(snapshot: &Snapshot) -> Option<String> {
    let now_ns = snapshot.all_blocked.now_ns;
    let whole = snapshot.whole();
    let on = snapshot.tasks.get(whole.on?).filter(|_| now_ns > 0)?;
    let wait = on.wait.as_ref()?;
    let why = match whole.idle {
        true => "idle, each where it always rests".to_owned(),
        false => format!("{}, {}", words::call(wait), words::who(on)),
    };
    Some(format!("ALL BLOCKED for {}: {why}", duration(now_ns)))
}

/// How much all were blocked before.
fn so_far(snapshot: &Snapshot) -> String {
    let all = snapshot.all_blocked;
    match all.episodes {
        0 => "Not all were blocked at once so far".to_owned(),
        episodes => format!(
            "Not all are blocked; they were for {} of the time, {}, {} at most",
            percent(all.ns, snapshot.elapsed_ns),
            quantity(episodes, "time"),
            duration(all.longest_ns)
        ),
    }
}

/// What else is worth knowing, and whether it is bad.
fn note(snapshot: &Snapshot) -> (String, bool) {
    if let Some(stuck) = snapshot.stuck.first() {
        let more = match snapshot.stuck.len() - 1 {
            0 => String::new(),
            more => format!("; {more} more"),
        };
        let who = words::some(snapshot, stuck);
        return (format!("CAN'T GO ON: {who}{more}"), true);
    }
    let starved = snapshot.starved;
    match (starved.now_ns, starved.ns) {
        (0, 0) => (String::new(), false),
        (0, ns) => {
            let share = percent(ns, snapshot.elapsed_ns);
            let text = format!("None ran although one wanted to for {share} of the time");
            (text, false)
        }
        (now_ns, _) => {
            let text = format!("STARVED for {}: none has a CPU", duration(now_ns));
            (text, true)
        }
    }
}

fn draw_foot(page: &mut Pen<'_>, area: Rect, ui: &Ui) {
    page.fill(area, 0, REVERSED);
    if ui.typing {
        let text = format!("filter: {}_   (Enter: done, Esc: none)", clean(&ui.filter));
        page.write(area, 0, &text, REVERSED);
    } else if !ui.message.is_empty() {
        page.write(area, 0, &clean(&ui.message), REVERSED);
    } else if let Some(ended) = &ui.ended {
        page.write(area, 0, &format!("{}; q quits", clean(ended)), REVERSED);
    } else {
        let keys = match ui.page {
            Page::Tasks => {
                "q quit  ? help  / filter  o order  g groups  w who  Enter task  s save  p pause"
            }
            Page::Graph => "q quit  ? help  w back  Enter task  s save  p pause",
            Page::Task(_) | Page::Help => "q quit  ? help  Esc back  s save  p pause",
        };
        page.write(area, 0, keys, REVERSED);
    }
}
