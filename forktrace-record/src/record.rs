//! A recording: starts the workload under the tracer and writes what happens
//! until it is over.
//!
//! One thread, one loop: it sleeps until a ring is a quarter full, a signal
//! comes or a moment has passed, then empties the rings into the file.

use std::{
    ffi::OsString,
    fs::File,
    io,
    process::Child,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result};
use nix::{
    errno::Errno,
    sys::{
        epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
        resource::{UsageWho, getrusage},
        signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask},
        signalfd::{SfdFlags, SignalFd, siginfo},
        time::TimeValLike as _,
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    time::{ClockId, clock_gettime},
    unistd::Pid,
};

use crate::{
    analysis::named_deadlock as named,
    capture::{Settings, TableEntry, Tracer},
    deadlock, decode,
    launch::{self, Account},
    marks::Marks,
    names::Resolver,
    report,
    stacks::Namer,
    trace::Arch,
    trace::{Event, Finish, Header},
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

/// What to record.
#[derive(Debug)]
pub struct Plan {
    /// The command.
    pub argv: Vec<OsString>,
    /// Whom it runs as; `None`: as we do.
    pub account: Option<Account>,
    /// Stop when the first process ends, whatever else still lives.
    pub until_exit: bool,
    /// How the tracer is set up.
    pub settings: Settings,
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
}

/// What is worth telling while the recording goes on.
#[derive(Debug)]
pub enum Notice {
    /// How far it is.
    Progress(Progress),
    /// Tasks can never go on; times are since the recording began.
    Deadlock(report::Deadlock),
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
}

/// Records a workload into a file.
///
/// # Errors
/// When the tracer can't be attached, the file not be started, or the workload
/// not be executed ([`launch::LaunchError`]).
pub fn record(plan: &Plan, file: File, mut notify: impl FnMut(Notice)) -> Result<Recorded> {
    let mut signals = Signals::take()?;
    // Before the tracer takes all low descriptors: many shells can't redirect to
    // one with two digits.
    let mut marks = Marks::new().context("no file for the workload's marks")?;
    let marks_writer = marks.writer().context("no file for the workload's marks")?;
    let mut tracer = Tracer::attach(&plan.settings)?;
    let header = header(plan, &tracer)?;
    let writer = TraceWriter::new(file, &header).context("the trace file can't be written")?;
    // Reads the kernel's names, while nothing is to be missed yet.
    let stacks = plan.settings.stacks.then(Namer::new);
    let cpu_before = own_cpu_ns()?;
    let names = Resolver::new(header.arch, header.start_ns);

    let disarm = tracer.arm()?;
    let account = plan.account.as_ref();
    let child = launch::spawn(&plan.argv, account, signals.inherited, marks_writer, disarm)?;

    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(&signals.fd, EpollEvent::new(EpollFlags::EPOLLIN, 0))?;
    for ring in tracer.ring_fds() {
        // Edge-triggered: a ring that holds anything counts as readable.
        epoll.add(
            ring,
            EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, 1),
        )?;
    }

    let mut session = Session {
        writer,
        names,
        records: 0,
        tasks: 0,
        undecodable: 0,
        taken: 0,
        stacks,
        root: Root::new(child),
        detach: false,
        interrupts: 0,
    };
    let begun = Instant::now();
    let mut tick = TICK_WHEN_NEW;
    let mut watch = deadlock::Watch::new(header.arch);
    loop {
        if session.root.ended() {
            tick = TICK_AT_END;
        } else if session.stacks.is_some() {
            tick = TICK_FOR_STACKS;
        }
        let timeout = EpollTimeout::try_from(tick).unwrap_or(EpollTimeout::ZERO);
        match epoll.wait(&mut [EpollEvent::empty(); 8], timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error).context("epoll_wait"),
        }
        while let Some(signal) = signals.next()? {
            session.on_signal(&signal)?;
        }
        // The counters before the rings: what they count is then in the rings.
        let (live, untracked) = tracer.live()?;
        session.drain(&mut tracer);
        session.name_stacks(&tracer, false);
        session.take_unreported(&mut tracer)?;
        let read = marks.drain(|event| session.write(&event));
        read.context("the workload's marks can't be read")?;
        tick = if session.names.is_busy() {
            TICK_WHEN_NEW
        } else {
            TICK.min(tick * 2)
        };
        session.resolve(now_ns()?);
        session.writer.tick(now_ns()?);
        let over = session.root.ended() && (plan.until_exit || live == 0 && untracked == 0);
        if over || session.detach {
            break;
        }
        for found in watch.look(&tracer, now_ns()?)? {
            let since = |ns: u64| ns.saturating_sub(header.start_ns);
            let name = |serial| found.names.get(&serial).cloned();
            notify(Notice::Deadlock(named(&found.deadlock, since, name)));
            session.write(&Event::Deadlock(found.deadlock));
        }
        let losses = tracer.losses()?;
        notify(Notice::Progress(Progress {
            elapsed: begun.elapsed(),
            tasks: session.tasks,
            live: live + untracked,
            records: session.records,
            lost: losses.ring_full + losses.no_ring + losses.other,
        }));
    }
    let read = marks.finish(|event| session.write(&event));
    read.context("the workload's marks can't be read")?;
    session.finish(tracer, cpu_before)
}

