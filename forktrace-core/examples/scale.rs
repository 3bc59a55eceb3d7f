//! Writes traces of any size, to see how reports grow with it: `cargo xtask bench scale` does.
//!
//! ```text
//! cargo run --release -p forktrace-core --example scale -- locks 1000000 1000 locks.ft
//! ```

#![allow(clippy::print_stderr, reason = "it is a program")]

use std::{env, fs::File, io::BufWriter, process::ExitCode};

use forktrace_core::{
    trace::{
        Arch, Born, Event, Finish, Header, Interrupt, PollWay, Stretch, TaskRecord, Timeout,
        Totals, Untracked, Waker, Why,
    },
    trace_file::TraceWriter,
};

const READ: i16 = 0;
const YIELD: i16 = 24;
const SLEEP: i16 = 35;
const FUTEX: i16 = 202;
const WAIT: i16 = 61;

/// Writes a workload.
struct Maker {
    to: TraceWriter<BufWriter<File>>,
    tasks: Vec<Made>,
    now_ns: u64,
    random: u64,
}

/// A task so far.
struct Made {
    born: Born,
    totals: Totals,
    ended_ns: Option<u64>,
}

/// Why and in what a task was off the CPU.
#[derive(Clone, Copy)]
struct In {
    why: Why,
    syscall: i16,
    arg0: u64,
    waker: Waker,
    timeout: Timeout,
}

fn blocked(syscall: i16, arg0: u64, waker: Waker) -> In {
    In {
        why: Why::Interruptible,
        syscall,
        arg0,
        waker,
        timeout: Timeout::None,
    }
}

/// The task with this index.
fn by(task: usize) -> Waker {
    Waker::Task {
        serial: task as u32 + 1,
        softirq: false,
    }
}

impl Maker {
    fn new(file: &str) -> std::io::Result<Self> {
        let header = Header {
            forktrace: env!("CARGO_PKG_VERSION").to_owned(),
            argv: vec!["scale".to_owned()],
            kernel: "6.18".to_owned(),
            arch: Arch::X86_64,
            cpus: 2,
            start_ns: 0,
            start_unix_ns: 0,
            polls: PollWay::Fentry,
            ring_bytes: 4 << 20,
            max_tasks: 1 << 20,
            plain: false,
            interrupts: Vec::new(),
            attached: None,
            machine: None,
            cgroup: String::new(),
            lag_min_ns: None,
            imported: None,
        };
        Ok(Self {
            to: TraceWriter::new(BufWriter::new(File::create(file)?), &header)?,
            tasks: Vec::new(),
            now_ns: 0,
            random: 0x9e37_79b9_7f4a_7c15,
        })
    }

    /// A task that is created and begins to run, in the process of the task with index
    /// `process`.
    fn born(&mut self, process: usize, name: &str) -> usize {
        let at = self.tasks.len();
        let born = Born {
            serial: at as u32 + 1,
            parent: u32::from(at > 0),
            process: process as u32 + 1,
            tid: 1000 + at as u32,
            tgid: 1000 + process as u32,
            ppid: if process == 0 { 1 } else { 1000 },
            clone_flags: 0,
            kernel_worker: false,
            at_ns: self.now_ns,
            comm: name.to_owned(),
        };
        self.to.push(&Event::Born(born.clone()));
        let totals = Totals {
            serial: born.serial,
            ..Totals::default()
        };
        self.tasks.push(Made {
            born,
            totals,
            ended_ns: None,
        });
        let new = In {
            why: Why::New,
            ..blocked(-1, 0, Waker::None)
        };
        let now_ns = self.now_ns;
        self.off(at, (now_ns, now_ns, now_ns + 100), new);
        at
    }

    fn off(&mut self, task: usize, (out_ns, wake_ns, in_ns): (u64, u64, u64), what: In) {
        // Real times are not regular: a file that packs too well is taken for a forged one.
        let (wake_ns, in_ns) = (
            self.earlier(out_ns, wake_ns),
            self.earlier(wake_ns.max(out_ns), in_ns),
        );
        let Made { born, totals, .. } = &mut self.tasks[task];
        self.to.push(&Event::Stretch(Stretch {
            serial: born.serial,
            seq: totals.seq,
            out_ns,
            wake_ns,
            in_ns,
            why: what.why,
            early_wake: false,
            no_wake: false,
            inferred: false,
            compat: false,
            syscall: what.syscall,
            cpu_out: (task % 2) as u16,
            cpu_in: (task % 2) as u16,
            arg0: what.arg0,
            arg1: 0,
            waker: what.waker,
            object: 0,
            timeout: what.timeout,
        }));
        totals.seq += 1;
        match what.why {
            Why::New | Why::Preempted => totals.runnable_ns += in_ns - out_ns,
            _ => {
                totals.blocked_ns += wake_ns - out_ns;
                totals.runnable_ns += in_ns - wake_ns;
            }
        }
        self.now_ns = self.now_ns.max(in_ns);
    }

