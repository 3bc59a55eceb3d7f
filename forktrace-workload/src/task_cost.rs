//! What threads and processes cost: memory, and taking turns.

use std::fs::{self, File};
use std::hint::black_box;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use forktrace_process::procfs::text;
use nix::unistd::pipe;
use serde_json::{Value, json};

use super::crew::{numbered, run_crew};
use super::marks::{Mark, Marks};
use super::sys::{Among, Lock, Pages, Semaphore, Shared, cpu_ns, nap, page_size, pid, yield_now};
use super::task::{allowed_cpus, pin};
use super::truth::Truth;

/// How much memory each thread or process adds
///
/// The first process measures itself, starts the tasks, which all do the same little
/// work and then wait, and measures itself and them again.
///
/// Marks and truth (bytes for each task added):
///   resident_bytes      the kernel's "Pss", by which a shared page is shared out
///   page_table_bytes    the kernel's "VmPTE"
///   kernel_stack_bytes  of a task on this machine: all such memory by all tasks
///   sum_bytes           of these
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct MemoryCost {
    /// How many tasks are added.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1000))]
    tasks: u32,
    /// Processes instead of threads.
    #[arg(long)]
    processes: bool,
    /// How much memory each task writes to beside.
    #[arg(long, default_value_t = 0)]
    extra_kilobytes: usize,
}

/// What each task writes to on its stack.
const WORK_BYTES: usize = 4096;

impl MemoryCost {
    pub(super) fn run(&self) -> Result<()> {
        let truth = Truth::begin("memory-cost");
        let marks = Marks::open()?;
        let count = self.tasks as usize;
        let words = Shared::new(1 + count)?;
        let (over, pids) = words.words().split_at(1);
        let over = &over[0];
        let before = Memory::of_process(pid() as u64)?;

        let wait = |i: usize| -> Result<()> {
            black_box([i as u8; WORK_BYTES]);
            let extra = Pages::new((self.extra_kilobytes * 1024).div_ceil(page_size()?))?;
            if self.extra_kilobytes > 0 {
                (0..extra.count()).for_each(|page| extra.touch(page));
            }
            pids[i].store(pid() as u64, SeqCst);
            while over.load(SeqCst) == 0 {
                nap(Duration::from_millis(5))?;
            }
            Ok(())
        };
        let measure = || -> Result<Memory> {
            while pids.iter().any(|it| it.load(SeqCst) == 0) {
                nap(Duration::from_millis(1))?;
            }
            let mut all: Vec<u64> = pids.iter().map(|it| it.load(SeqCst)).collect();
            all.push(pid() as u64);
            all.sort_unstable();
            all.dedup();
            let mut sum = Memory::default();
            for pid in all {
                let one = Memory::of_process(pid)?;
                sum.resident += one.resident;
                sum.page_tables += one.page_tables;
            }
            over.store(1, SeqCst);
            Ok(sum)
        };
        let after = run_crew(
            Among::from_flag(self.processes),
            &numbered("task", count),
            wait,
            measure,
        )?;

        let each = |after: u64, before: u64| after.saturating_sub(before) / count as u64;
        let resident = each(after.resident, before.resident);
        let page_tables = each(after.page_tables, before.page_tables);
        let stack = kernel_stack_bytes()?;
        let figures = [
            ("resident_bytes", resident),
            ("page_table_bytes", page_tables),
            ("kernel_stack_bytes", stack),
            ("sum_bytes", resident + page_tables + stack),
        ];
        marks.write_all(figures.map(|(name, value)| Mark::new(name, value)))?;
        let mut figures: serde_json::Map<_, _> = figures
            .iter()
            .map(|&(name, value)| (name.to_owned(), value.into()))
            .collect();
        figures.insert("processes".to_owned(), self.processes.into());
        figures.insert("tasks".to_owned(), count.into());
        truth.print(figures.into())
    }
}

#[derive(Default)]
struct Memory {
    resident: u64,
    page_tables: u64,
}

