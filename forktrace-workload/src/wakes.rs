//! Who wakes whom: by a message, by a timer, at the last moment.

use std::fs::File;
use std::hint::spin_loop;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::unistd::pipe;
use serde_json::{Value, json};

use super::cpu::step;
use super::options::seconds;
use super::sys::{
    Shared, a_child_ended, cpu_ns, fork_child, fork_child_and_wait_until_it_is_gone, nap, now_ns,
    reap, tid, voluntary_switches, yield_now,
};
use super::task::{allowed_cpus, join, pin, spawn};
use super::truth::Truth;

/// Processes in a row, the first of which reads a slow input
///
/// The first reads a timer, and for each time that it ran out passes a byte to the
/// second, which passes it to the third, and so on. So who waits is woken by the process
/// before it, and the first by a timer. Their parent waits for the first to end, then
/// for the next.
///
/// Truth:
///   items   how many bytes each passed on
///   stages  [{pid, sent_ns}] in the order of the row; sent_ns has for each byte when it
///           was about to be passed on (at the end of the row: when it had come)
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct Pipeline {
    /// How many processes.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    stages: u32,
    /// How many bytes are passed on.
    #[arg(long, default_value_t = 20)]
    items: u32,
    /// How slow the input is.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    millis: u64,
}

impl Pipeline {
    pub(super) fn run(&self) -> Result<()> {
        let truth = Truth::begin("pipeline");
        let (stages, items) = (self.stages as usize, self.items as usize);
        let figures = Shared::new(stages * items.max(1))?;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::empty())
            .context("cannot make a timer")?;
        let every = TimeSpec::from(Duration::from_millis(self.millis));
        timer
            .set(Expiration::Interval(every), TimerSetTimeFlags::empty())
            .context("cannot set a timer")?;
        let mut input = Some(File::from(std::os::fd::OwnedFd::from(timer)));
        let mut pids = Vec::new();
        for (stage, sent) in figures.words().chunks(items.max(1)).enumerate() {
            let (next, mut output) = if stage + 1 < stages {
                let (reader, writer) = pipe().context("cannot make a pipe")?;
                (Some(File::from(reader)), Some(File::from(writer)))
            } else {
                (None, None)
            };
            pids.push(fork_child(|| {
                let mut input = input.take().context("a stage has no input")?;
                // A timer is read by eight bytes, and a pipe here never has more
                // than its items.
                let mut buffer = [0; 8];
                let buffer = &mut buffer[..if stage == 0 { 8 } else { 1 }];
                for sent in &sent[..items] {
                    input.read_exact(buffer).context("cannot read the input")?;
                    sent.store(now_ns(), SeqCst);
                    if let Some(output) = &mut output {
                        output.write_all(&[0]).context("cannot pass on")?;
                    }
                }
                Ok(())
            })?);
            input = next;
        }
        pids.iter().copied().try_for_each(reap)?;
        let listed: Vec<Value> = pids
            .iter()
            .zip(figures.words().chunks(items.max(1)))
            .map(|(pid, sent)| {
                let sent_ns: Vec<u64> = sent[..items].iter().map(|ns| ns.load(SeqCst)).collect();
                json!({"pid": pid.as_raw(), "sent_ns": sent_ns})
            })
            .collect();
        truth.print(json!({"items": items, "stages": listed}))
    }
}

/// A client and a server that wait for each other over the loopback interface
///
/// Truth:
///   client_pid, server_pid    two processes, children of the first
///   server_port, client_port  of the connection on 127.0.0.1
///   rounds                    how often the client asked and the server answered
///   client, server            {begin_ns, end_ns}: from the first round to the last
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct Loopback {
    /// How often the client asks.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    rounds: u64,
    /// Go on for this long instead of a number of rounds.
    #[arg(long, value_parser = seconds, conflicts_with = "rounds")]
    seconds: Option<Duration>,
}

