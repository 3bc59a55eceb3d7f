//! The tasks of the workload, which the recorder knows, and their folders in `/proc`,
//! which the helper opens.

use std::{
    collections::{BTreeSet, HashMap},
    fs::File,
    io::{self, Read as _},
    os::fd::{AsRawFd as _, OwnedFd},
};

use nix::{
    fcntl::{OFlag, openat},
    sys::{
        stat::{Mode, SFlag, fstat, major, minor},
        time::TimeValLike as _,
    },
    time::{ClockId, clock_gettime},
    unistd::{SysconfVar, sysconf},
};

use serde::{Deserialize, Serialize};

use crate::{
    clock,
    trace::{Born, Exec},
};

/// Threads that can stand in for one that has ended.
const STAND_INS: usize = 4;
/// No more is read of a file.
const MOST_BYTES: usize = 64 << 20;

/// A task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Task {
    pid: u32,
    tid: u32,
    born_ns: u64,
}

/// Whose file or memory is asked about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Who {
    /// The task's serial.
    pub(super) serial: u32,
    /// Serial of its process's first task, and the how manieth program of the process it is.
    pub(super) memory: (u32, u32),
    /// The task, if it lives, and others of its process: they have the same files.
    tasks: Vec<Task>,
}

/// A process of the workload.
#[derive(Default)]
struct Process {
    living: BTreeSet<u32>,
    /// Programs that it has executed.
    programs: u32,
    /// Where it was last said to be, where that was said.
    cgroup: Option<Box<str>>,
}

/// The tasks that live, and those that ended a moment ago: what they waited for
/// may still be had from another thread of the process.
#[derive(Default)]
pub(super) struct Tasks {
    /// With the serial of the process's first task.
    tasks: HashMap<u32, (Task, u32)>,
    processes: HashMap<u32, Process>,
    ended: BTreeSet<u32>,
}

impl Tasks {
    pub(super) fn born(&mut self, born: &Born) {
        let task = Task {
            pid: born.tgid,
            tid: born.tid,
            born_ns: born.at_ns,
        };
        self.tasks
            .entry(born.serial)
            .or_insert((task, born.process));
        let process = self.processes.entry(born.process).or_default();
        process.living.insert(born.serial);
    }

    pub(super) fn exec(&mut self, exec: &Exec) {
        if let Some((task, process)) = self.tasks.get_mut(&exec.serial) {
            task.tid = exec.tid;
            let process = self.processes.entry(*process).or_default();
            process.programs += 1;
        }
    }

    /// Its records can come in any order, so it is kept until [`Self::bury`].
    pub(super) fn ended(&mut self, born: &Born) {
        self.born(born);
        self.ended.insert(born.serial);
    }

    /// Notes in which cgroup a process is, by its first task. True: that is to be told. `usual`
    /// is where processes are of which nothing is told.
    pub(super) fn comes_to(&mut self, process: u32, path: &str, usual: &str) -> bool {
        // One that has ended meanwhile may be told twice.
        let mut known = self.processes.get_mut(&process);
        let before = known.as_deref().and_then(|it| it.cgroup.as_deref());
        let is_new = !path.is_empty() && path != before.unwrap_or(usual);
        if let Some(known) = known.as_mut().filter(|_| is_new) {
            known.cgroup = Some(path.into());
        }
        is_new
    }

    /// Forgets the tasks that have ended.
    pub(super) fn bury(&mut self) {
        for serial in std::mem::take(&mut self.ended) {
            let Some((_, process)) = self.tasks.remove(&serial) else {
                continue;
            };
            if let Some(found) = self.processes.get_mut(&process) {
                found.living.remove(&serial);
                if found.living.is_empty() {
                    self.processes.remove(&process);
                }
            }
        }
    }

