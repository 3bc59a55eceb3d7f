//! Verdicts on time lines that are known, and on random ones against a search that
//! looks at each nanosecond and each task by itself.
//!
//! A line draws a task's life, a character a nanosecond: `r` running, `w` runnable,
//! `b` blocked; `$` it ended, `>` it lives. Each block says what it was in and who
//! woke it.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{
    blocks::{Block, Blocks, Class, LOOK_UP_NS},
    chains::{Begun, Inquiry},
    changes::{Changes, Early, Waits},
    episodes::Watch,
    held_by::{HeldBy, held_by},
    members::Members,
    objects,
    profile::Sweep,
    providers::Kin,
    same_reason::SameReason,
    standstill::hangs,
    wakers::Wakers,
    *,
};
use crate::{
    drawn,
    model::{Fate, File, FutexKey, LockNames, Off, State, Target, Task},
    report::{Apart, Ended, Episode, Link, PathState, StopKind, Verdict, WakerKind, WeaknessKind},
    trace::{Born, Header, Interrupt, LockName, TaskRecord, Timeout, Totals, Waker, Why},
};

pub(super) const READ: i16 = 0;
pub(super) const POLL: i16 = 7;
const ACCEPT: i16 = 43;
pub(super) const SLEEP: i16 = 35;
pub(super) const FSYNC: i16 = 74;
const FDATASYNC: i16 = 75;
pub(super) const FUTEX: i16 = 202;
const EXEC: i16 = 59;
pub(super) const WAIT: i16 = 61;

pub(super) const TIMER: Waker = Waker::Interrupt(Interrupt::Timer);
pub(super) const DISK: Waker = Waker::Interrupt(Interrupt::Soft(4));
pub(super) const NETWORK: Waker = Waker::Interrupt(Interrupt::Soft(3));
/// Shared by all.
pub(super) const FILE: u32 = 1;
pub(super) const LOCK: u32 = 2;
/// On the same disk as the file, and on another one.
const SAME_DISK: u32 = 3;
const OTHER_DISK: u32 = 4;

pub(super) fn by(serial: u32) -> Waker {
    Waker::Task {
        serial,
        softirq: false,
    }
}

/// Syscall, target, waker.
pub(super) type In = (i16, u32, Waker);

pub(super) fn task(serial: u32, process: u32, line: &str, blocks: &[In]) -> Task {
    let text = line.trim_start();
    let start_ns = (line.len() - text.len()) as u64;
    let mut offs: Vec<Off> = Vec::new();
    let mut blocks = blocks.iter();
    let mut before = 'w';
    let off = |why, at, (syscall, target, waker): In, seq| Off {
        out_ns: at,
        wake_ns: at,
        in_ns: at,
        seq,
        syscall,
        why,
        flags: 0,
        waker,
        target,
        timeout_us: Timeout::None.to_us(),
    };
    let none = (-1, 0, Waker::None);
    offs.push(off(Why::New, start_ns, none, 0));
    let mut now = start_ns;
    let mut open = None;
    for char in text.chars() {
        let seq = offs.len() as u32;
        match char {
            'b' if before != 'b' => {
                let what = *blocks.next().unwrap_or(&none);
                let why = match what.0 {
                    FSYNC => Why::Uninterruptible,
                    _ => Why::Interruptible,
                };
                offs.push(off(why, now, what, seq));
            }
            'w' if before == 'r' => offs.push(off(Why::Preempted, now, none, seq)),
            '>' if before == 'b' => open = offs.pop(),
            _ => {}
        }
        if let Some(last) = offs.last_mut() {
            match char {
                'b' => (last.wake_ns, last.in_ns) = (now + 1, now + 1),
                'w' => last.in_ns = now + 1,
                _ => {}
            }
        }
        before = char;
        now += u64::from(!matches!(char, '$' | '>'));
    }
    let open_target = open.map_or(0, |o| o.target);
    let open = open.map(|o| crate::trace::OpenStretch {
        out_ns: o.out_ns,
        wake_ns: None,
        why: o.why,
        compat: false,
        syscall: o.syscall,
        arg0: 0,
        arg1: 0,
        waker: Waker::None,
        object: 0,
        timeout: Timeout::None,
    });
    Task {
        serial,
        process,
        tid: 100 + serial,
        pid: 100 + process,
        ppid: 1,
        parent: 0,
        name: format!("t{serial}"),
        argv: Vec::new(),
        kernel_worker: false,
        attached: None,
        clone_flags: 0,
        start_ns,
        end_ns: now,
        fate: match before {
            '$' => Fate::Ended,
            _ => Fate::Alive,
        },
        followed: true,
        first_seq: 0,
        stretches_expected: Some(offs.len() as u32),
        // To and fro between two CPUs.
        stretches: offs
            .into_iter()
            .map(|off| (off, Some((off.seq % 2) as u16)))
            .collect(),
        open,
        open_target,
        sums: Vec::new(),
        record: None,
        polls: Vec::new(),
    }
}

/// The task was killed in its last block.
pub(super) fn killed(mut task: Task) -> Task {
    let born = Born {
        process: task.process,
        tid: task.tid,
        tgid: task.pid,
        ppid: task.ppid,
        comm: task.name.clone(),
        ..drawn::born(task.serial, task.start_ns)
    };
    let mut totals = Totals {
        serial: task.serial,
        seq: task.stretches.len() as u32,
        ..Totals::default()
    };
    for off in &task.stretches {
        match off.state() {
            State::Blocked => totals.blocked_ns += off.wake_ns - off.out_ns,
            _ => totals.runnable_ns += off.in_ns - off.out_ns,
        }
    }
    let switches = task.stretches.len() as u64;
    task.record = Some(TaskRecord {
        totals,
        switches,
        kernel_switches: Some(switches),
        kernel_cpu_ns: None,
        exit_code: Some(9),
        ended_in: task.stretches.last().map(|off| off.syscall),
        ..drawn::record(born, Some(task.end_ns))
    });
    task
}

/// Adds a futex of process 1 that is in this variable: the last target.
pub(super) fn name_futex(model: &mut Model, variable: &str) {
    const ADDRESS: u64 = 0x9000;
    model.targets.push(Target::Futex(FutexKey::Private {
        process: 1,
        address: ADDRESS,
    }));
    let name = LockName {
        serial: 1,
        address: ADDRESS,
        name: variable.to_owned(),
        module: "libpython3.11.so.1.0".to_owned(),
    };
    model.lock_names = LockNames::new(vec![name], |serial| serial);
}

pub(super) fn model(tasks: Vec<Task>) -> Model {
    let lock = FutexKey::Shared {
        device: 1,
        inode: 7,
        offset: 0,
    };
    let on = |device: u32| File {
        file: u64::from(device),
        inode: 9,
        device: device << 20,
        mode: 0o100_644,
        kind: None,
        interests: Vec::new(),
    };
    let file = |file| Target::File { fd: 3, file };
    Model {
        end_ns: tasks.iter().map(|t| t.end_ns).max().unwrap_or(0),
        tasks,
        targets: vec![
            Target::Unknown,
            file(0),
            Target::Futex(lock),
            file(1),
            file(2),
        ],
        files: vec![on(8), File { file: 77, ..on(8) }, on(9)],
        ..Model::default()
    }
}

pub(super) fn header() -> Header {
    Header {
        argv: vec!["workload".to_owned()],
        ..drawn::header(0)
    }
}

pub(super) fn info() -> TraceInfo {
    TraceInfo {
        file_id: 1,
        header: header(),
        finish: None,
        damage: Vec::new(),
        skipped: crate::trace_file::Skipped::default(),
        last_ns: 0,
    }
}

/// The report on these tasks.
pub(super) fn report_on(tasks: Vec<Task>) -> Report {
    analyse(&info(), &model(tasks))
}

/// The tree's only episode.
#[track_caller]
pub(super) fn only(tasks: Vec<Task>) -> Episode {
    let report = report_on(tasks);
    let of_tree: Vec<_> = report.episodes.iter().filter(|e| e.group == 0).collect();
    let [episode] = of_tree[..] else {
        panic!("{of_tree:#?}")
    };
    let cause = report.causes.iter().find(|c| c.group == 0).unwrap();
    assert_eq!(cause.verdict, episode.verdict);
    assert_eq!(cause.ns, episode.ns);
    episode.clone()
}

