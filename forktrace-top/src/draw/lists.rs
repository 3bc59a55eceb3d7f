//! The pages that are lists: groups and tasks, and who waits for whom.

use forktrace_core::{
    live::{Group, GroupBy, Line, Node, Row, Snapshot},
    render::text::figures::clean,
    words::duration,
};
use ratatui::{
    layout::Rect,
    style::{Color, Style},
};

use super::{BOLD, DIM, Pen, REVERSED};
use crate::{ui::Ui, words};

/// Groups take no more than this part of the page.
const GROUPS: u16 = 3;

/// Brings the chosen line into the list, and the list to it. Gives those lines that are shown.
pub(super) fn scroll(ui: &mut Ui, length: usize, height: u16) -> std::ops::Range<usize> {
    let height = usize::from(height).max(1);
    ui.chosen = ui.chosen.min(length.saturating_sub(1));
    let last = length.saturating_sub(height);
    let lowest = (ui.chosen + 1).saturating_sub(height);
    ui.first = ui.first.clamp(lowest, ui.chosen.max(lowest)).min(last);
    ui.first..(ui.first + height).min(length)
}

pub(super) fn draw_tasks(page: &mut Pen<'_>, area: Rect, snapshot: &Snapshot, ui: &mut Ui) {
    let groups = snapshot.groups(ui.by);
    // The heading, and a line between the two.
    let room = (area.height / GROUPS).max(3);
    let height = room.min(groups.len() as u16 + 1);
    let of_groups = Rect { height, ..area };
    draw_groups(page, of_groups, snapshot, &groups, ui.by);
    let rest = Rect {
        y: area.y + height + 1,
        height: area.height.saturating_sub(height + 1),
        ..area
    };
    draw_rows(page, rest, snapshot, ui);
}

fn draw_groups(page: &mut Pen<'_>, area: Rect, snapshot: &Snapshot, groups: &[Group], by: GroupBy) {
    let name = (area.width / 3).clamp(14, 40);
    let what = match by {
        GroupBy::Role => "ROLE",
        GroupBy::Process => "PROCESS",
    };
    let heading = Rect {
        width: name,
        ..area
    };
    let rest = Rect {
        x: area.x + name + 1,
        width: area.width.saturating_sub(name + 1),
        ..area
    };
    page.write(heading, 0, what, BOLD);
    page.write(rest, 0, "TASKS  RUN WANT BLOCK  ALL BLOCKED FOR, IN", BOLD);
    let room = usize::from(area.height).saturating_sub(1);
    // The last line says how many have no room.
    let shown = match groups.len() > room {
        true => room.saturating_sub(1),
        false => groups.len(),
    };
    for (group, line) in groups.iter().take(shown).zip(1..) {
        page.write(heading, line, &clean(&group.name), Style::new());
        let counts = group.counts;
        let numbers = format!(
            "{:>5} {:>4} {:>4} {:>5}  ",
            counts.live(),
            counts.running,
            counts.runnable,
            counts.blocked
        );
        let text = numbers + &of_group(snapshot, group);
        page.write(rest, line, &text, Style::new());
    }
    if shown < groups.len() {
        let text = format!("and {} more", groups.len() - shown);
        page.write(area, area.height - 1, &text, DIM);
    }
}

fn of_group(snapshot: &Snapshot, group: &Group) -> String {
    let on = group.on.and_then(|at| snapshot.tasks.get(at));
    let wait = on.and_then(|row| row.wait.as_ref());
    match (group.all_blocked_ns, wait) {
        (Some(ns), Some(wait)) => {
            let idle = if group.idle { "idle: " } else { "" };
            format!("{}  {idle}{}", duration(ns), words::call(wait))
        }
        (None, _) if group.counts.stopped > 0 => {
            format!("{} stopped", group.counts.stopped)
        }
        _ => "-".to_owned(),
    }
}

/// Where the columns of the tasks are: where each begins and how wide it is.
struct Columns {
    state: (u16, u16),
    tid: (u16, u16),
    role: (u16, u16),
    length: (u16, u16),
    waits: (u16, u16),
    waker: (u16, u16),
}

impl Columns {
    fn new(width: u16) -> Self {
        let role = (width / 5).clamp(12, 28);
        let waker = (width / 5).clamp(10, 28);
        let before = 6 + 8 + role + 1 + 10;
        let waits = width.saturating_sub(before + waker + 1);
        Self {
            state: (0, 5),
            tid: (6, 7),
            role: (14, role),
            length: (15 + role, 9),
            waits: (before, waits),
            waker: (before + waits + 1, waker),
        }
    }
}

