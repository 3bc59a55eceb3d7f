//! The paths that calls are given, and the mounts that these are in: from the caller's
//! memory and mount table. No path is followed, since what it leads to may not answer.

use std::{fs, path::Path};

use super::world::Member;
use crate::procfs::{self, Call, mounts::mounts, text};

/// A longer path is refused by the kernel (`PATH_MAX`).
const LONGEST: usize = 4096;

/// Which of its arguments a call takes the path from.
pub(super) fn argument(name: &str) -> Option<usize> {
    Some(match name {
        "open" | "creat" | "stat" | "lstat" | "access" | "execve" | "truncate" | "chdir"
        | "mkdir" | "rmdir" | "unlink" | "rename" | "link" | "chmod" | "chown" | "lchown"
        | "readlink" | "statfs" | "utime" | "utimes" | "mknod" | "symlink" => 0,
        "openat" | "openat2" | "newfstatat" | "statx" | "faccessat" | "faccessat2" | "execveat"
        | "mkdirat" | "unlinkat" | "renameat" | "renameat2" | "linkat" | "fchmodat"
        | "fchownat" | "readlinkat" | "utimensat" | "mknodat" => 1,
        _ => return None,
    })
}

/// The absolute path that a call was given.
pub(super) fn path(member: &Member, call: &Call, position: usize) -> Option<String> {
    let given = procfs::read_text(member.tgid, call.arguments[position], LONGEST)?;
    if given.starts_with('/') {
        return Some(given);
    }
    let folder = match position
        .checked_sub(1)
        .map(|at| call.arguments[at] as u32 as i32)
    {
        Some(fd) if fd >= 0 => format!("fd/{fd}"),
        _ => "cwd".to_owned(),
    };
    let folder = fs::read_link(format!("/proc/{}/{folder}", member.tgid)).ok()?;
    if given.is_empty() {
        return Some(folder.to_string_lossy().into_owned());
    }
    Some(folder.join(given).to_string_lossy().into_owned())
}

/// A mounted file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    number: u64,
    /// As the kernel has it: `major << 20 | minor`.
    pub(super) device: u32,
    place: String,
    pub(super) is_fuse: bool,
}

/// The mount table of a process.
pub(super) struct Mounts(Vec<Mount>);

impl Mounts {
    pub(super) fn of(tgid: u32) -> Option<Self> {
        let text = text::read(format!("/proc/{tgid}/mountinfo")).ok()?;
        Some(Self::parse(&text))
    }

    fn parse(mountinfo: &str) -> Self {
        let mounts = mounts(mountinfo).map(|mount| Mount {
            number: mount.number,
            device: mount.device,
            is_fuse: mount.kind == "fuse"
                || mount.kind.starts_with("fuse.")
                || mount.kind == "fuseblk",
            place: mount.place,
        });
        Self(mounts.collect())
    }

    pub(super) fn of_number(&self, number: u64) -> Option<&Mount> {
        self.0.iter().find(|mount| mount.number == number)
    }

    /// The mount that a path leads into, unless by a symbolic link.
    pub(super) fn of_path(&self, path: &str) -> Option<&Mount> {
        let inside = |mount: &&Mount| Path::new(path).starts_with(&mount.place);
        // The last of those that cover each other.
        let inside = self.0.iter().filter(inside);
        inside.max_by_key(|mount| mount.place.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
99 27 0:44 / /tmp/a\\040b rw shared:1 - fuse.onefile onefile rw
100 27 0:45 / /tmp/a\\040b/c rw - tmpfs none rw
odd
";

    #[test]
    fn a_path_is_in_the_innermost_mount() {
        let mounts = Mounts::parse(TABLE);
        let of = |path| {
            mounts
                .of_path(path)
                .map(|mount| (mount.number, mount.is_fuse))
        };
        assert_eq!(of("/tmp/a b/tool"), Some((99, true)));
        assert_eq!(of("/tmp/a bc"), Some((27, false)));
        assert_eq!(of("/tmp/a b/c/x"), Some((100, false)));
        assert_eq!(mounts.of_number(99).map(|mount| mount.device), Some(44));
    }
}
