//! The workloads that the tools are put on. Each measures itself.

use std::{
    ffi::OsString,
    io::{BufRead as _, BufReader, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::{
    Bench,
    process::{Background, capture},
    tools::Tool,
};

/// How long a server may take to start and to end, with a tracer around it.
const PATIENCE: Duration = Duration::from_secs(60);
/// perf sends each message of a group's 20 senders to each of its 20 receivers.
const MESSAGES_PER_LOOP: u64 = 20 * 20;

/// A byte to and fro between two processes on one CPU: microseconds a round.
pub(super) fn ping_pong(bench: &Bench, tool: Tool) -> Result<f64> {
    let rounds = (bench.size.ping_pong_rounds / tool.share()).to_string();
    let mut argv: Vec<OsString> = vec![bench.forktrace.clone().into()];
    argv.extend(
        [
            "workload",
            "ping-pong",
            "--processes",
            "--pin",
            "--rounds",
            &rounds,
        ]
        .map(Into::into),
    );
    let printed = with(bench, tool, &argv)?;
    let figures: Value = serde_json::from_str(printed.trim())
        .with_context(|| format!("the ping-pong printed {printed:?}"))?;
    let ns = figures["ns_per_round"]
        .as_f64()
        .with_context(|| format!("the ping-pong gives no ns_per_round: {printed}"))?;
    Ok(ns / 1e3)
}

/// 20 processes send to 20 others over sockets: microseconds a message.
pub(super) fn messaging(bench: &Bench, tool: Tool) -> Result<f64> {
    let loops = bench.size.messaging_loops / tool.share();
    let argv = format!("perf bench -f simple sched messaging -g 1 -l {loops}");
    let argv: Vec<OsString> = argv.split(' ').map(OsString::from).collect();
    let printed = with(bench, tool, &argv)?;
    let seconds: f64 = printed
        .trim()
        .parse()
        .with_context(|| format!("perf bench printed {printed:?}"))?;
    Ok(seconds * 1e6 / (loops * MESSAGES_PER_LOOP) as f64)
}

/// Runs a command to its end with a tool and gives what it prints.
fn with(bench: &Bench, tool: Tool, argv: &[OsString]) -> Result<String> {
    let folder = tempfile::tempdir_in(bench.folder.path())?;
    let attached = tool.attach(&bench.forktrace, folder.path())?;
    let printed = capture(&tool.command(&bench.forktrace, folder.path(), argv));
    let detached = attached.detach();
    let printed = printed?;
    detached?;
    Ok(printed)
}

/// A redis-server on one CPU with the tool, and a client on another without:
/// requests a second.
pub(super) fn redis(bench: &Bench, tool: Tool) -> Result<f64> {
    let [server_cpu, client_cpu, ..] = bench.cpus[..] else {
        bail!("it takes two CPUs");
    };
    let folder = tempfile::tempdir_in(bench.folder.path())?;
    let attached = tool.attach(&bench.forktrace, folder.path())?;
    let server_folder = tempfile::tempdir_in(folder.path())?;
    let address = free_address()?;
    let port = address.port();
    let mut argv: Vec<OsString> = ["taskset", "-c", &server_cpu.to_string(), "redis-server"]
        .map(OsString::from)
        .to_vec();
    argv.extend(
        [
            "--port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
            "--appendonly",
            "no",
            "--save",
            "",
        ]
        .map(OsString::from),
    );
    argv.extend(["--dir".into(), server_folder.path().into()]);
    let argv = tool.command(&bench.forktrace, folder.path(), &argv);
    let mut server = Server {
        process: Some(Background::start(&argv, server_folder.path())?),
        address,
    };
    server.until_ready()?;

    let requests = bench.size.redis_requests / tool.share();
    let client = format!(
        "taskset -c {client_cpu} redis-benchmark -p {port} -t get -c 20 -n {requests} --csv"
    );
    let client: Vec<OsString> = client.split(' ').map(OsString::from).collect();
    let printed = capture(&client);
    server.end()?;
    attached.detach()?;
    requests_per_second(&printed?)
}

/// Reads `redis-benchmark --csv`: a heading, and a line `"GET","12345.67",…`.
fn requests_per_second(csv: &str) -> Result<f64> {
    csv.lines()
        .find_map(|line| line.strip_prefix("\"GET\",\"")?.split('"').next())
        .and_then(|number| number.parse().ok())
        .with_context(|| format!("redis-benchmark printed {csv:?}"))
}

fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
    Ok(listener.local_addr()?)
}

/// A redis-server, perhaps below a tool. Dropping it ends both.
struct Server {
    process: Option<Background>,
    address: SocketAddr,
}

impl Server {
    fn until_ready(&mut self) -> Result<()> {
        let address = self.address;
        let process = self
            .process
            .as_mut()
            .context("the server was not started")?;
        process.until(PATIENCE, |_| {
            say(address, "PING").is_ok_and(|answer| answer.starts_with("+PONG"))
        })
    }

    /// Ends the server, and waits for the tool that ends with it.
    fn end(mut self) -> Result<()> {
        let process = self.process.take().context("the server was not started")?;
        self.shut_down();
        process.end(PATIENCE)
    }

    /// The server is the tool's child, so it has to be asked itself. It closes
    /// the connection instead of an answer.
    fn shut_down(&self) {
        let _ = say(self.address, "SHUTDOWN NOSAVE");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            self.shut_down();
            let _ = process.wait(PATIENCE);
        }
    }
}

/// Sends a server one command and gives the first line of its answer.
fn say(address: SocketAddr, command: &str) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(format!("{command}\r\n").as_bytes())?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_stands_behind_the_test() {
        let csv = "\"test\",\"rps\",\"avg_latency_ms\"\n\"GET\",\"26795.28\",\"0.582\"\n";
        assert_eq!(requests_per_second(csv).unwrap(), 26795.28);
        assert!(requests_per_second("\"test\",\"rps\"\n").is_err());
    }
}
