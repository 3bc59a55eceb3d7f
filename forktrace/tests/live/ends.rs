//! forktrace ends as its workload did.

use std::os::unix::process::ExitStatusExt as _;

use crate::support::{Finished, check_complete, id, list, run, unspoilt};

fn die(how: &str) -> Finished {
    let finished = run().workload(&format!("die {how}")).finish();
    check_complete(finished.report());
    let (truth, report) = (finished.truth(), finished.report());
    let tids: Vec<u32> = list(&truth["tids"]).iter().map(id).collect();
    assert_eq!(report.tasks.len(), tids.len());
    for tid in tids {
        assert_eq!(report.task(tid).fate, "ended", "{how}");
    }
    finished
}

#[test]
fn a_signal_that_ends_the_workload_ends_forktrace() {
    unspoilt(|| {
        for signal in [2, 6, 9, 11, 15] {
            let finished = die(&format!("--signal {signal}"));
            assert_eq!(
                finished.status.signal(),
                Some(signal),
                "{}",
                finished.status
            );
            let workload = &finished.report().workload;
            assert_eq!((workload.exit_code, workload.signal), (None, Some(signal)));
        }
    });
}

#[test]
fn the_workloads_exit_code_is_forktraces() {
    unspoilt(|| {
        for code in [0, 1, 42, 255] {
            let finished = die(&format!("--exit {code}"));
            assert_eq!(finished.status.code(), Some(code));
            let workload = &finished.report().workload;
            assert_eq!((workload.exit_code, workload.signal), (Some(code), None));
        }
    });
}

#[test]
fn all_threads_end_with_their_process() {
    unspoilt(|| {
        for how in ["--signal 9", "--signal 11", "--exit 3"] {
            let finished = die(&format!("{how} --threads 6"));
            let report = finished.report();
            let first = report.task(id(&finished.truth()["pid"]));
            for task in report.tasks.iter().filter(|task| task.tid != first.tid) {
                // A death ended a sleep of 10 s.
                assert_eq!(task.waited("sleep", "clock_nanosleep").count, 1, "{how}");
            }
        }
    });
}

#[test]
fn a_core_dump_is_complete() {
    unspoilt(|| {
        let mut run = run();
        let folder = run.folder().to_owned();
        // Where the core may go.
        run.command().current_dir(folder);
        let finished = run.workload("die --signal 11 --threads 4 --core").finish();
        check_complete(finished.report());
        assert_eq!(finished.status.signal(), Some(11), "{}", finished.status);
    });
}
