//! `--lag`: how long data waited in sockets until a task read it.

use forktrace_record::capture::{LogLevel, PollProbes, Settings, Tracer};
use serde_json::Value;

use crate::support::{lacks, run, skip, unspoilt};

/// Both ends of connections in one thread: data is sent, and read a known time later. What it
/// is blocked in meanwhile is a sleep; the second connection is read at once.
const SCRIPT: &str = r#"
import socket, time
for port in range(20000, 32000):
    # Below those that clients get: of one connection alone the lower port is the server's.
    try:
        server = socket.create_server(("127.0.0.1", port))
        break
    except OSError:
        pass
late = socket.create_connection(("127.0.0.1", port))
served = server.accept()[0]
prompt = socket.create_connection(("127.0.0.1", port))
also = server.accept()[0]
least = []
for _ in range(5):
    late.send(b"x")
    begun = time.monotonic_ns()
    time.sleep(0.1)
    least.append(time.monotonic_ns() - begun)
    served.recv(1)
    prompt.send(b"x")
    also.recv(1)
# Nobody reads this: the socket's address is another's soon.
late.send(b"x")
late.close(); served.close()
again = socket.create_connection(("127.0.0.1", port))
other = server.accept()[0]
again.send(b"x"); other.recv(1)
print(port, sum(least), max(least))
"#;

/// Can this kernel tell? Says so, if it can't.
fn can(test: &str) -> bool {
    let settings = Settings {
        ring_bytes: None,
        max_tasks: 64,
        polls: PollProbes::Off,
        stacks: None,
        plain: false,
        log: LogLevel::Off,
        existing: None,
        lag_min: Some(std::time::Duration::ZERO),
    };
    match Tracer::attach(&settings) {
        Ok(_) => true,
        Err(error) if error.to_string().contains("Linux 6.3 is the first") => {
            skip(test, &error.to_string());
            false
        }
        Err(error) => panic!("{error:#}"),
    }
}

#[test]
fn data_waited_as_long_as_its_reader_slept() {
    const TEST: &str = "data_waited_as_long_as_its_reader_slept";
    if lacks(TEST, &["python3"]) || !can(TEST) {
        return;
    }
    unspoilt(|| {
        let run = run()
            .json()
            .args(["--lag=20ms", "--", "python3", "-c", SCRIPT]);
        let done = run.complete();
        let lags = &done.report().lags;
        let figures: Vec<u64> = done
            .stdout
            .split_whitespace()
            .map(|word| word.parse().expect("a number"))
            .collect();
        let [port, total_ns, longest_ns] = figures[..] else {
            panic!("{}", done.stdout);
        };
        let n = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("{lags:#}"));
        let [row] = &lags["rows"].as_array().expect("rows")[..] else {
            panic!("{lags:#}");
        };
        assert_eq!(row["side"], "serves", "{row:#}");
        assert_eq!(n(&row["port"]), port, "{row:#}");
        assert_eq!(n(&row["waited"]["count"]), 5, "{row:#}");
        assert!(n(&row["ns"]) >= total_ns, "{row:#}");
        assert!(n(&row["longest"]["ns"]) >= longest_ns, "{row:#}");
        let did = &row["did"];
        let slept: u64 = did["waits"]
            .as_array()
            .expect("waits")
            .iter()
            .filter(|wait| wait["reason"] == "sleep")
            .map(|wait| n(&wait["ns"]))
            .sum();
        assert!(
            slept >= 5 * 100_000_000 && slept <= n(&row["ns"]),
            "{row:#}"
        );
        let sum: u64 = ["running_ns", "runnable_ns", "blocked_ns", "unknown_ns"]
            .map(|state| n(&did[state]))
            .iter()
            .sum();
        assert_eq!(sum, n(&row["ns"]), "{row:#}");
        // Five late ones, five at once, one on a socket that may have an old one's address.
        assert_eq!(n(&lags["looks"]), 11, "{lags:#}");
        assert_eq!(n(&lags["not_noted"]), 0, "{lags:#}");
    });
}
