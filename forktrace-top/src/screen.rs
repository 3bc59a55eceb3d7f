//! The recorder's end: starts the process that has the terminal, and feeds it.

use std::{
    cell::Cell,
    io,
    os::fd::{AsFd as _, OwnedFd},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use forktrace_core::live::Snapshot;
use forktrace_process::{
    child::{Answer, Ended, Worker},
    privileges,
    signals::Signals,
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::{AddressFamily, SocketFlags, SocketType, socketpair},
    time::{ClockId, clock_gettime},
};

use crate::{
    serve::serve,
    terminal::Before,
    ui::Ui,
    wire::{FromView, ToView, Wish, hear, is_gone, send},
};

/// How long the view may take to give the terminal back, s.
const PATIENCE_S: i64 = 2;
/// A moment is made and sent at most so often that it takes one part in so many of a CPU: the
/// more tasks, the longer a picture stays…
const SHARE: u32 = 125;
/// …but not for longer than this.
const LONGEST: Duration = Duration::from_secs(2);

/// How the view looks.
#[derive(Clone, Debug)]
pub struct Show {
    /// What is recorded, in words.
    pub title: String,
    /// Colours may be used.
    pub color: bool,
    /// Nothing but ASCII can be shown.
    pub ascii: bool,
}

/// The terminal, drawn on by a process of its own until this is dropped.
pub struct Screen {
    worker: Option<Worker>,
    socket: Option<OwnedFd>,
    before: Before,
    /// The view has taken the last snapshot.
    ready: bool,
    /// No other one is made before.
    next: Instant,
    /// What could not be sent yet.
    waiting: Vec<ToView>,
}

impl Screen {
    /// Starts the process. It takes the terminal when it is first shown something. To be called
    /// while this process has one thread, and nothing to hand on.
    ///
    /// # Errors
    /// When there can be no such process.
    pub fn open(show: Show) -> Result<Self> {
        let before = Before::of_stdout()?;
        let (ours, its) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .context("no socket for the view")?;
        let ours = Cell::new(Some(ours));
        let worker = Worker::start(|| {
            // Else it would never hear that we are gone.
            drop(ours.take());
            // What ends all of the group ends the recorder, and with it the view, which has a
            // terminal to give back.
            let _signals = Signals::take().map_err(io::Error::other)?;
            privileges::drop_all().map_err(io::Error::other)?;
            let ui = Ui {
                title: show.title.clone(),
                color: show.color,
                ascii: show.ascii,
                ..Ui::default()
            };
            serve(its.as_fd(), ui, &before)?;
            Ok(Answer::default())
        });
        Ok(Self {
            worker: Some(worker.context("no process for the view")?),
            socket: ours.take(),
            before,
            ready: true,
            next: Instant::now(),
            waiting: Vec::new(),
        })
    }

    /// Shows the moment, unless the view still draws the one before, or that one was shown
    /// only just now for what it took.
    ///
    /// # Errors
    /// When it can't be sent.
    pub fn show(&mut self, moment: impl FnOnce() -> Snapshot) -> Result<()> {
        if !self.ready || Instant::now() < self.next {
            return Ok(());
        }
        let before = cpu_time();
        self.ready = false;
        self.send(ToView::Snapshot(Box::new(moment())))?;
        self.next = Instant::now() + rest_after(cpu_time().saturating_sub(before));
        Ok(())
    }

    /// Tells something in the last line.
    ///
    /// # Errors
    /// As above.
    pub fn tell(&mut self, text: &str) -> Result<()> {
        self.send(ToView::Message(text.to_owned()))
    }

    /// Says that nothing more will come, and why. The last moment stays on the screen.
    ///
    /// # Errors
    /// As above.
    pub fn end(&mut self, why: &str) -> Result<()> {
        self.send(ToView::Ended(why.to_owned()))
    }

    fn send(&mut self, what: ToView) -> Result<()> {
        self.waiting.push(what);
        while let (Some(socket), Some(first)) = (&self.socket, self.waiting.first()) {
            match send(socket.as_fd(), first) {
                Ok(true) => drop(self.waiting.remove(0)),
                Ok(false) => break,
                // It is gone: the next wish says why.
                Err(error) if is_gone(&error) => {
                    self.waiting.clear();
                    break;
                }
                Err(error) => return Err(self.gone(&error)),
            }
        }
        Ok(())
    }

    /// What the user wants next; `None`: nothing now. That the view is gone is a wish to quit.
    ///
    /// # Errors
    /// When the view failed.
    pub fn wish(&mut self) -> Result<Option<Wish>> {
        loop {
            let Some(socket) = &self.socket else {
                return Ok(Some(Wish::Quit));
            };
            match hear(socket.as_fd()) {
                Ok(Some(FromView::Ready)) => self.ready = true,
                Ok(Some(FromView::Wish(wish))) => return Ok(Some(wish)),
                Ok(None) => return Ok(None),
                Err(error) => return Err(self.gone(&error)),
            }
        }
    }

    /// Readable when there may be a wish.
    pub fn wakes(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        self.socket.as_ref().map(|socket| socket.as_fd())
    }

    /// Gives the terminal back.
    ///
    /// # Errors
    /// When the view failed before.
    pub fn close(mut self) -> Result<()> {
        self.finish()
    }

    fn gone(&mut self, error: &io::Error) -> anyhow::Error {
        match self.finish() {
            Err(why) => why,
            Ok(()) => anyhow::anyhow!("the view is gone: {error}"),
        }
    }

    fn finish(&mut self) -> Result<()> {
        drop(self.socket.take());
        let Some(worker) = self.worker.take() else {
            return Ok(());
        };
        let patience = Timespec {
            tv_sec: PATIENCE_S,
            tv_nsec: 0,
        };
        let mut wakes = [PollFd::from_borrowed_fd(worker.wakes(), PollFlags::IN)];
        if poll(&mut wakes, Some(&patience)).is_ok_and(|ready| ready == 0) {
            // The terminal takes nothing.
            worker.kill();
        }
        let ended = worker.finish();
        if !self.before.is_now() {
            // It could not do it itself.
            let _ = self.before.restore();
        }
        match ended.context("what became of the view can't be heard")? {
            Ended::Answered(answer) => {
                answer.context("the terminal")?;
                Ok(())
            }
            Ended::Died(status) => anyhow::bail!("the view's process died ({status:?})"),
        }
    }
}

/// How long no moment is made after one that took so much of a CPU.
fn rest_after(took: Duration) -> Duration {
    took.saturating_mul(SHARE).min(LONGEST)
}

/// CPU time that this thread has had.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.finish();
    }
}
