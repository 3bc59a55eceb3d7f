//! `cargo xtask ebpf`: the BPF object, which is committed.
//!
//! eBPF in Rust needs `-Z build-std`, the source of the standard library and
//! `bpf-linker`. Nobody who just builds forktrace should need those, so the
//! object is in the tree, next to a record of what it was made from and with.
//! A test compares that record with the tree, and `--check` builds again and
//! compares bytes.

mod flow;

use std::{
    env,
    ffi::{OsStr, OsString},
    fmt, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};
use sha2::{Digest as _, Sha256};

use crate::util::{cargo_home, find_program, output, root, run as run_command, target_dir};

const TARGET: &str = "bpfel-unknown-none";
const OBJECT: &str = "forktrace-record/bpf/forktrace.bpf.o";
const RECORD: &str = "forktrace-record/bpf/forktrace.bpf.toml";

/// The crates whose files go into the object.
const EBPF_CRATE: &str = "forktrace-ebpf";
const COMMON_CRATE: &str = "forktrace-common";
/// What of a crate goes in, where it is there.
const CRATE_PARTS: [&str; 4] = ["Cargo.toml", "Cargo.lock", "src", ".cargo"];

/// Debian's compiler, its cargo, and the source of its standard library.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const DEBIAN_RUST_SRC: &str = "/usr/lib/rustlib/src/rust";

/// Builds the object and its record and writes both into the tree.
pub(crate) fn run() -> Result<()> {
    let root = root()?;
    let toolchain = Toolchain::find()?;
    // Taken before the build: with a file saved meanwhile the record then
    // does not fit the tree, which the test says.
    let sources = sources_sha256(&root)?;
    let object = build(&root, &target_dir()?.join("ebpf"), &toolchain)?;
    flow::check(&object)?;
    let record = Record {
        object_sha256: sha256(&object),
        sources_sha256: sources,
        versions: toolchain.versions,
    };
    write(&root.join(OBJECT), &object)?;
    write(&root.join(RECORD), record.to_string().as_bytes())?;
    println!("{OBJECT}: {} bytes\n{record}", object.len());
    Ok(())
}

/// What the check of the committed object could compare.
pub(crate) enum Checked {
    /// A new build has the same bytes.
    Rebuilt,
    /// There is a toolchain, but not the recorded one: it would give other bytes.
    OtherToolchain(String),
    /// There is no toolchain: what is missing.
    NoToolchain(anyhow::Error),
}

/// Fails unless the committed object is what its sources give.
///
/// The hashes of both are compared with the record. Then, where the recorded toolchain is
/// installed, the object is built again in a temporary folder, which also shows that it
/// does not depend on where it is built.
pub(crate) fn check() -> Result<Checked> {
    let root = root()?;
    let record = verify_record(&root)?;
    println!("{OBJECT}: the recorded one, of these sources, by their hashes");
    let toolchain = match Toolchain::find() {
        Ok(toolchain) => toolchain,
        Err(missing) => return Ok(Checked::NoToolchain(missing)),
    };
    if toolchain.versions != record.versions {
        return Ok(Checked::OtherToolchain(format!(
            "the object was made with another toolchain, so its bytes were not compared: \
             recorded {}, here {}",
            record.versions, toolchain.versions
        )));
    }
    let stage = tempfile::tempdir().context("could not make a temporary folder")?;
    let rebuilt = build(&root, stage.path(), &toolchain)?;
    ensure!(
        sha256(&rebuilt) == record.object_sha256,
        "{OBJECT} is not what its sources give: its sha256 is {}, that of a new build is {}. \
         Run `cargo xtask ebpf`",
        record.object_sha256,
        sha256(&rebuilt)
    );
    println!(
        "{OBJECT}: rebuilt in {}, identical ({} bytes)",
        stage.path().display(),
        rebuilt.len()
    );
    Ok(Checked::Rebuilt)
}

/// Whether the object can be built here.
pub(crate) fn toolchain_is_complete() -> bool {
    Toolchain::installed().is_ok()
}

