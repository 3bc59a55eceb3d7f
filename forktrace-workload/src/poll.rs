//! The select/poll family, call by call.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use nix::libc;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::eventfd::{EfdFlags, EventFd};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::sys::{self, EPOLL_MAX_EVENTS, nap, tid, voluntary_switches};
use super::task::{Announcement, join, spawn};
use super::truth::Truth;

/// Known numbers of calls of select, poll, epoll_wait and their kin
///
/// One thread, which is not the main thread, makes all the calls; for each system
/// call --calls that are ready at once, --calls that block for 1 ms until the main
/// thread writes to an eventfd, a tenth as many that block until their timeout of 2 ms,
/// and --calls with timeout 0 and nothing ready. The main thread writes only once the
/// kernel says that the other one sleeps. Each call watches five eventfds, one of
/// which has the number 200 or higher.
///
/// Truth:
///   tid          of the thread that makes the calls
///   waker_tid    of the main thread
///   fds          that are watched, lowest first
///   unsupported  system calls that this kernel does not have, hence not in what
///                follows (the main thread finds out with one epoll_pwait2 that fails)
///   expected     {SYSCALL: {calls, ready_at_once, blocked, woken, timed_out,
///                empty_at_once, max_fds, first_argument, max_events}}:
///                blocked = woken + timed_out, and calls is the sum of it,
///                ready_at_once and empty_at_once; max_fds is the number of fds in
///                one call's sets (null for epoll); first_argument is select's n or
///                the number of pollfds (null for epoll); max_events is epoll's limit
///                on what it returns (else null)
///   measured     {SYSCALL: {calls, ready_at_once, blocked, woken, timed_out,
///                empty_at_once}}: what the calls returned, and whether the kernel
///                counted a voluntary switch during them. It differs from expected
///                only when the machine did: a timeout can run out before the
///                caller gets to sleep
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct Polls {
    /// How many calls of each kind (and a tenth as many that time out).
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    calls: u64,
}

const BLOCK: Duration = Duration::from_millis(1);
const TIMEOUT: Duration = Duration::from_millis(2);
/// Longer than any block that ends by a wakeup.
const FOREVER: Duration = Duration::from_secs(300);
const HIGH: RawFd = 200;

#[derive(Clone, Copy)]
pub(super) enum Call {
    #[cfg(target_arch = "x86_64")]
    Select,
    Pselect6,
    #[cfg(target_arch = "x86_64")]
    Poll,
    Ppoll,
    #[cfg(target_arch = "x86_64")]
    EpollWait,
    EpollPwait,
    EpollPwait2,
}

/// Those that this architecture has.
const CALLS: &[Call] = &[
    #[cfg(target_arch = "x86_64")]
    Call::Select,
    Call::Pselect6,
    #[cfg(target_arch = "x86_64")]
    Call::Poll,
    Call::Ppoll,
    #[cfg(target_arch = "x86_64")]
    Call::EpollWait,
    Call::EpollPwait,
    Call::EpollPwait2,
];

enum Family {
    Select,
    Poll,
    Epoll,
}

impl Call {
    pub(super) fn name(self) -> &'static str {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Select => "select",
            Self::Pselect6 => "pselect6",
            #[cfg(target_arch = "x86_64")]
            Self::Poll => "poll",
            Self::Ppoll => "ppoll",
            #[cfg(target_arch = "x86_64")]
            Self::EpollWait => "epoll_wait",
            Self::EpollPwait => "epoll_pwait",
            Self::EpollPwait2 => "epoll_pwait2",
        }
    }

    fn family(self) -> Family {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Select => Family::Select,
            Self::Pselect6 => Family::Select,
            #[cfg(target_arch = "x86_64")]
            Self::Poll => Family::Poll,
            Self::Ppoll => Family::Poll,
            #[cfg(target_arch = "x86_64")]
            Self::EpollWait => Family::Epoll,
            Self::EpollPwait | Self::EpollPwait2 => Family::Epoll,
        }
    }

    pub(super) fn make(self, watched: &Watched, time: Duration) -> io::Result<usize> {
        let (fds, epoll) = (&watched.numbers, watched.epoll.0.as_fd());
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Select => sys::select(fds, time),
            Self::Pselect6 => sys::pselect6(fds, time),
            #[cfg(target_arch = "x86_64")]
            Self::Poll => sys::poll(fds, time),
            Self::Ppoll => sys::ppoll(fds, time),
            #[cfg(target_arch = "x86_64")]
            Self::EpollWait => sys::epoll_wait(epoll, time),
            Self::EpollPwait => sys::epoll_pwait(epoll, time),
            Self::EpollPwait2 => sys::epoll_pwait2(epoll, time),
        }
    }

    /// Whether the kernel has it, which only epoll_pwait2 (Linux 5.11) leaves open.
    fn exists(self, not_an_epoll: BorrowedFd<'_>) -> bool {
        match self {
            Self::EpollPwait2 => sys::epoll_pwait2(not_an_epoll, Duration::ZERO)
                .is_err_and(|error| error.raw_os_error() != Some(libc::ENOSYS)),
            _ => true,
        }
    }
}

/// What all calls watch: eventfds, of which the one with the highest number gets ready.
pub(super) struct Watched {
    /// The one that gets ready; its number in the sets is that of a duplicate.
    ready: EventFd,
    _silent: Vec<EventFd>,
    _high: OwnedFd,
    numbers: Vec<RawFd>,
    epoll: Epoll,
}