impl Memory {
    fn of_process(pid: u64) -> Result<Self> {
        Ok(Self {
            resident: kibibytes(&format!("/proc/{pid}/smaps_rollup"), "Pss")?,
            page_tables: kibibytes(&format!("/proc/{pid}/status"), "VmPTE")?,
        })
    }
}

/// A line such as `Pss:   24 kB` of a file, in bytes.
fn kibibytes(path: &str, field: &str) -> Result<u64> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    let value = text::field(&text, field)
        .and_then(|value| value.strip_suffix(" kB"))
        .and_then(|number| number.parse::<u64>().ok())
        .with_context(|| format!("{path} has no {field}"))?;
    Ok(value * 1024)
}

/// The size of a kernel stack: the power of two next to the machine's mean.
fn kernel_stack_bytes() -> Result<u64> {
    let all = kibibytes("/proc/meminfo", "KernelStack")?;
    let load = fs::read_to_string("/proc/loadavg").context("cannot read /proc/loadavg")?;
    // 0.10 0.20 0.30 1/234 5678: running and all tasks.
    let tasks: u64 = load
        .split(['/', ' '])
        .nth(4)
        .and_then(|it| it.parse().ok())
        .context("/proc/loadavg does not tell the number of tasks")?;
    let mean = (all / tasks.max(1)).max(1);
    let above = mean.next_power_of_two();
    Ok(if mean - above / 2 < above - mean {
        above / 2
    } else {
        above
    })
}

