//! The kernel calls that the workloads are made of, where neither std nor nix has a
//! safe wrapper that makes exactly the system call wanted.
#![allow(
    unsafe_code,
    reason = "the workloads are about particular system calls: raw clone3, userfaultfd, \
              shared memory and the poll family as the kernel names it"
)]

mod locks;
mod memory;
pub(super) mod net;
mod polls;
mod process;

use std::ffi::{CString, c_long};
use std::io::{self, Write};
use std::mem::size_of;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::null_mut;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use nix::sys::prctl::{set_name, set_pdeathsig};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{SigHandler, Signal};
use nix::sys::time::TimeSpec;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::time::{ClockId, ClockNanosleepFlags, clock_gettime, clock_nanosleep};
use nix::unistd::{ForkResult, Pid, fork};

pub(super) use locks::{Among, Lock, Semaphore};
use memory::Mapping;
pub(super) use memory::{FileWord, Pages, Shared, UserFaults, page_size, touch_a_huge_page};
pub(super) use polls::{
    EPOLL_MAX_EVENTS, PLAIN_POLL, epoll_pwait, epoll_pwait2, epoll_wait, fd_set, plain_poll, poll,
    poll_without_timeout, ppoll, pselect6, pselect6_sets, select,
};
pub(super) use process::{
    fork_and_exit, membarrier, shortest_backlog, trace_thread, vfork_and_nap,
};

// ---- Clocks and identities ----

/// CLOCK_MONOTONIC in nanoseconds.
pub(super) fn now_ns() -> u64 {
    read_clock(ClockId::CLOCK_MONOTONIC)
}

/// The CPU time this thread has used, in nanoseconds.
pub(super) fn cpu_ns() -> u64 {
    read_clock(ClockId::CLOCK_THREAD_CPUTIME_ID)
}

fn read_clock(clock: ClockId) -> u64 {
    // These two clocks exist on every Linux, and reading them cannot fail.
    clock_gettime(clock).map_or(0, |now| Duration::from(now).as_nanos() as u64)
}

/// This thread's id, as the tracer's report names it.
pub(super) fn tid() -> i32 {
    nix::unistd::gettid().as_raw()
}

/// This process's id.
pub(super) fn pid() -> i32 {
    nix::unistd::getpid().as_raw()
}

/// How often this thread has left its CPU because it had to wait.
pub(super) fn voluntary_switches() -> Result<u64> {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).context("getrusage failed")?;
    Ok(usage.voluntary_context_switches() as u64)
}

/// Lets others run; neither blocks nor counts as a voluntary switch.
pub(super) fn yield_now() {
    std::thread::yield_now();
}

// ---- What several files need ----

fn checked(result: c_long) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

fn timespec(time: Duration) -> libc::timespec {
    *TimeSpec::from(time).as_ref()
}

// ---- Sleeping ----

/// Sleeps in a relative `clock_nanosleep`.
///
/// Not `thread::sleep`, which sleeps until an absolute time: a stop interrupts
/// that one without making a `restart_syscall` of it.
pub(super) fn nap(time: Duration) -> Result<()> {
    clock_nanosleep(
        ClockId::CLOCK_MONOTONIC,
        ClockNanosleepFlags::empty(),
        &TimeSpec::from(time),
    )
    .context("clock_nanosleep failed")?;
    Ok(())
}

/// Sleeps in `rt_sigtimedwait` for no signal at all, so only time ends it.
pub(super) fn wait_for_no_signal(time: Duration) -> Result<()> {
    let none = nix::sys::signal::SigSet::empty();
    let time = TimeSpec::from(time);
    // SAFETY: both pointers are to live values; the kernel writes nothing when
    // the second argument is null.
    let signal = unsafe { libc::sigtimedwait(none.as_ref(), null_mut(), time.as_ref()) };
    let error = io::Error::last_os_error();
    match (signal, error.raw_os_error()) {
        (-1, Some(libc::EAGAIN)) => Ok(()),
        (-1, _) => Err(error).context("rt_sigtimedwait failed"),
        (signal, _) => bail!("rt_sigtimedwait returned signal {signal}, but waited for none"),
    }
}

/// Sleeps until a time of a clock.
pub(super) fn sleep_until(clock: ClockId, deadline: Duration) -> Result<()> {
    clock_nanosleep(
        clock,
        ClockNanosleepFlags::TIMER_ABSTIME,
        &TimeSpec::from(deadline),
    )
    .context("clock_nanosleep failed")?;
    Ok(())
}

/// Waits for a lock with priority inheritance that the thread with this tid holds and
/// keeps, until a time of the wall clock.
pub(super) fn wait_for_lock_pi(holder: i32, deadline: Duration) -> Result<()> {
    let lock = AtomicU32::new(holder as u32);
    let deadline = timespec(deadline);
    // SAFETY: the lock and the time outlive the call.
    let result = checked(unsafe {
        libc::syscall(
            libc::SYS_futex,
            lock.as_ptr(),
            libc::FUTEX_LOCK_PI | libc::FUTEX_PRIVATE_FLAG,
            0,
            &raw const deadline,
        )
    });
    match result {
        Err(error) if error.raw_os_error() == Some(libc::ETIMEDOUT) => Ok(()),
        other => bail!("FUTEX_LOCK_PI gave {other:?} and not a timeout"),
    }
}

// ---- Descriptors ----

