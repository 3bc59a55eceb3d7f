//! What is handed out: `cargo xtask deb`, `static` and `package`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};
use object::{Object as _, read::elf::ElfFile64};

use serde::Deserialize;

use crate::util::{cargo, metadata, output, root, run as run_command, target_dir};

/// Programs are linked with the C library of this target.
const STATIC_TARGET: &str = "x86_64-unknown-linux-gnu";

/// Builds a Debian package of forktrace, its manual and its completions.
pub(crate) fn deb() -> Result<()> {
    ensure!(
        cargo()?
            .args(["deb", "--version"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success()),
        "cargo-deb is not installed: run `cargo install --locked cargo-deb`"
    );
    run_command(cargo()?.args(["build", "--release", "--locked", "-p", "forktrace"]))?;
    let forktrace = target_dir()?.join("release/forktrace");
    // Where the manifest looks for them, wherever cargo builds.
    let folder = root()?.join("target/deb");
    if folder.exists() {
        fs::remove_dir_all(&folder)
            .with_context(|| format!("could not remove {}", folder.display()))?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("could not make {}", folder.display()))?;
    let pages = folder.join("man1");
    run_command(Command::new(&forktrace).args(["man", "--all"]).arg(pages))?;
    for (shell, file) in [
        ("bash", "forktrace.bash"),
        ("zsh", "_forktrace"),
        ("fish", "forktrace.fish"),
    ] {
        let script = output(Command::new(&forktrace).args(["completions", shell]))?;
        let path = folder.join(file);
        fs::write(&path, script).with_context(|| format!("could not write {}", path.display()))?;
    }
    let package = target_dir()?.join("debian");
    run_command(
        cargo()?
            .args(["deb", "--no-build", "--locked", "-p", "forktrace", "-o"])
            .arg(&package),
    )?;
    println!("the package is in {}", package.display());
    Ok(())
}

/// Builds a forktrace that needs no library of the machine that it runs on.
pub(crate) fn static_program() -> Result<()> {
    run_command(
        cargo()?
            .args(["build", "--release", "--locked", "-p", "forktrace"])
            .args(["--target", STATIC_TARGET])
            .env("RUSTFLAGS", "-Ctarget-feature=+crt-static"),
    )
    .context("it takes the static C library: package libc6-dev, or glibc-static")?;
    let built = target_dir()?.join(format!("{STATIC_TARGET}/release/forktrace"));
    let program =
        fs::read(&built).with_context(|| format!("could not read {}", built.display()))?;
    let needed = libraries(&program)?;
    ensure!(
        needed.is_empty(),
        "{} needs {}",
        built.display(),
        needed.join(", ")
    );
    println!(
        "{}: {:.1} MB, needs no library",
        built.display(),
        program.len() as f64 / 1e6
    );
    Ok(())
}

/// The shared libraries that an ELF program asks for.
fn libraries(program: &[u8]) -> Result<Vec<String>> {
    let file: ElfFile64<'_> = ElfFile64::parse(program).context("no ELF program")?;
    let imports = file.imports().context("its dynamic section is damaged")?;
    let mut names: Vec<_> = imports
        .iter()
        .map(|import| String::from_utf8_lossy(import.library()).into_owned())
        .collect();
    names.sort();
    names.dedup();
    Ok(names)
}

/// Packs the crates as the registry would get them, unpacks them, and runs their tests
/// there: nothing that they need is left outside.
pub(crate) fn package() -> Result<()> {
    let target = target_dir()?;
    let packed = target.join("package");
    let published = published()?;
    for package in &published {
        package.check()?;
    }
    let mut pack = cargo()?;
    pack.args(["package", "--locked", "--no-verify", "--allow-dirty"]);
    for package in &published {
        pack.args(["-p", &package.name]);
    }
    run_command(&mut pack)?;

    let stage = packed.join("unpacked");
    if stage.exists() {
        fs::remove_dir_all(&stage)
            .with_context(|| format!("could not remove {}", stage.display()))?;
    }
    fs::create_dir_all(&stage).with_context(|| format!("could not make {}", stage.display()))?;
    // A workspace in which each takes the others from beside it, not from the registry.
    let mut manifest = "[workspace]\nresolver = \"3\"\nmembers = [\"*-*.*.*\"]\n\
                        [profile.dev]\nopt-level = 1\ndebug = \"line-tables-only\"\n\
                        [patch.crates-io]\n"
        .to_owned();
    for package in &published {
        let folder = format!("{}-{}", package.name, package.version);
        run_command(
            Command::new("tar")
                .arg("-xzf")
                .arg(packed.join(format!("{folder}.crate")))
                .arg("-C")
                .arg(&stage),
        )?;
        require_files(&stage.join(&folder))?;
        manifest += &format!("{} = {{ path = \"{folder}\" }}\n", package.name);
    }
    let write = |file: &str, content: &[u8]| {
        let path = stage.join(file);
        fs::write(&path, content).with_context(|| format!("could not write {}", path.display()))
    };
    write("Cargo.toml", manifest.as_bytes())?;
    let lock = root()?.join("Cargo.lock");
    write(
        "Cargo.lock",
        &fs::read(&lock).context("there is no Cargo.lock")?,
    )?;
    run_command(
        cargo()?
            .current_dir(&stage)
            .args(["test", "--workspace", "--target-dir"])
            .arg(&target),
    )
}

/// A package of this project as `cargo metadata` describes it.
#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    description: Option<String>,
    license: Option<String>,
    readme: Option<PathBuf>,
    repository: Option<String>,
    keywords: Vec<String>,
    categories: Vec<String>,
    manifest_path: PathBuf,
    /// An empty list for those that stay here.
    publish: Option<Vec<String>>,
}

/// The packages that the registry gets.
fn published() -> Result<Vec<Package>> {
    let mut packages: Vec<Package> = metadata(&["--no-deps"])?;
    packages.retain(|package| package.publish.is_none());
    Ok(packages)
}

impl Package {
    /// Fails unless it has all that the registry shows of a crate.
    fn check(&self) -> Result<()> {
        for (what, is_there) in [
            ("description", self.description.is_some()),
            ("license", self.license.is_some()),
            ("readme", self.readme.is_some()),
            ("repository", self.repository.is_some()),
            ("keywords", !self.keywords.is_empty()),
            ("categories", !self.categories.is_empty()),
        ] {
            let manifest = self.manifest_path.display();
            ensure!(is_there, "{manifest} has no {what}");
        }
        let folder = self.manifest_path.parent().unwrap_or(Path::new(""));
        for file in LICENCES {
            let file = folder.join(file);
            ensure!(
                file.is_file(),
                "there is no {}: make it a link to the one in the root",
                file.display()
            );
        }
        Ok(())
    }
}

const LICENCES: [&str; 2] = ["LICENSE-MIT", "LICENSE-APACHE"];

/// Fails unless the folder of an unpacked crate has what belongs to it.
fn require_files(folder: &Path) -> Result<()> {
    for file in LICENCES.into_iter().chain(["README.md"]) {
        let path = folder.join(file);
        if !path.is_file() {
            bail!("{} is not in the package", path.display());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_crate_says_what_the_registry_shows() {
        for package in published().expect("cargo metadata") {
            if let Err(error) = package.check() {
                panic!("{error:#}");
            }
        }
    }
}
