//! Tasks that are all asleep at once.

use std::fs::File;
use std::io::Read;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use nix::unistd::pipe;
use serde_json::{Value, json};

use super::options::seconds;
use super::sys::{
    PLAIN_POLL, Shared, a_child_ended, fork_child, nap, now_ns, pid, plain_poll, reap, tid,
    voluntary_switches, wait_for_no_signal,
};
use super::task::{StartLine, join, spawn, until_alone};
use super::truth::Truth;

/// All threads asleep at once, each in a wait of its own kind
///
/// The threads, of which the main thread is one, start together without blocking
/// and sleep once: in turn in clock_nanosleep, poll, futex, rt_sigtimedwait. Who
/// wakes spins until all have, and the main thread until the others are gone: but
/// for the interval below they are never all blocked.
///
/// Truth:
///   threads        [{tid, syscall, begin_ns, end_ns, switches}], the main thread
///                  first; switches: how often it blocked, by the kernel's count: 1
///   all_blocked    {begin_ns, end_ns, ns}: from the latest begin to the earliest end
///                  (0 ns when they did not overlap)
///   main_switches  the same for the main thread, all the time there were others;
///                  1 proves that they were all blocked at no other time
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct Sleepers {
    /// How many threads sleep.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    threads: u32,
    /// For how long.
    #[arg(long, default_value = "1", value_parser = seconds)]
    seconds: Duration,
}

impl Sleepers {
    pub(super) fn run(&self) -> Result<()> {
        let truth = Truth::begin("sleepers");
        let start = StartLine::new(self.threads as usize);
        let awake = StartLine::new(self.threads as usize);
        let sleep = |number: u32| {
            let kind = KINDS[number as usize % KINDS.len()];
            let slept = kind.sleep_once(self.seconds);
            awake.wait();
            slept
        };

        let switches_before = voluntary_switches()?;
        let (threads, main_switches) = thread::scope(|scope| -> Result<_> {
            let others = (1..self.threads)
                .map(|i| start.spawn(scope, format!("sleeper-{i}"), move || sleep(i)))
                .collect::<Result<Vec<_>>>()
                .inspect_err(|_| awake.open())?;
            start.wait();
            let mut threads = vec![sleep(0)?];
            until_alone()?;
            let main_switches = voluntary_switches()? - switches_before;
            for other in others {
                threads.push(join(other)?);
            }
            Ok((threads, main_switches))
        })?;

        let common = common(threads.iter().map(|it| (it.begin_ns, it.end_ns)));
        truth.print(json!({
            "threads": threads,
            "all_blocked": common,
            "main_switches": main_switches,
        }))
    }
}

#[derive(serde::Serialize)]
struct Slept {
    tid: i32,
    syscall: &'static str,
    begin_ns: u64,
    end_ns: u64,
    switches: u64,
}

#[derive(Clone, Copy)]
enum Kind {
    Nanosleep,
    Poll,
    Futex,
    Signal,
}

const KINDS: [Kind; 4] = [Kind::Nanosleep, Kind::Poll, Kind::Futex, Kind::Signal];

impl Kind {
    fn sleep_once(self, time: Duration) -> Result<Slept> {
        let switches_before = voluntary_switches()?;
        let begin_ns = now_ns();
        self.sleep(time)?;
        let end_ns = now_ns();
        Ok(Slept {
            tid: tid(),
            syscall: self.syscall(),
            begin_ns,
            end_ns,
            switches: voluntary_switches()? - switches_before,
        })
    }

    fn sleep(self, time: Duration) -> Result<()> {
        match self {
            Self::Nanosleep => nap(time),
            Self::Poll => {
                plain_poll(&[], time).context("poll failed")?;
                Ok(())
            }
            Self::Futex => {
                let nobody = Mutex::new(());
                let guard = nobody.lock().unwrap_or_else(PoisonError::into_inner);
                let _ = Condvar::new().wait_timeout_while(guard, time, |()| true);
                Ok(())
            }
            Self::Signal => wait_for_no_signal(time),
        }
    }

    fn syscall(self) -> &'static str {
        match self {
            Self::Nanosleep => "clock_nanosleep",
            Self::Poll => PLAIN_POLL,
            Self::Futex => "futex",
            Self::Signal => "rt_sigtimedwait",
        }
    }
}

