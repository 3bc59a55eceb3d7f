//! Processes and threads that are there, as `/proc` has them.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail};

/// include/linux/sched.h
const PF_KTHREAD: u64 = 0x0020_0000;
/// So many steps up from a process its parents are looked for.
const PARENTS: usize = 8;

/// A process that lives.
#[derive(Clone, Debug)]
pub(super) struct Process {
    pub(super) pid: u32,
    comm: String,
    /// Of its program; `None`: it can't be read.
    program: Option<String>,
    /// Its arguments.
    arguments: Vec<String>,
}

/// What `/proc/PID/stat` tells.
struct Stat {
    comm: String,
    state: char,
    ppid: u32,
    flags: u64,
}

impl Stat {
    fn of(folder: &str) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("{folder}/stat")).ok()?)
    }

    /// `1 (a name) S 0 1 1 0 -1 4194560 …`: the name can hold anything.
    fn parse(text: &str) -> Option<Self> {
        let (before, after) = text.rsplit_once(") ")?;
        let (_, comm) = before.split_once(" (")?;
        let mut fields = after.split_ascii_whitespace();
        Some(Self {
            comm: comm.to_owned(),
            state: fields.next()?.chars().next()?,
            ppid: fields.next()?.parse().ok()?,
            flags: fields.nth(4)?.parse().ok()?,
        })
    }
}

impl Process {
    fn of(pid: u32) -> Option<Self> {
        let folder = format!("/proc/{pid}");
        let stat = Stat::of(&folder)?;
        if stat.flags & PF_KTHREAD != 0 || matches!(stat.state, 'Z' | 'X') {
            return None;
        }
        let command = fs::read(format!("{folder}/cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command);
        let arguments = command.trim_end_matches('\0').split('\0');
        let arguments = arguments.filter(|_| !command.is_empty());
        let program = fs::read_link(format!("{folder}/exe")).ok();
        Some(Self {
            pid,
            comm: stat.comm,
            program: program.map(|path| path.to_string_lossy().into_owned()),
            arguments: arguments.map(str::to_owned).collect(),
        })
    }

    /// All that it is called: its name, its program with and without the folder, what it was
    /// called as, and its command line.
    pub(super) fn names(&self) -> impl Iterator<Item = String> {
        let base = |path: &str| path.rsplit('/').next().unwrap_or(path).to_owned();
        let mut names = vec![self.comm.clone(), self.arguments.join(" ")];
        for path in self.program.iter().chain(self.arguments.first()) {
            names.extend([base(path), path.clone()]);
        }
        names.into_iter().filter(|name| !name.is_empty())
    }

    /// `redis-server (pid 123)`.
    pub(super) fn title(&self) -> String {
        format!("{} (pid {})", self.comm, self.pid)
    }
}

/// The parent of a process, its parent, and so on.
pub(super) fn parents(pid: u32) -> Vec<u32> {
    let mut parents = Vec::new();
    let mut it = pid;
    while let Some(stat) = Stat::of(&format!("/proc/{it}")) {
        it = stat.ppid;
        if it <= 1 || parents.len() >= PARENTS {
            break;
        }
        parents.push(it);
    }
    parents
}

/// All processes that live, but the kernel's.
///
/// # Errors
/// When `/proc` can't be read.
pub(super) fn living() -> Result<Vec<Process>> {
    let entries = fs::read_dir("/proc").context("/proc can't be read; is it mounted?")?;
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    Ok(pids.filter_map(Process::of).collect())
}

/// A process in words, if there is one that can be attached to.
///
/// # Errors
/// When there is none, with what to do.
pub(super) fn check_process(pid: u32) -> Result<String> {
    let stat = there(pid, "process")?;
    let of = process_of(pid);
    if of != Some(pid) {
        let of = of.unwrap_or(0);
        bail!(
            "{pid} is a thread of process {of} ({}): -p {of} is the whole process, --tid {pid} \
             this thread alone",
            name_of(of)
        );
    }
    if pid == std::process::id() {
        bail!("{pid} is forktrace itself, which it can't follow");
    }
    Ok(format!("{} (pid {pid})", stat.comm))
}

/// The same of a thread.
pub(super) fn check_thread(tid: u32) -> Result<String> {
    let stat = there(tid, "thread")?;
    let of = process_of(tid).unwrap_or(tid);
    if of == std::process::id() {
        bail!("{tid} is forktrace itself, which it can't follow");
    }
    Ok(format!("{} (tid {tid} of process {of})", stat.comm))
}

fn there(id: u32, what: &str) -> Result<Stat> {
    let Some(stat) = Stat::of(&format!("/proc/{id}")) else {
        bail!("there is no {what} {id}; `ps -eLo pid,tid,comm,args` shows those that there are");
    };
    if stat.flags & PF_KTHREAD != 0 {
        bail!(
            "{id} ({}) is a thread of the kernel, which forktrace does not follow",
            stat.comm
        );
    }
    if matches!(stat.state, 'Z' | 'X') {
        bail!(
            "{id} ({}) has ended already: it only waits for its parent {} to take note of that",
            stat.comm,
            stat.ppid
        );
    }
    Ok(stat)
}

/// The process of a thread.
fn process_of(tid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{tid}/status")).ok()?;
    let tgid = status.lines().find_map(|line| line.strip_prefix("Tgid:"))?;
    tgid.trim().parse().ok()
}

fn name_of(pid: u32) -> String {
    let name = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("comm"));
    name.unwrap_or_default().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_can_hold_anything() {
        let text = "12 (a) S (b) R 7 12 12 0 -1 4194560 1 2 3";
        let stat = Stat::parse(text).expect("it is one");
        assert_eq!((&*stat.comm, stat.state, stat.ppid), ("a) S (b", 'R', 7));
        assert_eq!(stat.flags, 4_194_560);
        assert!(Stat::parse("12 (a) S").is_none() && Stat::parse("").is_none());
    }

    #[test]
    fn we_are_called_by_our_program_and_our_command_line() {
        let ours = Process::of(std::process::id()).expect("we live");
        let program = std::env::current_exe().expect("it has a path");
        let names: Vec<String> = ours.names().collect();
        assert!(
            names.contains(&program.to_string_lossy().into_owned()),
            "{names:?}"
        );
        assert!(check_process(ours.pid).is_err());
    }
}
