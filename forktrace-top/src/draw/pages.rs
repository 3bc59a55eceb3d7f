//! One task, and the help.

use forktrace_core::{
    live::{Row, Snapshot},
    render::text::figures::clean,
    words::duration,
};
use ratatui::{layout::Rect, style::Style};

use super::{BOLD, Pen, lists::scroll};
use crate::{ui::Ui, words};

/// So many links of a chain are shown.
const LINKS: usize = 8;

const HELP: [&str; 19] = [
    "up down, j k    choose a line; PageUp, PageDown, Home, End",
    "Enter           the chosen task; Esc goes back",
    "w               who waits for whom",
    "t               the tasks",
    "g               groups: by role, or by process",
    "o               order: what matters, longest wait, state, role, tid",
    "/               show only tasks with a text in name, role, tid, state or wait",
    "p, space        pause, and go on: what is shown stays, the recording goes on",
    "s               save the last seconds as a trace, with its report",
    "q               quit; Ctrl-C does the same",
    "",
    "run             has a CPU             want    wants one, and has none",
    "block           asleep in a call      stop    stopped, traced or frozen",
    "ALL BLOCKED     two or more tasks, and each is asleep",
    "idle            each waits where it always does when there is nothing to do",
    "> before a time it began before the recording; not all of it is known",
    "what matters    who waits elsewhere than where it rests comes first",
    "Who could end a wait is looked up once it has lasted for 0.1 s.",
    "Times are as of the last look, some 4 times a second.",
];

pub(super) fn draw_help(page: &mut Pen<'_>, area: Rect, ui: &mut Ui) {
    let shown = scroll(ui, HELP.len(), area.height);
    for (at, line) in shown.zip(0..) {
        page.write(area, line, HELP[at], Style::new());
    }
}

pub(super) fn draw_task(
    page: &mut Pen<'_>,
    area: Rect,
    snapshot: &Snapshot,
    ui: &mut Ui,
    serial: u32,
) {
    let Some(row) = snapshot.task(serial) else {
        page.write(area, 0, "this task has ended", BOLD);
        return;
    };
    page.write(area, 0, &words::who(row), BOLD);
    let mut lines = about(row);
    lines.extend(chain(snapshot, row));
    lines.extend(waiters(snapshot, serial));
    let list = Rect {
        y: area.y + 1,
        height: area.height - 1,
        ..area
    };
    for (at, line) in (0..lines.len()).zip(0..) {
        let (label, text) = &lines[at];
        page.write(list, line, &format!("{label:<14}{text}"), Style::new());
    }
    // Nothing is chosen here; where the list is when one goes back stays.
    let _ = ui;
}

fn about(row: &Row) -> Vec<(&'static str, String)> {
    let mut lines = vec![
        ("role", clean(&row.role)),
        ("process", format!("{} ({})", clean(&row.process), row.pid)),
        ("state", words::state(row.state).to_owned()),
    ];
    if let Some(wait) = &row.wait {
        lines.push(("waits for", words::call(wait)));
        let before = match (wait.before, wait.whole) {
            (false, _) => "",
            (true, true) => ", since before the recording",
            (true, false) => "; how long before the recording is not known",
        };
        lines.push(("for", format!("{}{before}", duration(wait.for_ns))));
        if wait.cause.is_none() {
            lines.push(("", "where it always rests".to_owned()));
        }
    }
    if let Some((_, waker)) = &row.waker {
        lines.push(("last woken by", clean(waker)));
    }
    let sums = row.blocked.iter().take(4);
    let sums: Vec<_> = sums
        .map(|(kind, ns)| format!("{} {}", kind.replace('_', " "), duration(*ns)))
        .collect();
    if !sums.is_empty() {
        lines.push(("blocked for", sums.join(", ")));
    }
    lines
}

/// Who could end its wait, what that one waits for, and so on.
fn chain(snapshot: &Snapshot, row: &Row) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    let mut seen = vec![row.serial];
    let mut at = row;
    while lines.len() < LINKS {
        let wait = at.wait.as_ref();
        let Some(by) = wait.and_then(|wait| wait.providers.as_ref()) else {
            break;
        };
        let label = if lines.is_empty() { "could end it" } else { "" };
        let how = words::how(by.kind);
        let [one] = by.tasks[..] else {
            let text = match (by.tasks.is_empty(), by.outside) {
                (true, true) => "somebody outside".to_owned(),
                (true, false) => "nobody that is left".to_owned(),
                (false, _) => format!("any of {}", words::some(snapshot, &by.tasks)),
            };
            lines.push((label, text));
            break;
        };
        let Some(next) = snapshot.task(one) else {
            lines.push((label, format!("a task that has ended, which {how}")));
            break;
        };
        let does = words::does(next);
        lines.push((label, format!("{}, who {how}: {does}", words::who(next))));
        if seen.contains(&one) {
            lines.push(("", "a circle: none of them can go on".to_owned()));
            break;
        }
        seen.push(one);
        at = next;
    }
    lines
}

/// Who waits for it.
fn waiters(snapshot: &Snapshot, serial: u32) -> Option<(&'static str, String)> {
    let waits = |row: &&Row| {
        let by = row.wait.as_ref().and_then(|wait| wait.providers.as_ref());
        by.is_some_and(|by| by.tasks == [serial])
    };
    let waiters: Vec<u32> = snapshot
        .tasks
        .iter()
        .filter(waits)
        .map(|row| row.serial)
        .collect();
    let who = words::some(snapshot, &waiters);
    (!waiters.is_empty()).then(|| ("awaited by", format!("{}: {who}", waiters.len())))
}
