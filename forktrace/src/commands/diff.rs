//! `forktrace diff`: compares traces before and after a change.

use std::{
    fs::File,
    io::{BufWriter, Read as _, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use forktrace_core::{
    diff::{Digest, compare},
    pipeline,
};
use forktrace_export::DiffForm;
use forktrace_process::{launch::Accounts, privileges::drop_all};

use super::{
    Outcome,
    assert::{self, Assertions},
    files::Use,
    output::To,
    page,
    report::open,
};
use crate::cli::DiffArgs;

/// Compares traces.
///
/// # Errors
/// When a file can't be read, is no trace, the comparison can't be written, or an assertion
/// has no value.
pub(crate) fn diff(args: &DiffArgs) -> Result<Outcome> {
    let mut assertions = Assertions::of_diff(&args.asserts)?;
    let (base, new) = sides(args)?;
    let forms = forms(args)?;
    let open_all =
        |paths: &[PathBuf]| -> Result<Vec<File>> { paths.iter().map(|path| open(path)).collect() };
    // They are opened first, so that nothing is created for a trace that is not there.
    let (base_files, new_files) = (open_all(base)?, open_all(new)?);
    let accounts = Accounts::choose(None, false)?;
    let traces: Vec<&File> = base_files.iter().chain(&new_files).collect();
    let mut outputs = {
        let how = (Use::Report, args.force);
        To::open(&args.output, To::Stdout, how, &accounts, &traces)?
    };
    let about = format!("{} {}", base[0].display(), new[0].display());
    assertions.open("diff", &about, &accounts, args.force)?;
    // A trace can be a stranger's.
    drop_all()?;
    let compared = compare(&digests(base, base_files)?, &digests(new, new_files)?);
    let mut written = Ok(());
    for (to, form) in outputs.iter_mut().zip(forms) {
        let mut style = to.with_terminal(|terminal| page::style_of(args.color, terminal));
        style.verbose = args.verbose;
        written = written.and(to.write(|to| {
            let mut to = BufWriter::new(to);
            form.write(&compared, &style, &mut to)?;
            to.flush()
        }));
    }
    written?;
    Ok(Outcome::Exit(if assertions.compared(&compared)? {
        0
    } else {
        assert::FALSE
    }))
}

/// The traces before, and those after.
fn sides(args: &DiffArgs) -> Result<(&[PathBuf], &[PathBuf])> {
    let mut new = args.new.iter().map(|path| path.to_string_lossy());
    if let Some(option) = new.find(|path| path.starts_with('-') && path.len() > 1) {
        bail!("{option}: after -- there are traces only; give options before the traces");
    }
    match (&args.base[..], &args.new[..]) {
        ([base], [new]) => Ok((std::slice::from_ref(base), std::slice::from_ref(new))),
        ([base, new], []) => Ok((std::slice::from_ref(base), std::slice::from_ref(new))),
        ([only], []) => bail!(
            "there is nothing to compare {} with; give the trace after the change too: \
             forktrace diff A B",
            only.display()
        ),
        (all, []) => bail!(
            "which of these {} traces are before the change, and which after it? Put -- between \
             them: forktrace diff A1 A2 -- B1 B2",
            all.len()
        ),
        sides => Ok(sides),
    }
}

/// The form of each file.
fn forms(args: &DiffArgs) -> Result<Vec<DiffForm>> {
    if args.output.is_empty() {
        return Ok(vec![args.format.unwrap_or_default()]);
    }
    let form = |path: &PathBuf| match (DiffForm::of(path), args.format) {
        (Some(form), _) => Ok(form),
        (None, Some(form)) => Ok(form),
        (None, None) if path.extension().is_none() || path == Path::new("-") => {
            Ok(DiffForm::default())
        }
        (None, None) => bail!(
            "{}: a comparison's form is told by how the file's name ends: .txt .json .md .html, \
             or by --format",
            path.display()
        ),
    };
    args.output.iter().map(form).collect()
}

/// The figures of each; a trace is in memory no longer than it takes.
fn digests(paths: &[PathBuf], files: Vec<File>) -> Result<Vec<Digest>> {
    let digest = |(path, mut file): (&PathBuf, File)| {
        let name = path.display();
        let mut data = Vec::new();
        file.read_to_end(&mut data)
            .with_context(|| format!("{name} can't be read"))?;
        let report = pipeline::make(&data, None, &Default::default());
        let report = report.with_context(|| format!("{name}"))?;
        Ok(Digest::of(&path.to_string_lossy(), &report))
    };
    paths.iter().zip(files).map(digest).collect()
}
