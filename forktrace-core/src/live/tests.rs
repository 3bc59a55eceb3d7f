use super::*;
use crate::{
    analysis::Options,
    drawn, pipeline,
    random::SplitMix,
    trace::{Born, Finish, Header, TaskRecord, Timeout, Totals, Waker},
    trace_file::TraceWriter,
};

pub(super) const MS: u64 = 1_000_000;
pub(super) const START: u64 = 1_000 * MS;

fn number(name: &str) -> i16 {
    Arch::X86_64.syscall_number(name).expect("a syscall") as i16
}

pub(super) fn born(serial: u32) -> Born {
    Born {
        comm: format!("task {serial}"),
        ..drawn::born(serial, START)
    }
}

pub(super) fn stretch(serial: u32, seq: u32, times: [u64; 3], call: &str) -> Stretch {
    let [out_ns, wake_ns, in_ns] = times;
    Stretch {
        serial,
        seq,
        out_ns,
        wake_ns,
        in_ns,
        why: if seq == 0 {
            Why::New
        } else {
            Why::Interruptible
        },
        early_wake: false,
        no_wake: false,
        inferred: false,
        compat: false,
        syscall: number(call),
        cpu_out: 0,
        cpu_in: 0,
        arg0: 0,
        arg1: 0,
        waker: Waker::None,
        object: 0,
        timeout: Timeout::None,
    }
}

/// Tasks that run, sleep and want a CPU by chance.
fn drawn(random: &mut SplitMix, tasks: u32) -> Vec<Stretch> {
    const CALLS: [&str; 4] = ["futex", "clock_nanosleep", "fsync", "epoll_wait"];
    let mut all = Vec::new();
    for serial in 1..=tasks {
        let mut at = START;
        for seq in 0..30 {
            let out = if seq == 0 {
                at
            } else {
                at + 1 + random.below(2 * MS)
            };
            let wake = if seq == 0 {
                out
            } else {
                out + random.below(20 * MS)
            };
            at = wake + 1 + random.below(MS);
            let call = CALLS[random.below(4) as usize];
            all.push(stretch(serial, seq, [out, wake, at], call));
        }
    }
    all
}

/// What a task is in then, as the task table has it.
pub(super) fn open(of: &[Stretch], serial: u32, at_ns: u64) -> Option<OpenStretch> {
    let mut of = of.iter().filter(|s| s.serial == serial);
    let s = of.find(|s| s.out_ns <= at_ns && at_ns < s.in_ns)?;
    Some(OpenStretch {
        out_ns: s.out_ns,
        wake_ns: (s.wake_ns <= at_ns).then_some(s.wake_ns),
        why: s.why,
        compat: false,
        syscall: s.syscall,
        arg0: 0,
        arg1: 0,
        waker: Waker::None,
        object: 0,
        timeout: Timeout::None,
    })
}

/// The last record of a task that never switched.
pub(super) fn record(serial: u32, end_ns: Option<u64>) -> TaskRecord {
    drawn::record(born(serial), end_ns)
}

fn report_of(stretches: &[Stretch], tasks: u32, end_ns: u64) -> crate::report::Report {
    let header = Header {
        argv: vec!["x".to_owned()],
        ..drawn::header(START)
    };
    let mut bytes = Vec::new();
    let mut writer = TraceWriter::new(&mut bytes, &header).expect("memory");
    for serial in 1..=tasks {
        writer.push(&Event::Born(born(serial)));
        let own = stretches
            .iter()
            .filter(|s| s.serial == serial && s.in_ns <= end_ns);
        own.clone().for_each(|s| writer.push(&Event::Stretch(*s)));
        writer.push(&Event::Task(TaskRecord {
            totals: Totals {
                serial,
                seq: own.count() as u32,
                ..Totals::default()
            },
            open: open(stretches, serial, end_ns),
            ..record(serial, None)
        }));
    }
    let finish = Finish {
        end_ns,
        ..Finish::default()
    };
    writer.finish(finish);
    pipeline::make(&bytes, None, &Options::default()).expect("a trace")
}

