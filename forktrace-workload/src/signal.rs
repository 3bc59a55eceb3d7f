//! Stops and deaths.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::{ArgGroup, Args, ValueEnum};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigSet, Signal, kill, raise};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::pipe;
use serde_json::{Value, json};

use super::cpu::step;
use super::options::seconds;
use super::sys::{
    PLAIN_POLL, Shared, a_child_ended, cpu_ns, default_action, fork_child, nap, now_ns, plain_poll,
    reap, tid, voluntary_switches,
};
use super::task::{Announcement, asleep_since, join, spawn};
use super::truth::Truth;

/// A child with two threads is stopped by SIGSTOP for a while, and then goes on
///
/// The stop comes 100 ms after both threads have begun, in `poll` and `nanosleep` after
/// both are asleep: each makes one call of --wait-seconds; a call that the stop interrupts goes on as
/// restart_syscall (ppoll, where there is no poll, as itself) and still ends at its
/// first timeout. In `compute` and `mixed` (5 ms of each in turn) they go on until
/// 200 ms after the stop.
///
/// Truth:
///   child_pid   the stopped process
///   during      what it did
///   stop_ns     when SIGSTOP was about to be sent
///   stopped_ns  when the kernel had reported the child as stopped: from here to
///               cont_ns each thread was stopped, or on its way out (the kernel reports
///               it a moment before the last one leaves its CPU)
///   cont_ns     when SIGCONT was about to be sent
///   threads     [{tid, syscall, begin_ns, end_ns, returned, naps, cpu_ns,
///               longest_gap_ns}]: syscall is what it blocks in (null: none);
///               returned is the poll's result; naps are the calls it made;
///               longest_gap_ns is the longest time between two looks at the clock,
///               when it computes (null when it doesn't): in compute the stop is in
///               it, in mixed only if the stop hit it computing
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct Stop {
    /// How long the child is stopped.
    #[arg(long, default_value = "1", value_parser = seconds)]
    seconds: Duration,
    /// What the child's threads do.
    #[arg(long, value_enum, default_value_t = During::Mixed)]
    during: During,
    /// How long the one poll or nanosleep is.
    #[arg(long, default_value = "2", value_parser = seconds)]
    wait_seconds: Duration,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum During {
    /// Computes and naps in turn.
    Mixed,
    /// Waits in one poll of a silent pipe.
    Poll,
    /// Waits in one `clock_nanosleep`.
    Nanosleep,
    /// Computes and never blocks.
    Compute,
}

const LEAD: Duration = Duration::from_millis(100);
const TAIL: Duration = Duration::from_millis(200);
const TURN: Duration = Duration::from_millis(5);

impl Stop {
    pub(super) fn run(&self) -> Result<()> {
        let truth = Truth::begin("stop");
        let shared = Shared::new(6)?;
        let (common, own) = shared.words().split_at(2);
        let [begun, finish_at]: &[AtomicU64; 2] = common.try_into()?;
        // Nobody will tell the child to finish when its parent is gone.
        let last_resort = LEAD + self.seconds + Duration::from_secs(60);
        finish_at.store(now_ns() + last_resort.as_nanos() as u64, SeqCst);

        let (results, results_in) = pipe().context("cannot make a pipe")?;
        let mut results_in = Some(results_in);
        let child = fork_child(|| {
            let results = results_in.take().context("the pipe is gone")?;
            let threads = thread::scope(|scope| -> Result<_> {
                let other = spawn(scope, "second", || self.act(begun, finish_at, &own[2..]))?;
                Ok([self.act(begun, finish_at, &own[..2])?, join(other)?])
            })?;
            File::from(results)
                .write_all(&serde_json::to_vec(&threads)?)
                .context("cannot write to a pipe")
        })?;
        drop(results_in);

        while begun.load(SeqCst) < 2 {
            ensure!(!a_child_ended()?, "the child ended before it began");
            nap(Duration::from_millis(1))?;
        }
        nap(LEAD)?;
        if matches!(self.during, During::Poll | During::Nanosleep) {
            for thread in own.chunks(2) {
                let (tid, before) = (thread[0].load(SeqCst), thread[1].load(SeqCst));
                while !asleep_since(tid as i32, before)? {
                    ensure!(!a_child_ended()?, "the child ended before it slept");
                    nap(Duration::from_millis(1))?;
                }
            }
        }
        let stop_ns = now_ns();
        kill(child, Signal::SIGSTOP).context("cannot stop the child")?;
        match waitpid(child, Some(WaitPidFlag::WUNTRACED)).context("cannot wait")? {
            WaitStatus::Stopped(_, Signal::SIGSTOP) => {}
            other => bail!("the child should have stopped, but: {other:?}"),
        }
        let stopped_ns = now_ns();
        nap(self.seconds)?;
        let cont_ns = now_ns();
        finish_at.store(cont_ns + TAIL.as_nanos() as u64, SeqCst);
        kill(child, Signal::SIGCONT).context("cannot continue the child")?;

        let mut threads = Vec::new();
        File::from(results)
            .read_to_end(&mut threads)
            .context("cannot read from a pipe")?;
        reap(child)?;
        let threads: Value =
            serde_json::from_slice(&threads).context("the child left no figures")?;
        truth.print(json!({
            "child_pid": child.as_raw(),
            "during": format!("{:?}", self.during).to_lowercase(),
            "stop_ns": stop_ns,
            "stopped_ns": stopped_ns,
            "cont_ns": cont_ns,
            "threads": threads,
        }))
    }

    /// What each of the child's threads does. Into `own` go its tid and how often it had
    /// blocked before.
    fn act(&self, begun: &AtomicU64, finish_at: &AtomicU64, own: &[AtomicU64]) -> Result<Value> {
        let (silent, _writer) = pipe().context("cannot make a pipe")?;
        own[0].store(tid() as u64, SeqCst);
        own[1].store(voluntary_switches()?, SeqCst);
        begun.fetch_add(1, SeqCst);
        let begin_ns = now_ns();
        let mut syscall = None;
        let mut returned = None;
        let mut naps = 0;
        let mut longest_gap = None;
        match self.during {
            During::Poll => {
                syscall = Some(PLAIN_POLL);
                let fds = [silent.as_raw_fd()];
                returned = Some(plain_poll(&fds, self.wait_seconds).context("poll failed")?);
            }
            During::Nanosleep => {
                syscall = Some("clock_nanosleep");
                nap(self.wait_seconds)?;
                naps = 1;
            }
            During::Compute => {
                longest_gap = Some(compute_until(|| finish_at.load(SeqCst)));
            }
            During::Mixed => {
                syscall = Some("clock_nanosleep");
                let mut longest = 0;
                while now_ns() < finish_at.load(SeqCst) {
                    let turn_ends = now_ns() + TURN.as_nanos() as u64;
                    longest = longest.max(compute_until(|| turn_ends));
                    nap(TURN)?;
                    naps += 1;
                }
                longest_gap = Some(longest);
            }
        }
        Ok(json!({
            "tid": tid(),
            "syscall": syscall,
            "begin_ns": begin_ns,
            "end_ns": now_ns(),
            "returned": returned,
            "naps": naps,
            "cpu_ns": cpu_ns(),
            "longest_gap_ns": longest_gap,
        }))
    }
}

/// Computes; returns the longest time between two looks at the clock.
fn compute_until(end: impl Fn() -> u64) -> u64 {
    let mut longest = 0;
    let mut last = now_ns();
    while last < end() {
        step();
        let now = now_ns();
        longest = longest.max(now - last);
        last = now;
    }
    longest
}

/// Dies, by a signal or with an exit code
///
/// It prints the line, then dies. Its other threads are asleep by then.
///
/// Truth:
///   signal, exit  how it is about to die (the other one is null)
///   tids          of its threads, the main thread first, which is the one that dies
#[derive(Debug, Args)]
#[command(verbatim_doc_comment, group(ArgGroup::new("how").required(true).args(["signal", "exit"])))]
pub struct Die {
    /// The number of the signal that kills it.
    #[arg(long)]
    signal: Option<i32>,
    /// The code it exits with.
    #[arg(long, value_parser = clap::value_parser!(u8))]
    exit: Option<u8>,
    /// How many threads it has.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    threads: u32,
    /// Leave the limit on core dumps as it is, instead of allowing none.
    #[arg(long)]
    core: bool,
}

impl Die {
    pub(super) fn run(&self) -> Result<()> {
        let truth = Truth::begin("die");
        let signal = self
            .signal
            .map(|number| {
                Signal::try_from(number).with_context(|| format!("there is no signal {number}"))
            })
            .transpose()?;
        if !self.core {
            setrlimit(Resource::RLIMIT_CORE, 0, 0).context("cannot forbid core dumps")?;
        }
        let sleepers: Vec<Announcement> =
            (1..self.threads).map(|_| Announcement::default()).collect();
        thread::scope(|scope| -> Result<()> {
            let mut tids = vec![tid()];
            for sleeper in &sleepers {
                spawn(scope, "sleeper", || {
                    sleeper.about_to_block()?;
                    nap(Duration::from_secs(10))
                })?;
                tids.push(sleeper.until_asleep(1, || false)?);
            }
            truth.print(json!({"signal": self.signal, "exit": self.exit, "tids": tids}))?;
            if let Some(code) = self.exit {
                std::process::exit(i32::from(code));
            }
            let signal = signal.context("neither a signal nor an exit code")?;
            if !matches!(signal, Signal::SIGKILL | Signal::SIGSTOP) {
                default_action(signal)?;
            }
            SigSet::from(signal)
                .thread_unblock()
                .with_context(|| format!("cannot unblock {signal}"))?;
            raise(signal).with_context(|| format!("cannot raise {signal}"))?;
            bail!("{signal} did not kill the process");
        })
    }
}
