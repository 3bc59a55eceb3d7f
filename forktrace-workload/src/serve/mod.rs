//! Servers of seven designs, and the load that they are compared under.

mod blocking;
mod leader;
mod load;
mod loops;
mod protocol;

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::Pid;
use serde_json::{Value, json};

use self::load::{Load, Loaded};
use super::marks::{Mark, Marks};
use super::options::seconds;
use super::sys::net::{deepen_backlog, shut_down};
use super::sys::{Shared, fork_named, nap, reap};
use super::task::pin;
use super::truth::Truth;
use super::work::Work;

/// A server on loopback under load, by seven designs
///
/// The server and the load are a process each, named "server" and "load", beside the
/// first one, which waits for them. Each connection always has one request under way:
/// 16 bytes, which the server answers with 16 others after some work. Every answer is
/// checked. Before the clock starts each connection has been answered once.
///
///   thread            a thread for each connection, in recv; one more in accept
///   process           a process for each connection, forked when it comes
///   preforked         processes that each accept, and serve one connection at a time
///   select            one thread that waits for all connections in pselect6, with sets
///                     of its own that FD_SETSIZE does not bind
///   poll, epoll       the same with poll and epoll_wait
///   leader-followers  a pool: one thread waits in epoll_wait for all connections, gives
///                     the lead to another one, and serves
///
/// Given several designs, numbers of connections or amounts of work, it measures each
/// combination, all of them once a round, with processes of its own each; rounds go
/// through the designs in turn forwards and backwards.
///
/// Truth:
///   results  [{design, connections, work_us, workers, round, server_pid, load_pid,
///            connections_established, errors, requests_per_s, p50_us, p99_us, answers,
///            served, begin_ns, end_ns}]: errors counts clients that failed or were
///            answered wrongly; requests_per_s, p50_us and p99_us are of the time from
///            begin_ns to end_ns; answers is all that came to the clients, served all that
///            the server sent. Figures of a part that ran elsewhere are null
///
/// Marks, for each result, with its design, connections, work_us and round:
///   requests_per_s, p50_us, p99_us, errors, connections_established
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct Serve {
    /// How the server is made; a list separated by commas.
    #[arg(long, required = true, value_delimiter = ',')]
    design: Vec<Design>,
    /// How many connections are open at once; a list.
    #[arg(long, default_value = "100", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=10_000))]
    connections: Vec<u32>,
    /// CPU time that each answer takes, in microseconds; a list.
    #[arg(long, default_value = "0", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    work_us: Vec<u32>,
    /// How long each measurement takes.
    #[arg(long, default_value = "1", value_parser = seconds)]
    seconds: Duration,
    /// How often each combination is measured.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Threads of leader-followers (default 4), or processes of preforked, which must be
    /// as many as the connections (the default).
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    workers: Option<u32>,
    /// Keep everything on this CPU.
    #[arg(long)]
    pin_cpu: Option<usize>,
    /// Run only one of the two: the server for --seconds and until its clients are gone,
    /// or the load on a server that runs elsewhere.
    #[arg(long, requires = "address")]
    only: Option<Part>,
    /// Where the server listens; by default a free port.
    #[arg(long, default_value = "127.0.0.1:0")]
    address: SocketAddr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    Server,
    Load,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Design {
    Thread,
    Process,
    Preforked,
    Select,
    Poll,
    Epoll,
    LeaderFollowers,
}

impl Design {
    /// As the command line has it.
    fn name(self) -> String {
        self.to_possible_value()
            .map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Tasks that are there from the start; none where they come with the connections.
    fn workers(self, wanted: Option<u32>, connections: u32) -> Result<Option<u32>> {
        const POOL: u32 = 4;
        match self {
            Self::LeaderFollowers => Ok(Some(wanted.unwrap_or(POOL))),
            Self::Preforked => {
                let workers = wanted.unwrap_or(connections);
                ensure!(
                    workers >= connections,
                    "{workers} preforked processes serve one connection each, so they cannot \
                     serve {connections} at once; use --workers {connections} or more"
                );
                Ok(Some(workers))
            }
            _ => Ok(None),
        }
    }
}

/// What every design does with a request.
struct Service<'a> {
    work: Work,
    work_ns: u64,
    /// Answers sent, over all tasks of the server.
    served: &'a AtomicU64,
}

/// One combination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Point {
    round: u32,
    connections: u32,
    work_us: u32,
    design: Design,
}

impl Serve {
    pub(super) fn run(&self) -> Result<()> {
        let truth = Truth::begin("serve");
        let marks = Marks::open()?;
        let points = self.points();
        for point in &points {
            point.design.workers(self.workers, point.connections)?;
        }
        if let Some(cpu) = self.pin_cpu {
            pin(cpu)?;
        }
        allow_files(self.connections.iter().copied().max().unwrap_or(0))?;
        let work = Work::calibrate();
        let mut results = Vec::new();
        for point in points {
            let result = self.measure(point, work)?;
            marks.write_all(point.marks(&result))?;
            results.push(result);
        }
        truth.print(json!({"results": results}))
    }

    fn points(&self) -> Vec<Point> {
        let mut points = Vec::new();
        for round in 0..self.rounds {
            for &connections in &self.connections {
                for &work_us in &self.work_us {
                    let at = |&design| Point {
                        round,
                        connections,
                        work_us,
                        design,
                    };
                    // What drifts meets each design as often early as late.
                    if round % 2 == 0 {
                        points.extend(self.design.iter().map(at));
                    } else {
                        points.extend(self.design.iter().rev().map(at));
                    }
                }
            }
        }
        points
    }

