//! What all recordings have in common: the files, the progress line, the report.

use std::{
    fs::File,
    io::{self, IsTerminal as _, Seek as _},
    path::Path,
};

use anyhow::{Context as _, Result, bail};
use forktrace_core::{analysis::analyse_with, recent::Keep, trace::Finish};
use forktrace_process::{launch::Accounts, limits::Limits, signals::Signals};
use forktrace_record::{
    background,
    capture::{Existing, Settings, Tracer},
    metrics::Listener,
    record::{Interrupted, Notice, Plan, Recorded, Recording, Source, Watcher},
};

use super::{
    Outcome,
    assert::{self, Assertions},
    files::TraceFile,
    making::{self, Made},
    output::Outputs,
    scratch,
    spill::Room,
};
use crate::{
    cli::RecordingArgs,
    progress::{self, ProgressLine},
};

/// How a recording and its report came out.
pub(super) enum Done {
    /// As this.
    As(Outcome),
    /// Well, and the recording ended so.
    Well(Box<Finish>),
}

/// Where a recording comes from, and who looks at it meanwhile.
pub(super) struct From<'a, F> {
    /// Makes its source, when all else is ready.
    pub(super) source: F,
    /// What is taken in that is there already.
    pub(super) existing: Option<Existing>,
    /// In place of the progress line.
    pub(super) picture: Option<&'a mut dyn Picture>,
}

/// Shows a recording that goes on, on the terminal that we and the workload have.
pub(super) trait Picture: Watcher {
    /// How much of the recording is kept for it in memory.
    fn keep(&self) -> Keep;

    /// Gives the terminal back, and prints what was to be printed meanwhile.
    ///
    /// # Errors
    /// When that can't be printed.
    fn close(&mut self) -> Result<()>;
}

/// Records and reports. The assertions are compiled already, so that nothing begins if they
/// can't be.
///
/// # Errors
/// When the workload could not be started or traced, or the report not be written.
pub(super) fn record_and_report(
    args: &RecordingArgs,
    assertions: &mut Assertions,
    accounts: &Accounts,
    from: From<'_, impl FnOnce() -> Result<Source>>,
) -> Result<Done> {
    let wants_report = !args.quiet || !args.output.output.is_empty();
    let settings = settings(args, from.existing);
    let metrics = metrics(args)?;
    // Before anything is made that would be left behind.
    let limits = Limits::raise(&Tracer::needs(&settings)?)?;
    // Its file of marks before ours, which take descriptors.
    let source = (from.source)()?;
    let mut trace = Trace::open(args, accounts)?;
    let mut output = {
        let traces = [trace.target(), trace.file()];
        Outputs::open(&args.output, true, accounts, &traces)?
    };
    let plan = Plan {
        source,
        settings,
        metrics,
    };
    let recorded = match record(plan, limits, args.quiet, &mut trace, from.picture) {
        Ok(recorded) => recorded,
        Err(error) => match error.downcast_ref() {
            Some(&Interrupted { signal }) => return Ok(Done::As(Outcome::Signal(signal))),
            None => return Err(error),
        },
    };
    let Recorded {
        finish,
        finish_error,
        tracer,
        left,
        signals,
    } = recorded;
    // Under its name it may be a file that we opened for writing only.
    let recording = trace.file().try_clone();
    let saved = trace.finish();
    background::drop_in_background(tracer);
    if let Some(left) = &left {
        progress::say_left(left);
    }

    let mut holds = true;
    if wants_report || !assertions.is_empty() {
        let made = making::make(&signals, || {
            let room = Room::new();
            let read = recording.map_err(Into::into).and_then(|mut file| {
                file.rewind()?;
                room.read(&mut file, Some(finish.clone()))
            });
            let (info, model) = read.context("the trace that was just recorded")?;
            let report = analyse_with(&info, &model, &args.output.analysis());
            room.check()?;
            if wants_report {
                let saved = args.save.as_ref().map(|path| path.to_string_lossy());
                let source = forktrace_export::Source {
                    info: &info,
                    model: &model,
                    report: &report,
                };
                output.write(&source, saved.as_deref())?;
            }
            room.check()?;
            assertions.of(&report)
        })?;
        match made {
            Made::Done(it) => holds = it,
            Made::Interrupted(signal) => return Ok(Done::As(Outcome::Signal(signal))),
            Made::Died(why) => {
                let name = trace.keep(accounts).context("the trace is lost")?;
                bail!(
                    "the report could not be made: {why}; the trace is in {name}: \
                     `forktrace report {name}`, also on a machine with more memory"
                );
            }
        }
        output.done();
        assertions.done();
    }
    saved?;
    if let (Some(error), Some(path)) = (finish_error, &args.save) {
        bail!(
            "the end of the trace could not be written to {}: {error}; \
             the report above is whole but for what it says is missing, the file is not",
            path.display()
        );
    }
    Ok(if holds {
        Done::Well(Box::new(finish))
    } else {
        Done::As(Outcome::Exit(assert::FALSE))
    })
}

