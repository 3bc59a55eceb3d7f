//! `cargo xtask matrix`: the live tests on other kernels.
//!
//! Real Debian kernels are downloaded (never installed) and each is booted
//! under qemu's software emulation, with an initramfs that holds busybox and
//! statically linked test binaries. What such a guest can't have is named to the
//! tests, and those that need it skip themselves. Nothing is timed in there.

mod guest;
mod kernels;

use std::{
    env, fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

pub(crate) use self::kernels::DEFAULT_KERNELS;
use self::{guest::Guest, kernels::KernelArchive};
use crate::{
    cpio::Archive,
    util::{cargo, find_program, output, root, target_dir},
};

/// The target triple, given to cargo so that what is linked statically does
/// not displace what other commands built.
const TRIPLE: &str = "x86_64-unknown-linux-gnu";

/// The first process of the guest, and what runs the live tests there.
const INIT: &str = include_str!("init.sh");
const LIVE: &str = include_str!("live.sh");

/// Who there is: tests run workloads as the user who may do nothing.
const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\n\
    nobody:x:65534:65534:nobody:/nonexistent:/bin/false\n";
const GROUP: &[u8] = b"root:x:0:\nnogroup:x:65534:\n";

/// Boots each kernel, and prints a line for each and the counts of kernels.
/// Gives whether none failed.
///
/// `tests` are parts of the names of the live tests to run; none: all. `payload` is a
/// folder to take instead of the live tests.
pub(crate) fn run(kernels: &[String], tests: &[String], payload: Option<&Path>) -> Result<bool> {
    ensure!(
        cfg!(target_arch = "x86_64"),
        "the matrix boots x86-64 kernels with binaries of this machine, which is {}",
        env::consts::ARCH
    );
    let qemu = find_program("qemu-system-x86_64")
        .context("no qemu-system-x86_64 in PATH: run `cargo xtask setup`")?;
    let work = target_dir()?.join("matrix");
    // Live tests that all skip themselves prove nothing; a payload of the
    // caller's says by its exit status alone how it went.
    let (payload, least) = match payload {
        Some(payload) => (payload.to_owned(), 0),
        None => (live_tests(&work.join("payload"), tests)?, 1),
    };
    let initramfs = work.join("initramfs.cpio");
    fs::create_dir_all(&work).with_context(|| format!("could not make {}", work.display()))?;
    fs::write(&initramfs, initramfs_of(&payload)?)
        .with_context(|| format!("could not write {}", initramfs.display()))?;
    let archive = KernelArchive::open(&work)?;

    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for series in kernels {
        let kernel = match archive.kernel(series) {
            Ok(kernel) => kernel,
            Err(error) => {
                println!("SKIP {series}: {error:#}");
                skipped += 1;
                continue;
            }
        };
        let guest = Guest {
            qemu: &qemu,
            kernel: &kernel,
            initramfs: &initramfs,
            logs: work.join("logs").join(series),
        };
        let mut boot = guest.boot()?;
        if boot.kernel.is_none() {
            println!("{series}: the guest never spoke ({boot}); booting again");
            boot = guest.boot()?;
        }
        for line in boot.failures.iter().chain(&boot.counts.skips) {
            println!("  {series}: {line}");
        }
        if boot.passed(least) {
            println!("PASS {series}: {boot}");
            passed += 1;
        } else {
            println!("FAIL {series}: {boot}, see {}/", guest.logs.display());
            failed += 1;
        }
    }
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    Ok(failed == 0)
}

/// Builds the live tests and forktrace, linked statically, and puts them and a
/// `test.sh` that runs them into `folder`; of the tests only those with a filter in
/// their name, if there are filters. Returns the folder.
fn live_tests(folder: &Path, filters: &[String]) -> Result<PathBuf> {
    let messages = output(
        cargo()?
            .args(["test", "--no-run", "--package", "forktrace"])
            .args(["--test", "live"])
            .args(["--target", TRIPLE])
            .arg("--message-format=json-render-diagnostics")
            // Without debug information, which the guest would hold in memory.
            .env(
                "RUSTFLAGS",
                "-Ctarget-feature=+crt-static -Cstrip=debuginfo",
            ),
    )?;
    let executables = executables(&messages)?;
    if folder.exists() {
        fs::remove_dir_all(folder)
            .with_context(|| format!("could not remove {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("could not make {}", folder.display()))?;
    for program in ["forktrace", "live"] {
        let (_, path) = executables
            .iter()
            .find(|(name, _)| name == program)
            .with_context(|| format!("cargo built no {program} for the live tests"))?;
        let copy = folder.join(program);
        fs::copy(path, &copy)
            .with_context(|| format!("could not copy {} to {}", path.display(), copy.display()))?;
    }
    fs::write(folder.join("test.sh"), LIVE).context("could not write test.sh")?;
    fs::write(folder.join("filters"), filters.join("\n")).context("could not write filters")?;
    Ok(folder.to_owned())
}

/// The executables in cargo's JSON messages: their targets' names and paths.
fn executables(messages: &str) -> Result<Vec<(String, PathBuf)>> {
    let mut executables = Vec::new();
    for line in messages.lines() {
        let message: serde_json::Value =
            serde_json::from_str(line).with_context(|| format!("cargo printed {line:?}"))?;
        if let (Some(name), Some(path)) = (
            message["target"]["name"].as_str(),
            message["executable"].as_str(),
        ) {
            executables.push((name.to_owned(), PathBuf::from(path)));
        }
    }
    Ok(executables)
}

/// An initramfs with busybox, `INIT`, the payload below /t, and the built-in claims.
fn initramfs_of(payload: &Path) -> Result<Vec<u8>> {
    ensure!(
        payload.join("test.sh").is_file(),
        "the payload {} has no test.sh",
        payload.display()
    );
    let busybox = find_program("busybox").context("no busybox in PATH: run `cargo xtask setup`")?;
    let busybox =
        fs::read(&busybox).with_context(|| format!("could not read {}", busybox.display()))?;
    let dynamic = busybox.windows(10).any(|bytes| bytes == b"/ld-linux-");
    ensure!(
        !dynamic,
        "the busybox here is linked dynamically: install the package busybox-static"
    );
    let mut archive = Archive::default();
    for folder in ["dev", "etc", "proc", "root", "run", "sys", "tmp"] {
        archive.directory(folder);
    }
    // The kernel opens it before there is a devtmpfs.
    archive.character_device("dev/console", (5, 1));
    archive.file("bin/busybox", 0o755, &busybox);
    archive.file("etc/passwd", 0o644, PASSWD);
    archive.file("etc/group", 0o644, GROUP);
    archive.file("init", 0o755, INIT.as_bytes());
    add_folder(&mut archive, payload, "t")?;
    // The tests alter these, and look for them where they were compiled.
    let claims = root()?.join("forktrace-claims/claims");
    let there = claims.to_str().context("the project's path is not UTF-8")?;
    add_folder(&mut archive, &claims, there.trim_start_matches('/'))?;
    Ok(archive.finish())
}

/// Adds what is in `folder` below the path `to`.
fn add_folder(archive: &mut Archive, folder: &Path, to: &str) -> Result<()> {
    archive.directory(to);
    let entries =
        fs::read_dir(folder).with_context(|| format!("could not list {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let to = format!("{to}/{name}");
        if path.is_dir() {
            add_folder(archive, &path, &to)?;
        } else {
            let content =
                fs::read(&path).with_context(|| format!("could not read {}", path.display()))?;
            let mode = fs::metadata(&path)?.permissions().mode();
            archive.file(&to, mode & 0o777, &content);
        }
    }
    Ok(())
}
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_names_its_executables() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"lib"},"executable":null}
{"reason":"compiler-artifact","target":{"name":"live_run"},"executable":"/t/live_run-0"}
{"reason":"build-finished","success":true}"#;
        assert_eq!(
            executables(messages).unwrap(),
            [("live_run".to_owned(), PathBuf::from("/t/live_run-0"))]
        );
        assert!(executables("warning: no JSON").is_err());
    }
}
