//! Processes and threads that are there, as `/proc` has them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, iter,
    path::Path,
};

use anyhow::{Context as _, Result, bail};
use forktrace_core::render::text::figures::clean;

use crate::procfs::{self, stat::Stat, text};

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

/// The arguments of the processes that there were when the targets were looked for.
///
/// The kernel reads `/proc/PID/cmdline` from the process's own memory, under a lock that the
/// process can hold while it waits for a file system which does not answer. So it is read
/// before anything is attached, while Ctrl-C still ends us, and never on the loop that drains
/// the rings.
#[derive(Debug, Default)]
pub(super) struct CommandLines(BTreeMap<(u32, u64), Vec<String>>);

impl CommandLines {
    pub(super) fn read() -> Result<Self> {
        let stats = pids()?.filter_map(|pid| Some((pid, Stat::of_process(pid)?)));
        let lines = stats.map(|(pid, stat)| {
            let arguments = arguments(pid, &stat);
            ((pid, stat.began), arguments)
        });
        Ok(Self(lines.collect()))
    }

    /// A process that has come since has those of its parent, unless it has executed something
    /// else: then it is known by its name and its program.
    fn of(&self, pid: u32, stat: &Stat) -> &[String] {
        let known = self.0.get(&(pid, stat.began)).or_else(|| {
            let parent = Stat::of(stat.ppid)?;
            self.0.get(&(stat.ppid, parent.began))
        });
        known.map_or(&[], Vec::as_slice)
    }
}

/// Where the kernel tells of the process's memory: not at a first thread that has ended.
fn folder_of_living(pid: u32, stat: &Stat) -> String {
    let process = format!("/proc/{pid}");
    if stat.state != 'Z' {
        return process;
    }
    let threads = fs::read_dir(format!("{process}/task"))
        .into_iter()
        .flatten();
    let last = threads.flatten().last();
    last.map_or(process, |thread| thread.path().display().to_string())
}

fn arguments(pid: u32, stat: &Stat) -> Vec<String> {
    let line = text::read(format!("{}/cmdline", folder_of_living(pid, stat)));
    let line = line.unwrap_or_default();
    let line = line.trim_end_matches('\0');
    let arguments = line.split('\0').filter(|_| !line.is_empty());
    arguments.map(str::to_owned).collect()
}

impl Process {
    fn of(pid: u32, lines: &CommandLines) -> Option<Self> {
        let stat = Stat::of_process(pid)?;
        let program = fs::read_link(format!("{}/exe", folder_of_living(pid, &stat))).ok();
        Some(Self {
            pid,
            program: program.map(|path| path.to_string_lossy().into_owned()),
            arguments: lines.of(pid, &stat).to_vec(),
            comm: stat.comm,
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
    while let Some(stat) = Stat::of(it) {
        it = stat.ppid;
        if it <= 1 || parents.len() >= PARENTS {
            break;
        }
        parents.push(it);
    }
    parents
}

/// The titles of those that these have created, and those that they have, and so on. Each
/// process is looked at once.
pub(super) fn below(pids: &BTreeSet<u32>) -> Vec<String> {
    let all = procfs::pids().into_iter().flatten();
    let all: BTreeMap<u32, Stat> = all
        .filter_map(|pid| Some((pid, Stat::of_process(pid)?)))
        .collect();
    let is_below = |pid: u32| {
        let parent = |pid: &u32| all.get(pid).map(|stat| stat.ppid);
        let mut parents = iter::successors(parent(&pid), parent).take(PARENTS);
        !pids.contains(&pid) && parents.any(|parent| pids.contains(&parent))
    };
    let below = all.iter().filter(|(pid, _)| is_below(**pid));
    below
        .map(|(pid, stat)| format!("{} (pid {pid})", stat.comm))
        .collect()
}

/// All processes that live, but the kernel's.
///
/// # Errors
/// When `/proc` can't be read.
pub(super) fn living(lines: &CommandLines) -> Result<Vec<Process>> {
    Ok(pids()?.filter_map(|pid| Process::of(pid, lines)).collect())
}

fn pids() -> Result<impl Iterator<Item = u32>> {
    procfs::pids().context("/proc can't be read; is it mounted?")
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
    let Some(stat) = Stat::of(id) else {
        bail!("there is no {what} {id}; `ps -eLo pid,tid,comm,args` shows those that there are");
    };
    if stat.is_kernels() {
        bail!(
            "{id} ({}) is a thread of the kernel, which forktrace does not follow",
            stat.name()
        );
    }
    if stat.has_ended() {
        bail!(
            "{id} ({}) has ended already: it only waits for its parent {} to take note of that",
            stat.name(),
            stat.ppid
        );
    }
    Ok(stat)
}

/// The process of a thread.
fn process_of(tid: u32) -> Option<u32> {
    let status = text::read(format!("/proc/{tid}/status")).ok()?;
    text::field(&status, "Tgid")?.parse().ok()
}

fn name_of(pid: u32) -> String {
    let name = text::read(Path::new("/proc").join(pid.to_string()).join("comm"));
    clean(name.unwrap_or_default().trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn we_are_called_by_our_program_and_our_command_line() {
        let lines = CommandLines::read().expect("/proc is there");
        let ours = Process::of(std::process::id(), &lines).expect("we live");
        let program = std::env::current_exe().expect("it has a path");
        let names: Vec<String> = ours.names().collect();
        assert!(
            names.contains(&program.to_string_lossy().into_owned()),
            "{names:?}"
        );
        assert!(check_process(ours.pid).is_err());
    }

    /// One that came later is called by its parent's arguments, which are its own unless it
    /// executes something: nothing is read from its memory any more.
    #[test]
    fn arguments_are_those_of_the_time_when_they_were_read() {
        let pid = std::process::id();
        let began = Stat::of_process(pid).expect("we live").began;
        let known = |key| CommandLines(BTreeMap::from([(key, vec!["once".to_owned()])]));
        let arguments = |lines| Process::of(pid, &lines).expect("we live").arguments;
        assert_eq!(arguments(known((pid, began))), ["once"]);
        // Another process had that pid.
        assert!(arguments(known((pid, began + 1))).is_empty());
        let parent = procfs::parent(pid).expect("we have one");
        let its = Stat::of(parent).expect("it lives").began;
        assert_eq!(arguments(known((parent, its))), ["once"]);
    }
}
