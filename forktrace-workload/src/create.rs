//! What it costs to create a task that does nothing.

use std::hint::black_box;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use clap::Args;
use nix::sys::resource::{UsageWho, getrusage};
use nix::time::{ClockId, clock_gettime};
use serde_json::json;

use super::marks::{Mark, Marks};
use super::sys::{fork_child, now_ns, reap};
use super::truth::Truth;

/// Threads or processes that do nothing, each joined before the next is created
///
/// What one costs is what its parent sees: from before the creation until the join has
/// returned. `examples/workloads/fork_cost.py` does the same in Python.
///
/// Marks:
///   create_and_join_ns  value: of one task; at its end
///   cpu_ns              value: CPU time for one task, its own and its parent's, in the
///                       mean
/// Truth:
///   count, processes, heap_mib, cpu_ns, create_and_join_ns (the median)
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct CreateAndJoin {
    /// How many tasks, one after another.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    /// Processes instead of threads.
    #[arg(long)]
    processes: bool,
    /// Memory that is written to first: a fork copies its page tables.
    #[arg(long, default_value_t = 0)]
    heap_mib: usize,
}

impl CreateAndJoin {
    pub(super) fn run(&self) -> Result<()> {
        let truth = Truth::begin("create-and-join");
        let marks = Marks::open()?;
        let heap = vec![1_u8; self.heap_mib << 20];
        black_box(&heap);

        let mut times = Vec::with_capacity(self.count as usize);
        let before_ns = cpu_ns()?;
        for _ in 0..self.count {
            let begin_ns = now_ns();
            if self.processes {
                reap(fork_child(|| Ok(()))?)?;
            } else {
                let thread = thread::Builder::new()
                    .spawn(|| {})
                    .context("cannot start a thread")?;
                thread
                    .join()
                    .map_err(|_| anyhow!("a thread of the workload panicked"))?;
            }
            let end_ns = now_ns();
            times.push((end_ns, end_ns - begin_ns));
        }
        let cpu_ns = (cpu_ns()? - before_ns) / u64::from(self.count);
        black_box(&heap);

        let each = times
            .iter()
            .map(|&(end_ns, ns)| Mark::new("create_and_join_ns", ns).at(end_ns));
        marks.write_all(each)?;
        marks.write(Mark::new("cpu_ns", cpu_ns))?;
        let mut sorted: Vec<u64> = times.iter().map(|&(_, ns)| ns).collect();
        sorted.sort_unstable();
        truth.print(json!({
            "count": self.count,
            "processes": self.processes,
            "heap_mib": self.heap_mib,
            "cpu_ns": cpu_ns,
            "create_and_join_ns": sorted[sorted.len() / 2],
        }))
    }
}

/// CPU time of this process and of the children that it has reaped.
fn cpu_ns() -> Result<u64> {
    let own = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).context("no CPU clock")?;
    let reaped = getrusage(UsageWho::RUSAGE_CHILDREN).context("getrusage failed")?;
    let reaped_us = [reaped.user_time(), reaped.system_time()]
        .map(|time| time.tv_sec() * 1_000_000 + time.tv_usec())
        .iter()
        .sum::<i64>();
    let sum = Duration::from(own) + Duration::from_micros(reaped_us.unsigned_abs());
    Ok(sum.as_nanos() as u64)
}
