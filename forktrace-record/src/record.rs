//! A recording: starts the workload under the tracer, or attaches it to what runs already,
//! and writes what happens until it is over.
//!
//! One thread, one loop: it sleeps until a ring is a quarter full, a signal
//! comes or a moment has passed, then empties the rings into the file. It is a task of a
//! tokio runtime without threads of its own, so that others can live beside it.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::File,
    future::poll_fn,
    io,
    os::fd::OwnedFd,
    rc::Rc,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, anyhow};
use forktrace_core::{
    live::Live,
    recent::{Counters, Keep, Moment, Recent},
    render::Recorder,
};
use nix::sys::{
    resource::{UsageWho, getrusage},
    signal::Signal,
    signalfd::siginfo,
    time::TimeValLike as _,
    utsname::{self, UtsName},
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    runtime::{self, Runtime},
    task::yield_now,
    time::timeout,
};

use crate::{
    analysis::named_deadlock as named,
    at_work::AtWork,
    attached::Attached,
    capture::{Settings, TableEntry, Tracer},
    clock::{self, now_ns},
    deadlock, decode,
    helper::Nursery,
    kernel::own_process,
    last_wait::LastWait,
    launch::{self, Account, Launch},
    limits::Limits,
    look_ups,
    marks::Marks,
    metrics::{Listener, Page},
    noticed::{GoesOn, Noticed},
    observed::Observed,
    priority::RealTime,
    privileges, procfs,
    providers::Search,
    report,
    resolve::Resolver,
    root::Root,
    signals::{Answer, Requests, Signals},
    sink::Sink,
    stacks::Namer,
    targets::Targets,
    trace::Arch,
    trace::{AttachedTo, Event, Finish, Header, Machine, TablesRefused, TaskRecord},
    trace_file::TraceWriter,
};

/// The rings are looked at this often even when none is a quarter full.
const TICK: Duration = Duration::from_millis(200);
/// The same, when stacks have to get their names while their processes live.
const TICK_FOR_STACKS: Duration = Duration::from_millis(10);
/// The same at first and when tasks wait for something new: it can soon be gone,
/// and its name with it.
const TICK_WHEN_NEW: Duration = Duration::from_millis(20);
/// The same, when the first process has ended and others are waited for.
const TICK_AT_END: Duration = Duration::from_millis(5);

/// The live state is renewed this often…
const LOOKS: Duration = Duration::from_millis(200);
/// …and so often where a stall of a fifth of a second is to be seen while it lasts.
const LOOKS_OF_WATCH: Duration = Duration::from_millis(40);
/// Before the last seconds are given out, the rings are emptied at most so many times.
const MOST_DRAINS: u32 = 64;

/// What to record.
#[derive(Debug)]
pub struct Plan {
    /// Where the tasks come from.
    pub source: Source,
    /// How the tracer is set up.
    pub settings: Settings,
    /// Where metrics are served meanwhile; `None`: nowhere.
    pub metrics: Option<Listener>,
}

/// Where the tasks of a recording come from.
#[derive(Debug)]
pub enum Source {
    /// A command that is started, and all that it creates.
    Launch(Command),
    /// Tasks that are there, and all that they create from then on.
    Attach {
        /// Which.
        targets: Targets,
        /// For how long at most.
        length: Option<Duration>,
    },
}

/// A command to start.
#[derive(Debug)]
pub struct Command {
    /// The command.
    pub argv: Vec<OsString>,
    /// Whom it runs as; `None`: as we do.
    pub account: Option<Account>,
    /// Stop when the first process ends, whatever else still lives.
    pub until_exit: bool,
    /// What it says about itself.
    pub marks: Marks,
}

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
    /// What the kernel programs say, if that is wanted ([`Settings::log`]).
    Log(String),
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
}

/// Decides which seconds of a recording are kept.
pub trait Watcher {
    /// The live state is a new one; so many records were lost.
    ///
    /// # Errors
    /// When it can't go on.
    fn look(&mut self, live: &Live, lost: u64) -> Result<Wish>;

    /// Takes the last seconds. To be left again soon: nothing is recorded meanwhile.
    ///
    /// # Errors
    /// When it can't go on.
    fn save(&mut self, recent: &Recent, moment: Moment) -> Result<()>;

