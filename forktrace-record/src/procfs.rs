//! What `/proc` tells: of tasks that sleep the call they are in, their memory, their signals
//! and timers. Whatever can't be read is `None` or `false`: not known.

use std::{collections::HashSet, fs, os::unix::fs::FileExt as _};

pub(crate) use forktrace_process::procfs::{maps, mounts, pids, stat, text};

use crate::trace::cgroups;

use self::{maps::mappings, text::field};

// include/uapi/linux/futex.h
pub(crate) const FUTEX_WAIT: u32 = 0;
pub(crate) const FUTEX_LOCK_PI: u32 = 6;
pub(crate) const FUTEX_WAIT_BITSET: u32 = 9;
pub(crate) const FUTEX_LOCK_PI2: u32 = 13;
/// Of `futex`: only this process has the memory.
pub(crate) const FUTEX_PRIVATE_FLAG: u32 = 128;
const FUTEX_CLOCK_REALTIME: u32 = 256;
pub(crate) const FUTEX_TID_MASK: u32 = 0x3fff_ffff;

/// Why `/proc` tells nothing of our tasks; `None`: it does. One of another pid namespace
/// has other tasks under the same numbers.
pub(crate) fn missing() -> Option<String> {
    const REMEDY: &str = "`mount -t proc proc /proc` mounts it";
    match fs::read_link("/proc/self") {
        Err(error) => Some(format!("/proc is not mounted ({error}); {REMEDY}")),
        Ok(link) if link.to_str() != Some(&std::process::id().to_string()) => Some(format!(
            "/proc is that of another pid namespace; {REMEDY} for this one"
        )),
        Ok(_) => None,
    }
}

/// What a futex call does.
pub(crate) fn futex_command(op: u32) -> u32 {
    op & !(FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME)
}

/// A lock that tells who owns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lock {
    /// The owner's tid, as the process itself sees it.
    pub(crate) owner: u32,
    /// Tasks of other processes can own it.
    pub(crate) shared: bool,
}

/// How a lock tells who owns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum LockKind {
    /// The futex is the owner's tid: the kernel's own rule.
    Pi,
    /// It may be a mutex of the GNU C library, which has the owner beside it.
    Glibc,
}

/// What kind of lock a call with this operation can wait for. (The library's
/// condition variables, semaphores and joins wait with `FUTEX_WAIT_BITSET`.)
pub(crate) fn lock_kind(op: u32) -> Option<LockKind> {
    match futex_command(op) {
        FUTEX_LOCK_PI | FUTEX_LOCK_PI2 => Some(LockKind::Pi),
        FUTEX_WAIT => Some(LockKind::Glibc),
        _ => None,
    }
}

/// The call that a task is in: its number and its arguments.
pub(crate) struct Call {
    pub(crate) number: i64,
    pub(crate) arguments: [u64; 6],
}

impl Call {
    /// `None`: it runs, or is in none.
    pub(crate) fn of(tgid: u32, tid: u32) -> Option<Self> {
        Self::parse(&text::read(format!("/proc/{tgid}/task/{tid}/syscall")).ok()?)
    }

    /// `202 0x7f… 0x80 0x2 0x0 0x0 0x0 0x7ffd… 0x7f…`, or `running`.
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_ascii_whitespace();
        let number = words.next()?.parse().ok()?;
        let mut arguments = [0; 6];
        for argument in &mut arguments {
            let word = words.next()?.strip_prefix("0x")?;
            *argument = u64::from_str_radix(word, 16).ok()?;
        }
        Some(Self { number, arguments })
    }

    fn op(&self) -> u32 {
        self.arguments[1] as u32
    }
}

/// Who owns the lock that a task sleeps on.
pub(crate) fn owner(tgid: u32, tid: u32, futex: i16, address: u64, kind: LockKind) -> Option<Lock> {
    let call = Call::of(tgid, tid)?;
    let [at, _, value, timeout, ..] = call.arguments;
    if call.number != i64::from(futex) || at != address || timeout != 0 {
        return None;
    }
    let mut words = [0; 5];
    let length = match kind {
        LockKind::Pi => 1,
        LockKind::Glibc => words.len(),
    };
    read_words(tgid, address, &mut words[..length])?;
    let owner = match kind {
        LockKind::Pi => words[0] & FUTEX_TID_MASK,
        LockKind::Glibc => glibc_owner(words, call.op(), value as u32)?,
    };
    let shared = call.op() & FUTEX_PRIVATE_FLAG == 0;
    (owner != 0).then_some(Lock { owner, shared })
}

