//! A recording: starts the workload under the tracer, or attaches it to what runs already,
//! and writes what happens until it is over.
//!
//! One thread, one loop (`turns`): it sleeps until a ring is a quarter full, a signal
//! comes or a moment has passed, then empties the rings into the `session`, which writes
//! the file. It is a task of a tokio runtime without threads of its own, so that others can
//! live beside it.

mod plan;
mod session;
mod told;
mod turns;

use std::{
    fs::File,
    io,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use forktrace_core::{
    live::Live,
    recent::{Keep, Recent},
};
use tokio::runtime::{self, Runtime};

pub use self::{
    plan::{Command, Plan, Source},
    told::{Interrupted, Notice, Progress, Recorded, Watched, Watcher, Wish, name_living},
};
use self::{
    session::{Ending, Session, own_cpu_ns},
    turns::Loop,
};
use crate::{
    attached::Attached,
    capture::Tracer,
    clock, deadlock,
    helper::Nursery,
    kernel::own_process,
    launch::{self, Launch},
    limits::Limits,
    look_ups,
    marks::Marks,
    metrics::{Listener, Page},
    noticed::Noticed,
    observed::Observed,
    polls::Polls,
    priority::RealTime,
    privileges,
    providers::Search,
    resolve::Resolver,
    root::Root,
    signals::{Requests, Signals},
    sink::Sink,
    stacks::Namer,
    trace::{Event, Header, PollsCounted},
    trace_file::TraceWriter,
};

/// The live state is renewed this often…
const LOOKS: Duration = Duration::from_millis(200);
/// …so often where a stall of a fifth of a second is to be seen while it lasts…
const LOOKS_OF_WATCH: Duration = Duration::from_millis(40);
/// …and so often for a person.
const LOOKS_OF_VIEW: Duration = Duration::from_millis(250);

/// A recording whose workload has begun.
pub struct Recording {
    signals: Signals,
    marks: Option<Marks>,
    attached: Option<Attached>,
    tracer: Tracer,
    session: Session,
    /// `None`: it is over.
    runtime: Option<Runtime>,
    metrics: Option<(Listener, Arc<Page>)>,
    nursery: Rc<Nursery>,
    real_time: io::Result<RealTime>,
    watch: deadlock::Watch,
    start_ns: u64,
    cpu_before: u64,
    until_exit: bool,
}

impl Recording {
    /// Attaches the tracer, begins the file and starts the workload, or takes in what runs
    /// already.
    ///
    /// # Errors
    /// When the tracer can't be attached, the file not be started, the workload not be
    /// executed ([`launch::LaunchError`]), or what was to be attached to has ended, or a
    /// signal came first ([`Interrupted`]).
    pub fn start(plan: Plan, limits: Limits, signals: Signals, file: File) -> Result<Self> {
        Self::into(plan, limits, signals, To::File(file))
    }

    /// The same of one that keeps its last seconds in memory, and goes on when its targets
    /// come again.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn watch(plan: Plan, limits: Limits, signals: Signals, keep: Keep) -> Result<Self> {
        Self::into(plan, limits, signals, To::Memory(keep))
    }

    /// The same of one that is shown to a person meanwhile, and keeps its last seconds in
    /// memory; also into a file, if there is one.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn shown(
        plan: Plan,
        limits: Limits,
        signals: Signals,
        keep: Keep,
        file: Option<File>,
    ) -> Result<Self> {
        Self::into(plan, limits, signals, To::View(keep, file))
    }

    fn into(plan: Plan, limits: Limits, signals: Signals, to: To) -> Result<Self> {
        clock::check()?;
        own_process::check_children()?;
        // While this process has one thread, and nothing to hand on.
        let account = match &plan.source {
            Source::Launch(command) => command.account.as_ref(),
            Source::Attach { .. } => None,
        };
        let nursery = look_ups::helpers(account, plan.settings.stacks)?;
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.context("no event loop")?;
        let mut tracer = Tracer::attach(&plan.settings)?;
        let header = plan::header(&plan, &tracer)?;
        // What is kept in memory only has no end of its own.
        let persists = matches!(to, To::Memory(_) | To::View(_, None));
        let (arch, start_ns) = (header.arch, header.start_ns);
        let stacks = plan.settings.stacks;
        let mut stacks = stacks.map(|ways| Namer::new(&nursery, ways, tracer.sleepers()));
        // Of what is attached to, each process is where it is.
        let usual = match header.attached {
            Some(_) => "",
            None => header.cgroup.as_str(),
        };
        let names = Resolver::new(&nursery, arch, start_ns, usual);
        let watch = deadlock::Watch::new(&nursery, arch);
        let search = Search::new(&nursery, arch);
        let cpu_before = own_cpu_ns()?;
        let metrics = plan
            .metrics
            .map(|listener| (listener, Arc::new(Page::default())));
        let page = metrics.as_ref().map(|(_, page)| page.clone());
        let observed = match &to {
            To::View(..) => Some((Live::in_detail(arch, start_ns), LOOKS_OF_VIEW)),
            To::Memory(_) => Some((Live::new(arch, start_ns), LOOKS_OF_WATCH)),
            To::File(_) => page.is_some().then(|| (Live::new(arch, start_ns), LOOKS)),
        };
        let observed = observed.map(|(live, interval)| Observed::new(live, interval, page));
        let writer = to.sink(header)?;
        stacks.iter_mut().for_each(Namer::wait_for_helper);
        let (mut root, mut marks, mut attached, mut until_exit) = (None, None, None, false);
        match plan.source {
            Source::Launch(mut command) => {
                root = Some(launch(&mut command, &tracer, &signals, limits)?);
                until_exit = command.until_exit;
                marks = Some(command.marks);
            }
            Source::Attach { targets, length } => {
                if let Some(signal) = signals.request()? {
                    return Err(Interrupted { signal }.into());
                }
                attached = Some(Attached::begin(targets, length, persists, &mut tracer)?);
            }
        }
        // The workload is to have neither, and the first takes a right that goes.
        let real_time = RealTime::begin();
        if root.is_some() {
            privileges::of_recorder()?;
        } else {
            privileges::of_watcher()?;
        }
        let polls = tracer.polls_later().map(|_| Polls::new(arch));
        let mut session = Session {
            writer,
            polls,
            names,
            search,
            noticed: Noticed::new(arch, start_ns),
            records: 0,
            tasks: 0,
            undecodable: 0,
            taken: 0,
            stacks,
            root,
            detach: false,
            signalled: false,
            signalled_at: None,
            requests: Requests::default(),
            at_work: Default::default(),
            unread: false,
            observed,
        };
        if session.polls.is_some() {
            session.write(&Event::PollsCounted(PollsCounted::NotYet));
        }
        Ok(Self {
            signals,
            marks,
            attached,
            tracer,
            session,
            runtime: Some(runtime),
            metrics,
            nursery,
            real_time,
            watch,
            start_ns,
            cpu_before,
            until_exit,
        })
    }

    /// What it was attached to, in words, and how many tasks live; `None`: a command was
    /// started.
    pub fn attached(&self) -> Option<(&[String], u64)> {
        let (live, untracked) = self.tracer.live();
        let attached = self.attached.as_ref()?;
        Some((attached.words(), live + untracked))
    }

    /// Processes that those which it was attached to had created by then, and which are not
    /// followed, in words.
    pub fn left_out(&self) -> &[String] {
        self.attached.as_ref().map_or(&[], Attached::left_out)
    }

    /// Records until the workload is over, and shows it to a watcher meanwhile, if there is one.
    ///
    /// # Errors
    /// When the tracer's tables can't be read, and those of the watcher.
    pub fn run(
        mut self,
        watcher: Option<&mut dyn Watcher>,
        mut notify: impl FnMut(Notice),
    ) -> Result<Recorded> {
        match watcher {
            Some(watcher) => self.go_on(Some(&mut *watcher), &mut notify)?,
            None => self.go_on(None, &mut notify)?,
        }
        let Self {
            signals,
            marks,
            attached,
            mut tracer,
            mut session,
            nursery,
            real_time,
            watch,
            ..
        } = self;
        if let Some(marks) = marks {
            let read = marks.finish(|event| session.write(&event));
            read.context("the workload's marks can't be read")?;
        }
        if attached.is_some() {
            tracer.count_switches()?;
        }
        let not_real_time = real_time.err().map(|error| error.to_string());
        let end = Ending {
            nursery: &nursery,
            watch: &watch,
            cpu_before: self.cpu_before,
            not_real_time,
            notify: &mut notify,
        };
        let mut recorded = session.finish(tracer, signals, end)?;
        // What the programs said after the last turn of the loop.
        recorded.tracer.read_log(|line| notify(Notice::Log(line)));
        Ok(recorded)
    }

    /// Goes on until a signal or the time ends it, or all targets have for good.
    ///
    /// # Errors
    /// When the tracer's tables can't be read, and those of the watcher.
    pub fn run_watched(
        mut self,
        watcher: &mut dyn Watcher,
        mut notify: impl FnMut(Notice),
    ) -> Result<Watched> {
        self.go_on(Some(&mut *watcher), &mut notify)?;
        if watcher.wants_last() {
            self.session.save(&mut self.tracer, watcher)?;
        }
        self.tracer.detach()?;
        self.tracer.read_log(|line| notify(Notice::Log(line)));
        Ok(Watched {
            tracer: self.tracer,
            signals: self.signals,
            signalled: self.session.signalled,
        })
    }

    /// Turn for turn, until it is over.
    fn go_on<'a>(
        &'a mut self,
        watcher: Option<&'a mut (dyn Watcher + 'a)>,
        notify: &'a mut (dyn FnMut(Notice) + 'a),
    ) -> Result<()> {
        let (runtime, metrics) = (self.runtime.take(), self.metrics.take());
        let runtime = runtime.context("a recording goes on once")?;
        runtime.block_on(async {
            if let Some((listener, page)) = metrics {
                listener.serve(page)?;
            }
            let mut turns = Loop {
                signals: &self.signals,
                marks: self.marks.as_mut(),
                attached: self.attached.as_mut(),
                tracer: &mut self.tracer,
                session: &mut self.session,
                watch: &mut self.watch,
                watcher,
                begun: Instant::now(),
                start_ns: self.start_ns,
                until_exit: self.until_exit,
                said_not_written: false,
                notify,
            };
            turns.run(&self.nursery).await
        })
    }
}

