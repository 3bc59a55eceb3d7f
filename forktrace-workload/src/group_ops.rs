//! Operations that the kernel does to a whole process, and what they do to its threads.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::Read;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use forktrace_process::procfs::mounts;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill, raise};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, chdir, execv, pipe};
use serde_json::json;

use super::cpu::step;
use super::crew::{call_me, die_with_parent};
use super::exec::SELF;
use super::marks::{Mark, Marks};
use super::sys::{
    Pages, Shared, a_child_ended, default_action, fork_and_exit, fork_child, membarrier, nap,
    now_ns, page_size, pid, reap, tid, trace_thread, vfork_and_nap, yield_now,
};
use super::task::{StartLine, spawn, until_threads};
use super::truth::Truth;

/// One operation on a process whose threads compute, fault and sleep
///
/// A child process has these threads: `operator`, the main thread, which makes the
/// operation (or sleeps while its parent does, a millisecond at a time); `compute`,
/// which makes no system call; `getpid`, which makes nothing but a very short one;
/// `fault`, which maps memory, writes to each page and
/// unmaps it, over and over; `blocked`, which waits in a read from a silent pipe. The
/// operations that a process survives are made over and over for --millis, or, where
/// they last as long as the caller likes, once for as long.
///
/// Marks:
///   operation    value: ns of the longest one; operation, count, total_ns
///   survived     value: 1 when the threads worked on after it, 0 when it ended them
/// Truth:
///   operation, child_pid, survived
///   tids         {operator, fault, compute, getpid, blocked}
///   begin_ns, end_ns  of all operations; when it ended the process, until that was known
///   longest_ns, count of one operation
///   computed     steps that `compute` made from begin to end
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct GroupOp {
    /// Which one.
    #[arg(long, value_enum)]
    operation: Operation,
    /// For how long.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..))]
    millis: u64,
    /// How much memory the process has written to before; `munmap` takes it away.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    megabytes: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Operation {
    /// None: getpid in a loop, for comparison.
    Getpid,
    /// fork of children that end at once.
    Fork,
    /// vfork of a child that sleeps.
    Vfork,
    /// posix_spawn of a program that ends at once.
    PosixSpawn,
    /// munmap of all the memory.
    Munmap,
    /// membarrier, private and expedited.
    Membarrier,
    /// The parent traces and stops the thread `compute`.
    Ptrace,
    /// The parent sends SIGSTOP, and later SIGCONT.
    Sigstop,
    /// The parent freezes the process's cgroup (version 2).
    Freeze,
    /// The operator executes another program.
    Execve,
    /// The operator ends the process.
    ExitGroup,
    /// The parent sends SIGKILL.
    Sigkill,
    /// The operator kills the process so that it dumps core.
    CoreDump,
}

impl Operation {
    fn ends_the_process(self) -> bool {
        matches!(
            self,
            Self::Execve | Self::ExitGroup | Self::Sigkill | Self::CoreDump
        )
    }

    fn by_parent(self) -> bool {
        matches!(
            self,
            Self::Ptrace | Self::Sigstop | Self::Freeze | Self::Sigkill
        )
    }

    fn name(self) -> String {
        self.to_possible_value()
            .map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// What parent and child tell each other.
struct Board<'a> {
    ready: &'a AtomicU64,
    begin: &'a AtomicU64,
    end: &'a AtomicU64,
    longest: &'a AtomicU64,
    count: &'a AtomicU64,
    /// Steps of `compute`, in all and between begin and end.
    steps: &'a AtomicU64,
    computed: &'a AtomicU64,
    over: &'a AtomicU64,
    /// The parent has done its part.
    done: &'a AtomicU64,
    tids: &'a [AtomicU64],
}

/// In this order they end.
const TIDS: [&str; 5] = ["operator", "fault", "compute", "getpid", "blocked"];
const FAULT: usize = 1;
const COMPUTE: usize = 2;
const GETPID: usize = 3;
const BLOCKED: usize = 4;
/// Of the memory that `fault` maps and unmaps.
const FAULT_BYTES: usize = 4 * 1024 * 1024;

impl GroupOp {
    pub(super) fn run(&self) -> Result<()> {
        let truth = Truth::begin("group-op");
        let marks = Marks::open()?;
        let words = Shared::new(9 + TIDS.len())?;
        let (first, tids) = words.words().split_at(9);
        let [
            ready,
            begin,
            end,
            longest,
            count,
            steps,
            computed,
            over,
            done,
        ]: &[AtomicU64; 9] = first.try_into()?;
        let board = Board {
            ready,
            begin,
            end,
            longest,
            count,
            steps,
            computed,
            over,
            done,
            tids,
        };
        let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
        let cgroup = (self.operation == Operation::Freeze)
            .then(Cgroup::new)
            .transpose()?;

        let child = fork_child(|| {
            die_with_parent()?;
            // Where a core file may go.
            chdir(folder.path()).context("cannot change the folder")?;
            self.child(&board)
        })?;
        if let Some(cgroup) = &cgroup {
            cgroup.put(child)?;
        }
        while ready.load(SeqCst) < TIDS.len() as u64 {
            ensure!(!a_child_ended()?, "the child ended before it began");
            nap(Duration::from_millis(1))?;
        }
        if self.operation.by_parent() {
            let start = now_ns();
            begin.store(start, SeqCst);
            let steps_before = steps.load(SeqCst);
            let outcome = self.by_parent(child, tids, cgroup.as_ref());
            let stop = now_ns();
            computed.store(steps.load(SeqCst) - steps_before, SeqCst);
            end.store(stop, SeqCst);
            longest.store(stop - start, SeqCst);
            count.store(1, SeqCst);
            done.store(1, SeqCst);
            outcome?;
        }
        let survived = self.survived(child)?;
        drop(cgroup);
        if end.load(SeqCst) == 0 {
            end.store(now_ns(), SeqCst);
        }
        let total = end.load(SeqCst) - begin.load(SeqCst);
        let longest = match longest.load(SeqCst) {
            0 => total,
            known => known,
        };
        marks.write(
            Mark::new("operation", longest)
                .with("operation", self.operation.name())
                .with("count", count.load(SeqCst).max(1))
                .with("total_ns", total),
        )?;
        marks.write(
            Mark::new("survived", u64::from(survived)).with("operation", self.operation.name()),
        )?;
        let tids: serde_json::Map<_, _> = TIDS
            .iter()
            .zip(tids)
            .map(|(name, tid)| ((*name).to_owned(), tid.load(SeqCst).into()))
            .collect();
        truth.print(json!({
            "operation": self.operation.name(),
            "child_pid": child.as_raw(),
            "survived": survived,
            "tids": tids,
            "begin_ns": begin.load(SeqCst),
            "end_ns": end.load(SeqCst),
            "longest_ns": longest,
            "count": count.load(SeqCst).max(1),
            "computed": computed.load(SeqCst),
        }))
    }

