//! Which cgroups the kernel held off the CPUs, because of a limit on their CPU time.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    procfs::{mounts, text},
    trace::Throttled,
};

/// Most cgroups that are watched.
const MOST: usize = 256;

/// Where the controller of CPU time is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mount {
    folder: PathBuf,
    /// The cgroup that is mounted there.
    root: String,
    /// Version 1 has a hierarchy for each controller, version 2 one for all.
    version: u8,
}

/// What was counted up to a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Counted {
    periods: u64,
    ns: u64,
}

/// What a cgroup's files say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    /// Its path.
    name: String,
    counted: Counted,
    /// CPU time a period, µs; `None`: no limit.
    limit: Option<(u64, u64)>,
}

struct Group {
    first: Counted,
    last: State,
}

/// The cgroups of the workload, and those that they are in, as the recorder knows them.
#[derive(Default)]
pub(super) struct Cgroups(BTreeMap<String, Group>);

impl Cgroups {
    pub(super) fn see(&mut self, states: Vec<State>) {
        for state in states {
            if let Some(group) = self.0.get_mut(&state.name) {
                let limit = state.limit.or(group.last.limit);
                group.last = State { limit, ..state };
            } else if self.0.len() < MOST {
                let first = state.counted;
                let group = Group { first, last: state };
                self.0.insert(group.last.name.clone(), group);
            }
        }
    }

    /// Those that are known.
    pub(super) fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    /// Those that were held off the CPUs since they were first seen.
    pub(super) fn throttled(&self) -> Vec<Throttled> {
        let of = |group: &Group| {
            let last = &group.last;
            Throttled {
                cgroup: last.name.clone(),
                periods: last.counted.periods.saturating_sub(group.first.periods),
                ns: last.counted.ns.saturating_sub(group.first.ns),
                quota_us: last.limit.map(|limit| limit.0),
                period_us: last.limit.map(|limit| limit.1),
            }
        };
        let all = self.0.values().map(of);
        all.filter(|t| t.periods > 0 || t.ns > 0).collect()
    }
}

/// Reads the files of cgroups.
pub(super) struct Reader {
    mount: Option<Mount>,
    /// Those that were read.
    seen: BTreeSet<String>,
}

impl Reader {
    pub(super) fn new() -> Self {
        let mounts = text::read("/proc/self/mountinfo").unwrap_or_default();
        Self {
            mount: find_mount(&mounts),
            seen: BTreeSet::new(),
        }
    }

    /// Our own, which the workload inherits.
    pub(super) fn own(&mut self) -> Vec<State> {
        self.of(&text::read("/proc/self/cgroup").unwrap_or_default())
    }

    /// That of a process, as its file `cgroup` has it, and all above it: a limit counts
    /// for everything below. Those that were read before are left out.
    pub(super) fn of(&mut self, cgroup: &str) -> Vec<State> {
        let mut states = Vec::new();
        let path = self
            .mount
            .as_ref()
            .and_then(|mount| path_of(cgroup, mount.version));
        for path in path.map(Path::new).into_iter().flat_map(Path::ancestors) {
            let Some(name) = path.to_str().filter(|name| *name != "/") else {
                break;
            };
            // What is above is known with it.
            if self.seen.contains(name) || self.seen.len() >= MOST {
                break;
            }
            // The root of a hierarchy has no such counters, nor has a cgroup
            // without the controller; those above it may.
            if let Some(state) = self.read(name) {
                self.seen.insert(name.to_owned());
                states.push(state);
            }
        }
        states
    }

    /// A cgroup can go at any time.
    pub(super) fn read(&self, name: &str) -> Option<State> {
        let mount = self.mount.as_ref()?;
        let folder = mount.folder_of(name)?;
        Some(State {
            counted: read_counted(&folder)?,
            limit: read_limit(&folder, mount.version),
            name: name.to_owned(),
        })
    }
}

impl Mount {
    fn folder_of(&self, cgroup: &str) -> Option<PathBuf> {
        let below = Path::new(cgroup).strip_prefix(&self.root).ok()?;
        // `/../x`: outside of the namespace that we are in.
        let outside = below.components().any(|part| part.as_os_str() == "..");
        (!outside).then(|| self.folder.join(below))
    }
}

/// The controller is either in a hierarchy of version 1 or in that of version 2.
fn find_mount(mountinfo: &str) -> Option<Mount> {
    let mounts = || mounts::mounts(mountinfo).filter_map(controller);
    let first = |version| mounts().find(|mount| mount.version == version);
    first(1).or_else(|| first(2))
}

