//! What helpers may do: a few capabilities, a little memory, and the system calls of
//! somebody who only reads.
//!
//! Each capability is there for what the kernel asks it for:
//! - `CAP_SYS_PTRACE`: `/proc/PID/{fd,maps,mem,syscall,ns}` of others;
//! - `CAP_DAC_READ_SEARCH`: the files of `/proc/PID` that only their owner may read;
//! - `CAP_SYS_ADMIN`: to ask for Unix sockets in another network namespace;
//! - `CAP_SYSLOG`: the kernel's addresses in `/proc/kallsyms`, which blazesym opens again and
//!   again;
//! - `CAP_CHECKPOINT_RESTORE`: `/proc/PID/map_files`, the files that are really mapped,
//!   wherever they are mounted and whether or not they have been deleted.
//!
//! Landlock would add nothing: what has to be read can be anywhere, and that nothing is
//! written the filter of system calls sees to.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use nix::{
    libc,
    sys::{
        prctl::{set_no_new_privs, set_pdeathsig},
        resource::Resource,
        signal::Signal,
    },
    unistd::{Gid, Pid, Uid, setgroups, setresgid, setresuid},
};
use rustix::thread::{CapabilitySet, set_keep_capabilities};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter,
};

use super::Kind;
use crate::{launch::Account, limits::at_most, priority::look_in_time, privileges::keep_only};

/// What a helper for names or deadlocks may allocate, bytes: it reads files of `/proc`.
const MEMORY_FOR_PROC: u64 = 256 << 20;
/// What a helper for symbols may allocate, bytes: the kernel's symbols and those of large
/// programs.
const MEMORY_FOR_SYMBOLS: u64 = 1 << 30;
/// What a helper that follows stacks may allocate, bytes: what the files of large programs
/// tell of unwinding, which it bounds itself.
const MEMORY_FOR_STACKS: u64 = 512 << 20;
/// Files that are open at a time.
const MOST_FILES: u64 = 256;

const OF_NAMES: CapabilitySet = CapabilitySet::SYS_PTRACE
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::SYS_ADMIN)
    .union(CapabilitySet::SYSLOG);
const OF_DEADLOCKS: CapabilitySet = CapabilitySet::SYS_PTRACE.union(CapabilitySet::DAC_READ_SEARCH);
/// And the files that are mapped, for what they have of unwinding and memory does not.
const OF_STACKS: CapabilitySet = OF_DEADLOCKS.union(CapabilitySet::CHECKPOINT_RESTORE);
/// To become the user of a Java machine, and to ask that.
const OF_JAVA: CapabilitySet = OF_DEADLOCKS
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::KILL);
/// For a workload that runs as root, or with us.
const OF_SYMBOLS: CapabilitySet = CapabilitySet::SYS_PTRACE
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(OF_SYMBOLS_AS_USER);
/// For one that runs as somebody: its files are read as that user would.
const OF_SYMBOLS_AS_USER: CapabilitySet =
    CapabilitySet::CHECKPOINT_RESTORE.union(CapabilitySet::SYSLOG);
/// To make all of these, one of them a real-time task, and to kill them.
const OF_NURSERY: CapabilitySet = OF_NAMES
    .union(OF_SYMBOLS)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SYS_NICE)
    .union(CapabilitySet::KILL);

/// What a helper may allocate, bytes.
pub(super) fn memory_of(kind: Kind) -> u64 {
    match kind {
        Kind::Names | Kind::Deadlocks | Kind::Providers | Kind::Java => MEMORY_FOR_PROC,
        Kind::Symbols => MEMORY_FOR_SYMBOLS,
        Kind::Stacks => MEMORY_FOR_STACKS,
    }
}

/// The nursery ends with the recorder.
pub(super) fn of_nursery(recorder: Pid) -> Result<()> {
    keep_only(OF_NURSERY)?;
    set_no_new_privs().context("no_new_privs")?;
    end_with(recorder)
}

/// A helper ends with the nursery.
pub(super) fn of_helper(kind: Kind, account: Option<&Account>, nursery: Pid) -> Result<()> {
    at_most(Resource::RLIMIT_CORE, 0)?;
    at_most(Resource::RLIMIT_FSIZE, 0)?;
    at_most(Resource::RLIMIT_NOFILE, MOST_FILES)?;
    at_most(Resource::RLIMIT_DATA, memory_of(kind))?;
    if kind == Kind::Stacks {
        look_in_time();
    }
    match (kind, account) {
        (Kind::Symbols, Some(account)) if !account.uid.is_root() => become_user(account)?,
        (Kind::Symbols, _) => drop(keep_only(OF_SYMBOLS)?),
        (Kind::Names, _) => drop(keep_only(OF_NAMES)?),
        (Kind::Java, _) => drop(keep_only(OF_JAVA)?),
        (Kind::Stacks, _) => drop(keep_only(OF_STACKS)?),
        (Kind::Deadlocks | Kind::Providers, _) => drop(keep_only(OF_DEADLOCKS)?),
    }
    // Another user's process forgets it.
    end_with(nursery)?;
    // A kernel without such filters leaves the rest of the fence.
    let _ = filter(kind).and_then(|filter| Ok(apply_filter(&filter)?));
    Ok(())
}

