//! Whole files of each form, and broken ones.

mod any_bytes;
mod compact;

use forktrace_core::{
    analysis::{Options, analyse_with},
    model::{Model, State},
    pipeline,
    trace::{Event, Interrupt, Waker},
    trace_file::{self, Source, TraceInfo},
};

use crate::{About, Made, import};

const PERF: &[u8] = include_bytes!("../tests/sample.perf.data");
const WPROF: &[u8] = include_bytes!("../tests/sample.wprof.json");

fn made(bytes: &[u8]) -> anyhow::Result<(Made, Vec<u8>)> {
    let about = About {
        name: "sample".to_owned(),
        written_unix_ns: Some(1_000_000_000_000_000_000),
        spill: None,
    };
    let mut out = Vec::new();
    let made = import(Source::Memory(bytes), &about, &mut out)?;
    Ok((made, out))
}

#[track_caller]
fn read(bytes: &[u8]) -> (TraceInfo, Model) {
    let (_, trace) = made(bytes).expect("it is imported");
    pipeline::read(&trace, None).expect("it is a trace")
}

/// Time by state, ns.
fn times(model: &Model, at: usize) -> [u64; 5] {
    let mut times = [0; 5];
    for segment in model.tasks[at].segments() {
        times[segment.state as usize] += segment.end_ns - segment.start_ns;
    }
    times
}

fn pftrace(info: &TraceInfo, model: &Model) -> Vec<u8> {
    let report = analyse_with(info, model, &Options::default());
    let source = forktrace_export::Source {
        info,
        model,
        report: &report,
    };
    let export =
        forktrace_export::Form::Perfetto.export(forktrace_core::render::Style::PLAIN, None);
    let mut file = Vec::new();
    export.write(&source, &mut file).expect("a Vec takes it");
    file
}

#[test]
fn a_trace_of_our_own_comes_back_through_perfetto_to_the_nanosecond() {
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
    for name in [
        "sleepers",
        "select_and_compute",
        "fork_tree",
        "exec_non_leader",
        "ping_pong_loss",
        "polls",
        "spinners",
        "version_3",
    ] {
        let bytes = std::fs::read(format!("{golden}/{name}.ft")).expect("a golden trace");
        let (info, model) = pipeline::read(&bytes, None).expect("it is a trace");
        let (info_again, again) = read(&pftrace(&info, &model));
        assert_eq!(info_again.header.start_ns, info.header.start_ns, "{name}");
        assert_eq!(info_again.header.start_unix_ns, info.header.start_unix_ns);
        assert_eq!(again.tasks.len(), model.tasks.len(), "{name}");
        // Tasks that begin at one time can come in another order.
        let mut lives = Vec::new();
        for model in [&model, &again] {
            let of = |at: usize| {
                let task = &model.tasks[at];
                (
                    task.start_ns,
                    task.end_ns,
                    task.name.clone(),
                    times(model, at),
                )
            };
            let mut all: Vec<_> = (0..model.tasks.len()).map(of).collect();
            all.sort();
            lives.push(all);
        }
        assert_eq!(lives[1], lives[0], "{name}");
        let wakers = |model: &Model| {
            let all = model.tasks.iter().flat_map(|task| task.stretches.iter());
            // Who was created was woken by its creator, which the form does not tell.
            let slept = all.filter(|off| off.state() != State::Runnable);
            let by_task = slept.filter(|off| matches!(off.waker, Waker::Task { .. }));
            by_task.count()
        };
        assert_eq!(wakers(&again), wakers(&model), "{name}");
    }
}

/// Whatever a trace says, what comes back is never more than what it said: it is complete in
/// nothing.
#[test]
fn what_is_imported_is_never_complete() {
    for file in [PERF, WPROF] {
        let (info, model) = read(file);
        let report = analyse_with(&info, &model, &Options::default());
        assert!(!report.audit.complete);
        let said = report.audit.weaknesses.iter().map(|it| it.text.as_str());
        let said: Vec<&str> = said.collect();
        assert!(said.iter().any(|it| it.contains("imported")), "{said:?}");
        assert_eq!(report.audit.switches_kernel, 0);
    }
}

/// `perf sched record sh -c 'sleep 0.02; true'`, of all CPUs.
#[test]
fn perf_tells_who_forked_slept_and_ended() {
    let (info, model) = read(PERF);
    assert_eq!(info.header.kernel, "6.18.44-fc-v657");
    assert_eq!(info.header.cpus, 2);
    let sleep = model.tasks.iter().position(|task| task.name == "sleep");
    let sleep = sleep.expect("it ran");
    let task = &model.tasks[sleep];
    let parent = model.tasks.iter().find(|it| it.serial == task.parent);
    let parent = parent.expect("its creator was there");
    assert_eq!(parent.name, "sh");
    assert_eq!((task.ppid, task.pid), (parent.pid, task.tid));
    let [.., unknown] = times(&model, sleep);
    assert_eq!(unknown, 0, "all of its life was recorded");
    let blocked = times(&model, sleep)[State::Blocked as usize];
    assert!((20_000_000..40_000_000).contains(&blocked), "{blocked}");
    // The shell waited for it, and was woken by its end.
    let woken = parent.stretches.iter().filter(|off| {
        let by = Waker::Task {
            serial: task.serial,
            softirq: false,
        };
        off.waker == by
    });
    assert!(woken.count() > 0);
    // A timer's interrupt ended the sleep, and whoever it interrupted is not blamed.
    let longest = task
        .stretches
        .iter()
        .max_by_key(|off| off.wake_ns - off.out_ns);
    let longest = longest.expect("it slept");
    assert_eq!(longest.waker, Waker::Interrupt(Interrupt::Other));
    // The kernel's threads are no part of the workload.
    assert!(
        model
            .tasks
            .iter()
            .all(|task| !task.name.starts_with("rcu_"))
    );
}

