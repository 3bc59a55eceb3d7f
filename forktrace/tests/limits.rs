//! What a trace of a stranger can take: small ones that unpack to much, with right checksums.

use std::{fs, process::Command};

use forktrace_core::{
    trace::{
        Born, Event, Frames, Header, Interrupt, Mark, Outsider, Stretch, Timeout, Untracked, Waker,
        Why,
    },
    trace_file::{
        OLDEST_VERSION, TraceWriter, VERSION,
        container::{BlockInfo, BlockWriter, blocks},
    },
};

/// What is written of a recording has this kind of block (`docs/trace-format.md`).
const KIND_EVENTS: u8 = 2;
const KIND_HEADER: u8 = 1;
/// Of a trace, bytes.
const LONGEST: usize = 100_000;
/// A block unpacks to no more.
const BLOCK: usize = 16 << 20;

fn header() -> Header {
    let golden = include_bytes!("golden/version_3.ft");
    let info = forktrace_core::trace_file::read(golden, |_, _| ()).expect("it is a trace");
    info.header
}

/// The payload of each block of a trace.
fn payloads(trace: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut found = Vec::new();
    let mut blocks = blocks(trace, OLDEST_VERSION..=VERSION).expect("it is a trace");
    let mut payload = Vec::new();
    while let Some(block) = blocks.read_next(&mut payload) {
        found.push((block.expect("it is whole").info.kind, payload.clone()));
    }
    found
}

/// A trace of up to so many blocks, each of as many copies of these events as find room.
fn bomb(events: &[Event], copies: usize, count: usize) -> Vec<u8> {
    let mut trace = Vec::new();
    let mut writer = TraceWriter::new(&mut trace, &header()).expect("a Vec takes it");
    events.iter().for_each(|event| writer.push(event));
    writer.finish(forktrace_core::trace::Finish::default());
    let payloads = payloads(&trace);
    let of = |kind| {
        let found = payloads.iter().find(|(it, _)| *it == kind);
        found
            .map(|(_, payload)| payload.clone())
            .expect("it has one")
    };
    let once = of(KIND_EVENTS);
    let mut copies = copies.min(BLOCK / once.len());
    // As many as find room.
    loop {
        let many = once.repeat(copies);
        let mut writer = BlockWriter::new(Vec::new(), VERSION).expect("a Vec takes it");
        let info = |kind| BlockInfo {
            kind,
            records: (events.len() * copies) as u32,
            first_ns: 0,
            last_ns: 0,
        };
        let header = of(KIND_HEADER);
        writer
            .append(&info(KIND_HEADER), &header)
            .expect("a Vec takes it");
        let mut written = Vec::new();
        for _ in 0..count {
            writer
                .append(&info(KIND_EVENTS), &many)
                .expect("a Vec takes it");
            if writer.get_ref().len() > LONGEST {
                break;
            }
            written.clone_from(writer.get_ref());
        }
        if !written.is_empty() {
            return written;
        }
        copies /= 2;
    }
}

fn born(serial: u32) -> Event {
    Event::Born(Born {
        serial,
        parent: serial / 2,
        process: serial,
        tid: serial,
        tgid: serial,
        ppid: 1,
        clone_flags: 0,
        kernel_worker: false,
        at_ns: header().start_ns + u64::from(serial),
        comm: "x".to_owned(),
    })
}

fn untracked(tid: u32) -> Untracked {
    Untracked {
        tid,
        tgid: tid,
        ppid: 1,
        at_ns: header().start_ns + u64::from(tid),
        comm: "x".to_owned(),
    }
}

fn stretch(serial: u32, seq: u64, waker: Waker) -> Event {
    let out_ns = header().start_ns + seq * 10;
    Event::Stretch(Stretch {
        serial,
        seq: seq as u32,
        out_ns,
        wake_ns: out_ns + 5,
        in_ns: out_ns + 7,
        why: Why::Interruptible,
        early_wake: false,
        no_wake: false,
        inferred: false,
        compat: false,
        syscall: 202,
        cpu_out: 0,
        cpu_in: 1,
        arg0: seq,
        arg1: 128,
        waker,
        object: 0,
        timeout: Timeout::None,
    })
}

