//! Where records are lost a verdict is weaker, and a name is missing; neither is wrong.

use crate::support::{
    Finished, Report, Task, Timelines, beside_noise, id, list, n, run, skip, unspoilt,
};

/// Runs in which something may be lost of what is looked at.
const TRIES: u32 = 12;

/// While the workload runs most records are dropped: the rings hold 64 each.
fn trace_beside_noise(workload: &str) -> (Finished, Timelines) {
    let run = run();
    let file = run.file("trace.ft");
    let script = beside_noise(workload);
    let traced = run
        .args(["--ring-size", "4K", "--episodes", "100000", "--save"])
        .args([&file])
        .shell(&script)
        .finish();
    assert!(traced.status.success(), "{}", traced.stderr);
    assert!(traced.report().audit.lost_records > 0);
    (traced, Timelines::read(&file))
}

/// The part of a task's life that could not be placed.
fn lacks(task: &Task) -> bool {
    task.unplaced_ns > 0
}

#[test]
fn a_verdict_is_right_or_unknown_where_records_are_lost() {
    unspoilt(|| {
        const TEST: &str = "a_verdict_is_right_or_unknown_where_records_are_lost";
        for _ in 0..TRIES {
            let (traced, lines) = trace_beside_noise("shared-mutex --threads 12 --millis 60");
            let truth = traced.truth_of("shared-mutex");
            let (report, pid) = (traced.report(), id(&truth["pid"]));
            let (begin, end) = (
                lines.since(&truth["nap"]["begin_ns"]),
                lines.since(&truth["nap"]["end_ns"]),
            );
            let tids: Vec<u32> = report.of_process(pid).iter().map(|task| task.tid).collect();
            let in_nap = report.episodes.iter().filter(|e| {
                let blocked = &e.blocked;
                let ours = blocked.iter().all(|link| tids.contains(&link.tid));
                ours && !blocked.is_empty() && begin <= e.start_ns && e.end_ns <= end
            });
            for episode in in_nap {
                if episode.verdict == "unknown" {
                    continue;
                }
                assert_eq!(episode.verdict, "caused", "{episode:#?}");
                let root = &episode.chain[episode.chain_in_group as usize - 1];
                assert_eq!(root.tid, id(&truth["holder_tid"]), "{episode:#?}");
                assert_eq!(root.reason, "sleep", "{episode:#?}");
            }
            let all_blocked = report.process(pid).all_blocked;
            if all_blocked.upper_ns > all_blocked.lower_ns {
                assert!(report.of_process(pid).into_iter().any(lacks));
                return assert!(!report.audit.complete, "{:?}", report.audit);
            }
        }
        skip(TEST, "no record of the workload was lost");
    });
}

/// Records of names that were lost are counted.
#[track_caller]
fn check_counted(report: &Report) {
    assert!(report.weakness("other_records").count > 0);
    assert!(!report.audit.complete);
}

#[test]
fn what_was_waited_for_is_named_right_or_not_at_all_where_records_are_lost() {
    unspoilt(|| {
        const TEST: &str =
            "what_was_waited_for_is_named_right_or_not_at_all_where_records_are_lost";
        for _ in 0..TRIES {
            let (traced, _) = trace_beside_noise("silent-sockets --threads 16 --seconds 0.2");
            let truth = traced.truth_of("silent-sockets");
            let report = traced.report();
            let mut nameless = 0;
            for thread in list(&truth["threads"]) {
                let task = report.task(id(&thread["tid"]));
                let polls = task.waits.iter().filter(|wait| wait.reason == "poll");
                for wait in polls {
                    for object in &wait.objects {
                        assert_eq!(object.kind, "fds", "{wait:?}");
                        // Named by what they are, or by their numbers.
                        for (inode, fd) in list(&thread["inodes"]).iter().zip(list(&thread["fds"]))
                        {
                            let names =
                                [format!("unix socket {}", n(inode)), format!("fd {}", n(fd))];
                            assert!(
                                names.iter().any(|name| object.name.contains(name)),
                                "{names:?} {object:?}"
                            );
                        }
                    }
                    nameless += u32::from(wait.objects.is_empty());
                }
            }
            if nameless > 0 {
                check_counted(report);
                return;
            }
        }
        skip(TEST, "no set of descriptors was lost");
    });
}

#[test]
fn a_waker_from_outside_is_named_right_or_not_at_all_where_records_are_lost() {
    unspoilt(|| {
        const TEST: &str =
            "a_waker_from_outside_is_named_right_or_not_at_all_where_records_are_lost";
        for _ in 0..TRIES {
            let (traced, lines) = trace_beside_noise("fsync-under-lock --rounds 20");
            let report = traced.report();
            let mut nameless = 0;
            for waker in report.tasks.iter().flat_map(|task| &task.wakers) {
                if !waker.by.outside {
                    continue;
                }
                let known = lines.model.outsiders.iter();
                let mut names = known.filter(|o| Some(o.tid) == waker.by.tid);
                match &waker.by.name {
                    Some(name) => assert!(names.any(|o| o.comm == *name), "{waker:?}"),
                    None => nameless += 1,
                }
            }
            if nameless > 0 {
                return check_counted(report);
            }
        }
        skip(TEST, "no record of a waker was lost");
    });
}
