//! Who ended each block, compared with what the workload knows.

use forktrace_core::{
    model::{Off, State, Target},
    trace::{Interrupt, Timeout, Waker},
};
use serde_json::Value;

use crate::support::{REAL_CPU, Timelines, again, id, lacks, list, n, run, timelines, unspoilt};

/// Timers run out in an interrupt, or in the soft one for timers (1, and 8 for those
/// of high resolution).
fn is_timer(waker: Waker) -> bool {
    let timers = [Interrupt::Timer, Interrupt::Soft(1), Interrupt::Soft(8)];
    matches!(waker, Waker::Interrupt(kind) if timers.contains(&kind))
}

#[track_caller]
fn check_all_known(lines: &Timelines) {
    let unknown = lines.of_unknown_wakers();
    assert!(unknown.is_empty(), "{unknown:?}");
}

/// Each of a truth line's waiters was woken by whom it says.
#[track_caller]
fn check_waiters(lines: &Timelines, waiters: &Value, syscall: &str) {
    for waiter in list(waiters) {
        let block = lines.block(id(&waiter["tid"]), syscall, waiter);
        let waker = lines.waker_tid(block);
        assert_eq!(waker, Some(id(&waiter["waker_tid"])), "{waiter} {block:?}");
    }
}

#[test]
fn a_mutex_is_handed_from_its_holder_through_all_who_wait() {
    unspoilt(|| {
        let (traced, lines) = timelines("shared-mutex --threads 5");
        let truth = traced.truth();
        assert_eq!(list(&truth["waiters"]).len(), 4);
        check_waiters(&lines, &truth["waiters"], "futex");
        let holder = id(&truth["holder_tid"]);
        let nap = lines.block(holder, "clock_nanosleep", &truth["nap"]);
        assert!(is_timer(nap.waker), "{nap:?}");
        check_all_known(&lines);
    });
}

#[test]
fn who_waits_for_a_lock_under_which_a_file_is_synced_is_woken_by_who_synced() {
    if lacks(
        "who_waits_for_a_lock_under_which_a_file_is_synced_is_woken_by_who_synced",
        &["python3"],
    ) {
        return;
    }
    unspoilt(|| {
        let (traced, lines) = timelines("fsync-under-lock --rounds 5");
        let truth = traced.truth();
        let holder = id(&truth["holder_tid"]);
        for round in list(&truth["rounds"]) {
            check_waiters(&lines, &round["waiters"], "futex");
            let fsync = &round["fsync"];
            if n(&fsync["switches"]) == 0 {
                continue;
            }
            let block = lines.block(holder, "fsync", fsync);
            let Target::File { file, .. } = lines.target(block) else {
                panic!("no file: {fsync} {block:?}");
            };
            let file = &lines.model.files[*file as usize];
            assert_eq!(file.inode, n(&truth["file"]["inode"]), "{file:?}");
            // A disk's interrupt or a kernel thread; nobody of ours.
            assert_eq!(lines.waker_tid(block), None, "{block:?}");
        }
        check_all_known(&lines);
    });
}

#[test]
fn each_turn_is_notified_by_the_thread_before() {
    if lacks("each_turn_is_notified_by_the_thread_before", &["python3"]) {
        return;
    }
    unspoilt(|| {
        let (traced, lines) = timelines("hand-off --threads 3 --rounds 300");
        let truth = traced.truth();
        let mut seen = 0;
        for thread in list(&truth["threads"]) {
            let condvar = n(&thread["condvar"]);
            for block in lines.blocks_in(id(&thread["tid"]), Some("futex")) {
                let key = match lines.target(block) {
                    Target::Futex(key) => key,
                    // One of them waits for the end of the others.
                    Target::Thread(_) => continue,
                    other => panic!("no futex: {other:?} {block:?}"),
                };
                let forktrace_core::model::FutexKey::Private { address, .. } = key else {
                    continue;
                };
                if (condvar..condvar + 16).contains(address) {
                    let waker = lines.waker_tid(block);
                    assert_eq!(waker, Some(id(&thread["waker_tid"])), "{thread} {block:?}");
                    seen += 1;
                }
            }
        }
        assert!(seen > 0, "nobody ever waited for a turn: {truth}");
        check_all_known(&lines);
    });
}

