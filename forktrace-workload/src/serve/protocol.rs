//! What clients and servers say to each other: 16 bytes there, 16 bytes back.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};

use anyhow::{Context, Result};
use nix::libc;

use crate::random::mix;
use crate::work::Work;

/// Length of a request and of an answer.
pub(super) const MESSAGE_BYTES: usize = 16;
pub(super) type Message = [u8; MESSAGE_BYTES];

/// A client's request: which client, and the how-manieth request.
pub(super) fn request(client: u64, number: u64) -> Message {
    join(client, number)
}

/// The answer, which differs from request to request: the number, and a hash of both.
pub(super) fn answer(request: &Message) -> Message {
    let (client, number) = split(request);
    join(number, mix(client ^ mix(number)))
}

fn join(a: u64, b: u64) -> Message {
    let mut message = [0; MESSAGE_BYTES];
    message[..8].copy_from_slice(&a.to_le_bytes());
    message[8..].copy_from_slice(&b.to_le_bytes());
    message
}

fn split(message: &Message) -> (u64, u64) {
    let (mut a, mut b) = ([0; 8], [0; 8]);
    a.copy_from_slice(&message[..8]);
    b.copy_from_slice(&message[8..]);
    (u64::from_le_bytes(a), u64::from_le_bytes(b))
}

/// What came of an `accept`.
pub(super) enum Accepted {
    /// Somebody.
    Connection(TcpStream),
    /// Nobody now (the listener does not block).
    Nobody,
    /// Nobody ever: the listener was shut down.
    Over,
}

pub(super) fn accept(listener: &TcpListener) -> Result<Accepted> {
    loop {
        let error = match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nodelay(true).context("cannot set TCP_NODELAY")?;
                return Ok(Accepted::Connection(stream));
            }
            Err(error) => error,
        };
        match error.kind() {
            ErrorKind::Interrupted | ErrorKind::ConnectionAborted => {}
            ErrorKind::WouldBlock => return Ok(Accepted::Nobody),
            _ if error.raw_os_error() == Some(libc::EINVAL) => return Ok(Accepted::Over),
            _ => return Err(error).context("cannot accept a connection"),
        }
    }
}

/// The server's side of a connection.
pub(super) struct Connection {
    pub(super) stream: TcpStream,
    request: Message,
    filled: usize,
    pub(super) served: u64,
}

/// What became of a connection whose turn it was.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It goes on.
    Open,
    /// The client is gone.
    Closed,
}

impl Connection {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            request: [0; MESSAGE_BYTES],
            filled: 0,
            served: 0,
        }
    }

    /// Reads what there is, once, and answers when that completes a request.
    ///
    /// On a stream that blocks this waits. On one that does not, nothing to read is no
    /// error, but no room for the answer is: such a client does not read its answers.
    pub(super) fn turn(&mut self, work: Work, work_ns: u64) -> io::Result<Turn> {
        match self.stream.read(&mut self.request[self.filled..]) {
            Ok(0) if self.filled == 0 => return Ok(Turn::Closed),
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => self.filled += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Turn::Open),
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(Turn::Open),
            Err(error) => return Err(error),
        }
        if self.filled == MESSAGE_BYTES {
            self.filled = 0;
            work.run_ns(work_ns);
            self.stream.write_all(&answer(&self.request))?;
            self.served += 1;
        }
        Ok(Turn::Open)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (TcpStream, Connection) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        (client, Connection::new(server))
    }

    #[test]
    fn answers_differ_by_client_and_number() {
        let mut answers: Vec<Message> = (0..20)
            .flat_map(|client| (0..20).map(move |number| answer(&request(client, number))))
            .collect();
        answers.sort_unstable();
        answers.dedup();
        assert_eq!(answers.len(), 400);
        assert_ne!(answer(&request(1, 2)), request(1, 2));
    }

    #[test]
    fn a_request_may_come_in_parts() {
        let (mut client, mut connection) = pair();
        let work = Work::calibrate();
        let request = request(3, 4);
        for part in request.chunks(5) {
            assert_eq!(connection.served, 0);
            client.write_all(part).unwrap();
            assert_eq!(connection.turn(work, 0).unwrap(), Turn::Open);
        }
        let mut got = [0; MESSAGE_BYTES];
        client.read_exact(&mut got).unwrap();
        assert_eq!((got, connection.served), (answer(&request), 1));
        drop(client);
        assert_eq!(connection.turn(work, 0).unwrap(), Turn::Closed);
    }

    #[test]
    fn nothing_to_read_is_no_error_and_an_end_within_a_request_is() {
        let (mut client, mut connection) = pair();
        let work = Work::calibrate();
        connection.stream.set_nonblocking(true).unwrap();
        assert_eq!(connection.turn(work, 0).unwrap(), Turn::Open);
        client.write_all(&[1, 2, 3]).unwrap();
        drop(client);
        connection.stream.set_nonblocking(false).unwrap();
        assert_eq!(connection.turn(work, 0).unwrap(), Turn::Open);
        assert!(connection.turn(work, 0).is_err());
    }
}
