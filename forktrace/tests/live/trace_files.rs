//! Saved traces: whole, cut off, damaged, and files that are none.

use std::{fs, path::PathBuf};

use crate::support::{
    Finished, Forktrace, OWN_TMPFS, Report, check_complete, check_figures, lacks, own_mounts, run,
    unspoilt,
};

/// A trace and what came of the run that saved it.
fn save(workload: &str) -> (Finished, PathBuf) {
    let run = run();
    let trace = run.file("trace");
    let finished = run
        .args(["--save"])
        .args([&trace])
        .workload(workload)
        .complete();
    (finished, trace)
}

fn report_on(bytes: &[u8]) -> Finished {
    let report = Forktrace::new("report").json();
    let file = report.file("trace");
    fs::write(&file, bytes).expect("a file");
    report.args([file]).finish()
}

#[test]
fn a_saved_trace_gives_the_same_report() {
    unspoilt(|| {
        for workload in [
            "sleepers --seconds 0.1",
            "polls --calls 20",
            "exec-non-leader",
            "ping-pong",
        ] {
            let (saved, trace) = save(workload);
            let again = report_on(&fs::read(trace).expect("the trace"));
            assert!(again.status.success(), "{}", again.stderr);
            let json =
                |finished: &Finished| fs::read(finished.file("report.json")).expect("a report");
            assert!(json(&saved) == json(&again), "{workload}: another report");
            assert_eq!(again.stderr, "");
        }
    });
}

#[test]
fn a_saved_trace_gives_the_same_text() {
    unspoilt(|| {
        let run = run();
        let trace = run.file("trace");
        let saved = run
            .args(["-v", "--save"])
            .args([&trace])
            .args(["--", "sh", "-c", "sleep 0.05 & wait"])
            .finish();
        let again = Forktrace::new("report").args(["-v"]).args([trace]).finish();
        assert_eq!(saved.stderr, again.stdout);
    });
}

#[test]
fn a_trace_that_was_cut_off_says_what_is_missing() {
    unspoilt(|| {
        let (saved, trace) = save("ping-pong --pin --rounds 60000");
        let whole = fs::read(trace).expect("the trace");
        let tasks = saved.report().tasks.len();
        let mut with_events = 0;
        for part in 1..40 {
            let cut = report_on(&whole[..whole.len() * part / 40]);
            if !cut.status.success() {
                assert_eq!(cut.status.code(), Some(125));
                assert!(cut.stderr.contains("trace"), "{}", cut.stderr);
                assert!(!cut.stderr.contains("panicked"), "{}", cut.stderr);
                continue;
            }
            let report = cut.report();
            check_missing_end(report);
            assert!(report.tasks.len() <= tasks);
            with_events += usize::from(report.tasks.len() == tasks);
            let known = |report: &Report| -> u64 {
                report
                    .tasks
                    .iter()
                    .map(|t| t.blocked_ns + t.running_ns + t.runnable_ns)
                    .sum()
            };
            assert!(
                known(report) <= known(saved.report()),
                "more than there was"
            );
        }
        assert!(
            with_events > 20,
            "{with_events} of 39 cuts had the events before them"
        );
        let but_one = report_on(&whole[..whole.len() - 1]);
        check_missing_end(but_one.report());
    });
}

fn check_missing_end(report: &Report) {
    check_figures_of_part(report);
    assert!(!report.audit.complete, "{:?}", report.audit);
    report.weakness("end_missing");
    assert_eq!(
        (report.workload.exit_code, report.workload.signal),
        (None, None)
    );
}

fn check_figures_of_part(report: &Report) {
    // With no task at all there is no tree.
    if !report.tasks.is_empty() {
        check_figures(report);
    }
}

#[test]
fn a_damaged_trace_says_where() {
    unspoilt(|| {
        let (_saved, trace) = save("ping-pong --pin --rounds 60000");
        let mut bytes = fs::read(trace).expect("the trace");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x10;
        let damaged = report_on(&bytes);
        assert!(damaged.status.success(), "{}", damaged.stderr);
        let report = damaged.report();
        check_figures(report);
        assert!(!report.audit.complete);
        let weakness = report.weakness("file_damaged");
        assert!(weakness.count > 1, "records of a block: {weakness:?}");
        assert_eq!(
            report.audit.lost_records, weakness.count,
            "{:?}",
            report.audit
        );
    });
}

