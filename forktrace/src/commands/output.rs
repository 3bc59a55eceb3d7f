//! Where reports go.

use std::{
    fs::File,
    io::{self, BufWriter, IsTerminal as _, Write},
    os::fd::{AsFd as _, BorrowedFd},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::ValueEnum as _;
use forktrace_core::render::{self, Style, text::figures::clean};
use forktrace_export::{Form, Source, StackKind};
use forktrace_process::launch::Accounts;

use super::{
    files::{Target, Use, same},
    page, tables,
};
use crate::cli::{OutputArgs, is_tables};

/// So much of a report is kept before it is written, bytes.
const BUFFER: usize = 64 << 10;

/// Where reports go, opened before anything else is done, so that a file that can't be
/// written is known at once.
pub(super) struct Outputs {
    all: Vec<Output>,
    kind: Option<StackKind>,
    /// Folders of tables.
    folders: Vec<PathBuf>,
    accounts: Accounts,
}

struct Output {
    to: To,
    form: Form,
    style: Style,
}

pub(super) enum To {
    Stdout,
    Stderr,
    File(Box<Target>),
}

impl Outputs {
    /// Opens them. What a trace is read from, `traces`, is nothing to write to.
    pub(super) fn open(
        args: &OutputArgs,
        stderr_by_default: bool,
        accounts: &Accounts,
        traces: &[&File],
    ) -> Result<Self> {
        Self::open_as(Use::Report, args, stderr_by_default, accounts, traces)
    }

    /// Opens files that nobody asked for by their names: nobody else may read them, like the
    /// trace beside them.
    pub(super) fn open_private(
        files: &[PathBuf],
        accounts: &Accounts,
        traces: &[&File],
    ) -> Result<Self> {
        let args = OutputArgs::to_files(files);
        Self::open_as(Use::Private, &args, false, accounts, traces)
    }

    fn open_as(
        wanted: Use,
        args: &OutputArgs,
        stderr_by_default: bool,
        accounts: &Accounts,
        traces: &[&File],
    ) -> Result<Self> {
        let default = if stderr_by_default {
            To::Stderr
        } else {
            To::Stdout
        };
        let (folders, files): (Vec<PathBuf>, Vec<PathBuf>) =
            args.output.iter().cloned().partition(|it| is_tables(it));
        for folder in &folders {
            tables::open(folder, accounts, args.force)?;
        }
        // Who asks for tables alone has not asked for the text.
        let to = if files.is_empty() && !folders.is_empty() {
            Vec::new()
        } else {
            To::open(&files, default, (wanted, args.force), accounts, traces)?
        };
        let forms = forms(&files, args.format)?;
        let all = to.into_iter().zip(forms).map(|(to, form)| {
            let style = to.with_terminal(|terminal| page::style(args, terminal));
            Output { to, form, style }
        });
        Ok(Self {
            all: all.collect(),
            kind: args.folded,
            folders,
            accounts: accounts.clone(),
        })
    }

    /// Another process has written them.
    pub(super) fn done(&mut self) {
        for output in &mut self.all {
            if let To::File(target) = &mut output.to {
                target.done();
            }
        }
    }

    /// Writes all of them, made of the trace in this file; `None`: it is kept nowhere. One that
    /// can't be written does not keep the others from it.
    ///
    /// # Errors
    /// That of the first that can't.
    pub(super) fn write(&mut self, source: &Source<'_>, trace: Option<&str>) -> Result<()> {
        let mut first = Ok(());
        for output in &mut self.all {
            first = first.and(output.write(source, self.kind, trace));
        }
        for folder in &self.folders {
            first = first.and_then(|()| {
                // Tables are by process, whatever a report compares tasks within.
                let report = Some(source.report).filter(|it| it.more_episodes.is_some());
                let recording = source.recording();
                let notes = tables::write(folder, &self.accounts, recording, report)?;
                for note in notes {
                    to_stderr(format!("forktrace: note: {}\n", clean(&note)).as_bytes())?;
                }
                Ok(())
            });
        }
        first
    }
}

impl Output {
    fn write(
        &mut self,
        source: &Source<'_>,
        kind: Option<StackKind>,
        trace: Option<&str>,
    ) -> Result<()> {
        let Self { to, form, style } = self;
        let is_text = *form == Form::Text;
        let is_summary = is_text && style.views.is_empty() && !style.verbose;
        let has_rule = is_text && matches!(to, To::Stderr);
        let export = form.export(*style, kind);
        let written = |to: &mut dyn Write| {
            let mut to = BufWriter::with_capacity(BUFFER, to);
            if has_rule {
                to.write_all(page::rule(style).as_bytes())?;
            }
            export.write(source, &mut to)?;
            if is_summary {
                to.write_all(render::pointer(source.report, style, trace).as_bytes())?;
            }
            to.flush()
        };
        to.write(written)
    }
}

impl To {
    /// Opens the files of these names; without any it is `default`. What a trace is read from is
    /// nothing to write to.
    ///
    /// # Errors
    /// When one can't be written, is such a trace, or is given twice.
    pub(super) fn open(
        paths: &[PathBuf],
        default: Self,
        (wanted, force): (Use, bool),
        accounts: &Accounts,
        traces: &[&File],
    ) -> Result<Vec<Self>> {
        let mut all = Vec::new();
        for path in paths {
            let to = if path == Path::new("-") {
                Self::Stdout
            } else {
                let target = Target::open(path, wanted, accounts, force)?;
                Self::File(Box::new(target))
            };
            all.push(to);
        }
        if all.is_empty() {
            all.push(default);
        }
        for (at, to) in all.iter().enumerate() {
            for trace in traces {
                let is_regular = trace.metadata().is_ok_and(|it| it.is_file());
                ensure!(
                    !(is_regular && to.is(trace)),
                    "the report would overwrite the trace that it is made of; choose another file"
                );
            }
            let again = all[..at].iter().any(|other| match other {
                Self::File(file) => to.is(file.file()),
                Self::Stdout => matches!(to, Self::Stdout),
                Self::Stderr => false,
            });
            ensure!(
                !again,
                "{} is given twice; each report needs a file of its own",
                paths[at].display()
            );
        }
        Ok(all)
    }

    /// Calls this with the terminal that it is, if it is one.
    pub(super) fn with_terminal<T>(&self, call: impl FnOnce(Option<BorrowedFd<'_>>) -> T) -> T {
        let (stdout, stderr) = (io::stdout(), io::stderr());
        call(match self {
            Self::Stdout => Some(stdout.as_fd()).filter(|fd| fd.is_terminal()),
            Self::Stderr => Some(stderr.as_fd()).filter(|fd| fd.is_terminal()),
            Self::File(_) => None,
        })
    }

    /// Writes what is written into a buffer of it.
    ///
    /// # Errors
    /// When it can't be written.
    pub(super) fn write(
        &mut self,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<()> {
        match self {
            Self::Stdout => stdout_takes(write),
            Self::Stderr => stderr_takes(write),
            Self::File(target) => target.write(write),
        }
    }

    /// Is it this file?
    fn is(&self, file: &File) -> bool {
        match self {
            Self::Stdout => same(io::stdout(), file).unwrap_or(false),
            Self::Stderr => same(io::stderr(), file).unwrap_or(false),
            Self::File(target) => target.is(file),
        }
    }
}

/// The form of each file.
///
/// # Errors
/// When a suffix stands for none, or `--format` is for none of them.
fn forms(files: &[PathBuf], format: Option<Form>) -> Result<Vec<Form>> {
    if files.is_empty() {
        return Ok(vec![format.unwrap_or_default()]);
    }
    let mut used = false;
    let mut forms = Vec::new();
    for path in files {
        let told = match (Form::of(path), format) {
            (Ok(told), _) => told,
            // What it is was said.
            (Err(_), Some(_)) => None,
            (Err(_), None) if path.extension().is_some_and(|it| it == "ft") => bail!(
                "{path}: -o writes reports, and .ft is how traces end; a trace is kept by --save \
                 {path}, of `run` and `attach`",
                path = path.display()
            ),
            (Err(odd), None) => {
                return Err(odd)
                    .with_context(|| format!("{}", path.display()))
                    .context("--format says the form of a file whose name does not tell it");
            }
        };
        let form = told.or(format).unwrap_or_default();
        used |= format.is_none_or(|asked| asked == form);
        forms.push(form);
    }
    if !used && let (Some(path), Some(asked)) = (files.first(), format) {
        let name = asked.to_possible_value();
        bail!(
            "--format {} contradicts the name of {}; leave one of them out",
            name.as_ref().map_or("", |name| name.get_name()),
            path.display()
        );
    }
    Ok(forms)
}

/// Writes to standard error. A reader that has gone away is no error: it has seen
/// enough.
pub(super) fn to_stderr(bytes: &[u8]) -> Result<()> {
    stderr_takes(|to| to.write_all(bytes))
}

/// Writes to standard output, as above.
pub(super) fn to_stdout(bytes: &[u8]) -> Result<()> {
    stdout_takes(|to| to.write_all(bytes))
}

fn stderr_takes(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    let mut stderr = io::stderr().lock();
    let written = write(&mut stderr).and_then(|()| stderr.flush());
    unless_gone(written).context("standard error can't be written")
}

fn stdout_takes(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    let mut stdout = io::stdout().lock();
    let written = write(&mut stdout).and_then(|()| stdout.flush());
    unless_gone(written).context("standard output can't be written")
}

fn unless_gone(written: io::Result<()>) -> io::Result<()> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}
