//! What a descriptor is.

use std::{
    fs,
    os::fd::{AsRawFd as _, OwnedFd},
};

use nix::sys::stat::{SFlag, fstat, major, minor};
use rustix::fs::{AtFlags, StatxFlags, statx};
use serde::{Deserialize, Serialize};

use super::{process::Folder, sockets::Sockets};
use crate::{
    procfs::{
        mounts::mounts,
        text::{self, device, field},
    },
    trace::FileKind,
};

/// A file, as the kernel numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(super) inode: u64,
    pub(super) device: u32,
}

/// Why a descriptor has no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Nameless {
    /// Its process has ended.
    Gone,
    /// It is closed, or another file by now.
    Changed,
}

/// Looks up a descriptor of a task. `expected` is what the kernel said it was.
pub(super) fn look_up(
    folder: &Folder,
    fd: i32,
    expected: Option<Identity>,
    sockets: &mut Sockets,
) -> Result<(Identity, FileKind), Nameless> {
    let handle = folder
        .follow(&format!("fd/{fd}"))
        .map_err(|_| match folder.read("stat") {
            Ok(_) => Nameless::Changed,
            Err(_) => Nameless::Gone,
        })?;
    // What a file is does not change: no server need be asked, which may never answer.
    let (flags, wanted) = (
        AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC,
        StatxFlags::TYPE | StatxFlags::INO,
    );
    let status = statx(&handle, c"", flags, wanted).map_err(|_| Nameless::Changed)?;
    let own = own(&handle).ok_or(Nameless::Changed)?;
    let found = Identity {
        inode: own.inode.unwrap_or(status.stx_ino),
        device: device(status.stx_dev_major.into(), status.stx_dev_minor.into()),
    };
    let identity = match expected {
        Some(expected) if expected.inode != found.inode => return Err(Nameless::Changed),
        // Some file systems (btrfs, overlayfs) tell programs another device than
        // the kernel has: that one is in the mount table.
        Some(expected)
            if expected.device != found.device
                && mount_device(folder, own.mount) != Some(expected.device) =>
        {
            return Err(Nameless::Changed);
        }
        expected => expected.unwrap_or(found),
    };
    let file_type = SFlag::from_bits_truncate(u32::from(status.stx_mode) & SFlag::S_IFMT.bits());
    let kind = if file_type == SFlag::S_IFSOCK {
        sockets.name(folder, &handle, found.inode)
    } else {
        let kind = kind(file_type, status.stx_rdev_major.into(), &own.link);
        match kind {
            FileKind::PidFd(_) => FileKind::PidFd(pid_of(folder, fd)),
            kind => kind,
        }
    };
    Ok((identity, kind))
}

struct Own {
    link: String,
    inode: Option<u64>,
    mount: Option<u32>,
}

/// What the kernel says of our own handle: it can't change meanwhile.
fn own(handle: &OwnedFd) -> Option<Own> {
    let number = handle.as_raw_fd();
    let link = fs::read_link(format!("/proc/self/fd/{number}")).ok()?;
    let info = text::read(format!("/proc/self/fdinfo/{number}")).ok()?;
    let number = |key| field(&info, key)?.parse::<u64>().ok();
    Some(Own {
        link: link.to_string_lossy().into_owned(),
        inode: number("ino"),
        mount: number("mnt_id").and_then(|id| u32::try_from(id).ok()),
    })
}

/// The device of a mount, as the kernel has it.
fn mount_device(folder: &Folder, mount: Option<u32>) -> Option<u32> {
    device_of_mount(&folder.read("mountinfo").ok()?, mount?)
}

fn device_of_mount(mountinfo: &str, mount: u32) -> Option<u32> {
    let mut mounts = mounts(mountinfo);
    Some(
        mounts
            .find(|found| found.number == u64::from(mount))?
            .device,
    )
}

/// The process of a pidfd; `None`: it has ended.
fn pid_of(folder: &Folder, fd: i32) -> Option<u32> {
    let info = folder.read(&format!("fdinfo/{fd}")).ok()?;
    field(&info, "Pid")?.parse().ok().filter(|pid| *pid > 0)
}

/// From the type and what the link says.
fn kind(file_type: SFlag, rdev_major: u64, link: &str) -> FileKind {
    // Inodes without a name have a type of their own, or that of a file.
    if let Some(what) = link.strip_prefix("anon_inode:") {
        return anonymous(what.trim_matches(['[', ']']));
    }
    if link.starts_with("pidfd:[") {
        return FileKind::PidFd(None);
    }
    let path = link.to_owned();
    if file_type == SFlag::S_IFREG {
        // `net:[4026531840]`: a file without a path.
        if path.starts_with('/') {
            FileKind::File(path)
        } else {
            FileKind::Other(path)
        }
    } else if file_type == SFlag::S_IFDIR {
        FileKind::Directory(path)
    } else if file_type == SFlag::S_IFIFO {
        if path.starts_with("pipe:[") {
            FileKind::Pipe
        } else {
            FileKind::Fifo(path)
        }
    } else if file_type == SFlag::S_IFCHR {
        /// Documentation/admin-guide/devices.txt: tty, console, pts, serial lines.
        const TERMINALS: [u64; 4] = [4, 5, 204, 229];
        if TERMINALS.contains(&rdev_major) || (136..=143).contains(&rdev_major) {
            FileKind::Terminal(path)
        } else {
            FileKind::Device(path)
        }
    } else if file_type == SFlag::S_IFBLK {
        FileKind::Device(path)
    } else {
        FileKind::Other(path)
    }
}

