//! Exports a recording that goes on as tables, window by window: each is a trace of its own that
//! begins where the one before ended, written by a process of its own.

use std::{
    io,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result};
use forktrace_core::{
    pipeline,
    recent::{Moment, Recent, Since},
};
use forktrace_process::{
    child::{Answer, Worker},
    launch::Accounts,
};
use forktrace_record::record::name_living;

use super::{saving, tables};

/// The wall clock is followed if it is off by more than this, ns: it was set, or the machine slept.
const STEP_NS: u64 = 1_000_000_000;

/// The windows of a recording.
pub(super) struct Windows<'a> {
    folder: &'a Path,
    accounts: &'a Accounts,
    every_ns: u64,
    /// A window ends earlier when it takes so many bytes of what is kept.
    most: usize,
    /// Where the next one begins; `None`: with the recording.
    next: Option<Since>,
    /// None is tried before, in the recording's time.
    not_before_ns: u64,
    /// The one that is being written, and where the one after it begins.
    worker: Option<(Worker, Since)>,
    pub(super) exported: u64,
    pub(super) failed: u64,
}

/// What should be known of a window, for people.
pub(super) type Notes = Vec<String>;

impl<'a> Windows<'a> {
    /// Windows of this length, in this folder. `memory`: how much is kept, in bytes.
    ///
    /// # Errors
    /// When the folder can't be written, or this build has no writer.
    pub(super) fn open(
        folder: &'a Path,
        every: Duration,
        memory: usize,
        accounts: &'a Accounts,
        force: bool,
    ) -> Result<Self> {
        tables::open(folder, accounts, force)?;
        Ok(Self {
            folder,
            accounts,
            every_ns: every.as_nanos() as u64,
            most: memory / 2,
            next: None,
            not_before_ns: 0,
            worker: None,
            exported: 0,
            failed: 0,
        })
    }

    /// Is it time to end a window?
    pub(super) fn is_due(&self, now_ns: u64, recent: &Recent) -> bool {
        let from_ns = self.from(recent).ns;
        let is_over = now_ns.saturating_sub(from_ns) >= self.every_ns;
        let is_full = || recent.bytes_after(from_ns) >= self.most;
        let is_free = self.worker.is_none() && now_ns >= self.not_before_ns;
        is_free && (is_over || is_full())
    }

    fn from(&self, recent: &Recent) -> Since {
        self.next.unwrap_or_else(|| recent.began())
    }

    /// Begins to write the window that ends at this moment. The one before has been heard of.
    pub(super) fn start(&mut self, recent: &Recent, moment: Moment) -> Notes {
        let mut notes = Notes::new();
        let wanted = self.from(recent);
        let from = recent.begins(&wanted);
        let lacking_ns = from.ns.saturating_sub(wanted.ns);
        if lacking_ns > 0 {
            notes.push(format!(
                "{} s are in no table: they did not fit into memory (--memory) until a window was \
                 written",
                lacking_ns.div_ceil(1_000_000_000)
            ));
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let (next, note) = after(&from, &moment, now.unwrap_or_default().as_nanos() as u64);
        notes.extend(note);
        let work = || {
            let notes = self.write(recent, &from, moment);
            let notes = notes.map_err(|error| io::Error::other(format!("{error:#}")))?;
            Ok(Answer {
                bytes: notes.join("\n").into_bytes(),
                ..Answer::default()
            })
        };
        match Worker::start(work) {
            Ok(worker) => self.worker = Some((worker, next)),
            Err(error) => notes.push(self.not_written(&next, &error.to_string())),
        }
        notes
    }

    fn write(&self, recent: &Recent, from: &Since, mut moment: Moment) -> Result<Notes> {
        saving::in_background();
        name_living(&mut moment);
        let mut bytes = Vec::new();
        let finish = recent.write_from(from, &mut bytes, moment)?;
        let (info, model) = pipeline::read(&bytes, Some(finish))?;
        drop(bytes);
        let recording = forktrace_export::Recording {
            info: &info,
            model: &model,
        };
        tables::write(self.folder, self.accounts, recording, None)
    }

    /// What could not be written is in the next window, as far as memory holds it.
    fn not_written(&mut self, next: &Since, why: &str) -> String {
        self.failed += 1;
        self.not_before_ns = next.ns.saturating_add(self.every_ns);
        format!(
            "a window was not exported to {}: {why}",
            self.folder.display()
        )
    }

    /// Hears what became of the window that was being written.
    ///
    /// # Errors
    /// When it can't be heard.
    pub(super) fn hear(&mut self, waits: bool) -> Result<Notes> {
        let Some((worker, next)) = self.worker.take() else {
            return Ok(Notes::new());
        };
        if !saving::has_ended(&worker, waits) {
            self.worker = Some((worker, next));
            return Ok(Notes::new());
        }
        let outcome = saving::outcome(worker);
        let outcome = outcome.with_context(|| {
            let folder = self.folder.display();
            format!("what became of a window for {folder} can't be heard")
        })?;
        Ok(match outcome {
            Ok(answer) => {
                self.exported += 1;
                self.next = Some(next);
                let notes = String::from_utf8_lossy(&answer.bytes);
                notes.lines().map(str::to_owned).collect()
            }
            Err(why) => vec![self.not_written(&next, &why)],
        })
    }
}

/// Where the window after one begins that ends at this moment, given what time it is, and what
/// should be known of that.
fn after(from: &Since, moment: &Moment, now_ns: u64) -> (Since, Option<String>) {
    let length_ns = moment.at_ns.saturating_sub(from.ns);
    let unix_ns = from.unix_ns.saturating_add(length_ns);
    let off_ns = now_ns.abs_diff(unix_ns);
    let is_set = off_ns > STEP_NS;
    let note = is_set.then(|| {
        let way = if now_ns > unix_ns { "ahead" } else { "back" };
        let by = off_ns / 1_000_000_000;
        format!("the wall clock went {way} by {by} s: tables have its time from here on")
    });
    let next = Since {
        ns: moment.at_ns,
        unix_ns: if is_set { now_ns } else { unix_ns },
        counters: moment.counters,
    };
    (next, note)
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    #[test]
    fn a_window_begins_where_the_one_before_ended_and_follows_a_clock_that_is_set() {
        let from = Since {
            ns: 7 * S,
            unix_ns: 1_000 * S,
            ..Since::default()
        };
        let moment = Moment {
            at_ns: 17 * S,
            ..Moment::default()
        };
        // A clock that drifts a little leaves no gap.
        let (next, note) = after(&from, &moment, 1_010 * S + S / 2);
        assert_eq!((next.ns, next.unix_ns, note), (17 * S, 1_010 * S, None));
        for (now, said) in [(4_610 * S, "ahead by 3600 s"), (10 * S, "back by 1000 s")] {
            let (next, note) = after(&from, &moment, now);
            assert_eq!((next.ns, next.unix_ns), (17 * S, now));
            assert!(note.is_some_and(|it| it.contains(said)), "{said}");
        }
    }
}