    /// Waits for the child, and checks that it ended as it should.
    fn survived(&self, child: Pid) -> Result<bool> {
        let status = waitpid(child, None).context("cannot wait for the child")?;
        match (self.operation, status) {
            (Operation::Sigkill, WaitStatus::Signaled(_, Signal::SIGKILL, _))
            | (Operation::CoreDump, WaitStatus::Signaled(_, Signal::SIGQUIT, true)) => Ok(false),
            (Operation::CoreDump, WaitStatus::Signaled(_, Signal::SIGQUIT, false)) => {
                bail!("the process was killed but the kernel wrote no core dump")
            }
            (operation, WaitStatus::Exited(_, 0)) => Ok(!operation.ends_the_process()),
            (_, other) => bail!("the child should not have ended like this: {other:?}"),
        }
    }

    fn by_parent(&self, child: Pid, tids: &[AtomicU64], cgroup: Option<&Cgroup>) -> Result<()> {
        let wait = || nap(Duration::from_millis(self.millis));
        match self.operation {
            Operation::Sigkill => kill(child, Signal::SIGKILL).context("cannot kill the child"),
            Operation::Sigstop => {
                kill(child, Signal::SIGSTOP).context("cannot stop the child")?;
                let status = waitpid(child, Some(WaitPidFlag::WUNTRACED));
                ensure!(
                    matches!(status, Ok(WaitStatus::Stopped(..))),
                    "the child should have stopped, but: {status:?}"
                );
                wait()?;
                kill(child, Signal::SIGCONT).context("cannot continue the child")
            }
            Operation::Ptrace => {
                let tid = Pid::from_raw(tids[COMPUTE].load(SeqCst) as i32);
                trace_thread(tid, wait)
            }
            Operation::Freeze => {
                let cgroup = cgroup.context("there is no cgroup")?;
                cgroup.freeze(true)?;
                wait()?;
                cgroup.freeze(false)
            }
            _ => Ok(()),
        }
    }

    fn child(&self, board: &Board<'_>) -> Result<()> {
        call_me(TIDS[0])?;
        let memory = Pages::new((self.megabytes as usize * 1024 * 1024).div_ceil(page_size()?))?;
        (0..memory.count()).for_each(|page| memory.touch(page));
        let (silent, writer) = pipe().context("cannot make a pipe")?;
        let mut writer = Some(writer);
        let line = StartLine::new(TIDS.len());
        let begun = |i: usize| {
            board.tids[i].store(tid() as u64, SeqCst);
            line.wait();
            board.ready.fetch_add(1, SeqCst);
        };
        let over = |i: usize| board.over.load(SeqCst) >= i as u64;
        let outcome = thread::scope(|scope| -> Result<()> {
            spawn(scope, TIDS[FAULT], || {
                begun(FAULT);
                let pages = FAULT_BYTES / page_size()?;
                while !over(FAULT) {
                    let memory = Pages::new(pages)?;
                    (0..pages).for_each(|page| memory.touch(page));
                }
                Ok(())
            })?;
            spawn(scope, TIDS[COMPUTE], || {
                begun(COMPUTE);
                while !over(COMPUTE) {
                    step();
                    board.steps.fetch_add(1, SeqCst);
                }
                Ok(())
            })?;
            spawn(scope, TIDS[GETPID], || {
                begun(GETPID);
                while !over(GETPID) {
                    pid();
                }
                Ok(())
            })?;
            spawn(scope, TIDS[BLOCKED], || {
                begun(BLOCKED);
                File::from(silent)
                    .read(&mut [0])
                    .context("cannot read from a pipe")?;
                Ok(())
            })?;
            begun(0);
            let outcome = self.operate(board, memory);
            // One after the other: whoever ends changes the memory map, and should
            // hold up nobody by that.
            for ending in 1..TIDS.len() {
                board.over.store(ending as u64, SeqCst);
                if ending == BLOCKED {
                    writer.take();
                }
                until_threads(TIDS.len() - ending)?;
            }
            outcome
        });
        outcome.with_context(|| format!("{} failed", self.operation.name()))
    }

