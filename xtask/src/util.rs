//! What several commands need: paths, and running programs with errors that
//! name them.

use std::{
    env, fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, de::DeserializeOwned};

/// The folder of the workspace.
pub(crate) fn root() -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    root.canonicalize()
        .with_context(|| format!("the project folder {} is gone", root.display()))
}

/// Where cargo puts what it builds, and where xtask keeps what it makes.
pub(crate) fn target_dir() -> Result<PathBuf> {
    Ok(match env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => std::path::absolute(dir)?,
        None => root()?.join("target"),
    })
}

/// Cargo's own folder: its registry and the programs it installed.
pub(crate) fn cargo_home() -> Result<PathBuf> {
    match env::var_os("CARGO_HOME") {
        Some(dir) => Ok(PathBuf::from(dir)),
        None => Ok(env::home_dir()
            .context("no home directory: set HOME")?
            .join(".cargo")),
    }
}

/// All members, with what a plain build leaves out since it takes long to compile.
pub(crate) const WHOLE: [&str; 3] = [
    "--workspace",
    "--features",
    "forktrace/parquet,forktrace/top",
];

/// The cargo that started us, in the workspace.
pub(crate) fn cargo() -> Result<Command> {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()?);
    Ok(command)
}

/// Whether we are root. An unreadable /proc counts as not root.
pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// The program's path if it is in `PATH`.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?)
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
}

/// The command as one could type it, for messages.
pub(crate) fn show(command: &Command) -> String {
    let program = Path::new(command.get_program());
    std::iter::once(program.file_name().unwrap_or(program.as_os_str()))
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Runs a command to its end, its output shown. Fails unless it exits with 0.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("could not start `{}`", show(command)))?;
    if !status.success() {
        bail!("`{}` failed: {status}", show(command));
    }
    Ok(())
}

/// What a command prints on its standard output; its standard error goes to
/// ours. Fails unless it exits with 0.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("could not start `{}`", show(command)))?;
    if !output.status.success() {
        bail!("`{}` failed: {}", show(command), output.status);
    }
    String::from_utf8(output.stdout)
        .with_context(|| format!("`{}` printed text that is not UTF-8", show(command)))
}

/// What is before and after a part of a document, between two lines.
pub(crate) fn around(text: &str, begin: &str, end: &str) -> Result<(String, String)> {
    let (before, rest) = text
        .split_once(begin)
        .with_context(|| format!("it lacks the line {begin}"))?;
    let (_, after) = rest
        .split_once(end)
        .with_context(|| format!("it lacks the line {end} after {begin}"))?;
    Ok((before.to_owned(), after.to_owned()))
}

/// What `cargo metadata` says of each package.
pub(crate) fn metadata<Package: DeserializeOwned>(arguments: &[&str]) -> Result<Vec<Package>> {
    #[derive(Deserialize)]
    struct Metadata<Package> {
        packages: Vec<Package>,
    }
    let text = output(
        cargo()?
            .args(["metadata", "--format-version", "1", "--locked"])
            .args(arguments),
    )?;
    let metadata: Metadata<Package> =
        serde_json::from_str(&text).context("could not make sense of what cargo metadata says")?;
    Ok(metadata.packages)
}
