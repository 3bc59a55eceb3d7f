//! Processes and threads that come and go.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::os::unix::process::parent_id;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::{Pid, setsid};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::cpu::step;
use super::exec::SELF;
use super::sys::{Shared, clone_with_pid, fork_child, nap, now_ns, pid, reap};
use super::task::{join, spawn};
use super::truth::Truth;

/// Processes that fork, nap and wait for their children, as a tree
///
/// Truth:
///   count      of processes, the first one (depth 0) included
///   processes  [{pid, ppid, depth, start_ns, nap_begin_ns, nap_end_ns, end_ns}],
///              each after its descendants; from nap_end_ns to end_ns it waits for
///              its children, in turn
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct ForkTree {
    /// Generations below the first process.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(..=12))]
    depth: u32,
    /// Children of each process above the last generation.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(..=1000))]
    fanout: u32,
    /// How long each process naps.
    #[arg(long, default_value_t = 20)]
    millis: u64,
}

#[derive(Serialize, Deserialize)]
struct Record {
    pid: i32,
    ppid: u32,
    depth: u32,
    start_ns: u64,
    nap_begin_ns: u64,
    nap_end_ns: u64,
    end_ns: u64,
}

impl ForkTree {
    pub(super) fn run(&self) -> Result<()> {
        const MOST: u64 = 10_000;
        let truth = Truth::begin("fork-tree");
        let count: u64 = (0..=self.depth)
            .map(|depth| u64::from(self.fanout).saturating_pow(depth))
            .fold(0, u64::saturating_add);
        ensure!(
            count <= MOST,
            "depth {} and fanout {} make more than {MOST} processes; choose smaller ones",
            self.depth,
            self.fanout
        );

        // All processes write to it. Only O_APPEND keeps them from writing over one
        // another: the offset they share is not locked in a memfd.
        let book = memfd_create("fork-tree", MFdFlags::MFD_CLOEXEC).context("memfd_create")?;
        fcntl(&book, FcntlArg::F_SETFL(OFlag::O_APPEND)).context("cannot append to a memfd")?;
        let book = File::from(book);
        self.grow(0, &book)?;

        let length = book.metadata().context("cannot stat a memfd")?.len();
        let mut lines = vec![0; usize::try_from(length)?];
        book.read_exact_at(&mut lines, 0)
            .context("cannot read a memfd")?;
        let processes = serde_json::Deserializer::from_slice(&lines)
            .into_iter()
            .collect::<Result<Vec<Record>, _>>()
            .context("a process left a broken record")?;
        ensure!(
            processes.len() as u64 == count,
            "{} of {count} processes left a record",
            processes.len()
        );
        truth.print(json!({"count": count, "processes": processes}))
    }

    fn grow(&self, depth: u32, book: &File) -> Result<()> {
        let start_ns = now_ns();
        let mut children = Vec::new();
        if depth < self.depth {
            for _ in 0..self.fanout {
                children.push(fork_child(|| self.grow(depth + 1, book))?);
            }
        }
        let nap_begin_ns = now_ns();
        nap(Duration::from_millis(self.millis))?;
        let nap_end_ns = now_ns();
        children.into_iter().try_for_each(reap)?;
        let record = serde_json::to_vec(&Record {
            pid: pid(),
            ppid: parent_id(),
            depth,
            start_ns,
            nap_begin_ns,
            nap_end_ns,
            end_ns: now_ns(),
        })?;
        let mut book = book;
        book.write_all(&record).context("cannot write to a memfd")
    }
}

/// Threads that live for microseconds
///
/// The main thread creates and joins them, eight at a time.
///
/// Truth:
///   count    of threads, beside the main thread
///   batches  in which they came
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct ShortThreads {
    /// How many threads.
    #[arg(long, default_value_t = 500)]
    count: usize,
}

impl ShortThreads {
    pub(super) fn run(&self) -> Result<()> {
        const AT_ONCE: usize = 8;
        let truth = Truth::begin("short-threads");
        let (mut count, mut batches) = (0, 0);
        while count < self.count {
            let size = AT_ONCE.min(self.count - count);
            thread::scope(|scope| -> Result<()> {
                let batch = (0..size)
                    .map(|_| {
                        spawn(scope, "short", || {
                            step();
                            Ok(())
                        })
                    })
                    .collect::<Result<Vec<_>>>()?;
                batch.into_iter().try_for_each(join)
            })?;
            count += size;
            batches += 1;
        }
        truth.print(json!({"count": count, "batches": batches}))
    }
}

/// Processes that live for microseconds, one after the other
///
/// In turn: a fork that exits at once, and a vfork that runs this program's
/// `workload nothing`. The first process waits for each.
///
/// Truth:
///   count         of processes, beside the first
///   forked_pids   those that only forked
///   spawned_pids  those that ran another program
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct ShortProcesses {
    /// How many processes.
    #[arg(long, default_value_t = 200)]
    count: u32,
}