fn serials(chain: &[Link]) -> Vec<u32> {
    chain.iter().map(|link| link.task.serial).collect()
}

#[test]
fn a_lock_held_across_a_sleep() {
    // 1 sleeps with the lock; then 2 gets it, then 3.
    let e = only(vec![
        task(1, 1, "rrbbbbrr$", &[(SLEEP, 0, TIMER)]),
        task(2, 1, "rbbbbbbrrr$", &[(FUTEX, LOCK, by(1))]),
        task(
            3,
            1,
            "rbbbbbbbbrbr$",
            &[(FUTEX, LOCK, by(2)), (SLEEP, 0, TIMER)],
        ),
    ]);
    assert_eq!(e.verdict, Verdict::Caused);
    assert_eq!((e.start_ns, e.end_ns, e.held), (2, 6, 2));
    assert_eq!(serials(&e.chain), [3, 2, 1]);
    assert_eq!(e.chain[2].reason, "sleep");
    assert_eq!(e.trigger.unwrap().task.serial, 1);
    let first = e.terminator.unwrap();
    assert_eq!(first.task.serial, 1);
    assert_eq!(first.woken_by.kind, WakerKind::Interrupt);
    assert_eq!(e.shared.len(), 1);
    assert_eq!(e.shared[0].tasks, [2, 3]);
}

#[test]
fn a_pipeline_waits_for_its_first() {
    let e = only(vec![
        task(
            1,
            1,
            "rbbbbrr$",
            &[(
                READ,
                0,
                Waker::Outsider {
                    tid: 9,
                    softirq: false,
                },
            )],
        ),
        task(2, 2, "rbbbbbrr$", &[(READ, 0, by(1))]),
        task(3, 3, "rbbbbbbrr$", &[(READ, 0, by(2))]),
    ]);
    assert_eq!(e.verdict, Verdict::Caused);
    assert_eq!(serials(&e.chain), [3, 2, 1]);
    assert!(e.chain[2].woken_by.outside);
}

#[test]
fn silent_sockets_are_idle_also_when_nothing_comes() {
    let e = only(vec![
        task(1, 1, "rbbbbr$", &[(POLL, 0, NETWORK)]),
        task(2, 1, "rbbbbbb>", &[(POLL, 0, Waker::None)]),
        task(3, 1, "rbbbbbrr$", &[(SLEEP, 0, TIMER)]),
    ]);
    assert_eq!(e.verdict, Verdict::Idle);
    assert_eq!(serials(&e.chain), [1]);
}

#[test]
fn sleepers_are_idle() {
    let e = only(vec![
        task(1, 1, "rbbbbrrr$", &[(SLEEP, 0, TIMER)]),
        task(2, 1, "rrbbbbr$", &[(SLEEP, 0, TIMER)]),
    ]);
    assert_eq!(e.verdict, Verdict::Idle);
    let ended_by = e.ended_by.unwrap();
    assert_eq!((ended_by.task.serial, ended_by.how), (1, Ended::Fulfilled));
}

#[test]
fn one_disk_for_two_is_a_common_cause_and_two_are_not() {
    let two = |other| {
        only(vec![
            task(1, 1, "rbbbbrrr$", &[(FSYNC, FILE, DISK)]),
            task(2, 1, "rrbbbbr$", &[(FSYNC, other, DISK)]),
        ])
    };
    assert_eq!(two(FILE).verdict, Verdict::CommonCause);
    assert_eq!(two(SAME_DISK).verdict, Verdict::CommonCause);
    assert_eq!(two(OTHER_DISK).verdict, Verdict::Coincidence);
    let causes = causes_of(vec![
        task(1, 1, "rbbbbrrr$", &[(FSYNC, FILE, DISK)]),
        task(2, 1, "rrbbbbr$", &[(FSYNC, SAME_DISK, DISK)]),
    ]);
    let disk = causes[0].object.as_ref().unwrap();
    assert_eq!((&*disk.kind, &*disk.name), ("disk", "disk 8:0"));
    // Who ends it was in no sync.
    let causes = causes_of(vec![
        task(1, 1, "rbbbbbrrr$", &[(FSYNC, FILE, DISK)]),
        task(2, 1, "rbbbbbrrr$", &[(FSYNC, OTHER_DISK, DISK)]),
        task(3, 1, "rrbbr$", &[(POLL, 0, NETWORK)]),
    ]);
    let first = causes[0].root.as_ref().unwrap();
    assert_eq!(causes[0].verdict, Verdict::Coincidence);
    assert_eq!((first.task.serial, first.reason.as_str()), (3, "poll"));
}

#[test]
fn one_that_waits_for_a_disk_while_the_rest_are_idle_is_the_one_cause() {
    // The helper 2 gets work later, after 1 waited for input again; 3 never gets any.
    let server = |syncs: In| {
        let ins = [syncs, (POLL, 0, NETWORK), (SLEEP, 0, TIMER)];
        let report = report_on(vec![
            task(1, 1, "rrbbbrbbbrrbr$", &ins),
            task(2, 1, "rbbbbbbbbbrr$", &[(FUTEX, LOCK, by(1))]),
            task(3, 1, "rbbbbbbbbbbbbbb>", &[(FUTEX, 0, Waker::None)]),
        ]);
        let of_tree = report.episodes.iter().filter(|e| e.group == 0);
        let mut found: Vec<Episode> = of_tree.cloned().collect();
        found.sort_by_key(|e| e.start_ns);
        (found.remove(0), report.causes)
    };
    let (e, causes) = server((FSYNC, FILE, DISK));
    assert_eq!((e.start_ns, e.end_ns), (2, 5));
    assert_eq!(e.verdict, Verdict::CommonCause);
    assert_eq!((e.tasks, e.idle, e.held, e.not_woken), (3, 2, 0, 1));
    assert_eq!(serials(&e.chain), [1]);
    let alone = causes.iter().find(|c| c.group == 0 && c.alone).unwrap();
    let root = alone.root.as_ref().unwrap();
    assert_eq!((root.task.serial, root.reason.as_str()), (1, "fsync"));
    assert_eq!((alone.ns, alone.episodes), (3, 1));
    // A nap.
    let (e, causes) = server((SLEEP, 0, TIMER));
    assert_eq!((e.verdict, e.idle), (Verdict::CommonCause, 3));
    assert!(causes.iter().any(|c| c.alone));
}

#[test]
fn the_same_sync_is_one_cause_whoever_ends_it() {
    let kernel_thread = Waker::Outsider {
        tid: 9,
        softirq: false,
    };
    let tasks = vec![
        task(
            1,
            1,
            "rrbbrbbbrr$",
            &[(FSYNC, FILE, DISK), (FSYNC, FILE, kernel_thread)],
        ),
        task(2, 1, "rbbbbbbbbbb>", &[(FUTEX, 0, Waker::None)]),
    ];
    let info = TraceInfo {
        file_id: 1,
        header: header(),
        finish: None,
        damage: Vec::new(),
        skipped: crate::trace_file::Skipped::default(),
        last_ns: 0,
    };
    let causes = |is_kernel_thread| {
        let mut model = model(tasks.clone());
        model.outsiders.push(crate::trace::Outsider {
            tid: 9,
            tgid: 9,
            kernel_thread: is_kernel_thread,
            at_ns: 0,
            comm: "kworker/0:1".to_owned(),
        });
        let of_tree = |causes: Vec<report::Cause>| {
            let causes = causes.into_iter().filter(|c| c.group == 0);
            causes.map(|c| (c.ns, c.episodes)).collect::<Vec<_>>()
        };
        of_tree(analyse(&info, &model).causes)
    };
    assert_eq!(causes(true), [(5, 2)]);
    assert_eq!(causes(false), [(5, 2)]);
}

