//! A leader/followers pool: one thread waits for all sockets, the others for their turn.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::sys::nap;

/// The threads of a pool share one of these.
///
/// Who holds the lock is the leader: it waits until one socket can be read, which then
/// reports nothing more until it is watched again; gives up the lock, so that another
/// thread leads; and serves the socket.
pub(super) struct Pool {
    epoll: Epoll,
    leader: Mutex<()>,
    over: AtomicBool,
    /// Can be read once the pool is to end, by each leader in turn.
    end: EventFd,
    /// A mistake to make: the leader naps before it gives up the lock.
    nap_as_leader: Option<Duration>,
}

/// No socket has this key.
const END: u64 = u64::MAX;

impl Pool {
    pub(super) fn new(nap_as_leader: Option<Duration>) -> Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).context("epoll_create1 failed")?;
        let end = EventFd::from_flags(EfdFlags::EFD_CLOEXEC).context("eventfd failed")?;
        epoll
            .add(&end, EpollEvent::new(EpollFlags::EPOLLIN, END))
            .context("epoll_ctl failed")?;
        Ok(Self {
            epoll,
            leader: Mutex::new(()),
            over: AtomicBool::new(false),
            end,
            nap_as_leader,
        })
    }

    /// Watches a socket until it can be read, once.
    pub(super) fn watch(&self, socket: impl AsFd, key: u64) -> Result<()> {
        self.epoll
            .add(socket, once(key))
            .context("cannot watch a socket")
    }

    /// Watches it again, after it was served.
    pub(super) fn watch_again(&self, socket: impl AsFd, key: u64) -> Result<()> {
        self.epoll
            .modify(socket, &mut once(key))
            .context("cannot watch a socket again")
    }

    /// Lets all threads of the pool go, each when it would lead.
    pub(super) fn end(&self) -> Result<()> {
        self.over.store(true, SeqCst);
        self.end.write(1).context("cannot write to an eventfd")?;
        Ok(())
    }

    /// The life of a thread of the pool; `serve` is called with a socket's key.
    /// If it fails, the whole pool ends.
    pub(super) fn join_in(&self, mut serve: impl FnMut(u64) -> Result<()>) -> Result<()> {
        while let Some(key) = self.lead().inspect_err(|_| drop(self.end()))? {
            serve(key).inspect_err(|_| drop(self.end()))?;
        }
        Ok(())
    }

    /// Waits to be the leader, and as the leader for a socket; none at the end.
    fn lead(&self) -> Result<Option<u64>> {
        let leader = self.leader.lock().unwrap_or_else(PoisonError::into_inner);
        let mut event = [EpollEvent::empty()];
        while !self.over.load(SeqCst) {
            match self.epoll.wait(&mut event, EpollTimeout::NONE) {
                Ok(0) | Err(Errno::EINTR) => continue,
                Ok(_) if event[0].data() == END => continue,
                Ok(_) => {}
                Err(error) => return Err(error).context("epoll_wait failed"),
            }
            if let Some(time) = self.nap_as_leader {
                nap(time)?;
            }
            drop(leader);
            return Ok(Some(event[0].data()));
        }
        Ok(None)
    }
}

fn once(key: u64) -> EpollEvent {
    EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLONESHOT, key)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::sync::atomic::AtomicUsize;
    use std::thread;

    use super::*;

    #[test]
    fn every_message_is_served_once() {
        const SOCKETS: usize = 5;
        const MESSAGES: usize = 400;
        let pool = Pool::new(None).unwrap();
        let pairs: Vec<_> = (0..SOCKETS).map(|_| UnixStream::pair().unwrap()).collect();
        let busy: Vec<_> = (0..SOCKETS).map(|_| AtomicBool::new(false)).collect();
        let served = AtomicUsize::new(0);
        for (key, (reader, _)) in pairs.iter().enumerate() {
            pool.watch(reader, key as u64).unwrap();
        }
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    pool.join_in(|key| {
                        let place = key as usize;
                        assert!(!busy[place].swap(true, SeqCst), "two serve socket {key}");
                        (&pairs[place].0).read_exact(&mut [0])?;
                        busy[place].store(false, SeqCst);
                        pool.watch_again(&pairs[place].0, key)?;
                        if served.fetch_add(1, SeqCst) + 1 == MESSAGES {
                            pool.end()?;
                        }
                        Ok(())
                    })
                    .unwrap();
                });
            }
            for i in 0..MESSAGES {
                (&pairs[i % SOCKETS].1).write_all(&[0]).unwrap();
            }
        });
        assert_eq!(served.load(SeqCst), MESSAGES);
    }

    #[test]
    fn a_socket_is_served_by_nobody_else_until_it_is_watched_again() {
        const SLOW: u64 = 0;
        const QUICK_MESSAGES: usize = 5;
        let pool = Pool::new(None).unwrap();
        let pairs = [UnixStream::pair().unwrap(), UnixStream::pair().unwrap()];
        for (key, (reader, writer)) in pairs.iter().enumerate() {
            pool.watch(reader, key as u64).unwrap();
            (&*writer).write_all(&[0; QUICK_MESSAGES]).unwrap();
        }
        let (slow, quick) = (AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    pool.join_in(|key| {
                        if key == SLOW {
                            // Its input stays unread until the other one's is read.
                            let first = slow.fetch_add(1, SeqCst) == 0;
                            while first
                                && quick.load(SeqCst) < QUICK_MESSAGES
                                && slow.load(SeqCst) == 1
                            {
                                thread::yield_now();
                            }
                            return pool.end();
                        }
                        (&pairs[1].0).read_exact(&mut [0])?;
                        quick.fetch_add(1, SeqCst);
                        pool.watch_again(&pairs[1].0, key)
                    })
                    .unwrap();
                });
            }
        });
        assert_eq!(slow.load(SeqCst), 1, "it was found again");
    }

    #[test]
    fn a_failure_ends_the_pool() {
        let pool = Pool::new(None).unwrap();
        let (reader, mut writer) = UnixStream::pair().unwrap();
        pool.watch(&reader, 0).unwrap();
        writer.write_all(&[0]).unwrap();
        let failures = thread::scope(|scope| {
            let threads: Vec<_> = (0..3)
                .map(|_| scope.spawn(|| pool.join_in(|_| anyhow::bail!("no"))))
                .collect();
            threads
                .into_iter()
                .filter_map(|thread| thread.join().unwrap().err())
                .count()
        });
        assert_eq!(failures, 1);
    }
}