/// Whatever the moments at which it is looked, the sums are those of the report of the whole.
#[test]
fn the_sums_are_those_of_the_report() {
    for seed in 0..20 {
        let mut random = SplitMix(seed);
        let tasks = 1 + random.below(4) as u32;
        let mut stretches = drawn(&mut random, tasks);
        stretches.sort_by_key(|s| s.in_ns);
        let mut live = Live::new(Arch::X86_64, START);
        for serial in 1..=tasks {
            live.note(&Event::Born(born(serial)));
        }
        let (mut next, mut cut) = (0, START);
        let end = START + 150 * MS;
        while cut < end {
            cut = (cut + 1 + random.below(30 * MS)).min(end);
            // The rings are emptied a little later than the table is read.
            let until = cut + random.below(MS);
            while stretches.get(next).is_some_and(|s| s.in_ns <= until) {
                live.note(&Event::Stretch(stretches[next]));
                next += 1;
            }
            let living = (1..=tasks).map(|serial| (serial, open(&stretches, serial, cut)));
            live.advance(cut, living);
        }
        let report = report_of(&stretches, tasks, end);
        let group = &report.groups[0];
        assert_eq!(
            live.all_blocked().ns,
            group.all_blocked.lower_ns,
            "seed {seed}"
        );
        assert_eq!(live.starved().ns, group.starved.lower_ns, "seed {seed}");
        let running: u64 = report.tasks.iter().map(|task| task.running_ns).sum();
        assert_eq!(live.running_ns(), running, "seed {seed}");
        let blocked: u64 = report.tasks.iter().map(|task| task.blocked_ns).sum();
        let by_reason = |reason: &str| {
            let waits = report.tasks.iter().flat_map(|task| &task.waits);
            waits
                .filter(|wait| wait.reason == reason)
                .map(|wait| wait.ns)
                .sum::<u64>()
        };
        // What came after the last look is in the sums already.
        let early: u64 = stretches[..next]
            .iter()
            .filter(|s| s.in_ns > end)
            .map(|s| s.wake_ns.saturating_sub(s.out_ns.max(end)))
            .sum();
        assert_eq!(
            live.blocked_ns().values().sum::<u64>(),
            blocked + early,
            "seed {seed}"
        );
        if early == 0 {
            for (reason, ns) in live.blocked_ns() {
                assert_eq!(*ns, by_reason(reason), "{reason}, seed {seed}");
            }
        }
        let ended = live.all_blocked();
        let open_ns = ended.since_ns.map_or(0, |since| end - since);
        assert_eq!(live.ended_by().values().sum::<u64>(), ended.ns - open_ns);
        assert_eq!(live.counts().live(), u64::from(tasks));
    }
}

/// One sleeps while its mutex is waited for; the other always waits for events.
#[test]
fn who_is_blocked_in_what_is_known_while_it_lasts() {
    let mut live = Live::new(Arch::X86_64, START);
    for serial in [1, 2] {
        live.note(&Event::Born(born(serial)));
    }
    let at = |ms| START + ms * MS;
    for s in [
        stretch(1, 0, [START, START, at(1)], "futex"),
        stretch(2, 0, [START, START, at(1)], "futex"),
        stretch(1, 1, [at(2), at(402), at(403)], "epoll_wait"),
        stretch(2, 1, [at(2), at(400), at(401)], "futex"),
    ] {
        live.note(&Event::Stretch(s));
    }
    let sleeps = |call, out| {
        let s = stretch(1, 2, [out, at(900), at(900)], call);
        open(&[s], 1, at(550))
    };
    let living = [
        (1, sleeps("clock_nanosleep", at(460))),
        (2, sleeps("futex", at(455))),
    ];
    // However often it is looked at, what lasts is no place of rest for that.
    for ms in [462, 500, 550] {
        live.advance(at(ms), living.into_iter());
    }
    assert_eq!(live.all_blocked().since_ns, Some(at(460)));
    assert_eq!(live.counts().blocked, 2);
    let wait = |live: &Live, serial| {
        let mut tasks = live.tasks();
        let (_, task) = tasks.find(|(it, _)| *it == serial).expect("it lives");
        task.wait.expect("it waits")
    };
    assert_eq!(
        (wait(&live, 1).reason, wait(&live, 1).at_home),
        ("sleep", false)
    );
    assert_eq!(
        (wait(&live, 2).reason, wait(&live, 2).at_home),
        ("futex", true)
    );
    assert_eq!(wait(&live, 1).since_ns, at(460));
    assert_eq!(live.cause(), "sleep");
    // The sleep is over: it is what all were blocked for.
    live.note(&Event::Stretch(stretch(
        1,
        2,
        [at(460), at(600), at(601)],
        "clock_nanosleep",
    )));
    live.advance(
        at(700),
        [(1, None), (2, sleeps("futex", at(455)))].into_iter(),
    );
    let kinds: Vec<_> = live
        .ended_by()
        .iter()
        .filter(|(kind, _)| kind.wait == WaitKind::Sleep)
        .collect();
    assert_eq!(kinds.len(), 1);
    assert_eq!(*kinds[0].1, 140 * MS);
}

