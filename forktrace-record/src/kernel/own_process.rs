//! What the kernel tells of this process, also where `/proc` is not mounted.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    os::fd::{AsRawFd as _, BorrowedFd, OwnedFd},
};

use anyhow::{Context as _, Result, ensure};
use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, openat, statat},
    mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen},
};

/// `PROC_PID_INIT_INO` (include/linux/proc_ns.h), the same in all kernels.
const FIRST_PID_NAMESPACE: u64 = 0xefff_fffc;

/// The folder of this process in a `/proc`.
#[derive(Debug)]
pub struct OwnProcess(OwnedFd);

impl OwnProcess {
    /// Opens it.
    ///
    /// # Errors
    /// When `/proc` is not there, and no other can be had.
    pub fn open() -> Result<Self> {
        if let Ok(own) = folder(CWD, "/proc/self") {
            return Ok(Self(own));
        }
        Self::of_no_mount().context(
            "/proc is not mounted, and can't be without CAP_SYS_ADMIN; \
             `mount -t proc proc /proc` mounts it",
        )
    }

    /// In a `/proc` that is mounted nowhere, and gone with its descriptor.
    fn of_no_mount() -> io::Result<Self> {
        let proc = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_create(&proc)?;
        let read_only = MountAttrFlags::MOUNT_ATTR_RDONLY;
        let proc = fsmount(&proc, FsMountFlags::FSMOUNT_CLOEXEC, read_only)?;
        Ok(Self(folder(&proc, "self")?))
    }

    /// Device and inode of the file that stands for our pid namespace.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn pid_namespace(&self) -> Result<(u64, u64)> {
        let own = statat(&self.0, "ns/pid", AtFlags::empty());
        let own = own.context("the kernel tells no pid namespace")?;
        Ok((own.st_dev, own.st_ino))
    }

    /// What the kernel says of a descriptor.
    ///
    /// # Errors
    /// When it says nothing.
    pub fn about(&self, fd: BorrowedFd<'_>) -> io::Result<String> {
        let path = format!("fdinfo/{}", fd.as_raw_fd());
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let mut text = String::new();
        File::from(openat(&self.0, path, flags, Mode::empty())?).read_to_string(&mut text)?;
        Ok(text)
    }
}

fn folder(at: impl std::os::fd::AsFd, path: &str) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(at, path, flags, Mode::empty())
}

/// Are we in the machine's pid namespace, so that our tids are the kernel's? `None`: not
/// known.
pub fn in_first_pid_namespace() -> Option<bool> {
    let own = OwnProcess::open().and_then(|own| own.pid_namespace());
    own.ok().map(|(_, inode)| inode == FIRST_PID_NAMESPACE)
}

/// Fails where our children would be in another pid namespace than we are. It ends with the
/// first of them, which would be no process of the workload's.
///
/// # Errors
/// With what to do.
pub fn check_children() -> Result<()> {
    let of = |file| fs::read_link(format!("/proc/self/ns/{file}"));
    if let Ok(ours) = of("pid") {
        // Without a first process it leads nowhere.
        ensure!(
            of("pid_for_children").is_ok_and(|childrens| childrens == ours),
            "forktrace is in another pid namespace than its children will be; start it inside, \
             as `unshare --pid --fork --mount-proc` does"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn it_is_the_same_without_a_mount() {
        let mounted = OwnProcess::open().expect("/proc");
        let alone = match OwnProcess::of_no_mount() {
            Ok(alone) => alone,
            Err(error) => return assert_eq!(error.kind(), io::ErrorKind::PermissionDenied),
        };
        assert_eq!(
            alone.pid_namespace().expect("a namespace"),
            mounted.pid_namespace().expect("a namespace")
        );
        let about = alone.about(alone.0.as_fd()).expect("it is open");
        assert!(about.starts_with("pos:"), "{about}");
    }
}