impl Watched {
    pub(super) fn new() -> Result<Self> {
        let eventfd = || {
            let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
            EventFd::from_flags(flags).context("cannot make an eventfd")
        };
        let silent = (0..4).map(|_| eventfd()).collect::<Result<Vec<_>>>()?;
        let ready = eventfd()?;
        let high = sys::duplicate_above(ready.as_fd(), HIGH)?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).context("cannot make an epoll")?;
        let mut numbers = Vec::new();
        for fd in silent.iter().map(AsFd::as_fd).chain([high.as_fd()]) {
            let number = fd.as_raw_fd();
            epoll
                .add(fd, EpollEvent::new(EpollFlags::EPOLLIN, number as u64))
                .with_context(|| format!("cannot add fd {number} to an epoll"))?;
            numbers.push(number);
        }
        Ok(Self {
            ready,
            _silent: silent,
            _high: high,
            numbers,
            epoll,
        })
    }

    fn make_ready(&self) -> Result<()> {
        self.ready.write(1).context("cannot write to an eventfd")?;
        Ok(())
    }

    fn make_silent(&self) -> Result<()> {
        self.ready.read().context("cannot read from an eventfd")?;
        Ok(())
    }
}

#[derive(Serialize, Default)]
struct Counts {
    calls: u64,
    ready_at_once: u64,
    blocked: u64,
    woken: u64,
    timed_out: u64,
    empty_at_once: u64,
}

impl Counts {
    fn count(&mut self, returned: usize, blocked: bool, time: Duration) {
        self.calls += 1;
        self.blocked += u64::from(blocked);
        match (returned > 0, blocked) {
            (true, true) => self.woken += 1,
            (true, false) => self.ready_at_once += 1,
            (false, _) if time.is_zero() => self.empty_at_once += 1,
            (false, _) => self.timed_out += 1,
        }
    }
}

impl Polls {
    pub(super) fn run(&self) -> Result<()> {
        let truth = Truth::begin("polls");
        let watched = Watched::new()?;
        let (calls, unsupported): (Vec<Call>, Vec<Call>) = CALLS
            .iter()
            .partition(|call| call.exists(watched.ready.as_fd()));
        let caller = Announcement::default();
        let abandoned = AtomicBool::new(false);

        let (caller_tid, measured) = thread::scope(|scope| -> Result<_> {
            let handle = spawn(scope, "poller", || {
                let measured = calls
                    .iter()
                    .map(|&call| {
                        let counts = self
                            .measure(call, &watched, &caller, &abandoned)
                            .with_context(|| format!("{} failed", call.name()))?;
                        Ok((call.name().to_owned(), serde_json::to_value(counts)?))
                    })
                    .collect::<Result<Map<_, _>>>()?;
                Ok((tid(), measured))
            })?;
            let wake_all = || -> Result<()> {
                for round in 1..=self.calls * calls.len() as u64 {
                    caller.until_asleep(round, || handle.is_finished())?;
                    nap(BLOCK)?;
                    watched.make_ready()?;
                }
                Ok(())
            };
            let woken = wake_all();
            if woken.is_err() {
                // Or else the caller would never end.
                abandoned.store(true, SeqCst);
                watched.make_ready()?;
            }
            // The caller's error, if it has one, is the reason for ours.
            let measured = join(handle)?;
            woken.map(|()| measured)
        })?;

        let expected: Map<String, Value> = calls
            .iter()
            .map(|&call| (call.name().to_owned(), self.expected(call, &watched)))
            .collect();
        let names = |calls: &[Call]| calls.iter().map(|call| call.name()).collect::<Vec<_>>();
        truth.print(json!({
            "tid": caller_tid,
            "waker_tid": tid(),
            "fds": watched.numbers,
            "unsupported": names(&unsupported),
            "expected": expected,
            "measured": measured,
        }))
    }

    fn measure(
        &self,
        call: Call,
        watched: &Watched,
        caller: &Announcement,
        abandoned: &AtomicBool,
    ) -> Result<Counts> {
        let mut counts = Counts::default();
        let mut make = |time: Duration| -> Result<usize> {
            let before = voluntary_switches()?;
            let returned = call.make(watched, time)?;
            let blocked = voluntary_switches()? > before;
            counts.count(returned, blocked, time);
            Ok(returned)
        };

        watched.make_ready()?;
        for _ in 0..self.calls {
            ensure!(make(FOREVER)? == 1, "one fd should be ready");
        }
        watched.make_silent()?;
        for _ in 0..self.calls {
            ensure!(!abandoned.load(SeqCst), "nobody is left to wake it");
            caller.about_to_block()?;
            ensure!(make(FOREVER)? == 1, "one fd should have become ready");
            watched.make_silent()?;
        }
        for _ in 0..self.calls / 10 {
            ensure!(make(TIMEOUT)? == 0, "no fd should be ready");
        }
        for _ in 0..self.calls {
            ensure!(make(Duration::ZERO)? == 0, "no fd should be ready");
        }
        Ok(counts)
    }

    fn expected(&self, call: Call, watched: &Watched) -> Value {
        let timed_out = self.calls / 10;
        let fds = watched.numbers.len();
        let (max_fds, first_argument, max_events) = match call.family() {
            Family::Select => (
                Some(fds),
                Some(sys::fd_set(&watched.numbers).0 as usize),
                None,
            ),
            Family::Poll => (Some(fds), Some(fds), None),
            Family::Epoll => (None, None, Some(EPOLL_MAX_EVENTS)),
        };
        json!({
            "calls": self.calls * 3 + timed_out,
            "ready_at_once": self.calls,
            "blocked": self.calls + timed_out,
            "woken": self.calls,
            "timed_out": timed_out,
            "empty_at_once": self.calls,
            "max_fds": max_fds,
            "first_argument": first_argument,
            "max_events": max_events,
        })
    }
}
