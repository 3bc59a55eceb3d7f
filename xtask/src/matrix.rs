//! `cargo xtask matrix`: the live tests on other kernels.
//!
//! Real Debian kernels are downloaded (never installed) and each is booted
//! under qemu's software emulation, with an initramfs that holds busybox and
//! statically linked test binaries. The guest has no python, redis or perf:
//! tests that want those skip themselves. Nothing is timed in there.

use std::{
    env, fmt, fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    cpio::Archive,
    test::Counts,
    util::{cargo, find_program, output, run as run_command, target_dir},
};

pub(crate) const DEFAULT_KERNELS: [&str; 4] = ["6.1", "6.12", "6.18", NEWEST];
const NEWEST: &str = "newest";

/// The target triple, given to cargo so that what is linked statically does
/// not displace what other commands built.
const TRIPLE: &str = "x86_64-unknown-linux-gnu";

/// Where Debian's kernels are: suites, and the same of the security archive.
const SUITES: [&str; 4] = ["bullseye", "bookworm", "trixie", "trixie-backports"];
const SECURITY_SUITES: [&str; 3] = ["bullseye-security", "bookworm-security", "trixie-security"];
const ARCHIVE: &str = "http://deb.debian.org/debian";
const SECURITY_ARCHIVE: &str = "http://deb.debian.org/debian-security";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// The flavour with drivers for virtual machines only: the smallest download.
const FLAVOUR: &str = "-cloud-amd64";
/// How old the package lists may be.
const LISTS_AGE: Duration = Duration::from_secs(24 * 60 * 60);

const GUEST_MEMORY_MB: &str = "1024";
const GUEST_CPUS: &str = "2";
/// How long a guest may take. Tests run there some 20 times slower.
const GUEST_TIMEOUT: Duration = Duration::from_secs(600);

