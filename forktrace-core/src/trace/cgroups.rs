//! What the path of a cgroup tells of who runs in it.

/// What engines put before the id of a container, in the name of its cgroup.
const PREFIXES: [&str; 5] = ["docker-", "libpod-", "cri-containerd-", "crio-", "nerdctl-"];
/// Digits of a container's id.
const DIGITS: usize = 64;

/// The id of the container that a cgroup with this name (the last part of its path) is of.
pub fn container_id(name: &str) -> Option<&str> {
    let name = name.strip_suffix(".scope").unwrap_or(name);
    let id = PREFIXES
        .iter()
        .find_map(|prefix| name.strip_prefix(prefix))
        .unwrap_or(name);
    let is_id = id.len() == DIGITS && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_id.then_some(id)
}

/// The id of the container that a cgroup is of or below.
pub fn container(path: &str) -> Option<&str> {
    path.rsplit('/').find_map(container_id)
}

/// The systemd unit that a cgroup is of or below, other than a slice. A scope that is a
/// container's is none: nobody knows it by that name.
pub fn unit(path: &str) -> Option<&str> {
    let is_unit = |name: &&str| {
        (name.ends_with(".service") || name.ends_with(".scope")) && container_id(name).is_none()
    };
    path.rsplit('/').find(is_unit)
}

/// The path in the unified hierarchy, of the text of `/proc/PID/cgroup` (`cgroups(7)`); empty:
/// there is none.
pub fn path(text: &str) -> &str {
    let line = text.lines().find_map(|line| line.strip_prefix("0::"));
    line.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn containers_are_known_by_the_names_of_their_cgroups() {
        for name in [
            ID.to_owned(),
            format!("docker-{ID}.scope"),
            format!("libpod-{ID}.scope"),
            format!("cri-containerd-{ID}.scope"),
        ] {
            assert_eq!(container_id(&name), Some(ID), "{name}");
            let below = format!("/system.slice/{name}/init.scope");
            assert_eq!(container(&below), Some(ID));
            assert_eq!(unit(&below), Some("init.scope"));
            assert_eq!(unit(&format!("/system.slice/{name}")), None);
        }
        for other in ["nginx.service", "docker-abc.scope", "", "libpod-"] {
            assert_eq!(container_id(other), None, "{other}");
        }
    }

    #[test]
    fn a_unit_is_the_innermost() {
        let user = "/user.slice/user-0.slice/user@0.service/app.slice/run-3.scope";
        assert_eq!(unit(user), Some("run-3.scope"));
        assert_eq!(unit("/system.slice/nginx.service"), Some("nginx.service"));
        assert_eq!(unit("/system.slice"), None);
        assert_eq!(unit("/"), None);
    }

    #[test]
    fn the_unified_hierarchy_has_the_number_0() {
        let text = "12:cpu,cpuacct:/docker\n0::/system.slice/cron.service\n";
        assert_eq!(path(text), "/system.slice/cron.service");
        assert_eq!(path("12:cpu,cpuacct:/docker\n"), "");
    }
}
