//! The files that we write.
//!
//! We may run as root for a user who called sudo, and a path can lead anywhere. So files
//! are opened with that user's rights, in a process that has given up ours: the kernel
//! decides what the user may. What is there keeps its owner, a link that belongs to
//! somebody else is not followed, and what a file held stays whole until there is
//! something whole to replace it.

mod paths;

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Seek as _, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{
            ffi::{OsStrExt as _, OsStringExt as _},
            fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
        },
    },
    path::Path,
};

use anyhow::{Context as _, Result, bail, ensure};
use forktrace_process::{
    child::{Answer, with_rights_of},
    launch::{Account, Accounts},
};
use rustix::{
    fs::{AtFlags, Mode, OFlags},
    io::Errno,
};

use self::paths::{OTHER, TRACE, create_at, holds, inherited, open_at, place};
pub(super) use self::paths::{Use, same};
/// As many files that were left by recordings that were killed can lie beside a trace.
const MOST_PARTIAL: usize = 100;

/// An open file, and where it lies.
#[derive(Debug)]
struct Place {
    folder: OwnedFd,
    name: OsString,
    file: File,
}

/// A file that is there, or that we created, for something that is still to come.
#[derive(Debug)]
pub(super) struct Target {
    path: String,
    accounts: Accounts,
    /// `None`: a descriptor that our caller opened.
    place: Option<Place>,
    /// That descriptor, or the file in its place.
    file: File,
    created: bool,
    /// What it is for has been written.
    written: bool,
}

impl Target {
    /// Opens or creates it. Nothing in it changes yet.
    ///
    /// # Errors
    /// When the user may not write it, it is a link of somebody else's, or it holds
    /// something that `force` alone may replace.
    pub(super) fn open(path: &Path, wanted: Use, accounts: &Accounts, force: bool) -> Result<Self> {
        let shown = path.display().to_string();
        let cant = || match &accounts.caller {
            Some(caller) => format!(
                "{shown} can't be written by {}, who called sudo (--as-root writes it as root)",
                caller.name
            ),
            None => format!("{shown} can't be written"),
        };
        if let Some(file) = inherited(path) {
            let file = file.with_context(cant)?;
            ensure!(
                wanted != Use::Trace,
                "{shown} is what forktrace was started with, and a trace needs a file of its own"
            );
            return Ok(Self {
                path: shown,
                accounts: accounts.clone(),
                place: None,
                file,
                created: false,
                written: false,
            });
        }
        let answer = with_rights_of(accounts.caller.as_ref(), || {
            let user = rustix::process::geteuid().as_raw();
            let (folder, name) = place(path, user)?;
            let (file, created) = open_at(&folder, &name, wanted)?;
            let held = if created {
                0
            } else {
                holds(&folder, &name, &file)?
            };
            let mut bytes = vec![u8::from(created), held];
            bytes.extend(name.into_vec());
            Ok(Answer {
                bytes,
                descriptors: vec![folder, file],
            })
        });
        let Answer { bytes, descriptors } = answer.with_context(cant)?;
        let ([created, held, name @ ..], Ok([folder, file])) =
            (&bytes[..], <[OwnedFd; 2]>::try_from(descriptors))
        else {
            bail!("{shown}: the process that opened it did not say what it found");
        };
        let target = Self {
            path: shown,
            accounts: accounts.clone(),
            place: Some(Place {
                folder,
                name: OsString::from_vec(name.to_vec()),
                file: File::from(file.try_clone()?),
            }),
            file: File::from(file),
            created: *created == 1,
            written: false,
        };
        target.check(wanted, *held, force)?;
        if target.created {
            target.give_away(&target.file)?;
        }
        Ok(target)
    }

    fn check(&self, wanted: Use, held: u8, force: bool) -> Result<()> {
        let Self { path, .. } = self;
        let kind = self.file.metadata().context("fstat")?.file_type();
        if kind.is_block_device() {
            bail!("{path} is a disk, and would be overwritten");
        }
        match wanted {
            Use::Trace if !kind.is_file() => {
                bail!("{path} is no regular file, and a trace is read back after it is written")
            }
            Use::Trace if held == OTHER && !force => bail!(
                "{path} exists and is no trace; --force overwrites it all the same, or choose \
                 another name"
            ),
            Use::Report | Use::Private if held == TRACE && !force => bail!(
                "{path} is a trace, and the report would overwrite it; --force does so all the \
                 same, or choose another name"
            ),
            _ => Ok(()),
        }
    }

