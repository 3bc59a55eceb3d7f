//! Reports made by hand, for the tests of the renderers.

use crate::{analysis, report::*};

const MS: u64 = 1_000_000;
const S: u64 = 1_000_000_000;

/// One task's time: running, runnable, blocked, stopped, unknown.
type Time = [u64; 5];

fn wait(reason: &str, syscall: &str, ns: u64, count: u64, longest_ns: u64) -> Wait {
    Wait {
        reason: reason.to_owned(),
        syscall: (!syscall.is_empty()).then(|| syscall.to_owned()),
        interruptible: !matches!(syscall, "" | "fsync"),
        ns,
        count,
        longest_ns,
        ..Wait::default()
    }
}

fn task(serial: u32, pid: u32, tid: u32, name: &str, start: u64, time: Time) -> Task {
    let [running_ns, runnable_ns, blocked_ns, stopped_ns, unknown_ns] = time;
    let switches = 2 + running_ns / (3 * MS);
    Task {
        serial,
        tid,
        pid,
        ppid: if pid == 4121 { 4100 } else { 4121 },
        name: name.to_owned(),
        role: name.to_owned(),
        helper: false,
        shares: Vec::new(),
        attached: false,
        asleep_before_ns: None,
        start_ns: start,
        first_run_ns: (running_ns > 0).then_some(start),
        end_ns: start + time.iter().sum::<u64>(),
        fate: Fate::Ended,
        running_ns,
        runnable_ns,
        blocked_ns,
        stopped_ns,
        unknown_ns,
        unplaced_ns: 0,
        blocks: 0,
        longest_block_ns: 0,
        longest_runnable_ns: runnable_ns.min(4 * MS),
        blocked: None,
        runnable: None,
        waits: Vec::new(),
        wakers: Vec::new(),
        other_wakers: 0,
        longest_blocks: Vec::new(),
        argv: Vec::new(),
        switches: Switches {
            traced: switches,
            kernel: Some(switches),
        },
        kernel_cpu_ns: Some(running_ns),
        began_before: false,
        goes_on: false,
        waiting_since_ns: None,
        followed: true,
    }
}

impl Task {
    fn waiting(mut self, waits: Vec<Wait>) -> Self {
        self.blocks = waits.iter().map(|wait| wait.count).sum();
        self.longest_block_ns = waits.iter().map(|wait| wait.longest_ns).max().unwrap_or(0);
        self.waits = waits;
        self
    }
}

fn exactly(ns: u64, episodes: u64, longest_ns: u64, start: u64) -> Episodes {
    Episodes {
        lower_ns: ns,
        upper_ns: ns,
        episodes,
        longest_ns,
        longest_start_ns: (episodes > 0).then_some(start),
    }
}

fn at_once(ns: &[u64]) -> Vec<AtOnce> {
    (0..)
        .zip(ns)
        .filter(|&(_, &ns)| ns > 0)
        .map(|(count, &ns)| AtOnce { count, ns })
        .collect()
}

fn group(
    kind: GroupKind,
    tasks: &[Task],
    most_live: u32,
    all_blocked: Episodes,
    starved: Episodes,
    blocked: &[u64],
    running: &[u64],
) -> Group {
    Group {
        kind,
        id: match kind {
            GroupKind::Tree => 0,
            _ => tasks[0].serial,
        },
        pid: tasks[0].pid,
        name: tasks[0].name.clone(),
        tasks: tasks.iter().map(|task| task.serial).collect(),
        lifetime_ns: blocked.iter().sum(),
        most_live,
        all_blocked,
        verdicts: Vec::new(),
        starved,
        blocked_at_once: at_once(blocked),
        wall: Wall::default(),
        running_at_once: at_once(running),
        waiting_at_once: Vec::new(),
        unknown_ns: 0,
        stops: Vec::new(),
        spans: Vec::new(),
    }
}

