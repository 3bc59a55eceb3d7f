//! Many tasks that wait for the same descriptor, or each for its own.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use serde_json::json;

use super::crew::{numbered, run_crew};
use super::marks::{Mark, Marks};
use super::sys::{Among, Shared, nap, now_ns, pid, plain_poll, pselect6, tid};
use super::task::asleep;
use super::truth::Truth;

/// Tasks wait for input, all for the same or each for its own
///
/// Each task `waiter-N` waits until its socket is readable, reads from it without
/// waiting, and starts again. The first process sends one event at a time, to the one
/// socket that all wait for or, with --disjoint, to each socket in turn, and the next
/// one only when the kernel says that all waiters sleep again. In `accept` an event is
/// a connection, and the waiters do nothing but accept it.
///
/// With --blocking-read the read waits too, for 5 ms at most: who finds that
/// another one was faster is blocked there. --pause-micros puts a sleep between
/// finding the socket readable and reading it.
///
/// Marks:
///   events      value: how many were sent
/// Truth:
///   events, waiters, design, disjoint, processes
///   taken       how many events were read: all of them
///   empty       how many reads found nothing
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct Waitset {
    /// How they wait.
    #[arg(long, value_enum, default_value_t = Design::Select)]
    design: Design,
    /// How many tasks wait.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=500))]
    waiters: u32,
    /// How many events are sent.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    events: u64,
    /// Each waits for a socket of its own.
    #[arg(long)]
    disjoint: bool,
    /// The waiters are processes, which inherit the sockets, instead of threads.
    #[arg(long)]
    processes: bool,
    /// The read waits too.
    #[arg(long)]
    blocking_read: bool,
    /// How long a waiter sleeps before it reads.
    #[arg(long, default_value_t = 0)]
    pause_micros: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Design {
    /// select
    Select,
    /// poll
    Poll,
    /// Each has an epoll of its own.
    Epoll,
    /// The same with EPOLLEXCLUSIVE.
    EpollExclusive,
    /// One epoll for all who wait for the same socket.
    EpollShared,
    /// No waiting for readiness: a blocking accept.
    Accept,
}

/// The longest that a blocking read waits.
const READ_TIMEOUT: Duration = Duration::from_millis(5);
/// Longer than the workload: only an event or the end wakes a waiter.
const FOREVER: Duration = Duration::from_secs(3600);
const LOOK_AGAIN: Duration = Duration::from_micros(50);
/// A waiter that has not gone to sleep after this long never will.
const GIVE_UP: Duration = Duration::from_secs(60);

/// Words shared by all, before those of the waiters.
const STOP: usize = 0;
const TAKEN: usize = 1;
const EMPTY: usize = 2;
const GONE: usize = 3;
const COMMON: usize = 4;
/// Words of a waiter: its tid, and whether it is about to read.
const WORDS: usize = 2;

/// What is waited for: the waiters' end and the sender's end, or a listening socket.
struct Source {
    ends: Ends,
    epoll: Option<Epoll>,
}

enum Ends {
    Stream(UnixStream, UnixStream),
    Listener(UnixListener, SocketAddr),
}

impl Waitset {
    pub(super) fn run(&self) -> Result<()> {
        let truth = Truth::begin("waitset");
        let marks = Marks::open()?;
        let count = self.waiters as usize;
        let words = Shared::new(COMMON + count * WORDS)?;
        let (common, waiters) = words.words().split_at(COMMON);
        let sources = (0..if self.disjoint { count } else { 1 })
            .map(|i| self.source(i))
            .collect::<Result<Vec<_>>>()?;
        let source = |waiter: usize| &sources[if self.disjoint { waiter } else { 0 }];

        run_crew(
            Among::from_flag(self.processes),
            &numbered("waiter", count),
            |i| {
                self.wait_and_read(source(i), common, &waiters[i * WORDS..][..WORDS])?;
                common[GONE].fetch_add(1, SeqCst);
                Ok(())
            },
            || {
                until_all_asleep(waiters)?;
                for event in 1..=self.events {
                    send(&sources[event as usize % sources.len()])?;
                    while common[TAKEN].load(SeqCst) < event {
                        nap(LOOK_AGAIN)?;
                    }
                    until_all_asleep(waiters)?;
                }
                marks.write(Mark::new("events", self.events))?;
                common[STOP].store(1, SeqCst);
                while (common[GONE].load(SeqCst) as usize) < count {
                    sources.iter().try_for_each(send)?;
                    nap(Duration::from_millis(1))?;
                }
                Ok(())
            },
        )?;

        truth.print(json!({
            "events": self.events,
            "waiters": count,
            "design": self.design.to_possible_value().map(|it| it.get_name().to_owned()),
            "disjoint": self.disjoint,
            "processes": self.processes,
            "taken": common[TAKEN].load(SeqCst),
            "empty": common[EMPTY].load(SeqCst),
        }))
    }

    fn source(&self, number: usize) -> Result<Source> {
        if self.design == Design::Accept {
            let name = format!("forktrace-workload-{}-{number}", pid());
            let address = SocketAddr::from_abstract_name(name)?;
            let listener = UnixListener::bind_addr(&address).context("cannot listen")?;
            return Ok(Source {
                ends: Ends::Listener(listener, address),
                epoll: None,
            });
        }
        let (ours, theirs) = UnixStream::pair().context("cannot make a socket pair")?;
        if self.blocking_read {
            ours.set_read_timeout(Some(READ_TIMEOUT))
        } else {
            ours.set_nonblocking(true)
        }
        .and_then(|()| theirs.set_nonblocking(true))
        .context("cannot set a socket up")?;
        let epoll = (self.design == Design::EpollShared)
            .then(|| watch(&ours, EpollFlags::EPOLLIN))
            .transpose()?;
        Ok(Source {
            ends: Ends::Stream(ours, theirs),
            epoll,
        })
    }

    fn wait_and_read(
        &self,
        source: &Source,
        common: &[AtomicU64],
        own: &[AtomicU64],
    ) -> Result<()> {
        let stopped = || common[STOP].load(SeqCst) != 0;
        own[0].store(tid() as u64, SeqCst);
        let stream = match &source.ends {
            Ends::Stream(ours, _) => ours,
            Ends::Listener(listener, _) => {
                while !stopped() {
                    listener.accept().context("cannot accept")?;
                    if !stopped() {
                        common[TAKEN].fetch_add(1, SeqCst);
                    }
                }
                return Ok(());
            }
        };
        let mut own_epoll = None;
        if matches!(self.design, Design::Epoll | Design::EpollExclusive) {
            let exclusive = match self.design {
                Design::EpollExclusive => EpollFlags::EPOLLEXCLUSIVE,
                _ => EpollFlags::empty(),
            };
            own_epoll = Some(watch(stream, EpollFlags::EPOLLIN | exclusive)?);
        }
        let epoll = own_epoll.as_ref().or(source.epoll.as_ref());
        let fds = [stream.as_raw_fd()];
        loop {
            match epoll {
                Some(epoll) => epoll
                    .wait(&mut [EpollEvent::empty()], EpollTimeout::NONE)
                    .context("epoll_wait failed")?,
                None if self.design == Design::Poll => {
                    plain_poll(&fds, FOREVER).context("poll failed")?
                }
                None => pselect6(&fds, FOREVER).context("select failed")?,
            };
            if stopped() {
                return Ok(());
            }
            own[1].store(1, SeqCst);
            if self.pause_micros > 0 {
                nap(Duration::from_micros(self.pause_micros))?;
            }
            let word = match { stream }.read(&mut [0]) {
                Ok(1) => TAKEN,
                Ok(_) => bail!("the sender's end is closed"),
                Err(error) if error.kind() == ErrorKind::WouldBlock => EMPTY,
                Err(error) => return Err(error).context("cannot read"),
            };
            own[1].store(0, SeqCst);
            common[word].fetch_add(1, SeqCst);
        }
    }
}

fn watch(stream: &UnixStream, flags: EpollFlags) -> Result<Epoll> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).context("cannot make an epoll")?;
    epoll
        .add(stream.as_fd(), EpollEvent::new(flags, 0))
        .context("cannot add a socket to an epoll")?;
    Ok(epoll)
}

fn send(source: &Source) -> Result<()> {
    match &source.ends {
        Ends::Stream(_, to) => { to }.write_all(&[0]).context("cannot send an event"),
        Ends::Listener(_, address) => {
            UnixStream::connect_addr(address).context("cannot connect")?;
            Ok(())
        }
    }
}

/// Returns when each waiter waits for the next event and sleeps, by the kernel's word.
///
/// In between it sleeps only before it reads, or in the read, and then says so.
fn until_all_asleep(waiters: &[AtomicU64]) -> Result<()> {
    let give_up = now_ns() + GIVE_UP.as_nanos() as u64;
    for waiter in waiters.chunks(WORDS) {
        loop {
            let tid = waiter[0].load(SeqCst);
            if tid != 0
                && waiter[1].load(SeqCst) == 0
                && asleep(tid)?
                && waiter[1].load(SeqCst) == 0
            {
                break;
            }
            if now_ns() > give_up {
                bail!("a waiter did not go to sleep within {GIVE_UP:?}");
            }
            nap(LOOK_AGAIN)?;
        }
    }
    Ok(())
}