    /// Does it wait for something that is yet to come, and be saved?
    fn is_waiting(&self) -> bool;
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
        let header = header(&plan, &tracer)?;
        let watches = matches!(to, To::Memory(_));
        let (arch, start_ns) = (header.arch, header.start_ns);
        let stacks = plan.settings.stacks.then(|| Namer::new(&nursery));
        let names = Resolver::new(&nursery, arch, start_ns);
        let watch = deadlock::Watch::new(&nursery, arch);
        let search = Search::new(&nursery, arch);
        let cpu_before = own_cpu_ns()?;
        let metrics = plan
            .metrics
            .map(|listener| (listener, Arc::new(Page::default())));
        let observed = (watches || metrics.is_some()).then(|| {
            let page = metrics.as_ref().map(|(_, page)| page.clone());
            let interval = if watches { LOOKS_OF_WATCH } else { LOOKS };
            Observed::new(Live::new(arch, start_ns), interval, page)
        });
        let writer = match to {
            To::File(file) => {
                let writer = TraceWriter::new(file, &header);
                Sink::File(Box::new(writer.context("the trace file can't be written")?))
            }
            To::Memory(keep) => Sink::Recent(Box::new(Recent::new(header, keep))),
        };
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
                attached = Some(Attached::begin(targets, length, watches, &mut tracer)?);
            }
        }
        // The workload is to have neither, and the first takes a right that goes.
        let real_time = RealTime::begin();
        if root.is_some() {
            privileges::of_recorder()?;
        } else {
            privileges::of_watcher()?;
        }
        let session = Session {
            writer,
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
            requests: Requests::default(),
            at_work: Default::default(),
            unread: false,
            observed,
        };
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

    /// Records until the workload is over.
    ///
    /// # Errors
    /// When the tracer's tables can't be read.
    pub fn run(mut self, mut notify: impl FnMut(Notice)) -> Result<Recorded> {
        self.go_on(None, &mut notify)?;
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
        if watcher.is_waiting() {
            self.session.save(&mut self.tracer, watcher)?;
        }
        self.tracer.detach()?;
        self.tracer.read_log(|line| notify(Notice::Log(line)));
        Ok(Watched {
            tracer: self.tracer,
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
            let wakes = Wakes::new(&self.signals, &self.tracer, &self.nursery)?;
            if let Some((listener, page)) = metrics {
                listener.serve(page)?;
            }
            let mut looped = Loop {
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
                notify,
            };
            let mut tick = TICK_WHEN_NEW;
            loop {
                wakes.next(looped.wait(tick)).await?;
                if looped.turn(&mut tick)? {
                    return anyhow::Ok(());
                }
            }
        })
    }
}

/// Where a recording goes.
enum To {
    File(File),
    Memory(Keep),
}

/// All that can wake the loop before its time.
struct Wakes(Vec<AsyncFd<OwnedFd>>);

impl Wakes {
    fn new(signals: &Signals, tracer: &Tracer, nursery: &Nursery) -> Result<Self> {
        let rings = tracer.ring_fds().map(|ring| ring.try_clone_to_owned());
        let helpers = nursery.ready().try_clone_to_owned();
        let fds = [signals.wakes(), helpers].into_iter().chain(rings);
        let sources = fds.map(|fd| {
            let fd = fd.context("no descriptor to wait for the rings")?;
            // SAFETY: an `OwnedFd` is open until it is dropped, with the `AsyncFd`.
            #[expect(unsafe_code, reason = "tokio can't know what a type's descriptor is")]
            // A ring that holds anything counts as readable, but only its edges wake.
            let source = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
            source.map_err(|error| anyhow!("the rings can't be waited for: {error}"))
        });
        Ok(Self(sources.collect::<Result<_>>()?))
    }

    /// Waits until one of them has become readable, at most so long.
    async fn next(&self, at_most: Duration) -> Result<()> {
        if at_most.is_zero() {
            yield_now().await;
            return Ok(());
        }
        let readable = poll_fn(|context| {
            let mut woken = false;
            for source in &self.0 {
                if let Poll::Ready(ready) = source.poll_read_ready(context) {
                    ready?.clear_ready();
                    woken = true;
                }
            }
            if woken {
                Poll::Ready(io::Result::Ok(()))
            } else {
                Poll::Pending
            }
        });
        match timeout(at_most, readable).await {
            Ok(woken) => woken.context("the rings can't be waited for"),
            Err(_) => Ok(()),
        }
    }
}

