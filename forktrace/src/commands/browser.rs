//! Shows a report as a page in the browser.

use std::{
    io::Write as _,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};
use forktrace_core::render::Style;
use forktrace_export::{Form, Source};

use super::output::to_stderr;

/// What opens a page, the first that is there: what the user wants, or what the desktop has.
const OPENERS: [&str; 2] = ["xdg-open", "open"];

/// Refuses what can't be right, before anything is read.
///
/// # Errors
/// When a browser would run as root for a user who called sudo.
pub(super) fn check() -> Result<()> {
    ensure!(
        std::env::var_os("SUDO_UID").is_none(),
        "--open would start a browser as root; a report needs no privileges: leave out sudo"
    );
    Ok(())
}

/// Writes the page into a file of its own, and has it shown.
///
/// # Errors
/// When the file can't be written, or there is nothing to show it.
pub(super) fn show(source: &Source<'_>) -> Result<()> {
    let path = write(source)?;
    let wanted = std::env::var_os("BROWSER").filter(|browser| !browser.is_empty());
    let openers = wanted.into_iter().chain(OPENERS.iter().map(Into::into));
    for opener in openers {
        let mut command = Command::new(&opener);
        command.arg(&path).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        match command.spawn() {
            // It goes on without us.
            Ok(_) => {
                return to_stderr(
                    format!("forktrace: the page is {}\n", path.display()).as_bytes(),
                );
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(error).with_context(|| format!("{}", opener.display()));
            }
        }
    }
    bail!(
        "the page is {}, and nothing is here to show it; set BROWSER to a program that does",
        path.display()
    )
}

/// A file that is there when the browser reads it.
fn write(source: &Source<'_>) -> Result<PathBuf> {
    let file = tempfile::Builder::new()
        .prefix("forktrace-")
        .suffix(".html")
        .tempfile();
    let file = file.context("no file for the page")?;
    let mut out = std::io::BufWriter::new(file);
    let export = Form::Html.export(Style::default(), None);
    let written = export.write(source, &mut out).and_then(|()| out.flush());
    written.context("the page can't be written")?;
    let file = out.into_inner().context("the page can't be written")?;
    let (_, path) = file.keep().context("the page can't be kept")?;
    Ok(path)
}
