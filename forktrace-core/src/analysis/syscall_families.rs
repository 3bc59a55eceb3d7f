//! Names for what a task waits in: each syscall belongs to a family.

use crate::{
    model::PAGE_FAULT,
    trace::{Arch, CALL_NOT_RECORDED},
};

pub(super) const NO_SYSCALL: i16 = -1;

/// The family of a syscall.
// Long: a table, in which each syscall is in one place.
pub fn family(syscall: &str) -> &'static str {
    match syscall {
        "select" | "pselect6" | "_newselect" => "select",
        "poll" | "ppoll" => "poll",
        "epoll_wait" | "epoll_pwait" | "epoll_pwait2" => "epoll",
        "epoll_create" | "epoll_create1" | "epoll_ctl" | "epoll_ctl_old" | "epoll_wait_old" => {
            "epoll control"
        }
        "futex" | "futex_wait" | "futex_wake" | "futex_requeue" | "futex_waitv" => "futex",
        "get_robust_list" | "set_robust_list" => "futex control",
        "read" | "pread64" | "readv" | "preadv" | "preadv2" => "read",
        "write" | "pwrite64" | "writev" | "pwritev" | "pwritev2" => "write",
        "accept" | "accept4" => "accept",
        "connect" => "connect",
        "recvfrom" | "recvmsg" | "recvmmsg" => "recv",
        "sendto" | "sendmsg" | "sendmmsg" => "send",
        "nanosleep" | "clock_nanosleep" => "sleep",
        "wait4" | "waitid" => "wait",
        "fsync" | "fdatasync" | "sync" | "syncfs" | "sync_file_range" | "msync" => "fsync",
        "open" | "openat" | "openat2" | "creat" | "open_by_handle_at" => "open",
        "close" | "close_range" => "close",
        "flock" | "fcntl" => "file lock",
        "pause" | "rt_sigsuspend" | "rt_sigtimedwait" | "sigaltstack" | "rt_sigaction"
        | "rt_sigprocmask" | "rt_sigpending" | "rt_sigreturn" => "signal wait",
        "kill" | "tkill" | "tgkill" | "rt_sigqueueinfo" | "rt_tgsigqueueinfo"
        | "pidfd_send_signal" | "signalfd" | "signalfd4" => "signal send",
        "semop" | "semtimedop" | "semget" | "semctl" => "semaphore",
        "msgsnd" | "msgrcv" | "msgget" | "msgctl" | "mq_timedreceive" | "mq_timedsend"
        | "mq_open" | "mq_unlink" | "mq_notify" | "mq_getsetattr" => "message queue",
        "shmat" | "shmdt" | "shmget" | "shmctl" => "shared memory",
        "io_uring_enter" | "io_uring_setup" | "io_uring_register" => "io_uring",
        "io_getevents" | "io_pgetevents" | "io_submit" | "io_setup" | "io_destroy"
        | "io_cancel" => "aio",
        "sendfile" | "splice" | "tee" | "vmsplice" | "copy_file_range" => "copy",
        "execve" | "execveat" => "exec",
        "clone" | "clone3" | "fork" | "vfork" | "unshare" | "setns" => "fork",
        "exit" | "exit_group" => "exit",
        "mmap"
        | "munmap"
        | "mremap"
        | "mprotect"
        | "madvise"
        | "brk"
        | "mlock"
        | "mlock2"
        | "mlockall"
        | "munlock"
        | "munlockall"
        | "mincore"
        | "membarrier"
        | "mbind"
        | "migrate_pages"
        | "move_pages"
        | "pkey_mprotect"
        | "pkey_alloc"
        | "pkey_free"
        | "process_madvise"
        | "process_mrelease"
        | "remap_file_pages"
        | "userfaultfd"
        | "memfd_create"
        | "memfd_secret"
        | "set_mempolicy"
        | "get_mempolicy"
        | "set_mempolicy_home_node"
        | "mseal"
        | "map_shadow_stack"
        | "cachestat"
        | "swapon"
        | "swapoff" => "memory",
        "ptrace" | "process_vm_readv" | "process_vm_writev" | "kcmp" => "debugging",
        "sched_yield"
        | "sched_setaffinity"
        | "sched_getaffinity"
        | "sched_setattr"
        | "sched_getattr"
        | "sched_setparam"
        | "sched_getparam"
        | "sched_setscheduler"
        | "sched_getscheduler"
        | "sched_get_priority_max"
        | "sched_get_priority_min"
        | "sched_rr_get_interval"
        | "setpriority"
        | "getpriority"
        | "ioprio_set"
        | "ioprio_get" => "scheduling",
        "ioctl" => "ioctl",
        "socket" | "socketpair" | "bind" | "listen" | "shutdown" | "getsockopt" | "setsockopt"
        | "getsockname" | "getpeername" => "socket control",
        "pipe" | "pipe2" | "dup" | "dup2" | "dup3" | "eventfd" | "eventfd2" | "lseek"
        | "pidfd_open" | "pidfd_getfd" | "inotify_init" | "inotify_init1" | "inotify_add_watch"
        | "inotify_rm_watch" | "fanotify_init" | "fanotify_mark" => "descriptors",
        "timer_create" | "timer_settime" | "timer_gettime" | "timer_getoverrun"
        | "timer_delete" | "timerfd_create" | "timerfd_settime" | "timerfd_gettime"
        | "getitimer" | "setitimer" | "alarm" | "clock_gettime" | "clock_settime"
        | "clock_getres" | "clock_adjtime" | "adjtimex" | "gettimeofday" | "settimeofday"
        | "time" | "times" => "time",
        "restart_syscall" => "restart",
        name if is_file(name) => "file system",
        _ => "other",
    }
}

