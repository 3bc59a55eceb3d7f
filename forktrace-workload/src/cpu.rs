//! Threads that compute.

use std::hint::{black_box, spin_loop};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use nix::sys::select::{FdSet, select};
use nix::sys::time::TimeVal;
use nix::unistd::pipe;
use serde_json::{Value, json};

use super::options::seconds;
use super::sys::{cpu_ns, now_ns, tid, voluntary_switches};
use super::task::{StartLine, join, pin, until_alone};
use super::truth::Truth;

/// One thread blocks in select() while the others compute
///
/// The select is on a silent pipe and ends by its timeout; the computing threads,
/// of which the main thread is one, spin from before it until it is over and make
/// no system call. Hence all threads are never blocked at once.
///
/// Truth:
///   select         {tid, syscall, begin_ns, end_ns, ns, returned}
///   computing      [{tid, begin_ns, end_ns, cpu_ns, switches}], the main thread
///                  first; switches: how often it blocked, by the kernel's count
///   main_switches  the same for the main thread, all the time there were others;
///                  0 proves all_blocked_ns
///   all_blocked_ns 0
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct SelectAndCompute {
    /// How long the select blocks.
    #[arg(long, default_value = "2", value_parser = seconds)]
    seconds: Duration,
    /// How many threads compute.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    threads: u32,
}

impl SelectAndCompute {
    pub(super) fn run(&self) -> Result<()> {
        let truth = Truth::begin("select-and-compute");
        let line = StartLine::new(self.threads as usize + 1);
        let over = AtomicBool::new(false);
        let compute = || {
            measure(|| {
                while !over.load(SeqCst) {
                    step();
                }
            })
        };

        let switches_before = voluntary_switches()?;
        let (selected, computing, main_switches) = thread::scope(|scope| -> Result<_> {
            let selector = line.spawn(scope, "selector", || {
                let selected = select_nothing(self.seconds);
                over.store(true, SeqCst);
                selected
            })?;
            let others = (1..self.threads)
                .map(|i| line.spawn(scope, format!("compute-{i}"), compute))
                .collect::<Result<Vec<_>>>()?;
            line.wait();
            let mut computing = vec![compute()?];
            until_alone()?;
            let main_switches = voluntary_switches()? - switches_before;
            for other in others {
                computing.push(join(other)?);
            }
            Ok((join(selector)?, computing, main_switches))
        })?;

        truth.print(json!({
            "select": selected,
            "computing": computing,
            "main_switches": main_switches,
            "all_blocked_ns": 0,
        }))
    }
}

fn select_nothing(time: Duration) -> Result<Value> {
    let (silent, _writer) = pipe().context("cannot make a pipe")?;
    let mut set = FdSet::new();
    set.insert(silent.as_fd());
    let mut timeout = TimeVal::new(time.as_secs() as i64, i64::from(time.subsec_micros()));
    let begin_ns = now_ns();
    let returned = select(None, &mut set, None, None, &mut timeout);
    let end_ns = now_ns();
    Ok(json!({
        "tid": tid(),
        // What the C library makes of select().
        "syscall": "pselect6",
        "begin_ns": begin_ns,
        "end_ns": end_ns,
        "ns": end_ns - begin_ns,
        "returned": returned.context("select failed")?,
    }))
}

/// What a thread that only computes knows about it.
fn measure(compute: impl FnOnce()) -> Result<Value> {
    let switches_before = voluntary_switches()?;
    let (begin_ns, cpu_before) = (now_ns(), cpu_ns());
    compute();
    let (end_ns, cpu_after) = (now_ns(), cpu_ns());
    Ok(json!({
        "tid": tid(),
        "begin_ns": begin_ns,
        "end_ns": end_ns,
        "cpu_ns": cpu_after - cpu_before,
        "switches": voluntary_switches()? - switches_before,
    }))
}

/// A bit of work that the compiler cannot remove.
pub(super) fn step() {
    for i in 0..100_u32 {
        black_box(i);
        spin_loop();
    }
}

/// More threads than one CPU can run: runnable, never blocked
///
/// All threads, of which the main thread is one, are pinned to one CPU and spin to
/// a common deadline. At each instant one runs and the others wait for the CPU.
///
/// Truth:
///   cpu      the CPU
///   threads  [{tid, begin_ns, end_ns, cpu_ns, switches}], the main thread first:
///            runnable for end_ns - begin_ns - cpu_ns; switches is how often it
///            blocked in that time, by the kernel's count: 0
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct Spinners {
    /// How many threads spin.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    /// For how long.
    #[arg(long, default_value = "1", value_parser = seconds)]
    seconds: Duration,
    /// The CPU they share.
    #[arg(long, default_value_t = 0)]
    pin_cpu: usize,
}

impl Spinners {
    pub(super) fn run(&self) -> Result<()> {
        let truth = Truth::begin("spinners");
        pin(self.pin_cpu)?;
        let line = StartLine::new(self.count as usize);
        let deadline = AtomicU64::new(0);
        let spin = || {
            let deadline = deadline.load(SeqCst);
            measure(|| {
                while now_ns() < deadline {
                    step();
                }
            })
        };

        let threads = thread::scope(|scope| -> Result<_> {
            let others = (1..self.count)
                .map(|i| line.spawn(scope, format!("spinner-{i}"), spin))
                .collect::<Result<Vec<_>>>()?;
            deadline.store(now_ns() + self.seconds.as_nanos() as u64, SeqCst);
            line.wait();
            let mut threads = vec![spin()?];
            until_alone()?;
            for other in others {
                threads.push(join(other)?);
            }
            Ok(threads)
        })?;

        truth.print(json!({"cpu": self.pin_cpu, "threads": threads}))
    }
}
