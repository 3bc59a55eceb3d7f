//! What keys do.

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use forktrace_core::live::{GroupBy, Node, Snapshot};

use crate::{
    ui::{Page, Ui},
    wire::Wish,
};

/// A key of a page.
const PAGE: usize = 10;

impl Ui {
    /// Takes a key. Gives what the recorder is to do.
    pub(crate) fn key(&mut self, key: KeyEvent, snapshot: &Snapshot) -> Option<Wish> {
        if key.kind == KeyEventKind::Release {
            return None;
        }
        if self.typing {
            self.type_filter(key.code);
            return None;
        }
        self.message.clear();
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return None;
        }
        match key.code {
            KeyCode::Char('q') => return Some(Wish::Quit),
            KeyCode::Char('s') if self.ended.is_none() => return Some(Wish::Save),
            KeyCode::Char('s') => self.message = "it is over: nothing is left to save".to_owned(),
            KeyCode::Char('?' | 'h') => self.go(Page::Help),
            KeyCode::Char('w') => self.go(Page::Graph),
            KeyCode::Char('t') => self.go(Page::Tasks),
            KeyCode::Char('p' | ' ') => self.paused = !self.paused,
            KeyCode::Char('o') => self.sort = self.sort.next(),
            KeyCode::Char('g') => {
                self.by = match self.by {
                    GroupBy::Role => GroupBy::Process,
                    GroupBy::Process => GroupBy::Role,
                };
            }
            KeyCode::Char('/') => {
                if self.page != Page::Tasks {
                    self.go(Page::Tasks);
                }
                self.typing = true;
            }
            KeyCode::Char('k') | KeyCode::Up => self.chosen = self.chosen.saturating_sub(1),
            KeyCode::Char('j') | KeyCode::Down => self.chosen += 1,
            KeyCode::PageUp => self.chosen = self.chosen.saturating_sub(PAGE),
            KeyCode::PageDown => self.chosen += PAGE,
            KeyCode::Home => self.chosen = 0,
            KeyCode::End => self.chosen = usize::MAX - PAGE,
            KeyCode::Enter => self.drill(snapshot),
            KeyCode::Esc | KeyCode::Backspace => match self.page {
                Page::Tasks => self.filter.clear(),
                _ => self.go(self.back),
            },
            _ => {}
        }
        None
    }

    fn go(&mut self, page: Page) {
        if page == self.page {
            // The same key leads back.
            self.page = self.back;
            self.back = Page::Tasks;
        } else {
            self.back = match self.page {
                Page::Tasks | Page::Graph => self.page,
                Page::Task(_) | Page::Help => Page::Tasks,
            };
            self.page = page;
        }
        if self.page == self.back {
            self.back = Page::Tasks;
        }
        (self.chosen, self.first) = (0, 0);
    }

    /// To the task that is chosen.
    fn drill(&mut self, snapshot: &Snapshot) {
        let serial = match self.page {
            Page::Tasks => {
                let rows = self.rows(snapshot);
                let last = rows.len().saturating_sub(1);
                rows.get(self.chosen.min(last)).map(|row| row.serial)
            }
            Page::Graph => {
                let lines = snapshot.graph();
                let last = lines.len().saturating_sub(1);
                match lines.get(self.chosen.min(last)).map(|line| &line.node) {
                    Some(Node::Task(serial)) => Some(*serial),
                    _ => None,
                }
            }
            Page::Task(_) | Page::Help => None,
        };
        if let Some(serial) = serial {
            let chosen = self.chosen;
            self.go(Page::Task(serial));
            self.chosen = chosen;
        }
    }

    fn type_filter(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter => self.typing = false,
            KeyCode::Esc => {
                self.typing = false;
                self.filter.clear();
            }
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char(c) => self.filter.push(c),
            _ => {}
        }
        (self.chosen, self.first) = (0, 0);
    }
}
