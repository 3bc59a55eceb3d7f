//! `cargo xtask claims`: settles all claims and writes the verdicts, with their
//! pictures, into docs/claims.md.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use crate::util::{around, cargo, root, run as run_command, show, target_dir};

const BEGIN: &str = "<!-- verdicts:begin -->";
const END: &str = "<!-- verdicts:end -->";

/// Options of the command.
#[derive(Args)]
pub(crate) struct Options {
    /// Settle nothing: take what `forktrace claims run --format markdown` wrote to FILE
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// More and longer runs
    #[arg(long, conflicts_with = "from")]
    full: bool,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let verdicts = match &options.from {
        Some(file) => read(file)?,
        None => settle(options.full)?,
    };
    ensure!(
        verdicts.contains("| claim | verdict |"),
        "there is no table of verdicts in what came"
    );
    let page = root()?.join("docs/claims.md");
    let text = read(&page)?;
    let (before, after) =
        around(&text, BEGIN, END).with_context(|| format!("{}", page.display()))?;
    let verdicts = one_level_down(verdicts.trim_end());
    fs::write(&page, format!("{before}{BEGIN}\n{verdicts}{END}{after}"))
        .with_context(|| format!("{} can't be written", page.display()))?;
    println!("{} is written: read the difference", page.display());
    Ok(())
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("{} can't be read", path.display()))
}

fn settle(full: bool) -> Result<String> {
    run_command(cargo()?.args(["build", "--release", "--package", "forktrace"]))?;
    let mut command = Command::new(target_dir()?.join("release/forktrace"));
    command.args(["claims", "run", "--format", "markdown"]);
    if !full {
        command.arg("--quick");
    }
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("could not start `{}`", show(&command)))?;
    // 1: a claim is inconclusive, which the page says.
    ensure!(
        matches!(output.status.code(), Some(0 | 1)),
        "`{}` failed: {}",
        show(&command),
        output.status
    );
    String::from_utf8(output.stdout).context("the verdicts are not UTF-8")
}

/// The page has headings of its own above. What is in a block of code stays.
fn one_level_down(text: &str) -> String {
    let mut out = String::new();
    let mut code = false;
    for line in text.lines() {
        code ^= line.starts_with("```");
        if line.starts_with('#') && !code {
            out.push('#');
        }
        out.push_str(line);
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headings_go_one_level_down_but_not_in_code() {
        assert_eq!(
            one_level_down("## a-claim\n\n```text\n# running\n```\n## another"),
            "### a-claim\n\n```text\n# running\n```\n### another\n"
        );
    }
}
