//! What tests of several stages draw traces from.

use proptest::prelude::*;

use crate::{
    random::SplitMix,
    trace::{
        Arch, Argv, Attached, Born, Cgroup, Deadlock, Event, Exec, FileKind, Frames, Given,
        GivenWhat, Header, Interest, LastName, LockName, Named, Object, Outsider, PollWay,
        ProviderKind, Providers, SharedFutex, Signal, Stacks, Stretch, Stuck, StuckOn, TaskRecord,
        Timeout, Totals, Untracked, WaitFd, WaitsIn, Waitset, Waker, Why,
    },
};

/// A thread of the process whose tgid is 101.
pub(crate) fn born(serial: u32, at_ns: u64) -> Born {
    Born {
        serial,
        parent: 0,
        process: 1,
        tid: 100 + serial,
        tgid: 101,
        ppid: 1,
        clone_flags: 0,
        kernel_worker: false,
        at_ns,
        comm: "task".to_owned(),
    }
}

/// That of a recording of two CPUs.
pub(crate) fn header(start_ns: u64) -> Header {
    Header {
        forktrace: "0".to_owned(),
        argv: Vec::new(),
        kernel: "6.18".to_owned(),
        arch: Arch::X86_64,
        cpus: 2,
        start_ns,
        start_unix_ns: 0,
        polls: PollWay::Fentry,
        ring_bytes: 4096,
        max_tasks: 10,
        plain: false,
        interrupts: Vec::new(),
        attached: None,
        machine: None,
        cgroup: String::new(),
        lag_min_ns: None,
        imported: None,
    }
}

/// The last record of a task that never switched.
pub(crate) fn record(born: Born, end_ns: Option<u64>) -> TaskRecord {
    TaskRecord {
        totals: Totals {
            serial: born.serial,
            ..Totals::default()
        },
        born,
        end_ns,
        missed: 0,
        switches: 0,
        kernel_switches: end_ns.map(|_| 0),
        kernel_cpu_ns: end_ns.map(|_| 0),
        exit_code: end_ns.map(|_| 0),
        ended_in: None,
        open: None,
    }
}

/// Any reason to leave the CPU, each as often.
pub(crate) fn any_why() -> impl Strategy<Value = Why> {
    prop::sample::select(Why::ALL.to_vec())
}

/// What a task of [`events`] has come to.
struct Drawn {
    born: Born,
    serial: u32,
    seq: u32,
    at_ns: u64,
    sums: Totals,
}

/// Events of each kind that a recording consists of, of tasks that come and go, by chance. They
/// come nearly in the order of time, as those of several CPUs do. Some are lost.
pub(crate) fn events(random: &mut SplitMix, count: usize, start_ns: u64) -> Vec<Event> {
    let mut events = Vec::new();
    let mut tasks: Vec<Drawn> = Vec::new();
    let (mut now_ns, mut next) = (start_ns, 1);
    while events.len() < count {
        now_ns += random.below(1_000_000);
        let at_ns = now_ns - random.below(200_000);
        let which = random.below(tasks.len().max(1) as u64) as usize;
        let lost = random.below(20) == 0;
        let living = tasks.len();
        let event = match (random.below(40), tasks.get_mut(which)) {
            (0..3, _) | (_, None) => {
                let born = Born {
                    parent: next / 2,
                    process: if next % 3 == 0 { next } else { 1 },
                    ..born(next, at_ns)
                };
                if random.below(4) == 0 {
                    events.push(Event::Attached(Attached {
                        serial: next,
                        at_ns,
                        asleep_for_ns: (random.below(2) == 0).then_some(77),
                    }));
                }
                let sums = Totals {
                    serial: next,
                    ..Totals::default()
                };
                tasks.push(Drawn {
                    born: born.clone(),
                    serial: next,
                    seq: 0,
                    at_ns,
                    sums,
                });
                next += 1;
                Event::Born(born)
            }
            (3, Some(_)) if living > 3 => {
                let task = tasks.remove(which);
                Event::Task(last_record(&task, now_ns))
            }
            (4..16, Some(task)) => about(random, task.serial, at_ns, task.seq),
            (_, Some(task)) => stretch(random, task, now_ns, lost, &mut events),
        };
        if !lost {
            events.push(event);
        }
    }
    for task in &tasks {
        let mut record = last_record(task, now_ns);
        (record.end_ns, record.exit_code, record.kernel_cpu_ns) = (None, None, None);
        events.push(Event::Task(record));
    }
    events
}

