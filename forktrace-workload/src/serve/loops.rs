//! Servers with one thread, which waits for all connections at once.

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::Ordering::SeqCst;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::libc;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::Service;
use super::protocol::{Accepted, Connection, Turn, accept};
use crate::sys::net::{poll_all, select_for_reading};

/// A way to wait until one of many fds can be read.
pub(super) trait Readiness {
    fn add(&mut self, fd: BorrowedFd<'_>) -> Result<()>;
    fn remove(&mut self, fd: BorrowedFd<'_>) -> Result<()>;
    /// Blocks until there are some, and puts them in `ready`.
    fn wait(&mut self, ready: &mut Vec<RawFd>) -> Result<()>;
}

/// Serves until the listener is shut down and every client is gone.
pub(super) fn serve(
    listener: &TcpListener,
    service: &Service<'_>,
    mut readiness: impl Readiness,
) -> Result<()> {
    listener
        .set_nonblocking(true)
        .context("cannot make a listener not block")?;
    readiness.add(listener.as_fd())?;
    let mut accepting = true;
    let mut connections = Connections::default();
    let mut ready = Vec::new();
    while accepting || connections.count > 0 {
        ready.clear();
        readiness.wait(&mut ready)?;
        for &fd in &ready {
            if fd == listener.as_raw_fd() {
                accepting = accept_all(listener, &mut readiness, &mut connections)?;
                if !accepting {
                    readiness.remove(listener.as_fd())?;
                }
                continue;
            }
            let connection = connections.get(fd)?;
            // A client that breaks off is its own loss: it counts it as an error.
            if let Ok(Turn::Open) = connection.turn(service.work, service.work_ns) {
                continue;
            }
            service.served.fetch_add(connection.served, SeqCst);
            readiness.remove(connection.stream.as_fd())?;
            connections.remove(fd);
        }
    }
    Ok(())
}

/// False when nobody will come any more.
fn accept_all(
    listener: &TcpListener,
    readiness: &mut impl Readiness,
    connections: &mut Connections,
) -> Result<bool> {
    loop {
        match accept(listener)? {
            Accepted::Connection(stream) => {
                stream
                    .set_nonblocking(true)
                    .context("cannot make a connection not block")?;
                readiness.add(stream.as_fd())?;
                connections.add(Connection::new(stream));
            }
            Accepted::Nobody => return Ok(true),
            Accepted::Over => return Ok(false),
        }
    }
}

/// By fd.
#[derive(Default)]
struct Connections {
    slots: Vec<Option<Connection>>,
    count: usize,
}

impl Connections {
    fn add(&mut self, connection: Connection) {
        let slot = connection.stream.as_raw_fd() as usize;
        if self.slots.len() <= slot {
            self.slots.resize_with(slot + 1, || None);
        }
        self.slots[slot] = Some(connection);
        self.count += 1;
    }

    fn get(&mut self, fd: RawFd) -> Result<&mut Connection> {
        self.slots
            .get_mut(fd as usize)
            .and_then(Option::as_mut)
            .with_context(|| format!("fd {fd} is ready, but belongs to no connection"))
    }

    fn remove(&mut self, fd: RawFd) {
        self.slots[fd as usize] = None;
        self.count -= 1;
    }
}

/// Tries a call again that a signal interrupted.
fn through_signals(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

const WORD_BITS: usize = libc::c_ulong::BITS as usize;

/// `select`; sets grow with the fds, so FD_SETSIZE does not limit them.
#[derive(Default)]
pub(super) struct Select {
    wanted: Vec<libc::c_ulong>,
    found: Vec<libc::c_ulong>,
}

impl Readiness for Select {
    fn add(&mut self, fd: BorrowedFd<'_>) -> Result<()> {
        let bit = fd.as_raw_fd() as usize;
        if self.wanted.len() <= bit / WORD_BITS {
            self.wanted.resize(bit / WORD_BITS + 1, 0);
        }
        self.wanted[bit / WORD_BITS] |= 1 << (bit % WORD_BITS);
        Ok(())
    }

    fn remove(&mut self, fd: BorrowedFd<'_>) -> Result<()> {
        let bit = fd.as_raw_fd() as usize;
        self.wanted[bit / WORD_BITS] &= !(1 << (bit % WORD_BITS));
        Ok(())
    }

    fn wait(&mut self, ready: &mut Vec<RawFd>) -> Result<()> {
        through_signals(|| {
            self.found.clone_from(&self.wanted);
            select_for_reading(&mut self.found)
        })
        .context("select failed")?;
        for (i, &word) in self.found.iter().enumerate() {
            let mut left = word;
            while left != 0 {
                ready.push((i * WORD_BITS + left.trailing_zeros() as usize) as RawFd);
                left &= left - 1;
            }
        }
        Ok(())
    }
}

/// `poll`.
#[derive(Default)]
pub(super) struct Poll {
    fds: Vec<libc::pollfd>,
}

impl Readiness for Poll {
    fn add(&mut self, fd: BorrowedFd<'_>) -> Result<()> {
        self.fds.push(libc::pollfd {
            fd: fd.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        });
        Ok(())
    }

    fn remove(&mut self, fd: BorrowedFd<'_>) -> Result<()> {
        let place = self.fds.iter().position(|it| it.fd == fd.as_raw_fd());
        self.fds
            .swap_remove(place.context("an fd to forget was not known")?);
        Ok(())
    }

    fn wait(&mut self, ready: &mut Vec<RawFd>) -> Result<()> {
        through_signals(|| poll_all(&mut self.fds)).context("poll failed")?;
        ready.extend(self.fds.iter().filter(|it| it.revents != 0).map(|it| it.fd));
        Ok(())
    }
}

/// `epoll_wait`, level-triggered.
pub(super) struct Epolled {
    epoll: Epoll,
    events: [EpollEvent; 256],
}

impl Epolled {
    pub(super) fn new() -> Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).context("epoll_create1 failed")?;
        Ok(Self {
            epoll,
            events: [EpollEvent::empty(); 256],
        })
    }
}

impl Readiness for Epolled {
    fn add(&mut self, fd: BorrowedFd<'_>) -> Result<()> {
        let event = EpollEvent::new(EpollFlags::EPOLLIN, fd.as_raw_fd() as u64);
        self.epoll.add(fd, event).context("epoll_ctl failed")
    }

