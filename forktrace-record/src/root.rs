//! The first process of the workload.

use std::process::Child;

use anyhow::{Context as _, Result};
use nix::unistd::{Pid, getpgid, getpgrp};
use rustix::{
    io::Errno,
    process::{WaitId, WaitIdOptions, WaitIdStatus, WaitOptions, waitid, waitpid},
};

/// The first process of the workload.
#[derive(Debug)]
pub struct Root {
    pid: Pid,
    ended: bool,
    status: Option<WaitIdStatus>,
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

    /// Whether it has ended, as far as [`Self::look`] knows.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// Its exit status and the signal that ended it, whichever there is.
    pub fn outcome(&self) -> (Option<i32>, Option<i32>) {
        let status = self.status.as_ref();
        (
            status.and_then(WaitIdStatus::exit_status),
            status.and_then(WaitIdStatus::terminating_signal),
        )
    }

    /// Notes its end, if it has come. Its entry among the processes stays until this is
    /// dropped: to take it away, the kernel waits for whoever just reads its `/proc`, and
    /// does so without a pause. While the recorder is a real-time task, a helper would not
    /// get that CPU back, nor would the workload, for nearly a second.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn look(&mut self) -> Result<()> {
        let pid = rustix::process::Pid::from_raw(self.pid.as_raw());
        let (false, Some(pid)) = (self.ended, pid) else {
            return Ok(());
        };
        let ended = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        match waitid(WaitId::Pid(pid), ended) {
            Ok(None) => {}
            Ok(Some(status)) => {
                self.ended = true;
                self.status = Some(status);
            }
            Err(Errno::INTR) => {}
            // Somebody else has taken its status.
            Err(Errno::CHILD) => self.ended = true,
            Err(error) => return Err(error).context("waitid"),
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

impl Drop for Root {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_raw(self.pid.as_raw());
        // One that lives stays, and so does what somebody else has taken.
        let _ = waitpid(pid, WaitOptions::NOHANG);
    }
}
