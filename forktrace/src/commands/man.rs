//! The manual pages.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail};
use clap::{Command, CommandFactory as _};
use clap_mangen::{
    Man,
    roff::{Roff, roman},
};

use super::{Outcome, output};
use crate::cli::Cli;

/// Prints the manual page of a subcommand, or of the whole.
///
/// # Errors
/// When there is no such subcommand or standard output can't be written.
pub(crate) fn man(subcommand: &[String]) -> Result<Outcome> {
    let mut command = root();
    for name in subcommand {
        let Some(found) = command.find_subcommand(name) else {
            bail!(
                "there is no subcommand {}; `forktrace help` lists them",
                subcommand.join(" ")
            );
        };
        command = found.clone();
    }
    output::to_stdout(&page(&command)?)?;
    Ok(Outcome::Exit(0))
}

/// Writes the pages of forktrace and of all its subcommands into a folder, under the names
/// that `man` looks for.
///
/// # Errors
/// When the folder can't be made or written to.
pub(crate) fn man_all(folder: &Path) -> Result<Outcome> {
    fs::create_dir_all(folder).with_context(|| format!("{} can't be made", folder.display()))?;
    write_all(&root(), folder)?;
    Ok(Outcome::Exit(0))
}

fn write_all(command: &Command, folder: &Path) -> Result<()> {
    let path = folder.join(Man::new(command.clone()).get_filename());
    fs::write(&path, page(command)?)
        .with_context(|| format!("{} can't be written", path.display()))?;
    let shown = command.get_subcommands().filter(|it| !it.is_hide_set());
    shown.into_iter().try_for_each(|it| write_all(it, folder))
}

/// The command line, its subcommands with their full names.
fn root() -> Command {
    // A page for each `help` would say nothing.
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    command
}

/// A page: clap's sections, and after them one for each paragraph below the help.
fn page(command: &Command) -> Result<Vec<u8>> {
    let man = Man::new(command.clone());
    let mut page = Vec::new();
    let has_options = command.get_arguments().any(|it| !it.is_hide_set());
    let has_subcommands = command.get_subcommands().any(|it| !it.is_hide_set());
    man.render_title(&mut page)
        .and_then(|()| man.render_name_section(&mut page))
        .and_then(|()| man.render_synopsis_section(&mut page))
        .and_then(|()| man.render_description_section(&mut page))
        .and_then(|()| {
            if has_options {
                man.render_options_section(&mut page)
            } else {
                Ok(())
            }
        })
        .and_then(|()| {
            if has_subcommands {
                man.render_subcommands_section(&mut page)
            } else {
                Ok(())
            }
        })
        .and_then(|()| sections(command).to_writer(&mut page))
        .and_then(|()| man.render_version_section(&mut page))
        .context("the manual page can't be made")?;
    Ok(page)
}

/// The paragraphs below the help, each `Heading: text` or `Heading:` and indented lines,
/// which keep their line breaks.
fn sections(command: &Command) -> Roff {
    let mut roff = Roff::new();
    let Some(help) = command.get_after_help() else {
        return roff;
    };
    for paragraph in help.to_string().split("\n\n") {
        let Some((heading, text)) = paragraph.split_once(':') else {
            roff.text([roman(paragraph)]);
            continue;
        };
        roff.control("SH", [heading.to_uppercase().as_str()]);
        let Some(lines) = text.strip_prefix('\n') else {
            roff.text([roman(text.trim())]);
            continue;
        };
        roff.control("nf", []);
        for line in lines.lines() {
            roff.text([roman(line)]);
        }
        roff.control("fi", []);
    }
    roff
}