/// The tree's causes.
fn causes_of(tasks: Vec<Task>) -> Vec<report::Cause> {
    let mut causes = report_on(tasks).causes;
    causes.retain(|c| c.group == 0);
    causes
}

#[test]
fn one_file_that_several_sync_in_turn_is_one_cause() {
    // 1 syncs, then 2, which syncs once more while 1 has nothing to do, then 3 another
    // file.
    let tasks = |name: &str| {
        let mut tasks = vec![
            task(
                1,
                1,
                "rrbbrrbbbbbbbbbbbr$",
                &[(FSYNC, FILE, DISK), (FUTEX, 0, Waker::None)],
            ),
            task(
                2,
                2,
                "rbbbbbrbbbrbbrrrr>",
                &[
                    (FUTEX, LOCK, by(1)),
                    (FSYNC, FILE, DISK),
                    (FSYNC, FILE, DISK),
                ],
            ),
            task(
                3,
                3,
                "rbbbbbbbbbbbbbbrb>",
                &[(FUTEX, LOCK, by(2)), (FSYNC, 0, DISK)],
            ),
        ];
        tasks[0] = killed(tasks[0].clone());
        tasks[0].name = name.to_owned();
        tasks[1].name = "t".to_owned();
        tasks
    };
    let causes = causes_of(tasks("t"));
    let [cause] = &causes[..] else {
        panic!("{causes:#?}")
    };
    assert_eq!((cause.verdict, cause.alone), (Verdict::Caused, false));
    assert_eq!((cause.ns, cause.episodes, cause.longest_ns), (7, 3, 3));
    let object = cause.object.as_ref().unwrap();
    assert_eq!(object.kind, "file");
    assert_eq!(cause.syscall.as_deref(), Some("fsync"));
    assert_eq!((cause.tasks, cause.name.as_deref()), (2, Some("t")));
    let by: Vec<_> = cause
        .by
        .iter()
        .map(|t| (t.task.serial, t.ns, t.episodes))
        .collect();
    assert_eq!(by, [(2, 5, 2), (1, 2, 1)]);
    assert_eq!(cause.woken_by.as_ref().unwrap().kind, WakerKind::Interrupt);
    let other = causes_of(tasks("other"));
    assert_eq!((other[0].tasks, other[0].name.as_deref()), (2, None));
}

#[test]
fn two_files_are_two_causes_and_so_are_two_calls() {
    let one_after_the_other = |first: In, second: In| {
        let causes = causes_of(vec![
            task(1, 1, "rrbbrrbbrr$", &[first, second]),
            task(2, 1, "rbbbbbbbbbrrr$", &[(FUTEX, 0, by(1))]),
        ]);
        causes.iter().map(|c| (c.ns, c.tasks)).collect::<Vec<_>>()
    };
    let sync = |file| (FSYNC, file, DISK);
    assert_eq!(one_after_the_other(sync(FILE), sync(FILE)), [(4, 1)]);
    assert_eq!(
        one_after_the_other(sync(FILE), sync(LOCK)),
        [(2, 1), (2, 1)]
    );
    // Of files that are not known, the call is all that is known.
    assert_eq!(one_after_the_other(sync(0), sync(0)), [(4, 1)]);
    let data = (FDATASYNC, 0, DISK);
    assert_eq!(one_after_the_other(sync(0), data), [(2, 1), (2, 1)]);
    assert_eq!(
        one_after_the_other(sync(FILE), (FDATASYNC, FILE, DISK)),
        [(4, 1)]
    );
    let futex = (FUTEX, FILE, DISK);
    assert_eq!(one_after_the_other(sync(FILE), futex), [(2, 1), (2, 1)]);
}

#[test]
fn syncs_while_all_others_are_idle_are_of_the_same_cause() {
    // 1 syncs twice: the second time 2 is behind it.
    let causes = causes_of(vec![
        task(
            1,
            1,
            "rrbbbrbrbbrrrbr$",
            &[
                (FSYNC, FILE, DISK),
                (POLL, 0, NETWORK),
                (FSYNC, FILE, DISK),
                (SLEEP, 0, TIMER),
            ],
        ),
        task(2, 1, "rbbbbbbbbbbrr$", &[(FUTEX, LOCK, by(1))]),
    ]);
    let of_sync = causes
        .iter()
        .find(|c| c.syscall.as_deref() == Some("fsync"));
    let sync = of_sync.unwrap();
    assert_eq!((sync.verdict, sync.alone), (Verdict::Caused, false));
    assert_eq!((sync.ns, sync.alone_ns, sync.episodes), (5, 3, 2));
}

#[test]
fn idle_times_that_differ_in_who_came_are_one_cause() {
    let came = |tids: [u32; 2], names: [&str; 2]| {
        let by = |tid| Waker::Outsider { tid, softirq: true };
        let ins = [(POLL, 0, by(tids[0])), (POLL, 0, by(tids[1]))];
        let tasks = vec![
            task(1, 1, "rrbbrbbbrr$", &ins),
            task(2, 1, "rbbbbbbbbb>", &[(FUTEX, 0, Waker::None)]),
        ];
        let mut model = model(tasks);
        model.outsiders = (tids.iter().zip(names))
            .map(|(tid, name)| crate::trace::Outsider {
                tid: *tid,
                tgid: *tid,
                kernel_thread: false,
                at_ns: 0,
                comm: name.to_owned(),
            })
            .collect();
        let info = TraceInfo {
            file_id: 1,
            header: header(),
            finish: None,
            damage: Vec::new(),
            skipped: crate::trace_file::Skipped::default(),
            last_ns: 0,
        };
        let causes = analyse(&info, &model)
            .causes
            .into_iter()
            .filter(|c| c.group == 0);
        let of = causes.map(|c| {
            let by = c.woken_by.unwrap();
            (c.verdict, c.ns, by.tid, by.name.unwrap())
        });
        of.collect::<Vec<_>>()
    };
    let idle = |ns, tid, name: &str| (Verdict::Idle, ns, tid, name.to_owned());
    assert_eq!(
        came([8, 9], ["client", "client"]),
        [idle(5, None, "client")]
    );
    assert_eq!(
        came([9, 9], ["client", "client"]),
        [idle(5, Some(9), "client")]
    );
    let two = [idle(3, Some(9), "cron"), idle(2, Some(8), "client")];
    assert_eq!(came([8, 9], ["client", "cron"]), two);
}

#[test]
fn who_waits_for_input_is_not_behind_the_whole_life_of_one_whose_end_woke_it() {
    // A server polls; the end of 2, which had its own client, sends it a signal.
    let verdict = |syscall| {
        let report = report_on(vec![
            task(1, 1, "rbbbbbbbrr$", &[(syscall, 0, by(2))]),
            task(
                2,
                2,
                "rrbbrbbrr$",
                &[(POLL, 0, NETWORK), (POLL, 0, NETWORK)],
            ),
        ]);
        let of_tree = report.episodes.iter().filter(|e| e.group == 0);
        let mut found: Vec<_> = of_tree.map(|e| (e.start_ns, e.verdict)).collect();
        found.sort_by_key(|(start_ns, _)| *start_ns);
        found
            .into_iter()
            .map(|(_, verdict)| verdict)
            .collect::<Vec<_>>()
    };
    assert_eq!(verdict(POLL), [Verdict::Idle, Verdict::Idle]);
    // Who reads waits for the other to write.
    assert_eq!(verdict(READ), [Verdict::Idle, Verdict::Caused]);
    // Who waits for its child waits for all that it does.
    assert_eq!(verdict(WAIT), [Verdict::Caused, Verdict::Caused]);
}

/// The verdict on each of the tree's episodes, in their order.
fn verdicts(tasks: Vec<Task>) -> Vec<Verdict> {
    let mut found = report_on(tasks).episodes;
    found.retain(|e| e.group == 0);
    found.sort_by_key(|e| e.start_ns);
    found.into_iter().map(|e| e.verdict).collect()
}