#[test]
fn what_is_no_trace_is_refused() {
    unspoilt(|| {
        let (_saved, trace) = save("nothing");
        let mut other_version = fs::read(trace).expect("the trace");
        other_version[8] = 0xee;
        // Its checksum, so that nothing but the version is wrong.
        let sum = crc32fast::hash(&other_version[..16]).to_le_bytes();
        other_version[16..20].copy_from_slice(&sum);
        for (bytes, words) in [
            (&b""[..], "empty"),
            (
                b"TID  NAME\n4121 python3\nsome text that is longer than a header\n",
                "not a forktrace trace but a text file",
            ),
            (b"\x7fELF", "trace"),
            (&other_version, "version"),
        ] {
            let refused = report_on(bytes);
            assert_eq!(refused.status.code(), Some(125), "{}", refused.stderr);
            assert!(
                refused.stderr.starts_with("forktrace: "),
                "{}",
                refused.stderr
            );
            assert!(
                refused.stderr.contains(words),
                "no {words:?} in {:?}",
                refused.stderr
            );
            assert!(!refused.stderr.contains("panicked"), "{}", refused.stderr);
        }
        let missing = Forktrace::new("report")
            .args(["/nonexistent/trace"])
            .finish();
        assert_eq!(missing.status.code(), Some(125));
        assert!(
            missing.stderr.contains("/nonexistent/trace"),
            "{}",
            missing.stderr
        );
    });
}

#[test]
fn a_full_disk_ends_neither_the_workload_nor_the_report() {
    unspoilt(|| {
        const TEST: &str = "a_full_disk_ends_neither_the_workload_nor_the_report";
        if lacks(TEST, &["unshare", "mount"]) {
            return;
        }
        let script = format!(
            "{OWN_TMPFS} -o size=200k && exec \"$0\" \"$@\" --save $FOLDER/trace \
         --format json -o - -- \"$0\" workload ping-pong --pin --rounds 100000"
        );
        let arguments = [own_mounts(&[]), vec!["sh", "-c", &script]].concat();
        let finished = Forktrace::under("unshare", &arguments, "run").finish();
        let mut lines = finished.stdout.lines();
        let truth = lines.next().expect("the workload's truth");
        assert!(truth.contains("ping-pong"), "{truth}");
        let json: String = lines.collect();
        let report: Report = serde_json::from_str(&json)
            .unwrap_or_else(|e| panic!("{e} in {json:?}; {}", finished.stderr));
        check_figures(&report);
        let weakness = report.weakness("write_failed");
        assert!(weakness.count > 0, "{weakness:?}");
        assert!(weakness.text.contains("No space left"), "{weakness:?}");
        // Who records for an hour is told at once, and once.
        let said = finished
            .stderr
            .matches("the trace can't be written")
            .count();
        assert_eq!(said, 1, "{}", finished.stderr);
        assert_eq!(report.tasks.len(), 2);
        // A build that is not optimised can be too slow for the rings, too.
        let all = report.audit.weaknesses.iter();
        let of_ring = all.filter(|it| it.kind == "ring_full").map(|it| it.count);
        assert_eq!(
            report.audit.lost_records,
            weakness.count + of_ring.sum::<u64>(),
            "{:?}",
            report.audit
        );
        assert!(report.audit.unknown_ns > 0, "{:?}", report.audit);
        // What was written before is there.
        for task in &report.tasks {
            assert!(task.waited("read", "read").count > 100, "{task:?}");
        }
    });
}

#[test]
fn a_whole_trace_is_complete() {
    unspoilt(|| {
        let (_saved, trace) = save("short-processes --count 20");
        let read = report_on(&fs::read(trace).expect("the trace"));
        check_complete(read.report());
        assert_eq!(read.report().tasks.len(), 21);
    });
}