fn mark(fields: &str) -> Event {
    Event::Mark(Mark {
        at_ns: Some(header().start_ns + 5),
        since_ns: None,
        name: "a".to_owned(),
        fields: fields.to_owned(),
    })
}

fn bombs() -> Vec<(&'static str, Vec<u8>)> {
    let by = |serial| Waker::Task {
        serial,
        softirq: false,
    };
    let frames = |number| {
        Event::Frames(Frames {
            number,
            frames: vec![String::new(); 1000],
            cut_off: false,
            waits_in: None,
        })
    };
    let many = |one: &dyn Fn(u32) -> Event, count| -> Vec<Event> { (1..=count).map(one).collect() };
    let two = [born(1), born(2)];
    let players = (0..1000).map(|i| stretch(1 + i % 2, u64::from(i / 2), by(2 - i % 2)));
    let circle: Vec<Event> = many(&born, 16)
        .into_iter()
        .chain((0..2000).map(|i| stretch(1 + i % 16, u64::from(i / 16), by(1 + (i + 1) % 16))))
        .collect();
    let outsider = |tid| {
        Event::Outsider(Outsider {
            tid,
            tgid: tid,
            kernel_thread: false,
            at_ns: header().start_ns,
            comm: format!("x{tid}"),
        })
    };
    let deep = format!("{{\"v\":{}{}}}", "[".repeat(100), "]".repeat(100));
    let wide = format!("{{\"v\":[{}[]]}}", "[],".repeat(1300));
    let timer = Waker::Interrupt(Interrupt::Timer);
    vec![
        (
            "stacks of empty names",
            bomb(&many(&frames, 10), 1 << 10, 20),
        ),
        ("tasks", bomb(&many(&born, 2000), 200, 4)),
        ("one task again and again", bomb(&[born(1)], 400_000, 20)),
        (
            "equal stretches",
            bomb(&[born(1), stretch(1, 1, timer)], 400_000, 20),
        ),
        (
            "players",
            bomb(&[&two[..], &players.collect::<Vec<_>>()].concat(), 300, 4),
        ),
        ("a circle of wakers", bomb(&circle, 100, 4)),
        (
            "tasks that are not followed",
            bomb(&many(&|i| Event::Untracked(untracked(i)), 2000), 25, 2),
        ),
        (
            "ends of tasks that are not followed",
            bomb(&many(&|i| Event::UntrackedEnd(untracked(i)), 2000), 25, 2),
        ),
        ("outsiders", bomb(&many(&outsider, 2000), 100, 4)),
        ("deep marks", bomb(&[mark(&deep)], 100_000, 10)),
        ("wide marks", bomb(&[mark(&wide)], 100_000, 10)),
    ]
}

#[test]
fn a_trace_of_100_kb_takes_256_mib_at_most() {
    let folder = tempfile::tempdir().expect("a folder");
    let trace = folder.path().join("trace.ft");
    for (what, bytes) in bombs() {
        fs::write(&trace, &bytes).expect("a file");
        let mut limited = Command::new("sh");
        // The last is a minute of the CPU, in a program that is not optimised.
        let limits = "ulimit -v 262144 && ulimit -t 60 && exec \"$@\"";
        limited.args([
            "-c",
            limits,
            "sh",
            env!("CARGO_BIN_EXE_forktrace"),
            "report",
        ]);
        limited.args([
            "-v", "--force", "-o", "a.txt", "-o", "a.json", "-o", "a.html",
        ]);
        limited.arg(&trace).current_dir(folder.path());
        // The C library reserves 64 MB of addresses for each thread, which is no memory.
        limited.env("MALLOC_ARENA_MAX", "1");
        let output = limited.env_remove("SUDO_UID").output().expect("a shell");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{what}: {stderr}");
    }
}