fn stretch(
    random: &mut SplitMix,
    task: &mut Drawn,
    now_ns: u64,
    lost: bool,
    events: &mut Vec<Event>,
) -> Event {
    let out_ns = task.at_ns + random.below(1 + now_ns.saturating_sub(task.at_ns));
    let out_ns = if task.seq == 0 { task.at_ns } else { out_ns };
    let in_ns = out_ns.max(now_ns);
    let wake_ns = out_ns + random.below(1 + in_ns - out_ns);
    let why = Why::ALL[random.below(Why::ALL.len() as u64) as usize];
    let stretch = Stretch {
        serial: task.serial,
        seq: task.seq,
        out_ns,
        wake_ns,
        in_ns,
        why: if task.seq == 0 { Why::New } else { why },
        early_wake: false,
        no_wake: random.below(9) == 0,
        inferred: false,
        compat: false,
        syscall: [0, 7, 23, 35, 61, 202, 232][random.below(7) as usize],
        cpu_out: 0,
        cpu_in: random.below(2) as u16,
        arg0: 0x1000 * random.below(4),
        arg1: 128,
        waker: match random.below(3) {
            0 => Waker::None,
            1 => Waker::Outsider {
                tid: 1000 + random.below(4) as u32,
                softirq: false,
            },
            _ => Waker::Task {
                serial: 1 + random.below(8) as u32,
                softirq: false,
            },
        },
        object: random.below(6) as u32,
        timeout: Timeout::None,
    };
    if random.below(12) == 0 {
        events.push(Event::Totals(task.sums));
    }
    crate::base::add(&mut task.sums, &stretch, in_ns);
    task.seq += 1;
    task.sums.seq = task.seq;
    task.sums.lost += u32::from(lost);
    task.at_ns = in_ns;
    Event::Stretch(stretch)
}

fn last_record(task: &Drawn, now_ns: u64) -> TaskRecord {
    TaskRecord {
        totals: task.sums,
        switches: u64::from(task.seq),
        kernel_switches: Some(u64::from(task.seq)),
        kernel_cpu_ns: Some(1_000_000_000),
        ended_in: Some(60),
        ..record(task.born.clone(), Some(now_ns))
    }
}

/// Something that is known of a task, or of what it waits for.
// Long: a table, with an arm for each kind.
fn about(random: &mut SplitMix, serial: u32, at_ns: u64, seq: u32) -> Event {
    let id = 1 + random.below(5) as u32;
    let fd = random.below(3) as i32;
    let tid = 1000 + random.below(4) as u32;
    let text = format!("it {}", random.below(5));
    let address = 0x1000 * random.below(4);
    match random.below(21) {
        0 => Event::Object(Object {
            id: 1 + id % 3,
            serial,
            fd,
            at_ns,
            file: 5,
            operations: 6,
            inode: id.into(),
            device: 1,
            mode: 0o100_644,
            last_name: LastName::default(),
        }),
        1 => Event::Waitset(Waitset {
            id: 4 + id % 2,
            serial,
            at_ns,
            fds: vec![WaitFd { fd, events: 1 }],
            cut_off: false,
        }),
        2 | 3 => Event::Named(Named {
            id,
            fd,
            inode: id.into(),
            device: 1,
            kind: FileKind::File(text),
        }),
        4 => Event::Interest(Interest {
            id,
            at_ns,
            fds: Vec::new(),
            cut_off: true,
        }),
        5 => Event::SharedFutex(SharedFutex {
            serial,
            address,
            device: 1,
            inode: 2,
            offset: 3,
            path: text,
        }),
        6 => Event::LockName(LockName {
            serial,
            address,
            name: text,
            module: "module".to_owned(),
        }),
        7 => Event::Frames(Frames {
            number: id,
            frames: vec![text],
            cut_off: false,
            waits_in: None,
        }),
        8 => Event::WaitsIn(WaitsIn {
            number: id,
            frame: 0,
        }),
        9 => Event::Stacks(Stacks {
            serial,
            seq: seq + fd as u32,
            waker: Waker::None,
            kernel: Some(id),
            user: None,
            at_ns: 0,
        }),
        10 => Event::Outsider(Outsider {
            tid,
            tgid: tid,
            kernel_thread: false,
            at_ns,
            comm: text,
        }),
        n @ (11 | 12) => {
            let untracked = Untracked {
                tid,
                tgid: tid,
                ppid: 1,
                at_ns,
                comm: text,
            };
            match n {
                11 => Event::Untracked(untracked),
                _ => Event::UntrackedEnd(untracked),
            }
        }
        13 => Event::Deadlock(Deadlock {
            at_ns,
            cycle: false,
            tasks: vec![Stuck {
                serial,
                on: StuckOn::Child,
                since_ns: at_ns,
            }],
        }),
        14 => Event::Providers(Providers {
            serial,
            seq,
            at_ns,
            kind: ProviderKind::Shares,
            tasks: vec![1],
            outside: false,
            foreign: None,
        }),
        15 => Event::Given(Given {
            serial,
            seq,
            at_ns,
            what: GivenWhat::Path(text),
        }),
        16 => Event::Signal(Signal {
            serial,
            signal: 19,
            group: true,
            sender: Waker::None,
            at_ns,
        }),
        17 => Event::Argv(Argv {
            serial,
            at_ns,
            argv: vec![text],
        }),
        18 => Event::Exec(Exec {
            serial,
            old_tid: 100 + serial,
            tid: 100 + serial,
            at_ns,
            comm: text,
        }),
        19 => Event::Cgroup(Cgroup {
            serial,
            at_ns,
            path: text,
        }),
        _ => Event::PollsLeftOut(at_ns),
    }
}
