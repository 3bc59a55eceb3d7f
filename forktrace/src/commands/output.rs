//! Where reports go.

use std::{
    fs::File,
    io::{self, BufWriter, IsTerminal as _, Write},
    os::fd::AsFd as _,
    path::Path,
};

use anyhow::{Context as _, Result, bail, ensure};

use forktrace_core::{
    render::{self, Format, Style},
    report::Report,
};
use forktrace_process::launch::Accounts;

use super::{
    files::{Target, Use, same},
    page,
};
use crate::cli::OutputArgs;

/// So much of a report is kept before it is written, bytes.
const BUFFER: usize = 64 << 10;

/// Where a report goes, opened before anything else is done, so that a file that
/// can't be written is known at once.
pub(super) struct Output {
    to: To,
    style: Style,
    format: Format,
}

enum To {
    Stdout,
    Stderr,
    File(Box<Target>),
}

impl Output {
    /// Opens it. What a trace is read from, `trace`, is nothing to write to.
    pub(super) fn open(
        args: &OutputArgs,
        stderr_by_default: bool,
        accounts: &Accounts,
        traces: &[&File],
    ) -> Result<Self> {
        let to = match args.output.as_deref() {
            Some(path) if path == Path::new("-") => To::Stdout,
            Some(path) => {
                let target = Target::open(path, Use::Report, accounts, args.force)?;
                To::File(Box::new(target))
            }
            None if stderr_by_default => To::Stderr,
            None => To::Stdout,
        };
        for trace in traces {
            let is_regular = trace.metadata().is_ok_and(|it| it.is_file());
            let both = match &to {
                To::Stdout => same(io::stdout(), trace).unwrap_or(false),
                To::Stderr => same(io::stderr(), trace).unwrap_or(false),
                To::File(target) => target.is(trace),
            };
            ensure!(
                !(is_regular && both),
                "the report would overwrite the trace that it is made of; choose another file"
            );
        }
        let (stdout, stderr) = (io::stdout(), io::stderr());
        let terminal = match &to {
            To::Stdout => Some(stdout.as_fd()).filter(|fd| fd.is_terminal()),
            To::Stderr => Some(stderr.as_fd()).filter(|fd| fd.is_terminal()),
            To::File(_) => None,
        };
        let style = page::style(args, terminal);
        Ok(Self {
            to,
            style,
            format: args.format,
        })
    }

    /// Another process has written it.
    pub(super) fn done(&mut self) {
        if let To::File(target) = &mut self.to {
            target.done();
        }
    }

    /// Writes the report, made of the trace in this file; `None`: it is kept nowhere.
    pub(super) fn write(&mut self, report: &Report, trace: Option<&str>) -> Result<()> {
        if self.format == Format::Folded && report.stacks.is_none() {
            bail!(
                "this trace has no stacks to fold; `forktrace run --stacks` takes them, with \
                 `--format folded` or with `--save`"
            );
        }
        let (format, style) = (self.format, &self.style);
        let is_text = format == Format::Text;
        let is_summary = is_text && style.views.is_empty() && !style.verbose;
        let has_rule = is_text && matches!(self.to, To::Stderr);
        let render = |to: &mut dyn Write| {
            let mut to = BufWriter::with_capacity(BUFFER, to);
            if has_rule {
                to.write_all(page::rule(style).as_bytes())?;
            }
            render::write(report, format, style, &mut to)?;
            if is_summary {
                to.write_all(render::pointer(report, style, trace).as_bytes())?;
            }
            to.flush()
        };
        match &mut self.to {
            To::Stdout => stdout_takes(render),
            To::Stderr => stderr_takes(render),
            To::File(target) => target.write(render),
        }
    }
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
