//! `cargo xtask roots`: README's two commands in bare systems, as somebody would type them
//! there: as root without sudo, and as a user who has it.
//!
//! Each system is a folder made by mmdebstrap, with git, a C compiler and nothing else;
//! the Rust toolchain is ours, mounted. The commands are read from README.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

use crate::util::{
    cargo_home, find_program, is_root, output, root, run as run_command, target_dir,
};

/// Options of the command.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Releases, by the names that their archives use
    #[arg(default_values = ["bookworm", "trixie", "noble"])]
    releases: Vec<String>,
    /// Only the first command, which builds and traces; without the one that tests
    #[arg(long)]
    first: bool,
    /// Only as the user who has sudo
    #[arg(long)]
    user: bool,
    /// Take packages of an archive whose keys are not here, too
    #[arg(long)]
    unverified: bool,
    /// Where the systems are made, and stay
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

/// What README asks for beside Rust.
const ASKED_FOR: &str = "git,gcc,libc6-dev,ca-certificates";

/// Where things are in the system.
const TOOLCHAIN: &str = "/opt/rust";
const PATH: &str =
    "PATH=/opt/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const CARGO_HOME: &str = "/opt/cargo";
const TREE: &str = "/srv/forktrace";
const USER: &str = "tester";

const UBUNTU_KEYS: &str = "/usr/share/keyrings/ubuntu-archive-keyring.gpg";

/// Gives whether all commands ended with 0.
pub(crate) fn run(options: &Options) -> Result<bool> {
    ensure!(
        is_root(),
        "systems are made and entered as root: `sudo -E cargo xtask roots`"
    );
    ensure!(
        find_program("mmdebstrap").is_some(),
        "mmdebstrap is not installed: `apt-get install mmdebstrap`"
    );
    let readme = fs::read_to_string(root()?.join("README.md")).context("there is no README.md")?;
    let mut commands = commands(&readme)?;
    if options.first {
        commands.truncate(1);
    }
    let folder = match &options.folder {
        Some(folder) => std::path::absolute(folder)?,
        None => target_dir()?.join("roots"),
    };
    fs::create_dir_all(&folder).with_context(|| format!("could not make {}", folder.display()))?;
    // What is mounted goes with this process.
    unshare(CloneFlags::CLONE_NEWNS).context("no mount namespace")?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
        .context("could not make the mounts private")?;
    let mut failed = Vec::new();
    for release in &options.releases {
        let system = System::make(release, &folder, options.unverified)?;
        for as_user in [false, true] {
            if options.user && !as_user {
                continue;
            }
            system.prepare(as_user)?;
            for command in &commands {
                if !system.run(command, as_user)? {
                    failed.push(format!("{release}: {command}"));
                    break;
                }
            }
        }
    }
    match failed[..] {
        [] => println!("roots: all commands worked"),
        _ => println!("roots: failed:\n{}", failed.join("\n")),
    }
    Ok(failed.is_empty())
}

/// The commands of the section that tells how to try it.
fn commands(readme: &str) -> Result<Vec<String>> {
    let (_, section) = readme
        .split_once("\n## Try it\n")
        .context("README.md has no section `Try it`")?;
    let block = section.split("```").nth(1).unwrap_or_default();
    let lines = block.lines().filter(|line| !line.is_empty());
    let commands: Vec<_> = lines.map(str::to_owned).collect();
    ensure!(
        commands.len() == 2,
        "README.md's section `Try it` has {} commands, and not two",
        commands.len()
    );
    Ok(commands)
}

/// A bare system of a release.
struct System {
    release: String,
    folder: PathBuf,
}

impl System {
    /// Makes it, unless it is there from an earlier time, and mounts what it needs.
    fn make(release: &str, folder: &Path, unverified: bool) -> Result<Self> {
        let folder = folder.join(release);
        let done = folder.join("etc/forktrace-made");
        if !done.exists() {
            if folder.exists() {
                fs::remove_dir_all(&folder)
                    .with_context(|| format!("could not remove {}", folder.display()))?;
            }
            println!("== {release}: made in {}", folder.display());
            let mut make = Command::new("mmdebstrap");
            make.args(["--variant=apt", "--format=directory"])
                .arg(format!("--include={ASKED_FOR}"))
                .arg(release)
                .arg(&folder);
            make.args(archives(release, unverified)?);
            run_command(&mut make)?;
            fs::write(&done, "").with_context(|| format!("could not write {}", done.display()))?;
        }
        let system = Self {
            release: release.to_owned(),
            folder,
        };
        system.mount()?;
        Ok(system)
    }

    fn at(&self, path: &str) -> PathBuf {
        self.folder.join(path.trim_start_matches('/'))
    }

