//! The kernel calls that the workloads are made of, where neither std nor nix has a
//! safe wrapper that makes exactly the system call wanted.
#![allow(
    unsafe_code,
    reason = "the workloads are about particular system calls: raw clone3, userfaultfd, \
              shared memory and the poll family as the kernel names it"
)]

mod locks;
pub(super) mod net;
mod process;

use std::cell::UnsafeCell;
use std::ffi::{CString, c_long};
use std::fs::File;
use std::io::{self, Read, Write};
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
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

// ---- The select/poll family, by the kernel's names ----
//
// glibc turns select() into pselect6, and so on; these make the very call.

fn checked(result: c_long) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

fn millis(time: Duration) -> i32 {
    i32::try_from(time.as_millis()).unwrap_or(i32::MAX)
}

fn timespec(time: Duration) -> libc::timespec {
    *TimeSpec::from(time).as_ref()
}

/// The words that a set of `fds` takes, with the bits of `fds` set, and the `n` that
/// select wants with it.
pub(super) fn fd_set(fds: &[RawFd]) -> (i32, Vec<libc::c_ulong>) {
    const BITS: usize = libc::c_ulong::BITS as usize;
    let n = fds.iter().map(|&fd| fd + 1).max().unwrap_or(0);
    let mut words = vec![0; (n as usize).div_ceil(BITS)];
    for &fd in fds {
        words[fd as usize / BITS] |= 1 << (fd as usize % BITS);
    }
    (n, words)
}

/// `select` for reading, with a timeout.
#[cfg(target_arch = "x86_64")]
pub(super) fn select(fds: &[RawFd], time: Duration) -> io::Result<usize> {
    let (n, mut words) = fd_set(fds);
    let mut time = libc::timeval {
        tv_sec: time.as_secs() as libc::time_t,
        tv_usec: libc::suseconds_t::from(time.subsec_micros()),
    };
    let none = null_mut::<libc::c_ulong>();
    // SAFETY: the set has at least `n` bits, and it and the timeout outlive the call.
    checked(unsafe {
        libc::syscall(
            libc::SYS_select,
            n,
            words.as_mut_ptr(),
            none,
            none,
            &raw mut time,
        )
    })
}

/// `pselect6` for reading, with a timeout and no signal mask.
pub(super) fn pselect6(fds: &[RawFd], time: Duration) -> io::Result<usize> {
    pselect6_sets([fds, &[], &[]], time)
}

/// `pselect6` for reading, writing and exceptions, with a timeout and no signal mask.
pub(super) fn pselect6_sets(sets: [&[RawFd]; 3], time: Duration) -> io::Result<usize> {
    let (n, _) = fd_set(&sets.concat());
    let [mut read, mut write, mut except] = sets.map(|fds| {
        let (_, mut words) = fd_set(fds);
        words.resize((n as usize).div_ceil(libc::c_ulong::BITS as usize), 0);
        words
    });
    let mut time = timespec(time);
    let none = null_mut::<libc::c_ulong>();
    // SAFETY: the sets have at least `n` bits each, and they and the timeout outlive
    // the call; a null sixth argument means no signal mask.
    checked(unsafe {
        libc::syscall(
            libc::SYS_pselect6,
            n,
            read.as_mut_ptr(),
            write.as_mut_ptr(),
            except.as_mut_ptr(),
            &raw mut time,
            none,
        )
    })
}

fn pollfds(fds: &[RawFd]) -> Vec<libc::pollfd> {
    fds.iter()
        .map(|&fd| libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        })
        .collect()
}

/// `poll` for reading, with a timeout.
#[cfg(target_arch = "x86_64")]
pub(super) fn poll(fds: &[RawFd], time: Duration) -> io::Result<usize> {
    let mut fds = pollfds(fds);
    // SAFETY: the array has as many entries as we say and outlives the call.
    checked(unsafe { libc::syscall(libc::SYS_poll, fds.as_mut_ptr(), fds.len(), millis(time)) })
}

/// `ppoll` for reading, with a timeout and no signal mask.
pub(super) fn ppoll(fds: &[RawFd], time: Duration) -> io::Result<usize> {
    let mut fds = pollfds(fds);
    let mut time = timespec(time);
    // SAFETY: the array has as many entries as we say; it and the timeout outlive
    // the call; a null fourth argument means no signal mask.
    checked(unsafe {
        libc::syscall(
            libc::SYS_ppoll,
            fds.as_mut_ptr(),
            fds.len(),
            &raw mut time,
            null::<libc::c_ulong>(),
            size_of::<u64>(),
        )
    })
}