/// What all the intervals have in common.
fn common(intervals: impl Iterator<Item = (u64, u64)>) -> Value {
    let (begin_ns, end_ns) = intervals.fold((0, u64::MAX), |(begin, end), (b, e)| {
        (begin.max(b), end.min(e))
    });
    json!({
        "begin_ns": begin_ns,
        "end_ns": end_ns,
        "ns": end_ns.saturating_sub(begin_ns),
    })
}

/// Many processes and threads alive and asleep at the same time
///
/// Each process's threads, of which its main thread is one, wait in read for the
/// first process to let all of them go at once, and then nap. The first process is
/// one task more, and waits for the others.
///
/// Truth:
///   tasks      all of them: processes * threads + 1
///   processes  [{pid, threads: [{tid, begin_ns, end_ns}]}], the times of the nap
///   all_asleep {begin_ns, end_ns, ns}: from the latest begin to the earliest end,
///              when all but the first process's task are asleep (0 ns when the
///              naps did not overlap)
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct ManySleepers {
    /// How many processes, beside the first.
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    processes: u32,
    /// How many threads each of them has.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    threads: u32,
    /// How long each thread naps.
    #[arg(long, default_value_t = 500)]
    millis: u64,
}

/// One thread's figures in shared memory.
const WORDS: usize = 3;

impl ManySleepers {
    pub(super) fn run(&self) -> Result<()> {
        let truth = Truth::begin("many-sleepers");
        let (processes, threads) = (self.processes as usize, self.threads as usize);
        let figures = Shared::new(1 + processes * threads * WORDS)?;
        let (ready, figures) = figures.words().split_at(1);
        let ready = &ready[0];

        let (gate, opener) = pipe().context("cannot make a pipe")?;
        let gate = File::from(gate);
        let mut opener = Some(opener);
        let thread = |figures: &[std::sync::atomic::AtomicU64]| -> Result<()> {
            ready.fetch_add(1, SeqCst);
            let passed = (&gate).read(&mut [0]).context("cannot read from a pipe")?;
            ensure!(passed == 0, "a byte came through the gate");
            let begin_ns = now_ns();
            nap(Duration::from_millis(self.millis))?;
            figures[0].store(tid() as u64, SeqCst);
            figures[1].store(begin_ns, SeqCst);
            figures[2].store(now_ns(), SeqCst);
            Ok(())
        };

        let mut pids = Vec::new();
        for figures in figures.chunks(threads * WORDS) {
            pids.push(fork_child(|| {
                // The gate opens when its last writer is gone.
                opener.take();
                thread::scope(|scope| -> Result<()> {
                    let (main, others) = figures.split_at(WORDS);
                    let others = others
                        .chunks(WORDS)
                        .map(|figures| spawn(scope, "sleeper", || thread(figures)))
                        .collect::<Result<Vec<_>>>()?;
                    thread(main)?;
                    others.into_iter().try_for_each(join)
                })
                .with_context(|| format!("process {}", pid()))
            })?);
        }
        while ready.load(SeqCst) < (processes * threads) as u64 {
            ensure!(!a_child_ended()?, "a process ended before the others began");
            nap(Duration::from_millis(1))?;
        }
        opener.take();
        for &pid in &pids {
            reap(pid)?;
        }

        let figure = |thread: &[std::sync::atomic::AtomicU64], i: usize| thread[i].load(SeqCst);
        let listed: Vec<Value> = pids
            .iter()
            .zip(figures.chunks(threads * WORDS))
            .map(|(pid, figures)| {
                let threads: Vec<Value> = figures
                    .chunks(WORDS)
                    .map(|it| {
                        json!({
                            "tid": figure(it, 0),
                            "begin_ns": figure(it, 1),
                            "end_ns": figure(it, 2),
                        })
                    })
                    .collect();
                json!({"pid": pid.as_raw(), "threads": threads})
            })
            .collect();
        truth.print(json!({
            "tasks": processes * threads + 1,
            "processes": listed,
            "all_asleep": common(figures.chunks(WORDS).map(|it| (figure(it, 1), figure(it, 2)))),
        }))
    }
}
