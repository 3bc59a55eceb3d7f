//! Two tasks that take turns: the workload of the benchmark.

use std::fs::File;
use std::io::{Read, Write};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use nix::unistd::pipe;
use serde_json::{Value, json};

use super::options::seconds;
use super::sys::{Shared, fork_child, now_ns, reap, tid, yield_now};
use super::task::{allowed_cpus, join, pin, spawn};
use super::truth::Truth;

/// Two tasks alternate through two pipes, a byte at a time
///
/// The loop makes no system call but read and write. A pair's "a" writes first; the
/// main thread is the first pair's "a". Each task reads and writes rounds + 2 times:
/// one round is played before the clock starts, and one after it has stopped.
///
/// Truth:
///   rounds, elapsed_ns, ns_per_round  of all pairs: the sum, the longest, the mean
///   pairs      [{a_tid, b_tid, cpu (null unless pinned), rounds, begin_ns, end_ns,
///              elapsed_ns, ns_per_round}]
///   processes  whether the tasks are processes
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct PingPong {
    /// How many round trips each pair makes.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..))]
    rounds: u64,
    /// Go on for this long instead of a number of rounds.
    #[arg(long, value_parser = seconds, conflicts_with = "rounds")]
    seconds: Option<Duration>,
    /// Processes instead of threads.
    #[arg(long)]
    processes: bool,
    /// Put both tasks of a pair on one CPU: the first pair on the first CPU that we
    /// may use, the next pair on the next one, and so on.
    #[arg(long)]
    pin: bool,
    /// How many pairs run at once.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=250))]
    pairs: u32,
}

/// One side's ends of a pair's two pipes.
struct Side {
    from: File,
    to: File,
}

impl Side {
    fn send(&mut self, byte: u8) -> Result<()> {
        self.to.write_all(&[byte]).context("cannot write to a pipe")
    }

    fn receive(&mut self) -> Result<u8> {
        let mut byte = [0];
        self.from
            .read_exact(&mut byte)
            .context("cannot read from a pipe; did the other side end?")?;
        Ok(byte[0])
    }
}

fn sides() -> Result<(Side, Side)> {
    let (a_reads, b_writes) = pipe().context("cannot make a pipe")?;
    let (b_reads, a_writes) = pipe().context("cannot make a pipe")?;
    let side = |from, to| Side {
        from: File::from(from),
        to: File::from(to),
    };
    Ok((side(a_reads, a_writes), side(b_reads, b_writes)))
}

const GO_ON: u8 = 0;
const STOP: u8 = 1;
/// How often a pair that goes by the clock looks at it.
const ROUNDS_PER_LOOK: u64 = 256;

/// The words of one pair in shared memory.
const WORDS: usize = 5;
const A_TID: usize = 0;
const B_TID: usize = 1;
const ROUNDS: usize = 2;
const BEGIN: usize = 3;
const END: usize = 4;

impl PingPong {
    pub(super) fn run(&self) -> Result<()> {
        let truth = Truth::begin("ping-pong");
        let pairs = self.pairs as usize;
        let figures = Shared::new(1 + pairs * WORDS)?;
        let (started, figures) = figures.words().split_at(1);
        let game = Game {
            options: self,
            started: &started[0],
            figures: figures.chunks(WORDS).collect(),
        };
        let cpus = allowed_cpus()?;
        let cpu_of = |pair: usize| {
            self.pin
                .then(|| cpus.get(pair % cpus.len().max(1)).copied())?
        };
        let mut all_sides = (0..pairs)
            .map(|_| sides().map(|(a, b)| (Some(a), Some(b))))
            .collect::<Result<Vec<_>>>()?;

        if self.processes {
            game.with_processes(&mut all_sides, &cpu_of)?;
        } else {
            game.with_threads(&mut all_sides, &cpu_of)?;
        }

        let listed: Vec<Figures> = game.figures.iter().map(|it| Figures::read(it)).collect();
        let rounds: u64 = listed.iter().map(|it| it.rounds).sum();
        truth.print(json!({
            "processes": self.processes,
            "rounds": rounds,
            "elapsed_ns": listed.iter().map(Figures::elapsed_ns).max(),
            "ns_per_round": listed.iter().map(Figures::elapsed_ns).sum::<u64>() as f64 / rounds as f64,
            "pairs": listed
                .iter()
                .enumerate()
                .map(|(pair, it)| it.json(cpu_of(pair)))
                .collect::<Vec<_>>(),
        }))
    }
}

struct Game<'a> {
    options: &'a PingPong,
    started: &'a AtomicU64,
    figures: Vec<&'a [AtomicU64]>,
}

type Pair = (Option<Side>, Option<Side>);

