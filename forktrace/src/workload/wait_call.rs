//! One thread that waits in one system call after the other, beside threads that
//! work on.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo, pipe};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::cpu::step;
use super::crew::{call_me, die_with_parent};
use super::marks::{Mark, Marks};
use super::poll::{Call as PollCall, Watched};
use super::sys::{
    Among, Lock, fork_child, nap, now_ns, pid, reap, shortest_backlog, tid, voluntary_switches,
    yield_now,
};
use super::task::{StartLine, join, until_alone};
use super::truth::Truth;

/// A thread waits in one system call after the other while its siblings work
///
/// The thread `waiter` makes each of the calls once, on something silent, and is
/// let go after --millis: by the call's timeout, or by a process of its own that
/// shares nothing with it but the descriptor. (fsync nobody can delay: it writes and
/// syncs a file over and over until the time is up.) Its siblings: `compute`, which
/// is the main thread, never makes a blocking call; `reader` reads what `writer` sends
/// it through a pipe every half millisecond; `sleeper` sleeps a millisecond at a time.
/// Between two calls the waiter computes until each sibling has got on.
///
/// With --holding-lock the waiter holds a lock during each call, and each sibling
/// takes it for every step: they must stand still, all of them, until it is back.
///
/// Marks:
///   call        value: ns the call took; call; begin_ns, end_ns
/// Truth:
///   tid, waiter_tid, holding_lock
///   siblings    {compute, reader, writer, sleeper}: their tids
///   calls       [{call, begin_ns, end_ns, switches, computed, received, slept}]: how often the waiter blocked, by the kernel's count, and
///               the steps that the siblings made between begin and end
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct WaitCalls {
    /// The calls, in this order.
    #[arg(long, value_enum, value_delimiter = ',', required = true)]
    calls: Vec<Call>,
    /// How long each of them lasts.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    millis: u64,
    /// The waiter holds a lock meanwhile that its siblings need.
    #[arg(long)]
    holding_lock: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Call {
    #[cfg(target_arch = "x86_64")]
    #[value(name = "select")]
    Select,
    #[value(name = "pselect6")]
    Pselect6,
    #[cfg(target_arch = "x86_64")]
    #[value(name = "poll")]
    Poll,
    #[value(name = "ppoll")]
    Ppoll,
    #[cfg(target_arch = "x86_64")]
    #[value(name = "epoll_wait")]
    EpollWait,
    #[value(name = "epoll_pwait2")]
    EpollPwait2,
    #[value(name = "read")]
    Read,
    #[value(name = "futex")]
    Futex,
    #[value(name = "wait4")]
    Wait4,
    #[value(name = "fsync")]
    Fsync,
    #[value(name = "connect")]
    Connect,
    /// Of a FIFO that nobody has open.
    #[value(name = "openat")]
    Openat,
    #[value(name = "clock_nanosleep")]
    ClockNanosleep,
    #[value(name = "accept4")]
    Accept4,
}

impl Call {
    fn poll(self) -> Option<PollCall> {
        Some(match self {
            #[cfg(target_arch = "x86_64")]
            Self::Select => PollCall::Select,
            Self::Pselect6 => PollCall::Pselect6,
            #[cfg(target_arch = "x86_64")]
            Self::Poll => PollCall::Poll,
            Self::Ppoll => PollCall::Ppoll,
            #[cfg(target_arch = "x86_64")]
            Self::EpollWait => PollCall::EpollWait,
            Self::EpollPwait2 => PollCall::EpollPwait2,
            _ => return None,
        })
    }

    /// As the kernel names it.
    fn syscall(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Futex => "futex",
            Self::Wait4 => "wait4",
            Self::Fsync => "fsync",
            Self::Connect => "connect",
            Self::Openat => "openat",
            Self::ClockNanosleep => "clock_nanosleep",
            Self::Accept4 => "accept4",
            poll => poll.poll().map_or("", PollCall::name),
        }
    }
}

/// What the waiter's call needs, and the process that lets it go.
struct Prepared<'a> {
    call: Call,
    /// Makes the call; ends when the releaser acts or its time is up.
    make: Box<dyn FnOnce(Duration) -> Result<()> + Send + 'a>,
    releaser: Option<Releaser>,
}

/// A process that waits for a byte, naps and acts.
struct Releaser {
    child: Pid,
    start: File,
}

impl Releaser {
    /// To be called while the process has one thread.
    fn fork(millis: u64, act: impl FnOnce() -> Result<()>) -> Result<Self> {
        let (go, start) = pipe().context("cannot make a pipe")?;
        let mut start = Some(start);
        let child = fork_child(|| {
            start.take();
            die_with_parent()?;
            call_me("releaser")?;
            File::from(go)
                .read_exact(&mut [0])
                .context("nobody told the releaser to begin")?;
            nap(Duration::from_millis(millis))?;
            act()
        })?;
        let start = File::from(start.context("the child took our pipe")?);
        Ok(Self { child, start })
    }
}

/// The siblings' steps so far.
#[derive(Default)]
struct Steps {
    computed: AtomicU64,
    received: AtomicU64,
    slept: AtomicU64,
}

