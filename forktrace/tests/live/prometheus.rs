//! `--metrics` as Prometheus itself reads it.

use std::{
    fs,
    io::Read as _,
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    attach::{Target, attach, attached, interrupt, whole},
    metrics::{address, scrape},
    support::{lacks, unspoilt},
};

/// How long it may take to start and to have scraped.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server that scrapes one address, five times a second.
struct Prometheus {
    process: Child,
    address: SocketAddr,
}

impl Prometheus {
    fn start(folder: &Path, target: SocketAddr) -> Self {
        let config = folder.join("prometheus.yml");
        let text = format!(
            "scrape_configs:\n  - job_name: forktrace\n    scrape_interval: 200ms\n    \
             scrape_timeout: 200ms\n    static_configs:\n      - targets: [\"{target}\"]\n"
        );
        fs::write(&config, text).expect("a file");
        // Below those that clients get, so that nobody has it by the time it is wanted.
        let address = (20_000..32_000)
            .map(|port| SocketAddr::from(([127, 0, 0, 1], port)))
            .find(|address| TcpListener::bind(address).is_ok())
            .expect("a free port");
        let log = fs::File::create(folder.join("prometheus.log")).expect("a file");
        let process = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.join("data").display()
            ))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("it starts");
        Self { process, address }
    }

    /// What its API answers; `None`: nobody listens yet.
    fn get(&self, path: &str) -> Option<Value> {
        use std::io::Write as _;
        let mut stream = TcpStream::connect(self.address).ok()?;
        write!(stream, "GET /api/v1/{path} HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (_, body) = answer.split_once("\r\n\r\n")?;
        serde_json::from_str(body).ok()
    }

    /// The value of a series, once there is one.
    fn value(&mut self, folder: &Path, query: &str) -> f64 {
        let begun = Instant::now();
        loop {
            let answer = self.get(&format!("query?query={query}"));
            let sample = answer.map(|answer| answer["data"]["result"][0]["value"][1].clone());
            if let Some(value) = sample.as_ref().and_then(Value::as_str) {
                return value.parse().expect("a number");
            }
            let ended = self.process.try_wait().expect("it is ours");
            assert!(
                ended.is_none() && begun.elapsed() < PATIENCE,
                "no {query}: {ended:?}, {:?}, {}",
                self.get("targets"),
                fs::read_to_string(folder.join("prometheus.log")).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn prometheus_takes_all_that_is_served() {
    if lacks(
        "prometheus_takes_all_that_is_served",
        &["prometheus", "python3"],
    ) {
        return;
    }
    unspoilt(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path();
        let target = Target::start(&[]);
        let pid = target.pid().to_string();
        let running = attached(attach(["-p", &pid, "--metrics", "0"]));
        let served = address(&running);
        let mut prometheus = Prometheus::start(folder, served);
        // The target's three threads sleep.
        let mut value = |query: &str| prometheus.value(folder, query);
        assert_eq!(value("forktrace_tasks_seen_total"), 3.0);
        assert_eq!(value("forktrace_tasks{state=\"blocked\"}"), 3.0);
        assert_eq!(value("forktrace_records_lost_total"), 0.0);
        let blocked = value("forktrace_all_blocked_seconds_total");
        assert!(blocked > 0.0);
        // As many series as the page has samples: none is refused.
        let samples = scrape(served);
        let samples = samples.lines().filter(|line| !line.starts_with('#'));
        assert_eq!(value("max(scrape_samples_scraped)"), samples.count() as f64);
        assert_eq!(value("up"), 1.0);
        let of = |name: &str| {
            let answer = prometheus.get(&format!("metadata?metric={name}"));
            answer.expect("it listens")["data"][name][0]["type"].clone()
        };
        assert_eq!(of("forktrace_runnable_seconds"), "histogram");
        assert_eq!(of("forktrace_tasks"), "gauge");
        // Later than what Prometheus has: the report tells at least as much.
        let report = interrupt(running);
        let all = whole(&report).tree().all_blocked.lower_ns as f64;
        assert!(all >= blocked * 1e9, "{all} {blocked}");
        target.end();
    });
}