impl Loopback {
    pub(super) fn run(&self) -> Result<()> {
        let truth = Truth::begin("loopback");
        let figures = Shared::new(6)?;
        let [
            rounds,
            client_port,
            client_begin,
            client_end,
            server_begin,
            server_end,
        ] = figures.words()
        else {
            unreachable!("six words")
        };
        let listener = TcpListener::bind("127.0.0.1:0").context("cannot listen")?;
        let address = listener.local_addr().context("no local address")?;
        let server = fork_child(|| {
            let (mut stream, _) = listener.accept().context("cannot accept")?;
            stream.set_nodelay(true)?;
            server_begin.store(now_ns(), SeqCst);
            let mut byte = [0];
            while stream.read(&mut byte).context("cannot receive")? == 1 {
                stream.write_all(&byte).context("cannot answer")?;
            }
            server_end.store(now_ns(), SeqCst);
            Ok(())
        })?;
        let client = fork_child(|| {
            let mut stream = TcpStream::connect(address).context("cannot connect")?;
            stream.set_nodelay(true)?;
            client_port.store(stream.local_addr()?.port().into(), SeqCst);
            let begin_ns = now_ns();
            client_begin.store(begin_ns, SeqCst);
            let go_on = |made: u64| match self.seconds {
                None => made < self.rounds,
                Some(time) => now_ns() - begin_ns < time.as_nanos() as u64,
            };
            let mut made = 0;
            while go_on(made) {
                stream.write_all(&[0]).context("cannot ask")?;
                stream.read_exact(&mut [0]).context("no answer")?;
                made += 1;
            }
            rounds.store(made, SeqCst);
            client_end.store(now_ns(), SeqCst);
            Ok(())
        })?;
        drop(listener);
        reap(client)?;
        reap(server)?;
        let word = |word: &AtomicU64| word.load(SeqCst);
        truth.print(json!({
            "client_pid": client.as_raw(),
            "server_pid": server.as_raw(),
            "server_port": address.port(),
            "client_port": word(client_port),
            "rounds": word(rounds),
            "client": {"begin_ns": word(client_begin), "end_ns": word(client_end)},
            "server": {"begin_ns": word(server_begin), "end_ns": word(server_end)},
        }))
    }
}

/// A thread naps beside one that computes, on the same CPU
///
/// Its timer interrupts the other one most of the time, in user mode or in a system
/// call: the other one has nothing to do with the wakeup, and wakes nobody.
///
/// Truth:
///   cpu          the CPU of both
///   napper_tid   the main thread
///   spinner_tid  the other one
///   naps         how many
///   spinner_cpu_ns  CPU time of the other one meanwhile
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct NapsBesideSpinner {
    /// How many naps.
    #[arg(long, default_value_t = 10_000)]
    naps: u64,
    /// How long each is.
    #[arg(long, default_value_t = 50)]
    micros: u64,
}

impl NapsBesideSpinner {
    pub(super) fn run(&self) -> Result<()> {
        let truth = Truth::begin("naps-beside-spinner");
        let cpu = *allowed_cpus()?.first().context("we may use no CPU")?;
        pin(cpu)?;
        let over = AtomicBool::new(false);
        let (spinner_tid, spinner_cpu_ns) = thread::scope(|scope| -> Result<_> {
            let spinner = spawn(scope, "spinner", || {
                let before = cpu_ns();
                while !over.load(SeqCst) {
                    step();
                    // Lets the napper run at once, and half of the time is
                    // interrupted in a system call.
                    yield_now();
                }
                Ok((tid(), cpu_ns() - before))
            })?;
            let napped = (0..self.naps).try_for_each(|_| nap(Duration::from_micros(self.micros)));
            over.store(true, SeqCst);
            let spun = join(spinner)?;
            napped.map(|()| spun)
        })?;
        truth.print(json!({
            "cpu": cpu,
            "napper_tid": tid(),
            "spinner_tid": spinner_tid,
            "naps": self.naps,
            "spinner_cpu_ns": spinner_cpu_ns,
        }))
    }
}

