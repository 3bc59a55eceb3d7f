//! A report made by hand in which all stand still behind one.

use super::samples;
use crate::report::*;

const MS: u64 = 1_000_000;

fn name(serial: u32) -> TaskName {
    TaskName {
        serial,
        tid: 4120 + serial,
        name: ["python3", "reader", "timer", "pool-0"][serial as usize - 1].to_owned(),
    }
}

fn by_task(serial: u32) -> WokenBy {
    let TaskName { tid, name, .. } = name(serial);
    WokenBy {
        kind: WakerKind::Task,
        serial: Some(serial),
        tid: Some(tid),
        name: Some(name),
        ..WokenBy::default()
    }
}

fn by_interrupt(interrupt: InterruptKind, device: Option<&str>) -> WokenBy {
    WokenBy {
        kind: WakerKind::Interrupt,
        interrupt: Some(interrupt),
        device: device.map(str::to_owned),
        ..WokenBy::default()
    }
}

fn object(kind: &str, name: &str) -> Object {
    Object {
        kind: kind.to_owned(),
        id: name.to_owned(),
        name: name.to_owned(),
    }
}

fn link(serial: u32, syscall: &str, object: Option<Object>, ms: [u64; 2], by: WokenBy) -> Link {
    let reason = match syscall {
        "clock_nanosleep" => "sleep",
        other => other,
    };
    Link {
        task: name(serial),
        reason: reason.to_owned(),
        syscall: Some(syscall.to_owned()),
        timeout_ns: (reason == "sleep").then_some(50 * MS),
        object,
        start_ns: ms[0] * MS,
        end_ns: Some(ms[1] * MS),
        ended: Ended::Fulfilled,
        woken_by: by,
        code: None,
    }
}

/// What is said of one task's wait.
fn cause(verdict: Verdict, root: Option<Link>, ms: u64, episodes: u64) -> Cause {
    let by = root.iter().map(|root| CauseTask {
        task: root.task.clone(),
        ns: ms * MS,
        episodes,
    });
    Cause {
        group: 0,
        verdict,
        alone: false,
        alone_ns: 0,
        object: root.as_ref().and_then(|root| root.object.clone()),
        syscall: root.as_ref().and_then(|root| root.syscall.clone()),
        woken_by: root.as_ref().map(|root| root.woken_by.clone()),
        tasks: u32::from(root.is_some()),
        name: root.as_ref().map(|root| root.task.name.clone()),
        by: by.collect(),
        root,
        ns: ms * MS,
        episodes,
        longest_ns: ms * MS,
    }
}