/// Where the time went, as the profiles say.
fn with_wall(group: Group) -> Group {
    let ran = group.running_at_once.iter().filter(|at| at.count > 0);
    let running_ns = ran.clone().map(|at| at.ns).sum();
    let starved_ns = group.starved.lower_ns;
    let unknown_ns = group
        .unknown_ns
        .min(group.lifetime_ns - running_ns - starved_ns);
    let wall = Wall {
        running_ns,
        starved_ns,
        unknown_ns,
        blocked_ns: group.lifetime_ns - running_ns - starved_ns - unknown_ns,
        stopped_ns: 0,
        cpu_ns: ran.map(|at| at.ns * u64::from(at.count)).sum(),
    };
    Group { wall, ..group }
}

/// What each role did, evenly spread.
fn timeline(roles: &[Role]) -> RoleTimeline {
    let cells = |ns: u64| match ns {
        0 => Vec::new(),
        ns => vec![ns / analysis::CELLS as u64; analysis::CELLS],
    };
    let row = |role: &Role| RoleRow {
        role: role.name.clone(),
        running: cells(role.running_ns),
        runnable: cells(role.runnable_ns),
        blocked: cells(role.blocked_ns),
        stopped: cells(role.stopped_ns),
        unknown: cells(role.unknown_ns),
    };
    RoleTimeline {
        start_ns: 0,
        end_ns: 4 * S,
        cells: analysis::CELLS as u64,
        rows: roles.iter().map(row).collect(),
    }
}

fn waited_for(tasks: &[Task]) -> Vec<WaitedFor> {
    let mut all: Vec<WaitedFor> = Vec::new();
    for wait in tasks.iter().flat_map(|task| &task.waits) {
        let object = wait.objects.first().map(|it| it.object.clone());
        match all
            .iter_mut()
            .find(|it| (&it.reason, &it.object) == (&wait.reason, &object))
        {
            Some(it) => {
                it.ns += wait.ns;
                it.count += wait.count;
                it.tasks += 1;
            }
            None => all.push(WaitedFor {
                reason: wait.reason.clone(),
                object,
                ns: wait.ns,
                count: wait.count,
                tasks: 1,
            }),
        }
    }
    all.sort_by_key(|it| std::cmp::Reverse(it.ns));
    all
}

fn report(argv: &[&str], groups: Vec<Group>, tasks: Vec<Task>) -> Report {
    let ended = || tasks.iter().filter(|task| task.switches.kernel.is_some());
    let audit = Audit {
        complete: true,
        lost_records: 0,
        tasks_not_followed: 0,
        switches_traced: ended().map(|task| task.switches.traced).sum(),
        switches_kernel: ended().filter_map(|task| task.switches.kernel).sum(),
        unknown_ns: 0,
        tracer_cpu_ns: Some(12_300_000),
        early_wakeups: 0,
        unwoken_ns: 0,
        uncertain_ns: 0,
        running_ns: ended().map(|task| task.running_ns).sum(),
        kernel_cpu_ns: ended().filter_map(|task| task.kernel_cpu_ns).sum(),
        look_ups: None,
        weaknesses: Vec::new(),
    };
    let roles = analysis::roles_of(&tasks, &CriticalPath::default());
    Report {
        schema_version: SCHEMA_VERSION,
        workload: Workload {
            argv: argv.iter().map(|&arg| arg.to_owned()).collect(),
            attached: None,
            imported: None,
            saved: None,
            exit_code: Some(0),
            signal: None,
            duration_ns: groups.first().map_or(0, |tree| tree.lifetime_ns),
            cpus: 2,
            kernel: "6.18.2".to_owned(),
            arch: "x86_64".to_owned(),
        },
        part: None,
        findings: Vec::new(),
        path: CriticalPath::default(),
        timeline: timeline(&roles),
        waited_for: waited_for(&tasks),
        locks: Vec::new(),
        roles,
        groups: groups.into_iter().map(with_wall).collect(),
        episodes: Vec::new(),
        more_episodes: None,
        causes: Vec::new(),
        stops: Vec::new(),
        other_stops: 0,
        tasks,
        polls: Some(Vec::new()),
        poll_probes: "counted at the syscalls' own functions (fentry)".to_owned(),
        stacks: None,
        stack_coverage: None,
        marks: vec![Mark {
            name: "requests".to_owned(),
            time_ns: Some(S),
            since_ns: None,
            value: 12.5.into(),
            fields: [("connection".to_owned(), 3.into())].into_iter().collect(),
        }],
        throttled: Vec::new(),
        cpu_users: Vec::new(),
        lags: None,
        cpu_wanted_ns: 0,
        cpu_users_unknown_ns: 0,
        pairs: Vec::new(),
        pair_tests: PairTests {
            possible: 0,
            tested: 0,
            all_up_to_tasks: 16,
            shifts: 399,
            looked_at_ns: 0,
        },
        waits_for: Vec::new(),
        other_edges: crate::report::OtherEdges::default(),
        deadlocks: Vec::new(),
        audit,
    }
}

