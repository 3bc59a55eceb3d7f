//! Jobs done by tasks that are made for them, or by a pool.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use serde_json::json;

use super::marks::{Mark, Marks};
use super::sys::{Pages, Shared, cpu_ns, fork_named, now_ns, reap};
use super::task::{join, spawn};
use super::truth::Truth;
use super::work::Work;

/// Jobs of the same size, done by threads or processes that come and go
///
/// A job is CPU time, without a system call. So many workers exist at a time; each does
/// so many jobs and ends, and the next one is made when the oldest has ended and was
/// joined or reaped. With one job for each worker that is a task on demand for each job;
/// without a limit it is a pool. Workers take their jobs from a counter in shared memory,
/// so handing one over costs nothing.
///
/// Truth:
///   jobs          done
///   made          workers that were made
///   job_cpu_ns    CPU time of the jobs themselves, by the workers' CPU clocks
///   start_cpu_ns  CPU time of the first thread before it made a worker
///   begin_ns, end_ns  from before the first worker was made until the last had ended
///
/// Marks: jobs, made, job_cpu_ns, start_cpu_ns, ns_per_job
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct Jobs {
    /// What the workers are.
    #[arg(long, value_enum)]
    by: By,
    /// How many jobs.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    jobs: u64,
    /// CPU time of each, in microseconds.
    #[arg(long, default_value_t = 1000)]
    job_us: u64,
    /// How many workers there are at a time.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1000))]
    workers: u64,
    /// A worker ends after so many jobs; without this, when there are none left.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    jobs_per_worker: Option<u64>,
    /// Memory that the first process has written to before it makes workers, in MiB.
    #[arg(long, default_value_t = 0)]
    heap_mib: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum By {
    Threads,
    Processes,
}

impl Jobs {
    pub(super) fn run(&self) -> Result<()> {
        let truth = Truth::begin("jobs");
        let marks = Marks::open()?;
        let work = Work::calibrate();
        let heap = Pages::new(self.heap_mib * 1024 * 1024 / super::sys::page_size()?)?;
        if self.heap_mib > 0 {
            (0..heap.count()).for_each(|page| heap.touch(page));
        }
        let shared = Shared::new(3)?;
        let [taken, done, job_cpu_ns] = shared.words() else {
            unreachable!("three words were asked for")
        };
        let made = self.makes();
        let share = self.jobs_per_worker.unwrap_or(self.jobs);
        let worker = || {
            for _ in 0..share {
                if taken.fetch_add(1, SeqCst) >= self.jobs {
                    break;
                }
                let begin_ns = cpu_ns();
                work.run_ns(self.job_us * 1000);
                job_cpu_ns.fetch_add(cpu_ns() - begin_ns, SeqCst);
                done.fetch_add(1, SeqCst);
            }
            Ok(())
        };

        let start_cpu_ns = cpu_ns();
        let begin_ns = now_ns();
        match self.by {
            By::Threads => {
                thread::scope(|scope| self.keep_up(made, || spawn(scope, "worker", worker), join))
            }
            By::Processes => self.keep_up(made, || fork_named("worker", worker), reap),
        }
        .context("a worker failed")?;
        let end_ns = now_ns();

        let value = |word: &AtomicU64| word.load(SeqCst);
        let jobs = value(done);
        marks.write_all([
            Mark::new("jobs", jobs),
            Mark::new("made", made),
            Mark::new("job_cpu_ns", value(job_cpu_ns)),
            Mark::new("start_cpu_ns", start_cpu_ns),
            Mark::new("ns_per_job", (end_ns - begin_ns) as f64 / self.jobs as f64),
        ])?;
        truth.print(json!({
            "jobs": jobs,
            "made": made,
            "job_cpu_ns": value(job_cpu_ns),
            "start_cpu_ns": start_cpu_ns,
            "begin_ns": begin_ns,
            "end_ns": end_ns,
        }))
    }

    /// How many workers all jobs take.
    fn makes(&self) -> u64 {
        match self.jobs_per_worker {
            Some(share) => self.jobs.div_ceil(share),
            None => self.workers.min(self.jobs),
        }
    }

    /// Makes `count` of them, never more at a time than there should be.
    fn keep_up<T>(
        &self,
        count: u64,
        mut make: impl FnMut() -> Result<T>,
        mut end: impl FnMut(T) -> Result<()>,
    ) -> Result<()> {
        let mut alive = VecDeque::new();
        for _ in 0..count {
            if alive.len() as u64 >= self.workers
                && let Some(oldest) = alive.pop_front()
            {
                end(oldest)?;
            }
            alive.push_back(make()?);
        }
        alive.into_iter().try_for_each(end)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn jobs(jobs: u64, workers: u64, jobs_per_worker: Option<u64>) -> Jobs {
        Jobs {
            by: By::Threads,
            jobs,
            job_us: 0,
            workers,
            jobs_per_worker,
            heap_mib: 0,
        }
    }

    #[test]
    fn a_pool_makes_its_workers_once_and_on_demand_makes_one_for_each_job() {
        assert_eq!(jobs(1000, 4, None).makes(), 4);
        assert_eq!(jobs(2, 4, None).makes(), 2);
        assert_eq!(jobs(1000, 4, Some(1)).makes(), 1000);
        assert_eq!(jobs(1000, 4, Some(300)).makes(), 4);
    }

    #[test]
    fn never_more_workers_at_a_time_than_asked_for_and_all_are_ended() {
        let (alive, most, ended) = (Cell::new(0_u64), Cell::new(0), Cell::new(0));
        let make = || {
            alive.set(alive.get() + 1);
            most.set(most.get().max(alive.get()));
            Ok(())
        };
        let end = |()| {
            alive.set(alive.get() - 1);
            ended.set(ended.get() + 1);
            Ok(())
        };
        jobs(50, 3, Some(1)).keep_up(50, make, end).unwrap();
        assert_eq!((alive.get(), most.get(), ended.get()), (0, 3, 50));
    }
}