#[test]
fn helpers_that_nobody_owes_anything_are_idle_until_a_message_comes_from_outside() {
    // 1 is told from outside, then works, and tells the others in the end: 3 in its
    // turn.
    let signal = Waker::Outsider {
        tid: 9,
        softirq: false,
    };
    let tasks = |first: In, then: In, helper, last| {
        vec![
            task(1, 1, "rrbbrbbrrbr$", &[first, then, (FSYNC, 0, DISK)]),
            task(2, 1, "rbbbbbbbrrr$", &[(helper, 0, by(1))]),
            task(3, 1, "rbbbbbbbbrrr$", &[(last, 0, by(2))]),
        ]
    };
    use Verdict::{Caused, Idle};
    let of = |first, then, helper, last| verdicts(tasks(first, then, helper, last));
    let sync = (FSYNC, FILE, DISK);
    for helper in [POLL, ACCEPT] {
        // Until it is told, and from then on.
        let input = of((POLL, 0, signal), sync, helper, POLL);
        assert_eq!(input, [Idle, Caused], "{helper}");
        // Nor do they wait for 1 when it is a timer that ends its poll.
        let timer = of((POLL, 0, TIMER), sync, helper, POLL);
        assert_eq!(timer, [Idle, Caused], "{helper}");
    }
    // What it does on its own account holds them up, before as well.
    for own in [sync, (SLEEP, 0, TIMER), (FUTEX, LOCK, TIMER)] {
        assert_eq!(of(own, sync, POLL, POLL), [Caused, Caused], "{own:?}");
    }
    // So does it hold up who waits for something of its.
    for helper in [FUTEX, READ] {
        let owed = of((POLL, 0, signal), sync, helper, POLL);
        assert_eq!(owed, [Caused, Caused], "{helper}");
    }
    // Who waits for a helper that is idle is idle as well.
    let owed = of((POLL, 0, signal), sync, POLL, FUTEX);
    assert_eq!(owed, [Idle, Caused]);
}

#[test]
fn helpers_of_one_that_waits_for_another_are_behind_it() {
    // 1 is told by 4, which syncs a file first: all others are behind it, though 1
    // waits for anything that may come.
    let tasks = |of_4: In| {
        vec![
            task(1, 1, "rbbbbbrbrr$", &[(POLL, 0, by(4)), (SLEEP, 0, TIMER)]),
            task(2, 1, "rbbbbbbbbrr$", &[(POLL, 0, by(1))]),
            task(4, 1, "rrbbbrrrr$", &[of_4]),
        ]
    };
    let e = only(tasks((FSYNC, FILE, DISK)));
    assert_eq!((e.verdict, e.held, e.idle), (Verdict::Caused, 2, 0));
    assert_eq!(serials(&e.chain), [2, 1, 4]);
    let e = only(tasks((POLL, 0, NETWORK)));
    assert_eq!((e.verdict, e.held, e.idle), (Verdict::Idle, 0, 3));
}

#[test]
fn a_set_of_one_descriptor_is_read_and_one_of_none_is_a_sleep() {
    use crate::{
        model::{Waited, Waitset},
        trace::{FileKind, WaitFd},
    };
    let fd = |kind| Waited {
        fd: WaitFd { fd: 3, events: 1 },
        identity: Some((71, 13)),
        kind,
        reopened: false,
    };
    let listening = FileKind::InetSocket {
        protocol: "tcp".to_owned(),
        local: "127.0.0.1:1".to_owned(),
        remote: String::new(),
        listening: true,
    };
    let verdict = |fds: Vec<Waited>, cut_off| {
        let mut model = model(vec![
            task(1, 1, "rrbbrr$", &[(POLL, 0, NETWORK)]),
            task(2, 2, "rbbbbr$", &[(POLL, 1, by(1))]),
        ]);
        model.waitsets = vec![Waitset { fds, cut_off }];
        model.targets = vec![Target::Unknown, Target::Fds(0)];
        let info = TraceInfo {
            file_id: 1,
            header: header(),
            finish: None,
            damage: Vec::new(),
            skipped: crate::trace_file::Skipped::default(),
            last_ns: 0,
        };
        let episode = analyse(&info, &model).episodes.remove(0);
        (episode.verdict, episode.held)
    };
    let pipe = || fd(Some(FileKind::Pipe));
    assert_eq!(verdict(vec![pipe()], false), (Verdict::Caused, 1));
    assert_eq!(verdict(vec![fd(None)], false), (Verdict::Caused, 1));
    assert_eq!(verdict(vec![pipe()], true), (Verdict::Idle, 0));
    assert_eq!(verdict(vec![pipe(), pipe()], false), (Verdict::Idle, 0));
    assert_eq!(
        verdict(vec![fd(Some(listening))], false),
        (Verdict::Idle, 0)
    );
    // A task that wakes a sleeper cuts its sleep short.
    assert_eq!(verdict(Vec::new(), false), (Verdict::Idle, 0));
}

#[test]
fn what_two_epoll_instances_watch_is_shared_and_so_is_what_one_reads() {
    use crate::{
        model::File,
        trace::{FileKind, Interest, WaitFd, Watched},
    };
    let watched = |inode, kind| Watched {
        fd: WaitFd { fd: 5, events: 1 },
        inode,
        device: 13,
        kind: Some(kind),
    };
    let interest = |at_ns, fds| Interest {
        id: 1,
        at_ns,
        fds,
        cut_off: false,
    };
    let file = |file, kind: FileKind, interests| File {
        file,
        inode: if kind == FileKind::Pipe { 71 } else { 18 },
        device: 13,
        mode: 0,
        kind: Some(kind),
        interests,
    };
    let pipe = || watched(71, FileKind::Pipe);
    let other = || watched(72, FileKind::Pipe);
    let event = || watched(18, FileKind::EventFd);
    let tasks = |second, third| {
        vec![
            task(1, 1, "rbbbbrrr$", &[(POLL, 1, NETWORK)]),
            task(2, 1, "rbbbbrrr$", &[(POLL, second, NETWORK)]),
            task(3, 1, "rbbbbrrr$", &[(READ, third, NETWORK)]),
        ]
    };
    let shared = |tasks: Vec<Task>| {
        let mut model = model(tasks);
        model.files = vec![
            file(1, FileKind::Epoll, vec![interest(2, vec![pipe(), event()])]),
            // It watched another pipe when they waited.
            file(
                2,
                FileKind::Epoll,
                vec![
                    interest(2, vec![pipe(), event()]),
                    interest(9, vec![other()]),
                ],
            ),
            file(3, FileKind::Pipe, Vec::new()),
            file(
                4,
                FileKind::Epoll,
                vec![interest(2, vec![other()]), interest(9, vec![pipe()])],
            ),
        ];
        let targets = (0..4).map(|file| Target::File { fd: 4, file });
        model.targets = [Target::Unknown].into_iter().chain(targets).collect();
        let info = TraceInfo {
            file_id: 1,
            header: header(),
            finish: None,
            damage: Vec::new(),
            skipped: crate::trace_file::Skipped::default(),
            last_ns: 0,
        };
        let report = analyse(&info, &model);
        let episode = report.episodes.into_iter().find(|e| e.group == 0).unwrap();
        let of = episode.shared.into_iter();
        of.map(|s| (s.object.name, s.tasks)).collect::<Vec<_>>()
    };
    let pipe_of = |tasks: &[u32]| vec![("pipe 71".to_owned(), tasks.to_vec())];
    assert_eq!(shared(tasks(2, 0)), pipe_of(&[1, 2]));
    assert_eq!(shared(tasks(2, 3)), pipe_of(&[1, 2, 3]));
    assert_eq!(shared(tasks(4, 3)), pipe_of(&[1, 3]));
}