/// The tree and the process are the same tasks.
fn one_process(groups: impl Fn(GroupKind) -> Group) -> Vec<Group> {
    vec![groups(GroupKind::Tree), groups(GroupKind::Process)]
}

/// `sleep 2`.
pub(super) fn sleeper() -> Report {
    let tasks = vec![
        task(
            1,
            4121,
            4121,
            "sleep",
            0,
            [870_000, 41_000, 2_000_089_000, 0, 0],
        )
        .waiting(vec![
            wait("sleep", "clock_nanosleep", 2_000_068_000, 1, 2_000_068_000),
            wait("page fault", "", 21_000, 1, 21_000),
        ]),
    ];
    let groups = one_process(|kind| {
        group(
            kind,
            &tasks,
            1,
            exactly(0, 0, 0, 0),
            exactly(41_000, 2, 38_000, 900_000),
            &[911_000, 2_000_089_000],
            &[2_000_130_000, 870_000],
        )
    });
    report(&["sleep", "2"], groups, tasks)
}

/// One thread in `select`, three that compute on two CPUs.
pub(super) fn selector() -> Report {
    let tasks = vec![
        task(1, 4121, 4121, "service", 0, [20 * MS, 0, 4_000 * MS, 0, 0]).waiting(vec![wait(
            "select",
            "pselect6",
            4_000 * MS,
            1,
            4_000 * MS,
        )]),
        task(
            2,
            4121,
            4122,
            "worker-1",
            20 * MS,
            [2_650 * MS, 1_340 * MS, 10 * MS, 0, 0],
        )
        .waiting(vec![wait("futex", "futex", 10 * MS, 12, 3 * MS)]),
        task(
            3,
            4121,
            4123,
            "worker-2",
            20 * MS,
            [2_660 * MS, 1_335 * MS, 5 * MS, 0, 0],
        )
        .waiting(vec![
            wait("futex", "futex", 4 * MS, 7, 3 * MS),
            wait("page fault", "", MS, 1, MS),
        ]),
        task(
            4,
            4121,
            4124,
            "worker-3",
            20 * MS,
            [2_640 * MS, 1_360 * MS, 0, 0, 0],
        ),
    ];
    let groups = one_process(|kind| {
        group(
            kind,
            &tasks,
            4,
            exactly(0, 0, 0, 0),
            exactly(4_100_000, 312, 1_200_000, 310 * MS),
            &[20 * MS, 3_987 * MS, 11 * MS, 2 * MS],
            &[4_100_000, 61_800_000, 3_954_100_000],
        )
    });
    Report {
        polls: Some(vec![Poll {
            serial: 1,
            tid: 4121,
            syscall: "pselect6".to_owned(),
            calls: 1,
            ready_at_once: 0,
            blocked: 1,
            timed_out: 1,
            empty_at_once: 0,
            failed: 0,
            unfinished: 0,
            max_fds: Some(3),
        }]),
        marks: vec![Mark {
            name: "requests".to_owned(),
            time_ns: Some(S),
            since_ns: None,
            value: 12.5.into(),
            fields: [("connection".to_owned(), 3.into())].into_iter().collect(),
        }],
        ..report(&["./service", "--threads", "3"], groups, tasks)
    }
}

