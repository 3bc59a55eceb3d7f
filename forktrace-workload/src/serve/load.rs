//! The load: clients that each wait for their answer and then ask again.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::protocol::{MESSAGE_BYTES, Message, answer, request};
use crate::sys::now_ns;

/// What the clients saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Loaded {
    /// Connections that got a right answer before the clock started.
    pub(super) established: u64,
    /// Connections that failed, answered wrongly, or did not answer.
    pub(super) errors: u64,
    /// Right answers, in all.
    pub(super) answers: u64,
    /// Those that came while the clock ran.
    pub(super) in_time: u64,
    pub(super) begin_ns: u64,
    pub(super) end_ns: u64,
    pub(super) p50_ns: u64,
    pub(super) p99_ns: u64,
}

/// Words of shared memory that a [`Loaded`] takes.
pub(super) const WORDS: usize = 8;

impl Loaded {
    pub(super) fn store(&self, words: &[AtomicU64]) {
        let own = [
            self.established,
            self.errors,
            self.answers,
            self.in_time,
            self.begin_ns,
            self.end_ns,
            self.p50_ns,
            self.p99_ns,
        ];
        for (word, own) in words.iter().zip(own) {
            word.store(own, SeqCst);
        }
    }

    pub(super) fn load(words: &[AtomicU64]) -> Self {
        let word = |i: usize| words[i].load(SeqCst);
        Self {
            established: word(0),
            errors: word(1),
            answers: word(2),
            in_time: word(3),
            begin_ns: word(4),
            end_ns: word(5),
            p50_ns: word(6),
            p99_ns: word(7),
        }
    }

    pub(super) fn requests_per_s(&self) -> f64 {
        let ns = self.end_ns.saturating_sub(self.begin_ns).max(1);
        self.in_time as f64 * 1e9 / ns as f64
    }
}

/// No answer at all for so long: those who wait count as errors.
const GIVE_UP: Duration = Duration::from_secs(20);
const FAILURES_SHOWN: u64 = 3;

struct Client {
    stream: TcpStream,
    number: u64,
    sent_ns: u64,
    answer: Message,
    filled: usize,
}

/// All clients, in one thread.
pub(super) struct Load {
    epoll: Epoll,
    /// None: it failed.
    clients: Vec<Option<Client>>,
    waiting: usize,
    latencies_ns: Vec<u64>,
    loaded: Loaded,
}

impl Load {
    /// Connects all clients; those who are refused count as errors.
    pub(super) fn connect(address: SocketAddr, connections: usize) -> Result<Self> {
        let mut load = Self {
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).context("epoll_create1 failed")?,
            clients: Vec::with_capacity(connections),
            waiting: 0,
            latencies_ns: Vec::new(),
            loaded: Loaded::default(),
        };
        for place in 0..connections {
            let client = load.connect_one(address, place);
            let client = client.inspect_err(|error| load.failed(place, error)).ok();
            load.clients.push(client);
        }
        Ok(load)
    }

    fn connect_one(&self, address: SocketAddr, place: usize) -> io::Result<Client> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let event = EpollEvent::new(EpollFlags::EPOLLIN, place as u64);
        self.epoll.add(&stream, event)?;
        Ok(Client {
            stream,
            number: 0,
            sent_ns: 0,
            answer: [0; MESSAGE_BYTES],
            filled: 0,
        })
    }

    /// One request each to begin with, so that the server has accepted everyone; then
    /// for `duration` each asks again as soon as it is answered.
    pub(super) fn run(mut self, duration: Duration) -> Result<Loaded> {
        self.send_all();
        self.until_answered(|_| false)?;
        self.loaded.established = self.clients.iter().flatten().count() as u64;
        self.latencies_ns.clear();

        let begin_ns = now_ns();
        let end_ns = begin_ns + duration.as_nanos() as u64;
        (self.loaded.begin_ns, self.loaded.end_ns) = (begin_ns, end_ns);
        self.send_all();
        self.until_answered(|now_ns| now_ns <= end_ns)?;

        self.latencies_ns.sort_unstable();
        self.loaded.p50_ns = percentile(&self.latencies_ns, 50);
        self.loaded.p99_ns = percentile(&self.latencies_ns, 99);
        Ok(self.loaded)
    }

    fn send_all(&mut self) {
        for place in 0..self.clients.len() {
            self.send(place, now_ns());
        }
    }

    fn send(&mut self, place: usize, now_ns: u64) {
        let Some(client) = &mut self.clients[place] else {
            return;
        };
        client.number += 1;
        client.sent_ns = now_ns;
        client.filled = 0;
        // There is room: everything sent before was answered, hence read.
        match client
            .stream
            .write_all(&request(place as u64, client.number))
        {
            Ok(()) => self.waiting += 1,
            Err(error) => self.give_up(place, &error),
        }
    }

    /// Until nobody waits for an answer. Who got one asks again if `again` says so,
    /// which is given the time.
    fn until_answered(&mut self, again: impl Fn(u64) -> bool) -> Result<()> {
        let mut events = [EpollEvent::empty(); 256];
        let timeout = EpollTimeout::try_from(GIVE_UP).context("a time limit is too long")?;
        while self.waiting > 0 {
            let count = match self.epoll.wait(&mut events, timeout) {
                Ok(0) => {
                    self.loaded.errors += self.waiting as u64;
                    complain(&format!("{} clients got no answer", self.waiting));
                    self.waiting = 0;
                    return Ok(());
                }
                Err(Errno::EINTR) => continue,
                result => result.context("epoll_wait failed")?,
            };
            for event in &events[..count] {
                let place = event.data() as usize;
                match self.receive(place) {
                    Ok(None) => {}
                    Ok(Some(latency_ns)) => {
                        let now_ns = now_ns();
                        self.waiting -= 1;
                        self.loaded.answers += 1;
                        if again(now_ns) {
                            self.latencies_ns.push(latency_ns);
                            self.loaded.in_time += 1;
                            self.send(place, now_ns);
                        }
                    }
                    Err(error) => {
                        self.waiting -= 1;
                        self.give_up(place, &error);
                    }
                }
            }
        }
        Ok(())
    }

    /// How long it took, when the whole answer is there and right.
    fn receive(&mut self, place: usize) -> io::Result<Option<u64>> {
        let Some(client) = &mut self.clients[place] else {
            return Ok(None);
        };
        match client.stream.read(&mut client.answer[client.filled..]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => client.filled += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        }
        if client.filled < MESSAGE_BYTES {
            return Ok(None);
        }
        if client.answer != answer(&request(place as u64, client.number)) {
            return Err(io::Error::other("a wrong answer"));
        }
        Ok(Some(now_ns().saturating_sub(client.sent_ns)))
    }

    fn give_up(&mut self, place: usize, error: &io::Error) {
        self.clients[place] = None;
        self.failed(place, error);
    }

    fn failed(&mut self, place: usize, error: &io::Error) {
        self.loaded.errors += 1;
        if self.loaded.errors <= FAILURES_SHOWN {
            complain(&format!("client {place}: {error}"));
        }
    }
}

