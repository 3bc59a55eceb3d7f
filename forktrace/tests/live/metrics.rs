//! `--metrics`: what is served while a recording goes on, compared with its report.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use crate::{
    attach::{Target, attach, attached, interrupt, whole},
    support::{Running, lacks, unspoilt},
};

/// Where it says that the metrics are.
pub(crate) fn address(running: &Running) -> SocketAddr {
    let said = running.stderr();
    let found = said
        .split("metrics at http://")
        .nth(1)
        .expect("it says where");
    let address = found.split('/').next().expect("an address");
    address.parse().expect("an address")
}

/// What is answered to a request, with its head.
fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("somebody listens");
    let patience = Some(Duration::from_secs(60));
    stream.set_read_timeout(patience).expect("a timeout");
    stream.write_all(request.as_bytes()).expect("it is read");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer
}

pub(crate) fn scrape(address: SocketAddr) -> String {
    let answer = ask(
        address,
        "GET /metrics HTTP/1.1\r\nHost: here\r\nAccept: application/openmetrics-text; version=1.0.0\r\n\r\n",
    );
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("openmetrics-text"), "{head}");
    body.to_owned()
}

/// A sample; `None`: it is not there yet.
pub(crate) fn sample(page: &str, name: &str) -> Option<f64> {
    let line = page
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map(|value| value.parse().expect("a number"))
}

/// The same in ns.
fn ns(page: &str, name: &str) -> Option<u64> {
    let line = page
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map(|value| value.replace('.', "").parse().expect("ns"))
}

/// A target that sleeps all along, so that all of the time but the first moment is such in
/// which all were blocked, in the metrics as in the report.
#[test]
fn metrics_are_what_the_report_says() {
    if lacks("metrics_are_what_the_report_says", &["python3"]) {
        return;
    }
    unspoilt(|| {
        let target = Target::start(&[]);
        let pid = target.pid().to_string();
        let running = attached(attach(["-p", &pid, "--metrics", "0"]));
        let address = address(&running);
        assert!(address.ip().is_loopback());
        let recorded = "forktrace_recorded_seconds_total";
        let blocked = "forktrace_all_blocked_seconds_total";
        let mut page = scrape(address);
        // Until all have been seen to be blocked, for a while.
        while ns(&page, blocked).is_none_or(|ns| ns < 300_000_000) {
            page = scrape(address);
        }
        assert!(page.ends_with("# EOF\n"), "{page}");
        assert_eq!(
            sample(&page, "forktrace_tasks{state=\"blocked\"}"),
            Some(3.0)
        );
        assert_eq!(
            sample(&page, "forktrace_tasks{state=\"running\"}"),
            Some(0.0)
        );
        assert_eq!(sample(&page, "forktrace_tasks_seen_total"), Some(3.0));
        assert_eq!(sample(&page, "forktrace_records_lost_total"), Some(0.0));
        assert!(sample(&page, "forktrace_all_blocked_now_seconds").is_some_and(|s| s > 0.2));
        let of_sleep = "forktrace_blocked_seconds_total{reason=\"sleep\"}";
        assert!(
            ns(&page, of_sleep).is_some_and(|ns| ns >= 200_000_000),
            "{page}"
        );
        // All the time from one page to the next is such.
        let later = scrape(address);
        let [recorded, blocked] = [recorded, blocked].map(|name| {
            let [before, after] = [&page, &later].map(|page| ns(page, name).expect("a time"));
            (after, after - before)
        });
        assert_eq!(recorded.1, blocked.1);
        let cpu = "forktrace_running_seconds_total";
        assert_eq!(ns(&later, cpu), Some(0));

        let other = ask(address, "GET / HTTP/1.1\r\n\r\n");
        assert!(other.starts_with("HTTP/1.1 404 Not Found\r\n"), "{other}");
        let finished = interrupt(running);
        let report = whole(&finished);
        assert!(report.tasks.iter().all(|task| task.switches.traced == 0));
        let all_blocked = report.tree().all_blocked.lower_ns;
        assert!(all_blocked >= blocked.0 && all_blocked > 0);
        assert_eq!(report.tasks.iter().map(|it| it.running_ns).sum::<u64>(), 0);
        target.end();
    });
}

#[test]
fn an_address_that_is_in_use_or_none_is_told_before_anything_begins() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("bound").port().to_string();
    let own_pid = std::process::id().to_string();
    for (address, expected) in [
        (port.as_str(), "Address already in use"),
        ("nowhere", "is no address for metrics; write a port"),
    ] {
        let finished = attach(["-p", &own_pid, "--metrics", address]).finish();
        assert_eq!(finished.status.code(), Some(125), "{}", finished.stderr);
        assert!(finished.stderr.contains(expected), "{}", finished.stderr);
    }
}