/// Wakeups that come while the woken one is still on its way to sleep
///
/// The main thread says that it is about to sleep, and sleeps in park. The other one,
/// which never sleeps and is on another CPU where there is one, wakes it a moment later:
/// a little later each time, and then from the beginning.
///
/// Truth:
///   sleeper_tid  the main thread
///   waker_tid    the other one
///   wakes        how often
///   switches     how often the main thread really slept, by the kernel's count
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct EarlyWakes {
    /// How many wakeups.
    #[arg(long, default_value_t = 20_000)]
    wakes: u64,
    /// In the end the sleeper naps for so long.
    #[arg(long, default_value = "0", value_parser = seconds)]
    seconds: Duration,
}

impl EarlyWakes {
    pub(super) fn run(&self) -> Result<()> {
        /// Steps of the delay: from none to more than it takes to fall asleep.
        const STEPS: u64 = 100;
        let truth = Truth::begin("early-wakes");
        let cpus = allowed_cpus()?;
        let (first, other) = (cpus.first().copied(), cpus.get(1).copied());
        let about_to_sleep = AtomicU64::new(0);
        let woken = AtomicU64::new(0);
        let sleeper = thread::current();
        let (waker_tid, switches) = thread::scope(|scope| -> Result<_> {
            let waker = spawn(scope, "waker", || {
                if let Some(cpu) = other {
                    pin(cpu)?;
                }
                for wake in 1..=self.wakes {
                    while about_to_sleep.load(SeqCst) < wake {
                        if other.is_some() {
                            spin_loop();
                        } else {
                            yield_now();
                        }
                    }
                    (0..wake % STEPS).for_each(|_| spin_loop());
                    woken.store(wake, SeqCst);
                    sleeper.unpark();
                }
                Ok(tid())
            })?;
            if let Some(cpu) = first {
                pin(cpu)?;
            }
            let switches_before = voluntary_switches()?;
            for wake in 1..=self.wakes {
                about_to_sleep.store(wake, SeqCst);
                while woken.load(SeqCst) < wake {
                    thread::park();
                }
            }
            let switches = voluntary_switches()? - switches_before;
            nap(self.seconds)?;
            Ok((join(waker)?, switches))
        })?;
        truth.print(json!({
            "sleeper_tid": tid(),
            "waker_tid": waker_tid,
            "wakes": self.wakes,
            "switches": switches,
        }))
    }
}

/// A sleep that outlasts its trace, after naps that were over before they began
///
/// A child makes naps of a nanosecond, whose timers mostly run out before it has left
/// its CPU, until the last one did. Then it sleeps, and the first process ends
/// meanwhile: trace it with --until-exit.
///
/// Truth:
///   child_pid  the sleeping child
///   naps       how many
///   switches   how often the child blocked in them, by the kernel's count
///   begin_ns   when it was about to sleep
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct SleepOn {
    /// At least how many naps.
    #[arg(long, default_value_t = 1000)]
    naps: u64,
    /// How long the child sleeps in the end.
    #[arg(long, default_value = "2", value_parser = seconds)]
    seconds: Duration,
    /// How long the first process waits after the child's naps.
    #[arg(long, default_value_t = 200)]
    millis: u64,
}

impl SleepOn {
    pub(super) fn run(&self) -> Result<()> {
        let truth = Truth::begin("sleep-on");
        let figures = Shared::new(3)?;
        let [naps, switches, begin] = figures.words() else {
            unreachable!("three words")
        };
        let child = fork_child(|| {
            nix::sys::prctl::set_timerslack(1).context("cannot set the timer slack")?;
            let first = voluntary_switches()?;
            let mut made = 0;
            loop {
                let before = voluntary_switches()?;
                nap(Duration::from_nanos(1))?;
                made += 1;
                if made >= self.naps && voluntary_switches()? == before {
                    break;
                }
            }
            naps.store(made, SeqCst);
            switches.store(voluntary_switches()? - first, SeqCst);
            begin.store(now_ns(), SeqCst);
            nap(self.seconds)
        })?;
        while begin.load(SeqCst) == 0 {
            ensure!(!a_child_ended()?, "the child ended before it slept");
            nap(Duration::from_millis(1))?;
        }
        nap(Duration::from_millis(self.millis))?;
        let word = |word: &AtomicU64| word.load(SeqCst);
        truth.print(json!({
            "child_pid": child.as_raw(),
            "naps": word(naps),
            "switches": word(switches),
            "begin_ns": word(begin),
        }))
    }
}

