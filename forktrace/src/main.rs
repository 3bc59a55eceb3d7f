//! The `forktrace` command.
#![cfg_attr(
    not(feature = "record"),
    allow(
        dead_code,
        unused_imports,
        reason = "what only a recording needs, in files that `report` needs too"
    )
)]

mod cli;
mod commands;
mod patience;
#[cfg(feature = "record")]
mod progress;
mod version;

use std::{io::Write as _, process::ExitCode};

use clap::Parser as _;
use forktrace_core::{render::text::figures::clean_lines, words::without_error_numbers};
use forktrace_process::{launch::LaunchError, signals};

use self::{
    cli::{Cli, Command},
    commands::Outcome,
};

/// forktrace itself failed.
const FAILED: u8 = 125;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let error = without_far_fetched_tips(with_the_other_command(error));
            // Not clap's own 2: that could be the workload's.
            let status = if error.use_stderr() { FAILED } else { 0 };
            // Nowhere to say that this failed.
            let _ = error.print();
            return ExitCode::from(status);
        }
    };
    let done = match &cli.command {
        #[cfg(feature = "record")]
        Command::Run(args) => commands::run(args),
        #[cfg(feature = "record")]
        Command::Attach(args) => commands::attach(args),
        #[cfg(feature = "record")]
        Command::Watch(args) => commands::watch(args),
        #[cfg(feature = "record")]
        Command::Top(args) => commands::top(args),
        Command::Report(args) => commands::report(args),
        Command::Diff(args) => commands::diff(args),
        Command::Explain(args) => commands::explain(args),
        Command::Export(args) => commands::export(args),
        Command::Import(args) => commands::import(args),
        Command::Rollup(args) => commands::rollup(args),
        #[cfg(feature = "record")]
        Command::Claims { command } => commands::claims(command),
        #[cfg(feature = "record")]
        Command::Doctor { verbose } => commands::doctor(*verbose),
        Command::Workload { workload } => {
            forktrace_workload::run(workload).map(|()| Outcome::Exit(0))
        }
        Command::Schema { of } => commands::schema(*of),
        Command::Completions { shell } => commands::completions(*shell),
        Command::Man {
            all: Some(folder), ..
        } => commands::man_all(folder),
        Command::Man { subcommand, .. } => commands::man(subcommand),
    };
    match done {
        Ok(Outcome::Exit(status)) => ExitCode::from(status),
        Ok(Outcome::Signal(signal)) => signals::die_of(signal),
        Err(error) => {
            print_error(&error);
            let status = error
                .downcast_ref::<LaunchError>()
                .and_then(LaunchError::exit_status)
                .unwrap_or(FAILED);
            ExitCode::from(status)
        }
    }
}

/// Who gives `run` a target means `attach`, and who gives `report` one means `--only`.
fn with_the_other_command(mut error: clap::Error) -> clap::Error {
    use clap::error::{ContextKind, ContextValue};

    const TARGETS: [&str; 11] = [
        "-p",
        "--pid",
        "--tid",
        "-n",
        "--name",
        "--cgroup",
        "--unit",
        "--container",
        "-a",
        "--all",
        "--for",
    ];
    let written = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(written)) if TARGETS.contains(&&**written) => written.clone(),
        _ => return error,
    };
    let command = std::env::args_os().nth(1);
    let tip = match command.as_ref().and_then(|word| word.to_str()) {
        Some("run") => format!("`forktrace attach {written} …` records what runs already"),
        Some("report") if written != "--for" => {
            "`--only` takes a pid, a name, a role or a cgroup".to_owned()
        }
        _ => return error,
    };
    error.remove(ContextKind::SuggestedArg);
    error.remove(ContextKind::Suggested);
    error.insert(
        ContextKind::Suggested,
        ContextValue::StyledStrs(vec![tip.into()]),
    );
    error
}

/// A tip is for a typo: an option that only begins like another is not meant by it.
fn without_far_fetched_tips(mut error: clap::Error) -> clap::Error {
    use clap::error::{ContextKind, ContextValue};

    let written = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(written)) => written.clone(),
        _ => return error,
    };
    let is_close = match error.get(ContextKind::SuggestedArg) {
        Some(ContextValue::String(tip)) => distance(&written, tip) <= 2,
        _ => return error,
    };
    if !is_close {
        error.remove(ContextKind::SuggestedArg);
    }
    error
}

/// Letters that are to be put in, taken out or replaced to make one text of the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

fn print_error(error: &anyhow::Error) {
    // Names of tasks and files can be in it.
    let text = clean_lines(&without_error_numbers(&format!("{error:#}")));
    // Nowhere to say that this failed.
    let _ = writeln!(std::io::stderr(), "forktrace: {text}");
}