    fn operate(&self, board: &Board<'_>, memory: Pages) -> Result<()> {
        while board.ready.load(SeqCst) < TIDS.len() as u64 {
            yield_now();
        }
        if self.operation.by_parent() {
            while board.done.load(SeqCst) == 0 {
                nap(Duration::from_millis(1))?;
            }
            return still_working(board);
        }
        let mut memory = Some(memory);
        let argv = ["forktrace", "workload", "nothing"]
            .map(CString::new)
            .into_iter()
            .collect::<Result<Vec<_>, _>>()?;
        let program = CString::new(SELF)?;
        let steps_before = board.steps.load(SeqCst);
        let begin = now_ns();
        board.begin.store(begin, SeqCst);
        let until = begin + self.millis * 1_000_000;
        let (mut longest, mut count) = (0, 0);
        loop {
            let start = now_ns();
            let child = match self.operation {
                Operation::Fork => Some(fork_and_exit()?),
                Operation::Vfork => Some(vfork_and_nap(Duration::from_millis(self.millis))?),
                Operation::PosixSpawn => {
                    let status = Command::new(SELF).args(["workload", "nothing"]).status();
                    ensure!(
                        status.context("cannot start a program")?.success(),
                        "the program failed"
                    );
                    None
                }
                Operation::Munmap => {
                    drop(memory.take());
                    None
                }
                Operation::Membarrier => {
                    membarrier(100)?;
                    None
                }
                Operation::Execve => {
                    let Err(error) = execv(&program, &argv);
                    bail!("cannot run {SELF}: {error}");
                }
                Operation::ExitGroup => std::process::exit(0),
                Operation::CoreDump => dump_core()?,
                _ => {
                    for _ in 0..1000 {
                        pid();
                    }
                    None
                }
            };
            longest = longest.max(now_ns() - start);
            count += 1;
            if let Some(child) = child {
                reap(child)?;
            }
            if self.operation == Operation::Munmap || now_ns() > until {
                break;
            }
        }
        board.end.store(now_ns(), SeqCst);
        board
            .computed
            .store(board.steps.load(SeqCst) - steps_before, SeqCst);
        board.longest.store(longest, SeqCst);
        board.count.store(count, SeqCst);
        still_working(board)
    }
}

/// Waits, without blocking, until the thread `compute` has made a step.
fn still_working(board: &Board<'_>) -> Result<()> {
    let before = board.steps.load(SeqCst);
    while board.steps.load(SeqCst) == before {
        yield_now();
    }
    Ok(())
}

fn dump_core() -> Result<Option<Pid>> {
    let (_, most) = getrlimit(Resource::RLIMIT_CORE).context("cannot read a limit")?;
    setrlimit(Resource::RLIMIT_CORE, most, most).context("cannot allow a core dump")?;
    default_action(Signal::SIGQUIT)?;
    raise(Signal::SIGQUIT).context("cannot raise SIGQUIT")?;
    bail!("SIGQUIT did not kill the process");
}

/// A cgroup of version 2 for one process, removed on drop.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new() -> Result<Self> {
        let mount = mounts::place_of("cgroup2").context("no cgroup2 file system is mounted")?;
        let folder = mount.join(format!("forktrace-workload-{}", pid()));
        fs::create_dir(&folder)
            .with_context(|| format!("cannot make the cgroup {}", folder.display()))?;
        Ok(Self(folder))
    }

    fn write(&self, file: &str, text: &str) -> Result<()> {
        let path = self.0.join(file);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    fn put(&self, process: Pid) -> Result<()> {
        self.write("cgroup.procs", &process.to_string())
    }

    /// Freezes or thaws it, and waits until that is done.
    fn freeze(&self, frozen: bool) -> Result<()> {
        self.write("cgroup.freeze", if frozen { "1" } else { "0" })?;
        let wanted = format!("frozen {}", u8::from(frozen));
        let path = self.0.join("cgroup.events");
        loop {
            let events = fs::read_to_string(&path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            if events.lines().any(|line| line == wanted) {
                return Ok(());
            }
            nap(Duration::from_micros(100))?;
        }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // It stays when something is still in it; the error that left it there is shown.
        let _ = fs::remove_dir(&self.0);
    }
}