fn draw_rows(page: &mut Pen<'_>, area: Rect, snapshot: &Snapshot, ui: &mut Ui) {
    let rows = ui.rows(snapshot);
    let columns = Columns::new(area.width);
    let cell = |(at, width): (u16, u16)| Rect {
        x: area.x + at,
        width,
        ..area
    };
    for (at, text) in [
        (columns.state, "STATE"),
        (columns.role, "ROLE"),
        (columns.waits, "WAITS FOR"),
        (columns.waker, "LAST WOKEN BY"),
    ] {
        page.write(cell(at), 0, text, BOLD);
    }
    page.write_right(cell(columns.tid), 0, "TID", BOLD);
    page.write_right(cell(columns.length), 0, "FOR", BOLD);
    // Between the groups and the tasks.
    let mut told = format!("tasks by {}", ui.sort.name());
    if !ui.filter.is_empty() {
        let filter = clean(&ui.filter);
        told.push_str(&format!("; {} with \"{filter}\"", rows.len()));
    }
    let line = Rect {
        y: area.y - 1,
        height: 1,
        ..area
    };
    page.write(line, 0, &told, DIM);
    let shown = scroll(ui, rows.len(), area.height - 1);
    let chosen = ui.chosen;
    for (at, line) in shown.zip(1..) {
        draw_row(page, (&columns, area, line), snapshot, rows[at]);
        if at == chosen {
            page.fill(area, line, REVERSED);
        }
    }
}

fn draw_row(
    page: &mut Pen<'_>,
    (columns, area, line): (&Columns, Rect, u16),
    snapshot: &Snapshot,
    row: &Row,
) {
    let cell = |(at, width): (u16, u16)| Rect {
        x: area.x + at,
        width,
        ..area
    };
    let style = page.of_state(row.state);
    page.write(cell(columns.state), line, words::state(row.state), style);
    page.write_right(cell(columns.tid), line, &row.tid.to_string(), Style::new());
    page.write(cell(columns.role), line, &clean(&row.role), Style::new());
    if let Some(wait) = &row.wait {
        let length = words::length(wait);
        page.write_right(cell(columns.length), line, &length, Style::new());
        let waits = words::waits_for(snapshot, row);
        let rests = wait.cause.is_none();
        let style = if rests { DIM } else { Style::new() };
        page.write(cell(columns.waits), line, &waits, style);
    }
    if let Some((_, waker)) = &row.waker {
        page.write(cell(columns.waker), line, &clean(waker), Style::new());
    }
}

pub(super) fn draw_graph(page: &mut Pen<'_>, area: Rect, snapshot: &Snapshot, ui: &mut Ui) {
    let lines = snapshot.graph();
    page.write(area, 0, "WHO WAITS FOR WHOM", BOLD);
    if lines.is_empty() {
        let text = "Nobody is known to hold anybody up (looked up after 0.1 s)";
        page.write(area, 1, text, Style::new());
        return;
    }
    let list = Rect {
        y: area.y + 1,
        height: area.height - 1,
        ..area
    };
    let shown = scroll(ui, lines.len(), list.height);
    let red = page.colored(Color::Red);
    for (at, line) in shown.zip(0..) {
        let style = if lines[at].circle { red } else { Style::new() };
        page.write(list, line, &of_line(snapshot, &lines[at]), style);
        if at == ui.chosen {
            page.fill(list, line, REVERSED);
        }
    }
}

fn of_line(snapshot: &Snapshot, line: &Line) -> String {
    /// Deeper ones are drawn as deep as this, with their depth.
    const DEEPEST: usize = 12;
    let indent = match line.depth {
        0 => String::new(),
        depth @ 1..=DEEPEST => format!("{}└ ", "  ".repeat(depth - 1)),
        depth => format!("{}└ ({depth}) ", "  ".repeat(DEEPEST - 1)),
    };
    let who = words::node(snapshot, &line.node);
    let how = match (line.how, &line.node) {
        (Some(how), Node::Task(_)) => format!(" - who {}", words::how(how)),
        _ => String::new(),
    };
    let circle = if line.circle { "IN A CIRCLE: " } else { "" };
    format!("{indent}{circle}{who}{how}")
}