impl Steps {
    fn now(&self) -> [u64; 3] {
        [&self.computed, &self.received, &self.slept].map(|it| it.load(SeqCst))
    }

    fn since(&self, before: [u64; 3]) -> [u64; 3] {
        let now = self.now();
        [0, 1, 2].map(|i| now[i] - before[i])
    }
}

const PACE: Duration = Duration::from_micros(500);
const SLEEP: Duration = Duration::from_millis(1);
const SIBLINGS: usize = 4;

impl WaitCalls {
    pub(super) fn run(&self) -> Result<()> {
        let truth = Truth::begin("wait-calls");
        let marks = Marks::open()?;
        // Not in memory, as /tmp may be: a sync there has nothing to wait for.
        let folder = tempfile::tempdir_in("/var/tmp")
            .or_else(|_| tempfile::tempdir())
            .context("cannot make a temporary folder")?;
        let watched = Watched::new()?;
        let mut prepared = self
            .calls
            .iter()
            .enumerate()
            .map(|(i, &call)| self.prepare(call, i, &folder, &watched))
            .collect::<Result<Vec<_>>>()?;
        let releasers: Vec<Pid> = prepared
            .iter()
            .filter(|it| it.call != Call::Wait4)
            .filter_map(|it| Some(it.releaser.as_ref()?.child))
            .collect();

        call_me("compute")?;
        let lock = Lock::new(Among::Threads)?;
        let locked = |body: &mut dyn FnMut() -> Result<()>| -> Result<()> {
            if self.holding_lock {
                lock.with(body)?
            } else {
                body()
            }
        };
        let steps = Steps::default();
        let over = AtomicBool::new(false);
        let line = StartLine::new(SIBLINGS + 1);
        let (mut from, mut to) = {
            let (from, to) = pipe().context("cannot make a pipe")?;
            (File::from(from), Some(File::from(to)))
        };

        let (waiter, siblings) = thread::scope(|scope| -> Result<_> {
            let waiter = line.spawn(scope, "waiter", || {
                let calls = prepared
                    .drain(..)
                    .map(|it| self.measure(it, &steps, &locked, &marks))
                    .collect::<Result<Vec<_>>>();
                over.store(true, SeqCst);
                Ok((tid(), calls?))
            })?;
            let reader = line.spawn(scope, "reader", || {
                let mut byte = [0];
                while from.read(&mut byte).context("cannot read from a pipe")? > 0 {
                    locked(&mut || {
                        steps.received.fetch_add(1, SeqCst);
                        Ok(())
                    })?;
                }
                Ok(tid())
            })?;
            let writer = line.spawn(scope, "writer", || {
                let mut to = to.take().context("the pipe is gone")?;
                while !over.load(SeqCst) {
                    locked(&mut || to.write_all(&[0]).context("cannot write to a pipe"))?;
                    nap(PACE)?;
                }
                Ok(tid())
            })?;
            let sleeper = line.spawn(scope, "sleeper", || {
                while !over.load(SeqCst) {
                    nap(SLEEP)?;
                    locked(&mut || {
                        steps.slept.fetch_add(1, SeqCst);
                        Ok(())
                    })?;
                }
                Ok(tid())
            })?;
            line.wait();
            while !over.load(SeqCst) {
                locked(&mut || {
                    step();
                    steps.computed.fetch_add(1, SeqCst);
                    Ok(())
                })?;
            }
            until_alone()?;
            let siblings = json!({
                "compute": tid(),
                "reader": join(reader)?,
                "writer": join(writer)?,
                "sleeper": join(sleeper)?,
            });
            Ok((join(waiter)?, siblings))
        })?;
        releasers.into_iter().try_for_each(reap)?;

        let (waiter_tid, calls) = waiter;
        truth.print(json!({
            "tid": pid(),
            "waiter_tid": waiter_tid,
            "holding_lock": self.holding_lock,
            "siblings": siblings,
            "calls": calls,
        }))
    }

    /// Makes one call, and computes until each sibling has made a step after it.
    fn measure(
        &self,
        prepared: Prepared<'_>,
        steps: &Steps,
        locked: &dyn Fn(&mut dyn FnMut() -> Result<()>) -> Result<()>,
        marks: &Marks,
    ) -> Result<Value> {
        let Prepared {
            call,
            make,
            releaser,
        } = prepared;
        let mut make = Some(make);
        let mut measured = Value::Null;
        locked(&mut || {
            let make = make.take().context("a call is made once")?;
            if let Some(releaser) = &releaser {
                (&releaser.start)
                    .write_all(&[0])
                    .context("the releaser is gone")?;
            }
            let steps_before = steps.now();
            let switches_before = voluntary_switches()?;
            let begin_ns = now_ns();
            make(Duration::from_millis(self.millis))
                .with_context(|| format!("{} failed", call.syscall()))?;
            let end_ns = now_ns();
            let switches = voluntary_switches()? - switches_before;
            let [computed, received, slept] = steps.since(steps_before);
            marks.write(
                Mark::new("call", end_ns - begin_ns)
                    .with("call", call.syscall())
                    .with("begin_ns", begin_ns)
                    .with("end_ns", end_ns),
            )?;
            measured = json!({
                "call": call.syscall(),
                "begin_ns": begin_ns,
                "end_ns": end_ns,
                "switches": switches,
                "computed": computed,
                "received": received,
                "slept": slept,
            });
            Ok(())
        })?;
        let after = steps.now();
        while steps.since(after).contains(&0) {
            yield_now();
        }
        Ok(measured)
    }

