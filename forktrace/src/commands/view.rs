//! The terminal view of a recording that goes on.

use std::{
    fs::File,
    io,
    os::{fd::AsFd as _, unix::fs::FileExt as _},
    path::{Path, PathBuf},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result};
use forktrace_core::{
    live::Live,
    recent::{Keep, Moment, Recent},
};
use forktrace_process::{launch::Accounts, limits::Limits, signals::Signals};
use forktrace_record::{
    background,
    capture::Tracer,
    record::{Interrupted, Plan, Recording, Source, Watched, Watcher, Wish},
    targets::Targets,
};
use forktrace_top::{Screen, Show, Wish as Pressed};
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
};

use super::{
    Outcome,
    attach::{settings_of_kept, targets},
    output::to_stdout,
    page,
    recording::Picture,
    saving::{Folder, Saved, Saver},
};
use crate::{
    cli::{Color, RunArgs, TopArgs},
    progress,
};

/// Shows what runs already until the user quits.
///
/// # Errors
/// When there is no terminal, or no such target, or it can't be traced.
pub(super) fn top(args: &TopArgs) -> Result<Outcome> {
    forktrace_top::check()?;
    let accounts = Accounts::choose(None, args.as_root)?;
    let targets = Targets::find(&targets(&args.what))?;
    let settings = settings_of_kept(&args.kept, None, None, &targets);
    let limits = Limits::raise(&Tracer::needs(&settings)?)?;
    let signals = Signals::take()?;
    let title = targets.words().join(", ");
    let mut view = View::open(&title, args.color, &args.save_dir, &accounts)?;
    let plan = Plan {
        source: Source::Attach {
            targets,
            length: args.kept.length,
        },
        settings,
        metrics: None,
    };
    let keep = Keep {
        ns: args.keep.as_nanos() as u64,
        bytes: args.kept.memory as usize,
    };
    let begun = Instant::now();
    let recording = match Recording::shown(plan, limits, signals, keep, None) {
        Ok(recording) => recording,
        Err(error) => match error.downcast_ref() {
            Some(&Interrupted { signal }) => return Ok(Outcome::Signal(signal)),
            None => return Err(error),
        },
    };
    let Watched {
        tracer,
        signals,
        signalled,
    } = recording.run_watched(&mut view, |_| {})?;
    background::drop_in_background(tracer);
    let in_time = args
        .kept
        .length
        .is_none_or(|length| begun.elapsed() < length);
    if !signalled && !view.quit && in_time {
        view.stay("all of it has ended", &signals)?;
    }
    view.end()?;
    Ok(Outcome::Exit(0))
}

/// The view of a command that is run, which prints into `output` meanwhile.
///
/// # Errors
/// When there is no terminal, or no process for it.
pub(super) fn beside<'a>(
    command: &str,
    args: &'a RunArgs,
    accounts: &'a Accounts,
    output: &File,
) -> Result<View<'a>> {
    forktrace_top::check()?;
    let color = args.recording.output.color;
    let folder = Path::new(".");
    let mut view = View::open(command, color, folder, accounts)?;
    view.output = Some((output.try_clone()?, 0));
    Ok(view)
}

/// So much is kept of what came before, for who wants to save it.
const KEEP: Keep = Keep {
    ns: 30_000_000_000,
    bytes: 64 << 20,
};

/// The view of a recording.
pub(super) struct View<'a> {
    /// `None`: it is closed.
    screen: Option<Screen>,
    folder: &'a Path,
    accounts: &'a Accounts,
    saver: Option<Saver<'a>>,
    saved: Vec<PathBuf>,
    /// The user wants no more of it.
    quit: bool,
    /// What a command has printed meanwhile, and how much of that was shown.
    output: Option<(File, u64)>,
}

impl<'a> View<'a> {
    /// Prepares it. The terminal is taken when there is something to show. To be called while
    /// this process has one thread.
    ///
    /// # Errors
    /// When there can be no process for it.
    pub(super) fn open(
        title: &str,
        color: Color,
        folder: &'a Path,
        accounts: &'a Accounts,
    ) -> Result<Self> {
        let stdout = io::stdout();
        let style = page::style_of(color, Some(stdout.as_fd()));
        let screen = Screen::open(Show {
            title: title.to_owned(),
            color: style.color,
            ascii: style.ascii,
        })?;
        Ok(Self {
            screen: Some(screen),
            folder,
            accounts,
            saver: None,
            saved: Vec::new(),
            quit: false,
            output: None,
        })
    }

