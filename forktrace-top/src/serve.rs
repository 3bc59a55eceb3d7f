//! The view's end: a loop between the recorder, the keys and the terminal.

use std::{
    io::{self, Stdout},
    os::fd::{AsFd as _, BorrowedFd},
    panic,
    time::Duration,
};

use crossterm::event::{self, Event};
use forktrace_core::live::Snapshot;
use ratatui::{Terminal, backend::CrosstermBackend};
use rustix::event::{PollFd, PollFlags, poll};

use crate::{
    draw::draw,
    terminal::Before,
    ui::Ui,
    wire::{FromView, ToView, Wish, is_gone, receive, say},
};

/// Shows what comes, until the user quits or the recorder is gone.
///
/// # Errors
/// When the terminal can't be used.
pub(crate) fn serve(socket: BorrowedFd<'_>, ui: Ui, before: &Before) -> io::Result<()> {
    // Nothing is taken before there is something to show.
    let Some(first) = first(socket)? else {
        return Ok(());
    };
    let hook = panic::take_hook();
    let own = before.clone();
    panic::set_hook(Box::new(move |info| {
        let _ = own.restore();
        hook(info);
    }));
    before.take()?;
    let shown = View::new(socket, ui).and_then(|mut view| view.run(first));
    let restored = before.restore();
    shown.and(restored)
}

/// The first that the recorder says; `None`: it is gone.
fn first(socket: BorrowedFd<'_>) -> io::Result<Option<ToView>> {
    loop {
        let mut fds = [PollFd::from_borrowed_fd(socket, PollFlags::IN)];
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        match receive(socket) {
            Ok(None) => {}
            Ok(first) => return Ok(first),
            Err(error) if is_gone(&error) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
}

struct View<'a> {
    socket: BorrowedFd<'a>,
    terminal: Terminal<CrosstermBackend<Stdout>>,
    ui: Ui,
    /// What is shown.
    snapshot: Snapshot,
    /// What came while nothing new was to be shown.
    latest: Option<Snapshot>,
}

impl<'a> View<'a> {
    fn new(socket: BorrowedFd<'a>, ui: Ui) -> io::Result<Self> {
        Ok(Self {
            socket,
            // Its page is empty: clearing it would ask the terminal where its cursor is.
            terminal: Terminal::new(CrosstermBackend::new(io::stdout()))?,
            ui,
            snapshot: Snapshot::default(),
            latest: None,
        })
    }

    fn run(&mut self, first: ToView) -> io::Result<()> {
        self.take(first)?;
        loop {
            let (snapshot, ui) = (&self.snapshot, &mut self.ui);
            self.terminal.draw(|frame| draw(frame, snapshot, ui))?;
            self.wait()?;
            if self.keys()? {
                return Ok(());
            }
            loop {
                match receive(self.socket) {
                    Ok(Some(what)) => self.take(what)?,
                    Ok(None) => break,
                    Err(error) if is_gone(&error) => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
        }
    }

    /// Until there is a key, or the recorder said something, or the terminal has another size.
    fn wait(&self) -> io::Result<()> {
        let stdin = io::stdin();
        let mut fds = [
            PollFd::from_borrowed_fd(self.socket, PollFlags::IN),
            PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let gone = PollFlags::HUP | PollFlags::ERR;
        if fds[1].revents().intersects(gone) {
            return Err(io::Error::other("it was hung up"));
        }
        Ok(())
    }

    /// Takes the keys that were pressed; true: it is to end.
    fn keys(&mut self) -> io::Result<bool> {
        while event::poll(Duration::ZERO)? {
            let Event::Key(key) = event::read()? else {
                continue;
            };
            let Some(wish) = self.ui.key(key, &self.snapshot) else {
                continue;
            };
            let said = say(self.socket, FromView::Wish(wish));
            if wish == Wish::Quit {
                return Ok(true);
            }
            match said {
                Err(error) if !is_gone(&error) => return Err(error),
                _ => self.ui.message = "saving …".to_owned(),
            }
        }
        if !self.ui.paused
            && let Some(latest) = self.latest.take()
        {
            self.snapshot = latest;
        }
        Ok(false)
    }

    fn take(&mut self, what: ToView) -> io::Result<()> {
        match what {
            ToView::Snapshot(snapshot) => {
                if self.ui.paused {
                    self.latest = Some(*snapshot);
                } else {
                    self.snapshot = *snapshot;
                }
                match say(self.socket, FromView::Ready) {
                    Err(error) if !is_gone(&error) => return Err(error),
                    _ => {}
                }
            }
            ToView::Message(text) => self.ui.message = text,
            ToView::Ended(why) => self.ui.ended = Some(why),
        }
        Ok(())
    }
}