    /// A task, and those that can stand in for it; `None`: it is not known.
    pub(super) fn who(&self, serial: u32) -> Option<Who> {
        let (_, process) = self.tasks.get(&serial)?;
        let known = self.processes.get(process)?;
        let others = known.living.iter().filter(|other| **other != serial);
        let lives = |serial: &&u32| !self.ended.contains(*serial);
        let others = others.filter(lives).take(STAND_INS);
        let tasks = Some(&serial).filter(lives).into_iter().chain(others);
        Some(Who {
            serial,
            memory: (*process, known.programs),
            tasks: tasks
                .filter_map(|serial| self.tasks.get(serial))
                .map(|(task, _)| *task)
                .collect(),
        })
    }

    /// The processes that live, each by one of its tasks.
    pub(super) fn processes(&self) -> Vec<u32> {
        let first = |process: &Process| process.living.first().copied();
        self.processes.values().filter_map(first).collect()
    }
}

/// A task's folder in `/proc`. It belongs to that task even when its tid is used
/// again: then nothing can be read any more.
pub(super) struct Folder(OwnedFd);

impl Folder {
    /// Of the first of these tasks that still lives.
    pub(super) fn of(who: &Who) -> Option<Self> {
        who.tasks.iter().find_map(Self::open)
    }

    fn open(task: &Task) -> Option<Self> {
        let path = format!("/proc/{}/task/{}", task.pid, task.tid);
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let folder = nix::fcntl::open(path.as_str(), flags, Mode::empty()).ok()?;
        let folder = Self(folder);
        // A task that began later is another one under the same tid. (One that
        // began before is not: exec hands the leader's time to another thread.)
        let began_ns = start_time_ns(&folder.read("stat").ok()?)?;
        (began_ns <= task.born_ns + tick_ns()).then_some(folder)
    }

