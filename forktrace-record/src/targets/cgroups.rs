//! Cgroups of the unified hierarchy (version 2): by path, by unit, by container.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Component, Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use forktrace_core::render::text::figures::clean;

use crate::{capture::Wanted, procfs::text, trace::cgroups::container_id};

/// No tree of cgroups is deeper, for us: as for the kernel programs.
const DEEPEST: usize = 32;
/// A container is known by so many digits of its id.
const SHORTEST_ID: usize = 4;

/// A cgroup that is there.
#[derive(Clone, Debug)]
pub(super) struct Cgroup {
    folder: PathBuf,
    path: String,
    id: u64,
}

impl Cgroup {
    /// As `/proc/PID/cgroup` has it.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    pub(super) fn wanted(&self) -> Wanted {
        Wanted::Cgroup(self.id)
    }

    /// Is it still there?
    pub(super) fn is_there(&self) -> bool {
        // Its number is never given again.
        fs::metadata(&self.folder).is_ok_and(|folder| folder.ino() == self.id)
    }
}

/// The tree of cgroups.
pub(super) struct Cgroups {
    root: PathBuf,
}

impl Cgroups {
    /// # Errors
    /// When the unified hierarchy is not mounted.
    pub(super) fn new() -> Result<Self> {
        let mounts = text::read("/proc/self/mountinfo");
        let mounts = mounts.context("/proc/self/mountinfo can't be read; is /proc mounted?")?;
        let root = find_mount(&mounts).context(
            "the unified hierarchy of cgroups (version 2) is not mounted, and cgroups of version 1 \
             have no one place for a process; attach by pid or by name (-p, -n)",
        )?;
        Ok(Self { root })
    }

    fn cgroup(&self, folder: PathBuf) -> Result<Cgroup> {
        let metadata = fs::metadata(&folder)
            .with_context(|| format!("the cgroup {} has gone", folder.display()))?;
        let path = folder.strip_prefix(&self.root).unwrap_or(&folder);
        Ok(Cgroup {
            path: format!("/{}", path.display()),
            id: metadata.ino(),
            folder,
        })
    }

    /// By its path: below the root of the tree, or with where that is mounted.
    ///
    /// # Errors
    /// When it is not there.
    pub(super) fn at(&self, path: &Path) -> Result<Cgroup> {
        let below = path.strip_prefix(&self.root).unwrap_or(path);
        let below: PathBuf = below
            .components()
            .filter(|part| matches!(part, Component::Normal(_)))
            .collect();
        let folder = self.root.join(&below);
        if !folder.join("cgroup.procs").exists() {
            bail!(
                "there is no cgroup {} (no {}); `systemd-cgls` shows the tree, and \
                 /proc/PID/cgroup says where a process is, after 0::",
                clean(&path.display().to_string()),
                clean(&folder.display().to_string())
            );
        }
        self.cgroup(folder)
    }

    /// That of a systemd unit.
    ///
    /// # Errors
    /// When there is none, or several.
    pub(super) fn unit(&self, unit: &str) -> Result<Cgroup> {
        let name = if unit.contains('.') {
            unit.to_owned()
        } else {
            format!("{unit}.service")
        };
        let found = self.all(|folder| folder == name);
        match found.as_slice() {
            [] => {
                let name = clean(&name);
                bail!("the unit {name} has no cgroup: it does not run (`systemctl status {name}`)")
            }
            [one] => self.cgroup(one.clone()),
            many => bail!("there are several: {}", self.each(many)),
        }
    }

    /// That of a container. `ids` are those that its engine has under this name.
    ///
    /// # Errors
    /// When there is none, or several.
    pub(super) fn container(&self, name: &str, ids: &[String]) -> Result<Cgroup> {
        let found = self.all(|folder| {
            let Some(id) = container_id(folder) else {
                return false;
            };
            let by_id = name.len() >= SHORTEST_ID && id.starts_with(name);
            by_id || ids.iter().any(|it| it == id)
        });
        match found.as_slice() {
            [] if ids.is_empty() => bail!(
                "no container has the name {name:?}, or an id that begins so, in the files of \
                 docker, podman and nerdctl or in the tree of cgroups; `docker ps` or `podman ps` \
                 shows those that run, and --cgroup takes any cgroup by its path"
            ),
            [] => bail!(
                "the container {name} ({}) has no cgroup of the unified hierarchy: it does not \
                 run, or its engine uses cgroups of version 1 only; attach by pid or by name",
                ids.join(", ")
            ),
            [one] => self.cgroup(one.clone()),
            many => bail!(
                "{name} is several containers, say which by more of its id: {}",
                self.each(many)
            ),
        }
    }

    fn each(&self, folders: &[PathBuf]) -> String {
        let paths = folders.iter().map(|it| {
            let below = it.strip_prefix(&self.root).unwrap_or(it);
            // Whoever may make cgroups of their own may name them anything.
            format!("--cgroup /{}", clean(&below.display().to_string()))
        });
        paths.collect::<Vec<_>>().join(", ")
    }

    /// The cgroups whose folder is named so, but those below another one.
    fn all(&self, is_wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut left = vec![(self.root.clone(), 0)];
        while let Some((folder, depth)) = left.pop() {
            let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
            let folders = entries.filter(|it| it.file_type().is_ok_and(|kind| kind.is_dir()));
            for entry in folders {
                let name = entry.file_name();
                if name.to_str().is_some_and(&is_wanted) {
                    found.push(entry.path());
                } else if depth < DEEPEST {
                    left.push((entry.path(), depth + 1));
                }
            }
        }
        found.sort();
        found
    }
}

/// Where the unified hierarchy is mounted (`man 5 proc_pid_mountinfo`).
fn find_mount(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let kind = after.split(' ').next()?;
        let place = before.split(' ').nth(4)?;
        (kind == "cgroup2").then(|| PathBuf::from(place.replace("\\040", " ")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn the_unified_hierarchy_is_found_beside_the_others() {
        let text = "30 25 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                    31 25 0:27 / /sys/fs/cgroup/unified rw,nosuid - cgroup2 cgroup2 rw\n";
        assert_eq!(find_mount(text), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(find_mount("30 25 0:26 / / rw - ext4 /dev/sda rw\n"), None);
    }

    #[test]
    fn units_and_containers_are_found_in_the_tree() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().to_owned();
        let container = format!("docker-{ID}.scope");
        let other = format!("libpod-{}{}", "f".repeat(8), &ID[8..]);
        for path in [
            "system.slice/nginx.service/sub",
            &format!("system.slice/{container}"),
            &other,
        ] {
            fs::create_dir_all(root.join(path)).expect("folders");
        }
        let tree = Cgroups { root };
        let path = |found: Result<Cgroup>| found.map(|it| it.path).map_err(|e| e.to_string());
        assert_eq!(
            path(tree.unit("nginx")),
            Ok("/system.slice/nginx.service".to_owned())
        );
        assert_eq!(path(tree.unit("nginx.service")), path(tree.unit("nginx")));
        assert!(path(tree.unit("redis")).is_err());
        let at = format!("/system.slice/{container}");
        assert_eq!(path(tree.container("0123456", &[])), Ok(at.clone()));
        assert_eq!(path(tree.container("web", &[ID.to_owned()])), Ok(at));
        assert_eq!(path(tree.container("ffff", &[])), Ok(format!("/{other}")));
        for none in ["web", "012", "abcd"] {
            assert!(path(tree.container(none, &[])).is_err(), "{none}");
        }
    }
}