/// Where a record is lost, the waker may have waited for input.
#[test]
fn a_loss_between_makes_the_cause_unknown() {
    let tasks = |lost: Option<usize>| {
        let mut waker = task(1, 1, "rrbbbrbrbrrbr$", &[(FSYNC, FILE, DISK); 4]);
        if let Some(lost) = lost {
            waker.stretches.edit(|offs| {
                offs.remove(lost);
            });
        }
        vec![waker, task(2, 1, "rbbbbbbbbbrr$", &[(FUTEX, LOCK, by(1))])]
    };
    let verdicts = |lost| {
        let mut found = report_on(tasks(lost)).episodes;
        found.retain(|e| e.group == 0);
        found.sort_by_key(|e| e.start_ns);
        found
            .iter()
            .map(|e| (e.start_ns, e.verdict))
            .collect::<Vec<_>>()
    };
    let (caused, unknown) = (Verdict::Caused, Verdict::Unknown);
    assert_eq!(verdicts(None), [(2, caused), (6, caused), (8, caused)]);
    assert_eq!(verdicts(Some(2)), [(2, unknown), (8, caused)]);
    assert_eq!(verdicts(Some(3)), [(2, unknown), (6, unknown)]);
}

#[test]
fn who_waits_in_exec_for_others_to_end_is_stopped_and_who_reads_the_program_is_not() {
    let stops = |waker| {
        let mut tasks = vec![
            task(1, 1, "rrbbbrr$", &[(EXEC, 0, waker)]),
            task(2, 1, "rbbbr$", &[(FUTEX, 0, DISK)]),
        ];
        tasks[0].stretches.edit(|offs| offs[1].why = Why::Killable);
        report_on(tasks).stops
    };
    assert_eq!(stops(DISK), []);
    let stops = stops(by(2));
    let [stop] = &stops[..] else {
        panic!("{stops:?}");
    };
    assert_eq!(
        (stop.kind, stop.tasks.as_slice()),
        (StopKind::Exec, [1].as_slice())
    );
    assert_eq!(stop.by.as_ref().unwrap().serial, Some(2));
}

#[test]
fn a_stop_is_by_the_last_signal_unless_it_was_taken_back() {
    let by_whom = |sent: &[(u8, u64)]| {
        let mut stopped = task(1, 1, "rrrrbbbbbrr$", &[(-1, 0, by(9))]);
        stopped.stretches.edit(|offs| offs[1].why = Why::Stopped);
        let mut model = model(vec![stopped, task(9, 9, "rrrrrrrrrrr$", &[])]);
        let signals = sent.iter().map(|(signal, at_ns)| crate::trace::Signal {
            serial: 1,
            signal: *signal,
            group: true,
            sender: Waker::Outsider {
                tid: *at_ns as u32,
                softirq: false,
            },
            at_ns: *at_ns,
        });
        model.signals = signals.collect();
        let info = TraceInfo {
            file_id: 1,
            header: header(),
            finish: None,
            damage: Vec::new(),
            skipped: crate::trace_file::Skipped::default(),
            last_ns: 0,
        };
        let stops = analyse(&info, &model).stops;
        let by = stops[0].by.as_ref();
        by.and_then(|by| by.tid)
    };
    assert_eq!(by_whom(&[]), None);
    assert_eq!(by_whom(&[(19, 1), (20, 2), (15, 3), (19, 7)]), Some(2));
    assert_eq!(by_whom(&[(19, 1), (18, 3)]), None);
    assert_eq!(by_whom(&[(19, 1), (18, 2), (19, 3)]), Some(3));
}

#[test]
fn what_is_not_known_is_said_to_be() {
    let with = |waker| {
        only(vec![
            task(1, 1, "rbbbbrrr$", &[(POLL, 0, NETWORK)]),
            task(2, 1, "rrbbbbbr$", &[(POLL, 0, waker)]),
        ])
    };
    assert_eq!(with(NETWORK).verdict, Verdict::Idle);
    assert_eq!(with(Waker::Unknown).verdict, Verdict::Unknown);
    assert_eq!(with(Waker::None).verdict, Verdict::Unknown);
    // The root's own end is not known, so neither is the root.
    let e = only(vec![
        task(1, 1, "rbbbbrr$", &[(FUTEX, LOCK, Waker::Unknown)]),
        task(
            2,
            1,
            "rrbbbbbrbr$",
            &[(FUTEX, LOCK, by(1)), (SLEEP, 0, TIMER)],
        ),
    ]);
    assert_eq!(e.verdict, Verdict::Unknown);
}

#[test]
fn what_was_left_out_is_absent_and_said() {
    let tasks = || {
        vec![
            task(1, 1, "rbbbbrr$", &[(SLEEP, 0, TIMER)]),
            task(2, 1, "rbbbbbr$", &[(FUTEX, LOCK, by(1))]),
        ]
    };
    let info = |plain| TraceInfo {
        file_id: 1,
        header: Header { plain, ..header() },
        finish: None,
        damage: Vec::new(),
        skipped: crate::trace_file::Skipped::default(),
        last_ns: 10,
    };
    let full = analyse(&info(false), &model(tasks()));
    assert!(!full.causes.is_empty() && !full.waits_for.is_empty());
    let plain = analyse(&info(true), &model(tasks()));
    assert!(plain.causes.is_empty() && plain.episodes.is_empty() && plain.waits_for.is_empty());
    assert_eq!(plain.groups[0].all_blocked, full.groups[0].all_blocked);
    assert!(
        plain
            .audit
            .weaknesses
            .iter()
            .any(|w| w.kind == WeaknessKind::Plain)
    );
}

#[test]
fn nobody_waits_for_the_one_that_ends_the_process() {
    // 1 polls, then ends the process, which wakes 2.
    let poller = || task(1, 1, "rbbbbrr$", &[(POLL, 0, NETWORK)]);
    let waiter = || task(2, 1, "rbbbbbr$", &[(FUTEX, LOCK, by(1))]);
    let e = only(vec![poller(), killed(waiter())]);
    assert_eq!((e.verdict, e.not_woken), (Verdict::Idle, 1));
    // Here 2 ends by itself as soon as the main thread has told it to.
    let e = only(vec![poller(), waiter()]);
    assert_eq!((e.verdict, e.held), (Verdict::Idle, 0));
    // Or it waits for the lock that the main thread still has, and parks once more, until the
    // process has ended.
    let waits = [(FUTEX, LOCK, by(1)); 3];
    let e = only(vec![
        task(1, 1, "rbbbbrrrrrrr$", &[(POLL, 0, NETWORK)]),
        killed(task(2, 1, "rbbbbbrbrrbr$", &waits)),
    ]);
    assert_eq!((e.verdict, e.held), (Verdict::Idle, 0));
    // Who is not the main thread can owe it something.
    let e = only(vec![
        task(1, 2, "rbbbbrr$", &[(POLL, 0, NETWORK)]),
        task(2, 2, "rbbbbbr$", &[(FUTEX, LOCK, by(1))]),
    ]);
    assert_eq!((e.verdict, e.not_woken), (Verdict::Caused, 0));
    // Here 2 goes on to block, so it did not end.
    let report = report_on(vec![
        task(1, 1, "rbbbbrrrrrrr$", &[(POLL, 0, NETWORK)]),
        task(
            2,
            1,
            "rbbbbbrbbbrr$",
            &[(FUTEX, LOCK, by(1)), (SLEEP, 0, TIMER)],
        ),
    ]);
    assert_eq!(report.episodes[0].verdict, Verdict::Caused);
}

#[test]
fn one_that_waits_for_input_again_held_up_nobody_before() {
    // 1 waits for input three times, then wakes 2.
    let tasks = |of_each: In| {
        vec![
            task(
                1,
                1,
                "rbbrbbrbbrrbr$",
                &[of_each, of_each, of_each, (SLEEP, 0, TIMER)],
            ),
            task(2, 1, "rbbbbbbbbbrr$", &[(FUTEX, LOCK, by(1))]),
        ]
    };
    let verdicts = |of_each| {
        let report = report_on(tasks(of_each));
        let mut found = report.episodes;
        found.retain(|e| e.group == 0);
        found.sort_by_key(|e| e.start_ns);
        found.iter().map(|e| e.verdict).collect::<Vec<_>>()
    };
    let reads = verdicts((READ, 0, NETWORK));
    assert_eq!(reads, [Verdict::Idle, Verdict::Idle, Verdict::Caused]);
    // Whatever comes first is not what a parked thread of its process waits for.
    let polls = verdicts((POLL, 0, NETWORK));
    assert_eq!(polls, [Verdict::Idle; 3]);
    // From the last wait for input on, whatever it waits for counts.
    let report = report_on(vec![
        task(
            1,
            1,
            "rbbrbbrbbrrbr$",
            &[
                (READ, 0, NETWORK),
                (FSYNC, FILE, DISK),
                (SLEEP, 0, TIMER),
                (SLEEP, 0, TIMER),
            ],
        ),
        task(2, 1, "rbbbbbbbbbrr$", &[(FUTEX, LOCK, by(1))]),
    ]);
    assert!(report.episodes.iter().all(|e| e.verdict == Verdict::Caused));
}

