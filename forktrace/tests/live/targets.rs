//! What each call waited for, and for how long at most, compared with what the
//! workload asked for.

use std::collections::{HashMap, HashSet};

use forktrace_core::{
    model::{State, Target},
    trace::{Timeout, Waker},
};
use serde_json::Value;

use crate::support::{Timelines, id, list, n, timelines, unspoilt};

/// The descriptors of a block in select or poll, and whether there are more.
#[track_caller]
fn waitset(lines: &Timelines, tid: u32, call: &Value) -> (Vec<(i32, u16)>, bool) {
    let block = lines.block(tid, call["syscall"].as_str().expect("a name"), call);
    let Target::Fds(set) = lines.target(block) else {
        panic!("no waitset: {call} {block:?}");
    };
    let set = &lines.model.waitsets[*set as usize];
    let fds = set.fds.iter().map(|it| (it.fd.fd, it.fd.events));
    (fds.collect(), set.cut_off)
}

#[test]
fn a_waitset_is_what_the_call_was_given() {
    unspoilt(|| {
        let (traced, lines) = timelines("poll-sets");
        let truth = traced.truth();
        let calls = list(&truth["calls"]);
        assert_eq!(calls.len(), 18);
        for call in calls {
            let fds: Vec<(i32, u16)> = list(&call["fds"])
                .iter()
                .map(|it| (id(&it[0]) as i32, id(&it[1]) as u16))
                .collect();
            let cut_off = call["cut_off"].as_bool().expect("true or false");
            assert_eq!(waitset(&lines, id(&truth["pid"]), call), (fds, cut_off));
        }
        let cut_off = calls.iter().filter(|call| call["cut_off"] == true).count();
        assert!(cut_off >= 4, "some were too many");
    });
}

#[test]
fn silent_sockets_are_each_threads_own_waitset_and_a_timer_ends_the_wait() {
    unspoilt(|| {
        let (traced, lines) = timelines("silent-sockets --threads 3 --sockets 3 --seconds 0.3");
        let truth = traced.truth();
        for thread in list(&truth["threads"]) {
            let tid = id(&thread["tid"]);
            let fds = list(&thread["fds"]).iter().map(|fd| (id(fd) as i32, 1));
            assert_eq!(waitset(&lines, tid, thread), (fds.collect(), false));
            let syscall = thread["syscall"].as_str().expect("a name");
            let block = lines.block(tid, syscall, thread);
            assert!(matches!(block.waker, Waker::Interrupt(_)), "{block:?}");
            assert_eq!(block.timeout(), Timeout::Us(300_000));
        }
    });
}

#[test]
fn a_timeout_is_what_the_call_was_given() {
    unspoilt(|| {
        let (traced, lines) = timelines("timeouts --millis 100");
        let truth = traced.truth();
        let tid = id(&truth["pid"]);
        let calls = list(&truth["calls"]);
        assert!(calls.len() >= 12);
        for call in calls {
            let block = lines.block(tid, call["syscall"].as_str().expect("a name"), call);
            let asked_us = n(&call["timeout_us"]) as u32;
            match call["form"].as_str() {
                Some("relative") => assert_eq!(block.timeout(), Timeout::Us(asked_us), "{call}"),
                Some("absolute") => {
                    let Timeout::Us(us) = block.timeout() else {
                        panic!("{call} {block:?}");
                    };
                    // The workload read the clock before it made the call; the library may
                    // do so itself once more.
                    let until_ns = block.out_ns + u64::from(us) * 1000;
                    let (early, late) = (lines.since(&call["deadline_ns"]), block.in_ns);
                    assert!(
                        early <= until_ns + 1000 && until_ns <= late,
                        "{call} {block:?}"
                    );
                }
                Some("wall") => assert_eq!(block.timeout(), Timeout::Unknown, "{call}"),
                Some("none") => assert_eq!(block.timeout(), Timeout::None, "{call}"),
                other => panic!("{other:?}"),
            }
        }
    });
}

#[test]
fn a_call_that_goes_on_after_a_stop_waits_for_the_same() {
    unspoilt(|| {
        for during in ["poll", "nanosleep"] {
            let workload = format!("stop --seconds 0.3 --wait-seconds 1 --during {during}");
            let (traced, lines) = timelines(&workload);
            for thread in list(&traced.truth()["threads"]) {
                let syscall = thread["syscall"].as_str().expect("a name");
                let blocks: Vec<_> = lines
                    .blocks_in(id(&thread["tid"]), Some(syscall))
                    .filter(|off| off.state() == State::Blocked)
                    .collect();
                assert_eq!(blocks.len(), 2, "before and after: {thread}");
                let of = |i: usize| (lines.target(blocks[i]), blocks[i].timeout());
                assert_eq!(of(0), of(1));
                assert_ne!(of(0).0, &Target::Unknown);
                assert_eq!(of(0).1, Timeout::Us(1_000_000));
            }
        }
    });
}

#[test]
fn a_number_that_is_used_again_is_never_taken_for_the_file_before() {
    unspoilt(|| {
        let (traced, lines) = timelines("fd-reuse --rounds 40");
        let truth = traced.truth();
        let tid = id(&truth["tid"]);
        let waits = list(&truth["waits"]);
        assert_eq!(waits.len(), 40 * 6);
        // Which file of the model, by (kind, inode, device) of the truth.
        let mut by_truth: HashMap<(&str, u64), HashSet<(u64, u32)>> = HashMap::new();
        let mut kinds: HashMap<u32, HashSet<&str>> = HashMap::new();
        let mut memory = HashSet::new();
        for wait in waits {
            let kind = wait["kind"].as_str().expect("a word");
            let block = lines.block(tid, wait["syscall"].as_str().expect("a name"), wait);
            let Target::File { fd, file: index } = lines.target(block) else {
                panic!("no file: {wait} {block:?}");
            };
            let file = &lines.model.files[*index as usize];
            assert_eq!(*fd, id(&wait["fd"]) as i32);
            assert_eq!(file.inode, n(&wait["inode"]), "{wait} {file:?}");
            assert_eq!(u64::from(file.mode), n(&wait["mode"]), "{wait} {file:?}");
            let known = by_truth.entry((kind, n(&wait["device"]))).or_default();
            known.insert((0, file.device));
            kinds.entry(*index).or_default().insert(kind);
            memory.insert(file.file);
            let waker = match &wait["waker_tid"] {
                Value::Null => None,
                tid => Some(id(tid)),
            };
            assert_eq!(lines.waker_tid(block), waker, "{wait} {block:?}");
        }
        for (kind, devices) in by_truth {
            assert_eq!(devices.len(), 1, "{kind:?} is on one device: {devices:?}");
        }
        assert!(
            memory.len() < waits.len(),
            "no file had the place of another"
        );
        for (file, kinds) in kinds {
            assert_eq!(
                kinds.len(),
                1,
                "{kinds:?} are taken for one: {:?}",
                lines.model.files[file as usize]
            );
        }
    });
}