/// What synchronising two threads costs, and two processes, in turn
///
/// Two tasks on one CPU use one construct, --operations times each. `alone` one takes and returns the lock, or puts a byte into a pipe, or a unit into a
/// System V semaphore, and takes it out again, while the other one waits elsewhere.
/// `contended` they take turns: the lock is always held when the other one wants
/// it, and through pipes and semaphores they wake each other. Threads use a lock of
/// their process, processes one in shared memory.
///
/// The two kinds alternate, --rounds times each. What is measured is CPU time, of both
/// tasks together: who else uses the CPUs is not in it.
///
/// Marks:
///   thread_ns    value: CPU time for an operation between threads; round
///   process_ns   value: the same between processes; round
/// Truth:
///   construct, how
///   rounds       [{thread_ns, process_ns}]
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct SyncCost {
    /// What they synchronise by.
    #[arg(long, value_enum, default_value_t = Construct::Mutex)]
    construct: Construct,
    /// Whether they wait for each other.
    #[arg(long, value_enum, default_value_t = How::Contended)]
    how: How,
    /// How often each kind is measured.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// How many operations each task makes in a round.
    #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u64).range(1..))]
    operations: u64,
    /// Measure the threads in place of the processes too.
    #[arg(long)]
    threads_only: bool,
    /// Let processes make each operation so often, as if it cost them so much more.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100))]
    process_repeats: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum How {
    /// One of them has it for itself.
    Alone,
    /// They wait for each other.
    Contended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Construct {
    /// A POSIX mutex.
    Mutex,
    /// Bytes in pipes.
    Pipe,
    /// A System V semaphore.
    Semaphore,
}

impl SyncCost {
    pub(super) fn run(&self) -> Result<()> {
        let truth = Truth::begin("sync-cost");
        let marks = Marks::open()?;
        let cpu = *allowed_cpus()?.first().context("no CPU is allowed")?;
        let second = if self.threads_only {
            Among::Threads
        } else {
            Among::Processes
        };
        // The first one of each kind warms up.
        self.measure(Among::Threads, cpu)?;
        self.measure(second, cpu)?;
        let mut rounds: Vec<Value> = Vec::new();
        for round in 0..self.rounds {
            let mut ns = [0.0; 2];
            // Who is first in a round changes.
            for kind in [round % 2, 1 - round % 2] {
                let among = [Among::Threads, second][kind as usize];
                ns[kind as usize] = self.measure(among, cpu)?;
            }
            marks.write_all([
                Mark::new("thread_ns", ns[0]).with("round", round),
                Mark::new("process_ns", ns[1]).with("round", round),
            ])?;
            rounds.push(json!({"thread_ns": ns[0], "process_ns": ns[1]}));
        }
        truth.print(json!({
            "construct": self.construct.to_possible_value().map(|it| it.get_name().to_owned()),
            "how": self.how.to_possible_value().map(|it| it.get_name().to_owned()),
            "rounds": rounds,
        }))
    }

    /// CPU time of both tasks for one operation.
    fn measure(&self, among: Among, cpu: usize) -> Result<f64> {
        let words = Shared::new(4)?;
        let [begun, ended, cpu_of_a, cpu_of_b]: &[AtomicU64; 4] = words.words().try_into()?;
        let construct = self.construct(among)?;
        let made = self.operations
            * match among {
                Among::Threads => 1,
                Among::Processes => self.process_repeats,
            };
        let work = |task: usize| -> Result<()> {
            pin(cpu)?;
            begun.fetch_add(1, SeqCst);
            while begun.load(SeqCst) < 2 {
                yield_now();
            }
            let before = cpu_ns();
            if self.how == How::Contended {
                (0..made).try_for_each(|_| construct.take_turn(task))?;
            } else if task == 0 {
                (0..made).try_for_each(|_| construct.alone())?;
            }
            let spent = cpu_ns() - before;
            [cpu_of_a, cpu_of_b][task].store(spent, SeqCst);
            ended.fetch_add(1, SeqCst);
            Ok(())
        };
        let names = match among {
            Among::Threads => numbered("thread", 2),
            Among::Processes => numbered("process", 2),
        };
        run_crew(among, &names, work, || Ok(()))?;
        ensure!(ended.load(SeqCst) == 2, "a task did not end");
        let spent = cpu_of_a.load(SeqCst) + cpu_of_b.load(SeqCst);
        let operations = self.operations
            * match self.how {
                How::Alone => 1,
                How::Contended => 2,
            };
        Ok(spent as f64 / operations as f64)
    }

    fn construct(&self, among: Among) -> Result<Things> {
        Ok(match self.construct {
            Construct::Mutex => Things::Mutex(Lock::new(among)?),
            Construct::Pipe => Things::Pipes([pipe_files()?, pipe_files()?]),
            Construct::Semaphore => Things::Semaphores([Semaphore::new()?, Semaphore::new()?]),
        })
    }
}

enum Things {
    Mutex(Lock),
    /// One for each direction.
    Pipes([(File, File); 2]),
    Semaphores([Semaphore; 2]),
}

impl Things {
    fn alone(&self) -> Result<()> {
        match self {
            Self::Mutex(lock) => lock.with(|| ()),
            Self::Pipes([pipe, _]) => {
                send(pipe)?;
                receive(pipe)
            }
            Self::Semaphores([semaphore, _]) => {
                semaphore.up()?;
                semaphore.down()
            }
        }
    }

    fn take_turn(&self, task: usize) -> Result<()> {
        match self {
            Self::Mutex(lock) => {
                // The other one finds it held.
                lock.with(yield_now)?;
                yield_now();
                Ok(())
            }
            Self::Pipes(pipes) if task == 0 => {
                send(&pipes[0])?;
                receive(&pipes[1])
            }
            Self::Pipes(pipes) => {
                receive(&pipes[0])?;
                send(&pipes[1])
            }
            Self::Semaphores([first, second]) if task == 0 => {
                first.up()?;
                second.down()
            }
            Self::Semaphores([first, second]) => {
                first.down()?;
                second.up()
            }
        }
    }
}

fn pipe_files() -> Result<(File, File)> {
    let (from, to) = pipe().context("cannot make a pipe")?;
    Ok((File::from(from), File::from(to)))
}

fn send((_, to): &(File, File)) -> Result<()> {
    { to }.write_all(&[0]).context("cannot write to a pipe")
}

fn receive((from, _): &(File, File)) -> Result<()> {
    { from }
        .read_exact(&mut [0])
        .context("cannot read from a pipe")
}