    /// A file in it, as text: `/proc` may hold bytes of any kind, in paths.
    pub(super) fn read(&self, name: &str) -> io::Result<String> {
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let file = openat(&self.0, name, flags, Mode::empty())?;
        let mut file = File::from(file);
        let mut bytes = Vec::new();
        // Some tables are searched from their beginning at each read, so few and
        // long ones: `read_to_end` begins with 32 bytes.
        let mut chunk = [0; 32 << 10];
        loop {
            match file.read(&mut chunk)? {
                0 => break,
                len => bytes.extend_from_slice(&chunk[..len]),
            }
            if bytes.len() > MOST_BYTES {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// What a link in it leads to: a handle that opens nothing, and has no effect
    /// on whoever uses the file.
    pub(super) fn follow(&self, name: &str) -> nix::Result<OwnedFd> {
        openat(
            &self.0,
            name,
            OFlag::O_PATH | OFlag::O_CLOEXEC,
            Mode::empty(),
        )
    }

    /// The file that is mapped from this path, if that leads to it: a plain file with this
    /// device and inode. Nothing is opened.
    pub(super) fn mapped_file(
        &self,
        path: &str,
        (device, inode): (u32, u64),
    ) -> Option<MappedFile> {
        let link = self.follow(&format!("root{path}")).ok()?;
        let found = fstat(&link).ok()?;
        let is_plain = found.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFREG.bits();
        let number = (major(found.st_dev) << 20 | minor(found.st_dev)) as u32;
        if !is_plain || (number, found.st_ino) != (device, inode) {
            return None;
        }
        Some(MappedFile {
            link,
            written: (found.st_mtime, found.st_mtime_nsec),
        })
    }

    /// A file in it, opened for reading.
    pub(super) fn open_file(&self, name: &str) -> nix::Result<OwnedFd> {
        openat(
            &self.0,
            name,
            OFlag::O_RDONLY | OFlag::O_CLOEXEC,
            Mode::empty(),
        )
    }
}

/// A plain file that a process has mapped.
pub(super) struct MappedFile {
    link: OwnedFd,
    /// When it was written last, s and ns.
    pub(super) written: (i64, i64),
}

impl MappedFile {
    pub(super) fn open(&self) -> Option<File> {
        File::open(format!("/proc/self/fd/{}", self.link.as_raw_fd())).ok()
    }
}

fn tick_ns() -> u64 {
    let ticks = sysconf(SysconfVar::CLK_TCK).ok().flatten();
    1_000_000_000 / ticks.filter(|t| *t > 0).unwrap_or(100) as u64
}

/// When a task began, on `CLOCK_MONOTONIC`, from its `stat`: rounded down.
fn start_time_ns(stat: &str) -> Option<u64> {
    let since_boot = start_ticks(stat)?.checked_mul(tick_ns())?;
    let boot = clock_gettime(ClockId::CLOCK_BOOTTIME).ok()?;
    let monotonic = clock::now_ns().ok()?;
    // The two differ by the time in suspend, by what lies between the calls, and by what
    // a time namespace adds to the first, here and in the `stat`.
    let ago = boot.num_nanoseconds().checked_sub_unsigned(since_boot)?;
    Some(monotonic.saturating_sub_signed(ago))
}

/// Field 22, see proc_pid_stat(5). The name before it can hold anything.
fn start_ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_time_is_found_behind_a_strange_name() {
        let stat = "4121 (a) R (b) S 1 4121 4121 0 -1 4194560 90 0 0 0 0 0 0 0 20 0 1 0 123456 \
                    8192 100 18446744073709551615 0 0";
        assert_eq!(start_ticks(stat), Some(123_456));
        assert_eq!(start_ticks("4121 (a"), None);
        assert_eq!(start_ticks(""), None);
    }

    fn this_thread(serial: u32, born_ns: u64) -> Born {
        Born {
            serial,
            parent: 0,
            process: 1,
            tid: nix::unistd::gettid().as_raw() as u32,
            tgid: std::process::id(),
            ppid: 0,
            clone_flags: 0,
            kernel_worker: false,
            at_ns: born_ns,
            comm: String::new(),
        }
    }

    fn folder(tasks: &Tasks, serial: u32) -> Option<Folder> {
        Folder::of(&tasks.who(serial)?)
    }

    fn now_ns() -> u64 {
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("a clock");
        now.num_nanoseconds() as u64
    }

    #[test]
    fn a_later_task_with_the_same_tid_is_another_one() {
        let mut tasks = Tasks::default();
        tasks.born(&this_thread(1, now_ns()));
        assert!(folder(&tasks, 1).is_some());
        // This thread began long after that.
        let mut tasks = Tasks::default();
        tasks.born(&this_thread(1, 0));
        assert!(folder(&tasks, 1).is_none());
    }

    #[test]
    fn a_cgroup_is_told_once_and_again_when_it_is_another() {
        let mut tasks = Tasks::default();
        tasks.born(&this_thread(1, now_ns()));
        assert!(!tasks.comes_to(1, "/usual", "/usual"));
        assert!(!tasks.comes_to(1, "", "/usual"));
        assert!(tasks.comes_to(1, "/a", "/usual"));
        assert!(!tasks.comes_to(1, "/a", "/usual"));
        assert!(tasks.comes_to(1, "/usual", "/usual"));
        assert!(tasks.comes_to(2, "/a", "/usual"), "it has ended");
    }

    #[test]
    fn another_thread_stands_in_for_one_that_ended() {
        let mut tasks = Tasks::default();
        tasks.born(&this_thread(1, now_ns()));
        let gone = Born {
            tid: 0,
            ..this_thread(2, now_ns())
        };
        tasks.ended(&gone);
        assert!(folder(&tasks, 2).is_some());
        tasks.bury();
        assert!(folder(&tasks, 2).is_none());
        tasks.ended(&this_thread(1, now_ns()));
        assert!(folder(&tasks, 1).is_none());
        tasks.bury();
        assert!(tasks.tasks.is_empty() && tasks.processes.is_empty());
    }
}
