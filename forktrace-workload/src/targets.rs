//! What a call waits for, and for how long at most.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use clap::Args;
use nix::fcntl::OFlag;
use nix::sys::epoll::{Epoll, EpollCreateFlags};
use nix::sys::eventfd::EventFd;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::fstat;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::time::ClockId as Clock;
use nix::unistd::{pipe, pipe2};
use serde_json::{Value, json};

use super::options::seconds;
use super::sys::{
    self, PLAIN_POLL, duplicate_above, nap, now_ns, plain_poll, pselect6_sets, sleep_until, tid,
    wait_for_lock_pi, wait_for_no_signal,
};
use super::task::{Announcement, StartLine, join, spawn, until_alone};
use super::truth::Truth;

/// bits of poll(2)'s `events`
const POLLIN: u16 = 1;
const POLLPRI: u16 = 2;
const POLLOUT: u16 = 4;

/// All threads wait in poll for messages that never come
///
/// Each has sockets of its own, whose other ends are open and silent.
///
/// Truth:
///   threads      [{tid, syscall, fds, inodes, begin_ns, end_ns}], the main thread
///                first: what it polled, for reading
///   all_blocked  {begin_ns, end_ns}: the latest begin and the earliest end
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct SilentSockets {
    /// How many threads.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=200))]
    threads: u32,
    /// How many sockets each polls.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=200))]
    sockets: u32,
    /// For how long.
    #[arg(long, default_value = "0.5", value_parser = seconds)]
    seconds: Duration,
}

impl SilentSockets {
    pub(super) fn run(&self) -> Result<()> {
        let truth = Truth::begin("silent-sockets");
        let start = StartLine::new(self.threads as usize);
        let awake = StartLine::new(self.threads as usize);
        let wait = |sockets: Vec<(UnixStream, UnixStream)>| -> Result<(Value, u64, u64)> {
            let fds: Vec<RawFd> = sockets.iter().map(|(ours, _)| ours.as_raw_fd()).collect();
            let inodes = sockets
                .iter()
                .map(|(ours, _)| Ok(fstat(ours).context("fstat failed")?.st_ino))
                .collect::<Result<Vec<_>>>()?;
            let begin_ns = now_ns();
            let ready = plain_poll(&fds, self.seconds).context("poll failed")?;
            let end_ns = now_ns();
            ensure!(ready == 0, "{ready} silent sockets were ready");
            let figures = json!({
                "tid": tid(),
                "syscall": PLAIN_POLL,
                "fds": fds,
                "inodes": inodes,
                "begin_ns": begin_ns,
                "end_ns": end_ns,
            });
            awake.wait();
            Ok((figures, begin_ns, end_ns))
        };
        let pairs = || -> Result<Vec<_>> {
            (0..self.sockets)
                .map(|_| UnixStream::pair().context("cannot make a socket pair"))
                .collect()
        };
        let threads = thread::scope(|scope| -> Result<Vec<_>> {
            let others = (1..self.threads)
                .map(|i| {
                    let (pairs, wait) = (pairs()?, &wait);
                    start.spawn(scope, format!("silent-{i}"), move || wait(pairs))
                })
                .collect::<Result<Vec<_>>>()
                .inspect_err(|_| awake.open())?;
            let own = pairs()?;
            start.wait();
            let mut threads = vec![wait(own)?];
            until_alone()?;
            for other in others {
                threads.push(join(other)?);
            }
            Ok(threads)
        })?;
        let begin_ns = threads.iter().map(|it| it.1).max();
        let end_ns = threads.iter().map(|it| it.2).min();
        let listed: Vec<Value> = threads.into_iter().map(|it| it.0).collect();
        truth.print(json!({
            "threads": listed,
            "all_blocked": {"begin_ns": begin_ns, "end_ns": end_ns},
        }))
    }
}