/// Compares the committed object and the sources in the tree with the record.
fn verify_record(root: &Path) -> Result<Record> {
    let path = root.join(RECORD);
    let text = fs::read_to_string(&path)
        .with_context(|| format!("could not read {RECORD}: run `cargo xtask ebpf`"))?;
    let record = Record::parse(&text)
        .with_context(|| format!("could not make sense of {RECORD}: run `cargo xtask ebpf`"))?;
    let object = fs::read(root.join(OBJECT))
        .with_context(|| format!("could not read {OBJECT}: run `cargo xtask ebpf`"))?;
    ensure!(
        sha256(&object) == record.object_sha256,
        "{OBJECT} is not the recorded one (sha256 {}, recorded {}): run `cargo xtask ebpf`",
        sha256(&object),
        record.object_sha256
    );
    let sources = sources_sha256(root)?;
    ensure!(
        sources == record.sources_sha256,
        "the BPF object is older than its sources (sha256 {sources}, recorded {}): \
         run `cargo xtask ebpf`",
        record.sources_sha256
    );
    Ok(record)
}

/// Builds the stripped object. `stage` is a folder for copies and what cargo
/// builds; where it is makes no difference to the object.
fn build(root: &Path, stage: &Path, toolchain: &Toolchain) -> Result<Vec<u8>> {
    stage_sources(root, stage)?;
    // The name that stands in the object instead of each folder of this
    // machine. rustc takes the last prefix that matches.
    let stage = stage
        .canonicalize()
        .with_context(|| format!("{} is gone", stage.display()))?;
    let folders = [
        (stage.clone(), "/forktrace"),
        (cargo_home()?, "/cargo"),
        (toolchain.compiler.rust_src.clone(), "/rust"),
    ];
    let mut flags: Vec<OsString> = vec![
        // aya asks for the architecture of the kernel to choose the layout of
        // its `pt_regs`, which forktrace does not use: it reads such layouts
        // from the running kernel. Any architecture will do, but it has to be
        // the same one wherever the object is built.
        r#"--cfg=bpf_target_arch="x86_64""#.into(),
        // bpf-linker makes BTF from the debug information.
        "-Cdebuginfo=2".into(),
        "-Clink-arg=--btf".into(),
    ];
    for (folder, name) in folders {
        let mut flag = OsString::from("--remap-path-prefix=");
        flag.push(folder);
        flag.push("=");
        flag.push(name);
        flags.push(flag);
    }
    let mut command = toolchain.cargo(&stage)?;
    command
        .args(["build", "--release", "--locked", "-Zbuild-std=core"])
        .args(["--target", TARGET, "--target-dir", "target"])
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join(OsStr::new("\x1f")));
    run_command(&mut command).context(
        "could not build the eBPF programs (should their lock file be out of date: \
         `cargo update --workspace --manifest-path forktrace-ebpf/Cargo.toml`)",
    )?;

    let linked = stage.join(format!("target/{TARGET}/release/forktrace"));
    let stripped = stage.join("forktrace.bpf.o");
    // Without DWARF, which nothing reads and which is most of the size. BTF
    // has sections of its own and stays.
    run_command(
        Command::new(&toolchain.strip)
            .arg("-g")
            .arg("-o")
            .args([&stripped, &linked]),
    )?;
    fs::read(&stripped).with_context(|| format!("could not read {}", stripped.display()))
}

/// Copies the sources so that both crates lie in one workspace folder.
///
/// Cargo puts a hash into the name of every function, and that hash holds the
/// absolute path of a dependency outside the workspace folder: built in place,
/// with `../forktrace-common`, the object would differ from folder to folder.
fn stage_sources(root: &Path, stage: &Path) -> Result<()> {
    let common = stage.join(COMMON_CRATE);
    for path in [&common, &stage.join("src"), &stage.join(".cargo")] {
        if path.exists() {
            fs::remove_dir_all(path)
                .with_context(|| format!("could not remove {}", path.display()))?;
        }
    }
    for (folder, destination) in [(EBPF_CRATE, stage), (COMMON_CRATE, &common)] {
        for file in crate_files(&root.join(folder))? {
            let content = read(&root.join(folder).join(&file))?;
            write(&destination.join(&file), &content)?;
        }
    }
    let manifest = stage.join("Cargo.toml");
    let text = fs::read_to_string(&manifest)
        .with_context(|| format!("could not read {}", manifest.display()))?;
    let outside = format!("path = \"../{COMMON_CRATE}\"");
    ensure!(
        text.contains(&outside),
        "{EBPF_CRATE}/Cargo.toml has no dependency with `{outside}`: keep it in that form, or \
         change xtask/src/ebpf.rs with it"
    );
    let inside = format!("path = \"{COMMON_CRATE}\"");
    write(&manifest, text.replace(&outside, &inside).as_bytes())
}