/// The first process of the guest. The console is on the first serial line;
/// the second carries what the tests print, between two lines of ours.
const INIT: &str = "#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin HOME=/tmp
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
mount -t tracefs tracefs /sys/kernel/tracing
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cg /sys/fs/cgroup 2>/dev/null
ip link set lo up
# Kernels before 5.11 charge BPF maps to the locked memory.
ulimit -l unlimited
stty -F /dev/ttyS1 raw
cd /t
{ echo; echo \"GUEST-KERNEL $(uname -r)\"; sh /t/test.sh 2>&1; echo \"GUEST-EXIT $?\"; } >/dev/ttyS1
poweroff -f
";

/// Boots each kernel, and prints a line for each and the counts of kernels.
/// Gives whether none failed.
///
/// `payload` is a folder to take instead of the live tests.
pub(crate) fn run(kernels: &[String], payload: Option<&Path>) -> Result<bool> {
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
        None => (live_tests(&work.join("payload"))?, 1),
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
/// `test.sh` that runs them into `folder`. Returns the folder.
fn live_tests(folder: &Path) -> Result<PathBuf> {
    let messages = output(
        cargo()?
            .args([
                "test",
                "--no-run",
                "--package",
                "forktrace",
                "--test",
                "live*",
            ])
            .args(["--target", TRIPLE])
            .arg("--message-format=json-render-diagnostics")
            // Without debug information, which the guest would hold in memory.
            .env(
                "RUSTFLAGS",
                "-Ctarget-feature=+crt-static -Cstrip=debuginfo",
            ),
    )?;
    let executables = executables(&messages)?;
    ensure!(
        executables.iter().any(|(name, _)| name == "forktrace"),
        "cargo built no forktrace binary with the live tests"
    );
    if folder.exists() {
        fs::remove_dir_all(folder)
            .with_context(|| format!("could not remove {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("could not make {}", folder.display()))?;
    let mut script = String::from("export FORKTRACE_BIN=/t/forktrace\nresult=0\n");
    for (name, path) in &executables {
        let copy = folder.join(name);
        fs::copy(path, &copy)
            .with_context(|| format!("could not copy {} to {}", path.display(), copy.display()))?;
        if name.starts_with("live") {
            script += &format!("/t/{name} --test-threads=1 --show-output || result=1\n");
        }
    }
    script += "exit $result\n";
    fs::write(folder.join("test.sh"), script).context("could not write test.sh")?;
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

/// An initramfs with busybox, `INIT`, and the payload below /t.
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
    archive.file("etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\n");
    archive.file("etc/group", 0o644, b"root:x:0:\n");
    archive.file("init", 0o755, INIT.as_bytes());
    add_folder(&mut archive, payload, "t")?;
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

/// The kernels in Debian's archive, through an apt of our own: with its own
/// suites, lists and cache, and without the system's packages.
struct KernelArchive {
    /// Everything that apt writes, and the kernels taken out of the packages.
    folder: PathBuf,
    /// All packages with a kernel of our flavour.
    packages: Vec<String>,
}

impl KernelArchive {
    /// Fetches the package lists if those in `work` are older than a day. Lists
    /// that can't be fetched are no error: what is there is used.
    fn open(work: &Path) -> Result<KernelArchive> {
        let mut archive = KernelArchive {
            folder: work.join("kernels"),
            packages: Vec::new(),
        };
        let apt = archive.folder.join("apt");
        for folder in ["lists/partial", "cache/archives/partial", "empty"] {
            fs::create_dir_all(apt.join(folder))
                .with_context(|| format!("could not make {folder} in {}", apt.display()))?;
        }
        let mut sources = String::new();
        for (uri, suites) in [
            (ARCHIVE, SUITES.as_slice()),
            (SECURITY_ARCHIVE, &SECURITY_SUITES),
        ] {
            for suite in suites {
                sources += &format!("deb [arch=amd64 signed-by={KEYRING}] {uri} {suite} main\n");
            }
        }
        fs::write(apt.join("sources.list"), sources).context("could not write sources.list")?;

        let stamp = apt.join("updated");
        let age = fs::metadata(&stamp)
            .and_then(|stamp| stamp.modified())
            .map(|then| SystemTime::now().duration_since(then).unwrap_or_default());
        if age.is_err() || age.is_ok_and(|age| age > LISTS_AGE) {
            println!("fetching the lists of Debian's packages");
            // A suite that has left the archive spoils only itself.
            match run_command(archive.apt("apt-get").args(["update", "-qq"])) {
                Ok(()) => fs::write(&stamp, "").context("could not write a time stamp")?,
                Err(error) => println!("going on with what there is: {error:#}"),
            }
        }
        let names = output(archive.apt("apt-cache").args(["pkgnames", "linux-"]))?;
        archive.packages = names
            .lines()
            .filter(|name| release(name).is_some())
            .map(str::to_owned)
            .collect();
        Ok(archive)
    }

    /// apt with our own folders.
    fn apt(&self, program: &str) -> Command {
        let apt = self.folder.join("apt");
        let mut command = Command::new(program);
        for (key, path) in [
            ("Dir::State::Lists", "lists"),
            ("Dir::Cache", "cache"),
            ("Dir::Etc::SourceList", "sources.list"),
            ("Dir::Etc::SourceParts", "empty"),
            ("Dir::Etc::PreferencesParts", "empty"),
        ] {
            command.arg(format!("-o{key}={}", apt.join(path).display()));
        }
        command.args([
            "-oDir::State::status=/dev/null",
            "-oAPT::Sandbox::User=root",
            "-oAcquire::Languages=none",
            "-oAcquire::IndexTargets::deb::DEP-11::DefaultEnabled=false",
            "-oAcquire::IndexTargets::deb::Contents-deb::DefaultEnabled=false",
        ]);
        command
    }

    /// The image of the newest kernel of a series, downloaded if it is not here
    /// yet. Fails if the archive has none or it can't be reached.
    fn kernel(&self, series: &str) -> Result<PathBuf> {
        let package = newest(&self.packages, series)
            .with_context(|| format!("no kernel {series} in Debian's archive any more"))?;
        let image = self.folder.join(package).join("vmlinuz");
        if image.is_file() {
            return Ok(image);
        }
        println!("fetching {package}");
        let unpacked = tempfile::tempdir_in(&self.folder).context("no temporary folder")?;
        run_command(
            self.apt("apt-get")
                .args(["download", "-qq", package])
                .current_dir(unpacked.path()),
        )?;
        let deb = find_file(unpacked.path(), &|name| name.ends_with(".deb"))?
            .with_context(|| format!("apt-get downloaded no file for {package}"))?;
        run_command(
            Command::new("dpkg-deb")
                .arg("--extract")
                .args([&deb, unpacked.path()]),
        )?;
        let found = find_file(unpacked.path(), &|name| name.starts_with("vmlinuz"))?
            .with_context(|| format!("the package {package} holds no vmlinuz"))?;
        fs::create_dir_all(self.folder.join(package)).context("could not make a folder")?;
        fs::rename(&found, &image).with_context(|| {
            format!("could not move {} to {}", found.display(), image.display())
        })?;
        Ok(image)
    }
}

/// The kernel release in the name of a package that holds a kernel image:
/// `linux-image-…`, or since 6.19 `linux-binary-…`.
fn release(package: &str) -> Option<&str> {
    let release = package
        .strip_prefix("linux-image-")
        .or_else(|| package.strip_prefix("linux-binary-"))?
        .strip_suffix(FLAVOUR)?;
    // Neither `…-unsigned-…` nor those that only depend on a series' newest.
    let versioned = release.starts_with(|c: char| c.is_ascii_digit());
    (versioned && numbers(release).len() > 2).then_some(release)
}

/// The package with the newest kernel of a series, or of all.
fn newest<'a>(packages: &'a [String], series: &str) -> Option<&'a str> {
    let series = if series == NEWEST {
        Vec::new()
    } else {
        numbers(series)
    };
    packages
        .iter()
        .filter_map(|package| {
            let release = numbers(release(package)?);
            // Since 6.19 `linux-image-…` has the signed image alone.
            let binary = package.starts_with("linux-binary-");
            release
                .starts_with(&series)
                .then_some(((release, binary), package.as_str()))
        })
        .max()
        .map(|(_, package)| package)
}

/// The numbers in a version, for comparing: 6.12.9+deb13 is older than 6.12.43.
fn numbers(version: &str) -> Vec<u64> {
    version
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
        .collect()
}

/// A file below `folder` whose name is wanted. Links are not followed.
fn find_file(folder: &Path, wanted: &dyn Fn(&str) -> bool) -> Result<Option<PathBuf>> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("could not list {}", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            if let Some(found) = find_file(&entry.path(), wanted)? {
                return Ok(Some(found));
            }
        } else if kind.is_file() && wanted(&entry.file_name().to_string_lossy()) {
            return Ok(Some(entry.path()));
        }
    }
    Ok(None)
}

/// A virtual machine.
struct Guest<'a> {
    qemu: &'a Path,
    kernel: &'a Path,
    initramfs: &'a Path,
    /// A folder for its console and for what the tests print.
    logs: PathBuf,
}

impl Guest<'_> {
    /// Boots it and waits for its end. Fails only if qemu can't be started:
    /// what goes wrong inside is a result.
    fn boot(&self) -> Result<Boot> {
        fs::create_dir_all(&self.logs)
            .with_context(|| format!("could not make {}", self.logs.display()))?;
        let [console, tests, errors] = ["console", "tests", "qemu"].map(|log| self.logs.join(log));
        for log in [&console, &tests] {
            fs::write(log, "").with_context(|| format!("could not write {}", log.display()))?;
        }
        let start = Instant::now();
        let mut qemu = Command::new(self.qemu)
            .args(["-machine", "q35", "-cpu", "max"])
            // Most machines that run this are virtual and can't nest.
            .args(["-accel", "tcg,thread=multi"])
            .args(["-smp", GUEST_CPUS, "-m", GUEST_MEMORY_MB])
            .args(["-nodefaults", "-no-user-config", "-no-reboot"])
            .args(["-display", "none", "-monitor", "none"])
            .args(["-serial", &format!("file:{}", console.display())])
            .args(["-serial", &format!("file:{}", tests.display())])
            .arg("-kernel")
            .arg(self.kernel)
            .arg("-initrd")
            .arg(self.initramfs)
            .args(["-append", "console=ttyS0 quiet panic=-1 oops=panic"])
            .stdin(Stdio::null())
            .stderr(fs::File::create(&errors)?)
            .spawn()
            .with_context(|| format!("could not start {}", self.qemu.display()))?;
        let exit = loop {
            if let Some(status) = qemu.try_wait().context("could not wait for qemu")? {
                break Some(status);
            }
            if start.elapsed() > GUEST_TIMEOUT {
                qemu.kill().context("could not stop qemu")?;
                qemu.wait().context("could not wait for qemu")?;
                break None;
            }
            thread::sleep(Duration::from_millis(50));
        };
        let log =
            fs::read(&tests).with_context(|| format!("could not read {}", tests.display()))?;
        let mut boot = Boot::read(&String::from_utf8_lossy(&log));
        boot.elapsed = start.elapsed();
        // A guest that panics makes qemu exit with 0 all the same; an exit
        // with something else is qemu's own failure, and worth its words.
        boot.trouble = match exit {
            None => Some(format!("stopped after {} s", GUEST_TIMEOUT.as_secs())),
            Some(status) if !status.success() => {
                let words = fs::read_to_string(&errors).unwrap_or_default();
                Some(format!("qemu: {status}: {}", words.trim()))
            }
            Some(_) => None,
        };
        Ok(boot)
    }
}

