//! Where a path leads, and what is there: opened so that no link of somebody else's is
//! followed and nothing waits. These run with the rights of whoever called.

use std::{
    collections::VecDeque,
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Read as _},
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::{OsStrExt as _, OsStringExt as _},
    },
    path::{Component, Path},
};

use forktrace_core::trace_file;
use rustix::{
    fs::{CWD, FileType, Mode, OFlags},
    io::Errno,
};

/// As many links in one path as the kernel follows.
const MOST_LINKS: usize = 40;

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::commands) enum Use {
    /// A report: written from its begin to its end, also into pipes and devices.
    Report,
    /// The same, which nobody asked for by its name: it is as private as a trace.
    Private,
    /// A trace: a regular file that is read back.
    Trace,
}
/// A path that only names a descriptor that our caller opened: it is taken as it is.
/// Opening it again would ask for rights that the caller need not have.
pub(super) fn inherited(path: &Path) -> Option<io::Result<File>> {
    let number = match path.to_str()? {
        "/dev/stdin" => 0,
        "/dev/stdout" => 1,
        "/dev/stderr" => 2,
        other => {
            let rest = other.strip_prefix("/dev/fd/");
            let rest = rest.or_else(|| other.strip_prefix("/proc/self/fd/"))?;
            rest.parse::<i32>().ok().filter(|number| *number >= 0)?
        }
    };
    Some(duplicate(number))
}

fn duplicate(number: i32) -> io::Result<File> {
    // SAFETY: it is only borrowed for the call, which says so if it is not open.
    #[expect(unsafe_code, reason = "the number is all that our caller gave us")]
    let given = unsafe { std::os::fd::BorrowedFd::borrow_raw(number) };
    // One that our caller passed on stayed open over the exec; ours would not.
    if rustix::io::fcntl_getfd(given)?.contains(rustix::io::FdFlags::CLOEXEC) {
        return Err(Errno::BADF.into());
    }
    let file = File::from(given.try_clone_to_owned()?);
    let flags = rustix::fs::fcntl_getfl(&file)?;
    if flags & OFlags::RWMODE == OFlags::RDONLY {
        return Err(Errno::BADF.into());
    }
    Ok(file)
}

/// The folder that a path leads to, and the name in it. Follows links of root and of
/// `user` only.
pub(super) fn place(path: &Path, user: u32) -> io::Result<(OwnedFd, OsString)> {
    let folder_flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let at = |name: &str| rustix::fs::openat(CWD, name, folder_flags, Mode::empty());
    if path.as_os_str().as_bytes().ends_with(b"/") {
        return Err(Errno::ISDIR.into());
    }
    let mut folder = at(".")?;
    let mut rest: VecDeque<OsString> = parts(path);
    let mut links = 0;
    while let Some(part) = rest.pop_front() {
        if part == "/" {
            folder = at("/")?;
            continue;
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let found = match rustix::fs::openat(&folder, &part, flags, Mode::empty()) {
            Err(Errno::NOENT) if rest.is_empty() => return Ok((folder, part)),
            found => found?,
        };
        let about = rustix::fs::fstat(&found)?;
        match FileType::from_raw_mode(about.st_mode) {
            FileType::Symlink => {
                if about.st_uid != 0 && about.st_uid != user {
                    return Err(io::Error::other(format!(
                        "{} is a link that belongs to the user with the id {}, and is not \
                         followed; give the path that it leads to",
                        part.display(),
                        about.st_uid
                    )));
                }
                links += 1;
                if links > MOST_LINKS {
                    return Err(Errno::LOOP.into());
                }
                let target = rustix::fs::readlinkat(&found, "", Vec::new())?;
                let target = OsString::from_vec(target.into_bytes());
                for part in parts(Path::new(&target)).into_iter().rev() {
                    rest.push_front(part);
                }
            }
            FileType::Directory if rest.is_empty() => return Err(Errno::ISDIR.into()),
            _ if rest.is_empty() => return Ok((folder, part)),
            _ => {
                let dot = rustix::fs::openat(&found, ".", folder_flags, Mode::empty());
                folder = dot?;
            }
        }
    }
    Err(Errno::ISDIR.into())
}

fn parts(path: &Path) -> VecDeque<OsString> {
    let name = |part: Component<'_>| match part {
        Component::RootDir => OsString::from("/"),
        part => part.as_os_str().to_owned(),
    };
    path.components().map(name).collect()
}

pub(super) fn create_at(folder: &OwnedFd, name: &OsStr, mode: Mode) -> Result<OwnedFd, Errno> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(folder, name, flags | OFlags::RDWR, mode)
}