/// Where a recording goes.
enum To {
    File(File),
    Memory(Keep),
    /// The same, and who looks at it is a person.
    View(Keep, Option<File>),
}

impl To {
    fn sink(self, header: Header) -> Result<Sink> {
        let recent = |header, keep| Box::new(Recent::new(header, keep));
        let writer = |file, header| {
            let writer = TraceWriter::new(file, header);
            writer.context("the trace file can't be written")
        };
        Ok(match self {
            Self::File(file) => Sink::File(Box::new(writer(file, &header)?)),
            Self::View(keep, Some(file)) => {
                let writer = Box::new(writer(file, &header)?);
                Sink::Both(writer, recent(header, keep))
            }
            Self::Memory(keep) | Self::View(keep, None) => Sink::Recent(recent(header, keep)),
        })
    }
}

/// Starts the command as the root of a workload.
fn launch(
    command: &mut Command,
    tracer: &Tracer,
    signals: &Signals,
    limits: Limits,
) -> Result<Root> {
    let marks = command.marks.writer();
    let marks = marks.context("no file for the workload's marks")?;
    let disarm = tracer.arm()?;
    if let Some(signal) = signals.request()? {
        return Err(Interrupted { signal }.into());
    }
    let launch = Launch {
        argv: &command.argv,
        account: command.account.as_ref(),
        signals: signals.inherited(),
        limits,
        marks: (crate::trace::marks::VARIABLE, marks),
        output: command.output.take(),
        first: disarm,
    };
    match launch::spawn(launch) {
        Ok(child) => Ok(Root::new(&child)),
        Err(error) => Err(match signals.request()? {
            Some(signal) => Interrupted { signal }.into(),
            None => error.into(),
        }),
    }
}