/// The owner in a mutex of the GNU C library (`struct __pthread_mutex_s`, the same
/// since 2007 on all 64-bit machines: lock, count, owner, users, kind), if it is
/// one: whoever waits has set the lock to 2 and waits while it is 2.
pub(crate) fn glibc_owner(
    [lock, _, owner, users, kind]: [u32; 5],
    op: u32,
    value: u32,
) -> Option<u32> {
    const CONTENDED: u32 = 2;
    const SHARED: u32 = 128;
    /// Normal, recursive, error-checking, adaptive.
    const TYPES: u32 = 3;
    /// Flags that say whether the lock is elided.
    const ELISION: u32 = 0x300;
    // A robust mutex has its owner in the lock itself.
    let plain = kind & !(TYPES | ELISION | SHARED) == 0;
    let shared = op & FUTEX_PRIVATE_FLAG == 0;
    let is_mutex = lock == CONTENDED
        && value == CONTENDED
        && plain
        && shared == (kind & SHARED != 0)
        && (1..1 << 20).contains(&users);
    is_mutex.then_some(owner)
}

/// Words of a process's memory.
pub(crate) fn read_words(pid: u32, address: u64, words: &mut [u32]) -> Option<()> {
    let memory = fs::File::open(format!("/proc/{pid}/mem")).ok()?;
    let mut bytes = vec![0; words.len() * 4];
    memory.read_exact_at(&mut bytes, address).ok()?;
    for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(4)) {
        *word = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    }
    Some(())
}

/// The name of a task that lives; empty when it just ended.
pub(crate) fn name_of_living(tgid: u32, tid: u32) -> String {
    let path = format!("/proc/{tgid}/task/{tid}/comm");
    text::read(path).map_or(String::new(), |name| name.trim_end().to_owned())
}

/// A text in a process's memory, up to its NUL; `None`: it is longer, or not there.
pub(crate) fn read_text(pid: u32, address: u64, longest: usize) -> Option<String> {
    const PAGE: u64 = 4096;
    let memory = fs::File::open(format!("/proc/{pid}/mem")).ok()?;
    let mut text: Vec<u8> = Vec::new();
    while text.len() < longest {
        // The next page may not be there.
        let at = address.checked_add(text.len() as u64)?;
        let mut bytes = vec![0; (PAGE - at % PAGE) as usize];
        memory.read_exact_at(&mut bytes, at).ok()?;
        let end = bytes.iter().position(|byte| *byte == 0);
        text.extend_from_slice(&bytes[..end.unwrap_or(bytes.len())]);
        if end.is_some() {
            return Some(String::from_utf8_lossy(&text).into_owned());
        }
    }
    None
}

/// The function of the kernel that a task sleeps in.
pub(crate) fn wait_channel(tgid: u32, tid: u32) -> Option<String> {
    let name = text::read(format!("/proc/{tgid}/task/{tid}/wchan")).ok()?;
    // 0: it does not sleep, or may not be told.
    (name != "0").then_some(name)
}

fn status(pid: u32, tid: u32) -> Option<String> {
    text::read(format!("/proc/{pid}/task/{tid}/status")).ok()
}

/// The tid of a task as it sees it itself, in its own pid namespace.
pub(crate) fn own_tid(tgid: u32, tid: u32) -> Option<u32> {
    let status = status(tgid, tid)?;
    field(&status, "NSpid")?
        .split_ascii_whitespace()
        .last()?
        .parse()
        .ok()
}

/// The pids of a process, from our pid namespace to its own.
pub(crate) fn own_pids(pid: u32) -> Option<Vec<i64>> {
    let status = status(pid, pid)?;
    let pids = field(&status, "NSpid")?.split_ascii_whitespace();
    pids.map(|pid| pid.parse().ok()).collect()
}

