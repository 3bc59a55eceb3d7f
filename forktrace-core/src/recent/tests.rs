use super::*;
use crate::{
    drawn,
    model::{Model, Segment},
    pipeline,
    random::SplitMix,
    trace::{Born, OpenStretch, Stretch, Timeout, Totals, Waker, Why},
};

const MS: u64 = 1_000_000;
const START: u64 = 1_000 * MS;
const END: u64 = START + 30_000 * MS;

fn header() -> Header {
    Header {
        start_unix_ns: 5,
        ..drawn::header(START)
    }
}

fn born(serial: u32, at_ns: u64) -> Born {
    Born {
        serial,
        parent: serial / 2,
        process: 1,
        tid: 100 + serial,
        tgid: 101,
        ppid: 1,
        clone_flags: 0,
        kernel_worker: false,
        at_ns,
        comm: format!("task {serial}"),
    }
}

/// Tasks that come, run, sleep, want a CPU, and go, by chance; and their last records.
fn drawn(random: &mut SplitMix) -> (Vec<Event>, Vec<TaskRecord>) {
    let (mut events, mut living) = (Vec::new(), Vec::new());
    for serial in 1..=12 {
        let mut at = START + random.below(3) / 2 * random.below(20_000) * MS;
        let born = born(serial, at);
        events.push(Event::Born(born.clone()));
        let steps = [30 * MS, 3_000 * MS][random.below(2) as usize];
        let ends = random.below(2) == 0;
        let last = if ends {
            END - random.below(29_000) * MS
        } else {
            END
        };
        let mut sums = Totals {
            serial,
            ..Totals::default()
        };
        let mut switches = 0;
        let open = loop {
            let first = sums.seq == 0;
            let out_ns = if first {
                at
            } else {
                at + 1 + random.below(steps)
            };
            let wake_ns = out_ns + if first { 0 } else { random.below(steps) };
            let in_ns = wake_ns + 1 + random.below(5 * MS);
            let why = match random.below(8) {
                _ if first => Why::New,
                0 => Why::Stopped,
                _ => Why::Interruptible,
            };
            if in_ns > last {
                let open = (out_ns < last && !ends).then(|| OpenStretch {
                    out_ns,
                    wake_ns: (wake_ns < last).then_some(wake_ns),
                    why,
                    compat: false,
                    syscall: 7,
                    arg0: 0,
                    arg1: 0,
                    waker: Waker::None,
                    object: 0,
                    timeout: Timeout::None,
                });
                switches += u64::from(open.is_some() && !first);
                break open;
            }
            let stretch = Stretch {
                serial,
                seq: sums.seq,
                out_ns,
                wake_ns,
                in_ns,
                why,
                early_wake: false,
                no_wake: false,
                inferred: false,
                compat: false,
                syscall: 7,
                cpu_out: 0,
                cpu_in: 1,
                arg0: 0,
                arg1: 0,
                waker: Waker::Task {
                    serial: 1,
                    softirq: false,
                },
                object: 0,
                timeout: Timeout::None,
            };
            switches += u64::from(!first);
            crate::base::add(&mut sums, &stretch, in_ns);
            sums.seq += 1;
            events.push(Event::Stretch(stretch));
            at = in_ns;
        };
        let end_ns = ends.then_some(last.max(at + 1));
        let ran = end_ns.unwrap_or(END) - born.at_ns;
        let off = sums.blocked_ns + sums.runnable_ns + sums.stopped_ns;
        switches += u64::from(ends);
        let record = TaskRecord {
            totals: sums,
            switches,
            kernel_switches: Some(switches),
            kernel_cpu_ns: ends.then_some(ran - off),
            ended_in: ends.then_some(60),
            open,
            ..drawn::record(born, end_ns)
        };
        match ends {
            true => events.push(Event::Task(record)),
            false => living.push(record),
        }
    }
    events.sort_by_key(|event| event.at_ns());
    (events, living)
}

fn model(bytes: &[u8]) -> (Header, Model) {
    let (info, model) = pipeline::read(bytes, None).expect("a trace");
    assert!(info.damage.is_empty());
    (info.header, model)
}

/// The segments of a task from a moment on, in the clock of the events.
fn since(model: &Model, serial: u32, start_ns: u64, from_ns: u64) -> Vec<Segment> {
    let task = model.tasks.iter().find(|task| task.serial == serial);
    let segments = task
        .map(|task| task.segments().collect())
        .unwrap_or_default();
    let segments: Vec<Segment> = segments;
    let at = |ns: u64| (ns + start_ns).max(from_ns);
    let moved = segments.into_iter().map(|it| Segment {
        start_ns: at(it.start_ns),
        end_ns: at(it.end_ns),
        ..it
    });
    moved.filter(|it| it.end_ns > it.start_ns).collect()
}