/// Calls of select and poll with descriptors of every kind and number
///
/// None of the descriptors is ever ready, so each call ends by its timeout. Select is
/// called as pselect6.
///
/// Truth:
///   calls  [{syscall, fds, cut_off, timeout_us, begin_ns, end_ns}] of the main thread;
///          fds is [[fd, events]] with bits of poll(2)'s events, in the order of the
///          call (for select, of the numbers); cut_off: there are more than 64, or
///          numbers from 1024 on, and fds has those before
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct PollSets {
    /// How long each call waits.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    millis: u64,
}

/// Most descriptors of a waitset that the tracer keeps.
const KEPT: usize = 64;

impl PollSets {
    pub(super) fn run(&self) -> Result<()> {
        let truth = Truth::begin("poll-sets");
        let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).context("getrlimit failed")?;
        setrlimit(Resource::RLIMIT_NOFILE, most.min(4096), most).context("setrlimit failed")?;
        let (silent, _writer) = pipe().context("cannot make a pipe")?;
        let full = full_pipe()?;
        let silents = |numbers: &[RawFd]| -> Result<Vec<OwnedFd>> {
            let above = |&number| duplicate_above(silent.as_fd(), number);
            numbers.iter().map(above).collect()
        };
        let numbers = |fds: &[OwnedFd]| fds.iter().map(AsRawFd::as_raw_fd).collect::<Vec<_>>();

        let mut calls = Vec::new();
        for count in [1, 2, 63, 64, 65, 200] {
            let fds = silents(&vec![100; count])?;
            calls.push(self.poll(&numbers(&fds))?);
        }
        let full = full.1.as_raw_fd();
        // Numbers at the edges of the words of a set, and of what is kept of it (or the
        // next ones, where somebody left us one of these open).
        for wanted in [
            &[40][..],
            &[63],
            &[64, 127, 128],
            &[100, 1000, 1023],
            &[1022, 1024, 1500],
            &(200..200 + KEPT as RawFd + 1).collect::<Vec<_>>(),
        ] {
            let fds = silents(wanted)?;
            let fds = numbers(&fds);
            calls.push(self.select([&fds, &[], &[]])?);
            calls.push(self.select([&[], &[full], &fds])?);
        }
        truth.print(json!({"calls": calls}))
    }

    fn time(&self) -> Duration {
        Duration::from_millis(self.millis)
    }

    fn poll(&self, fds: &[RawFd]) -> Result<Value> {
        let begin_ns = now_ns();
        let ready = plain_poll(fds, self.time()).context("poll failed")?;
        let waited: Vec<_> = fds.iter().take(KEPT).map(|&fd| (fd, POLLIN)).collect();
        self.call(PLAIN_POLL, ready, begin_ns, &waited, fds.len() > KEPT)
    }

    fn select(&self, sets: [&[RawFd]; 3]) -> Result<Value> {
        let begin_ns = now_ns();
        let ready = pselect6_sets(sets, self.time()).context("pselect6 failed")?;
        let events = [POLLIN, POLLOUT, POLLPRI];
        let mut all: Vec<_> = events
            .into_iter()
            .zip(sets)
            .flat_map(|(event, fds)| fds.iter().map(move |&fd| (fd, event)))
            .collect();
        all.sort_unstable();
        let shown: Vec<_> = all
            .iter()
            .copied()
            .filter(|it| it.0 < 1024)
            .take(KEPT)
            .collect();
        self.call("pselect6", ready, begin_ns, &shown, shown.len() < all.len())
    }

    fn call(
        &self,
        syscall: &str,
        ready: usize,
        begin_ns: u64,
        fds: &[(RawFd, u16)],
        cut_off: bool,
    ) -> Result<Value> {
        ensure!(ready == 0, "{ready} silent descriptors were ready");
        Ok(json!({
            "syscall": syscall,
            "fds": fds,
            "cut_off": cut_off,
            "timeout_us": self.millis * 1000,
            "begin_ns": begin_ns,
            "end_ns": now_ns(),
        }))
    }
}

