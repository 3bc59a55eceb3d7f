//! Operations on whole processes, as the kernel names them.

use std::ffi::{c_int, c_void};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::null_mut;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::libc;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

use super::{Mapping, checked, timespec};

/// Forks a child that ends at once.
pub(crate) fn fork_and_exit() -> Result<Pid> {
    // SAFETY: the child makes one system call and no use of anything of ours.
    match unsafe { fork() }.context("cannot fork")? {
        ForkResult::Parent { child } => Ok(child),
        // SAFETY: ends the child without the parent's exit handlers.
        ForkResult::Child => unsafe { libc::_exit(0) },
    }
}

const STACK_BYTES: usize = 64 * 1024;

/// What vfork does: the child has our memory and we wait until it has ended, here
/// after a sleep.
pub(crate) fn vfork_and_nap(time: Duration) -> Result<Pid> {
    extern "C" fn child(time: *mut c_void) -> c_int {
        // SAFETY: it was made from a timespec that lives until we have ended.
        unsafe { libc::nanosleep(time.cast_const().cast(), null_mut()) }
    }
    let stack = Mapping::new(STACK_BYTES, libc::MAP_PRIVATE)?;
    let mut time = timespec(time);
    // SAFETY: the child runs on a stack of its own, which outlives it as the time does,
    // because CLONE_VFORK makes us wait for its end; it makes one system call.
    let pid = unsafe {
        libc::clone(
            child,
            stack.start.add(STACK_BYTES).cast(),
            libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD,
            (&raw mut time).cast(),
        )
    };
    checked(pid.into()).context("clone with CLONE_VFORK failed")?;
    Ok(Pid::from_raw(pid))
}

/// Makes all threads of this process pass a memory barrier, `rounds` times.
pub(crate) fn membarrier(rounds: u32) -> Result<()> {
    let make = |command: c_int| -> Result<()> {
        // SAFETY: integers only.
        checked(unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) })
            .context("membarrier failed")?;
        Ok(())
    };
    make(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED)?;
    (0..rounds).try_for_each(|_| make(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED))
}

/// Stops one thread of another process as its tracer, runs `during`, and lets it go.
pub(crate) fn trace_thread(tid: Pid, during: impl FnOnce() -> Result<()>) -> Result<()> {
    let request = |request: libc::c_uint, what: &str| -> Result<()> {
        let none = null_mut::<c_void>();
        // SAFETY: these requests take no address.
        checked(unsafe { libc::ptrace(request, tid.as_raw(), none, none) })
            .with_context(|| format!("{what} of thread {tid} failed"))?;
        Ok(())
    };
    request(libc::PTRACE_SEIZE, "PTRACE_SEIZE")?;
    request(libc::PTRACE_INTERRUPT, "PTRACE_INTERRUPT")?;
    let status = waitpid(tid, Some(WaitPidFlag::__WALL)).context("cannot wait for a tracee")?;
    ensure!(
        matches!(
            status,
            WaitStatus::Stopped(..) | WaitStatus::PtraceEvent(..)
        ),
        "the tracee should have stopped, but: {status:?}"
    );
    let outcome = during();
    request(libc::PTRACE_DETACH, "PTRACE_DETACH")?;
    outcome
}

/// Lets a listening socket have one connection only that nobody has accepted.
pub(crate) fn shortest_backlog(listener: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: integers only, and the descriptor is open.
    checked(unsafe { libc::listen(listener.as_raw_fd(), 0) }.into())?;
    Ok(())
}