/// A server under full load hardly waits for its clients: what it sleeps in is no rest.
#[test]
fn who_is_nearly_always_awake_does_not_rest_in_a_sleep() {
    let at = |ms| START + ms * MS;
    let cause = |call: &str, earlier: &[(u64, u64)]| {
        let mut live = Live::new(Arch::X86_64, START);
        for serial in [1, 2] {
            live.note(&Event::Born(born(serial)));
        }
        live.note(&Event::Stretch(stretch(2, 0, [START, START, at(1)], call)));
        // A millisecond in each hundred it has nothing to do.
        let waits = (1..=40).map(|n| (at(100 * n), at(100 * n + 1), "epoll_wait"));
        let slept = earlier.iter().map(|(from, to)| (at(*from), at(*to), call));
        let mut all: Vec<_> = waits.chain(slept).collect();
        all.sort_by_key(|(out, ..)| *out);
        for (seq, (out, wake, call)) in all.into_iter().enumerate() {
            live.note(&Event::Stretch(stretch(
                1,
                seq as u32,
                [out, wake, wake],
                call,
            )));
        }
        let last = stretch(
            1,
            40 + earlier.len() as u32,
            [at(4050), at(9000), at(9000)],
            call,
        );
        let helper = stretch(2, 1, [at(2), at(9000), at(9000)], "futex");
        let all = [last, helper];
        let living = [1, 2].map(|serial| (serial, open(&all, serial, at(4300))));
        live.advance(at(4300), living.into_iter());
        live.cause()
    };
    assert_eq!(cause("clock_nanosleep", &[]), "sleep");
    assert_eq!(cause("clock_nanosleep", &[(1010, 1090)]), "sleep");
    // It does so again and again.
    let often: Vec<_> = (1..30).map(|n| (100 * n + 10, 100 * n + 90)).collect();
    assert_eq!(cause("clock_nanosleep", &often), "idle");
    // Nobody has work for it.
    assert_eq!(cause("futex", &[]), "idle");
}

/// A record can be lost: who has ended has gone on all the same.
#[test]
fn a_deadlock_is_over_when_one_of_it_has_ended() {
    let mut live = Live::new(Arch::X86_64, START);
    let stuck = |serial| crate::trace::Stuck {
        serial,
        on: crate::trace::StuckOn::Child,
        since_ns: START,
    };
    for serial in [1, 2] {
        live.note(&Event::Born(born(serial)));
    }
    live.note(&Event::Deadlock(crate::trace::Deadlock {
        at_ns: START + 10 * MS,
        cycle: true,
        tasks: vec![stuck(1), stuck(2)],
    }));
    assert_eq!(live.deadlocks().count(), 1);
    live.note(&Event::Task(record(2, Some(START + 20 * MS))));
    assert_eq!(live.deadlocks().count(), 0);
    assert_eq!(live.deadlocks_found(), 1);
}