/// A process that waits until its new child executes a program or ends
///
/// First children that are forked so that their parent waits until they end (vfork),
/// then programs that are started by posix_spawn: the child wakes the parent when it
/// executes the program.
///
/// Truth:
///   vforked  [{pid, begin_ns, end_ns, child_ends_ns}]: the child was about to end at
///            child_ends_ns
///   spawned  [{pid, begin_ns, end_ns}]
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct Spawns {
    /// How many children of each kind.
    #[arg(long, default_value_t = 3)]
    children: u32,
    /// How long a vforked child naps.
    #[arg(long, default_value_t = 20)]
    millis: u64,
}

impl Spawns {
    pub(super) fn run(&self) -> Result<()> {
        let truth = Truth::begin("spawns");
        let child_ends = Shared::new(1)?;
        let mut vforked = Vec::new();
        for _ in 0..self.children {
            let begin_ns = now_ns();
            let child = fork_child_and_wait_until_it_is_gone(|| {
                nap(Duration::from_millis(self.millis))?;
                child_ends.words()[0].store(now_ns(), SeqCst);
                Ok(())
            })?;
            vforked.push(json!({
                "pid": child.as_raw(),
                "begin_ns": begin_ns,
                "end_ns": now_ns(),
                "child_ends_ns": child_ends.words()[0].load(SeqCst),
            }));
            reap(child)?;
        }
        let mut spawned = Vec::new();
        for _ in 0..self.children {
            let begin_ns = now_ns();
            let mut child = Command::new("true")
                .stdout(Stdio::null())
                .spawn()
                .context("cannot start `true`")?;
            spawned.push(json!({
                "pid": child.id(),
                "begin_ns": begin_ns,
                "end_ns": now_ns(),
            }));
            let status = child.wait().context("cannot wait for `true`")?;
            ensure!(status.success(), "`true` failed: {status}");
        }
        truth.print(json!({"vforked": vforked, "spawned": spawned}))
    }
}

/// Threads that nap in rhythms which have nothing to do with each other
///
/// Each naps for a time of its own, computes a little, and naps again.
///
/// Truth:
///   threads  [{tid, nap_ns, naps, begin_ns, end_ns}], the main thread first
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct Rhythms {
    /// How many threads.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=8))]
    threads: u32,
    /// For how long.
    #[arg(long, default_value = "2", value_parser = seconds)]
    seconds: Duration,
}

impl Rhythms {
    pub(super) fn run(&self) -> Result<()> {
        /// No two have a common divisor.
        const NAPS_US: [u64; 8] = [7019, 11_003, 4513, 13_009, 5501, 9007, 3001, 15_013];
        let truth = Truth::begin("rhythms");
        let live = |number: u32| -> Result<Value> {
            let time = Duration::from_micros(NAPS_US[number as usize % NAPS_US.len()]);
            let begin_ns = now_ns();
            let mut naps = 0;
            while now_ns() - begin_ns < self.seconds.as_nanos() as u64 {
                nap(time)?;
                naps += 1;
                let until = now_ns() + time.as_nanos() as u64 / 4;
                while now_ns() < until {
                    step();
                }
            }
            Ok(json!({
                "tid": tid(),
                "nap_ns": time.as_nanos() as u64,
                "naps": naps,
                "begin_ns": begin_ns,
                "end_ns": now_ns(),
            }))
        };
        let threads = thread::scope(|scope| -> Result<Vec<_>> {
            let others = (1..self.threads)
                .map(|i| spawn(scope, format!("rhythm-{i}"), move || live(i)))
                .collect::<Result<Vec<_>>>()?;
            let mut threads = vec![live(0)?];
            for other in others {
                threads.push(join(other)?);
            }
            Ok(threads)
        })?;
        truth.print(json!({"threads": threads}))
    }
}
