//! The file of a recording that nobody asked to keep.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Seek as _},
    os::{fd::AsRawFd as _, unix::ffi::OsStringExt as _},
    path::PathBuf,
};

use anyhow::{Context as _, Result};
use forktrace_process::{
    child::{Answer, with_rights_of},
    launch::{Account, Accounts},
};
use rustix::fs::{AtFlags, CWD};

use super::spill;

/// A file without a name, which is gone when we are, however we end. It belongs to the user
/// for whom it is: later there is no right to give it away.
pub(super) fn create(accounts: &Accounts) -> Result<File> {
    let folder = std::env::temp_dir();
    let file = spill::unnamed().with_context(|| {
        format!(
            "no temporary file for the trace in {}; set TMPDIR, or use --save FILE",
            folder.display()
        )
    })?;
    if let Some(owner) = owner(accounts) {
        let (uid, gid) = (owner.uid.as_raw(), owner.gid.as_raw());
        // Without, it gets a copy of theirs if it is to be kept.
        let _ = std::os::unix::fs::fchown(&file, Some(uid), Some(gid));
    }
    Ok(file)
}

fn owner(accounts: &Accounts) -> Option<&Account> {
    accounts.caller.as_ref().or(accounts.owner())
}

/// Gives it a name after all, because what it holds could not be shown, with the rights of
/// the user for whom it is.
pub(super) fn keep(file: &File, accounts: &Accounts) -> Result<PathBuf> {
    let named = with_rights_of(owner(accounts), || {
        let folder = std::env::temp_dir();
        let path = folder.join(format!("forktrace-{}.ft", std::process::id()));
        let itself = format!("/proc/self/fd/{}", file.as_raw_fd());
        let follow = AtFlags::SYMLINK_FOLLOW;
        let path = match rustix::fs::linkat(CWD, itself, CWD, &path, follow) {
            Ok(()) => path,
            // One whose name is gone gets none again.
            Err(_) => copy(file)?,
        };
        Ok(Answer {
            bytes: path.into_os_string().into_vec(),
            ..Answer::default()
        })
    })?;
    Ok(OsString::from_vec(named.bytes).into())
}

fn copy(mut from: &File) -> io::Result<PathBuf> {
    let mut builder = tempfile::Builder::new();
    let mut to = builder.prefix("forktrace-").suffix(".ft").tempfile()?;
    from.rewind()?;
    io::copy(&mut from, &mut to)?;
    Ok(to.keep()?.1)
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write as _};

    use super::*;

    #[test]
    fn what_had_no_name_gets_one() {
        let mut file = create(&Accounts::default()).expect("a file");
        file.write_all(b"all").expect("written");
        let path = keep(&file, &Accounts::default()).expect("kept");
        assert_eq!(fs::read(&path).expect("there"), b"all");
        fs::remove_file(&path).expect("removed");
        // And where the file system can't.
        let path = copy(&file).expect("copied");
        assert_eq!(fs::read(&path).expect("there"), b"all");
        fs::remove_file(&path).expect("removed");
    }
}
