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
use super::pool::Pool;
use super::random::Random;
use super::seconds;
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
///   begin_ns, end_ns     of the window: from the first message sent to the last one
///                        read, but with a gap of 0 from the first read to the last sent
///
/// Marks, each with pid (the pool's) and since_ns (when what it tells of began):
///   window      until its end; value: messages
///   unread      a longest time in which at least one message was sent but not read;
///               value: how many such messages. None with a gap of 0
///   message     sent (the time just before the call) and read (just after); value: its
///               number; also socket. None with a gap of 0
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
const HEAD: usize = 2;

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
        let window = self.window(&records).context("no message was sent")?;
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
        Ok(())
    }

    /// See the help.
    fn window(&self, records: &[Record]) -> Option<(u64, u64)> {
        let first = records.first()?;
        let last = records.last()?;
        let reads = || records.iter().filter_map(|it| it.read_ns);
        if self.gap_us == 0 {
            let begin_ns = reads().min()?;
            return Some((begin_ns, last.sent_ns.max(begin_ns)));
        }
        Some((first.sent_ns, reads().max()?.max(last.sent_ns)))
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
        .with("since_ns", span.0)
        .with("pid", pid.as_raw())
}

/// The marks of all messages, and of the times when one at least was unread.
fn input_marks(records: &[Record], end_ns: u64, pid: Pid) -> Vec<Mark> {
    let span = |it: &Record| (it.sent_ns, it.read_ns.unwrap_or(end_ns));
    let mut marks: Vec<Mark> = unions(records.iter().map(span).collect())
        .into_iter()
        .map(|(span, count)| interval("unread", span, pid, count))
        .collect();
    marks.extend(records.iter().enumerate().map(|(number, it)| {
        interval("message", span(it), pid, number as u64).with("socket", it.socket)
    }));
    marks
}

/// The longest intervals that are covered without a gap, and by how many.
fn unions(mut spans: Vec<(u64, u64)>) -> Vec<((u64, u64), u64)> {
    spans.sort_unstable();
    let mut unions: Vec<((u64, u64), u64)> = Vec::new();
    for (begin, end) in spans {
        match unions.last_mut() {
            Some(((_, last), count)) if begin <= *last => {
                *last = end.max(*last);
                *count += 1;
            }
            _ => unions.push(((begin, end), 1)),
        }
    }
    unions
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_message_never_read_is_unread_until_the_end() {
        let records = [
            Record {
                sent_ns: 10,
                read_ns: Some(12),
                socket: 1,
            },
            Record {
                sent_ns: 20,
                read_ns: None,
                socket: 0,
            },
        ];
        let lines = input_marks(&records, 100, Pid::from_raw(7));
        assert_eq!(lines.len(), 4);
        assert_eq!(
            unions(vec![(10, 12), (20, 100)]),
            [((10, 12), 1), ((20, 100), 1)]
        );
    }

    proptest! {
        #[test]
        fn unions_cover_what_their_parts_cover(
            parts in prop::collection::vec((0..60_u64, 0..9_u64), 0..20)
        ) {
            let spans: Vec<_> = parts.iter().map(|&(begin, long)| (begin, begin + long)).collect();
            let unions = unions(spans.clone());
            let covers = |spans: &[(u64, u64)], at: u64| spans.iter().any(|s| s.0 <= at && at < s.1);
            let joined: Vec<_> = unions.iter().map(|it| it.0).collect();
            for at in 0..80 {
                prop_assert_eq!(covers(&spans, at), covers(&joined, at));
            }
            prop_assert!(joined.windows(2).all(|two| two[0].1 < two[1].0));
            prop_assert_eq!(unions.iter().map(|it| it.1).sum::<u64>(), spans.len() as u64);
        }
    }
}
