//! Asks a server over several connections at once, and counts the answers.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::atomic::{AtomicU8, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};

/// Connections, each of which has one request under way.
pub(super) const CONNECTIONS: usize = 8;
/// Time before answers count: a JVM compiles what is hot.
const WARM_UP: Duration = Duration::from_secs(2);
/// Within this an answer is there as a whole.
const WHOLE: Duration = Duration::from_millis(300);
/// A server that does not answer for so long has failed.
const LIMIT: Duration = Duration::from_secs(30);

/// Sends `request` again and again on this CPU. Every answer is as long as the first one.
/// Gives answers a second.
pub(super) fn ask(port: u16, cpu: usize, seconds: u32, request: &str) -> Result<f64> {
    let length = first_answer(port, request)?;
    let counting = AtomicU8::new(WARMING);
    let counts: Vec<Result<u64>> = thread::scope(|scope| {
        let start = || scope.spawn(|| connection(port, cpu, request, length, &counting));
        let all: Vec<_> = (0..CONNECTIONS).map(|_| start()).collect();
        thread::sleep(WARM_UP);
        counting.store(COUNTING, Ordering::Relaxed);
        let began = Instant::now();
        thread::sleep(Duration::from_secs(u64::from(seconds)));
        let took = began.elapsed();
        counting.store(OVER, Ordering::Relaxed);
        let counts = all.into_iter().map(|it| match it.join() {
            Ok(count) => count.map(|count| (count as f64 / took.as_secs_f64()) as u64),
            Err(_) => bail!("a connection panicked"),
        });
        counts.collect()
    });
    let mut rate = 0;
    for count in counts {
        rate += count?;
    }
    ensure!(rate > 0, "no answers");
    Ok(rate as f64)
}

const WARMING: u8 = 0;
const COUNTING: u8 = 1;
const OVER: u8 = 2;

fn connection(
    port: u16,
    cpu: usize,
    request: &str,
    length: usize,
    phase: &AtomicU8,
) -> Result<u64> {
    let mut cpus = CpuSet::new();
    cpus.set(cpu)?;
    sched_setaffinity(Pid::from_raw(0), &cpus)?;
    let mut stream = connected(port)?;
    let mut answer = vec![0; length];
    let mut counted = 0;
    loop {
        stream.write_all(request.as_bytes())?;
        stream
            .read_exact(&mut answer)
            .context("an answer is missing")?;
        match phase.load(Ordering::Relaxed) {
            WARMING => {}
            COUNTING => counted += 1,
            _ => return Ok(counted),
        }
    }
}

/// How long an answer is.
fn first_answer(port: u16, request: &str) -> Result<usize> {
    let mut stream = connected(port)?;
    stream.write_all(request.as_bytes())?;
    // What comes first may be slow, what follows it is not.
    let mut answer = vec![0; 1 << 16];
    let mut length = stream.read(&mut answer).context("there was no answer")?;
    stream.set_read_timeout(Some(WHOLE))?;
    while let Ok(more @ 1..) = stream.read(&mut answer[length..]) {
        length += more;
    }
    ensure!(length > 0, "the connection was closed");
    Ok(length)
}

fn connected(port: u16) -> Result<TcpStream> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let stream = TcpStream::connect_timeout(&address, LIMIT)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(LIMIT))?;
    Ok(stream)
}

/// Does somebody listen there?
pub(super) fn listens(port: u16) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
}

pub(super) fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
    Ok(listener.local_addr()?.port())
}