    /// A little earlier, but not before `from_ns`.
    fn earlier(&mut self, from_ns: u64, ns: u64) -> u64 {
        // Marsaglia's xorshift.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        ns - self.random % (ns - from_ns + 1).min(1 << 12)
    }

    fn end(&mut self, task: usize, at_ns: u64) {
        let made = &mut self.tasks[task];
        made.ended_ns = Some(at_ns);
        let switches = u64::from(made.totals.seq);
        self.to.push(&Event::Task(TaskRecord {
            born: made.born.clone(),
            end_ns: made.ended_ns,
            totals: made.totals,
            missed: 0,
            switches,
            kernel_switches: Some(switches),
            kernel_cpu_ns: None,
            exit_code: Some(0),
            ended_in: Some(231),
            open: None,
        }));
        self.now_ns = self.now_ns.max(at_ns);
    }

    fn finish(mut self) -> std::io::Result<()> {
        let end_ns = self.now_ns + 1000;
        for task in 0..self.tasks.len() {
            if self.tasks[task].ended_ns.is_none() {
                self.end(task, end_ns);
            }
        }
        let finish = Finish {
            end_ns,
            exit_code: Some(0),
            ..Finish::default()
        };
        match self.to.finish(finish) {
            (_, Some(error)) => Err(error),
            _ => Ok(()),
        }
    }

    /// Two that wake each other.
    fn ping_pong(&mut self, stretches: u64) {
        let pair = [self.born(0, "ping"), self.born(1, "pong")];
        for turn in 0..stretches {
            let at_ns = 1000 + turn * 5000;
            let (task, other) = (pair[(turn % 2) as usize], pair[(turn % 2) as usize ^ 1]);
            let what = blocked(READ, 3, by(other));
            self.off(task, (at_ns, at_ns + 4500, at_ns + 5000), what);
        }
    }

    /// Threads of processes of so many, which hand each other the locks of their process;
    /// now and then a timer wakes one, and all stood still.
    fn locks(&mut self, stretches: u64, tasks: usize, of_process: usize) {
        for task in 0..tasks {
            self.born(task / of_process * of_process, &format!("worker-{task}"));
        }
        let (tasks, of_process) = (tasks as u64, of_process as u64);
        let begin_ns = self.now_ns + 10_000;
        for turn in 0..stretches {
            let task = turn % tasks;
            let first = task / of_process * of_process;
            let neighbour = first + (task + of_process - 1 - first) % of_process;
            let out_ns = begin_ns + turn * 2000;
            let back_ns = begin_ns + (turn + tasks - 1) * 2000;
            let address = 0x1000 + first * 0x1000 + task % 8 * 64;
            let (what, wake_ns) = match turn % 16 {
                0 => {
                    let timer = Waker::Interrupt(Interrupt::Timer);
                    (blocked(SLEEP, 0, timer), back_ns + 1000)
                }
                _ => (
                    blocked(FUTEX, address, by(neighbour as usize)),
                    back_ns - 100,
                ),
            };
            let wake_ns = wake_ns.max(out_ns);
            self.off(task as usize, (out_ns, wake_ns, wake_ns + 200), what);
        }
    }

    /// Processes that sleep, for 20 ms each time.
    fn sleepers(&mut self, stretches: u64, tasks: usize) {
        for task in 0..tasks {
            self.born(task, "sleeper");
        }
        let step_ns = 20_000_000 / tasks as u64;
        let begin_ns = self.now_ns + 10_000;
        for turn in 0..stretches {
            let out_ns = begin_ns + turn * step_ns;
            let wake_ns = out_ns + 19_900_000;
            let what = In {
                timeout: Timeout::Us(19_900),
                ..blocked(SLEEP, 0, Waker::Interrupt(Interrupt::Timer))
            };
            let task = (turn % tasks as u64) as usize;
            self.off(task, (out_ns, wake_ns, wake_ns + 5000), what);
        }
    }