#[test]
fn who_waits_for_the_memory_map_is_woken_by_who_changed_it_or_faulted() {
    if lacks(
        "who_waits_for_the_memory_map_is_woken_by_who_changed_it_or_faulted",
        &["python3"],
    ) {
        return;
    }
    unspoilt(|| {
        const TRIES: u32 = 20;
        let (mut faults_waited, mut woken_by_faulter) = (0, 0);
        for _ in 0..TRIES {
            let (traced, lines) = timelines("map-lock");
            let truth = traced.truth();
            let [faulter, mapper] = ["faulter_tid", "mapper_tid"].map(|key| id(&truth[key]));
            for block in lines.blocks_in(faulter, None) {
                assert!(
                    matches!(lines.target(block), Target::PageFault(address) if *address != 0),
                    "{block:?}"
                );
                // Whoever reads our memory map needs the lock as well.
                if !matches!(block.waker, Waker::Outsider { .. }) {
                    assert_eq!(lines.waker_tid(block), Some(mapper), "{block:?}");
                    faults_waited += 1;
                }
            }
            let mapper_waits = lines.blocks_in(mapper, Some("mprotect"));
            woken_by_faulter += mapper_waits
                .filter(|block| lines.waker_tid(block) == Some(faulter))
                .count();
            check_all_known(&lines);
            if faults_waited > 0 && woken_by_faulter > 0 {
                return;
            }
        }
        panic!("in {TRIES} runs {faults_waited} faults waited, {woken_by_faulter} others for them");
    });
}

#[test]
fn each_process_of_a_pipeline_is_woken_by_the_one_before() {
    unspoilt(|| {
        let (traced, lines) = timelines("pipeline --stages 3 --items 20 --millis 5");
        let truth = traced.truth();
        let stages = list(&truth["stages"]);
        assert_eq!(stages.len(), 3);
        let mut before = None;
        for stage in stages {
            let pid = id(&stage["pid"]);
            let mut reads = 0;
            for block in lines.blocks_in(pid, Some("read")) {
                match before {
                    None => assert!(is_timer(block.waker), "{stage} {block:?}"),
                    Some(_) => assert_eq!(lines.waker_tid(block), before, "{stage} {block:?}"),
                }
                reads += 1;
            }
            assert!(reads > 0, "{stage} never waited");
            before = Some(pid);
        }
        check_all_known(&lines);
    });
}

#[test]
fn over_loopback_client_and_server_wake_each_other_and_no_interrupt_does() {
    unspoilt(|| {
        let (traced, lines) = timelines("loopback --rounds 2000");
        let truth = traced.truth();
        let [client, server] = ["client_pid", "server_pid"].map(|key| id(&truth[key]));
        for (tid, other) in [(client, server), (server, client)] {
            let mut own = 0;
            for block in lines.blocks_in(tid, Some("recvfrom")) {
                // When soft interrupts come too fast, a kernel thread takes over: who sent
                // is not known then, and not guessed.
                if block.waker != Waker::Interrupt(Interrupt::Soft(3)) {
                    assert_eq!(lines.waker_tid(block), Some(other), "{block:?}");
                    own += 1;
                }
            }
            let all = lines.blocks_in(tid, Some("recvfrom")).count();
            if own * 10 < all * 9 || own == 0 {
                again(format!("{own} of {all} were not left to a kernel thread"));
            }
        }
        let accept = lines.blocks_in(server, Some("accept4")).next();
        if let Some(accept) = accept {
            assert_eq!(lines.waker_tid(accept), Some(client), "{accept:?}");
        }
        check_all_known(&lines);
    });
}

#[test]
fn a_task_that_a_timer_interrupts_wakes_nobody() {
    unspoilt(|| {
        let (traced, lines) = timelines("naps-beside-spinner --naps 10000");
        let truth = traced.truth();
        let [napper, spinner] = ["napper_tid", "spinner_tid"].map(|key| id(&truth[key]));
        let naps: Vec<Off> = lines.blocks_in(napper, Some("clock_nanosleep")).collect();
        let wrong: Vec<_> = naps.iter().filter(|nap| !is_timer(nap.waker)).collect();
        assert!(
            wrong.is_empty(),
            "{} of {}: {:?}",
            wrong.len(),
            naps.len(),
            wrong[0]
        );
        // A nap that is over before its thread is off the CPU is no block.
        assert!(naps.len() as u64 > n(&truth["naps"]) / 2, "{}", naps.len());
        let by_spinner = |off: &Off| lines.waker_tid(*off) == Some(spinner);
        assert_eq!(naps.into_iter().filter(by_spinner).count(), 0);
        check_all_known(&lines);
    });
}

