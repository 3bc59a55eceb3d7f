//! Where reports go.

use std::{
    fs::File,
    io::{self, IsTerminal as _, Write as _},
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
        let mut text = render::render(report, self.format, &self.style);
        let is_summary = self.style.views.is_empty() && !self.style.verbose;
        if self.format == Format::Text && is_summary {
            text.push_str(&render::pointer(report, &self.style, trace));
        }
        if self.format == Format::Text && matches!(self.to, To::Stderr) {
            text.insert_str(0, &page::rule(&self.style));
        }
        match &mut self.to {
            To::Stdout => to_stdout(text.as_bytes()),
            To::Stderr => to_stderr(text.as_bytes()),
            To::File(target) => target.write(text.as_bytes()),
        }
    }
}

/// Writes to standard error. A reader that has gone away is no error: it has seen
/// enough.
pub(super) fn to_stderr(bytes: &[u8]) -> Result<()> {
    let mut stderr = io::stderr().lock();
    let written = stderr.write_all(bytes).and_then(|()| stderr.flush());
    unless_gone(written).context("standard error can't be written")
}

/// Writes to standard output, as above.
pub(super) fn to_stdout(bytes: &[u8]) -> Result<()> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(bytes).and_then(|()| stdout.flush());
    unless_gone(written).context("standard output can't be written")
}

fn unless_gone(written: io::Result<()>) -> io::Result<()> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}