/// One hash over every file that goes into the object: names and contents,
/// each with its length before it so that no two trees read the same.
fn sources_sha256(root: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    for folder in [COMMON_CRATE, EBPF_CRATE] {
        for file in crate_files(&root.join(folder))? {
            let path = Path::new(folder).join(file);
            let content = read(&root.join(&path))?;
            for bytes in [path.as_os_str().as_encoded_bytes(), &content] {
                hash.update((bytes.len() as u64).to_le_bytes());
                hash.update(bytes);
            }
        }
    }
    Ok(hex(&hash.finalize()))
}

/// The files of a crate that go into the object, relative to it and sorted.
fn crate_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for part in CRATE_PARTS {
        let path = folder.join(part);
        if path.is_dir() {
            files_below(&path, &mut files)?;
        } else if path.exists() {
            files.push(path);
        }
    }
    let mut files = files
        .iter()
        .map(|file| Ok(file.strip_prefix(folder)?.to_owned()))
        .collect::<Result<Vec<_>>>()?;
    files.sort();
    Ok(files)
}

fn files_below(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("could not list {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            files_below(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("could not read {}", path.display()))
}

/// Writes a file and the folders above it.
fn write(path: &Path, content: &[u8]) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)
            .with_context(|| format!("could not make {}", folder.display()))?;
    }
    fs::write(path, content).with_context(|| format!("could not write {}", path.display()))
}

fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the committed object was made from and with.
#[derive(Debug, PartialEq)]
struct Record {
    object_sha256: String,
    sources_sha256: String,
    versions: Versions,
}

impl Record {
    /// Reads what `Display` wrote.
    fn parse(text: &str) -> Result<Record> {
        let value = |key: &str| {
            text.lines()
                .filter_map(|line| line.split_once(" = "))
                .find(|(found, _)| *found == key)
                .map(|(_, value)| value.trim_matches('"').to_owned())
                .with_context(|| format!("it has no line `{key} = \"…\"`"))
        };
        Ok(Record {
            object_sha256: value("object_sha256")?,
            sources_sha256: value("sources_sha256")?,
            versions: Versions {
                rustc: value("rustc")?,
                bpf_linker: value("bpf_linker")?,
                llvm_strip: value("llvm_strip")?,
            },
        })
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# Written by `cargo xtask ebpf`, with the object.")?;
        for (key, value) in [
            ("object_sha256", &self.object_sha256),
            ("sources_sha256", &self.sources_sha256),
            ("rustc", &self.versions.rustc),
            ("bpf_linker", &self.versions.bpf_linker),
            ("llvm_strip", &self.versions.llvm_strip),
        ] {
            writeln!(f, "{key} = \"{value}\"")?;
        }
        Ok(())
    }
}

/// The versions that decide the object's bytes. bpf-linker uses the LLVM
/// library that llvm-strip comes with, and doesn't say which.
#[derive(Debug, PartialEq)]
struct Versions {
    rustc: String,
    bpf_linker: String,
    llvm_strip: String,
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}, {}, llvm-strip of {}",
            self.rustc, self.bpf_linker, self.llvm_strip
        )
    }
}

/// A Rust compiler with the source of its standard library.
struct Compiler {
    /// Cargo's command line.
    cargo: Vec<OsString>,
    /// The compiler, if cargo would not find the right one by itself.
    rustc: Option<PathBuf>,
    rust_src: PathBuf,
    /// What `rustc -V` says.
    version: String,
    /// Where it has LLVM tools of its own, if it does.
    llvm_tools: Option<PathBuf>,
}