    fn prepare<'a>(
        &self,
        call: Call,
        number: usize,
        folder: &TempDir,
        watched: &'a Watched,
    ) -> Result<Prepared<'a>> {
        let ends_by_itself = |make: Box<dyn FnOnce(Duration) -> Result<()> + Send + 'a>| Prepared {
            call,
            make,
            releaser: None,
        };
        let path = folder.path().join(number.to_string());
        if let Some(poll) = call.poll() {
            return Ok(ends_by_itself(Box::new(move |time| {
                let ready = poll.make(watched, time)?;
                ensure!(ready == 0, "something was ready that should be silent");
                Ok(())
            })));
        }
        let let_go = |make: Box<dyn FnOnce(Duration) -> Result<()> + Send>,
                      act: Box<dyn FnOnce() -> Result<()>>| {
            Ok(Prepared {
                call,
                make,
                releaser: Some(Releaser::fork(self.millis, act)?),
            })
        };
        match call {
            Call::ClockNanosleep => Ok(ends_by_itself(Box::new(nap))),
            Call::Futex => Ok(ends_by_itself(Box::new(|time| {
                let nobody = Mutex::new(());
                let guard = nobody.lock().unwrap_or_else(PoisonError::into_inner);
                let _ = Condvar::new().wait_timeout_while(guard, time, |()| true);
                Ok(())
            }))),
            Call::Fsync => Ok(ends_by_itself(Box::new(move |time| sync_for(&path, time)))),
            Call::Read => {
                let (reader, writer) = pipe().context("cannot make a pipe")?;
                let (mut reader, mut writer) = (File::from(reader), File::from(writer));
                let keep = reader.try_clone().context("cannot duplicate a pipe")?;
                let_go(
                    Box::new(move |_| {
                        let _both_ends = keep;
                        reader.read_exact(&mut [0]).context("cannot read a byte")
                    }),
                    Box::new(move || writer.write_all(&[0]).context("cannot write a byte")),
                )
            }
            Call::Wait4 => {
                let releaser = Releaser::fork(self.millis, || Ok(()))?;
                let child = releaser.child;
                Ok(Prepared {
                    call,
                    make: Box::new(move |_| reap(child)),
                    releaser: Some(releaser),
                })
            }
            Call::Openat => {
                mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).context("cannot make a FIFO")?;
                let same = path.clone();
                let_go(
                    Box::new(move |_| {
                        File::open(path).context("cannot open a FIFO")?;
                        Ok(())
                    }),
                    Box::new(move || {
                        OpenOptions::new()
                            .write(true)
                            .open(same)
                            .context("cannot open a FIFO's other end")?;
                        Ok(())
                    }),
                )
            }
            Call::Accept4 => {
                let address = address(number)?;
                let listener = UnixListener::bind_addr(&address).context("cannot listen")?;
                let_go(
                    Box::new(move |_| {
                        listener.accept().context("cannot accept")?;
                        Ok(())
                    }),
                    Box::new(move || {
                        UnixStream::connect_addr(&address).context("cannot connect")?;
                        Ok(())
                    }),
                )
            }
            Call::Connect => {
                let address = address(number)?;
                let listener = UnixListener::bind_addr(&address).context("cannot listen")?;
                shortest_backlog(listener.as_fd()).context("cannot shorten a backlog")?;
                // This connection fills the backlog; the next one has to wait.
                let first = UnixStream::connect_addr(&address).context("cannot connect")?;
                let_go(
                    Box::new(move |_| {
                        let _first = first;
                        UnixStream::connect_addr(&address).context("cannot connect")?;
                        Ok(())
                    }),
                    Box::new(move || {
                        // Both: who is in the backlog when it closes is refused.
                        for _ in 0..2 {
                            listener.accept().context("cannot accept")?;
                        }
                        Ok(())
                    }),
                )
            }
            _ => unreachable!("the poll calls are prepared above"),
        }
    }
}

fn address(number: usize) -> Result<SocketAddr> {
    let name = format!("forktrace-workload-{}-{number}", pid());
    SocketAddr::from_abstract_name(name).context("cannot name a socket")
}

/// Writes and syncs a file over and over.
fn sync_for(path: &std::path::Path, time: Duration) -> Result<()> {
    let end = now_ns() + time.as_nanos() as u64;
    let data = vec![1; 256 * 1024];
    while now_ns() < end {
        let mut file = File::create(path).context("cannot make a file")?;
        file.write_all(&data).context("cannot write a file")?;
        file.sync_all().context("cannot sync a file")?;
    }
    fs::remove_file(path).context("cannot remove a file")
}
