//! Stops by the kernel: each is named as what it is, with who did it.

use crate::support::{
    Finished, KernelStop, forktrace, id, lacks, list, run, skip, trace_until, unspoilt,
};

fn stops<'a>(traced: &'a Finished, kind: &str) -> Vec<&'a KernelStop> {
    let stops = traced.report().kernel_stops.iter();
    stops.filter(|stop| stop.kind == kind).collect()
}

/// Traces one operation on a process; `None`: it is not possible here, for this reason.
fn group_op(operation: &str) -> Result<Finished, String> {
    let traced = run()
        .workload(&format!("group-op --operation {operation} --millis 60"))
        .finish();
    match traced.status.success() {
        true => Ok(traced),
        false => Err(traced.stderr),
    }
}

/// The longest stop of this kind, of the workload's child, with the serials of those of
/// its threads that are named here.
#[track_caller]
fn check(traced: &Finished, kind: &str, stopped: &[&str], by: u32) {
    let (report, truth) = (traced.report(), traced.truth());
    let found = stops(traced, kind);
    let stop = found.first();
    let stop = stop.unwrap_or_else(|| panic!("no {kind}: {:#?}", report.kernel_stops));
    assert_eq!(stop.pid, id(&truth["child_pid"]), "{found:#?}");
    for name in stopped {
        let serial = report.task(id(&truth["tids"][name])).serial;
        assert!(stop.tasks.contains(&serial), "{name}: {stop:#?}");
    }
    let who = stop.by.as_ref().and_then(|by| by.tid);
    assert_eq!(who, Some(by), "{stop:#?}");
}

const ALL: [&str; 5] = ["operator", "fault", "compute", "getpid", "blocked"];

#[test]
fn a_stop_signal_names_its_sender() {
    unspoilt(|| {
        let traced = group_op("sigstop").expect("everybody may stop a child");
        let parent = id(&traced.truth()["pid"]);
        check(&traced, "signal", &ALL, parent);
    });
}

#[test]
fn a_frozen_cgroup_names_who_thawed_it() {
    unspoilt(|| {
        const TEST: &str = "a_frozen_cgroup_names_who_thawed_it";
        let traced = match group_op("freeze") {
            Ok(traced) => traced,
            Err(why) => return skip(TEST, &why),
        };
        let parent = id(&traced.truth()["pid"]);
        check(&traced, "freezer", &ALL, parent);
        assert!(stops(&traced, "signal").is_empty());
    });
}

#[test]
fn a_traced_thread_names_its_tracer_and_no_other_is_stopped() {
    unspoilt(|| {
        const TEST: &str = "a_traced_thread_names_its_tracer_and_no_other_is_stopped";
        let traced = match group_op("ptrace") {
            Ok(traced) => traced,
            Err(why) => return skip(TEST, &why),
        };
        let truth = traced.truth();
        check(&traced, "tracer", &["compute"], id(&truth["pid"]));
        let compute = traced.report().task(id(&truth["tids"]["compute"])).serial;
        for stop in stops(&traced, "tracer") {
            assert_eq!(stop.tasks, [compute], "{stop:#?}");
        }
    });
}

#[test]
fn strace_holds_what_it_traces() {
    unspoilt(|| {
        const TEST: &str = "strace_holds_what_it_traces";
        if lacks(TEST, &["strace"]) {
            return;
        }
        let traced = run()
            .json()
            .args(["--", "strace", "-f", "-o", "/dev/null"])
            .args([forktrace()])
            .args(["workload", "nap"])
            .finish();
        if !traced.status.success() {
            return skip(TEST, &traced.stderr);
        }
        let report = traced.report();
        let strace = report.tree().pid;
        let found = stops(&traced, "tracer");
        // Some kernels do not announce each wakeup.
        let by_strace = |stop: &&&KernelStop| {
            let who = stop.by.as_ref().and_then(|by| by.tid);
            assert!(who.is_none_or(|tid| tid == strace), "{stop:#?}");
            who.is_some() && stop.pid == id(&traced.truth()["tid"])
        };
        assert!(found.iter().filter(by_strace).count() > 0, "{found:#?}");
    });
}

#[test]
fn threads_held_for_a_core_dump_name_who_dumped() {
    unspoilt(|| {
        const TEST: &str = "threads_held_for_a_core_dump_name_who_dumped";
        let traced = match group_op("core-dump") {
            Ok(traced) => traced,
            Err(why) => return skip(TEST, &why),
        };
        let operator = id(&traced.truth()["tids"]["operator"]);
        // A thread that ended in time is not held.
        check(&traced, "core_dump", &[], operator);
        let report = traced.report();
        let operator = report.task(operator).serial;
        for stop in stops(&traced, "core_dump") {
            assert!(!stop.tasks.contains(&operator), "{stop:#?}");
        }
    });
}

#[test]
fn a_parent_is_held_until_its_vfork_child_goes_its_way() {
    unspoilt(|| {
        let traced = run().workload("spawns --children 3").complete();
        let truth = traced.truth();
        let parent = id(&truth["pid"]);
        let found = stops(&traced, "vfork");
        assert!(found.iter().all(|stop| stop.pid == parent), "{found:#?}");
        let children: Vec<_> = found.iter().filter_map(|s| s.by.as_ref()?.tid).collect();
        for child in list(&truth["vforked"]) {
            assert!(children.contains(&id(&child["pid"])), "{child} {found:#?}");
        }
    });
}

#[test]
fn a_thread_that_executes_a_program_waits_for_the_others_to_end() {
    unspoilt(|| {
        // Where they end quickly enough, it does not wait.
        let traced = trace_until("exec-non-leader", |traced| {
            !stops(traced, "exec").is_empty()
        });
        let truth = traced.truth_of("exec-non-leader");
        let report = traced.report();
        for stop in stops(&traced, "exec") {
            assert_eq!(stop.pid, id(&truth["pid"]), "{stop:#?}");
            let by = stop.by.as_ref().and_then(|by| by.serial);
            let by = report.tasks.iter().find(|t| Some(t.serial) == by);
            let by = by.unwrap_or_else(|| panic!("by nobody: {stop:#?}"));
            assert!(by.pid == stop.pid && !stop.tasks.contains(&by.serial));
        }
    });
}
