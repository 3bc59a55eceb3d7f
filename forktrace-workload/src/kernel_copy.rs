//! Tasks that let the kernel copy.

use std::fs::File;
use std::io::{Read, Write};
use std::sync::atomic::Ordering::SeqCst;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use nix::unistd::pipe;
use serde_json::{Value, json};

use super::crew::{numbered, run_crew};
use super::marks::{Mark, Marks};
use super::sys::{Among, Lock, Shared, cpu_ns, now_ns, tid, yield_now};
use super::truth::Truth;

/// Tasks that do nothing but let the kernel copy for them
///
/// Each task `copier-N` copies until the time is up, from /dev/zero or through a pipe
/// of its own that it fills and empties in turn. Nothing of that has to wait. With
/// --one-lock it holds a lock while it copies, the same for all.
///
/// Marks:
///   bytes     value: copied by all
/// Truth:
///   source, processes, one_lock
///   copiers   [{tid, bytes, cpu_ns}]
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct KernelCopy {
    /// From where.
    #[arg(long, value_enum, default_value_t = Source::Pipe)]
    source: Source,
    /// How many tasks.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1000))]
    tasks: u32,
    /// Processes instead of threads.
    #[arg(long)]
    processes: bool,
    /// Only one copies at a time.
    #[arg(long)]
    one_lock: bool,
    /// For how long.
    #[arg(long, default_value_t = 500)]
    millis: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Source {
    /// A pipe each.
    Pipe,
    /// /dev/zero, 1 MiB at a time.
    Zero,
}

/// What a pipe holds.
const PIPE_BYTES: usize = 64 * 1024;
const ZERO_BYTES: usize = 1024 * 1024;
/// How often a task copies before it looks at the clock, or lets go of the lock.
const COPIES: usize = 16;
const WORDS: usize = 3;

/// A buffer that has its pages: where they come while the kernel copies, threads meet at the
/// lock of their memory map, inside of the call.
fn in_memory(bytes: usize) -> Vec<u8> {
    vec![1; bytes]
}

impl KernelCopy {
    pub(super) fn run(&self) -> Result<()> {
        let truth = Truth::begin("kernel-copy");
        let marks = Marks::open()?;
        let count = self.tasks as usize;
        let among = Among::from_flag(self.processes);
        let words = Shared::new(count * WORDS)?;
        let words = words.words();
        let lock = Lock::new(among)?;
        let end_ns = now_ns() + self.millis * 1_000_000;

        let work = |i: usize| -> Result<()> {
            let mut copy: Box<dyn FnMut() -> Result<usize>> = match self.source {
                Source::Zero => {
                    let mut zero = File::open("/dev/zero").context("cannot open /dev/zero")?;
                    let mut buffer = in_memory(ZERO_BYTES);
                    Box::new(move || {
                        zero.read_exact(&mut buffer)
                            .context("cannot read /dev/zero")?;
                        Ok(ZERO_BYTES)
                    })
                }
                Source::Pipe => {
                    let (from, to) = pipe().context("cannot make a pipe")?;
                    let (mut from, mut to) = (File::from(from), File::from(to));
                    let mut buffer = in_memory(PIPE_BYTES);
                    Box::new(move || {
                        to.write_all(&buffer).context("cannot write to a pipe")?;
                        from.read_exact(&mut buffer)
                            .context("cannot read from a pipe")?;
                        Ok(2 * PIPE_BYTES)
                    })
                }
            };
            let mut bytes = 0;
            while now_ns() < end_ns {
                let mut copies = || {
                    let copied = (0..COPIES).map(|_| copy()).sum::<Result<usize>>();
                    // Gives the others the chance to come, even on a busy CPU.
                    yield_now();
                    copied
                };
                bytes += if self.one_lock {
                    lock.with(copies)??
                } else {
                    copies()?
                };
            }
            let own = &words[i * WORDS..];
            own[0].store(tid() as u64, SeqCst);
            own[1].store(bytes as u64, SeqCst);
            own[2].store(cpu_ns(), SeqCst);
            Ok(())
        };
        run_crew(among, &numbered("copier", count), work, || Ok(()))?;

        let figure = |own: &[std::sync::atomic::AtomicU64], i: usize| own[i].load(SeqCst);
        let copiers: Vec<Value> = words
            .chunks(WORDS)
            .map(
                |it| json!({"tid": figure(it, 0), "bytes": figure(it, 1), "cpu_ns": figure(it, 2)}),
            )
            .collect();
        let bytes: u64 = words.chunks(WORDS).map(|it| figure(it, 1)).sum();
        marks.write(Mark::new("bytes", bytes))?;
        truth.print(json!({
            "source": self.source.to_possible_value().map(|it| it.get_name().to_owned()),
            "processes": self.processes,
            "one_lock": self.one_lock,
            "copiers": copiers,
        }))
    }
}