/// A pipe into which no more fits.
fn full_pipe() -> Result<(File, File)> {
    let (reader, writer) = pipe2(OFlag::O_NONBLOCK).context("cannot make a pipe")?;
    let mut writer = File::from(writer);
    let filled = loop {
        if let Err(error) = writer.write(&[0; 4096]) {
            break error;
        }
    };
    ensure!(
        filled.kind() == ErrorKind::WouldBlock,
        "cannot fill a pipe: {filled}"
    );
    Ok((File::from(reader), writer))
}

/// Calls with timeouts of every form, and one without
///
/// All but the last end by their timeout. Another thread ends the last.
///
/// Truth:
///   calls  [{syscall, form, timeout_us, deadline_ns, begin_ns, end_ns}] of the main
///          thread; form is relative (timeout_us is what was asked for), absolute
///          (until deadline_ns, CLOCK_MONOTONIC), wall (until a time of another clock)
///          or none
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct Timeouts {
    /// How long each call waits.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    millis: u64,
}

impl Timeouts {
    // Long: most of it is the table of calls, each with what it is given.
    pub(super) fn run(&self) -> Result<()> {
        let truth = Truth::begin("timeouts");
        let time = Duration::from_millis(self.millis);
        let (silent, writer) = pipe().context("cannot make a pipe")?;
        let fds = [silent.as_raw_fd()];
        let epoll = Epoll::new(EpollCreateFlags::empty()).context("cannot make an epoll")?;
        let epoll = &epoll.0;
        let (mutex, condvar) = (Mutex::new(()), Condvar::new());
        let monotonic = || Duration::from_nanos(now_ns());
        let wall = || {
            SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default()
        };
        let none = || Ok(0);

        type Deadline<'a> = &'a dyn Fn() -> Result<u64>;
        type Call<'a> = &'a dyn Fn(u64) -> Result<()>;
        let soon = || Ok((monotonic() + time).as_nanos() as u64);
        let at = |ns: u64| Duration::from_nanos(ns);
        let done = |result: std::io::Result<usize>| {
            let ready = result.context("the call failed")?;
            ensure!(ready == 0, "something silent was ready");
            Ok(())
        };
        let calls: &[(&str, &str, Deadline<'_>, Call<'_>)] = &[
            ("clock_nanosleep", "relative", &none, &|_| nap(time)),
            ("clock_nanosleep", "absolute", &soon, &|until| {
                sleep_until(Clock::CLOCK_MONOTONIC, at(until))
            }),
            ("clock_nanosleep", "wall", &none, &|_| {
                sleep_until(Clock::CLOCK_REALTIME, wall() + time)
            }),
            (PLAIN_POLL, "relative", &none, &|_| {
                done(plain_poll(&fds, time))
            }),
            ("ppoll", "relative", &none, &|_| {
                done(sys::ppoll(&fds, time))
            }),
            ("pselect6", "relative", &none, &|_| {
                done(sys::pselect6(&fds, time))
            }),
            #[cfg(target_arch = "x86_64")]
            ("select", "relative", &none, &|_| {
                done(sys::select(&fds, time))
            }),
            ("epoll_pwait", "relative", &none, &|_| {
                done(sys::epoll_pwait(epoll.as_fd(), time))
            }),
            ("epoll_pwait2", "relative", &none, &|_| {
                done(sys::epoll_pwait2(epoll.as_fd(), time))
            }),
            ("rt_sigtimedwait", "relative", &none, &|_| {
                wait_for_no_signal(time)
            }),
            ("futex", "absolute", &soon, &|_| {
                let guard = mutex.lock().unwrap_or_else(PoisonError::into_inner);
                let _ = condvar.wait_timeout_while(guard, time, |()| true);
                Ok(())
            }),
        ];
        let mut listed = Vec::new();
        for &(syscall, form, deadline, call) in calls {
            let begin_ns = now_ns();
            let deadline_ns = deadline()?;
            call(deadline_ns)?;
            listed.push(self.listed(syscall, form, deadline_ns, begin_ns));
        }

        // The others need a second thread.
        let announcement = Announcement::default();
        let over = AtomicBool::new(false);
        thread::scope(|scope| -> Result<()> {
            let other = spawn(scope, "other", || {
                announcement.until_asleep(1, || over.load(SeqCst))?;
                File::from(writer).write_all(&[0]).context("cannot write")?;
                while !over.load(SeqCst) {
                    nap(Duration::from_millis(1))?;
                }
                Ok(())
            })?;
            let mut play = || -> Result<()> {
                let holder = loop {
                    // The other thread's tid: the only one beside ours.
                    let tids = std::fs::read_dir("/proc/self/task").context("no /proc")?;
                    let ours = tid().to_string();
                    let mut others = tids.filter_map(|it| it.ok()?.file_name().into_string().ok());
                    if let Some(it) = others.find(|it| *it != ours) {
                        break it.parse().context("a tid is no number")?;
                    }
                };
                let begin_ns = now_ns();
                wait_for_lock_pi(holder, wall() + time)?;
                listed.push(self.listed("futex", "wall", 0, begin_ns));
                announcement.about_to_block()?;
                let begin_ns = now_ns();
                // Without a timeout: one of -1 ms.
                let ready = sys::poll_without_timeout(&fds).context("poll failed")?;
                ensure!(ready == 1, "poll returned {ready}");
                listed.push(self.listed(PLAIN_POLL, "none", 0, begin_ns));
                Ok(())
            };
            let played = play();
            over.store(true, SeqCst);
            join(other)?;
            played
        })?;
        truth.print(json!({"calls": listed}))
    }

