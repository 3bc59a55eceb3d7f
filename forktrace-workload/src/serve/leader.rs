//! The leader/followers server: a few threads serve all connections.

use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::{Context, Result};

use super::Service;
use super::protocol::{Accepted, Connection, Turn, accept};
use crate::pool::Pool;
use crate::task::{join, spawn};

/// The listener's key; connections have theirs from 0 on.
const LISTENER: u64 = u64::MAX - 1;

struct Server<'a> {
    listener: &'a TcpListener,
    service: &'a Service<'a>,
    pool: Pool,
    /// Grows only; a connection's key is its place. A connection is watched by no one
    /// while it is served, so these locks are never waited for long.
    connections: Mutex<Vec<Option<Connection>>>,
    open: AtomicUsize,
}

/// What `open` has while the listener is open.
const ACCEPTING: usize = 1;

pub(super) fn leader_followers(
    listener: &TcpListener,
    service: &Service<'_>,
    threads: usize,
) -> Result<()> {
    listener
        .set_nonblocking(true)
        .context("cannot make a listener not block")?;
    let server = Server {
        listener,
        service,
        pool: Pool::new(None)?,
        connections: Mutex::default(),
        open: AtomicUsize::new(ACCEPTING),
    };
    server.pool.watch(listener, LISTENER)?;
    thread::scope(|scope| {
        let others = (1..threads)
            .map(|_| spawn(scope, "follower", || server.work()))
            .collect::<Result<Vec<_>>>()
            .inspect_err(|_| drop(server.pool.end()))?;
        let mine = server.work();
        others.into_iter().try_for_each(join)?;
        mine
    })
}

impl Server<'_> {
    fn work(&self) -> Result<()> {
        self.pool.join_in(|key| match key {
            LISTENER => self.accept_all(),
            key => self.serve(key),
        })
    }

    fn accept_all(&self) -> Result<()> {
        loop {
            match accept(self.listener)? {
                Accepted::Connection(stream) => {
                    stream
                        .set_nonblocking(true)
                        .context("cannot make a connection not block")?;
                    self.open.fetch_add(1, SeqCst);
                    let mut connections = self.connections();
                    let key = connections.len() as u64;
                    self.pool.watch(&stream, key)?;
                    connections.push(Some(Connection::new(stream)));
                }
                Accepted::Nobody => return self.pool.watch_again(self.listener, LISTENER),
                Accepted::Over => return self.one_less(),
            }
        }
    }

    fn serve(&self, key: u64) -> Result<()> {
        let taken = self.connections()[key as usize].take();
        let mut connection = taken.context("a connection is served by two threads")?;
        // A client that breaks off is its own loss: it counts it as an error.
        if let Ok(Turn::Open) = connection.turn(self.service.work, self.service.work_ns) {
            let mut connections = self.connections();
            let connection = connections[key as usize].insert(connection);
            return self.pool.watch_again(&connection.stream, key);
        }
        self.service.served.fetch_add(connection.served, SeqCst);
        self.one_less()
    }

    fn one_less(&self) -> Result<()> {
        if self.open.fetch_sub(1, SeqCst) == 1 {
            return self.pool.end();
        }
        Ok(())
    }

    fn connections(&self) -> MutexGuard<'_, Vec<Option<Connection>>> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