#[test]
fn a_thread_that_is_waited_for_to_end_is_the_cause() {
    let e = only(vec![
        task(1, 1, "rbbbbbbr$", &[(FUTEX, 0, by(2))]),
        task(2, 1, "rrbbbr$", &[(SLEEP, 0, TIMER)]),
    ]);
    assert_eq!(e.verdict, Verdict::Caused);
    assert_eq!(serials(&e.chain), [1, 2]);
}

#[test]
fn a_process_waits_for_another_which_was_blocked_itself() {
    // Both threads of process 1 wait for process 3, which reads from the disk.
    let report = report_on(vec![
        task(1, 1, "rbbbbbrr$", &[(READ, 0, by(3))]),
        task(2, 1, "rbbbbbbr$", &[(POLL, 0, NETWORK)]),
        task(3, 3, "rrbbrrr$", &[(FSYNC, FILE, DISK)]),
    ]);
    let e = report.episodes.iter().find(|e| e.group == 1).unwrap();
    assert_eq!(e.verdict, Verdict::Idle, "it waits for input from outside");
    assert_eq!(serials(&e.chain), [1, 3]);
    assert_eq!(e.chain_in_group, 1);
}

#[test]
fn the_longest_block_is_followed_to_its_root() {
    let report = report_on(vec![
        task(
            1,
            1,
            "rbrbbbbbbbr$",
            &[(SLEEP, 0, TIMER), (FUTEX, LOCK, by(2))],
        ),
        task(
            2,
            1,
            "rrrrbbbrbrr$",
            &[(FSYNC, FILE, DISK), (SLEEP, 0, TIMER)],
        ),
    ]);
    let longest = &report.tasks[0].longest_blocks[0];
    assert_eq!(serials(&longest.chain), [1, 2]);
    assert_eq!(longest.chain[1].reason, "fsync");
}

/// A sleep is over and taken up again, a timed wait for a lock is too.
#[test]
fn a_look_up_does_not_end_a_stall() {
    let timed = |mut task: Task| {
        task.stretches.edit(|offs| {
            for off in offs {
                off.timeout_us = Timeout::Us(1).to_us();
            }
        });
        task
    };
    // 2 looks up twice while 1 sleeps.
    let tasks = |ticks: In, last: In| {
        vec![
            task(1, 1, "rbbbbbbbbrr$", &[(SLEEP, 0, TIMER)]),
            timed(task(2, 1, "rbbrbbrbbbrr$", &[ticks, ticks, last])),
        ]
    };
    let e = only(tasks((FUTEX, LOCK, TIMER), (FUTEX, LOCK, by(1))));
    assert_eq!((e.verdict, e.held, e.look_ups), (Verdict::Caused, 1, 2));
    assert_eq!((e.start_ns, e.end_ns, e.ns), (1, 9, 6));
    let ended_by = e.ended_by.unwrap();
    assert_eq!((ended_by.task.serial, &*ended_by.reason), (1, "sleep"));
    // Each time another lock: it went on.
    let report = report_on(tasks((FUTEX, LOCK, TIMER), (FUTEX, 0, by(1))));
    assert_eq!(report.episodes.len(), 2, "{:#?}", report.episodes);
    // Somebody brought it what it waited for each time.
    let report = report_on(tasks((READ, 0, NETWORK), (READ, 0, NETWORK)));
    assert_eq!(report.episodes.len(), 3, "{:#?}", report.episodes);
}

#[test]
fn who_wakes_another_has_not_only_looked_up() {
    // 1 sleeps twice, and wakes 2 in between.
    let report = report_on(vec![
        task(
            1,
            1,
            "rbbbrrbbbrr$",
            &[(SLEEP, 0, TIMER), (SLEEP, 0, TIMER)],
        ),
        task(
            2,
            1,
            "rbbbbrbbbbbbb>",
            &[(FUTEX, LOCK, by(1)), (FUTEX, 0, Waker::None)],
        ),
    ]);
    let mut found = report.episodes;
    found.sort_by_key(|e| e.start_ns);
    let found: Vec<_> = found
        .iter()
        .map(|e| (e.start_ns, e.verdict, e.look_ups))
        .collect();
    assert_eq!(found[0], (1, Verdict::Caused, 0));
    assert!(found.len() > 1, "{found:?}");
}

#[test]
fn what_a_signal_ended_is_put_down_to_who_could_have_ended_it() {
    let outside = Waker::Outsider {
        tid: 9,
        softirq: false,
    };
    // A shell waits for its child, which sleeps; both are killed.
    let mut child = killed(task(2, 2, "rbbbbbbbr$", &[(SLEEP, 0, outside)]));
    child.ppid = 101;
    let mut model = model(vec![
        killed(task(1, 1, "rbbbbbbbbr$", &[(WAIT, 5, outside)])),
        child,
    ]);
    model.targets.push(Target::Child(Some(102)));
    let info = TraceInfo {
        file_id: 1,
        header: header(),
        finish: None,
        damage: Vec::new(),
        skipped: crate::trace_file::Skipped::default(),
        last_ns: 0,
    };
    let report = analyse(&info, &model);
    let e = report.episodes.iter().find(|e| e.group == 0).unwrap();
    assert_eq!((e.verdict, e.held), (Verdict::Caused, 1), "{e:#?}");
    assert_eq!(serials(&e.chain), [1, 2]);
    let ended_by = e.ended_by.as_ref().unwrap();
    assert_eq!((ended_by.task.serial, &*ended_by.reason), (2, "sleep"));
    assert_eq!(ended_by.how, Ended::CutShort);
    assert_eq!(ended_by.apart, Some(Apart::CutShort));
}

#[test]
fn a_long_queue_costs_no_more_links_and_loses_none() {
    const N: u32 = 3_000;
    let mut tasks = vec![task(1, 1, "rbbbrr$", &[(SLEEP, 0, TIMER)])];
    for serial in 2..N {
        let wait = "b".repeat(serial as usize + 1);
        let line = format!("r{wait}rr$");
        tasks.push(task(serial, 1, &line, &[(FUTEX, LOCK, by(serial - 1))]));
    }
    let report = report_on(tasks);
    let first = report.episodes.iter().find(|e| e.start_ns == 1).unwrap();
    assert_eq!(first.verdict, Verdict::Caused);
    assert_eq!(first.held, N - 2);
    assert_eq!(first.ended_by.as_ref().unwrap().task.serial, 1);
    assert_eq!(first.chain.len() as u32 + first.chain_left_out, N - 1);
    assert_eq!(first.chain.last().unwrap().task.serial, 1);
}

#[test]
fn the_path_goes_from_the_end_to_the_start_along_what_was_waited_for() {
    let report = report_on(vec![
        task(1, 1, "rrbbbbbbbrr$", &[(FUTEX, LOCK, by(2))]),
        task(2, 1, "  rbbbrwrrr$", &[(FSYNC, FILE, DISK)]),
        task(3, 1, "rbbbbbbbbb>", &[(FUTEX, 0, Waker::None)]),
    ]);
    let of = |part: &report::PathPart| (part.role.clone(), part.state, part.ns);
    let parts: Vec<_> = report.path.parts.iter().map(of).collect();
    // 1 runs at its end; 2 wakes it in the ninth nanosecond, has synced and been preempted.
    // Nobody is known to have made 2.
    let role = |name: &str| name.to_owned();
    assert!(
        parts.contains(&(role("t1"), PathState::Running, 2)),
        "{parts:?}"
    );
    assert!(
        parts.contains(&(role("t1: t2"), PathState::Blocked, 3)),
        "{parts:?}"
    );
    assert!(
        parts.contains(&(role("t1: t2"), PathState::Runnable, 1)),
        "{parts:?}"
    );
    assert_eq!(report.path.ns, 11);
    assert!(parts.iter().all(|(role, ..)| role != "t1: t3"));
}

