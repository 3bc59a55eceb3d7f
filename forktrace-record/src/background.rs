//! Lets the kernel take its time.

use std::{
    fs,
    os::fd::{AsRawFd as _, RawFd},
};

use nix::{
    fcntl::OFlag,
    unistd::{ForkResult, chdir, close, fork, pipe2, read, setsid},
};

use crate::{kernel::own_process::in_first_pid_namespace, procfs};

/// Drops something that only holds descriptors of eBPF, in a process of its own, so that
/// nobody waits for it.
///
/// The kernel takes up to 70 ms to let go of each syscall tracepoint, a second in
/// all. A forked process holds them a second longer than we do, with nothing else of
/// ours or our caller's: no terminal, no streams, no other files and locks, no folder.
///
/// In a pid namespace we wait ourselves. Its first process may end with us, and until
/// Linux 6.9 the kernel locks up for good when such a process waits for one that lets go
/// of an fentry program (`zap_pid_ns_processes` and `synchronize_rcu_tasks`). So do we
/// where there can be no other process.
pub fn drop_in_background<T>(value: T) {
    if in_first_pid_namespace() != Some(true) || procfs::missing().is_some() {
        return drop(value);
    }
    let pipes = pipe2(OFlag::O_CLOEXEC).and_then(|one| Ok((one, pipe2(OFlag::O_CLOEXEC)?)));
    let Ok(((closed, closes), (let_go, holds))) = pipes else {
        return drop(value);
    };
    // SAFETY: this process has one thread, so the child finds no lock held.
    #[expect(unsafe_code, reason = "fork is unsafe in programs with threads")]
    let forked = unsafe { fork() };
    match forked {
        Err(_) => drop(value),
        Ok(ForkResult::Parent { .. }) => {
            drop(closes);
            // Whoever sees our end finds nothing held: the pipe ends with all the rest.
            let _ = read(&closed, &mut [0]);
            // Our copies of the descriptors are not the last: this is quick.
            drop(value);
            drop(holds);
        }
        Ok(ForkResult::Child) => {
            let _ = setsid();
            let _ = chdir("/");
            drop(holds);
            close_all_but_ebpf(let_go.as_raw_fd());
            // Until the copies there are gone: who lets go last waits for the kernel.
            let _ = read(&let_go, &mut [0]);
            // The end of the process takes the rest away; a drop would close numbers that
            // are closed already.
            std::process::exit(0)
        }
    }
}

/// Closes what is open and no eBPF program, map or link, nor a perf event that one is
/// attached to, nor `but`.
fn close_all_but_ebpf(but: RawFd) {
    let Ok(folder) = fs::read_dir("/proc/self/fd") else {
        return;
    };
    let is_ebpf =
        |target: &str| target.starts_with("anon_inode:bpf") || target == "anon_inode:[perf_event]";
    // The folder itself is gone when it has been read.
    let others = folder.flatten().filter_map(|entry| {
        let target = fs::read_link(entry.path()).ok()?;
        let keep = target.to_str().is_some_and(is_ebpf);
        let number = entry.file_name().to_str()?.parse::<i32>().ok()?;
        (!keep && number != but).then_some(number)
    });
    let others: Vec<i32> = others.collect();
    for number in others {
        // That of the folder is closed.
        let _ = close(number);
    }
}