/// Calls that name or list files, or change what the file system says of them.
fn is_file(name: &str) -> bool {
    const PARTS: [&str; 31] = [
        "stat",
        "getdents",
        "rename",
        "unlink",
        "link",
        "mkdir",
        "rmdir",
        "mknod",
        "chmod",
        "chown",
        "chdir",
        "getcwd",
        "chroot",
        "mount",
        "truncate",
        "fallocate",
        "fadvise",
        "readahead",
        "xattr",
        "utime",
        "access",
        "pivot_root",
        "fsopen",
        "fsconfig",
        "fspick",
        "open_tree",
        "quotactl",
        "name_to_handle_at",
        "umask",
        "ustat",
        "lookup_dcookie",
    ];
    PARTS.iter().any(|part| name.contains(part))
}

/// The reason and the syscall's name of a wait.
pub(super) fn wait_reason(
    arch: Arch,
    syscall: i16,
    compat: bool,
    kernel_worker: bool,
) -> (String, Option<String>) {
    if kernel_worker {
        return ("kernel".to_owned(), None);
    }
    match syscall {
        PAGE_FAULT => return ("page fault".to_owned(), None),
        NO_SYSCALL => return ("outside syscalls".to_owned(), None),
        CALL_NOT_RECORDED => return ("unknown".to_owned(), None),
        _ => {}
    }
    if compat {
        let name = format!("32-bit syscall {syscall}");
        return ("unknown syscall".to_owned(), Some(name));
    }
    match arch.syscall_name(syscall.into()) {
        Some(name) => (family(name).to_owned(), Some(name.to_owned())),
        None => (
            "unknown syscall".to_owned(),
            Some(format!("syscall {syscall}")),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_families_that_people_ask_for() {
        for (syscall, expected) in [
            ("pselect6", "select"),
            ("ppoll", "poll"),
            ("epoll_pwait2", "epoll"),
            ("futex", "futex"),
            ("preadv2", "read"),
            ("accept4", "accept"),
            ("recvmsg", "recv"),
            ("clock_nanosleep", "sleep"),
            ("waitid", "wait"),
            ("fdatasync", "fsync"),
            ("statx", "file system"),
            ("rt_sigsuspend", "signal wait"),
        ] {
            assert_eq!(family(syscall), expected, "{syscall}");
        }
    }

    #[test]
    fn unknown_numbers_are_shown_as_such_on_each_architecture() {
        for arch in [Arch::X86_64, Arch::Aarch64] {
            let (reason, syscall) = wait_reason(arch, 2000, false, false);
            assert_eq!(reason, "unknown syscall");
            assert_eq!(syscall.as_deref(), Some("syscall 2000"));
            let futex = arch.syscall_number("futex").expect("all have it") as i16;
            let (reason, syscall) = wait_reason(arch, futex, false, false);
            assert_eq!(
                (reason.as_str(), syscall.as_deref()),
                ("futex", Some("futex"))
            );
        }
        let (reason, syscall) = wait_reason(Arch::X86_64, 3, true, false);
        assert_eq!(
            reason, "unknown syscall",
            "number 3 is another call in the 32-bit table"
        );
        assert_eq!(syscall.as_deref(), Some("32-bit syscall 3"));
    }
}