#[test]
fn the_first_finding_is_what_a_stall_is_put_down_to() {
    let long = "b".repeat(3_000_000);
    let report = report_on(vec![
        task(1, 1, &format!("r{long}rr$"), &[(SLEEP, 0, TIMER)]),
        task(2, 1, &format!("r{long}brr$"), &[(FUTEX, LOCK, by(1))]),
    ]);
    let first = &report.findings[0];
    assert_eq!(first.kind, report::FindingKind::Stall, "{first:?}");
    assert_eq!(first.tasks, [1]);
    assert_eq!(first.ns, 3_000_000);
    assert!(
        first.sentence.contains("for `t1` (101), which slept"),
        "{first:?}"
    );
}

// --- Against a search ---

fn any_line() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        4 => (1usize..7).prop_map(|n| "b".repeat(n)),
        1 => (1usize..3).prop_map(|n| "w".repeat(n)),
        2 => (1usize..3).prop_map(|n| "r".repeat(n)),
    ];
    let end = prop::sample::select(vec!["$", ">"]);
    (0usize..6, prop::collection::vec(part, 1..8), end).prop_map(|(born, parts, end)| {
        // A task ends while it runs.
        let last = if end == "$" { "r" } else { "" };
        format!("{}r{}{last}{end}", " ".repeat(born), parts.join("r"))
    })
}

fn any_in() -> impl Strategy<Value = In> {
    let waker = prop_oneof![
        4 => (1u32..7).prop_map(by),
        2 => Just(TIMER),
        2 => Just(DISK),
        1 => Just(Waker::Outsider { tid: 9, softirq: false }),
        1 => Just(Waker::Unknown),
    ];
    let syscall = prop::sample::select(vec![READ, POLL, SLEEP, FSYNC, FUTEX]);
    (syscall, 0u32..3, waker)
}

pub(super) fn any_tasks() -> impl Strategy<Value = Vec<Task>> {
    let one = (any_line(), prop::collection::vec(any_in(), 8), 1u32..3);
    prop::collection::vec(one, 2..7).prop_map(|tasks| {
        let tasks = tasks.into_iter().enumerate();
        tasks
            .map(|(at, (line, ins, process))| task(at as u32 + 1, process, &line, &ins))
            .collect()
    })
}

/// What a task does in this nanosecond.
fn state_at(task: &Task, at: u64) -> Option<State> {
    let mut segments = task.segments();
    segments
        .find(|s| s.start_ns <= at && at < s.end_ns)
        .map(|s| s.state)
}

/// What counts of what holds up a member that is blocked.
fn search_held_by(
    at: u32,
    held: &[Option<HeldBy>],
    starts: &[Option<u64>],
    depth: usize,
) -> HeldBy {
    let held_by = held[at as usize].unwrap();
    let HeldBy::Edge { to, class, .. } = held_by else {
        return held_by;
    };
    // A ring of those that nobody owes anything.
    if depth > held.len() && class == Class::Anything {
        return HeldBy::Input;
    }
    let waker = held[to as usize].map(|other| match class {
        Class::Anything => search_held_by(to, held, starts, depth + 1),
        _ => other,
    });
    held_by.during(starts[to as usize].zip(waker))
}

