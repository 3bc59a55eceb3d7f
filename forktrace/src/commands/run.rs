//! `forktrace run`: records a workload and reports on it.

use std::{
    fs::File,
    io::{self, IsTerminal as _, Read as _, Seek as _},
    path::Path,
};

use anyhow::{Context as _, Result, bail};
use forktrace_core::{analysis::analyse_with, pipeline};
use forktrace_export::Source;
use forktrace_process::{launch::Accounts, limits::Limits, signals::Signals};
use forktrace_record::{
    background,
    capture::{Settings, Tracer},
    marks::Marks,
    record::{Interrupted, Notice, Plan, Recorded, Recording},
};

use super::{
    Outcome,
    assert::{self, Assertions},
    files::TraceFile,
    making::{self, Made},
    output::Outputs,
    scratch,
};
use crate::{
    cli::RunArgs,
    progress::{self, ProgressLine},
};

/// A signal ended the recording while the command still ran.
const LEFT: u8 = 124;

/// Records a workload and reports on it.
///
/// # Errors
/// When the workload could not be started or traced, or the report not be
/// written. A workload that fails is no error.
pub(crate) fn run(args: &RunArgs) -> Result<Outcome> {
    let assertions = Assertions::compile(&args.assertions)?;
    let accounts = Accounts::choose(args.user.as_deref(), args.as_root)?;
    let wants_report = !args.quiet || !args.output.output.is_empty();
    let settings = Settings {
        ring_bytes: args.ring_size,
        max_tasks: args.max_tasks,
        polls: args.polls,
        plain: args.plain,
        stacks: args.stacks || args.output.shows_stacks(),
        log: args.log_bpf,
    };
    // Before anything is made that would be left behind.
    let limits = Limits::raise(&Tracer::needs(&settings)?)?;
    // Before the files, which take descriptors.
    let marks = Marks::new().context("no file for the workload's marks")?;
    let mut trace = Trace::open(args, &accounts)?;
    let mut output = {
        let traces = [trace.target(), trace.file()];
        Outputs::open(&args.output, true, &accounts, &traces)?
    };
    let plan = Plan {
        argv: args.command.clone(),
        account: accounts.workload.clone(),
        until_exit: args.until_exit,
        settings,
    };
    let recorded = match record(&plan, limits, marks, args.quiet, &mut trace) {
        Ok(recorded) => recorded,
        Err(error) => match error.downcast_ref() {
            Some(&Interrupted { signal }) => return Ok(Outcome::Signal(signal)),
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
            let mut data = Vec::new();
            let read = recording.and_then(|mut file| {
                file.rewind()?;
                file.read_to_end(&mut data)
            });
            read.context("the trace file can't be read back")?;
            let (info, model) = pipeline::read(&data, Some(finish.clone()))
                .context("the trace that was just recorded")?;
            drop(data);
            let report = analyse_with(&info, &model, &args.output.analysis());
            if wants_report {
                let saved = args.save.as_ref().map(|path| path.to_string_lossy());
                let source = Source {
                    info: &info,
                    model: &model,
                    report: &report,
                };
                output.write(&source, saved.as_deref())?;
            }
            assertions.hold(&report)
        })?;
        match made {
            Made::Done(it) => holds = it,
            Made::Interrupted(signal) => return Ok(Outcome::Signal(signal)),
            Made::Died(why) => {
                let name = trace.keep(&accounts).context("the trace is lost")?;
                bail!(
                    "the report could not be made: {why}; the trace is in {name}: \
                     `forktrace report {name}`, also on a machine with more memory"
                );
            }
        }
        output.done();
    }
    saved?;
    if let (Some(error), Some(path)) = (finish_error, &args.save) {
        bail!(
            "the end of the trace could not be written to {}: {error}; \
             the report above is whole but for what it says is missing, the file is not",
            path.display()
        );
    }
    if !holds {
        return Ok(Outcome::Exit(assert::FALSE));
    }
    Ok(match (finish.exit_code, finish.signal) {
        (Some(code), _) => Outcome::Exit(code as u8),
        (None, Some(signal)) => Outcome::Signal(signal),
        // We were told to stop before it ended.
        (None, None) => Outcome::Exit(LEFT),
    })
}

/// Records the workload, and shows how far it is.
fn record(
    plan: &Plan,
    limits: Limits,
    marks: Marks,
    quiet: bool,
    trace: &mut Trace,
) -> Result<Recorded> {
    let to_file = trace.file().try_clone();
    let to_file = to_file.context("the trace file can't be opened twice")?;
    let recording = Recording::start(plan, limits, Signals::take()?, marks, to_file)?;
    trace.begin();
    let mut line = ProgressLine::new(!quiet && io::stderr().is_terminal());
    let recorded = recording.run(|notice| match notice {
        Notice::Progress(progress) => line.show(&progress),
        Notice::Deadlock(deadlock) if !quiet => line.deadlock(&deadlock),
        Notice::GoesOn(it) if !quiet => line.goes_on(&it),
        Notice::Deadlock(_) | Notice::GoesOn(_) => {}
        Notice::Log(text) => line.log(&text),
        Notice::LastLookUps(presses) => line.last_look_ups(presses),
    });
    line.clear();
    recorded.with_context(|| match trace {
        Trace::Saved(saved) => format!(
            "the recording broke off; what there is of it is in {}",
            saved.name()
        ),
        Trace::Scratch(_) => "the recording broke off".to_owned(),
    })
}

/// The file that the trace goes to.
enum Trace {
    /// One with a name.
    Saved(Box<TraceFile>),
    /// One that is gone when we are.
    Scratch(File),
}

impl Trace {
    fn open(args: &RunArgs, accounts: &Accounts) -> Result<Self> {
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
