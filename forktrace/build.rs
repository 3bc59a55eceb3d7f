//! Finds out which commit is being built, for `forktrace --version`. Where nothing says
//! so, the version goes without.
#![allow(clippy::print_stdout, reason = "so a build script speaks to cargo")]

use std::{fs, path::Path, process::Command};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if let Some(commit) = packaged().or_else(checked_out) {
        println!("cargo::rustc-env=FORKTRACE_COMMIT={commit}");
    }
}

/// From the file that `cargo package` puts beside the manifest.
fn packaged() -> Option<String> {
    let file = ".cargo_vcs_info.json";
    if !Path::new(file).exists() {
        return None;
    }
    println!("cargo::rerun-if-changed={file}");
    let text = fs::read_to_string(file).ok()?;
    let (_, rest) = text.split_once("\"sha1\": \"")?;
    let (commit, _) = rest.split_once('"')?;
    commit
        .chars()
        .all(|c| c.is_ascii_hexdigit())
        .then(|| commit.to_owned())
}

/// From git, if this manifest is among the files of a repository: one that merely lies in
/// a folder of another project's says nothing of it.
fn checked_out() -> Option<String> {
    git(&["ls-files", "--error-unmatch", "Cargo.toml"])?;
    for file in ["HEAD", "logs/HEAD"] {
        let path = git(&["rev-parse", "--git-path", file])?;
        // Cargo would build again each time for a file that is not there.
        if Path::new(&path).exists() {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    git(&["rev-parse", "HEAD"])
}

/// What git prints, if it is there and succeeds.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