/// Four threads that sleep nearly all the time.
pub(super) fn sleepers() -> Report {
    let one = |serial: u32, name: &str, reason: &str, syscall: &str| {
        task(
            serial,
            4121,
            4120 + serial,
            name,
            0,
            [10 * MS, MS, 4_009 * MS, 0, 0],
        )
        .waiting(vec![wait(reason, syscall, 4_009 * MS, 40, 1_210 * MS)])
    };
    let tasks = vec![
        one(1, "python3", "futex", "futex"),
        one(2, "reader", "poll", "poll"),
        one(3, "timer", "sleep", "clock_nanosleep"),
        one(4, "pool-0", "futex", "futex"),
    ];
    let groups = one_process(|kind| {
        group(
            kind,
            &tasks,
            4,
            exactly(3_980 * MS, 12, 1_200 * MS, 310 * MS),
            exactly(1_500_000, 20, 300_000, 900 * MS),
            &[MS, 2 * MS, 3 * MS, 34 * MS, 3_980 * MS],
            &[3_982 * MS, 36 * MS, 2 * MS],
        )
    });
    Report {
        polls: Some(vec![Poll {
            serial: 2,
            tid: 4122,
            syscall: "poll".to_owned(),
            calls: 1_240,
            ready_at_once: 1_200,
            blocked: 40,
            timed_out: 12,
            empty_at_once: 2,
            failed: 1,
            unfinished: 0,
            max_fds: Some(16),
        }]),
        ..report(&["python3", "app.py"], groups, tasks)
    }
}

/// A shell, a service of three threads and a compressor.
pub(super) fn fork_tree() -> Report {
    let mut tasks = vec![
        task(1, 4121, 4121, "sh", 0, [3 * MS, MS, 2_996 * MS, 0, 0]).waiting(vec![
            wait("wait", "wait4", 2_990 * MS, 2, 2_400 * MS),
            wait("read", "read", 6 * MS, 3, 4 * MS),
        ]),
        task(
            2,
            4122,
            4122,
            "python3",
            10 * MS,
            [400 * MS, 12 * MS, 1_978 * MS, 0, 0],
        )
        .waiting(vec![
            wait("epoll", "epoll_wait", 1_700 * MS, 210, 90 * MS),
            wait("futex", "futex", 278 * MS, 31, 60 * MS),
        ]),
        task(
            3,
            4122,
            4124,
            "db-reader",
            30 * MS,
            [200 * MS, 20 * MS, 2_140 * MS, 0, 0],
        )
        .waiting(vec![
            wait("futex", "futex", 2_000 * MS, 90, 400 * MS),
            wait("read", "pread64", 140 * MS, 400, 9 * MS),
        ]),
        task(
            4,
            4122,
            4125,
            "db-writer",
            30 * MS,
            [100 * MS, 10 * MS, 2_050 * MS, 200 * MS, 0],
        )
        .waiting(vec![
            wait("futex", "futex", 1_800 * MS, 60, 400 * MS),
            wait("fsync", "fsync", 250 * MS, 12, 80 * MS),
        ]),
        task(
            5,
            4123,
            4123,
            "gzip",
            12 * MS,
            [2_500 * MS, 80 * MS, 400 * MS, 0, 0],
        )
        .waiting(vec![wait("read", "read", 400 * MS, 800, 20 * MS)]),
    ];
    tasks[4].kernel_cpu_ns = Some(2_531 * MS);
    let tree = group(
        GroupKind::Tree,
        &tasks,
        5,
        exactly(310 * MS, 41, 62 * MS, 1_240 * MS),
        exactly(9 * MS, 80, 800_000, 400 * MS),
        &[3 * MS, 17 * MS, 70 * MS, 1_000 * MS, 1_610 * MS, 300 * MS],
        &[319 * MS, 2_159 * MS, 522 * MS],
    );
    let python = group(
        GroupKind::Process,
        &tasks[1..4],
        3,
        exactly(1_120 * MS, 160, 85 * MS, 1_240 * MS),
        exactly(20 * MS, 90, 900_000, 400 * MS),
        &[40 * MS, 420 * MS, 810 * MS, 1_120 * MS],
        &[1_740 * MS, 600 * MS, 50 * MS],
    );
    let single = |at: usize, blocked: &[u64], running: &[u64]| {
        let tasks = &tasks[at..=at];
        let none = exactly(0, 0, 0, 0);
        group(GroupKind::Process, tasks, 1, none, none, blocked, running)
    };
    let groups = vec![
        tree,
        single(0, &[4 * MS, 2_996 * MS], &[2_997 * MS, 3 * MS]),
        python,
        single(4, &[2_580 * MS, 400 * MS], &[480 * MS, 2_500 * MS]),
    ];
    let poll = |serial: u32, tid: u32, syscall: &str, calls: u64, max_fds| Poll {
        serial,
        tid,
        syscall: syscall.to_owned(),
        calls,
        ready_at_once: calls - 210,
        blocked: 210,
        timed_out: 4,
        empty_at_once: 0,
        failed: 0,
        unfinished: 0,
        max_fds,
    };
    let mut report = report(&["sh", "-c", "./serve | gzip >out.gz"], groups, tasks);
    report.polls = Some(vec![
        poll(2, 4122, "epoll_wait", 4_410, None),
        poll(3, 4124, "poll", 230, Some(1)),
        poll(4, 4125, "poll", 1_210, Some(2)),
    ]);
    report.workload.exit_code = Some(3);
    report.audit.early_wakeups = 17;
    report.locks = super::samples_locks::locks();
    report
}