/// How many pid namespaces, from ours on, a task is in.
pub(crate) fn pid_levels(tgid: u32, tid: u32) -> Option<usize> {
    let status = status(tgid, tid)?;
    Some(field(&status, "NSpid")?.split_ascii_whitespace().count())
}

/// Who traces a task.
pub(crate) fn tracer(tgid: u32, tid: u32) -> Option<u32> {
    let tracer = field(&status(tgid, tid)?, "TracerPid")?.parse().ok()?;
    (tracer != 0).then_some(tracer)
}

/// The cgroup of a process (a pid, or `self`), in the unified hierarchy; empty: not known.
pub(crate) fn cgroup(process: &str) -> String {
    let text = text::read(format!("/proc/{process}/cgroup"));
    text.map_or(String::new(), |text| cgroups::path(&text).to_owned())
}

/// Is there a process or thread with this tid?
pub(crate) fn lives(tid: u32) -> bool {
    fs::exists(format!("/proc/{tid}")).unwrap_or(true)
}

/// How many threads a process has.
pub(crate) fn threads(tgid: u32) -> Option<usize> {
    field(&status(tgid, tgid)?, "Threads")?.parse().ok()
}

/// The parent of a process.
pub(crate) fn parent(pid: u32) -> Option<u32> {
    field(&status(pid, pid)?, "PPid")?.parse().ok()
}

/// Does the task wait without a timeout for a futex that only its own process can
/// reach?
pub(crate) fn waits_forever(tgid: u32, tid: u32, address: u64) -> bool {
    let Some(call) = Call::of(tgid, tid) else {
        return false;
    };
    let op = call.op();
    let waits = matches!(
        futex_command(op),
        FUTEX_WAIT | FUTEX_WAIT_BITSET | FUTEX_LOCK_PI | FUTEX_LOCK_PI2
    );
    let [at, _, _, timeout, ..] = call.arguments;
    let private = || {
        op & FUTEX_PRIVATE_FLAG != 0
            || text::read(format!("/proc/{tgid}/maps")).is_ok_and(|maps| is_private(&maps, address))
    };
    at == address && waits && timeout == 0 && private()
}

/// Is the memory at this address the process's own?
fn is_private(maps: &str, address: u64) -> bool {
    mappings(maps).any(|mapping| mapping.contains(address) && !mapping.shared)
}

/// Signals that programs handle to be told something: SIGHUP, SIGUSR1, SIGUSR2,
/// SIGALRM, SIGTERM, SIGVTALRM, SIGPROF, SIGIO, and the real-time ones but for the
/// two of the C library.
const TELLING: u64 =
    bit(1) | bit(10) | bit(12) | bit(14) | bit(15) | bit(26) | bit(27) | bit(29) | !(bit(34) - 1);

const fn bit(signal: u32) -> u64 {
    1 << (signal - 1)
}

/// Is there no timer and no signal that could wake a process's threads, and does
/// no debugger hold it?
pub(crate) fn expects_nothing(pid: u32) -> bool {
    let Some(status) = status(pid, pid) else {
        return false;
    };
    let mask = |name| field(&status, name).and_then(|m| u64::from_str_radix(m, 16).ok());
    let handles_none = mask("SigCgt").is_some_and(|caught| caught & TELLING == 0);
    let untraced = field(&status, "TracerPid").is_some_and(|tracer| tracer == "0");
    let timers = text::read(format!("/proc/{pid}/timers"));
    handles_none && untraced && timers.is_ok_and(|timers| timers.trim().is_empty())
}