/// [`plain_poll`] without a timeout.
pub(super) fn poll_without_timeout(fds: &[RawFd]) -> io::Result<usize> {
    let mut fds = pollfds(fds);
    let count = fds.len();
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the array has as many entries as we say and outlives the call.
    return checked(unsafe { libc::syscall(libc::SYS_poll, fds.as_mut_ptr(), count, -1) });
    #[cfg(not(target_arch = "x86_64"))]
    // SAFETY: as above; null pointers mean no timeout and no signal mask.
    return checked(unsafe {
        libc::syscall(
            libc::SYS_ppoll,
            fds.as_mut_ptr(),
            count,
            null::<libc::timespec>(),
            null::<libc::c_ulong>(),
            size_of::<u64>(),
        )
    });
}

/// The plainest poll that this machine has: `poll`, or `ppoll` where there is none.
pub(super) fn plain_poll(fds: &[RawFd], time: Duration) -> io::Result<usize> {
    #[cfg(target_arch = "x86_64")]
    return poll(fds, time);
    #[cfg(not(target_arch = "x86_64"))]
    return ppoll(fds, time);
}

/// The system call that [`plain_poll`] makes.
pub(super) const PLAIN_POLL: &str = if cfg!(target_arch = "x86_64") {
    "poll"
} else {
    "ppoll"
};

/// How many events one call of the epoll functions here may return.
pub(super) const EPOLL_MAX_EVENTS: usize = 8;

const NO_EVENTS: [libc::epoll_event; EPOLL_MAX_EVENTS] =
    [libc::epoll_event { events: 0, u64: 0 }; EPOLL_MAX_EVENTS];

/// `epoll_wait` with a timeout.
#[cfg(target_arch = "x86_64")]
pub(super) fn epoll_wait(epoll: BorrowedFd<'_>, time: Duration) -> io::Result<usize> {
    let mut events = NO_EVENTS;
    // SAFETY: the array has as many entries as we say and outlives the call.
    checked(unsafe {
        libc::syscall(
            libc::SYS_epoll_wait,
            epoll.as_raw_fd(),
            events.as_mut_ptr(),
            events.len(),
            millis(time),
        )
    })
}

/// `epoll_pwait` with a timeout and no signal mask.
pub(super) fn epoll_pwait(epoll: BorrowedFd<'_>, time: Duration) -> io::Result<usize> {
    let mut events = NO_EVENTS;
    // SAFETY: as for `epoll_wait`; a null fifth argument means no signal mask.
    checked(unsafe {
        libc::syscall(
            libc::SYS_epoll_pwait,
            epoll.as_raw_fd(),
            events.as_mut_ptr(),
            events.len(),
            millis(time),
            null::<libc::c_ulong>(),
            size_of::<u64>(),
        )
    })
}

/// `epoll_pwait2` (Linux 5.11) with a timeout and no signal mask.
pub(super) fn epoll_pwait2(epoll: BorrowedFd<'_>, time: Duration) -> io::Result<usize> {
    let mut events = NO_EVENTS;
    let time = timespec(time);
    // SAFETY: as for `epoll_pwait`, and the timeout outlives the call.
    checked(unsafe {
        libc::syscall(
            libc::SYS_epoll_pwait2,
            epoll.as_raw_fd(),
            events.as_mut_ptr(),
            events.len(),
            &raw const time,
            null::<libc::c_ulong>(),
            size_of::<u64>(),
        )
    })
}

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

// ---- POSIX mutexes ----

/// A mutex of the C library, of the default kind: unlike `std`'s it knows who has
/// it, and locking it twice waits for ever.
pub(super) struct PthreadMutex(Box<UnsafeCell<libc::pthread_mutex_t>>);

// SAFETY: a POSIX mutex is there to be used by several threads, and it stays where
// it is.
unsafe impl Send for PthreadMutex {}
// SAFETY: as above.
unsafe impl Sync for PthreadMutex {}