#[test]
fn a_wakeup_before_the_switch_keeps_its_waker() {
    unspoilt(|| {
        const TRIES: u32 = 20;
        let mut early = 0;
        for _ in 0..TRIES {
            let (traced, lines) = timelines("early-wakes --wakes 20000");
            let truth = traced.truth();
            let [sleeper, waker] = ["sleeper_tid", "waker_tid"].map(|key| id(&truth[key]));
            let mut blocks = 0;
            for block in lines.blocks_in(sleeper, Some("futex")) {
                assert_eq!(lines.waker_tid(block), Some(waker), "{block:?}");
                early += u32::from(block.flags & Off::EARLY_WAKE != 0);
                blocks += 1;
            }
            assert!(blocks > 0, "{truth}");
            check_all_known(&lines);
            if early >= 10 {
                return;
            }
        }
        // It takes two CPUs that are at work at the same time.
        if !lacks("a_wakeup_before_the_switch_keeps_its_waker", &[REAL_CPU]) {
            panic!("{early} early wakeups in {TRIES} runs");
        }
    });
}

#[test]
fn a_wakeup_of_a_sleep_that_never_began_is_not_taken_for_the_next_one() {
    unspoilt(|| {
        let run = run();
        let file = run.file("trace.ft");
        let run = run.args(["--until-exit", "--save"]).args([&file]);
        let traced = run.workload("sleep-on --seconds 3").finish();
        let lines = Timelines::read(&file);
        let truth = traced.truth();
        assert!(n(&truth["switches"]) < n(&truth["naps"]), "{truth}");
        let child = lines.task(id(&truth["child_pid"]));
        let open = child.open.expect("it sleeps");
        assert!(open.out_ns >= lines.since(&truth["begin_ns"]), "{open:?}");
        assert_eq!((open.wake_ns, open.waker), (None, Waker::None));
        assert_eq!(open.timeout, Timeout::Us(3_000_000));
    });
}

#[test]
fn a_parent_that_lends_itself_to_its_child_is_woken_by_it() {
    unspoilt(|| {
        let (traced, lines) = timelines("spawns --children 3");
        let truth = traced.truth();
        let parent = id(&truth["pid"]);
        for child in list(&truth["vforked"]) {
            let block = lines.block(parent, "clone3", child);
            assert_eq!(lines.waker_tid(block), Some(id(&child["pid"])), "{block:?}");
            assert!(
                block.wake_ns >= lines.since(&child["child_ends_ns"]),
                "{block:?}"
            );
        }
        let spawned = list(&truth["spawned"]);
        for block in lines.blocks(parent) {
            let within = |child: &&Value| {
                let (begin, end) = (&child["begin_ns"], &child["end_ns"]);
                lines.since(begin) <= block.out_ns && block.in_ns <= lines.since(end)
            };
            let by_name = lines
                .syscall(block)
                .is_some_and(|name| name.contains("clone"));
            if let (Some(child), true) = (spawned.iter().find(within), by_name) {
                assert_eq!(lines.waker_tid(block), Some(id(&child["pid"])), "{block:?}");
            }
        }
        check_all_known(&lines);
    });
}

#[test]
fn stop_and_continue_name_their_sender_and_who_stops_wakes_who_waits_for_that() {
    if lacks(
        "stop_and_continue_name_their_sender_and_who_stops_wakes_who_waits_for_that",
        &["python3"],
    ) {
        return;
    }
    unspoilt(|| {
        for during in ["compute", "poll"] {
            let workload = format!("stop --seconds 0.3 --wait-seconds 1 --during {during}");
            let (traced, lines) = timelines(&workload);
            let truth = traced.truth();
            let sender = lines.task(id(&truth["pid"]));
            let child = lines.task(id(&truth["child_pid"]));
            let sent: Vec<_> = lines
                .model
                .signals
                .iter()
                .map(|s| (s.signal, s.sender))
                .collect();
            let by_sender = Waker::Task {
                serial: sender.serial,
                softirq: false,
            };
            assert_eq!(sent, [(19, by_sender), (18, by_sender)], "{during}");
            for thread in list(&truth["threads"]) {
                let mut stops = lines
                    .blocks(id(&thread["tid"]))
                    .filter(|off| off.state() == State::Stopped);
                let (stop, more) = (stops.next().expect("it stopped"), stops.next());
                assert_eq!(more, None, "it stopped once");
                assert_eq!(stop.waker, by_sender, "{during} {thread}");
                if during == "compute" {
                    assert_eq!(lines.target(stop), &Target::Unknown, "{thread}");
                }
            }
            // The last thread to stop tells the parent, in compute on its way back from an
            // interrupt to user mode.
            for wait in lines.blocks_in(sender.tid, Some("wait4")) {
                let waker = lines.waker_tid(wait).expect("a task of the workload");
                assert_eq!(
                    lines.task(waker).process,
                    child.process,
                    "{during} {wait:?}"
                );
            }
            check_all_known(&lines);
        }
    });
}