impl ShortProcesses {
    pub(super) fn run(&self) -> Result<()> {
        let truth = Truth::begin("short-processes");
        let (mut forked, mut spawned) = (Vec::new(), Vec::new());
        for i in 0..self.count {
            if i % 2 == 0 {
                let child = fork_child(|| Ok(()))?;
                reap(child)?;
                forked.push(child.as_raw());
            } else {
                // std makes this a posix_spawn, which is a vfork.
                let mut child = Command::new(SELF)
                    .args(["workload", "nothing"])
                    .stdin(Stdio::null())
                    .spawn()
                    .with_context(|| format!("cannot run {SELF}"))?;
                spawned.push(child.id());
                let status = child.wait().context("cannot wait for a process")?;
                ensure!(status.success(), "`workload nothing` failed: {status}");
            }
        }
        truth.print(json!({
            "count": self.count,
            "forked_pids": forked,
            "spawned_pids": spawned,
        }))
    }
}

/// Processes that have the same pid, one right after the other
///
/// The pid is chosen with clone3's set_tid, for which one must be root. Use `i`
/// naps for 5 + 4i ms, so that no two can be taken for one another.
///
/// Truth:
///   tid         that all of them have
///   uses        [{nap_ns, created_ns, nap_begin_ns, nap_end_ns, reaped_ns, gap_ns}]:
///               nap_ns was asked for; gap_ns is from the reaping of the use before
///               until this one was created (null for the first)
///   taken       how often somebody else had the pid and we tried again
///   max_gap_ns  the longest gap (null when there is none)
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct TidReuse {
    /// How many processes.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    count: u32,
}

impl TidReuse {
    pub(super) fn run(&self) -> Result<()> {
        const TRIES: u32 = 1000;
        let truth = Truth::begin("tid-reuse");
        let nap_times = Shared::new(2)?;
        let times = nap_times.words();
        let nap_for = |time: Duration| -> Result<()> {
            times[0].store(now_ns(), SeqCst);
            nap(time)?;
            times[1].store(now_ns(), SeqCst);
            Ok(())
        };

        let mut uses: Vec<Value> = Vec::new();
        let mut max_gap: Option<u64> = None;
        let mut taken = 0;
        let mut before: Option<(Pid, u64)> = None;
        for i in 0..u64::from(self.count) {
            let time = Duration::from_millis(5 + 4 * i);
            let pid = match before {
                None => fork_child(|| nap_for(time))?,
                Some((pid, _)) => {
                    while !clone_with_pid(pid, || nap_for(time))? {
                        taken += 1;
                        if taken > TRIES {
                            bail!("somebody else has pid {pid}; run it again");
                        }
                        nap(Duration::from_micros(10))?;
                    }
                    pid
                }
            };
            let created_ns = now_ns();
            reap(pid)?;
            let reaped_ns = now_ns();
            let gap = before.map(|(_, reaped_before)| created_ns - reaped_before);
            max_gap = max_gap.max(gap);
            uses.push(json!({
                "nap_ns": time.as_nanos() as u64,
                "created_ns": created_ns,
                "nap_begin_ns": times[0].load(SeqCst),
                "nap_end_ns": times[1].load(SeqCst),
                "reaped_ns": reaped_ns,
                "gap_ns": gap,
            }));
            before = Some((pid, reaped_ns));
        }
        truth.print(json!({
            "tid": before.map(|(pid, _)| pid.as_raw()),
            "uses": uses,
            "taken": taken,
            "max_gap_ns": max_gap,
        }))
    }
}

/// A daemon that outlives the process that started it
///
/// The first process forks a second one and exits at once. The second one becomes a
/// session's leader, forks the daemon, and exits. The daemon naps and prints this
/// line, of which `pid` is the daemon's own.
///
/// Truth:
///   first_pid, middle_pid          the others
///   first_exit_ns, middle_exit_ns  when they were about to exit
///   nap_begin_ns, nap_end_ns       of the daemon's nap
///   ppid                           the daemon's parent after the nap: whoever
///                                  adopted it
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct Daemon {
    /// How long the daemon naps.
    #[arg(long, default_value_t = 300)]
    millis: u64,
}

impl Daemon {
    pub(super) fn run(&self) -> Result<()> {
        let truth = Truth::begin("daemon");
        let first_pid = pid();
        let shared = Shared::new(2)?;
        let [first_exit, middle_exit]: &[AtomicU64; 2] = shared.words().try_into()?;
        let daemon = |middle_pid: i32| -> Result<()> {
            let nap_begin_ns = now_ns();
            nap(Duration::from_millis(self.millis))?;
            let nap_end_ns = now_ns();
            truth.print(json!({
                "first_pid": first_pid,
                "middle_pid": middle_pid,
                "first_exit_ns": first_exit.load(SeqCst),
                "middle_exit_ns": middle_exit.load(SeqCst),
                "nap_begin_ns": nap_begin_ns,
                "nap_end_ns": nap_end_ns,
                "ppid": parent_id(),
            }))
        };
        fork_child(|| {
            setsid().context("setsid failed")?;
            let middle_pid = pid();
            fork_child(|| daemon(middle_pid))?;
            middle_exit.store(now_ns(), SeqCst);
            Ok(())
        })?;
        first_exit.store(now_ns(), SeqCst);
        Ok(())
    }
}