/// What a turn of the loop works on.
struct Loop<'a> {
    signals: &'a Signals,
    marks: Option<&'a mut Marks>,
    attached: Option<&'a mut Attached>,
    tracer: &'a mut Tracer,
    session: &'a mut Session,
    watch: &'a mut deadlock::Watch,
    watcher: Option<&'a mut (dyn Watcher + 'a)>,
    begun: Instant,
    start_ns: u64,
    until_exit: bool,
    notify: &'a mut (dyn FnMut(Notice) + 'a),
}

impl Loop<'_> {
    /// How long to wait for the next turn at most.
    fn wait(&self, tick: Duration) -> Duration {
        let wait = if self.session.unread {
            Duration::ZERO
        } else if self.session.root_ended() {
            TICK_AT_END
        } else if self.session.stacks.is_some() {
            TICK_FOR_STACKS
        } else {
            tick
        };
        let ends = self.attached.as_ref().and_then(|it| it.time_left());
        let looks = self.session.observed.as_ref().map(Observed::time_left);
        ends.into_iter().chain(looks).fold(wait, Duration::min)
    }

    /// Does what there is to do; true: the recording is over.
    fn turn(&mut self, tick: &mut Duration) -> Result<bool> {
        let session = &mut *self.session;
        session.reap()?;
        while let Some(signal) = self.signals.next()? {
            session.on_signal(&signal)?;
        }
        // The counters before the rings: what they count is then in the rings.
        let (live, untracked) = self.tracer.live();
        if let Some(attached) = &mut self.attached {
            attached.turn(self.tracer, |event| session.write(&event))?;
        }
        session.look(self.tracer)?;
        session.drain(self.tracer);
        let observed = session.observe(self.tracer);
        session.name_stacks(self.tracer);
        self.tracer
            .read_log(|line| (self.notify)(Notice::Log(line)));
        session.take_unreported(self.tracer)?;
        if let Some(marks) = &mut self.marks {
            let read = marks.drain(|event| session.write(&event));
            read.context("the workload's marks can't be read")?;
        }
        *tick = if session.names.is_busy() {
            TICK_WHEN_NEW
        } else {
            TICK.min(*tick * 2)
        };
        session.resolve(now_ns()?);
        session.tick(self.tracer, now_ns()?)?;
        if let Some(watcher) = self.watcher.as_mut().filter(|_| observed) {
            session.show(self.tracer, &mut **watcher)?;
        }
        // Who goes on since somebody ends it all has not shown that it was none.
        if !session.signalled {
            let mut gone_on = session.noticed.ended();
            if session.noticed.is_due(Instant::now()) {
                let living = deadlock::living(self.tracer);
                gone_on.extend(session.noticed.gone_on(&living, now_ns()?));
            }
            for gone_on in gone_on {
                (self.notify)(Notice::GoesOn(gone_on));
            }
        }
        let nobody = live == 0 && untracked == 0;
        let over = match &self.attached {
            Some(attached) => attached.is_over(nobody),
            None => session.root_ended() && (self.until_exit || nobody),
        };
        if over || session.detach {
            return Ok(true);
        }
        for found in self.watch.look(self.tracer, now_ns()?) {
            let since = |ns: u64| ns.saturating_sub(self.start_ns);
            let name = |serial| found.names.get(&serial).cloned();
            let told = named(&found.deadlock, since, name);
            if session.noticed.is_new(&told) {
                (self.notify)(Notice::Deadlock(told));
            }
            session.write(&Event::Deadlock(found.deadlock));
        }
        let seen = session.search.look(self.tracer, (now_ns()?, self.start_ns));
        for found in seen.providers {
            session.write(&Event::Providers(found));
        }
        for given in seen.given {
            session.write(&Event::Given(given));
        }
        if let Some(stuck) = seen.stuck.filter(|stuck| session.noticed.is_new(stuck)) {
            (self.notify)(Notice::Deadlock(stuck));
        }
        let losses = self.tracer.losses();
        let second = self.begun.elapsed().as_secs();
        if session.at_work.0 != second {
            let tracer = &*self.tracer;
            let living = |add: &mut dyn FnMut(&_)| tracer.living(|task| add(&task));
            session.at_work = (second, AtWork::of(living, now_ns()?));
        }
        (self.notify)(Notice::Progress(Progress {
            elapsed: self.begun.elapsed(),
            tasks: session.tasks,
            live: live + untracked,
            records: session.records,
            lost: losses.records(),
            at_work: session.at_work.1,
            presses_left: session.requests.presses_left(Instant::now()),
        }));
        Ok(false)
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

fn header(plan: &Plan, tracer: &Tracer) -> Result<Header> {
    let (argv, attached) = match &plan.source {
        Source::Launch(command) => {
            let argv = command.argv.iter();
            let argv = argv.map(|a| a.to_string_lossy().into_owned());
            (argv.collect(), None)
        }
        Source::Attach { targets, .. } => {
            let targets = targets.words().to_vec();
            (Vec::new(), Some(AttachedTo { targets }))
        }
    };
    let system = utsname::uname().context("uname")?;
    let unix = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Ok(Header {
        forktrace: env!("CARGO_PKG_VERSION").to_owned(),
        argv,
        kernel: system.release().to_string_lossy().into_owned(),
        arch: Arch::of_this_machine()?,
        cpus: tracer.cpus(),
        start_ns: now_ns()?,
        start_unix_ns: unix.as_nanos() as u64,
        polls: tracer.poll_way().clone(),
        ring_bytes: tracer.ring_bytes(),
        max_tasks: plan.settings.max_tasks,
        plain: plan.settings.plain,
        interrupts: crate::kernel::interrupts::of_devices(),
        attached,
        machine: Some(machine(&system)),
    })
}

/// What tells this machine's traces from those of others.
fn machine(system: &UtsName) -> Machine {
    let first_line = |path: &str| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().next().unwrap_or_default().trim().to_owned()
    };
    Machine {
        host: system.nodename().to_string_lossy().into_owned(),
        id: first_line("/etc/machine-id"),
        boot_id: first_line("/proc/sys/kernel/random/boot_id"),
    }
}

