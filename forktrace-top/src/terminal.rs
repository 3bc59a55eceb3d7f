//! The terminal: as we want it, and as it was.

use std::{
    io::{self, IsTerminal as _, Write as _},
    os::fd::AsFd as _,
};

use anyhow::{Context as _, Result, ensure};
use crossterm::{
    ExecutableCommand as _,
    cursor::{Hide, Show},
    terminal::{EnterAlternateScreen, LeaveAlternateScreen},
};
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};

/// Is there a terminal to draw on and to read keys from?
///
/// # Errors
/// When there is none: which command takes its place.
pub fn check() -> Result<()> {
    for (is, what) in [
        (io::stdout().is_terminal(), "standard output"),
        (io::stdin().is_terminal(), "standard input"),
    ] {
        ensure!(
            is,
            "{what} is no terminal, and the view needs one; `forktrace attach` reports on what \
             runs already, and `forktrace watch` waits for something there"
        );
    }
    Ok(())
}

/// How a terminal was before it was drawn on.
#[derive(Clone)]
pub(crate) struct Before(Termios);

impl Before {
    pub(crate) fn of_stdout() -> Result<Self> {
        let modes = tcgetattr(io::stdout().as_fd()).context("the terminal's modes")?;
        Ok(Self(modes))
    }

    /// Takes the terminal: keys come one by one, and there is an empty page to draw on. Ctrl-C
    /// stays what it is, a signal to all of the foreground group.
    pub(crate) fn take(&self) -> io::Result<()> {
        let mut modes = self.0.clone();
        modes.make_raw();
        modes.local_modes |= LocalModes::ISIG;
        // `_POSIX_VDISABLE`: who is stopped can't give the terminal back, and Ctrl-\ would end
        // others without us.
        for code in [SpecialCodeIndex::VSUSP, SpecialCodeIndex::VQUIT] {
            modes.special_codes[code] = 0;
        }
        tcsetattr(io::stdout(), OptionalActions::Now, &modes)?;
        let mut out = io::stdout();
        out.execute(EnterAlternateScreen)?.execute(Hide)?;
        Ok(())
    }

    /// Gives the terminal back.
    pub(crate) fn restore(&self) -> io::Result<()> {
        let mut out = io::stdout();
        out.execute(Show)?.execute(LeaveAlternateScreen)?;
        out.flush()?;
        tcsetattr(io::stdout(), OptionalActions::Now, &self.0)?;
        Ok(())
    }

    /// Is it now as it was then?
    pub(crate) fn is_now(&self) -> bool {
        let now = tcgetattr(io::stdout().as_fd());
        now.is_ok_and(|now| now.local_modes == self.0.local_modes)
    }
}
