//! What a recording tells while it goes on and at its end, and what it asks.

use std::{io, time::Duration};

use anyhow::Result;
use forktrace_core::{
    live::Live,
    recent::{Moment, Recent},
};

use crate::{
    at_work::AtWork, capture::Tracer, noticed::GoesOn, procfs, report, signals::Signals,
    trace::Finish,
};

/// What a progress line shows.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Since the workload began.
    pub elapsed: Duration,
    /// Tasks seen so far.
    pub tasks: u64,
    /// Tasks that live.
    pub live: u64,
    /// Records received.
    pub records: u64,
    /// Records lost.
    pub lost: u64,
    /// What the living tasks do; renewed once a second.
    pub at_work: AtWork,
    /// After a press of Ctrl-C: so many more end the recording.
    pub presses_left: Option<u32>,
}

/// What is worth telling while the recording goes on.
#[derive(Debug)]
pub enum Notice {
    /// How far it is.
    Progress(Progress),
    /// Tasks can never go on; times are since the recording began.
    Deadlock(report::Deadlock),
    /// One of those who were said not to did.
    GoesOn(GoesOn),
    /// What the kernel programs say, if that is wanted ([`Settings::log`](crate::capture::Settings::log)).
    Log(String),
    /// Names that were asked for can't be had, and why.
    NoNames(String),
    /// What comes can't be written, and why: said the first time. It is tried again and again.
    NotWritten(String),
    /// The recording is over, and what is still looked up ends when Ctrl-C is pressed so
    /// many times more.
    LastLookUps(u32),
}

/// What a [`Watcher`] wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Nothing now.
    Nothing,
    /// That it is found out at once who could end the waits of the moment.
    LookNow,
    /// The last seconds.
    Save,
    /// That the recording ends.
    End,
}

/// Decides which seconds of a recording are kept.
pub trait Watcher {
    /// The live state is a new one; so many records were lost. `recent` is what is kept in
    /// memory, if anything is.
    ///
    /// # Errors
    /// When it can't go on.
    fn look(&mut self, live: &Live, lost: u64, recent: Option<&Recent>) -> Result<Wish>;

    /// Takes the last seconds. To be left again soon: nothing is recorded meanwhile.
    ///
    /// # Errors
    /// When it can't go on.
    fn save(&mut self, recent: &Recent, moment: Moment) -> Result<()>;

    /// The recording is over: are its last seconds to be saved?
    fn wants_last(&mut self) -> bool;
}

/// Gives the tasks the names that they have now: for a process that has time.
pub fn name_living(moment: &mut Moment) {
    for task in &mut moment.living {
        let name = procfs::name_of_living(task.born.tgid, task.born.tid);
        if !name.is_empty() {
            task.born.comm = name;
        }
    }
}

/// How watching ended.
pub struct Watched {
    /// The programs, detached: see [`Recorded::tracer`].
    pub tracer: Tracer,
    /// Still blocked.
    pub signals: Signals,
    /// One of them has ended it.
    pub signalled: bool,
}

/// How a recording went.
pub struct Recorded {
    /// The end, as it was or should have been written.
    pub finish: Finish,
    /// Set when the end could not be written to the file.
    pub finish_error: Option<io::Error>,
    /// The attached select/poll programs: dropping it takes up to a second, see
    /// [`Tracer`].
    pub tracer: Tracer,
    /// Set when a signal ended it: processes that still run, with their names.
    pub left: Option<Vec<(u32, String)>>,
    /// Still blocked.
    pub signals: Signals,
}

/// A request to end came before there was a workload.
#[derive(Clone, Copy, Debug)]
pub struct Interrupted {
    /// The signal's number.
    pub signal: i32,
}

impl std::error::Error for Interrupted {}

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "signal {} came before the command began", self.signal)
    }
}