/// Where metrics are served, if they are wanted: before anything begins.
fn metrics(args: &RecordingArgs) -> Result<Option<Listener>> {
    let metrics = args.metrics.as_deref().map(Listener::bind).transpose()?;
    if let Some(metrics) = metrics.as_ref().filter(|_| !args.quiet) {
        progress::say_metrics(metrics.address());
    }
    Ok(metrics)
}

/// How the tracer is set up.
fn settings(args: &RecordingArgs, existing: Option<Existing>) -> Settings {
    Settings {
        ring_bytes: args.tables.ring_size,
        max_tasks: args.tables.max_tasks,
        polls: args.polls,
        plain: args.plain,
        stacks: args
            .stacks
            .ways(args.output.shows_stacks(), args.output.verbose),
        log: args.log_bpf,
        existing,
        lag_min: args.lag.min(),
    }
}

/// Records the workload, and shows how far it is.
fn record(
    plan: Plan,
    limits: Limits,
    quiet: bool,
    trace: &mut Trace,
    picture: Option<&mut dyn Picture>,
) -> Result<Recorded> {
    let to_file = trace.file().try_clone();
    let to_file = to_file.context("the trace file can't be opened twice")?;
    let signals = Signals::take()?;
    if let Some(picture) = picture {
        let keep = picture.keep();
        let recording = Recording::shown(plan, limits, signals, keep, Some(to_file))?;
        trace.begin();
        // What is told meanwhile is in the picture, and in the report.
        let recorded = recording.run(Some(&mut *picture), |_| {});
        picture.close()?;
        return recorded.with_context(|| broken_off(trace));
    }
    let recording = Recording::start(plan, limits, signals, to_file)?;
    trace.begin();
    if let Some((words, tasks)) = recording.attached().filter(|_| !quiet) {
        progress::say_attached(words, tasks);
        progress::say_left_out(recording.left_out());
    }
    let mut line = ProgressLine::new(!quiet && io::stderr().is_terminal());
    let recorded = recording.run(None, |notice| match notice {
        Notice::Progress(progress) => line.show(&progress),
        Notice::Deadlock(deadlock) if !quiet => line.deadlock(&deadlock),
        Notice::GoesOn(it) if !quiet => line.goes_on(&it),
        Notice::Deadlock(_) | Notice::GoesOn(_) => {}
        Notice::Log(text) => line.log(&text),
        Notice::NoNames(text) => line.no_names(&text),
        Notice::NotWritten(why) => line.not_written(&why),
        Notice::LastLookUps(presses) => line.last_look_ups(presses),
    });
    line.clear();
    recorded.with_context(|| broken_off(trace))
}

fn broken_off(trace: &Trace) -> String {
    match trace {
        Trace::Saved(saved) => format!(
            "the recording broke off; what there is of it is in {}",
            saved.name()
        ),
        Trace::Scratch(_) => "the recording broke off".to_owned(),
    }
}

/// The file that the trace goes to.
enum Trace {
    /// One with a name.
    Saved(Box<TraceFile>),
    /// One that is gone when we are.
    Scratch(File),
}

impl Trace {
    fn open(args: &RecordingArgs, accounts: &Accounts) -> Result<Self> {
        match args.save.as_deref() {
            Some(path) if path == Path::new("-") => bail!(
                "--save takes no - for standard output, since a trace is read back after it is \
                 written; give a file, or ./- for one of this name"
            ),
            Some(path) => {
                let file = TraceFile::open(path, accounts, args.output.force)?;
                Ok(Self::Saved(Box::new(file)))
            }
            None => scratch::create(accounts).map(Self::Scratch),
        }
    }

    /// What is recorded into.
    fn file(&self) -> &File {
        match self {
            Self::Saved(saved) => saved.file(),
            Self::Scratch(file) => file,
        }
    }

    /// What must not be overwritten meanwhile.
    fn target(&self) -> &File {
        match self {
            Self::Saved(saved) => saved.target(),
            Self::Scratch(file) => file,
        }
    }

    fn begin(&mut self) {
        if let Self::Saved(saved) = self {
            saved.begin();
        }
    }

    fn finish(&mut self) -> Result<()> {
        match self {
            Self::Saved(saved) => saved.finish(),
            Self::Scratch(_) => Ok(()),
        }
    }

    /// Where it is, for whom wants to read it later; one without a name gets one.
    fn keep(&self, accounts: &Accounts) -> Result<String> {
        match self {
            Self::Saved(saved) => Ok(saved.name()),
            Self::Scratch(file) => {
                let path = scratch::keep(file, accounts)?;
                Ok(path.display().to_string())
            }
        }
    }
}
