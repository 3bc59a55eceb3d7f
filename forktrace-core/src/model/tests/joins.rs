//! Waits for a thread's end.

use super::*;
use crate::trace::{ProviderKind, Providers};

/// `pthread_join` waits on a futex that the kernel wakes when the thread ends: a wakeup as the
/// last that a thread of its process did, or as the lookup has it.
#[test]
fn a_join_waits_for_a_thread() {
    const FUTEX: i16 = 202;
    let of = |private: u32, wake_ns: u64, looked_up: bool| {
        let thread = Born {
            process: SERIAL,
            tgid: 100 + SERIAL,
            ..born(SERIAL + 1, 10)
        };
        let join = Stretch {
            syscall: FUTEX,
            arg0: 0x7000,
            // FUTEX_WAIT_BITSET
            arg1: 9 | private,
            waker: Waker::Task {
                serial: SERIAL + 1,
                softirq: false,
            },
            ..stretch(SERIAL, 1, Why::Interruptible, [20, wake_ns, 95])
        };
        let found = Event::Providers(Providers {
            serial: SERIAL,
            seq: 1,
            at_ns: START + 40,
            kind: ProviderKind::Joined,
            tasks: vec![SERIAL + 1],
            outside: false,
            foreign: None,
        });
        let events = [
            Event::Stretch(stretch(SERIAL, 0, Why::New, [0, 0, 5])),
            Event::Stretch(stretch(SERIAL + 1, 0, Why::New, [10, 10, 12])),
            // It naps in between.
            Event::Stretch(stretch(SERIAL + 1, 1, Why::Interruptible, [50, 60, 62])),
            Event::Stretch(join),
            Event::Task(record(thread, Some(92))),
            Event::Task(record(born(SERIAL, 0), Some(100))),
        ];
        let model = build(events.into_iter().chain(looked_up.then_some(found)), 100);
        let task = model.tasks.iter().find(|task| task.serial == SERIAL);
        let target = task.expect("it is there").stretches.at(1).target;
        model.targets[target as usize].clone()
    };
    let thread = Target::Thread(SERIAL + 1);
    assert_eq!(of(0, 90, false), thread);
    // A private one can be woken as the last thing of all too, and is a lock as a rule.
    assert_ne!(of(128, 90, false), thread);
    // It went on to wait.
    assert_ne!(of(0, 45, false), thread);
    assert_eq!(of(0, 45, true), thread);
}
