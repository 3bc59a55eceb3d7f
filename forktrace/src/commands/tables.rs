//! Folders of tables: what `forktrace export` and `-o DIR.parquet` write.

#[cfg(feature = "parquet")]
mod folder;

use std::path::Path;

use anyhow::Result;
use forktrace_core::report::Report;
use forktrace_export::Recording;
use forktrace_process::launch::Accounts;

#[cfg(feature = "parquet")]
pub(super) use self::folder::Tables;

/// A build without the writer says how to get one.
#[cfg(not(feature = "parquet"))]
pub(super) fn cant() -> anyhow::Error {
    anyhow::anyhow!(
        "this build can't write Parquet, which takes long to compile; with it: \
         cargo install --locked --path forktrace --features parquet"
    )
}

/// Makes a folder that tables will be written into, with the rights of who called.
///
/// # Errors
/// When it can't be made, or holds other files.
pub(super) fn open(path: &Path, accounts: &Accounts, force: bool) -> Result<()> {
    #[cfg(feature = "parquet")]
    {
        use forktrace_process::child::{Answer, with_rights_of};

        with_rights_of(accounts.caller.as_ref(), || {
            let opened = Tables::open(path, force);
            opened.map_err(|error| std::io::Error::other(format!("{error:#}")))?;
            Ok(Answer::default())
        })?;
        Ok(())
    }
    #[cfg(not(feature = "parquet"))]
    {
        let _ = (path, accounts, force);
        Err(cant())
    }
}

/// Writes a trace into such a folder, with this report or, where there is none yet, with one that is
/// made for it. Returns what should be known, for people.
///
/// # Errors
/// When it can't be written.
pub(super) fn write(
    path: &Path,
    accounts: &Accounts,
    recording: Recording<'_>,
    report: Option<&Report>,
) -> Result<Vec<String>> {
    #[cfg(feature = "parquet")]
    {
        use anyhow::Context as _;
        use forktrace_core::analysis::{Options, analyse_with};
        use forktrace_process::child::{Answer, with_rights_of};

        let options = Options {
            episodes: crate::cli::STALLS,
            ..Options::default()
        };
        let make = || analyse_with(recording.info, recording.model, &options);
        let user = rustix::process::geteuid().as_raw();
        let caller = accounts.caller.as_ref();
        let other = caller.filter(|caller| caller.uid.as_raw() != user);
        let written = with_rights_of(other, || {
            let tables = Tables::in_use(path);
            let exported = match report {
                Some(report) => tables.write(recording, || report, (None, &|| Ok(()))),
                None => tables.write(recording, make, (None, &|| Ok(()))),
            }?;
            Ok(Answer {
                bytes: exported.notes.join("\n").into_bytes(),
                ..Answer::default()
            })
        });
        let cant = || format!("the trace can't be exported to {}", path.display());
        let notes = written.with_context(cant)?.bytes;
        let notes = String::from_utf8_lossy(&notes);
        Ok(notes.lines().map(str::to_owned).collect())
    }
    #[cfg(not(feature = "parquet"))]
    {
        let _ = (path, accounts, recording, report);
        Err(cant())
    }
}
