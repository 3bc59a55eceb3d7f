//! Lets the kernel take its time.

use std::{fs::File, os::fd::AsFd as _};

use anyhow::{Context as _, Result};
use nix::unistd::{ForkResult, dup2_stderr, dup2_stdin, dup2_stdout, fork, setsid};

/// Drops something that only holds descriptors, in a process of its own, so that
/// nobody waits for it.
///
/// The kernel takes up to 70 ms to let go of each syscall tracepoint, a second in
/// all. A forked process holds them a second longer than we do, with nothing
/// else of ours: no terminal, no streams.
///
/// # Errors
/// When no process can be made.
pub fn drop_in_background<T>(value: T) -> Result<()> {
    // SAFETY: this process has one thread, so the child finds no lock held.
    #[expect(unsafe_code, reason = "fork is unsafe in programs with threads")]
    let forked = unsafe { fork() };
    match forked.context("no process for cleaning up")? {
        ForkResult::Parent { .. } => {
            // Our copies of the descriptors are not the last: this is quick.
            drop(value);
            Ok(())
        }
        ForkResult::Child => {
            let _ = setsid();
            if let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
                let _ = dup2_stdin(null.as_fd());
                let _ = dup2_stdout(null.as_fd());
                let _ = dup2_stderr(null.as_fd());
            }
            drop(value);
            std::process::exit(0)
        }
    }
}