impl Compiler {
    /// Debian's, if all of it is installed.
    fn debian() -> Result<Option<Compiler>> {
        let rust_src = PathBuf::from(DEBIAN_RUST_SRC);
        let complete = has_core(&rust_src)
            && Path::new(DEBIAN_RUSTC).exists()
            && Path::new(DEBIAN_CARGO).exists();
        if !complete {
            return Ok(None);
        }
        Ok(Some(Compiler {
            cargo: vec![DEBIAN_CARGO.into()],
            rustc: Some(PathBuf::from(DEBIAN_RUSTC)),
            rust_src,
            version: output(clean(&mut Command::new(DEBIAN_RUSTC)).arg("-V"))?,
            llvm_tools: None,
        }))
    }

    /// rustup's nightly.
    fn nightly() -> Result<Compiler> {
        let rustc = |arguments: &[&str]| {
            let mut command = Command::new("rustup");
            clean(&mut command)
                .args(["run", "nightly", "rustc"])
                .args(arguments);
            output(&mut command)
        };
        let sysroot = PathBuf::from(rustc(&["--print", "sysroot"])?.trim());
        let rust_src = sysroot.join("lib/rustlib/src/rust");
        ensure!(
            has_core(&rust_src),
            "no source of the standard library in {} nor in {DEBIAN_RUST_SRC}",
            rust_src.display()
        );
        let host = rustc(&["--print", "host-tuple"])?;
        Ok(Compiler {
            cargo: ["rustup", "run", "nightly", "cargo"]
                .map(OsString::from)
                .into(),
            rustc: None,
            rust_src,
            version: rustc(&["-V"])?,
            llvm_tools: Some(sysroot.join("lib/rustlib").join(host.trim()).join("bin")),
        })
    }
}

fn has_core(rust_src: &Path) -> bool {
    rust_src.join("library/core/src/lib.rs").exists()
}

/// The programs that make the object.
struct Toolchain {
    compiler: Compiler,
    strip: PathBuf,
    versions: Versions,
}

impl Toolchain {
    /// What is installed here. An error names the command that installs it.
    fn find() -> Result<Toolchain> {
        Toolchain::installed().context(
            "the toolchain of the BPF object is not complete: run `cargo xtask setup --ebpf`, which \
             says what is missing and where to get it",
        )
    }

    fn installed() -> Result<Toolchain> {
        let compiler = match Compiler::debian()? {
            Some(compiler) => compiler,
            None => Compiler::nightly()?,
        };
        let strip = find_strip(compiler.llvm_tools.as_deref())?;
        let strip_version = output(Command::new(&strip).arg("--version"))?;
        let Some(llvm_version) = strip_version.lines().find(|l| l.contains("LLVM version")) else {
            bail!(
                "`{} --version` names no LLVM version: {strip_version:?}",
                strip.display()
            );
        };
        let linker_version = output(
            Command::new("bpf-linker")
                .arg("--version")
                .env("PATH", path()?),
        )?;
        let versions = Versions {
            rustc: compiler.version.trim().to_owned(),
            bpf_linker: linker_version.trim().to_owned(),
            llvm_strip: llvm_version.trim().to_owned(),
        };
        Ok(Toolchain {
            compiler,
            strip,
            versions,
        })
    }

    /// Cargo, in a folder and with nothing from outside that changes what it
    /// builds.
    fn cargo(&self, folder: &Path) -> Result<Command> {
        let mut command = Command::new(&self.compiler.cargo[0]);
        clean(&mut command)
            .args(&self.compiler.cargo[1..])
            .current_dir(folder)
            // Allows `-Z` on a compiler that is not a nightly.
            .env("RUSTC_BOOTSTRAP", "1")
            .env("PATH", path()?);
        if let Some(rustc) = &self.compiler.rustc {
            command.env("RUSTC", rustc);
        }
        Ok(command)
    }
}

/// Takes away what the caller's cargo and rustup put into the environment, and
/// what would change the build; leaves what says where things are and how to
/// reach the registry.
fn clean(command: &mut Command) -> &mut Command {
    const KEEP: [&str; 5] = [
        "CARGO_HOME",
        "CARGO_HTTP_",
        "CARGO_NET_",
        "CARGO_REGISTR",
        "RUSTUP_HOME",
    ];
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let ours =
            text == "LD_LIBRARY_PATH" || text.starts_with("CARGO") || text.starts_with("RUST");
        if ours && !KEEP.iter().any(|keep| text.starts_with(keep)) {
            command.env_remove(&name);
        }
    }
    command
}

