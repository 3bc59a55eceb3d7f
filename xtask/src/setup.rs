//! `cargo xtask setup`: installs what is needed to rebuild the BPF object and
//! to run every test. What is there already is left alone, so that a second
//! run is quick and needs no network.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::util::{cargo, find_program, is_root, output, run as run_command};

/// Debian's way to the eBPF toolchain: a compiler with the source of its
/// standard library, and the LLVM it uses, for bpf-linker and llvm-strip.
const EBPF_PACKAGES: [&str; 5] = [
    "rustc-web",
    "cargo-web",
    "rust-web-src",
    "llvm-22",
    "llvm-22-dev",
];

/// A C compiler links Rust; the others are what live tests and benchmarks
/// trace, compare with, or boot (`cargo xtask matrix`). A test fails where its
/// tool is absent, unless `FORKTRACE_TESTS_LACK` names it. A JVM and PostgreSQL
/// wait in ways of their own: monitors that are timed futexes, semaphores in memory
/// that processes share, locks that are granted by a signal.
const TOOL_PACKAGES: [&str; 15] = [
    "g++",
    "gcc",
    "libc6-dev",
    "python3",
    "strace",
    "linux-perf",
    "libbpf-tools",
    "redis-server",
    "redis-tools",
    "default-jdk-headless",
    "postgresql",
    "util-linux",
    "mount",
    "qemu-system-x86",
    "busybox-static",
];

const LINKER_VERSION: &str = "0.13.0";
/// Where Debian's LLVM 22 is, whose major version bpf-linker has to share with
/// Debian's compiler.
const DEBIAN_LLVM: &str = "/usr/lib/llvm-22";

/// Prepares the machine and prints what it found and did.
pub(crate) fn run() -> Result<()> {
    let debian_compiler = if find_program("apt-get").is_some() {
        packages()?
    } else {
        println!(
            "packages: there is no apt-get here; the tests use what is installed of {}",
            TOOL_PACKAGES.join(", ")
        );
        false
    };
    if !debian_compiler {
        nightly()?;
    }
    linker(debian_compiler)?;
    components()
}

/// Installs the packages that are missing. Gives whether Debian's eBPF
/// toolchain is now here; other releases and Ubuntu don't have all of it.
fn packages() -> Result<bool> {
    let wanted = [EBPF_PACKAGES.as_slice(), &TOOL_PACKAGES].concat();
    let missing = not_installed(&wanted)?;
    if missing.is_empty() {
        println!("packages: all {} are installed", wanted.len());
        return Ok(true);
    }
    // A source of packages that can't be reached spoils the update but not
    // necessarily what we want from the others.
    if let Err(error) = run_command(as_root("apt-get")?.args(["update", "-q"])) {
        println!("packages: going on with the lists that are here: {error:#}");
    }
    let archive = candidates(&missing)?;
    let has_compiler = EBPF_PACKAGES
        .iter()
        .all(|package| !missing.contains(package) || archive.contains(package));
    let (install, absent): (Vec<_>, Vec<_>) = missing.into_iter().partition(|package| {
        archive.contains(package) && (has_compiler || !EBPF_PACKAGES.contains(package))
    });
    if !install.is_empty() {
        // `--no-remove`: Debian's other Rust packages conflict with these, and
        // whoever installed those should decide.
        run_command(
            as_root("apt-get")?
                .args([
                    "install",
                    "-y",
                    "-q",
                    "--no-install-recommends",
                    "--no-remove",
                ])
                .args(&install),
        )
        .context("could not install packages: see what apt-get says above")?;
        println!("packages: installed {}", install.join(" "));
    }
    if !absent.is_empty() {
        println!(
            "packages: left out, not in this archive: {}",
            absent.join(" ")
        );
    }
    for server in ["redis-server", "postgresql"] {
        if !install.contains(&server) {
            continue;
        }
        // Its package starts a server and has it started at each boot. The
        // tests start their own; both commands fail where there is no init.
        for arguments in [
            ["service", server, "stop"],
            ["update-rc.d", server, "disable"],
        ] {
            let mut command = as_root(arguments[0])?;
            if let Err(error) = run_command(command.args(&arguments[1..])) {
                println!("packages: no {server} service to stop: {error:#}");
            }
        }
    }
    Ok(has_compiler)
}

