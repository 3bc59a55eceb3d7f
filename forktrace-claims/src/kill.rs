//! Ends everything that a run started.

use std::time::Duration;

use forktrace_process::procfs::{self, stat::Stat};
use nix::{
    sys::{
        signal::{Signal, kill},
        wait::{WaitPidFlag, waitpid},
    },
    unistd::Pid,
};

/// Makes this process the one that orphans of its descendants go to, so that
/// [`descendants`] finds them.
///
/// # Errors
/// When the kernel refuses.
pub fn adopt_orphans() -> nix::Result<()> {
    nix::sys::prctl::set_child_subreaper(true)
}

/// All living processes that descend from `ancestor`, itself not among them.
pub fn descendants(ancestor: i32) -> Vec<i32> {
    let parents: Vec<(i32, i32)> = all()
        .filter(|(_, stat)| stat.state != 'Z')
        .map(|(pid, stat)| (pid, stat.ppid as i32))
        .collect();
    let mut found = vec![ancestor];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        let children = parents
            .iter()
            .filter(|(pid, ppid)| *ppid == parent && *pid != parent);
        for (child, _) in children {
            if !found.contains(child) {
                found.push(*child);
            }
        }
        next += 1;
    }
    found.remove(0);
    found
}

/// All processes that there are.
fn all() -> impl Iterator<Item = (i32, Stat)> {
    let pids = procfs::pids().into_iter().flatten();
    pids.filter_map(|pid| Some((pid as i32, Stat::of(pid)?)))
}

/// Kills all descendants of a process that `spare` does not name, until there
/// are none.
pub fn kill_descendants(ancestor: i32, spare: Option<i32>) {
    // A process can start others while we look; each round ends some.
    for _ in 0..200 {
        let mut left = descendants(ancestor);
        left.retain(|&pid| Some(pid) != spare);
        if left.is_empty() {
            return;
        }
        for pid in left {
            // Whatever has ended meanwhile is as it should be.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Lets adopted processes that have ended go. `spare` is waited for elsewhere.
pub fn reap_adopted(spare: Option<i32>) {
    for pid in zombies_of(std::process::id() as i32) {
        if Some(pid) != spare {
            let _ = waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG));
        }
    }
}

fn zombies_of(parent: i32) -> Vec<i32> {
    all()
        .filter(|(_, stat)| stat.state == 'Z' && stat.ppid as i32 == parent)
        .map(|(pid, _)| pid)
        .collect()
}