/// What came of booting a guest.
#[derive(Default)]
struct Boot {
    /// Its kernel's release; none if it never spoke.
    kernel: Option<String>,
    /// What test.sh returned; none if it did not get that far.
    exit: Option<i32>,
    counts: Counts,
    /// The lines of tests that failed.
    failures: Vec<String>,
    /// What is known if it did not end by itself.
    trouble: Option<String>,
    elapsed: Duration,
}

impl Boot {
    /// Reads what the guest printed on its second serial line.
    fn read(log: &str) -> Boot {
        let mut boot = Boot::default();
        for line in log.lines() {
            let line = line.trim_end();
            if let Some(kernel) = line.strip_prefix("GUEST-KERNEL ") {
                boot.kernel = Some(kernel.to_owned());
            } else if let Some(exit) = line.strip_prefix("GUEST-EXIT ") {
                boot.exit = exit.parse().ok();
            } else {
                if line.starts_with("test ") && line.ends_with(" ... FAILED") {
                    boot.failures.push(line.to_owned());
                }
                boot.counts.add_line(line);
            }
        }
        boot.counts.end_of_output();
        boot
    }

    /// Whether test.sh ran to a good end, with at least so many tests passed.
    fn passed(&self, least: usize) -> bool {
        self.exit == Some(0) && self.counts.failed == 0 && self.counts.passed >= least
    }
}

