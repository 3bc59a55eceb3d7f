//! Waits for locks of the kernel: who holds them is kept by the kernel programs when a task
//! goes to sleep, where the kernel knows it (`task_struct.blocker`).

use std::collections::HashMap;

use crate::{
    decode::KernelLock,
    trace::{ProviderKind, Providers},
};

/// Waits of these locks that have lasted since `before_ns`, and who can end them.
///
/// A lock is given to those who wait for it in their order. So who has waited longest, and
/// was not woken, saw the present holder; who came later may have seen one before.
pub(super) fn holders(waits: &[KernelLock], before_ns: u64) -> Vec<Providers> {
    let mut first: HashMap<u64, &KernelLock> = HashMap::new();
    for wait in waits {
        let of_lock = first.entry(wait.lock).or_insert(wait);
        if wait.since_ns < of_lock.since_ns {
            *of_lock = wait;
        }
    }
    let long = waits.iter().filter(|wait| wait.since_ns <= before_ns);
    let told = long.filter_map(|wait| {
        let saw = first[&wait.lock];
        let tid = saw.holder_tid?;
        // Itself: it was given the lock, and has not run yet.
        (saw.holder != Some(wait.serial)).then(|| Providers {
            serial: wait.serial,
            seq: wait.seq,
            at_ns: wait.since_ns.max(saw.since_ns),
            kind: ProviderKind::KernelLock,
            tasks: saw.holder.into_iter().collect(),
            outside: saw.holder.is_none(),
            foreign: saw.holder.is_none().then_some(tid),
        })
    });
    told.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(serial: u32, since_ns: u64, lock: u64, holder: Option<u32>) -> KernelLock {
        KernelLock {
            serial,
            seq: 1,
            since_ns,
            lock,
            holder_tid: Some(100 + holder.unwrap_or(99)),
            holder,
        }
    }

    #[test]
    fn all_who_wait_for_a_lock_wait_for_its_present_holder() {
        let waits = [
            wait(3, 50, 1, Some(2)),
            wait(4, 40, 1, Some(1)),
            wait(5, 10, 2, None),
            wait(6, 95, 1, Some(1)),
        ];
        let found = holders(&waits, 90);
        let of = |serial| found.iter().find(|p| p.serial == serial);
        for serial in [3, 4] {
            assert_eq!(of(serial).map(|p| p.tasks.clone()), Some(vec![1]));
        }
        let outside = of(5).expect("it waits");
        assert_eq!(
            (&outside.tasks[..], outside.outside, outside.foreign),
            (&[][..], true, Some(199))
        );
        assert_eq!(of(6), None, "it has not waited for long");
    }

    #[test]
    fn a_holder_that_is_not_known_is_not_told() {
        let mut unknown = wait(3, 50, 1, None);
        unknown.holder_tid = None;
        assert_eq!(holders(&[unknown], 90), []);
    }
}