#[test]
fn wprof_tells_who_slept_and_blames_nobody() {
    let (info, model) = read(WPROF);
    let names: Vec<&str> = model.tasks.iter().map(|task| &*task.name).collect();
    assert_eq!(names, ["main", "worker", "late"]);
    // From 1 ms to 5 ms it slept, then it waited for a CPU until 6 ms.
    let worker = times(&model, 1);
    assert_eq!(worker[State::Blocked as usize], 4_000_000);
    assert_eq!(worker[State::Runnable as usize], 1_000_000);
    assert_eq!(worker[State::Unknown as usize], 1_000_000);
    assert_eq!(worker[State::Running as usize], 4_000_000);
    assert_eq!(model.tasks[1].process, model.tasks[0].process);
    let offs = model.tasks.iter().flat_map(|task| task.stretches.iter());
    assert!(
        offs.clone()
            .all(|off| !matches!(off.waker, Waker::Task { .. }))
    );
    assert!(offs.clone().any(|off| off.waker == Waker::Unknown));
    assert_eq!(model.end_ns, 10_000_000);
    assert_eq!(info.header.start_ns, 1_000_000_000);
}

#[test]
fn a_task_that_wprof_lost_sight_of_keeps_its_name_and_process() {
    let lost = br#"{"ts":0.008600000,"t":"waking","waker":{"tid":101,"pid":0,"comm":"TID 101","pcomm":"<unknown>"},"wakee":{"tid":100,"pid":100,"comm":"main"},"cpu":1}
"#;
    let (_, model) = read(&[WPROF, lost].concat());
    let names: Vec<&str> = model.tasks.iter().map(|task| &*task.name).collect();
    assert_eq!(names, ["main", "worker", "late"]);
    assert_eq!(model.tasks[1].process, model.tasks[0].process);
}

/// Each file cut off at each length, or with a byte that is another: an error that says where,
/// or a trace that says what is wrong. No panic, and never more memory than the file is long.
#[test]
fn broken_files_are_told_of() {
    let golden = include_bytes!("../tests/golden/sleepers.ft");
    let (info, model) = pipeline::read(golden, None).expect("it is a trace");
    let perfetto = pftrace(&info, &model);
    for (form, file) in [("perf", PERF), ("perfetto", &*perfetto), ("wprof", WPROF)] {
        let step = (file.len() / 150).max(1);
        for len in (0..file.len()).step_by(step) {
            match made(&file[..len]) {
                Ok((_, trace)) => {
                    let info = trace_file::read(&trace, |_, _: Event| ()).expect("it is a trace");
                    let imported = info.header.imported.expect("it says that it is");
                    let whole = imported.faults.is_empty();
                    assert!(!whole || is_between(form, file, len), "{form} cut at {len}");
                }
                Err(error) => {
                    let text = format!("{error:#}");
                    let said = ["byte", "empty", "begins with", "no event", "cut off"];
                    assert!(
                        said.iter().any(|it| text.contains(it)),
                        "{form}, {len}: {text}"
                    );
                }
            }
        }
        let mut random = 0x9e37_79b9_7f4a_7c15u64;
        for _ in 0..400 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let mut other = file.to_vec();
            let at = (random >> 8) as usize % file.len();
            other[at] ^= 1 << (random & 7);
            if let Ok((_, trace)) = made(&other) {
                pipeline::read(&trace, None).expect("it is a trace");
            }
        }
    }
}

/// Cut off between two packets or lines: nothing tells.
fn is_between(form: &str, file: &[u8], len: usize) -> bool {
    match form {
        "wprof" => len == 0 || file[len - 1] == b'\n' || file[len] == b'\n',
        _ => file[len] == 0x0a,
    }
}

#[test]
fn what_is_of_another_form_is_named() {
    for (file, says) in [
        (&b""[..], "it is empty"),
        (b"\x7fELF", "7f 45 4c 46"),
        (b"2ELIFREP\0\0", "other byte order"),
        (b"\x17\x08\x44tracing", "trace-cmd"),
        (b"[{\"name\":", "Chrome"),
        (
            include_bytes!("../tests/golden/sleepers.ft"),
            "forktrace report",
        ),
    ] {
        let error = made(file).expect_err("it is of no form that is read");
        assert!(format!("{error:#}").contains(says), "{error:#}");
    }
}
