//! Saves the last seconds of a recording: a trace and its reports, in a folder, each time by a
//! process of its own.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{self, Stdio},
};

use anyhow::{Context as _, Result};
use forktrace_core::{
    analysis::{Options, analyse_with},
    pipeline,
    recent::{Moment, Recent},
    utc::{compact, is_compact},
};
use forktrace_process::{
    child::{Answer, Ended, Worker, with_rights_of},
    launch::Accounts,
    signals::Inherited,
};
use forktrace_record::record::name_living;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{files::TraceFile, output::Outputs};

/// What all files that are saved are called.
const PREFIX: &str = "forktrace-";
/// How the trace and the two reports made of it end.
const SUFFIXES: [&str; 3] = ["ft", "txt", "json"];

/// Where files are saved.
pub(super) struct Folder {
    path: PathBuf,
    most: usize,
}

impl Folder {
    /// Looks whether it is there, and whether the user may write there.
    pub(super) fn open(path: &Path, most: usize, accounts: &Accounts) -> Result<Self> {
        let shown = path.display();
        let tried = with_rights_of(accounts.caller.as_ref(), || {
            let kind = fs::metadata(path)?;
            if !kind.is_dir() {
                return Err(io::Error::from(io::ErrorKind::NotADirectory));
            }
            tempfile::Builder::new().prefix(PREFIX).tempfile_in(path)?;
            Ok(Answer::default())
        });
        let who = match &accounts.caller {
            Some(caller) => format!(" as {}, who called sudo", caller.name),
            None => String::new(),
        };
        tried.with_context(|| {
            format!(
                "nothing can be saved in {shown}{who} (--save-dir); `mkdir -p {shown}` makes it"
            )
        })?;
        Ok(Self {
            path: path.to_owned(),
            most,
        })
    }

    /// A name for the files of a moment that no other has: without its suffix.
    fn name(&self, at: &str) -> PathBuf {
        let names = (1..).map(|number| match number {
            1 => format!("{PREFIX}{at}"),
            _ => format!("{PREFIX}{at}-{number}"),
        });
        let paths = names.map(|name| self.path.join(name));
        let free = |path: &PathBuf| !path.with_extension("ft").exists();
        let mut paths = paths.filter(free);
        paths.next().unwrap_or_else(|| self.path.join(PREFIX))
    }

