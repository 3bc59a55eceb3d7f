//! Who sees what another task writes, and what becomes of it without a lock.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::thread;

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::crew::{numbered, run_crew};
use super::marks::{Mark, Marks};
use super::sys::{Among, Lock, Shared, fork_child, reap};
use super::task::{join, spawn};
use super::truth::Truth;

/// Tasks that count on one number, with a lock or without
///
/// Each task `counter-N` adds 1 to the number, --increments times: it reads it, adds
/// and writes it back, as `n++` does. With --locked it holds a lock meanwhile. The
/// number is in memory that processes share too.
///
/// Marks:
///   expected  value: what the number should be in the end
///   counted   value: what it is
/// Truth:
///   processes, locked, expected, counted, lost (expected - counted)
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct SharedCounter {
    /// How many tasks count.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1000))]
    tasks: u32,
    /// How often each of them adds 1.
    #[arg(long, default_value_t = 10_000_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000_000))]
    increments: u64,
    /// Processes instead of threads.
    #[arg(long)]
    processes: bool,
    /// With a lock.
    #[arg(long)]
    locked: bool,
}

impl SharedCounter {
    pub(super) fn run(&self) -> Result<()> {
        let truth = Truth::begin("shared-counter");
        let marks = Marks::open()?;
        let among = Among::from_flag(self.processes);
        let lock = Lock::new(among)?;
        let words = Shared::new(2)?;
        let [counter, begun]: &[AtomicU64; 2] = words.words().try_into()?;
        let increment = || counter.store(counter.load(Relaxed) + 1, Relaxed);

        let count = |_| -> Result<()> {
            // Who starts late would count alone.
            begun.fetch_add(1, SeqCst);
            while begun.load(SeqCst) < u64::from(self.tasks) {
                super::sys::yield_now();
            }
            for _ in 0..self.increments {
                if self.locked {
                    lock.with(increment)?;
                } else {
                    increment();
                }
            }
            Ok(())
        };
        run_crew(
            among,
            &numbered("counter", self.tasks as usize),
            count,
            || Ok(()),
        )?;

        let expected = self.increments * u64::from(self.tasks);
        let counted = counter.load(SeqCst);
        marks.write_all([
            Mark::new("expected", expected),
            Mark::new("counted", counted),
        ])?;
        truth.print(json!({
            "processes": self.processes,
            "locked": self.locked,
            "expected": expected,
            "counted": counted,
            "lost": expected - counted,
        }))
    }
}

/// One task writes to memory, another one looks
///
/// A thread writes to a variable of the process; a forked child writes to another
/// one, and to a word of a shared mapping. The main thread looks when each has ended.
///
/// Marks and truth:
///   thread_seen   1 when the thread's write is seen: always
///   child_seen    1 when the child's write to its copy of a variable is seen: never
///   child_saw     1 when the child saw what its parent had written before the fork
///   mapping_seen  1 when the child's write to the shared mapping is seen: always
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct MemoryVisibility {
    /// Let the child be a thread too, which has no copy.
    #[arg(long)]
    child_is_thread: bool,
}

const BEFORE: u64 = 1;
const AFTER: u64 = 2;

impl MemoryVisibility {
    pub(super) fn run(&self) -> Result<()> {
        let truth = Truth::begin("memory-visibility");
        let marks = Marks::open()?;
        let words = Shared::new(2)?;
        let [mapped, saw]: &[AtomicU64; 2] = words.words().try_into()?;
        let of_thread = AtomicU64::new(BEFORE);
        let of_child = AtomicU64::new(BEFORE);

        let write = || -> Result<()> {
            saw.store(u64::from(of_child.load(SeqCst) == BEFORE), SeqCst);
            of_child.store(AFTER, SeqCst);
            mapped.store(AFTER, SeqCst);
            Ok(())
        };
        if self.child_is_thread {
            thread::scope(|scope| join(spawn(scope, "child", write)?))?;
        } else {
            reap(fork_child(write)?)?;
        }
        thread::scope(|scope| {
            join(spawn(scope, "thread", || {
                of_thread.store(AFTER, SeqCst);
                Ok(())
            })?)
        })?;

        let seen = |word: &AtomicU64| u64::from(word.load(SeqCst) == AFTER);
        let figures = [
            ("thread_seen", seen(&of_thread)),
            ("child_seen", seen(&of_child)),
            ("child_saw", saw.load(SeqCst)),
            ("mapping_seen", seen(mapped)),
        ];
        marks.write_all(figures.map(|(name, value)| Mark::new(name, value)))?;
        let figures: serde_json::Map<_, _> = figures
            .iter()
            .map(|&(name, value)| (name.to_owned(), value.into()))
            .collect();
        truth.print(json!(figures))
    }
}