fn controller(mount: mounts::Mount<'_>) -> Option<Mount> {
    let version = match mount.kind {
        "cgroup2" => 2,
        "cgroup" if mount.options.split(',').any(|option| option == "cpu") => 1,
        _ => return None,
    };
    Some(Mount {
        folder: PathBuf::from(mount.place),
        root: mount.root,
        version,
    })
}

/// From lines such as `0::/user.slice` and `3:cpu,cpuacct:/a`.
fn path_of(cgroup: &str, version: u8) -> Option<&str> {
    cgroup.lines().find_map(|line| {
        let (id, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let is_it = match version {
            1 => controllers.split(',').any(|name| name == "cpu"),
            _ => id == "0" && controllers.is_empty(),
        };
        is_it.then_some(path)
    })
}

fn read_counted(folder: &Path) -> Option<Counted> {
    parse_counted(&text::read(folder.join("cpu.stat")).ok()?)
}

/// `throttled_usec` in version 2, `throttled_time` (ns) in version 1.
fn parse_counted(stat: &str) -> Option<Counted> {
    let value = |key: &str| {
        let lines = stat.lines();
        let mut pairs = lines.filter_map(|line| line.split_once(' '));
        pairs.find(|(name, _)| *name == key)?.1.parse::<u64>().ok()
    };
    Some(Counted {
        periods: value("nr_throttled")?,
        ns: match value("throttled_usec") {
            Some(us) => us.saturating_mul(1000),
            None => value("throttled_time")?,
        },
    })
}

/// CPU time a period, µs.
fn read_limit(folder: &Path, version: u8) -> Option<(u64, u64)> {
    let read = |name| text::read(folder.join(name)).ok();
    if version == 1 {
        let number = |name| read(name)?.trim().parse().ok();
        // -1: no limit.
        return Some((number("cpu.cfs_quota_us")?, number("cpu.cfs_period_us")?));
    }
    parse_max(&read("cpu.max")?)
}

/// `50000 100000`, or `max 100000`.
fn parse_max(max: &str) -> Option<(u64, u64)> {
    let (quota, period) = max.trim().split_once(' ')?;
    Some((quota.parse().ok()?, period.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_controller_is_found_in_either_version() {
        const V2: &str = "24 1 0:22 / /sys rw,nosuid - sysfs sysfs rw\n\
            31 24 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
        const V1: &str = "32 31 0:29 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n\
            33 31 0:30 /docker/1\\0402 /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
            41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let mount = |folder: &str, root: &str, version| Mount {
            folder: PathBuf::from(folder),
            root: root.to_owned(),
            version,
        };
        assert_eq!(find_mount(V2), Some(mount("/sys/fs/cgroup", "/", 2)));
        assert_eq!(
            find_mount(V1),
            Some(mount("/sys/fs/cgroup/cpu,cpuacct", "/docker/1 2", 1))
        );
        assert_eq!(find_mount(""), None);
        let docker = find_mount(V1).expect("a mount");
        assert_eq!(
            docker.folder_of("/docker/1 2/a"),
            Some("/sys/fs/cgroup/cpu,cpuacct/a".into())
        );
        assert_eq!(docker.folder_of("/docker/3"), None);
        assert_eq!(mount("/c", "/", 2).folder_of("/../a"), None);
    }

    #[test]
    fn a_process_is_in_one_cgroup_of_the_controller() {
        let text = "9:name=systemd:/\n3:cpuset:/set\n2:cpu,cpuacct:/a:b\n0::/user.slice/x\n";
        assert_eq!(path_of(text, 1), Some("/a:b"));
        assert_eq!(path_of(text, 2), Some("/user.slice/x"));
        assert_eq!(path_of("", 2), None);
    }

    #[test]
    fn both_versions_count_throttling() {
        let v1 = "nr_periods 12\nnr_throttled 7\nthrottled_time 123456789\nnr_bursts 0\n";
        let v2 = "usage_usec 5\nuser_usec 3\nsystem_usec 2\nnr_periods 12\nnr_throttled 7\n\
                  throttled_usec 123456\n";
        let counted = |ns| Some(Counted { periods: 7, ns });
        assert_eq!(parse_counted(v1), counted(123_456_789));
        assert_eq!(parse_counted(v2), counted(123_456_000));
        // The root's has no throttling.
        assert_eq!(parse_counted("usage_usec 5\nuser_usec 3\n"), None);
        assert_eq!(parse_max("50000 100000\n"), Some((50_000, 100_000)));
        assert_eq!(parse_max("max 100000\n"), None);
    }
}
