//! Tasks that are threads or processes, as an option says.

use std::io::Write;
use std::thread;

use anyhow::{Context, Result};
use nix::sys::prctl::{set_name, set_pdeathsig};
use nix::sys::signal::{Signal, kill};
use nix::unistd::getppid;

use super::sys::{Among, fork_child, pid, reap};
use super::task::{join, spawn};

/// Runs `body` with 0, 1, … in as many tasks as there are names, and `meanwhile` in
/// this one once all are started; waits for all of them.
///
/// To be called while the process has one thread. Who fails ends the whole workload:
/// the others may wait for it.
pub(super) fn run_crew<T>(
    among: Among,
    names: &[String],
    body: impl Fn(usize) -> Result<()> + Sync,
    meanwhile: impl FnOnce() -> Result<T>,
) -> Result<T> {
    match among {
        Among::Threads => thread::scope(|scope| {
            let mut crew = Vec::new();
            for (i, name) in names.iter().enumerate() {
                let body = &body;
                crew.push(spawn(scope, name, move || or_end_all(body(i))).or_else(end_all)?);
            }
            let result = meanwhile().or_else(end_all);
            crew.into_iter().try_for_each(join)?;
            result
        }),
        Among::Processes => {
            let mut crew = Vec::new();
            for (i, name) in names.iter().enumerate() {
                crew.push(
                    fork_child(|| {
                        die_with_parent()?;
                        call_me(name)?;
                        body(i).inspect_err(|_| {
                            // It ends, and its other children with it.
                            let _ = kill(getppid(), Signal::SIGTERM);
                        })
                    })
                    .or_else(end_all)?,
                );
            }
            let result = meanwhile().or_else(end_all);
            crew.into_iter().try_for_each(reap)?;
            result
        }
    }
}

/// `name` with the numbers from 0 on.
pub(super) fn numbered(name: &str, count: usize) -> Vec<String> {
    (0..count).map(|i| format!("{name}-{i}")).collect()
}

/// Gives the calling task a name, as reports show it.
pub(super) fn call_me(name: &str) -> Result<()> {
    let name = std::ffi::CString::new(name)?;
    set_name(&name).context("cannot set a task's name")
}

/// Ends this process when the one that forked it ends.
pub(super) fn die_with_parent() -> Result<()> {
    set_pdeathsig(Signal::SIGKILL).context("cannot ask to end with the parent")
}

fn or_end_all<T>(result: Result<T>) -> Result<T> {
    result.or_else(end_all)
}

/// Ends the process with all its threads, and its children, which die with it.
fn end_all<T>(error: anyhow::Error) -> Result<T> {
    // When stderr is gone, the exit code still tells.
    let _ = writeln!(std::io::stderr(), "workload process {}: {error:#}", pid());
    std::process::exit(1)
}
