//! The folder that tables are in: many traces of many hosts, each a file in each table.
//!
//! A trace's files are written into a folder of their own, whose name no engine looks at, and
//! go to their places when all of them are whole, that of the table `audit` last: a trace
//! counts once it is there. Their names are the trace's, so that it is there once however
//! often it is exported.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use forktrace_export::{
    Source,
    tables::{self, Part, Table},
    trace_id,
};
use rustix::fs::FlockOperation;

/// How the name of a folder begins in which a trace is written.
const UNDER_WAY: &str = ".forktrace-";

/// A folder of tables.
pub(in crate::commands) struct Tables {
    folder: PathBuf,
}

/// What became of a trace.
pub(in crate::commands) struct Exported {
    pub(in crate::commands) host: String,
    pub(in crate::commands) stretches: u64,
    /// Of all its files.
    pub(in crate::commands) bytes: u64,
    /// What should be known, for people.
    pub(in crate::commands) notes: Vec<String>,
}

impl Tables {
    /// Makes the folder, or takes the one that is there, and removes what an export left that
    /// was killed.
    ///
    /// # Errors
    /// When it can't be made or read, or holds other files and `force` is not given.
    pub(in crate::commands) fn open(folder: &Path, force: bool) -> Result<Self> {
        let shown = folder.display();
        fs::create_dir_all(folder).with_context(|| format!("{shown} can't be made"))?;
        let entries = fs::read_dir(folder).and_then(Iterator::collect);
        let entries: Vec<fs::DirEntry> =
            entries.with_context(|| format!("{shown} can't be read"))?;
        let names: BTreeSet<OsString> = entries.iter().map(fs::DirEntry::file_name).collect();
        let is_ours = |name: &OsString| {
            let name = name.to_string_lossy();
            name.starts_with(UNDER_WAY) || Table::ALL.iter().any(|table| table.name() == name)
        };
        if let Some(other) = names.iter().find(|name| !is_ours(name))
            && !names.iter().any(is_ours)
            && !force
        {
            bail!(
                "{shown} holds other files, such as {}; name a folder of its own, or give --force",
                other.display()
            );
        }
        for left in names
            .iter()
            .filter(|it| it.to_string_lossy().starts_with(UNDER_WAY))
        {
            remove_unless_in_use(&folder.join(left));
        }
        Ok(Self {
            folder: folder.to_owned(),
        })
    }