    fn remove(&mut self, fd: BorrowedFd<'_>) -> Result<()> {
        self.epoll.delete(fd).context("epoll_ctl failed")
    }

    fn wait(&mut self, ready: &mut Vec<RawFd>) -> Result<()> {
        let count = loop {
            match self.epoll.wait(&mut self.events, EpollTimeout::NONE) {
                Err(Errno::EINTR) => {}
                result => break result.context("epoll_wait failed")?,
            }
        };
        ready.extend(self.events[..count].iter().map(|it| it.data() as RawFd));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;
    use std::os::fd::OwnedFd;

    use nix::unistd::pipe;

    use super::*;
    use crate::sys::duplicate_above;

    /// Adds pipes, also with numbers past a word's and FD_SETSIZE's end, makes some of
    /// them readable, takes some away, and looks at what is found.
    fn check(mut readiness: impl Readiness) {
        let pipes: Vec<(OwnedFd, File)> = [3, 64, 100, 900]
            .map(|lowest| {
                let (reader, writer) = pipe().unwrap();
                (
                    duplicate_above(reader.as_fd(), lowest).unwrap(),
                    File::from(writer),
                )
            })
            .into();
        for (reader, _) in &pipes {
            readiness.add(reader.as_fd()).unwrap();
        }
        let mut found = || {
            let mut ready = Vec::new();
            readiness.wait(&mut ready).unwrap();
            ready.sort_unstable();
            ready
        };
        let fd = |i: usize| pipes[i].0.as_raw_fd();

        (&pipes[1].1).write_all(&[0]).unwrap();
        assert_eq!(found(), [fd(1)]);
        (&pipes[3].1).write_all(&[0]).unwrap();
        assert_eq!(found(), [fd(1), fd(3)]);
        readiness.remove(pipes[1].0.as_fd()).unwrap();
        let mut ready = Vec::new();
        readiness.wait(&mut ready).unwrap();
        assert_eq!(ready, [fd(3)]);
    }

    #[test]
    fn select_finds_what_can_be_read() {
        check(Select::default());
    }

    #[test]
    fn poll_finds_what_can_be_read() {
        check(Poll::default());
    }

    #[test]
    fn epoll_finds_what_can_be_read() {
        check(Epolled::new().unwrap());
    }
}