impl Game<'_> {
    fn with_threads(
        &self,
        all_sides: &mut [Pair],
        cpu_of: &(dyn Fn(usize) -> Option<usize> + Sync),
    ) -> Result<()> {
        thread::scope(|scope| {
            let mut first = None;
            let mut others = Vec::new();
            for (pair, sides) in all_sides.iter_mut().enumerate() {
                let (a, b) = (sides.0.take(), sides.1.take());
                let play_b = move || {
                    pin_to(cpu_of(pair))?;
                    self.play_b(pair, b)
                };
                others.push(
                    spawn(scope, format!("b-{pair}"), play_b)
                        .inspect_err(|_| self.start_without_missing())?,
                );
                let play_a = move || {
                    pin_to(cpu_of(pair))?;
                    self.play_a(pair, a)
                };
                if pair == 0 {
                    first = Some(play_a);
                } else {
                    others.push(
                        spawn(scope, format!("a-{pair}"), play_a)
                            .inspect_err(|_| self.start_without_missing())?,
                    );
                }
            }
            if let Some(play_a) = first {
                play_a()?;
            }
            others.into_iter().try_for_each(join)
        })
    }

    fn with_processes(
        &self,
        all_sides: &mut [Pair],
        cpu_of: &(dyn Fn(usize) -> Option<usize> + Sync),
    ) -> Result<()> {
        let mut children = Vec::new();
        for pair in 0..all_sides.len() {
            for is_a in [false, true] {
                if is_a && pair == 0 {
                    continue;
                }
                let child = fork_child(|| {
                    let sides = &mut all_sides[pair];
                    let own = if is_a { sides.0.take() } else { sides.1.take() };
                    // Whoever ends must leave no writer behind in another process.
                    all_sides.fill_with(|| (None, None));
                    pin_to(cpu_of(pair))?;
                    if is_a {
                        self.play_a(pair, own)
                    } else {
                        self.play_b(pair, own)
                    }
                })
                .inspect_err(|_| self.start_without_missing())?;
                children.push(child);
            }
        }
        let own = all_sides[0].0.take();
        all_sides.fill_with(|| (None, None));
        pin_to(cpu_of(0))?;
        self.play_a(0, own)?;
        children.into_iter().try_for_each(reap)
    }

    fn play_a(&self, pair: usize, side: Option<Side>) -> Result<()> {
        let mut side = side.context("a pair's pipes were given away twice")?;
        let mut round = |byte| -> Result<()> {
            side.send(byte)?;
            side.receive()?;
            Ok(())
        };
        // Both are up once this round is over; then all pairs start together.
        round(GO_ON)?;
        self.started.fetch_add(1, SeqCst);
        while self.started.load(SeqCst) < u64::from(self.options.pairs) {
            yield_now();
        }

        let begin_ns = now_ns();
        let rounds = match self.options.seconds {
            None => {
                for _ in 0..self.options.rounds {
                    round(GO_ON)?;
                }
                self.options.rounds
            }
            Some(time) => {
                let deadline = begin_ns + time.as_nanos() as u64;
                let mut rounds = 0;
                while now_ns() < deadline {
                    for _ in 0..ROUNDS_PER_LOOK {
                        round(GO_ON)?;
                    }
                    rounds += ROUNDS_PER_LOOK;
                }
                rounds
            }
        };
        let end_ns = now_ns();
        round(STOP)?;

        let figures = self.figures[pair];
        figures[A_TID].store(tid() as u64, SeqCst);
        figures[ROUNDS].store(rounds, SeqCst);
        figures[BEGIN].store(begin_ns, SeqCst);
        figures[END].store(end_ns, SeqCst);
        Ok(())
    }

    fn play_b(&self, pair: usize, side: Option<Side>) -> Result<()> {
        let mut side = side.context("a pair's pipes were given away twice")?;
        self.figures[pair][B_TID].store(tid() as u64, SeqCst);
        loop {
            let byte = side.receive()?;
            side.send(byte)?;
            if byte == STOP {
                return Ok(());
            }
        }
    }

    fn start_without_missing(&self) {
        self.started
            .fetch_add(u64::from(self.options.pairs), SeqCst);
    }
}

fn pin_to(cpu: Option<usize>) -> Result<()> {
    cpu.map_or(Ok(()), pin)
}

struct Figures {
    a_tid: u64,
    b_tid: u64,
    rounds: u64,
    begin_ns: u64,
    end_ns: u64,
}

impl Figures {
    fn read(words: &[AtomicU64]) -> Self {
        let word = |i: usize| words[i].load(SeqCst);
        Self {
            a_tid: word(A_TID),
            b_tid: word(B_TID),
            rounds: word(ROUNDS),
            begin_ns: word(BEGIN),
            end_ns: word(END),
        }
    }

    fn elapsed_ns(&self) -> u64 {
        self.end_ns - self.begin_ns
    }

    fn json(&self, cpu: Option<usize>) -> Value {
        json!({
            "a_tid": self.a_tid,
            "b_tid": self.b_tid,
            "cpu": cpu,
            "rounds": self.rounds,
            "begin_ns": self.begin_ns,
            "end_ns": self.end_ns,
            "elapsed_ns": self.elapsed_ns(),
            "ns_per_round": self.elapsed_ns() as f64 / self.rounds as f64,
        })
    }
}
