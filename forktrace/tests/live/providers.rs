//! Who could end each wait is found out while it lasts.

use std::{
    collections::HashMap,
    fs,
    time::{Duration, Instant},
};

use forktrace_core::{
    trace::{Event, Providers},
    trace_file,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use crate::support::{list, n, run};

/// The last that a trace says of each task, in the words of the workload.
fn told(trace: &[u8]) -> HashMap<u32, Value> {
    let mut tids: HashMap<u32, u32> = HashMap::new();
    let mut last: HashMap<u32, Providers> = HashMap::new();
    let read = trace_file::read(trace, |_, event| match event {
        Event::Born(born) => drop(tids.insert(born.serial, born.tid)),
        Event::Providers(found) => drop(last.insert(found.serial, found)),
        _ => {}
    });
    if read.is_err() {
        return HashMap::new();
    }
    let tid = |serial: &u32| tids.get(serial).copied().unwrap_or(0);
    let told = last.values().map(|found| {
        let waits = tid(&found.serial);
        let value = json!({
            "waits": waits,
            "kind": format!("{:?}", found.kind),
            "tasks": found.tasks.iter().map(tid).collect::<Vec<_>>(),
            "outside": found.outside,
            "foreign": found.foreign,
        });
        (waits, value)
    });
    told.collect()
}

#[test]
fn who_could_end_a_wait_is_found_out_while_it_lasts() {
    let run = run();
    let (trace, script) = (run.file("trace"), run.file("providers.py"));
    let folder = run.folder().to_owned();
    fs::write(&script, include_str!("providers.py")).expect("a script");
    let mut running = run
        .args(["--save"])
        .args([&trace])
        .args(["--", "python3"])
        .args([&script, &folder])
        .start();
    let truth: Value = serde_json::from_str(&running.line(1)).expect("a line of JSON");
    let expected = list(&truth["waits"]);
    let begun = Instant::now();
    loop {
        let told = told(&fs::read(&trace).unwrap_or_default());
        let differs = |wait: &&Value| told.get(&(n(&wait["waits"]) as u32)) != Some(*wait);
        let wrong: Vec<_> = expected
            .iter()
            .filter(differs)
            .map(|wait| (wait, told.get(&(n(&wait["waits"]) as u32))))
            .collect();
        if wrong.is_empty() {
            break;
        }
        let is_late = begun.elapsed() > Duration::from_secs(200);
        assert!(!is_late, "{wrong:#?}\n{}", running.stderr());
        std::thread::sleep(Duration::from_millis(100));
    }
    kill(Pid::from_raw(running.pid() as i32), Signal::SIGTERM).expect("forktrace runs");
    running.finish();
}