impl PthreadMutex {
    pub(super) fn new() -> Self {
        Self(Box::new(UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER)))
    }

    pub(super) fn lock(&self) -> Result<()> {
        // SAFETY: it is initialised and lives as long as `self`.
        match unsafe { libc::pthread_mutex_lock(self.0.get()) } {
            0 => Ok(()),
            error => Err(io::Error::from_raw_os_error(error)).context("pthread_mutex_lock failed"),
        }
    }

    pub(super) fn unlock(&self) -> Result<()> {
        // SAFETY: as above; of a mutex that this thread does not hold, the C library
        // at worst lets another one in, and no data of ours is behind it.
        match unsafe { libc::pthread_mutex_unlock(self.0.get()) } {
            0 => Ok(()),
            error => {
                Err(io::Error::from_raw_os_error(error)).context("pthread_mutex_unlock failed")
            }
        }
    }
}

// ---- Memory ----

/// A page's size on this machine.
pub(super) fn page_size() -> Result<usize> {
    use nix::unistd::{SysconfVar, sysconf};
    let size = sysconf(SysconfVar::PAGE_SIZE).context("sysconf failed")?;
    size.and_then(|size| usize::try_from(size).ok())
        .context("the system does not tell its page size")
}

/// Anonymous memory of our own, unmapped on drop.
struct Mapping {
    start: *mut u8,
    bytes: usize,
}

// SAFETY: it owns its memory, which no other value refers to, so it may change
// threads like a `Box`.
unsafe impl Send for Mapping {}
// SAFETY: it hands out references to atomics only, and raw addresses.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(bytes: usize, visibility: libc::c_int) -> Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start = unsafe {
            libc::mmap(
                null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                visibility | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error())
                .with_context(|| format!("cannot map {bytes} bytes"));
        }
        Ok(Self {
            start: start.cast(),
            bytes,
        })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and what borrowed it is gone.
        unsafe { libc::munmap(self.start.cast(), self.bytes) };
    }
}

/// Words that a process shares with the children it forks; all 0 at first.
pub(super) struct Shared {
    mapping: Mapping,
    words: usize,
}

impl Shared {
    pub(super) fn new(words: usize) -> Result<Self> {
        let bytes = words.max(1) * size_of::<AtomicU64>();
        let mapping = Mapping::new(bytes, libc::MAP_SHARED)?;
        Ok(Self { mapping, words })
    }

    pub(super) fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping has that many words, is page-aligned and zeroed, lives
        // as long as `self`, and is accessed as atomics only.
        unsafe { std::slice::from_raw_parts(self.mapping.start.cast(), self.words) }
    }
}

/// Private memory without huge pages, none of it touched yet.
pub(super) struct Pages {
    mapping: Mapping,
    page: usize,
}

impl Pages {
    pub(super) fn new(count: usize) -> Result<Self> {
        let page = page_size()?;
        let bytes = count
            .checked_mul(page)
            .with_context(|| format!("{count} pages do not fit in memory"))?;
        let mapping = Mapping::new(bytes.max(page), libc::MAP_PRIVATE)?;
        // SAFETY: advice on memory of our own. Kernels without huge pages refuse it,
        // and need it not.
        unsafe { libc::madvise(mapping.start.cast(), mapping.bytes, libc::MADV_NOHUGEPAGE) };
        Ok(Self { mapping, page })
    }

    pub(super) fn count(&self) -> usize {
        self.mapping.bytes / self.page
    }

    /// Writes to a page.
    pub(super) fn touch(&self, number: usize) {
        assert!(number < self.count());
        // SAFETY: within the mapping, of which nobody holds a reference.
        unsafe { self.mapping.start.add(number * self.page).write_volatile(1) };
    }

    /// Makes all of it read-only, and writable again.
    pub(super) fn protect_and_unprotect(&mut self) -> Result<()> {
        for protection in [libc::PROT_READ, libc::PROT_READ | libc::PROT_WRITE] {
            // SAFETY: the mapping is ours alone, and nobody touches it meanwhile.
            let result = unsafe {
                libc::mprotect(self.mapping.start.cast(), self.mapping.bytes, protection)
            };
            if result != 0 {
                return Err(io::Error::last_os_error()).context("cannot change a protection");
            }
        }
        Ok(())
    }
}

/// Maps memory with a huge page in it, where the kernel gives us one, touches that and
/// unmaps it all.
pub(super) fn touch_a_huge_page() -> Result<()> {
    const HUGE: usize = 2 << 20;
    let mapping = Mapping::new(2 * HUGE, libc::MAP_PRIVATE)?;
    // SAFETY: advice on memory of our own. Where it is refused, the page is small.
    unsafe { libc::madvise(mapping.start.cast(), mapping.bytes, libc::MADV_HUGEPAGE) };
    let to_boundary = mapping.start.align_offset(HUGE);
    ensure!(to_boundary < mapping.bytes, "memory can't be aligned");
    // SAFETY: within the mapping, of which nobody holds a reference.
    unsafe { mapping.start.add(to_boundary).write_volatile(1) };
    Ok(())
}