fn become_user(account: &Account) -> Result<()> {
    let (uid, gid) = (account.uid, account.gid);
    set_keep_capabilities(true).context("capabilities can't be kept")?;
    setgroups(&account.groups).context("setgroups")?;
    setresgid(gid, gid, gid).context("setresgid")?;
    // Who may signal, stop or limit a process is asked of its real and saved user: they
    // stay root's, and the filter lets no call change them.
    let root = Uid::from_raw(0);
    setresuid(root, uid, root).context("setresuid")?;
    keep_only(OF_SYMBOLS_AS_USER)?;
    if (Uid::effective(), Gid::effective()) != (uid, gid) {
        bail!("the helper for symbols is not the workload's user");
    }
    Ok(())
}

fn end_with(parent: Pid) -> Result<()> {
    set_pdeathsig(Signal::SIGKILL).context("PR_SET_PDEATHSIG")?;
    // 0: it is in another pid namespace, and can't be seen.
    if ![parent.as_raw(), 0].contains(&Pid::parent().as_raw()) {
        bail!("it has ended already");
    }
    Ok(())
}

/// System calls that a helper may make, whatever their arguments.
const ALLOWED: &[libc::c_long] = &[
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_lseek,
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_readlinkat,
    libc::SYS_getdents64,
    libc::SYS_getxattr,
    libc::SYS_fcntl,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_clock_gettime,
    libc::SYS_getrandom,
    libc::SYS_uname,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_recvfrom,
    libc::SYS_exit,
    libc::SYS_exit_group,
];
/// Where there are still the older ones.
#[cfg(target_arch = "x86_64")]
const ALLOWED_TOO: &[libc::c_long] = &[libc::SYS_stat, libc::SYS_lstat, libc::SYS_readlink];
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_TOO: &[libc::c_long] = &[];
/// To ask for Unix sockets, in the namespace that they are in.
const ALLOWED_FOR_NAMES: &[libc::c_long] =
    &[libc::SYS_setns, libc::SYS_recvmsg, libc::SYS_setsockopt];
/// To read pieces of a process's memory together, and to sleep until the next look.
const ALLOWED_FOR_STACKS: &[libc::c_long] =
    &[libc::SYS_process_vm_readv, libc::SYS_clock_nanosleep];
/// To ask a Java machine, as its user.
const ALLOWED_FOR_JAVA: &[libc::c_long] = &[
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setgroups,
    libc::SYS_connect,
    libc::SYS_setsockopt,
    libc::SYS_unlinkat,
    libc::SYS_clock_nanosleep,
];

/// Everything else is refused: to execute, to trace, to open for writing, to connect.
fn filter(kind: Kind) -> Result<BpfProgram> {
    let always = ALLOWED.iter().chain(ALLOWED_TOO);
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        always.map(|number| (*number, Vec::new())).collect();
    let reads = (libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC) as u64;
    rules.insert(libc::SYS_openat, without(2, reads)?);
    #[cfg(target_arch = "x86_64")]
    rules.insert(libc::SYS_open, without(1, reads)?);
    rules.insert(libc::SYS_mmap, without(2, libc::PROT_EXEC as u64)?);
    rules.insert(libc::SYS_mprotect, without(2, libc::PROT_EXEC as u64)?);
    // To the other end only.
    rules.insert(libc::SYS_sendto, only(4, 0)?);
    if matches!(kind, Kind::Names | Kind::Providers) {
        rules.extend(ALLOWED_FOR_NAMES.iter().map(|number| (*number, Vec::new())));
        rules.insert(libc::SYS_socket, only(0, libc::AF_NETLINK as u64)?);
    }
    if kind == Kind::Stacks {
        let more = ALLOWED_FOR_STACKS.iter();
        rules.extend(more.map(|number| (*number, Vec::new())));
    }
    if kind == Kind::Java {
        rules.extend(ALLOWED_FOR_JAVA.iter().map(|number| (*number, Vec::new())));
        rules.insert(libc::SYS_socket, only(0, libc::AF_UNIX as u64)?);
        rules.insert(libc::SYS_kill, only(1, libc::SIGQUIT as u64)?);
        // Only a new file, which stays empty.
        let new = (libc::O_CREAT | libc::O_EXCL) as u64;
        let made = on_argument(2, SeccompCmpOp::MaskedEq(new), new)?;
        rules.insert(libc::SYS_openat, [without(2, reads)?, made].concat());
    }
    let refused = SeccompAction::Errno(libc::EPERM as u32);
    let arch = std::env::consts::ARCH.try_into()?;
    Ok(SeccompFilter::new(rules, refused, SeccompAction::Allow, arch)?.try_into()?)
}

/// If none of these bits is set.
fn without(argument: u8, bits: u64) -> Result<Vec<SeccompRule>> {
    on_argument(argument, SeccompCmpOp::MaskedEq(bits), 0)
}

fn only(argument: u8, value: u64) -> Result<Vec<SeccompRule>> {
    on_argument(argument, SeccompCmpOp::Eq, value)
}

fn on_argument(argument: u8, compare: SeccompCmpOp, value: u64) -> Result<Vec<SeccompRule>> {
    let length = SeccompCmpArgLen::Qword;
    let condition = SeccompCondition::new(argument, length, compare, value)?;
    Ok(vec![SeccompRule::new(vec![condition])?])
}