/// `PATH` with cargo's programs first, where `cargo install` puts bpf-linker.
fn path() -> Result<OsString> {
    let inherited = env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(cargo_home()?.join("bin")).chain(env::split_paths(&inherited));
    env::join_paths(folders).context("PATH can't be extended with cargo's programs")
}

/// The compiler's own llvm-strip; else the one of the LLVM that bpf-linker is
/// built with; else any.
fn find_strip(llvm_tools: Option<&Path>) -> Result<PathBuf> {
    llvm_tools
        .map(|bin| bin.join("llvm-strip"))
        .filter(|strip| strip.exists())
        .or_else(|| find_program("llvm-strip-22"))
        .or_else(|| find_program("llvm-strip"))
        .context("no llvm-strip in PATH")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_object_is_as_new_as_its_sources() {
        if let Err(error) = root().and_then(|root| verify_record(&root)) {
            panic!("{error:#}");
        }
    }

    #[test]
    fn a_record_reads_back() {
        let record = Record {
            object_sha256: sha256(b"object"),
            sources_sha256: sha256(b"sources"),
            versions: Versions {
                rustc: "rustc 1.96.0 (0123 2026-05-25)".into(),
                bpf_linker: "bpf-linker 0.13.0".into(),
                llvm_strip: "Debian LLVM version 22.1.8".into(),
            },
        };
        assert_eq!(Record::parse(&record.to_string()).unwrap(), record);
        let error = Record::parse("rustc = \"1\"").unwrap_err();
        assert_eq!(error.to_string(), "it has no line `object_sha256 = \"…\"`");
    }

    #[test]
    fn the_hash_sees_names_contents_and_their_borders() {
        let hash = |files: &[(&str, &str)]| {
            let root = tempfile::tempdir().unwrap();
            for (file, content) in files {
                write(&root.path().join(file), content.as_bytes()).unwrap();
            }
            sources_sha256(root.path()).unwrap()
        };
        let lib = "forktrace-common/src/lib.rs";
        let main = "forktrace-ebpf/src/main.rs";
        let base = hash(&[(lib, "a"), (main, "b")]);
        assert_eq!(base, hash(&[(main, "b"), (lib, "a")]));
        assert_ne!(base, hash(&[(lib, "b"), (main, "a")]));
        assert_ne!(base, hash(&[(lib, "a"), ("forktrace-ebpf/src/x.rs", "b")]));
        assert_ne!(
            base,
            hash(&[(lib, "a"), (main, "b"), ("forktrace-ebpf/Cargo.lock", "")])
        );
        // Nothing but the sources goes in.
        assert_eq!(
            base,
            hash(&[(lib, "a"), (main, "b"), ("forktrace-ebpf/target/x", "")])
        );
    }

    #[test]
    fn staging_moves_the_dependency_into_the_workspace_folder() {
        let root = tempfile::tempdir().unwrap();
        let stage = tempfile::tempdir().unwrap();
        let manifest = "forktrace-common = { path = \"../forktrace-common\" }";
        for (file, content) in [
            ("forktrace-ebpf/Cargo.toml", manifest),
            ("forktrace-ebpf/src/main.rs", "main"),
            ("forktrace-common/src/lib.rs", "lib"),
        ] {
            write(&root.path().join(file), content.as_bytes()).unwrap();
        }
        // A file of an earlier build that is no longer among the sources.
        write(&stage.path().join("src/gone.rs"), b"").unwrap();
        stage_sources(root.path(), stage.path()).unwrap();
        let staged = |file: &str| fs::read_to_string(stage.path().join(file)).ok();
        assert_eq!(
            staged("Cargo.toml").unwrap(),
            "forktrace-common = { path = \"forktrace-common\" }"
        );
        assert_eq!(staged("src/main.rs").unwrap(), "main");
        assert_eq!(staged("forktrace-common/src/lib.rs").unwrap(), "lib");
        assert_eq!(staged("src/gone.rs"), None);
    }
}
