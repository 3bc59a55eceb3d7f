//! A leader/followers pool whose input is known to the microsecond.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use nix::unistd::Pid;
use serde_json::json;

use super::marks::{Mark, Marks};
use super::options::seconds;
use super::pool::Pool;
use super::random::Random;
use super::sys::{Shared, fork_named, nap, now_ns, reap, yield_now};
use super::task::{join, spawn};
use super::truth::Truth;
use super::work::Work;

/// A leader/followers pool that reads messages as they come from another process
///
/// The threads of process "pool" share some sockets: one waits in epoll_wait for all of
/// them, the others in futex for their turn to lead. The leader that finds a socket
/// gives the lead to another one, reads one message, works, and has the socket watched
/// again. Process "sender" sends messages at random times to random sockets, by a seed;
/// with a gap of 0 it sends as fast as the sockets take it, in turn, so that the pool
/// never lacks input.
///
/// Two mistakes can be asked for: --nap-as-leader-us keeps the lead for that long after a
/// socket was found, so that the others can't serve the rest; --forget-socket never
/// watches the first socket again after its first message.
///
/// Truth:
///   pool_pid, sender_pid
///   messages             sent
///   unread               of them, never read
///   begin_ns, end_ns     of the window: from the begin of the sending until it is over
///                        and all is read, but with a gap of 0 from the first message read
///                        until the last one is sent
///
/// Marks, each with pid (the pool's) and since (when what it tells of began):
///   window      until its end; value: messages
///   message     sent (the time just before the call) and read (just after); value: its
///               number; also socket. Unread until the window's end if it never was read.
///               None with a gap of 0
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct LeaderFollowers {
    /// How many threads the pool has.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1000))]
    threads: u32,
    /// How many sockets they share.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1000))]
    sockets: u32,
    /// For how long messages are sent.
    #[arg(long, default_value = "1", value_parser = seconds)]
    seconds: Duration,
    /// Mean time from one message to the next, in microseconds.
    #[arg(long, default_value_t = 2000)]
    gap_us: u32,
    /// CPU time that each message takes, in microseconds.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    work_us: u32,
    /// Which random times and sockets.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A mistake: the leader naps before it gives up the lead.
    #[arg(long)]
    nap_as_leader_us: Option<u64>,
    /// A mistake: the first socket is never watched again. Needs a gap.
    #[arg(long)]
    forget_socket: bool,
}

/// More messages are not sent.
const MOST_MESSAGES: usize = 500_000;
const BYTES: usize = 8;

/// A message's words in shared memory.
const SENT: usize = 0;
const READ: usize = 1;
const SOCKET: usize = 2;
const WORDS: usize = 3;

/// The words before them.
const COUNT: usize = 0;
const READY: usize = 1;
const BEGIN: usize = 2;
const END: usize = 3;
const HEAD: usize = 4;

impl LeaderFollowers {
    pub(super) fn run(&self) -> Result<()> {
        ensure!(
            self.gap_us > 0 || !self.forget_socket,
            "with a gap of 0 the forgotten socket would fill and stop the sender; use --gap-us"
        );
        let truth = Truth::begin("leader-followers");
        let marks = Marks::open()?;
        let work = Work::calibrate();
        let shared = Shared::new(HEAD + MOST_MESSAGES * WORDS)?;
        let (head, messages) = shared.words().split_at(HEAD);
        let book = Book { head, messages };
        let pairs = (0..self.sockets)
            .map(|_| UnixStream::pair())
            .collect::<Result<Vec<_>, _>>()
            .context("cannot make socket pairs")?;
        let (readers, writers): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        let (mut readers, mut writers) = (Some(readers), Some(writers));

        // Each side must not have the other's ends, or closing them would end nothing.
        let pool_pid = fork_named("pool", || {
            writers.take();
            let readers = readers.take().context("no sockets")?;
            self.pool(&readers, &book, work)
        })?;
        readers.take();
        let sender_pid = fork_named("sender", || {
            let writers = writers.take().context("no sockets")?;
            self.send(&writers, &book)
        })?;
        writers.take();
        let (sent, pooled) = (reap(sender_pid), reap(pool_pid));
        sent?;
        pooled?;

        let records = book.records();
        let window = self.window(&book, &records);
        marks.write(interval("window", window, pool_pid, records.len() as u64))?;
        if self.gap_us > 0 {
            marks.write_all(input_marks(&records, window.1, pool_pid))?;
        }
        truth.print(json!({
            "pool_pid": pool_pid.as_raw(),
            "sender_pid": sender_pid.as_raw(),
            "messages": records.len(),
            "unread": records.iter().filter(|it| it.read_ns.is_none()).count(),
            "begin_ns": window.0,
            "end_ns": window.1,
        }))
    }