/// Which of these packages dpkg does not have.
fn not_installed(packages: &[&'static str]) -> Result<Vec<&'static str>> {
    // It exits with 1 when it doesn't know one of them: that is an answer.
    let query = Command::new("dpkg-query")
        .args(["-W", "-f=${Package} ${db:Status-Status}\n"])
        .args(packages)
        .stderr(Stdio::null())
        .output()
        .context("could not start dpkg-query")?;
    let text = String::from_utf8_lossy(&query.stdout);
    Ok(packages
        .iter()
        .copied()
        .filter(|package| !text.lines().any(|l| l == format!("{package} installed")))
        .collect())
}

/// Which of these packages apt could install.
fn candidates(packages: &[&'static str]) -> Result<Vec<&'static str>> {
    let policy = output(
        Command::new("apt-cache")
            .arg("policy")
            .args(packages)
            .env("LC_ALL", "C"),
    )?;
    Ok(parse_policy(&policy, packages))
}

/// Reads `apt-cache policy`: a line `package:` and, indented below it, a line
/// `Candidate: version`, with `(none)` for a name that others only refer to.
fn parse_policy(policy: &str, packages: &[&'static str]) -> Vec<&'static str> {
    let mut found = Vec::new();
    let mut current = "";
    for line in policy.lines() {
        if !line.starts_with(' ') {
            current = line.trim_end_matches(':');
        } else if let Some(version) = line.trim().strip_prefix("Candidate: ")
            && version != "(none)"
        {
            found.extend(packages.iter().copied().find(|package| *package == current));
        }
    }
    found
}

/// A command that runs as root, through sudo if we are not root.
fn as_root(program: &str) -> Result<Command> {
    let mut command = if is_root() {
        Command::new(program)
    } else {
        ensure!(
            find_program("sudo").is_some(),
            "installing packages needs root and there is no sudo: run `cargo xtask setup` as root"
        );
        let mut sudo = Command::new("sudo");
        // sudo clears the environment.
        sudo.args(["env", "DEBIAN_FRONTEND=noninteractive", program]);
        sudo
    };
    command.env("DEBIAN_FRONTEND", "noninteractive");
    Ok(command)
}

/// Installs rustup's nightly with what a build of the object needs.
fn nightly() -> Result<()> {
    const COMPONENTS: [&str; 2] = ["rust-src", "llvm-tools"];
    ensure!(
        find_program("rustup").is_some(),
        "this system has no package of the eBPF toolchain: install rustup (https://rustup.rs) and \
         run `cargo xtask setup` again"
    );
    let installed = Command::new("rustup")
        .args(["component", "list", "--installed", "--toolchain", "nightly"])
        .stderr(Stdio::null())
        .output()
        .context("could not start rustup")?;
    let installed = String::from_utf8_lossy(&installed.stdout).into_owned();
    if COMPONENTS
        .iter()
        .all(|component| installed.lines().any(|l| l.starts_with(component)))
    {
        println!("nightly Rust: found, with {}", COMPONENTS.join(" and "));
        return Ok(());
    }
    let mut command = Command::new("rustup");
    command.args(["toolchain", "install", "nightly", "--profile", "minimal"]);
    for component in COMPONENTS {
        command.args(["--component", component]);
    }
    run_command(&mut command)?;
    println!("nightly Rust: installed, with {}", COMPONENTS.join(" and "));
    Ok(())
}

/// Installs bpf-linker, built with the LLVM of the compiler it will work for.
fn linker(debian_compiler: bool) -> Result<()> {
    let wanted = format!("bpf-linker {LINKER_VERSION}");
    let found = Command::new("bpf-linker").arg("--version").output();
    if found.is_ok_and(|found| found.stdout.trim_ascii() == wanted.as_bytes()) {
        println!("{wanted}: found");
        return Ok(());
    }
    let mut install = cargo()?;
    install.args(["install", "bpf-linker", "--version", LINKER_VERSION]);
    install.args(["--locked", "--force"]);
    if debian_compiler {
        install
            .args(["--no-default-features", "--features", "llvm-22"])
            .env("LLVM_PREFIX", DEBIAN_LLVM);
    }
    run_command(&mut install).context(
        "could not build bpf-linker (prebuilt ones: \
         https://github.com/aya-rs/bpf-linker#installation)",
    )?;
    println!("{wanted}: installed");
    Ok(())
}

/// Makes sure of the parts of the stable toolchain that `cargo xtask ci` uses.
fn components() -> Result<()> {
    for (command, component) in [("fmt", "rustfmt"), ("clippy", "clippy")] {
        let found = cargo()?
            .args([command, "--version"])
            .stderr(Stdio::null())
            .output()
            .context("could not start cargo")?;
        if found.status.success() {
            println!("{component}: found");
            continue;
        }
        run_command(Command::new("rustup").args(["component", "add", component]))
            .with_context(|| format!("`cargo xtask ci` needs `cargo {command}`"))?;
        println!("{component}: installed");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_without_candidate_is_not_available() {
        let policy = "gcc:\n  Installed: (none)\n  Candidate: 4:12.2.0-3\n  Version table:\n     \
                      4:12.2.0-3 500\n        500 http://deb.debian.org/debian bookworm/main\n\
                      linux-perf:\n  Installed: (none)\n  Candidate: (none)\n  Version table:\n\
                      strace:\n  Installed: 6.1-0.1\n  Candidate: 6.1-0.1\n";
        let asked = ["strace", "rustc-web", "linux-perf", "gcc"];
        assert_eq!(parse_policy(policy, &asked), ["gcc", "strace"]);
    }
}
