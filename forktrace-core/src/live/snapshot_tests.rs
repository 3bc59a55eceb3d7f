use super::{
    tests::{MS, START, born, open, stretch},
    *,
};
use crate::trace::{
    Attached, FileKind, LastName, LockName, Named, Object, Outsider, ProviderKind, Providers,
    Timeout, Waker,
};

fn at(ms: u64) -> u64 {
    START + ms * MS
}

/// Tasks of one process, which all came to a CPU at once.
fn live(tasks: u32) -> Live {
    let mut live = Live::in_detail(Arch::X86_64, START);
    for serial in 1..=tasks {
        live.note(&Event::Born(born(serial)));
        live.note(&Event::Stretch(stretch(
            serial,
            0,
            [START, START, at(1)],
            "futex",
        )));
    }
    live
}

/// It sleeps in this call from then on.
fn sleeps(serial: u32, ms: u64, call: &str, object: u32) -> (u32, Option<OpenStretch>) {
    let s = stretch(serial, 1, [at(ms), at(9000), at(9000)], call);
    let open = open(&[s], serial, at(8000)).map(|open| OpenStretch { object, ..open });
    (serial, open)
}

fn waits_for(serial: u32, kind: ProviderKind, tasks: &[u32]) -> Event {
    Event::Providers(Providers {
        serial,
        seq: 1,
        at_ns: at(200),
        kind,
        tasks: tasks.to_vec(),
        outside: false,
        foreign: None,
    })
}

fn pipe(id: u32) -> [Event; 2] {
    [
        Event::Object(Object {
            id,
            serial: 1,
            fd: 3,
            at_ns: at(2),
            file: 0,
            operations: 0,
            inode: 7,
            device: 9,
            mode: 0o010_600,
            last_name: LastName::default(),
        }),
        Event::Named(Named {
            id,
            fd: 3,
            inode: 7,
            device: 9,
            kind: FileKind::Pipe,
        }),
    ]
}

/// Two read from pipes for a third, which sleeps.
fn two_behind_a_sleeper() -> Live {
    let mut live = live(3);
    pipe(5).iter().for_each(|event| live.note(event));
    live.note(&waits_for(1, ProviderKind::OtherEnd, &[3]));
    live.note(&waits_for(2, ProviderKind::OtherEnd, &[3]));
    let mut nap = sleeps(3, 30, "clock_nanosleep", 0);
    if let Some(open) = &mut nap.1 {
        open.timeout = Timeout::Us(2_500_000);
    }
    let living = [sleeps(1, 10, "read", 5), sleeps(2, 20, "read", 5), nap];
    live.advance(at(530), living.into_iter());
    live
}

#[test]
fn a_snapshot_says_who_waits_for_what_and_whom() {
    let snapshot = two_behind_a_sleeper().snapshot(4);
    assert_eq!((snapshot.lost, snapshot.elapsed_ns), (4, 530 * MS));
    assert_eq!(snapshot.counts.blocked, 3);
    assert_eq!(snapshot.all_blocked.now_ns, 500 * MS);
    // All are where they always were: then it is the one whom the others wait for.
    let whole = snapshot.whole();
    let on = whole.on.map(|at| snapshot.tasks[at].serial);
    assert_eq!((on, whole.idle), (Some(3), true));
    let row = snapshot.task(1).expect("it lives");
    let wait = row.wait.as_ref().expect("it waits");
    assert_eq!((row.tid, row.state), (101, State::Blocked));
    assert_eq!((&*wait.reason, &*wait.object), ("read", "pipe 7"));
    assert_eq!((wait.for_ns, wait.before), (520 * MS, false));
    let by = wait.providers.as_ref().expect("it was found out");
    assert_eq!((by.kind, &by.tasks[..]), (ProviderKind::OtherEnd, &[3][..]));
    let nap = snapshot.task(3).and_then(|row| row.wait.as_ref());
    assert_eq!(nap.map(|wait| &*wait.object), Some("for 2.50 s"));
    assert_eq!(row.blocked, [("peer".to_owned(), 520 * MS)]);
    assert!(snapshot.task(4).is_none());
}

#[test]
fn the_graph_goes_from_who_is_waited_for_to_who_waits() {
    let lines = two_behind_a_sleeper().snapshot(0).graph();
    let told: Vec<_> = lines
        .iter()
        .map(|line| (line.depth, line.node.clone(), line.how, line.circle))
        .collect();
    let how = Some(ProviderKind::OtherEnd);
    assert_eq!(
        told,
        [
            (0, Node::Task(3), None, false),
            (1, Node::Task(1), how, false),
            (1, Node::Task(2), how, false),
        ]
    );
}

#[test]
fn a_circle_is_told_once_with_what_hangs_on_it() {
    let mut live = live(4);
    let owner = ProviderKind::Owner;
    for (serial, of) in [(1, 2), (2, 3), (3, 2)] {
        live.note(&waits_for(serial, owner, &[of]));
    }
    live.note(&waits_for(4, ProviderKind::Shares, &[]));
    let living = [1, 2, 3, 4].map(|serial| sleeps(serial, 10, "futex", 0));
    live.advance(at(500), living.into_iter());
    let lines = live.snapshot(0).graph();
    let told: Vec<_> = lines
        .iter()
        .map(|line| (line.depth, line.node.clone(), line.circle))
        .collect();
    assert_eq!(
        told,
        [
            (0, Node::Nobody, false),
            (1, Node::Task(4), false),
            (0, Node::Task(2), true),
            (1, Node::Task(1), false),
            (1, Node::Task(3), false),
        ]
    );
}