/// CPU time that this process has used, ns.
fn own_cpu_ns() -> Result<u64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).context("getrusage")?;
    let total = usage.user_time() + usage.system_time();
    Ok(total.num_microseconds() as u64 * 1000)
}

/// What the end of a recording takes.
struct Ending<'a> {
    nursery: &'a Nursery,
    watch: &'a deadlock::Watch,
    cpu_before: u64,
    not_real_time: Option<String>,
    notify: &'a mut dyn FnMut(Notice),
}

/// A task that is there.
struct Living {
    tgid: u32,
    tid: u32,
    comm: String,
}

/// A task as the table has it, with its switches if they were counted.
fn task_of(entry: &TableEntry) -> Option<TaskRecord> {
    let mut task = decode::task(&entry.state).ok()?;
    if let Some(counted) = entry.counted {
        task.switches = counted.traced;
        task.kernel_switches = Some(counted.kernel);
    }
    Some(task)
}

struct Session {
    writer: Sink,
    names: Resolver,
    search: Search,
    noticed: Noticed,
    records: u64,
    tasks: u64,
    undecodable: u64,
    /// Ends that were read from the task table, so far.
    taken: u64,
    /// Names the functions of stacks, if stacks are wanted.
    stacks: Option<Namer>,
    /// The first process of the workload; `None`: it ran already.
    root: Option<Root>,
    /// A signal has ended the recording.
    detach: bool,
    /// A signal came that is to end something.
    signalled: bool,
    requests: Requests,
    /// What the tasks did in this second of the recording.
    at_work: (u64, AtWork),
    /// More came while the rings were read than they hold, and is still there.
    unread: bool,
    /// `None`: nobody wants to know.
    observed: Option<Observed>,
}

impl Session {
    fn root_ended(&self) -> bool {
        self.root.as_ref().is_some_and(Root::ended)
    }

    fn reap(&mut self) -> Result<()> {
        self.root.as_mut().map_or(Ok(()), Root::reap)
    }

    /// Once the first process is gone, or if there is none of ours, each signal ends the
    /// recording. For the rest see [`Requests::answer`].
    fn on_signal(&mut self, signal: &siginfo) -> Result<()> {
        let number = signal.ssi_signo as i32;
        if number == Signal::SIGCHLD as i32 {
            return self.reap();
        }
        self.signalled = true;
        let Some(root) = self.root.as_ref().filter(|root| !root.ended()) else {
            self.detach = true;
            return Ok(());
        };
        let shares_group = root.is_in_our_group();
        match self.requests.answer(signal, shares_group, Instant::now()) {
            Answer::Nothing => {}
            Answer::PassOn => root.send(number)?,
            Answer::End => self.detach = true,
        }
        Ok(())
    }