fn written(recent: &Recent, living: Vec<TaskRecord>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let moment = Moment {
        at_ns: END,
        living,
        counters: Counters {
            ring_full: 7,
            ..Counters::default()
        },
        not_real_time: None,
        saved: None,
    };
    recent.write(&mut bytes, moment).expect("memory");
    bytes
}

/// Whatever is forgotten, what is kept is the same time line, and the audit is as good.
#[test]
fn the_last_seconds_are_those_of_the_whole() {
    for seed in 0..20 {
        let mut random = SplitMix(seed);
        let (events, living) = drawn(&mut random);
        let keep = |ns| Keep { ns, bytes: 1 << 30 };
        let mut whole = Recent::new(header(), keep(u64::MAX));
        let keep_ns = 1 + random.below(20_000) * MS;
        let mut recent = Recent::new(header(), keep(keep_ns));
        let counters = Counters {
            ring_full: 4,
            ..Counters::default()
        };
        for event in &events {
            whole.push(event);
            recent.push(event);
            recent.tick(event.at_ns().expect("a time"), &counters);
        }
        recent.tick(END, &counters);
        let from_ns = recent.since_ns();
        assert!(from_ns > START && from_ns < END, "seed {seed}");
        let (before, all) = model(&written(&whole, living.clone()));
        let bytes = written(&recent, living);
        let (header, last) = model(&bytes);
        assert_eq!(before.start_ns, START);
        assert_eq!(header.start_ns, from_ns);
        assert_eq!(header.start_unix_ns - 5, from_ns - START);
        for task in &all.tasks {
            let serial = task.serial;
            assert_eq!(
                since(&last, serial, from_ns, from_ns),
                since(&all, serial, START, from_ns),
                "seed {seed}, task {serial}"
            );
        }
        let report = pipeline::make(&bytes, None, &Default::default()).expect("a trace");
        assert_eq!(report.audit.switches_traced, report.audit.switches_kernel);
        let kinds: Vec<_> = report.audit.weaknesses.iter().map(|it| &it.kind).collect();
        let expected = recent.before == counters;
        assert!(expected, "seed {seed}");
        assert_eq!(kinds.len(), 1, "seed {seed}: {:?}", report.audit.weaknesses);
        for task in &report.tasks {
            let sum = task.running_ns + task.runnable_ns + task.blocked_ns + task.stopped_ns;
            assert_eq!(task.unknown_ns, 0, "seed {seed} {task:?}");
            assert_eq!(sum, task.end_ns - task.start_ns, "seed {seed}");
        }
    }
}

/// The tasks that live at a moment, as the table of tasks has them.
fn living_at(events: &[Event], all: &[TaskRecord], at_ns: u64) -> Vec<TaskRecord> {
    let ended = |event: &Event| match event {
        Event::Task(task) => Some(task.clone()),
        _ => None,
    };
    let records = events.iter().filter_map(ended).chain(all.iter().cloned());
    let lives =
        |task: &TaskRecord| task.born.at_ns <= at_ns && task.end_ns.is_none_or(|end| end > at_ns);
    let as_of = |task: TaskRecord| {
        let serial = task.born.serial;
        let mut sums = Totals {
            serial,
            ..Totals::default()
        };
        let (mut switches, mut open) = (0, None);
        let stretches = events.iter().filter_map(|event| match event {
            Event::Stretch(s) if s.serial == serial && s.out_ns < at_ns => Some(s),
            _ => None,
        });
        for s in stretches {
            switches += u64::from(s.out_ns > task.born.at_ns);
            if s.in_ns <= at_ns {
                crate::base::add(&mut sums, s, s.in_ns);
                sums.seq += 1;
            } else {
                open = Some(OpenStretch {
                    out_ns: s.out_ns,
                    wake_ns: (s.wake_ns <= at_ns).then_some(s.wake_ns),
                    why: s.why,
                    compat: s.compat,
                    syscall: s.syscall,
                    arg0: s.arg0,
                    arg1: s.arg1,
                    waker: s.waker,
                    object: s.object,
                    timeout: s.timeout,
                });
            }
        }
        let last = task
            .open
            .filter(|last| open.is_none() && last.out_ns < at_ns);
        if let Some(last) = last {
            switches += u64::from(last.out_ns > task.born.at_ns);
            open = Some(OpenStretch {
                wake_ns: last.wake_ns.filter(|wake| *wake <= at_ns),
                ..last
            });
        }
        TaskRecord {
            end_ns: None,
            totals: sums,
            switches,
            kernel_switches: Some(switches),
            kernel_cpu_ns: None,
            exit_code: None,
            ended_in: None,
            open,
            ..task
        }
    };
    records.filter(lives).map(as_of).collect()
}

/// A task's segments between two moments, in the clock of the events.
fn between(model: &Model, serial: u32, start_ns: u64, (from, to): (u64, u64)) -> Vec<Segment> {
    let all = since(model, serial, start_ns, from).into_iter();
    let cut = all.map(|it| Segment {
        end_ns: it.end_ns.min(to),
        ..it
    });
    cut.filter(|it| it.end_ns > it.start_ns).collect()
}

