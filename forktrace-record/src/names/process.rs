//! The tasks of the workload, and their folders in `/proc`.

use std::{
    collections::{BTreeSet, HashMap},
    fs::File,
    io::{self, Read as _},
    os::fd::OwnedFd,
};

use nix::{
    fcntl::{OFlag, openat},
    sys::{stat::Mode, time::TimeValLike as _},
    time::{ClockId, clock_gettime},
    unistd::{SysconfVar, sysconf},
};

use crate::{
    clock,
    trace::{Born, Exec},
};

/// A task.
#[derive(Clone, Copy, Debug)]
pub(super) struct Task {
    pub(super) pid: u32,
    pub(super) tid: u32,
    /// Serial of its process's first task.
    pub(super) process: u32,
    born_ns: u64,
}

/// The tasks that live, and those that ended a moment ago: what they waited for
/// may still be had from another thread of the process.
#[derive(Default)]
pub(super) struct Tasks {
    tasks: HashMap<u32, Task>,
    living: HashMap<u32, BTreeSet<u32>>,
    ended: Vec<u32>,
}

impl Tasks {
    pub(super) fn born(&mut self, born: &Born) {
        let task = Task {
            pid: born.tgid,
            tid: born.tid,
            process: born.process,
            born_ns: born.at_ns,
        };
        self.tasks.entry(born.serial).or_insert(task);
        let living = self.living.entry(born.process).or_default();
        living.insert(born.serial);
    }

    pub(super) fn exec(&mut self, exec: &Exec) {
        if let Some(task) = self.tasks.get_mut(&exec.serial) {
            task.tid = exec.tid;
        }
    }

    /// Its records can come in any order, so it is kept until [`Self::bury`].
    pub(super) fn ended(&mut self, born: &Born) {
        self.born(born);
        self.ended.push(born.serial);
    }

    /// Forgets the tasks that have ended.
    pub(super) fn bury(&mut self) {
        for serial in self.ended.drain(..) {
            let Some(task) = self.tasks.remove(&serial) else {
                continue;
            };
            if let Some(living) = self.living.get_mut(&task.process) {
                living.remove(&serial);
                if living.is_empty() {
                    self.living.remove(&task.process);
                }
            }
        }
    }

    pub(super) fn get(&self, serial: u32) -> Option<Task> {
        self.tasks.get(&serial).copied()
    }

    /// The folder of a task, or of another thread of its process, if one lives.
    pub(super) fn folder(&self, serial: u32) -> Option<Folder> {
        let task = self.get(serial)?;
        let ended = |serial: &u32| self.ended.contains(serial);
        if !ended(&serial)
            && let Some(folder) = Folder::open(&task)
        {
            return Some(folder);
        }
        let others = self.living.get(&task.process)?;
        let others = others.iter().filter(|other| !ended(other)).take(4);
        others
            .filter_map(|other| self.tasks.get(other))
            .find_map(Folder::open)
    }

    /// Does a task of this process live?
    pub(super) fn lives(&self, process: u32) -> bool {
        self.living.contains_key(&process)
    }

    /// The processes that live, each by one of its tasks.
    pub(super) fn processes(&self) -> Vec<u32> {
        let first = |tasks: &BTreeSet<u32>| tasks.first().copied();
        self.living.values().filter_map(first).collect()
    }
}

/// A task's folder in `/proc`. It belongs to that task even when its tid is used
/// again: then nothing can be read any more.
pub(super) struct Folder(OwnedFd);

impl Folder {
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

    fn now_ns() -> u64 {
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("a clock");
        now.num_nanoseconds() as u64
    }

    #[test]
    fn a_later_task_with_the_same_tid_is_another_one() {
        let mut tasks = Tasks::default();
        tasks.born(&this_thread(1, now_ns()));
        assert!(tasks.folder(1).is_some());
        // This thread began long after that.
        let mut tasks = Tasks::default();
        tasks.born(&this_thread(1, 0));
        assert!(tasks.folder(1).is_none());
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
        assert!(tasks.folder(2).is_some());
        tasks.bury();
        assert!(tasks.folder(2).is_none());
        tasks.ended(&this_thread(1, now_ns()));
        assert!(tasks.folder(1).is_none());
        tasks.bury();
        assert!(tasks.tasks.is_empty() && tasks.living.is_empty());
    }
}
