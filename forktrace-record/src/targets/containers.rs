//! The ids of containers by name, from the files of their engines.

use std::{
    fs,
    io::Read as _,
    os::{fd::AsRawFd as _, unix::fs::OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use nix::libc;
use serde_json::Value;

/// Longer files are none of an engine's.
const MOST_BYTES: u64 = 64 << 20;

/// The ids of the containers with this name: of docker, podman and nerdctl.
pub(super) fn ids_of(name: &str) -> Vec<String> {
    let mut ids = docker(Path::new("/var/lib/docker/containers"), name);
    for storage in podman_storages() {
        ids.extend(podman(&storage, name));
    }
    ids.extend(nerdctl(Path::new("/var/lib/nerdctl"), name));
    ids.sort();
    ids.dedup();
    ids
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path())
}

/// A file as an engine leaves one. Some are in the homes of users, who could have put there
/// what they like: a pipe that nobody writes, a link to a device, something without an end.
fn content(file: &Path) -> Option<Vec<u8>> {
    let mut options = fs::OpenOptions::new();
    // A handle that opens nothing: what opening a device does is done then.
    let flags = libc::O_PATH | libc::O_NOFOLLOW;
    let handle = options.read(true).custom_flags(flags).open(file).ok()?;
    if !handle.metadata().ok()?.is_file() {
        return None;
    }
    let opened = fs::File::open(format!("/proc/self/fd/{}", handle.as_raw_fd())).ok()?;
    let mut bytes = Vec::new();
    let read = opened.take(MOST_BYTES + 1).read_to_end(&mut bytes).ok()?;
    (read as u64 <= MOST_BYTES).then_some(bytes)
}

fn json(file: &Path) -> Option<Value> {
    serde_json::from_slice(&content(file)?).ok()
}

/// A folder for each container, named by its id; the name in its file begins with `/`.
fn docker(containers: &Path, name: &str) -> Vec<String> {
    let has_name = |folder: &PathBuf| {
        let config = json(&folder.join("config.v2.json"))?;
        let is = config.get("Name")?.as_str()?.trim_start_matches('/') == name;
        is.then(|| folder.file_name()?.to_str().map(str::to_owned))?
    };
    entries(containers).filter_map(|it| has_name(&it)).collect()
}

/// Root's, and those of users.
fn podman_storages() -> Vec<PathBuf> {
    let homes = entries(Path::new("/home")).chain([PathBuf::from("/root")]);
    let of_users = homes.map(|home| home.join(".local/share/containers/storage"));
    let roots = PathBuf::from("/var/lib/containers/storage");
    [roots].into_iter().chain(of_users).collect()
}

/// One file for all, of the storage's kind.
fn podman(storage: &Path, name: &str) -> Vec<String> {
    let mut ids = Vec::new();
    for kind in ["overlay-containers", "vfs-containers", "btrfs-containers"] {
        let Some(Value::Array(all)) = json(&storage.join(kind).join("containers.json")) else {
            continue;
        };
        for container in all {
            let names = container.get("names").and_then(Value::as_array);
            let is = names.is_some_and(|names| names.iter().any(|it| it == name));
            let id = container.get("id").and_then(Value::as_str);
            ids.extend(id.filter(|_| is).map(str::to_owned));
        }
    }
    ids
}

/// A file for each name, in a folder for each namespace; the id is in it.
fn nerdctl(data: &Path, name: &str) -> Vec<String> {
    if name.contains('/') {
        return Vec::new();
    }
    let of_stores = entries(data).flat_map(|store| entries(&store.join("names")));
    let files = of_stores.map(|namespace| namespace.join(name));
    files
        .filter_map(|file| Some(String::from_utf8(content(&file)?).ok()?.trim().to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_engine_keeps_names_in_its_own_way() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        let write = |path: &str, text: &str| {
            let file = root.join(path);
            fs::create_dir_all(file.parent().expect("a folder")).expect("folders");
            fs::write(file, text).expect("a file");
        };
        write(
            "docker/aa11/config.v2.json",
            r#"{"Name": "/web", "ID": "aa11"}"#,
        );
        write("docker/bb22/config.v2.json", r#"{"Name": "/db"}"#);
        write("docker/cc33/config.v2.json", "no JSON");
        let all = r#"[{"id": "dd44", "names": ["web", "w"]}, {"id": "ee55", "names": null}]"#;
        write("storage/overlay-containers/containers.json", all);
        write("nerdctl/1935db59/names/default/web", "ff66\n");
        assert_eq!(docker(&root.join("docker"), "web"), ["aa11"]);
        assert_eq!(podman(&root.join("storage"), "web"), ["dd44"]);
        assert_eq!(nerdctl(&root.join("nerdctl"), "web"), ["ff66"]);
        assert!(docker(&root.join("docker"), "none").is_empty());
        assert!(podman(&root.join("nothing"), "web").is_empty());
    }

    /// In the home of a user anything can be.
    #[test]
    fn only_a_plain_file_is_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        fs::write(path("plain"), "[]").expect("a file");
        fs::write(path("long"), "").expect("a file");
        let long = fs::File::options().write(true).open(path("long"));
        long.and_then(|it| it.set_len(1 << 40))
            .expect("it is sparse");
        nix::unistd::mkfifo(&path("pipe"), nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        std::os::unix::fs::symlink("/dev/zero", path("link")).expect("a link");
        assert_eq!(content(&path("plain")), Some(b"[]".to_vec()));
        for odd in ["long", "pipe", "link", "none"] {
            assert_eq!(content(&path(odd)), None, "{odd}");
        }
    }
}
