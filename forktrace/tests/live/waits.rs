//! What a blocked task waits in, and for how long.

use crate::support::{assert_within, id, list, n, skip, span, trace, unspoilt};

#[test]
fn each_wait_is_named_by_its_syscall_and_as_long_as_it_was() {
    unspoilt(|| {
        let traced = trace("io --millis 100");
        let (truth, report) = (traced.truth(), traced.report());
        let waits = list(&truth["waits"]);
        assert_eq!(waits.len(), 9);
        for wait in waits {
            let task = report.task(id(&wait["tid"]));
            let what = wait["what"].as_str().expect("a word");
            let syscall = wait["syscall"].as_str().expect("a name");
            let reason = if what == "flock" { "file lock" } else { what };
            assert_eq!(task.name, what);
            if wait["release_ns"].is_null() {
                // fsync: nobody knows how long.
                let found = task.wait(reason, syscall).map_or(0, |found| found.ns);
                assert!(found <= span(wait), "{wait} {task:?}");
                continue;
            }
            let found = task.waited(reason, syscall);
            let asleep = n(&wait["release_ns"]) - n(&wait["asleep_ns"]);
            // Counted as asleep, it still has to leave its CPU.
            let at_least = asleep.saturating_sub(task.awake_ns());
            assert_within(what, found.longest_ns, at_least, span(wait));
        }
        let child = report.task(id(&truth["child_pid"]));
        assert_eq!(child.ppid, id(&truth["pid"]));
        child.waited("read", "read");
    });
}

#[test]
fn a_fault_that_waits_is_a_block_and_a_minor_fault_is_not() {
    unspoilt(|| {
        let traced = trace("page-faults --megabytes 32");
        let (truth, report) = (traced.truth(), traced.report());

        let touch = &truth["touch"];
        let task = report.task(id(&touch["tid"]));
        assert!(n(&touch["minor_faults"]) >= n(&touch["pages"]), "{touch}");
        if n(&touch["switches"]) == 0 {
            let outside_ns = task.lifetime_ns() - span(touch);
            assert!(task.blocked_ns <= outside_ns, "{touch} {task:?}");
        }

        let fault = &truth["userfaultfd"];
        if fault.is_null() {
            let why = &truth["userfaultfd_error"];
            skip(
                "a_fault_that_waits_is_a_block_and_a_minor_fault_is_not/wait",
                &why.to_string(),
            );
            return;
        }
        let task = report.task(id(&fault["tid"]));
        let waits = task.waits.iter().filter(|wait| wait.reason == "page fault");
        let longest = waits
            .inspect(|wait| assert_eq!(wait.syscall, None))
            .map(|w| w.longest_ns)
            .max();
        let asleep = n(&fault["resolve_ns"]) - n(&fault["asleep_ns"]);
        let at_least = asleep.saturating_sub(task.awake_ns());
        assert_within(
            "page fault",
            longest.unwrap_or(0),
            at_least,
            n(&fault["blocked_ns"]),
        );
    });
}
