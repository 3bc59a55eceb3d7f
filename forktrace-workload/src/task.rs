//! Threads that start together, and ways to know that another one has blocked.

use std::fs::{self, File};
use std::io::Read;
use std::sync::atomic::{AtomicI32, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::thread::{Builder, Scope, ScopedJoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use super::sys::{cpu_ns, nap, now_ns, tid, voluntary_switches, yield_now};

/// Starts a named thread; unlike `Scope::spawn` it reports a failure.
pub(super) fn spawn<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    name: impl Into<String>,
    body: impl FnOnce() -> Result<T> + Send + 'scope,
) -> Result<ScopedJoinHandle<'scope, Result<T>>> {
    Builder::new()
        .name(name.into())
        .spawn_scoped(scope, body)
        .context("cannot start a thread")
}

/// What the thread returned.
pub(super) fn join<T>(handle: ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    handle
        .join()
        .map_err(|_| anyhow!("a thread of the workload panicked"))?
}

/// A barrier that nobody blocks in: all who arrive spin until the last one has.
pub(super) struct StartLine {
    arrived: AtomicUsize,
    expected: usize,
}

impl StartLine {
    pub(super) const fn new(expected: usize) -> Self {
        Self {
            arrived: AtomicUsize::new(0),
            expected,
        }
    }

    pub(super) fn wait(&self) {
        self.arrived.fetch_add(1, SeqCst);
        while self.arrived.load(SeqCst) < self.expected {
            yield_now();
        }
    }

    /// Starts a thread that first [`wait`](Self::wait)s here, and spins until it
    /// does: threads that come up together block each other on the memory map's lock.
    ///
    /// If it cannot be started, those who wait are let go.
    pub(super) fn spawn<'scope, T: Send + 'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        name: impl Into<String>,
        body: impl FnOnce() -> Result<T> + Send + 'scope,
    ) -> Result<ScopedJoinHandle<'scope, Result<T>>> {
        let arrived_before = self.arrived.load(SeqCst);
        let handle = spawn(scope, name, || {
            self.wait();
            body()
        })
        .inspect_err(|_| self.open())?;
        while self.arrived.load(SeqCst) == arrived_before {
            yield_now();
        }
        Ok(handle)
    }

    /// Lets everyone go: for when those who are missing will never come.
    pub(super) fn open(&self) {
        self.arrived.fetch_add(self.expected, SeqCst);
    }
}

/// Spins until this thread is the process's only one.
///
/// Joining a thread that still runs would block the joiner, and a group's last
/// members asleep are a group all asleep.
pub(super) fn until_alone() -> Result<()> {
    until_threads(1)
}

/// Spins until this process has no more threads than so many.
pub(super) fn until_threads(most: usize) -> Result<()> {
    while threads().context("cannot count the threads in /proc/self/stat")? > most {
        yield_now();
    }
    Ok(())
}

/// The number of this process's threads.
///
/// Allocates nothing: that might wait for the memory map's lock, which ending threads
/// take too.
fn threads() -> Result<usize> {
    let mut line = [0; 1024];
    let length = File::open("/proc/self/stat")?.read(&mut line)?;
    let line = &line[..length];
    // The process's name, in parentheses, may itself have spaces and parentheses.
    let name_ends = line.iter().rposition(|&byte| byte == b')');
    let after_name = name_ends.map_or(line, |end| &line[end + 1..]);
    let count = str::from_utf8(after_name)?
        .split_ascii_whitespace()
        .nth(17)
        .context("field 20 (num_threads) is missing")?;
    Ok(count.parse()?)
}

/// Where a thread says that it is about to block, and another finds out that it has.
///
/// The kernel counts a voluntary switch when a thread that went to sleep leaves
/// its CPU. Seeing the count grow and the thread asleep, the other one knows that
/// a wakeup sent from now on ends a real block, however slow the machine is.
#[derive(Default)]
pub(super) struct Announcement {
    tid: AtomicI32,
    switches: AtomicU64,
    round: AtomicU64,
}

/// A thread that has not blocked after this long never will: a workload's bug, or
/// a machine where nobody gets anything done.
const GIVE_UP: Duration = Duration::from_secs(120);
const LOOK_AGAIN: Duration = Duration::from_micros(50);

impl Announcement {
    /// To be called by the blocking thread, right before the call that blocks.
    pub(super) fn about_to_block(&self) -> Result<()> {
        self.tid.store(tid(), SeqCst);
        self.switches.store(voluntary_switches()?, SeqCst);
        self.round.fetch_add(1, SeqCst);
        Ok(())
    }

    /// Returns once the thread has blocked after its `round`th announcement (the
    /// first is 1), or with an error when `gone` says that it ended. Its tid.
    pub(super) fn until_asleep(&self, round: u64, gone: impl Fn() -> bool) -> Result<i32> {
        while self.round.load(SeqCst) < round {
            if gone() {
                bail!("a thread ended before it blocked");
            }
            nap(LOOK_AGAIN)?;
        }
        let tid = self.tid.load(SeqCst);
        let before = self.switches.load(SeqCst);
        let give_up = now_ns() + GIVE_UP.as_nanos() as u64;
        while !asleep_since(tid, before)? {
            if now_ns() > give_up {
                bail!("thread {tid} did not block within {} s", GIVE_UP.as_secs());
            }
            nap(LOOK_AGAIN)?;
        }
        Ok(tid)
    }
}

/// Runs for 2 ms of CPU time, so that a nap from now on is a wait of its own: naps between
/// looks at something, and one that is taken up less than 1 ms after them, are told as one.
pub(super) fn end_look_ups() {
    let begin_ns = cpu_ns();
    while cpu_ns() - begin_ns < 2_000_000 {}
}

/// Whether a task sleeps, and has left its CPU to do so since its count of voluntary
/// switches was this.
pub(super) fn asleep_since(tid: i32, switches_before: u64) -> Result<bool> {
    let path = format!("/proc/{tid}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let field = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .map(str::trim)
            .with_context(|| format!("{path} has no {name}"))
    };
    let asleep = field("State")?.starts_with(['S', 'D']);
    let switches: u64 = field("voluntary_ctxt_switches")?
        .parse()
        .with_context(|| format!("{path}: voluntary_ctxt_switches is not a number"))?;
    Ok(asleep && switches > switches_before)
}

/// Whether a task sleeps right now, so that a signal would wake it.
pub(super) fn asleep(tid: u64) -> Result<bool> {
    let path = format!("/proc/{tid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    Ok(stat
        .rsplit_once(") ")
        .is_some_and(|(_, rest)| rest.starts_with('S')))
}

/// The CPUs this thread may run on, in order.
pub(super) fn allowed_cpus() -> Result<Vec<usize>> {
    let set = sched_getaffinity(Pid::from_raw(0)).context("cannot read the CPU affinity")?;
    Ok((0..CpuSet::count())
        .filter(|&cpu| set.is_set(cpu).unwrap_or(false))
        .collect())
}

/// Keeps this thread, and those it starts from now on, on one CPU.
pub(super) fn pin(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)
        .and_then(|()| sched_setaffinity(Pid::from_raw(0), &set))
        .with_context(|| format!("cannot pin a thread to CPU {cpu}; is it online and allowed?"))
}
