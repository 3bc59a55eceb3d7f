//! `forktrace export`: traces as tables.

#[cfg(not(feature = "parquet"))]
use anyhow::Result;

use super::Outcome;
use crate::cli::ExportArgs;

#[cfg(not(feature = "parquet"))]
pub(crate) fn export(_: &ExportArgs) -> Result<Outcome> {
    Err(super::tables::cant())
}

#[cfg(feature = "parquet")]
pub(crate) use with::export;

#[cfg(feature = "parquet")]
mod with {
    use std::{fs::File, path::Path};

    use anyhow::{Context as _, Result};
    use forktrace_core::{
        analysis::{Options, analyse_with},
        render::text::figures::clean,
        words,
    };
    use forktrace_export::Recording;
    use forktrace_process::launch::Accounts;

    use super::{
        super::{output::to_stderr, report::open, spill::Room, tables::Tables},
        ExportArgs, Outcome,
    };
    use crate::patience::Patience;

    /// Writes traces as tables.
    ///
    /// # Errors
    /// When a trace can't be read or a table can't be written. What was exported before stays.
    pub(crate) fn export(args: &ExportArgs) -> Result<Outcome> {
        // It needs no rights but those of who called.
        if let Some(caller) = Accounts::choose(None, false)?.caller {
            let assumed = caller.assume();
            assumed.with_context(|| format!("can't go on with the rights of {}", caller.name))?;
        }
        let tables = Tables::open(&args.to, args.force)?;
        for path in &args.traces {
            let trace = open(path)?;
            let exported = of_file(args, &tables, path, trace);
            exported.with_context(|| path.display().to_string())?;
        }
        Ok(Outcome::Exit(0))
    }

    fn of_file(args: &ExportArgs, tables: &Tables, path: &Path, mut trace: File) -> Result<()> {
        let name = clean(&path.to_string_lossy());
        let patience = Patience::new(name.clone(), "reading");
        let room = Room::new();
        let (info, model) = room.read(&mut trace, None)?;
        patience.step("finding out what held up, and writing tables");
        let options = Options {
            episodes: args.stalls,
            ..Options::default()
        };
        let recording = Recording {
            info: &info,
            model: &model,
        };
        let exported = tables.write(
            recording,
            || analyse_with(&info, &model, &options),
            (args.host.as_deref(), &|| room.check()),
        );
        let exported =
            exported.with_context(|| format!("it can't be exported to {}", args.to.display()))?;
        drop(patience);
        let said = format!(
            "forktrace: {name}: {} of the host {} in {}\n",
            words::quantity(exported.stretches, "stretch"),
            exported.host,
            words::bytes(exported.bytes),
        );
        to_stderr(said.as_bytes())?;
        for note in exported.notes {
            to_stderr(format!("forktrace: note: {}\n", clean(&note)).as_bytes())?;
        }
        Ok(())
    }
}