    /// Removes the oldest, so that there is room for one more.
    fn make_room(&self) -> io::Result<()> {
        let mut saved = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            if name.is_some_and(is_ours) {
                let written = path.symlink_metadata()?.modified()?;
                saved.push((written, path));
            }
        }
        saved.sort();
        let too_many = (saved.len() + 1).saturating_sub(self.most);
        for (_, path) in saved.into_iter().take(too_many) {
            for suffix in SUFFIXES {
                match fs::remove_file(path.with_extension(suffix)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

/// Did [`Folder::name`] make this name of a trace? What somebody called so himself is his.
fn is_ours(name: &str) -> bool {
    let at = name
        .strip_prefix(PREFIX)
        .and_then(|it| it.strip_suffix(".ft"));
    let Some(at) = at else {
        return false;
    };
    let (at, number) = at.split_once('-').unwrap_or((at, "2"));
    is_compact(at) && number.parse::<u32>().is_ok_and(|number| number > 1)
}

/// What became of something that was to be saved.
pub(super) enum Saved {
    /// The trace is there, and its reports.
    Whole(PathBuf),
    /// It is not, or not whole: what is to be said of it.
    Not(String),
}

/// Saves one after the other.
pub(super) struct Saver<'a> {
    folder: Folder,
    accounts: &'a Accounts,
    /// Run after each, with the signals as we found them.
    then: Option<(&'a str, Inherited)>,
    worker: Option<(Worker, PathBuf)>,
}

impl<'a> Saver<'a> {
    pub(super) fn new(
        folder: Folder,
        accounts: &'a Accounts,
        then: Option<(&'a str, Inherited)>,
    ) -> Self {
        Self {
            folder,
            accounts,
            then,
            worker: None,
        }
    }

    /// Is one still being written?
    pub(super) fn is_busy(&self) -> bool {
        self.worker.is_some()
    }

    /// Begins to write the seconds before a moment, which was so many seconds after 1970.
    ///
    /// # Errors
    /// When there can be no process for it: what is to be said.
    pub(super) fn start(
        &mut self,
        unix: u64,
        recent: &Recent,
        moment: Moment,
    ) -> Result<(), String> {
        let path = self.folder.name(&compact(unix));
        let saving = || {
            let saved = self.write(&path, recent, moment);
            saved.map_err(|error| io::Error::other(format!("{error:#}")))?;
            Ok(Answer::default())
        };
        let worker = Worker::start(saving)
            .map_err(|error| format!("nothing was saved: no process for it: {error}"))?;
        self.worker = Some((worker, path));
        Ok(())
    }

    /// Writes a trace and its reports, in a process of its own that may die, and that ends when
    /// we do.
    fn write(&self, path: &Path, recent: &Recent, mut moment: Moment) -> Result<()> {
        in_background();
        with_rights_of(self.accounts.caller.as_ref(), || {
            self.folder.make_room()?;
            Ok(Answer::default())
        })
        .context("the oldest could not be removed")?;
        let to = path.with_extension(SUFFIXES[0]);
        let mut trace = TraceFile::open(&to, self.accounts, false)?;
        name_living(&mut moment);
        let mut bytes = Vec::new();
        let finish = recent.write(&mut bytes, moment)?;
        io::Write::write_all(&mut trace.file(), &bytes)
            .with_context(|| format!("{} can't be written", to.display()))?;
        trace.begin();
        trace.finish()?;
        let files = [SUFFIXES[1], SUFFIXES[2]].map(|it| path.with_extension(it));
        let mut outputs = Outputs::open_private(&files, self.accounts, &[trace.file()])?;
        let (info, model) = pipeline::read(&bytes, Some(finish))?;
        drop(bytes);
        let report = analyse_with(&info, &model, &Options::default());
        let source = forktrace_export::Source {
            info: &info,
            model: &model,
            report: &report,
        };
        outputs.write(&source, Some(&to.to_string_lossy()))?;
        if let Some((command, inherited)) = &self.then {
            inherited.restore()?;
            self.run(command, path)?;
        }
        Ok(())
    }

    /// Starts a command that is to be told, and does not wait for it.
    fn run(&self, command: &str, path: &Path) -> Result<()> {
        let told = with_rights_of(self.accounts.caller.as_ref(), || {
            let mut started = process::Command::new("sh");
            started.args(["-c", command]).stdin(Stdio::null());
            for (variable, suffix) in ["TRACE", "TEXT", "JSON"].iter().zip(SUFFIXES) {
                started.env(format!("FORKTRACE_{variable}"), path.with_extension(suffix));
            }
            started.spawn()?;
            Ok(Answer::default())
        });
        told.with_context(|| format!("--then '{command}' can't be started"))?;
        Ok(())
    }

    /// Hears what became of it; `None`: nothing is known yet, or nothing was to be saved.
    ///
    /// # Errors
    /// When it can't be heard.
    pub(super) fn hear(&mut self, waits: bool) -> Result<Option<Saved>> {
        if !self
            .worker
            .as_ref()
            .is_some_and(|(it, _)| has_ended(it, waits))
        {
            return Ok(None);
        }
        let Some((worker, path)) = self.worker.take() else {
            return Ok(None);
        };
        let name = path.with_extension(SUFFIXES[0]);
        let outcome = outcome(worker);
        let outcome =
            outcome.with_context(|| format!("what became of {} can't be heard", name.display()))?;
        Ok(Some(match outcome {
            Ok(_) => Saved::Whole(name),
            Err(why) => Saved::Not(format!("{} was not saved whole: {why}", name.display())),
        }))
    }
}

/// Makes this process one that may die, gives way to others, and ends when the one that started
/// it does.
pub(super) fn in_background() {
    let _ = nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL);
    let _ = fs::write("/proc/self/oom_score_adj", "1000");
    let _ = rustix::process::setpriority_process(None, 10);
}

/// Has it ended, or does it have an answer? `waits`: until then.
pub(super) fn has_ended(worker: &Worker, waits: bool) -> bool {
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let mut wakes = [PollFd::from_borrowed_fd(worker.wakes(), PollFlags::IN)];
    let timeout = if waits { None } else { Some(&now) };
    !poll(&mut wakes, timeout).is_ok_and(|ready| ready == 0)
}

/// What became of its work, or why nothing did.
///
/// # Errors
/// When it can't be heard.
pub(super) fn outcome(worker: Worker) -> io::Result<std::result::Result<Answer, String>> {
    Ok(match worker.finish()? {
        Ended::Answered(Ok(answer)) => Ok(answer),
        Ended::Answered(Err(error)) => Err(error.to_string()),
        Ended::Died(status) => Err(format!(
            "its process died ({status:?}), as for lack of memory"
        )),
    })
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn only_traces_of_our_own_make_room() {
        for name in [
            "forktrace-20260131T235907Z.ft",
            "forktrace-20260131T235907Z-2.ft",
            "forktrace-20260131T235907Z-13.ft",
        ] {
            assert!(is_ours(name), "{name}");
        }
        for name in [
            "forktrace-before.ft",
            "forktrace-20260131T235907Z-good.ft",
            "forktrace-20260131T235907Z-1.ft",
            "forktrace-20260131T235907Z.txt",
            "forktrace-.ft",
            "20260131T235907Z.ft",
        ] {
            assert!(!is_ours(name), "{name}");
        }
    }

    #[test]
    fn the_oldest_go_and_nothing_else_does() {
        let place = tempfile::tempdir().expect("a folder");
        let folder = Folder {
            path: place.path().to_owned(),
            most: 2,
        };
        let there = |name: &str| place.path().join(name).exists();
        let ours = |second: &str| format!("{PREFIX}20260131T23590{second}Z");
        let of = |second: &str, suffix: &str| format!("{}.{suffix}", ours(second));
        for name in ["1", "2", "3"].map(ours) {
            for suffix in SUFFIXES {
                fs::write(place.path().join(&name).with_extension(suffix), "x").expect("a file");
            }
        }
        // Older than all of them, and somebody else's.
        let others = ["other.ft", "forktrace-before.ft"];
        for name in others {
            fs::write(place.path().join(name), "x").expect("a file");
        }
        let old = |name: &str, s| {
            let file = fs::File::options()
                .write(true)
                .open(place.path().join(name));
            let at = UNIX_EPOCH + std::time::Duration::from_secs(s);
            file.and_then(|it| it.set_modified(at)).expect("its time");
        };
        for name in others {
            old(name, 1);
        }
        old(&of("2", "ft"), 5);
        old(&of("3", "ft"), 7);
        folder.make_room().expect("room");
        assert!(others.into_iter().all(there));
        assert!(there(&of("1", "ft")) && there(&of("1", "txt")));
        assert!(!there(&of("2", "ft")) && !there(&of("3", "json")));
        let next = folder.name("20260131T235901Z");
        assert_eq!(next, place.path().join(ours("1") + "-2"));
    }
}
