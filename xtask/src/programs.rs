//! `cargo xtask programs`: runs programs that nobody here wrote, each with a stall that is
//! known, and compares forktrace's report with what an expert of the program would say.
//!
//! What is run, planted and expected is in `docs/case-studies/programs`, which needs no
//! more than python3 and the programs; live tests run some of it.

use std::{path::PathBuf, process::Command};

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use crate::util::{cargo, is_root, root, run as run_command, show, target_dir};

/// Options of the command.
#[derive(Args)]
pub(crate) struct Options {
    /// A case, or how the names of several begin; all without one
    names: Vec<String>,
    /// Only list the cases, what is planted in each, and what each lacks here
    #[arg(long)]
    list: bool,
    /// How often to run each
    #[arg(long, default_value_t = 1)]
    times: u32,
    /// Start the programs without forktrace, and attach it to them
    #[arg(long)]
    attach: bool,
    /// Run one after the other for so long beside loops that want a CPU, and look only for
    /// deadlocks and hangs that are said of programs which have none
    #[arg(long, value_name = "MINUTES")]
    soak: Option<f64>,
    /// Keep traces and reports in FOLDER, in a folder for each case
    #[arg(long, value_name = "FOLDER")]
    keep: Option<PathBuf>,
}

/// Gives whether every report said what was expected.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let mut command = Command::new("python3");
    command
        .arg(root()?.join("docs/case-studies/programs/programs.py"))
        .args(&options.names)
        .arg(format!("--times={}", options.times));
    if options.list {
        command.arg("--list");
    } else {
        ensure!(
            is_root(),
            "the kernel is traced as root: `sudo -E cargo xtask programs`"
        );
        run_command(cargo()?.args(["build", "--package", "forktrace"]))?;
        command
            .arg("--forktrace")
            .arg(target_dir()?.join("debug/forktrace"));
    }
    if options.attach {
        command.arg("--attach");
    }
    if let Some(minutes) = options.soak {
        command.arg(format!("--soak={minutes}"));
    }
    if let Some(folder) = &options.keep {
        command.arg("--keep").arg(folder);
    }
    let status = command
        .status()
        .with_context(|| format!("could not start `{}`", show(&command)))?;
    // 1: a report was wrong, which it has said.
    ensure!(
        matches!(status.code(), Some(0 | 1)),
        "`{}` failed: {status}",
        show(&command)
    );
    Ok(status.success())
}
