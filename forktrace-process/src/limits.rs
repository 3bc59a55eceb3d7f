//! Limits of resources that a recording runs into: raised where we may, and told, with
//! what was seen and what lifts it, where we may not.

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Result, anyhow, bail};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};

/// What a recording takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// Open files, beside those that are open already (`RLIMIT_NOFILE`).
    pub descriptors: u64,
    /// Address space, bytes (`RLIMIT_AS`).
    pub address_space: u64,
    /// Memory of its own, bytes (`RLIMIT_DATA`).
    pub data: u64,
}

/// Limits that we raised for ourselves, as our caller set them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    before: [Option<(Resource, u64, u64)>; 3],
}

impl Limits {
    /// Raises soft limits for us, as far as the hard ones go: that of open files always,
    /// others if they are too low.
    ///
    /// # Errors
    /// When a hard limit is below what a recording takes: with the limit, and what to do.
    pub fn raise(needs: &Needs) -> Result<Self> {
        let open = fs::read_dir("/proc/self/fd").map_or(8, Iterator::count) as u64;
        let files = needs.descriptors.saturating_add(open);
        let all = [
            (Resource::RLIMIT_NOFILE, files),
            (Resource::RLIMIT_AS, needs.address_space),
            (Resource::RLIMIT_DATA, needs.data),
        ];
        let mut before = [None; 3];
        for ((resource, needed), before) in all.into_iter().zip(&mut before) {
            let Ok((soft, hard)) = getrlimit(resource) else {
                continue;
            };
            if hard < needed {
                bail!("{}", too_low(resource, needed, hard));
            }
            let wanted = match resource {
                Resource::RLIMIT_NOFILE => soft < hard,
                _ => soft < needed,
            };
            if wanted && setrlimit(resource, hard, hard).is_ok() {
                *before = Some((resource, soft, hard));
            }
        }
        Ok(Self { before })
    }

    /// Makes them what they were, in a new process. Makes system calls only.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn restore(&self) -> io::Result<()> {
        for (resource, soft, hard) in self.before.iter().flatten() {
            setrlimit(*resource, *soft, *hard)?;
        }
        Ok(())
    }
}

fn too_low(resource: Resource, needed: u64, hard: u64) -> String {
    const MIB: u64 = 1 << 20;
    const KIB: u64 = 1 << 10;
    let mib = needed.div_ceil(MIB);
    let kib = needed.div_ceil(KIB);
    match resource {
        Resource::RLIMIT_NOFILE => format!(
            "forktrace needs {needed} open files here and may have {hard}; raise the limit: \
             `ulimit -n {needed}`, or LimitNOFILE={needed} in a systemd unit"
        ),
        Resource::RLIMIT_AS => format!(
            "forktrace needs {mib} MiB of address space here and may have {} MiB; raise the limit: \
             `ulimit -v {kib}`, or LimitAS={mib}M in a systemd unit",
            hard / MIB
        ),
        _ => format!(
            "forktrace needs {mib} MiB of memory here and may have {} MiB; raise the limit: \
             `ulimit -d {kib}`, or LimitDATA={mib}M in a systemd unit",
            hard / MIB
        ),
    }
}

/// Sets a limit to this, or leaves it where it is lower: raising it takes a right that one
/// may not have.
///
/// # Errors
/// When the kernel refuses.
pub fn at_most(resource: Resource, most: u64) -> io::Result<()> {
    let (_, hard) = getrlimit(resource)?;
    let most = most.min(hard);
    Ok(setrlimit(resource, most, most)?)
}

/// Makes a process or a thread, again if there is no room: a thread that has been waited for
/// counts for a moment longer.
///
/// # Errors
/// When there still is none.
pub fn tried_again<T, E: Into<io::Error>>(
    mut make: impl FnMut() -> Result<T, E>,
) -> Result<T, io::Error> {
    const TIMES: u32 = 10;
    const MOMENT: Duration = Duration::from_millis(10);
    for _ in 0..TIMES {
        match make().map_err(Into::into) {
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => thread::sleep(MOMENT),
            made => return made,
        }
    }
    make().map_err(Into::into)
}

