//! The select/poll family, by the kernel's names: glibc turns select() into pselect6,
//! and so on; these make the very call.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::ptr::{null, null_mut};
use std::time::Duration;

use nix::libc;

use super::{checked, timespec};

fn millis(time: Duration) -> i32 {
    i32::try_from(time.as_millis()).unwrap_or(i32::MAX)
}

/// The words that a set of `fds` takes, with the bits of `fds` set, and the `n` that
/// select wants with it.
pub(crate) fn fd_set(fds: &[RawFd]) -> (i32, Vec<libc::c_ulong>) {
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
pub(crate) fn select(fds: &[RawFd], time: Duration) -> io::Result<usize> {
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
pub(crate) fn pselect6(fds: &[RawFd], time: Duration) -> io::Result<usize> {
    pselect6_sets([fds, &[], &[]], time)
}

/// `pselect6` for reading, writing and exceptions, with a timeout and no signal mask.
pub(crate) fn pselect6_sets(sets: [&[RawFd]; 3], time: Duration) -> io::Result<usize> {
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
pub(crate) fn poll(fds: &[RawFd], time: Duration) -> io::Result<usize> {
    let mut fds = pollfds(fds);
    // SAFETY: the array has as many entries as we say and outlives the call.
    checked(unsafe { libc::syscall(libc::SYS_poll, fds.as_mut_ptr(), fds.len(), millis(time)) })
}

/// `ppoll` for reading, with a timeout and no signal mask.
pub(crate) fn ppoll(fds: &[RawFd], time: Duration) -> io::Result<usize> {
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
pub(crate) fn poll_without_timeout(fds: &[RawFd]) -> io::Result<usize> {
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
pub(crate) fn plain_poll(fds: &[RawFd], time: Duration) -> io::Result<usize> {
    #[cfg(target_arch = "x86_64")]
    return poll(fds, time);
    #[cfg(not(target_arch = "x86_64"))]
    return ppoll(fds, time);
}

/// The system call that [`plain_poll`] makes.
pub(crate) const PLAIN_POLL: &str = if cfg!(target_arch = "x86_64") {
    "poll"
} else {
    "ppoll"
};

/// How many events one call of the epoll functions here may return.
pub(crate) const EPOLL_MAX_EVENTS: usize = 8;

const NO_EVENTS: [libc::epoll_event; EPOLL_MAX_EVENTS] =
    [libc::epoll_event { events: 0, u64: 0 }; EPOLL_MAX_EVENTS];

/// `epoll_wait` with a timeout.
#[cfg(target_arch = "x86_64")]
pub(crate) fn epoll_wait(epoll: BorrowedFd<'_>, time: Duration) -> io::Result<usize> {
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
pub(crate) fn epoll_pwait(epoll: BorrowedFd<'_>, time: Duration) -> io::Result<usize> {
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
pub(crate) fn epoll_pwait2(epoll: BorrowedFd<'_>, time: Duration) -> io::Result<usize> {
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
