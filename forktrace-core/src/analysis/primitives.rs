//! What kind of lock a task waits for, as far as the names of the functions say that wait for it:
//! those of the C library's threads (glibc, musl), of C11, and of Rust's standard library.
//!
//! Their words in memory say less: what one of them is to a semaphore can be the same to a
//! barrier. Runtimes that park each thread on a futex of its own (Go, Java, parking_lot) have no
//! word of the lock there at all.

use crate::report::LockKind;

/// Functions of C, without what their names begin with in the library (`__`, `__new_`).
const OF_C: [(&str, LockKind); 13] = [
    ("pthread_mutex_", LockKind::Mutex),
    ("mtx_lock", LockKind::Mutex),
    ("mtx_timedlock", LockKind::Mutex),
    ("pthread_rwlock_", LockKind::RwLock),
    ("pthread_cond_", LockKind::Condition),
    ("cnd_wait", LockKind::Condition),
    ("cnd_timedwait", LockKind::Condition),
    ("pthread_barrier_wait", LockKind::Barrier),
    ("sem_wait", LockKind::Semaphore),
    ("sem_timedwait", LockKind::Semaphore),
    ("sem_clockwait", LockKind::Semaphore),
    ("pthread_once", LockKind::Once),
    ("call_once", LockKind::Once),
];

/// Types of Rust's `std::sys`: as they are called now, and were until 1.81.
const OF_RUST: [(&str, LockKind); 8] = [
    ("mutex::futex::Mutex", LockKind::Mutex),
    ("futex_mutex::Mutex", LockKind::Mutex),
    ("rwlock::futex::RwLock", LockKind::RwLock),
    ("futex_rwlock::RwLock", LockKind::RwLock),
    ("condvar::futex::Condvar", LockKind::Condition),
    ("futex_condvar::Condvar", LockKind::Condition),
    ("once::futex::Once", LockKind::Once),
    ("once::queue::Once", LockKind::Once),
];

/// By the functions of libraries that a task was in, innermost first; `None`: they don't say.
pub(super) fn of(functions: &[String]) -> Option<LockKind> {
    functions.iter().find_map(|name| of_function(name))
}

fn of_function(name: &str) -> Option<LockKind> {
    let rust = name.strip_prefix('<').unwrap_or(name);
    if rust.starts_with("std::sys") {
        let found = OF_RUST.iter().find(|(part, _)| rust.contains(part));
        return found.map(|(_, kind)| *kind);
    }
    let name = name.trim_start_matches('_');
    let name = name.strip_prefix("new_").unwrap_or(name);
    let found = OF_C.iter().find(|(begins, _)| name.starts_with(begins));
    found.map(|(_, kind)| *kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(functions: &str, expected: Option<LockKind>) {
        let functions: Vec<String> = functions.split(' ').map(str::to_owned).collect();
        assert_eq!(of(&functions), expected, "{functions:?}");
    }

    #[test]
    fn the_innermost_function_that_is_known_tells_the_kind() {
        check("__lll_lock_wait pthread_mutex_lock", Some(LockKind::Mutex));
        check(
            "__futex_abstimed_wait_common __new_sem_wait_slow64 std::wait",
            Some(LockKind::Semaphore),
        );
        check(
            "[libc.so.6+0x85d30] ___pthread_rwlock_rdlock",
            Some(LockKind::RwLock),
        );
        // It has the mutex again before it goes on.
        check(
            "__lll_lock_wait __pthread_mutex_cond_lock __pthread_cond_wait",
            Some(LockKind::Mutex),
        );
        check(
            "syscall std::sys::sync::condvar::futex::Condvar::wait std::sync::barrier::Barrier::wait",
            Some(LockKind::Condition),
        );
        check(
            "<std::sys::sync::rwlock::futex::RwLock>::read_contended",
            Some(LockKind::RwLock),
        );
        check(
            "std::sys::unix::locks::futex_mutex::Mutex::lock_contended",
            Some(LockKind::Mutex),
        );
        check("syscall [libc.so.6+0x85d30]", None);
        check(
            "app::std::sys::mutex::futex::Mutex my_pthread_mutex_lock",
            None,
        );
    }
}
