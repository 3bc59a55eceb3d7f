//! Roll-ups of saved traces: that they add up to the reports, whichever way they were made.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader},
};

use flate2::read::GzDecoder;
use forktrace_core::report::Report;
use forktrace_export::{Rollup, Source};
use serde_json::Value;

use crate::{
    TRACES,
    hostile::{Read, read},
};

fn add(rollup: &mut Rollup, read: &Read) -> std::io::Result<()> {
    let source = Source {
        info: &read.info,
        model: &read.model,
        report: &read.report,
    };
    rollup.add(&source, "web-1")
}

fn written(rollup: &Rollup) -> Vec<u8> {
    let mut out = Vec::new();
    rollup.write(&mut out).expect("memory takes it");
    out
}

fn rows(packed: &[u8]) -> Vec<Value> {
    let lines = BufReader::new(GzDecoder::new(packed)).lines();
    lines
        .map(|line| serde_json::from_str(&line.expect("text")).expect("JSON"))
        .collect()
}

type Sums = BTreeMap<(String, String, Option<String>), u64>;

fn sums(rows: &[Value]) -> Sums {
    let mut sums = Sums::new();
    for row in rows.iter().filter(|row| row["state"] != "trace") {
        let text = |field: &str| row[field].as_str().map(str::to_owned);
        let key = (
            text("role").expect("a role"),
            text("state").expect("a state"),
            text("reason"),
        );
        *sums.entry(key).or_default() += row["ns"].as_u64().expect("ns");
    }
    sums
}

fn of_report(report: &Report) -> Sums {
    let mut sums = Sums::new();
    for task in &report.tasks {
        let mut add = |state: &str, reason: Option<String>, ns: u64| {
            if ns > 0 {
                let key = (task.role.clone(), state.to_owned(), reason);
                *sums.entry(key).or_default() += ns;
            }
        };
        add("running", None, task.running_ns);
        add("runnable", None, task.runnable_ns);
        add("stopped", None, task.stopped_ns);
        add("unknown", None, task.unknown_ns);
        for wait in &task.waits {
            add("blocked", Some(wait.reason.clone()), wait.ns);
        }
    }
    sums
}

#[test]
fn rows_add_up_to_the_report() {
    for trace in TRACES {
        let read = read(trace);
        let mut rollup = Rollup::default();
        add(&mut rollup, &read).expect("it is new");
        let rows = rows(&written(&rollup));
        let (sums, told) = (sums(&rows), of_report(&read.report));
        let lived = |sums: &Sums| sums.values().sum::<u64>();
        assert_eq!(lived(&sums), lived(&told), "{trace}");
        // Where records are missing the report knows sums from the kernel, and not of when.
        match sums.keys().any(|(_, state, _)| state == "unknown") {
            true => assert!(!read.report.audit.complete, "{trace}"),
            false => assert_eq!(sums, told, "{trace}"),
        }
        for ((role, state, reason), ns) in
            sums.iter().filter(|((_, state, _), _)| state != "unknown")
        {
            let key = (role.clone(), state.clone(), reason.clone());
            assert!(told.get(&key) >= Some(ns), "{trace}: {key:?}");
        }
        let longest = rows
            .iter()
            .map(|row| row["longest_ns"].as_u64().expect("ns"));
        assert!(longest.max() > Some(0), "{trace}");
    }
}

#[test]
fn roll_ups_of_roll_ups_are_those_of_all_traces() {
    let mut at_once = Rollup::default();
    let mut of_files = Rollup::default();
    for pair in TRACES.chunks(2) {
        let mut part = Rollup::default();
        for trace in pair {
            let read = read(trace);
            add(&mut at_once, &read).expect("it is new");
            add(&mut part, &read).expect("it is new");
        }
        of_files.read(&written(&part)[..]).expect("rows");
    }
    assert_eq!(of_files.traces(), TRACES.len());
    assert_eq!(written(&of_files), written(&at_once));
}

#[test]
fn no_trace_is_in_it_twice() {
    let mut rollup = Rollup::default();
    let read = read("sleepers");
    add(&mut rollup, &read).expect("it is new");
    let file = written(&rollup);
    let twice = [
        add(&mut rollup, &read).expect_err("it is there"),
        rollup.read(&file[..]).expect_err("it is there"),
    ];
    for error in twice {
        assert!(error.to_string().contains("already"), "{error}");
    }
}

#[test]
fn a_file_that_is_damaged_is_an_error() {
    let mut rollup = Rollup::default();
    add(&mut rollup, &read("sleepers")).expect("it is new");
    let file = written(&rollup);
    for length in 0..file.len() {
        let read = Rollup::default().read(&file[..length]);
        assert!(read.is_err() || length == 0, "{length} bytes");
    }
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packed, &vec![b'x'; 1 << 20]).expect("memory");
    let long = packed.finish().expect("memory");
    let error = Rollup::default().read(&long[..]).expect_err("no row");
    assert!(error.to_string().contains("line 1"), "{error}");
}

/// Names that all differ, and pack well.
#[test]
fn a_small_file_with_many_long_names_takes_bounded_memory() {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let long = "x".repeat(60_000);
    for number in 0..2_000 {
        let row = format!(
            r#"{{"minute":0,"host":"","role":"{number}{long}","state":"running","reason":null,"ns":1,"count":1,"longest_ns":1}}"#
        );
        std::io::Write::write_all(&mut packed, row.as_bytes()).expect("memory");
        std::io::Write::write_all(&mut packed, b"\n").expect("memory");
    }
    let file = packed.finish().expect("memory");
    assert!(file.len() < 2 << 20, "{} bytes", file.len());
    let error = Rollup::default().read(&file[..]).expect_err("too much");
    assert!(error.to_string().contains("64 MB"), "{error}");
}