/// Four threads: one writes to the disk under a lock that two others need.
pub(super) fn standstill() -> Report {
    let mut report = samples::sleepers();
    let disk = || by_interrupt(InterruptKind::Block, Some("virtio0-req.0"));
    let lock = || object("futex", "futex 0x7f21c0001010 (private)");
    let fsync = || {
        let file = object("file", "/var/lib/app/journal");
        link(1, "fsync", Some(file), [310, 1_510], disk())
    };
    let reader = link(2, "futex", Some(lock()), [200, 1_511], by_task(1));
    let pool = link(4, "futex", Some(lock()), [250, 1_530], by_task(2));
    let timer = by_interrupt(InterruptKind::Timer, None);
    let sleep = link(3, "clock_nanosleep", None, [1_490, 1_540], timer.clone());
    let total = report.groups[0].all_blocked.lower_ns;
    let verdicts = vec![
        VerdictSum {
            verdict: Verdict::Caused,
            ns: 3_000 * MS,
            episodes: 9,
            longest_ns: 1_200 * MS,
        },
        VerdictSum {
            verdict: Verdict::Idle,
            ns: total - 3_000 * MS,
            episodes: 3,
            longest_ns: 600 * MS,
        },
    ];
    for group in &mut report.groups {
        group.verdicts = verdicts.clone();
    }
    let rest = total / MS - 3_900;
    let both = [2, 4].map(|serial| CauseTask {
        task: name(serial),
        ns: 75 * MS * u64::from(serial),
        episodes: 2,
    });
    report.causes = vec![
        Cause {
            longest_ns: 1_200 * MS,
            ..cause(Verdict::Caused, Some(fsync()), 3_000, 9)
        },
        Cause {
            longest_ns: 600 * MS,
            tasks: 2,
            name: None,
            by: both.into_iter().rev().collect(),
            ..cause(Verdict::Idle, Some(sleep.clone()), 900, 2)
        },
        Cause {
            ns: total - 3_900 * MS,
            ..cause(Verdict::Idle, None, rest, 1)
        },
    ];
    report.episodes = vec![Episode {
        group: 0,
        start_ns: 310 * MS,
        end_ns: 1_510 * MS,
        ns: 1_200 * MS,
        look_ups: 0,
        verdict: Verdict::Caused,
        ended_by: Some(EndedBy {
            task: fsync().task,
            reason: "fsync".to_owned(),
            syscall: Some("fsync".to_owned()),
            object: fsync().object,
            how: Ended::Fulfilled,
            start_ns: fsync().start_ns,
            end_ns: fsync().end_ns,
            apart: None,
            code: None,
        }),
        tasks: 4,
        trigger: Some(Trigger {
            task: name(1),
            at_ns: 310 * MS,
        }),
        terminator: Some(Terminator {
            task: name(1),
            woken_by: disk(),
        }),
        chain: vec![pool.clone(), reader.clone(), fsync()],
        chain_in_group: 3,
        chain_cut: false,
        chain_left_out: 0,
        held: 2,
        idle: 1,
        not_woken: 1,
        shared: vec![Shared {
            object: lock(),
            tasks: vec![2, 4],
        }],
        blocked: vec![fsync(), reader.clone(), sleep, pool.clone()],
    }];
    report.findings = vec![Finding {
        kind: FindingKind::Disk,
        sentence: "Everything waited 3.00 s (60.0 %), in 8 stalls, for `python3` (4121), which \
                   waited for the disk in fsync of /srv/journal."
            .to_owned(),
        ns: 3_000 * MS,
        share: 0.6,
        confidence: Confidence::Proved,
        tasks: vec![1],
        object: fsync().object,
        code: None,
        evidence: Vec::new(),
        next: Some("--show episodes".to_owned()),
    }];
    report.path = CriticalPath {
        blocked: Vec::new(),
        ns: 5_000 * MS,
        parts: vec![
            PathPart {
                role: "python3".to_owned(),
                state: PathState::Blocked,
                reason: Some("fsync".to_owned()),
                object: fsync().object,
                ns: 3_000 * MS,
                count: 8,
            },
            PathPart {
                role: "python3".to_owned(),
                state: PathState::Running,
                reason: None,
                object: None,
                ns: 2_000 * MS,
                count: 9,
            },
        ],
    };
    report.stops = vec![Stop {
        kind: StopKind::Signal,
        process: 1,
        pid: 4121,
        name: "python3".to_owned(),
        start_ns: 2_000 * MS,
        end_ns: 2_500 * MS,
        tasks: vec![1, 2, 3, 4],
        task_ns: 2_000 * MS,
        by: Some(WokenBy {
            kind: WakerKind::Task,
            tid: Some(77),
            name: Some("bash".to_owned()),
            outside: true,
            ..WokenBy::default()
        }),
    }];
    for (task, chain) in report.tasks.iter_mut().zip([
        vec![fsync()],
        vec![reader.clone(), fsync()],
        Vec::new(),
        vec![pool, reader],
    ]) {
        for link in &chain {
            task.wakers.push(Waker {
                by: link.woken_by.clone(),
                count: 3,
                ns: 1_200 * MS,
            });
            for wait in &mut task.waits {
                wait.objects = link.object.iter().cloned().map(object_wait).collect();
            }
        }
        if !chain.is_empty() {
            task.longest_blocks.push(LongBlock {
                chain,
                chain_cut: false,
            });
        }
    }
    report
}

fn object_wait(object: Object) -> ObjectWait {
    ObjectWait {
        object,
        ns: 1_200 * MS,
        count: 3,
    }
}
