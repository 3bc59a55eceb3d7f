//! Lets the kernel take its time.

use std::{
    fs::{self, File},
    os::{fd::AsFd as _, unix::fs::MetadataExt as _},
};

use anyhow::{Context as _, Result};
use nix::unistd::{ForkResult, dup2_stderr, dup2_stdin, dup2_stdout, fork, setsid};

/// Drops something that only holds descriptors, in a process of its own, so that
/// nobody waits for it.
///
/// The kernel takes up to 70 ms to let go of each syscall tracepoint, a second in
/// all. A forked process holds them a second longer than we do, with nothing
/// else of ours: no terminal, no streams.
///
/// In a pid namespace we wait ourselves. Its first process may end with us, and until
/// Linux 6.9 the kernel locks up for good when such a process waits for one that lets go
/// of an fentry program (`zap_pid_ns_processes` and `synchronize_rcu_tasks`).
///
/// # Errors
/// When no process can be made.
pub fn drop_in_background<T>(value: T) -> Result<()> {
    if in_pid_namespace() {
        drop(value);
        return Ok(());
    }
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

/// Are we in another pid namespace than the machine's?
fn in_pid_namespace() -> bool {
    /// `PROC_PID_INIT_INO`, the same in all kernels.
    const OF_THE_MACHINE: u64 = 0xEFFF_FFFC;
    let own = fs::metadata("/proc/self/ns/pid");
    own.map_or(true, |own| own.ino() != OF_THE_MACHINE)
}