    /// Another process has written it.
    pub(super) fn done(&mut self) {
        self.written = true;
    }

    /// Whether this is the same file as another.
    pub(super) fn is(&self, other: impl AsFd) -> bool {
        same(&self.file, other).unwrap_or(false)
    }

    /// A file that we created with our own rights belongs to the user for whom it is.
    fn give_away(&self, file: &File) -> Result<()> {
        let Some(owner) = self.accounts.owner() else {
            return Ok(());
        };
        let (uid, gid) = (owner.uid.as_raw(), owner.gid.as_raw());
        std::os::unix::fs::fchown(file, Some(uid), Some(gid))
            .with_context(|| format!("{} can't be given to {}", self.path, owner.name))
    }

    /// Writes all of it: what was there before goes when all is there.
    ///
    /// # Errors
    /// When not all can be written. What was there before is then still there, unless
    /// it could only be overwritten where it is.
    pub(super) fn write(
        &mut self,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<()> {
        let whole = self.write_whole(write);
        whole.with_context(|| format!("the report can't be written to {}", self.path))?;
        self.written = true;
        Ok(())
    }

    fn write_whole(&mut self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
        let metadata = self.file.metadata()?;
        let Some(place) = self.place.as_ref().filter(|_| metadata.is_file()) else {
            write(&mut self.file)?;
            return Ok(());
        };
        // So nothing under its name is ever a part of what it should be.
        if self.created || self.can_be_replaced(&metadata) {
            // Where there can be none beside it, for example for lack of rights, it is
            // overwritten.
            if let Ok(partial) = self.beside(place, metadata.permissions().mode()) {
                let mut file = &partial.file;
                let written = write(&mut file).map_err(anyhow::Error::from);
                let done = written.and_then(|()| self.replace(place, &partial));
                done.inspect_err(|_| self.remove(&partial))?;
                // It is ours from now on.
                self.file = partial.file;
                self.created = true;
                return Ok(());
            }
        }
        self.file.set_len(0)?;
        self.file.rewind()?;
        write(&mut self.file)?;
        Ok(())
    }

    /// The file that is there, or will be.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// May another file come in its place? Not if that changed whose it is, or if it
    /// has other names.
    fn can_be_replaced(&self, metadata: &std::fs::Metadata) -> bool {
        let user = match (&self.accounts.caller, self.accounts.owner()) {
            (Some(account), _) | (None, Some(account)) => account.uid.as_raw(),
            (None, None) => rustix::process::geteuid().as_raw(),
        };
        metadata.uid() == user && metadata.nlink() == 1
    }

    /// A new file beside it.
    fn beside(&self, place: &Place, mode: u32) -> Result<Place> {
        let answer = with_rights_of(self.accounts.caller.as_ref(), || {
            for number in 1..=MOST_PARTIAL {
                let mut name = place.name.clone();
                name.push(".partial");
                if number > 1 {
                    name.push(format!(".{number}"));
                }
                match create_at(&place.folder, &name, Mode::from_raw_mode(mode & 0o777)) {
                    Ok(file) => {
                        return Ok(Answer {
                            bytes: name.into_vec(),
                            descriptors: vec![file],
                        });
                    }
                    Err(Errno::EXIST) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Err(Errno::EXIST.into())
        });
        let mut answer = answer.with_context(|| format!("{}.partial can't be made", self.path))?;
        let file = answer.descriptors.pop().context("it was not handed over")?;
        let partial = Place {
            folder: place.folder.try_clone()?,
            name: OsString::from_vec(answer.bytes),
            file: File::from(file),
        };
        // The right for it is gone once the workload has begun.
        self.give_away(&partial.file)
            .inspect_err(|_| self.remove(&partial))?;
        Ok(partial)
    }

    /// Lets one that lies beside it take its place.
    fn replace(&self, place: &Place, partial: &Place) -> Result<()> {
        self.in_folder(place, || {
            rustix::fs::renameat(&partial.folder, &partial.name, &place.folder, &place.name)?;
            Ok(Answer::default())
        })?;
        Ok(())
    }

    /// Changes a folder with the rights of the user who called. Without one it is done with
    /// our own, or with those of whom the folder belongs to: once the workload has begun,
    /// root has no rights over the folders of others.
    fn in_folder(
        &self,
        place: &Place,
        change: impl Fn() -> io::Result<Answer>,
    ) -> io::Result<Answer> {
        if self.accounts.caller.is_some() {
            return with_rights_of(self.accounts.caller.as_ref(), change);
        }
        match change() {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                let about = rustix::fs::fstat(&place.folder)?;
                let owner = Account::without_name(about.st_uid, about.st_gid);
                with_rights_of(Some(&owner), change)
            }
            changed => changed,
        }
    }

    /// Takes a file away that we created, if it is still there.
    fn remove(&self, place: &Place) {
        // Else nothing is to be removed, or nothing can be done about it.
        let _ = self.in_folder(place, || {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let there = rustix::fs::openat(&place.folder, &place.name, flags, Mode::empty())?;
            if same(&there, &place.file)? {
                rustix::fs::unlinkat(&place.folder, &place.name, AtFlags::empty())?;
            }
            Ok(Answer::default())
        });
    }
}

impl Drop for Target {
    /// Leaves no empty file behind.
    fn drop(&mut self) {
        if self.created
            && !self.written
            && let Some(place) = &self.place
        {
            self.remove(place);
        }
    }
}

/// The file that a trace is recorded into.
///
/// A file that does not exist yet gets its name at once. One that does stays as it is
/// until the recording has ended; until then all is in `FILE.partial` beside it.
pub(super) struct TraceFile {
    target: Target,
    partial: Option<Place>,
    /// There is something worth keeping.
    begun: bool,
}

impl TraceFile {
    /// Opens it.
    ///
    /// # Errors
    /// As [`Target::open`].
    pub(super) fn open(path: &Path, accounts: &Accounts, force: bool) -> Result<Self> {
        let target = Target::open(path, Use::Trace, accounts, force)?;
        let partial = match &target.place {
            Some(place) if !target.created => Some(target.beside(place, 0o600)?),
            _ => None,
        };
        Ok(Self {
            target,
            partial,
            begun: false,
        })
    }

    /// What is recorded into.
    pub(super) fn file(&self) -> &File {
        self.partial
            .as_ref()
            .map_or(&self.target.file, |partial| &partial.file)
    }

    /// The file that is there, or will be.
    pub(super) fn target(&self) -> &File {
        &self.target.file
    }

    /// Where all is until the end.
    pub(super) fn name(&self) -> String {
        match (&self.partial, &self.target.place) {
            (Some(partial), Some(place)) => {
                let end = partial.name.as_bytes().strip_prefix(place.name.as_bytes());
                let end = String::from_utf8_lossy(end.unwrap_or_default());
                format!("{}{end}", self.target.path)
            }
            _ => self.target.path.clone(),
        }
    }

    /// The recording has begun: from now on, what there is is worth keeping.
    pub(super) fn begin(&mut self) {
        self.begun = true;
        self.target.written = true;
    }

    /// The recording has ended: it gets its name.
    ///
    /// # Errors
    /// When that is impossible, with where it is.
    pub(super) fn finish(&mut self) -> Result<()> {
        let Some(partial) = &self.partial else {
            return Ok(());
        };
        let done = self.take_place(partial);
        done.with_context(|| {
            let (name, path) = (self.name(), &self.target.path);
            format!("{path} can't be replaced; the trace is in {name}")
        })?;
        self.partial = None;
        Ok(())
    }

    fn take_place(&self, partial: &Place) -> Result<()> {
        let Some(place) = &self.target.place else {
            return Ok(());
        };
        if self.target.can_be_replaced(&self.target.file.metadata()?) {
            return self.target.replace(place, partial);
        }
        let (mut from, mut to) = (&partial.file, &self.target.file);
        from.rewind()?;
        to.set_len(0)?;
        to.rewind()?;
        io::copy(&mut from, &mut to)?;
        self.target.remove(partial);
        Ok(())
    }
}

impl Drop for TraceFile {
    /// Without a recording all is as it was.
    fn drop(&mut self) {
        if !self.begun
            && let Some(partial) = &self.partial
        {
            self.target.remove(partial);
        }
    }
}

/// Makes a folder and those above it, as the user would.
///
/// # Errors
/// When that is impossible.
pub(super) fn make_folder(path: &Path, accounts: &Accounts) -> Result<()> {
    let made = with_rights_of(accounts.caller.as_ref(), || {
        std::fs::create_dir_all(path)?;
        Ok(Answer::default())
    });
    made.with_context(|| format!("{} can't be made", path.display()))?;
    Ok(())
}
