//! The calls that a thread waits in, each with what it waits for and who lets it go.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo, pipe};
use tempfile::TempDir;

use super::super::crew::{call_me, die_with_parent};
use super::super::poll::{Call as PollCall, Watched};
use super::super::sys::{fork_child, nap, now_ns, pid, reap, shortest_backlog};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Call {
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
    pub(super) fn syscall(self) -> &'static str {
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

    /// Makes all that the call needs; to be called while the process has one thread.
    // Long: a table, with an arm for each call.
    pub(super) fn prepare<'a>(
        self,
        number: usize,
        millis: u64,
        folder: &TempDir,
        watched: &'a Watched,
    ) -> Result<Prepared<'a>> {
        let ends_by_itself = |make: Box<dyn FnOnce(Duration) -> Result<()> + Send + 'a>| Prepared {
            call: self,
            make,
            releaser: None,
        };
        let path = folder.path().join(number.to_string());
        if let Some(poll) = self.poll() {
            return Ok(ends_by_itself(Box::new(move |time| {
                let ready = poll.make(watched, time)?;
                ensure!(ready == 0, "something was ready that should be silent");
                Ok(())
            })));
        }
        let let_go = |make: Box<dyn FnOnce(Duration) -> Result<()> + Send>,
                      act: Box<dyn FnOnce() -> Result<()>>| {
            Ok(Prepared {
                call: self,
                make,
                releaser: Some(Releaser::fork(millis, act)?),
            })
        };
        match self {
            Self::ClockNanosleep => Ok(ends_by_itself(Box::new(nap))),
            Self::Futex => Ok(ends_by_itself(Box::new(|time| {
                let nobody = Mutex::new(());
                let guard = nobody.lock().unwrap_or_else(PoisonError::into_inner);
                let _ = Condvar::new().wait_timeout_while(guard, time, |()| true);
                Ok(())
            }))),
            Self::Fsync => Ok(ends_by_itself(Box::new(move |time| sync_for(&path, time)))),
            Self::Read => {
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
            Self::Wait4 => {
                let releaser = Releaser::fork(millis, || Ok(()))?;
                let child = releaser.child;
                Ok(Prepared {
                    call: self,
                    make: Box::new(move |_| reap(child)),
                    releaser: Some(releaser),
                })
            }
            Self::Openat => {
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
            Self::Accept4 => {
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
            Self::Connect => {
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

/// What the waiter's call needs, and the process that lets it go.
pub(super) struct Prepared<'a> {
    pub(super) call: Call,
    /// Makes the call; ends when the releaser acts or its time is up.
    pub(super) make: Box<dyn FnOnce(Duration) -> Result<()> + Send + 'a>,
    pub(super) releaser: Option<Releaser>,
}

/// A process that waits for a byte, naps and acts.
pub(super) struct Releaser {
    pub(super) child: Pid,
    start: File,
}

impl Releaser {
    /// Lets it begin.
    pub(super) fn begin(&self) -> Result<()> {
        (&self.start)
            .write_all(&[0])
            .context("the releaser is gone")
    }

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