    fn measure(&self, point: Point, work: Work) -> Result<Value> {
        let shared = Shared::new(1 + load::WORDS)?;
        let (served, loaded) = shared.words().split_at(1);
        let served = &served[0];
        let workers = point.design.workers(self.workers, point.connections)?;

        let mut listener = None;
        let mut server_pid = None;
        let mut address = self.address;
        if self.only != Some(Part::Load) {
            let listening = TcpListener::bind(self.address)
                .with_context(|| format!("cannot listen at {}", self.address))?;
            deepen_backlog(&listening, point.connections as usize)
                .context("cannot listen for so many connections")?;
            address = listening
                .local_addr()
                .context("a listener has no address")?;
            let service = Service {
                work,
                work_ns: u64::from(point.work_us) * 1000,
                served,
            };
            server_pid = Some(fork_named("server", || {
                point
                    .design
                    .serve(&listening, &service, workers.unwrap_or(0) as usize)
            })?);
            listener = Some(listening);
        }
        let load_pid = if self.only == Some(Part::Server) {
            nap(self.seconds)?;
            None
        } else {
            let pid = fork_named("load", || {
                Load::connect(address, point.connections as usize)?
                    .run(self.seconds)?
                    .store(loaded);
                Ok(())
            })?;
            Some(pid)
        };
        // Whatever comes of the load, the server must end.
        let load_ended = load_pid.map_or(Ok(()), reap);
        if let Some(listener) = &listener {
            shut_down(listener).context("cannot end the server")?;
        }
        server_pid.map_or(Ok(()), reap)?;
        load_ended?;

        let served = server_pid.map(|_| served.load(SeqCst));
        let loaded = load_pid.map(|_| Loaded::load(loaded));
        Ok(json!({
            "design": point.design.name(),
            "connections": point.connections,
            "work_us": point.work_us,
            "workers": workers,
            "round": point.round,
            "server_pid": server_pid.map(Pid::as_raw),
            "load_pid": load_pid.map(Pid::as_raw),
            "served": served,
            "connections_established": loaded.map(|it| it.established),
            "errors": loaded.map(|it| it.errors),
            "requests_per_s": loaded.map(|it| it.requests_per_s()),
            "p50_us": loaded.map(|it| it.p50_ns as f64 / 1e3),
            "p99_us": loaded.map(|it| it.p99_ns as f64 / 1e3),
            "answers": loaded.map(|it| it.answers),
            "begin_ns": loaded.map(|it| it.begin_ns),
            "end_ns": loaded.map(|it| it.end_ns),
        }))
    }
}

impl Design {
    /// In the server's process, until the listener is shut down and the clients are gone.
    fn serve(self, listener: &TcpListener, service: &Service<'_>, workers: usize) -> Result<()> {
        match self {
            Self::Thread => blocking::thread_per_connection(listener, service),
            Self::Process => blocking::process_per_connection(listener, service),
            Self::Preforked => blocking::pre_forked(listener, service, workers),
            Self::Select => loops::serve(listener, service, loops::Select::default()),
            Self::Poll => loops::serve(listener, service, loops::Poll::default()),
            Self::Epoll => loops::serve(listener, service, loops::Epolled::new()?),
            Self::LeaderFollowers => leader::leader_followers(listener, service, workers),
        }
    }
}

impl Point {
    fn marks(self, result: &Value) -> Vec<Mark> {
        const NAMES: [&str; 5] = [
            "requests_per_s",
            "p50_us",
            "p99_us",
            "errors",
            "connections_established",
        ];
        let known = NAMES.into_iter().filter(|name| !result[name].is_null());
        known
            .map(|name| {
                Mark::new(name, result[name].clone())
                    .with("design", self.design.name())
                    .with("connections", self.connections)
                    .with("work_us", self.work_us)
                    .with("round", self.round)
            })
            .collect()
    }
}

/// Raises the limit on open files, if it must.
fn allow_files(connections: u32) -> Result<()> {
    const OTHERS: u64 = 64;
    let needed = u64::from(connections) + OTHERS;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("getrlimit failed")?;
    if soft >= needed {
        return Ok(());
    }
    setrlimit(Resource::RLIMIT_NOFILE, needed, hard.max(needed)).with_context(|| {
        format!(
            "{connections} connections need {needed} open files, and the limit is {hard}; raise \
             it with `ulimit -Hn {needed}` as root, or use fewer connections"
        )
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        serve: Serve,
    }

    fn serve(options: &str) -> Serve {
        let words = ["serve"].into_iter().chain(options.split_whitespace());
        Command::try_parse_from(words).unwrap().serve
    }

    #[test]
    fn every_combination_comes_once_a_round_in_alternating_order() {
        let serve = serve("--design thread,poll --connections 10,20 --work-us 0,5,9 --rounds 2");
        let points = serve.points();
        assert_eq!(points.len(), 2 * 2 * 3 * 2);
        let designs = |round| {
            let of_round = points.iter().filter(|it| it.round == round);
            of_round.map(|it| it.design).take(2).collect::<Vec<_>>()
        };
        assert_eq!(designs(0), [Design::Thread, Design::Poll]);
        assert_eq!(designs(1), [Design::Poll, Design::Thread]);
        for (i, point) in points.iter().enumerate() {
            assert!(!points[..i].contains(point));
        }
    }

    #[test]
    fn preforked_needs_a_process_for_each_connection() {
        assert_eq!(Design::Preforked.workers(None, 7).unwrap(), Some(7));
        assert_eq!(Design::Preforked.workers(Some(9), 7).unwrap(), Some(9));
        assert!(Design::Preforked.workers(Some(6), 7).is_err());
        assert_eq!(Design::LeaderFollowers.workers(None, 7).unwrap(), Some(4));
        assert_eq!(Design::Thread.workers(None, 7).unwrap(), None);
    }
}
