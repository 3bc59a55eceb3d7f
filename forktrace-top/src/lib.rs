//! The terminal view of a recording that goes on: `forktrace top` and `forktrace run --top`.
//!
//! ```text
//! Snapshot ─▶ Screen ═ socket ═▶ serve ─▶ draw(frame, snapshot, ui) ─▶ terminal
//!             (the recorder)  ◀═ wishes ═ (a process of its own) ◀─ keys
//! ```
//!
//! What is drawn is a `forktrace_core::live::Snapshot`, plain data that
//! forktrace-core makes of the events. Drawing is a function of that and of what the user chose
//! (`Ui`), so tests draw on a screen in memory. The terminal belongs to a process of its own: a
//! terminal that takes no output never holds up the recorder, and whichever of the two ends, by
//! whatever, the other one puts the terminal back as it was.
#![cfg(feature = "terminal")]

mod draw;
mod keys;
mod screen;
mod serve;
mod terminal;
mod ui;
mod wire;
mod words;

pub use self::{
    draw::draw,
    screen::{Screen, Show},
    terminal::check,
    ui::{Page, Sort, Ui},
    wire::Wish,
};
