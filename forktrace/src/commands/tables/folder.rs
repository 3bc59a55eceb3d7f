//! The folder that tables are in: many traces of many hosts, each a file in each table.
//!
//! A trace's files are written into a folder of their own, whose name no engine looks at. When all
//! of them are whole, that is noted there, and they go to their places, that of the table `audit`
//! last: a trace counts once it is there. What was under way when somebody was killed is done by
//! the next one, if it was whole, and else removed. Names of files are the trace's, so that it is
//! there once however often it is exported.

use std::{
    borrow::Borrow,
    collections::BTreeSet,
    ffi::OsString,
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use forktrace_core::report::Report;
use forktrace_export::{
    Recording,
    tables::{self, Part, Table},
    trace_id,
};
use rustix::fs::FlockOperation;

/// How the name of a folder begins in which a trace is written.
const UNDER_WAY: &str = ".forktrace-";
/// The file there that says that all the others are whole.
const WHOLE: &str = "whole";

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
    /// Makes the folder, or takes the one that is there, and settles what an export left that was
    /// killed.
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
            settle(&folder.join(left), folder);
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

    /// Writes a trace, and its report, which is made meanwhile if it takes making. `host` replaces
    /// the name that the trace has; `sound` is asked at the end whether all was read that was
    /// written.
    ///
    /// # Errors
    /// When a file can't be written, or that of `sound`. Nothing of the trace is there then that
    /// was not before.
    pub(in crate::commands) fn write<R: Borrow<Report> + Send>(
        &self,
        recording: Recording<'_>,
        report: impl FnOnce() -> R + Send,
        (host, sound): (Option<&str>, &dyn Fn() -> Result<()>),
    ) -> io::Result<Exported> {
        let info = recording.info;
        let machine = info.header.machine.clone().unwrap_or_default();
        let host = in_path(host.unwrap_or(&machine.host));
        let of_machine = machine.id.get(..8).unwrap_or("unknown");
        let file = format!("{of_machine}-{}.parquet", trace_id(info));
        let at = |part: &Part| -> PathBuf {
            let day = format!("day={}", part.day);
            let host = format!("host={host}");
            Path::new(part.table.name()).join(day).join(host)
        };
        let under_way = UnderWay::begin(&self.folder, &file)?;
        let mut audit = PathBuf::new();
        let (_, written) = tables::write_beside(recording, report, &mut |part| {
            let place = under_way.folder.join(at(part));
            fs::create_dir_all(&place)?;
            let to = File::create_new(place.join(&file))?;
            // It is the last one.
            audit = self.folder.join(at(part));
            Ok(Box::new(BufWriter::new(Durable(to))))
        })?;
        sound().map_err(|error| io::Error::other(format!("{error:#}")))?;
        File::create_new(under_way.folder.join(WHOLE))?.sync_all()?;
        let others = remove_of_others(&self.folder, &audit, &file)?;
        let moved = |other| format!("the trace was there as one of {other}, and is no more");
        let mut notes: Vec<String> = others.iter().map(moved).collect();
        let bytes = move_all(&under_way.folder, &self.folder)?;
        notes.extend(of_another_machine(&audit, of_machine));
        Ok(Exported {
            host,
            stretches: written.get(&Table::Stretches).copied().unwrap_or_default(),
            bytes,
            notes,
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
        settle(&folder, tables);
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

/// Ends what was under way in a folder, if nobody holds its lock: who wrote it was killed.
fn settle(folder: &Path, tables: &Path) {
    let Ok(lock) = File::open(folder) else {
        return;
    };
    if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        return;
    }
    // What can't be done stays for the next one, and does no harm.
    let is_done = !folder.join(WHOLE).exists() || move_all(folder, tables).is_ok();
    if is_done {
        let _ = fs::remove_dir_all(folder);
    }
}

/// Moves all tables that are there to their places, `audit` last. Returns how many bytes they
/// have.
fn move_all(from: &Path, to: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for table in Table::ALL {
        for day in entries(&from.join(table.name()))? {
            for host in entries(&day)? {
                for file in entries(&host)? {
                    let place = to.join(file.strip_prefix(from).unwrap_or(&file));
                    if let Some(above) = place.parent() {
                        fs::create_dir_all(above)?;
                    }
                    bytes += fs::metadata(&file)?.len();
                    fs::rename(&file, &place)?;
                }
            }
        }
    }
    Ok(bytes)
}

/// What is in a folder, in the order of names; nothing, if it is not there.
fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let paths = entries.map(|it| Ok(it?.path()));
    let mut paths = paths.collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

/// Removes the same trace under other hosts' names: it would count twice. `audit`: the folder that
/// its row of the audit goes to. Returns what those hosts are called.
fn remove_of_others(tables: &Path, audit: &Path, file: &str) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for other in entries(audit.parent().unwrap_or(audit))? {
        let Some(host) = other.file_name().filter(|_| other != audit) else {
            continue;
        };
        if !other.join(file).exists() {
            continue;
        }
        // Without its row of the audit it does not count any more.
        for table in Table::ALL.iter().rev() {
            for day in entries(&tables.join(table.name()))? {
                match fs::remove_file(day.join(host).join(file)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
        }
        names.push(host.to_string_lossy().into_owned());
    }
    Ok(names)
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
        // One that was killed when all was whole.
        let whole = folder.path().join(".forktrace-0-3.parquet");
        let place = Path::new("tasks/day=2026-01-31/host=a/0-3.parquet");
        fs::create_dir_all(whole.join(place).parent().expect("a folder")).expect("folders");
        fs::write(whole.join(place), "PAR1").expect("a file");
        fs::write(whole.join(WHOLE), "").expect("a file");
        let living = UnderWay::begin(folder.path(), "0-2.parquet").expect("begun");
        Tables::open(folder.path(), false).expect("tables");
        assert!(!left.exists() && !whole.exists());
        assert!(folder.path().join(place).exists());
        assert!(living.folder.exists());
        let again = UnderWay::begin(folder.path(), "0-2.parquet");
        assert!(again.is_err(), "two at once");
        let of_living = living.folder.clone();
        drop(living);
        assert!(!of_living.exists());
    }
}