/// Four spinners that a CPU limit holds back, killed in the end.
pub(super) fn starved() -> Report {
    let tasks: Vec<Task> = (1..=4)
        .map(|serial| {
            let time = [
                500 * MS + u64::from(serial) * MS,
                3_500 * MS - u64::from(serial) * MS,
                0,
                0,
                0,
            ];
            let mut task = task(serial, 4121, 4120 + serial, "spin", 0, time);
            task.longest_runnable_ns = 92 * MS;
            task
        })
        .collect();
    let groups = one_process(|kind| {
        group(
            kind,
            &tasks,
            4,
            exactly(0, 0, 0, 0),
            exactly(2_800 * MS, 40, 92 * MS, 108 * MS),
            &[4_000 * MS],
            &[2_800 * MS, 390 * MS, 810 * MS],
        )
    });
    let mut report = report(&["./spin", "4"], groups, tasks);
    report.workload.exit_code = None;
    report.workload.signal = Some(15);
    report.polls = None;
    report.poll_probes = "fentry: the kernel refuses it (EPERM); syscall tracepoints: tracefs \
         is not mounted; `--polls raw` works, at about 40 ns for each syscall of the machine"
        .to_owned();
    report
}

/// Records were dropped, and a task is not followed.
pub(super) fn lossy() -> Report {
    let mut tasks = vec![
        task(
            1,
            4121,
            4121,
            "postgres",
            0,
            [100 * MS, 50 * MS, 3_550 * MS, 0, 300 * MS],
        )
        .waiting(vec![wait(
            "epoll",
            "epoll_wait",
            3_300 * MS,
            3_000,
            900 * MS,
        )]),
        task(
            2,
            4121,
            4122,
            "checkpointer",
            0,
            [400 * MS, 60 * MS, 2_540 * MS, 0, S],
        )
        .waiting(vec![wait("futex", "futex", 2_540 * MS, 90, 400 * MS)]),
        task(3, 4121, 4123, "walwriter", 0, [0, 0, 0, 0, 2_200 * MS]),
    ];
    tasks[0].unplaced_ns = 250 * MS;
    tasks[0].switches = Switches {
        traced: 12_001,
        kernel: Some(12_211),
    };
    tasks[1].fate = Fate::Alive;
    tasks[1].switches.kernel = None;
    tasks[1].waits[0].cut_off = 1;
    tasks[2].followed = false;
    let groups = one_process(|kind| Group {
        unknown_ns: 2_400 * MS,
        ..group(
            kind,
            &tasks,
            3,
            Episodes {
                lower_ns: 1_200 * MS,
                upper_ns: 3_400 * MS,
                episodes: 90,
                longest_ns: 400 * MS,
                longest_start_ns: Some(310 * MS),
            },
            Episodes {
                lower_ns: 90 * MS,
                upper_ns: 140 * MS,
                episodes: 200,
                longest_ns: 4 * MS,
                longest_start_ns: Some(410 * MS),
            },
            &[300 * MS, 1_300 * MS, 2_400 * MS, 0],
            &[3_480 * MS, 500 * MS, 20 * MS],
        )
    });
    let mut report = report(&["postgres", "-D", "/var/lib/my data"], groups, tasks);
    report.workload.exit_code = None;
    report.polls = Some(vec![Poll {
        serial: 1,
        tid: 4121,
        syscall: "epoll_wait".to_owned(),
        calls: 3_400_000,
        ready_at_once: 3_397_000,
        blocked: 3_000,
        timed_out: 0,
        empty_at_once: 0,
        failed: 0,
        unfinished: 1,
        max_fds: None,
    }]);
    report.audit = Audit {
        complete: false,
        lost_records: 210,
        tasks_not_followed: 1,
        unknown_ns: 3_750 * MS,
        weaknesses: vec![
            Weakness {
                kind: WeaknessKind::RingFull,
                count: 210,
                start_ns: Some(300 * MS),
                end_ns: Some(1_300 * MS),
                text:
                    "210 records were dropped, because a ring of 1024 KiB was full; --ring-size 8M \
                       makes the rings larger"
                        .to_owned(),
            },
            Weakness {
                kind: WeaknessKind::TableFull,
                count: 1,
                start_ns: Some(0),
                end_ns: None,
                text:
                    "1 task is not followed: the table of 2 tasks was full; --max-tasks makes it \
                       larger"
                        .to_owned(),
            },
        ],
        ..report.audit
    };
    report
}