/// Why there is no new process or thread: with the limit that was hit, if one is seen.
pub fn no_process(error: io::Error) -> anyhow::Error {
    if error.raw_os_error() != Some(libc::EAGAIN) {
        return error.into();
    }
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let why = full_group(&groups, Path::new("/sys/fs/cgroup"))
        .or_else(of_user)
        .or_else(of_machine);
    match why {
        Some(why) => anyhow!("{why}"),
        None => error.into(),
    }
}

/// The control group that has as many tasks as it may.
fn full_group(groups: &str, mounted: &Path) -> Option<String> {
    groups.lines().find_map(|line| {
        // hierarchy:controllers:path (cgroups(7))
        let mut fields = line.splitn(3, ':');
        let (number, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let root = match controllers {
            "" if number == "0" => mounted.to_owned(),
            _ if controllers.split(',').any(|it| it == "pids") => mounted.join("pids"),
            _ => return None,
        };
        let mut group: PathBuf = root.join(path.trim_start_matches('/'));
        loop {
            if let Some((most, has)) = tasks_of(&group)
                && has >= most
            {
                let shown = group.display();
                return Some(format!(
                    "the control group {shown} has all the tasks that it may have ({most}); allow more: \
                     `echo {} > {shown}/pids.max`, or TasksMax= in its systemd unit",
                    most.saturating_add(64)
                ));
            }
            if group == root || !group.pop() {
                return None;
            }
        }
    })
}

/// How many tasks a control group may have, and has.
fn tasks_of(group: &Path) -> Option<(u64, u64)> {
    let number = |name: &str| {
        let text = fs::read_to_string(group.join(name)).ok()?;
        text.trim().parse::<u64>().ok()
    };
    Some((number("pids.max")?, number("pids.current")?))
}

fn of_user() -> Option<String> {
    let (soft, _) = getrlimit(Resource::RLIMIT_NPROC).ok()?;
    let bound = soft != RLIM_INFINITY && !nix::unistd::geteuid().is_root();
    bound.then(|| {
        format!(
            "this user may have {soft} processes; raise the limit: `ulimit -u {}`, or LimitNPROC= \
             in a systemd unit",
            soft.saturating_add(64)
        )
    })
}

fn of_machine() -> Option<String> {
    let number = |name: &str| {
        let text = fs::read_to_string(format!("/proc/sys/kernel/{name}")).ok()?;
        text.trim().parse::<u64>().ok()
    };
    Some(format!(
        "there can be no more processes: kernel.threads-max is {}, kernel.pid_max is {}, and \
         limits of control groups (pids.max) may be lower; `sysctl -w` sets the former",
        number("threads-max")?,
        number("pid_max")?
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_low_is_told_with_the_command_that_raises_it() {
        let text = too_low(Resource::RLIMIT_AS, 256 << 20, 60 << 20);
        assert_eq!(
            text,
            "forktrace needs 256 MiB of address space here and may have 60 MiB; raise the limit: \
             `ulimit -v 262144`, or LimitAS=256M in a systemd unit"
        );
        assert!(too_low(Resource::RLIMIT_NOFILE, 104, 10).contains("`ulimit -n 104`"));
        assert!(too_low(Resource::RLIMIT_DATA, 64 << 20, 10 << 20).contains("`ulimit -d 65536`"));
    }

    #[test]
    fn the_control_group_that_is_full_is_named_be_it_one_above() {
        let folder = tempfile::tempdir().expect("a folder");
        let group = |path: &str, most: &str, has: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(&path).expect("a folder");
            fs::write(path.join("pids.max"), most).expect("a file");
            fs::write(path.join("pids.current"), has).expect("a file");
        };
        group("pids/outer", "2\n", "2\n");
        group("pids/outer/inner", "max\n", "2\n");
        let told = full_group("9:pids:/outer/inner\n", folder.path()).expect("it is full");
        assert!(
            told.contains("pids/outer has all the tasks that it may have (2)"),
            "{told}"
        );
        assert!(told.contains("pids/outer/pids.max`"), "{told}");
        group("pids/outer", "3\n", "2\n");
        assert_eq!(full_group("9:pids:/outer/inner\n", folder.path()), None);
        group("v2", "5\n", "5\n");
        let told = full_group("3:cpu:/\n0::/v2\n", folder.path()).expect("it is full");
        assert!(told.contains("/v2 has all the tasks"), "{told}");
        assert_eq!(full_group("0::/../../above\nnonsense", folder.path()), None);
    }
}