    fn write(&mut self, event: &Event) {
        if let Event::Born(_) | Event::Untracked(_) = event {
            self.tasks += 1;
        }
        self.names.note(event);
        self.search.note(event);
        self.noticed.note(event);
        if let Some(observed) = &mut self.observed {
            observed.note(event);
        }
        match &mut self.stacks {
            Some(namer) => namer.see(event, &mut self.writer),
            None => self.writer.push(event),
        }
    }

    /// Gives names to the stacks that came, while their processes live.
    fn name_stacks(&mut self, tracer: &Tracer) {
        if let Some(namer) = &mut self.stacks {
            namer.name(|id| tracer.stack(id), &mut self.writer);
        }
    }

    /// Finds out what the tasks wait for, while they do.
    fn resolve(&mut self, now_ns: u64) {
        let writer = &mut self.writer;
        self.names.resolve(now_ns, |event| writer.push(&event));
    }

    fn drain(&mut self, tracer: &mut Tracer) {
        self.unread = tracer.drain(|cpu, record| {
            self.records += 1;
            if decode::decode(cpu, record, |event| self.write(&event)).is_err() {
                self.undecodable += 1;
            }
        });
    }

    /// Reads what the tasks are in, if somebody wants to know.
    fn look(&mut self, tracer: &Tracer) -> Result<()> {
        self.observed.as_mut().map_or(Ok(()), |it| it.look(tracer))
    }

    /// Takes over what that look told, if the rings are empty. True: the live state is a new
    /// one.
    fn observe(&mut self, tracer: &Tracer) -> bool {
        let Some(observed) = self.observed.as_mut().filter(|_| !self.unread) else {
            return false;
        };
        let losses = tracer.losses();
        observed.advance(&Recorder {
            records: self.records,
            lost: losses.records(),
            not_followed: losses.table_full,
        })
    }

    /// Shows the live state to somebody, and does what he wishes.
    fn show(&mut self, tracer: &mut Tracer, watcher: &mut dyn Watcher) -> Result<()> {
        let Some(observed) = &mut self.observed else {
            return Ok(());
        };
        let begun = Instant::now();
        let wish = watcher.look(observed.live(), tracer.losses().records())?;
        observed.took(begun.elapsed());
        match wish {
            Wish::Nothing => Ok(()),
            Wish::LookNow => {
                self.search.hurry();
                Ok(())
            }
            Wish::Save => self.save(tracer, watcher),
        }
    }

    /// Gives out the last seconds: what the tasks are in first, then what has come until then.
    fn save(&mut self, tracer: &mut Tracer, watcher: &mut dyn Watcher) -> Result<()> {
        tracer.count_switches()?;
        let at_ns = now_ns()?;
        let mut living = Vec::new();
        tracer.steady(|entry| living.extend(task_of(&entry)));
        for _ in 0..MOST_DRAINS {
            self.drain(tracer);
            if !self.unread {
                break;
            }
        }
        self.name_stacks(tracer);
        self.take_unreported(tracer)?;
        self.resolve(at_ns);
        let moment = Moment {
            at_ns,
            living,
            counters: self.counters(tracer)?,
            not_real_time: None,
        };
        match &self.writer {
            Sink::Recent(recent) => watcher.save(recent, moment),
            Sink::File(_) => Ok(()),
        }
    }

    fn counters(&self, tracer: &Tracer) -> Result<Counters> {
        let losses = tracer.losses();
        Ok(Counters {
            ring_full: losses.ring_full,
            no_ring: losses.no_ring,
            other: losses.other,
            not_followed: losses.table_full,
            undecodable: self.undecodable,
            cpu_ns: own_cpu_ns()?,
        })
    }

    fn tick(&mut self, tracer: &Tracer, now_ns: u64) -> Result<()> {
        let counters = match self.writer {
            Sink::Recent(_) => self.counters(tracer)?,
            Sink::File(_) => Counters::default(),
        };
        self.writer.tick(now_ns, &counters);
        Ok(())
    }