// ---- userfaultfd ----

const UFFD_API: u64 = 0xAA;
const UFFD_USER_MODE_ONLY: libc::c_int = 1;
const UFFD_EVENT_PAGEFAULT: u8 = 0x12;
const UFFDIO_REGISTER_MODE_MISSING: u64 = 1;

#[repr(C)]
struct UffdioApi {
    api: u64,
    features: u64,
    ioctls: u64,
}

#[repr(C)]
struct UffdioRegister {
    start: u64,
    bytes: u64,
    mode: u64,
    ioctls: u64,
}

#[repr(C)]
struct UffdioCopy {
    to: u64,
    from: u64,
    bytes: u64,
    mode: u64,
    copied: i64,
}

mod uffd_ioctl {
    use super::{UffdioApi, UffdioCopy, UffdioRegister};
    nix::ioctl_readwrite!(api, 0xAA, 0x3F, UffdioApi);
    nix::ioctl_readwrite!(register, 0xAA, 0x00, UffdioRegister);
    nix::ioctl_readwrite!(copy, 0xAA, 0x03, UffdioCopy);
}

/// Whoever touches one of the pages it watches blocks until [`UserFaults::resolve`],
/// or until this is dropped.
pub(super) struct UserFaults(File);

impl UserFaults {
    pub(super) fn watch(pages: &Pages) -> Result<Self> {
        let open = |flags: libc::c_int| -> io::Result<OwnedFd> {
            // SAFETY: makes a new descriptor from integers.
            let fd = checked(unsafe { libc::syscall(libc::SYS_userfaultfd, flags) })?;
            // SAFETY: the kernel has just given it to us, and to nobody else.
            Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
        };
        // Unprivileged users may handle faults from user mode, which ours are; kernels
        // before 5.11 do not know the flag.
        let fd = open(libc::O_CLOEXEC | UFFD_USER_MODE_ONLY)
            .or_else(|_| open(libc::O_CLOEXEC))
            .context("userfaultfd was refused")?;
        let mut api = UffdioApi {
            api: UFFD_API,
            features: 0,
            ioctls: 0,
        };
        // SAFETY: the struct is the one that this ioctl reads and writes.
        unsafe { uffd_ioctl::api(fd.as_raw_fd(), &raw mut api) }.context("UFFDIO_API failed")?;
        let mut register = UffdioRegister {
            start: pages.mapping.start as u64,
            bytes: pages.mapping.bytes as u64,
            mode: UFFDIO_REGISTER_MODE_MISSING,
            ioctls: 0,
        };
        // SAFETY: as above, and the range is a mapping of our own.
        unsafe { uffd_ioctl::register(fd.as_raw_fd(), &raw mut register) }
            .context("UFFDIO_REGISTER failed")?;
        Ok(Self(File::from(fd)))
    }

    /// Blocks until someone touches a missing page; returns its address.
    pub(super) fn next(&self) -> Result<u64> {
        // struct uffd_msg: the event in byte 0, for a fault the address in bytes 16–23.
        let mut message = [0_u8; 32];
        (&self.0)
            .read_exact(&mut message)
            .context("cannot read from the userfaultfd")?;
        ensure!(
            message[0] == UFFD_EVENT_PAGEFAULT,
            "the userfaultfd reports event {:#x}, not a page fault",
            message[0]
        );
        let mut address = [0_u8; 8];
        address.copy_from_slice(&message[16..24]);
        Ok(u64::from_ne_bytes(address))
    }

    /// Fills the missing page at an address that [`UserFaults::next`] returned, and
    /// wakes who waits for it.
    pub(super) fn resolve(&self, address: u64) -> Result<()> {
        let size = page_size()?;
        let content = vec![1_u8; size];
        let mut copy = UffdioCopy {
            to: address & !(size as u64 - 1),
            from: content.as_ptr() as u64,
            bytes: size as u64,
            mode: 0,
            copied: 0,
        };
        // SAFETY: the source has a page's length; the kernel checks that the
        // destination is a missing page of a range registered with this descriptor.
        unsafe { uffd_ioctl::copy(self.0.as_raw_fd(), &raw mut copy) }
            .context("UFFDIO_COPY failed")?;
        Ok(())
    }
}
