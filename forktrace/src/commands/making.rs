//! The report of a recording, made in a process of its own.
//!
//! A long recording's report takes memory in proportion, and when there is too little the
//! kernel ends whoever takes it. That must not be the one who holds the only trace.

use std::{fs, io, os::fd::AsFd as _};

use anyhow::{Context as _, Result, anyhow};
use forktrace_process::{
    child::{Answer, Ended, Worker},
    signals::Signals,
};
use rustix::event::{PollFd, PollFlags, poll};

use crate::progress;

/// How it ended.
pub(super) enum Made {
    /// Whether the assertions hold.
    Done(bool),
    /// A signal came, by number.
    Interrupted(i32),
    /// The process died, for example for lack of memory.
    Died(String),
}

/// Makes it. `work` says whether the assertions hold.
///
/// A press of Ctrl-C may be meant for a workload that has just ended: the first is
/// answered with words.
///
/// # Errors
/// Those of the work.
pub(super) fn make(signals: &Signals, work: impl FnOnce() -> Result<bool>) -> Result<Made> {
    let mut work = Some(work);
    let mut make = || work.take().context("it is made once")?();
    let worker = Worker::start(|| {
        // If somebody has to go for lack of memory, this is the one.
        let _ = fs::write("/proc/self/oom_score_adj", "1000");
        let holds = make().map_err(|error| io::Error::other(format!("{error:#}")))?;
        Ok(Answer {
            bytes: vec![u8::from(holds)],
            ..Answer::default()
        })
    });
    let Ok(worker) = worker else {
        // Where there is no room for a process, we do it ourselves.
        return make().map(Made::Done);
    };
    let mut warned = false;
    let interrupted = loop {
        let mut wakes = [
            PollFd::from_borrowed_fd(worker.wakes(), PollFlags::IN),
            PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN),
        ];
        match poll(&mut wakes, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("poll"),
        }
        if !wakes[0].revents().is_empty() {
            break None;
        }
        match signals.request()? {
            Some(libc::SIGINT) if !warned => {
                warned = true;
                progress::say_patience();
            }
            Some(signal) => {
                worker.kill();
                break Some(signal);
            }
            None => {}
        }
    };
    let ended = worker
        .finish()
        .context("the report's process can't be heard")?;
    Ok(match (interrupted, ended) {
        (Some(signal), _) => Made::Interrupted(signal),
        (None, Ended::Answered(answer)) => {
            let answer = answer.map_err(|error| anyhow!("{error}"))?;
            Made::Done(answer.bytes.first() == Some(&1))
        }
        (None, Ended::Died(status)) => {
            Made::Died(match status.and_then(|it| it.terminating_signal()) {
                Some(libc::SIGKILL) => "it was killed, as happens when memory is short".to_owned(),
                Some(signal) => {
                    format!("signal {signal} ended it, as happens when memory is short")
                }
                None => "its process failed".to_owned(),
            })
        }
    })
}