/// Does one of these processes trace one that is none of them? (What happens to
/// that one ends its `wait`.) Not known counts as yes.
pub(crate) fn traces_others(processes: &HashSet<u32>) -> bool {
    let Some(pids) = pids() else {
        return true;
    };
    pids.filter(|pid| !processes.contains(pid)).any(|pid| {
        // One that has gone meanwhile is traced by nobody.
        status(pid, pid).is_some_and(|status| {
            let tracer = field(&status, "TracerPid").and_then(|tracer| tracer.parse().ok());
            tracer.is_some_and(|tracer| processes.contains(&tracer))
        })
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt as _;

    use super::*;

    /// A name is cut amid a character, or is no text at all.
    #[test]
    fn a_process_with_an_odd_name_is_read_like_any_other() {
        let folder = tempfile::tempdir().expect("a folder");
        let name = std::ffi::OsStr::new("é名前名前名");
        let program = folder.path().join(name);
        std::os::unix::fs::symlink("/bin/sleep", &program).expect("a link");
        let mut command = std::process::Command::new(&program);
        let mut child = command
            .arg0("sleep")
            .arg("1000")
            .spawn()
            .expect("it starts");
        let pid = child.id();
        // A new program has its memory a moment before it has its name.
        let raw = loop {
            let raw = fs::read(format!("/proc/{pid}/comm")).expect("it lives");
            if raw.starts_with("é".as_bytes()) {
                break raw;
            }
            std::thread::yield_now();
        };
        let seen = (own_tid(pid, pid), parent(pid));
        let named = name_of_living(pid, pid);
        child.kill().expect("it is ours");
        child.wait().expect("it ends");
        assert!(
            String::from_utf8(raw).is_err(),
            "15 bytes are no whole characters"
        );
        assert_eq!(seen, (Some(pid), Some(std::process::id())));
        assert!(named.starts_with("é名前名前"), "{named}");
    }

    #[test]
    fn a_mutex_is_told_from_other_words() {
        let private = FUTEX_WAIT | FUTEX_PRIVATE_FLAG;
        let mutex = [2, 0, 4121, 1, 0];
        assert_eq!(glibc_owner(mutex, private, 2), Some(4121));
        // Recursive and shared.
        assert_eq!(glibc_owner([2, 3, 4121, 1, 129], FUTEX_WAIT, 2), Some(4121));
        // Waits for another value; not contended; shared but waited for as private;
        // of no such type; nobody uses it.
        assert_eq!(glibc_owner(mutex, private, 1), None);
        assert_eq!(glibc_owner([1, 0, 4121, 1, 0], private, 2), None);
        assert_eq!(glibc_owner([2, 0, 4121, 1, 128], private, 2), None);
        assert_eq!(glibc_owner([2, 0, 4121, 1, 77_777], private, 2), None);
        assert_eq!(glibc_owner([2, 0, 4121, 0, 0], private, 2), None);
    }

    #[test]
    fn only_lock_operations_can_have_an_owner() {
        assert_eq!(lock_kind(128), Some(LockKind::Glibc));
        assert_eq!(lock_kind(6 | 128), Some(LockKind::Pi));
        assert_eq!(lock_kind(9 | 128 | 256), None);
        assert_eq!(lock_kind(1 | 128), None);
    }

    #[test]
    fn a_call_is_read_or_not_known() {
        let call = Call::parse("202 0x7f00 0x80 0x2 0x0 0x0 0x0 0x7ffd 0x7fff\n");
        let call = call.expect("it is one");
        assert_eq!(
            (call.number, call.arguments),
            (202, [0x7f00, 0x80, 2, 0, 0, 0])
        );
        for text in ["running\n", "", "-1 0x7ffd 0x7fff\n"] {
            assert!(Call::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn memory_is_private_or_not() {
        let maps = "7f00-7f40 rw-p 00000000 00:00 0 \n7f40-7f80 rw-s 00000000 00:01 12 /memfd:x\n";
        assert!(is_private(maps, 0x7f00) && is_private(maps, 0x7f3f));
        assert!(!is_private(maps, 0x7f40) && !is_private(maps, 0x8000));
    }

    #[test]
    fn signals_of_the_c_library_tell_nothing() {
        // SIGCANCEL and SIGSETXID; SIGINT; SIGSEGV.
        for signal in [32, 33, 2, 11, 17] {
            assert_eq!(TELLING & bit(signal), 0, "{signal}");
        }
        for signal in [1, 10, 14, 15, 29, 34, 64] {
            assert_ne!(TELLING & bit(signal), 0, "{signal}");
        }
    }

    #[test]
    fn our_own_process_is_read() {
        let pid = std::process::id();
        assert_eq!(own_tid(pid, pid), Some(pid));
        assert_eq!(parent(pid), Some(nix::unistd::getppid().as_raw() as u32));
        assert!(!traces_others(&HashSet::from([pid])));
    }
}
