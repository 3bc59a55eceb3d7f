//! A root that is a mount point, for tests: in a chroot it is none, and then nobody can mount
//! anything that others don't see (mount_namespaces(7): the root's propagation can't be changed).

use std::{env, fs, path::Path};

use anyhow::{Context as _, Result};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    unistd::{chdir, chroot},
};

/// A folder that every system has, and that nobody needs.
const FOLDER: &str = "/mnt";

/// Goes to the same root as a mount of its own, if ours is none. What is started from here on
/// sees the same files.
///
/// # Errors
/// When the kernel refuses, for which it takes root.
pub(crate) fn enter() -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    if is_mount_point(&mounts) || !Path::new(FOLDER).is_dir() {
        return Ok(());
    }
    let here = env::current_dir().context("there is no current folder")?;
    unshare(CloneFlags::CLONE_NEWNS).context("no mount namespace")?;
    let none = None::<&str>;
    let of_all = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some("/"), FOLDER, none, of_all, none).context("the root can't be mounted again")?;
    let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
    mount(none, FOLDER, none, private, none).context("its mounts can't be made private")?;
    chroot(FOLDER).context("the root can't be changed")?;
    chdir(&here).with_context(|| format!("{} is not there", here.display()))
}

/// The fifth word of a line is where something is mounted (proc_pid_mountinfo(5)).
fn is_mount_point(mounts: &str) -> bool {
    mounts.is_empty()
        || mounts
            .lines()
            .any(|line| line.split(' ').nth(4) == Some("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_of_a_chroot_is_no_mount_point() {
        let proc = "30 23 0:26 / /proc rw - proc proc rw\n";
        assert!(!is_mount_point(proc));
        assert!(is_mount_point(&format!(
            "1 1 8:1 / / rw - ext4 /dev/sda rw\n{proc}"
        )));
    }
}