    /// Says who it is, if it lives.
    fn write_entry(&mut self, entry: &TableEntry) -> Option<Living> {
        if let Some(polls) = &entry.polls {
            decode::polls(entry.state.serial, polls, |event| self.write(&event));
        }
        match task_of(entry) {
            Some(mut task) => {
                let living = task.end_ns.is_none().then(|| {
                    task.born.comm = procfs::name_of_living(task.born.tgid, task.born.tid);
                    Living {
                        tgid: task.born.tgid,
                        tid: task.born.tid,
                        comm: task.born.comm.clone(),
                    }
                });
                self.write(&Event::Task(task));
                living
            }
            None => {
                self.undecodable += 1;
                None
            }
        }
    }

    /// Ends that found no room in a ring: from the task table, so that neither
    /// they nor the table's slots are lost.
    fn take_unreported(&mut self, tracer: &mut Tracer) -> Result<()> {
        if tracer.losses().unreported > self.taken {
            tracer.take_unreported(|entry| {
                self.taken += 1;
                self.write_entry(&entry);
            })?;
        }
        Ok(())
    }

    fn finish(mut self, mut tracer: Tracer, signals: Signals, end: Ending<'_>) -> Result<Recorded> {
        tracer.detach()?;
        let end_ns = now_ns()?;
        self.drain(&mut tracer);
        while self.unread {
            self.drain(&mut tracer);
        }
        let Ending {
            nursery,
            watch,
            cpu_before,
            not_real_time,
            notify,
        } = end;
        let mut tell = |presses| notify(Notice::LastLookUps(presses));
        let mut requests = std::mem::take(&mut self.requests);
        let mut last_wait = LastWait::new(nursery.ready(), &signals, &mut requests, &mut tell);
        if let Some(namer) = &mut self.stacks {
            namer.finish(&mut last_wait, |id| tracer.stack(id), &mut self.writer);
        }
        let (live, untracked) = tracer.live();
        let mut left = BTreeMap::new();
        tracer.remaining(|entry| {
            // The first thread names the process, if it still lives.
            if let Some(Living { tgid, tid, comm }) = self.write_entry(&entry) {
                if tgid == tid {
                    left.insert(tgid, comm);
                } else {
                    left.entry(tgid).or_insert(comm);
                }
            }
        })?;
        let left: Vec<_> = left.into_iter().collect();
        let Self {
            mut writer, names, ..
        } = self;
        let polls_left_out = tracer.polls_left_out()?;
        if polls_left_out > 0 {
            writer.push(&Event::PollsLeftOut(polls_left_out));
        }
        let losses = tracer.losses_of_all_cpus();
        let refused = TablesRefused {
            slots: losses.slots,
            others: losses.refused,
        };
        if refused != TablesRefused::default() {
            writer.push(&Event::TablesRefused(refused));
        }
        let (look_ups, throttled, of_names) =
            names.finish(&mut last_wait, end_ns, |event| writer.push(&event));
        let mut troubles = of_names + watch.troubles() + self.search.troubles();
        let mut helpers_cpu_ns =
            look_ups.cpu_ns + watch.helper_cpu_ns() + self.search.helper_cpu_ns();
        if let Some(namer) = &self.stacks {
            troubles = troubles + namer.troubles();
            helpers_cpu_ns += namer.helper_cpu_ns();
        }
        troubles.extend(nursery.ends(troubles.unexplained()));
        if let Some(lost) = troubles.event() {
            writer.push(&lost);
        }
        if let Some(root) = &mut self.root {
            root.reap()?;
        }
        let outcome = self.root.as_ref().map(Root::outcome);
        let (exit_code, signal) = outcome.unwrap_or_default();
        let finish = Finish {
            end_ns,
            exit_code,
            signal,
            cut_short: live + untracked > 0,
            lost_ring_full: losses.ring_full,
            lost_no_ring: losses.no_ring,
            lost_other: losses.other + tracer.left_out()?,
            lost_stacks: self.stacks.is_some().then_some(losses.stacks),
            not_followed: losses.table_full,
            undecodable: self.undecodable,
            tracer_cpu_ns: own_cpu_ns()?.saturating_sub(cpu_before) + helpers_cpu_ns,
            look_ups,
            throttled,
            not_real_time,
            ..Finish::default()
        };
        let (finish, finish_error) = match writer {
            Sink::File(writer) => writer.finish(finish),
            Sink::Recent(_) => (finish, None),
        };
        Ok(Recorded {
            finish,
            finish_error,
            tracer,
            left: (self.detach && self.root.is_some()).then_some(left),
            signals,
        })
    }
}
