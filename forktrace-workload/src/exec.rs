//! Programs that run another one in their place.

use std::ffi::CString;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use nix::unistd::execv;
use serde_json::json;

use super::sys::{nap, now_ns, pid, tid};
use super::task::{Announcement, join, spawn};
use super::truth::Truth;

/// This program, for another run of it.
pub(super) const SELF: &str = "/proc/self/exe";

/// Returns at once and prints nothing
#[derive(Debug, Args)]
pub struct Nothing {}

impl Nothing {
    pub(super) fn run(&self) -> Result<()> {
        Ok(())
    }
}

/// Sleeps once
///
/// Truth:
///   tid, begin_ns, end_ns  of the sleep, in clock_nanosleep
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct Nap {
    /// How long it sleeps.
    #[arg(long, default_value_t = 100)]
    millis: u64,
}

impl Nap {
    pub(super) fn run(&self) -> Result<()> {
        let truth = Truth::begin("nap");
        let begin_ns = now_ns();
        nap(Duration::from_millis(self.millis))?;
        let end_ns = now_ns();
        truth.print(json!({"tid": tid(), "begin_ns": begin_ns, "end_ns": end_ns}))
    }
}

/// A thread that is not the leader runs `nap` in the process's place
///
/// The leader is blocked in futex (it joins the thread) and two other threads are
/// asleep when the exec kills them. The thread takes over the leader's tid, so `nap`
/// runs as tid = pid. Two lines are printed: this one before the exec, and nap's.
///
/// Truth:
///   tid        of the thread that execs
///   other_tids the leader's and the two sleeping threads'
///   exec_ns    when it is about to exec; all are asleep by then
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct ExecNonLeader {
    /// How long the new program naps.
    #[arg(long, default_value_t = 100)]
    millis: u64,
}

impl ExecNonLeader {
    pub(super) fn run(&self) -> Result<()> {
        let truth = Truth::begin("exec-non-leader");
        let argv = ["forktrace", "workload", "nap", "--millis"]
            .map(String::from)
            .into_iter()
            .chain([self.millis.to_string()])
            .map(CString::new)
            .collect::<Result<Vec<_>, _>>()?;
        let program = CString::new(SELF)?;
        let leader = Announcement::default();
        let sleepers = [Announcement::default(), Announcement::default()];
        let never = || false;

        thread::scope(|scope| -> Result<()> {
            for (i, sleeper) in sleepers.iter().enumerate() {
                spawn(scope, format!("sleeper-{i}"), move || {
                    sleeper.about_to_block()?;
                    nap(Duration::from_secs(10))
                })?;
            }
            let execs = spawn(scope, "execs", || -> Result<()> {
                let mut other_tids = vec![leader.until_asleep(1, never)?];
                for sleeper in &sleepers {
                    other_tids.push(sleeper.until_asleep(1, never)?);
                }
                truth.print(json!({
                    "tid": tid(),
                    "other_tids": other_tids,
                    "exec_ns": now_ns(),
                }))?;
                let Err(error) = execv(&program, &argv);
                bail!("cannot run {SELF} in place of process {}: {error}", pid());
            })?;
            leader.about_to_block()?;
            join(execs)
        })
        .context("the exec did not happen")
    }
}