fn header(plan: &Plan, tracer: &Tracer) -> Result<Header> {
    let system = nix::sys::utsname::uname().context("uname")?;
    let unix = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Ok(Header {
        forktrace: env!("CARGO_PKG_VERSION").to_owned(),
        argv: plan
            .argv
            .iter()
            .map(|a| a.to_string_lossy().into_owned())
            .collect(),
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
    })
}

/// The clock of the records.
fn now_ns() -> Result<u64> {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).context("clock_gettime")?;
    Ok(now.num_nanoseconds() as u64)
}

/// CPU time that this process has used, ns.
fn own_cpu_ns() -> Result<u64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).context("getrusage")?;
    let total = usage.user_time() + usage.system_time();
    Ok(total.num_microseconds() as u64 * 1000)
}

/// The signals that we answer instead of dying of them.
struct Signals {
    fd: SignalFd,
    /// The mask before, which the workload gets.
    inherited: SigSet,
}

impl Signals {
    fn take() -> Result<Self> {
        let mut ours = SigSet::empty();
        for signal in [
            Signal::SIGCHLD,
            Signal::SIGINT,
            Signal::SIGTERM,
            Signal::SIGHUP,
            Signal::SIGQUIT,
        ] {
            ours.add(signal);
        }
        let mut inherited = SigSet::empty();
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&ours), Some(&mut inherited))
            .context("signals can't be blocked")?;
        let fd = SignalFd::with_flags(&ours, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .context("no signalfd")?;
        Ok(Self { fd, inherited })
    }

    fn next(&mut self) -> Result<Option<siginfo>> {
        self.fd.read_signal().context("the signalfd can't be read")
    }
}

/// The first process of the workload.
struct Root {
    child: Child,
    status: Option<WaitStatus>,
}

impl Root {
    fn new(child: Child) -> Self {
        Self {
            child,
            status: None,
        }
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    fn ended(&self) -> bool {
        self.status.is_some()
    }

    /// Notes its end, if it has come.
    fn reap(&mut self) -> Result<()> {
        if self.ended() {
            return Ok(());
        }
        let status = waitpid(self.pid(), Some(WaitPidFlag::WNOHANG)).context("waitpid")?;
        if matches!(status, WaitStatus::Exited(..) | WaitStatus::Signaled(..)) {
            self.status = Some(status);
        }
        Ok(())
    }
}

struct Session {
    writer: TraceWriter<File>,
    names: Resolver,
    records: u64,
    tasks: u64,
    undecodable: u64,
    /// Ends that were read from the task table, so far.
    taken: u64,
    /// Names the functions of stacks, if stacks are wanted.
    stacks: Option<Namer>,
    root: Root,
    detach: bool,
    interrupts: u32,
}

impl Session {
    /// A signal from the terminal has reached the workload too, and is its to
    /// answer. One that was sent to us alone is passed on; the second one, and
    /// any once the first process is gone, ends the recording.
    fn on_signal(&mut self, signal: &siginfo) -> Result<()> {
        if signal.ssi_signo == Signal::SIGCHLD as u32 {
            return self.root.reap();
        }
        if self.root.ended() {
            self.detach = true;
            return Ok(());
        }
        const SI_KERNEL: i32 = 0x80;
        if signal.ssi_code == SI_KERNEL {
            return Ok(());
        }
        self.interrupts += 1;
        if self.interrupts > 1 {
            self.detach = true;
        } else if let Ok(signal) = Signal::try_from(signal.ssi_signo as i32) {
            match kill(self.root.pid(), signal) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(error) => {
                    return Err(error).with_context(|| format!("{signal} can't be passed on"));
                }
            }
        }
        Ok(())
    }

