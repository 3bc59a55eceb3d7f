//! The architecture of the traced machine: its syscalls, by number, and what each
//! of them waits for.

use anyhow::{Result, bail};
use forktrace_common::layout::{WAITS, Waits, wait};
use syscalls::{aarch64, x86_64};

/// The architecture of a trace: which table its syscall numbers are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arch {
    /// 64-bit x86.
    #[serde(rename = "x86_64")]
    X86_64,
    /// 64-bit ARM.
    Aarch64,
}

impl Arch {
    /// The architecture that this program was built for.
    ///
    /// # Errors
    /// On an architecture whose registers and syscalls we don't know.
    pub fn of_this_machine() -> Result<Self> {
        match std::env::consts::ARCH {
            "x86_64" => Ok(Self::X86_64),
            "aarch64" => Ok(Self::Aarch64),
            other => bail!(
                "forktrace knows the syscalls of x86_64 and aarch64, not of {other}; \
                 `forktrace report` works here on a trace from another machine"
            ),
        }
    }

    /// The name of a syscall.
    pub fn syscall_name(self, number: i32) -> Option<&'static str> {
        let number = usize::try_from(number).ok()?;
        match self {
            Self::X86_64 => x86_64::Sysno::new(number).map(|s| s.name()),
            Self::Aarch64 => aarch64::Sysno::new(number).map(|s| s.name()),
        }
    }

    /// The number of a syscall; `None` where the architecture has none.
    pub fn syscall_number(self, name: &str) -> Option<i32> {
        match self {
            Self::X86_64 => name.parse::<x86_64::Sysno>().ok().map(|s| s as i32),
            Self::Aarch64 => name.parse::<aarch64::Sysno>().ok().map(|s| s as i32),
        }
    }

    /// The kernel's function for a syscall, which fentry programs attach to.
    pub fn syscall_function(self, name: &str) -> String {
        match self {
            Self::X86_64 => format!("__x64_sys_{name}"),
            Self::Aarch64 => format!("__arm64_sys_{name}"),
        }
    }
}

/// What each syscall waits for: see [`wait`].
pub fn waits(arch: Arch) -> Waits {
    const NAMES: [(u8, &[&str]); 15] = [
        (
            wait::FD,
            &[
                "read",
                "pread64",
                "readv",
                "preadv",
                "preadv2",
                "write",
                "pwrite64",
                "writev",
                "pwritev",
                "pwritev2",
                "accept",
                "accept4",
                "connect",
                "recvfrom",
                "recvmsg",
                "recvmmsg",
                "sendto",
                "sendmsg",
                "sendmmsg",
                "fsync",
                "fdatasync",
                "syncfs",
                "sync_file_range",
                "flock",
                "fcntl",
                "ioctl",
                "close",
                "shutdown",
                "getdents64",
                "ftruncate",
                "fallocate",
                "io_uring_enter",
                "splice",
                "tee",
                "vmsplice",
                "copy_file_range",
                "mq_timedsend",
                "mq_timedreceive",
                "fstat",
            ],
        ),
        (wait::POLL, &["poll"]),
        (wait::PPOLL, &["ppoll"]),
        (wait::SELECT, &["select"]),
        (wait::PSELECT6, &["pselect6"]),
        (wait::EPOLL_MS, &["epoll_wait", "epoll_pwait"]),
        (wait::EPOLL_TIMESPEC, &["epoll_pwait2"]),
        (wait::FUTEX, &["futex"]),
        (wait::NANOSLEEP, &["nanosleep"]),
        (wait::CLOCK_NANOSLEEP, &["clock_nanosleep"]),
        (wait::FUTEX_WAIT, &["futex_wait"]),
        (wait::FUTEX_WAITV, &["futex_waitv"]),
        (wait::CHILD, &["wait4", "waitid"]),
        (wait::TIMESPEC_3, &["semtimedop"]),
        (wait::TIMESPEC_2, &["rt_sigtimedwait"]),
    ];
    let mut waits = [wait::NONE; WAITS];
    for (what, names) in NAMES {
        for name in names {
            let number = arch
                .syscall_number(name)
                .and_then(|n| usize::try_from(n).ok());
            if let Some(entry) = number.and_then(|n| waits.get_mut(n)) {
                *entry = what;
            }
        }
    }
    waits
}