/// Windows of a recording, one after the other, are the whole: nothing is missing between them,
/// and nothing is in two. The tasks are looked at a while after the moment in which a window ends.
#[test]
fn windows_that_follow_each_other_are_the_whole() {
    for seed in 0..3 {
        let mut random = SplitMix(seed);
        let (mut events, living) = drawn(&mut random);
        // CPUs are drained one after the other, and tasks move from one to another.
        let drained = |event: &Event| {
            let cpu = match event {
                Event::Stretch(s) => s.seq % 2,
                _ => 1,
            };
            (event.at_ns().map(|at| at / (200 * MS)), cpu)
        };
        events.sort_by_key(drained);
        let bytes = 1 << 30;
        let mut whole = Recent::new(
            header(),
            Keep {
                ns: u64::MAX,
                bytes,
            },
        );
        let ns = 1 + random.below(40_000) * MS;
        let mut recent = Recent::new(header(), Keep { ns, bytes });
        events.iter().for_each(|event| whole.push(event));
        let (_, all) = model(&written(&whole, living.clone()));
        let mut next = recent.began();
        let mut at = 0;
        while next.ns < END {
            let mut to_ns = next.ns + 1 + random.below(6_000) * MS;
            let mut looked_ns = to_ns + random.below(2) * random.below(100 * MS);
            let mut lives = living_at(&events, &living, looked_ns);
            if looked_ns >= END {
                (to_ns, looked_ns) = (END, u64::MAX);
                lives.clone_from(&living);
            }
            // All that there is by then has been drained.
            let until = |event: &Event| event.at_ns().map(|at| at / (200 * MS));
            let last = Some(looked_ns / (200 * MS));
            while at < events.len() && until(&events[at]) <= last {
                recent.push(&events[at]);
                recent.tick(events[at].at_ns().expect("a time"), &Counters::default());
                at += 1;
            }
            let moment = Moment {
                at_ns: to_ns,
                living: lives,
                ..Moment::default()
            };
            let from = recent.begins(&next);
            let mut bytes = Vec::new();
            recent
                .write_from(&next, &mut bytes, moment)
                .expect("memory");
            let (header, window) = model(&bytes);
            assert_eq!(header.start_ns, from.ns, "seed {seed}");
            assert_eq!(header.start_unix_ns, from.unix_ns, "seed {seed}");
            assert_eq!(window.end_ns, to_ns - from.ns, "seed {seed}");
            for task in &all.tasks {
                let range = (from.ns, to_ns);
                assert_eq!(
                    between(&window, task.serial, from.ns, (from.ns, u64::MAX)),
                    between(&all, task.serial, START, range),
                    "seed {seed}, task {}, {range:?}",
                    task.serial
                );
            }
            let report = pipeline::make(&bytes, None, &Default::default()).expect("a trace");
            assert_eq!(report.audit.unknown_ns, 0, "seed {seed}");
            assert_eq!(report.audit.switches_traced, report.audit.switches_kernel);
            let kinds = report.audit.weaknesses.iter().map(|it| &it.kind);
            assert_eq!(
                kinds.count(),
                0,
                "seed {seed}: {:?}",
                report.audit.weaknesses
            );
            next = Since {
                ns: to_ns,
                unix_ns: from.unix_ns + (to_ns - from.ns),
                counters: Counters::default(),
            };
        }
    }
}

#[test]
fn memory_is_bounded_in_bytes_and_what_is_referred_to_is_known() {
    let keep = Keep {
        ns: u64::MAX,
        bytes: 200 << 10,
    };
    let mut recent = Recent::new(header(), keep);
    let counters = Counters::default();
    recent.push(&Event::Born(born(1, START)));
    for seq in 0..200_000 {
        let at = START + u64::from(seq) * MS;
        recent.push(&Event::Stretch(Stretch {
            serial: 1,
            seq,
            out_ns: at,
            wake_ns: at + 1000 + u64::from(seq % 1000),
            in_ns: at + 5000,
            why: Why::Interruptible,
            early_wake: false,
            no_wake: false,
            inferred: false,
            compat: false,
            syscall: 7,
            cpu_out: 0,
            cpu_in: 1,
            arg0: 0,
            arg1: 0,
            waker: Waker::None,
            object: 0,
            timeout: Timeout::None,
        }));
        recent.tick(at + 5000, &counters);
        assert!(recent.bytes() <= keep.bytes + 2 * CHUNK_BYTES);
    }
    assert!(recent.since_ns() > START);
    let (_, last) = model(&written(&recent, Vec::new()));
    assert_eq!(last.tasks.len(), 1);
    assert_eq!(last.tasks[0].name, "task 1");
    assert!(last.tasks[0].attached.is_some());
}