/// A chain can be as long as there are tasks, and each of them is looked at once.
#[test]
fn a_long_chain_is_followed_to_its_end() {
    const TASKS: u32 = 20_000;
    let mut live = live(TASKS);
    for serial in 1..TASKS {
        live.note(&waits_for(serial, ProviderKind::Owner, &[serial + 1]));
    }
    let living = (1..=TASKS).map(|serial| sleeps(serial, 10, "futex", 0));
    live.advance(at(500), living);
    let lines = live.snapshot(0).graph();
    let last = lines.last().map(|line| (line.depth, line.node.clone()));
    assert_eq!(lines[0].node, Node::Task(TASKS));
    assert_eq!(last, Some((TASKS as usize - 1, Node::Task(1))));
}

/// The next sleep is another wait, of which nothing is known yet.
#[test]
fn what_was_found_out_of_a_wait_ends_with_it() {
    let mut live = two_behind_a_sleeper();
    let mut woken = stretch(1, 1, [at(10), at(540), at(541)], "read");
    woken.waker = Waker::Task {
        serial: 3,
        softirq: false,
    };
    live.note(&Event::Stretch(woken));
    let again = stretch(1, 2, [at(545), at(9000), at(9000)], "read");
    let living = [(1, open(&[again], 1, at(8000)))];
    live.advance(at(550), living.into_iter());
    let snapshot = live.snapshot(0);
    let row = snapshot.task(1).expect("it lives");
    let wait = row.wait.as_ref().expect("it waits");
    assert_eq!((&wait.providers, wait.for_ns), (&None, 5 * MS));
    assert_eq!(row.waker, Some((Some(3), "task 3 (103)".to_owned())));
    // The name of one who has ended stays known for a while, of one outside it is told.
    let mut record = super::tests::record(3, Some(at(551)));
    record.born.comm = "writer".to_owned();
    live.note(&Event::Task(record));
    live.note(&Event::Outsider(Outsider {
        tid: 77,
        tgid: 77,
        kernel_thread: false,
        at_ns: at(552),
        comm: "client".to_owned(),
    }));
    let mut woken = stretch(2, 1, [at(20), at(553), at(554)], "read");
    woken.waker = Waker::Outsider {
        tid: 77,
        softirq: false,
    };
    live.note(&Event::Stretch(woken));
    live.advance(at(560), [].into_iter());
    let snapshot = live.snapshot(0);
    let waker = |serial| snapshot.task(serial).and_then(|row| row.waker.clone());
    assert_eq!(waker(1), Some((Some(3), "writer (103)".to_owned())));
    assert_eq!(waker(2), Some((None, "client (77), outside".to_owned())));
}

#[test]
fn a_wait_from_before_the_recording_counts_from_its_beginning() {
    let mut live = Live::in_detail(Arch::X86_64, START);
    for (serial, asleep_for_ns) in [(1, Some(3_000 * MS)), (2, None)] {
        live.note(&Event::Attached(Attached {
            serial,
            at_ns: START,
            asleep_for_ns,
        }));
        live.note(&Event::Born(born(serial)));
    }
    let sleeping = |serial| {
        let s = stretch(serial, 0, [START, at(9000), at(9000)], "futex");
        let open = open(&[s], serial, at(8000));
        let why = Why::Interruptible;
        (
            serial,
            open.map(|open| OpenStretch {
                why,
                arg0: 0x40,
                ..open
            }),
        )
    };
    live.note(&Event::LockName(LockName {
        serial: 1,
        address: 0x40,
        name: "queue+0x8".to_owned(),
        module: "x".to_owned(),
    }));
    live.advance(at(500), [1, 2].map(sleeping).into_iter());
    let snapshot = live.snapshot(0);
    let wait = |serial| {
        let wait = snapshot.task(serial).and_then(|row| row.wait.as_ref());
        wait.map(|wait| (wait.for_ns, wait.before && wait.whole, &*wait.object))
    };
    assert_eq!(wait(1), Some((3_500 * MS, true, "queue+0x8")));
    assert_eq!(wait(2), Some((500 * MS, false, "queue+0x8")));
    let second = snapshot.tasks[1].wait.as_ref();
    assert!(second.is_some_and(|wait| wait.before && !wait.whole));
}

#[test]
fn groups_are_counted_by_role_and_by_process() {
    let mut live = Live::in_detail(Arch::X86_64, START);
    for (serial, name) in [(1, "server"), (2, "worker-1"), (3, "worker-2"), (4, "log")] {
        let mut born = born(serial);
        born.comm = name.to_owned();
        live.note(&Event::Born(born));
        live.note(&Event::Stretch(stretch(
            serial,
            0,
            [START, START, at(1)],
            "futex",
        )));
    }
    let living = [
        sleeps(2, 10, "fsync", 0),
        sleeps(3, 20, "epoll_wait", 0),
        (4, None),
    ];
    live.advance(at(100), living.into_iter());
    let snapshot = live.snapshot(0);
    let roles = snapshot.groups(GroupBy::Role);
    let workers = &roles[0];
    assert_eq!(workers.name, "server: worker");
    assert_eq!((workers.counts.blocked, workers.counts.live()), (2, 2));
    // Since the second of them blocked, and for the disk, not for events.
    assert_eq!(workers.all_blocked_ns, Some(80 * MS));
    let on = workers.on.map(|at| snapshot.tasks[at].serial);
    assert_eq!((on, workers.idle), (Some(2), false));
    let log = roles.iter().find(|group| group.name == "server: log");
    assert_eq!(log.map(|group| group.all_blocked_ns), Some(None));
    let processes = snapshot.groups(GroupBy::Process);
    assert_eq!(processes.len(), 1);
    assert_eq!(processes[0].name, "server (101)");
    assert_eq!(processes[0].counts, snapshot.counts);
}