fn anonymous(what: &str) -> FileKind {
    match what {
        "eventfd" => FileKind::EventFd,
        "timerfd" => FileKind::TimerFd,
        "signalfd" => FileKind::SignalFd,
        "pidfd" => FileKind::PidFd(None),
        "inotify" | "fanotify" => FileKind::Notify,
        "eventpoll" => FileKind::Epoll,
        "io_uring" => FileKind::IoUring,
        other => FileKind::Other(other.to_owned()),
    }
}

/// Kinds that say all there is to say, so that a file's operations tell it.
pub(super) fn is_told_by_operations(kind: &FileKind) -> bool {
    matches!(
        kind,
        FileKind::EventFd
            | FileKind::TimerFd
            | FileKind::SignalFd
            | FileKind::Notify
            | FileKind::Epoll
            | FileKind::IoUring
    )
}

/// The kind of a file by the kernel's name of its operations.
pub(super) fn by_symbol(name: &str) -> Option<FileKind> {
    Some(match name {
        "eventfd_fops" => FileKind::EventFd,
        "timerfd_fops" => FileKind::TimerFd,
        "signalfd_fops" => FileKind::SignalFd,
        "inotify_fops" | "fanotify_fops" => FileKind::Notify,
        "eventpoll_fops" => FileKind::Epoll,
        "io_uring_fops" => FileKind::IoUring,
        _ => return None,
    })
}

/// The device that all pipes without a name are on.
pub(super) fn pipe_device() -> Option<u32> {
    let (end, _) = nix::unistd::pipe().ok()?;
    let status = fstat(&end).ok()?;
    Some(device(major(status.st_dev), minor(status.st_dev)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_told_by_type_and_link() {
        let path = |path: &str| path.to_owned();
        let (reg, dir, fifo) = (SFlag::S_IFREG, SFlag::S_IFDIR, SFlag::S_IFIFO);
        let chr = SFlag::S_IFCHR;
        let none = SFlag::empty();
        for (file_type, rdev, link, expected) in [
            (reg, 0, "/a b\nc", FileKind::File(path("/a b\nc"))),
            (
                reg,
                0,
                "/tmp/x (deleted)",
                FileKind::File(path("/tmp/x (deleted)")),
            ),
            (
                reg,
                0,
                "/memfd:m (deleted)",
                FileKind::File(path("/memfd:m (deleted)")),
            ),
            (
                reg,
                0,
                "net:[4026531840]",
                FileKind::Other(path("net:[4026531840]")),
            ),
            (dir, 0, "/", FileKind::Directory(path("/"))),
            (fifo, 0, "pipe:[8]", FileKind::Pipe),
            (fifo, 0, "/tmp/f", FileKind::Fifo(path("/tmp/f"))),
            (
                chr,
                136,
                "/dev/pts/0",
                FileKind::Terminal(path("/dev/pts/0")),
            ),
            (chr, 5, "/dev/tty", FileKind::Terminal(path("/dev/tty"))),
            (chr, 1, "/dev/null", FileKind::Device(path("/dev/null"))),
            (
                SFlag::S_IFBLK,
                8,
                "/dev/sda",
                FileKind::Device(path("/dev/sda")),
            ),
            (none, 0, "anon_inode:[eventfd]", FileKind::EventFd),
            (none, 0, "anon_inode:[timerfd]", FileKind::TimerFd),
            (none, 0, "anon_inode:[signalfd]", FileKind::SignalFd),
            (none, 0, "anon_inode:[eventpoll]", FileKind::Epoll),
            (none, 0, "anon_inode:inotify", FileKind::Notify),
            (none, 0, "anon_inode:[fanotify]", FileKind::Notify),
            (none, 0, "anon_inode:[io_uring]", FileKind::IoUring),
            (none, 0, "anon_inode:[pidfd]", FileKind::PidFd(None)),
            // Linux 6.9 and newer: inodes of their own, of a file's type.
            (reg, 0, "pidfd:[77]", FileKind::PidFd(None)),
            (reg, 0, "anon_inode:[pidfd]", FileKind::PidFd(None)),
            (
                none,
                0,
                "anon_inode:bpf-map",
                FileKind::Other(path("bpf-map")),
            ),
        ] {
            assert_eq!(kind(file_type, rdev, link), expected, "{link}");
        }
    }

    #[test]
    fn the_mount_table_tells_the_kernels_device() {
        let table = "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
                     99 27 0:44 /a /mnt/with\\040blank rw shared:1 master:2 - overlay overlay rw\n";
        assert_eq!(device_of_mount(table, 99), Some(44));
        assert_eq!(device_of_mount(table, 27), Some(254 << 20));
        assert_eq!(device_of_mount(table, 1), None);
    }
}