/// The verdict on a stall that the end of the root's wait ended, from all blocks of its
/// last nanosecond.
fn search(
    held: &BTreeMap<u32, HeldBy>,
    root: u32,
    end_ns: u64,
    m: &Members<'_>,
    b: &Blocks<'_>,
) -> Verdict {
    let to_root = |p: &&HeldBy| matches!(p, HeldBy::Edge { to, .. } if *to == root);
    let held_by = held[&root];
    if held.values().any(|p| to_root(&p)) {
        return match held_by {
            HeldBy::Unknown => Verdict::Unknown,
            _ => Verdict::Caused,
        };
    }
    let count = |of: &[HeldBy]| held.values().filter(|p| of.contains(p)).count();
    if count(&[HeldBy::Unknown]) > 0 {
        return Verdict::Unknown;
    }
    let is_busy = |p: &HeldBy| [HeldBy::Busy, HeldBy::Abroad].contains(p);
    let blocks = held.iter().filter(|(_, p)| is_busy(p));
    let blocks: Vec<Block> = blocks
        .filter_map(|(at, _)| {
            let task = m.tasks[*at as usize] as usize;
            Block::before(&b.model.tasks[task], end_ns)
        })
        .collect();
    let target = blocks.first().map_or(0, |b| b.target);
    let one_target = target != 0 && blocks.iter().all(|b| b.target == target);
    let process = |block: &Block| match block.waker {
        Waker::Task { serial, .. } => {
            let waker = b.model.tasks.iter().find(|t| t.serial == serial);
            waker.map(|t| t.process)
        }
        _ => None,
    };
    let waker = blocks.first().and_then(process);
    let one_waker = waker.is_some() && blocks.iter().all(|b| process(b) == waker);
    // These are all of one disk that is not known.
    let one_disk = blocks.iter().all(|b| b.why == Why::Uninterruptible);
    let led_to = |at: &u32| {
        held.values()
            .any(|p| matches!(p, HeldBy::Edge { to, class, .. } if to == at && *class != Class::Anything))
    };
    let behind_a_sleeper = held.iter().any(|(at, p)| *p == HeldBy::Time && led_to(at));
    let others = blocks.len() - usize::from(is_busy(&held_by));
    match held_by {
        _ if is_busy(&held_by) && others > 0 && (one_target || one_waker || one_disk) => {
            Verdict::CommonCause
        }
        _ if others > 0 => Verdict::Coincidence,
        HeldBy::Edge { .. } => Verdict::Coincidence,
        HeldBy::Time if count(&[HeldBy::Time, HeldBy::Input]) == 1 => Verdict::CommonCause,
        HeldBy::Input => Verdict::Idle,
        _ if behind_a_sleeper => Verdict::Coincidence,
        _ if is_busy(&held_by) => Verdict::CommonCause,
        _ => Verdict::Idle,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn episodes_agree_with_a_search(tasks in any_tasks(), process in 0u32..3) {
        let model = model(tasks);
        let header = header();
        let wakers = Wakers::new(&model, &header);
        let blocks = Blocks::new(&model, &wakers, Arch::X86_64);
        let targets = objects::representatives(&model);
        let mut positions = Vec::new();
        let mut members: Vec<u32> = Vec::new();
        for (at, task) in model.tasks.iter().enumerate() {
            let is = process == 0 || task.process == process;
            positions.push(if is { members.len() as u32 } else { u32::MAX });
            if is {
                members.push(at as u32);
            }
        }
        let members = Members { group: process, tasks: members, positions: &positions };
        let kin = Kin::new(&blocks);
        let hangs = hangs(&kin);
        let early = Early::new(model.tasks.len());
        let watch = Watch::new(&kin, &members, &targets, &hangs, (usize::MAX, &early));
        let of = |at: &u32| &model.tasks[*at as usize];
        let same_reason = SameReason::new(Arch::X86_64, vec![false; members.len()]);
        let mut sweep = Sweep::new(members.len(), same_reason, watch);
        let mut changes = Changes::new(&model, &members.tasks, Waits::new(&blocks, &early));
        while let Some(window) = changes.next() {
            for (change, wait) in window.changes() {
                let position = members.position(change.task).unwrap();
                sweep.change(position as usize, change, wait);
            }
        }
        let (profile, _, watch) = sweep.finish();
        let stalls = watch.finish();
        let total: u64 = stalls.verdicts.clone().into_rows().iter().map(|(_, t)| t.ns).sum();
        let count: u64 = stalls.causes.into_rows().iter().map(|(_, s)| s.total.episodes).sum();
        prop_assert_eq!(total, profile.all_blocked.lower_ns);
        prop_assert_eq!(stalls.longest.len() as u64, count);
        let look_ups: u64 = stalls.longest.iter().map(|(_, stall)| stall.look_ups).sum();
        prop_assert!(count <= profile.all_blocked.episodes);
        prop_assert!(count + look_ups >= profile.all_blocked.episodes);
        let mut before_ns = 0;
        let mut sorted = stalls.longest.clone();
        sorted.sort_by_key(|(_, stall)| stall.start_ns);
        for (_, stall) in sorted {
            prop_assert!(stall.start_ns >= before_ns, "they overlap");
            before_ns = stall.end_ns;
        }
        let mut begun = Begun::new(&model);
        for (verdict, stall) in stalls.longest {
            let all_blocked = (stall.start_ns..stall.end_ns).filter(|ns| {
                let states = members.tasks.iter().filter_map(|at| state_at(of(at), *ns));
                let states: Vec<State> = states.collect();
                states.len() > 1 && states.iter().all(|s| *s == State::Blocked)
            });
            prop_assert_eq!(all_blocked.count() as u64, stall.ns);
            if stall.look_ups == 0 {
                prop_assert!(stall.end_ns - stall.start_ns <= stall.ns + LOOK_UP_NS);
            }
            let episode = Inquiry::new(&kin, &members, stall, &mut begun).episode(verdict, true);
            let ended_by = episode.ended_by.as_ref().unwrap();
            let root = &model.tasks[members.tasks[stall.root as usize] as usize];
            prop_assert_eq!(ended_by.task.serial, root.serial);
            if stall.unfulfilled {
                prop_assert!(ended_by.apart.is_some());
                continue;
            }
            // The wait that is named ends when the stall ends.
            prop_assert_eq!(stall.root, stall.next);
            prop_assert_eq!(ended_by.end_ns, Some(stall.end_ns));
            prop_assert_eq!(ended_by.apart, None);
            let mut held = BTreeMap::new();
            let mut ends = 0;
            for (position, at) in members.tasks.iter().enumerate() {
                if state_at(of(at), stall.end_ns - 1) != Some(State::Blocked) {
                    continue;
                }
                let block = Block::before(of(at), stall.end_ns).unwrap();
                held.insert(position as u32, held_by(&blocks, &members, *at, &block));
                ends += u32::from(block.end_ns(of(at)) == stall.end_ns);
            }
            let starts: Vec<Option<u64>> = (0..members.tasks.len() as u32)
                .map(|at| {
                    held.get(&at)?;
                    Some(Block::before(of(&members.tasks[at as usize]), stall.end_ns)?.start_ns)
                })
                .collect();
            let dead = |(at, held_by): (&u32, &HeldBy)| match held_by {
                HeldBy::Edge { to, .. } => {
                    let waker = of(&members.tasks[*to as usize]);
                    let block = Block::before(of(&members.tasks[*at as usize]), stall.end_ns);
                    let wake_ns = block.and_then(|b| b.wake_ns).unwrap();
                    let asleep = waker.open.is_some_and(|open| open.out_ns < wake_ns);
                    asleep || waker.end_ns < stall.end_ns
                }
                _ => false,
            };
            let begins = members.tasks.iter().any(|at| {
                let mut offs = of(at).stretches.iter().map(|off| off.out_ns);
                let open = of(at).open.map(|open| open.out_ns);
                offs.any(|ns| ns == stall.end_ns) || open == Some(stall.end_ns)
            });
            if ends > 1 || begins || held.iter().any(dead) {
                // Which of two was first? The dead wake nobody, nor do those who never woke
                // up again: there is no right answer.
                continue;
            }
            let all = 0..members.tasks.len() as u32;
            let all: Vec<_> = all.map(|at| held.get(&at).copied()).collect();
            for (at, held_by) in &mut held {
                *held_by = search_held_by(*at, &all, &starts, 0);
            }
            let expected = search(&held, stall.root, stall.end_ns, &members, &blocks);
            prop_assert_eq!(verdict, expected, "{:?}", held);
            let in_group = episode.chain_in_group as usize;
            if verdict == Verdict::Caused {
                prop_assert!(in_group > 1 && episode.held > 0);
            }
            prop_assert_eq!(episode.chain[in_group - 1].task.serial, root.serial);
        }
    }

    /// A tree of tasks of whom each wakes those behind it, and the first of whom waits for
    /// something of the kernel's; and others who have nothing to do with it.
    #[test]
    fn a_known_cause_is_found_whoever_else_is_there(
        parents in prop::collection::vec(any::<prop::sample::Index>(), 1..12),
        length in 6u64..40,
        own in prop::sample::select(vec![(SLEEP, 0, TIMER), (FSYNC, FILE, DISK)]),
        parked in 0usize..3,
        beats in prop::option::of(2usize..6),
        supervised in any::<bool>(),
    ) {
        let beats = beats.filter(|every| length % (*every as u64 + 1) != 0);
        let rest = "r".repeat(40);
        let blocked = |from: u64| "b".repeat(from as usize - 1);
        let mut tasks = vec![task(1, 1, &format!("r{}{rest}$", blocked(length)), &[own])];
        for (at, parent) in parents.iter().enumerate() {
            let (serial, parent) = (at as u32 + 2, parent.index(at + 1) as u32 + 1);
            let line = format!("r{}{rest}$", blocked(length + 1 + at as u64));
            tasks.push(task(serial, 1, &line, &[(FUTEX, LOCK, by(parent))]));
        }
        let behind = parents.len() as u32;
        let mut more = |line: &str, ins: &[In]| {
            let serial = tasks.len() as u32 + 1;
            tasks.push(task(serial, 1, line, ins));
        };
        for _ in 0..parked {
            more(&format!("r{}>", "b".repeat(90)), &[(FUTEX, 0, Waker::None)]);
        }
        if let Some(every) = beats {
            let beat = format!("{}r", "b".repeat(every));
            more(&format!("r{}b>", beat.repeat(20)), &[(SLEEP, 0, TIMER); 21]);
        }
        if supervised {
            more(&format!("r{}>", "b".repeat(90)), &[(WAIT, 0, Waker::None)]);
        }
        let report = report_on(tasks);
        let mut found: Vec<_> = report.episodes.iter().filter(|e| e.group == 0).collect();
        found.sort_by_key(|e| e.start_ns);
        let e = found[0];
        prop_assert_eq!((e.start_ns, e.end_ns), (1, length));
        prop_assert_eq!((e.verdict, e.held), (Verdict::Caused, behind));
        let ended_by = e.ended_by.as_ref().unwrap();
        prop_assert_eq!(ended_by.task.serial, 1);
        prop_assert_eq!((ended_by.end_ns, ended_by.apart), (Some(length), None));
        prop_assert_eq!(e.chain.last().unwrap().task.serial, 1);
    }

    #[test]
    fn the_path_adds_up_to_the_wall_time(tasks in any_tasks(), lost in any::<prop::sample::Index>()) {
        let mut tasks = tasks;
        // With a loss as well.
        let at = lost.index(tasks.len());
        if tasks[at].stretches.len() > 2 {
            tasks[at].stretches.edit(|offs| {
                offs.remove(1);
            });
        }
        let report = report_on(tasks);
        let parts: u64 = report.path.parts.iter().map(|part| part.ns).sum();
        prop_assert_eq!(parts, report.path.ns);
        prop_assert_eq!(parts, report.workload.duration_ns);
        prop_assert!(!report.findings.is_empty());
    }

    #[test]
    fn forged_times_do_no_harm(
        tasks in any_tasks(),
        times in prop::collection::vec(any::<u64>(), 24),
        late: bool,
    ) {
        let mut tasks = tasks;
        let mut times = times.into_iter();
        for task in &mut tasks {
            if late {
                // All of them at the last moment that there is.
                task.start_ns = u64::MAX;
            }
            task.stretches.edit(|offs| { for off in offs {
                let Some(time) = times.next() else { break };
                off.out_ns = time;
                off.wake_ns = time.saturating_add(time % 7);
                off.in_ns = u64::MAX;
            }});
            task.end_ns = u64::MAX;
        }
        report_on(tasks);
    }
}
