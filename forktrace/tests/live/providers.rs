//! Who could end each wait is found out while it lasts.

use std::{
    collections::HashMap,
    fs,
    time::{Duration, Instant},
};

use forktrace_core::{
    trace::{Event, FileKind, Providers},
    trace_file,
};
use forktrace_record::kernel::btf::Btf;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use crate::support::{lacks, list, n, run};

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
    if lacks(
        "who_could_end_a_wait_is_found_out_while_it_lasts",
        &["python3"],
    ) {
        return;
    }
    let run = run();
    let (trace, script) = (run.file("trace"), run.file("providers.py"));
    let folder = run.folder().to_owned();
    fs::write(&script, include_str!("providers.py")).expect("a script");
    let types = Btf::of_running_kernel().expect("the kernel's types");
    let tells_holders = types.offset_of("task_struct", "blocker").is_some();
    let mut running = run
        .args(["--save"])
        .args([&trace])
        .args(["--", "python3"])
        .args([&script, &folder])
        .args([if tells_holders { "holders" } else { "" }])
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

/// The paths that files were found under, in order.
fn paths(trace: &[u8]) -> Vec<String> {
    let mut paths = Vec::new();
    let read = trace_file::read(trace, |_, event| {
        if let Event::Named(named) = event
            && let FileKind::File(path) = named.kind
        {
            paths.push(path);
        }
    });
    if read.is_err() { Vec::new() } else { paths }
}

#[test]
fn a_file_that_is_renamed_while_it_is_waited_for_has_its_new_name() {
    if lacks(
        "a_file_that_is_renamed_while_it_is_waited_for_has_its_new_name",
        &["python3"],
    ) {
        return;
    }
    let program = "import os, sys\n\
        old, new = sys.argv[1:]\n\
        file = os.open(old, os.O_CREAT | os.O_RDWR)\n\
        def sync():\n    os.pwrite(file, b'x', 0); os.fsync(file)\n\
        sync(); print('begun', flush=True)\n\
        while not os.path.exists(new + '.go'): sync()\n\
        os.rename(old, new)\n\
        while True: sync()";
    let run = run();
    let trace = run.file("trace");
    let [old, new, go] = ["old", "new", "new.go"].map(|name| run.file(name));
    let mut running = run
        .args(["--save"])
        .args([&trace])
        .args(["--", "python3", "-c", program])
        .args([&old, &new])
        .start();
    assert_eq!(running.line(1), "begun");
    let until = |path: &std::path::Path, running: &crate::support::Running| {
        let begun = Instant::now();
        let path = path.to_str().expect("a path");
        while !paths(&fs::read(&trace).unwrap_or_default())
            .iter()
            .any(|p| p == path)
        {
            let is_late = begun.elapsed() > Duration::from_secs(200);
            assert!(!is_late, "no {path}\n{}", running.stderr());
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    until(&old, &running);
    fs::write(go, "").expect("a file");
    until(&new, &running);
    kill(Pid::from_raw(running.pid() as i32), Signal::SIGTERM).expect("forktrace runs");
    running.finish();
}
