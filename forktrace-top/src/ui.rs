//! What the user chose: which page, in which order, of whom.

use forktrace_core::{
    live::{GroupBy, Row, Snapshot},
    model::State,
};

use crate::words;

/// What fills the screen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Page {
    /// Groups, and the tasks below them.
    #[default]
    Tasks,
    /// Who waits for whom.
    Graph,
    /// One task, by serial.
    Task(u32),
    /// The keys.
    Help,
}

/// In which order tasks are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// What holds the others up first: who waits elsewhere than where it rests, then who runs
    /// or wants a CPU, then the idle.
    #[default]
    Matter,
    /// The longest waits first.
    Longest,
    /// By state.
    State,
    /// By role.
    Role,
    /// By tid.
    Tid,
}

impl Sort {
    const ALL: [Self; 5] = [
        Self::Matter,
        Self::Longest,
        Self::State,
        Self::Role,
        Self::Tid,
    ];

    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Matter => "what matters",
            Self::Longest => "longest wait",
            Self::State => "state",
            Self::Role => "role",
            Self::Tid => "tid",
        }
    }

    pub(crate) fn next(self) -> Self {
        let at = Self::ALL.iter().position(|it| *it == self).unwrap_or(0);
        Self::ALL[(at + 1) % Self::ALL.len()]
    }
}

/// What the user chose, and how the terminal is.
#[derive(Clone, Debug, Default)]
pub struct Ui {
    /// What is recorded, in words.
    pub title: String,
    /// Colours may be used.
    pub color: bool,
    /// Nothing but ASCII can be shown.
    pub ascii: bool,
    /// What fills the screen.
    pub page: Page,
    /// What was there before that.
    pub back: Page,
    /// What tasks are put together by.
    pub by: GroupBy,
    /// The order of tasks.
    pub sort: Sort,
    /// Only tasks with this in their names, tids, or what they wait for.
    pub filter: String,
    /// It is being typed.
    pub typing: bool,
    /// Nothing new is shown.
    pub paused: bool,
    /// The line that is chosen.
    pub chosen: usize,
    /// The first line that is shown.
    pub first: usize,
    /// What is told in the last line.
    pub message: String,
    /// It is over, and why.
    pub ended: Option<String>,
}

impl Ui {
    /// The tasks that are shown, in their order.
    pub(crate) fn rows<'a>(&self, snapshot: &'a Snapshot) -> Vec<&'a Row> {
        let rows = snapshot.tasks.iter();
        let mut rows: Vec<&Row> = rows.filter(|row| self.wants(snapshot, row)).collect();
        let waits_ns = |row: &Row| row.wait.as_ref().map_or(0, |wait| wait.for_ns);
        let longest = |row: &Row| std::cmp::Reverse(waits_ns(row));
        match self.sort {
            // They come by serial, and equals stay so.
            Sort::Matter => rows.sort_by_key(|row| (matter(row), longest(row))),
            Sort::Longest => rows.sort_by_key(|row| longest(row)),
            Sort::State => rows.sort_by_key(|row| (row.state.index(), longest(row))),
            Sort::Role => rows.sort_by(|a, b| (&a.role, a.tid).cmp(&(&b.role, b.tid))),
            Sort::Tid => rows.sort_by_key(|row| row.tid),
        }
        rows
    }

    fn wants(&self, snapshot: &Snapshot, row: &Row) -> bool {
        if self.filter.is_empty() {
            return true;
        }
        let wanted = self.filter.to_lowercase();
        let has = |text: &str| text.to_lowercase().contains(&wanted);
        has(&row.name)
            || has(&row.role)
            || has(&row.process)
            || row.tid.to_string().contains(&wanted)
            || has(words::state(row.state))
            || has(&words::waits_for(snapshot, row))
    }
}

/// What comes first.
fn matter(row: &Row) -> u8 {
    let tells = row.wait.as_ref().is_some_and(|wait| wait.cause.is_some());
    match row.state {
        State::Blocked if tells => 0,
        State::Runnable => 1,
        State::Running | State::Unknown => 2,
        State::Stopped => 3,
        State::Blocked => 4,
    }
}