    fn listed(&self, syscall: &str, form: &str, deadline_ns: u64, begin_ns: u64) -> Value {
        json!({
            "syscall": syscall,
            "form": form,
            "timeout_us": self.millis * 1000,
            "deadline_ns": deadline_ns,
            "begin_ns": begin_ns,
            "end_ns": now_ns(),
        })
    }
}

/// Waits for one thing after the other under the same descriptor number
///
/// Each round opens a pipe, an eventfd, a timerfd, an epoll, a socket and a file to be
/// locked, in turn, waits for it, and closes it. The kernel gives the next one the
/// number, and mostly the place in memory, of the one before.
///
/// Truth:
///   tid, helper_tid  who waits, and who ends all waits that no timer ends
///   waits            [{kind, syscall, fd, inode, device, mode, begin_ns, end_ns,
///                    waker_tid}]: kind is pipe, eventfd, timerfd, epoll, socket or
///                    file; inode, device and mode are fstat's; waker_tid is null for a
///                    timerfd, and an epoll, whose wait ends by its timeout
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct FdReuse {
    /// How many rounds.
    #[arg(long, default_value_t = 10)]
    rounds: u32,
}

/// What is waited for, and who ends that.
struct Opened {
    kind: &'static str,
    file: File,
    release: Option<Box<dyn FnOnce() -> Result<()> + Send>>,
}

impl FdReuse {
    pub(super) fn run(&self) -> Result<()> {
        let truth = Truth::begin("fd-reuse");
        let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
        let opens: [&dyn Fn(u32) -> Result<Opened>; 6] = [
            &|_| {
                let (reader, writer) = pipe().context("cannot make a pipe")?;
                Ok(write_to("pipe", File::from(reader), File::from(writer)))
            },
            &|_| {
                let event = File::from(OwnedFd::from(EventFd::new().context("no eventfd")?));
                let same = event.try_clone().context("cannot duplicate an eventfd")?;
                Ok(write_to("eventfd", event, same))
            },
            &|_| {
                let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::empty())
                    .context("cannot make a timer")?;
                let once = Expiration::OneShot(TimeSpec::from(Duration::from_millis(2)));
                timer
                    .set(once, TimerSetTimeFlags::empty())
                    .context("cannot set a timer")?;
                Ok(Opened {
                    kind: "timerfd",
                    file: File::from(OwnedFd::from(timer)),
                    release: None,
                })
            },
            &|_| {
                let epoll = Epoll::new(EpollCreateFlags::empty()).context("no epoll")?;
                Ok(Opened {
                    kind: "epoll",
                    file: File::from(epoll.0),
                    release: None,
                })
            },
            &|_| {
                let (ours, other) = UnixStream::pair().context("cannot make sockets")?;
                let file = |socket| File::from(OwnedFd::from(socket));
                Ok(write_to("socket", file(ours), file(other)))
            },
            &|round| {
                let path = folder.path().join(round.to_string());
                let file = File::create(&path).context("cannot make a file")?;
                let other = File::open(&path).context("cannot open a file again")?;
                other.lock().context("cannot lock a file")?;
                Ok(Opened {
                    kind: "file",
                    file,
                    release: Some(Box::new(move || other.unlock().context("cannot unlock"))),
                })
            },
        ];

