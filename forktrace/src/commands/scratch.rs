//! The file of a recording that nobody asked to keep.

use std::{fs::File, io, os::fd::AsRawFd as _, path::PathBuf};

use anyhow::{Context as _, Result};
use forktrace_process::launch::Accounts;
use rustix::fs::{AtFlags, CWD, Mode, OFlags};

/// A file without a name, which is gone when we are, however we end.
pub(super) fn create() -> Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR;
    let folder = std::env::temp_dir();
    let file = match rustix::fs::open(&folder, flags, mode) {
        Ok(file) => Ok(File::from(file)),
        // Some file systems have none that never had a name.
        Err(_) => tempfile::tempfile(),
    };
    file.with_context(|| {
        format!(
            "no temporary file for the trace in {}; set TMPDIR, or use --save FILE",
            folder.display()
        )
    })
}

/// Gives it a name after all, because what it holds could not be shown, and to the user
/// for whom it is.
pub(super) fn keep(file: &File, accounts: &Accounts) -> Result<PathBuf> {
    let folder = std::env::temp_dir();
    let path = folder.join(format!("forktrace-{}.ft", std::process::id()));
    let itself = format!("/proc/self/fd/{}", file.as_raw_fd());
    let follow = AtFlags::SYMLINK_FOLLOW;
    let (path, named) = match rustix::fs::linkat(CWD, &itself, CWD, &path, follow) {
        Ok(()) => (path, file.try_clone()?),
        // One whose name is gone gets none again.
        Err(_) => copy(&itself)?,
    };
    if let Some(owner) = accounts.caller.as_ref().or(accounts.owner()) {
        let (uid, gid) = (owner.uid.as_raw(), owner.gid.as_raw());
        std::os::unix::fs::fchown(&named, Some(uid), Some(gid))?;
    }
    Ok(path)
}

fn copy(from: &str) -> Result<(PathBuf, File)> {
    let mut builder = tempfile::Builder::new();
    let mut to = builder.prefix("forktrace-").suffix(".ft").tempfile()?;
    io::copy(&mut File::open(from)?, &mut to)?;
    let (file, path) = to.keep()?;
    Ok((path, file))
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write as _};

    use super::*;

    #[test]
    fn what_had_no_name_gets_one() {
        let mut file = create().expect("a file");
        file.write_all(b"all").expect("written");
        let path = keep(&file, &Accounts::default()).expect("kept");
        assert_eq!(fs::read(&path).expect("there"), b"all");
        fs::remove_file(&path).expect("removed");
        // And where the file system can't.
        let (path, _) = copy(&format!("/proc/self/fd/{}", file.as_raw_fd())).expect("copied");
        assert_eq!(fs::read(&path).expect("there"), b"all");
        fs::remove_file(&path).expect("removed");
    }
}