    fn mount(&self) -> Result<()> {
        let sysroot = output(Command::new("rustc").args(["--print", "sysroot"]))?;
        for (from, to) in [
            ("/dev", "/dev"),
            ("/sys", "/sys"),
            ("/proc", "/proc"),
            (sysroot.trim(), TOOLCHAIN),
        ] {
            let at = self.at(to);
            fs::create_dir_all(&at).with_context(|| format!("could not make {}", at.display()))?;
            let bind = MsFlags::MS_BIND | MsFlags::MS_REC;
            mount(Some(from), &at, None::<&str>, bind, None::<&str>)
                .with_context(|| format!("could not mount {from} at {}", at.display()))?;
        }
        // Names of hosts, and certificates of a proxy, are the machine's.
        let mut files = vec![PathBuf::from("/etc/resolv.conf")];
        files.extend(env::var_os("SSL_CERT_FILE").map(PathBuf::from));
        for file in files {
            let to = self.at(&file.to_string_lossy());
            if let Some(folder) = to.parent() {
                fs::create_dir_all(folder)
                    .with_context(|| format!("could not make {}", folder.display()))?;
            }
            fs::copy(&file, &to).with_context(|| format!("could not copy {}", file.display()))?;
        }
        Ok(())
    }

    /// Puts a clone of the tree there, with the crates that have been fetched; gives all to a
    /// user with sudo, if that is who comes.
    fn prepare(&self, as_user: bool) -> Result<()> {
        let tree = self.at(TREE);
        if !as_user {
            if tree.exists() {
                fs::remove_dir_all(&tree)
                    .with_context(|| format!("could not remove {}", tree.display()))?;
            }
            run_command(
                Command::new("git")
                    .arg("clone")
                    .arg("--quiet")
                    .arg(root()?)
                    .arg(&tree),
            )?;
            let registry = self.at(CARGO_HOME).join("registry");
            if !registry.exists() {
                fs::create_dir_all(&registry)
                    .with_context(|| format!("could not make {}", registry.display()))?;
                let fetched = cargo_home()?.join("registry");
                let parts = ["cache", "index"].map(|part| fetched.join(part));
                let parts = parts.iter().filter(|part| part.is_dir());
                run_command(Command::new("cp").arg("-a").args(parts).arg(&registry))?;
            }
            return Ok(());
        }
        ensure!(
            tree.exists(),
            "there is no {}: begin without `--user`",
            tree.display()
        );
        let script = format!(
            // useradd is in passwd.
            "export DEBIAN_FRONTEND=noninteractive
             apt-get update -qq && apt-get install -y -qq --no-install-recommends sudo passwd >/dev/null &&
             {{ id {USER} >/dev/null 2>&1 || useradd --create-home --shell /bin/bash {USER}; }} &&
             echo '{USER} ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/{USER} &&
             chown -R {USER} {TREE} {CARGO_HOME}"
        );
        run_command(self.enter().arg("/bin/sh").arg("-c").arg(script))
    }

    /// `chroot`, with an environment as after a login.
    fn enter(&self) -> Command {
        let mut command = Command::new("chroot");
        command.arg(&self.folder).args(["/usr/bin/env", "-i"]);
        command.args(["HOME=/root", "TERM=dumb", "LANG=C.UTF-8"]);
        command.arg(PATH);
        command.arg(format!("CARGO_HOME={CARGO_HOME}"));
        if let Ok(file) = env::var("SSL_CERT_FILE") {
            command.arg(format!("SSL_CERT_FILE={file}"));
        }
        command
    }

    /// Runs one of README's commands; gives whether it ended with 0.
    fn run(&self, line: &str, as_user: bool) -> Result<bool> {
        let who = if as_user { USER } else { "root" };
        println!("== {} as {who}: {line}", self.release);
        let mut command = self.enter();
        if as_user {
            command.args(["/bin/su", "--preserve-environment", USER]);
        } else {
            command.arg("/bin/bash");
        }
        let begun = Instant::now();
        let home = if as_user {
            format!("/home/{USER}")
        } else {
            "/root".to_owned()
        };
        let status = command
            .arg("-c")
            // Ubuntu's `su` sets a PATH of its own.
            .arg(format!("export HOME={home} {PATH}; cd {TREE} && {line}"))
            .status()
            .context("could not start chroot")?;
        let took = begun.elapsed().as_secs();
        println!("== {} as {who}: {status} after {took} s", self.release);
        Ok(status.success())
    }
}

/// What mmdebstrap is told of a release's archives.
fn archives(release: &str, unverified: bool) -> Result<Vec<String>> {
    if matches!(release, "bookworm" | "trixie") {
        let mirror = "http://deb.debian.org";
        return Ok(vec![
            format!("{mirror}/debian"),
            format!("deb {mirror}/debian-security {release}-security main"),
        ]);
    }
    let mut options = "[trusted=yes]";
    if Path::new(UBUNTU_KEYS).exists() {
        options = "";
    } else if !unverified {
        bail!(
            "{release}: the keys of its archive are not here ({UBUNTU_KEYS}): install \
             ubuntu-archive-keyring, or say --unverified"
        );
    }
    let mirror = "http://archive.ubuntu.com/ubuntu";
    Ok([release.to_owned(), format!("{release}-updates")]
        .map(|suite| format!("deb {options} {mirror} {suite} main universe"))
        .to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readme_has_the_two_commands() {
        let readme = fs::read_to_string(root().expect("the tree").join("README.md"));
        let found = commands(&readme.expect("README.md")).expect("two commands");
        assert!(found[0].starts_with("cargo build --release"), "{found:?}");
        assert!(found[1].starts_with("cargo xtask setup"), "{found:?}");
    }
}
