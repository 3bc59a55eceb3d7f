//! Tasks that share something, or nothing, that they could wait for.

use std::fs::File;
use std::io::{Read, Write};
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use nix::unistd::pipe;
use serde_json::{Value, json};

use super::cpu::step;
use super::crew::{numbered, run_crew};
use super::sys::{Among, Lock, Pages, Shared, now_ns, page_size, tid, yield_now};
use super::truth::Truth;

/// Tasks that work on one thing, or each on a thing of its own
///
/// Each task `worker-N` goes round until the time is up: it computes, computes a
/// little longer holding a lock, and passes a byte through a pipe. Each has a lock
/// and a pipe of its own, except for what --share names: `lock`, all take one lock;
/// `pipe`, a single byte is in one pipe, who has read it computes and puts it back;
/// `memory-map`, nothing is shared that the program names, but each task maps
/// --megabytes of memory, writes to every page and unmaps it again, which the kernel
/// does under locks of the address space. Threads share one of these, processes don't.
///
/// Truth:
///   share, processes
///   workers    [{tid, rounds}]
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct Contention {
    /// What all tasks use.
    #[arg(long, value_enum, default_value_t = Share::Nothing)]
    share: Share,
    /// How many tasks.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1000))]
    tasks: u32,
    /// Processes instead of threads.
    #[arg(long)]
    processes: bool,
    /// How long they work.
    #[arg(long, default_value_t = 300)]
    millis: u64,
    /// How much memory a task maps and unmaps in a round of `memory-map`.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1024))]
    megabytes: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Share {
    /// Nothing but the CPUs.
    Nothing,
    /// One lock.
    Lock,
    /// One byte in one pipe.
    Pipe,
    /// The address space.
    MemoryMap,
}

struct Things {
    lock: Lock,
    from: File,
    to: File,
}

const OUTSIDE: Duration = Duration::from_micros(5);
const INSIDE: Duration = Duration::from_micros(50);

impl Contention {
    pub(super) fn run(&self) -> Result<()> {
        let truth = Truth::begin("contention");
        let count = self.tasks as usize;
        let among = Among::from_flag(self.processes);
        let words = Shared::new(2 * count)?;
        let words = words.words();
        let things = (0..count)
            .map(|_| {
                let (from, to) = pipe().context("cannot make a pipe")?;
                let mut to = File::from(to);
                to.write_all(&[0]).context("cannot write to a pipe")?;
                Ok(Things {
                    lock: Lock::new(among)?,
                    from: File::from(from),
                    to,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let pages = (self.megabytes as usize * 1024 * 1024).div_ceil(page_size()?);
        let end_ns = now_ns() + self.millis * 1_000_000;

        let work = |i: usize| -> Result<()> {
            let lock = &things[if self.share == Share::Lock { 0 } else { i }].lock;
            let Things { from, to, .. } = &things[if self.share == Share::Pipe { 0 } else { i }];
            let (mut from, mut to) = (from, to);
            let mut rounds = 0;
            while now_ns() < end_ns {
                compute(OUTSIDE);
                lock.with(compute_inside)?;
                from.read_exact(&mut [0])
                    .context("cannot read from a pipe")?;
                compute_inside();
                to.write_all(&[0]).context("cannot write to a pipe")?;
                if self.share == Share::MemoryMap {
                    let memory = Pages::new(pages)?;
                    (0..memory.count()).for_each(|page| memory.touch(page));
                }
                rounds += 1;
            }
            words[2 * i].store(tid() as u64, SeqCst);
            words[2 * i + 1].store(rounds, SeqCst);
            Ok(())
        };
        run_crew(among, &numbered("worker", count), work, || Ok(()))?;

        let workers: Vec<Value> = words
            .chunks(2)
            .map(|it| json!({"tid": it[0].load(SeqCst), "rounds": it[1].load(SeqCst)}))
            .collect();
        truth.print(json!({
            "share": self.share.to_possible_value().map(|it| it.get_name().to_owned()),
            "processes": self.processes,
            "workers": workers,
        }))
    }
}

/// Gives the others the chance to come while it is inside, even on a busy CPU.
fn compute_inside() {
    compute(INSIDE);
    yield_now();
}

fn compute(time: Duration) {
    let end = now_ns() + time.as_nanos() as u64;
    while now_ns() < end {
        step();
    }
}
