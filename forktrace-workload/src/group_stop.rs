//! A process with many sleeping threads is stopped.

use std::fs::File;
use std::io::Read;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::pipe;
use serde_json::json;

use super::crew::die_with_parent;
use super::sys::{Shared, a_child_ended, fork_child, nap, now_ns, tid};
use super::task::{asleep, spawn};
use super::truth::Truth;

/// A child with many threads asleep is stopped by SIGSTOP, again and again
///
/// All its threads are blocked in a read from a silent pipe, the main thread among
/// them. Each stop lasts until the kernel has reported it and --millis more; the next
/// one comes when all threads sleep again. At the end the child is killed.
///
/// Truth:
///   child_pid, threads
///   stops     [{stop_ns, stopped_ns, cont_ns}]: when SIGSTOP was about to be sent, when
///             the kernel had reported the stop (a moment before the last thread leaves
///             its CPU), when SIGCONT was about to be sent
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct GroupStop {
    /// How many threads the child has.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    threads: u32,
    /// How often it is stopped.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// How long it stays stopped.
    #[arg(long, default_value_t = 2)]
    millis: u64,
}

impl GroupStop {
    pub(super) fn run(&self) -> Result<()> {
        let truth = Truth::begin("group-stop");
        let count = self.threads as usize;
        let words = Shared::new(count)?;
        let tids = words.words();
        let (silent, writer) = pipe().context("cannot make a pipe")?;
        let silent = File::from(silent);
        let child = fork_child(|| {
            die_with_parent()?;
            let wait = |i: usize| -> Result<()> {
                tids[i].store(tid() as u64, SeqCst);
                (&silent)
                    .read(&mut [0])
                    .context("cannot read from a pipe")?;
                Ok(())
            };
            thread::scope(|scope| {
                for i in 1..count {
                    spawn(scope, "blocked", move || wait(i))?;
                }
                wait(0)
            })
        })?;

        let outcome = (|| {
            let mut stops = Vec::new();
            for _ in 0..self.rounds {
                for word in tids {
                    while word.load(SeqCst) == 0 || !asleep(word.load(SeqCst))? {
                        ensure!(!a_child_ended()?, "the child ended");
                        nap(Duration::from_micros(100))?;
                    }
                }
                let stop_ns = now_ns();
                kill(child, Signal::SIGSTOP).context("cannot stop the child")?;
                let status = waitpid(child, Some(WaitPidFlag::WUNTRACED));
                ensure!(
                    matches!(status, Ok(WaitStatus::Stopped(..))),
                    "the child should have stopped, but: {status:?}"
                );
                let stopped_ns = now_ns();
                nap(Duration::from_millis(self.millis))?;
                let cont_ns = now_ns();
                kill(child, Signal::SIGCONT).context("cannot continue the child")?;
                stops.push(json!({
                    "stop_ns": stop_ns,
                    "stopped_ns": stopped_ns,
                    "cont_ns": cont_ns,
                }));
            }
            Ok(stops)
        })();
        kill(child, Signal::SIGKILL).context("cannot kill the child")?;
        waitpid(child, None).context("cannot wait for the child")?;
        drop(writer);
        truth.print(json!({
            "child_pid": child.as_raw(),
            "threads": count,
            "stops": outcome?,
        }))
    }
}
