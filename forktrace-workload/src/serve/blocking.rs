//! Servers whose tasks each wait for one connection.

use std::net::{TcpListener, TcpStream};
use std::sync::atomic::Ordering::SeqCst;
use std::thread;

use anyhow::Result;

use super::Service;
use super::protocol::{Accepted, Connection, Turn, accept};
use crate::sys::{fork_named, reap};
use crate::task::spawn;

/// A thread for each connection; the main thread accepts.
pub(super) fn thread_per_connection(listener: &TcpListener, service: &Service<'_>) -> Result<()> {
    thread::scope(|scope| {
        while let Accepted::Connection(stream) = accept(listener)? {
            spawn(scope, "connection", || {
                serve_to_the_end(stream, service);
                Ok(())
            })?;
        }
        Ok(())
    })
}

/// A process for each connection; the first process accepts.
pub(super) fn process_per_connection(listener: &TcpListener, service: &Service<'_>) -> Result<()> {
    let mut children = Vec::new();
    while let Accepted::Connection(stream) = accept(listener)? {
        let mut stream = Some(stream);
        children.push(fork_named("connection", || {
            if let Some(stream) = stream.take() {
                serve_to_the_end(stream, service);
            }
            Ok(())
        })?);
    }
    children.into_iter().try_for_each(reap)
}

/// Processes that all accept on the one listener and serve one connection at a time.
pub(super) fn pre_forked(
    listener: &TcpListener,
    service: &Service<'_>,
    workers: usize,
) -> Result<()> {
    let children = (0..workers)
        .map(|_| {
            fork_named("worker", || {
                while let Accepted::Connection(stream) = accept(listener)? {
                    serve_to_the_end(stream, service);
                }
                Ok(())
            })
        })
        .collect::<Result<Vec<_>>>()?;
    children.into_iter().try_for_each(reap)
}

/// A client that breaks off is its own loss: it counts it as an error.
fn serve_to_the_end(stream: TcpStream, service: &Service<'_>) {
    let mut connection = Connection::new(stream);
    while let Ok(Turn::Open) = connection.turn(service.work, service.work_ns) {}
    service.served.fetch_add(connection.served, SeqCst);
}