    fn write(&mut self, event: &Event) {
        if let Event::Born(_) | Event::Untracked(_) = event {
            self.tasks += 1;
        }
        self.names.note(event);
        match &mut self.stacks {
            Some(namer) => namer.see(event, &mut self.writer),
            None => self.writer.push(event),
        }
    }

    /// Gives names to the stacks that came, while their processes live.
    fn name_stacks(&mut self, tracer: &Tracer, at_once: bool) {
        if let Some(namer) = &mut self.stacks {
            namer.name(|id| tracer.stack(id), at_once, &mut self.writer);
        }
    }

    /// Finds out what the tasks wait for, while they do.
    fn resolve(&mut self, now_ns: u64) {
        let writer = &mut self.writer;
        self.names.resolve(now_ns, |event| writer.push(&event));
    }

    fn drain(&mut self, tracer: &mut Tracer) {
        tracer.drain(|cpu, record| {
            self.records += 1;
            if decode::decode(cpu, record, |event| self.write(&event)).is_err() {
                self.undecodable += 1;
            }
        });
    }

    fn write_entry(&mut self, entry: &TableEntry) {
        if let Some(polls) = &entry.polls {
            decode::polls(entry.state.serial, polls, |event| self.write(&event));
        }
        match decode::task(&entry.state) {
            Ok(mut task) => {
                if task.end_ns.is_none() {
                    task.born.comm = name_of_living(task.born.tgid, task.born.tid);
                }
                self.write(&Event::Task(task));
            }
            Err(decode::Undecodable) => self.undecodable += 1,
        }
    }

    /// Ends that found no room in a ring: from the task table, so that neither
    /// they nor the table's slots are lost.
    fn take_unreported(&mut self, tracer: &mut Tracer) -> Result<()> {
        if tracer.losses()?.unreported > self.taken {
            tracer.take_unreported(|entry| {
                self.taken += 1;
                self.write_entry(&entry);
            })?;
        }
        Ok(())
    }

    fn finish(mut self, mut tracer: Tracer, cpu_before: u64) -> Result<Recorded> {
        tracer.detach()?;
        let end_ns = now_ns()?;
        self.drain(&mut tracer);
        self.name_stacks(&tracer, true);
        let (live, untracked) = tracer.live()?;
        tracer.remaining(|entry| self.write_entry(&entry))?;
        let Self {
            mut writer, names, ..
        } = self;
        let polls_left_out = tracer.polls_left_out()?;
        if polls_left_out > 0 {
            writer.push(&Event::PollsLeftOut(polls_left_out));
        }
        let (look_ups, throttled) = names.finish(end_ns, |event| writer.push(&event));
        self.root.reap()?;
        let losses = tracer.losses_of_all_cpus()?;
        let (exit_code, signal) = match self.root.status {
            Some(WaitStatus::Exited(_, code)) => (Some(code), None),
            Some(WaitStatus::Signaled(_, signal, _)) => (None, Some(signal as i32)),
            _ => (None, None),
        };
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
            tracer_cpu_ns: own_cpu_ns()?.saturating_sub(cpu_before),
            look_ups,
            throttled,
            ..Finish::default()
        };
        let (finish, finish_error) = writer.finish(finish);
        Ok(Recorded {
            finish,
            finish_error,
            tracer,
        })
    }
}

/// The name of a task that lives; empty when it just ended.
pub(crate) fn name_of_living(tgid: u32, tid: u32) -> String {
    let path = format!("/proc/{tgid}/task/{tid}/comm");
    std::fs::read_to_string(path).map_or(String::new(), |name| name.trim_end().to_owned())
}