fn complain(what: &str) {
    // When stderr is gone, the count of errors still tells.
    let _ = writeln!(io::stderr(), "serve: {what}");
}

/// The smallest value that so many per cent of `sorted` do not exceed; 0 of none.
fn percentile(sorted: &[u64], percent: usize) -> u64 {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.max(1) - 1).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let sorted: Vec<u64> = (1..=200).collect();
        assert_eq!(percentile(&sorted, 50), 100);
        assert_eq!(percentile(&sorted, 99), 198);
        assert_eq!(percentile(&sorted[..1], 99), 1);
        assert_eq!(percentile(&[], 50), 0);
    }

    #[test]
    fn figures_survive_shared_memory() {
        let loaded = Loaded {
            established: 1,
            errors: 2,
            answers: 3,
            in_time: 4,
            begin_ns: 5,
            end_ns: 6,
            p50_ns: 7,
            p99_ns: 8,
        };
        let words: [AtomicU64; WORDS] = Default::default();
        loaded.store(&words);
        assert_eq!(Loaded::load(&words), loaded);
    }

    /// A server of one connection that answers by `reply` until it returns nothing.
    fn served_by(reply: impl Fn(Message, u64) -> Option<Message> + Send + 'static) -> Loaded {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = [0; MESSAGE_BYTES];
            for count in 1.. {
                if stream.read_exact(&mut asked).is_err() {
                    return;
                }
                let Some(answer) = reply(asked, count) else {
                    return;
                };
                stream.write_all(&answer).unwrap();
            }
        });
        let load = Load::connect(address, 1).unwrap();
        let loaded = load.run(Duration::from_millis(30)).unwrap();
        server.join().unwrap();
        loaded
    }

    #[test]
    fn right_answers_are_counted() {
        let loaded = served_by(|asked, _| Some(answer(&asked)));
        assert_eq!((loaded.established, loaded.errors), (1, 0));
        assert!(loaded.answers > loaded.in_time && loaded.in_time > 0);
        assert!(loaded.p99_ns >= loaded.p50_ns && loaded.p50_ns > 0);
    }

    #[test]
    fn a_wrong_answer_is_an_error() {
        let loaded =
            served_by(|asked, count| Some(if count == 5 { asked } else { answer(&asked) }));
        assert_eq!((loaded.established, loaded.errors), (1, 1));
        assert_eq!(loaded.answers, 4);
    }

    #[test]
    fn a_server_that_hangs_up_is_an_error() {
        let loaded = served_by(|asked, count| (count < 5).then(|| answer(&asked)));
        assert_eq!((loaded.established, loaded.errors), (1, 1));
    }

    #[test]
    fn nobody_there_is_an_error_for_each() {
        let address = {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap()
        };
        let load = Load::connect(address, 3).unwrap();
        let loaded = load.run(Duration::from_millis(1)).unwrap();
        assert_eq!((loaded.established, loaded.errors), (0, 3));
    }
}
