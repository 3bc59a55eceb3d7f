//! Model, analyses and renderers from events of small domains: few tasks, few moments, so
//! that they meet.
#![no_main]

use arbitrary::{Result, Unstructured};
use forktrace_core::{
    trace::{
        Born, Event, Exec, Finish, Interrupt, Mark, OpenStretch, Outsider, Signal, Stretch,
        TaskRecord, Timeout, Totals, Untracked, Waker, Why,
    },
    trace_file::TraceWriter,
};
use forktrace_fuzz::report;

fn ns(u: &mut Unstructured<'_>) -> Result<u64> {
    Ok(match u.int_in_range(0u8..=20)? {
        0 => u.arbitrary()?,
        1 => u64::MAX,
        _ => u.int_in_range(0..=64)?,
    })
}

fn serial(u: &mut Unstructured<'_>) -> Result<u32> {
    u.int_in_range(0..=5)
}

fn name(u: &mut Unstructured<'_>) -> Result<String> {
    let len = u.int_in_range(0..=6)?;
    let bytes = u.bytes(len)?;
    Ok(String::from_utf8_lossy(bytes).into_owned())
}

fn waker(u: &mut Unstructured<'_>) -> Result<Waker> {
    Ok(match u.int_in_range(0u8..=5)? {
        0 => Waker::None,
        1 => Waker::Unknown,
        2 => Waker::Interrupt(Interrupt::Timer),
        3 => Waker::Outsider {
            tid: serial(u)?,
            softirq: u.arbitrary()?,
        },
        _ => Waker::Task {
            serial: serial(u)?,
            softirq: u.arbitrary()?,
        },
    })
}

fn timeout(u: &mut Unstructured<'_>) -> Result<Timeout> {
    Ok(match u.int_in_range(0u8..=2)? {
        0 => Timeout::None,
        1 => Timeout::Unknown,
        _ => Timeout::Us(u.arbitrary()?),
    })
}

fn syscall(u: &mut Unstructured<'_>) -> Result<i16> {
    Ok(*u.choose(&[-1, 0, 1, 7, 23, 34, 35, 61, 202, 230, 232, 247, 271, 600])?)
}

fn stretch(u: &mut Unstructured<'_>) -> Result<Stretch> {
    let out_ns = ns(u)?;
    let wake_ns = out_ns.saturating_add(u.int_in_range(0..=9)?);
    Ok(Stretch {
        serial: serial(u)?,
        seq: u.int_in_range(0..=12)?,
        out_ns,
        wake_ns,
        in_ns: wake_ns.saturating_add(u.int_in_range(0..=9)?),
        why: *u.choose(&Why::ALL)?,
        early_wake: u.ratio(1, 8)?,
        no_wake: u.ratio(1, 8)?,
        inferred: u.ratio(1, 8)?,
        compat: u.ratio(1, 8)?,
        syscall: syscall(u)?,
        cpu_out: 0,
        cpu_in: 1,
        arg0: u.int_in_range(0..=3)?,
        arg1: 0,
        waker: waker(u)?,
        object: u.int_in_range(0..=3)?,
        timeout: timeout(u)?,
    })
}

fn born(u: &mut Unstructured<'_>) -> Result<Born> {
    let serial = serial(u)?;
    Ok(Born {
        serial,
        parent: self::serial(u)?,
        process: self::serial(u)?,
        tid: serial,
        tgid: self::serial(u)?,
        ppid: self::serial(u)?,
        clone_flags: u.arbitrary()?,
        kernel_worker: u.ratio(1, 8)?,
        at_ns: ns(u)?,
        comm: name(u)?,
    })
}

fn task(u: &mut Unstructured<'_>) -> Result<TaskRecord> {
    let born = born(u)?;
    let open = OpenStretch {
        out_ns: ns(u)?,
        wake_ns: Some(ns(u)?).filter(|ns| ns % 2 == 0),
        why: *u.choose(&Why::ALL)?,
        compat: false,
        syscall: syscall(u)?,
        arg0: u.int_in_range(0..=3)?,
        arg1: 0,
        waker: waker(u)?,
        object: u.int_in_range(0..=3)?,
        timeout: timeout(u)?,
    };
    let totals = Totals {
        serial: born.serial,
        seq: u.int_in_range(0..=12)?,
        lost: 0,
        blocked_ns: ns(u)?,
        runnable_ns: ns(u)?,
        stopped_ns: ns(u)?,
    };
    let ended: bool = u.arbitrary()?;
    Ok(TaskRecord {
        born,
        end_ns: Some(ns(u)?).filter(|_| ended),
        totals,
        missed: u.int_in_range(0..=1)?,
        switches: ns(u)?,
        kernel_switches: Some(ns(u)?).filter(|_| ended),
        kernel_cpu_ns: Some(ns(u)?).filter(|_| ended),
        exit_code: None,
        ended_in: Some(syscall(u)?).filter(|_| ended),
        open: Some(open).filter(|_| !ended),
    })
}

fn event(u: &mut Unstructured<'_>) -> Result<Event> {
    Ok(match u.int_in_range(0u8..=15)? {
        0 => Event::Born(born(u)?),
        1 | 2 => Event::Task(task(u)?),
        3 => Event::Totals(task(u)?.totals),
        4 => Event::Exec(Exec {
            serial: serial(u)?,
            old_tid: serial(u)?,
            tid: serial(u)?,
            at_ns: ns(u)?,
            comm: name(u)?,
        }),
        kind @ (5 | 6) => {
            let untracked = Untracked {
                tid: serial(u)?,
                tgid: serial(u)?,
                ppid: serial(u)?,
                at_ns: ns(u)?,
                comm: name(u)?,
            };
            match kind {
                5 => Event::Untracked(untracked),
                _ => Event::UntrackedEnd(untracked),
            }
        }
        7 => Event::Outsider(Outsider {
            tid: serial(u)?,
            tgid: serial(u)?,
            kernel_thread: u.arbitrary()?,
            at_ns: ns(u)?,
            comm: name(u)?,
        }),
        8 => Event::Signal(Signal {
            serial: serial(u)?,
            signal: u.int_in_range(0..=70)?,
            group: u.arbitrary()?,
            sender: waker(u)?,
            at_ns: ns(u)?,
        }),
        9 => Event::Mark(Mark {
            at_ns: Some(ns(u)?),
            since_ns: None,
            name: name(u)?,
            fields: name(u)?,
        }),
        _ => Event::Stretch(stretch(u)?),
    })
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut u = Unstructured::new(data);
    let golden = include_bytes!("../../forktrace/tests/golden/version_3.ft");
    let info = forktrace_core::trace_file::read(golden, |_, _| ()).expect("it is a trace");
    let mut header = info.header;
    header.start_ns = 0;
    let mut file = Vec::new();
    let mut writer = TraceWriter::new(&mut file, &header).expect("a Vec takes it");
    while !u.is_empty() {
        match event(&mut u) {
            Ok(event) => writer.push(&event),
            Err(_) => break,
        }
    }
    let finish = Finish {
        end_ns: ns(&mut u).unwrap_or(0),
        cut_short: u.arbitrary().unwrap_or(false),
        ..Finish::default()
    };
    writer.finish(finish);
    report(&file);
});