    /// One that was opened before.
    pub(in crate::commands) fn in_use(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    /// Writes a trace. `host` replaces the name that the trace has.
    ///
    /// # Errors
    /// When a file can't be written. Nothing of the trace is there then that was not before.
    pub(in crate::commands) fn write(
        &self,
        source: &Source<'_>,
        host: Option<&str>,
    ) -> io::Result<Exported> {
        let machine = source.info.header.machine.clone().unwrap_or_default();
        let host = in_path(host.unwrap_or(&machine.host));
        let of_machine = machine.id.get(..8).unwrap_or("unknown");
        let file = format!("{of_machine}-{}.parquet", trace_id(source));
        let at = |part: &Part| -> PathBuf {
            let day = format!("day={}", part.day);
            let host = format!("host={host}");
            Path::new(part.table.name()).join(day).join(host)
        };
        let under_way = UnderWay::begin(&self.folder, &file)?;
        let mut parts = Vec::new();
        let written = tables::write(source, &mut |part| {
            let place = at(part);
            fs::create_dir_all(under_way.folder.join(&place))?;
            let place = place.join(&file);
            let to = File::create_new(under_way.folder.join(&place))?;
            parts.push((part.table, place));
            Ok(Box::new(BufWriter::new(Durable(to))))
        })?;
        let mut bytes = 0;
        // `audit` is the last of the tables.
        parts.sort();
        for (_, place) in &parts {
            let from = under_way.folder.join(place);
            bytes += fs::metadata(&from)?.len();
            let to = self.folder.join(place);
            if let Some(above) = to.parent() {
                fs::create_dir_all(above)?;
            }
            fs::rename(from, &to)?;
        }
        let audit = parts.last().map(|(_, place)| self.folder.join(place));
        let notes = audit.and_then(|audit| of_another_machine(audit.parent()?, of_machine));
        Ok(Exported {
            host,
            stretches: written.get(&Table::Stretches).copied().unwrap_or_default(),
            bytes,
            notes: notes.into_iter().collect(),
        })
    }
}

/// A file whose end reaches the disk before its name does.
struct Durable(File);

impl Write for Durable {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    /// It is called once, when all is written.
    fn flush(&mut self) -> io::Result<()> {
        self.0.sync_all()
    }
}

/// The folder that a trace is written in. It is removed with all that is still in it.
struct UnderWay {
    folder: PathBuf,
    /// Locked as long as we live.
    _lock: File,
}

impl UnderWay {
    fn begin(tables: &Path, file: &str) -> io::Result<Self> {
        let folder = tables.join(format!("{UNDER_WAY}{file}"));
        fs::create_dir(&folder).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => {
                io::Error::other("another forktrace exports the same trace there just now")
            }
            _ => error,
        })?;
        let lock = File::open(&folder)?;
        rustix::fs::flock(&lock, FlockOperation::LockExclusive)?;
        Ok(Self {
            folder,
            _lock: lock,
        })
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        // What can't be removed is removed by the next export.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Who wrote it was killed if nobody holds its lock.
fn remove_unless_in_use(folder: &Path) {
    let free = File::open(folder)
        .is_ok_and(|it| rustix::fs::flock(&it, FlockOperation::NonBlockingLockExclusive).is_ok());
    if free {
        // Else it stays, and does no harm.
        let _ = fs::remove_dir_all(folder);
    }
}

/// Another machine whose traces are under the same name, on the same day.
fn of_another_machine(folder: &Path, machine: &str) -> Option<String> {
    let others = fs::read_dir(folder).ok()?.flatten().filter_map(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        let (other, _) = name.split_once('-')?;
        (other != machine).then(|| other.to_owned())
    });
    let other = others.min()?;
    Some(format!(
        "{} holds traces of two machines, with ids that begin with {machine} and {other}; \
         --host tells hosts of one name apart",
        folder.display()
    ))
}

/// A host's name as a part of a path that engines read it from. Not all of them undo what
/// stands for other characters in a URL, so that what no host's name has is left out.
fn in_path(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let name: String = name
        .chars()
        .map(|c| if plain(c) { c } else { '_' })
        .collect();
    if name.is_empty() {
        "unknown".to_owned()
    } else {
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_can_be_in_a_path() {
        assert_eq!(in_path("web-3.example.org"), "web-3.example.org");
        assert_eq!(in_path("../x=ä"), ".._x__");
        assert_eq!(in_path(""), "unknown");
    }

    #[test]
    fn a_folder_of_others_is_not_ours() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("letter.txt"), "dear").expect("a file");
        let error = Tables::open(folder.path(), false).err().expect("not ours");
        assert!(error.to_string().contains("letter.txt"), "{error}");
        assert!(Tables::open(folder.path(), true).is_ok());
        // Once there are tables in it, it is.
        fs::create_dir(folder.path().join("audit")).expect("a table");
        assert!(Tables::open(folder.path(), false).is_ok());
    }

    #[test]
    fn what_a_killed_export_left_is_removed_and_what_a_living_one_writes_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let left = folder.path().join(".forktrace-0-1.parquet");
        fs::create_dir(&left).expect("a folder");
        fs::write(left.join("half"), "PAR1").expect("a file");
        let living = UnderWay::begin(folder.path(), "0-2.parquet").expect("begun");
        Tables::open(folder.path(), false).expect("tables");
        assert!(!left.exists());
        assert!(living.folder.exists());
        let again = UnderWay::begin(folder.path(), "0-2.parquet");
        assert!(again.is_err(), "two at once");
        let of_living = living.folder.clone();
        drop(living);
        assert!(!of_living.exists());
    }
}