impl fmt::Display for Boot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kernel = self.kernel.as_deref().unwrap_or("kernel unknown");
        let seconds = self.elapsed.as_secs_f64();
        write!(f, "{}, {kernel}, {seconds:.1} s", self.counts.line())?;
        match (&self.trouble, self.exit) {
            (Some(trouble), _) => write!(f, ", {trouble}"),
            (None, None) => write!(f, ", ended before its tests did"),
            (None, Some(0)) => Ok(()),
            (None, Some(exit)) => write!(f, ", exit status {exit}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packages() -> Vec<String> {
        [
            "linux-image-6.1.0-9-cloud-amd64",
            "linux-image-6.1.0-47-cloud-amd64",
            "linux-image-6.12-cloud-amd64",
            "linux-image-6.12.9+deb13-cloud-amd64",
            "linux-image-6.12.43+deb12-cloud-amd64",
            "linux-image-6.12.43+deb13-cloud-amd64",
            "linux-image-6.12.43+deb13-cloud-amd64-unsigned",
            "linux-image-6.12.99+deb13-amd64",
            "linux-image-7.3.4+deb13-cloud-amd64",
            "linux-binary-unsigned-7.3.4+deb13-cloud-amd64",
            "linux-binary-7.3.4+deb13-cloud-amd64",
            "linux-headers-7.9.4+deb13-cloud-amd64",
        ]
        .map(str::to_owned)
        .into()
    }

    #[test]
    fn the_newest_kernel_of_a_series() {
        let packages = packages();
        let newest = |series| newest(&packages, series);
        assert_eq!(newest("6.1"), Some("linux-image-6.1.0-47-cloud-amd64"));
        assert_eq!(
            newest("6.12"),
            Some("linux-image-6.12.43+deb13-cloud-amd64")
        );
        assert_eq!(
            newest("newest"),
            Some("linux-binary-7.3.4+deb13-cloud-amd64")
        );
        assert_eq!(newest("6.18"), None);
        assert_eq!(newest("6"), newest("6.12"));
    }

    #[test]
    fn a_boot_passes_only_with_tests_and_a_clean_end() {
        let tests = "GUEST-KERNEL 6.12.43\r\nrunning 2 tests\r\ntest a ... ok\r\ntest b ... ok\r\n\
                     test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured\r\n";
        let boot = Boot::read(&format!("{tests}GUEST-EXIT 0\r\n"));
        assert!(boot.passed(1));
        assert_eq!(
            boot.to_string(),
            "2 passed, 0 failed, 0 skipped, 6.12.43, 0.0 s"
        );

        assert!(!Boot::read(tests).passed(1));
        assert!(!Boot::read(&format!("{tests}GUEST-EXIT 101\n")).passed(1));
        let silent = Boot::read("GUEST-KERNEL 6.12.43\nGUEST-EXIT 0\n");
        assert!(silent.passed(0) && !silent.passed(1));
        assert!(Boot::read("").kernel.is_none());
    }

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
