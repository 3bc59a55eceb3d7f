//! `forktrace report`: from a trace to a report.

use std::{fs::File, io, os::fd::AsFd as _, path::Path};

use anyhow::{Context as _, Result, anyhow, bail};

use super::{
    Outcome,
    assert::{self, Assertions},
    browser,
    output::{Outputs, to_stderr},
    spill::Room,
};
use forktrace_core::{
    analysis::{GroupBy, Options, analyse_part, analyse_with},
    render::text::figures::clean,
};
use forktrace_export::Source;
use forktrace_process::{launch::Accounts, privileges::drop_all};

use crate::{cli::ReportArgs, patience::Patience};

/// Reports on a saved trace.
///
/// # Errors
/// When the file can't be read, is no trace, the report can't be written, or an
/// assertion has no value.
pub(crate) fn report(args: &ReportArgs) -> Result<Outcome> {
    let mut assertions = Assertions::of_report(&args.asserts)?;
    if args.open {
        browser::check()?;
    }
    let tables = args.output.has_tables();
    if tables && args.part.is_part() {
        bail!("tables are of whole traces: leave out --from, --to and --only, or -o *.parquet");
    }
    // It is opened first, so that nothing is created for a trace that is not there.
    let mut trace = open(&args.trace)?;
    let accounts = Accounts::choose(None, false)?;
    let mut output = Outputs::open(&args.output, false, &accounts, &[&trace])?;
    let name = args.trace.to_string_lossy();
    assertions.open("report", &name, &accounts, args.output.force)?;
    // Tables are many files, which are opened when they are written.
    if let Some(caller) = accounts.caller.as_ref().filter(|_| tables) {
        let assumed = caller.assume();
        assumed.with_context(|| format!("can't go on with the rights of {}", caller.name))?;
    }
    // All else is open that has to be, and a trace can be a stranger's.
    if drop_all()? && std::env::var_os("SUDO_UID").is_some() {
        to_stderr(b"forktrace: a report needs no privileges: it works without sudo\n")?;
    }
    let patience = Patience::new(clean(&name), "reading");
    let room = Room::new();
    let read = room.read_from(&mut trace, &|length_ns| args.part.begins_ns(length_ns));
    let (info, model) = read.with_context(|| format!("{}", args.trace.display()))?;
    drop(trace);
    let group_by = args.part.group_by.group_by();
    let options = args.output.analysis();
    let options = Options {
        group_by,
        more_episodes: options
            .more_episodes
            .filter(|_| group_by == GroupBy::default()),
        ..options
    };
    let part = args.part.part(&model, &info.header);
    let part = part.map_err(|what| anyhow!("{}: {what}", args.trace.display()))?;
    patience.step("finding out what held up");
    let (report, model) = match part {
        None => (analyse_with(&info, &model, &options), model),
        Some(part) => analyse_part(&info, &model, &options, &part, &args.part.only),
    };
    drop(patience);
    room.check()?;
    if args.output.verbose {
        room.say()?;
    }
    let source = Source {
        info: &info,
        model: &model,
        report: &report,
    };
    // Who looks at the page has not asked for the text.
    if !args.open || !args.output.output.is_empty() {
        output.write(&source, Some(&*name))?;
    }
    if args.open {
        browser::show(&source)?;
    }
    room.check()?;
    Ok(Outcome::Exit(if assertions.of(&report)? {
        0
    } else {
        assert::FALSE
    }))
}

/// `-` is standard input.
pub(super) fn open(path: &Path) -> Result<File> {
    let file = if path == Path::new("-") {
        io::stdin().as_fd().try_clone_to_owned().map(File::from)
    } else {
        File::open(path)
    };
    file.with_context(|| format!("{} can't be read", path.display()))
}
