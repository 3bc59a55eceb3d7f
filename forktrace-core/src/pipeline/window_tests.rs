//! A part of a trace reads the same whatever windows the file has, and damage costs what it hits.

use super::*;
use crate::{
    analysis::analyse_part,
    drawn,
    model::Part,
    random::SplitMix,
    render::{Format, Style, render},
    trace_file::{TraceWriter, find_windows},
};

const START_NS: u64 = 1_000_000_000;

fn header() -> Header {
    drawn::header(START_NS)
}

/// A file of these events, of blocks and windows that are so long; `ended`: it has an end.
fn file(events: &[Event], lengths: (usize, u64), ended: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = TraceWriter::with_windows(&mut bytes, &header(), lengths).unwrap();
    events.iter().for_each(|event| writer.push(event));
    if ended {
        let last = events.iter().filter_map(Event::at_ns).max();
        let (_, error) = writer.finish(Finish {
            end_ns: last.unwrap_or(0) + 1_000,
            ..Finish::default()
        });
        assert!(error.is_none());
    } else {
        writer.tick(u64::MAX);
    }
    bytes
}

/// What is said of a part that begins at this moment, ns since the trace began.
fn report(bytes: &[u8], since_ns: u64, to_ns: u64) -> String {
    let shelf = Arc::default();
    let read = read_since(&shelf, Source::Memory(bytes), None, since_ns);
    let (info, model) = read.expect("a trace");
    assert!(info.damage.is_empty());
    let part = Part {
        from_ns: since_ns,
        to_ns,
        tasks: None,
    };
    let (report, _) = analyse_part(&info, &model, &Options::default(), &part, &[]);
    render(&report, Format::Json, &Style::PLAIN)
}

fn length_ns(events: &[Event]) -> u64 {
    events.iter().filter_map(Event::at_ns).max().unwrap_or(0) - START_NS
}

#[test]
fn a_part_reads_the_same_whatever_the_windows_are() {
    let mut entered = 0;
    for seed in 0..12 {
        let random = &mut SplitMix(seed);
        let events = drawn::events(random, 300, START_NS);
        let ended = random.below(4) > 0;
        let whole = file(&events, (1000, u64::MAX), ended);
        assert_eq!(
            find_windows(Source::Memory(&whole))
                .unwrap()
                .unwrap()
                .windows,
            []
        );
        for lengths in [(64, 1), (500, 2_000)] {
            let cut = file(&events, lengths, ended);
            let found = find_windows(Source::Memory(&cut)).unwrap().unwrap();
            for share in [20, 60, 90] {
                let since_ns = length_ns(&events) * share / 100;
                let to_ns = since_ns + random.below(2 * length_ns(&events));
                let at_ns = START_NS + since_ns;
                entered += usize::from(found.windows.iter().any(|it| it.open_ns <= at_ns));
                assert_eq!(
                    report(&cut, since_ns, to_ns),
                    report(&whole, since_ns, to_ns),
                    "seed {seed}, {lengths:?}, {share} %"
                );
            }
        }
    }
    assert!(entered > 40, "{entered}");
}

/// What is known of each task's time from a moment on, and of what it waited for.
fn known(info: &TraceInfo, model: &Model, from_ns: u64) -> Vec<String> {
    let part = Part {
        from_ns,
        to_ns: u64::MAX,
        tasks: None,
    };
    let (report, _) = analyse_part(info, model, &Options::default(), &part, &[]);
    // Of one whose birth and end are lost it is not said that it is gone: it may live, and its
    // birth never have come to the file.
    let tasks = report.tasks.iter().filter(|task| task.name != "?");
    let row = |task: &crate::report::Task| {
        let times = (task.running_ns, task.runnable_ns, task.blocked_ns);
        let unknown = (task.stopped_ns, task.unknown_ns, task.unplaced_ns);
        // Tasks that are not followed are counted through.
        let serial = task.followed.then_some(task.serial);
        let who = (serial, &task.name, task.tid, task.end_ns, task.fate);
        // That a thread was joined is seen by its end, which can be lost.
        let waits = task.waits.iter().map(|wait| {
            let objects = wait.objects.iter();
            let objects = objects.filter(|it| !["thread", "futex"].contains(&&*it.object.kind));
            let named: Vec<&str> = objects.map(|it| &*it.object.name).collect();
            format!("{} {} {named:?}", wait.reason, wait.ns)
        });
        let waits: Vec<String> = waits.collect();
        format!("{who:?} {times:?} {unknown:?} {waits:?}")
    };
    tasks.map(row).collect()
}

#[test]
fn damage_costs_the_windows_that_it_touches_and_no_other() {
    let (mut hit, mut tried) = (0, 0);
    for seed in 0..10 {
        let random = &mut SplitMix(seed);
        let events = drawn::events(random, 300, START_NS);
        let bytes = file(&events, (200, 600), true);
        let found = find_windows(Source::Memory(&bytes)).unwrap().unwrap();
        let whole = read(&bytes, None).expect("a trace");
        // Behind the block with the header.
        let first = found.windows.first().map_or(0, |it| it.offset);
        for _ in 0..8 {
            let at = first + random.below(bytes.len() as u64 - first);
            let mut damaged = bytes.clone();
            match random.below(2) {
                0 => damaged[at as usize] ^= 1 << random.below(8),
                _ => drop(
                    damaged
                        .drain(at as usize..)
                        .take(1 + random.below(900) as usize),
                ),
            }
            tried += 1;
            let (info, model) = read(&damaged, None).expect("a trace");
            hit += usize::from(!info.damage.is_empty());
            let end = info.damage.last().map_or(0, |it| it.offset + it.bytes);
            let next = found.windows.iter().find(|window| window.offset >= end);
            let (Some(next), true) = (next, damaged.len() == bytes.len()) else {
                continue;
            };
            // Events of before can come a moment after it opened.
            let from_ns = next.open_ns - START_NS + 1_000_000;
            let rows = known(&info, &model, from_ns);
            for (row, was) in rows.iter().zip(known(&whole.0, &whole.1, from_ns)) {
                assert_eq!(*row, was, "seed {seed}, byte {at}");
            }
        }
    }
    assert!(hit * 10 > tried * 9, "{hit} of {tried}");
}