/// 500 threads of one process.
pub(super) fn crowd() -> Report {
    let tasks: Vec<Task> = (1..=500)
        .map(|serial| {
            let blocked = 1_900 * MS - u64::from(serial) * 3 * MS;
            let time = [
                20 * MS + 2 * u64::from(serial) * MS,
                u64::from(serial) * MS,
                blocked,
                0,
                0,
            ];
            let name = if serial == 1 {
                "java"
            } else {
                "ForkJoinPool-1-"
            };
            task(serial, 4121, 4120 + serial, name, 0, time).waiting(vec![
                wait("futex", "futex", blocked - 100 * MS, 300, 80 * MS),
                wait("epoll", "epoll_wait", 100 * MS, 30, 40 * MS),
            ])
        })
        .collect();
    let mut blocked = vec![3_200_000; 501];
    blocked[0] = 100 * MS;
    blocked[1..500][..20].fill(5 * MS);
    blocked[500] = 1_920 * MS - blocked[..500].iter().sum::<u64>();
    let all = blocked[500];
    let groups = one_process(|kind| {
        group(
            kind,
            &tasks,
            500,
            exactly(all, 44, 20 * MS, 1_500 * MS),
            exactly(12 * MS, 200, 400_000, 210 * MS),
            &blocked,
            &[30 * MS, 100 * MS, 1_790 * MS],
        )
    });
    report(&["java", "-jar", "server.jar"], groups, tasks)
}

/// All of them.
pub(super) fn all() -> [Report; 8] {
    [
        sleeper(),
        selector(),
        sleepers(),
        fork_tree(),
        starved(),
        lossy(),
        crowd(),
        super::samples_why::standstill(),
    ]
}
