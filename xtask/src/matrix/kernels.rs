//! Debian's kernels: found in its archive, downloaded, never installed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result};

use crate::util::{output, run as run_command};

pub(crate) const DEFAULT_KERNELS: [&str; 4] = ["6.1", "6.12", "6.18", NEWEST];
const NEWEST: &str = "newest";

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
/// The kernels in Debian's archive, through an apt of our own: with its own
/// suites, lists and cache, and without the system's packages.
pub(super) struct KernelArchive {
    /// Everything that apt writes, and the kernels taken out of the packages.
    folder: PathBuf,
    /// All packages with a kernel of our flavour.
    packages: Vec<String>,
}

impl KernelArchive {
    /// Fetches the package lists if those in `work` are older than a day. Lists
    /// that can't be fetched are no error: what is there is used.
    pub(super) fn open(work: &Path) -> Result<KernelArchive> {
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
    pub(super) fn kernel(&self, series: &str) -> Result<PathBuf> {
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
}