/// Creates a file, or opens the one that is there; true: created.
pub(super) fn open_at(folder: &OwnedFd, name: &OsStr, wanted: Use) -> io::Result<(OwnedFd, bool)> {
    let mode = match wanted {
        Use::Report => 0o666,
        // What a workload is called with, and says, is nobody else's business.
        Use::Private | Use::Trace => 0o600,
    };
    loop {
        match create_at(folder, name, Mode::from_raw_mode(mode)) {
            Ok(file) => return Ok((file, true)),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        // Not for reading: in a pipe we would be a reader of our own. A pipe without a
        // reader is an error, and not a reason to wait.
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(folder, name, flags, Mode::empty()) {
            Ok(file) => {
                let flags = rustix::fs::fcntl_getfl(&file)?;
                rustix::fs::fcntl_setfl(&file, flags - OFlags::NONBLOCK)?;
                return Ok((file, false));
            }
            // Gone again.
            Err(Errno::NOENT) => {}
            Err(Errno::NXIO) => {
                return Err(io::Error::other(
                    "it is a pipe that nobody reads; start its reader first",
                ));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// What a file holds: nothing, or it is no regular one.
const NOTHING: u8 = 0;
pub(super) const TRACE: u8 = 1;
/// Something else, or it may not be read.
pub(super) const OTHER: u8 = 2;

pub(super) fn holds(folder: &OwnedFd, name: &OsStr, opened: &OwnedFd) -> io::Result<u8> {
    let about = rustix::fs::fstat(opened)?;
    if FileType::from_raw_mode(about.st_mode) != FileType::RegularFile || about.st_size == 0 {
        return Ok(NOTHING);
    }
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut start = Vec::new();
    if let Ok(file) = rustix::fs::openat(folder, name, flags, Mode::empty())
        && same(&file, opened)?
    {
        File::from(file).take(16).read_to_end(&mut start)?;
    }
    Ok(if trace_file::is_trace(&start) {
        TRACE
    } else {
        OTHER
    })
}

/// Are they the same file?
pub(in crate::commands) fn same(one: impl AsFd, other: impl AsFd) -> io::Result<bool> {
    let (one, other) = (rustix::fs::fstat(one)?, rustix::fs::fstat(other)?);
    let id = |it: &rustix::fs::Stat| (it.st_dev, it.st_ino);
    Ok(id(&one) == id(&other))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, symlink};

    use super::*;

    fn name_of(path: &Path, user: u32) -> io::Result<OsString> {
        place(path, user).map(|(_, name)| name)
    }

    #[test]
    fn a_path_leads_to_a_folder_and_a_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let ours = rustix::process::geteuid().as_raw();
        let file = folder.path().join("file");
        assert_eq!(name_of(&file, ours).expect("a place"), "file");
        symlink("file", folder.path().join("link")).expect("a link");
        symlink(folder.path(), folder.path().join("here")).expect("a link");
        // `..` is of the folder that the link leads to, as for the kernel.
        std::fs::create_dir_all(folder.path().join("deep/inner")).expect("a folder");
        symlink("deep/inner", folder.path().join("inner")).expect("a link");
        let (found, name) = place(&folder.path().join("inner/../new"), ours).expect("a place");
        let deep = std::fs::metadata(folder.path().join("deep")).expect("it");
        assert_eq!(rustix::fs::fstat(&found).expect("it").st_ino, deep.ino());
        assert_eq!(name, "new");
        let name = name_of(&folder.path().join("here/link"), ours);
        assert_eq!(name.expect("a place"), "file");
        symlink("loop", folder.path().join("loop")).expect("a link");
        let error = name_of(&folder.path().join("loop"), ours).expect_err("a circle");
        assert_eq!(error.raw_os_error(), Some(libc_eloop()));
        for bad in ["", "/", ".", "x/"] {
            assert!(name_of(&folder.path().join(bad).join(""), ours).is_err());
        }
    }

    fn libc_eloop() -> i32 {
        Errno::LOOP.raw_os_error()
    }

    #[test]
    fn links_of_others_are_not_followed() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let link = folder.path().join("link");
        symlink("precious", &link).expect("a link");
        std::os::unix::fs::lchown(&link, Some(4242), Some(4242)).expect("root may");
        assert!(name_of(&link, 4242).is_ok(), "one's own");
        let error = name_of(&link, 4243).expect_err("another's");
        assert!(error.to_string().contains("4242"), "{error}");
    }
}
