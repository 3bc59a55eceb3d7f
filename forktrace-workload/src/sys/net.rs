//! Listeners and readiness, for servers with more connections than the wrappers allow.

use std::io;
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::ptr::null_mut;

use nix::libc;

use super::checked;

/// Lets `connections` wait for their `accept`, as far as the system allows; std asks
/// for fewer.
pub(crate) fn deepen_backlog(listener: &TcpListener, connections: usize) -> io::Result<()> {
    let connections = i32::try_from(connections).unwrap_or(i32::MAX);
    // SAFETY: integers only, of a socket that is ours.
    checked(unsafe { libc::listen(listener.as_raw_fd(), connections) }.into()).map(drop)
}

/// Ends a listener for everyone who shares it: their `accept` fails with EINVAL.
pub(crate) fn shut_down(listener: &TcpListener) -> io::Result<()> {
    // SAFETY: integers only, of a socket that is ours.
    checked(unsafe { libc::shutdown(listener.as_raw_fd(), libc::SHUT_RDWR) }.into()).map(drop)
}

/// `pselect6`, what the C library makes of `select`, for reading and without a timeout.
/// The set is of any length: FD_SETSIZE binds the C library's type, not the kernel.
pub(crate) fn select_for_reading(set: &mut [libc::c_ulong]) -> io::Result<usize> {
    let bits = set.len() * libc::c_ulong::BITS as usize;
    let none = null_mut::<libc::c_ulong>();
    // SAFETY: the set has `bits` bits and outlives the call; null means no such set,
    // no timeout, no signal mask.
    checked(unsafe {
        libc::syscall(
            libc::SYS_pselect6,
            bits,
            set.as_mut_ptr(),
            none,
            none,
            none,
            none,
        )
    })
}

/// `poll` without a timeout, leaving in `fds` what it found.
pub(crate) fn poll_all(fds: &mut [libc::pollfd]) -> io::Result<usize> {
    let count = fds.len() as libc::nfds_t;
    // SAFETY: the array has as many entries as we say and outlives the call.
    checked(unsafe { libc::poll(fds.as_mut_ptr(), count, -1) }.into())
}
