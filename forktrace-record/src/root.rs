//! The first process of the workload.

use std::process::Child;

use anyhow::{Context as _, Result};
use nix::unistd::{Pid, getpgid, getpgrp};
use rustix::{
    io::Errno,
    process::{WaitOptions, WaitStatus, waitpid},
};

/// The first process of the workload.
#[derive(Debug)]
pub struct Root {
    pid: Pid,
    ended: bool,
    status: Option<WaitStatus>,
}

impl Root {
    /// One that was just started.
    pub fn new(child: &Child) -> Self {
        Self {
            pid: Pid::from_raw(child.id() as i32),
            ended: false,
            status: None,
        }
    }

    /// Whether it has ended, as far as [`Self::reap`] knows.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// Its exit status and the signal that ended it, whichever there is.
    pub fn outcome(&self) -> (Option<i32>, Option<i32>) {
        let status = self.status;
        (
            status.and_then(WaitStatus::exit_status),
            status.and_then(WaitStatus::terminating_signal),
        )
    }

    /// Notes its end, if it has come.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn reap(&mut self) -> Result<()> {
        if self.ended {
            return Ok(());
        }
        let pid = rustix::process::Pid::from_raw(self.pid.as_raw());
        match waitpid(pid, WaitOptions::NOHANG) {
            Ok(None) => {}
            Ok(Some((_, status))) => {
                self.ended = status.exited() || status.signaled();
                self.status = self.ended.then_some(status);
            }
            Err(Errno::INTR) => {}
            // Somebody else has taken its status.
            Err(Errno::CHILD) => self.ended = true,
            Err(error) => return Err(error).context("waitpid"),
        }
        Ok(())
    }

    /// Whether a signal to our process group reaches it.
    pub fn is_in_our_group(&self) -> bool {
        !self.ended && getpgid(Some(self.pid)) == Ok(getpgrp())
    }

    /// Sends it a signal. One that it may not get, because it has become another
    /// user's, is lost, as it would be without us.
    ///
    /// # Errors
    /// When the kernel refuses for another reason.
    pub fn send(&self, number: i32) -> Result<()> {
        let pid = rustix::process::Pid::from_raw(self.pid.as_raw());
        let signal = rustix::process::Signal::from_named_raw(number);
        let (false, Some(pid), Some(signal)) = (self.ended, pid, signal) else {
            return Ok(());
        };
        match rustix::process::kill_process(pid, signal) {
            Ok(()) | Err(Errno::SRCH | Errno::PERM) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("signal {number} can't be passed on")),
        }
    }
}