        let announcement = Announcement::default();
        let next: Mutex<Option<Opened>> = Mutex::new(None);
        let over = AtomicBool::new(false);
        let (waits, helper_tid) = thread::scope(|scope| -> Result<_> {
            let helper = spawn(scope, "helper", || {
                let mut round = 0;
                while !over.load(SeqCst) {
                    let release = {
                        let mut next = next.lock().unwrap_or_else(PoisonError::into_inner);
                        next.take().and_then(|opened| opened.release)
                    };
                    let Some(release) = release else {
                        nap(Duration::from_micros(100))?;
                        continue;
                    };
                    round += 1;
                    announcement.until_asleep(round, || over.load(SeqCst))?;
                    release()?;
                }
                Ok(tid())
            })?;
            let mut waits = Vec::new();
            let mut play = || -> Result<()> {
                for round in 0..self.rounds {
                    for open in opens {
                        waits.push(wait_for(open(round)?, &announcement, &next)?);
                    }
                }
                Ok(())
            };
            let played = play();
            over.store(true, SeqCst);
            let helper_tid = join(helper)?;
            played.map(|()| (waits, helper_tid))
        })?;
        let listed: Vec<Value> = waits
            .into_iter()
            .map(|(mut wait, helped)| {
                wait["waker_tid"] = helped.then_some(helper_tid).into();
                wait
            })
            .collect();
        truth.print(json!({"tid": tid(), "helper_tid": helper_tid, "waits": listed}))
    }
}

fn write_to(kind: &'static str, file: File, mut other: File) -> Opened {
    Opened {
        kind,
        file,
        release: Some(Box::new(move || {
            other
                .write_all(&1_u64.to_ne_bytes())
                .context("cannot write")
        })),
    }
}

/// The wait's figures, and whether the helper ended it.
fn wait_for(
    mut opened: Opened,
    announcement: &Announcement,
    next: &Mutex<Option<Opened>>,
) -> Result<(Value, bool)> {
    let about = fstat(&opened.file).context("fstat failed")?;
    let (kind, fd) = (opened.kind, opened.file.as_raw_fd());
    let helped = opened.release.is_some();
    if let Some(release) = opened.release.take() {
        let same = opened.file.try_clone().context("cannot duplicate")?;
        let mut next = next.lock().unwrap_or_else(PoisonError::into_inner);
        *next = Some(Opened {
            kind,
            file: same,
            release: Some(release),
        });
        drop(next);
        announcement.about_to_block()?;
    }
    let begin_ns = now_ns();
    let syscall = match kind {
        "file" => {
            opened.file.lock().context("cannot lock a file")?;
            "flock"
        }
        "epoll" => {
            let time = Duration::from_millis(2);
            sys::epoll_pwait(opened.file.as_fd(), time).context("cannot wait in an epoll")?;
            "epoll_pwait"
        }
        _ => {
            let read = opened.file.read_exact(&mut [0; 8]);
            read.context("cannot read what was waited for")?;
            "read"
        }
    };
    let end_ns = now_ns();
    let wait = json!({
        "kind": kind,
        "syscall": syscall,
        "fd": fd,
        "inode": about.st_ino,
        "device": about.st_dev,
        "mode": about.st_mode,
        "begin_ns": begin_ns,
        "end_ns": end_ns,
    });
    Ok((wait, helped))
}