    fn pool(&self, sockets: &[UnixStream], book: &Book<'_>, work: Work) -> Result<()> {
        let nap = self.nap_as_leader_us.map(Duration::from_micros);
        let pool = Pool::new(nap)?;
        for (key, socket) in sockets.iter().enumerate() {
            pool.watch(socket, key as u64)?;
        }
        let open = AtomicUsize::new(sockets.len());
        let one_less = || {
            if open.fetch_sub(1, SeqCst) == 1 {
                return pool.end();
            }
            Ok(())
        };
        let serve = |key: u64| {
            let mut socket = &sockets[key as usize];
            let mut number = [0; BYTES];
            match socket.read_exact(&mut number) {
                Ok(()) => book.read(u64::from_le_bytes(number)),
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return one_less(),
                Err(error) => return Err(error).context("cannot read a message"),
            }
            work.run_ns(u64::from(self.work_us) * 1000);
            if self.forget_socket && key == 0 {
                return one_less();
            }
            pool.watch_again(socket, key)
        };
        let live = || {
            book.head[READY].fetch_add(1, SeqCst);
            pool.join_in(serve)
        };
        thread::scope(|scope| {
            let others = (1..self.threads)
                .map(|_| spawn(scope, "follower", live))
                .collect::<Result<Vec<_>>>()
                .inspect_err(|_| drop(pool.end()))?;
            let mine = live();
            others.into_iter().try_for_each(join)?;
            mine
        })
    }

    fn send(&self, sockets: &[UnixStream], book: &Book<'_>) -> Result<()> {
        for socket in sockets {
            // A forgotten socket fills, and must not stop the sender.
            socket
                .set_nonblocking(self.forget_socket)
                .context("cannot set a socket's flags")?;
        }
        while book.head[READY].load(SeqCst) < u64::from(self.threads) {
            yield_now();
        }
        let mut random = Random(self.seed);
        let begin_ns = now_ns();
        book.head[BEGIN].store(begin_ns, SeqCst);
        let end_ns = begin_ns + self.seconds.as_nanos() as u64;
        let mut next_ns = begin_ns;
        let mut number = 0;
        while number < MOST_MESSAGES && now_ns() < end_ns {
            let mut place = number % sockets.len();
            if self.gap_us > 0 {
                next_ns += random.gap_ns(u64::from(self.gap_us) * 1000);
                if next_ns >= end_ns {
                    nap(Duration::from_nanos(end_ns.saturating_sub(now_ns())))?;
                    break;
                }
                nap(Duration::from_nanos(next_ns.saturating_sub(now_ns())))?;
                place = (random.next() % sockets.len() as u64) as usize;
            }
            if book.send(number, place, &sockets[place])? {
                number += 1;
            }
        }
        book.head[END].store(now_ns(), SeqCst);
        Ok(())
    }

    /// See the help.
    fn window(&self, book: &Book<'_>, records: &[Record]) -> (u64, u64) {
        let reads = || records.iter().filter_map(|it| it.read_ns);
        let [begin_ns, end_ns] = [BEGIN, END].map(|word| book.head[word].load(SeqCst));
        if self.gap_us == 0 {
            let begin_ns = reads().min().unwrap_or(begin_ns);
            // The sockets can be full before the first is read: the sender waits in its last
            // call from then on.
            return (begin_ns, end_ns.max(begin_ns));
        }
        (begin_ns, reads().max().unwrap_or(end_ns).max(end_ns))
    }
}

/// What both sides write down, in shared memory.
struct Book<'a> {
    head: &'a [AtomicU64],
    messages: &'a [AtomicU64],
}

#[derive(Clone, Copy, Debug)]
struct Record {
    sent_ns: u64,
    read_ns: Option<u64>,
    socket: u64,
}

impl Book<'_> {
    fn word(&self, number: usize, word: usize) -> &AtomicU64 {
        &self.messages[number * WORDS + word]
    }

    /// False when the socket is full.
    fn send(&self, number: usize, place: usize, mut socket: &UnixStream) -> Result<bool> {
        self.word(number, SOCKET).store(place as u64, SeqCst);
        self.word(number, SENT).store(now_ns(), SeqCst);
        match socket.write_all(&(number as u64).to_le_bytes()) {
            Ok(()) => self.head[COUNT].store(number as u64 + 1, SeqCst),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error).context("cannot send a message"),
        }
        Ok(true)
    }

    fn read(&self, number: u64) {
        self.word(number as usize, READ).store(now_ns(), SeqCst);
    }

    fn records(&self) -> Vec<Record> {
        let count = self.head[COUNT].load(SeqCst) as usize;
        (0..count)
            .map(|number| {
                let word = |word| self.word(number, word).load(SeqCst);
                Record {
                    sent_ns: word(SENT),
                    read_ns: Some(word(READ)).filter(|&ns| ns != 0),
                    socket: word(SOCKET),
                }
            })
            .collect()
    }
}

fn interval(name: &'static str, span: (u64, u64), pid: Pid, value: u64) -> Mark {
    Mark::new(name, value)
        .at(span.1)
        .with("since", span.0)
        .with("pid", pid.as_raw())
}

/// The marks of all messages.
fn input_marks(records: &[Record], end_ns: u64, pid: Pid) -> impl Iterator<Item = Mark> {
    records.iter().enumerate().map(move |(number, it)| {
        let span = (it.sent_ns, it.read_ns.unwrap_or(end_ns));
        interval("message", span, pid, number as u64).with("socket", it.socket)
    })
}
