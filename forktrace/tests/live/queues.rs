//! Queues, pools and what is waited for one after the other: the sleep at the head of the
//! queue is what everybody waits for, however long the queue is.

use crate::{
    reasons::{all, check, put_down_to, python},
    support::{Finished, lacks, unspoilt},
};

/// Most of the stalls are put down to a sleep of Python's, and none to nothing.
#[track_caller]
fn is_behind_sleeps(traced: &Finished) {
    let report = traced.report();
    check(report);
    let (slept, all) = (put_down_to(report, "python3", "sleep"), all(report));
    // On its way, pages and the locks of Python's own are waited for as well.
    assert!(
        slept * 10 >= all * 8,
        "{slept} of {all}: {:#?}",
        report.episodes
    );
    let told = report.tree().verdicts.iter();
    let all: u64 = told.clone().map(|it| it.ns).sum();
    let lost = told.filter(|it| it.verdict == "unknown" || it.verdict == "coincidence");
    let lost: u64 = lost.map(|it| it.ns).sum();
    // The last of a pool sleep with nobody behind them.
    assert!(lost * 10 <= all, "{:#?}", report.tree());
}

/// A hundred threads wait for the one before each, and six for the last of them.
const QUEUE: &str = r#"
import threading, time
N = 100
turn = [threading.Semaphore(0) for _ in range(N + 1)]
def one(i):
    turn[i].acquire()
    time.sleep(0.004)
    turn[i + 1].release()
    if i == N - 1:
        for _ in range(5): turn[N].release()
threads = [threading.Thread(target=one, args=(i,)) for i in range(N)]
threads += [threading.Thread(target=turn[N].acquire) for _ in range(6)]
for thread in threads: thread.start()
turn[0].release()
for thread in threads: thread.join()
"#;

#[test]
fn a_queue_of_a_hundred_is_behind_the_sleep_of_its_first() {
    unspoilt(|| {
        if !lacks(
            "a_queue_of_a_hundred_is_behind_the_sleep_of_its_first",
            &["python3"],
        ) {
            is_behind_sleeps(&python(QUEUE));
        }
    });
}

/// Sixty threads, of which three at a time have what they all want.
const POOL: &str = r#"
import threading, time
free = threading.Semaphore(3)
def work():
    for _ in range(3):
        with free: time.sleep(0.01)
threads = [threading.Thread(target=work) for _ in range(60)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"#;

#[test]
fn who_want_one_of_three_permits_are_behind_the_sleeps_of_those_who_have_them() {
    unspoilt(|| {
        const TEST: &str =
            "who_want_one_of_three_permits_are_behind_the_sleeps_of_those_who_have_them";
        if !lacks(TEST, &["python3"]) {
            is_behind_sleeps(&python(POOL));
        }
    });
}

const ONE_AFTER_THE_OTHER: &str = r#"
import threading, time
for _ in range(2):
    thread = threading.Thread(target=time.sleep, args=(0.3,))
    thread.start()
    thread.join()
"#;

#[test]
fn who_waits_for_two_threads_one_after_the_other_is_behind_each() {
    unspoilt(|| {
        const TEST: &str = "who_waits_for_two_threads_one_after_the_other_is_behind_each";
        if !lacks(TEST, &["python3"]) {
            is_behind_sleeps(&python(ONE_AFTER_THE_OTHER));
        }
    });
}

/// A parent waits for a child that sleeps a little again and again, until an alarm ends that.
const ALARM: &str = r#"
import os, signal, time
class Alarm(Exception): pass
def ring(*_): raise Alarm
child = os.fork()
if child == 0:
    while True: time.sleep(0.002)
signal.signal(signal.SIGALRM, ring)
signal.setitimer(signal.ITIMER_REAL, 0.6)
try:
    os.waitpid(child, 0)
except Alarm:
    os.kill(child, 9)
    os.waitpid(child, 0)
"#;

#[test]
fn who_waits_under_an_alarm_is_behind_what_its_child_sleeps() {
    unspoilt(|| {
        if !lacks(
            "who_waits_under_an_alarm_is_behind_what_its_child_sleeps",
            &["python3"],
        ) {
            is_behind_sleeps(&python(ALARM));
        }
    });
}