    /// Gives the terminal back, and says what was saved.
    ///
    /// # Errors
    /// When the view failed.
    fn end(&mut self) -> Result<()> {
        let heard = self.hear(true);
        let closed = self.screen.take().map_or(Ok(()), Screen::close);
        self.print()?;
        for trace in self.saved.drain(..) {
            progress::say_saved(&trace, 0);
        }
        heard.and(closed)
    }

    /// Prints what the command has printed and was not shown yet.
    fn print(&mut self) -> Result<()> {
        let Some((file, shown)) = &mut self.output else {
            return Ok(());
        };
        // Its offset is the command's.
        let mut bytes = vec![0; 64 << 10];
        loop {
            match file.read_at(&mut bytes, *shown) {
                Ok(0) => return Ok(()),
                Ok(length) => {
                    to_stdout(&bytes[..length])?;
                    *shown += length as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("what the command has printed"),
            }
        }
    }

    /// What the user pressed, of a recording that goes on without a view as well.
    fn shown(&mut self, live: &Live, lost: u64) -> Result<Wish> {
        self.hear(false)?;
        let Some(screen) = &mut self.screen else {
            return Ok(Wish::Nothing);
        };
        let pressed = screen.wish()?;
        screen.show(|| live.snapshot(lost))?;
        Ok(match pressed {
            Some(Pressed::Quit) => {
                self.quit = true;
                Wish::End
            }
            Some(Pressed::Save) if self.can_save()? => Wish::Save,
            _ => Wish::Nothing,
        })
    }

    /// Leaves the last picture until the user or a signal ends it.
    fn stay(&mut self, why: &str, signals: &Signals) -> Result<()> {
        if let Some(screen) = &mut self.screen {
            screen.end(why)?;
        }
        while let Some(screen) = &mut self.screen {
            if screen.wish()? == Some(Pressed::Quit) || signals.request()?.is_some() {
                return Ok(());
            }
            let mut wakes = vec![PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN)];
            let of_view = screen.wakes();
            wakes.extend(of_view.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
            match poll(&mut wakes, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error).context("poll"),
            }
        }
        Ok(())
    }

    fn tell(&mut self, text: &str) -> Result<()> {
        match &mut self.screen {
            Some(screen) => screen.tell(text),
            None => Ok(()),
        }
    }

    /// Hears what became of what was being saved.
    fn hear(&mut self, waits: bool) -> Result<()> {
        let Some(saver) = &mut self.saver else {
            return Ok(());
        };
        match saver.hear(waits)? {
            None => Ok(()),
            Some(Saved::Not(why)) => self.tell(&why),
            Some(Saved::Whole(trace)) => {
                let text = format!("saved {}", trace.display());
                self.saved.push(trace);
                self.tell(&text)
            }
        }
    }

    /// Is there somebody who can save? The folder is looked at when it is needed.
    fn can_save(&mut self) -> Result<bool> {
        match &self.saver {
            Some(saver) if saver.is_busy() => {
                self.tell("the one before is still being saved")?;
                return Ok(false);
            }
            Some(_) => return Ok(true),
            None => {}
        }
        match Folder::open(self.folder, usize::MAX, self.accounts) {
            Ok(folder) => {
                self.saver = Some(Saver::new(folder, self.accounts, None));
                Ok(true)
            }
            Err(error) => {
                self.tell(&format!("{error:#}"))?;
                Ok(false)
            }
        }
    }
}

impl Watcher for View<'_> {
    fn look(&mut self, live: &Live, lost: u64, _: Option<&Recent>) -> Result<Wish> {
        let wish = self.shown(live, lost);
        if self.output.is_none() {
            return wish;
        }
        // A command that runs is not ended for want of a view.
        match wish {
            Ok(Wish::End) => {
                self.end()?;
                progress::say_view_closed();
                Ok(Wish::Nothing)
            }
            Ok(wish) => Ok(wish),
            Err(error) => {
                let _ = self.end();
                progress::say_trouble(&format!("the view has ended: {error:#}"));
                Ok(Wish::Nothing)
            }
        }
    }

    fn save(&mut self, recent: &Recent, moment: Moment) -> Result<()> {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH);
        let unix = unix.unwrap_or_default().as_secs();
        let started = match &mut self.saver {
            Some(saver) => saver.start(unix, recent, moment),
            None => Ok(()),
        };
        match started {
            Err(why) => self.tell(&why),
            Ok(()) => Ok(()),
        }
    }

    fn wants_last(&mut self) -> bool {
        false
    }
}

impl Picture for View<'_> {
    fn keep(&self) -> Keep {
        KEEP
    }

    fn close(&mut self) -> Result<()> {
        self.end()
    }
}
