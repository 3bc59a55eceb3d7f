//! `forktrace watch`: keeps the last seconds of what runs, and saves them when something is so.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    process::{self, Stdio},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use forktrace_claims::expression::{Expression, Figures, Shape};
use forktrace_core::{
    analysis::{Options, analyse_with},
    live::Live,
    pipeline,
    recent::{Keep, Moment, Recent},
    utc::{compact, is_compact, time_of_day},
};
use forktrace_process::{
    child::{Answer, Ended, Worker, with_rights_of},
    launch::Accounts,
    limits::Limits,
    signals::{Inherited, Signals},
};
use forktrace_record::{
    background,
    capture::{PollProbes, Settings, Tracer},
    metrics::Listener,
    record::{Interrupted, Notice, Plan, Recording, Source, Watched, Watcher, Wish, name_living},
    targets::Targets,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{Outcome, attach::targets, files::TraceFile, output::Outputs};
use crate::{
    cli::{OutputArgs, WatchArgs},
    progress,
};

/// What all files that are saved are called.
const PREFIX: &str = "forktrace-";
/// How the trace and the two reports made of it end.
const SUFFIXES: [&str; 3] = ["ft", "txt", "json"];
/// Below this, who could end the waits of a stall is not asked for before its time, ns.
const STALL_NS: u64 = 100_000_000;

/// Watches what runs already, until a signal ends it.
///
/// # Errors
/// When there is no such thing, the condition is none, nothing can be saved where it is to be,
/// or the target can't be traced.
pub(crate) fn watch(args: &WatchArgs) -> Result<Outcome> {
    let condition = Condition::compile(&args.when)?;
    let accounts = Accounts::choose(None, args.as_root)?;
    let folder = Folder::open(&args.save_dir, args.max as usize, &accounts)?;
    let wanted = targets(&args.what);
    let targets = Targets::find(&wanted)?;
    let settings = Settings {
        ring_bytes: args.ring_size,
        max_tasks: args.max_tasks,
        // A table of counters can't be cut at a moment.
        polls: PollProbes::Off,
        plain: false,
        stacks: args.stacks.ways(false),
        log: Default::default(),
        existing: Some(targets.existing()),
    };
    let metrics = args.metrics.as_deref().map(Listener::bind).transpose()?;
    let limits = Limits::raise(&Tracer::needs(&settings)?)?;
    if let Some(metrics) = &metrics {
        progress::say_metrics(metrics.address());
    }
    let signals = Signals::take()?;
    let mut watch = Watch {
        condition,
        folder,
        args,
        accounts,
        inherited: signals.inherited(),
        state: State::Armed,
        was_true: false,
        quiet_until_ns: 0,
        passed_over: 0,
        said: BTreeSet::new(),
        worker: None,
        saved: 0,
    };
    let plan = Plan {
        source: Source::Attach {
            targets,
            length: args.length,
        },
        settings,
        metrics,
    };
    let keep = Keep {
        ns: args.keep.as_nanos() as u64,
        bytes: args.memory as usize,
    };
    let recording = match Recording::watch(plan, limits, signals, keep) {
        Ok(recording) => recording,
        Err(error) => match error.downcast_ref() {
            Some(&Interrupted { signal }) => return Ok(Outcome::Signal(signal)),
            None => return Err(error),
        },
    };
    if let Some((words, tasks)) = recording.attached() {
        progress::say_watching(words, tasks, &args.when, &args.save_dir);
    }
    let Watched { tracer } = recording.run_watched(&mut watch, |notice| {
        if let Notice::Log(text) = notice {
            progress::say_log(&text);
        }
    })?;
    watch.finish()?;
    background::drop_in_background(tracer);
    progress::say_watched(watch.saved, &args.save_dir);
    Ok(Outcome::Exit(0))
}

/// What is watched for.
struct Condition {
    expression: Expression,
    wants_tasks: bool,
}

impl Condition {
    fn compile(source: &str) -> Result<Self> {
        let shape = Shape::of_moment();
        let compiled = Expression::compile(source, &shape);
        let expression = compiled.with_context(|| format!("--when '{source}'"))?;
        ensure!(
            expression.shape().can_be_true(),
            "--when '{source}': it is neither true nor false; compare it with something"
        );
        Ok(Self {
            wants_tasks: expression.names("tasks") || expression.calls("blocked"),
            expression,
        })
    }

    fn holds(&self, live: &Live, lost: u64) -> Result<bool> {
        let moment = live.moment(lost, self.wants_tasks);
        let variables = match serde_json::to_value(&moment)? {
            serde_json::Value::Object(fields) => fields,
            _ => serde_json::Map::new(),
        };
        Ok(self.expression.holds(&Figures::new(&variables))?)
    }
}

/// Where files are saved.
struct Folder {
    path: PathBuf,
    most: usize,
}

impl Folder {
    /// Looks whether it is there, and whether the user may write there.
    fn open(path: &Path, most: usize, accounts: &Accounts) -> Result<Self> {
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

/// What it is about to do.
enum State {
    /// Waits for the condition.
    Armed,
    /// It came true; what comes after it is waited for.
    After {
        /// When all of that is there.
        until_ns: u64,
        /// Wall-clock time at which it came true, s since 1970.
        unix: u64,
    },
}

struct Watch<'a> {
    condition: Condition,
    folder: Folder,
    args: &'a WatchArgs,
    accounts: Accounts,
    inherited: Inherited,
    state: State,
    was_true: bool,
    /// Nothing more is saved before.
    quiet_until_ns: u64,
    /// Times that it became true and was not saved.
    passed_over: u64,
    /// What has been complained of.
    said: BTreeSet<String>,
    worker: Option<(Worker, PathBuf)>,
    saved: u64,
}

impl Watcher for Watch<'_> {
    fn look(&mut self, live: &Live, lost: u64) -> Result<Wish> {
        self.hear(false)?;
        let now_ns = live.at_ns();
        let holds = match self.condition.holds(live, lost) {
            Ok(holds) => holds,
            Err(error) => {
                self.complain(&format!("--when '{}': {error:#}", self.args.when));
                false
            }
        };
        let before = std::mem::replace(&mut self.was_true, holds);
        let began = holds && !before;
        match self.state {
            State::Armed if began && now_ns < self.quiet_until_ns => self.passed_over += 1,
            State::Armed if began => {
                let unix = SystemTime::now().duration_since(UNIX_EPOCH);
                let unix = unix.unwrap_or_default().as_secs();
                let after_ns = self.args.after.as_nanos() as u64;
                self.state = State::After {
                    until_ns: now_ns.saturating_add(after_ns),
                    unix,
                };
                progress::say_true(&time_of_day(unix), &self.args.when, live.cause());
                return Ok(Wish::LookNow);
            }
            // The one before is still being written: this one waits for it.
            State::After { until_ns, .. } if now_ns >= until_ns && self.worker.is_none() => {
                return Ok(Wish::Save);
            }
            _ => {}
        }
        let all_blocked = live.all_blocked().since_ns;
        let stalls = all_blocked.is_some_and(|since| now_ns - since > STALL_NS);
        Ok(if stalls && live.cause() != "idle" {
            Wish::LookNow
        } else {
            Wish::Nothing
        })
    }

    fn is_waiting(&self) -> bool {
        matches!(self.state, State::After { .. })
    }

    fn save(&mut self, recent: &Recent, moment: Moment) -> Result<()> {
        let State::After { unix, .. } = std::mem::replace(&mut self.state, State::Armed) else {
            return Ok(());
        };
        // Only at the end can there be one.
        self.hear(true)?;
        self.quiet_until_ns = moment
            .at_ns
            .saturating_add(self.args.pause.as_nanos() as u64);
        let path = self.folder.name(&compact(unix));
        let saving = || {
            let saved = self.write(&path, recent, moment);
            saved.map_err(|error| io::Error::other(format!("{error:#}")))?;
            Ok(Answer::default())
        };
        match Worker::start(saving) {
            Ok(worker) => self.worker = Some((worker, path)),
            Err(error) => self.complain(&format!("nothing was saved: no process for it: {error}")),
        }
        Ok(())
    }
}

impl Watch<'_> {
    /// Writes a trace and its reports, in a process of its own that may die, and that ends when
    /// we do.
    fn write(&self, path: &Path, recent: &Recent, mut moment: Moment) -> Result<()> {
        let _ = nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL);
        let _ = fs::write("/proc/self/oom_score_adj", "1000");
        let _ = rustix::process::setpriority_process(None, 10);
        with_rights_of(self.accounts.caller.as_ref(), || {
            self.folder.make_room()?;
            Ok(Answer::default())
        })
        .context("the oldest could not be removed")?;
        let to = path.with_extension(SUFFIXES[0]);
        let mut trace = TraceFile::open(&to, &self.accounts, false)?;
        name_living(&mut moment);
        let mut bytes = Vec::new();
        let finish = recent.write(&mut bytes, moment)?;
        io::Write::write_all(&mut trace.file(), &bytes)
            .with_context(|| format!("{} can't be written", to.display()))?;
        trace.begin();
        trace.finish()?;
        let output =
            OutputArgs::to_files(&[SUFFIXES[1], SUFFIXES[2]].map(|it| path.with_extension(it)));
        let mut outputs = Outputs::open(&output, false, &self.accounts, &[trace.file()])?;
        let (info, model) = pipeline::read(&bytes, Some(finish))?;
        drop(bytes);
        let report = analyse_with(&info, &model, &Options::default());
        let source = forktrace_export::Source {
            info: &info,
            model: &model,
            report: &report,
        };
        outputs.write(&source, Some(&to.to_string_lossy()))?;
        if let Some(command) = &self.args.then {
            self.then(command, path)?;
        }
        Ok(())
    }

    /// Starts a command that is to be told, and does not wait for it.
    fn then(&self, command: &str, path: &Path) -> Result<()> {
        self.inherited.restore()?;
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

    /// Hears what became of what was being saved.
    fn hear(&mut self, waits: bool) -> Result<()> {
        let Some((worker, _)) = &self.worker else {
            return Ok(());
        };
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let mut wakes = [PollFd::from_borrowed_fd(worker.wakes(), PollFlags::IN)];
        let timeout = if waits { None } else { Some(&now) };
        if poll(&mut wakes, timeout).is_ok_and(|ready| ready == 0) {
            return Ok(());
        }
        let Some((worker, path)) = self.worker.take() else {
            return Ok(());
        };
        let name = path.with_extension(SUFFIXES[0]);
        match worker.finish() {
            Ok(Ended::Answered(Ok(_))) => {
                self.saved += 1;
                let passed_over = std::mem::take(&mut self.passed_over);
                progress::say_saved(&name, passed_over);
            }
            Ok(Ended::Answered(Err(error))) => {
                self.complain(&format!("{} was not saved whole: {error}", name.display()));
            }
            Ok(Ended::Died(status)) => {
                let died = anyhow!("its process died ({status:?}), as for lack of memory");
                self.complain(&format!("{} was not saved whole: {died}", name.display()));
            }
            Err(error) => bail!("what became of {} can't be heard: {error}", name.display()),
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        self.hear(true)
    }

    /// Says it, if it was not said before.
    fn complain(&mut self, text: &str) {
        const MOST: usize = 100;
        if self.said.len() < MOST && self.said.insert(text.to_owned()) {
            progress::say_trouble(text);
        }
    }
}

#[cfg(test)]
mod tests {
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

    fn error(source: &str) -> String {
        let Err(error) = Condition::compile(source) else {
            panic!("{source} is a condition");
        };
        format!("{error:#}")
    }

    #[test]
    fn conditions_are_over_the_figures_of_a_moment() {
        for good in [
            "all_blocked.now_ns > 200 * ms && cause != 'idle'",
            "deadlocks.size() > 0",
            "blocked('worker*') == 4",
            "tasks.exists(t, t.name == 'x' && t.state == 'blocked' && t.for_ns > s)",
            "runnable > 10 || starved.now_ns > 50 * ms",
        ] {
            assert!(Condition::compile(good).is_ok(), "{good}");
        }
        assert!(error("all_blocked.now > 1").contains("it has episodes, longest_ns, now_ns, ns"));
        assert!(error("blocked +").contains("--when 'blocked +'"));
        assert!(error("blocked").contains("neither true nor false"));
        assert!(error("groups.size() > 0").contains("there is no groups"));
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