/// A duplicate of `fd` with the first free number from `lowest` on.
pub(super) fn duplicate_above(fd: BorrowedFd<'_>, lowest: RawFd) -> Result<OwnedFd> {
    let number = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(lowest)).with_context(|| {
        format!("cannot have an fd from {lowest} on; does `ulimit -n` allow it?")
    })?;
    // SAFETY: the kernel has just given it to us, and to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// A duplicate of the descriptor with this number, which whoever started us left open.
pub(super) fn inherited(number: RawFd) -> Result<OwnedFd> {
    // SAFETY: a plain number to the kernel, which refuses one that is not open; what
    // it refers to is not ours to close, so only the duplicate is kept.
    let duplicate = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) };
    if duplicate < 0 {
        return Err(io::Error::last_os_error())
            .with_context(|| format!("descriptor {number} is not open"));
    }
    // SAFETY: the kernel has just given it to us, and to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(duplicate) })
}

// ---- Processes ----

/// Forks a child that runs `body` and then exits: with 0, or with 1 after printing
/// the error on stderr.
///
/// To be called while the process has one thread only.
pub(super) fn fork_child(body: impl FnOnce() -> Result<()>) -> Result<Pid> {
    // SAFETY: the process has one thread, so no lock is held by a thread that the
    // child would lack, and the child may do anything.
    match unsafe { fork() }.context("cannot fork")? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => run_child(body),
    }
}

/// Like [`fork_child`], but returns only when the child has ended, as after `vfork`.
/// It does not share our memory, so it may do anything. It is not reaped.
pub(super) fn fork_child_and_wait_until_it_is_gone(
    body: impl FnOnce() -> Result<()>,
) -> Result<Pid> {
    // SAFETY: a struct of integers, for which all zeros means "none of that".
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = libc::CLONE_VFORK as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    // SAFETY: the arguments outlive the call. Without CLONE_VM and without a stack
    // this is a fork, and the process has one thread.
    let result = checked(unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw const args,
            size_of::<libc::clone_args>(),
        )
    });
    match result.context("clone3 was refused")? {
        0 => run_child(body),
        child => Ok(Pid::from_raw(child as i32)),
    }
}

fn run_child(body: impl FnOnce() -> Result<()>) -> ! {
    // A panic must not unwind into the copy of the parent's frames.
    let code = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => 0,
        Ok(Err(error)) => {
            // When stderr is gone, the exit code still tells.
            let _ = writeln!(io::stderr(), "workload process {}: {error:#}", pid());
            1
        }
        Err(_) => 101,
    };
    // SAFETY: ends the process at once, without the parent's exit handlers.
    unsafe { libc::_exit(code) }
}

/// The same for a child with a name of its own, which is killed when its parent dies.
pub(super) fn fork_named(name: &str, body: impl FnOnce() -> Result<()>) -> Result<Pid> {
    fork_child(|| {
        set_pdeathsig(Signal::SIGKILL).context("cannot ask for a signal")?;
        set_name(&CString::new(name)?).context("cannot name a process")?;
        body()
    })
}

/// Waits for a child of ours, which must end with exit code 0.
pub(super) fn reap(child: Pid) -> Result<()> {
    match waitpid(child, None).with_context(|| format!("cannot wait for process {child}"))? {
        WaitStatus::Exited(_, 0) => Ok(()),
        other => bail!("a process of the workload failed: {other:?}"),
    }
}

/// Whether a child of ours has ended that nobody has waited for yet.
pub(super) fn a_child_ended() -> Result<bool> {
    let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    let status = waitid(Id::All, look).context("cannot look at our children")?;
    Ok(!matches!(status, WaitStatus::StillAlive))
}

/// Like [`fork_child`], for a child whose pid is `wanted`; true when it was started,
/// false when that pid is taken.
///
/// The C library does not know of such a child, so `body` should do no more than
/// sleep and write to shared memory.
pub(super) fn clone_with_pid(wanted: Pid, body: impl FnOnce() -> Result<()>) -> Result<bool> {
    let pids = [wanted.as_raw()];
    // SAFETY: a struct of integers, for which all zeros means "none of that".
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.exit_signal = libc::SIGCHLD as u64;
    args.set_tid = pids.as_ptr() as u64;
    args.set_tid_size = pids.len() as u64;
    // SAFETY: the arguments outlive the call. Without CLONE_VM and without a stack
    // this is a fork, and the process has one thread.
    let result = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw const args,
            size_of::<libc::clone_args>(),
        )
    };
    if result == 0 {
        run_child(body);
    }
    if result > 0 {
        return Ok(true);
    }
    let error = io::Error::last_os_error();
    let why = match error.raw_os_error() {
        Some(libc::EEXIST) => return Ok(false),
        Some(libc::EPERM) => {
            "choosing a pid needs CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN; run it as root"
        }
        Some(libc::ENOSYS) => "the kernel has no clone3, or a sandbox hides it",
        Some(libc::E2BIG | libc::EINVAL) => "choosing a pid needs Linux 5.5 or newer",
        _ => "unexpected",
    };
    Err(error).with_context(|| format!("clone3 with set_tid {wanted} was refused: {why}"))
}

/// Puts a signal's default action back in place of Rust's or a parent's.
pub(super) fn default_action(signal: Signal) -> Result<()> {
    // SAFETY: the default action runs no code of ours.
    unsafe { nix::sys::signal::signal(signal, SigHandler::SigDfl) }
        .with_context(|| format!("cannot reset {signal}"))?;
    Ok(())
}
