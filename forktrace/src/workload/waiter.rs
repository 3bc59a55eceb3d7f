//! A thread that waits while its siblings go about their business.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::unistd::{pipe, read, write};
use serde_json::{Value, json};

use super::cpu::step;
use super::seconds;
use super::sys::{self, nap, now_ns, tid, yield_now};
use super::task::{StartLine, join, until_alone};
use super::truth::Truth;

/// One thread waits in select, poll and epoll while its siblings do other things
///
/// The waiter makes each call in turn, on a pipe that stays silent, until the call
/// times out. Meanwhile the main thread computes, a reader and a writer pass bytes
/// through a pipe, and a sleeper naps again and again. With --hold-lock the waiter
/// holds a lock during each call that every sibling takes all the time: then they
/// really are held up. Without it, each has a lock of its own.
///
/// Truth:
///   waits  [{tid, syscall, begin_ns, end_ns, returned}], in their order
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct Waiter {
    /// The calls, in their order.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Call::value_variants().to_vec())]
    calls: Vec<Call>,
    /// How long each call waits.
    #[arg(long, default_value = "0.2", value_parser = seconds)]
    seconds: Duration,
    /// Wait with a lock that the siblings need.
    #[arg(long)]
    hold_lock: bool,
}

/// A call to wait in, as the kernel names it; not every architecture has each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Call {
    #[cfg(target_arch = "x86_64")]
    Select,
    Pselect6,
    #[cfg(target_arch = "x86_64")]
    Poll,
    Ppoll,
    #[cfg(target_arch = "x86_64")]
    EpollWait,
    #[value(name = "epoll_pwait2")]
    EpollPwait2,
}

impl Call {
    fn name(self) -> String {
        self.to_possible_value()
            .map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

impl std::fmt::Display for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name())
    }
}

/// Of a sleeping sibling.
const NAP: Duration = Duration::from_millis(2);

/// The locks that the threads take: one for all, or each its own.
struct Locks {
    locks: [Mutex<()>; 5],
    shared: bool,
}

impl Locks {
    /// Does something under the lock of a thread.
    fn with<T>(&self, thread: usize, work: impl FnOnce() -> T) -> Result<T> {
        let lock = &self.locks[if self.shared { 0 } else { thread }];
        let Ok(_held) = lock.lock() else {
            bail!("a thread of the workload panicked");
        };
        Ok(work())
    }
}

impl Waiter {
    pub(super) fn run(&self) -> Result<()> {
        let truth = Truth::begin("waiter");
        let locks = Locks {
            locks: Default::default(),
            shared: self.hold_lock,
        };
        let over = AtomicBool::new(false);
        let (from, to) = pipe().context("cannot make a pipe")?;
        let line = StartLine::new(5);
        let waits = thread::scope(|scope| -> Result<_> {
            let waiter = line.spawn(scope, "waiter", || {
                let waits = self.wait(&locks);
                over.store(true, SeqCst);
                waits
            })?;
            let reader = line.spawn(scope, "reader", || receive(&from, &locks))?;
            let writer = line.spawn(scope, "writer", || send(to, &locks, &over))?;
            let sleeper = line.spawn(scope, "sleeper", || {
                while !over.load(SeqCst) {
                    locks.with(4, || ())?;
                    nap(NAP)?;
                }
                Ok(())
            })?;
            line.wait();
            while !over.load(SeqCst) {
                locks.with(1, step)?;
            }
            until_alone()?;
            join(reader)?;
            join(writer)?;
            join(sleeper)?;
            join(waiter)
        })?;
        truth.print(json!({ "waits": waits }))
    }

    fn wait(&self, locks: &Locks) -> Result<Vec<Value>> {
        let (silent, _writer) = pipe().context("cannot make a pipe")?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).context("cannot make an epoll")?;
        epoll
            .add(silent.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, 0))
            .context("cannot add to the epoll")?;
        let fds = [silent.as_raw_fd()];
        let time = self.seconds;
        self.calls
            .iter()
            .map(|&call| {
                let (begin_ns, returned, end_ns) = locks.with(0, || {
                    let begin_ns = now_ns();
                    let returned = match call {
                        #[cfg(target_arch = "x86_64")]
                        Call::Select => sys::select(&fds, time),
                        Call::Pselect6 => sys::pselect6(&fds, time),
                        #[cfg(target_arch = "x86_64")]
                        Call::Poll => sys::poll(&fds, time),
                        Call::Ppoll => sys::ppoll(&fds, time),
                        #[cfg(target_arch = "x86_64")]
                        Call::EpollWait => sys::epoll_wait(epoll.0.as_fd(), time),
                        Call::EpollPwait2 => sys::epoll_pwait2(epoll.0.as_fd(), time),
                    };
                    (begin_ns, returned, now_ns())
                })?;
                Ok(json!({
                    "tid": tid(),
                    "syscall": call.name(),
                    "begin_ns": begin_ns,
                    "end_ns": end_ns,
                    "returned": returned.with_context(|| format!("{call} failed"))?,
                }))
            })
            .collect()
    }
}

fn receive(from: &OwnedFd, locks: &Locks) -> Result<()> {
    loop {
        locks.with(2, || ())?;
        if read(from, &mut [0; 64]).context("cannot read the pipe")? == 0 {
            return Ok(());
        }
    }
}

/// Owns the pipe's end, so that the reader ends with the writer.
fn send(to: OwnedFd, locks: &Locks, over: &AtomicBool) -> Result<()> {
    while !over.load(SeqCst) {
        locks.with(3, || ())?;
        write(&to, &[0]).context("cannot write to the pipe")?;
        yield_now();
    }
    Ok(())
}