    /// One stand-still after the other, of all threads, that somebody outside ends.
    fn herd(&mut self, stretches: u64, tasks: usize) {
        for task in 0..tasks {
            self.born(0, &format!("worker-{task}"));
        }
        let begin_ns = self.now_ns + 10_000;
        for turn in 0..stretches / tasks as u64 {
            let out_ns = begin_ns + turn * 2_000_000;
            for task in 0..tasks {
                let wake_ns = out_ns + 1_000_000 + task as u64 * 100;
                let waker = Waker::Outsider {
                    tid: 77,
                    softirq: false,
                };
                let what = blocked(READ, 5, waker);
                self.off(task, (out_ns + task as u64, wake_ns, wake_ns + 300), what);
            }
        }
    }

    /// Processes one after the other, each of which sleeps once.
    fn short_lived(&mut self, tasks: usize) {
        let first = self.born(0, "make");
        for at in 0..tasks as u64 {
            self.now_ns = 10_000 + at * 100_000;
            let born_ns = self.now_ns;
            let task = self.born(at as usize + 1, "cc");
            let timer = Waker::Interrupt(Interrupt::Timer);
            let what = blocked(SLEEP, 0, timer);
            self.off(
                task,
                (born_ns + 20_000, born_ns + 60_000, born_ns + 61_000),
                what,
            );
            self.end(task, born_ns + 90_000);
            let what = blocked(WAIT, u64::from(u32::MAX), by(task));
            self.off(
                first,
                (born_ns + 5000, born_ns + 90_000, born_ns + 91_000),
                what,
            );
        }
    }

    /// Tasks that are not followed: the table was full.
    fn not_followed(&mut self, tasks: usize) {
        self.born(0, "main");
        for at in 0..tasks as u64 {
            let at_ns = 10_000 + at * 1000;
            let task = Untracked {
                tid: 5000 + at as u32,
                tgid: 1000,
                ppid: 1,
                at_ns,
                comm: "thread".to_owned(),
            };
            self.to.push(&Event::Untracked(task.clone()));
            let end = Untracked {
                at_ns: at_ns + 10_000_000,
                ..task
            };
            self.to.push(&Event::UntrackedEnd(end));
            self.now_ns = at_ns + 10_000_000;
        }
    }

    /// One that gives up the CPU again and again and never sleeps wakes another each time.
    fn yields(&mut self, stretches: u64) {
        let (busy, consumer) = (self.born(0, "producer"), self.born(0, "consumer"));
        for turn in 0..stretches / 2 {
            let at_ns = 1000 + turn * 4000;
            let what = blocked(FUTEX, 0x1000, by(busy));
            self.off(consumer, (at_ns, at_ns + 2000, at_ns + 2100), what);
            let what = In {
                why: Why::Preempted,
                ..blocked(YIELD, 0, Waker::None)
            };
            self.off(busy, (at_ns + 2100, at_ns + 2100, at_ns + 3900), what);
        }
    }
}

fn make(kind: &str, stretches: u64, tasks: usize, file: &str) -> std::io::Result<bool> {
    let mut maker = Maker::new(file)?;
    match kind {
        "ping-pong" => maker.ping_pong(stretches),
        "locks" => maker.locks(stretches, tasks, tasks),
        "groups" => maker.locks(stretches, tasks, 10),
        "sleepers" => maker.sleepers(stretches, tasks),
        "herd" => maker.herd(stretches, tasks),
        "short-lived" => maker.short_lived(tasks),
        "not-followed" => maker.not_followed(tasks),
        "yields" => maker.yields(stretches),
        _ => return Ok(false),
    }
    maker.finish()?;
    Ok(true)
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [kind, stretches, tasks, file] = &arguments[..] else {
        eprintln!("usage: scale KIND STRETCHES TASKS FILE");
        return ExitCode::FAILURE;
    };
    let (Ok(stretches), Ok(tasks)) = (stretches.parse(), tasks.parse::<usize>()) else {
        eprintln!("scale: {stretches:?} and {tasks:?} are to be numbers");
        return ExitCode::FAILURE;
    };
    match make(kind, stretches, tasks.max(1), file) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("scale: there is no workload {kind:?}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("scale: {file}: {error}");
            ExitCode::FAILURE
        }
    }
}
